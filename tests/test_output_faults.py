"""An output that cannot be written: no room, no right, at every step of a run, and what the run after it makes of that."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bad_inputs
import pytest
from bad_inputs import Bench, make_rows
from faults import DISK, Calls, watched
from left_behind import (
    OVERWRITE,
    assert_failed,
    assert_published,
    assert_untouched,
    contents,
    make_shards,
    publish_first,
)

from pipeline.errors import StorageError, unforeseen
from pipeline.publish import publish

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

ROWS = make_rows(3000)
NO_ROOM = "No space left on device; make room, or write to another folder, and run again: finished parts are kept"
NO_RIGHT = (
    "Read-only file system; grant the right to write there, or write to another folder, and run again: "
    "finished parts are kept"
)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.fixture
def disk(bench: Bench) -> Iterator[Callable[[str], None]]:
    """The bench's output as a disk of its own, to be mounted anew with other options."""
    bench.output.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=10m", "none", str(bench.output)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield lambda options: remount(bench.output, options)
    finally:
        subprocess.run(["umount", "--lazy", str(bench.output)], check=True)


def fill(output: Path, bytes: int) -> Path:
    """Fill a disk up to some bytes; gives the file that does."""
    ballast = output / "ballast"
    room = os.statvfs(output)
    ballast.write_bytes(b"\0" * max(0, room.f_bavail * room.f_frsize - bytes))
    return ballast


def finished_parts(output: Path) -> int:
    return len(list(output.glob("_temporary/*/result.json")))


@pytest.mark.fault("disk-full")
@pytest.mark.parametrize("room", [0, 16384, 36864, 57344])
def test_a_full_disk(room: int, bench: Bench, disk: Callable[[str], None]) -> None:
    """Room for nothing, for some of the copy of the model, for the plan, for one part."""
    make_shards(bench, ROWS, "a", "b", "c")
    before = publish_first(bench)
    ballast = fill(bench.output, room)

    refused = bench.score(output=OVERWRITE)

    assert refused.code == 1
    assert refused.error == f"error: output.path: {bench.output}: {NO_ROOM}\n"
    assert refused.report["error"] == f"output.path: {bench.output}: {NO_ROOM}"
    assert_untouched(bench, before)
    kept = finished_parts(bench.output)
    assert kept < 3
    ballast.unlink()
    assert_published(bench, bench.score(output=OVERWRITE), ROWS, resumed=kept)


class Refusing(Calls):
    """Calls that change files; the filesystem refuses those whose words hold `part` from the `first` of them on."""

    def __init__(self, part: str, number: int, first: int = 1):
        super().__init__()
        self._part, self._number, self._left = part, number, first

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        if self._part in name:
            self._left -= 1
            if self._left <= 0:
                raise OSError(self._number, os.strerror(self._number), name.split()[1])
        return call()


@pytest.mark.fault("disk-full")
@pytest.mark.parametrize(
    ("refused", "stage", "kept"),
    [
        pytest.param(Refusing("/staging/", errno.ENOSPC), None, 0, id="copy of the model"),
        pytest.param(Refusing("/plan.json", errno.ENOSPC), None, 0, id="plan"),
        pytest.param(Refusing(".parquet", errno.ENOSPC, first=2), "write", 1, id="second part"),
        pytest.param(Refusing("/result.json", errno.ENOSPC, first=3), "write", 2, id="third result"),
        pytest.param(Refusing("/intent.json", errno.ENOSPC), "publish", 3, id="intent"),
    ],
)  # fmt: skip
def test_no_room_for(refused: Refusing, stage: str | None, kept: int, bench: Bench) -> None:
    make_shards(bench, ROWS, "a", "b", "c")
    before = publish_first(bench)

    with watched(refused, DISK):
        outcome = bench.score(output=OVERWRITE)

    assert assert_failed(bench, outcome, 1, stage) == f"output.path: {bench.output}: {NO_ROOM}"
    assert_untouched(bench, before)
    assert finished_parts(bench.output) == kept
    assert_published(bench, bench.score(output=OVERWRITE), ROWS, resumed=kept)


@pytest.mark.fault("disk-full-while-publishing")
@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(Refusing("/part-", errno.ENOSPC, first=2), id="part"),
        pytest.param(Refusing("/_manifest.json", errno.ENOSPC), id="manifest"),
        pytest.param(Refusing("/_SUCCESS", errno.ENOSPC, first=2), id="success"),  # the first takes the old one away
    ],
)
def test_no_room_in_the_middle_of_publishing(refused: Refusing, bench: Bench) -> None:
    """The old output is on its way out: nothing is an output then, and the next run finishes what was begun."""
    make_shards(bench, ROWS, "a", "b", "c")
    publish_first(bench)

    with watched(refused, DISK):
        outcome = bench.score(output=OVERWRITE)

    assert assert_failed(bench, outcome, 1, "publish") == f"output.path: {bench.output}: {NO_ROOM}"
    assert not outcome.success
    finished = bench.score(output=OVERWRITE)
    assert finished.report["warnings"] == ["an earlier run of this job had ended while it published; that was finished"]
    assert_published(bench, finished, ROWS)


@pytest.mark.fault("output-read-only")
def test_a_read_only_output(bench: Bench, disk: Callable[[str], None]) -> None:
    make_shards(bench, ROWS, "a", "b", "c")
    before = publish_first(bench)
    disk("ro")

    refused = bench.score(output=OVERWRITE)

    assert refused.code == 1
    assert refused.error == f"error: output.path: {bench.output}: {NO_RIGHT}\n"
    assert contents(bench.output) == before
    disk("rw")
    assert_published(bench, bench.score(output=OVERWRITE), ROWS)


@pytest.mark.fault("output-read-only")
def test_an_output_that_becomes_read_only(
    bench: Bench, disk: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shards(bench, ROWS, "a", "b", "c")
    before = publish_first(bench)

    def read_only(*arguments: Any) -> Any:
        disk("ro")
        return publish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stages.output.publish", read_only)
        refused = bench.score(output=OVERWRITE)

    assert refused.code == 1
    assert refused.error == f"error: output.path: {bench.output}: {NO_RIGHT}\n"
    assert_untouched(bench, before)
    disk("rw")
    monkeypatch.setattr(
        "pipeline.lease.LOST_AFTER", 0.5
    )  # its lock is still there, and so is its process, which is ours
    assert_published(bench, bench.score(output=OVERWRITE), ROWS, resumed=3)


@pytest.mark.fault("output-read-only")
@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS], ids=errno.errorcode.get)
def test_no_right_to_write(number: int, bench: Bench) -> None:
    make_shards(bench, ROWS, "a", "b", "c")

    with watched(Refusing(f"{bench.output}", number), DISK):
        refused = bench.score()

    assert refused.code == 1
    assert refused.error == (
        f"error: output.path: {bench.output}: {os.strerror(number)}; grant the right to write there, or write to another "
        "folder, and run again: finished parts are kept\n"
    )
    assert_published(bench, bench.score(), ROWS)


def test_no_right_to_read_something_else_is_not_blamed_on_the_output() -> None:
    error = unforeseen(PermissionError(errno.EACCES, "Permission denied", "/model/checkpoint"), "/out")
    assert not isinstance(error, StorageError)
    assert str(error) == "PermissionError: [Errno 13] Permission denied: '/model/checkpoint'"


def test_a_refusal_in_the_trace_of_a_worker() -> None:
    """A worker that is another process sends the text of its trace alone."""
    trace = (
        'RuntimeError: Traceback (most recent call last):\n  File "write.py", line 319, in write\n'
        "OSError: [Errno 28] No space left on device\n\nDuring handling of the above exception:\n"
        "OSError: [Errno 28] No space left on device [while running 'Write/WritePart-ptransform-22']\n"
    )
    error = unforeseen(RuntimeError(trace), "/out")
    assert isinstance(error, StorageError)
    assert (str(error), error.stage) == (f"output.path: /out: {NO_ROOM}", "write")
