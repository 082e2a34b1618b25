"""Makes the saved transforms beside it; they are checked in, so this runs only to change them.

    cd tests/data && python make_transforms.py

Runs where tensorflow-transform is installed (made with 1.21.0 on TensorFlow 2.21). It fits one preprocessing function
over 20 rows, and writes

    taxi_tft/          a TensorFlow Transform output folder in the current format (tag `serve`)
    taxi_tft_v1/       the same in the format of TensorFlow 1 (tag `transform`), still common on disk
    taxi_tft.json      the raw rows, and what tensorflow-transform's own loader makes of them through each folder

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
    rows = make_rows()
    for older, path in ((False, "taxi_tft"), (True, "taxi_tft_v1")):
        shutil.rmtree(path, ignore_errors=True)
        fit(rows, path, older)
    # Words that no row of the fit has have to land in the out-of-vocabulary buckets.
    unseen = [dict(rows[3], company="Nobody", words=["night", "never seen"]), dict(rows[4], company="", miles=-2.5)]
    rows = rows[:18] + unseen
    expected = {path: apply(rows, path) for path in ("taxi_tft", "taxi_tft_v1")}
    Path("taxi_tft.json").write_text(json.dumps({"rows": rows, **expected}, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    main()
