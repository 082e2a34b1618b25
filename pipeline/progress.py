"""How far a run is: counted by the stages of this process, shown as a bar on a terminal and as a line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from pipeline.stopwatch import Age, process_age


@dataclass
class Progress:
    """Counts of the run in this process; stages add to it from any thread. first: when the first rows were scored.

    tell: shows a line to whoever looks at the progress.
    """

    rows: int = 0
    parts: int = 0
    first: Age | None = None
    tell: Callable[[str], None] = field(default=lambda message: None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, rows: int = 0, parts: int = 0) -> None:
        with self._lock:
            if rows and not self.rows:
                self.first = process_age()
            self.rows += rows
            self.parts += parts


current = Progress()
"""What the stages of this process count into."""


def reset() -> Progress:
    """Begin to count anew."""
    global current
    current = Progress()
    return current


@contextmanager
def shown(
    total_parts: int, quiet: bool = False, stream: TextIO | None = None, interval: float = 30.0
) -> Iterator[Progress]:
    """Show the progress of the stages in this process while the context is open.

    Args:
      total_parts: parts to score.
      quiet: count and show nothing.
      stream: where to, stderr if it is None; a terminal gets a bar with parts and rows done, rate and time left.
      interval: seconds between two lines in a log.
    """
    progress = reset()
    if quiet:
        yield progress
        return
    stop = threading.Event()
    progress.tell = lambda message: print(message, file=stream or sys.stderr)  # which a bar has replaced meanwhile
    shown_on = stream or sys.stderr
    show = _bar if shown_on.isatty() else _lines
    thread = threading.Thread(target=show, args=(progress, total_parts, shown_on, interval, stop), daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        stop.set()
        thread.join()


def _lines(progress: Progress, total: int, stream: TextIO, interval: float, stop: threading.Event) -> None:
    start = time.monotonic()
    while not stop.wait(interval):
        stream.write(
            f"{progress.parts} of {total} parts, {_rows_and_time(progress, total, time.monotonic() - start)}\n"
        )
        stream.flush()


def _rows_and_time(progress: Progress, total: int, seconds: float) -> str:
    left = f", {seconds / progress.parts * (total - progress.parts):,.0f} s left" if progress.parts else ""
    return f"{progress.rows:,} rows, {progress.rows / seconds:,.0f} rows/s{left}"


def _bar(progress: Progress, total: int, stream: TextIO, interval: float, stop: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("parts, {task.fields[rest]}"),
    )
    start = time.monotonic()
    with Bar(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("scoring", total=total, rest="")
        while not stop.wait(0.2):
            rest = _rows_and_time(progress, total, time.monotonic() - start)
            bar.update(task, completed=progress.parts, rest=rest)
