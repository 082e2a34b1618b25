"""The memory allocator of the C library, told to keep what is freed: the next batch needs as much again."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30
"""At most as much that is free stays with the process: several times what a batch takes."""
_LARGEST_MMAP_THRESHOLD = 32 << 20
"""The library refuses a larger one (mallopt(3)); what is larger than that still goes to the system and back."""
_CHOSEN_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def keep_freed_memory() -> None:
    """Let the process keep memory between batches; where there is no glibc, or its own variables are set, do nothing.

    Without it every batch gives its buffers back to the system and gets them again page by page, each filled with
    zeros: 5 to 15% of all CPU time where records are scored (benchmarks/README.md).
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _CHOSEN_BY_USER):
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
