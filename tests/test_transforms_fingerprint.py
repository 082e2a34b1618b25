"""The fingerprint of a saved transform: the same for a copy, another for any change of what it does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  first of all

import pytest
from saved_transforms import DATA, TAXI, Scaler, both_formats, every_folder, lists, taxi, taxi_features

import tensorflow as tf  # isort: skip

import transforms


@every_folder
def test_a_copy_elsewhere_has_the_same_fingerprint_and_outputs(folder, tmp_path):
    copy = tmp_path / "other name"
    shutil.copytree(DATA / folder, copy, copy_function=shutil.copyfile)
    (copy / "transform_fn" / "fingerprint.pb").unlink(missing_ok=True)
    (copy / ".DS_Store").write_text("x")
    (copy / "transform_fn" / "assets" / ".DS_Store").write_text("x")
    (copy / "notes.txt").write_text("x")
    moved = transforms.load(f"{copy}/")
    assert moved.fingerprint == taxi(folder).fingerprint
    assert lists(moved(taxi_features())) == TAXI[folder]


def permute(folder: Path) -> None:
    vocabulary = folder / "transform_fn" / "assets" / "company"
    vocabulary.write_text("\n".join(vocabulary.read_text().splitlines()[::-1]) + "\n")


def add_word(folder: Path) -> None:
    vocabulary = folder / "transform_fn" / "assets" / "words"
    vocabulary.write_text(vocabulary.read_text() + "another\n")


def change_schema(folder: Path) -> None:
    schema = folder / "transformed_metadata" / "schema.pbtxt"
    schema.write_text(schema.read_text().replace("max: 3", "max: 4"))


@both_formats
@pytest.mark.parametrize("change", [permute, add_word, change_schema])
def test_another_content_has_another_fingerprint(folder, change, tmp_path):
    shutil.copytree(DATA / folder, tmp_path / "changed")
    change(tmp_path / "changed")
    assert transforms.load(str(tmp_path / "changed")).fingerprint != taxi(folder).fingerprint


def test_another_variable_has_another_fingerprint(scaler, tmp_path):
    changed = Scaler()
    path = str(tmp_path / "changed")
    tf.saved_model.save(changed, path)
    before = transforms.load(path).fingerprint
    graph = (tmp_path / "changed" / "saved_model.pb").read_bytes()
    changed.kernel.assign([[2.0000002]])
    tf.saved_model.save(changed, path)
    (tmp_path / "changed" / "saved_model.pb").write_bytes(graph)
    assert transforms.load(path).fingerprint != before
