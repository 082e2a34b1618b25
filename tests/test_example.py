"""The digits example: it trains, its shards are scored, and the scores are as accurate as the trained model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

from examples.digits import accuracy, data, train
from examples.digits.model import build_estimator

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "digits.yaml"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    train.train(folder)
    return folder


def test_trainer_leaves_a_model_that_is_good_and_an_evaluation_of_it(work: Path) -> None:
    evaluation = json.loads((work / "evaluation.json").read_text())

    assert evaluation["accuracy"] > 0.97
    assert evaluation["checkpoint"] == "model.ckpt-1500"
    assert (work / "model" / "model.ckpt-1500.index").is_file()
    assert list((work / "model" / "eval").glob("events.out.tfevents.*"))


def test_shards_hold_the_held_out_images_without_their_labels(work: Path) -> None:
    shards = sorted((work / "shards").iterdir())
    records = [
        tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(list(map(str, shards)))
    ]
    training, held_out = data.load_images()

    assert [shard.name for shard in shards] == [f"digits-{n:05d}-of-00008.tfrecord" for n in range(8)]
    assert {frozenset(record.features.feature) for record in records} == {frozenset(("image_id", "input_tensor"))}
    ids = [record.features.feature["image_id"].int64_list.value[0] for record in records]
    assert ids == held_out.ids.tolist()
    assert not set(ids) & set(training.ids.tolist())
    pixels = [record.features.feature["input_tensor"].float_list.value for record in records]
    np.testing.assert_array_equal(np.reshape(pixels, (-1, 8, 8)), held_out.pixels)


def test_job_file_has_the_parameters_that_the_trainer_uses() -> None:
    assert yaml.safe_load(CONFIG.read_text())["model"]["params"] == train.PARAMS


def test_job_file_opens_with_the_commands_that_run_it() -> None:
    opening = re.match(r"(#.*\n)+", CONFIG.read_text())

    assert opening
    assert "python -m pipeline score --config configs/digits.yaml" in opening[0]


def test_scores_are_those_of_the_trained_model(work: Path) -> None:
    from pipeline.commands import main

    settings = {
        "input.pattern": work / "shards" / "*.tfrecord",
        "model.model_dir": work / "model",
        "output.path": work / "predictions",
    }
    options = [option for key, value in settings.items() for option in ("--set", f"{key}={value}")]
    assert main(["score", "--config", str(CONFIG), *options]) == 0

    manifest = json.loads((work / "predictions" / "_manifest.json").read_text())
    assert manifest["record"]["state"] == "verified"
    evaluation = json.loads((work / "evaluation.json").read_text())
    right, images = accuracy.scored_accuracy(work / "predictions", work / "labels.csv")
    assert images == evaluation["images"] == 450
    assert right / images == pytest.approx(evaluation["accuracy"], abs=1e-6)

    _, held_out = data.load_images()
    estimator = build_estimator(str(work / "model"), train.PARAMS)
    predictions = list(estimator.predict(lambda: data.input_fn(held_out, batch_size=256)))
    table = pq.read_table(sorted((work / "predictions").glob("part-*.parquet")))
    assert table.column("image_id").to_pylist() == held_out.ids.tolist()
    assert table.column("classes").to_pylist() == [row["classes"] for row in predictions]
    probabilities = np.array(table.column("probabilities").to_pylist())
    np.testing.assert_allclose(probabilities, [row["probabilities"] for row in predictions], atol=1e-5)


def write_scores(folder: Path, scores: list[tuple[int, int]], labels: list[tuple[int, int]]) -> tuple[Path, Path]:
    predictions, label_file = folder / "predictions", folder / "labels.csv"
    predictions.mkdir()
    ids, classes = zip(*scores, strict=True)
    pq.write_table(pa.table({"image_id": ids, "classes": classes}), predictions / "part-00000-of-00001.parquet")
    label_file.write_text("image_id,label\n" + "".join(f"{image},{label}\n" for image, label in labels))
    return predictions, label_file


@pytest.mark.parametrize(
    ("scores", "right"),
    [
        pytest.param([(7, 1), (8, 2), (9, 3)], 3, id="all right"),
        pytest.param([(9, 3), (7, 1), (8, 2)], 3, id="another order"),
        pytest.param([(7, 2), (8, 1), (9, 3)], 1, id="two swapped"),
        pytest.param([(7, 1), (9, 3)], 2, id="one missing"),
    ],
)
def test_accuracy_joins_by_image(tmp_path: Path, scores: list[tuple[int, int]], right: int) -> None:
    assert accuracy.scored_accuracy(*write_scores(tmp_path, scores, [(7, 1), (8, 2), (9, 3)])) == (right, 3)


@pytest.mark.parametrize(
    "scores", [pytest.param([(7, 1), (7, 1)], id="scored twice"), pytest.param([(7, 1), (10, 1)], id="no label")]
)
def test_accuracy_refuses_scores_of_other_images(tmp_path: Path, scores: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="does not hold each image"):
        accuracy.scored_accuracy(*write_scores(tmp_path, scores, [(7, 1), (8, 2)]))
