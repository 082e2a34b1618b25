"""What the lock of an output is asked: every process looks at it, and touches it where no other has since it last looked."""

from __future__ import annotations

import heapq

import numpy as np

from benchmarks.costs import Medium

TOUCHED_EVERY = 5.0
"""As in `pipeline.lease`: a process looks after this many seconds times 0.5 to 1."""
_SECONDS = 60.0


def requests(processes: int, parts_a_second: float, medium: Medium) -> float:
    """Requests a second of so many processes, each of which asks for the lease twice more for each part."""
    return medium.look * (processes / (0.75 * TOUCHED_EVERY) + 2 * parts_a_second)


def touches(processes: int, medium: Medium, seed: int = 0) -> float:
    """Touches a second, by simulation: one is seen by others when the requests for it have been answered."""
    random = np.random.default_rng(seed)
    waits = iter(random.uniform(0.5 * TOUCHED_EVERY, TOUCHED_EVERY, int(processes * (_SECONDS / 2.5 + 2))).tolist())
    looks = [(next(waits), process) for process in range(processes)]
    heapq.heapify(looks)
    seen = [-1] * processes
    answered: list[float] = []  # when each touch can be seen, in order
    visible = 0
    while looks[0][0] < _SECONDS:
        now, process = looks[0]
        while visible < len(answered) and answered[visible] <= now:
            visible += 1
        if seen[process] == visible:
            answered.append(now + medium.look * medium.request)
            seen[process] = len(answered)
        else:
            seen[process] = visible
        heapq.heapreplace(looks, (now + next(waits), process))
    return len(answered) / _SECONDS
