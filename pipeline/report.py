"""What a run came to: for people on the terminal, for schedulers as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.stopwatch import Age, Stopwatch


def record_in_words(record: Mapping[str, Any]) -> str:
    """How far scores were proved to be the trainer's; `record` of a manifest, for people."""
    difference = record.get("max_difference")
    return record["state"] + ("" if difference is None else f", largest difference {difference:.2g}")


def memory_in_words(memory: Mapping[str, Any]) -> str:
    """The most memory that a process had; `memory` of a manifest, for people."""
    peaks = memory["workers_peak_bytes"] or [memory["launcher_peak_bytes"]]
    more = f" in each of {len(peaks)} processes" if len(peaks) > 1 else ""
    return f"{max(peaks) / 2**30:.1f} GiB at most{more}"


@dataclass
class Report:
    """The end of one `score` command.

    status: done, skipped, failed, or submitted: the run goes on without this process. rows: read, scored, rejected.
    job: of a run that was submitted: runner, name, and where the cluster says so id and url.
    seconds: launch and run by the clock; of the launch: build, replay, probe; and from the start of the process to the
    first scores of the run: first_prediction. cpu_seconds: CPU time of this process, for all but launch and run.
    model, transform, record, memory: as in the manifest. rejected_path: where rejected rows lie, if there are any.
    resumed_parts: parts that an unfinished run had scored. not_kept: why others of it were scored again, reason -> parts.
    known_shards: shards that were left out, for earlier runs have scored them (`input.only_new`).
    stale: what has changed since the output was made that this run has skipped, or has found half published.
    """

    name: str
    output: str
    exit_code: int = 0
    status: str = "done"
    run_id: str | None = None
    run_date: str | None = None
    job: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    shards: int = 0
    known_shards: int = 0
    model: Mapping[str, Any] = field(default_factory=dict)
    transform: Mapping[str, Any] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    rejected_path: str | None = None
    resumed_parts: int = 0
    not_kept: Mapping[str, int] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def rows_per_second(self) -> float:
        """Rows read a second while the pipeline ran, launch not counted."""
        return self.rows.get("read", 0) / self.seconds["run"] if self.seconds.get("run") else 0.0

    def of_launch(self, stopwatch: Stopwatch) -> None:
        """Take over what the parts of the launch took."""
        self.seconds |= stopwatch.seconds
        self.cpu_seconds |= stopwatch.cpu_seconds

    def of_first_prediction(self, age: Age | None) -> None:
        """Take over when the process had its first scores; None where other processes have them."""
        if age is not None:
            self.seconds["first_prediction"], self.cpu_seconds["first_prediction"] = age

    def of_manifest(self, manifest: Mapping[str, Any], rejected_path: str | None) -> None:
        """Take over what the manifest of the output says; rejected_path: where the job wants rejected rows."""
        self.run_id, self.rows, self.shards = manifest["run_id"], manifest["rows"], len(manifest["shards"])
        self.model, self.transform, self.record = manifest["model"], manifest["transform"], manifest["record"]
        self.resumed_parts, self.memory = manifest["resumed_parts"], manifest.get("memory", {})
        self.warnings += [*manifest.get("warnings", ()), *_halved(manifest.get("halved_batches", 0))]
        if self.rows["rejected"]:
            self.rejected_path = rejected_path or f"{self.output}/_rejected"

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "rows_per_second": round(self.rows_per_second, 1)}, indent=1)

    def summary(self) -> str:
        """The lines that a person reads at the end of a run that was done or skipped."""
        if self.status == "skipped" and self.known_shards:
            known = f"earlier runs have scored all shards of the input, {self.known_shards:,} (input.only_new)"
            return "\n".join([f"nothing is new: {known}; nothing was published", *self._notes()])
        if self.status == "skipped":
            skipped = f"{self.output} is complete already (output.if_exists: skip); nothing was scored"
            return "\n".join([skipped, *self._notes()])
        if self.status == "submitted":
            return "\n".join([*self._submitted(), *self._notes()])
        step = f", step {self.model['step']}" if self.model.get("step") is not None else ""
        lines = [
            f"rows        {self.rows['read']:,} read, {self.rows['scored']:,} scored, {self.rows['rejected']:,} rejected",
            f"shards      {self.shards:,}{self._known()}",
            f"checkpoint  {self.model['checkpoint']}{step}",
            f"record      {record_in_words(self.record)}",
            f"output      {self.output}",
        ]
        if self.seconds:
            seconds = f"{self.seconds['run']:.1f} s, after {self.seconds['launch']:.1f} s to launch"
            lines.insert(2, f"speed       {self.rows_per_second:,.0f} rows/s ({seconds})")
        if self.resumed_parts or self.not_kept:
            reasons = "".join(f"; {count:,}: {reason}" for reason, count in self.not_kept.items())
            lines.append(f"resumed     {self.resumed_parts:,} parts of an unfinished run were kept{reasons}")
        if self.memory:
            lines.append(f"memory      {memory_in_words(self.memory)}")
        if self.rejected_path:
            lines.append(f"rejected    {self.rejected_path}")
        return "\n".join([*lines, *self._notes()])

    def _submitted(self) -> Iterator[str]:
        job = self.job
        yield f"submitted   job {job['name']}{' (' + job['id'] + ')' if 'id' in job else ''} to {job['runner']}"
        if "url" in job:
            yield f"            {job['url']}"
        yield f"output      {self.output}"
        yield f"wait        estimator-score wait {self.output}"

    def _known(self) -> str:
        return f", and {self.known_shards:,} that earlier runs have scored" if self.known_shards else ""

    def _notes(self) -> list[str]:
        stale = [f"stale       {difference}" for difference in self.stale]
        return [*stale, *(f"warning     {warning}" for warning in self.warnings)]


def _halved(batches: int) -> list[str]:
    if not batches:
        return []
    return [f"{batches} batches were too large for the memory and were scored in two halves; lower batch.rows"]
