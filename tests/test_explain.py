"""One row from its record to its scores, held against what training and a whole run make of it."""

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
import zoo_data
from saved_transforms import taxi
from transform_cases import taxi_case
from transform_job import trained_job, write_shards
from zoo import KINDS

import tensorflow as tf  # isort: skip

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


def section(text, name):
    """The lines below a heading of `explain`, as name -> text of the value."""
    lines = text.split(f"\n{name}\n")[1].splitlines()
    inside = lines[: next((index for index, line in enumerate(lines) if not line.startswith("  ")), None)]
    return dict(line.strip().split(": ", 1) for line in inside)


@pytest.mark.parametrize("record_format", ["tfrecord", "parquet"])
def test_what_the_transform_made_of_a_row_and_a_tensor_of_the_graph(record_format, tmp_path, capsys):
    case = taxi_case("taxi_tft")
    rows = case.rows()
    write_shards(tmp_path, case, zoo_data.split(rows, 2), record_format)
    config = str(trained_job(tmp_path, record_format=record_format))
    asked = [
        "--row",
        f"rows-00001-of-00002.{record_format}:7",
        "--tensor",
        "dense/BiasAdd:0",
        "--tensor",
        "dense/kernel",
    ]

    assert main(["explain", "--config", config, *asked]) == 0

    text = capsys.readouterr().out
    row = rows[47]
    features = tf.io.parse_example([zoo_data.to_example(row, case.spec)], dict(case.parsing))
    made = taxi("taxi_tft")(features)
    record, raw, transformed = (section(text, name) for name in ("record", "features", "transformed"))
    for name in ("miles", "company", "tips"):
        assert row[name] if name == "company" else f"{np.float32(row[name]):.4}"[:4] in record[name]
    assert raw["miles"] == np.array2string(features["miles"].numpy())
    assert raw["company"] == np.array2string(features["company"].numpy())
    assert raw["words"] == np.array2string(features["words"].values.numpy())
    for name in ("miles", "company", "fare", "tips"):
        assert transformed[name] == np.array2string(made[name].numpy()), name
    assert transformed["bag"] == np.array2string(made["bag"].values.numpy())
    tensors, alone = section(text, "tensors"), section(text, "predictions, alone")
    assert tensors["dense/BiasAdd:0"] == f"[{alone['logits']}]"
    assert "dense/kernel" in tensors


def test_a_row_that_is_rejected_says_where_and_why(tmp_path, capsys):
    case = taxi_case("taxi_tft")
    rows = case.rows(20)
    rows[3]["miles"] = None
    write_shards(tmp_path, case, [rows], "parquet")

    config = str(trained_job(tmp_path, record_format="parquet"))
    assert main(["explain", "--config", config, "--row", "rows-00000-of-00001.parquet:3"]) == 0

    said = capsys.readouterr().out
    assert "rows-00000-of-00001.parquet:3 is rejected at" in said
    assert "'miles'" in said
