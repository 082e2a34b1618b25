"""Each kind of skew between a record and a job is refused with its own message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import yaml
from record_job import (
    VERIFIED,
    Check,
    add_word,
    change_sample,
    change_word,
    drop_word,
    other_mean,
    permute_words,
    record_zoo,
    save_job,
    write_job,
    zoo_job,
)
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2
from transform_job import DATA, trained_job
from zoo import KINDS, Kind

import transforms


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (add_word, "assets/words.txt has 5 lines, 1 more than in training. Name the"),
        (drop_word, "assets/words.txt has 3 lines, 1 less than in training. Name the"),
        (permute_words, "assets/words.txt has the lines of training in another order. Name the"),
        (change_word, "assets/words.txt has other lines. Name the"),
        (other_mean, "variables/variables.data-00000-of-00001 has other values, such as another mean"),
    ],
)
def test_another_transform_is_refused(
    change: Callable[[Path], None], difference: str, recorded: Path, check: Check
) -> None:
    before = transforms.load(str(recorded / "transform")).fingerprint
    change(recorded)
    after = transforms.load(str(recorded / "transform")).fingerprint

    message = check.refusal(write_job(recorded))
    assert "the model was trained with the transform" in message
    assert before in message
    assert after in message
    assert difference in message
    assert "Name the transform of training under transform" in message
    assert not any(word in message for word in ("cow", "dog", "elk", "owl"))  # none is in a hex digest


def test_another_constant_of_the_graph_is_refused(tmp_path: Path, check: Check) -> None:
    shutil.copyfile(DATA / "models" / "rows.tfrecord", tmp_path / "rows-0.tfrecord")
    job = trained_job(tmp_path)
    assert check.state(job).startswith("verified")
    edit_graph(tmp_path / "transform" / "transform_fn", move_a_mean)

    message = check.refusal(job)

    assert ": saved_model.pb has another graph, or another mean, range or other constant in it. Name the" in message


def move_a_mean(graph: graph_pb2.GraphDef) -> None:
    """TensorFlow Transform keeps means and variances as constants beside its function."""
    scalars = [
        node.attr["value"].tensor
        for node in graph.node
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum
    ]
    assert scalars
    for tensor in scalars:
        tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(tensor) + 1))


def edit_graph(folder: Path, edit: Callable[[graph_pb2.GraphDef], None]) -> None:
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    edit(saved_model.meta_graphs[0].graph_def)
    (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString())


def remove_an_operation(graph: graph_pb2.GraphDef) -> None:
    nodes = [node for function in graph.library.function for node in function.node_def]
    next(node for node in nodes if node.op == "LookupTableFindV2").op = "LookupTableFindV9"


def test_transform_too_old_for_this_tensorflow_is_refused(recorded: Path, check: Check) -> None:
    edit_graph(recorded / "transform", remove_an_operation)
    message = check.refusal(write_job(recorded))
    assert f"was made with TensorFlow {tf.__version__} and has operations that TensorFlow" in message
    assert "does not know: LookupTableFindV9. Make it again with this TensorFlow" in message


def test_moved_folder_whose_assets_are_missing_is_refused(recorded: Path, check: Check) -> None:
    (recorded / "transform" / "assets" / "words.txt").unlink()
    message = check.refusal(write_job(recorded))
    assert f"lacks words.txt in {recorded / 'transform'}/assets; copy the whole folder" in message


def test_older_record_without_files_is_compared_all_the_same(recorded: Path, check: Check) -> None:
    path = recorded / "model" / "record" / "transform.json"
    known = json.loads(path.read_text())
    del known["transform"]["files"]
    path.write_text(json.dumps(known))
    assert check.state(write_job(recorded)) == VERIFIED
    add_word(recorded)
    assert "would not be those of training. Name the transform" in check.refusal(write_job(recorded))


def test_transform_that_training_did_not_have_is_refused(recorded: Path, check: Check) -> None:
    (recorded / "model" / "record" / "transform.json").write_text('{"format_version": 1, "transform": null}')
    assert "trained with no transform, and the job has the transform" in check.refusal(write_job(recorded))


def test_transform_that_the_job_lacks_is_refused(recorded: Path, check: Check) -> None:
    job = yaml.safe_load(write_job(recorded).read_text())
    job["features"] = {"amount": {"dtype": "float32"}, "word": {"dtype": "string"}}
    del job["transform"]
    assert "and the job has no transform" in check.refusal(save_job(recorded, job))


def test_sample_that_no_longer_replays_is_refused_with_a_table(recorded: Path, check: Check) -> None:
    (path,) = (recorded / "model" / "record").glob("*.arrow")
    then = pa.ipc.open_file(path).read_all()["prediction:probabilities"].to_pylist()
    now = f"{np.float32(then[7][1]):.8g}"
    then[7][1] += 0.25
    then[70][0] += 0.125
    change_sample(recorded, "prediction:probabilities", then)

    message = check.refusal(write_job(recorded))
    assert "the recorded sample of checkpoint model.ckpt-20 no longer replays: 2 of 200 rows" in message
    lines = [line.split() for line in message.splitlines()]
    assert ["row", "key", "then", "now"] in lines
    assert ["7", "probabilities[1]", f"{np.float32(then[7][1]):.8g}", now] in lines
    assert any(line[:2] == ["70", "probabilities[0]"] for line in lines)
    assert "python -m pipeline record --config" in message


def test_answers_that_differ_are_refused(recorded: Path, check: Check) -> None:
    (path,) = (recorded / "model" / "record").glob("*.arrow")
    answers = pa.ipc.open_file(path).read_all()["prediction:answer"].to_pylist()
    now, answers[3] = answers[3], b"maybe"
    change_sample(recorded, "prediction:answer", answers)
    lines = [line.split() for line in check.refusal(write_job(recorded)).splitlines()]
    assert ["3", "answer", "b'maybe'", str(now)] in lines


def test_damaged_record_is_refused(recorded: Path, check: Check) -> None:
    (path,) = (recorded / "model" / "record").glob("*.arrow")
    path.write_bytes(path.read_bytes()[:-100])
    assert "is damaged" in check.refusal(write_job(recorded))


def other_order(job: dict[str, Any]) -> None:
    job["model"]["features"] = ["alpha", "gamma", "delta", "beta"]


def rename(job: dict[str, Any]) -> None:
    job["features"]["zeta"] = job["features"].pop("beta")
    job["model"]["features"][3] = "zeta"
    job["input"]["rename"] = {"zeta": "beta"}


def drop(job: dict[str, Any]) -> None:
    job["model"]["features"].remove("beta")


def add(job: dict[str, Any]) -> None:
    job["features"]["zeta"] = job["features"]["beta"]


def other_dtype(job: dict[str, Any]) -> None:
    job["features"]["beta"]["dtype"] = "int64"


def other_rank(job: dict[str, Any]) -> None:
    job["features"]["beta"]["shape"] = []


def bare(job: dict[str, Any]) -> None:
    job["model"]["features"] = "beta"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            other_order,
            "features reach the model in another order than in training: 'alpha', 'gamma', 'delta', 'beta', where training "
            "had 'gamma', 'alpha', 'delta', 'beta'; a model that stacks them mixes them up. Write model.features: "
            "[gamma, alpha, delta, beta]",
        ),
        (rename, "of training is called 'zeta' in the job"),
        (drop, "training had the feature of the model 'beta', which the job drops"),
        (add, "the job has the raw feature 'zeta', which training did not have"),
        (other_dtype, "'beta' was dense float32 of rank 2 in training, and is dense int64 of rank 2 in the job"),
        (other_rank, "'beta' was dense float32 of rank 2 in training, and is dense float32 of rank 1 in the job"),
        (bare, "training gave the model a dict, the job gives it one bare tensor"),
    ],
)
def test_other_features_are_refused(
    change: Callable[[dict[str, Any]], None],
    message: str,
    model_dir_of: Callable[[Kind], str],
    tmp_path: Path,
    check: Check,
) -> None:
    kind = KINDS["stacked_order"]
    record_zoo(tmp_path, kind, model_dir_of(kind))
    job = zoo_job(tmp_path, kind, model_dir_of(kind))
    change(job)
    assert message in check.refusal(save_job(tmp_path, job))


def test_another_default_is_found_by_the_replay(
    model_dir_of: Callable[[Kind], str], tmp_path: Path, check: Check
) -> None:
    kind = KINDS["every_trap"]
    record_zoo(tmp_path, kind, model_dir_of(kind))
    job = zoo_job(tmp_path, kind, model_dir_of(kind))
    job["features"]["level"]["default"] = 0.5
    assert "no longer replays" in check.refusal(save_job(tmp_path, job))
