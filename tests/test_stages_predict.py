"""The stage that predicts, alone in a pipeline, and all stages: what is counted, and what is told to Beam."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # makes tf.estimator exist

import apache_beam as beam
import linear_model
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.metrics import MetricsFilter
from apache_beam.metrics.metric import Lineage
from apache_beam.testing.util import assert_that, equal_to
from published import take
from test_stages import counters

import pipeline.run
from pipeline import BatchRows, Predict, ReadShards, WriteParts, predict_input_fn
from pipeline.graph import build
from pipeline.job.file import load_job
from pipeline.launch import Prepared, prepare
from pipeline.manifest import read_manifest
from pipeline.plan import Plan, match_shards, part_key, write_plan
from pipeline.publish import Limits
from pipeline.results import read_result
from pipeline.rows import ROW, Part, PartBatch, Piece, ShardEnd
from pipeline.scoring import close_scorers
from pipeline.stages.output import _publish


@pytest.fixture
def job(linear_model_dir: str, tmp_path: Path) -> Iterator[Path]:
    """A job over three shards of 10, 20 and 5 rows in batches of 8; record 13 of the second is no tf.Example."""
    for name, size in (("a", 10), ("b", 20), ("c", 5)):
        records = linear_model.to_examples(linear_model.make_columns(size, seed=size))
        if size == 20:
            records[13] = b"\xff\xffno example"
        with tf.io.TFRecordWriter(str(tmp_path / f"{name}.tfrecord")) as writer:
            for record in records:
                writer.write(record)
    settings = {
        "name": "stages",
        "code": [str(Path(linear_model.__file__))],
        "input": {"pattern": str(tmp_path / "*.tfrecord")},
        "features": linear_model.FEATURES,
        "model": {**linear_model.MODEL, "model_dir": linear_model_dir},
        "batch": {"rows": 8},
        "output": {"path": str(tmp_path / "out")},
        "errors": {"max_bad_rows": 1},
    }
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    yield path
    close_scorers()


def prepared_plan(path: Path) -> tuple[Prepared, Plan]:
    job = load_job(str(path), None, [])
    shards = match_shards(job.input)
    prepared = prepare(job, shards)
    parts = tuple(
        Part.of_shard(index, part_key([Piece(shard)], prepared.spec.key), shard) for index, shard in enumerate(shards)
    )
    features = tuple(prepared.spec.columns.features)
    plan = Plan("run1", None, job.name, "2026-11-22T03:00:00Z", parts, "tfrecord", prepared.schema, features)
    write_plan(job.output.path, plan)
    return prepared, plan


def predict(p: beam.Pipeline, prepared: Prepared, parts: Sequence[Part]) -> beam.PCollection[PartBatch]:
    job = prepared.spec.job
    read = p | beam.Create(list(parts)) | ReadShards(job.input, prepared.spec.columns, job.batch)
    return read | BatchRows(job.batch) | Predict(prepared.spec)


def expected_scores(model_dir: str, size: int) -> list[float]:
    """By `Estimator.predict`, at the batch boundaries of the job."""
    estimator = linear_model.build_estimator(model_dir)
    columns = linear_model.make_columns(size, seed=size)
    return [row["score"].item() for row in estimator.predict(predict_input_fn(columns, 8))]


def test_predict(job: Path, linear_model_dir: str) -> None:
    prepared, plan = prepared_plan(job)
    scores = expected_scores(linear_model_dir, 10)

    def check(batches: list[PartBatch]) -> None:
        assert [batch.rows.num_rows for batch in batches] == [8, 2]
        assert {batch.rows.schema for batch in batches} == {prepared_schema}
        table = pa.Table.from_batches([batch.rows for batch in batches])
        assert table.column_names == ["score", "positive", "_shard", ROW]
        assert table["score"].to_pylist() == scores
        assert table["_shard"].to_pylist() == [shard] * 10
        assert table[ROW].to_pylist() == list(range(10))
        assert sum(batch.present.get("number_00", 0) for batch in batches) == 10
        assert batches[-1].last == (ShardEnd(10),)

    prepared_schema, shard = prepared.schema, plan.parts[0].name
    with beam.Pipeline("FnApiRunner") as p:
        assert_that(predict(p, prepared, plan.parts[:1]), check)


def test_predict_builds_the_model_where_launch_did_not(job: Path) -> None:
    prepared, plan = prepared_plan(job)
    close_scorers()  # as in a worker, a process that did not launch
    p = beam.Pipeline("FnApiRunner")
    predict(p, prepared, plan.parts)
    result = p.run()
    assert counters(result)["num_inferences"] == 35
    assert distributions(result)["load_model_latency_milli_secs"].count == 1


def test_a_part_that_is_scored_twice_is_published_once(job: Path, linear_model_dir: str) -> None:
    prepared, plan = prepared_plan(job)
    output = prepared.spec.job.output.path
    lease = take(output, "run1")
    for _ in range(2):  # a runner retries a bundle whose result it lost
        with beam.Pipeline("FnApiRunner") as p:
            written = predict(p, prepared, plan.parts) | WriteParts(lease, prepared.schema, "tfrecord")
            assert_that(written, equal_to([0, 1, 2]))
    results = [read_result(output, part) for part in plan.parts]
    assert [(result.scored, result.rejected) for result in results if result] == [(10, 0), (19, 1), (5, 0)]

    assert _publish(3, lease, Limits(max_bad_rows=1)) == 3
    tables = [pq.read_table(path) for path in sorted(Path(output).glob("part-*.parquet"))]
    assert [table.num_rows for table in tables] == [10, 19, 5]
    assert tables[2]["score"].to_pylist() == expected_scores(linear_model_dir, 5)


def distributions(result: Any) -> dict[str, Any]:
    metrics = result.metrics().query(MetricsFilter().with_namespace("estimator"))["distributions"]
    return {metric.key.metric.name: metric.committed for metric in metrics}


def test_metrics_and_lineage_of_a_run(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []

    def run_pipeline(run: Any, options: Any) -> None:
        p = beam.Pipeline(options=options)
        build(p, run)
        results.append(p.run())

    monkeypatch.setattr(pipeline.run, "run_pipeline", run_pipeline)
    report = pipeline.run.score(load_job(str(job), None, []), quiet=True)
    assert report.rows == {"read": 35, "scored": 34, "rejected": 1}

    (result,) = results
    counted = {"rows-read": 35, "rows-scored": 34, "rows-rejected": 1, "num_inferences": 35}
    assert counters(result) == counted
    sizes = distributions(result)["inference_request_batch_size"]  # 8 and 2, 8, 8 and 4, 5
    assert (sizes.count, sizes.sum, sizes.min, sizes.max) == (6, 35, 2, 8)
    assert distributions(result)["inference_batch_latency_micro_secs"].count == 6
    assert distributions(result)["inference_request_batch_byte_size"].sum > sum(
        len(record) for record in linear_model.to_examples(linear_model.make_columns(10, seed=10))
    )

    folder, manifest = job.parent, read_manifest(str(job.parent / "out"))
    assert manifest
    source, sink = (Lineage.query(result.metrics(), way) for way in (Lineage.SOURCE, Lineage.SINK))
    assert files_of(source) == {str(folder / f"{name}.tfrecord") for name in "abc"}
    assert files_of(sink) == {str(folder / "out" / file["path"]) for file in manifest["files"]}


def files_of(lineage: set[str]) -> set[str]:
    """Beam writes filesystem:localhost.PATH, and quotes a segment that holds more than letters, digits and the like."""
    return {name.partition("localhost.")[2].replace("`", "") for name in lineage}


def test_a_run_with_nothing_left_to_score_publishes(job: Path) -> None:
    prepared, plan = prepared_plan(job)
    output = prepared.spec.job.output.path
    lease = take(output, "run1")
    with beam.Pipeline("FnApiRunner") as p:
        _ = predict(p, prepared, plan.parts) | WriteParts(lease, prepared.schema, "tfrecord")
    run = pipeline.run.Run(lease, prepared.spec, prepared.schema, Limits(max_bad_rows=1))
    p = beam.Pipeline("FnApiRunner")
    build(p, run)
    result = p.run()
    assert "num_inferences" not in counters(result)
    manifest = read_manifest(output)
    assert manifest
    assert manifest["rows"] == {"read": 35, "scored": 34, "rejected": 1}
    assert np.isfinite(pq.read_table(Path(output) / "part-00001-of-00003.parquet")["score"].to_numpy()).all()
