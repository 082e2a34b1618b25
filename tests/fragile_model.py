"""Code as a user would have it: a small model with ways to go wrong on a row, which `params` turn on, and transforms.

The score of a row is linear in what `dense` makes of it, so that a test computes it from the checkpoint alone.
"""

import tensorflow.compat.v1 as tf

EMBEDDED = 10


def dense(features):
    """Float32 (rows, 4): x, the number modulo 7, the sum of the pixels, the number of words."""
    words = tf.sparse.to_dense(features["words"], "")
    columns = [
        features["x"],
        tf.cast(tf.floormod(features["n"], 7), tf.float32),
        tf.reduce_sum(features["pixels"], [1, 2]),
        tf.reduce_sum(tf.cast(tf.not_equal(words, ""), tf.float32), 1),
    ]
    return tf.stack(columns, 1)


def model_fn(features, labels, mode, params):
    if params.get("calls"):
        with open(params["calls"], "a") as calls:
            calls.write("called\n")
    if params.get("labels"):
        loss_in_every_mode = tf.losses.mean_squared_error(labels, features["x"])
    if params.get("contrib"):
        tf.contrib.layers.fully_connected(features["pixels"], 1)
    if params.get("bare_name"):
        import tensorflow

        tensorflow.layers.dense(features["pixels"], 1)
    table = tf.get_variable("table", [EMBEDDED], initializer=tf.random_normal_initializer(seed=2))
    place = features["n"] if params.get("unbounded_ids") else tf.floormod(features["n"], EMBEDDED)
    weights = tf.get_variable("weights", [params.get("width", 4), 1], initializer=tf.random_normal_initializer(seed=1))
    if params.get("deeper"):
        weights = weights * tf.get_variable("deeper", [1], initializer=tf.ones_initializer())
    score = tf.squeeze(dense(features) @ weights, 1) + tf.gather(table, place)
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"score": score}
        if params.get("root"):
            predictions["root"] = tf.sqrt(features["x"])
        if params.get("inverse"):
            predictions["inverse"] = tf.stack([score, 1.0 / features["x"]], 1)
        if params.get("echo"):
            predictions["word"] = tf.reduce_join(tf.sparse.to_dense(features["words"], ""), 1)
        if params.get("average"):
            predictions["average"] = tf.reduce_mean(score)
        return tf.estimator.EstimatorSpec(mode, predictions)
    loss = tf.losses.mean_squared_error(labels, score)
    train_op = tf.train.GradientDescentOptimizer(0.01).minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def number_in_text(features):
    """`x` out of text, as a trainer does that reads everything as strings."""
    return {**features, "x": tf.strings.to_number(features["amount"])}


def raw_pixels(features):
    """`pixels` out of raw bytes of float32."""
    pixels = tf.ensure_shape(tf.io.decode_raw(features["raw"], tf.float32), [None, 4])
    return {**features, "pixels": tf.reshape(pixels, [-1, 2, 2])}


def raw_pixels_unchecked(features):
    """The same, as most people write it: twice as many bytes are two rows."""
    return {**features, "pixels": tf.reshape(tf.io.decode_raw(features["raw"], tf.float32), [-1, 2, 2])}


def sum_of_json(features):
    """`x` out of a tf.Example inside the tf.Example."""
    inner = tf.io.parse_example(features["inner"], {"x": tf.io.FixedLenFeature([], tf.float32)})
    return {**features, "x": inner["x"]}
