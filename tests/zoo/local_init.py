"""A Scaffold whose local_init_op fills a lookup table and sets a local variable to what no initializer has."""

import tensorflow as tf

CITIES = ["paris", "lima", "oslo", "kraków"]
RAW_SPEC = {"city": {"dtype": "string", "default": "oslo"}, "x": {"dtype": "float32"}}
DOMAINS = {"city": CITIES}


def model_section():
    return {"estimator": "zoo.local_init:build_estimator"}


def label(row):
    return float(row["x"] + 2 * CITIES.index(row["city"]) if row["city"] in CITIES else row["x"])


def model_fn(features, labels, mode):
    v1 = tf.compat.v1
    entries = tf.lookup.KeyValueTensorInitializer(tf.constant(CITIES), tf.range(1, len(CITIES) + 1, dtype=tf.int64))
    table = tf.lookup.StaticHashTable(entries, default_value=0)
    local = {"collections": [v1.GraphKeys.LOCAL_VARIABLES], "trainable": False}
    shift = v1.get_variable("shift", [], initializer=v1.zeros_initializer(), **local)
    city = table.lookup(features["city"])
    inputs = tf.concat([tf.one_hot(city, len(CITIES) + 1), features["x"][:, None] - shift], 1)
    value = v1.layers.dense(inputs, 1)[:, 0]
    initialise = tf.group(v1.tables_initializer(), v1.local_variables_initializer())
    with tf.control_dependencies([initialise]):
        scaffold = v1.train.Scaffold(local_init_op=v1.assign(shift, 1.5).op)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value, "city": city}, scaffold=scaffold)
    loss = v1.losses.mean_squared_error(labels, value)
    train_op = v1.train.AdamOptimizer(0.1).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, scaffold=scaffold)


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, model_dir, config)
