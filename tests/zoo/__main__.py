"""Prepare a kind in a process of its own: train it, write shards of rows, and keep what its Estimator predicts.

    python -m zoo KIND FOLDER SHARDS BATCH

leaves FOLDER/model, FOLDER/rows-*.tfrecord, FOLDER/kind.json (the sections `features` and `model` of its job file) and
FOLDER/reference.npz.
"""

import json
import sys
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import zoo_data

from zoo import KINDS


def main(name: str, folder: str, shards: str, batch: str) -> None:
    kind, path = KINDS[name], Path(folder)
    rows = zoo_data.split(zoo_data.make_rows(kind), int(shards))
    zoo_data.write_shards(path, rows, kind.spec)
    kind.train(str(path / "model"))
    np.savez(path / "reference.npz", **kind.predict(str(path / "model"), rows, int(batch)))
    sections = {"features": kind.spec, "model": kind.module.model_section()}
    (path / "kind.json").write_text(json.dumps(sections), encoding="utf-8")


main(*sys.argv[1:])
