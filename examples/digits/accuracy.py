"""The first scored images, and the accuracy of all, which has to be that of the trained model:

python -m examples.digits.accuracy --work work/digits
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.preview import print_rows
from pipeline.quiet import quiet_libraries

ACCEPTED = 0.95


def scored_accuracy(predictions: Path, labels: Path) -> tuple[int, int]:
    """Join scores and labels by `image_id`, and count the scores that are right.

    Returns:
      How many scores are right, of how many labels. A label without its one score counts as wrong.

    Raises:
      ValueError: an image was scored twice, or there is no label for it.
    """
    with labels.open(newline="") as file:
        expected = {int(row["image_id"]): int(row["label"]) for row in csv.DictReader(file)}
    scores = pq.read_table(sorted(predictions.glob("part-*.parquet")), columns=["image_id", "classes"]).to_pydict()
    predicted = dict(zip(scores["image_id"], scores["classes"], strict=True))
    if len(predicted) != len(scores["image_id"]) or not predicted.keys() <= expected.keys():
        raise ValueError(f"{predictions} does not hold each image of {labels} once")
    return sum(predicted.get(image) == label for image, label in expected.items()), len(expected)


def main() -> int:
    """Print some rows and both accuracies; 1 when they differ, or are 95 % or less."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description="Compare the scored images with their labels.")
    parser.add_argument("--work", type=Path, default=Path("work/digits"), help="folder that the trainer wrote")
    work = parser.parse_args().work
    print_rows(str(work / "predictions"))
    right, images = scored_accuracy(work / "predictions", work / "labels.csv")
    evaluated = json.loads((work / "evaluation.json").read_text())["accuracy"]
    print(f"accuracy    {right / images:.2%} of {images} scored images right; of the trained model {evaluated:.2%}")
    agree = right == round(evaluated * images)
    if not agree:
        print("The scores are not those of the trained model.", file=sys.stderr)
    return 0 if agree and right / images > ACCEPTED else 1


if __name__ == "__main__":
    sys.exit(main())
