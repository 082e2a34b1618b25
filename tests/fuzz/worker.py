"""A process that reads mutants, one a line of its input, and tells of each: a crash or a hang is that of the last one named.

What it writes are lines of JSON: {"start": name}, {"read": name}, {"done": name, ...}.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from fuzz import judge, subject
from fuzz.mutants import Mutant

SECONDS = 20
"""A mutant that takes longer hangs: the process writes where, and ends."""
ROOM = 2 << 30
"""Bytes of address space beyond those of a warm process; more is refused by the system."""
MOST_BYTES = 256 << 20
"""What reading a mutant of a few kilobytes may take."""


def say(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def main() -> None:
    faulthandler.enable()
    names = sys.stdin.read().split()
    scorer = subject.echo_scorer() if names[0].startswith("tfrecord") else None
    with tempfile.TemporaryDirectory() as folder:
        warm = Mutant.named(names[0])
        judge.independent(warm, _write(folder, warm))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
        for name in names:
            mutant = Mutant.named(name)
            path = _write(folder, mutant)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            say(start=name)
            before, started, found = _memory(), time.monotonic(), []
            outcome = subject.Outcome()
            try:
                outcome = subject.run(mutant, path, scorer)
            except Exception as error:
                found.append(f"{type(error).__name__} was raised: {error}")
            seconds, grown = time.monotonic() - started, _memory() - before
            if grown > MOST_BYTES:
                found.append(f"reading {len(mutant.content)} bytes took {grown} bytes of memory")
            say(read=name)
            reading = judge.independent(mutant, path)
            if not found:
                found += judge.findings(mutant, outcome, reading)
            say(
                done=name,
                findings=found,
                broken=outcome.broken is not None,
                scored=len(outcome.scored),
                rejected=len(outcome.rejected),
                undecided=reading.whole is None,
                seconds=seconds,
            )
            faulthandler.cancel_dump_traceback_later()


def _write(folder: str, mutant: Mutant) -> str:
    path = Path(folder) / f"mutant.{mutant.format}"
    path.write_bytes(mutant.content)
    return str(path)


def _memory() -> int:
    """The most bytes that were ever used, by the process or asked for by Arrow."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return max(resident, pa.default_memory_pool().max_memory() or 0)


if __name__ == "__main__":
    main()
