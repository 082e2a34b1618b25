"""Predictions then and now: which rows differ, and the table of the worst."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.record.difference import different_rows, largest_difference, table


def test_rows_of_other_lengths_in_other_batches() -> None:
    then = [{"x": np.array([[1.0, 2.0]])}, {"x": np.array([[1.0, 2.0, 3.0]])}]
    same = [{"x": np.array([[1.0, 2.0]])}, {"x": np.array([[1.0, 2.0, 3.0 + 1e-6]])}]
    shorter = [{"x": np.array([[1.0, 2.0]])}, {"x": np.array([[1.0, 2.0]])}]
    assert different_rows(then, same) == {}
    assert largest_difference(then, same) == pytest.approx(1e-6)
    different = different_rows(then, shorter)
    assert different["x"].tolist() == [0, 1]
    assert any(line.split() == ["1", "x", "shape", "(3,)", "shape", "(2,)"] for line in table(then, shorter, different))


def test_table_shows_the_worst_rows_first_and_how_many_more() -> None:
    then = [{"x": np.zeros(8)}]
    now = [{"x": np.arange(8.0)}]
    lines = [line.split() for line in table(then, now, different_rows(then, now))]
    assert [line[0] for line in lines] == ["row", "7", "6", "5", "4", "3", "and"]
    assert lines[1] == ["7", "x", "0", "7"]
    assert lines[-1] == ["and", "2", "more"]
