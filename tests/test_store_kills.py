"""Runs whose output is on an object store, killed at a request, or whose requests fail on the way."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_inputs import same
from object_stores import STORES, Line, new_bucket
from runs import Fault, RunServer
from scenes import Reader, Scene

pytestmark = pytest.mark.any_tensorflow

KINDS = ["403", "lost", "403", "503", "403", "reset"]
"""Refused for good, or once: then it is asked again."""
LEASE = {"TOUCHED_EVERY": 0.7, "LOST_AFTER": 4.0}
SLICES = 4


@pytest.fixture(scope="module", params=STORES)
def reached(
    request: pytest.FixtureRequest,
    run_server: RunServer,
    tmp_path_factory: pytest.TempPathFactory,
    disturbed_model_dir: Path,
) -> Iterator[tuple[Scene, Line]]:
    """A job that replaces an older output on a store, and the line to it."""
    with new_bucket(request.param, request) as (bucket, line):
        folder = tmp_path_factory.mktemp("store")
        yield Scene(run_server, folder, disturbed_model_dir, f"{bucket}/out", is_over=True), line


def kill(scene: Scene, name: str, at: int) -> None:
    print(name, at)  # pytest shows it where this fails
    scene.prepare()
    with Reader(scene, every=0.1) as reader:
        scene.expect(scene.start(Fault(name, at), lease=LEASE), -signal.SIGKILL)
        same(scene.is_one_run_or_none(), True)
        scene.go_on()
    assert reader.seen["new"] > 0


@pytest.mark.fault("killed-on-a-store")
def test_killed_at_some_requests(reached: tuple[Scene, Line]) -> None:
    scene, _ = reached
    chosen = [moment for moment in scene.moments() if moment[0].endswith((" part-00001-of-00003.parquet", " _SUCCESS"))]
    assert len(chosen) >= 2
    for name, at in chosen[:3]:
        kill(scene, name, at)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(SLICES))
def test_killed_at_every_request(reached: tuple[Scene, Line], part: int) -> None:
    scene, _ = reached
    for name, at in scene.moments()[part::SLICES]:
        kill(scene, name, at)


def changing_requests(reached: tuple[Scene, Line]) -> int:
    """How many requests of a run, or about so many, change something."""
    scene, line = reached
    count = itertools.count()

    def seen(method: str, path: str) -> None:
        if method not in ("GET", "HEAD"):
            next(count)

    scene.prepare()
    line.fault = seen
    scene.expect(scene.start(lease=LEASE), 0)
    line.fault = lambda method, path: None
    return next(count)


def fail(reached: tuple[Scene, Line], number: int, kind: str, name: str = "") -> int:
    """Let something befall the so-manieth request that changes something; gives the exit code of the run.

    name: how the path of such a request ends. Without one, a touch of the lease counts as well, at no certain moment.
    """
    print(number, kind, name)  # pytest shows it where this fails
    scene, line = reached
    scene.prepare()
    count = itertools.count(1)

    def fault(method: str, path: str) -> str | None:
        is_counted = method not in ("GET", "HEAD") and path.split("?")[0].endswith(name)
        return kind if is_counted and next(count) == number else None

    line.fault, line.befallen = fault, []
    with Reader(scene, every=0.2) as reader:
        run = scene.start(lease=LEASE)
        code = run.wait()
        line.fault = lambda method, path: None
        assert code in (0, 1), f"{code}: {run.said}"
        assert "Traceback" not in run.said
        same(scene.is_one_run_or_none(), True)
        if code == 0 and scene.is_finished():
            scene.check()
        else:
            scene.go_on()
    assert reader.seen["new"] > 0
    assert not name or len(line.befallen) == 1
    return int(code)


@pytest.mark.fault("failing-call")
def test_some_requests_fail(reached: tuple[Scene, Line]) -> None:
    assert fail(reached, 1, "403", name="part-00001-of-00003.parquet") == 1
    assert fail(reached, 1, "lost", name="part-00001-of-00003.parquet") == 0
    assert fail(reached, 2, "lost", name="_SUCCESS") == 0  # the first takes the older one away


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(SLICES))
def test_every_request_fails(reached: tuple[Scene, Line], part: int) -> None:
    kinds = itertools.cycle(KINDS)
    for number in range(1 + part, changing_requests(reached), SLICES):
        fail(reached, number, next(kinds))
