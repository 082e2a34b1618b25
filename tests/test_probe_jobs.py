"""What the probe makes of whole jobs: scores that are not row-wise are refused, optional features that matter are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import probe_model
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zoo_data
from zoo import KINDS, Kind

from pipeline.commands import main

TESTS = Path(__file__).parent
NOT_ROW_WISE = {
    "dropout": "is random",
    "random op": "is random",
    "batch norm in training mode": "depends on the other rows of the batch",
    "softmax over the batch": "prediction 'probabilities' depends on the other rows of the batch",
    "padding to the longest row": "depends on the other rows of the batch",
}


def write_job(folder: Path, kind: str, **model: Any) -> str:
    """Train a model of a kind, and write 40 rows and the job that scores them."""
    probe_model.train(kind, folder / "model")
    pq.write_table(pa.table(probe_model.make_rows(40)), folder / "rows.parquet")
    job = {
        "name": "probed",
        "code": [str(TESTS / "probe_model.py")],
        "input": {"pattern": str(folder / "rows.parquet")},
        "features": probe_model.FEATURES,
        "model": {
            "model_fn": "probe_model:model_fn",
            "model_dir": str(folder / "model"),
            "params": {"kind": kind},
            "allow_unused": ["*moving_*"],
            **model,
        },
        "output": {"path": str(folder / "out")},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return str(folder / "job.yaml")


@pytest.mark.parametrize(("kind", "message"), NOT_ROW_WISE.items(), ids=NOT_ROW_WISE)
def test_scores_that_are_not_row_wise_are_refused_before_a_run(
    kind: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write_job(tmp_path, kind)
    for command in ("check", "score"):
        assert main([command, "--config", job]) == 6
        said = capsys.readouterr().err
        assert message in said
        assert "model.row_wise: false" in said
    assert not list(tmp_path.glob("out/**/*.parquet"))


@pytest.mark.parametrize("kind", ["softmax over the batch", "dropout"])
def test_they_are_taken_if_the_job_says_so(kind: str, tmp_path: Path) -> None:
    job = write_job(tmp_path, kind, row_wise=False)
    assert main(["score", "--config", job, "--quiet"]) == 0
    assert pq.read_table(tmp_path / "out" / "part-00000-of-00001.parquet").num_rows == 40


@pytest.mark.parametrize("optional", ["scale", "label"])
def test_optional_feature_that_the_predictions_depend_on_is_named(
    optional: str,
    model_dir_of: Callable[[Kind], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind = KINDS["bare_model_fn"]
    spec = {**kind.spec, "label": {"dtype": "float32"}}
    rows = [{**row, "label": 1.0} for row in zoo_data.make_rows(kind, 30)]
    zoo_data.write_tfrecord(tmp_path / "rows.tfrecord", rows, spec)
    job = {
        "name": "optional",
        "code": [str(TESTS / "zoo")],
        "input": {"pattern": str(tmp_path / "rows.tfrecord"), "optional": [optional]},
        "features": {name: dict(feature) for name, feature in spec.items()},
        "model": {**kind.module.model_section(), "model_dir": model_dir_of(kind), "features": list(kind.spec)},
        "output": {"path": str(tmp_path / "out")},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))

    assert main(["check", "--config", str(tmp_path / "job.yaml")]) == 0

    named = f"the predictions depend on {optional}, which shards may lack (input.optional)" in capsys.readouterr().out
    assert named == (optional in kind.spec)
