"""The report of a comparison as a file: JSON, or one page of HTML that needs no other file, with its plots as SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipeline.compare.result import ColumnResult, Comparison
from pipeline.compare.values import DISTRIBUTION_BINS, Differences
from pipeline.errors import JobError

_STYLE = """\
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #1b1f24; }
table { border-collapse: collapse; margin: .5em 0 1.5em; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2em .8em; border-bottom: 1px solid #d8dee4; }
svg { max-width: 100%; height: auto; }
.differs { color: #b42318; } .within { color: #1a7f37; }
"""
_NEW, _OLD = "#0969da", "#bc4c00"


def check_report(path: str) -> None:
    """Refuse a report that cannot be written, before anything is compared.

    Raises:
      JobError: the name tells neither HTML nor JSON, its folder is not there, or matplotlib is missing.
    """
    if Path(path).suffix not in (".html", ".json"):
        raise JobError(f"--report {path}: expected a name that ends in .html or .json")
    if not Path(path).absolute().parent.is_dir():
        raise JobError(f"--report {path}: there is no folder {Path(path).absolute().parent}")
    if Path(path).suffix == ".html" and find_spec("matplotlib") is None:
        raise JobError(f"--report {path}: the plots need matplotlib: pip install 'estimator-score[report]'")


def write_report(comparison: Comparison, path: str) -> None:
    """Write a report that `check_report` has taken. Raises JobError where the file cannot be written."""
    text = comparison.to_json() + "\n" if Path(path).suffix == ".json" else html_page(comparison)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobError(f"--report {path}: {error.strerror}") from error


def html_page(comparison: Comparison) -> str:
    """The tables of the summary, then for each column of numbers its differences and both distributions."""
    verdict = "differs" if comparison.differs else "within"
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>Comparison of scores</title><style>{_STYLE}</style></head>',
        "<body><h1>Comparison of scores</h1>",
        f'<p class="{verdict}">{escape(dict(comparison.facts())["result"])}</p>',
        _table([(name, text) for name, text in comparison.facts() if name != "result"], ()),
    ]
    for title, rows, header in comparison.tables():
        if rows:
            parts += [f"<h2>{escape(title)}</h2>", _table(rows, header)]
    for column in comparison.columns:
        if column.numbers is not None and column.numbers.values:
            parts += [f"<h2>{escape(column.name)}</h2>", _plots(column, column.numbers)]
    return "\n".join([*parts, "</body></html>\n"])


def _table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    return "\n".join(["<table>", *_lines(rows, header), "</table>"])


def _lines(rows: Sequence[Sequence[str]], header: Sequence[str]) -> Iterator[str]:
    for tag, cells in [*([("th", header)] if header else []), *(("td", row) for row in rows)]:
        yield "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _plots(column: ColumnResult, measured: Differences) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    # The salt and the missing date make the same page of the same scores.
    with matplotlib.rc_context({"svg.hashsalt": "estimator-score", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        differences, scores = figure.subplots(1, 2)

        zeros, edges, counts = measured.histogram()
        differences.set_title(f"|new - old|: {zeros:,} of {measured.values:,} values are equal")
        if len(counts):
            differences.stairs(counts, edges, fill=True, color=_NEW, alpha=0.7)
            differences.set_xscale("log")
            differences.set_yscale("symlog", linthresh=1)
            if measured.tolerance.absolute and not measured.tolerance.relative:
                differences.axvline(measured.tolerance.absolute, color=_OLD, linestyle="--", label="tolerance")
                differences.legend()
        differences.set_xlabel("absolute difference")
        differences.set_ylabel("values")

        scores.set_title(f"distribution of {column.name}".replace("$", r"\$"))
        width = (measured.high - measured.low) or 1.0
        if np.isfinite(width):
            edges = measured.low + width * np.arange(DISTRIBUTION_BINS + 1) / DISTRIBUTION_BINS
            for label, values, color in zip(("new", "old"), measured.distributions, (_NEW, _OLD), strict=True):
                scores.stairs(values, edges, color=color, label=label, linestyle="-" if label == "new" else "--")
            scores.legend()
        scores.set_xlabel("value")
        scores.set_ylabel("values")

        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]
