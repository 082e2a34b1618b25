"""A restart of an unfinished run keeps its checkpoint, its transform and its vocabularies, whatever production has by now."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
import record_model
import staged_model
from record_job import write_job as write_recorded_job
from staged_job import launch, scores, write_job

from pipeline.errors import ModelError
from pipeline.job import Job
from pipeline.job.file import load_job
from pipeline.launch import Prepared
from pipeline.run import score
from pipeline.stale import stale

pytestmark = pytest.mark.any_tensorflow


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of the machine is one of this test, and nobody waits."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("pipeline.artifacts.time.sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "production"
    staged_model.train(folder)
    return folder


@pytest.fixture
def production(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "production"))


def plan_of(prepared: Prepared) -> Any:
    """What the plan of an unfinished run says of its copies."""
    return json.loads(json.dumps(prepared.staged))


def choose(production: Path, step: int) -> None:
    (production / "model" / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{step}"\n', encoding="utf-8")


def move_on(production: Path) -> None:
    """Training goes on: another checkpoint is the latest, the older one is deleted, the vocabulary is another."""
    choose(production, 2)
    for path in (production / "model").glob("model.ckpt-1.*"):
        path.unlink()
    (production / "words.txt").write_text("dog\ncow\nbee\nant\n", encoding="utf-8")


@pytest.fixture
def job(production: Path) -> Job:
    """It has chosen the checkpoint of step 1."""
    choose(production, 1)
    return write_job(production)


def test_the_checkpoint_is_kept(job: Job, production: Path) -> None:
    first = launch(job)
    before = scores(first)
    move_on(production)

    again = launch(job, plan_of(first))

    assert again.spec.key == first.spec.key
    assert again.staged == first.staged
    assert (again.model, again.schema) == (first.model, first.schema)
    assert scores(again) == before
    assert launch(job).model["step"] == 2


@pytest.mark.parametrize("model", [{"checkpoint": 2}, {"allow_unused": ["x"]}], ids=["another choice", "another key"])
def test_a_job_that_asks_for_another_checkpoint_gets_it(model: dict[str, Any], job: Job, production: Path) -> None:
    first = launch(job)
    choose(production, 2)
    again = launch(write_job(production, **model), plan_of(first))
    assert again.model["step"] == (2 if "checkpoint" in model else 1)


def damage(prepared: Prepared) -> None:
    assert prepared.spec.copies.model is not None
    (data,) = Path(prepared.spec.copies.model.folder, "content").glob("*.data-*")
    data.write_bytes(bytes(data.stat().st_size))


def remove(prepared: Prepared) -> None:
    assert prepared.spec.copies.model is not None
    shutil.rmtree(prepared.spec.copies.model.folder)


@pytest.mark.parametrize("spoil", [damage, remove])
def test_a_copy_that_is_spoiled_is_made_again(spoil: Callable[[Prepared], None], job: Job, production: Path) -> None:
    first = launch(job)
    before = scores(first)
    spoil(first)
    choose(production, 2)

    again = launch(job, plan_of(first))

    assert (again.model["step"], again.spec.key) == (1, first.spec.key)
    assert scores(again) == before


def rewrite(production: Path) -> None:
    """Another checkpoint under the same name."""
    for path in (production / "model").glob("model.ckpt-2.*"):
        shutil.copy(path, str(path).replace("ckpt-2", "ckpt-1"))


@pytest.mark.parametrize("change", [move_on, rewrite])
@pytest.mark.parametrize("spoil", [damage, remove])
def test_a_checkpoint_that_is_gone_for_good(
    spoil: Callable[[Prepared], None], change: Callable[[Path], None], job: Job, production: Path
) -> None:
    first = launch(job)
    spoil(first)
    change(production)

    path = re.escape(str(production / "model" / "model.ckpt-1"))
    with pytest.raises(ModelError, match=rf"the checkpoint of the unfinished run, {path}, is gone: .*--no_resume"):
        launch(job, plan_of(first))


def test_a_run_that_staged_nothing_pins_nothing(job: Job) -> None:
    assert launch(job, {}).model["step"] == 1


def test_transform_and_record_are_kept_with_the_checkpoint(recorded: Path) -> None:
    job = load_job(str(write_recorded_job(recorded, require_record=True)))
    first = launch(job)
    before = scores(first, "probabilities")
    record_model.save_transform(recorded / "transform", mean=3.0)
    shutil.rmtree(recorded / "model" / "record")
    for path in (recorded / "model").glob("model.ckpt*"):
        path.unlink()

    again = launch(job, plan_of(first))

    assert again.record == first.record
    assert again.record["state"] == "verified"
    assert (again.transform, again.spec.key) == (first.transform, first.spec.key)
    assert first.transform is not None
    assert first.transform["path"] == str(recorded / "transform")
    assert scores(again, "probabilities") == before


def test_a_transform_that_is_gone_for_good(recorded: Path) -> None:
    job = load_job(str(write_recorded_job(recorded)))
    first = launch(job)
    assert first.spec.copies.transform is not None
    shutil.rmtree(first.spec.copies.transform.folder)
    assert launch(job, plan_of(first)).staged == first.staged

    shutil.rmtree(first.spec.copies.transform.folder)
    record_model.save_transform(recorded / "transform", mean=3.0)
    with pytest.raises(ModelError, match=r"the transform of the unfinished run, .*/transform, is gone: .*--no_resume"):
        launch(job, plan_of(first))


def test_a_skip_tells_that_the_transform_was_changed(recorded: Path) -> None:
    """By the files that a run copied: what else lies in the folder is no part of it."""
    job = load_job(str(write_recorded_job(recorded)))
    score(job, quiet=True)
    (recorded / "transform" / "notes.txt").write_text("not read by anything")
    assert stale(job) == []

    record_model.save_transform(recorded / "transform", mean=3.0)

    assert stale(job) == [f"transform: {recorded / 'transform'} was changed"]
