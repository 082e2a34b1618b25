"""What the next run does with what the last one left: goes on, starts anew, leaves it be, and says so."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bad_inputs
import pytest
import tensorflow as tf
from bad_inputs import Bench, example, make_rows, tfrecord

from pipeline import files
from pipeline.lease import Lease, acquire

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

ROWS = make_rows(12)


@pytest.fixture
def shards(bench: Bench) -> list[Path]:
    """Three shards of four rows each."""
    return [
        bench.shard(tfrecord([example(row) for row in ROWS[start : start + 4]]), name)
        for start, name in ((0, "a"), (4, "b"), (8, "c"))
    ]


def broken(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-3])


def failed(bench: Bench) -> dict[str, Any]:
    return json.loads((bench.output / "_FAILED.json").read_text())


def test_a_refused_run_leaves_word_and_the_next_goes_on(bench: Bench, shards: list[Path]) -> None:
    whole = shards[1].read_bytes()
    broken(shards[1])
    refused = bench.score()
    assert refused.code == 4
    left = failed(bench)
    assert (left["exit_code"], left["stage"], left["run_id"]) == (4, "publish", left["run_id"])
    assert f"error: {left['error']}\n" == refused.error
    assert "b.tfrecord (tail_lost" in left["error"]

    shards[1].write_bytes(whole)
    outcome = bench.score()

    assert outcome.code == 0
    assert outcome.scored == bench.expected(ROWS)
    assert outcome.report["resumed_parts"] == 2
    assert outcome.report["not_kept"] == {"the shard was changed": 1}
    assert "resumed     2 parts of an unfinished run were kept; 1: the shard was changed" in outcome.said
    assert not (bench.output / "_FAILED.json").exists()
    assert not (bench.output / "_temporary").exists()


def test_without_resuming_all_is_scored_again(bench: Bench, shards: list[Path]) -> None:
    whole = shards[1].read_bytes()
    broken(shards[1])
    assert bench.score().code == 4
    shards[1].write_bytes(whole)

    outcome = bench.score("--no_resume")

    assert outcome.code == 0
    assert outcome.manifest is not None
    assert outcome.manifest["resumed_parts"] == outcome.report["resumed_parts"] == 0
    assert outcome.report["not_kept"] == {}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"batch": {"rows": 2}}, "other batch"),
        ({"output": {"row_ids": False}}, "other output"),
        ({"model": {"params": {"seed": 2}}}, "other model"),
    ],
    ids=["batch", "output", "model"],
)
def test_why_parts_were_not_kept(settings: dict[str, Any], reason: str, bench: Bench, shards: list[Path]) -> None:
    broken(shards[1])
    assert bench.score().code == 4
    new = bench.shard(tfrecord([example(ROWS[0])]), "d")

    outcome = bench.score(errors={"max_broken_shards": 1}, **settings)

    assert outcome.code == 0
    assert outcome.report["not_kept"] == {reason: 3, "new shard": 1}
    assert new.exists()


def copy_of_model(bench: Bench) -> Path:
    bench.model_dir = Path(shutil.copytree(bench.model_dir, bench.folder / "model"))
    return bench.model_dir


def newer_checkpoint(model_dir: Path) -> None:
    """Training goes on: another checkpoint, with other weights, and the one before it is deleted."""
    old = tf.train.latest_checkpoint(str(model_dir))
    reader = tf.train.load_checkpoint(old)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name in reader.get_variable_to_shape_map():
            value = reader.get_tensor(name)
            tf.compat.v1.get_variable(name, initializer=value + 1 if value.dtype.kind == "f" else value)
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(max_to_keep=1)
        saver.set_last_checkpoints_with_time([(old, 0.0)])
        saver.save(session, str(model_dir / "model.ckpt"), global_step=9)


@pytest.mark.fault("newer-checkpoint")
def test_a_restart_keeps_the_checkpoint_of_the_run(bench: Bench, shards: list[Path]) -> None:
    expected, model_dir = bench.expected(ROWS), copy_of_model(bench)
    whole = shards[1].read_bytes()
    broken(shards[1])
    assert bench.score().code == 4
    newer_checkpoint(model_dir)
    shards[1].write_bytes(whole)

    outcome = bench.score()

    assert outcome.code == 0
    assert outcome.scored == expected
    assert outcome.report["resumed_parts"] == 2
    assert outcome.report["model"]["step"] == 1

    anew = bench.score(output={"if_exists": "overwrite"})  # a run of its own takes the latest
    assert anew.report["model"]["step"] == 9
    assert anew.scored == bench.expected(ROWS)
    assert anew.scored != expected


@pytest.mark.fault("newer-checkpoint")
def test_starting_anew_takes_the_checkpoint_of_today(bench: Bench, shards: list[Path]) -> None:
    model_dir = copy_of_model(bench)
    whole = shards[1].read_bytes()
    broken(shards[1])
    assert bench.score().code == 4
    newer_checkpoint(model_dir)
    shards[1].write_bytes(whole)

    outcome = bench.score("--no_resume")

    assert outcome.report["model"]["step"] == 9
    assert outcome.scored == bench.expected(ROWS)


def test_a_skip_tells_what_is_stale(bench: Bench, shards: list[Path]) -> None:
    model_dir = copy_of_model(bench)
    assert bench.score().code == 0
    again = bench.score(output={"if_exists": "skip"})
    assert (again.code, again.report["status"], again.report["stale"]) == (0, "skipped", [])

    newer_checkpoint(model_dir)
    broken(shards[0])
    shards[2].unlink()
    added = bench.shard(tfrecord([example(ROWS[0])]), "d")
    late = bench.score(output={"if_exists": "skip"}, batch={"rows": 7})

    assert (late.code, late.report["status"]) == (0, "skipped")
    assert late.report["stale"] == [
        "job file: batch.rows was changed",
        f"shards added: {added}",
        f"shards changed: {shards[0]}",
        f"shards gone: {shards[2]}",
        f"checkpoint: {model_dir}/model.ckpt-9 in place of {model_dir}/model.ckpt-1",
    ]
    assert "stale       job file: batch.rows was changed" in late.said


def test_a_skip_tells_of_changed_code(bench: Bench, shards: list[Path]) -> None:
    helper = bench.folder / "helper_of_the_trainer.py"
    helper.write_text("A = 1\n")
    settings = {
        "code": [bad_inputs.fragile_model.__file__, str(helper)],
        "output": {"if_exists": "skip"},
    }
    assert bench.score(**settings).code == 0
    helper.write_text("A = 2\n")
    assert bench.score(**settings).report["stale"] == [f"file changed: {helper}"]


@pytest.mark.fault("locked-output")
@pytest.mark.parametrize(("if_exists", "code"), [("fail", 7), ("skip", 7), ("overwrite", 7)], ids=str)
def test_a_locked_output(
    if_exists: str, code: int, bench: Bench, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.lease.TOUCHED_EVERY", 0.1)
    with acquire(str(bench.output), "other").kept():
        outcome = bench.score(output={"if_exists": if_exists})
    assert outcome.code == code
    assert "is locked by run other" in outcome.error
    assert not (bench.output / "_FAILED.json").exists()


def test_a_complete_output_is_skipped_while_another_run_is_about_to_replace_it(
    bench: Bench, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.score().code == 0
    monkeypatch.setattr("pipeline.lease.TOUCHED_EVERY", 0.1)
    with acquire(str(bench.output), "other").kept():
        outcome = bench.score(output={"if_exists": "skip"})
    assert (outcome.code, outcome.report["status"]) == (0, "skipped")


def test_a_run_that_was_overtaken_publishes_nothing(
    bench: Bench, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run takes the output while the model is proved; its lock is there afterwards, and nothing else."""
    monkeypatch.setattr("pipeline.lease._is_gone", lambda holder: True)
    monkeypatch.setattr("pipeline.run.missing_numbers", lambda found: acquire(str(bench.output), "other") and [])

    outcome = bench.score()

    assert outcome.code == 7
    assert "no longer has the lock, run other has it; this one has published nothing since" in outcome.error
    assert (outcome.success, outcome.scored) == (False, {})
    Lease(str(bench.output), "other", 2).check()
    assert not files.exists(str(bench.output / "_FAILED.json"))


def test_a_publish_that_was_killed_is_finished_by_the_next_run(
    bench: Bench, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise SystemError("as a kill would")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.medium.Disk.write", killed)  # parts are moved by then, manifest and _SUCCESS are not
        first = bench.score()
    assert first.code == 1
    assert len(first.scored) == len(ROWS)
    assert not first.success
    assert failed(bench)["exit_code"] == 1

    outcome = bench.score()

    assert outcome.code == 0
    assert outcome.success
    assert outcome.scored == bench.expected(ROWS)
    assert outcome.report["warnings"] == ["an earlier run of this job had ended while it published; that was finished"]
    assert sorted(path.name for path in bench.output.iterdir()) == [
        "_SUCCESS", "_manifest.json", *(f"part-0000{part}-of-00003.parquet" for part in range(3)),
    ]  # fmt: skip


@pytest.mark.fault("stopped-by-a-signal")
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "stopped")], ids=str
)
def test_stopped_by_a_signal(number: int, code: int, word: str, bench: Bench, shards: list[Path]) -> None:
    """In a process of its own, as a scheduler stops it, while it scores."""
    for shard in shards:
        shard.write_bytes(shard.read_bytes() * 10_000)
    bench.settings = {"batch": {"rows": 128}}  # slowly, so that there is time to stop it
    bench.score("--set", "input.format=csv")  # writes the job file, and is refused
    shutil.rmtree(bench.output)
    job = str(bench.folder / "job.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "score", "--config", job], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(bench.output.glob("_temporary/*/result.json")):
        time.sleep(0.02)
    process.send_signal(number)
    start = time.monotonic()
    _, error = process.communicate(timeout=60)

    assert time.monotonic() - start < 5
    assert process.returncode == code, error
    done = re.fullmatch(rf"{word}; (\d) parts? (is|are) done and kept for the next run; nothing was published\n", error)
    assert done, error
    assert failed(bench)["exit_code"] == code
    outcome = bench.score()
    assert (outcome.code, outcome.rows[0]) == (0, 120_000)
    assert outcome.report["resumed_parts"] == int(done[1]) >= 1
