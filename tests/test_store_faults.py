"""Stores that refuse, drop connections, or break off in the middle of an answer."""

from __future__ import annotations

import pytest
from object_stores import SIZE, Line, numbered

from pipeline import files

pytestmark = pytest.mark.any_tensorflow

FAULTS = ["429", "500", "503", "reset", "lost", "cut"]


@pytest.mark.fault("store-away")
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_or_repeated(bucket: str, line: Line, pauses: list[float], fault: str) -> None:
    data = numbered(SIZE // 10)
    line.every(3, fault)

    for number in range(3):
        assert files.create(f"{bucket}/made/{number}", b"made %d" % number)
        assert not files.create(f"{bucket}/made/{number}", b"not this")
    with files.open_write(f"{bucket}/large") as file:
        file.write(data)
    assert files.read_bytes(f"{bucket}/large") == data
    files.copy(f"{bucket}/large", f"{bucket}/copied")
    files.move(f"{bucket}/large", f"{bucket}/moved")
    for number in range(3):
        files.touch(f"{bucket}/made/{number}")
    found = files.match(f"{bucket}/**")
    assert [info.path.removeprefix(bucket) for info in found] == ["/copied", "/made/0", "/made/1", "/made/2", "/moved"]
    assert files.read_bytes(f"{bucket}/copied") == files.read_bytes(f"{bucket}/moved") == data
    assert [files.read_bytes(info.path) for info in files.list_folder(f"{bucket}/made")] == [
        b"made 0",
        b"made 1",
        b"made 2",
    ]
    files.delete([info.path for info in found[:2]])
    files.delete_folder(f"{bucket}/made")
    assert [info.path for info in files.match(f"{bucket}/*")] == [f"{bucket}/moved"]

    assert len(line.befallen) > 5
    assert pauses


def test_a_read_goes_on_where_it_broke_off(bucket: str, line: Line, pauses: list[float]) -> None:
    data = numbered(SIZE)
    files.write_bytes(f"{bucket}/a", data)
    line.first(3, "cut", "GET")

    with files.open_read(f"{bucket}/a") as file:
        read = b"".join(iter(lambda: file.read(1_000_003), b""))

    assert read == data
    assert len(line.befallen) == 3


@pytest.mark.parametrize("fault", ["503", "reset", "cut"])
def test_a_store_that_stays_away_is_given_up_after_about_a_minute(
    bucket: str, line: Line, pauses: list[float], fault: str
) -> None:
    files.write_bytes(f"{bucket}/a", b"data")
    line.fault = lambda method, path: fault if method == "GET" else None

    with pytest.raises(ConnectionError, match="the store did not answer in spite of retries"):
        files.read_bytes(f"{bucket}/a")

    assert len(pauses) > 4
    assert sum(pauses) < 120
    assert max(pauses) > 2 * min(pauses)


@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_is_final_is_not_tried_again(bucket: str, line: Line, pauses: list[float], code: int) -> None:
    files.write_bytes(f"{bucket}/a", b"data")
    line.fault = lambda method, path: str(code) if "/a" in path else None

    with pytest.raises(FileNotFoundError if code == 404 else PermissionError):
        files.read_bytes(f"{bucket}/a")

    assert pauses == []
    assert len(line.befallen) == 1


@pytest.mark.parametrize("call", ["write", "list", "copy", "delete", "create", "touch", "exists"])
def test_every_call_tells_the_same_way_that_a_store_is_away(
    bucket: str, line: Line, pauses: list[float], call: str
) -> None:
    path = f"{bucket}/a"
    files.write_bytes(path, b"data")
    line.fault = lambda method, path: "503"
    calls = {
        "write": lambda: files.write_bytes(path, b""),
        "list": lambda: files.match(f"{bucket}/*"),
        "copy": lambda: files.copy(path, f"{bucket}/b"),
        "delete": lambda: files.delete([path]),
        "create": lambda: files.create(path, b""),
        "touch": lambda: files.touch(path),
        "exists": lambda: files.exists(path),
    }

    with pytest.raises(ConnectionError, match="in spite of retries") as raised:
        calls[call]()

    assert raised.value.filename in (path, f"{bucket}/", f"{bucket}/b")
    assert len(pauses) > 4
    assert sum(pauses) < 120
