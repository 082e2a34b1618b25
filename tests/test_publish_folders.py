"""Publishing into folders below the output, on a disk and in a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_store import KINDS, new_folder
from published import listing, new_plan, publish_plan, write_part

from pipeline import files
from pipeline.errors import OutputError
from pipeline.plan import Plan, read_plan, write_plan
from pipeline.publish import existing_output

pytestmark = pytest.mark.any_tensorflow
MIRROR = {"output": {"layout": "mirror"}}


@pytest.fixture(params=KINDS)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_folder(request.param, tmp_path)


def mirrored_plan(run_id: str, *folders: str) -> Plan:
    plan = new_plan(run_id, len(folders), job=MIRROR)
    return replace(
        plan, parts=tuple(replace(part, folder=folder) for part, folder in zip(plan.parts, folders, strict=True))
    )


def run(output: str, plan: Plan) -> dict[str, Any]:
    write_plan(output, plan)
    for index in range(len(plan.parts)):
        write_part(output, plan, index)
    return publish_plan(output, read_plan(output))


def test_an_overwrite_takes_the_files_of_all_folders(output: str) -> None:
    first = run(output, mirrored_plan("r1", "a", "a/b", ""))
    paths = ["a/part-00000-of-00003.parquet", "a/b/part-00001-of-00003.parquet", "part-00002-of-00003.parquet"]
    assert [file["path"] for file in first["files"]] == paths
    assert listing(output) == sorted(["_SUCCESS", "_manifest.json", *paths])
    files.write_bytes(files.join(output, "a", "notes.txt"), b"mine")

    run(output, mirrored_plan("r2", "c"))

    assert listing(output) == ["_SUCCESS", "_manifest.json", "a/notes.txt", "c/part-00000-of-00001.parquet"]


def test_parts_of_others_below_are_told_of(output: str) -> None:
    run(output, mirrored_plan("r1", "a"))
    assert existing_output(output, "skip", "mirror") == "skip"
    assert existing_output(output, "overwrite", "mirror") == "write"
    files.write_bytes(files.join(output, "b", "part-00000-of-00001.parquet"), b"mine")
    assert existing_output(output, "overwrite", "flat") == "write"
    with pytest.raises(OutputError, match=r"holds b/part-00000-of-00001.parquet, which no _manifest.json there names"):
        existing_output(output, "overwrite", "mirror")
