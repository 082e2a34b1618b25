"""Accuracy and AUC of the scored trips, which have to be those that the trainer's Estimator.evaluate gave:

python -m examples.tabular.evaluate --work work/tabular
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  tf.keras is the Keras of tf.estimator then

import pyarrow.parquet as pq
import tensorflow as tf

from pipeline.quiet import quiet_libraries

TOLERANCE = 1e-6


def scored_metrics(predictions: Path) -> dict[str, Any]:
    """Accuracy, AUC (of 200 thresholds, as the canned Estimator has it) and number of the scored trips."""
    columns = ["trip_id", "tipped", "score", "predicted"]
    table = pq.read_table(sorted(predictions.glob("part-*.parquet")), columns=columns)
    tipped, predicted = table["tipped"].to_numpy(), table["predicted"].to_numpy()
    auc = tf.keras.metrics.AUC()
    auc.update_state(tipped, table["score"].to_numpy())
    return {
        "accuracy": float((tipped == predicted).mean()),
        "auc": float(auc.result()),
        "trips": len(table["trip_id"].unique()),
    }


def main() -> int:
    """Print both; 1 when they differ."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description="Compare the scored trips with the trainer's evaluation.")
    parser.add_argument("--work", type=Path, default=Path("work/tabular"), help="folder that the trainer wrote")
    work = parser.parse_args().work
    scored = scored_metrics(work / "predictions")
    evaluated = json.loads((work / "evaluation.json").read_text())
    for metric in ("accuracy", "auc", "trips"):
        print(f"{metric:<12}{scored[metric]:<12.8g}of the scores; {evaluated[metric]:.8g} of the trained model")
    agree = all(abs(scored[metric] - evaluated[metric]) <= TOLERANCE for metric in ("accuracy", "auc", "trips"))
    if not agree:
        print("The scores are not those of the trained model.", file=sys.stderr)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
