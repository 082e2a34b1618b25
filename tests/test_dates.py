"""`{run_date}` in a job file: offsets, forms, and what is none of them."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.job.file import load_job
from pipeline.job.placeholders import date_in_form

JOB = """\
name: taxi
input:
  pattern: in/*.tfrecord
features:
  miles: {dtype: float32}
model:
  estimator: trainer:build
output:
  path: out
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, *overrides: str, run_date: str | None = "2024-03-01") -> Job:
    Path("job.yaml").write_text(text)
    return load_job("job.yaml", run_date, overrides)


def refused(text: str, run_date: str | None = "2024-03-01") -> str:
    with pytest.raises(JobError) as error:
        load(text, run_date=run_date)
    return str(error.value)


@pytest.mark.parametrize(
    ("date", "form", "expected"),
    [
        ("2024-03-01", "", "2024-03-01"),
        ("2024-03-01", "-1d", "2024-02-29"),
        ("2023-03-01", "-1d", "2023-02-28"),
        ("2024-12-31", "+1d", "2025-01-01"),
        ("2024-03-01", "-0d", "2024-03-01"),
        ("2024-03-01", "-366d", "2023-03-01"),
        ("2024-03-01", ":%Y/%m/%d", "2024/03/01"),
        ("2024-03-01", "-7d:%Y%m%d", "20240223"),
        ("2024-03-01", ":%y-%j", "24-061"),
        ("2024-12-30", ":%G-W%V-%u", "2025-W01-1"),
        ("2024-03-01", ":100%% on %d.", "100% on 01."),
        ("2024-03-01", ":year=%Y/month=%m", "year=2024/month=03"),
    ],
)
def test_a_date_in_a_form(date: str, form: str, expected: str) -> None:
    assert date_in_form(datetime.date.fromisoformat(date), form) == expected


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{run_date-1}", "{run_date-1} is no form of the run date; write an offset in days and a form of strftime, or one of them: {run_date-1d:%Y/%m/%d}"),
        ("{run_date-1w}", "{run_date-1w} is no form of the run date"),
        ("{run_date - 1d}", "{run_date - 1d} is no form of the run date"),
        ("{run_date:%Y-1d}{run_date.year}", "{run_date.year} is no form of the run date"),
        ("{run_date:}", "{run_date:} names no part of a date; write {run_date:%Y-%m-%d}"),
        ("{run_date-2d:yyyy/MM/dd}", "{run_date-2d:yyyy/MM/dd} names no part of a date; write {run_date-2d:%Y-%m-%d}"),
        ("{run_date:%Y/%H}", "{run_date:%Y/%H} has %H, which is no part of a date; known are %Y, %y, %m, %d,"),
        ("{run_date:%-m}", "{run_date:%-m} has %-, which is no part of a date"),
        ("{run_date:%Y%}", "{run_date:%Y%} has %, which is no part of a date"),
        ("{run_date-999999999d}", "{run_date-999999999d} is a date that no calendar has; -999999999d is too far"),
        ("{run_date-99999999999d}", "{run_date-99999999999d} is a date that no calendar has"),
        ("{rundate-1d}", "{rundate-1d} is no placeholder; did you mean {run_date}?"),
        ("{name:%Y}", "{name:%Y} has a form, which only run_date takes; write {name}"),
    ],
)  # fmt: skip
def test_another_form_is_refused_with_its_key(written: str, message: str) -> None:
    assert f"job.yaml:9: output.path: {message}" in refused(JOB.replace("path: out", f'path: "out/{written}"'))


@pytest.mark.parametrize("written", ["{run_date}", "{run_date-1d}", "{run_date:%Y}"])
def test_a_form_needs_a_date(written: str) -> None:
    text = JOB.replace("path: out", f'path: "out/{written}"')
    assert refused(text, None) == (
        f"job.yaml:9: output.path: {written} has no value; give it with --run_date YYYY-MM-DD"
    )


def test_all_texts_are_filled(folder: Path) -> None:
    text = JOB.replace("in/*.tfrecord", '["in/{run_date:%Y/%m/%d}/*.tfrecord", "gs://b/{run_date-1d}/*.tfrecord"]')
    text = text.replace(
        "trainer:build", 'trainer:build\n  params: {since: ["{run_date-30d}"], braces: "{{run_date:%Y}}"}'
    )
    job = load(text, "output.path=gs://b/{name}/{run_date-1d:%Y%m%d}", "errors.rejected_path=bad/{run_date:%j}")
    assert job.input.pattern == [f"{folder}/in/2024/03/01/*.tfrecord", "gs://b/2024-02-29/*.tfrecord"]
    assert job.model.params == {"since": ["2024-01-31"], "braces": "{run_date:%Y}"}
    assert job.output.path == "gs://b/taxi/20240229"
    assert job.errors.rejected_path == f"{folder}/bad/061"


def test_braces_of_something_else_stay() -> None:
    texts = ["a{2}", "{a: 1}", "{x:y}", "{{x:y}}", "{}", "{ run_date }", "{a, b}"]
    job = load(JOB.replace("trainer:build", f"trainer:build\n  params: {{texts: {texts}}}"))
    assert job.model.params == {"texts": texts}


def test_a_text_that_set_replaces_needs_no_date(folder: Path) -> None:
    job = load(JOB.replace("path: out", "path: out/{run_date}"), "output.path=once", run_date=None)
    assert job.output.path == str(folder / "once")
