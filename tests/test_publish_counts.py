"""Nothing is published where a feature is absent from all rows, or counts do not add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from published import new_plan, publish_plan, run, table, write_part
from test_files import KINDS, new_folder

from pipeline import files
from pipeline.errors import CountError, InputError
from pipeline.plan import temporary
from pipeline.publish import Limits, collect_results

ABSENT = "no row of 1000 has a value for: x; correct input.rename, or list under input.optional"


@pytest.fixture(params=KINDS)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_folder(request.param, tmp_path)


@pytest.mark.parametrize(
    ("rows", "present", "optional", "refused"),
    [
        pytest.param(1000, 0, (), True, id="absent"),
        pytest.param(999, 0, (), False, id="small input"),
        pytest.param(1000, 1, (), False, id="once present"),
        pytest.param(1000, 0, ("x",), False, id="optional"),
    ],
)
def test_a_feature_that_no_row_has(
    output: str, rows: int, present: int, optional: tuple[str, ...], refused: bool
) -> None:
    plan = new_plan("r1", 2, features=("x", "y"), optional=optional)
    write_part(output, plan, 0, scored=rows - 500, present={"x": present, "y": 1})
    write_part(output, plan, 1, scored=499, rejected=1)
    if not refused:
        assert publish_plan(output, plan, Limits(1))["warnings"] == []
        return

    with pytest.raises(InputError) as error:
        publish_plan(output, plan, Limits(1))

    assert str(error.value).startswith(ABSENT)
    assert str(error.value).endswith(f"rejected rows: {output}/_rejected")
    assert error.value.exit_code == 3


def test_a_part_without_result(output: str) -> None:
    plan = new_plan("r1", 2)
    write_part(output, plan, 0)

    with pytest.raises(CountError, match=r"part 1 \(in/1.csv\): there is no result of it") as error:
        publish_plan(output, plan)

    assert error.value.exit_code == 5


def test_a_broken_shard_of_an_earlier_run_is_no_result_of_this_one(output: str) -> None:
    plan = new_plan("r1", 1)
    write_part(output, plan, 0, state="tail_lost")

    with pytest.raises(CountError, match="there is no result of it"):
        collect_results(output, replace(plan, run_id="r2"))


def test_a_part_whose_file_is_gone(output: str) -> None:
    plan = new_plan("r1", 1)
    write_part(output, plan, 0)
    files.delete([temporary(output, plan.parts[0].key, "a1.parquet")])

    with pytest.raises(CountError, match="there is no result of it"):
        publish_plan(output, plan)


def test_a_result_that_does_not_add_up(output: str) -> None:
    plan = new_plan("r1", 1)
    write_part(output, plan, 0, rejected=1)
    path = temporary(output, plan.parts[0].key, "result.json")
    files.write_bytes(path, files.read_bytes(path).replace(b'"read": 4', b'"read": 5'))

    with pytest.raises(CountError, match=r"part 0 \(in/0.csv\): 5 rows were read, but 3 scored and 1 rejected"):
        publish_plan(output, plan, Limits(1))


def test_a_run_that_does_not_add_up_leaves_an_earlier_output_as_it_was(output: str) -> None:
    run(output, "r1", 2)
    plan = new_plan("r2", 2)
    write_part(output, plan, 0)

    with pytest.raises(CountError):
        publish_plan(output, plan)

    assert files.read_bytes(files.join(output, "_SUCCESS")) == b"r1"
    assert table(output, "part-00001-of-00002.parquet").num_rows == 3
