"""The command line of `compare`: what it refuses, and what it does without."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest
from compare_tables import Write, scores

from pipeline import commands
from pipeline.compare import TOLERANCE, compare, key_columns, renamed_columns
from pipeline.compare import sides as compare_sides
from pipeline.errors import JobError


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        pytest.param(["--on", "trip"], ["--on: NEW has no column 'trip'; it has trip_id, score"], id="key of NEW"),
        pytest.param(
            ["--on", "only"], ["--on: OLD has no column 'only'; it has trip_id", "--map only=NAME"], id="key of OLD"
        ),
        pytest.param(["--on", "trip_id", "--map", "scores=score"], ["--map: NEW has no column 'scores'"], id="map, NEW"),
        pytest.param(
            ["--on", "trip_id", "--map", "score=p"], ["--map score=p: OLD has no column 'p'; it has"], id="map, OLD"
        ),
        pytest.param(["--on", "trip_id", "--map", "score"], ["--map score: expected NEW=OLD"], id="map, form"),
        pytest.param(
            ["--on", "trip_id", "--map", "score=score", "--map", "score=label"], ["'score' was mapped before"], id="map twice"
        ),
        pytest.param(
            ["--on", "trip_id", "--map", "score=score", "--map", "label=score"],
            ["'score' and 'label' are both compared with OLD's 'score'"],
            id="two with one",
        ),
        pytest.param(["--on", "trip_id,trip_id"], ["expected different names"], id="key twice"),
        pytest.param(["--on", "trip_id,"], ["--on trip_id,: expected different names"], id="empty key"),
        pytest.param(["--on", "probabilities"], ["FLOAT[] in NEW and FLOAT[] in OLD; a list is no key"], id="list"),
        pytest.param(
            ["--on", "trip_id", "--map", "score=label"],
            ["column 'score': FLOAT in NEW and VARCHAR in OLD cannot be compared"],
            id="types",
        ),
        pytest.param(["--on", "trip_id", "--atol", "-1"], ["--atol -1.0: expected a number from 0 on"], id="atol"),
        pytest.param(["--on", "trip_id", "--rtol", "nan"], ["--rtol nan"], id="rtol"),
        pytest.param(["--on", "trip_id", "--max_differing", "-1"], ["--max_differing -1"], id="max_differing"),
        pytest.param(["--on", "trip_id", "--report", "x.txt"], ["ends in .html or .json"], id="report"),
        pytest.param(["--on", "trip_id", "--report", "no/x.json"], ["there is no folder"], id="folder of report"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(
    write_side: Write, capsys: pytest.CaptureFixture[str], arguments: list[str], messages: list[str]
) -> None:
    new = write_side("new.parquet", scores(5).append_column("only", pa.array(range(5))))
    old = write_side("old.parquet", scores(5))

    assert commands.main(["compare", new, old, *arguments]) == 2

    error = capsys.readouterr().err
    for message in messages:
        assert message in error


def test_nothing_to_compare_is_refused(write_side: Write) -> None:
    new, old = pa.table({"k": [1], "a": [1.0], "_row": [0]}), pa.table({"k": [1], "b": [1.0], "_row": [0]})

    with pytest.raises(JobError, match=r"no column to compare: NEW has k, a, _row; OLD has k, b, _row\. --map new=old"):
        compare(write_side("new.parquet", new), write_side("old.parquet", old), ["k"])


def test_options() -> None:
    assert key_columns("a, b") == ["a", "b"]
    assert renamed_columns(["a=b", "c=d=e"]) == {"a": "b", "c": "d=e"}


def test_local_files_need_neither_tensorflow_nor_beam(write_side: Write) -> None:
    new = write_side("new", scores())
    program = (
        "import sys; from pipeline.commands import main; "
        f"code = main(['compare', {new!r}, {new!r}, '--on', 'trip_id']); "
        "print([name for name in ('tensorflow', 'apache_beam') if name in sys.modules]); sys.exit(code)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_constants_are_those_of_the_modules_that_import_beam() -> None:
    from pipeline import manifest, probe, publish

    assert (publish.SUCCESS, manifest.MANIFEST) == (compare_sides.SUCCESS, compare_sides.MANIFEST)
    assert probe.TOLERANCE == TOLERANCE
