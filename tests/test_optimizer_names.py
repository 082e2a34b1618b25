"""What an optimizer leaves in a checkpoint needs not be read: no false refusal, whichever optimizer trained."""

from __future__ import annotations

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import pytest
import tensorflow as tf
from small_estimators import OPTIMIZERS, by, check, custom, legacy, tf1, train, trained, two_parts

from pipeline.optimizer_names import is_optimizer_state, is_slot


@pytest.fixture(autouse=True, scope="module")
def model_dirs(tmp_path_factory):
    """Model folders made by default go where pytest cleans up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("models")))
        yield


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
