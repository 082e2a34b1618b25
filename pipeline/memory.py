"""Memory, in bytes: what this process takes, and how many processes with a copy of the model fit."""

from __future__ import annotations

import re
import resource
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelError

PROCESS = uuid.uuid4().hex
"""Names this process among those of a run, on whatever machine."""

RESERVE = 0.1
"""Share of the memory that `as_many_as_fit` leaves to the system and to what batches take while they are scored."""


@dataclass(frozen=True)
class Usage:
    """Memory of a process now. private: nobody else's. shared: pages of files, such as libraries, once on a machine."""

    private: int
    shared: int


@dataclass(frozen=True)
class Need:
    """What processes on one machine need. base: each of them, without the model; model: each; shared: all together."""

    base: int
    model: int
    shared: int

    def of(self, processes: int) -> int:
        """Bytes of so many processes, and of what they share."""
        return processes * (self.base + self.model) + self.shared

    def as_many_as_fit(self, memory: int, cores: int) -> int:
        """The most processes, one at least and `cores` at most, that fit into the memory and leave the reserve free."""
        fitting = (count for count in range(cores, 1, -1) if self.of(count) <= memory * (1 - RESERVE))
        return next(fitting, 1)

    def check(self, processes: int, memory: int) -> None:
        """Refuse more processes than the memory holds.

        Raises:
          ModelError: with the sum.
        """
        if self.of(processes) <= memory:
            return
        each = f"{_gib(self.base + self.model)} (the model {_gib(self.model)})"
        fitting = (memory - self.shared) // (self.base + self.model)
        if processes == 1:
            taken = f"1 process of {each} and {_gib(self.shared)} of libraries needs"
        else:
            taken = f"{processes} processes of {each} each and {_gib(self.shared)} of libraries that they share need"
        remedy = "score on a machine with more memory"
        if fitting > 0:
            remedy = f"set runner.processes_per_machine (--workers) to {fitting}, or {remedy}"
        raise ModelError(f"{taken} {_gib(self.of(processes))}, this machine has {_gib(memory)}: {remedy}")


def usage() -> Usage:
    """What this process takes now; where the system does not tell, its peak, all of it private."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return Usage(peak(), 0)
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE)}
    if "RssAnon" not in kib:  # an old kernel, or a sandbox that shows less
        return Usage(peak(), 0)
    return Usage(1024 * kib["RssAnon"], 1024 * (kib["RssFile"] + kib["RssShmem"]))


def peak() -> int:
    """The most that this process has had in memory.

    Not `ru_maxrss` where it can be helped: that of a child starts with its parent's.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _gib(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"
