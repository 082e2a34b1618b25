"""Makes the saved transforms beside it; they are checked in, so this runs only to change them.

    cd tests/data && python make_transforms.py

It fits one preprocessing function over 20 rows, and writes, where TensorFlow 2.21 and tensorflow-transform are installed
(the extra `fit`; made with 1.21.0),

    taxi_tft/          a TensorFlow Transform output folder in the current format (tag `serve`)
    taxi_tft_v1/       the same in the format of TensorFlow 1 (tag `transform`), still common on disk
    taxi_tft.json      the rows it was fitted to, others, and what tensorflow-transform's own loader makes of these
                       through each folder

and the like named `taxi_tft_2_15` where TensorFlow is 2.15, which needs an environment of its own, of Python 3.10:

    pip install tensorflow==2.15.1 tensorflow-transform==1.15.0 tfx-bsl==1.15.1 apache-beam==2.56.0 'pyarrow<11' \\
        'numpy<2' 'protobuf<5' 'setuptools<70'

All paths are relative to this directory, so that none of the machine that ran it ends up in a graph.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

RAW_SPEC = {
    "fare": tf.io.FixedLenFeature([], tf.float32),
    "miles": tf.io.FixedLenFeature([], tf.float32),
    "company": tf.io.FixedLenFeature([], tf.string),
    "words": tf.io.VarLenFeature(tf.string),
    "tips": tf.io.FixedLenFeature([], tf.float32),
}
NAME = "taxi_tft_2_15" if tf.__version__.startswith("2.15.") else "taxi_tft"
COMPANIES = ["Yellow", "Blue", "Taxi 7", "Żółta"]
WORDS = ["night", "airport", "rain", "card", "café"]


def preprocessing_fn(inputs: dict) -> dict:
    return {
        "miles": tft.scale_to_z_score(inputs["miles"]),
        "company": tft.compute_and_apply_vocabulary(inputs["company"], num_oov_buckets=2, vocab_filename="company"),
        "fare": tft.bucketize(inputs["fare"], num_buckets=4),
        "bag": tft.compute_and_apply_vocabulary(inputs["words"], num_oov_buckets=1, vocab_filename="words"),
        "tips": inputs["tips"],
    }


def make_rows() -> list[dict]:
    return [
        {
            "miles": round(0.7 * i + (i % 3), 2),
            "fare": float(3 * i % 17) + 0.25,
            "company": COMPANIES[i % 7 % 4],
            "words": [WORDS[(i + k) % 5] for k in range(i % 4)],
            "tips": float(i % 2),
        }
        for i in range(20)
    ]


def fit(rows: list[dict], path: str, older: bool) -> None:
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(RAW_SPEC))
    with tft_beam.Context(temp_dir="fit_tmp", force_tf_compat_v1=older):
        transform_fn = (rows, metadata) | tft_beam.AnalyzeDataset(preprocessing_fn)
        transform_fn | tft_beam.WriteTransformFn(path)
    shutil.rmtree("fit_tmp", ignore_errors=True)


def apply(rows: list[dict], path: str) -> dict:
    """Transformed rows, by the loader that users of tensorflow-transform train with."""
    features: dict = {name: tf.constant([row[name] for row in rows]) for name in RAW_SPEC if name != "words"}
    features["words"] = tf.RaggedTensor.from_row_lengths(
        [word for row in rows for word in row["words"]], [len(row["words"]) for row in rows]
    ).to_sparse()
    outputs = tft.TFTransformOutput(path).transform_features_layer()(features)
    lists = {}
    for name, output in outputs.items():
        if isinstance(output, tf.SparseTensor):
            lists[name] = tf.RaggedTensor.from_sparse(output).to_list()
        else:
            lists[name] = output.numpy().tolist()
    return lists


def main() -> None:
    fitted = make_rows()
    folders = {NAME: False, f"{NAME}_v1": True}
    for path, older in folders.items():
        shutil.rmtree(path, ignore_errors=True)
        fit(fitted, path, older)
    # Words that no row of the fit has have to land in the out-of-vocabulary buckets.
    words = ["night", "never seen"]
    unseen = [dict(fitted[3], company="Nobody", words=words), dict(fitted[4], company="", miles=-2.5)]
    rows = fitted[:18] + unseen
    contents = {"fitted": fitted, "rows": rows, **{path: apply(rows, path) for path in folders}}
    Path(f"{NAME}.json").write_text(json.dumps(contents, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    main()
