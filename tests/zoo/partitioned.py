"""An embedding and dense kernels in slices, saved under one name with Ftrl's slots."""

import tensorflow as tf

RAW_SPEC = {"item": {"dtype": "int64"}, "x": {"dtype": "float32", "shape": [7]}}
DOMAINS = {"item": (0, 31)}


def model_section():
    return {"estimator": "zoo.partitioned:build_estimator"}


def label(row):
    return float(row["item"] % 3 + row["x"][0] - row["x"][6])


def model_fn(features, labels, mode):
    v1 = tf.compat.v1
    with v1.variable_scope("tower", partitioner=v1.fixed_size_partitioner(3)):
        table = v1.get_variable("items", [31, 5], initializer=v1.truncated_normal_initializer(stddev=0.5))
        item = v1.nn.embedding_lookup(table, features["item"], partition_strategy="div")
        start = v1.glorot_uniform_initializer()
        inputs = tf.concat([item, features["x"]], 1)
        hidden = v1.layers.dense(inputs, 9, activation=tf.nn.relu, kernel_initializer=start, name="hidden")
        value = v1.layers.dense(hidden, 1, kernel_initializer=start, name="value")[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value, "item_vector": item})
    loss = v1.losses.mean_squared_error(labels, value)
    train_op = v1.train.FtrlOptimizer(0.1).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(config):
    return tf.estimator.Estimator(model_fn, config=config)
