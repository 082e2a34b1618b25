"""Which shards a run takes, what it is called, and where it may write."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import files
from pipeline.errors import InputError, JobError
from pipeline.job import Input
from pipeline.plan import (
    Plan,
    check_output_outside_input,
    match_shards,
    missing_numbers,
    part_key,
    part_name,
    read_plan,
    settings_digest,
    utc_now,
    write_plan,
)
from pipeline.rows import Part, Piece, Shard


def source(*patterns: str, **settings: Any) -> Input:
    return Input.model_validate({"pattern": list(patterns), "format": "csv", **settings})


def names(shards: list[Shard]) -> list[str]:
    return [files.base_name(shard.path) for shard in shards]


def touch(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def test_shards_of_overlapping_patterns_are_taken_once_in_order_of_path(tmp_path: Path) -> None:
    touch(tmp_path, "b.csv", "a.csv", "ü 1%.csv", "deep/c.csv", "_hidden.csv", ".hidden.csv")
    (tmp_path / "folder.csv").mkdir()

    shards = match_shards(source(f"{tmp_path}/*.csv", f"{tmp_path}/**/*.csv", f"{tmp_path}/a.csv"))

    assert [shard.path for shard in shards] == [
        f"{tmp_path}/{name}" for name in ("a.csv", "b.csv", "deep/c.csv", "ü 1%.csv")
    ]
    status = (tmp_path / "a.csv").stat()
    assert shards[0] == Shard(f"{tmp_path}/a.csv", status.st_size, status.st_mtime)


def test_what_is_ignored_is_for_the_job_to_say(tmp_path: Path) -> None:
    touch(tmp_path, "_a.csv", "b.csv", "c.tmp.csv")

    assert names(match_shards(source(f"{tmp_path}/*.csv", ignore=["*.tmp.csv"]))) == ["_a.csv", "b.csv"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        pytest.param(
            "in/*.tsv",
            "input.pattern: no file matches ROOT/in/*.tsv: ROOT/in holds 4 files (a.csv, b.csv, c.csv, ...); "
            "names like _*, .* are no shards (input.ignore)",
            id="others lie there",
        ),
        pytest.param("one/a.tsv", "ROOT/one/a.tsv: ROOT/one holds 1 file (a.csv); names like", id="plain name"),
        pytest.param("empty/*", "ROOT/empty/*: ROOT/empty holds no files", id="empty folder"),
        pytest.param("gone/*", "ROOT/gone/*: there is no folder ROOT/gone", id="no folder"),
        pytest.param("in", "ROOT/in, which is a folder; write ROOT/in/* for the files in it", id="a folder"),
        pytest.param(
            "hidden/*", "ROOT/hidden holds 1 file (_x.csv); names like _*, .* are no shards", id="all ignored"
        ),
    ],
)
def test_a_pattern_that_matches_nothing(tmp_path: Path, pattern: str, message: str) -> None:
    touch(tmp_path, "in/a.csv", "in/b.csv", "in/c.csv", "in/d.csv", "one/a.csv", "hidden/_x.csv")
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputError) as error:
        match_shards(source(f"{tmp_path}/in/*.csv", f"{tmp_path}/{pattern}"))

    assert message.replace("ROOT", str(tmp_path)) in str(error.value)
    assert error.value.exit_code == 3


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    Path(f"{tmp_path}/a\udcff.csv").touch()

    with pytest.raises(InputError, match=r"input.pattern: '.*a\\udcff.csv' is no UTF-8 name; rename the file"):
        match_shards(source(f"{tmp_path}/*.csv"))


@pytest.mark.parametrize(
    ("shards", "warnings"),
    [
        pytest.param(["x-00000-of-00002", "x-00001-of-00002"], [], id="all there"),
        pytest.param(["a.csv", "b.csv"], [], id="no numbers"),
        pytest.param(
            ["in/x-00000-of-00003.gz", "in/x-00002-of-00003.gz"],
            ["in/x-*-of-00003.gz: 1 of 3 shards are not there: 00001"],
            id="one missing",
        ),
        pytest.param(["x-00001-of-00002", "x-00002-of-00002"], [], id="counted from one"),
        pytest.param(
            ["x-00002-of-00002"], ["x-*-of-00002: 1 of 2 shards are not there: 00001"], id="from one, missing"
        ),
        pytest.param(
            ["x-00000-of-00001", "y-00001-of-00002", "x-00000-of-00002"],
            [
                "x-*-of-00002: 1 of 2 shards are not there: 00001",
                "y-*-of-00002: 1 of 2 shards are not there: 00000",
            ],
            id="each set of its own",
        ),
        pytest.param(
            ["x-00000-of-00100"],
            [
                "x-*-of-00100: 99 of 100 shards are not there: "
                "00001, 00002, 00003, 00004, 00005, 00006, 00007, 00008, 00009, 00010 and 89 more"
            ],
            id="many missing",
        ),
    ],
)
def test_missing_numbers(shards: list[str], warnings: list[str]) -> None:
    assert missing_numbers([Shard(path, 1) for path in shards]) == warnings


def key_of(shard: Shard, digest: str) -> str:
    """The key of the part that is this whole shard."""
    return part_key([Piece(shard)], digest)


def test_part_key_rests_on_the_shard_and_the_settings() -> None:
    digest = settings_digest({"b": [1, 2], "a": {"y": None, "x": "ä"}})
    assert digest == hashlib.sha256('{"a":{"x":"ä","y":null},"b":[1,2]}'.encode()).hexdigest()
    key = key_of(Shard("in/a", 7, 1.5), digest)

    assert key == hashlib.sha256(f'["in/a", 7, 1.5, "{digest}"]'.encode()).hexdigest()[:32]
    others = [Shard("in/b", 7, 1.5), Shard("in/a", 8, 1.5), Shard("in/a", 7, 1.6), Shard("in/a", 7, None)]
    assert len({key, *(key_of(shard, digest) for shard in others), key_of(Shard("in/a", 7, 1.5), "0")}) == 6


def test_part_key_rests_on_the_etag_where_there_is_one() -> None:
    key = key_of(Shard("s3://in/a", 7, 1.5, '"e1"'), "digest")

    assert key_of(Shard("s3://in/a", 7, 99.5, '"e1"'), "digest") == key  # the same bytes, copied back
    assert key_of(Shard("s3://in/a", 7, 1.5, '"e2"'), "digest") != key
    assert key_of(Shard("s3://in/a", 7, 1.5), "digest") != key


def test_settings_that_are_no_json_have_no_digest() -> None:
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        settings_digest({"names": {"a"}})


def test_a_plan_comes_back_as_it_was_frozen(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            pa.field("id", pa.timestamp("us", "UTC"), metadata={b"k": b"v"}),
            pa.field("p", pa.list_(pa.float32(), 3), nullable=False),
            pa.field("d", pa.dictionary(pa.int32(), pa.string())),
        ]
    )
    plan = Plan(
        run_id="r1",
        run_date="2026-11-22",
        name="digits",
        started=utc_now(),
        parts=(
            Part.of_shard(0, "k0", Shard("in/ä.csv", 7, 1234.567891)),
            Part(1, "k1", (Piece(Shard("in/b.csv", 0), (2, 5), 70), Piece(Shard("in/c.csv", 0)))),
        ),
        record_format="csv",
        schema=schema,
        features=("x", "y"),
        optional=("y",),
        model={"step": 3},
        transform=None,
        job={"name": "digits", "errors": {"max_bad_rows": 0.5}},
        versions={"tensorflow": "2.21.0"},
        warnings=("one",),
    )

    write_plan(str(tmp_path), plan)

    back = read_plan(str(tmp_path))
    assert back == plan
    assert back.schema.equals(schema, check_metadata=True)
    assert json.loads((tmp_path / "_temporary" / "plan.json").read_text())["schema_in_words"][1] == (
        "p: fixed_size_list<item: float>[3]"
    )


def test_part_names_sort_by_number() -> None:
    assert part_name(3, 8) == "part-00003-of-00008.parquet"
    assert part_name(123456, 200000) == "part-123456-of-200000.parquet"


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        pytest.param("ROOT/in/*", "ROOT/in/out", id="at a match"),
        pytest.param("ROOT/in/*", "ROOT/in/out/deep", id="under a match"),
        pytest.param("ROOT/in/**", "ROOT/in/x/out", id="two stars"),
        pytest.param("ROOT/in/*.parquet", "ROOT/in", id="parts would match"),
        pytest.param("ROOT/**/*.parquet", "ROOT/in", id="parts would match, two stars"),
        pytest.param("ROOT/in/_rejected/*.parquet", "ROOT/in", id="rejected rows would match"),
        pytest.param("ROOT/in/a.csv", "ROOT/in/a.csv", id="the shard itself"),
        pytest.param("ROOT/in/*", "ROOT/out/../in/out", id="by way of dots"),
        pytest.param("ROOT/in/*", "ROOT/link/out", id="by way of a link"),
        pytest.param("ROOT/link/*", "ROOT/in/out", id="pattern by way of a link"),
        pytest.param("gs://b/in/**", "gs://b/in/out/", id="store"),
    ],
)
def test_an_output_that_would_be_read_is_refused(tmp_path: Path, pattern: str, output: str) -> None:
    touch(tmp_path, "in/a.csv", "out/x")
    (tmp_path / "link").symlink_to("in")
    pattern, output = (path.replace("ROOT", str(tmp_path)) for path in (pattern, output))

    with pytest.raises(JobError) as error:
        check_output_outside_input(["/none/*", pattern], output)

    assert str(error.value).startswith(f"output.path: {output} is at or under input.pattern {pattern}")


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        pytest.param("/data/*.csv", "/data/out", id="beside shards"),
        pytest.param("/data/*.csv", "/data", id="other extension"),
        pytest.param("/data/*/a.csv", "/data/out", id="other depth"),
        pytest.param("/data/in/*", "/data/in2", id="name begins alike"),
        pytest.param("gs://b/in/*.parquet", "/in", id="other filesystem"),
        pytest.param("/data/out/*.parquet", "/data/out2", id="output of another run"),
    ],
)
def test_an_output_that_no_pattern_reaches_is_taken(pattern: str, output: str) -> None:
    check_output_outside_input([pattern], output)


def test_wildcards_in_the_output_of_a_store_are_refused() -> None:
    with pytest.raises(JobError, match=r"gs://b/out\[1\] holds one of \* \? \["):
        check_output_outside_input(["/in/*"], "gs://b/out[1]")
    check_output_outside_input(["/in/*"], "/out[1]")
