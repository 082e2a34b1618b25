"""One item ahead: an iterator works in a thread of its own while its caller is busy with what it gave last."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[Item]:
    """The items; the next one is made by `pool` meanwhile, but for the first. What `items` raises, is raised in its place.

    It pays where both sides let go of the interpreter's lock for most of their time, as TensorFlow, Arrow and reads do.
    """
    end = object()
    item: object = next(items, end)
    while item is not end:
        upcoming = pool.submit(next, items, end)
        try:
            yield item  # type: ignore[misc]
        finally:
            wait([upcoming])  # `items` may be closed then
        item = upcoming.result()
