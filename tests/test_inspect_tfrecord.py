"""`inspect` of a TFRecord shard, whole or damaged."""

from __future__ import annotations

import re
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  tf.estimator, before TensorFlow is imported

import pytest
from inspected import EXAMPLES, SECRET, example, fact, pasted, section, write_tfrecord

import tensorflow as tf  # isort: skip


from pipeline.errors import InputError
from pipeline.features import Feature
from pipeline.inspect import inspect
from pipeline.inspect import shard as inspect_shard


class TestTFRecord:
    @pytest.mark.parametrize(
        ("compression", "name"), [("", "none"), ("GZIP", "gzip"), ("ZLIB", "zlib")], ids=["plain", "gzip", "zlib"]
    )
    def test_features(self, tmp_path: Path, compression: str, name: str) -> None:
        path = write_tfrecord(tmp_path / "part-0", EXAMPLES, compression)  # nothing in the name helps
        text = inspect(str(path))
        assert [fact(text, key) for key in ("format", "compression", "rows")] == ["tfrecord", name, "10"]
        assert fact(text, "bytes") == f"{path.stat().st_size:,}"
        assert section(text, "features of the first 10 tf.Examples") == [
            ["name", "kind", "min values", "max values", "present in"],
            ["image", "float_list", "6", "6", "10"],
            ["miles", "float_list", "1", "1", "10"],
            ["none", "none", "0", "0", "0"],
            ["tips", "float_list", "1", "1", "5"],
            ["words", "bytes_list", "1", "2", "6"],
        ]
        assert pasted(text) == {
            "image": Feature("image", shape=(6,)),
            "miles": Feature("miles"),
            "tips": Feature("tips"),
            "words": Feature("words", "string", "varlen"),
        }
        assert (
            "  tips: {dtype: float32}  # 5 of 10 records have no value: add the default, or kind: varlen, of the training"
            in text
        )
        assert "  # none: has no value in these records, so its dtype cannot be told" in text
        assert SECRET not in text

    def test_two_kinds(self, tmp_path: Path) -> None:
        text = inspect(str(write_tfrecord(tmp_path / "a", [example(x=[1]), example(x=[1.0, 2.0])])))
        assert section(text, "features")[1] == ["x", "float_list or int64_list", "1", "2", "2"]
        assert "  x: {dtype: float32}  # float32 in some records, int64 in others; only one can be read" in text

    def test_counting_stops(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inspect_shard, "COUNTED_ROWS", 4096)
        path = write_tfrecord(tmp_path / "a", [example(x=[1.0])] * 5000)
        text = inspect(str(path))
        assert fact(text, "rows") == "4,096 or more; counting stopped there"
        assert section(text, "features of the first 1,000 tf.Examples")[1][-1] == "1,000"

    def test_bad_checksum(self, tmp_path: Path) -> None:
        path = write_tfrecord(tmp_path / "a", EXAMPLES)
        data = bytearray(path.read_bytes())
        data[12] ^= 1
        path.write_bytes(data)
        text = inspect(str(path))
        assert fact(text, "bad rows") == "1, the first: row 0: record 0: data checksum does not match"
        assert fact(text, "rows") == "10"

    @pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"], ids=["plain", "gzip", "zlib"])
    def test_cut_off(self, tmp_path: Path, compression: str) -> None:
        path = write_tfrecord(tmp_path / "a.tfrecord", EXAMPLES, compression)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(
            InputError, match=re.escape(f"{path}: a broken shard (tfrecord, compression") + r".*: after \d+ rows: "
        ):
            inspect(str(path))

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            pytest.param(b"just text", "the records are no tf.Examples; only tf.Examples can be scored", id="text"),
            pytest.param(
                tf.train.SequenceExample(
                    feature_lists=tf.train.FeatureLists(
                        feature_list={"x": tf.train.FeatureList(feature=[tf.train.Feature()])}
                    )
                ).SerializeToString(),
                "the records are tf.SequenceExamples; only tf.Examples can be scored",
                id="sequence-example",
            ),
        ],
    )
    def test_other_records(self, tmp_path: Path, record: bytes, message: str) -> None:
        path = write_tfrecord(tmp_path / "a.tfrecord", [record])
        with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
            inspect(str(path))

    def test_one_other_record(self, tmp_path: Path) -> None:
        text = inspect(str(write_tfrecord(tmp_path / "a", [b"just text", *EXAMPLES])))
        assert "1 of the first 11 records are no tf.Examples: they will be rejected" in text
        assert section(text, "features of the first 10 tf.Examples")[1][-1] == "10"

    def test_no_rows(self, tmp_path: Path) -> None:
        assert fact(inspect(str(write_tfrecord(tmp_path / "a.tfrecord.gz", [], "GZIP"))), "rows") == "0"
