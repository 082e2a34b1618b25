"""Object stores for tests: emulators of Google Cloud Storage and Amazon S3 in this process, and a line to them that fails.

`bucket` is the URL of a new bucket, once on either store. Processes that a test starts reach it as well: the emulators
are named by environment variables. `line.fault` decides what happens to each request on its way.
"""

from __future__ import annotations

import http.client
import itertools
import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

STORES = ["gs", "s3"]

SIZE = 20_000_000
"""More than two of the ranges that a reader asks for, and than what goes in one request."""


def numbered(size: int) -> bytes:
    """Bytes of which no two places look alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


Fault = Callable[[str, str], "str | None"]
"""Method and path of a request -> what befalls it; None: nothing.

An HTTP code, as text: the store answers that, and does nothing. reset: the connection breaks before the store has heard
anything. lost: it breaks after the store has done what was asked. cut: it breaks in the middle of the answer.
"""


class Line(ThreadingHTTPServer):
    """Passes requests on to a store, but for those that a fault befalls."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, store: str):
        super().__init__(("127.0.0.1", 0), _Passing)
        self.store = urlsplit(store).netloc
        self.fault: Fault = lambda method, path: None
        self.befallen: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def every(self, nth: int, kind: str) -> None:
        """Let the fault befall every n-th request from the second on."""
        count = itertools.count()
        self.fault = lambda method, path: kind if next(count) % nth == 1 else None

    def first(self, times: int, kind: str, method: str) -> None:
        """Let the fault befall the first requests with this method."""
        count = itertools.count()
        self.fault = lambda asked, path: kind if asked == method and next(count) < times else None


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets, and the second would wait 40 ms
    server: Line
    hop_by_hop: ClassVar = {"connection", "transfer-encoding", "content-length"}

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def do(self) -> None:
        data = self._body()
        fault = self.server.fault(self.command, self.path)
        if fault:
            self.server.befallen.append((self.command, self.path))
        if fault == "reset":
            return self._break()
        if fault and fault.isdigit():
            return self._answer(int(fault), [], _refusal(self.path, int(fault)))
        store = http.client.HTTPConnection(self.server.store, timeout=30)
        try:
            store.request(self.command, self.path, data, dict(self.headers))
            response = store.getresponse()
            body = response.read()
        finally:
            store.close()
        if fault == "lost":
            return self._break()
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in self.hop_by_hop]
        length = response.getheader("Content-Length") if self.command == "HEAD" else None
        self._answer(response.status, headers, body, length, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do  # noqa: N815

    def _body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            del self.headers["Transfer-Encoding"]
            return data
        length = self.headers.get("Content-Length")
        return self.rfile.read(int(length)) if length else None

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._break()

    def _break(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close resets
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        return


def _refusal(path: str, status: int) -> bytes:
    if "/b/" in path:
        return json.dumps({"error": {"code": status, "message": "emulated"}}).encode()
    code = {403: "AccessDenied", 429: "SlowDown", 503: "SlowDown"}.get(status, "InternalError")
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>emulated</Message></Error>".encode()


@pytest.fixture(scope="session")
def google_emulator() -> Iterator[str]:
    """URL of an emulator of Google Cloud Storage."""
    from gcp_storage_emulator import server

    _obey_conditions(server.HANDLERS)
    server.RequestHandler.disable_nagle_algorithm = True
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    emulator = server.create_server("127.0.0.1", 0, in_memory=True)
    emulator.start()
    yield f"http://127.0.0.1:{emulator._api._httpd.server_port}"
    emulator.stop()


@pytest.fixture(scope="session")
def s3_emulator() -> Iterator[str]:
    """URL of an emulator of Amazon S3."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    WSGIRequestHandler.disable_nagle_algorithm = True
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    emulator = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    emulator.start()
    host, port = emulator.get_host_and_port()
    yield f"http://{host}:{port}"
    emulator.stop()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """The scheme of a store. A test may choose the stores itself: `parametrize("store", ...)`."""
    return request.param


@pytest.fixture
def _reached(store: str, request: pytest.FixtureRequest) -> Iterator[tuple[str, Line]]:
    with new_bucket(store, request) as reached:
        yield reached


@pytest.fixture
def bucket(_reached: tuple[str, Line]) -> str:
    """URL of a new bucket, `gs://...` or `s3://...`."""
    return _reached[0]


@pytest.fixture
def line(_reached: tuple[str, Line]) -> Line:
    """The line over which this test reaches `bucket`."""
    return _reached[1]


_numbers = itertools.count()


@contextmanager
def new_bucket(store: str, request: pytest.FixtureRequest) -> Iterator[tuple[str, Line]]:
    """The URL of a new bucket, and the line over which it is reached, also by processes started meanwhile."""
    import pipeline.stores.google
    import pipeline.stores.s3

    emulator = request.getfixturevalue({"gs": "google_emulator", "s3": "s3_emulator"}[store])
    line, name = Line(emulator), f"bucket-{next(_numbers)}"
    if store == "gs":
        # Google's client asks for each bucket once, in a thread of its own, to name it in traces
        environment = {"STORAGE_EMULATOR_HOST": line.url, "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "1"}
        body = json.dumps({"name": name, "softDeletePolicy": {"retentionDurationSeconds": "0"}}).encode()
        making = Request(f"{emulator}/storage/v1/b?project=test", body, {"Content-Type": "application/json"})
    else:
        environment = {"AWS_ENDPOINT_URL_S3": line.url, "AWS_DEFAULT_REGION": "us-east-1"}
        environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        making = Request(f"{emulator}/{name}", headers={"Host": "s3.amazonaws.com"}, method="PUT")
    urlopen(making, timeout=30).close()
    clients = (pipeline.stores.google._client, pipeline.stores.s3._client)  # which read the environment once
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        for client in clients:
            client.cache_clear()
        yield f"{store}://{name}", line
    for client in clients:
        client.cache_clear()
    line.shutdown()
    line.server_close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before requests are repeated, in seconds; they are counted and not waited for."""
    import apache_beam.utils.retry
    import botocore.endpoint
    from google.api_core.retry import retry_base, retry_unary

    waited: list[float] = []
    clock = SimpleNamespace(sleep=waited.append, monotonic=lambda: time.monotonic() + sum(waited), time=time.time)
    for module in (apache_beam.utils.retry, botocore.endpoint, retry_base, retry_unary):
        monkeypatch.setattr(module, "time", clock)
    return waited


def _obey_conditions(handlers: Any) -> None:
    """Make the emulator obey `ifGenerationMatch`, which it ignores; it serves one request at a time."""

    def conditional(handler: Callable[..., None]) -> Callable[..., None]:
        def handle(request: Any, response: Any, storage: Any, *rest: Any, **named: Any) -> None:
            wanted = request.query.get("ifGenerationMatch")
            if wanted and "upload_id" not in request.query:
                name = request.params.get("object_id") or request.query.get("name", [None])[0]
                name = name or (request.data.get("meta") or request.data)["name"]
                there = storage.objects.get(request.params["bucket_name"], {}).get(name)
                generation = str(there["generation"]) if there else "0"
                if generation != wanted[0] and (there or handler.__name__ == "insert"):
                    response.status = http.HTTPStatus.PRECONDITION_FAILED
                    response.json({"error": {"code": 412, "message": "conditionNotMet"}})
                    return
            handler(request, response, storage, *rest, **named)

        return handle

    for _, methods in handlers:
        for method, handler in methods.items():
            if handler.__name__ in ("insert", "get", "download", "delete"):
                methods[method] = conditional(handler)
