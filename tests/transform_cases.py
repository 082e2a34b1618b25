"""Jobs with a transform, and how their trainers go about it.

The references share no code with the pipeline: an `input_fn` parses rows by `tf.io.parse_example` and maps the dataset
with the Python function, or with what plain TensorFlow loads from the folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import zoo_data
from zoo import Row, parsing_spec, transformed

import tensorflow as tf  # isort: skip

TESTS = Path(__file__).parent
ROWS = 80
CONSTANT = ("all_classes", "all_class_ids")
"""Predictions of canned classifiers that are the same in every row, and are left out."""

Transform = Callable[[dict[str, Any]], Mapping[str, Any]]

COMPANIES = ["Yellow", "Blue", "Taxi 7", "Żółta", "Nobody"]
WORDS = ["night", "airport", "rain", "card", "café", "never seen"]
DOMAINS: dict[str, Any] = {
    "company": COMPANIES,
    "words": WORDS,
    "miles": (0, 14),
    "fare": (0, 17),
    "tips": (0, 2),
    "codes": (0, 99),
}
DOMAINS["amount"] = [str(quarter / 4) for quarter in range(200)]
TAXI_SPEC = {
    "fare": {"dtype": "float32"},
    "miles": {"dtype": "float32"},
    "company": {"dtype": "string"},
    "words": {"dtype": "string", "kind": "varlen"},
    "tips": {"dtype": "float32"},
}


@dataclass(frozen=True)
class Case:
    """A job with a transform, and how its trainer goes about it.

    spec: the features of the rows, as in a job file. parsing: the trainer's `tf.io` spec. transform: makes, in the graph
    of an input_fn, what the trainer maps with. sections: of the job file. absent: features that the scored rows lack.
    sources: feature -> its name in the shards. features: those that the model gets.
    """

    spec: Mapping[str, Mapping[str, Any]]
    parsing: Mapping[str, Any]
    transform: Callable[[], Transform]
    sections: Mapping[str, Any]
    absent: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    features: list[str] | str | None = None
    builder: str = "transformed:build_estimator"

    def rows(self, count: int = ROWS, seed: int = 0) -> list[Row]:
        kind: Any = SimpleNamespace(spec=self.spec, module=SimpleNamespace(DOMAINS=DOMAINS))
        rows = zoo_data.make_rows(kind, count, seed)
        for name, feature in self.spec.items():
            if "shape" in feature and "default" in feature:
                for row in rows[4::7]:
                    row[name] = None
        return [{**row, **dict.fromkeys(self.absent)} for row in rows]

    def estimator(self, model_dir: str) -> Any:
        config = tf.estimator.RunConfig(model_dir=model_dir, tf_random_seed=5, save_summary_steps=10_000)
        build = getattr(transformed, self.builder.partition(":")[2])
        return build(config) if build is transformed.build_stacker else build(model_dir, config)

    def dataset(self, shards: Sequence[Sequence[Row]], size: int) -> Any:
        """Batches as the model gets them, cut as the command cuts them: none crosses a shard."""
        records = [[zoo_data.to_example(row, self.spec) for row in rows] for rows in shards]

        def batches() -> Iterator[list[bytes]]:
            for shard in records:
                for start in range(0, len(shard), size):
                    yield shard[start : start + size]

        dataset = tf.data.Dataset.from_generator(batches, output_signature=tf.TensorSpec([None], tf.string))
        dataset = dataset.map(lambda serialized: tf.io.parse_example(serialized, dict(self.parsing)))
        return dataset.map(self.transform()).map(self.choose)

    def choose(self, transformed_features: Mapping[str, Any]) -> Any:
        if isinstance(self.features, str):
            return transformed_features[self.features]
        # A SavedModel has no order of its own, so theirs is by name.
        saved = "path" in self.sections["transform"]
        names = self.features or (sorted(transformed_features) if saved else list(transformed_features))
        return {name: transformed_features[name] for name in names}

    def train(self, model_dir: str) -> None:
        rows, random = self.rows(160, seed=1), np.random.default_rng(2)
        classes = self.builder.endswith("classifier")
        labels = random.integers(0, 2, (5, 32)) if classes else random.normal(size=(5, 32, 3)).astype(np.float32)

        def input_fn() -> Any:
            return tf.data.Dataset.zip((self.dataset([rows], 32), tf.data.Dataset.from_tensor_slices(labels))).repeat()

        self.estimator(model_dir).train(input_fn, steps=30)

    def predict(self, model_dir: str, shards: Sequence[Sequence[Row]], size: int) -> dict[str, np.ndarray]:
        predicted = self.estimator(model_dir).predict(lambda: self.dataset(shards, size), yield_single_examples=False)
        batches = list(predicted)
        return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0] if key not in CONSTANT}


# The cases


def loaded(path: Path, function: Callable[[Any], Transform]) -> Callable[[], Transform]:
    """A function of a SavedModel, loaded by TensorFlow alone into the graph of an Estimator."""

    def load() -> Transform:
        graph = tf.compat.v1.get_default_graph()
        variables = graph.get_collection_ref(tf.compat.v1.GraphKeys.GLOBAL_VARIABLES)
        known = len(variables)
        with tf.name_scope("reference"):  # the model's variables keep their names
            transform = function(tf.saved_model.load(str(path)))
        for variable in variables[known:]:  # no checkpoint is to be asked for them
            graph.add_to_collection(tf.compat.v1.GraphKeys.LOCAL_VARIABLES, variable)
        del variables[known:]
        return transform

    return load


def older_function(folder: Any) -> Transform:
    def transform(features: dict[str, Any]) -> Mapping[str, Any]:
        dense = {name: feature for name, feature in features.items() if name != "words"}
        words = features["words"]
        parts = {"words_indices": words.indices, "words_values": words.values, "words_dense_shape": words.dense_shape}
        return folder.signatures["transform_signature"](**dense, **parts)

    return transform


def taxi_case(name: str = "taxi_tft", **settings: Any) -> Case:
    folder = TESTS / "data" / name
    function = older_function if name.endswith("_v1") else lambda transform: transform.transform_fn
    sections = {"transform": {"path": str(folder)}, **settings.pop("sections", {})}
    parsing = settings.pop("parsing", parsing_spec(TAXI_SPEC))
    return Case(TAXI_SPEC, parsing, loaded(folder / "transform_fn", function), sections, **settings)


class Module(tf.Module):
    """A transform with variables, and a table from a file; the variables have the names of the model's."""

    def __init__(self, vocabulary: Path):
        super().__init__()
        self.kernel = tf.Variable([[1.5, -0.5], [0.3, 2.0]], name="dense/kernel")
        self.company = tf.Variable(np.linspace(-1, 1, 12), name="company", dtype=tf.float32)
        self.table = transformed.vocabulary_table(vocabulary)

    @tf.function(
        input_signature=[
            {
                "miles": tf.TensorSpec((None,)),
                "pair": tf.TensorSpec((None, 2)),
                "company": tf.TensorSpec((None,), tf.string),
                "words": tf.SparseTensorSpec((None, None), tf.string),
                "readings": tf.RaggedTensorSpec((None, None), tf.float32, 1, tf.int32),
                "label": tf.SparseTensorSpec((None, None), tf.float32),
            }
        ]
    )
    def transform(self, features: dict[str, Any]) -> dict[str, Any]:
        words, company = features["words"], self.table.lookup(features["company"])
        return {
            "miles": (features["miles"] - 3.3) / 7.1,
            "pair": features["pair"] @ self.kernel,
            "scale": tf.sqrt(tf.reduce_sum(tf.square(features["pair"]), axis=1, keepdims=True) + 0.1),
            "company": company,
            "weight": tf.gather(self.company, company),
            "bag": tf.SparseTensor(words.indices, self.table.lookup(words.values), words.dense_shape),
            "readings": features["readings"] / 3.0,
        }


def module_case(folder: Path) -> Case:
    vocabulary = folder / "words.txt"
    shutil.copyfile(transformed.VOCABULARY, vocabulary)
    tf.saved_model.save(Module(vocabulary), str(folder / "module"))
    vocabulary.unlink()  # the SavedModel has its own
    spec = {name: transformed.RAW_SPEC[name] for name in ("miles", "pair", "company", "words", "readings")}
    spec["company"] = {"dtype": "string"}  # a SavedModel tells no defaults
    spec["label"] = {"dtype": "float32", "kind": "varlen"}
    sections = {"transform": {"path": str(folder / "module")}, "input": {"optional": ["label"]}}
    transform = loaded(folder / "module", lambda module: module.transform)
    builder = "transformed:build_with_session_config"
    return Case(spec, parsing_spec(spec), transform, sections, absent=("label",), builder=builder)


class Layers(tf.Module):
    """Keras preprocessing layers, adapted."""

    def __init__(self) -> None:
        super().__init__()
        layers = tf.keras.layers
        self.scale, self.bins = layers.Normalization(axis=None), layers.Discretization(num_bins=4)
        self.lookup = layers.StringLookup(vocabulary=COMPANIES[:4])
        self.words = layers.StringLookup(vocabulary=WORDS[:5])
        self.scale.adapt(np.array([0.5, 3.1, 7.9, 13.0], np.float32))
        self.bins.adapt(np.linspace(0, 17, 50, dtype=np.float32))

    @tf.function(
        input_signature=[
            {
                "miles": tf.TensorSpec((None,)),
                "fare": tf.TensorSpec((None,)),
                "company": tf.TensorSpec((None,), tf.string),
                "words": tf.SparseTensorSpec((None, None), tf.string),
            }
        ]
    )
    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        return {
            "miles": self.scale(features["miles"]),
            "fare": tf.cast(self.bins(features["fare"]), tf.int64),
            "company": self.lookup(features["company"]),
            "bag": self.words(features["words"]),
        }


def keras_case(folder: Path) -> Case:
    tf.saved_model.save(Layers(), str(folder / "layers"))
    spec = {name: TAXI_SPEC[name] for name in ("miles", "fare", "company", "words")}
    transform = loaded(folder / "layers", lambda layers: layers)
    return Case(spec, parsing_spec(spec), transform, {"transform": {"path": str(folder / "layers")}})


def function_sections(function: str, features: Any) -> dict[str, Any]:
    return {"transform": {"function": f"zoo.transformed:{function}"}, "features": features}


def function_case(_: Path, **settings: Any) -> Case:
    sections = function_sections("preprocess", transformed.RAW_SPEC)
    parsing = parsing_spec(transformed.RAW_SPEC)
    return Case(transformed.RAW_SPEC, parsing, lambda: transformed.preprocess, sections, **settings)


def reference_case(_: Path) -> Case:
    spec = {
        **transformed.RAW_SPEC,
        "pair": {"dtype": "float32", "shape": [2], "default": [0.5, -0.5]},
        "codes": {"dtype": "int64", "kind": "ragged"},
    }
    sections = function_sections("preprocess_codes", "zoo.transformed:parsing_spec")
    return Case(spec, transformed.parsing_spec(), lambda: transformed.preprocess_codes, sections)


CASES: dict[str, Callable[[Path], Case]] = {
    "tft": lambda _: taxi_case(),
    "tft-older": lambda _: taxi_case("taxi_tft_v1"),
    "tft-of-2.15": lambda _: taxi_case("taxi_tft_2_15"),
    "tft-of-2.15-older": lambda _: taxi_case("taxi_tft_2_15_v1"),
    "module": module_case,
    "keras": keras_case,
    "function": function_case,
    "spec-reference": reference_case,
    "label-absent": lambda _: taxi_case(
        parsing={**parsing_spec(TAXI_SPEC), "tips": tf.io.FixedLenFeature([], tf.float32, 0.0)},
        sections={"input": {"optional": ["tips"]}},
        absent=("tips",),
        features=["miles", "company", "bag", "fare"],
    ),
    "renamed": lambda _: taxi_case(
        "taxi_tft_v1",
        sections={"input": {"rename": {"miles": "Trip miles", "words": "tags"}}},
        sources={"miles": "Trip miles", "words": "tags"},
    ),
    "stacked": lambda _: taxi_case(features=["fare", "miles", "company"], builder="transformed:build_stacker"),
    "bare-tensor": lambda folder: function_case(folder, features="ratio", builder="transformed:build_stacker"),
    "classifier": lambda _: taxi_case(
        features=["bag", "company", "fare", "miles"], builder="transformed:build_classifier"
    ),
}


class Trained:
    """The cases, trained when they are first asked for, with what their Estimators predict for each cut."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._cases: dict[str, Case] = {}
        self._references: dict[tuple[str, int, int], dict[str, np.ndarray]] = {}

    def case(self, name: str) -> Case:
        if name not in self._cases:
            (self._folder / name).mkdir()
            self._cases[name] = CASES[name](self._folder / name)
            self._cases[name].train(self.model_dir(name))
        return self._cases[name]

    def model_dir(self, name: str) -> str:
        return str(self._folder / name / "model")

    def reference(self, name: str, shards: int, size: int) -> dict[str, np.ndarray]:
        case, key = self.case(name), (name, shards, size)
        if key not in self._references:
            self._references[key] = case.predict(self.model_dir(name), zoo_data.split(case.rows(), shards), size)
        return self._references[key]
