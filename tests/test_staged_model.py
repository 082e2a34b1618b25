"""A run reads copies of checkpoint, transform and vocabularies: what a trainer does to the originals changes nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
import staged_model
from staged_job import launch, scores, snapshot, write_job

from pipeline import artifacts, files
from pipeline.commands import main
from pipeline.errors import JobError, ModelError
from pipeline.job.file import load_job
from pipeline.launch import Prepared, prepare
from pipeline.plan import match_shards
from pipeline.scoring import close_scorers
from pipeline.staging import Source

WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What two trainings left, by their seed."""
    folders = {seed: tmp_path_factory.mktemp("trained") / "production" for seed in (1, 2)}
    for seed, folder in folders.items():
        staged_model.train(folder, seed)
    return folders


@pytest.fixture
def production(trained: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, so that every test may change it. The cache of the machine is one of this test, and nobody waits."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(artifacts.time, "sleep", lambda seconds: None)
    return Path(shutil.copytree(trained[1], tmp_path / "production"))


def in_place(folder: Path, **model: Any) -> list[float]:
    """The scores of a job that reads production itself."""
    job = write_job(folder, **model)
    prepared = prepare(job, match_shards(job.input))
    close_scorers()
    return scores(prepared)


def rewrite(production: Path, other: Path) -> None:
    """In place, with files of the same names and sizes."""
    for path in (production / "model").rglob("model.ckpt*"):
        path.write_bytes((other / "model" / path.name).read_bytes())
    (production / "model" / "offset.txt").write_text("7.5", encoding="utf-8")
    (production / "words.txt").write_text("dog\ncow\nbee\nant\n", encoding="utf-8")


def delete(production: Path, other: Path) -> None:
    shutil.rmtree(production / "model")
    (production / "words.txt").unlink()


@pytest.mark.fault("checkpoint-deleted")
@pytest.mark.parametrize("change", [rewrite, delete])
def test_what_happens_to_production_after_launch(
    change: Callable[[Path, Path], None], production: Path, trained: dict[int, Path]
) -> None:
    before, other = in_place(production), in_place(trained[2])
    prepared = launch(write_job(production))

    change(production, trained[2])

    assert scores(prepared) == before != other


@pytest.mark.parametrize("options", [(), WORKERS], ids=["in process", "in processes"])
def test_production_is_not_written_to(
    options: tuple[str, ...], production: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # of the workers that the runner starts
    write_job(production)
    before = snapshot(production)
    for path in [production, *production.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)

    config = str(production / "job.yaml")
    assert main(["score", "--config", config, "--quiet", "--set", f"output.path={tmp_path}/out", *options]) == 0

    assert snapshot(production) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_SUCCESS",
        "_manifest.json",
        "part-00000-of-00001.parquet",
    ]


def test_the_manifest_tells_of_production(production: Path) -> None:
    prepared = launch(write_job(production))
    words = str(production / "words.txt")
    assert prepared.model["checkpoint"] == str(production / "model" / "model.ckpt-2")
    assert list(prepared.model["assets"]) == [words]
    assert prepared.spec.checkpoint.path == str(production / "model" / "model.ckpt-2")
    assert prepared.spec.job.model.model_dir == str(production / "model")


def test_keys_of_parts_do_not_tell_where_copies_are(production: Path, tmp_path: Path) -> None:
    job = write_job(production)
    jobs = [write_job(production, staging=str(tmp_path / name)) for name in ("one", "two")]
    found = [prepare(job, match_shards(job.input)), *map(launch, [job, *jobs])]
    close_scorers()
    assert len({prepared.spec.key for prepared in found}) == 1
    assert all(prepared.model == found[0].model for prepared in found)
    assert [bool(prepared.staged) for prepared in found] == [False, True, True, True]


def content(prepared: Prepared) -> dict[str, bytes]:
    assert prepared.spec.copies.model is not None
    folder = Path(prepared.spec.copies.model.folder, "content")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_copied_of_model_dir(production: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "EXTRA_BYTES", 100)
    for name, size in {"vocab.txt": 100, "large": 101, "_x": 1, ".x": 1, "assets/a/b": 5, "other/c": 5}.items():
        path = production / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a" * size)

    copied = content(launch(write_job(production, checkpoint=1)))

    data = "model.ckpt-1.data-00000-of-00001"
    assert sorted(copied) == ["assets/a/b", "checkpoint", data, "model.ckpt-1.index", "offset.txt", "vocab.txt"]
    assert copied["checkpoint"].startswith(b'model_checkpoint_path: "model.ckpt-1"\n')
    assert copied[data] == (production / "model" / data).read_bytes()


def test_event_files_that_chose_the_checkpoint_are_copied(production: Path) -> None:
    (events,) = (production / "model" / "eval").iterdir()
    copied = content(launch(write_job(production, checkpoint={"best": {"metric": "mae", "mode": "max"}})))
    assert copied[f"eval/{events.name}"] == events.read_bytes()


def test_a_state_file_of_another_machine(production: Path) -> None:
    state = 'model_checkpoint_path: "/home/trainer/model/model.ckpt-1"\n'
    (production / "model" / "checkpoint").write_text(state, encoding="utf-8")
    prepared = launch(write_job(production))
    assert prepared.model["checkpoint"] == str(production / "model" / "model.ckpt-1")
    shutil.rmtree(production / "model")
    assert scores(prepared)


def test_an_estimator_that_knows_its_model_dir_keeps_it(production: Path) -> None:
    job = write_job(production)
    model = job.model.model_copy(update={"model_dir": None})
    prepared = launch(job.model_copy(update={"model": model}))
    before = in_place(production)
    for path in (production / "model").glob("model.ckpt*"):
        path.unlink()

    assert sorted(content(prepared)) == ["checkpoint", "model.ckpt-2.data-00000-of-00001", "model.ckpt-2.index"]
    assert scores(prepared) == before


def trainer_while_copying(monkeypatch: pytest.MonkeyPatch, change: Callable[[int], None]) -> None:
    """Let a trainer act whenever an index was copied; it is told how often that was."""
    copied, times = staging_copied(), []

    def copied_and_changed(name: str, source: Source | bytes, target: str) -> dict[str, Any]:
        done = copied(name, source, target)
        if name.endswith("data-00000-of-00001"):
            times.append(name)
            change(len(times))
        return done

    monkeypatch.setattr("pipeline.staging._copied", copied_and_changed)


def staging_copied() -> Callable[[str, Source | bytes, str], dict[str, Any]]:
    from pipeline import staging

    return staging._copied


def test_a_checkpoint_that_is_rewritten_while_it_is_copied(
    production: Path, trained: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(time: int) -> None:
        if time == 1:
            rewrite(production, trained[2])

    trainer_while_copying(monkeypatch, change)
    prepared = launch(write_job(production))
    monkeypatch.undo()
    assert scores(prepared) == in_place(production)


def test_a_checkpoint_that_is_deleted_for_a_newer_one_while_it_is_copied(
    production: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = production / "model"
    state = model / "checkpoint"
    newest = state.read_text(encoding="utf-8")
    state.write_text('model_checkpoint_path: "model.ckpt-1"\n', encoding="utf-8")

    def change(time: int) -> None:
        if time == 1:
            (model / "model.ckpt-1.index").unlink()
            state.write_text(newest, encoding="utf-8")

    trainer_while_copying(monkeypatch, change)
    assert launch(write_job(production)).model["step"] == 2


def test_a_checkpoint_that_never_stays_the_same(
    production: Path, trained: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer_while_copying(monkeypatch, lambda time: rewrite(production, trained[1 + time % 2]))
    message = r"the checkpoint cannot be copied as a whole: .*model/model\.ckpt-2.*A program writes there"
    with pytest.raises(ModelError, match=message):
        launch(write_job(production))
    assert not list((production / "out" / "_temporary" / "staging").glob("*/"))


def test_a_damaged_variable_is_named(production: Path) -> None:
    data = production / "model" / "model.ckpt-2.data-00000-of-00001"
    data.write_bytes(bytes(len(data.read_bytes())))
    with pytest.raises(ModelError, match=r"production/model/model\.ckpt-2: the bytes of 'dense/bias' are not those"):
        launch(write_job(production))


def test_errors_name_production(production: Path) -> None:
    with pytest.raises(ModelError) as raised:
        launch(write_job(production, {"layer": "other"}))
    assert str(raised.value).startswith(f"{production}/model/model.ckpt-2: ")
    assert "staging" not in str(raised.value)


def test_a_file_of_model_dir_that_is_not_copied_is_explained(production: Path) -> None:
    (production / "model" / "deep").mkdir()
    shutil.copy(production / "model" / "offset.txt", production / "model" / "deep" / "offset.txt")
    with pytest.raises(ModelError) as raised:
        launch(write_job(production, {"opens": "deep/offset.txt"}))
    assert f"{production}/model/deep/offset.txt" in str(raised.value)
    assert "The run works on a copy of model_dir, with the files directly in it and those below assets/" in str(
        raised.value
    )


def test_a_copy_that_a_worker_finds_damaged(production: Path) -> None:
    prepared = launch(write_job(production))
    assert prepared.spec.copies.model is not None
    path = Path(prepared.spec.copies.model.folder, "content", "offset.txt")
    path.write_text("0.5", encoding="utf-8")
    with pytest.raises(ModelError, match="is not what the launcher copied"):
        scores(prepared)


def test_a_graph_that_reads_another_file_on_a_worker(production: Path) -> None:
    prepared = launch(write_job(production))
    shutil.copy(production / "words.txt", production / "renamed.txt")
    params = prepared.spec.job.model.params | {"vocabulary": str(production / "renamed.txt")}
    prepared.spec.job.model.params.update(params)
    with pytest.raises(ModelError, match=r"the graph reads .*renamed\.txt, and at launch it read files of other names"):
        scores(prepared)


def test_runs_share_a_staging_folder(production: Path, tmp_path: Path) -> None:
    job = write_job(production, staging=str(tmp_path / "staging"))
    first = launch(job)
    written = snapshot(tmp_path / "staging")
    second = launch(job)
    assert second.spec.copies == first.spec.copies
    now = snapshot(tmp_path / "staging")
    assert {path: now[path] for path in written if not path.endswith(".lock")} == {
        path: state for path, state in written.items() if not path.endswith(".lock")
    }


def test_staging_in_the_input_is_refused(production: Path) -> None:
    write_job(production)
    text = (production / "job.yaml").read_text(encoding="utf-8").replace("rows.parquet", "**")
    (production / "job.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(JobError, match=r"model\.staging: .* lies where the input pattern"):
        load_job(
            str(production / "job.yaml"),
            overrides=[f"model.staging={production}/s", "output.path=/elsewhere", "input.format=parquet"],
        )


def test_relative_staging_starts_at_the_job_file(production: Path) -> None:
    job = write_job(production, staging="copies")
    assert job.model.staging == os.path.join(production, "copies")
    assert files.is_local(artifacts.staging_folder(job))
