"""Publishing where something lies already: an earlier output, or files of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from published import run
from test_files import KINDS, new_folder

from pipeline import files
from pipeline.errors import OutputError
from pipeline.publish import existing_output


@pytest.fixture(params=KINDS)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_folder(request.param, tmp_path)


@pytest.mark.parametrize(
    ("if_exists", "decision"), [("fail", OutputError), ("skip", "skip"), ("overwrite", "write")], ids=str
)
def test_an_output_that_exists(output: str, if_exists: Any, decision: Any) -> None:
    assert existing_output(output, if_exists) == "write"
    run(output, "r1", 2)
    if decision is not OutputError:
        assert existing_output(output, if_exists) == decision
        return

    with pytest.raises(OutputError, match=r"output.path: .* write output.if_exists: skip .* or overwrite") as error:
        existing_output(output, if_exists)

    assert error.value.exit_code == 7


@pytest.mark.parametrize("success", [False, True], ids=["no _SUCCESS", "foreign _SUCCESS"])
def test_part_files_of_others_are_not_written_among(output: str, success: bool) -> None:
    files.write_bytes(files.join(output, "part-00000-c0ffee.snappy.parquet"), b"")
    if success:
        files.write_bytes(files.join(output, "_SUCCESS"), b"")

    with pytest.raises(
        OutputError, match=r"holds part-00000-c0ffee\.snappy\.parquet, which no _manifest.json there names"
    ):
        existing_output(output, "overwrite")


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"format_version": 1}'], ids=["list", "no JSON", "no files"])
def test_a_manifest_of_others(output: str, text: bytes) -> None:
    files.write_bytes(files.join(output, "_manifest.json"), text)

    with pytest.raises(OutputError, match=r"_manifest\.json is no manifest of ours; delete it"):
        existing_output(output, "overwrite")


def test_other_files_are_no_output(output: str) -> None:
    for name in ("README.md", "part.csv", "sub/part-00000-of-00001.parquet"):
        files.write_bytes(files.join(output, name), b"")

    assert existing_output(output, "fail") == "write"
