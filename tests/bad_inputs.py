"""What the tests of bad inputs share: a small trained model, rows that are marked, shards of them, and the command.

Every text and every whole number of a row holds a mark. Whatever the command says, on the terminal, in a log, in its
report or in its manifest, no mark may be in it: the one place for values of a row is `_record` of a rejected one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pipeline.tf_estimator

import fragile_model
import google_crc32c
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

import pipeline.run  # noqa: F401  while no test captures the terminal: `pipeline.progress` keeps the stderr of its import
from pipeline.commands import main

Row = dict[str, Any]
T = TypeVar("T")

TEXT_MARK = "hunter2"
NUMBER_MARK = 31337313370000
"""Whole numbers of a row follow it. Text of any number near it begins with one of `MARKS`."""
MARKS = (TEXT_MARK, "31337313", "3.1337313")
"""Long enough that no digest holds one by chance."""

FEATURES: dict[str, dict[str, Any]] = {
    "x": {"dtype": "float32"},
    "n": {"dtype": "int64"},
    "pixels": {"dtype": "float32", "shape": [2, 2]},
    "words": {"dtype": "string", "kind": "varlen"},
}
PASSTHROUGH = {"id": {"from": "id", "dtype": "int64"}, "note": {"from": "note", "dtype": "string"}}


ROWS = 5
BAD = 2
"""Rows of a shard, and which of them is bad where one is."""


def make_rows(count: int, first: int = 0) -> list[Row]:
    """Distinct rows that can all be scored; `id` counts up from `first`."""
    return [
        {
            "id": number,
            "note": f"{TEXT_MARK} note {number}",
            "x": 0.25 * number,
            "n": NUMBER_MARK + number,
            "pixels": [[0.5, float(number)], [-1.0, 0.125]],
            "words": [TEXT_MARK] * (number % 3),
        }
        for number in range(first, first + count)
    ]


def with_rows(table: Mapping[str, T]) -> Iterator[tuple[str, list[Row], T]]:
    """The kinds of a table, each with rows of its own for a shard."""
    for number, (kind, entry) in enumerate(table.items()):
        yield kind, make_rows(ROWS, ROWS * number), entry


@dataclass
class Outcome:
    """What a command has come to.

    said: all that it wrote to the terminal and to logs. report: of `--report`. manifest: None where there is none.
    scored: id -> score, of the published files, in their order. rejected: rows under `_rejected`, in their order.
    """

    code: int
    error: str
    said: str
    report: Mapping[str, Any]
    manifest: Mapping[str, Any] | None
    success: bool
    scored: dict[int, float]
    rejected: list[Row]

    @property
    def rows(self) -> tuple[int, int, int]:
        """Rows read, scored and rejected, as the manifest has them."""
        assert self.manifest is not None
        rows = self.manifest["rows"]
        return rows["read"], rows["scored"], rows["rejected"]

    @property
    def reasons(self) -> list[tuple[str, int, str, str]]:
        """Base name of the shard, number, stage and reason of every rejected row."""
        return [(Path(row["_shard"]).name, row["_row"], row["_stage"], row["_reason"]) for row in self.rejected]

    @property
    def states(self) -> dict[str, tuple[str, int, int | None]]:
        """Shard -> state, rows scored, rows lost."""
        assert self.manifest is not None
        return {
            Path(shard["path"]).name: (shard["state"], shard["scored"], shard["rows_lost"])
            for shard in self.manifest["shards"]
        }


@dataclass(frozen=True)
class BadRow:
    """A shard whose row `BAD` is bad. rows: as they would be if it were not."""

    content: bytes
    rows: Sequence[Row]
    reason: str


@dataclass(frozen=True)
class BrokenShard:
    """A shard whose container is broken. kept: the rows before the break."""

    content: bytes
    kept: Sequence[Row]
    reason: str

    @property
    def state(self) -> str:
        return "tail_lost" if self.kept else "unreadable"


@dataclass
class Bench:
    """A job of the trained model in a folder of its own, and the command that runs it."""

    folder: Path
    model_dir: Path
    capture: pytest.CaptureFixture[str]
    log: pytest.LogCaptureFixture
    format: str = "tfrecord"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def has_no_output(self) -> bool:
        """Whether nothing was written but word of the failure, and what the next run may go on with."""
        return not self.output.exists() or {path.name for path in self.output.iterdir()} <= {
            "_FAILED.json",
            "_temporary",
        }

    def shard(self, content: bytes, name: str = "a") -> Path:
        """Write a shard of the bench's format."""
        path = self._path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def score(self, *arguments: str, **settings: Any) -> Outcome:
        """Run `score` on the shards; `settings` are sections of the job file, laid over those of the bench."""
        job = self._job(settings)
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
        return self.command("score", "--config", str(self.folder / "job.yaml"), *arguments)

    def command(self, *arguments: str) -> Outcome:
        """Run a command on what lies in the folder, and hold all it says against the marks."""
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        self.capture.readouterr()
        self.log.clear()
        reported = ["--report", str(report)] if arguments[:1] == ("score",) and "--report" not in arguments else []
        try:
            code = main([*arguments, *reported])
        except SystemExit as exit:  # argparse
            code = exit.code if isinstance(exit.code, int) else 1
        out, error = self.capture.readouterr()
        said = out + error + self.log.text
        outcome = Outcome(
            code=code,
            error=error,
            said=said,
            report=json.loads(report.read_text()) if report.exists() else {},
            manifest=_json(self.output / "_manifest.json"),
            success=(self.output / "_SUCCESS").exists(),
            scored={
                row["id"]: row["score"]
                for path in sorted(self.output.glob("part-*.parquet"))
                for row in pq.read_table(path).to_pylist()
            },
            rejected=[
                row
                for path in sorted((self.output / "_rejected").glob("*.parquet"))
                for row in pq.read_table(path).to_pylist()
            ],
        )
        outcome.said += json.dumps(outcome.report) + json.dumps(outcome.manifest)
        outcome.said += "".join(f"\n{row['_stage']} {row['_reason']}" for row in outcome.rejected)
        leaked = [mark for mark in MARKS if mark in outcome.said]
        assert not leaked, f"values of rows were told: {leaked} in {outcome.said}"
        return outcome

    def expected(self, rows: Iterable[Row]) -> Any:
        """Id -> score, computed from the variables of the checkpoint without TensorFlow's graph."""
        checkpoint = tf.train.load_checkpoint(str(self.model_dir))
        weights, table = checkpoint.get_tensor("weights")[:, 0], checkpoint.get_tensor("table")
        scores = {}
        for row in rows:
            dense = [row["x"], row["n"] % 7, np.sum(row["pixels"]), len(row["words"])]
            scores[row["id"]] = float(np.dot(dense, weights) + table[row["n"] % fragile_model.EMBEDDED])
        return pytest.approx(scores, rel=1e-4, abs=1e-4)

    def assert_bad_rows_cost_themselves(self, shards: Mapping[str, BadRow]) -> Outcome:
        """Score shards of one bad row each: all others are scored, and that one says why it is not."""
        for name, shard in shards.items():
            self.shard(shard.content, name)
        outcome = self.score(errors={"max_bad_rows": len(shards)})
        same(outcome.code, 0, outcome.error)
        same(outcome.error, "")
        reasons = {
            row["_shard"].rpartition("/")[2]: (row["_row"], row["_stage"], row["_reason"]) for row in outcome.rejected
        }
        same(reasons, {f"{name}.{self.format}": (BAD, "read", shard.reason) for name, shard in shards.items()})
        same({row["_format"] for row in outcome.rejected}, {self.format})
        good = [row for shard in shards.values() for number, row in enumerate(shard.rows) if number != BAD]
        same(outcome.scored, self.expected(good))
        same(outcome.rows, (len(good) + len(shards), len(good), len(shards)))
        same(outcome.success, True)
        return outcome

    def assert_broken_shards_cost_themselves(
        self, shards: Mapping[str, BrokenShard], good: bytes, rows: Sequence[Row]
    ) -> None:
        """Score broken shards beside a good one of some rows: refused without a budget; with one all that is whole is there."""
        for name, shard in shards.items():
            self.shard(shard.content, name)
        self.shard(good, "good")
        refused = self.score()
        same(refused.code, 4, refused.error)
        first = f"error: {len(shards)} of {len(shards) + 1} shards are broken, more than errors.max_broken_shards: 0 allows: "
        same(refused.error.startswith(first), True, refused.error)
        same((refused.manifest, refused.success, refused.scored), (None, False, {}))

        outcome = self.score(errors={"max_broken_shards": len(shards)})
        same(outcome.code, 0, outcome.error)
        warnings = {f"{self._path(name)}: {shard.state}: {shard.reason}" for name, shard in shards.items()}
        same(set(outcome.report["warnings"]), warnings)
        states = {self._path(name).name: (shard.state, len(shard.kept), None) for name, shard in shards.items()}
        same(outcome.states, {**states, f"good.{self.format}": ("done", len(rows), 0)})
        kept = [row for shard in shards.values() for row in shard.kept]
        same(outcome.scored, self.expected([*kept, *rows]))
        same(outcome.rows, (len(kept) + len(rows), len(kept) + len(rows), 0))
        same(outcome.manifest and outcome.manifest["resumed_parts"], 1)  # the good shard was not scored again
        same(outcome.success, True)

    def _path(self, name: str) -> Path:
        return self.folder / "in" / f"{name}.{self.format}"

    def _job(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        job: dict[str, Any] = {
            "name": "bench",
            "code": [str(Path(fragile_model.__file__))],
            "input": {"pattern": f"in/*.{self.format}", "format": self.format},
            "features": FEATURES,
            "model": {"model_fn": "fragile_model:model_fn", "model_dir": str(self.model_dir), "params": {}},
            "output": {"path": "out", "passthrough": PASSTHROUGH},
        }
        for section in (self.settings, settings):
            for key, value in section.items():
                merged = isinstance(value, Mapping) and isinstance(job.get(key), Mapping) and key != "features"
                job[key] = {**job[key], **value} if merged else value
        return {key: value for key, value in job.items() if value is not None}


@pytest.fixture(scope="module")
def fragile_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("fragile"))


@pytest.fixture
def bench(
    tmp_path: Path, fragile_model_dir: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Bench:
    """A bench for TFRecord; a test may change its `format` and `settings`."""
    return Bench(tmp_path, fragile_model_dir, capfd, caplog)


def same(found: Any, expected: Any, said: str = "") -> None:
    """`assert found == expected`, which pytest explains in modules of tests alone."""
    assert found == expected, f"{found!r} is not {expected!r}\n{said}"


def train(model_dir: Path) -> Path:
    """Train the model for a moment; what scores is trained weights and no initial ones."""
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)

    def input_fn() -> tf.data.Dataset:
        rows = make_rows(16)
        features: dict[str, Any] = {
            "x": np.array([row["x"] for row in rows], np.float32),
            "n": np.array([row["n"] for row in rows], np.int64),
            "pixels": np.array([row["pixels"] for row in rows], np.float32),
        }
        features["words"] = tf.ragged.constant([row["words"] for row in rows], dtype=tf.string).to_sparse()
        return tf.data.Dataset.from_tensors((features, np.linspace(-1, 1, 16, dtype=np.float32)))

    config = tf.estimator.RunConfig(str(model_dir), tf_random_seed=3, save_summary_steps=1000)
    tf.estimator.Estimator(fragile_model.model_fn, config=config, params={}).train(input_fn, steps=1)
    return model_dir


def example(row: Mapping[str, Any]) -> bytes:
    """A row as a serialized tf.Example. bytes and str make a bytes_list, floats a float_list, integers an int64_list."""
    message = tf.train.Example()
    for name, value in row.items():
        values = np.array(value, dtype=object).reshape(-1).tolist()
        feature = message.features.feature[name]
        if all(isinstance(value, (str, bytes)) for value in values):
            feature.bytes_list.value.extend(value.encode() if isinstance(value, str) else value for value in values)
        elif any(isinstance(value, float) for value in values):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return message.SerializeToString(deterministic=True)


def tfrecord(records: Sequence[bytes]) -> bytes:
    """Records framed as TensorFlow frames them."""

    def masked(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    framed = []
    for record in records:
        length = struct.pack("<Q", len(record))
        framed += [length, masked(length), record, masked(record)]
    return b"".join(framed)


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
