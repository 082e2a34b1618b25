"""Checkpoints that TensorFlow 1.15 and 2.1 wrote score on this TensorFlow to what those predicted; `data/old_models/make.py` made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.commands import main

MODELS = Path(__file__).parent / "data" / "old_models"
TOLERANCE = 1e-5
BUILDERS: dict[str, dict[str, Any]] = {
    "wide_deep": {"estimator": "old_trainer:build_wide_deep"},
    "convolution": {"estimator": "old_trainer:build_convolution", "params": {"filters": 4}},
}


def write_job(folder: Path, version: str, model: dict[str, Any], model_dir: str) -> Path:
    settings = {
        "name": "old",
        "code": [str(MODELS / "old_trainer.py")],
        "input": {"pattern": str(MODELS / "rows.tfrecord"), "optional": ["label"]},
        "features": "old_trainer:raw_spec",
        "model": {**model, "model_dir": str(MODELS / version / model_dir), "features": ["image", "city", "age"]},
        "output": {"path": str(folder / "out")},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("version", ["tf-1.15", "tf-2.1"])
@pytest.mark.parametrize("model", BUILDERS)
def test_scores_are_those_of_the_tensorflow_that_trained(model: str, version: str, tmp_path: Path) -> None:
    before = files(MODELS / version / model)
    assert main(["score", "--config", str(write_job(tmp_path, version, BUILDERS[model], model)), "--quiet"]) == 0
    assert files(MODELS / version / model) == before

    (part,) = (tmp_path / "out").glob("part-*.parquet")
    table = pq.read_table(part)
    expected = np.load(MODELS / version / model / "expected.npz")
    assert set(expected.files) <= set(table.column_names)
    assert len(np.unique(expected["logits"], axis=0)) > 10
    for key in expected.files:
        scored, reference = np.array(table[key].to_pylist()), expected[key]
        if reference.dtype.kind == "f":
            bound = TOLERANCE * max(1.0, np.abs(reference).max())
            assert np.abs(scored - reference).max() <= bound, key
        else:
            assert scored.astype(reference.dtype).tolist() == reference.tolist(), key


def test_another_architecture_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = write_job(
        tmp_path, "tf-1.15", {"estimator": "old_trainer:build_convolution", "params": {"filters": 4}}, "wide_deep"
    )
    assert main(["score", "--config", str(job), "--quiet"]) == 6
    assert "conv/kernel" in capsys.readouterr().err
