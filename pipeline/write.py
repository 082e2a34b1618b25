"""Writing one part: a Parquet file of scores and one of rejected rows under temporary names, then the part's result.

    OUTPUT/_temporary/<part key>/<attempt>.parquet
    OUTPUT/_temporary/<part key>/<attempt>.rejected.parquet     only if there are any
    OUTPUT/_temporary/<part key>/result.json                    last

Attempts at one part never touch each other's files; a part is done when its result is there.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files, memory
from pipeline.errors import CountError
from pipeline.plan import temporary
from pipeline.results import RESULT, PartResult, ShardResult, WrittenFile
from pipeline.rows import REJECTED_SCHEMA, Part, PartBatch, Rejected, ShardEnd, rejected_table

ROW_GROUP_ROWS = 64 * 1024
ROW_GROUP_BYTES = 64 << 20
REJECTED_GROUP_ROWS = 16 * 1024
REJECTED_GROUP_BYTES = 16 << 20


class PartWriter:
    """Writes the batches of one part, in order, and its result with the last one.

    A batch that is out of order, or counts that do not add up, raise CountError. After any error the files of this
    attempt are gone.

    Args:
      output: the output folder, the one with `_temporary/`.
      schema: of the rows, `_shard` and `_row` included where the job wants them.
      record_format: of the shards, noted with each rejected row.
      attempt: a name that no other attempt at this part has.
      run_id: of the run that does the work.
    """

    def __init__(self, output: str, part: Part, schema: pa.Schema, record_format: str, attempt: str, run_id: str):
        self._output = output
        self._part = part
        self._schema = schema
        self._record_format = record_format
        self._attempt = attempt
        self._run_id = run_id
        self._expected = 0
        self._ended = False
        self._present: Counter[str] = Counter()
        self._halved = 0
        self._rows: list[pa.RecordBatch] = []
        self._rows_held = self._bytes_held = 0
        self._rejected: list[Rejected] = []
        self._rejected_bytes_held = 0
        self._rejected_rows: list[int] = []
        self._file: _ParquetFile | None = None
        self._rejected_file: _ParquetFile | None = None

    def write(self, batch: PartBatch) -> PartResult | None:
        """Take the next batch of the part; gives the part's result when it is the last one, otherwise None.

        Raises:
          CountError: another part's batch, a gap or a repeat in `sequence`, a batch after the last one, or rows read
            that are not rows scored and rejected.
        """
        try:
            self._check_order(batch)
            self._hold(batch)
            return self._finish(batch.last) if batch.last else None
        except Exception:
            self.abort()
            raise

    def close(self) -> None:
        """End the part. Raises CountError if its last batch never came."""
        if not self._ended:
            self.abort()
            raise CountError(f"{self._place}: ended after {self._expected} batches, and the last one never came")

    def abort(self) -> None:
        """Delete the files of an unfinished attempt; a finished one stays."""
        if not self._ended:
            self._ended = True
            self._rows, self._rejected = [], []
            for file in (self._file, self._rejected_file):
                if file:
                    file.discard()

    @property
    def _place(self) -> str:
        return f"part {self._part.index} ({self._part.name})"

    def _check_order(self, batch: PartBatch) -> None:
        if batch.part != self._part:
            raise CountError(f"{self._place}: got a batch of part {batch.part.index} ({batch.part.name})")
        if self._ended:
            files.delete([temporary(self._output, self._part.key, RESULT)])  # it stands for a part that was not whole
            raise CountError(f"{self._place}: batch {batch.sequence} came after the end of the part")
        if batch.sequence != self._expected:
            raise CountError(f"{self._place}: expected batch {self._expected}, got batch {batch.sequence}")
        self._expected += 1

    def _hold(self, batch: PartBatch) -> None:
        self._present.update(batch.present)
        self._halved += batch.halved
        self._rows.append(batch.rows)
        self._rows_held += batch.rows.num_rows
        self._bytes_held += batch.rows.nbytes
        if self._rows_held >= ROW_GROUP_ROWS or self._bytes_held >= ROW_GROUP_BYTES:
            self._flush_rows()
        self._rejected.extend(batch.rejected)
        self._rejected_rows.extend(row.row for row in batch.rejected)
        self._rejected_bytes_held += sum(len(row.reason) + len(row.record or b"") for row in batch.rejected)
        if len(self._rejected) >= REJECTED_GROUP_ROWS or self._rejected_bytes_held >= REJECTED_GROUP_BYTES:
            self._flush_rejected()

    def _flush_rows(self) -> _ParquetFile:
        self._file = self._file or self._open(f"{self._attempt}.parquet", self._schema)
        self._file.write(pa.Table.from_batches(self._rows, schema=self._schema))
        self._rows, self._rows_held, self._bytes_held = [], 0, 0
        return self._file

    def _flush_rejected(self) -> _ParquetFile | None:
        if self._rejected:
            self._rejected_file = self._rejected_file or self._open(
                f"{self._attempt}.rejected.parquet", REJECTED_SCHEMA
            )
            path = self._part.pieces[0].shard.path
            self._rejected_file.write(rejected_table(path, self._record_format, self._rejected))
            self._rejected, self._rejected_bytes_held = [], 0
        return self._rejected_file

    def _open(self, name: str, schema: pa.Schema) -> _ParquetFile:
        return _ParquetFile(temporary(self._output, self._part.key, name), schema)

    def _finish(self, ends: Sequence[ShardEnd]) -> PartResult:
        file, rejected_file = self._flush_rows(), self._flush_rejected()
        result = PartResult(
            index=self._part.index,
            key=self._part.key,
            run_id=self._run_id,
            pieces=self._pieces(ends),
            file=file.finish(),
            rejected_file=rejected_file.finish() if rejected_file else None,
            present=dict(self._present),
            halved=self._halved,
            process=memory.PROCESS,
            peak_bytes=memory.peak(),
        )
        if result.read != result.scored + result.rejected:
            raise CountError(
                f"{self._place}: {result.read} rows were read, but {result.scored} scored and {result.rejected} rejected"
            )
        files.write_bytes(temporary(self._output, result.key, RESULT), result.to_json().encode())
        self._ended = True
        return result

    def _pieces(self, ends: Sequence[ShardEnd]) -> tuple[ShardResult, ...]:
        """What became of each piece; rejected rows are told by their numbers, which count on from piece to piece."""
        pieces = self._part.pieces
        if len(ends) != len(pieces):
            raise CountError(f"{self._place}: {len(ends)} of {len(pieces)} pieces came to their end")
        if len(pieces) == 1:
            rejected = Counter({0: len(self._rejected_rows)})
        else:
            behind = list(accumulate(end.read for end in ends))
            rejected = Counter(bisect_right(behind, row) for row in self._rejected_rows)
        return tuple(
            ShardResult(piece.shard, end.read, rejected[number], end.state, end.reason)
            for number, (piece, end) in enumerate(zip(pieces, ends, strict=True))
        )


class _ParquetFile:
    """A Parquet file under way, one row group a write."""

    def __init__(self, path: str, schema: pa.Schema):
        self._path = path
        self._rows = 0
        self._sink = _HashingFile(files.open_write(path))
        try:
            self._writer = pq.ParquetWriter(
                self._sink, schema, compression="zstd", use_dictionary=_dictionary_columns(schema)
            )
        except Exception:  # its first bytes are written already
            self._give_up()
            raise

    def write(self, table: pa.Table) -> None:
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._rows += table.num_rows

    def finish(self) -> WrittenFile:
        """Close the file and read its footer back. Raises CountError if it does not hold what was written."""
        self._writer.close()
        self._sink.close()
        size = files.size(self._path)
        with files.open_read(self._path) as file:
            rows = pq.read_metadata(file).num_rows
        if (rows, size) != (self._rows, self._sink.bytes):
            raise CountError(
                f"{self._path}: {self._rows} rows in {self._sink.bytes} bytes were written, "
                f"but the file has {rows} rows in {size} bytes"
            )
        return WrittenFile(files.base_name(self._path), rows, size, self._sink.sha256)

    def discard(self) -> None:
        with suppress(OSError, pa.ArrowException):  # what made the attempt fail may make closing it fail
            self._writer.close()
        self._give_up()

    def _give_up(self) -> None:
        with suppress(OSError):
            self._sink.close()
        files.delete([self._path])


class _HashingFile:
    """A file for pyarrow to write to that knows the number and the SHA-256 of its bytes."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._digest = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _dictionary_columns(schema: pa.Schema) -> list[str]:
    """Strings repeat and numbers of a model do not: a dictionary of floats costs time and gains nothing."""
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return [column.name for column in schema if any(is_text(column.type) for is_text in text)]
