"""Imports without garbage collections, and what becomes of the collector after them."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.garbage import importing

ROOT = Path(__file__).parents[1]
COUNT = """
import gc
collections = []
gc.callbacks.append(lambda phase, info: collections.append(info["generation"]))
"""


def said(program: str) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", COUNT + program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()


@pytest.mark.parametrize("enabled", [True, False], ids=["enabled", "disabled"])
def test_the_collector_is_as_it_was(enabled: bool) -> None:
    def fail_to_import() -> None:
        with importing():
            assert not gc.isenabled()
            with importing():
                pass
            assert not gc.isenabled()
            raise ImportError

    frozen = gc.get_freeze_count()
    try:
        if not enabled:
            gc.disable()
        with pytest.raises(ImportError):
            fail_to_import()
        assert gc.isenabled() is enabled
        assert gc.get_freeze_count() == frozen
    finally:
        gc.enable()


def test_a_program_keeps_its_garbage_collected() -> None:
    """Nothing of a program of the user's own is taken for good."""
    program = "import pipeline.tf_estimator; print(gc.isenabled(), gc.get_freeze_count(), collections.count(2))"
    enabled, frozen, whole = said(program)
    assert (enabled, frozen) == ("True", "0")
    assert int(whole) <= 4, "a whole collection takes 0.3 seconds with TensorFlow imported, and there were twelve"


def test_a_command_takes_imports_for_good() -> None:
    program = (
        "from pipeline.garbage import keep_imports; keep_imports(); import pipeline.tf_estimator; "
        "print(gc.isenabled(), gc.get_freeze_count(), collections.count(2))"
    )
    enabled, frozen, whole = said(program)
    assert enabled == "True"
    assert int(frozen) > 300_000
    assert int(whole) <= 1
