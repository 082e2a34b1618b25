"""Shards, trained models and job files of the workloads, made by seeded generators; what is there already is kept:

    python -m benchmarks.prepare --workload images --format parquet --rows 16000 200000 1000000

WORK/images/model                    the model_dir of an Estimator, trained; for tabular a transform beside it
WORK/images/parquet-200000/          8 shards
WORK/images/parquet-1000000/         40 shards: each is a hard link to one of the 8
WORK/images/parquet-200000.yaml      the job file: python -m pipeline score --config WORK/images/parquet-200000.yaml
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.dataset import BATCH_ROWS, FORMATS, WORK, WORKLOADS, Dataset
from benchmarks.encode import encode_examples, write_tfrecord

SHARDS = 8
DISTINCT = {"images": 200_000, "tabular": 1_000_000, "text": 500_000}
"""Workload -> most rows that are generated; larger sizes repeat their shards."""
TRAINING_ROWS = 20_000
TRAINING_STEPS = 200


def prepare(dataset: Dataset) -> None:
    """Make what is missing: the model, the shards, the job file."""
    if not (dataset.home / "trained").exists():
        train(dataset)
    make_shards(dataset)
    write_job(dataset)


def make_shards(dataset: Dataset) -> None:
    """Write the shards, or link them where there are more rows than are generated.

    Raises:
      ValueError: more rows than are generated, and not a multiple.
    """
    distinct = DISTINCT[dataset.workload]
    if dataset.folder.exists():
        return
    unfinished = dataset.folder.with_name(f"{dataset.folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    if dataset.rows <= distinct:
        counts = [dataset.rows * (shard + 1) // SHARDS - dataset.rows * shard // SHARDS for shard in range(SHARDS)]
        paths = [unfinished / _name(dataset, shard, SHARDS) for shard in range(SHARDS)]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(write_shard, repeat(dataset), range(SHARDS), counts, paths))
    else:
        repeats, rest = divmod(dataset.rows, distinct)
        if rest:
            raise ValueError(
                f"{dataset.rows} rows of {dataset.workload} are no multiple of the {distinct} that are generated"
            )
        whole = Dataset(dataset.workload, dataset.format, distinct, dataset.work)
        make_shards(whole)
        for shard, path in enumerate(whole.shards * repeats):
            os.link(path, unfinished / _name(dataset, shard, SHARDS * repeats))
    unfinished.rename(dataset.folder)


def make_rows(dataset: Dataset, shard: int, count: int) -> pa.Table:
    """The rows of a shard, with ids that no other shard has; they depend on both numbers alone."""
    rows = dataset.module.make_rows(count, shard + 1)
    if pa.types.is_string(dataset.module.ID):
        ids = pa.array([f"{shard}-{value}" for value in rows["id"].to_pylist()])
    else:
        ids = pa.array(rows["id"].to_numpy() + 10_000_000 * shard)
    return rows.set_column(0, "id", ids)


def write_shard(dataset: Dataset, shard: int, count: int, path: Path) -> None:
    rows = make_rows(dataset, shard, count)
    if dataset.format == "parquet":
        pq.write_table(rows, path, row_group_size=dataset.module.ROW_GROUP)
    else:
        write_tfrecord(path, encode_examples(rows))


def _name(dataset: Dataset, shard: int, shards: int) -> str:
    return f"rows-{shard:05}-of-{shards:05}.{FORMATS[dataset.format]}"


def write_job(dataset: Dataset) -> None:
    """The job file that scores the shards."""
    module = f"workloads.{dataset.workload}"
    has_type = dataset.format == "parquet"
    raw = {"transform": {"path": str(dataset.transform)}} if dataset.transform else {"features": f"{module}:raw_spec"}
    job = {
        "name": f"{dataset.workload}-{dataset.format}",
        "code": [str(Path(__file__).parent / "workloads")],
        "input": {
            "pattern": f"{dataset.folder}/rows-*",
            "format": "parquet" if has_type else "tfrecord",
        },
        **raw,
        "model": {
            "estimator": f"{module}:build_estimator",
            "model_dir": str(dataset.model_dir),
            "require_record": True,
        },
        "batch": {"rows": BATCH_ROWS[dataset.workload]},
        "output": {
            "path": str(dataset.output),
            "passthrough": ["id"] if has_type else {"id": {"from": "id", "dtype": str(dataset.module.ID)}},
            "predictions": list(dataset.module.PREDICTIONS),
            "if_exists": "overwrite",
        },
    }
    dataset.job.write_text(yaml.safe_dump(job, sort_keys=False))


def train(dataset: Dataset) -> None:
    """Save the transform, train the Estimator on rows of its own, and record what it predicts."""
    import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

    import tensorflow as tf

    import transforms

    module, transform = dataset.module, None
    shutil.rmtree(dataset.model_dir, ignore_errors=True)
    dataset.model_dir.mkdir(parents=True)
    rows = module.make_rows(TRAINING_ROWS, 0)
    if dataset.transform:
        shutil.rmtree(dataset.transform, ignore_errors=True)
        module.save_transform(rows, dataset.transform)
        transform = transforms.load(str(dataset.transform))
    if hasattr(module, "write_vocabulary"):
        module.write_vocabulary(dataset.model_dir)
    spec = module.raw_spec()
    examples = encode_examples(rows.append_column("label", pa.array(module.labels(rows)))).to_pylist()

    def features_and_label(records: Any) -> tuple[dict[str, Any], Any]:
        features = tf.io.parse_example(records, {**spec, "label": tf.io.FixedLenFeature([], tf.int64)})
        label = features.pop("label")
        return transform(features) if transform else features, label

    def input_fn() -> Any:
        return (
            tf.data.Dataset.from_tensor_slices(examples)
            .shuffle(TRAINING_ROWS, seed=1)
            .repeat()
            .batch(256)
            .map(features_and_label)
        )

    tf.keras.utils.set_random_seed(1)
    config = tf.estimator.RunConfig(tf_random_seed=1, save_checkpoints_steps=TRAINING_STEPS)
    estimator = module.build_estimator(str(dataset.model_dir), config)
    estimator.train(input_fn, max_steps=TRAINING_STEPS)
    transforms.record(estimator, examples[:200], transform, raw_spec=spec)
    (dataset.home / "trained").write_text(json.dumps({"steps": TRAINING_STEPS}))


def main() -> None:
    parser = argparse.ArgumentParser(description="Make shards, models and job files of the workloads.")
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--rows", type=int, nargs="+", default=[16_000], metavar="N")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is made")
    known = parser.parse_args()
    for workload in known.workload:
        for file_format in known.format:
            for rows in known.rows:
                dataset = Dataset(workload, file_format, rows, known.work)
                prepare(dataset)
                print(dataset.job)


if __name__ == "__main__":
    main()
