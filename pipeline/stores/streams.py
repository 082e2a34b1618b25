"""Reading and writing objects as files."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from apache_beam.io.filesystemio import Downloader, DownloaderStream

READ_BYTES = 8 << 20
"""A request reads as much ahead; a shard is mostly read from start to end."""


class _Ranges(Downloader):
    def __init__(self, size: int, read: Callable[[int, int], bytes]):
        self._size = size
        self._read = read

    @property
    def size(self) -> int:
        return self._size

    def get_range(self, start: int, end: int) -> bytes:
        return self._read(start, end)


def reader(size: int, read: Callable[[int, int], bytes]) -> BinaryIO:
    """A file over `read(start, end)`, which gives exactly those bytes (the end is not among them) or raises OSError."""
    stream = DownloaderStream(_Ranges(size, read), read_buffer_size=READ_BYTES)
    return cast(BinaryIO, io.BufferedReader(stream, buffer_size=READ_BYTES))


class Upload(io.RawIOBase):
    """A file that is held on the local disk until it is closed, and then sent whole.

    Nothing is sent when its `with` block fails, or when nobody closes it. So a reader sees no torn object, and a request
    that fails can be repeated.

    Args:
      send: takes the file, which stands at its start.
    """

    def __init__(self, send: Callable[[BinaryIO], None]):
        self._send = send
        self._held = tempfile.TemporaryFile()  # noqa: SIM115  closed with this one

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._held.write(data)

    def tell(self) -> int:
        return self._held.tell()

    def close(self) -> None:
        """Send the file. Raises OSError if the store does not take it."""
        if self.closed:
            return
        try:
            self._held.seek(0)
            self._send(cast(BinaryIO, self._held))
        finally:
            self._discard()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def __del__(self) -> None:
        self._discard()

    def _discard(self) -> None:
        if hasattr(self, "_held"):  # else there was no room for it
            self._held.close()
        super().close()
