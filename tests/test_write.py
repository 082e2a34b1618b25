"""Writing one part: order, counts, row groups, what is left after an error."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_files import KINDS, new_folder

from pipeline import files, write
from pipeline.errors import CountError
from pipeline.plan import temporary
from pipeline.results import PartResult, ShardResult, find_result, read_result
from pipeline.rows import REJECTED_SCHEMA, Part, PartBatch, Rejected, Shard, ShardEnd
from pipeline.write import PartWriter

pytestmark = pytest.mark.any_tensorflow

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("p", pa.list_(pa.float32(), 2)),
        pa.field("_shard", pa.string()),
        pa.field("_row", pa.int64()),
    ]
)
PART = Part.of_shard(3, "key3", Shard("in/a.csv", 100, 1.5))


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_folder(request.param, tmp_path)


def rows(numbers: Sequence[int]) -> pa.RecordBatch:
    return pa.record_batch(
        [
            pa.array([f"id {number % 5}" for number in numbers]),
            pa.array([[number, 0.5] for number in numbers], pa.list_(pa.float32(), 2)),
            pa.array([PART.name] * len(numbers), pa.string()),
            pa.array(numbers, pa.int64()),
        ],
        schema=SCHEMA,
    )


def batch(sequence: int, numbers: Sequence[int], last: ShardEnd | None = None, **more: Any) -> PartBatch:
    return PartBatch(PART, sequence, rows(numbers), last=(last,) if last else (), **more)


def writer(output: str, attempt: str = "a1") -> PartWriter:
    return PartWriter(output, PART, SCHEMA, "csv", attempt, "run1")


def left_behind(output: str) -> list[str]:
    return [files.base_name(info.path) for info in files.match(temporary(output, "**"))]


def test_a_part_with_rejected_rows(root: str) -> None:
    part = writer(root)
    bad = [Rejected(4, "transform", "x: no number"), Rejected(2, "read", "x: missing", b"\xff,1")]

    assert part.write(batch(0, [0, 1], present={"x": 2, "y": 1})) is None
    assert part.write(batch(1, [3], rejected=tuple(bad), present={"x": 1}, halved=1)) is None
    result = part.write(batch(2, [5, 6], ShardEnd(7), present={"x": 2, "y": 1}))
    part.close()

    assert result is not None
    assert (result.index, result.key, result.run_id, result.pieces) == (
        3,
        "key3",
        "run1",
        (ShardResult(PART.pieces[0].shard, 7, 2),),
    )
    assert (result.read, result.scored, result.rejected) == (7, 5, 2)
    assert result.present == {"x": 5, "y": 2}
    assert result.halved == 1
    assert left_behind(root) == ["a1.parquet", "a1.rejected.parquet", "result.json"]
    for file in result.written:
        data = files.read_bytes(temporary(root, "key3", file.name))
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    scored = pq.read_table(io.BytesIO(files.read_bytes(temporary(root, "key3", "a1.parquet"))))
    assert scored.equals(pa.Table.from_batches([rows([0, 1, 3, 5, 6])]))
    rejected = pq.read_table(io.BytesIO(files.read_bytes(temporary(root, "key3", "a1.rejected.parquet"))))
    assert rejected.schema.equals(REJECTED_SCHEMA)
    assert rejected.to_pylist() == [
        {
            "_shard": "in/a.csv", "_row": 2, "_stage": "read", "_reason": "x: missing", "_format": "csv",
            "_record": b"\xff,1",
        },
        {
            "_shard": "in/a.csv", "_row": 4, "_stage": "transform", "_reason": "x: no number", "_format": "csv",
            "_record": None,
        },
    ]  # fmt: skip
    assert find_result(root, PART) == result


def test_a_part_without_rows_has_a_file_with_the_schema(tmp_path: Path) -> None:
    result = writer(str(tmp_path)).write(batch(0, [], ShardEnd(0)))

    assert result is not None
    assert (result.scored, result.rejected, result.rejected_file) == (0, 0, None)
    table = pq.read_table(tmp_path / "_temporary" / "key3" / "a1.parquet")
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == 0
    assert left_behind(str(tmp_path)) == ["a1.parquet", "result.json"]


def test_nothing_is_written_before_the_first_batch(root: str) -> None:
    part = writer(root)
    assert left_behind(root) == []
    part.abort()
    assert left_behind(root) == []


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        pytest.param([batch(0, [0]), batch(2, [1])], "expected batch 1, got batch 2", id="gap"),
        pytest.param([batch(0, [0]), batch(0, [0])], "expected batch 1, got batch 0", id="repeat"),
        pytest.param([batch(1, [0])], "expected batch 0, got batch 1", id="first one missing"),
        pytest.param(
            [batch(0, [0], ShardEnd(1)), batch(1, [1])], "batch 1 came after the end of the part", id="after last"
        ),
        pytest.param(
            [PartBatch(Part.of_shard(4, "key4", Shard("in/b.csv", 1)), 0, rows([0]))],
            r"got a batch of part 4 \(in/b.csv\)",
            id="another part",
        ),
        pytest.param(
            [batch(0, [0, 1], ShardEnd(4), rejected=(Rejected(2, "read", "x"),))],
            "4 rows were read, but 2 scored and 1 rejected",
            id="a row lost",
        ),
        pytest.param(
            [batch(0, [0, 1], ShardEnd(1))], "1 rows were read, but 2 scored and 0 rejected", id="a row twice"
        ),
        pytest.param(
            [batch(0, [0, 1], ShardEnd(3, "tail_lost", "x"))],
            "3 rows were read, but 2 scored and 0 rejected",
            id="a row lost of a broken shard",
        ),
    ],
)
def test_what_does_not_add_up_is_refused_and_leaves_no_result(
    root: str, batches: list[PartBatch], message: str
) -> None:
    part = writer(root)
    for one in batches[:-1]:
        part.write(one)
    with pytest.raises(CountError, match=r"part 3 \(in/a.csv\): " + message) as error:
        part.write(batches[-1])

    assert error.value.exit_code == 5
    assert read_result(root, PART) is None
    with pytest.raises(CountError, match="after the end"):
        part.write(batch(0, [0], ShardEnd(1)))
    part.close()


def test_a_last_batch_that_never_comes(root: str) -> None:
    part = writer(root)
    part.write(batch(0, range(write.ROW_GROUP_ROWS)))

    with pytest.raises(CountError, match=r"part 3 \(in/a.csv\): ended after 1 batches, and the last one never came"):
        part.close()

    assert left_behind(root) == []


def test_another_schema_is_refused(tmp_path: Path) -> None:
    part = writer(str(tmp_path))
    other = PartBatch(PART, 0, pa.record_batch({"id": ["a"]}), last=(ShardEnd(1),))

    with pytest.raises((ValueError, pa.ArrowInvalid), match=r"[Ss]chema"):
        part.write(other)

    assert left_behind(str(tmp_path)) == []


@pytest.mark.parametrize("fails_at", ["first bytes", "rows", "footer", "result"])
def test_a_full_disk_leaves_no_scraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str) -> None:
    output = str(tmp_path)
    part = writer(output)
    group = range(write.ROW_GROUP_ROWS)

    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    if fails_at in ("rows", "footer"):
        part.write(batch(0, group))
    last = batch(int(fails_at in ("rows", "footer")), group if fails_at == "rows" else [], ShardEnd(0))
    if fails_at == "result":
        monkeypatch.setattr(files, "write_bytes", no_space)
    else:
        monkeypatch.setattr(write._HashingFile, "write", no_space)
    with pytest.raises(OSError, match="No space left"):
        part.write(last)

    assert left_behind(output) == []


def test_a_file_that_is_not_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "size", lambda path: 7)

    with pytest.raises(CountError, match=r"a1.parquet: 2 rows in \d+ bytes were written, but the file has 2 rows in 7"):
        writer(str(tmp_path)).write(batch(0, [0, 1], ShardEnd(2)))


def test_row_groups_are_of_a_sensible_size(tmp_path: Path) -> None:
    part = writer(str(tmp_path))
    for sequence in range(50):
        part.write(batch(sequence, range(4096)))
    part.write(batch(50, range(10), ShardEnd(50 * 4096 + 10)))

    metadata = pq.read_metadata(tmp_path / "_temporary" / "key3" / "a1.parquet")
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [65536, 65536, 65536, 2 * 4096 + 10]
    columns = [groups[0].column(index) for index in range(4)]
    assert {column.compression for column in columns} == {"ZSTD"}
    dictionaries = ["RLE_DICTIONARY" in column.encodings for column in columns]
    assert dictionaries == [True, False, True, False]


def test_wide_rows_end_a_row_group_by_bytes(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("image", pa.binary())])
    part = PartWriter(str(tmp_path), PART, schema, "csv", "a1", "run1")
    image = pa.record_batch([pa.array([bytes(1 << 20)] * 8)], schema=schema)
    for sequence in range(20):
        part.write(PartBatch(PART, sequence, image))
    part.write(PartBatch(PART, 20, image, last=(ShardEnd(21 * 8),)))

    metadata = pq.read_metadata(tmp_path / "_temporary" / "key3" / "a1.parquet")
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [64, 64, 40]


def test_memory_does_not_grow_with_scored_rows(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("p", pa.list_(pa.float32(), 64))])
    part, count = PartWriter(str(tmp_path), PART, schema, "csv", "a1", "run1"), 200
    values = np.random.default_rng(0).random(4096 * 64, np.float32)
    tracemalloc.start()
    for sequence in range(count):
        column = pa.FixedSizeListArray.from_arrays(pa.array(np.roll(values, sequence)), 64)  # keeps the array of numpy
        end = (ShardEnd(count * 4096),) if sequence == count - 1 else ()
        result = part.write(PartBatch(PART, sequence, pa.record_batch([column], schema=schema), last=end))
        del column
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert result is not None
    assert result.scored == count * 4096
    assert highest < 32 << 20  # a row group is 16 MB, all of them are 210 MB


def test_memory_does_not_grow_with_rejected_rows(tmp_path: Path) -> None:
    part, nothing, count = writer(str(tmp_path)), rows([]), 100
    tracemalloc.start()
    for sequence in range(count):
        bad = tuple(Rejected(sequence * 1000 + row, "read", "x: no number", bytes(200)) for row in range(1000))
        end = (ShardEnd(count * 1000),) if sequence == count - 1 else ()
        result = part.write(PartBatch(PART, sequence, nothing, bad, end))
        del bad
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert result is not None
    assert (result.scored, result.rejected) == (0, count * 1000)
    table = pq.read_table(tmp_path / "_temporary" / "key3" / "a1.rejected.parquet", columns=["_row"])
    assert table.column("_row").to_pylist() == list(range(count * 1000))
    assert highest < 16 << 20  # all of them are over 30 MB


def test_two_attempts_leave_one_result(root: str) -> None:
    first, second = writer(root, "a1"), writer(root, "a2")
    first.write(batch(0, [0]))
    second.write(batch(0, [0]))
    first_result = first.write(batch(1, [1], ShardEnd(2)))
    assert find_result(root, PART) == first_result

    second_result = second.write(batch(1, [1], ShardEnd(2)))

    assert second_result is not None
    assert second_result.file.name == "a2.parquet"
    assert find_result(root, PART) == second_result


def test_a_later_attempt_that_fails_spares_the_one_that_is_done(root: str) -> None:
    done = writer(root, "a1").write(batch(0, [0], ShardEnd(1)))
    with pytest.raises(CountError):
        writer(root, "a2").write(batch(0, [0], ShardEnd(2)))

    assert find_result(root, PART) == done


def test_results_that_are_not_reused(root: str) -> None:
    assert find_result(root, PART) is None
    broken = writer(root).write(batch(0, [0], ShardEnd(1, "tail_lost", "the gzip stream ends early")))
    assert broken is not None
    (piece,) = broken.pieces
    assert (piece.state, piece.reason, piece.rows_lost) == ("tail_lost", "the gzip stream ends early", None)
    assert read_result(root, PART) == broken
    assert find_result(root, PART) is None

    done = writer(root, "a2").write(batch(0, [0], ShardEnd(1)))
    assert find_result(root, PART) == done
    files.write_bytes(temporary(root, "key3", "a2.parquet"), b"short")
    assert find_result(root, PART) is None
    files.delete([temporary(root, "key3", "a2.parquet")])
    assert find_result(root, PART) is None


def test_a_result_comes_back_from_json(tmp_path: Path) -> None:
    result = writer(str(tmp_path)).write(batch(0, [0], ShardEnd(2), rejected=(Rejected(1, "read", "x"),)))

    assert result is not None
    assert PartResult.from_json(result.to_json()) == result
