"""One item ahead: an iterator works in a thread of its own while its caller is busy with what it gave last."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[Item]:
    """The items; the first one is made by `pool` at once, and each other one while the caller has the one before it.

    What `items` raises, is raised in its place. It pays where both sides let go of the interpreter's lock for most of their
    time, as TensorFlow, Arrow and reads do, and items are worth more than a hand-over from thread to thread.
    """
    return _given(items, pool, pool.submit(next, items, None))


def _given(items: Iterator[Item], pool: ThreadPoolExecutor, upcoming: Future[Item | None]) -> Iterator[Item]:
    while (item := upcoming.result()) is not None:
        upcoming = pool.submit(next, items, None)
        try:
            yield item
        finally:
            wait([upcoming])  # `items` may be closed then
