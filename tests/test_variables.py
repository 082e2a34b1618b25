"""Checkpoints of really trained Estimators against PREDICT graphs: the right refusals, and no false ones."""

from __future__ import annotations

import re

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import pytest
import tensorflow as tf
from small_estimators import (
    OPTIMIZERS,
    PREDICT,
    TRAIN,
    by,
    check,
    custom,
    dense,
    legacy,
    refusal,
    tf1,
    train,
    trained,
    two_parts,
)


@pytest.fixture(autouse=True, scope="module")
def model_dirs(tmp_path_factory):
    """Model folders made by default go where pytest cleans up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("models")))
        yield


def recurrent(features, mode):
    cell = tf1.nn.rnn_cell.LSTMCell(4, name="cell")
    outputs, _ = tf1.nn.dynamic_rnn(cell, tf.reshape(features["x"], (-1, 3, 2)), dtype=tf.float32)
    return tf1.layers.dense(outputs[:, -1], 1)


def keras_recurrent(features, mode):
    outputs = tf.keras.layers.LSTM(4)(tf.reshape(features["x"], (-1, 3, 2)))
    return tf.keras.layers.Dense(1)(outputs)


def branching(features, mode):
    kernels = [tf1.get_variable(name, (6, 1)) for name in "ab"]
    return tf.cond(
        tf.reduce_mean(features["x"]) > 0,
        lambda: tf.matmul(features["x"], kernels[0]),
        lambda: tf.matmul(features["x"], kernels[1]),
    )


def in_function(features, mode):
    kernel = tf1.get_variable("kernel", (6, 1), use_resource=True)
    return tf.function(lambda x: tf.matmul(x, kernel))(features["x"])


def by_name_in_function(features, mode):
    """The body of the function opens the variable by its shared name; the call has no input that tells."""
    tf1.get_variable("kernel", (6, 1), use_resource=True)

    @tf.function
    def multiply(x):
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=(6, 1), shared_name="kernel")
        return tf.matmul(x, tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32))

    return multiply(features["x"]) if mode == PREDICT else tf.matmul(features["x"], tf1.trainable_variables()[0])


def table(features, mode):
    counts = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0, name="counts")
    found = counts.lookup(features["word"])[:, None]
    return tf1.layers.dense(features["x"], 1) + found


@pytest.mark.parametrize(
    "network",
    [recurrent, keras_recurrent, branching, in_function, by_name_in_function, table],
    ids=lambda f: f.__name__,
)
def test_variables_read_through_control_flow(network):
    estimator = custom(network, by(lambda: train.AdamOptimizer()))
    report = check(estimator, trained(estimator))
    assert report.read
    assert not report.allowed


def normalized(training_in_predict=False, keras_layer=False, normalize=True):
    def network(features, mode):
        training = mode == TRAIN or training_in_predict
        hidden = tf1.layers.dense(features["x"], 5, name="hidden")
        if not normalize:
            pass
        elif keras_layer:
            layer = tf.keras.layers.BatchNormalization(name="norm")
            hidden = layer(hidden, training=training)
            for update in layer.updates:
                tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, update)
        else:
            hidden = tf1.layers.batch_normalization(hidden, training=training, name="norm")
        return tf1.layers.dense(hidden, 1, name="out")

    return network


@pytest.fixture(scope="module")
def normalized_checkpoint():
    return trained(custom(normalized(), OPTIMIZERS["adam"]))


@pytest.mark.parametrize("keras_layer", [False, True], ids=["layers", "keras"])
def test_batch_norm(normalized_checkpoint, keras_layer):
    report = check(custom(normalized(keras_layer=keras_layer)), normalized_checkpoint)
    assert {"norm/moving_mean", "norm/moving_variance", "norm/gamma", "norm/beta"} <= set(report.read)


@pytest.mark.parametrize("keras_layer", [False, True], ids=["layers", "keras"])
def test_batch_norm_in_training_mode_is_refused(normalized_checkpoint, keras_layer):
    message = refusal(custom(normalized(training_in_predict=True, keras_layer=keras_layer)), normalized_checkpoint)
    assert "2 variables of the checkpoint are read by no prediction" in message
    assert "norm/moving_mean [5], in the graph, but unread" in message
    assert "pass training=False in PREDICT" in message


def test_batch_norm_left_out_is_refused(normalized_checkpoint):
    message = refusal(custom(normalized(normalize=False)), normalized_checkpoint)
    assert re.findall(r"norm/\w+ \[5\], not in the graph", message) == [
        f"norm/{name} [5], not in the graph" for name in ("beta", "gamma", "moving_mean", "moving_variance")
    ]
    assert "Adam" not in message, "slots of unread variables say nothing new"
    assert "model.allow_unused" in message


@pytest.mark.parametrize(
    ("patterns", "refused"),
    [(["norm/*"], False), (["norm/gamma", "norm/[bm]*"], False), (["norm/gamma"], True), (["other/*"], True)],
    ids=["all", "two patterns", "one of four", "none"],
)
def test_allow_unused(normalized_checkpoint, patterns, refused):
    estimator = custom(normalized(normalize=False))
    if refused:
        assert "norm/moving_mean" in refusal(estimator, normalized_checkpoint, patterns)
    else:
        report = check(estimator, normalized_checkpoint, patterns)
        assert report.allowed == ("norm/beta", "norm/gamma", "norm/moving_mean", "norm/moving_variance")


def layers(*units, scope=""):
    def network(features, mode):
        value = features["x"]
        for number, size in enumerate(units):
            value = tf1.layers.dense(value, size, tf.nn.relu, name=f"{scope}hidden_{number}")
        return tf1.layers.dense(value, 1, name=f"{scope}out")

    return network


@pytest.fixture(scope="module")
def two_layers_checkpoint():
    return trained(custom(layers(5, 5), OPTIMIZERS["adam"]))


def test_one_layer_more_is_refused(two_layers_checkpoint):
    message = refusal(custom(layers(5, 5, 5)), two_layers_checkpoint)
    assert "2 of 9 variables of the graph are missing from the checkpoint" in message
    assert "hidden_2/kernel [5, 5]" in message


def test_one_layer_fewer_is_refused(two_layers_checkpoint):
    message = refusal(custom(layers(5)), two_layers_checkpoint)
    assert "2 variables of the checkpoint are read by no prediction" in message
    assert "hidden_1/kernel [5, 5], not in the graph" in message
    assert "missing" not in message


def test_another_size_is_refused(two_layers_checkpoint):
    message = refusal(custom(layers(5, 7)), two_layers_checkpoint)
    assert "3 variables have another shape or dtype" in message
    assert "hidden_1/kernel: [5, 7] in the graph, [5, 5] in the checkpoint" in message
    assert "read by no prediction" not in message


def test_another_scope_is_refused(two_layers_checkpoint):
    message = refusal(custom(layers(5, 5, scope="tower/")), two_layers_checkpoint)
    assert "tower/hidden_0/kernel [6, 5], close to hidden_0/kernel" in message
    assert "hidden_0/kernel [6, 5], not in the graph" in message


def partitioned(features, mode):
    with tf1.variable_scope("model", partitioner=two_parts()):
        kernel = tf1.get_variable("kernel", (6, 4))
        return tf1.layers.dense(tf.matmul(features["x"], tf.convert_to_tensor(kernel)), 1)


def test_another_full_shape_of_a_partitioned_variable_is_refused():
    def wider(features, mode):
        with tf1.variable_scope("model", partitioner=two_parts()):
            kernel = tf.convert_to_tensor(tf1.get_variable("kernel", (6, 8)))
            return tf1.layers.dense(tf.matmul(features["x"], kernel)[:, :4], 1)

    message = refusal(custom(wider), trained(custom(partitioned)))
    assert "model/kernel: [6, 8] in the graph, [6, 4] in the checkpoint" in message


def test_another_dtype_is_refused(two_layers_checkpoint):
    def doubles(features, mode):
        return layers(5, 5)({"x": tf.cast(features["x"], tf.float64)}, mode)

    message = refusal(custom(doubles), two_layers_checkpoint)
    assert "hidden_0/bias: float64 in the graph, float32 in the checkpoint" in message


def test_a_layer_that_predictions_leave_out_is_refused(two_layers_checkpoint):
    def skipping(features, mode):
        layers(5, 5)(features, mode)
        with tf1.variable_scope(tf1.get_variable_scope(), reuse=True):
            return layers(5)(features, mode)

    message = refusal(custom(skipping), two_layers_checkpoint)
    assert "hidden_1/kernel [5, 5], in the graph, but unread" in message
    assert "hidden_0" not in message


def test_any_prediction_counts_as_reading():
    def model_fn(features, labels, mode):
        heads = {name: tf1.layers.dense(features["x"], 1, name=name) for name in ("first", "second")}
        if mode == PREDICT:
            return tf.estimator.EstimatorSpec(mode, heads)
        loss = tf.reduce_mean(heads["first"] ** 2 + heads["second"] ** 2)
        return tf.estimator.EstimatorSpec(mode, heads, loss, OPTIMIZERS["adam"](loss))

    estimator = tf.estimator.Estimator(model_fn)
    checkpoint = trained(estimator)
    assert len(check(estimator, checkpoint).read) == 4
    assert "second/kernel [6, 1], in the graph, but unread" in refusal(estimator, checkpoint, predictions=["first"])


def test_a_saver_with_names_of_its_own(two_layers_checkpoint):
    def scaffold():
        names = {variable.op.name.removeprefix("tower/"): variable for variable in tf1.global_variables()}
        return train.Scaffold(saver=train.Saver(names))

    assert (
        "hidden_0/kernel" in check(custom(layers(5, 5, scope="tower/"), scaffold=scaffold), two_layers_checkpoint).read
    )


def test_a_saver_that_reshapes(two_layers_checkpoint):
    def scaffold():
        return train.Scaffold(saver=train.Saver(reshape=True))

    def transposed(units):
        def network(features, mode):
            with tf1.variable_scope("hidden_0"):
                kernel = tf1.get_variable("kernel", (units, 6))
                bias = tf1.get_variable("bias", (5,))
            return layers_after(tf.matmul(features["x"], kernel, transpose_b=True)[:, :5] + bias)

        return network

    def layers_after(value):
        return tf1.layers.dense(tf1.layers.dense(value, 5, name="hidden_1"), 1, name="out")

    assert check(custom(transposed(5), scaffold=scaffold), two_layers_checkpoint).read
    message = refusal(custom(transposed(7), scaffold=scaffold), two_layers_checkpoint)
    assert "hidden_0/kernel: [7, 6] in the graph, [6, 5] in the checkpoint" in message


@pytest.mark.parametrize("partitioner", [None, two_parts], ids=["whole", "partitioned"])
def test_reference_variables(partitioner):
    """Those of TensorFlow 1, as `disable_v2_behavior` makes them."""

    def network(features, mode):
        with tf1.variable_scope("model", use_resource=False, partitioner=partitioner and partitioner()):
            kernel = tf.convert_to_tensor(tf1.get_variable("kernel", (6, 1)))
        return tf.matmul(features["x"], kernel)

    estimator = custom(network, OPTIMIZERS["adam"])
    report = check(estimator, trained(estimator))
    assert report.read == ("model/kernel",)


def test_long_lists_are_cut():
    names = [f"layer_{number:02}" for number in range(30)]

    def network(features, mode):
        return tf.matmul(features["x"], tf.add_n([tf1.get_variable(name, (6, 1)) for name in names]))

    message = refusal(custom(dense), trained(custom(network)))
    assert "30 variables of the checkpoint are read by no prediction" in message
    assert "and 20 more" in message
    assert len(message.splitlines()) < 25


def object_network():
    layers = tf.keras.layers
    return tf.keras.Sequential([layers.Input((6,), name="x"), layers.Dense(5), layers.Dense(1)])


def object_model_fn(features, labels, mode):
    """Saves by objects, the way of the guide "Training checkpoints"."""
    network = object_network()
    optimizer = legacy.Adam()
    optimizer.iterations = train.get_or_create_global_step()
    scores = network(features["x"])
    objects = tf.train.Checkpoint(step=train.get_global_step(), optimizer=optimizer, net=network)
    scaffold = train.Scaffold(saver=objects)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"score": scores}, scaffold=scaffold)
    loss = tf.reduce_mean(scores**2)
    train_op = tf.group(*optimizer.get_updates(loss, network.trainable_variables))
    return tf.estimator.EstimatorSpec(mode, {"score": scores}, loss, train_op, scaffold=scaffold)


@pytest.fixture(scope="module")
def object_checkpoint():
    return trained(tf.estimator.Estimator(object_model_fn))


def test_a_checkpoint_of_objects(object_checkpoint):
    report = check(tf.estimator.Estimator(object_model_fn), object_checkpoint)
    assert sum(name.startswith("net/") for name in report.read) == 4
    assert any(".OPTIMIZER_SLOT" in name for name in report.exempt)


def test_a_checkpoint_of_objects_for_a_graph_that_asks_by_names(object_checkpoint):
    message = refusal(custom(dense), object_checkpoint)
    assert "written by tf.train.Checkpoint or by Keras, under names of objects" in message


def test_model_to_estimator():
    network = object_network()
    network.compile(legacy.Adam(), "mse")
    estimator = tf.keras.estimator.model_to_estimator(network)
    checkpoint = trained(estimator)
    assert check(estimator, checkpoint).read
