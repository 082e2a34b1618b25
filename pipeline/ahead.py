"""One item ahead: an iterator works in a thread of its own while its caller is busy with what it gave last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")


def one_ahead(
    items: Iterator[Item], pool: ThreadPoolExecutor, enough: Callable[[Sequence[Item]], bool] = bool
) -> Iterator[Item]:
    """The items; the first one is made by `pool` at once, and each other one while the caller has the one before it.

    What `items` raises, is raised in its place. It pays where both sides let go of the interpreter's lock for most of their
    time, as TensorFlow, Arrow and reads do.

    enough: whether some items are to be handed from thread to thread; until then more are made, and handed over with them.
    """
    return _given(items, pool, enough, pool.submit(_make, items, enough))


class _Made(NamedTuple):
    """Items that were made at one go. over: whether there are no more. error: what came in place of the next one."""

    items: Sequence[Any]
    over: bool = False
    error: Exception | None = None


def _make(items: Iterator[Item], enough: Callable[[Sequence[Item]], bool]) -> _Made:
    made: list[Item] = []
    try:
        for item in items:
            made.append(item)
            if enough(made):
                return _Made(made)
    except Exception as error:
        return _Made(made, over=True, error=error)
    return _Made(made, over=True)


def _given(
    items: Iterator[Item], pool: ThreadPoolExecutor, enough: Callable[[Sequence[Item]], bool], upcoming: Future[_Made]
) -> Iterator[Item]:
    over = False
    while not over:
        made, over, error = upcoming.result()
        if not over:
            upcoming = pool.submit(_make, items, enough)
        try:
            yield from made
        finally:
            wait([upcoming])  # `items` may be closed then
        if error is not None:
            raise error
