"""The pipeline's reading of a mutant held against an independent one."""

from __future__ import annotations

from collections.abc import Iterator

from fuzz import oracle, oracle_columnar
from fuzz.job import Row
from fuzz.mutants import Mutant
from fuzz.oracle import Reading
from fuzz.oracle_example import Either
from fuzz.subject import Outcome


def independent(mutant: Mutant, path: str) -> Reading:
    """What an independent reader makes of the file of a mutant."""
    if mutant.format == "parquet":
        return oracle_columnar.read_parquet(path)
    readers = {
        "tfrecord": oracle.read_tfrecord,
        "csv": oracle.read_csv,
        "jsonl": oracle.read_jsonl,
        "avro": oracle_columnar.read_avro,
    }
    return readers[mutant.format](mutant.content)


def findings(mutant: Mutant, outcome: Outcome, reading: Reading) -> Iterator[str]:
    """What is wrong with an outcome, as far as the other reader can tell."""
    if outcome.broken is not None and not mutant.damaged:
        yield f"no byte of the container was damaged, and it was called broken: {outcome.broken}"
    numbers = sorted([*outcome.scored, *outcome.rejected])
    if outcome.twice or numbers != list(range(outcome.read)):
        yield f"{outcome.read} rows were read, but {len(outcome.scored)} scored and {len(outcome.rejected)} rejected"
    if reading.whole is None:
        return
    # DuckDB looks at less of a Parquet file than Arrow: at no checksums, and not at the parts that it has no use for.
    may_see_less = mutant.format == "parquet"
    if reading.whole and outcome.broken is not None and not may_see_less:
        yield f"the shard is whole, and was called broken: {outcome.broken}"
    if not reading.whole and outcome.broken is None:
        yield "the shard is broken, and was called whole"
    for number, row in outcome.scored.items():
        other = reading.rows[number] if number < len(reading.rows) else None
        if isinstance(other, Either):
            if row not in other.rows:
                yield f"row {number} was scored as no parser has it: {row}; {other}"
        elif number >= len(reading.rows):
            yield f"row {number} was scored, and is none of the {len(reading.rows)} rows of the file"
        elif other is None:
            yield f"row {number} was scored, and it is bad: {row}"
        elif other != row:
            yield f"row {number} was scored with other values: {row} in place of {other}"
    for number, reason in outcome.rejected.items():
        if number < len(reading.rows) and isinstance(reading.rows[number], Row):
            yield f"row {number} is good, and was rejected: {reason}"
    all_there = outcome.broken is None or (reading.all_before and not may_see_less)
    if outcome.read > len(reading.rows) or (outcome.read < len(reading.rows) and all_there):
        yield f"{outcome.read} rows were read of {len(reading.rows)}"
