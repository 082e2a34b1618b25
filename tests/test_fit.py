"""Fitting a transform: what it learns from shards of each format, and that it scores as TensorFlow Transform does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from fit_rows import (
    FORMATS,
    ROWS,
    SHARDS,
    SPEC,
    WRITERS,
    features_of,
    flat,
    make_rows,
    needs_extra,
    preprocessing_fn,
    write_shards,
)

import transforms
from pipeline import files
from pipeline.features import Feature
from pipeline.job import Input
from transforms.training_rows import lists_schema, read_lists


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], transforms.Transform]:
    """The transform that is fitted to all rows as shards of a format."""
    made: dict[str, transforms.Transform] = {}

    def fit(record_format: str) -> transforms.Transform:
        if record_format not in made:
            folder = tmp_path_factory.mktemp(record_format)
            pattern = write_shards(folder, record_format, make_rows())
            made[record_format] = transforms.fit(preprocessing_fn, pattern, SPEC, str(folder / "made" / "transform"))
        return made[record_format]

    return fit


@pytest.mark.parametrize("record_format", FORMATS)
def test_rows_are_read_as_lists_across_chunks(tmp_path: Path, record_format: str) -> None:
    rows = make_rows() * 100  # more than two chunks of 4,096
    path = tmp_path / f"rows.{record_format}"
    WRITERS[record_format](path, rows)
    source = Input.model_validate({"pattern": str(path)})

    batches = list(read_lists(str(path), source, SPEC))

    assert sum(batch.num_rows for batch in batches) == 9000
    assert max(batch.num_rows for batch in batches) <= 4096
    table = pa.Table.from_batches(batches)
    assert table.schema == lists_schema(SPEC)
    for name in SPEC:
        expected = [[] if row[name] is None else row[name] for row in rows]
        expected = [value if isinstance(value, list) else [value] for value in expected]
        if SPEC[name].dtype == "string":
            expected = [[text.encode() for text in value] for value in expected]
        assert table[name].to_pylist() == expected, name


@needs_extra
@pytest.mark.parametrize("record_format", FORMATS)
def test_all_rows_are_learned_from(fitted: Callable[[str], transforms.Transform], record_format: str) -> None:
    transform, rows = fitted(record_format), make_rows()

    assert transform.raw_spec == SPEC
    outputs = transform(features_of(rows))
    miles, pairs = np.array([row["miles"] for row in rows]), np.array([row["pair"] for row in rows])
    np.testing.assert_allclose(outputs["miles"], (miles - miles.mean()) / miles.std(), rtol=1e-5)
    np.testing.assert_allclose(outputs["pair"], (pairs - pairs.min(0)) / np.ptp(pairs, 0), atol=1e-6)
    words = [row["word"] for row in rows]
    by_frequency = sorted(set(words), key=words.count, reverse=True)
    assert len({words.count(word) for word in by_frequency}) == len(by_frequency) == 4
    assert outputs["word"].numpy().tolist() == [by_frequency.index(word) for word in words]
    assert set(outputs["smallest"].numpy().tolist()) == {min(row["count"] for row in rows if row["count"])}
    assert outputs["lengths"].to_list() == [row["lengths"] for row in rows]
    assets = Path(transform.path) / "transform_fn" / "assets"
    assert (assets / "words").read_text().split("\n")[:4] == by_frequency
    assert (assets / "tags").read_text().splitlines() == ["tag 0", "tag 1", "tag 2"]


@needs_extra
@pytest.mark.parametrize("record_format", FORMATS[1:])
def test_other_formats_teach_what_tfrecord_teaches(
    fitted: Callable[[str], transforms.Transform], record_format: str
) -> None:
    features = features_of(make_rows())

    expected, outputs = fitted("tfrecord")(features), fitted(record_format)(features)

    assert outputs.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(flat(outputs[name]), flat(expected[name]), name)


@needs_extra
def test_it_scores_as_tensorflow_transform_itself_does(fitted: Callable[[str], transforms.Transform]) -> None:
    import tensorflow_transform as tft

    transform = fitted("tfrecord")
    other = make_rows()[:20]
    for number, row in enumerate(other):
        row |= {"miles": number / 3, "word": ["d", "new", ""][number % 3]}
    features = features_of(other)

    outputs = transform(features)
    expected = tft.TFTransformOutput(transform.path).transform_raw_features(features)

    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        assert type(outputs[name]) is type(value)
        np.testing.assert_array_equal(flat(outputs[name]), flat(value), name)
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        attached = transform.attach(features_of(other))
        session.run(attached.initializer)
        in_graph = session.run({name: attached.outputs[name] for name in ("miles", "pair", "word")})
    for name, value in in_graph.items():
        np.testing.assert_array_equal(value, expected[name], name)


def in_two_phases(inputs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow_transform as tft

    scaled = tft.scale_to_z_score(inputs["miles"])
    return {"quarter": tft.bucketize(scaled, 4)}  # its quantiles wait for mean and variance


@needs_extra
def test_shards_are_read_once_though_analyzers_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows()
    pattern = write_shards(tmp_path, "parquet", rows)
    opened: list[str] = []
    open_read = files.open_read
    monkeypatch.setattr(files, "open_read", lambda path: opened.append(path) or open_read(path))

    transform = transforms.fit(in_two_phases, pattern, SPEC, str(tmp_path / "transform"))

    assert sorted(path for path in opened if path.endswith(".parquet")) == [
        str(tmp_path / f"rows-{shard}.parquet") for shard in range(SHARDS)
    ]
    quarters = transform(features_of(rows))["quarter"].numpy()
    miles = np.array([row["miles"] for row in rows])
    edges = [miles[quarters == quarter].max() for quarter in range(3)]
    assert np.bincount(quarters).min() > ROWS / 5
    assert all(edge < miles[quarters > quarter].min() for quarter, edge in enumerate(edges))
    assert transform.raw_spec == SPEC, "features that it does not use are inputs all the same"


@needs_extra
def test_input_section_and_parsing_spec_are_taken(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("1.5|7\n2.5|NULL\n")
    csv = {"header": False, "columns": ["distance", "hour"], "delimiter": "|", "nulls": ["NULL"]}
    source = Input.model_validate(
        {"pattern": str(tmp_path / "*.txt"), "format": "csv", "rename": {"miles": "distance"}, "csv": csv}
    )
    spec = {"miles": tf.io.FixedLenFeature([1], tf.float32), "hour": tf.io.VarLenFeature(tf.int64)}

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        import tensorflow_transform as tft

        hours = tft.compute_and_apply_vocabulary(inputs["hour"], vocab_filename="hours")
        return {"miles": inputs["miles"] - tft.mean(inputs["miles"]), "hour": hours}

    transform = transforms.fit(function, source, spec, str(tmp_path / "transform"))

    assert transform.raw_spec == {"hour": Feature("hour", "int64", "varlen"), "miles": Feature("miles", shape=(1,))}
    hour = tf.SparseTensor([[0, 0]], [tf.constant(7, tf.int64)], [2, 1])
    assert transform({"miles": [[1.5], [2.5]], "hour": hour})["miles"].numpy().tolist() == [[-0.5], [0.5]]
    assert (tmp_path / "transform" / "transform_fn" / "assets" / "hours").read_text() == "7\n"
