"""The benchmark of scoring: its rows are the same every time, and what is measured gives the scores that ours gives."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from benchmarks import agree, encode, loops, prepare, score, steady, ways
from benchmarks.dataset import FORMATS, WORKLOADS, Dataset
from benchmarks.measure import Usage
from pipeline.commands import main

pytestmark = pytest.mark.any_tensorflow

ROWS = 1_000
every_workload = pytest.mark.parametrize("workload", WORKLOADS)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models and shards are made when they are first asked for."""
    return tmp_path_factory.mktemp("benchmarks")


@every_workload
def test_rows_are_the_same_every_time(workload):
    module = importlib.import_module(f"benchmarks.workloads.{workload}")
    rows = module.make_rows(100, 3)
    assert rows.equals(module.make_rows(100, 3))
    assert not rows.equals(module.make_rows(100, 4))
    assert set(rows.column_names) == {"id", *module.raw_spec()}
    assert len(set(module.labels(module.make_rows(1_000, 3)).tolist())) > 1


@every_workload
def test_ids_of_all_shards_differ(workload):
    dataset = Dataset(workload, "parquet", ROWS)
    ids = pa.concat_arrays([prepare.make_rows(dataset, shard, 50)["id"].combine_chunks() for shard in range(8)])
    assert len(ids.unique()) == 400
    assert ids.type == dataset.module.ID


@every_workload
@pytest.mark.parametrize("suffix", ["tfrecord", "tfrecord.gz"], ids=["plain", "gzip"])
def test_examples_hold_the_rows(workload, suffix, tmp_path):
    rows = importlib.import_module(f"benchmarks.workloads.{workload}").make_rows(64, 5)
    path = tmp_path / f"rows.{suffix}"
    encode.write_tfrecord(path, encode.encode_examples(rows))
    compression = "GZIP" if suffix.endswith("gz") else None
    records = list(tf.data.TFRecordDataset(str(path), compression).as_numpy_iterator())
    assert [_plain(record) for record in records] == [
        {name: value if isinstance(value, list) else [value] for name, value in row.items()} for row in rows.to_pylist()
    ]


def _plain(record: bytes) -> dict[str, list]:
    features = tf.train.Example.FromString(record).features.feature
    values = {name: list(getattr(each, each.WhichOneof("kind")).value) for name, each in features.items()}
    return {name: [v.decode() if isinstance(v, bytes) else v for v in each] for name, each in values.items()}


def test_rows_beyond_the_distinct_are_links(tmp_path, monkeypatch):
    monkeypatch.setitem(prepare.DISTINCT, "tabular", 80)
    dataset = Dataset("tabular", "parquet", 160, tmp_path)
    prepare.make_shards(dataset)
    assert [path.name for path in dataset.shards] == [f"rows-{shard:05}-of-00016.parquet" for shard in range(16)]
    assert os.path.samefile(dataset.shards[0], dataset.shards[8])
    assert sum(pq.read_metadata(path).num_rows for path in dataset.shards) == 160
    with pytest.raises(ValueError, match="100 rows of tabular are no multiple of the 80 that are generated"):
        prepare.make_shards(replace(dataset, rows=100))


@pytest.mark.any_tensorflow
@every_workload
@pytest.mark.parametrize("file_format", FORMATS)
def test_the_loop_gives_our_scores(workload, file_format, work, tmp_path):
    dataset = Dataset(workload, file_format, ROWS, work)
    prepare.prepare(dataset)
    assert main([*ways.ours(dataset)[2:], "--set", "batch.rows=100"]) == 0
    assert loops.score(dataset, tmp_path / "loop.parquet", batch_rows=300) == ROWS
    assert agree.disagreement(dataset.output, tmp_path / "loop.parquet", list(dataset.module.PREDICTIONS)) is None
    found = pq.read_table(tmp_path / "loop.parquet")
    ids = pa.concat_arrays([pq.read_table(path)["id"].combine_chunks() for path in _parts(dataset)])
    assert found["id"].combine_chunks() == ids  # in the order of the shards
    assert found["_row"].to_pylist() == list(range(ROWS))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name, way in ways.WAYS.items() if not way.environment])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_peer_gives_our_scores(name, workload, work):
    if workload not in ways.WAYS[name].workloads:
        pytest.skip("not for this workload")
    bench = score.Bench(Dataset(workload, "tfrecord", 0, work), dict.fromkeys(("fast", *score.PEER_ROWS), (256, 512)))
    rounds = [
        [(len(each.ours), len(each.theirs)) for each in found] for found in bench.rounds([ways.WAYS[name]], pairs=2)
    ]
    assert rounds == [[(1, 1)], [(2, 2)]]


def _parts(dataset: Dataset) -> list[Path]:
    return sorted(dataset.output.glob("part-*.parquet"))


OURS = pa.table(
    {
        "id": [1, 2, 3],
        "probabilities": pa.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], pa.list_(pa.float32(), 2)),
        "label": ["a", "b", "c"],
    }
)


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (OURS, None),
        (OURS.take([2, 0, 1]), None),
        (OURS.set_column(1, "probabilities", OURS["probabilities"].cast(pa.list_(pa.float32()))), None),
        (OURS.set_column(2, "label", OURS["label"].cast(pa.binary())), None),
        (OURS.slice(1), "2 rows in place of 3"),
        (OURS.set_column(0, "id", pa.array([1, 2, 4])), "other ids"),
        (OURS.set_column(2, "label", pa.array(["a", "b", "d"])), "label: 1 values differ"),
        (OURS.set_column(2, "label", pa.array(["a", None, "c"])), "label: 1 values differ"),
        (
            OURS.set_column(
                1,
                "probabilities",
                pa.array([[0.25, 0.75], [0.5, 0.500002], [1.0, float("nan")]], pa.list_(pa.float32())),
            ),
            "probabilities: 2 values differ",
        ),
    ],
    ids=["same", "other-order", "lists", "bytes", "fewer", "id", "label", "null", "probability"],
)
def test_other_scores_are_told(theirs, told, tmp_path):
    (tmp_path / "out").mkdir()
    pq.write_table(OURS.slice(0, 2), tmp_path / "out/part-00000-of-00002.parquet")
    pq.write_table(OURS.slice(2), tmp_path / "out/part-00001-of-00002.parquet")
    pq.write_table(theirs, tmp_path / "theirs.parquet")
    assert agree.disagreement(tmp_path / "out", tmp_path / "theirs.parquet", ["probabilities", "label"]) == told


def _pace(cpu: float, clock: float) -> steady.Pace:
    """Of a way with a start-up of 3 seconds, 2 of them CPU."""
    runs = [Usage(3 + clock * rows, 2 + cpu * rows, 10**9) for rows in (1, 4)]
    return steady.Pace(1_000_000, 4_000_000, *runs)


def test_start_up_is_told_from_the_steady_state():
    pace = _pace(cpu=1.5, clock=0.5)
    assert (pace.cpu, pace.clock) == (1.5, 0.5)
    assert (pace.start_cpu, pace.start_clock) == (2, 3)


def test_ratios_are_of_pairs():
    ours, theirs = [_pace(1, 1), _pace(2, 1), _pace(4, 1)], [_pace(3, 2), _pace(8, 2), _pace(20, 2)]
    cpu, clock = steady.ratios(ours, theirs)
    assert (cpu.low, cpu.median, cpu.high) == (3.5, 4, 4.5)
    assert clock.text(1) == "2.0 (2.0 to 2.0)"


def test_a_line_for_ours_and_each_peer():
    loop = score.Measured(ways.WAYS["loop"], [_pace(2, 1)] * 3, [_pace(1, 0.5)] * 3)
    slow = score.Measured(ways.WAYS["tfx_bsl"], [_pace(2, 1)], [_pace(20, -1)])
    header, ours, by_hand, tfx_bsl = score.table([loop, slow])
    assert dict(zip(header, ours, strict=True)) == {
        "": "ours",
        "pairs": "3",
        "rows": "1,000,000, 4,000,000",
        "rows/s": "1,000,000",
        "CPU s per million rows": "2.00 (2.00 to 2.00)",
        "peak memory": "1,000, 1,000 MB",
        "start-up": "3.0 s",
        "start-up, CPU": "2.0 s",
        "CPU / ours": "1",
        "clock / ours": "1",
        "CPU / loop": "2.00",
    }
    assert by_hand[-3:] == ("0.50 (0.50 to 0.50)", "0.50 (0.50 to 0.50)", "1.00")
    assert (tfx_bsl[3], tfx_bsl[-2]) == (score.NOT_TOLD, score.NOT_TOLD)
    words = "Ours takes 2.00 (2.00 to 2.00) times the CPU and 2.00 (2.00 to 2.00) times the time of the loop, 3 pairs."
    assert score.beside_loop([slow, loop]) == ["", words]
    assert score.beside_loop([slow]) == []


@pytest.mark.parametrize(
    ("peers", "quick", "workload", "file_format", "expected"),
    [
        (None, False, "images", "tfrecord", list(ways.WAYS)),
        (
            None,
            False,
            "text",
            "tfrecord",
            [name for name in ways.WAYS if name not in ("predict_1", "predict_256", "tfx_bsl")],
        ),
        (None, False, "images", "gzip", ["loop"]),
        (None, False, "images", "parquet", ["loop", "run_inference", "run_inference_4096"]),
        (None, True, "images", "tfrecord", ["loop", "run_inference_4096"]),
        (["tfx_bsl"], True, "images", "tfrecord", ["tfx_bsl"]),
    ],
    ids=["all", "no-strings", "gzip", "parquet", "quick", "named"],
)
def test_who_is_run(peers, quick, workload, file_format, expected):
    assert score.chosen(peers, quick, workload, file_format) == [ways.WAYS[name] for name in expected]
