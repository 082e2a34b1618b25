"""The model of `linear_model.py`, which takes its time in the workers of a cluster, and writes down each batch that it scores there.

params: `calls`, a file that gets a line a batch, the first number of its first row; `seconds` that each takes; `fails`: the
graph cannot be built there.
"""

from __future__ import annotations

import sys
import time

import linear_model
import tensorflow as tf


def build_estimator(model_dir, params):
    config = tf.estimator.RunConfig(model_dir=model_dir, tf_random_seed=1)
    return tf.estimator.Estimator(model_fn, params=params, config=config)


def model_fn(features, labels, mode, params):
    if params.get("fails") and _in_worker():
        raise LookupError("this worker has no such table")
    name = linear_model.FLOATS[0]

    def wait(values):
        if _in_worker() and len(values):
            time.sleep(params["seconds"])
            with open(params["calls"], "a") as calls:
                calls.write(f"{float(values[0])!r}\n")
        return values

    waited = tf.compat.v1.py_func(wait, [features[name]], tf.float32)
    waited.set_shape(features[name].shape)
    return linear_model.model_fn({**features, name: waited}, labels, mode)


def _in_worker():
    return "pipeline.commands" not in sys.modules  # the launcher's
