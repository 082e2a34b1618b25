"""`fit` on runners other than the in-process one: the user's own modules reach the workers, and all rows are learned from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml
from fit_rows import needs_extra

import transforms

ROOT = Path(__file__).resolve().parent.parent
NAMES = 'WORDS = "words"\n'
PREPROCESSING = """\
import tensorflow as tf
import tensorflow_transform as tft

from fitted_trainer.names import WORDS


def preprocessing_fn(inputs):
    return {
        "miles": tft.scale_to_z_score(inputs["miles"]),
        "word": tft.compute_and_apply_vocabulary(inputs["word"], vocab_filename=WORDS),
    }


def raw_spec():
    return {"miles": tf.io.FixedLenFeature([], tf.float32), "word": tf.io.FixedLenFeature([], tf.string)}
"""
JOB = {
    "code": ["fitted_trainer/"],
    "input": {"pattern": "rows-*.parquet"},
    "features": "fitted_trainer.preprocessing:raw_spec",
    "transform": {"function": "fitted_trainer.preprocessing:preprocessing_fn", "path": "transform"},
}
RUNNERS = {
    "two worker processes": ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
    "portable": ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"),
}


@needs_extra
@pytest.mark.parametrize("arguments", RUNNERS.values(), ids=RUNNERS)
def test_user_code_is_fitted_to_all_rows(arguments: tuple[str, ...], tmp_path: Path) -> None:
    trainer = tmp_path / "fitted_trainer"
    trainer.mkdir()
    for name, source in (("__init__", ""), ("names", NAMES), ("preprocessing", PREPROCESSING)):
        (trainer / f"{name}.py").write_text(source)
    miles = np.random.default_rng(0).normal(5, 3, 800).astype(np.float32)
    words = ["abcd"[min(int(row**0.5 / 8), 3)] for row in range(800)]  # 64, 192, 320 and 224 of them
    for shard in range(4):
        rows = slice(shard, None, 4)
        pq.write_table(pa.table({"miles": miles[rows], "word": words[rows]}), tmp_path / f"rows-{shard}.parquet")
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(JOB))

    # A process of its own, as a user's: a runner forks, and keeps threads.
    command = [sys.executable, "-m", "pipeline", "fit", "--config", str(tmp_path / "fit.yaml"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    vocabulary = tmp_path / "transform" / "transform_fn" / "assets" / "words"
    assert vocabulary.read_text().split() == ["c", "d", "b", "a"]
    outputs = transforms.load(str(tmp_path / "transform"))({"miles": tf.constant(miles), "word": tf.constant(words)})
    expected = (miles - miles.mean(dtype=float)) / miles.std(dtype=float)
    np.testing.assert_allclose(outputs["miles"], expected, rtol=1e-5, atol=1e-6)
    assert outputs["word"].numpy().tolist() == ["cdba".index(word) for word in words]
