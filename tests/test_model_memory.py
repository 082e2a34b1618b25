"""A checkpoint is loaded in little more memory than it takes, and not at all where there is not enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
GROWTH = 1.2
"""Peak above what the process had before, over the size of the variables."""
EVERY_KIND = ["resource", "ref", "parts", "ref-parts", "canned", "canned-v1"]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def growth(kind: str, mebibytes: int, folder: Path) -> float:
    script, model_dir = str(TESTS / "big_embedding.py"), str(folder / "model")
    run(script, "train", kind, str(mebibytes), model_dir)
    found = json.loads(run(script, "load", kind, str(mebibytes), model_dir))
    assert mebibytes << 20 <= found["variables"] < (mebibytes + 1) << 20
    grown = (found["peak"] - found["base"]) / found["variables"]
    print(f"{kind}, {mebibytes} MiB: {grown:.3f}")
    return grown


@pytest.mark.parametrize("kind", ["parts", "canned"])
def test_peak_while_an_embedding_of_300_megabytes_loads(kind: str, tmp_path: Path) -> None:
    assert 1 <= growth(kind, 300, tmp_path) <= GROWTH


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_peak_while_an_embedding_of_2_gigabytes_loads(kind: str, tmp_path: Path) -> None:
    assert 1 <= growth(kind, 2048, tmp_path) <= GROWTH
