"""Job files: what is right comes out in one shape, with its defaults."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.errors import JobError
from pipeline.job import Best, Job, PassThroughColumn, PredictionKey
from pipeline.job.file import load_job
from pipeline.job.values import format_of

BASE = """\
name: taxi
input:
  pattern: in/*.tfrecord
features:
  miles: {dtype: float32}
  words: {dtype: string, kind: varlen}
model:
  model_fn: trainer:model_fn
  model_dir: model
output:
  path: out
"""


CSV = BASE.replace("in/*.tfrecord", "in/*.csv")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder of each test: a job's folder with a model_dir in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    return tmp_path


def load(text: str = BASE, *overrides: str, run_date: str | None = None) -> Job:
    Path("job.yaml").write_text(text)
    return load_job("job.yaml", run_date, overrides)


def replaced(old: str, new: str, text: str = BASE) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def message(text: str, *overrides: str, run_date: str | None = None) -> str:
    with pytest.raises(JobError) as refused:
        load(text, *overrides, run_date=run_date)
    return str(refused.value)


def test_defaults(folder):
    job = load()
    assert job.source == "job.yaml"
    assert (job.name, job.code, job.transform) == ("taxi", [], None)
    assert job.input.model_dump() == {
        "pattern": [f"{folder}/in/*.tfrecord"],
        "format": "tfrecord",
        "record": "example",
        "optional": [],
        "rename": {},
        "partitions": None,
        "csv": {"header": True, "columns": [], "delimiter": ",", "nulls": [""]},
        "ignore": ["_*", ".*"],
        "split_bytes": None,
        "ready": None,
        "min_shards": None,
        "require_complete": False,
        "wait": None,
        "only_new": False,
        "history": [],
    }
    assert job.model.model_dump() == {
        "estimator": None,
        "model_fn": "trainer:model_fn",
        "saved_model": None,
        "signature": None,
        "tags": None,
        "model_dir": f"{folder}/model",
        "checkpoint": "latest",
        "params": {},
        "params_as": "dict",
        "args": {},
        "argv": None,
        "assets": {},
        "serving_input_fn": None,
        "features": None,
        "allow_unused": [],
        "row_wise": True,
        "record": None,
        "require_record": False,
        "staging": None,
    }
    assert (job.batch.rows, job.batch.bytes) == (4096, 67108864)
    assert job.output.path == f"{folder}/out"
    assert (job.output.passthrough, job.output.predictions, job.output.types) == ({}, None, {})
    assert (job.output.row_ids, job.output.rows_per_file, job.output.if_exists) == (True, None, "fail")
    assert job.errors.model_dump() == {
        "max_bad_rows": 0,
        "max_broken_shards": 0,
        "non_finite": "fail",
        "rejected_path": None,
        "keep_record": True,
    }


FULL = """\
name: taxi
code: trainer.py
input:
  pattern: [in/*.csv, "gs://bucket/{run_date}/*.csv.gz"]
  optional: [tips]
  rename: {miles: trip_miles, trip_id: "Trip ID"}
  csv: {header: false, columns: [trip_miles, "Trip ID", image, word], delimiter: "\\t", nulls: ["", "NA"]}
  ignore: []
transform: {function: "trainer:preprocess"}
features:
  miles: {dtype: float32, default: 1}
  image: {dtype: uint8, shape: [2, 2], default: [[0, 1], [2, 255]]}
  word: {dtype: string, default: "größe"}
  tips: {dtype: string, kind: ragged}
model:
  estimator: trainer:Builders.wide
  checkpoint: {best: {metric: auc, mode: max}}
  params: {hidden: [10, 5], weights: {0: 0.5}, pattern: "a{2}}", n: null}
  features: miles
  allow_unused: ["old/*"]
  row_wise: false
batch: {rows: 7, bytes: 1000}
output:
  path: gs://bucket/{name}/{run_date}/{{raw}}
  passthrough: {id: trip_id, fare: {from: word, dtype: float64}}
  predictions: {score: "head/probabilities[1]", label: classes}
  types: {label: binary}
  row_ids: false
  if_exists: overwrite
errors: {max_bad_rows: 0.25, max_broken_shards: 2, non_finite: reject, rejected_path: ~/rejected, keep_record: false}
"""


@pytest.fixture
def full(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder / "home"))
    (folder / "trainer.py").touch()
    return load(FULL, run_date="2026-01-31")


def test_every_key_in_one_shape(full, folder):
    assert full.code == [f"{folder}/trainer.py"]
    assert full.input.pattern == [f"{folder}/in/*.csv", "gs://bucket/2026-01-31/*.csv.gz"]
    assert full.input.csv.delimiter == "\t"
    assert {name: (f.dtype, f.kind, f.shape, f.default) for name, f in full.features.items()} == {
        "miles": ("float32", "fixed", (), 1.0),
        "image": ("uint8", "fixed", (2, 2), (0, 1, 2, 255)),
        "word": ("string", "fixed", (), "größe".encode()),
        "tips": ("string", "ragged", (), None),
    }
    assert full.model.checkpoint == Best(metric="auc", mode="max")
    assert full.model.params == {"hidden": [10, 5], "weights": {0: 0.5}, "pattern": "a{2}}", "n": None}
    assert full.model.features == "miles"
    assert full.output.path == "gs://bucket/taxi/2026-01-31/{raw}"
    assert full.output.passthrough == {
        "id": PassThroughColumn("trip_id"),
        "fare": PassThroughColumn("word", "float64"),
    }
    assert full.output.predictions == {
        "score": PredictionKey("head/probabilities", 1),
        "label": PredictionKey("classes"),
    }
    assert full.errors.max_bad_rows == 0.25
    assert isinstance(full.errors.max_broken_shards, int)
    assert full.errors.rejected_path == f"{folder}/home/rejected"


@pytest.mark.parametrize("text", [FULL, BASE, CSV], ids=["full", "tfrecord", "csv"])
def test_settings_are_json_and_make_the_same_job(full, text):
    job = load(text, run_date="2026-01-31")
    settings = job.settings()
    assert json.loads(json.dumps(settings)).keys() == settings.keys()
    assert Job.model_validate(settings, context={"source": "job.yaml"}) == job
    assert "source" not in settings
    copy = pickle.loads(pickle.dumps(job))
    assert (copy, copy.source) == (job, "job.yaml")


def test_lists_of_columns():
    text = BASE.replace("tfrecord", "parquet") + "  passthrough: [id, miles]\n  predictions: [head/logits, classes]\n"
    output = load(text).output
    assert output.passthrough == {"id": PassThroughColumn("id"), "miles": PassThroughColumn("miles")}
    assert output.predictions == {"head_logits": PredictionKey("head/logits"), "classes": PredictionKey("classes")}


@pytest.mark.parametrize(
    ("written", "expected"),
    [("latest", "latest"), ("0", 0), ("1200", 1200), ("ckpt/model-5", "{folder}/ckpt/model-5"), ("gs://b/m-5", "gs://b/m-5")],
)  # fmt: skip
def test_checkpoint(folder, written, expected):
    checkpoint = load(BASE, f"model.checkpoint={written}").model.checkpoint
    assert checkpoint == (expected.replace("{folder}", str(folder)) if isinstance(expected, str) else expected)
    assert type(checkpoint) is type(expected)


def test_set_wins_and_reaches_new_and_nested_keys():
    job = load(
        BASE, "batch.rows=7", "batch.rows=8", "model.params.n_classes=10", "model.params.layers=[4, 2]", "name=b"
    )
    assert (job.batch.rows, job.name) == (8, "b")
    assert job.model.params == {"n_classes": 10, "layers": [4, 2]}


def test_relative_paths_start_at_the_file_or_for_set_at_the_current_folder(folder):
    (folder / "jobs").mkdir()
    (folder / "jobs" / "job.yaml").write_text(
        replaced("in/*", "../in/**/*", replaced("model_dir: model", "model_dir: ../model"))
    )
    job = load_job("jobs/job.yaml", overrides=["input.pattern=[a/*.tfrecord]"])
    assert job.model.model_dir == str(folder / "model")
    assert job.output.path == str(folder / "jobs" / "out")
    assert job.input.pattern == [str(folder / "a/*.tfrecord")]
    assert load_job("jobs/job.yaml").input.pattern == [str(folder / "in/**/*.tfrecord")]


def test_name_given_by_set_fills_placeholders():
    assert load(replaced("path: out", "path: gs://b/{name}"), "name=other").output.path == "gs://b/other"


def test_name_may_hold_the_run_date():
    job = load(
        replaced("name: taxi", "name: taxi-{run_date}", replaced("path: out", "path: gs://b/{name}")),
        run_date="2026-01-31",
    )
    assert (job.name, job.output.path) == ("taxi-2026-01-31", "gs://b/taxi-2026-01-31")


def test_anchors_and_merged_mappings():
    features = "features:\n  miles: &number {dtype: float32, default: 0}\n  tips: *number\n  fare: {<<: *number, default: 2}\n  a: {<<: *number}\n"
    job = load(BASE[: BASE.index("features:")] + features + BASE[BASE.index("model:") :])
    assert {name: f.default for name, f in job.features.items()} == {"miles": 0.0, "tips": 0.0, "fare": 2.0, "a": 0.0}


def test_features_by_reference():
    job = load(BASE[: BASE.index("features:")] + "features: trainer:raw_spec\n" + BASE[BASE.index("model:") :])
    assert job.features == "trainer:raw_spec"


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("in/*", "in/scores"), ("in/*.tfrecord", "in"), ("in/**/*.tfrecord", "in/scores"), ("in/x-*.parquet", "in")],
)
def test_output_beside_shards_that_it_cannot_be_taken_for(pattern, path):
    text = replaced("in/*.tfrecord", pattern, replaced("path: out", f"path: {path}"))
    if (pattern, path) == ("in/*", "in/scores"):
        assert "lies where the input pattern" in message(replaced("pattern:", "format: csv\n  pattern:", text))
    else:
        assert load(text).output.path.endswith(path)


def test_a_job_cannot_be_changed():
    job = load()
    with pytest.raises(ValueError, match="frozen"):
        job.name = "other"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.tfrecord", "tfrecord"),
        ("a.tfrecords.gz", "tfrecord"),
        ("a.TFRecord.zlib", "tfrecord"),
        ("gs://b/x.tfrecord-00000-of-00008", "tfrecord"),
        ("x.tfrecord.gz-*-of-*", "tfrecord"),
        ("x-?????-of-00008.parquet", "parquet"),
        ("x.csv.gz", "csv"),
        ("x.2026.csv", "csv"),
        ("x.ndjson", "jsonl"),
        ("x.json.gz", "jsonl"),
        ("x.avro", "avro"),
        ("x.parquet.gz", None),
        ("x.gz", None),
        ("x.csv.bz2", None),
        ("x.csv/part-*", None),
        ("csv", None),
        ("**", None),
    ],
)
def test_format_of(path, expected):
    assert format_of(path) == expected


def test_a_bad_file_is_refused_without_heavy_imports():
    Path("job.yaml").write_text(BASE.replace("pattern", "patern"))
    program = textwrap.dedent(
        """
        import sys
        from pipeline.errors import JobError
        from pipeline.job.file import load_job
        try:
            load_job("job.yaml")
        except JobError as error:
            print(error)
        print([name for name in ("tensorflow", "apache_beam", "pandas") if name in sys.modules])
        """
    )
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(root)}
    )  # fmt: skip
    assert result.stdout.splitlines() == ["job.yaml:3: input.patern: unknown key; did you mean 'pattern'?", "[]"]
