"""How many requests a part makes of an object store: those that `benchmarks.costs` counts are those that are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pytest
from published import new_plan, take, write_part

from benchmarks.costs import GS
from pipeline import files
from pipeline.commit import abandon
from pipeline.plan import check_unchanged, write_plan
from pipeline.publish import Limits, publish
from pipeline.rows import Shard
from pipeline.stages.input import _is_unfinished
from pipeline.stores import FileInfo, not_found
from pipeline.stores.objects import ObjectStore

OUTPUT = "gs://bucket/output"


class CountingStore(ObjectStore):
    """Objects in memory; counts what would be a request each."""

    def __init__(self) -> None:
        self.requests = 0
        self._objects: dict[str, tuple[FileInfo, bytes]] = {}

    def info(self, path: str) -> FileInfo | None:
        self.requests += 1
        return self._objects[path][0] if path in self._objects else None

    def objects(self, prefix: str, below: bool) -> Iterator[FileInfo]:
        self.requests += 1
        found = [info for path, (info, _) in list(self._objects.items()) if path.startswith(prefix)]
        yield from (info for info in found if below or "/" not in info.path[len(prefix) :])

    def read(self, info: FileInfo, start: int, end: int) -> bytes:
        self.requests += 1
        return self._objects[info.path][1][start:end]

    def send(self, path: str, file: BinaryIO) -> None:
        self._put(path, file.read())

    def create(self, path: str, data: bytes) -> bool:
        if path in self._objects:
            return False
        self._put(path, data)
        return True

    def replace(self, info: FileInfo, data: bytes) -> None:
        self._put(info.path, data)

    def copy(self, source: str, target: str) -> None:
        if source not in self._objects:
            raise not_found(source)
        self._put(target, self._objects[source][1])

    def delete_one(self, path: str) -> None:
        self.requests += 1
        self._objects.pop(path, None)

    def delete_unchanged(self, info: FileInfo) -> bool:
        self.delete_one(info.path)
        return True

    def _put(self, path: str, data: bytes) -> None:
        self.requests += 1
        self._objects[path] = (FileInfo(path, len(data), None, str(self.requests)), data)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> CountingStore:
    counting = CountingStore()
    monkeypatch.setattr(files, "store_of", lambda path: counting)
    return counting


def test_of_a_worker_for_a_part(store: CountingStore):
    lease = take(OUTPUT, "r1")
    plan = new_plan("r1", 3)
    before = store.requests

    for part in plan.parts:
        assert _is_unfinished(part, lease)
        lease.check()  # before the last batch is written
        write_part(OUTPUT, plan, part.index)

    assert store.requests - before == 3 * GS.worker_part


def test_of_a_worker_for_a_shard(store: CountingStore):
    path = "gs://bucket/input/a.tfrecord"
    with files.open_write(path) as file:
        file.write(b"records")
    info = files.info(path)
    assert info is not None
    before = store.requests

    check_unchanged(Shard(*info))
    with files.open_read(path) as file:
        assert file.read(7) == b"records"
    check_unchanged(Shard(*info))

    assert store.requests - before == GS.worker_shard


def test_of_publishing_parts_and_replacing_older_ones(store: CountingStore):
    _publish(store, "r0", 40)
    few = _publish(store, "r1", 10)  # takes away 40 files
    many = _publish(store, "r2", 30)  # takes away 10: another number of parts, so other names
    same = _publish(store, "r3", 30)  # takes away none

    assert many - few == 20 * GS.publish_part - 30 * GS.retire
    assert many - same == 10 * GS.retire


def _publish(store: CountingStore, run_id: str, parts: int) -> int:
    """Requests of publishing."""
    lease = take(OUTPUT, run_id)
    try:
        plan = new_plan(run_id, parts)
        write_plan(OUTPUT, plan)
        for index in range(parts):
            write_part(OUTPUT, plan, index)
        before = store.requests
        publish(lease, plan, Limits())
        return store.requests - before
    finally:
        abandon(lease)
