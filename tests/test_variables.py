"""Checkpoints of really trained Estimators against PREDICT graphs: no false refusal, and the right ones."""

from __future__ import annotations

import re

import numpy as np
import pytest

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

# isort: split
import tensorflow as tf

from pipeline.checkpoint import read_bundle
from pipeline.errors import ModelError
from pipeline.optimizer_names import is_optimizer_state, is_slot
from pipeline.variables import check_variables

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)
train = tf1.train
legacy = tf.keras.optimizers.legacy
keras = tf.keras.optimizers

PREDICT = tf.estimator.ModeKeys.PREDICT
TRAIN = tf.estimator.ModeKeys.TRAIN


def input_fn():
    generator = np.random.default_rng(0)
    features = {"x": generator.normal(size=(8, 6)).astype("float32"), "word": np.array(list("abcabcab"))}
    return tf.data.Dataset.from_tensors((features, np.arange(8) % 2)).repeat()


def dense(features, mode):
    hidden = tf1.layers.dense(features["x"], 5, tf.nn.relu, name="hidden")
    return tf1.layers.dense(hidden, 1, name="out")


def make_model_fn(network=dense, minimize=None, scaffold=None):
    """A model_fn of `network(features, mode)` with the logits; `minimize(loss)` gives the train op."""

    def model_fn(features, labels, mode):
        logits = network(features, mode)
        predictions = {"score": tf.sigmoid(logits)}
        if mode == PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions, scaffold=scaffold() if scaffold else None)
        loss = tf1.losses.sigmoid_cross_entropy(tf.cast(labels[:, None], tf.float32), logits)
        train_op = (minimize or by(lambda: train.GradientDescentOptimizer(0.1)))(loss)
        with tf.control_dependencies(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)):
            return tf.estimator.EstimatorSpec(mode, predictions, loss, tf.group(train_op))

    return model_fn


def by(optimizer):
    return lambda loss: optimizer().minimize(loss, train.get_global_step())


def by_legacy_keras(optimizer):
    def minimize(loss):
        updates = optimizer().get_updates(loss, tf1.trainable_variables())
        return tf.group(*updates, tf1.assign_add(train.get_global_step(), 1))

    return minimize


def by_keras(optimizer):
    def minimize(loss):
        variables = tf1.trainable_variables()
        update = optimizer().apply_gradients(zip(tf.gradients(loss, variables), variables, strict=True))
        return tf.group(update, tf1.assign_add(train.get_global_step(), 1))

    return minimize


def trained(estimator, steps=1):
    estimator.train(input_fn, steps=steps)
    return tf.train.latest_checkpoint(estimator.model_dir)


def check(estimator, checkpoint, allow_unused=(), predictions=None):
    """Build the PREDICT graph in the order of `Estimator.predict`, check it, and restore."""
    with tf.Graph().as_default() as graph:
        train.create_global_step(graph)
        features = {"x": tf1.placeholder(tf.float32, (None, 6)), "word": tf1.placeholder(tf.string, (None,))}
        spec = estimator.model_fn(features, None, PREDICT, estimator.config)
        scaffold = spec.scaffold or train.Scaffold()
        scaffold.finalize()
        tensors = [spec.predictions[key] for key in predictions or spec.predictions]
        report = check_variables(graph, scaffold.saver, tensors, read_bundle(checkpoint), allow_unused)
        with tf1.Session() as session:
            scaffold.saver.restore(session, checkpoint)
        return report


def refusal(*args, **kwargs):
    with pytest.raises(ModelError) as raised:
        check(*args, **kwargs)
    return str(raised.value)


def custom(network=dense, minimize=None, scaffold=None, model_dir=None):
    return tf.estimator.Estimator(make_model_fn(network, minimize, scaffold), model_dir)


@pytest.fixture(autouse=True, scope="module")
def model_dirs(tmp_path_factory):
    """Model folders made by default go where pytest cleans up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("models")))
        yield


OPTIMIZERS = {
    "adam": by(lambda: train.AdamOptimizer()),
    "adagrad": by(lambda: train.AdagradOptimizer(0.1)),
    "ftrl": by(lambda: train.FtrlOptimizer(0.1)),
    "momentum": by(lambda: train.MomentumOptimizer(0.1, 0.9)),
    "rmsprop": by(lambda: train.RMSPropOptimizer(0.1, centered=True)),
    "adam with a name of its own": by(lambda: train.AdamOptimizer(name="mine")),
    "loss scale": by(lambda: tf1.mixed_precision.enable_mixed_precision_graph_rewrite(train.AdamOptimizer())),
    "legacy adam": by_legacy_keras(lambda: legacy.Adam(amsgrad=True)),
    "legacy ftrl": by_legacy_keras(lambda: legacy.Ftrl()),
    "legacy sgd": by_legacy_keras(lambda: legacy.SGD(momentum=0.9)),
    "legacy rmsprop": by_legacy_keras(lambda: legacy.RMSprop(momentum=0.9, centered=True)),
    "legacy nadam": by_legacy_keras(lambda: legacy.Nadam()),
    "keras adam": by_keras(lambda: keras.Adam(amsgrad=True)),
    "keras adafactor": by_keras(lambda: keras.Adafactor()),
}


@pytest.mark.parametrize("minimize", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_slots_need_not_be_read(minimize):
    estimator = custom(minimize=minimize)
    checkpoint = trained(estimator)
    report = check(estimator, checkpoint)
    weights = {"hidden/kernel", "hidden/bias", "out/kernel", "out/bias"}
    assert set(report.read) == weights
    assert set(report.exempt) == {name for name, _ in tf.train.list_variables(checkpoint)} - weights
    assert len(report.exempt) > 4


def columns():
    column = tf.feature_column
    words = column.categorical_column_with_hash_bucket("word", 10)
    return [words], [column.numeric_column("x", (6,)), column.embedding_column(words, 3)]


def wide_and_deep(api, **options):
    wide, deep = columns()
    return api.DNNLinearCombinedRegressor(
        linear_feature_columns=wide, dnn_feature_columns=deep, dnn_hidden_units=[5], **options
    )


def two_parts():
    return tf1.fixed_size_partitioner(2)


CANNED = {
    "dnn with batch norm": lambda: tf.estimator.DNNClassifier([5, 4], columns()[1], batch_norm=True),
    "dnn with keras adam": lambda: tf.estimator.DNNClassifier([5], columns()[1], optimizer=legacy.Adam()),
    "linear": lambda: tf.estimator.LinearClassifier(columns()[0]),
    "wide and deep": lambda: wide_and_deep(tf.estimator),
    "v1 wide and deep": lambda: wide_and_deep(tf1.estimator, input_layer_partitioner=two_parts()),
    "v1 partitioned dnn": lambda: tf1.estimator.DNNClassifier([5], columns()[1], input_layer_partitioner=two_parts()),
    "v1 partitioned linear": lambda: tf1.estimator.LinearClassifier(columns()[0], partitioner=two_parts()),
    "linear by sdca": lambda: tf.estimator.LinearClassifier(
        columns()[0], optimizer=tf.estimator.experimental.LinearSDCA("word")
    ),
}


@pytest.mark.parametrize("build", CANNED.values(), ids=CANNED)
def test_canned_estimators_pass(build):
    estimator = build()
    report = check(estimator, trained(estimator))
    assert report.read
    assert not report.allowed


def average():
    return train.ExponentialMovingAverage(0.9)


def minimize_with_average(loss):
    update = by(lambda: train.AdamOptimizer())(loss)
    with tf.control_dependencies([update]):
        return average().apply(tf1.trainable_variables())


def averaged_scaffold():
    return train.Scaffold(saver=train.Saver(average().variables_to_restore()))


def test_averages_are_read_in_place_of_raw_variables():
    estimator = custom(minimize=minimize_with_average, scaffold=averaged_scaffold)
    report = check(estimator, trained(estimator))
    assert "hidden/kernel/ExponentialMovingAverage" in report.read
    assert {"hidden/kernel", "hidden/kernel/Adam"} <= set(report.exempt)


def test_averages_need_not_be_read():
    estimator = custom(minimize=minimize_with_average)
    report = check(estimator, trained(estimator))
    assert "hidden/kernel" in report.read
    assert "hidden/kernel/ExponentialMovingAverage" in report.exempt


def partitioned(features, mode):
    with tf1.variable_scope("model", partitioner=two_parts()):
        kernel = tf1.get_variable("kernel", (6, 4))
        return tf1.layers.dense(tf.matmul(features["x"], tf.convert_to_tensor(kernel)), 1)


@pytest.mark.parametrize("optimizer", ["adam", "legacy adam", "keras adam"])
def test_partitioned_variables(optimizer):
    estimator = custom(partitioned, OPTIMIZERS[optimizer])
    assert "model/kernel" in check(estimator, trained(estimator)).read


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


KERNEL = {"dense/kernel": (6, 5)}


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("dense/kernel/Adam_1", (6, 5), True),
        ("dense/kernel/my_average", (6, 5), True),
        ("dense/kernel/part_1/Ftrl", (6, 5), True),
        ("loss/dense/kernel/Adam", (6, 5), True),
        ("training_2/Adam/dense/kernel/vhat", (6, 5), True),
        ("Adafactor/c/dense/kernel", (5,), True),
        ("Adam/dense/kernel/part_1/m", (3, 5), True),
        ("Adam/m/dense/kernel/part_0", (3, 5), True),
        ("dense/kernel_unshrunk", (6, 5), True),
        ("dense/kernel/Adam", (6, 4), False),
        ("dense/kernel", (6, 5), False),
        ("dense/kernel/part_0", (3, 5), False),
        ("Adam/dense/kernel/part_1/m", (7, 5), False),
        ("dense/kernel_1", (6, 5), False),
        ("other/dense/kernel", (6, 5), False),
        ("m/dense/kernel", (6, 5), False),
        ("encoder/dense/kernel/bottleneck", (6, 5), False),
        ("dense/kernel/block/weights", (6, 5), False),
    ],
)
def test_is_slot(name, shape, expected):
    assert is_slot(name, shape, KERNEL) is expected


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("beta1_power", (), True),
        ("dnn/head/beta2_power_1", (), True),
        ("training/Ftrl/l1_regularization_strength", (), True),
        ("optimizer/beta_1/.ATTRIBUTES/VARIABLE_VALUE", (), True),
        ("training/Adam/Variable_12", (6, 5), True),
        ("linear/ShardedMutableHashTable-1-of-1-values", (131072, 4), True),
        ("norm/beta", (5,), False),
        ("temperature", (), False),
        ("embedding/Variable", (6, 5), False),
    ],
)
def test_is_optimizer_state(name, shape, expected):
    assert is_optimizer_state(name, shape) is expected
