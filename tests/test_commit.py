"""The commit, killed, failing, or overtaken by another run at each call that changes the filesystem."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults import DISK, Calls, Killed, requests_of, watched
from object_stores import STORES, new_bucket
from published import listing, new_plan, run, table, take, write_part
from test_files import new_folder

from pipeline import files, lease
from pipeline.commit import abandon, published_run
from pipeline.errors import LeaseLost
from pipeline.manifest import read_manifest
from pipeline.plan import Plan, write_plan
from pipeline.publish import Limits, existing_output, publish

pytestmark = pytest.mark.any_tensorflow

OLDER = 3
"""Shards of the run that has published before, one more than those of the run that is disturbed."""
SIZES = [5, 6]


class Place:
    """A kind of filesystem, the calls that change it, and an output there. step: 1 tries each call, 2 every second one."""

    def __init__(self, output: str, targets: list[tuple[Any, str]], step: int = 1):
        self.output, self.targets, self.step = output, targets, step

    @property
    def is_disk(self) -> bool:
        return files.is_local(self.output)

    def prepare(self) -> Plan:
        """The output of run r1, and parts of run r2 that are ready to be published."""
        files.delete_folder(self.output)
        run(self.output, "r1", OLDER, rejected=1)
        plan = new_plan("r2", len(SIZES))
        write_plan(self.output, plan)
        write_part(self.output, plan, 0, scored=SIZES[0], rejected=1)
        write_part(self.output, plan, 1, scored=SIZES[1])
        return plan

    def names(self, shards: int) -> list[str]:
        return [f"part-{part:05d}-of-{shards:05d}.parquet" for part in range(shards)]

    def rows(self, names: list[str]) -> list[int]:
        return [table(self.output, name).num_rows for name in names]

    def kill_at(self, calls: Calls, target: str) -> None:
        """Let the process end at the call that puts a file at its final name."""
        calls.end_at = lambda name: name.endswith(f"{self.output}/{target}")

    def is_one_run_or_none(self) -> bool:
        """What a reader may see: all of r1, all of r2, or no `_SUCCESS`."""
        published = published_run(self.output)
        if published == "r1":
            return self.rows(self.names(OLDER)) == [3] * OLDER
        if published == "r2":
            return (read_manifest(self.output) or {})["run_id"] == "r2" and self.rows(self.names(2)) == SIZES
        return published is None


@pytest.fixture(
    params=[
        "local",
        *(pytest.param((store, 9), id=f"{store}, some calls") for store in STORES),
        *(pytest.param((store, 1), id=f"{store}, all calls", marks=pytest.mark.long) for store in STORES),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "local":
        yield Place(new_folder("local", tmp_path), DISK)
        return
    store, step = request.param
    with new_bucket(store, request) as (bucket, _):
        yield Place(f"{bucket}/output", requests_of(store), step)


@pytest.fixture(autouse=True)
def dead_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of killed runs are gone; here they were parts of this one, which is not."""
    monkeypatch.setattr(lease, "_is_gone", lambda holder: True)


def disturbed(place: Place, calls: Callable[[int], Calls], check: Callable[[int], None]) -> list[str]:
    """Publish run r2 again and again, with a fault at the first call, at the second, ...; gives the names of all calls."""
    for number in itertools.count(1, place.step):
        plan = place.prepare()
        holder = take(place.output, "r2")
        counted = calls(number)
        with watched(counted, place.targets), suppress(Killed, OSError, LeaseLost):
            publish(holder, plan, Limits(1))
        if len(counted.names) < number:
            return counted.names
        check(number)
    raise AssertionError("unreachable")


def end() -> None:
    raise Killed


def restart(place: Place) -> None:
    """What the next launch does: finishes what was begun, or publishes the parts that are there."""
    holder = take(place.output, "r2b")
    if published_run(place.output) != "r2":
        publish(holder, replace(new_plan("r2", len(SIZES)), run_id="r2b"), Limits(1))
    abandon(holder)

    assert listing(place.output) == [
        "_SUCCESS", "_manifest.json", "_rejected/part-00000-of-00002.parquet", *place.names(2),
    ]  # fmt: skip
    assert place.rows(place.names(2)) == SIZES
    manifest = read_manifest(place.output)
    assert manifest is not None
    assert published_run(place.output) == manifest["run_id"]
    assert [file["rows"] for file in manifest["files"]] == SIZES


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_killed_at_any_call(place: Place, after: bool) -> None:
    def check(number: int) -> None:
        assert place.is_one_run_or_none(), number
        assert existing_output(place.output, "overwrite") == "write"
        restart(place)

    calls = disturbed(place, lambda number: Calls(number, end, after, dead=True), check)

    assert len(calls) >= 12
    assert sum(f"{place.output}/_SUCCESS" in call for call in calls) >= 2, calls  # the old one goes, the new one comes


def test_an_error_at_any_call(place: Place) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "emulated")

    def check(number: int) -> None:
        assert place.is_one_run_or_none(), number
        restart(place)

    assert len(disturbed(place, lambda number: Calls(number, fail), check)) >= 12


def test_killed_while_it_is_rolled_forward(place: Place) -> None:
    """First in the middle of the moves, then at each call of the run after it, which the one after that makes good."""
    for number in itertools.count(1, place.step):
        plan = place.prepare()
        holder = take(place.output, "r2")
        first = Calls(0)
        with watched(first, place.targets), suppress(Killed):
            place.kill_at(first, "part-00001-of-00002.parquet")
            publish(holder, plan, Limits(1))
        assert published_run(place.output) is None
        second = Calls(number, end, dead=True)
        with watched(second, place.targets), suppress(Killed):
            take(place.output, "r2a")
        assert place.is_one_run_or_none(), number
        restart(place)
        if len(second.names) < number:
            break
    assert number >= 8


def test_overtaken_at_any_call(place: Place) -> None:
    """The run stops before a call; another one takes over, publishes and ends; then the first one wakes up."""

    def overtake() -> None:
        run(place.output, "r3", 1, scored=9)

    def check(number: int) -> None:
        lying = [name for name in listing(place.output) if place.is_disk or not name.startswith("_temporary/")]
        assert lying == ["_SUCCESS", "_manifest.json", *place.names(1)], number
        assert place.rows(place.names(1)) == [9]
        assert published_run(place.output) == (read_manifest(place.output) or {})["run_id"] == "r3"

    calls = disturbed(place, lambda number: Calls(number, overtake), check)

    assert len(calls) >= 12
