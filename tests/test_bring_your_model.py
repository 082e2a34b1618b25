"""docs/bring_your_model.md: each job file in it is scored as it stands there, and each refusal in it is provoked."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import code_model
import numpy as np
import partitioned_model
import probe_model
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import test_record_kinds as sequences
import test_serving_input as fares
import yaml
import zoo_data
from absl import flags
from record_bench import Bench
from staged_job import snapshot
from test_readme import ROOT, blocks, table_rows
from zoo import KINDS

from pipeline import environment
from pipeline.commands import main
from pipeline.flags import parse_flags

PAGE = ROOT / "docs" / "bring_your_model.md"
JOBS = {yaml.safe_load(block)["name"]: block for block in blocks(PAGE, "yaml")}
OLD = Path(__file__).parent / "data" / "old_models"
TOLERANCE = 1e-5
Columns = dict[str, Any]

CODE = {
    "__init__": "",
    "visits": (OLD / "old_trainer.py").read_text(encoding="utf-8") + "\n\nbuild_estimator = build_wide_deep\n",
    "images": (OLD / "old_trainer.py").read_text(encoding="utf-8"),
    "fares": "from zoo.serving_input import build_estimator, parsing as serving_input_receiver_fn, preprocess\n",
    "prices": "from zoo.keras_sequential import build_estimator\n",
    "clicks": """\
import os

import code_model
from code_model import build as build_estimator


def set_up():
    code_model.SHIFT = float(os.environ["CLICKS_SHIFT"])
""",
    "words": "from code_model import model_fn\n",
    "sessions": "from zoo.record_kinds import build_estimator, decode, raw_spec\n",
    "regions": "from partitioned_model import model_fn\n",
    "auctions": """\
import probe_model


def model_fn(features, labels, mode):
    return probe_model.model_fn(features, labels, mode, {"kind": "softmax over the batch"})
""",
    "refused": """\
import heads_model
import tensorflow as tf
from absl import flags


def contrib(model_dir):
    return tf.contrib.layers.xavier_initializer()


def first_names(features, labels, mode, params):
    return tf.get_variable("x", [])


def boosted(model_dir):
    return tf.estimator.BoostedTreesClassifier([], 1)


def on_a_tpu(config):
    return heads_model.on_a_tpu(True)(config)


def needs_rate(model_dir, rate):
    return None


def needs_spec(spec):
    return None


def reads_flags(model_dir):
    return flags.FLAGS.vocabulary
""",
}
"""The modules of the user's package."""


def train(home: Path) -> dict[str, Columns]:
    """Lay down what the jobs of the page name, and return what each job has to give: column -> a value a row."""
    models, shards = home / "models", home / "shards"
    (home / "my_trainer").mkdir()
    for name, source in CODE.items():
        (home / "my_trainer" / f"{name}.py").write_text(source, encoding="utf-8")
    for name, text in JOBS.items():
        (home / f"{name}.yaml").write_text(text, encoding="utf-8")
        (shards / name).mkdir(parents=True, exist_ok=True)
    return {
        **of_old_tensorflow(home),
        **of_fares(models, shards),
        **of_prices(models, shards),
        **of_clicks(home),
        **of_sessions(models, shards),
        **of_regions(models, shards),
        **of_auctions(models, shards),
    }


def of_old_tensorflow(home: Path) -> dict[str, Columns]:
    """Models that TensorFlow 1.15 and 2.1 have trained and exported, and what those predicted."""
    places = {
        "visits": "tf-1.15/wide_deep",
        "images": "tf-2.1/convolution",
        "rides": "tf-1.15/exported",
        "rides_by_name": "tf-2.1/exported",
    }
    found: dict[str, Columns] = {}
    for name, place in places.items():
        shutil.copytree(OLD / place, home / ("exports" if "exported" in place else "models") / name)
        shutil.copy(OLD / "rows.tfrecord", home / "shards" / name)
        found[name] = dict(np.load(OLD / place / "expected.npz"))
    visits = found["visits"]
    found["visits"] = {"score": visits["probabilities"][:, 1], "label": visits["classes"]}
    return found


def of_fares(models: Path, shards: Path) -> dict[str, Columns]:
    labels = [row["amount"] for row in fares.ALL]
    bench = Bench(models / "trained_fares", fares.serving_input, fares.records_of(fares.ALL), fares.parse, labels)
    shutil.copytree(bench.model_dir, models / "fares")
    bench.write_records(shards / "fares")
    expected = bench.predict(batch=len(labels)) | {"id": [row["id"] for row in fares.ALL]}
    return {"fares": expected, "fares_served": expected}


def of_prices(models: Path, shards: Path) -> dict[str, Columns]:
    kind, model_dir = KINDS["keras_sequential"], str(models / "prices")
    kind.train(model_dir)
    rows = zoo_data.make_rows(kind, 20)
    zoo_data.write_shards(shards / "prices", [rows], kind.spec)
    return {"prices": kind.predict(model_dir, [rows], 7)}


def of_clicks(home: Path) -> dict[str, Columns]:
    code_model.train(home / "trained")
    shutil.copytree(home / "trained" / "model", home / "models" / "clicks")
    (home / "vocabularies").mkdir()
    for name in ("words.txt", "offsets.json"):
        shutil.move(home / "trained" / name, home / "vocabularies")
    pq.write_table(pa.table(code_model.ROWS), home / "shards" / "clicks" / "rows.parquet")
    params = {"vocabulary": str(home / "vocabularies" / "words.txt"), "offset": 0}
    estimator = tf.estimator.Estimator(code_model.model_fn, str(home / "models" / "clicks"), params=params)
    (batch,) = estimator.predict(
        lambda: tf.data.Dataset.from_tensors(dict(code_model.ROWS)), yield_single_examples=False
    )
    return {"words": {"score": batch["score"]}, "clicks": {"score": batch["score"] + (1 + 10) * 2 + 0.5}}


def of_sessions(models: Path, shards: Path) -> dict[str, Columns]:
    labels = [row["bias"] for row in sequences.ALL]
    folder = models / "trained_sessions"
    bench = Bench(folder, sequences.record_kinds, [sequences.RECORDS], sequences.parse, labels)
    shutil.copytree(bench.model_dir, models / "sessions")
    bench.write_records(shards / "sessions")
    expected = bench.predict() | {"id": [row["id"] for row in sequences.ALL]}
    bench.shards = [sequences.BYTES]
    bench.write_records(shards / "packets")
    of_bytes = bench.predict(parse=lambda records: sequences.record_kinds.decode({"raw": records}))
    return {"sessions": expected, "packets": of_bytes}


def of_regions(models: Path, shards: Path) -> dict[str, Columns]:
    partitioned_model.train(str(models / "regions"))
    root = shards / "regions"
    partitioned_model.write_input(root, "parquet")
    places = enumerate(partitioned_model.FOLDERS)
    expected: Columns = {"id": [], "hour": [], "score": []}
    for index, (region, hour) in sorted(places, key=lambda place: partitioned_model.folder_of(root, *place[1])):
        for row in partitioned_model.rows_of(index):
            expected["id"].append(row["id"])
            expected["hour"].append(hour)
            expected["score"].append(partitioned_model.score_of(row, region, hour))
    return {"regions": expected}


def of_auctions(models: Path, shards: Path) -> dict[str, Columns]:
    estimator = probe_model.train("softmax over the batch", models / "auctions")
    columns = {"x": probe_model.make_rows(40)["x"]}
    pq.write_table(pa.table(columns), shards / "auctions" / "rows.parquet")
    batches = list(
        estimator.predict(lambda: tf.data.Dataset.from_tensor_slices(columns).batch(20), yield_single_examples=False)
    )
    return {"auctions": {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the user; its package is forgotten afterwards."""
    path = list(sys.path)
    yield tmp_path_factory.mktemp("house")
    sys.path[:] = path
    for name in [name for name in sys.modules if name.split(".")[0] == "my_trainer"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def expected(home: Path) -> dict[str, Columns]:
    return train(home)


@pytest.fixture(autouse=True)
def _process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes back what jobs do to flags, variables and modules of this process."""
    before = dict(os.environ)
    monkeypatch.setattr(environment, "_before", {})
    monkeypatch.setattr(code_model, "SHIFT", 0.0)
    flags.FLAGS.unparse_flags()
    yield
    parse_flags(None)
    os.environ.clear()
    os.environ.update(before)


def read_columns(folder: Path) -> Columns:
    parts = sorted(folder.rglob("part-*.parquet"), key=lambda path: path.name)
    table = pa.concat_tables(pq.read_table(part, partitioning=None) for part in parts if "_rejected" not in part.parts)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names if name not in ("_shard", "_row")}


@pytest.mark.parametrize("name", JOBS)
def test_job_shown_scores(
    name: str, home: Path, expected: dict[str, Columns], capfd: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(home / "models")
    assert main(["score", "--config", str(home / f"{name}.yaml"), "--quiet"]) == 0, capfd.readouterr().err
    assert snapshot(home / "models") == before

    scored = read_columns(home / "predictions" / name)
    assert set(expected[name]) <= set(scored)
    for column, values in expected[name].items():
        wanted = np.asarray(values)
        assert len(np.unique(wanted, axis=0)) > 1, column
        if wanted.dtype.kind == "f":
            assert scored[column].shape == wanted.shape, column
            assert np.abs(scored[column] - wanted).max() <= TOLERANCE * max(1.0, np.abs(wanted).max()), column
        else:
            assert scored[column].astype(wanted.dtype).tolist() == wanted.tolist(), column


REFUSED = {
    "tf.contrib.layers.xavier_initializer was removed in TensorFlow 2": (
        "visits", "model.estimator=my_trainer.refused:contrib",
    ),
    "tf.get_variable is a name of TensorFlow 1": ("images", "model.model_fn=my_trainer.refused:first_names"),
    "boosted trees were removed in TensorFlow 2.9": ("visits", "model.estimator=my_trainer.refused:boosted"),
    "returned a TPUEstimator with use_tpu=True": ("visits", "model.estimator=my_trainer.refused:on_a_tpu"),
    "requires the argument 'rate'": ("visits", "model.estimator=my_trainer.refused:needs_rate"),
    "absl parses flags only where a program starts": ("visits", "model.estimator=my_trainer.refused:reads_flags"),
    "it parsed the flags of this command as its own": ("clicks", "model.argv=null"),
    "defines no flag 'vocabluary'; did you mean 'vocabulary'?": ("clicks", "model.argv=[--vocabluary=words.txt]"),
    "env: TF_LATE would come too late": ("clicks", "env={TF_LATE: a}"),
    "there is no such file on this machine": ("words", "model.params={vocabulary: gone.txt, offset: 0}"),
    "the checkpoint is not of this graph": ("images", "model.params={filters: 8}"),
    "no checkpoint": ("visits", "model.model_dir=my_trainer"),
    "is a model_dir with checkpoints; write model.model_dir": ("rides", "model.saved_model=models/visits"),
    "has no such input": ("rides_by_name", "features={picture: {dtype: float32, shape: [6, 6]}}"),
    "Feature city is not in features dictionary": ("visits", "features={age: {dtype: int64}}"),
    "feature 'town': missing, and it has no default": (
        "visits", "features={city: {dtype: string}, age: {dtype: int64}, town: {dtype: string}}",
    ),
    "needs the arguments spec, and is called with none": (
        "fares_served", "model.serving_input_fn=my_trainer.refused:needs_spec",
    ),
    "has no folder column=value": ("visits", "input.partitions=hive"),
    "depends on the other rows of the batch": ("auctions", "model.row_wise=true"),
}  # fmt: skip
"""Message -> the job of the page, and the key that is set to something else."""


def test_every_refusal_shown_is_provoked() -> None:
    shown = [cells[0].strip("`") for cells in table_rows(PAGE.read_text(encoding="utf-8"), "you see")]
    assert shown == list(REFUSED)


@pytest.mark.parametrize("message", REFUSED)
def test_refusal_shown(
    message: str,
    home: Path,
    expected: dict[str, Columns],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name, change = REFUSED[message]
    monkeypatch.chdir(home)
    monkeypatch.setenv("CLICKS_SHIFT", "0.5")  # as in the process that has imported my_trainer.clicks
    command = ["check", "--config", f"{name}.yaml", "--set", change]
    monkeypatch.setattr(sys, "argv", ["estimator-score", *command])

    assert main(command) in (2, 3, 6)

    assert message in " ".join(capfd.readouterr().err.split())
