"""What is never done with data, and what is never told: paths in rows, code beside a model, secrets, values of rows."""

from __future__ import annotations

import base64
import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import apache_beam as beam
import bad_inputs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_inputs import FEATURES, MARKS, TEXT_MARK, Bench, example, make_rows, tfrecord
from left_behind import contents, make_shards, shard_of
from test_bad_columnar import avro, parquet, table
from test_bad_scores import TRANSFORMS

from pipeline.errors import JobError
from pipeline.job.file import load_fit_job, load_job
from pipeline.rows import REJECTED_SCHEMA

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

TAGS = {
    "call": "!!python/object/apply:os.mkdir [made]",
    "object": "!!python/object:os.environ {}",
    "name": "!!python/name:os.system",
    "module": "!!python/module:antigravity",
    "own": "!include other.yaml",
}


@pytest.mark.fault("job-file-with-a-tag")
@pytest.mark.parametrize("load", [load_job, load_fit_job])
@pytest.mark.parametrize("kind", TAGS)
def test_tags_of_yaml_are_refused(kind: str, load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(f"name: taxi\nmodel:\n  params: {TAGS[kind]}\n")
    with pytest.raises(JobError, match=r"job.yaml:3:11: tags \(!...\) are not read"):
        load("job.yaml", None, [])
    Path("job.yaml").write_text("name: taxi\n")
    with pytest.raises(JobError, match=r"--set model.params.*tags \(!...\) are not read"):
        load("job.yaml", None, [f"model.params={TAGS[kind]}"])
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


class Guarded:
    """A file that knows, from the kernel, whether anything in any library opened it."""

    def __init__(self, path: Path):
        self.path = path
        path.write_bytes(TEXT_MARK.encode())
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_NONBLOCK)
        opened, read = 0x20, 0x1
        assert libc.inotify_add_watch(self._events, os.fsencode(path), opened | read) > 0

    def was_opened(self) -> bool:
        try:
            return bool(os.read(self._events, 4096))
        except BlockingIOError:
            return False


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    if not sys.platform.startswith("linux"):
        pytest.skip("needs inotify")
    return Guarded(tmp_path / "guarded")


def test_the_guard_sees_a_file_that_is_opened(guarded: Guarded) -> None:
    assert not guarded.was_opened()
    guarded.path.read_bytes()
    assert guarded.was_opened()


@pytest.mark.fault("path-in-data")
@pytest.mark.parametrize("format", ["tfrecord", "parquet", "avro"])
def test_paths_in_rows_are_text(format: str, guarded: Guarded, bench: Bench) -> None:
    bench.format = format
    path = str(guarded.path)
    rows = [{**row, "note": path, "words": [path, f"file://{path}", f"|cat {path}"]} for row in make_rows(4)]
    write = {"tfrecord": shard_of, "parquet": lambda rows: parquet(table(rows)), "avro": avro}[format]
    bench.shard(write(rows))
    outcome = bench.score()
    assert outcome.scored == bench.expected(rows)
    assert not guarded.was_opened()


@pytest.mark.fault("path-in-data")
def test_path_of_another_file_in_the_footer_of_a_parquet_shard(guarded: Guarded, bench: Bench) -> None:
    """The format lets a footer name another file for its columns."""
    bench.format = "parquet"
    footer: list[Any] = []
    pq.write_table(table(make_rows(4)), guarded.path, metadata_collector=footer)
    footer[0].set_file_path(str(guarded.path))
    while guarded.was_opened():
        pass
    shard = bench.shard(b"")
    footer[0].write_metadata_file(shard)
    outcome = bench.score()
    assert outcome.code == 4
    assert f"{shard} (unreadable: " in outcome.error
    assert not guarded.was_opened()


@pytest.mark.fault("path-in-data")
def test_shard_that_a_file_of_rejected_rows_names_is_not_opened(guarded: Guarded, bench: Bench) -> None:
    bench.format = "parquet"
    rows = make_rows(2)
    columns = [[str(guarded.path)] * 2, [7, 8], ["read"] * 2, ["missing"] * 2, ["tfrecord"] * 2, [*map(example, rows)]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, REJECTED_SCHEMA, strict=True)]
    bench.shard(parquet(pa.Table.from_arrays(arrays, schema=REJECTED_SCHEMA)))
    outcome = bench.score()
    assert outcome.scored == bench.expected(rows)
    (part,) = bench.output.glob("part-*")
    assert pq.read_table(part).column("_shard").to_pylist() == [str(guarded.path)] * 2
    assert not guarded.was_opened()


@pytest.mark.fault("code-beside-the-model")
def test_code_comes_from_the_job_file_alone(bench: Bench) -> None:
    """Modules that lie beside the model, the data or the job file are not imported, whatever they are called."""
    model_dir = bench.folder / "model"
    model_dir.mkdir()
    for path in bench.model_dir.glob("*"):
        if path.is_file():
            (model_dir / path.name).write_bytes(path.read_bytes())
    bench.model_dir = model_dir
    rows = make_rows(4)
    bench.shard(shard_of(rows))
    for folder in (model_dir, bench.folder / "in", bench.folder):
        for name in ("fragile_model.py", "beside_the_model.py", "sitecustomize.py", "__init__.py"):
            (folder / name).write_text(f"open({str(bench.folder / 'imported')!r}, 'w').close()\n")
    assert bench.score().scored == bench.expected(rows)
    refused = bench.score(model={"model_fn": "beside_the_model:model_fn"}, output={"if_exists": "overwrite"})
    assert refused.code == 2
    assert "model.model_fn: cannot import 'beside_the_model': no module of that name" in refused.error
    assert not (bench.folder / "imported").exists()


SECRET = "wJalrXUtnFEMI-bPxRfiCYEXAMPLEKEY"
VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_CONNECTION_STRING",
    "GOOGLE_APPLICATION_CREDENTIALS", "DATABASE_PASSWORD",
)  # fmt: skip


def holding(data: bytes) -> bool:
    forms = (SECRET.encode(), base64.b64encode(SECRET.encode()).rstrip(b"="), SECRET.encode().hex().encode())
    return any(form in data for form in forms)


@pytest.mark.fault("secret-in-the-environment")
@pytest.mark.parametrize("good", [True, False], ids=["published", "refused"])
def test_no_secret_of_the_environment_is_written_or_told(
    good: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at: all that the run says and writes, also what is there only while it is on, and what a runner gets."""
    for name in VARIABLES:
        monkeypatch.setenv(name, SECRET)
    first, _ = make_shards(bench, make_rows(8), "a", "b")
    if not good:
        first.write_bytes(first.read_bytes()[:-3])
    seen: list[bytes] = []

    def run(p: beam.Pipeline) -> Any:
        seen.append(p.to_runner_api().SerializeToString())
        seen.append(repr(p._options.get_all_options()).encode())
        seen.extend(contents(bench.folder).values())
        return real(p)

    real = beam.Pipeline.run
    monkeypatch.setattr(beam.Pipeline, "run", run)
    outcome = bench.score()
    assert outcome.code == (0 if good else 4)
    seen.extend([outcome.said.encode(), *contents(bench.folder).values()])
    assert any(b'"settings"' in data for data in seen), "the plan was not among it"
    assert any(b"ReadShard" in data for data in seen), "the pipeline was not among it"
    assert not [data for data in seen if holding(data)]


def told(bench: Bench) -> dict[str, bytes]:
    """All that was written below the output, but for the Parquet files, which hold rows; plan and results included."""
    return {path: data for path, data in contents(bench.output).items() if not path.endswith(".parquet")}


UNTOLD: dict[str, tuple[bytes, dict[str, Any]]] = {
    "no tf.Example": (TEXT_MARK.encode() * 3, {}),
    "wrong type": (example({**make_rows(1)[0], "x": TEXT_MARK}), {}),
    "transform": (
        example({**make_rows(1)[0], "amount": TEXT_MARK}),
        {"features": TRANSFORMS["text to number"][1], "transform": {"function": "fragile_model:number_in_text"}},
    ),
    "model": (example({**make_rows(1)[0], "n": 31337313}), {"model": {"params": {"raw_ids": True}}}),
    "not finite": (example({**make_rows(1)[0], "x": float("nan")}), {"errors": {"non_finite": "fail"}}),
    "hook": (
        example({**make_rows(1)[0], "note": f"stumble {TEXT_MARK}"}),
        {"model": {"params": {"stumbling": True}}},
    ),
}


@pytest.mark.fault("values-in-messages")
@pytest.mark.parametrize("kind", UNTOLD)
def test_no_value_of_a_row_is_in_any_file_but_those_of_rows(kind: str, bench: Bench) -> None:
    """In a process of its own, whose every output is looked at: TensorFlow's own messages carry the bytes of a record."""
    bad, settings = UNTOLD[kind]
    good = [{**row, "n": row["id"] % 10, "amount": str(row["x"])} for row in make_rows(6)]
    bench.shard(shard_of(good[:3]), "a")
    bench.shard(tfrecord([example(good[3]), bad, example(good[4])]), "b")
    settings = {"features": FEATURES, **settings}
    outcome = bench.score(**settings)
    assert outcome.code in (1, 4), outcome.said
    files = told(bench)
    assert "_FAILED.json" in files

    command = [sys.executable, "-m", "pipeline", "score", "--config", str(bench.folder / "job.yaml"), "--no_resume"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == outcome.code
    files |= {f"again {path}": data for path, data in told(bench).items()}
    files |= {"stdout": done.stdout, "stderr": done.stderr}
    leaked = [(path, mark) for path, data in files.items() for mark in MARKS if mark.encode() in data]
    assert not leaked


def test_readme_tells_that_models_are_code() -> None:
    readme = " ".join((Path(__file__).resolve().parent.parent / "README.md").read_text().split())
    assert "A SavedModel or a checkpoint with its `model_fn` is code" in readme
