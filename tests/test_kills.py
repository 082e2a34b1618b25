"""Runs that are killed, by the signal that nobody can handle: the next one with the same command makes it good."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import pytest
from bad_inputs import same
from runs import Fault
from scenes import Reader, Scene

pytestmark = pytest.mark.any_tensorflow

SLICES = 8
"""Of all moments of a run, one a test."""
KILLED = -signal.SIGKILL


def kill(scene: Scene, *faults: Fault) -> Counter[str]:
    """Kill a run, and the ones after it, and let the last go on; what a reader has seen meanwhile."""
    scene.prepare()
    with Reader(scene) as reader:
        for fault in faults:
            print(fault)  # pytest shows it where this fails
            scene.expect(scene.start(fault), KILLED)
            same(scene.is_one_run_or_none(), True)
        scene.go_on()
    return reader.seen


def publishing(scene: Scene) -> list[tuple[str, int]]:
    """The moments from the intent on to the end."""
    moments = scene.moments()
    return moments[moments.index(("rename _temporary/publish/*/* _temporary/publish/*/intent.json", 1)) :]


@pytest.mark.fault("killed")
def test_some_moments(scene: Scene) -> None:
    moments = scene.moments()
    chosen = [moments[3], moments[len(moments) // 4], moments[len(moments) // 2], publishing(scene)[4]]
    chosen += [(name, 1) for name, _ in moments if name.endswith((" part-00002-of-00003.parquet", "* _SUCCESS"))]
    chosen += [publishing(scene)[-20], publishing(scene)[-4]]
    seen: Counter[str] = Counter()
    for name, at in chosen:
        seen += kill(scene, Fault(name, at))
    assert len(chosen) >= 7
    assert seen["new"] >= len(chosen)
    assert seen["older"] > 0 or not scene.is_over


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(SLICES))
def test_every_moment(fresh: Scene, part: int) -> None:
    moments = fresh.moments()[part::SLICES]
    assert len(moments) >= 10
    for name, at in moments:
        assert kill(fresh, Fault(name, at))["new"] > 0


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(SLICES))
def test_every_moment_from_the_intent_on_over_an_older_output(over: Scene, part: int) -> None:
    moments = publishing(over)[part::SLICES]
    assert len(moments) >= 6
    for name, at in moments:
        assert kill(over, Fault(name, at)).keys() >= {"new"}


def any_time(scene: Scene, seed: int, times: int) -> None:
    draw = random.Random(seed)
    seen: Counter[str] = Counter()
    killed, longest = 0, scene.seconds
    while killed < times:
        scene.prepare()
        with Reader(scene) as reader:
            run, start = scene.start(), time.monotonic()
            time.sleep(draw.uniform(0.05, 1) * longest)
            run.signal(signal.SIGKILL)
            print(f"killed after {time.monotonic() - start:.3f} s")
            code = run.wait()
            assert code in (KILLED, 0), run.said
            killed += code == KILLED
            if code == 0:  # it was done by then
                longest *= 0.8
            scene.go_on()
        seen += reader.seen
    assert seen["new"] >= times


@pytest.mark.fault("killed")
def test_at_any_time(scene: Scene) -> None:
    any_time(scene, seed=1, times=2)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_at_any_time_often(scene: Scene) -> None:
    any_time(scene, seed=2, times=12)


def restart_calls(scene: Scene, first: Fault) -> list[tuple[str, int]]:
    """The moments of the run that goes on where another was killed."""
    scene.prepare()
    scene.expect(scene.start(first), KILLED)
    run = scene.start()
    scene.expect(run, 0)
    return scene.moments(run.calls)


def twice(scene: Scene, step: int) -> int:
    move = next((name, at) for name, at in publishing(scene) if name.endswith(" part-00001-of-00003.parquet"))
    again = restart_calls(scene, Fault(*move))[3::step]
    for name, at in again:
        kill(scene, Fault(*move), Fault(name, at))
    return len(again)


@pytest.mark.fault("killed-again")
def test_killed_again_while_it_goes_on(over: Scene) -> None:
    assert twice(over, 25) >= 2


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_again_at_many_moments(scene: Scene) -> None:
    assert twice(scene, 6) >= 8
