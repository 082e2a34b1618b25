"""Fitting a transform: what it learns from shards of each format, that it scores as TensorFlow Transform does, what is refused."""

from __future__ import annotations

import importlib.util
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

import transforms
from pipeline import files
from pipeline.commands import main
from pipeline.errors import InputError, JobError, OutputError, ScoringError, VerdictError
from pipeline.features import Feature
from pipeline.job import Input
from pipeline.job.file import load_fit_job
from transforms.fit import require_fit
from transforms.training_rows import lists_schema, read_lists

DOCS = Path(__file__).resolve().parent.parent / "docs" / "fit.md"
IS_2_15 = tf.__version__.startswith("2.15.")
needs_extra = pytest.mark.skipif(
    IS_2_15 or importlib.util.find_spec("tensorflow_transform") is None, reason="needs the extra fit"
)

ROWS, SHARDS = 90, 2
FORMATS = ("tfrecord", "parquet", "csv", "jsonl", "avro")
SPEC = {
    "miles": Feature("miles"),
    "pair": Feature("pair", shape=(2,)),
    "word": Feature("word", "string"),
    "count": Feature("count", "int64", "varlen"),
    "tags": Feature("tags", "string", "varlen"),
    "lengths": Feature("lengths", "int64", "ragged"),
}


def make_rows() -> list[dict[str, Any]]:
    """Rows of values that float32 holds exactly; words and tags of distinct frequencies, counts that may be missing."""
    random = np.random.default_rng(5)
    rows = []
    for row in range(ROWS):
        rows.append(
            {
                "miles": float(random.integers(-50, 200)) / 4,
                "pair": [row / 2, -row / 4],
                "word": "abcd"[min(int(row**0.5 / 2.6), 3)],
                "count": None if row % 7 == 0 else 2**53 + row,
                "tags": [f"tag {number}" for number in range(row % 4)],
                "lengths": list(range(row % 3)),
            }
        )
    return rows


def to_example(row: dict[str, Any]) -> bytes:
    feature = {}
    for name, value in row.items():
        values = [] if value is None else value if isinstance(value, list) else [value]
        if name in ("miles", "pair"):
            feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        elif name in ("word", "tags"):
            values = [text.encode() for text in values]
            feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif values:
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_tfrecord(path: Path, rows: list[dict[str, Any]]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            writer.write(to_example(row))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=16)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    cells = [
        {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows
    ]
    pyarrow.csv.write_csv(pa.Table.from_pylist(cells), path)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_avro(path: Path, rows: list[dict[str, Any]]) -> None:
    types: dict[str, Any] = {
        "miles": "float", "pair": {"type": "array", "items": "float"}, "word": "string", "count": ["null", "long"],
        "tags": {"type": "array", "items": "string"}, "lengths": {"type": "array", "items": "long"},
    }  # fmt: skip
    schema = {"type": "record", "name": "row", "fields": [{"name": name, "type": types[name]} for name in types]}
    with path.open("wb") as file:
        fastavro.writer(file, schema, rows)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "tfrecord": write_tfrecord, "parquet": write_parquet, "csv": write_csv, "jsonl": write_jsonl, "avro": write_avro,
}  # fmt: skip


def write_shards(folder: Path, record_format: str, rows: list[dict[str, Any]]) -> str:
    """Write two shards; returns their pattern."""
    for shard in range(SHARDS):
        WRITERS[record_format](folder / f"rows-{shard}.{record_format}", rows[shard::SHARDS])
    return str(folder / f"rows-*.{record_format}")


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow_transform as tft

    return {
        "miles": tft.scale_to_z_score(inputs["miles"]),
        "pair": tft.scale_to_0_1(inputs["pair"], elementwise=True),
        "word": tft.compute_and_apply_vocabulary(inputs["word"], vocab_filename="words"),
        "count": inputs["count"],
        "smallest": tf.zeros_like(inputs["word"], tf.int64) + tft.min(inputs["count"]),
        "tags": tft.compute_and_apply_vocabulary(inputs["tags"], vocab_filename="tags"),
        "lengths": inputs["lengths"],
    }


def in_two_phases(inputs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow_transform as tft

    scaled = tft.scale_to_z_score(inputs["miles"])
    return {"quarter": tft.bucketize(scaled, 4)}  # its quantiles wait for mean and variance


def features_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The tensors of the rows, by `tf.io.parse_example`."""
    from pipeline.features import to_tensorflow

    return tf.io.parse_example([to_example(row) for row in rows], to_tensorflow(SPEC))


def flat(value: Any) -> np.ndarray:
    """Values of a tensor of any kind, with where they stand."""
    if isinstance(value, tf.SparseTensor):
        return np.column_stack([value.indices, value.values])
    return np.asarray(value.to_tensor(-1) if isinstance(value, tf.RaggedTensor) else value)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], transforms.Transform]:
    """The transform that is fitted to all rows as shards of a format."""
    made: dict[str, transforms.Transform] = {}

    def fit(record_format: str) -> transforms.Transform:
        if record_format not in made:
            folder = tmp_path_factory.mktemp(record_format)
            pattern = write_shards(folder, record_format, make_rows())
            made[record_format] = transforms.fit(preprocessing_fn, pattern, SPEC, str(folder / "made" / "transform"))
        return made[record_format]

    return fit


@pytest.mark.parametrize("record_format", FORMATS)
def test_rows_are_read_as_lists_across_chunks(tmp_path: Path, record_format: str) -> None:
    rows = make_rows() * 100  # more than two chunks of 4,096
    path = tmp_path / f"rows.{record_format}"
    WRITERS[record_format](path, rows)
    source = Input.model_validate({"pattern": str(path)})

    batches = list(read_lists(str(path), source, SPEC))

    assert sum(batch.num_rows for batch in batches) == 9000
    assert max(batch.num_rows for batch in batches) <= 4096
    table = pa.Table.from_batches(batches)
    assert table.schema == lists_schema(SPEC)
    for name in SPEC:
        expected = [[] if row[name] is None else row[name] for row in rows]
        expected = [value if isinstance(value, list) else [value] for value in expected]
        if SPEC[name].dtype == "string":
            expected = [[text.encode() for text in value] for value in expected]
        assert table[name].to_pylist() == expected, name


@needs_extra
@pytest.mark.parametrize("record_format", FORMATS)
def test_all_rows_are_learned_from(fitted: Callable[[str], transforms.Transform], record_format: str) -> None:
    transform, rows = fitted(record_format), make_rows()

    assert transform.raw_spec == SPEC
    outputs = transform(features_of(rows))
    miles, pairs = np.array([row["miles"] for row in rows]), np.array([row["pair"] for row in rows])
    np.testing.assert_allclose(outputs["miles"], (miles - miles.mean()) / miles.std(), rtol=1e-5)
    np.testing.assert_allclose(outputs["pair"], (pairs - pairs.min(0)) / np.ptp(pairs, 0), atol=1e-6)
    words = [row["word"] for row in rows]
    by_frequency = sorted(set(words), key=words.count, reverse=True)
    assert len({words.count(word) for word in by_frequency}) == len(by_frequency) == 4
    assert outputs["word"].numpy().tolist() == [by_frequency.index(word) for word in words]
    assert set(outputs["smallest"].numpy().tolist()) == {min(row["count"] for row in rows if row["count"])}
    assert outputs["lengths"].to_list() == [row["lengths"] for row in rows]
    assets = Path(transform.path) / "transform_fn" / "assets"
    assert (assets / "words").read_text().split("\n")[:4] == by_frequency
    assert (assets / "tags").read_text().splitlines() == ["tag 0", "tag 1", "tag 2"]


@needs_extra
@pytest.mark.parametrize("record_format", FORMATS[1:])
def test_other_formats_teach_what_tfrecord_teaches(
    fitted: Callable[[str], transforms.Transform], record_format: str
) -> None:
    features = features_of(make_rows())

    expected, outputs = fitted("tfrecord")(features), fitted(record_format)(features)

    assert outputs.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(flat(outputs[name]), flat(expected[name]), name)


@needs_extra
def test_it_scores_as_tensorflow_transform_itself_does(fitted: Callable[[str], transforms.Transform]) -> None:
    import tensorflow_transform as tft

    transform = fitted("tfrecord")
    other = make_rows()[:20]
    for number, row in enumerate(other):
        row |= {"miles": number / 3, "word": ["d", "new", ""][number % 3]}
    features = features_of(other)

    outputs = transform(features)
    expected = tft.TFTransformOutput(transform.path).transform_raw_features(features)

    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        assert type(outputs[name]) is type(value)
        np.testing.assert_array_equal(flat(outputs[name]), flat(value), name)
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        attached = transform.attach(features_of(other))
        session.run(attached.initializer)
        in_graph = session.run({name: attached.outputs[name] for name in ("miles", "pair", "word")})
    for name, value in in_graph.items():
        np.testing.assert_array_equal(value, expected[name], name)


@needs_extra
def test_shards_are_read_once_though_analyzers_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows()
    pattern = write_shards(tmp_path, "parquet", rows)
    opened: list[str] = []
    open_read = files.open_read
    monkeypatch.setattr(files, "open_read", lambda path: opened.append(path) or open_read(path))

    transform = transforms.fit(in_two_phases, pattern, SPEC, str(tmp_path / "transform"))

    assert sorted(path for path in opened if path.endswith(".parquet")) == [
        str(tmp_path / f"rows-{shard}.parquet") for shard in range(SHARDS)
    ]
    quarters = transform(features_of(rows))["quarter"].numpy()
    miles = np.array([row["miles"] for row in rows])
    edges = [miles[quarters == quarter].max() for quarter in range(3)]
    assert np.bincount(quarters).min() > ROWS / 5
    assert all(edge < miles[quarters > quarter].min() for quarter, edge in enumerate(edges))
    assert transform.raw_spec == SPEC, "features that it does not use are inputs all the same"


@needs_extra
def test_input_section_and_parsing_spec_are_taken(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("1.5|7\n2.5|NULL\n")
    csv = {"header": False, "columns": ["distance", "hour"], "delimiter": "|", "nulls": ["NULL"]}
    source = Input.model_validate(
        {"pattern": str(tmp_path / "*.txt"), "format": "csv", "rename": {"miles": "distance"}, "csv": csv}
    )
    spec = {"miles": tf.io.FixedLenFeature([1], tf.float32), "hour": tf.io.VarLenFeature(tf.int64)}

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        import tensorflow_transform as tft

        hours = tft.compute_and_apply_vocabulary(inputs["hour"], vocab_filename="hours")
        return {"miles": inputs["miles"] - tft.mean(inputs["miles"]), "hour": hours}

    transform = transforms.fit(function, source, spec, str(tmp_path / "transform"))

    assert transform.raw_spec == {"hour": Feature("hour", "int64", "varlen"), "miles": Feature("miles", shape=(1,))}
    hour = tf.SparseTensor([[0, 0]], [tf.constant(7, tf.int64)], [2, 1])
    assert transform({"miles": [[1.5], [2.5]], "hour": hour})["miles"].numpy().tolist() == [[-0.5], [0.5]]
    assert (tmp_path / "transform" / "transform_fn" / "assets" / "hours").read_text() == "7\n"


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def fails_on_data(inputs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow_transform as tft

    with tf.control_dependencies([tf.debugging.assert_less(inputs["miles"], -1000.0)]):
        return {"miles": tft.scale_to_z_score(tf.identity(inputs["miles"]))}


@needs_extra
@pytest.mark.parametrize(
    ("record_format", "change", "kind", "exit_code", "message"),
    [
        pytest.param("tfrecord", {"miles": None}, VerdictError, 4,
                     "rows-1.tfrecord: row 3: feature 'miles': expected one value, found an empty list", id="example"),
        pytest.param("parquet", {"miles": None}, VerdictError, 4,
                     "rows-1.parquet: row 3: feature 'miles': missing, and it has no default", id="null"),
        pytest.param("jsonl", {"count": 1.5}, VerdictError, 4, "rows-1.jsonl: row 3: feature 'count': expected int64",
                     id="fraction"),
    ],
)  # fmt: skip
def test_row_that_cannot_be_read_is_named(
    tmp_path: Path, record_format: str, change: dict[str, Any], kind: type[ScoringError], exit_code: int, message: str
) -> None:
    rows = make_rows()
    rows[7] |= change
    pattern = write_shards(tmp_path, record_format, rows)

    with pytest.raises(kind) as refused:
        transforms.fit(preprocessing_fn, pattern, SPEC, str(tmp_path / "transform"))

    assert message in str(refused.value)
    assert "mend it or leave it out" in str(refused.value)
    assert refused.value.exit_code == exit_code
    assert not list(tmp_path.glob("transform*"))


@needs_extra
@pytest.mark.parametrize(
    ("rows", "spec", "exit_code", "message"),
    [
        pytest.param([], SPEC, 3, "the training shards hold no row", id="no rows"),
        pytest.param(make_rows(), {**SPEC, "tag": Feature("tag", "string", "varlen")}, 3,
                     "no row of the training shards (90) has a value for tag; mend the name", id="wrong name"),
    ],
)  # fmt: skip
def test_nothing_to_learn_from_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], spec: dict[str, Feature], exit_code: int, message: str
) -> None:
    pattern = write_shards(tmp_path, "tfrecord", rows)

    with pytest.raises(VerdictError) as refused:
        transforms.fit(preprocessing_fn, pattern, spec, str(tmp_path / "transform"))

    assert message in str(refused.value)
    assert refused.value.exit_code == exit_code
    assert not list(tmp_path.glob("transform*"))


@needs_extra
def test_broken_shard_is_named(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, "tfrecord", make_rows())
    damaged(tmp_path / "rows-1.tfrecord")

    with pytest.raises(VerdictError, match=r"rows-1\.tfrecord: record 44: the file ends inside it; mend the shard"):
        transforms.fit(preprocessing_fn, pattern, SPEC, str(tmp_path / "transform"))

    assert not list(tmp_path.glob("transform*"))


@needs_extra
def test_function_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, "tfrecord", make_rows())

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"miles": inputs["milse"]}

    with pytest.raises(JobError, match=r"preprocessing_fn: .*test_fit\.py:\d+: KeyError: 'milse'"):
        transforms.fit(function, pattern, SPEC, str(tmp_path / "transform"))

    assert not list(tmp_path.glob("transform*"))


@needs_extra
def test_failure_on_data_leaves_nothing_and_shows_no_value(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"miles": 777.125}, {"miles": 2.0}]
    (tmp_path / "rows-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = inspect.getsource(fails_on_data).replace("[str, Any]", "")
    (tmp_path / "steps_that_fail.py").write_text(f"import tensorflow as tf\n\n\n{source}")
    changes = {"code": ["steps_that_fail.py"], "input": {"pattern": "rows-*.jsonl"}}
    job = write_job(tmp_path, **changes, transform={"function": "steps_that_fail:fails_on_data", "path": "transform"})
    monkeypatch.setattr(sys, "path", [*sys.path])

    assert main(["fit", "--config", job]) == 1

    assert not list(tmp_path.glob("transform*"))
    shown = capfd.readouterr()
    assert "error: " in shown.err
    assert "777" not in shown.out + shown.err


@needs_extra
def test_folder_that_is_there_is_never_changed(tmp_path: Path) -> None:
    (tmp_path / "transform").mkdir()

    with pytest.raises(OutputError, match="transform exists; a transform is never changed"):
        transforms.fit(preprocessing_fn, "rows.tfrecord", SPEC, str(tmp_path / "transform"))

    assert not list((tmp_path / "transform").iterdir())


@needs_extra
@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        pytest.param({"raw_spec": {"age": Feature("age", "int32")}}, JobError,
                     "raw_spec: age: TensorFlow Transform takes float32, int64, string, not int32", id="dtype"),
        pytest.param({"raw_spec": {"age": Feature("age", default=0.0)}}, JobError,
                     "raw_spec: age: a saved transform does not keep defaults", id="default"),
        pytest.param({"raw_spec": {}}, JobError, "raw_spec: has no feature", id="no feature"),
        pytest.param({"shards": "rows-*"}, JobError, "does not tell the format", id="format"),
        pytest.param({"shards": ["none-*.csv"]}, InputError, "no file matches none-*.csv", id="no shard"),
        pytest.param({"beam_arguments": ["--runer=X"]}, JobError, "neither this command nor Beam knows '--runer=X'",
                     id="option"),
        pytest.param({"path": "s3://bucket/transform"}, JobError, "TensorFlow cannot write there", id="filesystem"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_work_are_refused(
    tmp_path: Path, arguments: dict[str, Any], kind: type[ScoringError], message: str
) -> None:
    working = {"shards": "rows.csv", "raw_spec": SPEC, "path": str(tmp_path / "transform")}

    with pytest.raises(kind) as refused:
        transforms.fit(preprocessing_fn, **{**working, **arguments})

    assert message in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(IS_2_15, reason="TensorFlow 2.15 is refused first")
def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_transform", None)

    with pytest.raises(JobError, match=r"pip install 'estimator-score\[fit\]', on Python 3\.11 or 3\.12"):
        transforms.fit(preprocessing_fn, "rows.csv", SPEC, "transform")


@pytest.mark.skipif(not IS_2_15, reason="for TensorFlow 2.15")
def test_tensorflow_2_15_is_told_where_to_fit() -> None:
    with pytest.raises(JobError, match=r"fit needs TensorFlow 2\.21, and this is 2\.15\.\d; .*estimator-score\[fit\]"):
        require_fit()


JOB = {
    "input": {"pattern": "rows-*.tfrecord"},
    "features": {"miles": {"dtype": "float32"}},
    "transform": {"function": "steps:preprocessing_fn", "path": "transform"},
}


def write_job(folder: Path, **changes: Any) -> str:
    path = folder / "fit.yaml"
    path.write_text(yaml.safe_dump({**JOB, **changes}))
    return str(path)


def test_job_file_is_read(tmp_path: Path) -> None:
    job = load_fit_job(write_job(tmp_path), overrides=["transform.path=/made/{{x}}"])

    assert job.input.pattern == [str(tmp_path / "rows-*.tfrecord")]
    assert job.input.format == "tfrecord"
    assert job.features == {"miles": Feature("miles")}
    assert (job.transform.function, job.transform.path) == ("steps:preprocessing_fn", "/made/{x}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"model": {}}, "fit.yaml:6: model: unknown key", id="model"),
        pytest.param({"transform": {"path": "transform"}}, "transform.function: is missing", id="no function"),
        pytest.param({"transform": {"function": "steps:f"}}, "transform.path: is missing", id="no path"),
        pytest.param({"input": {"pattern": "a.csv", "optional": ["miles"]}}, "input.optional: is for scoring",
                     id="optional"),
        pytest.param({"features": {"age": {"dtype": "int32"}}}, "features.age.dtype: TensorFlow Transform takes",
                     id="dtype"),
        pytest.param({"features": {"age": {"dtype": "int64", "default": 0}}},
                     "features.age.default: a saved transform does not keep defaults", id="default"),
        pytest.param({"code": ["nowhere"]}, "code[0]: no such file or folder", id="code"),
    ],
)  # fmt: skip
def test_mistake_in_job_file_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError) as refused:
        load_fit_job(write_job(tmp_path, **changes))

    assert message in str(refused.value)


def test_job_file_is_checked_without_tensorflow_and_beam(tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.job.file import load_fit_job; load_fit_job(sys.argv[1]); "
        "print(sorted({'tensorflow', 'apache_beam'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code, write_job(tmp_path)], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"


def test_job_file_shown_is_taken(tmp_path: Path) -> None:
    shown = DOCS.read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "my_trainer").mkdir()
    path = tmp_path / "fit.yaml"
    path.write_text(shown)

    assert load_fit_job(str(path)).model_fields_set == set(yaml.safe_load(shown))


def test_command_without_the_extra_ends_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_transform", None)

    assert main(["fit", "--config", write_job(tmp_path)]) == 2

    assert "estimator-score[fit]" in capsys.readouterr().err
