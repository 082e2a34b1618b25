"""Regrouping: boundaries rest on the rows alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.batch import Regrouper, row_bytes
from pipeline.rows import RECORD, ROW


def table(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 40, rows)
    return pa.table(
        {
            ROW: np.arange(rows),
            RECORD: [b"r" * 1000] * rows,
            "feature:text": pa.array([None if size == 3 else b"x" * size for size in sizes], pa.binary()),
            "feature:list": [None if size == 4 else list(range(size)) for size in sizes],
            "feature:nested": [[["a" * size], []] for size in sizes],
            "feature:image": pa.array([[1.0] * 4] * rows, pa.list_(pa.float32(), 4)),
            "passthrough:struct": [{"a": size, "b": "z" * size} for size in sizes],
            "passthrough:word": pa.array([f"w{size}" for size in sizes]).dictionary_encode(),
            "passthrough:flag": [True] * rows,
            "passthrough:map": pa.array([[(1, "k" * size)] for size in sizes], pa.map_(pa.int32(), pa.string())),
            "passthrough:null": pa.nulls(rows),
        }
    )


def bytes_by_hand(row: dict, size: int) -> int:
    text = 0 if size == 3 else size
    values = 0 if size == 4 else 8 * size
    return text + values + size + 16 + 8 + size + len(f"w{size}") + 1 + 4 + size


def regroup(rows: pa.Table, cuts: list[int], size: int, max_bytes: int) -> list[pa.RecordBatch]:
    regrouper, batches = Regrouper(size, max_bytes), []
    for start, end in zip([0, *cuts], [*cuts, rows.num_rows], strict=True):
        for batch in rows.slice(start, end - start).combine_chunks().to_batches():
            batches += regrouper.add(batch)
    return batches + regrouper.finish()


def boundaries(batches: list[pa.RecordBatch]) -> list[tuple[int, int]]:
    return [(batch.column(ROW)[0].as_py(), batch.num_rows) for batch in batches]


def test_row_bytes():
    sizes = np.random.default_rng(0).integers(0, 40, 200)
    [batch] = table(200).combine_chunks().to_batches()
    expected = [bytes_by_hand(row, int(size)) for row, size in zip(batch.to_pylist(), sizes, strict=True)]
    assert row_bytes(batch).tolist() == expected
    assert row_bytes(batch.slice(17, 100)).tolist() == expected[17:117]


def test_row_bytes_of_records_that_the_graph_parses():
    batch = pa.record_batch({ROW: [0, 1], RECORD: [b"abc", b""]})
    assert row_bytes(batch).tolist() == [3, 0]


@pytest.mark.parametrize("rows", [0, 1, 6, 7, 8, 21, 22])
def test_batches_have_exactly_so_many_rows(rows):
    batches = regroup(table(rows), [], 7, 10**9)
    assert [batch.num_rows for batch in batches] == [7] * (rows // 7) + ([rows % 7] if rows % 7 else [])
    if rows:
        assert pa.Table.from_batches(batches).equals(table(rows))


@pytest.mark.parametrize(("size", "max_bytes"), [(7, 10**9), (1000, 900), (7, 2500), (1, 1), (50, 600)])
def test_boundaries_do_not_depend_on_chunks(size, max_bytes):
    rows, rng = table(300), np.random.default_rng(1)
    whole = regroup(rows, [], size, max_bytes)
    assert boundaries(whole) == boundaries_by_hand(rows, size, max_bytes)
    for _ in range(10):
        cuts = sorted(rng.integers(0, 301, rng.integers(0, 40)).tolist())
        batches = regroup(rows, cuts, size, max_bytes)
        assert boundaries(batches) == boundaries(whole)
        assert [batch.to_pylist() for batch in batches] == [batch.to_pylist() for batch in whole]


def boundaries_by_hand(rows: pa.Table, size: int, max_bytes: int) -> list[tuple[int, int]]:
    [batch] = rows.combine_chunks().to_batches()
    found: list[tuple[int, int]] = []
    start, total = 0, 0
    for index, count in enumerate(row_bytes(batch).tolist()):
        if index > start and (index - start == size or total + count > max_bytes):
            found.append((start, index - start))
            start, total = index, 0
        total += count
    return [*found, (start, batch.num_rows - start)]


def test_a_row_above_the_bound_is_a_batch_of_its_own():
    rows = pa.table({ROW: range(5), RECORD: [b"a", b"b" * 100, b"c", b"d" * 100, b"e" * 100]})
    for cuts in ([], [1, 2, 3, 4]):
        assert boundaries(regroup(rows, cuts, 10, 50)) == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]
    assert boundaries(regroup(rows, [], 10, 101)) == [(0, 2), (2, 2), (4, 1)]


def test_nothing_comes_of_nothing():
    regrouper = Regrouper(3, 10)
    assert regrouper.add(pa.record_batch([], [])) == []
    assert regrouper.finish() == []
