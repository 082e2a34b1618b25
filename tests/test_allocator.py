"""The allocator of the C library, as a process that scores sets it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

BATCHES = """
import ctypes, resource, sys
from pipeline.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    blocks = [library.malloc(1 << 20) for _ in range(16)]
    for block in blocks:
        ctypes.memset(block, 1, 1 << 20)
    for block in blocks:
        library.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Fifty batches of 16 MiB in blocks of one; how many pages the system had to give."""


def faults(how: str, **environment: str) -> int:
    command = [sys.executable, "-c", BATCHES, how]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_batches_reuse_the_pages_of_those_before():
    pages = 16 * (1 << 20) // os.sysconf("SC_PAGE_SIZE")  # of one batch
    fixed = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10)}  # else the library raises it by itself, or not, as blocks come
    assert faults("kept") < 3 * pages
    assert faults("kept", **fixed) > 40 * pages, "what the user chose stands"
