"""A SavedModel as the model of a job: scores of its signature, by records and by name."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import exported_models
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from exported_models import SPEC, of_signature, read_scores, write_job, write_parquet, write_tfrecord
from memory_store import MemoryFileSystem
from staged_job import launch, scores, snapshot

from pipeline.commands import main
from pipeline.errors import JobError
from pipeline.job.file import load_job
from pipeline.scorer import Scorer

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The trained Estimator and its exports: `parsing` takes tf.Examples, `raw` tensors by name."""
    folder = tmp_path_factory.mktemp("exported")
    estimator = exported_models.train(folder)
    receivers = {"parsing": exported_models.parsing_receiver, "raw": exported_models.raw_receiver}
    return {"estimator": estimator, "folder": folder} | {
        name: estimator.export_saved_model(str(folder / name), receiver).decode()
        for name, receiver in receivers.items()
    }


def score(job: Path, *options: str) -> dict[str, np.ndarray]:
    assert main(["score", "--config", str(job), "--quiet", *options]) == 0
    return read_scores(job.parent)


def differ(scores: dict[str, np.ndarray], wanted: dict[str, np.ndarray], tolerance: float = 0.0) -> list[str]:
    assert set(scores) == set(wanted)
    texts = {
        key: np.array([text.decode() for text in values]) for key, values in wanted.items() if values.dtype == object
    }
    wanted = wanted | texts
    close = {
        key: np.abs(scores[key] - values).max() <= tolerance * max(1.0, np.abs(values).max())
        if values.dtype.kind == "f"
        else (scores[key] == values).all()
        for key, values in wanted.items()
    }
    return [key for key, is_close in close.items() if not is_close]


@pytest.mark.parametrize("write", [write_tfrecord, write_parquet])
@pytest.mark.parametrize("export", ["parsing", "raw"])
def test_scores_of_the_signature(export: str, write: Any, trained: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "rows")
    features = {} if (export, write) == ("parsing", write_tfrecord) else {"features": SPEC}

    scores = score(write_job(tmp_path, trained[export], **features))

    signature = of_signature(trained[export], "serving_default", 7, by_name=export == "raw")
    assert differ(scores, signature) == []
    assert np.std(signature["scores"], axis=0).min() > 1e-2

    estimator = trained["estimator"]
    records = exported_models.make_examples(exported_models.make_columns())
    import tensorflow as tf

    def input_fn() -> Any:
        rows = tf.data.Dataset.from_tensor_slices(records).batch(50)
        return rows.map(lambda batch: tf.io.parse_example(batch, exported_models.PARSING))

    (of_checkpoint,) = estimator.predict(input_fn, yield_single_examples=False)
    assert differ(scores, of_checkpoint, TOLERANCE) == []


def test_manifest_names_the_version(trained: dict[str, Any], tmp_path: Path) -> None:
    write_tfrecord(tmp_path / "rows")
    export = Path(trained["parsing"])

    scores = score(write_job(tmp_path, str(export.parent), model={"signature": "only_scores"}))

    assert list(scores) == ["scores"]
    model = json.loads((tmp_path / "out" / "_manifest.json").read_text())["model"]
    assert (model["saved_model"], model["version"], model["signature"]) == (
        str(export),
        int(export.name),
        "only_scores",
    )
    assert model["estimator"] is None
    assert list(model["assets"]) == [str(export / "assets" / "colors.txt")]


@pytest.mark.parametrize("export", ["parsing", "raw"])
def test_draft_of_a_job_scores(
    export: str, trained: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write = write_tfrecord if export == "parsing" else write_parquet
    write(tmp_path / "shards")
    assert main(["inspect", str(Path(trained[export]).parent), "--as_job"]) == 0
    draft = capsys.readouterr().out
    (tmp_path / "job.yaml").write_text(draft.replace("path: predictions", "path: out"), encoding="utf-8")

    scores = score(tmp_path / "job.yaml")

    assert differ(scores, of_signature(trained[export], "serving_default", exported_models.ROWS, export == "raw")) == []


def test_draft_tells_the_features_that_the_export_parses(
    trained: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", trained["parsing"], "--as_job"]) == 0
    draft = capsys.readouterr().out
    lines = draft.partition("# For shards in another format than TFRecord:\n")[2].splitlines()
    features = yaml.safe_load("\n".join(line[2:] for line in lines if line.startswith("# ")))["features"]
    assert features == SPEC | {"color": {"dtype": "string", "default": "red"}}


@pytest.fixture
def versions(trained: dict[str, Any], tmp_path: Path) -> Path:
    """Version 9 of a SavedModel, beside what is none; and its shards."""
    write_tfrecord(tmp_path / "rows")
    shutil.copytree(trained["parsing"], tmp_path / "models" / "9")
    (tmp_path / "models" / "temp-11").mkdir()
    shutil.copytree(trained["parsing"], tmp_path / "models" / "temp-11" / "12")
    (tmp_path / "models" / "10").mkdir()  # an upload that has only begun
    return tmp_path / "models"


def test_the_highest_version_is_taken_once(versions: Path, trained: dict[str, Any], tmp_path: Path) -> None:
    job = load_job(str(write_job(tmp_path, str(versions))))
    first = launch(job)
    before = scores(first, "label")
    assert first.model["version"] == 9

    shutil.copytree(trained["raw"], versions / "10", dirs_exist_ok=True)
    shutil.rmtree(versions / "9")

    assert scores(first, "label") == before
    assert launch(job, first.staged).model["version"] == 9
    with pytest.raises(JobError, match="takes color, count, numbers, words; missing"):
        launch(job)


def test_a_run_with_a_newer_version_is_another(versions: Path, trained: dict[str, Any], tmp_path: Path) -> None:
    job = write_job(tmp_path, str(versions), output={"path": str(tmp_path / "out"), "if_exists": "skip"})
    score(job)
    report = tmp_path / "report.json"
    score(job, "--report", str(report))
    assert json.loads(report.read_text())["stale"] == []

    shutil.copytree(trained["parsing"], versions / "11")
    graph = versions / "11" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes() + b"\x1a\x00")  # a field that nobody knows
    score(job, "--report", str(report))

    stale = json.loads(report.read_text())["stale"]
    assert len(stale) == 1
    assert "checkpoint" in stale[0]


def test_nothing_is_written_into_the_saved_model(trained: dict[str, Any], tmp_path: Path) -> None:
    write_tfrecord(tmp_path / "rows")
    before = snapshot(Path(trained["parsing"]))
    job = write_job(tmp_path, trained["parsing"])
    assert main(["check", "--config", str(job)]) == 0
    score(job)
    assert snapshot(Path(trained["parsing"])) == before


def test_a_record_that_cannot_be_parsed_is_rejected(trained: dict[str, Any], tmp_path: Path) -> None:
    write_tfrecord(tmp_path / "rows")
    path = tmp_path / "rows" / "rows.tfrecord"
    records = exported_models.make_examples(exported_models.make_columns())
    records[11] = b"\xff no tf.Example"
    exported_models.write_records(path, records)

    scores = score(write_job(tmp_path, trained["parsing"], errors={"max_bad_rows": 1}))

    signature = of_signature(trained["parsing"], "serving_default", exported_models.ROWS, by_name=False)
    assert len(scores["scores"]) == exported_models.ROWS - 1
    np.testing.assert_allclose(scores["scores"], np.delete(signature["scores"], 11, axis=0), atol=TOLERANCE)
    rejected = next((tmp_path / "out" / "_rejected").glob("*.parquet"))
    assert pq.read_table(rejected, columns=["_row", "_stage"]).to_pylist() == [{"_row": 11, "_stage": "predict"}]


def test_scorer_in_memory(trained: dict[str, Any], tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows")
    for export in ("parsing", "raw"):
        with Scorer.from_config(str(write_job(tmp_path, trained[export], features=SPEC))) as scorer:
            table = scorer.score(exported_models.make_columns())
        signature = of_signature(trained[export], "serving_default", 7, by_name=export == "raw")
        assert np.array(table["scores"].to_pylist(), np.float32).tolist() == signature["scores"].tolist()


def test_record_of_tensors_by_name(trained: dict[str, Any], tmp_path: Path) -> None:
    """It is replayed at launch, as that of a checkpoint; an export that parses by itself has nothing to record."""
    write_parquet(tmp_path / "rows")
    model = {"record": str(tmp_path / "record")}
    job = str(write_job(tmp_path, trained["raw"], features=SPEC, model=model))
    assert main(["record", "--config", job]) == 0
    score(Path(job))
    assert json.loads((tmp_path / "out" / "_manifest.json").read_text())["record"]["state"] == "verified"


def test_record_of_what_parses_by_itself(trained: dict[str, Any], tmp_path: Path, capfd: Any) -> None:
    write_parquet(tmp_path / "rows")
    assert main(["record", "--config", str(write_job(tmp_path, trained["parsing"], features=SPEC))]) == 2
    assert "parses the records itself" in capfd.readouterr().err


def test_an_object_store(
    trained: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tfrecord(tmp_path / "rows")
    export = Path(trained["parsing"])
    stored = {
        f"memory://models/{number}/{path.relative_to(export).as_posix()}": (path.read_bytes(), 1.0)
        for number in (9, 10)
        for path in export.rglob("*")
        if path.is_file()
    }
    monkeypatch.setattr(MemoryFileSystem, "objects", stored)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the cache of the machine

    assert main(["inspect", "memory://models", "--as_job"]) == 0
    assert "saved_model: memory://models\n" in capsys.readouterr().out
    scores = score(write_job(tmp_path, "memory://models"))

    assert differ(scores, of_signature(str(export), "serving_default", 7, by_name=False)) == []
    model = json.loads((tmp_path / "out" / "_manifest.json").read_text())["model"]
    assert (model["saved_model"], model["version"]) == ("memory://models/10", 10)
    assert list(model["assets"]) == ["memory://models/10/assets/colors.txt"]
