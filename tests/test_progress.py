"""What a run shows while it runs: a bar on a terminal, lines in a log, nothing where nobody wants to know."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable

import pytest

from pipeline import progress
from pipeline.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_until(shown: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not shown():
        assert time.monotonic() < deadline, "it was never shown"
        time.sleep(0.01)


def test_lines_in_a_log() -> None:
    log = io.StringIO()
    with progress.shown(4, stream=log, interval=0.05):
        wait_until(lambda: log.getvalue().count("\n") >= 1)
        assert re.fullmatch(r"0 of 4 parts, 0 rows, 0 rows/s", log.getvalue().splitlines()[0])
        progress.current.add(rows=1234567, parts=1)
        before = log.getvalue().count("\n") + 1  # a line may be on its way
        wait_until(lambda: log.getvalue().count("\n") > before)
    lines = log.getvalue().splitlines()
    assert re.fullmatch(r"1 of 4 parts, 1,234,567 rows, [\d,]+ rows/s, [\d,]+ s left", lines[-1])


def test_rate_and_time_left() -> None:
    log = io.StringIO()
    start = time.monotonic()
    with progress.shown(5, stream=log, interval=0.5):
        progress.current.add(rows=1000, parts=1)
        wait_until(lambda: log.getvalue() != "")
        seconds = time.monotonic() - start
    found = re.fullmatch(r"1 of 5 parts, 1,000 rows, ([\d,]+) rows/s, (\d+) s left", log.getvalue().splitlines()[0])
    assert found
    assert 1000 / seconds - 1 <= int(found[1].replace(",", "")) <= 1000 / 0.5 + 1
    assert round(4 * 0.5) <= int(found[2]) <= round(4 * seconds)


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    with progress.shown(3, stream=terminal):
        progress.current.add(rows=45678, parts=2)
        wait_until(lambda: "45,678 rows" in terminal.getvalue())
    plain = re.sub(r"\x1b\[[\d;?]*\w", "", terminal.getvalue())
    assert re.search(r"scoring .* 2/3 parts, 45,678 rows, [\d,]+ rows/s", plain)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal], ids=["log", "terminal"])
def test_quiet_counts_and_shows_nothing(stream: type[io.StringIO]) -> None:
    out = stream()
    with progress.shown(3, quiet=True, stream=out, interval=0.01) as counted:
        progress.current.add(rows=5, parts=1)
        time.sleep(0.1)
    assert out.getvalue() == ""
    assert (counted.rows, counted.parts) == (5, 1)


def test_every_run_counts_from_nothing() -> None:
    for _ in range(2):
        with progress.shown(1, quiet=True) as counted:
            progress.current.add(rows=3)
        assert counted.rows == 3


def test_showing_ends_with_the_run_that_fails() -> None:
    log = io.StringIO()
    threads = threading.active_count()
    with pytest.raises(RuntimeError), progress.shown(1, stream=log, interval=0.01):
        raise RuntimeError
    assert threading.active_count() == threads
    shown = log.getvalue()
    time.sleep(0.05)
    assert log.getvalue() == shown


def test_counts_of_many_threads_add_up() -> None:
    counted = Progress()
    threads = [threading.Thread(target=lambda: [counted.add(rows=1, parts=2) for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counted.rows, counted.parts) == (80_000, 160_000)
