"""A job whose runs are disturbed: what lies at its output before, what has to lie there after, and a reader meanwhile."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fragile_model
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from bad_inputs import FEATURES, PASSTHROUGH, example, make_rows, same, tfrecord
from runs import Fault, Run, RunServer

from pipeline import files
from pipeline.manifest import read_manifest

SHARDS, OLDER_SHARDS = 3, 5
ROWS = 4
"""Of each shard. The second and the last shard hold a bad row besides."""
NEW, OLDER = ["in", 100], ["older", 500]
"""Folder of the input of a run, and where its rows begin to count."""

_TOUCH = re.compile("(utime|replace|copy) _temporary/lock/")

Tables = dict[str, pa.Table]
"""Name of a Parquet file below the output -> its rows."""


class NotThere(Exception):
    """A reader found no output, or one that was being replaced."""


@dataclass
class Scene:
    """A job in a folder of its own, with its output there or on a store.

    is_over: an older output lies there, with more shards, and is to be replaced.
    """

    server: RunServer
    folder: Path
    model_dir: Path
    output: str
    is_over: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.older_output = f"{self.output} of before"
        for (name, first), shards in ((NEW, SHARDS), (OLDER, OLDER_SHARDS)):
            (self.folder / name).mkdir(parents=True)
            for shard in range(shards):
                records = [example(row) for row in make_rows(ROWS, first + ROWS * shard)]
                if shard in (1, shards - 1):
                    records.insert(1, b"\xff no tf.Example")
                (self.folder / name / f"{shard}.tfrecord").write_bytes(tfrecord(records))
        job = {
            "name": "scene",
            "code": [fragile_model.__file__],
            "input": {"pattern": "in/*.tfrecord"},
            "features": FEATURES,
            "model": {"model_fn": "fragile_model:model_fn", "model_dir": str(self.model_dir)},
            "output": {"path": self.output, "passthrough": PASSTHROUGH},
            "errors": {"max_bad_rows": 2},
        }
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job))
        self.environment = {**self.environment, "TMPDIR": str(self.folder)}
        self.older: dict[str, Tables] = {}
        if self.is_over:
            self.expect(self.start_older(self.older_output), 0)
            self.older = {self.run_id(self.older_output): read(self.older_output)}
        self.prepare()
        start = time.monotonic()
        first = self.start()
        self.expect(first, 0)
        self.seconds = time.monotonic() - start
        self.calls = first.calls
        self.new = read(self.output)

    def moments(self, calls: list[str] | None = None) -> list[tuple[str, int]]:
        """Each call of a run, else of an undisturbed one, that changes the output: its name, and the how-manieth of it.

        Of many writes to one file it is the first, one in the middle and the last. The lease is touched now and then, at
        no certain moment.
        """
        found = []
        count: Counter[str] = Counter()
        for name, together in itertools.groupby(calls or self.calls):
            numbers = [count[name] + number for number, _ in enumerate(together, 1)]
            count[name] = numbers[-1]
            if name.startswith("write "):
                numbers = sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
            if not _TOUCH.match(name) and " /" not in name:  # a path outside the output
                found += [(name, number) for number in numbers]
        return found

    def prepare(self) -> None:
        """Put back what lay at the output before the run."""
        files.delete_folder(self.output)
        if self.is_over:
            for info in files.match(files.join(self.older_output, "**")):
                files.copy(info.path, files.join(self.output, info.path[len(self.older_output) + 1 :]))

    def start(self, fault: Fault | None = None, **options: Any) -> Run:
        """Start the run; always the same command."""
        arguments = ["score", "--config", str(self.folder / "job.yaml"), "--quiet"]
        if self.is_over:
            arguments += ["--set", "output.if_exists=overwrite"]
        return self.server.start(self.output, arguments, fault, environment=self.environment, **options)

    def start_older(self, output: str | None = None) -> Run:
        """Start a run of the other input, which replaces what is there."""
        arguments = [
            "score",
            "--config",
            str(self.folder / "job.yaml"),
            "--quiet",
            "--set",
            f"input.pattern={self.folder}/older/*.tfrecord",
        ]
        arguments += ["--set", "output.if_exists=overwrite"]
        if output is not None:
            arguments += ["--set", f"output.path={output}"]
        return self.server.start(output or self.output, arguments, environment=self.environment)

    def run_id(self, output: str | None = None) -> str:
        return files.read_bytes(files.join(output or self.output, "_SUCCESS")).decode()

    def expect(self, run: Run, *codes: int | str) -> None:
        """Wait for the end of a run, which has to be one of these."""
        code = run.wait()
        assert code in codes, f"exit code {code}: {run.said}"

    def is_finished(self) -> bool:
        """Whether an output of the new run lies there, and nothing of what was temporary but a lock."""
        if not files.exists(files.join(self.output, "_SUCCESS")) or self.run_id() in self.older:
            return False
        left = files.match(files.join(self.output, "_temporary", "**"))
        return all("/_temporary/lock/" in info.path for info in left)

    def go_on(self) -> None:
        """Give the command once more after a run that was disturbed: it ends well, and all is as if nothing had been."""
        is_refused = self.is_finished() and not self.is_over  # as `if_exists: fail` wants it; empty folders may be left
        self.expect(self.start(), 7 if is_refused else 0)
        self.check(folders=not is_refused)

    def is_one_run_or_none(self) -> bool:
        """Whether a reader finds a whole output of either run, or none."""
        try:
            return self.is_whole(*read_once(self.output))
        except NotThere:
            return True

    def is_whole(self, run_id: str, tables: Tables) -> bool:
        """Whether these are all rows of the older run if that is its id, or else of the new one."""
        return tables == self.older.get(run_id, self.new)

    def check(self, folders: bool = True) -> None:
        """The output is that of an undisturbed run, row for row; nothing else is there, and the manifest tells the truth.

        folders: nor is there a folder of what was temporary.
        """
        same(read(self.output), self.new)
        check_listing(self.output, list(self.new), folders)
        manifest = read_manifest(self.output)
        assert manifest is not None
        same(manifest["run_id"], self.run_id())
        same(manifest["rows"], {"read": ROWS * SHARDS + 2, "scored": ROWS * SHARDS, "rejected": 2})
        for file in [*manifest["files"], *manifest["rejected_files"]]:
            data = files.read_bytes(files.join(self.output, file["path"]))
            same((len(data), hashlib.sha256(data).hexdigest()), (file["bytes"], file["sha256"]))
            same(self.new[file["path"]].num_rows, file["rows"])


def check_listing(output: str, tables: list[str], folders: bool = True) -> None:
    """An output holds these files, manifest and `_SUCCESS`. folders: and no folder of what was temporary."""
    found = [info.path[len(output) + 1 :] for info in files.match(files.join(output, "**"))]
    same(found, sorted([*tables, "_SUCCESS", "_manifest.json"]))
    if folders and files.is_local(output):
        same({path.name for path in Path(output).rglob("*") if path.is_dir()}, {"_rejected"})


def read(output: str) -> Tables:
    """All Parquet files of an output."""
    return read_once(output)[1]


def read_once(output: str) -> tuple[str, Tables]:
    """Run id and rows of an output, by the rule for readers. Raises NotThere."""
    try:
        before = files.read_bytes(files.join(output, "_SUCCESS"))
        listed = [*files.list_folder(output), *files.list_folder(files.join(output, "_rejected"))]
        tables = {
            info.path[len(output) + 1 :]: pq.read_table(io.BytesIO(files.read_bytes(info.path)))
            for info in listed
            if files.base_name(info.path).startswith("part-")
        }
        after = files.read_bytes(files.join(output, "_SUCCESS"))
    except OSError as error:
        if not isinstance(error, FileNotFoundError) and error.errno != errno.ESTALE:  # replaced while it was read
            raise
        raise NotThere from error
    if before != after:
        raise NotThere
    return before.decode(), tables


class Reader:
    """Reads an output all the while, by the rule, and holds each whole reading against the runs that there were.

    seen: how many readings were whole, by the run they were of: older, new.
    """

    def __init__(self, scene: Scene, every: float = 0.005):
        self._scene, self._every = scene, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_on, daemon=True)
        self.seen: Counter[str] = Counter()
        self.mixed: list[str] = []

    def _read_on(self) -> None:
        while not self._stop.wait(self._every):
            self._read()

    def _read(self) -> None:
        try:
            run_id, tables = read_once(self._scene.output)
        except NotThere:
            return
        except (OSError, pa.ArrowException) as error:
            self.mixed.append(repr(error))
            return
        self.seen["older" if run_id in self._scene.older else "new"] += 1
        if not self._scene.is_whole(run_id, tables):
            self.mixed.append(f"{run_id}: {sorted(tables)}")

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join()
        self._read()
        if error[0] is None:
            same(self.mixed, [])
