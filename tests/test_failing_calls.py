"""Runs in which one call that changes files fails: they end with a message or get over it, and the next one makes it good."""

from __future__ import annotations

import pytest
from bad_inputs import same
from runs import Fault
from scenes import Reader, Scene

pytestmark = pytest.mark.any_tensorflow

SLICES = 6
ERRORS = ["EIO", "ENOSPC", "EACCES"]


def fail(scene: Scene, fault: Fault) -> int:
    """Let one call of a run fail; gives its exit code."""
    print(fault)  # pytest shows it where this fails
    scene.prepare()
    with Reader(scene) as reader:
        run = scene.start(fault)
        code = run.wait()
        assert code in (0, 1), f"{code}: {run.said}"
        same(scene.is_one_run_or_none(), True)
        assert "Traceback" not in run.said
        assert run.said.startswith("error: ") if code else not run.said, run.said
        if code == 0 and scene.is_finished():
            scene.check(folders=False)
        else:
            scene.go_on()
    assert reader.seen["new"] > 0
    return code


def with_errors(moments: list[tuple[str, int]]) -> list[Fault]:
    """One error for each moment, of each kind in its turn, also in a slice."""
    kinds = [ERRORS[(number + number // SLICES) % len(ERRORS)] for number in range(len(moments))]
    return [Fault(name, at, kind) for kind, (name, at) in zip(kinds, moments, strict=True)]


@pytest.mark.fault("failing-call")
def test_some_calls(scene: Scene) -> None:
    wanted = ("plan.json", "result.json", "intent.json", " part-00001-of-00003.parquet", "* _SUCCESS", "staging/*")
    moments = [
        (name, at)
        for name, at in scene.moments()
        if at == 1 and name.startswith("re") and name.endswith(wanted[3:] if scene.is_over else wanted[:4])
    ]
    assert len(moments) >= 3
    assert {fail(scene, fault) for fault in with_errors(moments)} == {1}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(SLICES))
def test_every_call(scene: Scene, part: int) -> None:
    faults = with_errors(scene.moments())[part::SLICES]
    if scene.is_over:
        faults = faults[len(faults) // 2 :]  # from the intent on; what is before it is as over nothing
    codes = [fail(scene, fault) for fault in faults]
    assert 1 in codes  # an error in the clean-up is a warning
