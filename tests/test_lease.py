"""The lock: one run at a time, none for ever, and a run that lost it finds out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import files, lease
from pipeline.errors import LeaseLost, OutputError
from pipeline.lease import acquire, is_locked

pytestmark = pytest.mark.any_tensorflow


@pytest.fixture
def output(root: str) -> str:
    return root


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds in place of half a minute. S3 tells times in whole seconds."""
    monkeypatch.setattr(lease, "TOUCHED_EVERY", 0.7)
    monkeypatch.setattr(lease, "LOST_AFTER", 4.0)


def test_taken_and_released(output: str) -> None:
    assert not is_locked(output)
    taken = acquire(output, "r1")
    assert is_locked(output)
    taken.check()
    taken.release()
    assert not is_locked(output)
    with pytest.raises(LeaseLost, match="run r1 no longer has the lock, that run was ended"):
        taken.check()
    assert files.match(files.join(output, "**")) == []


def test_a_run_that_is_alive_keeps_others_out(output: str, quick: None) -> None:
    taken = acquire(output, "r1")
    waited: list[str] = []
    with taken.kept():
        start = time.monotonic()
        with pytest.raises(OutputError, match=r"is locked by run r1 \(.*\), which is alive; wait") as error:
            acquire(output, "r2", on_wait=waited.append)
        assert time.monotonic() - start < lease.LOST_AFTER
    assert error.value.exit_code == 7
    assert len(waited) == 1
    assert "locked by run r1" in waited[0]
    taken.check()


def test_a_lock_that_is_touched_while_it_is_read(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On gs a touch is another version of the object, and the one that was being read is gone."""
    monkeypatch.setattr(lease, "TOUCHED_EVERY", 0.005)
    taken = acquire(output, "r1")
    with taken.kept():
        for _ in range(100):
            taken.check()


def keepers(taken: lease.Lease) -> int:
    return sum(getattr(thread, "_lease", None) == taken for thread in threading.enumerate())


def wait_until(condition: Callable[[], bool]) -> None:
    """Fail if it does not come about in 20 seconds, which a busy machine may need for a touch that is due in 0.2."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_thread_keeps_a_lease_for_all_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there for parts that come one after another too, and ends when none has come for a while."""
    monkeypatch.setattr(lease, "TOUCHED_EVERY", 0.2)
    taken = acquire(str(tmp_path), "r1")
    assert keepers(taken) == 0
    for _ in range(3):
        with taken.kept(), taken.kept():
            assert keepers(taken) == 1
        assert keepers(taken) == 1
    lock = Path(taken.path)
    with taken.kept():
        for _ in range(2):
            touched = lock.stat().st_mtime_ns
            wait_until(lambda: lock.stat().st_mtime_ns > touched)  # noqa: B023 (it is called in this very round)
            assert keepers(taken) == 1
    wait_until(lambda: keepers(taken) == 0)
    with taken.kept():
        taken.release()
        assert keepers(taken) == 0


@pytest.mark.fault("lock-of-a-dead-run")
def test_a_run_that_gives_no_sign_of_life_is_replaced(output: str, quick: None) -> None:
    silent = acquire(output, "r1")
    start = time.monotonic()
    taken = acquire(output, "r2")
    assert time.monotonic() - start >= lease.LOST_AFTER
    taken.check()
    with pytest.raises(LeaseLost, match="run r1 no longer has the lock, run r2 has it"):
        silent.check()
    silent.release()  # however late it wakes up
    taken.check()
    with silent.kept():
        time.sleep(1.5)
    taken.check()


@pytest.mark.fault("locked-output")
def test_of_many_at_once_one_gets_it(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if output.startswith("memory://"):
        pytest.skip("a filesystem without create-if-absent, where the lock is the best effort")
    monkeypatch.setattr(lease, "LOST_AFTER", 0.0)  # all take it from a run that they hold for dead
    acquire(output, "r0")
    start = threading.Barrier(6)
    found: list[str] = []

    def contend(name: str) -> None:
        start.wait()
        try:
            acquire(output, name).check()
            found.append(name)
        except LeaseLost:
            pass

    threads = [threading.Thread(target=contend, args=(f"r{number}",)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (last,) = {json.loads(files.read_bytes(info.path))["run_id"] for info in lease._all(output)[-1:]}
    assert last in found  # others may have had it for a moment, and were taken over


HOLD = """
import sys, time
from pipeline.lease import acquire
with acquire(sys.argv[1], "r1").kept():
    print("taken", flush=True)
    time.sleep(60)
"""


def hold(output: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, output], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    return process


@pytest.mark.fault("lock-of-a-dead-run")
@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs /proc to see that a process is gone")
def test_a_process_that_was_killed_is_replaced_at_once(tmp_path: Path) -> None:
    process = hold(str(tmp_path))
    process.kill()
    start = time.monotonic()
    acquire(str(tmp_path), "r2").check()  # not waited for yet: a process that is dead and not buried is dead
    assert time.monotonic() - start < 5
    process.wait()


def test_a_process_that_was_stopped_is_replaced_in_time(tmp_path: Path, quick: None) -> None:
    process = hold(str(tmp_path))
    os.kill(process.pid, signal.SIGSTOP)
    try:
        acquire(str(tmp_path), "r2").check()
    finally:
        process.kill()
        process.wait()


def test_a_run_of_a_cluster_does_not_end_with_its_launcher(tmp_path: Path, quick: None) -> None:
    """Its workers keep the lease; that the launcher is gone says nothing."""
    content = {"run_id": "r1", "host": "launcher", "taken": "2026-11-22T03:00:00Z"}
    files.create(str(tmp_path / "_temporary" / "lock" / "000001.json"), json.dumps(content).encode())
    worker = lease.Lease(str(tmp_path), "r1", 1)
    with worker.kept(), pytest.raises(OutputError, match=r"locked by run r1 \(launcher, since 2026"):
        acquire(str(tmp_path), "r2")
