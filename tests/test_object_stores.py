"""Google Cloud Storage and Amazon S3 as `pipeline.files` reaches them, when all goes well."""

from __future__ import annotations

import io
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystems import FileSystems
from object_stores import SIZE, Line, numbered
from test_files import NAMES, PATTERNS

from pipeline import files
from pipeline.errors import JobError
from pipeline.runner import SECRETS, pipeline_options

pytestmark = pytest.mark.any_tensorflow


def test_a_large_file(bucket: str) -> None:
    data = numbered(SIZE)
    with files.open_write(f"{bucket}/large") as file:
        for start in range(0, SIZE, 7_000_001):
            file.write(data[start : start + 7_000_001])
        assert file.tell() == SIZE

    with files.open_read(f"{bucket}/large") as file:
        assert file.read(10) == data[:10]
        file.seek(SIZE // 2)
        assert file.read(9_000_000) == data[SIZE // 2 : SIZE // 2 + 9_000_000]
        file.seek(-3, io.SEEK_END)
        assert file.read() == data[-3:]
        assert file.read() == b""
    assert files.read_bytes(f"{bucket}/large") == data
    assert files.size(f"{bucket}/large") == SIZE


def test_a_parquet_file_is_read_by_ranges(bucket: str) -> None:
    table = pa.table({"a": range(100_000), "b": [str(number) for number in range(100_000)]})
    with files.open_write(f"{bucket}/a.parquet") as file:
        pq.write_table(table, file, row_group_size=10_000)

    with files.open_read(f"{bucket}/a.parquet") as file:
        assert pq.read_table(file).equals(table)


@pytest.mark.filterwarnings("ignore:Possible nested set")
def test_match_as_on_a_local_disk(bucket: str) -> None:
    for name in NAMES:
        files.write_bytes(f"{bucket}/root/{name}", name.encode())

    for pattern, expected in (parameters.values for parameters in PATTERNS):
        found = files.match(f"{bucket}/root/{pattern}")
        assert [info.path for info in found] == [f"{bucket}/root/{name}" for name in expected], pattern
        assert [info.bytes for info in found] == [len(name.encode()) for name in expected]
        assert all(info.modified is not None and abs(info.modified - time.time()) < 60 for info in found)


def test_what_an_answer_costs(bucket: str, line: Line) -> None:
    for number in range(4):
        files.write_bytes(f"{bucket}/a/{number}", b"data")
    asked: list[str] = []
    line.fault = lambda method, path: asked.append(method)

    assert len(files.match(f"{bucket}/a/*")) == 4
    assert len(files.list_folder(f"{bucket}/a")) == 4

    assert asked == ["GET", "GET"]


def test_objects_that_stand_for_folders_are_none(bucket: str) -> None:
    for name in ("a/", "a/b", "a/c/"):
        files.write_bytes(f"{bucket}/{name}", b"")

    assert [info.path for info in files.match(f"{bucket}/**")] == [f"{bucket}/a/b"]
    assert [info.path for info in files.list_folder(f"{bucket}/a")] == [f"{bucket}/a/b"]
    files.delete_folder(f"{bucket}/a")
    assert not files.exists(f"{bucket}/a/")


def test_an_etag_belongs_to_the_bytes(bucket: str) -> None:
    path = f"{bucket}/a"
    files.write_bytes(path, b"one")
    (first,) = files.match(path)
    assert files.match(f"{bucket}/*") == [first]
    files.write_bytes(path, b"two")
    (second,) = files.match(path)

    assert first.etag
    assert second.etag
    assert first.etag != second.etag
    assert not files.delete_unchanged(first)
    assert files.read_bytes(path) == b"two"
    assert files.delete_unchanged(second)
    assert not files.delete_unchanged(second)


def test_a_file_that_changes_while_it_is_read_is_an_error(bucket: str) -> None:
    path = f"{bucket}/a"
    files.write_bytes(path, numbered(9_000_000))
    with files.open_read(path) as file:
        file.read(10)
        files.write_bytes(path, bytes(9_000_000))
        with pytest.raises(OSError, match="replaced or deleted meanwhile"):
            file.read()


def test_a_file_that_vanishes_while_it_is_read_is_an_error(bucket: str) -> None:
    path = f"{bucket}/a"
    files.write_bytes(path, numbered(9_000_000))
    with files.open_read(path) as file:
        file.read(10)
        files.delete([path])
        with pytest.raises(OSError, match="not found"):
            file.read()


def test_a_block_that_fails_leaves_the_older_object(bucket: str) -> None:
    path = f"{bucket}/a"
    files.write_bytes(path, b"older")
    with pytest.raises(TypeError), files.open_write(path) as file:
        file.writelines([b"torn", None])
    dropped = files.open_write(path)
    dropped.write(b"nobody closes it")
    del dropped

    assert files.read_bytes(path) == b"older"


def test_a_copy_of_what_fails_on_the_way_leaves_the_older_object(bucket: str, line: Line) -> None:
    files.write_bytes(f"{bucket}/a", b"older")
    with pytest.raises(FileNotFoundError):
        files.copy("/nowhere/at/all", f"{bucket}/a")
    with pytest.raises(FileNotFoundError):
        files.copy(f"{bucket}/nothing", f"{bucket}/a")
    line.fault = lambda method, path: "403" if method in ("PUT", "POST") else None
    files.exists(f"{bucket}/a")
    with pytest.raises(PermissionError):
        files.copy(__file__, f"{bucket}/a")

    assert files.read_bytes(f"{bucket}/a") == b"older"


def test_what_is_not_there(bucket: str) -> None:
    missing = bucket + "-that-nobody-made"
    assert not files.exists(f"{missing}/a")
    with pytest.raises(FileNotFoundError):
        files.match(f"{missing}/*")
    with pytest.raises(FileNotFoundError, match="not found"):
        files.write_bytes(f"{missing}/a", b"")
    with pytest.raises(FileNotFoundError, match="No such file"):
        files.open_read(f"{bucket}/a")
    with pytest.raises(FileNotFoundError):
        files.size(f"{bucket}/a")


@pytest.mark.parametrize("path", ["{}:///a", "{}://", "{}://bucket"], ids=["no bucket", "nothing", "no name"])
def test_paths_that_name_no_object(bucket: str, store: str, path: str) -> None:
    with pytest.raises(OSError, match="no path of the form"):
        files.open_read(path.format(store))


def test_an_endpoint_and_a_region_may_be_options_of_beam(s3_emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    pipeline_options(["--s3_endpoint_url", s3_emulator, "--s3_region_name", "us-east-1"])

    assert not files.exists("s3://some-bucket/a")


@pytest.mark.parametrize("option", SECRETS)
def test_credentials_are_refused_as_options(option: str) -> None:
    with pytest.raises(JobError, match=f"--{option} would be shown .*{SECRETS[option]}") as refused:
        pipeline_options([f"--{option}=hunter2"])
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "gcs"), ("s3", "aws"), ("azfs", "azure")])
def test_a_store_without_its_extra(monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str) -> None:
    for name in ("pipeline.stores.google", "pipeline.stores.s3", "google.cloud.storage", "boto3", "azure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(JobError, match=rf"nothing here reaches {scheme}://b/a; .*estimator-score\[{extra}\]"):
        files.read_bytes(f"{scheme}://b/a")


def test_a_filesystem_that_wants_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise ValueError("hdfs_host is not set")

    monkeypatch.setattr(FileSystems, "get_filesystem", refuse)
    with pytest.raises(JobError, match="hdfs://a/b: Beam does not reach it: hdfs_host is not set"):
        files.exists("hdfs://a/b")


def test_a_scheme_that_nobody_knows() -> None:
    with pytest.raises(JobError, match="nothing here reaches ftp://b/a; no filesystem has that scheme"):
        files.exists("ftp://b/a")
