"""Files that a job names for its code (`model.assets`): copied with the model, filled in, laid at absolute paths."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import code_job
import code_model
import pytest
from code_job import flags_as_before  # noqa: F401  a fixture
from staged_job import snapshot

from pipeline import files
from pipeline.artifacts import staging_folder
from pipeline.assets import asset_digests, lay, local_paths, sources_of_assets
from pipeline.commands import main
from pipeline.errors import JobError, ModelError
from pipeline.job.file import load_job
from pipeline.launch import Prepared
from pipeline.manifest import read_manifest
from pipeline.scoring import close_scorers, open_scorer
from pipeline.stale import stale

pytestmark = pytest.mark.any_tensorflow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "production"
    code_model.train(folder)
    return folder


@pytest.fixture
def production(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("pipeline.artifacts.time.sleep", lambda seconds: None)
    return Path(shutil.copytree(trained, tmp_path / "production"))


def launched(config: str, pinned: Any = None) -> Prepared:
    """As a run launches; what it holds open is closed."""
    try:
        return code_job.prepared(config, staging_folder(load_job(config)), pinned)
    finally:
        close_scorers()


def on_a_worker(found: Prepared) -> list[float]:
    """What a process that did not launch scores."""
    from pipeline.launch import first_batch
    from pipeline.plan import match_shards

    try:
        scorer = open_scorer(found.spec)
        batch = first_batch(found.spec, match_shards(found.spec.job.input))
        assert batch is not None
        return scorer.score(batch).rows.column("score").to_pylist()
    finally:
        close_scorers()


def in_place(config: str) -> list[float]:
    try:
        return code_job.scored(code_job.prepared(config))
    finally:
        close_scorers()


def test_workers_read_copies(production: Path) -> None:
    config = code_job.write_job(production)
    before = in_place(config)
    found = launched(config)
    (production / "words.txt").write_text("dog\ncow\nbee\nant\n", encoding="utf-8")
    (production / "offsets.json").unlink()

    assert on_a_worker(found) == before
    assert sorted(found.model["assets"]) == [str(production / "words.txt")]
    assert sorted(found.model["files"]) == [str(production / "offsets.json"), str(production / "words.txt")]


def test_a_restart_keeps_the_copies(production: Path) -> None:
    config = code_job.write_job(production)
    before = in_place(config)
    first = launched(config)
    (production / "offsets.json").write_text("[7, 7, 7]", encoding="utf-8")

    again = launched(config, first.staged)

    assert (again.spec.key, on_a_worker(again)) == (first.spec.key, before)
    assert launched(config).spec.key != first.spec.key


def test_settings_go_by_content(production: Path, tmp_path: Path) -> None:
    config = code_job.write_job(production)
    first = launched(config).settings
    for name in ("words.txt", "offsets.json"):
        shutil.move(production / name, tmp_path / f"moved-{name}")
    moved = {"words": str(tmp_path / "moved-words.txt"), "offsets": str(tmp_path / "moved-offsets.json")}
    config = code_job.write_job(production, model={"assets": moved})
    assert launched(config).settings == first == code_job.prepared(config).settings
    close_scorers()
    (tmp_path / "moved-offsets.json").write_text("[1, 10, 1000]", encoding="utf-8")
    changed = launched(config).settings
    assert [name for name in first if first[name] != changed[name]] == ["files"]


def test_a_changed_file_makes_an_output_stale(production: Path) -> None:
    config = code_job.write_job(production)
    before = snapshot(production / "model")
    assert main(["score", "--config", config, "--quiet"]) == 0
    assert stale(load_job(config)) == []
    (production / "offsets.json").write_text("[2, 10, 100]", encoding="utf-8")
    assert stale(load_job(config)) == [f"file changed: {production}/offsets.json"]

    first = code_job.written(production)
    assert main(["score", "--config", config, "--quiet", "--set", "output.if_exists=overwrite"]) == 0
    assert code_job.written(production) == pytest.approx([score + 1 for score in first], abs=1e-5)
    assert snapshot(production / "model") == before
    manifest = read_manifest(str(production / "out"))
    assert manifest is not None
    assert manifest["resumed_parts"] == 0


def test_check_tells_of_them(
    production: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEEN_BY_NOBODY", "x")  # this process has imported the module already
    config = code_job.write_job(production, env={"SEEN_BY_NOBODY": "x"})
    assert main(["check", "--config", config]) == 0
    shown = capsys.readouterr().out
    assert f"assets      {production}/words.txt\n  words: {production}/words.txt\n" in shown
    assert f"  offsets: {production}/offsets.json\nenv         SEEN_BY_NOBODY\n" in shown


def test_assets_in_a_store(root: str, production: Path) -> None:
    """A copy is fetched to the cache of the machine; a folder is one asset."""
    for name in ("words.txt", "offsets.json"):
        files.write_bytes(f"{root}/assets/{name}", (production / name).read_bytes())
    expected = in_place(code_job.write_job(production))
    model = {
        "assets": {"all": f"{root}/assets"},
        "argv": ["--vocabulary={assets.all}/words.txt"],
        "args": {"offsets": "{assets.all}/offsets.json"},
    }
    config = code_job.write_job(production, model=model)
    assert in_place(config) == expected
    found = launched(config)
    assert sorted(found.model["files"]) == [f"{root}/assets/offsets.json", f"{root}/assets/words.txt"]
    assert list(found.model["assets"]) == [f"{root}/assets/words.txt"]
    assert on_a_worker(found) == expected


def test_a_name_that_is_a_path(production: Path, tmp_path: Path) -> None:
    laid = tmp_path / "opt" / "models" / "words.txt"
    model = {
        "assets": {"offsets": "offsets.json", str(laid): "words.txt"},
        "argv": [f"--vocabulary={laid}"],
    }
    expected = in_place(code_job.write_job(production))
    found = launched(code_job.write_job(production, model=model))
    assert laid.read_bytes() == (production / "words.txt").read_bytes()
    laid.unlink()  # a worker of another machine does not have it
    assert on_a_worker(found) == expected
    assert on_a_worker(found) == expected  # it is there already, and the same
    assert [path.name for path in laid.parent.iterdir()] == ["words.txt"]

    laid.write_text("dog\ncow\nbee\nant\n", encoding="utf-8")
    with pytest.raises(
        ModelError, match=rf"model.assets: {laid} is on this machine already, and is not what {production}"
    ):
        on_a_worker(found)
    assert laid.read_text(encoding="utf-8") == "dog\ncow\nbee\nant\n"


def test_a_path_that_cannot_be_written(production: Path) -> None:
    (production / "file").touch()
    assets = {f"{production}/file/words.txt": str(production / "words.txt")}
    with pytest.raises(ModelError, match=r"file/words.txt cannot be written on this machine \(.*\)\. Give the asset"):
        lay(assets, None)


def test_names_in_a_copy(production: Path) -> None:
    (production / "folder" / "deep").mkdir(parents=True)
    for name in ("a", "deep/b"):
        (production / "folder" / name).write_text(name, encoding="utf-8")
    assets = {"one": f"{production}/words.txt", "two": f"{production}/folder"}
    assert sorted(sources_of_assets(assets)) == ["000/words.txt", "001/folder/a", "001/folder/deep/b"]
    assert local_paths(assets, None) == assets
    assert [len(found) for found in asset_digests(assets, None).values()] == [1, 2]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(
            {"args": {"offsets": "{assets.ofsets}"}}, "{assets.ofsets} is no asset; did you mean 'offsets'", id="args"
        ),
        pytest.param({"params": {"which": ["{assets.x}"]}}, "model.params: {assets.x} is no asset", id="in a list"),
        pytest.param({"argv": ["--a={assets.x}"], "assets": {}}, "is no asset; name it in model.assets", id="none"),
        pytest.param(
            {"assets": {"words": "wrds.txt", "offsets": "job.yaml"}},
            "model.assets.words: no such file or folder: ",
            id="no file",
        ),
        pytest.param({"assets": {"a b": "words.txt"}}, "model.assets.a b: expected a name of letters", id="name"),
        pytest.param({"assets": {"/a/../b": "words.txt"}}, "is no plain path; write /b", id="path"),
        pytest.param(
            {"record": "{assets.words}/x"}, "model.record: {assets.words} is filled in env, model.params,", id="place"
        ),
    ],
)
def test_keys_that_are_refused(production: Path, model: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError) as refused:
        load_job(code_job.write_job(production, model=model))
    assert message in str(refused.value)


def test_nothing_is_laid_in_model_dir(production: Path) -> None:
    model = {"assets": {f"{production}/model/words.txt": "words.txt"}, "argv": [], "args": {"offsets": "x"}}
    with pytest.raises(JobError, match=r"model/words.txt: lies in .*/model, where nothing is written to"):
        load_job(code_job.write_job(production, model=model))


def test_braces_that_are_meant(production: Path) -> None:
    config = code_job.write_job(production, model={"args": {"offsets": "{{assets.offsets}}"}})
    from pipeline.assets import with_local_assets

    assert with_local_assets(load_job(config), None).model.args == {"offsets": "{assets.offsets}"}
