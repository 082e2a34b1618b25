"""A small Estimator of every kind that the command scores; each module here is code as a user would have it.

A kind's module has

- `RAW_SPEC`: the `features` section of its job file,
- `model_section()`: the `model` section of its job file, without `model_dir`,
- `build_estimator` (any of the names model_dir, params, config) or `model_fn`,
- `label(row)`: what it is trained on,
- maybe `DOMAINS`: feature -> (low, high) or a list of strings, where the features cannot be just anything.

`Kind` trains such a module and asks `Estimator.predict` for the scores that the command is held against. It reads
rows as a trainer does and shares no code with the pipeline. This package is also the `code:` of the jobs in the tests,
so importing it imports no kind: one of them switches TensorFlow 2 behaviour off for good.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

TRAINING_ROWS = 640
TRAINING_STEPS = 100
TRAINING_BATCH = 64

Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One Estimator of the zoo.

    scores: the prediction that decides the classes, where there are classes.
    own_process: its module changes TensorFlow for good, so it is trained, asked and scored in processes of its own.
    """

    name: str
    scores: str | None = None
    own_process: bool = False

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"{__name__}.{self.name}")

    @property
    def spec(self) -> dict[str, dict[str, Any]]:
        return self.module.RAW_SPEC

    def estimator(self, model_dir: str) -> Any:
        """The Estimator as its trainer builds it."""
        import tensorflow as tf

        section = self.module.model_section()
        params = section.get("params")
        config = tf.estimator.RunConfig(model_dir=model_dir, tf_random_seed=11, save_summary_steps=10_000)
        if "model_fn" in section:
            return tf.estimator.Estimator(self.module.model_fn, model_dir, config, params)
        tf.keras.backend.clear_session()  # a trainer builds it once, in a process of its own
        known = {"model_dir": model_dir, "params": params, "config": config}
        wanted = inspect.signature(self.module.build_estimator).parameters
        return self.module.build_estimator(**{name: known[name] for name in wanted})

    def train(self, model_dir: str) -> None:
        """Train for a moment, with seeds, and leave a checkpoint in `model_dir`."""
        import zoo_data

        rows = zoo_data.make_rows(self, TRAINING_ROWS, seed=1)
        records = [zoo_data.to_example(row, self.spec) for row in rows]
        labels = np.array([self.module.label(row) for row in rows])
        self.estimator(model_dir).train(self._train_input_fn(records, labels), steps=TRAINING_STEPS)

    def predict_input_fn(self, shards: Sequence[Sequence[Row]], batch_size: int) -> Callable[[], Any]:
        """An `input_fn` for rows cut into batches as the command cuts them: none crosses a shard."""
        import zoo_data

        records = [[zoo_data.to_example(row, self.spec) for row in shard] for shard in shards]

        def input_fn() -> Any:
            import tensorflow as tf

            def batches() -> Iterator[list[bytes]]:
                for shard in records:
                    for start in range(0, len(shard), batch_size):
                        yield shard[start : start + batch_size]

            dataset = tf.data.Dataset.from_generator(batches, output_signature=tf.TensorSpec([None], tf.string))
            return dataset.map(self._parse)

        return input_fn

    def predict(self, model_dir: str, shards: Sequence[Sequence[Row]], batch_size: int) -> dict[str, np.ndarray]:
        """What `Estimator.predict` gives for the rows, in their order; a prediction that is no dict has the key ""."""
        input_fn = self.predict_input_fn(shards, batch_size)
        batches = list(self.estimator(model_dir).predict(input_fn, yield_single_examples=False))
        dicts = [batch if isinstance(batch, Mapping) else {"": batch} for batch in batches]
        return {key: np.concatenate([batch[key] for batch in dicts]) for key in dicts[0]}

    def _train_input_fn(self, records: list[bytes], labels: np.ndarray) -> Callable[[], Any]:
        def input_fn() -> Any:
            import tensorflow as tf

            dataset = tf.data.Dataset.from_tensor_slices((records, labels)).repeat().batch(TRAINING_BATCH)
            return dataset.map(lambda batch, label: (self._parse(batch), label))

        return input_fn

    def _parse(self, records: Any) -> Any:
        import tensorflow as tf

        features = tf.io.parse_example(records, parsing_spec(self.spec))
        wanted = self.module.model_section().get("features")
        if wanted is None:
            return features
        return features[wanted] if isinstance(wanted, str) else {name: features[name] for name in wanted}


def parsing_spec(raw_spec: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The `tf.io` parsing spec of a job file's `features` section."""
    import tensorflow as tf

    spec: dict[str, Any] = {}
    for name, feature in raw_spec.items():
        dtype = tf.as_dtype(feature["dtype"])
        kind = feature.get("kind", "fixed")
        if kind == "varlen":
            spec[name] = tf.io.VarLenFeature(dtype)
        elif kind == "ragged":
            spec[name] = tf.io.RaggedFeature(dtype)
        else:
            spec[name] = tf.io.FixedLenFeature(feature.get("shape", []), dtype, feature.get("default"))
    return spec


KINDS = {
    kind.name: kind
    for kind in (
        Kind("tf1_images", scores="probabilities"),
        Kind("linear_classifier", scores="probabilities"),
        Kind("linear_regressor"),
        Kind("dnn_classifier", scores="probabilities"),
        Kind("dnn_regressor"),
        Kind("wide_deep_classifier", scores="probabilities"),
        Kind("wide_deep_regressor"),
        Kind("bare_model_fn"),
        Kind("stacked_order"),
        Kind("bare_tensor"),
        Kind("sparse"),
        Kind("ragged"),
        Kind("partitioned"),
        Kind("moving_averages"),
        Kind("hooks"),
        Kind("single_tensor"),
        Kind("local_init"),
        Kind("string_classes", scores="scores"),
        Kind("varied_shapes", scores="pair"),
        Kind("every_trap"),
        Kind("keras_functional"),
        Kind("keras_sequential"),
        Kind("v2_behavior_off", scores="probabilities", own_process=True),
    )
}
