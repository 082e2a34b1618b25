"""Google Cloud Storage."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import BinaryIO

import requests
from apache_beam.io.gcp.gcsio import create_storage_client
from apache_beam.options.pipeline_options import PipelineOptions
from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Blob, Client
from google.cloud.storage.retry import DEFAULT_RETRY

from pipeline.stores import FileInfo, beam_options, not_found
from pipeline.stores.objects import ObjectStore, split, store_error

# Every call here may be repeated: those that must happen once are conditional on a generation
_RETRY = DEFAULT_RETRY.with_delay(initial=1, maximum=20, multiplier=2).with_timeout(60)
_TIMEOUT = (10, 30)
"""Seconds to connect, and between two packets of an answer."""
_FIELDS = "items(name,size,updated,generation),nextPageToken"
_MADE_BY = "made-by"


class GoogleStorage(ObjectStore):
    """Objects under gs://. The etag of a `FileInfo` is the generation, a new one with every write."""

    def __init__(self) -> None:
        self._client = _client(beam_options())

    def info(self, path: str) -> FileInfo | None:
        bucket, name = split(path)
        with _os_errors(path):
            blob = self._client.bucket(bucket).get_blob(name, retry=_RETRY, timeout=_TIMEOUT)
        return _info(bucket, blob) if blob else None

    def objects(self, prefix: str, below: bool) -> Iterator[FileInfo]:
        bucket, start = split(prefix)
        with _os_errors(prefix):
            for blob in self._client.list_blobs(
                bucket,
                prefix=start,
                delimiter=None if below else "/",
                fields=_FIELDS,
                retry=_RETRY,
                timeout=_TIMEOUT,
            ):
                yield _info(bucket, blob)

    def read(self, info: FileInfo, start: int, end: int) -> bytes:
        if start == end:
            return b""
        with _os_errors(info.path):
            return self._blob(info.path).download_as_bytes(
                start=start,
                end=end - 1,
                raw_download=True,  # a gzip file that is labelled so would come inflated
                if_generation_match=_generation(info),
                retry=_RETRY,
                timeout=_TIMEOUT,
            )

    def send(self, path: str, file: BinaryIO) -> None:
        with _os_errors(path):
            size = os.fstat(file.fileno()).st_size  # small objects go in one request then
            self._blob(path).upload_from_file(file, size=size, retry=_RETRY, timeout=_TIMEOUT)

    def create(self, path: str, data: bytes) -> bool:
        # An answer may be lost and the request repeated, which then meets the object that the first one made
        blob = self._blob(path)
        token = uuid.uuid4().hex
        blob.metadata = {_MADE_BY: token}
        with _os_errors(path):
            try:
                blob.upload_from_string(data, if_generation_match=0, retry=_RETRY, timeout=_TIMEOUT)
            except PreconditionFailed:
                there = blob.bucket.get_blob(blob.name, retry=_RETRY, timeout=_TIMEOUT)
                return there is not None and (there.metadata or {}).get(_MADE_BY) == token
        return True

    def replace(self, info: FileInfo, data: bytes) -> None:
        blob = self._blob(info.path)
        blob.metadata = {_MADE_BY: uuid.uuid4().hex}
        with _os_errors(info.path):
            try:
                blob.upload_from_string(data, if_generation_match=_generation(info), retry=_RETRY, timeout=_TIMEOUT)
            except PreconditionFailed as error:
                there = blob.bucket.get_blob(blob.name, retry=_RETRY, timeout=_TIMEOUT)
                if there is None or there.metadata != blob.metadata:
                    raise not_found(info.path) from error

    def copy(self, source: str, target: str) -> None:
        token = None
        with _os_errors(source):
            while True:
                token, _, _ = self._blob(target).rewrite(
                    self._blob(source), token=token, retry=_RETRY, timeout=_TIMEOUT
                )
                if token is None:
                    return

    def delete_one(self, path: str) -> None:
        try:
            with _os_errors(path):
                self._blob(path).delete(retry=_RETRY, timeout=_TIMEOUT)
        except FileNotFoundError:
            return

    def delete_unchanged(self, info: FileInfo) -> bool:
        try:
            with _os_errors(info.path):
                self._blob(info.path).delete(if_generation_match=_generation(info), retry=_RETRY, timeout=_TIMEOUT)
        except FileNotFoundError:
            return False
        except OSError as error:
            if isinstance(error.__cause__, PreconditionFailed):
                return False
            raise
        return True

    def _blob(self, path: str) -> Blob:
        bucket, name = split(path)
        return self._client.bucket(bucket).blob(name)


@lru_cache(maxsize=1)
def _client(options: PipelineOptions) -> Client:
    """A client with the credentials that Beam's options choose; an emulator wants none."""
    emulated = os.environ.get("STORAGE_EMULATOR_HOST")
    return create_storage_client(options, use_credentials=not emulated)


def _info(bucket: str, blob: Blob) -> FileInfo:
    return FileInfo(f"gs://{bucket}/{blob.name}", blob.size, blob.updated.timestamp(), str(blob.generation))


def _generation(info: FileInfo) -> int:
    return int(info.etag or 0)


@contextmanager
def _os_errors(path: str) -> Iterator[None]:
    try:
        yield
    except RetryError as error:
        raise store_error(path, None, type(error.cause).__name__) from error
    except GoogleAPICallError as error:
        raise store_error(path, error.code, type(error).__name__) from error
    except GoogleAuthError as error:
        raise store_error(path, 401, type(error).__name__) from error
    except requests.RequestException as error:
        raise store_error(path, None, type(error).__name__) from error
