"""Trains the models of `old_trainer.py` on an old TensorFlow, and keeps what that very TensorFlow predicts with them.

Needs Python 3.7 and `tensorflow==1.15.5 protobuf<3.21 numpy<1.19`, or `tensorflow==2.1.4 protobuf<3.21 numpy<1.20`:

    python tests/data/old_models/make.py     # writes tests/data/old_models/tf-1.15 or tf-2.1
"""

import glob
import os
import shutil
import tempfile

import numpy as np
import old_trainer
import tensorflow as tf

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "tf-" + ".".join(tf.__version__.split(".")[:2]))
ROWS = os.path.join(HERE, "rows.tfrecord")
MODELS = {
    "wide_deep": (old_trainer.build_wide_deep, {}),
    "convolution": (old_trainer.build_convolution, {"filters": 4}),
}
CONSTANT = ("all_classes", "all_class_ids")


def write_rows():
    """The same rows for every TensorFlow: the generator of numpy with a seed."""
    random = np.random.RandomState(3)
    with tf.io.TFRecordWriter(ROWS) as writer:
        for _ in range(old_trainer.ROWS):
            label = random.randint(3)
            image = random.rand(36) * (label + 1)
            city = random.choice(["Oslo", "Bern", "Rome", "Kyiv", "Lima"]).encode()
            feature = {
                "image": tf.train.Feature(float_list=tf.train.FloatList(value=image)),
                "city": tf.train.Feature(bytes_list=tf.train.BytesList(value=[city])),
                "age": tf.train.Feature(int64_list=tf.train.Int64List(value=[20 * label + random.randint(30)])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def keep(model_dir, destination):
    """The newest checkpoint, as `model_dir` holds it."""
    os.makedirs(destination)
    newest = tf.train.latest_checkpoint(model_dir)
    for path in [os.path.join(model_dir, "checkpoint"), newest + ".index", *glob.glob(newest + ".data-*")]:
        shutil.copy(path, destination)
    with open(os.path.join(destination, "checkpoint"), "w") as state:
        state.write(f'model_checkpoint_path: "{os.path.basename(newest)}"\n')


def main():
    if not os.path.exists(ROWS):
        write_rows()
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, (build, params) in MODELS.items():
        model_dir = tempfile.mkdtemp()
        estimator = build(model_dir, params)
        estimator.train(lambda: old_trainer.input_fn(ROWS, epochs=50), steps=150)
        rows = list(estimator.predict(lambda: old_trainer.input_fn(ROWS)))
        keys = [key for key in sorted(rows[0]) if key not in CONSTANT]
        keep(model_dir, os.path.join(FOLDER, name))
        values = {key: np.array([row[key] for row in rows]) for key in keys}
        values = {key: value.astype("S") if value.dtype == object else value for key, value in values.items()}
        np.savez(os.path.join(FOLDER, name, "expected.npz"), **values)
        shutil.rmtree(model_dir)


if __name__ == "__main__":
    main()
