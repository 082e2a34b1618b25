"""The command `inspect`: every kind of thing that it tells of, damaged ones too; and never a value of a row."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  tf.estimator, before TensorFlow is imported

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from published import publish_plan

import tensorflow as tf  # isort: skip

from test_files import new_folder

from pipeline import files
from pipeline.commands import main
from pipeline.errors import InputError, JobError, ModelError, OutputError
from pipeline.features import Feature
from pipeline.inspect import inspect
from pipeline.inspect import shard as inspect_shard
from pipeline.job import Job
from pipeline.plan import Plan, write_plan
from pipeline.publish import Limits
from pipeline.rows import Part, PartBatch, Rejected, Shard, ShardEnd
from pipeline.write import PartWriter

DATA = Path(__file__).parent / "data"
SECRET = "Kowalska"
"""A value of every shard here; no text may hold it."""


def fact(text: str, name: str) -> str:
    """What stands behind a name at the left."""
    found = re.findall(rf"^{re.escape(name)}  +(.*)$", text, re.MULTILINE)
    assert len(found) == 1, f"{name} stands {len(found)} times in\n{text}"
    return found[0]


def section(text: str, title: str) -> list[list[str]]:
    """The rows under the title that begins so, each cut at two or more blanks."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(title) and not lines[number - 1])
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("  "):
            break
        rows.append(re.split(r"  +", line.strip()))
    return rows


# Output folders


def new_plan(run_id: str = "run1", shards: int = 2) -> Plan:
    schema = pa.schema([pa.field("name", pa.string()), pa.field("_shard", pa.string()), pa.field("_row", pa.int64())])
    return Plan(
        run_id=run_id,
        run_date="2026-11-22",
        name="taxi",
        started="2026-11-22T03:00:00.000Z",
        parts=tuple(
            Part.of_shard(index, f"key{run_id}{index}", Shard(f"in/{index}.csv", 100, 1.5)) for index in range(shards)
        ),
        record_format="csv",
        schema=schema,
        features=("miles",),
        model={
            "estimator": "m:build",
            "checkpoint": "models/model.ckpt-30",
            "step": 30,
            "digest": "d1gest",
            "assets": {},
        },
        transform={"path": "models/transform", "fingerprint": "f1ngerprint"},
        record={"state": "unverified", "max_difference": None},
        warnings=("shard 7 is not there",),
    )


def publish_output(folder: Path, *, rejected: int = 0, broken: bool = False) -> Path:
    output, plan = str(folder / "output"), new_plan()
    write_plan(output, plan)
    for part in plan.parts:
        columns = [pa.array([SECRET] * 3), pa.array([part.name] * 3), pa.array(range(3), pa.int64())]
        rows = pa.record_batch(columns, schema=plan.schema)
        bad = tuple(Rejected(3 + row, "read", "miles: missing", b"") for row in range(rejected)) if part.index else ()
        state = "tail_lost" if broken and part.index else "done"
        end = ShardEnd(3 + len(bad), state, "the gzip stream is cut off" if broken else "")
        batch = PartBatch(part, 0, rows, bad, (end,), {"miles": 2})
        PartWriter(output, part, plan.schema, "csv", "a1", plan.run_id).write(batch)
    publish_plan(output, plan, Limits(max_bad_rows=10, max_broken_shards=1))
    return Path(output)


class TestOutput:
    def test_complete(self, tmp_path: Path) -> None:
        output = publish_output(tmp_path, rejected=2)
        text = inspect(str(output))
        assert fact(text, "state") == "complete (_SUCCESS and _manifest.json are of one run, all files are there)"
        assert [fact(text, name) for name in ("run", "name", "run date")] == ["run1", "taxi", "2026-11-22"]
        assert fact(text, "rows") == "8 read, 6 scored, 2 rejected"
        assert fact(text, "checkpoint") == "models/model.ckpt-30, step 30"
        assert [fact(text, "digest"), fact(text, "fingerprint")] == ["d1gest", "f1ngerprint"]
        assert fact(text, "record") == "unverified"
        parts = sorted(output.glob("part-*.parquet"))
        assert fact(text, "files") == f"2, {sum(part.stat().st_size for part in parts):,} bytes"
        assert section(text, "schema") == [["name", "string"], ["_shard", "string"], ["_row", "int64"]]
        assert section(text, "files")[-3:-1] == [[part.name, "3", f"{part.stat().st_size:,}"] for part in parts]
        assert section(text, "files")[-1][:2] == ["_rejected/part-00001-of-00002.parquet", "2"]
        assert section(text, "features") == [["name", "present", "missing"], ["miles", "4", "4"]]
        assert section(text, "warnings") == [["shard 7 is not there"]]
        assert "broken shards" not in text
        assert SECRET not in text

    def test_broken_shard(self, tmp_path: Path) -> None:
        text = inspect(str(publish_output(tmp_path, broken=True)))
        assert section(text, "broken shards") == [
            ["path", "state", "read", "lost"],
            ["in/1.csv", "tail_lost", "3", "unknown"],
        ]
        assert ["in/1.csv: tail_lost: the gzip stream is cut off"] in section(text, "warnings")

    @pytest.mark.parametrize(
        ("harm", "state"),
        [
            pytest.param(
                lambda output: (output / "_SUCCESS").unlink(), "not complete: there is no _SUCCESS; ", id="no-success"
            ),
            pytest.param(
                lambda output: (output / "_SUCCESS").write_text("run0"),
                "not complete: _SUCCESS is of the run run0, _manifest.json of another",
                id="two-runs",
            ),
            pytest.param(
                lambda output: (output / "part-00001-of-00002.parquet").unlink(),
                "not complete: 1 of 2 files missing or of another size: part-00001-of-00002.parquet",
                id="missing-file",
            ),
            pytest.param(
                lambda output: (output / "part-00000-of-00002.parquet").write_bytes(b"cut"),
                "not complete: 1 of 2 files missing or of another size: part-00000-of-00002.parquet",
                id="cut-file",
            ),
            pytest.param(
                lambda output: (output / "_manifest.json").unlink(),
                "unknown: _SUCCESS without _manifest.json; ",
                id="no-manifest",
            ),
        ],
    )
    def test_not_complete(self, tmp_path: Path, harm: Callable[[Path], Any], state: str) -> None:
        output = publish_output(tmp_path)
        harm(output)
        assert fact(inspect(str(output)), "state").startswith(state)

    def test_run_in_progress(self, tmp_path: Path) -> None:
        write_plan(str(tmp_path), new_plan("run9", shards=5))
        text = inspect(str(tmp_path))
        assert fact(text, "state") == "not complete: nothing was published, there is no _manifest.json"
        rows = dict(section(text, "a run that is not finished"))
        assert (rows["run"], rows["shards"], rows["checkpoint"]) == ("run9", "5", "models/model.ckpt-30")

    def test_run_in_progress_over_a_complete_output(self, tmp_path: Path) -> None:
        output = publish_output(tmp_path)
        write_plan(str(output), new_plan("run9"))
        text = inspect(str(output))
        assert fact(text, "state").startswith("complete ")
        assert dict(section(text, "a run that is not finished"))["run"] == "run9"

    def test_damaged_manifest(self, tmp_path: Path) -> None:
        manifest = tmp_path / "_manifest.json"
        manifest.write_text('{"format_version": 1, "files": []}')
        with pytest.raises(InputError, match=re.escape(f"{manifest} is damaged (KeyError); score again")):
            inspect(str(tmp_path))
        manifest.write_text("[1]")
        with pytest.raises(OutputError, match=re.escape(f"{manifest} is no manifest of ours")):
            inspect(str(tmp_path))

    def test_damaged_plan(self, tmp_path: Path) -> None:
        write_plan(str(tmp_path), new_plan())
        plan = tmp_path / "_temporary" / "plan.json"
        plan.write_text(plan.read_text()[:-10])
        with pytest.raises(InputError, match=re.escape(f"{plan} is damaged (JSONDecodeError); score again")):
            inspect(str(tmp_path))

    def test_by_a_file_of_it(self, tmp_path: Path) -> None:
        output = publish_output(tmp_path)
        assert inspect(str(output / "_manifest.json")) == inspect(f"{output}/") == inspect(str(output))

    def test_needs_no_tensorflow(self, tmp_path: Path) -> None:
        output = publish_output(tmp_path)
        program = """
            import sys
            from pipeline.inspect import inspect
            for path in sys.argv[1:]:
                inspect(path)
            assert "tensorflow" not in sys.modules
        """
        arguments = [str(output), str(output / "part-00000-of-00002.parquet")]
        subprocess.run([sys.executable, "-c", textwrap.dedent(program), *arguments], check=True, cwd=DATA.parents[1])


# Checkpoints


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


def pasted(text: str) -> Any:
    """The `features:` section in the text, as a job file that holds it has it."""
    lines = text.splitlines()
    start = lines.index("features:")
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    job = {"name": "a", "input": {"pattern": "a.tfrecord"}, "model": {"estimator": "a:b"}, "output": {"path": "o"}}
    return Job.model_validate({**job, **yaml.safe_load("\n".join(lines[start:end]))}).features


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


# Shards


def example(**features: Any) -> bytes:
    lists = {}
    for name, values in features.items():
        if values and isinstance(values[0], bytes):
            lists[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif values and isinstance(values[0], float):
            lists[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            lists[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values) if values else None)
    return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()


def write_tfrecord(path: Path, records: Sequence[bytes], compression: str = "") -> Path:
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return path


EXAMPLES = [
    example(
        miles=[1.5],
        image=[0.5] * 6,
        words=[SECRET.encode()] * (row % 3),
        **({"tips": [2.5]} if row % 2 else {}),
        none=[],
    )
    for row in range(10)
]


class TestTFRecord:
    @pytest.mark.parametrize(
        ("compression", "name"), [("", "none"), ("GZIP", "gzip"), ("ZLIB", "zlib")], ids=["plain", "gzip", "zlib"]
    )
    def test_features(self, tmp_path: Path, compression: str, name: str) -> None:
        path = write_tfrecord(tmp_path / "part-0", EXAMPLES, compression)  # nothing in the name helps
        text = inspect(str(path))
        assert [fact(text, key) for key in ("format", "compression", "rows")] == ["tfrecord", name, "10"]
        assert fact(text, "bytes") == f"{path.stat().st_size:,}"
        assert section(text, "features of the first 10 tf.Examples") == [
            ["name", "kind", "min values", "max values", "present in"],
            ["image", "float_list", "6", "6", "10"],
            ["miles", "float_list", "1", "1", "10"],
            ["none", "none", "0", "0", "0"],
            ["tips", "float_list", "1", "1", "5"],
            ["words", "bytes_list", "1", "2", "6"],
        ]
        assert pasted(text) == {
            "image": Feature("image", shape=(6,)),
            "miles": Feature("miles"),
            "tips": Feature("tips"),
            "words": Feature("words", "string", "varlen"),
        }
        assert (
            "  tips: {dtype: float32}  # 5 of 10 records have no value: add the default, or kind: varlen, of the training"
            in text
        )
        assert "  # none: has no value in these records, so its dtype cannot be told" in text
        assert SECRET not in text

    def test_two_kinds(self, tmp_path: Path) -> None:
        text = inspect(str(write_tfrecord(tmp_path / "a", [example(x=[1]), example(x=[1.0, 2.0])])))
        assert section(text, "features")[1] == ["x", "float_list or int64_list", "1", "2", "2"]
        assert "  x: {dtype: float32}  # float32 in some records, int64 in others; only one can be read" in text

    def test_counting_stops(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inspect_shard, "COUNTED_ROWS", 4096)
        path = write_tfrecord(tmp_path / "a", [example(x=[1.0])] * 5000)
        text = inspect(str(path))
        assert fact(text, "rows") == "4,096 or more; counting stopped there"
        assert section(text, "features of the first 1,000 tf.Examples")[1][-1] == "1,000"

    def test_bad_checksum(self, tmp_path: Path) -> None:
        path = write_tfrecord(tmp_path / "a", EXAMPLES)
        data = bytearray(path.read_bytes())
        data[12] ^= 1
        path.write_bytes(data)
        text = inspect(str(path))
        assert fact(text, "bad rows") == "1, the first: row 0: record 0: data checksum does not match"
        assert fact(text, "rows") == "10"

    @pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"], ids=["plain", "gzip", "zlib"])
    def test_cut_off(self, tmp_path: Path, compression: str) -> None:
        path = write_tfrecord(tmp_path / "a.tfrecord", EXAMPLES, compression)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(
            InputError, match=re.escape(f"{path}: a broken shard (tfrecord, compression") + r".*: after \d+ rows: "
        ):
            inspect(str(path))

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            pytest.param(b"just text", "the records are no tf.Examples; only tf.Examples can be scored", id="text"),
            pytest.param(
                tf.train.SequenceExample(
                    feature_lists=tf.train.FeatureLists(
                        feature_list={"x": tf.train.FeatureList(feature=[tf.train.Feature()])}
                    )
                ).SerializeToString(),
                "the records are tf.SequenceExamples; only tf.Examples can be scored",
                id="sequence-example",
            ),
        ],
    )
    def test_other_records(self, tmp_path: Path, record: bytes, message: str) -> None:
        path = write_tfrecord(tmp_path / "a.tfrecord", [record])
        with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
            inspect(str(path))

    def test_one_other_record(self, tmp_path: Path) -> None:
        text = inspect(str(write_tfrecord(tmp_path / "a", [b"just text", *EXAMPLES])))
        assert "1 of the first 11 records are no tf.Examples: they will be rejected" in text
        assert section(text, "features of the first 10 tf.Examples")[1][-1] == "10"

    def test_no_rows(self, tmp_path: Path) -> None:
        assert fact(inspect(str(write_tfrecord(tmp_path / "a.tfrecord.gz", [], "GZIP"))), "rows") == "0"


def write_csv(path: Path, rows: Sequence[Sequence[Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


ROWS: list[list[Any]] = [
    ["id", "Full Name", "city"],
    *([number, f"{SECRET} {number}", 'Łódź, "x"\ny'] for number in range(20)),
]


class TestOtherShards:
    def test_parquet(self, tmp_path: Path) -> None:
        table = pa.table(
            {
                "id": pa.array([2**53 + 1, None]),
                "name": [SECRET, ""],
                "image": pa.array([[0.5] * 4] * 2, pa.list_(pa.float32(), 4)),
            }
        )
        path = tmp_path / "no extension"
        pq.write_table(table, path, compression="zstd", row_group_size=1)
        text = inspect(str(path))
        assert [fact(text, key) for key in ("format", "compression", "rows", "row groups")] == [
            "parquet",
            "zstd",
            "2",
            "2, the largest of 1 row",
        ]
        assert [row[0] for row in section(text, "columns")[1:]] == ["id", "name", "image"]
        assert ["name", "string"] in section(text, "columns")
        assert SECRET not in text

    def test_avro(self, tmp_path: Path) -> None:
        fields = [
            {"name": "id", "type": "long"},
            {"name": "name", "type": ["null", "string"]},
            {"name": "m", "type": {"type": "map", "values": "int"}},
        ]
        schema = {"type": "record", "name": "row", "fields": fields}
        path = tmp_path / "a"
        with path.open("wb") as file:
            fastavro.writer(file, schema, [{"id": 1, "name": SECRET, "m": {SECRET: 1}}] * 3, codec="deflate")
        text = inspect(str(path))
        assert [fact(text, key) for key in ("format", "compression", "rows")] == ["avro", "deflate", "3"]
        assert section(text, "columns")[1:] == [
            ["id", "int64"],
            ["name", "string"],
            ["m", "a record, map or union: cannot be read"],
        ]
        assert SECRET not in text

    @pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
    def test_csv(self, tmp_path: Path, delimiter: str, zipped: bool) -> None:
        path = write_csv(tmp_path / "a.csv", ROWS, delimiter)
        if zipped:
            data = path.read_bytes()
            path = tmp_path / "a.csv.gz"
            path.write_bytes(gzip.compress(data))
        text = inspect(str(path))
        keys = ("format", "compression", "delimiter", "columns", "rows")
        assert [fact(text, key) for key in keys] == ["csv", "gzip" if zipped else "none", repr(delimiter), "3", "20"]
        assert section(text, "header") == [["id"], ["Full Name"], ["city"]]
        assert SECRET not in text

    @pytest.mark.parametrize(
        "rows",
        [
            pytest.param([[number, f"{SECRET} {number}"] for number in range(5)], id="a-number-first"),
            pytest.param([[SECRET, f"{SECRET} {number}"] for number in range(5)], id="only-text"),
            pytest.param(
                [["x", SECRET, SECRET], *([number, SECRET, SECRET] for number in range(4))], id="twice-the-same"
            ),
            pytest.param([["x", SECRET]], id="one-row"),
        ],
    )
    def test_csv_without_a_header_for_sure(self, tmp_path: Path, rows: list[list[Any]]) -> None:
        text = inspect(str(write_csv(tmp_path / "a.csv", rows)))
        assert fact(text, "rows") == str(len(rows))
        assert fact(text, "header").startswith("not certain: ")
        assert SECRET not in text

    def test_jsonl(self, tmp_path: Path) -> None:
        rows = [
            {"id": 1, "name": SECRET, "image": [[0.5, 1]], "flag": True},
            {"id": None, "name": SECRET, "image": [], "inner": {SECRET: 1}},
        ]
        path = tmp_path / "a"
        path.write_text("\n".join([*map(json.dumps, rows), "{not json", ""]), encoding="utf-8")
        text = inspect(str(path))
        assert [fact(text, key) for key in ("format", "compression", "rows")] == ["jsonl", "none", "3"]
        assert fact(text, "bad rows") == "1, the first: row 2: the line is not JSON"
        assert section(text, "keys of the first 2 good rows") == [
            ["name", "JSON kinds", "present in"],
            ["id", "integer 1, null 1", "2"],
            ["name", "string 2", "2"],
            ["image", "array of array of integer or number 1, empty array 1", "2"],
            ["flag", "boolean 1", "1"],
            ["inner", "object 1", "1"],
        ]
        assert SECRET not in text

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            pytest.param("a.parquet", b"PAR1" + bytes(40), "a broken shard (parquet", id="parquet-footer"),
            pytest.param(
                "a.parquet",
                b"id,name\n1,x\n",
                "named as a shard of parquet, but it does not start as one",
                id="no-parquet",
            ),
            pytest.param("a.avro", b"Obj\x01" + bytes(40), "a broken shard (avro", id="avro-header"),
            pytest.param("a.avro", b"", "named as a shard of avro, but it does not start as one", id="empty-avro"),
            pytest.param(
                "a.csv", b'id,name\n1,"x" y\n', "a broken shard (csv, compression none): after 0 rows: ", id="csv-quote"
            ),
            pytest.param(
                "a.csv",
                b"",
                "a broken shard (csv, compression none): there is no header: the file is empty",
                id="empty-csv",
            ),
            pytest.param(
                "a.csv.gz",
                gzip.compress(b"id,name\n" + b"1,x\n" * 99)[:-12],
                "a broken shard (csv, compression gzip)",
                id="cut-gzip",
            ),
            pytest.param(
                "a.tfrecord",
                b"x" * 40,
                "named as a TFRecord shard, but record 0: length checksum does not match",
                id="no-tfrecord",
            ),
            pytest.param(
                "a.tfrecord.gz",
                gzip.compress(b"x" * 40),
                "named as a TFRecord shard, but record 0: length",
                id="no-tfrecord-gzip",
            ),
        ],
    )
    def test_broken(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
            inspect(str(path))

    def test_content_decides(self, tmp_path: Path) -> None:
        path = write_tfrecord(tmp_path / "a.csv", EXAMPLES)
        assert fact(inspect(str(path)), "format") == "tfrecord"

    def test_length_like_a_magic_number(self, tmp_path: Path) -> None:
        size = int.from_bytes(b"\x1f\x8b", "little")
        record = example(x=[b"a" * (size - 23)])
        assert len(record) == size
        assert fact(inspect(str(write_tfrecord(tmp_path / "a", [record]))), "compression") == "none"


# Other filesystems


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


# What cannot be inspected


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            pytest.param("job.yaml", b"name: a\n", "is it a job file, run check --config", id="job-file"),
            pytest.param(
                "notes.txt", b"some text", "is a file of another kind; inspect takes an output folder", id="text"
            ),
            pytest.param("empty", b"", "is a file of another kind", id="empty"),
            pytest.param("some.zlib", zlib.compress(b"some text"), "is a file of another kind", id="zlib"),
            pytest.param(
                "events.out.tfevents.17.host", b"", "holds events for TensorBoard; inspect its model_dir", id="events"
            ),
        ],
    )
    def test_files(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(JobError, match=re.escape(message)) as raised:
            inspect(str(path))
        assert str(path) in str(raised.value)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            JobError, match=r"there is nothing at .*; inspect takes an output folder, a model_dir, a checkpoint"
        ):
            inspect(str(tmp_path / "model.ckpt-7"))

    def test_folders(self, tmp_path: Path) -> None:
        with pytest.raises(JobError, match=r"is a folder of another kind \(no files in it\); inspect takes"):
            inspect(str(tmp_path))
        write_csv(tmp_path / "b.csv", ROWS)
        (tmp_path / "a").mkdir()
        with pytest.raises(JobError, match=r"is a folder of another kind \(it has a/, b.csv\); inspect takes"):
            inspect(str(tmp_path))

    def test_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_csv(tmp_path / "a.csv", ROWS)
        assert main(["inspect", str(path)]) == 0
        assert capsys.readouterr().out == inspect(str(path)) + "\n"
        assert main(["inspect", str(tmp_path / "no")]) == 2
        assert capsys.readouterr().err.startswith("error: there is nothing at ")
