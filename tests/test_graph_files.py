"""Every file that the PREDICT graph opens: found, told, copied, and held against what it was."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import code_job
import code_model
import pytest
import tensorflow as tf
from code_job import flags_as_before  # noqa: F401  a fixture
from staged_job import snapshot

from pipeline.commands import main
from pipeline.errors import ModelError
from pipeline.graph_files import graph_files, read_copies, refuse_missing
from pipeline.job.file import load_job
from pipeline.manifest import read_manifest
from pipeline.scoring import close_scorers
from pipeline.stale import stale

tf1 = tf.compat.v1
NAMES = ("table", "whole", "joined", "line1", "line2", "record", "queued", "matched", "inside")


def table(path: Callable[[str], str]) -> Any:
    lookup = tf.lookup.TextFileIndex
    initializer = tf.lookup.TextFileInitializer(
        path("table"), tf.string, lookup.WHOLE_LINE, tf.int64, lookup.LINE_NUMBER
    )
    return tf.lookup.StaticHashTable(initializer, -1).lookup(tf.constant(["x"]))


def whole(path: Callable[[str], str]) -> Any:
    return tf.io.read_file(path("whole"))


def joined(path: Callable[[str], str]) -> Any:
    return tf.io.read_file(tf.strings.join([path(""), tf.constant("joined")]))


def lines(path: Callable[[str], str]) -> Any:
    return tf1.data.make_one_shot_iterator(tf.data.TextLineDataset([path("line1"), path("line2")])).get_next()


def records(path: Callable[[str], str]) -> Any:
    return tf1.data.make_initializable_iterator(tf.data.TFRecordDataset(path("record"))).get_next()


def queued(path: Callable[[str], str]) -> Any:
    return tf1.TextLineReader().read(tf1.train.string_input_producer([path("queued")]))


def matched(path: Callable[[str], str]) -> Any:
    return tf.io.matching_files(path("match*"))


def inside(path: Callable[[str], str]) -> Any:
    return tf.function(lambda: tf.io.read_file(path("inside")))()


@pytest.fixture
def path(tmp_path: Path) -> Callable[[str], str]:
    for name in NAMES:
        (tmp_path / name).write_text(f"{name}\nx\n", encoding="utf-8")
    return lambda name: f"{tmp_path}/{name}"


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (table, ["table"]),
        (whole, ["whole"]),
        (joined, ["joined"]),
        (lines, ["line1", "line2"]),
        (records, ["record"]),
        (queued, ["queued"]),
        (matched, ["matched"]),
        (inside, ["inside"]),
    ],
)
def test_files_of_operations(build: Callable[..., Any], names: list[str], path: Callable[[str], str]) -> None:
    with tf.Graph().as_default() as graph:
        tf.io.read_file(path("table"), name="of_the_input")
        before = len(graph.get_operations())
        build(path)
        found = graph_files(graph, before)
    assert list(found.paths) == [path(name) for name in names]
    assert (found.unknown, found.warnings) == ((), ())


def test_files_that_rows_name(path: Callable[[str], str]) -> None:
    with tf.Graph().as_default() as graph:
        tf.io.read_file(tf1.placeholder(tf.string, []), name="decode")
        found = graph_files(graph)
    assert found.paths == ()
    assert found.warnings == ("decode (ReadFile) opens files that the rows name; no digest holds their content",)


def test_copies_are_read(path: Callable[[str], str], tmp_path: Path) -> None:
    copies = {path(name): f"{tmp_path}/copy-{name}" for name in ("table", "whole")}
    for name in ("table", "whole"):
        Path(copies[path(name)]).write_text("copied\n", encoding="utf-8")
    with tf.Graph().as_default() as graph:
        both = (table(path), whole(path))
        read_copies(graph, graph_files(graph), copies)
        with tf1.Session() as session:
            session.run(tf1.tables_initializer())
            assert [value.tolist() if value.shape else value.item() for value in map(_array, session.run(both))] == [
                [-1],
                b"copied\n",
            ]


def _array(value: Any) -> Any:
    import numpy as np

    return np.asarray(value, dtype=None if not isinstance(value, bytes) else object)


@pytest.mark.parametrize(("build", "name"), [(joined, "joined"), (inside, "inside")])
def test_a_name_that_cannot_be_changed(
    build: Callable[..., Any], name: str, path: Callable[[str], str], tmp_path: Path
) -> None:
    """The same content in place will do; another is refused."""
    copies = {path(name): f"{tmp_path}/copy"}
    shutil.copy(path(name), tmp_path / "copy")
    with tf.Graph().as_default() as graph:
        build(path)
        found = graph_files(graph)
        read_copies(graph, found, copies)
        Path(path(name)).write_text("changed", encoding="utf-8")
        with pytest.raises(
            ModelError, match=f"the graph reads {path(name)}, which is another file on this machine than at"
        ):
            read_copies(graph, found, copies)
        Path(path(name)).unlink()
        with pytest.raises(
            ModelError, match=f"the graph reads {path(name)}, and there is no such file on this machine"
        ):
            read_copies(graph, found, copies)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the graph reads .*/gone, and there is no such file .*under model.assets"):
        refuse_missing([__file__, f"{tmp_path}/gone"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a parity record."""
    import transforms

    folder = tmp_path_factory.mktemp("trained") / "production"
    code_model.train(folder)
    params = {"vocabulary": str(folder / "words.txt"), "offset": 11}
    estimator = tf.estimator.Estimator(code_model.model_fn, str(folder / "model"), params=params)
    spec = {"x": tf.io.FixedLenFeature([], tf.float32), "word": tf.io.FixedLenFeature([], tf.string)}
    transforms.record(estimator, code_model.ROWS, raw_spec=spec, features=["x", "word"])
    return folder


@pytest.fixture
def production(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("pipeline.artifacts.time.sleep", lambda seconds: None)
    return Path(shutil.copytree(trained, tmp_path / "production"))


def plain_job(production: Path) -> str:
    """The vocabulary is no asset: its path is a flag, as teams have it."""
    model = {
        "assets": {},
        "argv": [f"--vocabulary={production}/words.txt"],
        "args": {"offsets": f"{production}/offsets.json"},
        "features": ["x", "word"],
    }
    return code_job.write_job(production, model=model)


def permute(production: Path) -> None:
    (production / "words.txt").write_text("dog\nant\nbee\ncow\n", encoding="utf-8")


def test_a_permuted_vocabulary_is_refused_by_the_record(production: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = plain_job(production)
    assert main(["check", "--config", config]) == 0
    shown = capsys.readouterr().out
    assert f"assets      {production}/words.txt\n" in shown
    assert "record      verified" in shown

    permute(production)
    assert main(["score", "--config", config, "--quiet"]) == 6
    message = capsys.readouterr().err
    assert (
        f"the graph reads {production}/words.txt, and its content is not that of words.txt when checkpoint" in message
    )
    assert not (production / "out" / "_SUCCESS").exists()


def test_a_record_without_rows_refuses_it_too(production: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = plain_job(production)
    assert main(["record", "--config", config, "--rows", "0"]) == 0
    permute(production)
    assert main(["check", "--config", config]) == 6
    assert f"the graph reads {production}/words.txt, and its content is not that of" in capsys.readouterr().err


def test_inspect_lists_what_the_record_knows(production: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(production / "model")]) == 0
    shown = capsys.readouterr().out
    assert "files that the graph opened when the record was made\n" in shown
    assert "  words.txt  " in shown


def test_a_permuted_vocabulary_without_a_record(production: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It makes the output stale, and a rerun scores every row again."""
    shutil.rmtree(production / "model" / "record")
    config = plain_job(production)
    before = snapshot(production / "model")
    assert main(["score", "--config", config, "--quiet"]) == 0
    first, key = code_job.written(production), read_manifest(str(production / "out"))["settings"]["assets"]
    assert main(["inspect", str(production / "out")]) == 0
    assert f"{production}/words.txt" in capsys.readouterr().out

    permute(production)
    assert stale(load_job(config)) == [f"file changed: {production}/words.txt"]
    assert main(["score", "--config", config, "--set", "output.if_exists=skip"]) == 0
    assert f"file changed: {production}/words.txt" in capsys.readouterr().out
    assert main(["score", "--config", config, "--quiet", "--set", "output.if_exists=overwrite"]) == 0

    manifest = read_manifest(str(production / "out"))
    assert manifest["settings"]["assets"] != key
    assert manifest["resumed_parts"] == 0
    assert max(abs(now - then) for now, then in zip(code_job.written(production), first, strict=True)) > 0.05
    assert snapshot(production / "model") == before


@pytest.mark.parametrize("command", ["check", "score"])
def test_a_missing_vocabulary(command: str, production: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = plain_job(production)
    (production / "words.txt").unlink()
    assert main([command, "--config", config]) == 6
    message = capsys.readouterr().err
    assert f"the graph reads {production}/words.txt, and there is no such file on this machine. Name it as" in message


def test_a_file_that_the_builder_does_not_find(production: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = plain_job(production)
    (production / "offsets.json").unlink()
    assert main(["check", "--config", config]) == 6
    message = capsys.readouterr().err
    assert "code_model.py:" in message
    assert (
        f"No such file or directory: '{production}/offsets.json'; name a file that the code opens under model.assets"
        in message
    )


def teardown_module() -> None:
    close_scorers()
