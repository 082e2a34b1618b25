"""The table of faults: every line of it is a test, and every test of a fault has its line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "faults.md"


def lines() -> list[tuple[str, list[str]]]:
    """Name and cells of each line of the tables."""
    found = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("| <!--"):
            name, rest = re.fullmatch(r"\| <!-- ([a-z0-9-]+) --> (.*) \|", line).groups()  # type: ignore[union-attr]
            found.append((name, rest.split(" | ")))
    return found


def marked() -> Iterator[tuple[str, bool]]:
    """Name of each fault that a test shows, and whether that test is left out of the ordinary suite."""
    for path in TESTS.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = [ast.unparse(decorator) for decorator in node.decorator_list]
                for mark in marks:
                    if fault := re.fullmatch(r"pytest\.mark\.fault\('(.*)'\)", mark):
                        yield fault[1], "pytest.mark.long" in marks


def test_every_line_is_a_test_and_every_test_has_a_line() -> None:
    assert {name for name, _ in lines()} == {name for name, _ in marked()}


def test_every_line_is_a_test_of_the_ordinary_suite() -> None:
    assert {name for name, _ in lines()} == {name for name, is_long in marked() if not is_long}


def test_lines_are_whole_and_each_is_there_once() -> None:
    names = [name for name, _ in lines()]
    assert len(names) == len(set(names)) > 20
    assert [name for name, cells in lines() if len(cells) != 3 or not all(cells)] == []
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    headers = [line for line in rows if line.startswith(("| fault |", "|---"))]
    assert len(rows) - len(headers) == len(names)
