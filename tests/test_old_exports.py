"""SavedModels that TensorFlow 1.15 (a model of tf.contrib) and 2.1 (Keras) wrote score to what those predicted."""

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
JOBS: dict[str, dict[str, Any]] = {
    "tf-1.15": {},  # it parses the records itself
    "tf-2.1": {"features": {"image": {"dtype": "float32", "shape": [6, 6]}}},
}


@pytest.mark.parametrize("version", JOBS)
def test_scores_are_those_of_the_tensorflow_that_exported(version: str, tmp_path: Path) -> None:
    settings = {
        "name": "old",
        "input": {"pattern": str(MODELS / "rows.tfrecord")},
        "model": {"saved_model": str(MODELS / version / "exported")},
        "output": {"path": str(tmp_path / "out")},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(settings | JOBS[version]), encoding="utf-8")

    assert main(["score", "--config", str(tmp_path / "job.yaml"), "--quiet"]) == 0

    (part,) = (tmp_path / "out").glob("part-*.parquet")
    table = pq.read_table(part)
    expected = np.load(MODELS / version / "exported" / "expected.npz")
    assert set(table.column_names) == {*expected.files, "_shard", "_row"}
    for key in expected.files:
        scored, reference = np.array(table[key].to_pylist()), expected[key]
        assert len(np.unique(reference, axis=0)) > 1
        if reference.dtype.kind == "f":
            assert np.abs(scored - reference).max() <= TOLERANCE * max(1.0, np.abs(reference).max()), key
        else:
            assert scored.astype(reference.dtype).tolist() == reference.tolist(), key
