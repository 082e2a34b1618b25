"""Rejected rows are scored again by the command that rejected them: whatever the format, as if nothing had happened."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bad_inputs
import fastavro
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from bad_inputs import NUMBER_MARK, Bench, Row, example, make_rows, tfrecord

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

TYPES = {
    "id": pa.int64(), "note": pa.string(), "x": pa.float32(), "n": pa.int64(),
    "pixels": pa.list_(pa.list_(pa.float32())), "words": pa.list_(pa.string()),
}  # fmt: skip
AVRO = {
    "id": "long", "note": "string", "x": ["null", "float"], "n": "long",
    "pixels": {"type": "array", "items": {"type": "array", "items": "float"}},
    "words": {"type": "array", "items": "string"},
}  # fmt: skip
NEGATIVE, MISSING, LARGE = 1, 2, 4
"""Rows of a shard: a prediction that is not finite, no value for `x`, an id that the model's table does not hold."""
STAGES = {NEGATIVE: "predict", MISSING: "read", LARGE: "predict"}


def rows_of(first: int) -> list[Row]:
    rows = [{**row, "n": row["id"] % 10} for row in make_rows(5, first)]
    rows[NEGATIVE]["x"] = -1.5
    del rows[MISSING]["x"]
    rows[LARGE]["n"] = NUMBER_MARK
    return rows


def to_parquet(rows: Sequence[Row]) -> bytes:
    sink = io.BytesIO()
    columns = {name: pa.array([row.get(name) for row in rows], type) for name, type in TYPES.items()}
    columns["note"] = columns["note"].dictionary_encode()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def to_avro(rows: Sequence[Row]) -> bytes:
    fields = [{"name": name, "type": type} for name, type in AVRO.items()]
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema({"type": "record", "name": "Row", "fields": fields}), rows)
    return file.getvalue()


def to_csv(rows: Sequence[Row], header: bool = True, delimiter: str = ",") -> bytes:
    """CSV whose header holds a line end and every quote there is to double."""

    def cell(value: Any) -> str:
        text = "" if value is None else json.dumps(value) if isinstance(value, list) else str(value)
        return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in '",;\n') else text

    names = [*TYPES, 'not\n"wanted"']
    lines = [names] if header else []
    lines += [[row.get(name) for name in TYPES] + ['a "b"'] for row in rows]
    return "".join(delimiter.join(map(cell, line)) + "\r\n" for line in lines).encode()


WRITERS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    "tfrecord": lambda rows: gzip.compress(tfrecord([example(row) for row in rows])),
    "parquet": to_parquet,
    "csv": to_csv,
    "jsonl": lambda rows: b"".join(json.dumps(row).encode() + b"\n" for row in rows),
    "avro": to_avro,
}
STRICT: dict[str, Any] = {
    "model": {"params": {"more": ["root"], "raw_ids": True}},
    "errors": {"non_finite": "reject", "max_bad_rows": 100},
    "batch": {"rows": 2},
}
MENDED = ["features.x.default=0.75", "model.params={more: [root]}", "errors.non_finite=keep"]


def settings(*overrides: str) -> list[str]:
    return [argument for override in overrides for argument in ("--set", override)]


def again(bench: Bench, *overrides: str, pattern: str = "out/_rejected/*.parquet", output: str = "again") -> Any:
    """Run the job of the bench on what was rejected, with `--set`."""
    paths = [f"input.pattern={bench.folder / pattern}", f"output.path={bench.folder / output}"]
    return bench.command("score", "--config", str(bench.folder / "job.yaml"), *settings(*paths, *overrides))


def read(folder: Path) -> list[Row]:
    """Published rows, floats as text of 5 digits: those of other batches differ in the last ones, and NaN equals none."""
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return [
        {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
    ]


def undisturbed(bench: Bench, shards: Sequence[Path]) -> list[Row]:
    """What a job that takes every row makes of those that were rejected."""
    outcome = again(bench, *MENDED, pattern=f"in/*.{bench.format}", output="whole")
    assert outcome.code == 0, outcome.error
    wanted = [(str(shard), number) for shard in shards for number in STAGES]
    return [row for row in read(bench.folder / "whole") if (row["_shard"], row["_row"]) in wanted]


def rejecting_run(bench: Bench, record_format: str, **sections: Any) -> list[Path]:
    """A run of two shards that rejects three rows of each."""
    bench.format = record_format
    shards = [bench.shard(WRITERS[record_format](rows_of(first)), name) for name, first in (("a", 10), ("b", 20))]
    bench.settings = {**STRICT, **sections}
    outcome = bench.score()
    assert (outcome.code, outcome.rows) == (0, (10, 4, 6)), outcome.error
    stages = [(row["_shard"], row["_row"], row["_stage"]) for row in outcome.rejected]
    assert stages == [(str(shard), number, stage) for shard in shards for number, stage in STAGES.items()]
    return shards


@pytest.mark.parametrize("record_format", WRITERS)
def test_a_mended_job_scores_what_was_rejected(bench: Bench, record_format: str) -> None:
    shards = rejecting_run(bench, record_format)
    outcome = again(bench, *MENDED)
    assert (outcome.code, outcome.error) == (0, "")
    expected = undisturbed(bench, shards)
    assert len(expected) == 6
    assert read(bench.folder / "again") == expected


@pytest.mark.parametrize("record_format", WRITERS)
def test_rows_rejected_again_keep_their_origin(bench: Bench, record_format: str) -> None:
    shards = rejecting_run(bench, record_format)
    first = read(bench.folder / "out" / "_rejected")
    half = again(bench, MENDED[1])
    assert half.code == 0, half.error
    assert [(row["_shard"], row["_row"]) for row in read(bench.folder / "again")] == [
        (str(path), LARGE) for path in shards
    ]
    assert read(bench.folder / "again" / "_rejected") == [row for row in first if row["_row"] != LARGE]
    last = again(bench, *MENDED, pattern="again/_rejected/*.parquet", output="last")
    assert last.code == 0, last.error
    assert read(bench.folder / "last") == [row for row in undisturbed(bench, shards) if row["_row"] != LARGE]


@pytest.mark.parametrize("record_format", WRITERS)
def test_files_of_rejected_rows_may_lie_among_shards_and_be_merged(bench: Bench, record_format: str) -> None:
    shards = rejecting_run(bench, record_format)
    expected = [row for row in undisturbed(bench, shards) if row["_row"] != NEGATIVE]
    merged = pa.concat_tables(pq.read_table(path) for path in sorted((bench.output / "_rejected").iterdir()))
    merged = merged.filter(pc.not_equal(merged["_row"], NEGATIVE))
    merged = merged.set_column(0, "_shard", merged["_shard"].cast(pa.large_string()))
    pq.write_table(merged, bench.folder / "in" / f"z.{record_format}")
    outcome = again(bench, *MENDED, pattern=f"in/*.{record_format}", output="both")
    assert (outcome.code, outcome.error) == (0, "")
    both = read(bench.folder / "both")
    assert both[-4:] == expected
    assert len(both) == 14


def test_the_extension_tells_of_no_format_and_the_csv_section_stays(bench: Bench) -> None:
    bench.format = "csv"
    shard = bench.shard(to_csv(rows_of(10), header=False, delimiter=";"))
    csv = {"header": False, "columns": [*TYPES, "not wanted"], "delimiter": ";"}
    bench.settings = {**STRICT, "input": {"format": None, "csv": csv}}
    job = bench._job({})
    del job["input"]["format"]
    (bench.folder / "job.yaml").write_text(json.dumps(job))
    assert bench.command("score", "--config", str(bench.folder / "job.yaml")).code == 0
    outcome = again(bench, *MENDED)
    assert (outcome.code, outcome.error) == (0, "")
    assert read(bench.folder / "again") == undisturbed(bench, [shard])


def test_without_row_ids(bench: Bench) -> None:
    shards = rejecting_run(bench, "jsonl", output={"row_ids": False})
    outcome = again(bench, *MENDED[1:])
    assert (outcome.code, [row["_row"] for row in read(bench.folder / "again" / "_rejected")]) == (0, [MISSING] * 2)
    assert [row["id"] for row in read(bench.folder / "again")] == [11, 14, 21, 24]
    assert {row["_shard"] for row in read(bench.folder / "again" / "_rejected")} == set(map(str, shards))


def test_a_record_whose_checksum_did_not_match_is_not_scored(bench: Bench) -> None:
    rows = make_rows(3)
    data = bytearray(tfrecord([example(row) for row in rows]))
    data[data.index(example(rows[1])) + 60] ^= 1
    bench.shard(bytes(data))
    assert bench.score(errors={"max_bad_rows": 1}).code == 0
    first = read(bench.output / "_rejected")
    assert [row["_reason"] for row in first] == ["record 1: data checksum does not match"]
    outcome = again(bench)
    assert (outcome.code, outcome.rejected) == (0, first)
    assert read(bench.folder / "again") == []
    assert read(bench.folder / "again" / "_rejected") == first


KEPT_NONE = "holds rejected rows without their records (errors.keep_record: false), which cannot be scored again"


def test_records_that_were_not_kept(bench: Bench) -> None:
    rejecting_run(bench, "jsonl", errors={**STRICT["errors"], "keep_record": False})
    outcome = again(bench, *MENDED)
    assert outcome.code == 3
    assert KEPT_NONE in outcome.error


def test_the_output_cannot_stay_where_it_is(bench: Bench) -> None:
    rejecting_run(bench, "jsonl")
    outcome = again(bench, *MENDED, output="out")
    assert outcome.code == 2
    assert "looks for shards; write elsewhere: --set output.path=..." in outcome.error


def test_shards_of_another_format_beside_them(bench: Bench) -> None:
    rejecting_run(bench, "jsonl")
    mixed = shutil.copytree(bench.output / "_rejected", bench.folder / "mixed")
    (mixed / "z.parquet").write_bytes(to_parquet(make_rows(2)))
    refused = again(bench, *MENDED, "input.format=parquet", pattern="mixed/*")
    assert refused.code == 3
    assert "part-00000-of-00002.parquet holds rejected rows of the format jsonl, and " in refused.error
    assert "z.parquet is no such file: it would be read as parquet; score them in two runs" in refused.error


def test_records_of_another_format_beside_shards(bench: Bench) -> None:
    rejecting_run(bench, "jsonl")
    mixed = shutil.copytree(bench.output / "_rejected", bench.folder / "mixed")
    (mixed / "a.parquet").write_bytes(to_parquet(make_rows(2)))
    outcome = again(bench, *MENDED, "input.format=parquet", pattern="mixed/*")
    assert (outcome.code, outcome.error) == (0, "")
    reasons = {row["_reason"] for row in read(bench.folder / "again" / "_rejected")}
    assert reasons == {"its record is of another format than parquet, which this run reads"}
    assert len(read(bench.folder / "again")) == 2
