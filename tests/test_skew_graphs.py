"""What is read from the graph of a transform: each kind of step, the way back to the feature, and what stays untold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pipeline.tf_estimator

import numpy as np
import pytest
from saved_transforms import every_folder, lists, taxi, taxi_features
from skewed import Row, percent, skew_of, told

import tensorflow as tf  # isort: skip

import pipeline.skew
import pipeline.skew.traced
from pipeline.skew.flat_graph import flat_graph

v1 = tf.compat.v1
layers = tf.keras.layers
RANDOM = np.random.default_rng(3)
SPEC = {
    "x": {"dtype": "float32"},
    "pair": {"dtype": "float32", "shape": [2]},
    "word": {"dtype": "string"},
    "tag": {"dtype": "string", "kind": "varlen"},
    "area": {"dtype": "int64", "kind": "ragged"},
}
ROWS: list[Row] = [
    {
        "x": float(RANDOM.normal(5.0, 2.0)),
        "pair": [float(RANDOM.normal(1.0, 3.0)), float(RANDOM.normal(-1.0, 0.5))],
        "word": "abc"[index % 3],
        "tag": ["ab"[index % 2]] if index % 4 else None,
        "area": [[], [1], [2, 3]][index % 3] or None,
    }
    for index in range(120)
]


def given(name: str) -> tf.TypeSpec:
    """What a batch of a feature of `SPEC` is in a graph."""
    feature: dict[str, Any] = SPEC[name]
    dtype = tf.as_dtype(feature["dtype"])
    if feature.get("kind") == "varlen":
        return tf.SparseTensorSpec((None, None), dtype)
    if feature.get("kind") == "ragged":
        return tf.RaggedTensorSpec((None, None), dtype, ragged_rank=1, row_splits_dtype=tf.int64)
    return tf.TensorSpec((None, *feature.get("shape", ())), dtype)


class Saved(tf.Module):
    """A transform to be saved: `make` is called once for what tables and layers it needs and gives the function."""

    def __init__(self, make: Any, names: list[str]):
        super().__init__()
        self.parts, function = make()
        signature = [{name: given(name) for name in names}]
        self.transform = tf.function(function, input_signature=signature)


def skew_through(folder: Path, make: Any, rows: list[Row] = ROWS, names: list[str] | None = None) -> Any:
    names = names or list(SPEC)
    folder.mkdir(exist_ok=True)
    tf.saved_model.save(Saved(make, names), str(folder / "transform"))
    spec = {name: SPEC[name] for name in names}
    return skew_of(folder, rows, spec, {"transform": {"path": str(folder / "transform")}}, "parquet")


def table(words: list[Any], default: int, dtype: Any = tf.string) -> tf.lookup.StaticHashTable:
    ids = tf.range(len(words), dtype=tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(tf.constant(words, dtype), ids), default)


def make_keras() -> Any:
    parts = {
        "x": layers.Normalization(axis=None, mean=4.0, variance=4.0),
        "pair": layers.Normalization(axis=-1, mean=[1.0, -1.0], variance=[9.0, 0.25]),
        "bins": layers.Discretization(bin_boundaries=[1.0, 5.0, 9.0]),
        "word": layers.StringLookup(vocabulary=["a", "b"], num_oov_indices=2, mask_token="c"),
        "tag": layers.StringLookup(vocabulary=["a", "c"]),
    }

    def transform(features: Any) -> Any:
        return {
            "x": parts["x"](features["x"]),
            "pair": parts["pair"](features["pair"]),
            "bins": parts["bins"](features["x"]),
            "word": parts["word"](features["word"]),
            "tag": parts["tag"](features["tag"]),
            "area": features["area"],
        }

    return parts, transform


def test_keras_layers(tmp_path: Path) -> None:
    facts = told(skew_through(tmp_path / "honest", make_keras))
    x = np.array([row["x"] for row in ROWS], np.float32)
    off = (x.mean() - 4) / 2
    below, above = percent((x < 1).sum(), 120), percent((x > 9).sum(), 120)
    side = "above" if off > 0 else "below"
    assert facts["x"].startswith(
        f"none missing; z-score by mean 4 and deviation 2: the mean here is {abs(off):.2g} deviations {side} that; "
    )
    assert facts["x"].endswith(
        f"buckets with 3 boundaries from 1 to 9: {below} of 120 values below the first, {above} above the last"
    )
    assert facts["pair"] == "none missing; z-scores of 2 columns: the mean of 0 is more than 3 deviations off"
    # The mask token is in no vocabulary, and none of the unknown words either.
    assert facts["word"] == "none missing; vocabulary of 2: all of 80 values are in it"
    tags = [row["tag"][0] for row in ROWS if row["tag"]]
    outside = sum(tag == "b" for tag in tags)
    assert facts["tag"] == (
        f"25% missing; vocabulary of 2: {percent(outside, len(tags))} of {len(tags)} values are not in it and get 0"
    )


def test_keras_layers_name_each_planted_skew(tmp_path: Path) -> None:
    rows = [
        {**row, "x": row["x"] * 10 + 20, "pair": [1.0, row["pair"][1] + 4], "word": "planted", "tag": ["b"]}
        for row in ROWS
    ]
    skew = skew_through(tmp_path / "skewed", make_keras, rows)
    kinds = sorted((warning.partition(":")[0], warning.partition(": ")[2].split(" ")[0]) for warning in skew.warnings)
    assert kinds == [
        ("pair", "z-scores"),
        ("tag", "vocabulary"),
        ("word", "vocabulary"),
        ("x", "buckets"),
        ("x", "z-score"),
    ]
    assert "z-scores of 2 columns: the mean of 1 is more than 3 deviations off" in told(skew)["pair"]
    assert "100% of 120 values are not in it and share 2 hash buckets" in told(skew)["word"]
    assert "planted" not in "\n".join((*skew.lines, *skew.warnings))


def make_filled() -> Any:
    words, areas = table(["a", "c"], -1), table([1, 2], 7, tf.int64)

    def transform(features: Any) -> Any:
        tag, rows = features["tag"], tf.shape(features["x"])
        scattered = tf.tensor_scatter_nd_update(tf.fill(rows, "?"), tag.indices[:, :1], tag.values)
        return {
            "tag": words.lookup(tf.strings.lower(tf.squeeze(tf.sparse.to_dense(features["tag"], "?"), 1))),
            "area": areas.lookup(features["area"].to_tensor(-5)),
            "far": words.lookup(scattered),
            "both": words.lookup(tf.strings.join([features["word"], features["word"]])),
            "crossed": words.lookup(tf.strings.join([features["word"], tf.strings.as_string(features["x"])])),
            "pair": features["pair"],
        }

    return (words, areas), transform


def test_what_is_filled_in_is_no_value_that_is_looked_up(tmp_path: Path) -> None:
    skew = skew_through(tmp_path / "filled", make_filled)
    facts = told(skew)
    tags = [row["tag"][0] for row in ROWS if row["tag"]]
    outside = percent(tags.count("b"), len(tags))
    looked_up = f"vocabulary of 2: {outside} of {len(tags)} values are not in it and get -1"
    # Through a scatter the way back is lost, so the values that were filled in are counted too, and no warning comes.
    lost = f"vocabulary of 2: {percent(120 - tags.count('a'), 120)} of 120 values are not in it and get -1"
    assert facts["tag"] == f'25% missing, the transform fills in "?"; {looked_up}; {lost}'
    areas = [area for row in ROWS for area in row["area"] or []]
    assert facts["area"] == (
        f"33.3% missing, the transform fills in -5; vocabulary of 2: {percent(areas.count(3), len(areas))} of "
        f"{len(areas)} values are not in it and get 7"
    )
    assert facts["word and x"] == "vocabulary of 2: 100% of 120 values are not in it and get -1"
    assert [warning for warning in skew.warnings if warning.startswith("tag")] == [f"tag: {looked_up} (skew)"]
    assert {warning.partition(": ")[0] for warning in skew.warnings} == {"tag", "word", "word and x"}


def make_ranges() -> Any:
    smallest, largest = tf.Variable(1.0), tf.Variable(9.0)
    boundaries = tf.constant([2.0, 8.0])

    def transform(features: Any) -> Any:
        x, pair = features["x"], features["pair"]
        logarithm = tf.math.log1p(tf.maximum(x, 0.0))
        return {
            "range": tf.where(smallest < largest, (x - smallest) / (largest - smallest), tf.sigmoid(x)),
            "log": (logarithm - 1.0) / tf.sqrt(smallest),
            "first": tf.searchsorted(boundaries, pair[:, 0], side="right"),
            # None of these is told: what is subtracted depends on the row, or the divisor does.
            "by_row": (x - pair[:, 1]) / largest,
            "by_batch": (x - tf.reduce_mean(x)) / tf.math.reduce_std(x),
            "by_length": (x - tf.cast(features["area"].row_lengths(), tf.float32)) / largest,
            "by_rows": (x - tf.cast(tf.shape(x)[0], tf.float32)) / largest,
        }

    return (smallest, largest), transform


def test_ranges_and_ways_back(tmp_path: Path) -> None:
    skew = skew_through(tmp_path / "ranges", make_ranges, names=["x", "pair", "area"])
    x = np.array([row["x"] for row in ROWS], np.float32)
    first = np.array([row["pair"][0] for row in ROWS], np.float32)
    outside = percent(((x < 1) | (x > 9)).sum(), 120)
    logarithm = np.log1p(np.maximum(x, 0)).mean() - 1
    facts = told(skew)
    assert facts["x"] == (
        f"none missing; fitted range 1 to 9: {outside} of 120 values are outside; z-score by mean 1 and deviation 1 "
        f"(after Maximum, Log1p): the mean here is {abs(logarithm):.2g} deviations {'above' if logarithm > 0 else 'below'} that"
    )
    below, above = percent((first < 2).sum(), 120), percent((first > 8).sum(), 120)
    assert facts["pair"] == (
        f"none missing; buckets with 2 boundaries from 2 to 8: {below} of 120 values below the first, "
        f"{above} above the last"
    )


def test_values_outside_of_a_fitted_range_are_a_warning(tmp_path: Path) -> None:
    rows = [{**row, "x": row["x"] * 100} for row in ROWS]
    skew = skew_through(tmp_path / "outside", make_ranges, rows, ["x", "pair", "area"])
    assert [warning.partition(" to ")[0] for warning in skew.warnings if "range" in warning] == ["x: fitted range 1"]


# The flat graph


@every_folder
def test_flat_graph_gives_what_the_graph_gives(folder: str) -> None:
    with tf.Graph().as_default() as graph:
        attached = taxi(folder).attach(taxi_features())
        outputs = tf.nest.map_structure(tf.identity, attached.outputs, expand_composites=True)
        with v1.Session() as session:
            session.run(attached.initializer)
            expected = lists(session.run(outputs))
    flat = flat_graph(graph)
    assert not {operation.type for operation in flat.get_operations()} & {"PartitionedCall", "StatefulPartitionedCall"}
    with v1.Session(graph=flat) as session:
        session.run(attached.initializer.name)
        parts = session.run([part.name for part in tf.nest.flatten(outputs, expand_composites=True)])
    packed = tf.nest.pack_sequence_as(outputs, parts, expand_composites=True)
    assert lists(packed) == expected


# What cannot be told


def test_a_graph_that_cannot_be_followed_leaves_missing_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(graph: tf.Graph) -> tf.Graph:
        calls = {operation.type for operation in graph.get_operations()}
        if "StatefulPartitionedCall" in calls:
            raise ValueError("node is not in the graph")
        return flat_graph(graph)

    monkeypatch.setattr(pipeline.skew.traced, "flat_graph", refuse)
    skew = skew_through(tmp_path / "closed", make_keras)
    assert skew.lines[0].endswith("; the graph of the transform cannot be followed")
    assert told(skew)["tag"] == "25% missing"
    assert "vocabulary" not in "".join(skew.lines)


def test_steps_inside_of_a_condition_are_not_told(tmp_path: Path) -> None:
    def make() -> Any:
        words = table(["a"], -1)

        def transform(features: Any) -> Any:
            if tf.reduce_all(features["x"] > -1e6):
                ids = words.lookup(features["word"])
            else:
                ids = tf.zeros_like(features["word"], tf.int64)
            return {"word": ids}

        return words, transform

    assert told(skew_through(tmp_path / "condition", make, names=["x", "word"]))["word"] == "none missing"


def test_many_conditions_on_values_are_followed_in_no_time(tmp_path: Path) -> None:
    def make() -> Any:
        words = table(["a", "b"], -1)

        def transform(features: Any) -> Any:
            x, word = features["x"], features["word"]
            for step in range(40):
                x = tf.where(x > step, x - 0.5, x * 0.5)
                word = tf.where(word == str(step), "a", word)
            return {"x": (x - 1.0) / 2.0, "word": words.lookup(word)}

        return words, transform

    facts = told(skew_through(tmp_path / "nested", make, names=["x", "word"]))
    assert facts["word"] == "none missing; vocabulary of 2: 33.3% of 120 values are not in it and get -1"
    assert facts["x"].startswith("none missing; less 1, divided by 2 (after ")


@pytest.mark.parametrize("bad", [3, 100], ids=["few", "too-many"])
def test_rows_that_the_transform_refuses_are_left_out(bad: int, tmp_path: Path) -> None:
    def make() -> Any:
        words = table([5], -1, tf.int64)

        def transform(features: Any) -> Any:
            return {"word": words.lookup(tf.strings.to_number(features["word"], tf.int64))}

        return words, transform

    rows = [{"word": "planted" if index < bad else "5"} for index in range(120)]
    skew = skew_through(tmp_path / "bad", make, rows, ["word"])
    if bad == 3:
        assert told(skew)["word"] == "none missing; the same in every row; vocabulary of 1: all of 117 values are in it"
        assert skew.lines[0].endswith("; 3 bad ones left out")
    else:
        assert skew.lines[0].endswith("; no row is good, or more than 64 are bad, so nothing is told")
        assert len(skew.lines) == 1
    assert "planted" not in "".join(skew.lines)
