"""Python's garbage collector, which takes a second to look at what TensorFlow and Beam make when they are imported.

They make a million objects, and none of them is garbage before the process ends.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_of_command = False


def keep_imports() -> None:
    """Take what is imported from now on for good, as the process of a command may: nothing else was made before."""
    global _of_command
    _of_command = True


@contextmanager
def importing() -> Iterator[None]:
    """Collect no garbage meanwhile."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _of_command:
            gc.freeze()
        if was_enabled:
            gc.enable()


def look_at_nothing_more() -> None:
    """Let the interpreter end without a look at every object that is left."""
    gc.freeze()
