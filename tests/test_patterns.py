"""Patterns of paths mean what they mean to Beam, whose own code is the oracle."""

from __future__ import annotations

import random
import re
import warnings

import pytest
from apache_beam.io.filesystem import FileSystem
from apache_beam.io.filesystems import FileSystems

from pipeline import patterns

LETTERS = "ab*?[]!^-/\\.{\nä"


def compiled_by_beam(pattern: str) -> re.Pattern[str]:
    return re.compile(FileSystem.translate_pattern(pattern))


def expression(compiled, pattern: str) -> str | None:
    """What a pattern is translated to; None for a range that ends before it starts."""
    try:
        return compiled(pattern).pattern
    except re.error:
        return None


@pytest.mark.parametrize("length", range(9))
def test_a_pattern_is_translated_as_by_beam(length: int) -> None:
    letters = random.Random(length)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of sets in sets, which Python will have one day
        for _ in range(2000):
            pattern = "".join(letters.choices(LETTERS, k=length))
            assert expression(patterns.compiled, pattern) == expression(compiled_by_beam, pattern), pattern


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/a/*.csv", "/a/b.csv", True),
        ("/a/*.csv", "/a/b/c.csv", False),
        ("/a/**.csv", "/a/b/c.csv", True),
        ("/a/[!b-d].csv", "/a/c.csv", False),
        ("/a/[!b-d].csv", "/a/e.csv", True),
        ("/a/[]].csv", "/a/].csv", True),
        ("/a/[!].csv", "/a/[!].csv", True),
        ("/a/?.csv", "/a/b.csv\n", False),
    ],
)
def test_what_a_pattern_matches(pattern: str, path: str, matches: bool) -> None:
    assert bool(patterns.compiled(pattern).match(path)) is matches


@pytest.mark.parametrize(
    "path", ["gs://a/b", " s3://a", "/a/b", "a.b-c+1://d", "1a://b", "C:/a", "a:/b", "x gs://a", "://a", "", "hdfs://"]
)
def test_the_scheme_of_a_path_is_that_of_beam(path: str) -> None:
    assert patterns.scheme(path) == FileSystems.get_scheme(path)
