"""The report of `compare`, as JSON and as a page of plots."""

from __future__ import annotations

import json
import math
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from compare_tables import ROWS, Write, changed, scores

from pipeline import commands
from pipeline.compare.values import Differences, Tolerance

pytestmark = pytest.mark.any_tensorflow


def test_report_as_json_says_what_the_command_says(write_side: Write, tmp_path: Path) -> None:
    new, old = write_side("new", scores()), write_side("old", changed(scores(), "label", {4: "other"}))
    report = tmp_path / "report.json"

    assert commands.main(["compare", new, old, "--on", "trip_id", "--report", str(report)]) == 8

    found = json.loads(report.read_text())
    assert (found["exit_code"], found["paired"], found["differing"], found["on"]) == (8, ROWS, 1, ["trip_id"])
    label = next(column for column in found["columns"] if column["name"] == "label")
    assert label["worst"] == [{"key": {"trip_id": "trip-000004"}, "new": scores()["label"][4].as_py(), "old": "other"}]


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib, of the extra report")
def test_report_as_html_holds_its_plots_and_nothing_of_other_sites(write_side: Write, tmp_path: Path) -> None:
    table = scores().append_column("<b>$&", scores()["score"])
    new, old = write_side("new", table), write_side("old", changed(table, "score", {4: math.inf, 5: 0.0}))
    report = tmp_path / "report.html"
    arguments = ["compare", new, old, "--on", "trip_id", "--report", str(report)]

    assert commands.main(arguments) == 8

    page = report.read_text()
    assert page.count("<svg") == page.count("</svg>") == 3
    assert "distribution of score" in page
    assert "&lt;b&gt;$&amp;" in page
    assert "<b>" not in page
    assert "trip-000005" in page
    assert not re.search(r"<(script|link|img|iframe)|(?<!xmlns:)(?:src|href)=\"http", page)
    assert commands.main(arguments) == 8
    assert report.read_text() == page


def test_html_without_matplotlib_says_what_to_install(
    write_side: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.compare.report.find_spec", lambda name: None)
    new = write_side("new", scores())

    assert commands.main(["compare", new, new, "--on", "trip_id", "--report", "x.html"]) == 2

    assert "the plots need matplotlib: pip install 'estimator-score[report]'" in capsys.readouterr().err


def test_no_numbers_at_all_leave_the_histogram_empty() -> None:
    measured = Differences(Tolerance(0.0, 0.0), math.inf, -math.inf)

    measured.add(pa.array([None, math.nan], pa.float64()), pa.array([math.nan, None], pa.float64()))

    zeros, edges, counts = measured.histogram()
    assert (zeros, len(edges), len(counts), measured.quantile(500), measured.mean) == (0, 0, 0, 0.0, 0.0)


def test_histogram_counts_every_finite_difference() -> None:
    differences = np.concatenate([np.zeros(5), 10.0 ** np.random.default_rng(2).uniform(-12, 3, 1000), [math.inf]])
    measured = Differences(Tolerance(0.0, 0.0), 0.0, 1.0)

    measured.add(pa.array(differences), pa.array(np.zeros(len(differences))))

    zeros, edges, counts = measured.histogram()
    assert (zeros, counts.sum()) == (5, 1000)
    finite = differences[(differences > 0) & np.isfinite(differences)]
    assert edges[0] <= finite.min()
    assert edges[-1] >= finite.max()
    assert np.abs(np.cumsum(counts) - [(finite <= edge).sum() for edge in edges[1:]]).max() <= 10
