"""`inspect` of a checkpoint, a model_dir, a transform and other SavedModels."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  tf.estimator, before TensorFlow is imported

import numpy as np
import pytest
from inspected import DATA, ROWS, fact, pasted, section, write_csv

import tensorflow as tf  # isort: skip


from test_files import new_folder

from pipeline import files
from pipeline.errors import JobError, ModelError
from pipeline.features import Feature
from pipeline.inspect import inspect


def input_fn() -> Any:
    rows = {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)}
    return tf.data.Dataset.from_tensor_slices((rows, np.arange(8) % 2)).repeat().batch(4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DNNClassifier after 2, 4 and 6 steps, evaluated at each, of which the last two checkpoints are kept; and its export."""
    folder = tmp_path_factory.mktemp("trained")
    columns = [tf.feature_column.numeric_column("x", (3,))]
    config = tf.estimator.RunConfig(str(folder / "model"), tf_random_seed=1, keep_checkpoint_max=2)
    estimator = tf.estimator.DNNClassifier([4], columns, optimizer="Adam", config=config)
    for step in (2, 4, 6):
        estimator.train(input_fn, max_steps=step)
        estimator.evaluate(input_fn, steps=2)
    spec = tf.feature_column.make_parse_example_spec(columns)
    estimator.export_saved_model(
        str(folder / "export"), tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
    )
    return folder


@pytest.fixture
def model_dir(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "model", tmp_path / "model"))


class TestCheckpoint:
    def test_model_dir(self, trained: Path) -> None:
        folder = trained / "model"
        text = inspect(str(folder))
        assert fact(text, "latest") == "model.ckpt-6"
        sizes = [sum(file.stat().st_size for file in folder.glob(f"model.ckpt-{step}.[id]*")) for step in (4, 6)]
        assert section(text, "checkpoints") == [
            ["name", "step", "bytes", "state"],
            ["model.ckpt-4", "4", f"{sizes[0]:,}", "complete"],
            ["model.ckpt-6", "6", f"{sizes[1]:,}", "complete"],
        ]
        assert dict(section(text, "model.ckpt-6"))["step"] == "6"

    def test_variables(self, trained: Path) -> None:
        text = inspect(str(trained / "model"))
        # 3 * 4 + 4 + 4 + 1 parameters. Adam: two slots for each of four variables, and four scalars of Keras's optimizer.
        stored = dict(tf.train.list_variables(str(trained / "model")))
        optimizer = [shape for name, shape in stored.items() if not name.startswith("dnn") or name.count("/") > 2]
        optimizer.remove(stored["global_step"])
        values = sum(int(np.prod(shape)) for shape in optimizer)
        title = f"variables: 21 parameters; beside them {len(optimizer)} tensors of optimizers and averages, {values} values"
        assert len(optimizer) == 12
        assert section(text, title) == [
            ["name", "dtype", "shape"],
            ["dnn/hiddenlayer_0/bias", "float32", "[4]"],
            ["dnn/hiddenlayer_0/kernel", "float32", "[3, 4]"],
            ["dnn/logits/bias", "float32", "[1]"],
            ["dnn/logits/kernel", "float32", "[4, 1]"],
            ["global_step", "int64", "[]"],
        ]

    def test_evaluations(self, trained: Path) -> None:
        found = {row[0]: row[1:] for row in section(inspect(str(trained / "model")), "evaluations")}
        losses: dict[int, float] = {}
        for path in (trained / "model" / "eval").glob("*.tfevents.*"):
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    if value.tag == "loss":
                        losses[event.step] = value.simple_value
        assert sorted(losses) == [2, 4, 6]
        del losses[2]  # its checkpoint is gone
        best = [max(losses, key=losses.__getitem__), min(losses, key=losses.__getitem__)]
        assert found["loss"] == ["2", *(cell for step in best for cell in (str(step), f"{losses[step]:.6g}"))]
        assert "accuracy" in found

    @pytest.mark.parametrize(
        "name", ["model.ckpt-4", "model.ckpt-4.index", "model.ckpt-4.data-00000-of-00001", "model.ckpt-4.meta"]
    )
    def test_one(self, trained: Path, name: str) -> None:
        text = inspect(str(trained / "model" / name))
        assert (fact(text, "step"), fact(text, "state")) == ("4", "complete")
        assert "variables: 21 parameters" in text

    def test_incomplete(self, model_dir: Path) -> None:
        data = model_dir / "model.ckpt-6.data-00000-of-00001"
        data.write_bytes(data.read_bytes()[:100])
        text = inspect(str(model_dir))
        assert [row[-1] for row in section(text, "checkpoints")[1:]] == ["complete", "incomplete or damaged"]
        assert "model.ckpt-6.data-00000-of-00001 has 100 bytes, " in section(text, "not to be scored with")[0][0]
        assert fact(text, "latest").startswith("refused: ")
        assert dict(section(text, "model.ckpt-4"))["state"] == "complete"
        with pytest.raises(ModelError, match=r"is incomplete: .* has 100 bytes"):
            inspect(str(model_dir / "model.ckpt-6"))

    def test_damaged(self, model_dir: Path) -> None:
        index = model_dir / "model.ckpt-6.index"
        index.write_bytes(index.read_bytes()[:-20])
        assert "is damaged" in section(inspect(str(model_dir)), "not to be scored with")[0][0]
        with pytest.raises(ModelError, match=re.escape(f"{index} is damaged")):
            inspect(str(index))

    def test_missing_index(self, model_dir: Path) -> None:
        (model_dir / "model.ckpt-6.index").unlink()
        assert section(inspect(str(model_dir)), "checkpoints")[2][::3] == ["model.ckpt-6", "incomplete or damaged"]
        with pytest.raises(ModelError, match=r"model\.ckpt-6\.index is missing"):
            inspect(str(model_dir / "model.ckpt-6.data-00000-of-00001"))

    def test_state_file_alone(self, tmp_path: Path) -> None:
        (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"')
        assert fact(inspect(str(tmp_path)), "latest").startswith("refused: ")

    def test_partitioned_variable(self, tmp_path: Path) -> None:
        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            v1.get_variable("table", (10, 2), partitioner=v1.fixed_size_partitioner(3))
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(tmp_path / "some"))
        text = inspect(str(tmp_path / "some"))
        assert section(text, "variables: 20 parameters")[1] == ["table", "float32", "[10, 2]", "in 3 parts"]
        assert fact(text, "step") == "unknown"


# Transforms and other SavedModels

TAXI = {
    "company": Feature("company", "string"),
    "fare": Feature("fare", "float32"),
    "miles": Feature("miles", "float32"),
    "tips": Feature("tips", "float32"),
    "words": Feature("words", "string", "varlen"),
}


class Scaler(tf.Module):
    @tf.function(
        input_signature=[
            {"x y": tf.TensorSpec((None, 2, 3), tf.float32), "l": tf.RaggedTensorSpec((None, None), tf.int64)}
        ]
    )
    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"scaled": 2 * features["x y"], "l": features["l"]}


class TestSavedModel:
    @pytest.mark.parametrize("folder", ["taxi_tft", "taxi_tft_v1"], ids=["current-format", "older-format"])
    def test_tensorflow_transform(self, folder: str) -> None:
        path = DATA / folder
        text = inspect(str(path))
        assert fact(text, "kind") == "TensorFlow Transform output folder"
        assert re.fullmatch("[0-9a-f]{64}", fact(text, "fingerprint"))
        assert pasted(text) == TAXI
        assert ["company", "int64", "dense", "[]"] in section(text, "outputs")
        assert ["bag", "int64", "sparse", "[?]"] in section(text, "outputs")
        assets = sorted((path / "transform_fn" / "assets").iterdir())
        assert section(text, "assets") == [
            ["name", "bytes"],
            *([file.name, f"{file.stat().st_size:,}"] for file in assets),
        ]

    def test_saved_model_as_transform(self, tmp_path: Path) -> None:
        tf.saved_model.save(Scaler(), str(tmp_path))
        text = inspect(str(tmp_path))
        assert fact(text, "kind") == "SavedModel that can be used as a transform"
        assert pasted(text) == {"x y": Feature("x y", shape=(2, 3)), "l": Feature("l", "int64", "ragged")}
        assert section(text, "outputs")[1:] == [
            ["l", "int64", "ragged", "[?]"],
            ["scaled", "float32", "dense", "[2, 3]"],
        ]
        assert fact(text, "tags") == "serve"
        assert ["output", "l", "int64", "ragged", "unknown"] in section(text, "signature serving_default")
        assert inspect(str(tmp_path / "saved_model.pb")) == text

    def test_export_of_a_model(self, trained: Path) -> None:
        export = next((trained / "export").iterdir())
        text = inspect(str(export))
        assert fact(text, "as transform").startswith("no: ")
        assert fact(text, "tags") == "serve"
        assert fact(text, "written by") == f"TensorFlow {tf.__version__}"
        rows = section(text, "signature predict (tensorflow/serving/predict)")
        assert ["input", "examples", "string", "dense", "[?]"] in rows
        assert ["output", "probabilities", "float32", "dense", "[?, 2]"] in rows
        # Its variables are a checkpoint, which model.checkpoint can name.
        assert "variables: 21 parameters" in inspect(str(export / "variables" / "variables"))

    def test_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
        with pytest.raises(ModelError, match=r"saved_model\.pb is damaged or no SavedModel"):
            inspect(str(tmp_path))

    def test_damaged_transform(self, tmp_path: Path) -> None:
        folder = shutil.copytree(DATA / "taxi_tft", tmp_path / "transform")
        (folder / "transform_fn" / "assets" / "company").unlink()
        with pytest.raises(ModelError, match="lacks company"):
            inspect(str(folder))


def test_object_store(tmp_path: Path, trained: Path) -> None:
    store = new_folder("store", tmp_path)
    path = write_csv(tmp_path / "a.csv", ROWS)
    for file in [path, *(trained / "model").glob("*")]:
        if file.is_file():
            files.copy(str(file), f"{store}/in/{file.name}")
    assert inspect(f"{store}/in/a.csv") == inspect(str(path)).replace(str(path), f"{store}/in/a.csv")
    assert fact(inspect(f"{store}/in"), "latest") == "model.ckpt-6"
    assert "variables: 21 parameters" in inspect(f"{store}/in/model.ckpt-4")
    with pytest.raises(JobError, match="there is nothing at"):
        inspect(f"{store}/in/no")
    with pytest.raises(JobError, match="is a folder of another kind"):
        inspect(store)
