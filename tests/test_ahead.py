"""An iterator that works one item ahead of its caller."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.ahead import one_ahead


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_the_items_in_their_order(pool, count):
    assert list(one_ahead(iter(range(count)), pool)) == list(range(count))


def test_the_next_item_is_made_while_the_caller_is_busy(pool):
    made = [threading.Event(), threading.Event(), threading.Event()]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    ahead = one_ahead(items(), pool)
    assert next(ahead) == 0
    assert made[1].wait(10)
    assert not made[2].wait(0.2), "one item ahead, and not two: each holds the memory of a batch"
    assert list(ahead) == [1, 2]


def test_the_first_item_is_made_at_once(pool):
    made = threading.Event()

    def items() -> Iterator[int]:
        made.set()
        yield 0

    ahead = one_ahead(items(), pool)
    assert made.wait(10)
    assert list(ahead) == [0]


def test_an_error_comes_in_the_place_of_its_item(pool):
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("gone")

    ahead = one_ahead(items(), pool)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(OSError, match=r"^gone$"):
        next(ahead)


def test_no_one_is_at_work_once_the_caller_has_left(pool):
    """So that the iterator can be closed, and with it the file that it reads."""
    going_on, closed = threading.Event(), []

    def items() -> Iterator[int]:
        try:
            yield 0
            going_on.wait(10)
            yield 1
        finally:
            closed.append(True)

    source = items()
    ahead = one_ahead(source, pool)
    assert next(ahead) == 0
    threading.Timer(0.2, going_on.set).start()
    ahead.close()  # waits for the item that is under way
    source.close()  # would raise "generator already executing"
    assert closed == [True]
