"""`inspect` of shards of the other formats, whole or damaged."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  tf.estimator, before TensorFlow is imported

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inspected import EXAMPLES, ROWS, SECRET, example, fact, section, write_csv, write_tfrecord

from pipeline.errors import InputError
from pipeline.inspect import inspect


class TestOtherShards:
    def test_parquet(self, tmp_path: Path) -> None:
        table = pa.table(
            {
                "id": pa.array([2**53 + 1, None]),
                "name": [SECRET, ""],
                "image": pa.array([[0.5] * 4] * 2, pa.list_(pa.float32(), 4)),
            }
        )
        path = tmp_path / "no extension"
        pq.write_table(table, path, compression="zstd", row_group_size=1)
        text = inspect(str(path))
        assert [fact(text, key) for key in ("format", "compression", "rows", "row groups")] == [
            "parquet",
            "zstd",
            "2",
            "2, the largest of 1 row",
        ]
        assert [row[0] for row in section(text, "columns")[1:]] == ["id", "name", "image"]
        assert ["name", "string"] in section(text, "columns")
        assert SECRET not in text

    def test_avro(self, tmp_path: Path) -> None:
        fields = [
            {"name": "id", "type": "long"},
            {"name": "name", "type": ["null", "string"]},
            {"name": "m", "type": {"type": "map", "values": "int"}},
        ]
        schema = {"type": "record", "name": "row", "fields": fields}
        path = tmp_path / "a"
        with path.open("wb") as file:
            fastavro.writer(file, schema, [{"id": 1, "name": SECRET, "m": {SECRET: 1}}] * 3, codec="deflate")
        text = inspect(str(path))
        assert [fact(text, key) for key in ("format", "compression", "rows")] == ["avro", "deflate", "3"]
        assert section(text, "columns")[1:] == [
            ["id", "int64"],
            ["name", "string"],
            ["m", "a record, map or union: cannot be read"],
        ]
        assert SECRET not in text

    @pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
    def test_csv(self, tmp_path: Path, delimiter: str, zipped: bool) -> None:
        path = write_csv(tmp_path / "a.csv", ROWS, delimiter)
        if zipped:
            data = path.read_bytes()
            path = tmp_path / "a.csv.gz"
            path.write_bytes(gzip.compress(data))
        text = inspect(str(path))
        keys = ("format", "compression", "delimiter", "columns", "rows")
        assert [fact(text, key) for key in keys] == ["csv", "gzip" if zipped else "none", repr(delimiter), "3", "20"]
        assert section(text, "header") == [["id"], ["Full Name"], ["city"]]
        assert SECRET not in text

    @pytest.mark.parametrize(
        "rows",
        [
            pytest.param([[number, f"{SECRET} {number}"] for number in range(5)], id="a-number-first"),
            pytest.param([[SECRET, f"{SECRET} {number}"] for number in range(5)], id="only-text"),
            pytest.param(
                [["x", SECRET, SECRET], *([number, SECRET, SECRET] for number in range(4))], id="twice-the-same"
            ),
            pytest.param([["x", SECRET]], id="one-row"),
        ],
    )
    def test_csv_without_a_header_for_sure(self, tmp_path: Path, rows: list[list[Any]]) -> None:
        text = inspect(str(write_csv(tmp_path / "a.csv", rows)))
        assert fact(text, "rows") == str(len(rows))
        assert fact(text, "header").startswith("not certain: ")
        assert SECRET not in text

    def test_jsonl(self, tmp_path: Path) -> None:
        rows = [
            {"id": 1, "name": SECRET, "image": [[0.5, 1]], "flag": True},
            {"id": None, "name": SECRET, "image": [], "inner": {SECRET: 1}},
        ]
        path = tmp_path / "a"
        path.write_text("\n".join([*map(json.dumps, rows), "{not json", ""]), encoding="utf-8")
        text = inspect(str(path))
        assert [fact(text, key) for key in ("format", "compression", "rows")] == ["jsonl", "none", "3"]
        assert fact(text, "bad rows") == "1, the first: row 2: the line is not JSON"
        assert section(text, "keys of the first 2 good rows") == [
            ["name", "JSON kinds", "present in"],
            ["id", "integer 1, null 1", "2"],
            ["name", "string 2", "2"],
            ["image", "array of array of integer or number 1, empty array 1", "2"],
            ["flag", "boolean 1", "1"],
            ["inner", "object 1", "1"],
        ]
        assert SECRET not in text

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            pytest.param("a.parquet", b"PAR1" + bytes(40), "a broken shard (parquet", id="parquet-footer"),
            pytest.param(
                "a.parquet",
                b"id,name\n1,x\n",
                "named as a shard of parquet, but it does not start as one",
                id="no-parquet",
            ),
            pytest.param("a.avro", b"Obj\x01" + bytes(40), "a broken shard (avro", id="avro-header"),
            pytest.param("a.avro", b"", "named as a shard of avro, but it does not start as one", id="empty-avro"),
            pytest.param(
                "a.csv", b'id,name\n1,"x" y\n', "a broken shard (csv, compression none): after 0 rows: ", id="csv-quote"
            ),
            pytest.param(
                "a.csv",
                b"",
                "a broken shard (csv, compression none): there is no header: the file is empty",
                id="empty-csv",
            ),
            pytest.param(
                "a.csv.gz",
                gzip.compress(b"id,name\n" + b"1,x\n" * 99)[:-12],
                "a broken shard (csv, compression gzip)",
                id="cut-gzip",
            ),
            pytest.param(
                "a.tfrecord",
                b"x" * 40,
                "named as a TFRecord shard, but record 0: length checksum does not match",
                id="no-tfrecord",
            ),
            pytest.param(
                "a.tfrecord.gz",
                gzip.compress(b"x" * 40),
                "named as a TFRecord shard, but record 0: length",
                id="no-tfrecord-gzip",
            ),
        ],
    )
    def test_broken(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
            inspect(str(path))

    def test_content_decides(self, tmp_path: Path) -> None:
        path = write_tfrecord(tmp_path / "a.csv", EXAMPLES)
        assert fact(inspect(str(path)), "format") == "tfrecord"

    def test_length_like_a_magic_number(self, tmp_path: Path) -> None:
        size = int.from_bytes(b"\x1f\x8b", "little")
        record = example(x=[b"a" * (size - 23)])
        assert len(record) == size
        assert fact(inspect(str(write_tfrecord(tmp_path / "a", [record]))), "compression") == "none"
