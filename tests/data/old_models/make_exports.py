"""Exports a model of `tf.contrib` with TensorFlow 1.15, and one of Keras with 2.1, and keeps what those predict with them.

Run as `make.py`, after it: writes tests/data/old_models/tf-1.15/exported or tf-2.1/exported.
"""

import glob
import os
import shutil
import tempfile

import make
import numpy as np
import old_trainer
import tensorflow as tf

FOLDER = os.path.join(make.FOLDER, "exported")


def contrib_model_fn(features, labels, mode, params):
    """What no TensorFlow of today can build: `tf.contrib` was dropped with 2.0."""
    contrib = tf.contrib
    table = contrib.lookup.index_table_from_file(params["vocabulary"], num_oov_buckets=1)
    city = contrib.layers.embed_sequence(table.lookup(features["city"])[:, None], 5, 3)[:, 0]
    net = contrib.layers.flatten(features["image"])
    net = contrib.layers.fully_connected(
        net, 8, normalizer_fn=contrib.layers.batch_norm, normalizer_params={"is_training": mode == "train"}
    )
    logits = contrib.layers.linear(tf.concat([net, city, tf.cast(features["age"], tf.float32)[:, None] / 50.0], 1), 3)
    predictions = {"logits": logits, "label": tf.argmax(logits, axis=1), "city": tf.strings.upper(features["city"])}
    if mode == tf.estimator.ModeKeys.PREDICT:
        outputs = {"predict": tf.estimator.export.PredictOutput(predictions)}
        return tf.estimator.EstimatorSpec(mode, predictions, export_outputs=outputs)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    train_op = contrib.layers.optimize_loss(loss, tf.train.get_global_step(), 0.02, "Adam")
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def export_contrib(folder):
    vocabulary = os.path.join(folder, "cities.txt")
    with open(vocabulary, "w") as file:
        file.write("\n".join(old_trainer.CITIES) + "\n")
    config = tf.estimator.RunConfig(os.path.join(folder, "model"), tf_random_seed=7, save_summary_steps=None)
    estimator = tf.estimator.Estimator(contrib_model_fn, config=config, params={"vocabulary": vocabulary})
    estimator.train(lambda: old_trainer.input_fn(make.ROWS, epochs=50), steps=100)
    spec = {name: feature for name, feature in old_trainer.raw_spec().items() if name != "label"}
    receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
    export = estimator.export_saved_model(os.path.join(folder, "export"), receiver)
    rows = list(estimator.predict(lambda: old_trainer.input_fn(make.ROWS)))
    return export.decode(), {key: np.array([row[key] for row in rows]) for key in rows[0]}


def export_keras(folder):
    image = tf.keras.Input((6, 6), name="image")
    net = tf.keras.layers.Flatten()(tf.keras.layers.Conv1D(4, 3, activation="relu")(image))
    model = tf.keras.Model(image, tf.keras.layers.Dense(3, name="logits")(tf.keras.layers.BatchNormalization()(net)))
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dataset = old_trainer.input_fn(make.ROWS).map(lambda features, label: (features["image"], label))
    model.fit(dataset, epochs=20, verbose=0)
    tf.saved_model.save(model, os.path.join(folder, "export"))
    return os.path.join(folder, "export"), {"logits": model.predict(dataset)}


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    folder = tempfile.mkdtemp()
    export, values = (export_contrib if tf.__version__.startswith("1.") else export_keras)(folder)
    for path in glob.glob(os.path.join(export, "**"), recursive=True):
        target = os.path.join(FOLDER, "1", os.path.relpath(path, export))
        if os.path.isfile(path):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(path, target)
    values = {key: value.astype("S") if value.dtype == object else value for key, value in values.items()}
    np.savez(os.path.join(FOLDER, "expected.npz"), **values)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
