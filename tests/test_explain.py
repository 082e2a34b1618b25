"""One row from its record to its scores, held against the example's trained model."""

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
import zoo_data
from zoo import KINDS

from pipeline.commands import main


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    kind = KINDS["sparse"]
    kind.train(str(folder / "model"))
    rows = zoo_data.make_rows(kind, count=12)
    zoo_data.write_shards(folder, zoo_data.split(rows, 2), kind.spec)
    settings = {
        "name": "explain",
        "code": [str(zoo_data.__file__).replace("zoo_data.py", "zoo")],
        "input": {"pattern": str(folder / "*.tfrecord")},
        "features": kind.module.RAW_SPEC,
        "model": {**kind.module.model_section(), "model_dir": str(folder / "model")},
        "output": {"path": str(folder / "out"), "passthrough": {"id": {"from": "id", "dtype": "int64"}}},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(settings))
    assert main(["score", "--config", str(folder / "job.yaml"), "--quiet"]) == 0
    return folder


def explain(job, *arguments):
    return main(["explain", "--config", str(job / "job.yaml"), *arguments])


def test_a_row_by_shard_and_number_shows_the_scores_that_were_written(job, capsys):
    table = pq.read_table(sorted((job / "out").glob("part-*.parquet"))[1]).to_pydict()
    assert explain(job, "--row", f"{table['_shard'][2]}:2") == 0
    text = capsys.readouterr().out
    key = next(name for name in table if name not in ("id", "_shard", "_row"))
    written = np.array2string(np.float32(np.ravel(table[key][2])[0]))
    alone, together = text.split("predictions, in its batch of 6 rows")
    assert f"row         {table['_shard'][2]}:2" in alone
    assert f"id: [{table['id'][2]}]" in alone
    assert written[:6] in alone.split("predictions, alone")[1]
    assert written[:6] in together


def test_a_row_by_the_value_of_a_pass_through_column(job, capsys):
    table = pq.read_table(sorted((job / "out").glob("part-*.parquet"))).to_pydict()
    assert explain(job, "--key", f"id={table['id'][7]}") == 0
    assert f"{table['_shard'][7]}:{table['_row'][7]}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["--key", "id=-77"], 3, "no shard has such a row", id="no such value"),
        pytest.param(["--key", "ident=1"], 2, "a column of output.passthrough", id="no such column"),
        pytest.param(["--row", "rows"], 2, "write SHARD:ROW", id="no number"),
        pytest.param(["--row", "nothing.tfrecord:1"], 2, "0 shards of input.pattern", id="no such shard"),
    ],
)
def test_a_row_that_is_not_there(job, arguments, code, message, capsys):
    assert explain(job, *arguments) == code
    assert message in capsys.readouterr().err


def test_a_tensor_that_is_not_there(job, capsys):
    shard = sorted(job.glob("*.tfrecord"))[0].name
    assert explain(job, "--row", f"{shard}:0", "--tensor", "nothing/here") == 2
    assert "--tensor nothing/here: the graph has no such tensor" in capsys.readouterr().err
