"""What this machine, or the container that it is seen from, has: memory and cores, and how processes share the cores.

A container's limit counts where it is lower than the machine's, by version 1 and 2 of control groups:
https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_BATCHES_AT_ONCE = 2
"""A third one costs the memory of a batch, and gains a twentieth at most on two cores."""


def memory(root: str = "/") -> int:
    """Bytes of memory that processes here have: the machine's, or the limit of their control group if that is lower.

    root: folder that `proc` and `sys` are looked for in.
    """
    limits = [_number(path) for path in _limit_files(root, "memory", ("memory.max", "memory.limit_in_bytes"))]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit in limits if limit)])


def cores(root: str = "/") -> int:
    """The cores that processes here have: those they may run on, or the quota of their control group if that is lower."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for path in _limit_files(root, "cpu", ("cpu.max", "cpu.cfs_quota_us")):
        words = _words(path)
        if path.name == "cpu.cfs_quota_us":
            words += _words(path.with_name("cpu.cfs_period_us"))
        if len(words) == 2 and all(word.isdecimal() for word in words):
            available = min(available, math.ceil(int(words[0]) / int(words[1])))
    return max(1, available)


def _limit_files(root: str, controller: str, names: tuple[str, str]) -> Iterator[Path]:
    """The files that limit this process, from its own control group upwards. names: in version 2, in version 1.

    Inside of a container the path of the group may be that on the host, of which only the top can be seen.
    """
    mount = Path(root, "sys/fs/cgroup")
    try:
        groups = Path(root, "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if not controllers:
            top, name = mount, names[0]
        elif controller in controllers.split(","):
            top, name = mount / controller, names[1]
        else:
            continue
        folder = top / path.lstrip("/")
        yield from (place / name for place in (folder, *folder.parents) if place.is_relative_to(top))


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if len(words) == 1 and words[0].isdecimal() else None  # "max": no limit


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def cores_of(processes: int) -> int:
    """The cores that each of so many processes on this machine has. processes: 0 for one a core."""
    return max(1, cores() // processes) if processes else 1


def batches_at_once(processes: int, row_wise: bool) -> int:
    """How many batches each of so many processes scores at once. row_wise: whether scores rest on their own row alone."""
    return min(_BATCHES_AT_ONCE, cores_of(processes)) if row_wise else 1


def share_cores(processes: int, row_wise: bool) -> None:
    """Let this process, one of so many on its machine, run its share of threads; has to come before TensorFlow's first session.

    A thread count of the Estimator's own session_config, or of the environment, stands. Arguments: as in `batches_at_once`.
    """
    share = cores_of(processes)
    if batches_at_once(processes, row_wise) == share:  # each has a core to itself, and nothing to gain from another's
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    if processes == 1:
        return  # the libraries' own choice is the number of cores
    import pyarrow as pa

    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(variable, str(share))
    if "OMP_NUM_THREADS" not in os.environ:  # what pyarrow goes by
        pa.set_cpu_count(share)
