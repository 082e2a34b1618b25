"""Which checkpoint is chosen, and what is refused."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import numpy as np
import pytest
import tensorflow as tf

from pipeline.checkpoint import Best, resolve
from pipeline.errors import ModelError

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)


def input_fn():
    return tf.data.Dataset.from_tensors(({"x": np.ones((4, 2), "float32")}, np.ones((4, 1), "float32"))).repeat()


def model_fn(features, labels, mode):
    scores = tf1.layers.dense(features["x"], 1)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"score": scores})
    loss = tf1.losses.mean_squared_error(labels, scores)
    train_op = tf1.train.GradientDescentOptimizer(0.01).minimize(loss, tf1.train.get_global_step())
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=train_op, eval_metric_ops={"mae": tf1.metrics.mean_absolute_error(labels, scores)}
    )


def serving_input_fn():
    features = {"x": tf1.placeholder(tf.float32, (None, 2))}
    return tf.estimator.export.ServingInputReceiver(features, features)


@pytest.fixture(scope="module")
def trained_dir(tmp_path_factory):
    """Checkpoints of steps 0, 1 and 2, each evaluated, and the last one exported."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    config = tf.estimator.RunConfig(str(folder), save_checkpoints_steps=1)
    estimator = tf.estimator.Estimator(model_fn, config=config)
    estimator.train(input_fn, max_steps=2)
    for step in (0, 1, 2):
        estimator.evaluate(input_fn, steps=1, checkpoint_path=str(folder / f"model.ckpt-{step}"))
    estimator.export_saved_model(str(folder.parent / "export"), serving_input_fn)
    return folder


@pytest.fixture
def model_dir(trained_dir, tmp_path):
    """A copy, so that every test may damage it."""
    return Path(shutil.copytree(trained_dir, tmp_path / "model"))


def refusal(model_dir, choice="latest"):
    with pytest.raises(ModelError) as raised:
        resolve(str(model_dir), choice)
    return str(raised.value)


def test_latest(model_dir):
    found = resolve(str(model_dir))
    assert found.path == tf.train.latest_checkpoint(str(model_dir)) == str(model_dir / "model.ckpt-2")
    assert found.step == 2
    assert found.note == ""


def test_latest_of_a_state_file_with_paths_of_another_machine(model_dir):
    (model_dir / "checkpoint").write_text('model_checkpoint_path: "/home/trainer/run 7/model.ckpt-1"\n')
    assert resolve(str(model_dir)).path == str(model_dir / "model.ckpt-1")


def test_latest_of_a_state_file_that_names_another_folder(model_dir, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "checkpoint").write_text(f'model_checkpoint_path: "{model_dir}/model.ckpt-1"\n')
    assert resolve(str(other)).path == str(model_dir / "model.ckpt-1")


def test_no_state_file_is_refused(model_dir):
    (model_dir / "checkpoint").unlink()
    message = refusal(model_dir)
    assert f"Could not find trained model in model_dir: {model_dir} has no file 'checkpoint'" in message
    assert "there are steps 0, 1, 2" in message
    assert "model.checkpoint: 2" in message


def test_an_empty_model_dir_is_refused(tmp_path):
    message = refusal(tmp_path)
    assert "Could not find trained model in model_dir" in message
    assert "it holds no checkpoint at all" in message


@pytest.mark.parametrize("choice", ["latest", 3, Best("loss", "min")], ids=["latest", "step", "best"])
def test_a_missing_model_dir_is_refused(tmp_path, choice):
    assert refusal(tmp_path / "none", choice) == f"model_dir {tmp_path}/none does not exist: correct model.model_dir"
    with pytest.raises(ModelError, match=r"set model\.model_dir"):
        resolve(None, choice)


def test_a_state_file_that_names_a_deleted_checkpoint_is_refused(model_dir):
    """Here `Estimator.predict` takes random weights."""
    for file in model_dir.glob("model.ckpt-2.*"):
        file.unlink()
    message = refusal(model_dir)
    assert "names 'model.ckpt-2', which is neither there nor in" in message
    assert "there are steps 0, 1" in message


@pytest.mark.parametrize("text", ["model_checkpoint_path: ", "\0\1", "no_such_field: 1"])
def test_a_damaged_state_file_is_refused(model_dir, text):
    (model_dir / "checkpoint").write_text(text)
    assert f"{model_dir}/checkpoint is damaged" in refusal(model_dir)


def test_an_empty_state_file_is_refused(model_dir):
    (model_dir / "checkpoint").write_text("")
    assert "names no checkpoint" in refusal(model_dir).replace("'", "")


def test_a_step_that_is_not_there_is_refused(model_dir):
    message = refusal(model_dir, 7)
    assert f"there is no checkpoint of step 7 in {model_dir}; there are steps 0, 1, 2" in message


def copy_checkpoint(model_dir, name):
    for file in model_dir.glob("model.ckpt-1.*"):
        shutil.copy(file, model_dir / file.name.replace("model.ckpt-1", name))


def test_step(model_dir):
    assert resolve(str(model_dir), 1).path == str(model_dir / "model.ckpt-1")
    copy_checkpoint(model_dir, "best-1")
    assert resolve(str(model_dir), 1).path == str(model_dir / "model.ckpt-1")
    copy_checkpoint(model_dir, "best-5")
    copy_checkpoint(model_dir, "last-5")
    assert "several checkpoints" in refusal(model_dir, 5)
    assert "best-5, last-5; set model.checkpoint to a path" in refusal(model_dir, 5)


@pytest.mark.parametrize("ending", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_path(model_dir, ending):
    found = resolve(None, f"{model_dir}/model.ckpt-1{ending}")
    assert (found.path, found.step) == (str(model_dir / "model.ckpt-1"), 1)


def test_path_of_a_folder_with_a_state_file(model_dir):
    assert resolve(None, str(model_dir)).step == 2


def test_path_in_the_model_dir(model_dir):
    assert resolve(str(model_dir), "model.ckpt-1").path == str(model_dir / "model.ckpt-1")


def test_relative_path_becomes_absolute(model_dir, monkeypatch):
    monkeypatch.chdir(model_dir)
    assert resolve(None, "model.ckpt-1").path == str(model_dir / "model.ckpt-1")


@pytest.mark.parametrize("inside", ["", "variables", "variables/variables", "variables/variables.index"])
def test_path_of_an_exported_model(trained_dir, inside):
    (export,) = (trained_dir.parent / "export").iterdir()
    found = resolve(None, str(export / inside))
    assert found.path == str(export / "variables" / "variables")
    assert found.step == 2, "the tensor global_step tells"


def test_path_without_a_checkpoint_is_refused(model_dir):
    message = refusal(model_dir, f"{model_dir}/model.ckpt-9")
    assert f"there is no checkpoint at {model_dir}/model.ckpt-9; there are steps 0, 1, 2" in message


def test_path_in_a_folder_with_glob_characters(model_dir, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "run [1]*")
    assert resolve(str(folder)).path == f"{folder}/model.ckpt-2"


def test_no_step_in_name_or_tensors(tmp_path):
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("a", (4,))
        session.run(tf1.global_variables_initializer())
        path = tf1.train.Saver().save(session, str(tmp_path / "weights"))
    assert resolve(None, path).step is None


def test_index_missing(model_dir):
    (model_dir / "model.ckpt-2.index").unlink()
    message = refusal(model_dir)
    assert f"checkpoint {model_dir}/model.ckpt-2 is incomplete: model.ckpt-2.index is missing" in message
    assert "Training was stopped while it saved, or a copy is unfinished" in message
    assert "there are steps 0, 1" in message


def test_data_file_missing(model_dir):
    (model_dir / "model.ckpt-2.data-00000-of-00001").unlink()
    assert re.search(r"model.ckpt-2.data-00000-of-00001 is missing, \d+ bytes are needed", refusal(model_dir))


def test_data_file_cut_short(model_dir):
    data = model_dir / "model.ckpt-2.data-00000-of-00001"
    size = data.stat().st_size
    os.truncate(data, size - 1)
    assert f"{data.name} has {size - 1} bytes, {size} are needed" in refusal(model_dir)


def test_index_damaged(model_dir):
    os.truncate(model_dir / "model.ckpt-2.index", 100)
    assert f"{model_dir}/model.ckpt-2.index is damaged" in refusal(model_dir)


def test_checkpoint_of_version_1(tmp_path):
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("a", (4,))
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver(write_version=tf1.train.SaverDef.V1)
        path = saver.save(session, str(tmp_path / "model.ckpt"), 3)
    for choice in ("latest", path):
        assert "is a checkpoint of version 1 (one file, no .index)" in refusal(tmp_path, choice)


def test_digest_and_files(model_dir, tmp_path):
    found = resolve(str(model_dir))
    index = (model_dir / "model.ckpt-2.index").read_bytes()
    size = (model_dir / "model.ckpt-2.data-00000-of-00001").stat().st_size
    assert found.files == (("model.ckpt-2.index", len(index)), ("model.ckpt-2.data-00000-of-00001", size))
    assert re.fullmatch("[0-9a-f]{64}", found.digest)
    assert found.digest != hashlib.sha256(index).hexdigest()
    assert resolve(str(shutil.copytree(model_dir, tmp_path / "moved"))).digest == found.digest
    assert resolve(str(model_dir), 1).digest != found.digest


def test_digest_changes_with_the_last_bit_of_a_weight(tmp_path):
    digests = set()
    for number, weight in enumerate([np.float32(1), np.nextafter(np.float32(1), np.float32(2)), np.float32(1)]):
        (tmp_path / str(number)).mkdir()
        with tf.Graph().as_default(), tf1.Session() as session:
            tf1.get_variable("a", initializer=weight)
            session.run(tf1.global_variables_initializer())
            digests.add(resolve(None, tf1.train.Saver().save(session, str(tmp_path / str(number) / "model"))).digest)
    assert len(digests) == 2


def write_evaluation(folder, values, metric="auc", as_tensor=False):
    """An event file of evaluations, values by step."""
    writer = tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{len(list(folder.iterdir()))}.host"))
    with writer:
        for step, value in values:
            summary = tf1.Summary()
            if as_tensor:
                summary.value.add(tag=metric, tensor=tf.make_tensor_proto(value))
            else:
                summary.value.add(tag=metric, simple_value=value)
            summary.value.add(tag="checkpoint_path", tensor=tf.make_tensor_proto("model.ckpt"))
            writer.write(tf1.Event(step=step, summary=summary).SerializeToString())


@pytest.fixture
def evaluated(model_dir):
    shutil.rmtree(model_dir / "eval")
    (model_dir / "eval").mkdir()
    return model_dir


def test_best_of_real_evaluations(model_dir):
    """Each step of this training brings the one weight nearer to the label."""
    assert resolve(str(model_dir), Best("mae", "min")).step == 2
    assert resolve(str(model_dir), Best("loss", "max")).step == 0


@pytest.mark.parametrize("as_tensor", [False, True], ids=["simple value", "tensor"])
@pytest.mark.parametrize(
    ("values", "mode", "step"),
    [
        ([(0, 0.1), (1, 0.9), (2, 0.5)], "max", 1),
        ([(0, 0.1), (1, 0.9), (2, 0.5)], "min", 0),
        ([(0, 0.5), (1, 0.5), (2, 0.1)], "max", 1),
        ([(0, 0.5), (1, 0.5), (2, 0.9)], "min", 1),
        ([(0, 0.5), (1, float("nan")), (2, 0.1)], "max", 0),
        ([(0, float("nan")), (1, 0.9), (2, 0.5)], "min", 2),
        ([(1, 0.9), (2, 0.5), (1, 0.1)], "max", 2),
    ],
    ids=["max", "min", "tie, max", "tie, min", "nan, max", "nan, min", "evaluated again"],
)
def test_best(evaluated, as_tensor, values, mode, step):
    write_evaluation(evaluated / "eval", values, as_tensor=as_tensor)
    found = resolve(str(evaluated), Best("auc", mode))
    assert found.step == step
    assert found.note == ""


def test_best_was_deleted(evaluated):
    write_evaluation(evaluated / "eval", [(1, 0.75), (2, 0.5), (700, 0.875)])
    found = resolve(str(evaluated), Best("auc", "max"))
    assert found.step == 1
    assert found.note == (
        "the best auc (0.875) was that of step 700, whose checkpoint is gone; step 1 (0.75) is the best of those that are left"
    )


def test_all_evaluated_were_deleted(evaluated):
    write_evaluation(evaluated / "eval", [(700, 0.9), (800, 0.5)])
    message = refusal(evaluated, Best("auc", "max"))
    assert "no checkpoint that 'auc' was evaluated for (steps 700, 800) is left" in message
    assert "there are steps 0, 1, 2" in message


def test_unknown_metric(evaluated):
    write_evaluation(evaluated / "eval", [(1, 0.9)])
    write_evaluation(evaluated / "eval", [(1, 0.9)], metric="loss")
    assert refusal(evaluated, Best("AUC", "max")).endswith("no evaluation has a metric 'AUC'; there are: auc, loss")


def test_no_evaluations(evaluated):
    assert "there are no evaluations in" in refusal(evaluated, Best("auc", "max"))


def test_only_nan(evaluated):
    write_evaluation(evaluated / "eval", [(1, float("nan"))])
    assert "every value of 'auc' is NaN" in refusal(evaluated, Best("auc", "max"))


def test_two_evaluations_with_one_metric(evaluated):
    (evaluated / "eval_train").mkdir()
    write_evaluation(evaluated / "eval", [(1, 0.9), (2, 0.5)])
    write_evaluation(evaluated / "eval_train", [(1, 0.5), (2, 0.9)])
    assert "name one of eval/auc, eval_train/auc" in refusal(evaluated, Best("auc", "max"))
    assert resolve(str(evaluated), Best("eval/auc", "max")).step == 1
    assert resolve(str(evaluated), Best("eval_train/auc", "max")).step == 2


def test_an_evaluation_that_was_cut_short(evaluated):
    write_evaluation(evaluated / "eval", [(1, 0.9), (2, 0.95)])
    (file,) = (evaluated / "eval").iterdir()
    os.truncate(file, file.stat().st_size - 3)
    assert resolve(str(evaluated), Best("auc", "max")).step == 1


def test_a_damaged_event_file(evaluated):
    with tf.io.TFRecordWriter(str(evaluated / "eval" / "events.out.tfevents.1.host")) as writer:
        writer.write(b"\xff\xff\xff")
    assert "events.out.tfevents.1.host is damaged" in refusal(evaluated, Best("auc", "max"))
