"""`input.record`: tf.SequenceExamples, and records that are bytes, scored as `Estimator.predict` does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pytest
import tensorflow as tf
from record_bench import Bench, close, differences, fill, manifest, predictions_of, refusal, rejected, score
from zoo import record_kinds

from pipeline.commands import main
from pipeline.job.file import load_job
from pipeline.rows import Columns
from pipeline.scoring import ScoringSpec
from pipeline.settings import settings_components

ROWS = 30


def to_sequence_example(row: dict[str, Any]) -> bytes:
    found = tf.train.SequenceExample()
    for name in ("id", "note", "bias", "user", "tags"):
        if row[name] is not None:
            fill(found.context.feature[name], row[name])
    for name in ("values", "points", "words", "codes"):
        for step in row[name]:
            fill(found.feature_lists.feature_list[name].feature.add(), step)
    return found.SerializeToString(deterministic=True)


def make_rows() -> list[dict[str, Any]]:
    random = np.random.default_rng(5)

    def numbers(count: int) -> list[float]:
        return random.uniform(0.1, 1, count).astype(np.float32).tolist()

    return [
        {
            "id": number,
            "note": f"note {number}",
            "bias": numbers(1)[0],
            "user": None if number % 4 == 0 else "u" * (number % 7 + 1),
            "tags": ["t"] * (number % 3) or None,
            "values": numbers(number % 5),
            "points": [numbers(2) for _ in range(number % 2)],
            "words": [["w" * step] * (number % 3) for step in range(number % 4)],
            "codes": [[step, number] for step in range(number % 3)],
        }
        for number in range(ROWS)
    ]


ALL = make_rows()
RECORDS = [to_sequence_example(row) for row in ALL]
NUMBERS = np.random.default_rng(6).uniform(0.1, 1, (ROWS, 8)).astype(np.float32)
BYTES = [row.tobytes() for row in NUMBERS]


def parse(records: Any) -> Any:
    context, lists, _ = tf.io.parse_sequence_example(records, *record_kinds.raw_spec())
    return {**context, **lists}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("sequences")
    return Bench(folder, record_kinds, [RECORDS[:17], RECORDS[17:]], parse, [row["bias"] for row in ALL])


@pytest.fixture(scope="module")
def of_bytes(bench: Bench) -> Bench:
    """The model with other records: it has eight inputs in either case."""
    other = object.__new__(Bench)
    other.__dict__ |= bench.__dict__
    other.shards, other.parse = [BYTES[:17], BYTES[17:]], lambda records: record_kinds.decode({"raw": records})
    return other


def write(folder: Path, records: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(folder / "rows-0.tfrecord")) as writer:
        for record in records:
            writer.write(record)


@pytest.mark.parametrize("features", [record_kinds.RAW_SPEC, "zoo.record_kinds:raw_spec"], ids=["section", "function"])
def test_sequence_examples_score_as_predict_does(bench: Bench, features: Any, tmp_path: Path) -> None:
    bench.write_records(tmp_path)
    source = {"record": "sequence_example", "optional": ["user", "values", "words"]}
    job = bench.job(tmp_path, input=source, features=features)

    table = score(job)

    scored = predictions_of(table)
    assert differences(scored, bench.predict()) == []
    assert close(scored, bench.predict(batch=ROWS)) == []
    assert scored["inputs"].std(axis=0).min() > 0.01
    assert table["note"].to_pylist() == [row["note"] for row in ALL]
    present = {name: sum(bool(row[name]) for row in ALL) for name in record_kinds.RAW_SPEC}
    present["words"] = sum(any(row["words"]) for row in ALL)
    assert {name: found["present"] for name, found in manifest(job)["features"].items()} == present


def test_an_export_scores_sequence_examples_as_the_checkpoint(bench: Bench, tmp_path: Path) -> None:
    bench.write_records(tmp_path)
    job = bench.export_job(tmp_path, record_kinds.sequence_receiver, input={"record": "sequence_example"})

    assert close(predictions_of(score(job)), bench.predict()) == []


def test_sequence_examples_through_a_serving_input_fn(bench: Bench, tmp_path: Path) -> None:
    bench.write_records(tmp_path)
    with tf.io.TFRecordWriter(str(tmp_path / "rows-2.tfrecord")) as writer:
        writer.write(b"\xff\xff")
    model = {"serving_input_fn": "zoo.record_kinds:sequence_receiver"}
    job = bench.job(tmp_path, input={"record": "sequence_example"}, model=model, errors={"max_bad_rows": 1})

    table = score(job)

    assert rejected(job) == [(0, "read", "the record is not a tf.SequenceExample")]
    assert differences(predictions_of(table), bench.predict()) == []
    assert table["id"].to_pylist() == list(range(ROWS))


def bad_records() -> dict[str, tuple[bytes, str]]:
    wrong_step = tf.train.SequenceExample.FromString(RECORDS[5])
    fill(wrong_step.feature_lists.feature_list["points"].feature.add(), [0.5])
    wrong_list = tf.train.SequenceExample.FromString(RECORDS[5])
    fill(wrong_list.feature_lists.feature_list["values"].feature.add(), ["hunter2"])
    return {
        "no message": (b"\xff\xff", "the record is not a tf.SequenceExample"),
        "context": (
            to_sequence_example(ALL[5] | {"bias": None}), "feature 'bias': missing, and it has no default",
        ),
        "steps": (
            wrong_step.SerializeToString(),
            "feature 'points': expected shape (2,) = 2 values, found 1 value in step 1",
        ),
        "lists": (
            wrong_list.SerializeToString(),
            "feature 'values': expected float32 (float_list), found bytes_list in step 0",
        ),
    }  # fmt: skip


def test_bad_sequence_examples_cost_themselves_alone(bench: Bench, tmp_path: Path) -> None:
    bad = bad_records()
    write(tmp_path, [*RECORDS[:9], *(record for record, _ in bad.values()), *RECORDS[9:]])
    job = bench.job(
        tmp_path, input={"record": "sequence_example"}, features=record_kinds.RAW_SPEC, errors={"max_bad_rows": 4}
    )

    table = score(job)

    assert rejected(job) == [(9 + number, "read", reason) for number, (_, reason) in enumerate(bad.values())]
    assert table["id"].to_pylist() == list(range(ROWS))
    assert main(["explain", "--config", str(job), "--row", "rows-0.tfrecord:3"]) == 0


@pytest.mark.parametrize("way", ["transform", "serving_input_fn"])
def test_records_of_bytes_score_as_predict_does(of_bytes: Bench, way: str, tmp_path: Path) -> None:
    of_bytes.write_records(tmp_path)
    sections: dict[str, Any] = {
        "transform": {
            "features": {"raw": {"dtype": "string"}},
            "transform": {"function": "zoo.record_kinds:decode"},
            "output": {"passthrough": {"raw": {"from": "raw", "dtype": "binary"}, "again": {"from": "raw", "dtype": "binary"}}},
        },
        "serving_input_fn": {
            "model": {"serving_input_fn": "zoo.record_kinds:bytes_receiver"}, "output": {"passthrough": []},
        },
    }  # fmt: skip
    job = of_bytes.job(tmp_path, input={"record": "bytes"}, **sections[way])

    table = score(job)

    columns = ["inputs", "value"]
    scored = {name: np.array(table[name].to_pylist(), np.float32) for name in columns}
    assert differences(scored, of_bytes.predict()) == []
    assert np.array_equal(scored["inputs"], NUMBERS)
    if way == "transform":
        assert table["raw"].to_pylist() == BYTES
        assert manifest(job)["features"] == {"raw": {"present": ROWS, "missing": 0}}


def test_bytes_that_the_transform_refuses(of_bytes: Bench, tmp_path: Path) -> None:
    write(tmp_path, [*BYTES[:4], b"hunter2", *BYTES[4:]])
    job = of_bytes.job(
        tmp_path, input={"record": "bytes"}, features={"raw": {"dtype": "string"}}, output={"passthrough": []},
        transform={"function": "zoo.record_kinds:decode"}, errors={"max_bad_rows": 1},
    )  # fmt: skip

    score(job)

    ((row, stage, reason),) = rejected(job)
    assert (row, stage) == (4, "transform")
    assert "InvalidArgumentError" in reason
    assert "hunter2" not in reason


@pytest.mark.parametrize("command", ["check", "record"])
def test_other_commands_do_not_break(
    bench: Bench, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write_records(tmp_path)
    job = bench.job(tmp_path, input={"record": "sequence_example"}, features=record_kinds.RAW_SPEC)

    code, message = refusal(job, capsys, command)

    if command == "check":
        assert code == 0
    else:
        assert code == 2
        assert "a parity record does not go with input.record: sequence_example" in message


@pytest.mark.any_tensorflow
def test_settings_that_scores_rest_on_have_them(of_bytes: Bench, tmp_path: Path) -> None:
    checkpoint: Any = SimpleNamespace(digest="same")
    kinds: dict[str, dict[str, Any]] = {
        "bytes": {"input": {"record": "bytes"}, "model": {"serving_input_fn": "zoo.record_kinds:bytes_receiver"}},
        "sequence_example": {
            "input": {"record": "sequence_example"}, "model": {"serving_input_fn": "zoo.record_kinds:sequence_receiver"},
        },
        "example": {"model": {"serving_input_fn": "zoo.serving_input:parsing"}},
    }  # fmt: skip
    found = []
    for record, sections in kinds.items():
        job = load_job(str(of_bytes.job(tmp_path, output={"passthrough": []}, **sections)))
        spec = ScoringSpec("", job, "tfrecord", Columns({}, record=record), checkpoint)
        found.append(settings_components(spec, None, (), {}, {}, {}))
    for name in ("input", "model", "columns"):
        assert len({components[name] for components in found}) == 3, name


ONE = {"raw": {"dtype": "string"}}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "another format": (
        {"input": {"pattern": "rows-*.csv", "record": "bytes"}, "features": ONE},
        "input.record: says what the records of TFRecord are, the format of the input is csv; leave it out",
    ),
    "two features of bytes": (
        {"input": {"record": "bytes"}, "features": ONE | {"x": {"dtype": "string"}}},
        "features.raw: of input.record: bytes the record is the one feature",
    ),
    "a number for bytes": (
        {"input": {"record": "bytes"}, "features": {"raw": {"dtype": "float32"}}},
        "features.raw: of input.record: bytes the record is the one feature",
    ),
    "a field of bytes": (
        {"input": {"record": "bytes"}, "features": ONE, "output": {"passthrough": {"id": {"from": "id", "dtype": "int64"}}}},
        "output.passthrough.id: of input.record: bytes nothing but the record itself can be passed through",
    ),
    "sparse": (
        {
            "input": {"record": "sequence_example"},
            "features": {"x": {"dtype": "float32", "kind": "sparse", "index_key": "i", "value_key": "v", "size": 3}},
        },
        "features.x: kind sparse is not read from the context of a tf.SequenceExample",
    ),
    "default of a list": (
        {"input": {"record": "sequence_example"}, "features": {"x": {"dtype": "float32", "kind": "sequence", "default": 1.0}}},
        "features.x: a feature list has no default",
    ),
    "partitions": (
        {"input": {"record": "sequence_example", "partitions": "hive"}, "features": {"x": {"dtype": "float32"}}},
        "input.partitions: does not go with input.record: sequence_example",
    ),
    "a record": (
        {"input": {"record": "sequence_example"}, "features": {"x": {"dtype": "float32"}}, "model": {"require_record": True}},
        "model.require_record: a parity record is of tf.Examples",
    ),
}  # fmt: skip


@pytest.mark.any_tensorflow
@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_refused(name: str, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sections, message = MISTAKES[name]
    code, told = refusal(bench.job(tmp_path, **sections), capsys)
    assert code == 2
    assert message in told


def test_rejected_records_are_scored_again(of_bytes: Bench, tmp_path: Path) -> None:
    write(tmp_path, [*BYTES[:4], b"short", *BYTES[4:]])
    job = of_bytes.job(
        tmp_path, input={"record": "bytes"}, model={"serving_input_fn": "zoo.record_kinds:bytes_receiver"},
        output={"passthrough": []}, errors={"max_bad_rows": 1},
    )  # fmt: skip
    score(job)
    ((_, _, first),) = rejected(job)

    again = tmp_path / "again"
    source = f"input.pattern={tmp_path}/out/_rejected/*.parquet"
    code = main(["score", "--config", str(job), "--quiet", "--set", source, "--set", f"output.path={again / 'out'}"])

    assert code == 0
    assert rejected(again / "job.yaml") == [(4, "transform", first)]
