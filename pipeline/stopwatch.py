"""How long the phases of a run take, by the clock and of this process's CPU time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


@dataclass
class Stopwatch:
    """Phase -> seconds by the clock, and phase -> seconds of CPU time of this process, all threads together."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens while the context is open."""
        clock, cpu = time.monotonic(), time.process_time()
        yield
        self.seconds[name], self.cpu_seconds[name] = time.monotonic() - clock, time.process_time() - cpu


class Age(NamedTuple):
    """Since the process began: seconds by the clock (to a hundredth), seconds of CPU time."""

    seconds: float
    cpu_seconds: float


def process_age() -> Age | None:
    """How long this process has lived by now; None where /proc does not tell."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return Age(time.clock_gettime(time.CLOCK_BOOTTIME) - began, time.process_time())
