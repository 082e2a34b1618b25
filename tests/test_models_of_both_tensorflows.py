"""Models that another process trained, on each TensorFlow version, scored here with nothing but their files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pytest
from saved_transforms import TAXI_FOLDERS
from transform_cases import taxi_case
from transform_job import DATA, TOLERANCE, TRAINER_BATCH_ROWS, differences, manifest, predictions_of, score, trained_job

from pipeline import checkpoint as checkpoints
from pipeline.record.file import read_record


@pytest.mark.parametrize("name", TAXI_FOLDERS)
def test_scores_are_those_of_the_process_that_trained(name: str, tmp_path: Path) -> None:
    shutil.copyfile(DATA / "models" / "rows.tfrecord", tmp_path / "rows-0.tfrecord")

    table = score(trained_job(tmp_path, name, model={"require_record": True}))

    scored = predictions_of(table)
    with np.load(tmp_path / "model" / "predictions.npz") as trainers:
        assert differences(scored, trainers, TOLERANCE) == []
    case = taxi_case(name)
    reference = case.predict(str(tmp_path / "model"), [case.rows()], TRAINER_BATCH_ROWS)
    assert differences(scored, reference) == []
    assert scored["logits"].std(axis=0).min() > 0.1
    assert manifest(tmp_path)["record"]["state"] == "verified"


@pytest.mark.parametrize("name", TAXI_FOLDERS)
def test_record_names_the_tensorflow_that_trained(name: str) -> None:
    model_dir = str(DATA / "models" / name)
    record = read_record(f"{model_dir}/record", checkpoints.resolve(model_dir).digest)
    assert record is not None
    assert record.versions["tensorflow"] == ("2.15.1" if "2_15" in name else "2.21.0")
