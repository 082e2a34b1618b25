"""What a run came to: for people on the terminal, for schedulers as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


def record_in_words(record: Mapping[str, Any]) -> str:
    """How far scores were proved to be the trainer's; `record` of a manifest, for people."""
    difference = record.get("max_difference")
    return record["state"] + ("" if difference is None else f", largest difference {difference:.2g}")


@dataclass
class Report:
    """The end of one `score` command.

    status: done, skipped or failed. rows: read, scored, rejected. seconds: name of a phase -> its wall time.
    model, transform, record: as in the manifest. rejected_path: where rejected rows lie, if there are any.
    """

    name: str
    output: str
    exit_code: int = 0
    status: str = "done"
    run_id: str | None = None
    run_date: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    shards: int = 0
    model: Mapping[str, Any] = field(default_factory=dict)
    transform: Mapping[str, Any] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rejected_path: str | None = None
    warnings: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def rows_per_second(self) -> float:
        """Rows read a second while the pipeline ran, launch not counted."""
        return self.rows.get("read", 0) / self.seconds["run"] if self.seconds.get("run") else 0.0

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "rows_per_second": round(self.rows_per_second, 1)}, indent=1)

    def summary(self) -> str:
        """The lines that a person reads at the end of a run that was done or skipped."""
        if self.status == "skipped":
            return f"{self.output} is complete already (output.if_exists: skip); nothing was scored"
        step = f", step {self.model['step']}" if self.model.get("step") is not None else ""
        lines = [
            f"rows        {self.rows['read']:,} read, {self.rows['scored']:,} scored, {self.rows['rejected']:,} rejected",
            f"shards      {self.shards:,}",
            f"speed       {self.rows_per_second:,.0f} rows/s ({self.seconds['run']:.1f} s, after {self.seconds['launch']:.1f} s to launch)",
            f"checkpoint  {self.model['checkpoint']}{step}",
            f"record      {record_in_words(self.record)}",
            f"output      {self.output}",
        ]
        if self.rejected_path:
            lines.append(f"rejected    {self.rejected_path}")
        return "\n".join(lines + [f"warning     {warning}" for warning in self.warnings])
