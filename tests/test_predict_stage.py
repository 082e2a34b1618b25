"""The stage that scores: how many batches at once, and their order. The scorer is a fake that sees when it is called."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipeline import machine
from pipeline.errors import CountError
from pipeline.predict import Scored
from pipeline.rows import ROW, Part, PartBatch, Rejected, Shard, ShardEnd
from pipeline.stages import predict

pytestmark = pytest.mark.any_tensorflow

PARTS = [Part.of_shard(index, f"key{index}", Shard(f"in/{index}", 10, 1.5)) for index in range(3)]


@dataclass
class FakeScorer:
    """Says how many batches it was given at once, and in which threads.

    seconds: what a batch takes; its first row is the divisor, so the lower that is, the longer it takes.
    """

    row_wise: bool = True
    seconds: float = 0.2
    now: int = 0
    most: int = 0
    threads: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def score(self, rows: pa.RecordBatch) -> Scored:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.append(threading.get_ident())
        first = rows.column(ROW)[0].as_py() if rows.num_rows else 100
        time.sleep(self.seconds / (1 + first))
        with self.lock:
            self.now -= 1
        return Scored(rows, (Rejected(first, "predict", "refused"),) if first == 3 else (), {})


def batches(part: Part, rows: int = 6) -> list[PartBatch]:
    """A batch for each row, then the end of the part."""
    schema = pa.schema([pa.field("score", pa.float32()), pa.field(ROW, pa.int64())])
    found = []
    for row in range(rows):
        columns = [pa.array([part.index + row / 8], pa.float32()), pa.array([row])]
        found.append(PartBatch(part, row, pa.record_batch(columns, schema=schema)))
    return [*found, PartBatch(part, rows, pa.record_batch([], []), last=(ShardEnd(rows),))]


def stage(scorer: FakeScorer, processes: int, monkeypatch: pytest.MonkeyPatch) -> predict._Score:
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.setattr(predict, "open_scorer", lambda spec, on_load: scorer)
    monkeypatch.setattr(predict, "with_shard", lambda rows, batch: rows)
    job = SimpleNamespace(output=SimpleNamespace(row_ids=True))
    made = predict._Score(SimpleNamespace(processes=processes, job=job), None)  # type: ignore[arg-type]
    made.setup()
    made.start_bundle()
    return made


def scored(stage: predict._Score, given: Sequence[PartBatch]) -> list[PartBatch]:
    found = [each for batch in given for each in stage.process(batch)]
    found += [windowed.value for windowed in stage.finish_bundle()]
    stage.teardown()
    return found


@pytest.mark.parametrize(
    ("row_wise", "processes", "at_once"),
    [(True, 1, 2), (True, 2, 2), (True, 4, 1), (True, 0, 1), (False, 1, 1)],
    ids=["alone", "half of the cores", "one core", "one a core", "a batch matters to the next"],
)
def test_batches_at_once(row_wise: bool, processes: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = FakeScorer(row_wise)
    given = [batch for part in PARTS for batch in batches(part)]
    found = scored(stage(scorer, processes, monkeypatch), given)
    assert scorer.most == at_once
    # In the order of the rows, though a later batch may be done first, and each with what was said of it
    assert [(batch.part, batch.sequence, batch.last) for batch in found] == [
        (batch.part, batch.sequence, batch.last) for batch in given
    ]
    assert all(batch.rows.equals(before.rows) for batch, before in zip(found, given, strict=True))
    assert [(batch.part.index, batch.sequence) for batch in found if batch.rejected] == [(0, 3), (1, 3), (2, 3)]


def test_a_bundle_that_begins_anew_has_nothing_of_the_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = stage(FakeScorer(), 1, monkeypatch)
    for batch in batches(PARTS[0])[:4]:
        list(made.process(batch))
    with pytest.raises(CountError, match="the last batch did not arrive in the bundle of the others"):
        list(made.finish_bundle())
    made.start_bundle()
    found = scored(made, batches(PARTS[1]))
    assert [(batch.part.index, batch.sequence) for batch in found] == [(1, sequence) for sequence in range(7)]


def test_brief_batches_are_scored_by_the_thread_that_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "_BRIEF_SECONDS", 0.5)  # a busy machine makes nothing of the fake as long as that
    scorer = FakeScorer(seconds=0)
    made = stage(scorer, 1, monkeypatch)
    schema = pa.schema([pa.field(ROW, pa.int64())])

    def is_here(rows: int) -> bool:
        """Whether a batch of so many rows is scored by this thread, after all before it are done."""
        batch = PartBatch(PARTS[0], 0, pa.record_batch([pa.array(range(rows))], schema=schema))
        list(made.process(batch))
        wait([scoring for _, scoring in made._under_way])
        return scorer.threads[-1] == threading.get_ident()

    assert [is_here(2) for _ in range(5)] == [False, False, False, True, True]  # the first are known when they go on
    assert not is_here(3), "a larger one may take longer"
    assert is_here(1)
    scorer.seconds = 0.6
    assert is_here(2)
    assert not is_here(2), "the last one was not brief"
    made.teardown()
