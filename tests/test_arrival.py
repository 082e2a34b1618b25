"""Input that is not all there: `input.ready`, `min_shards`, `require_complete`, and waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bad_inputs
import pytest
from bad_inputs import Bench, example, make_rows, tfrecord
from memory_store import new_folder

from pipeline import arrival
from pipeline.arrival import match_complete, wait_for_input
from pipeline.errors import InputError
from pipeline.job import Input
from pipeline.job.values import duration, seconds_of

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench


def source(folder: Path, *patterns: str, **settings: Any) -> Input:
    names = [f"{folder}/{pattern}" for pattern in patterns or ("*.csv",)]
    return Input.model_validate({"pattern": names, **settings})


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def refused(wanted: Input, waited: bool = False) -> str:
    with pytest.raises(InputError) as error:
        match_complete(wanted, waited)
    return str(error.value)


class Clock:
    """Seconds that pass by `sleep` alone; `events` happen at theirs."""

    def __init__(self, **events: Callable[[], None]):
        self.now, self.slept, self.said = 100.0, list[float](), list[str]()
        self.events = {100.0 + float(second.removeprefix("at_")): event for second, event in events.items()}

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        for second in [second for second in self.events if second <= self.now]:
            self.events.pop(second)()

    def wait(self, wanted: Input) -> None:
        wait_for_input(wanted, self.said.append, self, self.sleep)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400)], ids=str
)
def test_durations(text: str, seconds: int) -> None:
    assert seconds_of(duration(text)) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1800, "expected a duration such as 90s, 30m, 2h or 1d, got a whole number (1800); write 1800s for seconds"),
        ("30", "expected a duration such as 90s, 30m, 2h or 1d, got text ('30')"),
        ("0s", "got text ('0s')"),
        ("-1h", "got text ('-1h')"),
        ("1h30m", "got text ('1h30m')"),
        ("30 minutes", "got text ('30 minutes')"),
        (True, "got true"),
        (None, "got nothing"),
    ],
    ids=str,
)
def test_what_is_no_duration(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="expected a duration") as error:
        duration(value)
    assert message in str(error.value)


class TestReady:
    def test_the_marker_lies_in_every_folder_of_a_shard(self, tmp_path: Path) -> None:
        touch(tmp_path, "us/a.csv", "us/_SUCCESS", "eu/a.csv", "eu/b.csv", "asia/_SUCCESS")
        wanted = source(tmp_path, "**/*.csv", ready="_SUCCESS")
        assert refused(wanted) == f"the input is not complete: no _SUCCESS in {tmp_path}/eu (input.ready)"
        touch(tmp_path, "eu/_SUCCESS")
        assert len(match_complete(wanted)) == 3

    def test_many_folders_are_named_in_short(self, tmp_path: Path) -> None:
        touch(tmp_path, *(f"{name}/a.csv" for name in "abcde"))
        assert refused(source(tmp_path, "*/*.csv", ready="done")).endswith(
            f"no done in {tmp_path}/a, {tmp_path}/b, {tmp_path}/c and 2 more (input.ready)"
        )

    def test_on_a_store(self, tmp_path: Path) -> None:
        folder = new_folder("store", tmp_path)
        arrival.files.write_bytes(f"{folder}/day/a.csv", b"1")
        wanted = Input.model_validate({"pattern": f"{folder}/*/*.csv", "ready": "_SUCCESS"})
        assert refused(wanted) == f"the input is not complete: no _SUCCESS in {folder}/day (input.ready)"
        arrival.files.write_bytes(f"{folder}/day/_SUCCESS", b"")
        assert [shard.path for shard in match_complete(wanted)] == [f"{folder}/day/a.csv"]

    def test_the_marker_is_no_shard(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.csv", "done.csv")
        (shard,) = match_complete(source(tmp_path, ready="done.csv"))
        assert shard.path == f"{tmp_path}/a.csv"

    def test_shards_that_came_before_the_marker_are_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The upstream ends between the listing and the look at the marker."""
        touch(tmp_path, "a.csv")
        exists = arrival.files.exists

        def write_and_look(path: str) -> bool:
            touch(tmp_path, "b.csv", "_SUCCESS")
            return exists(path)

        monkeypatch.setattr(arrival.files, "exists", write_and_look)
        assert len(match_complete(source(tmp_path, ready="_SUCCESS"))) == 2


def test_too_few_shards(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv", "b.csv")
    wanted = source(tmp_path, min_shards=3)
    assert refused(wanted) == "the input is not complete: 2 of 3 shards are there (input.min_shards)"
    touch(tmp_path, "c.csv")
    assert len(match_complete(wanted)) == 3


class TestRequireComplete:
    def test_a_gap(self, tmp_path: Path) -> None:
        touch(tmp_path, "a-00000-of-00003.csv", "a-00002-of-00003.csv")
        wanted = source(tmp_path, require_complete=True)
        assert refused(wanted) == (
            f"the input is not complete: {tmp_path}/a-*-of-00003.csv: 1 of 3 shards are not there: 00001 "
            "(input.require_complete)"
        )
        touch(tmp_path, "a-00001-of-00003.csv")
        assert len(match_complete(wanted)) == 3

    def test_each_set_is_complete(self, tmp_path: Path) -> None:
        touch(tmp_path, "us/a-0-of-2.csv", "us/a-1-of-2.csv", "eu/a-1-of-2.csv")
        assert "eu/a-*-of-2.csv: 1 of 2 shards" in refused(source(tmp_path, "*/*.csv", require_complete=True))

    def test_names_that_tell_of_no_gap(self, tmp_path: Path) -> None:
        touch(tmp_path, "a-0-of-1.csv", "b.csv")
        assert refused(source(tmp_path, require_complete=True)) == (
            f"the input is not complete: names without -NNNNN-of-MMMMM tell of no gap: {tmp_path}/b.csv "
            "(input.require_complete)"
        )

    def test_without_it_a_gap_is_taken(self, tmp_path: Path) -> None:
        touch(tmp_path, "a-0-of-2.csv")
        assert len(match_complete(source(tmp_path))) == 1


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "a-0-of-2.csv")
    message = refused(source(tmp_path, ready="_SUCCESS", min_shards=2, require_complete=True, wait="30m"), waited=True)
    assert message.count(" (input.") == 4
    assert message.endswith("; waited 30m for it (input.wait)")


class TestWait:
    def test_nothing_is_waited_for(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.csv")
        for wanted in (source(tmp_path, wait="1h"), source(tmp_path, "none/*.csv")):
            clock = Clock()
            clock.wait(wanted)
            assert (clock.slept, clock.said) == ([], [])

    def test_until_all_is_there(self, tmp_path: Path) -> None:
        clock = Clock(at_15=lambda: touch(tmp_path, "a.csv"), at_25=lambda: touch(tmp_path, "b.csv"))
        clock.wait(source(tmp_path, wait="2m", min_shards=2))
        assert clock.slept == [10, 10, 10]
        (said,) = clock.said
        assert said.startswith(f"waiting up to 2m: input.pattern: no file matches {tmp_path}/*.csv")

    def test_no_longer_than_asked(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.csv")
        clock = Clock(at_25=lambda: touch(tmp_path, "b.csv"))
        wanted = source(tmp_path, wait="24s", min_shards=2)
        clock.wait(wanted)
        assert clock.slept == [10, 10, 4]
        assert clock.said == [
            "waiting up to 24s: the input is not complete: 1 of 2 shards are there (input.min_shards)"
        ]
        assert refused(wanted, waited=True).endswith("1 of 2 shards are there (input.min_shards); waited 24s for it (input.wait)")  # fmt: skip

    def test_what_comes_at_the_last_moment_is_taken(self, tmp_path: Path) -> None:
        wanted = source(tmp_path, wait="14s")
        Clock(at_14=lambda: touch(tmp_path, "a.csv")).wait(wanted)
        assert len(match_complete(wanted)) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ready": "done/_SUCCESS"}, "input.ready: expected the name of a file that lies beside the shards"),
        ({"ready": "*"}, "input.ready: expected the name of a file"),
        ({"ready": ""}, "input.ready: expected the name of a file"),
        ({"min_shards": 0}, "input.min_shards: has to be 1 or more, got 0"),
        ({"require_complete": 1}, "input.require_complete: expected true or false"),
        (
            {"wait": 30},
            "input.wait: expected a duration such as 90s, 30m, 2h or 1d, got a whole number (30); write 30s",
        ),
    ],
    ids=["folder", "pattern", "empty", "no shards", "number", "no unit"],
)
def test_keys_that_are_wrong(settings: dict[str, Any], message: str, bench: Bench) -> None:
    outcome = bench.score(input=settings)
    assert (outcome.code, message in outcome.error) == (2, True), outcome.error


ROWS = make_rows(6)


@pytest.mark.parametrize("command", ["score", "check"])
def test_an_incomplete_input_ends_with_3(command: str, bench: Bench) -> None:
    bench.shard(tfrecord([example(row) for row in ROWS]))
    outcome = bench.score(input={"ready": "_SUCCESS"})
    if command == "check":
        outcome = bench.command("check", "--config", str(bench.folder / "job.yaml"))
    assert outcome.code == 3
    assert f"error: the input is not complete: no _SUCCESS in {bench.folder}/in (input.ready)" in outcome.error
    assert bench.has_no_output


def test_a_run_that_waited_in_vain(bench: Bench) -> None:
    outcome = bench.score(input={"wait": "1s"})
    assert outcome.code == 3
    first, last = outcome.error.splitlines()
    assert first.startswith(f"waiting up to 1s: input.pattern: no file matches {bench.folder}/in/*.tfrecord")
    assert last.startswith("error: input.pattern: no file matches")
    assert last.endswith("; waited 1s for it (input.wait)")
    assert outcome.report["exit_code"] == 3
    assert bench.has_no_output


def test_an_input_that_comes_late_is_scored_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is locked or written as long as the run waits."""
    monkeypatch.setattr(arrival, "POLL_SECONDS", 0.1)
    bench.shard(tfrecord([example(row) for row in ROWS[:3]]), "a")
    lay_there: list[bool] = []

    def upstream() -> None:
        time.sleep(1)
        lay_there.append(bench.output.exists())
        bench.shard(tfrecord([example(row) for row in ROWS[3:]]), "b")
        time.sleep(0.3)
        (bench.folder / "in" / "_SUCCESS").touch()

    thread = threading.Thread(target=upstream)
    thread.start()
    outcome = bench.score(input={"ready": "_SUCCESS", "wait": "60s"})
    thread.join()
    assert outcome.code == 0, outcome.error
    assert outcome.scored == bench.expected(ROWS)
    assert lay_there == [False]
    assert outcome.error.count("waiting up to 60s: the input is not complete: no _SUCCESS in") == 1


def test_ctrl_c_ends_the_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(arrival.wait_for_input, "__defaults__", (time.monotonic, stop))
    outcome = bench.score(input={"wait": "1h"})
    assert outcome.code == 130
    assert outcome.error.endswith("stopped; nothing was published\n")
    assert not bench.output.exists()


def test_keys_of_arrival_change_no_part(bench: Bench) -> None:
    bench.shard(tfrecord([example(row) for row in ROWS[:3]]), "a-0-of-1")
    (bench.folder / "in" / "done").touch()
    first = bench.score()
    told = {"ready": "done", "min_shards": 1, "require_complete": True, "wait": "1h"}
    again = bench.score(input=told, output={"if_exists": "skip"})
    assert (again.code, again.report["status"], again.report["stale"]) == (0, "skipped", [])
    other = bench.score(input=told, output={"if_exists": "overwrite"})
    assert first.manifest is not None
    assert other.manifest is not None
    assert other.manifest["settings"] == first.manifest["settings"]
