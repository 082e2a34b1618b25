"""The sides of `compare`: files of each format and output folders, and those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compare_tables import ROWS, Write, changed, columns, scores

from pipeline import commands
from pipeline.compare import compare
from pipeline.compare import sides as compare_sides
from pipeline.errors import InputError, JobError, ScoringError


@pytest.mark.parametrize("name", ["old.csv", "old.csv.gz", "old.jsonl", "old.jsonl.gz", "old.json"])
def test_sides_of_text(write_side: Write, tmp_path: Path, name: str) -> None:
    import gzip

    table = scores().drop_columns(["_shard", "_row"])
    other = changed(changed(table, "score", {5: 0.0}), "label", {6: "", 7: "2024-05-01"})
    path = write_side(name.removesuffix(".gz").replace(".json", ".jsonl").replace("jsonll", "jsonl"), other)
    target = tmp_path / name
    data = Path(path).read_bytes()
    target.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)

    comparison = compare(write_side("new", table), str(target), ["trip_id"])

    found = columns(comparison)
    assert {column: entry["differing"] for column, entry in found.items()} == {
        "score": 1, "probabilities": 0, "classes": 0, "label": 2,
    }  # fmt: skip
    assert found["probabilities"]["values"] == 4 * ROWS
    assert [row["old"] for row in found["label"]["worst"]] == [None if ".csv" in name else "", "2024-05-01"]


def test_text_takes_the_type_of_the_other_side(tmp_path: Path, write_side: Write) -> None:
    typed = pa.table(
        {
            "k": [7, 8, 9],
            "text": ["007", "1.50", "nan"],
            "number": pa.array([0.1, 0.2, None], pa.float32()),
            "whole": [1, 2, 3],
            "flag": [True, False, None],
            "logits": [[0.5], [1.5], [2.5]],
        }
    )
    (tmp_path / "old.csv").write_text(
        "k,text,number,whole,flag,logits\n007,007,0.1,1,true,0.5\n08,1.50,0.2,2.0,0,1.5\n9,nan,,3,,2.5\n"
    )

    comparison = compare(write_side("new.parquet", typed), str(tmp_path / "old.csv"), ["k"], atol=0)

    assert comparison.summary().count("DIFFERS") == 0
    assert (comparison.paired, comparison.exit_code) == (3, 0)


def test_two_sides_of_text(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text('k,n,d,l,s\n007,1,1.0,"[1, 2]",a\n7,2,nan,"[3]","#b"\n')
    (tmp_path / "old.csv").write_text('k,n,d,l,s\n7,3,nan,"[3.5]","#b"\n007,1,1e0,"[1.0, 2]",a\n')

    comparison = compare(str(tmp_path / "new.csv"), str(tmp_path / "old.csv"), ["k"])

    assert comparison.paired == 2
    assert {column.name: (column.differing, column.numbers is not None) for column in comparison.columns} == {
        "n": (1, False),
        "d": (0, True),
        "l": (1, True),
        "s": (0, False),
    }


def test_json_lines_keep_text_and_take_nan(tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text(
        '{"k": "2024-05-01", "v": NaN, "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "l": [1, NaN]}\n'
        '{"k": "x", "v": 1, "l": [0.5], "id": "X"}\n'
    )
    (tmp_path / "old.jsonl").write_text(
        '{"k": "x", "v": Infinity, "l": [0.5, 1], "id": "x"}\n{"k": "2024-05-01", "l": [1, null], '
        '"id": "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"}\n'
    )

    comparison = compare(str(tmp_path / "new.jsonl"), str(tmp_path / "old.jsonl"), ["k"])

    assert comparison.paired == 2
    assert {column.name: column.differing for column in comparison.columns} == {"v": 1, "id": 2, "l": 1}


def test_many_files_by_a_pattern_with_wildcards_in_their_names(write_side: Write, tmp_path: Path) -> None:
    table = scores()
    new = write_side("new", table)
    (tmp_path / "run_date=2024-05-01").mkdir()
    for number in range(3):
        pq.write_table(table.slice(number * 100, 100), tmp_path / "run_date=2024-05-01" / f"it's [{number}]*.parquet")

    assert compare(new, f"{tmp_path}/run_date=*/*.parquet", ["trip_id"]).exit_code == 0
    one = compare(new, f"{tmp_path}/run_date=2024-05-01/it's [1]*.parquet", ["trip_id"])
    assert (one.paired, one.new.alone.count) == (100, 200)
    assert one.old.other_columns == []


def remove_success(folder: Path) -> None:
    (folder / "_SUCCESS").unlink()


def remove_part(folder: Path) -> None:
    (folder / "part-00001-of-00003.parquet").unlink()


def cut_part(folder: Path) -> None:
    part = folder / "part-00001-of-00003.parquet"
    part.write_bytes(part.read_bytes()[:-1])


def remove_all_parts(folder: Path) -> None:
    (folder / "_manifest.json").unlink()
    for part in folder.glob("part-*"):
        part.unlink()


def damage_manifest(folder: Path) -> None:
    (folder / "_manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(remove_success, "is not complete: there is no _SUCCESS", id="no _SUCCESS"),
        pytest.param(
            remove_part, "1 file of 3 missing or of another size than in _manifest.json: part-00001", id="part"
        ),
        pytest.param(cut_part, "1 file of 3 missing or of another size", id="cut part"),
        pytest.param(remove_all_parts, "holds no part-", id="no parts"),
        pytest.param(damage_manifest, "_manifest.json is damaged (JSONDecodeError)", id="manifest"),
    ],
)
def test_incomplete_output_folder_is_refused(
    write_side: Write, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], message: str
) -> None:
    new, old = write_side("new", scores()), write_side("old", scores())
    damage(Path(old))

    assert commands.main(["compare", new, old, "--on", "trip_id"]) == 3

    error = capsys.readouterr().err
    assert f"OLD: {old}" in error
    assert message in error


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        pytest.param("no.parquet", None, InputError, "there is no file and no folder", id="no file"),
        pytest.param("no-*.parquet", None, InputError, "no file matches", id="no match"),
        pytest.param("x.tfrecord", b"", JobError, "is tfrecord; compare reads .parquet", id="tfrecord"),
        pytest.param("x.txt", b"", JobError, "does not tell its format", id="unknown"),
        pytest.param("x.parquet", b"PAR1 no", InputError, "cannot be read: ", id="damaged Parquet"),
        pytest.param(
            "x.csv", b"k,v\n1,2\n1,2,secret\n", InputError, "cannot be read as CSV with a header", id="CSV row too long"
        ),
        pytest.param(
            "x.csv", b'k,v\n1,"secret"x\n', InputError, "cannot be read as CSV with a header", id="CSV quoting"
        ),
        pytest.param("x.jsonl", b'{"k": 1}\n{"k": secret}\n', InputError, "cannot be read: ", id="JSON"),
    ],
)
def test_side_that_cannot_be_read_is_refused(
    write_side: Write, tmp_path: Path, name: str, data: bytes | None, error: type[ScoringError], message: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    new = write_side("new.parquet", pa.table({"k": [1], "v": [2]}))

    with pytest.raises(error) as refused:
        compare(new, str(tmp_path / name), ["k"])

    assert message in str(refused.value)
    assert str(refused.value).startswith("OLD: ")
    assert "secret" not in str(refused.value)


def test_damaged_page_is_told_without_a_traceback(write_side: Write, tmp_path: Path) -> None:
    path = Path(write_side("old.parquet", scores(5000)))
    data = bytearray(path.read_bytes())
    data[1000 : len(data) - 4000] = bytes(len(data) - 5000)
    path.write_bytes(data)

    with pytest.raises(InputError, match="cannot be read: "):
        compare(write_side("new.parquet", scores(5000)), str(path), ["trip_id"])


def test_output_that_is_published_anew_meanwhile_is_refused(write_side: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = write_side("new", scores()), write_side("old", scores())
    opened = compare_sides.Side.check_unchanged

    def publish_then_check(side: compare_sides.Side) -> None:
        (Path(old) / "_SUCCESS").write_text("another run")
        opened(side)

    monkeypatch.setattr(compare_sides.Side, "check_unchanged", publish_then_check)

    with pytest.raises(InputError, match=r"OLD: .* was published anew while it was read; compare again"):
        compare(new, old, ["trip_id"])


def test_output_folder_on_another_filesystem(write_side: Write, tmp_path: Path) -> None:
    from test_files import new_folder

    from pipeline import files

    table = scores()
    local, remote = Path(write_side("new", table)), new_folder("store", tmp_path)
    for path in local.rglob("*.*"):
        files.write_bytes(f"{remote}/{path.relative_to(local)}", path.read_bytes())

    with pytest.raises(InputError, match=f"OLD: {remote} is not complete: there is no _SUCCESS"):
        compare(str(local), remote, ["trip_id"])
    files.write_bytes(f"{remote}/_SUCCESS", b"run")
    assert compare(str(local), remote, ["trip_id"]).exit_code == 0
    assert compare(f"{remote}/part-*.parquet", str(local), ["trip_id"]).exit_code == 0
    with pytest.raises(InputError, match=r"NEW: no file matches memory://.*/no-\*\.csv"):
        compare(f"{remote}/no-*.csv", str(local), ["trip_id"])
    with pytest.raises(JobError, match=r"NEW: nothing reads nowhere://x; object stores need an extra"):
        compare("nowhere://x", str(local), ["trip_id"])
