"""`inspect OUTPUT`: complete or not, rows, shards, model; never a value of a row."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  tf.estimator, before TensorFlow is imported

import pyarrow as pa
import pytest
from inspected import DATA, SECRET, fact, section
from published import publish_plan

from pipeline.errors import InputError, OutputError
from pipeline.inspect import inspect
from pipeline.plan import Plan, write_plan
from pipeline.publish import Limits
from pipeline.rows import Part, PartBatch, Rejected, Shard, ShardEnd
from pipeline.write import PartWriter


def new_plan(run_id: str = "run1", shards: int = 2) -> Plan:
    schema = pa.schema([pa.field("name", pa.string()), pa.field("_shard", pa.string()), pa.field("_row", pa.int64())])
    return Plan(
        run_id=run_id,
        run_date="2026-11-22",
        name="taxi",
        started="2026-11-22T03:00:00.000Z",
        parts=tuple(
            Part.of_shard(index, f"key{run_id}{index}", Shard(f"in/{index}.csv", 100, 1.5)) for index in range(shards)
        ),
        record_format="csv",
        schema=schema,
        features=("miles",),
        model={
            "estimator": "m:build",
            "checkpoint": "models/model.ckpt-30",
            "step": 30,
            "digest": "d1gest",
            "assets": {},
        },
        transform={"path": "models/transform", "fingerprint": "f1ngerprint"},
        record={"state": "unverified", "max_difference": None},
        warnings=("shard 7 is not there",),
    )


def publish_output(folder: Path, *, rejected: int = 0, broken: bool = False) -> Path:
    output, plan = str(folder / "output"), new_plan()
    write_plan(output, plan)
    for part in plan.parts:
        columns = [pa.array([SECRET] * 3), pa.array([part.name] * 3), pa.array(range(3), pa.int64())]
        rows = pa.record_batch(columns, schema=plan.schema)
        bad = tuple(Rejected(3 + row, "read", "miles: missing", b"") for row in range(rejected)) if part.index else ()
        state = "tail_lost" if broken and part.index else "done"
        end = ShardEnd(3 + len(bad), state, "the gzip stream is cut off" if broken else "")
        batch = PartBatch(part, 0, rows, bad, (end,), {"miles": 2})
        PartWriter(output, part, plan.schema, "csv", "a1", plan.run_id).write(batch)
    publish_plan(output, plan, Limits(max_bad_rows=10, max_broken_shards=1))
    return Path(output)


class TestOutput:
    def test_complete(self, tmp_path: Path) -> None:
        output = publish_output(tmp_path, rejected=2)
        text = inspect(str(output))
        assert fact(text, "state") == "complete (_SUCCESS and _manifest.json are of one run, all files are there)"
        assert [fact(text, name) for name in ("run", "name", "run date")] == ["run1", "taxi", "2026-11-22"]
        assert fact(text, "rows") == "8 read, 6 scored, 2 rejected"
        assert fact(text, "checkpoint") == "models/model.ckpt-30, step 30"
        assert [fact(text, "digest"), fact(text, "fingerprint")] == ["d1gest", "f1ngerprint"]
        assert fact(text, "record") == "unverified"
        parts = sorted(output.glob("part-*.parquet"))
        assert fact(text, "files") == f"2, {sum(part.stat().st_size for part in parts):,} bytes"
        assert section(text, "schema") == [["name", "string"], ["_shard", "string"], ["_row", "int64"]]
        assert section(text, "files")[-3:-1] == [[part.name, "3", f"{part.stat().st_size:,}"] for part in parts]
        assert section(text, "files")[-1][:2] == ["_rejected/part-00001-of-00002.parquet", "2"]
        assert section(text, "features") == [["name", "present", "missing"], ["miles", "4", "4"]]
        assert section(text, "warnings") == [["shard 7 is not there"]]
        assert "broken shards" not in text
        assert SECRET not in text

    def test_broken_shard(self, tmp_path: Path) -> None:
        text = inspect(str(publish_output(tmp_path, broken=True)))
        assert section(text, "broken shards") == [
            ["path", "state", "read", "lost"],
            ["in/1.csv", "tail_lost", "3", "unknown"],
        ]
        assert ["in/1.csv: tail_lost: the gzip stream is cut off"] in section(text, "warnings")

    @pytest.mark.parametrize(
        ("harm", "state"),
        [
            pytest.param(
                lambda output: (output / "_SUCCESS").unlink(), "not complete: there is no _SUCCESS; ", id="no-success"
            ),
            pytest.param(
                lambda output: (output / "_SUCCESS").write_text("run0"),
                "not complete: _SUCCESS is of the run run0, _manifest.json of another",
                id="two-runs",
            ),
            pytest.param(
                lambda output: (output / "part-00001-of-00002.parquet").unlink(),
                "not complete: 1 of 2 files missing or of another size: part-00001-of-00002.parquet",
                id="missing-file",
            ),
            pytest.param(
                lambda output: (output / "part-00000-of-00002.parquet").write_bytes(b"cut"),
                "not complete: 1 of 2 files missing or of another size: part-00000-of-00002.parquet",
                id="cut-file",
            ),
            pytest.param(
                lambda output: (output / "_manifest.json").unlink(),
                "unknown: _SUCCESS without _manifest.json; ",
                id="no-manifest",
            ),
        ],
    )
    def test_not_complete(self, tmp_path: Path, harm: Callable[[Path], Any], state: str) -> None:
        output = publish_output(tmp_path)
        harm(output)
        assert fact(inspect(str(output)), "state").startswith(state)

    def test_run_in_progress(self, tmp_path: Path) -> None:
        write_plan(str(tmp_path), new_plan("run9", shards=5))
        text = inspect(str(tmp_path))
        assert fact(text, "state") == "not complete: nothing was published, there is no _manifest.json"
        rows = dict(section(text, "a run that is not finished"))
        assert (rows["run"], rows["shards"], rows["checkpoint"]) == ("run9", "5", "models/model.ckpt-30")

    def test_run_in_progress_over_a_complete_output(self, tmp_path: Path) -> None:
        output = publish_output(tmp_path)
        write_plan(str(output), new_plan("run9"))
        text = inspect(str(output))
        assert fact(text, "state").startswith("complete ")
        assert dict(section(text, "a run that is not finished"))["run"] == "run9"

    def test_damaged_manifest(self, tmp_path: Path) -> None:
        manifest = tmp_path / "_manifest.json"
        manifest.write_text('{"format_version": 1, "files": []}')
        with pytest.raises(InputError, match=re.escape(f"{manifest} is damaged (KeyError); score again")):
            inspect(str(tmp_path))
        manifest.write_text("[1]")
        with pytest.raises(OutputError, match=re.escape(f"{manifest} is no manifest of ours")):
            inspect(str(tmp_path))

    def test_damaged_plan(self, tmp_path: Path) -> None:
        write_plan(str(tmp_path), new_plan())
        plan = tmp_path / "_temporary" / "plan.json"
        plan.write_text(plan.read_text()[:-10])
        with pytest.raises(InputError, match=re.escape(f"{plan} is damaged (JSONDecodeError); score again")):
            inspect(str(tmp_path))

    def test_by_a_file_of_it(self, tmp_path: Path) -> None:
        output = publish_output(tmp_path)
        assert inspect(str(output / "_manifest.json")) == inspect(f"{output}/") == inspect(str(output))

    def test_needs_no_tensorflow(self, tmp_path: Path) -> None:
        output = publish_output(tmp_path)
        program = """
            import sys
            from pipeline.inspect import inspect
            for path in sys.argv[1:]:
                inspect(path)
            assert "tensorflow" not in sys.modules
        """
        arguments = [str(output), str(output / "part-00000-of-00002.parquet")]
        subprocess.run([sys.executable, "-c", textwrap.dedent(program), *arguments], check=True, cwd=DATA.parents[1])
