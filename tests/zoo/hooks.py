"""Two prediction hooks: one counts runs, the other feeds a value and sets a local variable."""

import tensorflow as tf

RAW_SPEC = {"x": {"dtype": "float32", "shape": [3]}}
RUNS = []


def model_section():
    return {"estimator": "zoo.hooks:build_estimator"}


def label(row):
    return float(sum(row["x"]))


class CountRuns(tf.estimator.SessionRunHook):
    def after_run(self, run_context, run_values):
        RUNS.append(1)


class Calibrate(tf.estimator.SessionRunHook):
    def __init__(self, offset, scale):
        self.offset, self.scale = offset, scale

    def begin(self):
        self.assign = tf.compat.v1.assign(self.scale, 2.5)

    def after_create_session(self, session, coord):
        session.run(self.assign)

    def before_run(self, run_context):
        return tf.estimator.SessionRunArgs(fetches=None, feed_dict={self.offset: 0.75})


def model_fn(features, labels, mode):
    v1 = tf.compat.v1
    value = v1.layers.dense(features["x"], 1)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        offset = v1.placeholder(tf.float32, [], "offset")
        scale = v1.get_variable(
            "scale", [], collections=[v1.GraphKeys.LOCAL_VARIABLES], initializer=v1.zeros_initializer()
        )
        hooks = [CountRuns(), Calibrate(offset, scale)]
        predictions = {"value": value * scale + offset, "raw": value}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions, prediction_hooks=hooks)
    loss = v1.losses.mean_squared_error(labels, value)
    train_op = v1.train.AdamOptimizer(0.05).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(config):
    return tf.estimator.Estimator(model_fn, config=config)
