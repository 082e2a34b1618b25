"""Runs that stop in the middle, lose the output to another run that publishes, and wake up: they change nothing."""

from __future__ import annotations

import io
import re

import pyarrow.parquet as pq
import pytest
from bad_inputs import same
from runs import Fault
from scenes import OLDER_SHARDS, Scene, check_listing

from pipeline import files

pytestmark = pytest.mark.any_tensorflow

SLICES = 6


def contents(output: str) -> dict[str, bytes]:
    """All that lies at an output."""
    return {info.path: files.read_bytes(info.path) for info in files.match(files.join(output, "**"))}


def stop_and_wake(scene: Scene, name: str, at: int) -> None:
    """Stop a run before a call, let another one publish other rows, and let the first one go on."""
    print(name, at)  # pytest shows it where this fails
    scene.prepare()
    zombie = scene.start(Fault(name, at, "stop"))
    scene.expect(zombie, "stopped")

    successor = scene.start_older()
    scene.expect(successor, 0)
    published = contents(scene.output)
    same(len([path for path in published if "/part-" in path and "/_rejected/" not in path]), OLDER_SHARDS)
    check_listing(scene.output, [path[len(scene.output) + 1 :] for path in published if path.endswith(".parquet")])

    code = zombie.wake()
    assert code == 7, f"{code}: {zombie.said}"
    assert re.search("no longer has the lock|holds an output already", zombie.said), zombie.said
    same(contents(scene.output), published)
    check_listing(scene.output, [path[len(scene.output) + 1 :] for path in published if path.endswith(".parquet")])
    rows = [
        pq.read_metadata(io.BytesIO(data)).num_rows for path, data in published.items() if path.endswith(".parquet")
    ]
    same(sum(rows), OLDER_SHARDS * 4 + 2)


def while_it_holds_the_lock(scene: Scene) -> list[tuple[str, int]]:
    """The moments at which a run has the lock."""
    names = [name for name, _ in scene.moments()]
    taken = next(number for number, name in enumerate(names) if name.startswith("link _temporary/lock/"))
    left = next(number for number, name in enumerate(names) if name.startswith("rename _temporary/lock/"))
    return scene.moments()[taken + 2 : left + 1]


@pytest.mark.fault("zombie")
def test_some_moments(over: Scene) -> None:
    moments = while_it_holds_the_lock(over)
    wanted = ("/result.json", " part-00001-of-00003.parquet", "* _SUCCESS")
    chosen = [next(moment for moment in moments if moment[0].endswith(end)) for end in wanted]
    for name, at in chosen:
        stop_and_wake(over, name, at)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(SLICES))
def test_many_moments(scene: Scene, part: int) -> None:
    moments = while_it_holds_the_lock(scene)
    for name, at in moments[3 * part :: 3 * SLICES]:
        stop_and_wake(scene, name, at)
