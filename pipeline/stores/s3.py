"""Amazon S3, and stores that speak its protocol."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO

import boto3
from apache_beam.options.pipeline_options import PipelineOptions, S3Options
from apache_beam.utils.retry import with_exponential_backoff
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, NoCredentialsError

from pipeline.stores import FileInfo, beam_options, not_found
from pipeline.stores.objects import ObjectStore, split, store_error

# boto's standard mode doubles its pauses up to 20 s, with jitter: about a minute in the mean where the store throttles
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 10}, connect_timeout=10, read_timeout=30)
_MADE_BY = "made-by"


class S3(ObjectStore):
    """Objects under s3://. A client is one for all threads of the process, as boto's clients may be."""

    def __init__(self) -> None:
        self._client = _client(beam_options())

    def info(self, path: str) -> FileInfo | None:
        bucket, key = split(path)
        try:
            with _os_errors(path):
                found = self._client.head_object(Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        return FileInfo(path, found["ContentLength"], found["LastModified"].timestamp(), found["ETag"])

    def objects(self, prefix: str, below: bool) -> Iterator[FileInfo]:
        bucket, start = split(prefix)
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=start, **({} if below else {"Delimiter": "/"})
        )
        with _os_errors(prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    path = f"s3://{bucket}/{found['Key']}"
                    yield FileInfo(path, found["Size"], found["LastModified"].timestamp(), found["ETag"])

    def read(self, info: FileInfo, start: int, end: int) -> bytes:
        if start == end:
            return b""
        with _os_errors(info.path):
            return _read(self._client, info, start, end)

    def send(self, path: str, file: BinaryIO) -> None:
        bucket, key = split(path)
        with _os_errors(path):
            self._client.upload_fileobj(file, bucket, key)

    def create(self, path: str, data: bytes) -> bool:
        # An answer may be lost and the request repeated, which then meets the object that the first one made
        bucket, key = split(path)
        token = uuid.uuid4().hex
        with _os_errors(path):
            try:
                self._client.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*", Metadata={_MADE_BY: token})
            except ClientError as error:
                if _code(error) not in (409, 412):  # 409: another one is being written at this very moment
                    raise
                return self._made_by(bucket, key) == token
        return True

    def replace(self, info: FileInfo, data: bytes) -> None:
        bucket, key = split(info.path)
        with _os_errors(info.path):
            try:
                self._client.put_object(Bucket=bucket, Key=key, Body=data, IfMatch=info.etag)
            except ClientError as error:
                if _code(error) not in (409, 412):
                    raise
                raise not_found(info.path) from error

    def copy(self, source: str, target: str) -> None:
        bucket, key = split(source)
        with _os_errors(source):
            self._client.copy({"Bucket": bucket, "Key": key}, *split(target))

    def delete_one(self, path: str) -> None:
        bucket, key = split(path)
        with _os_errors(path):
            self._client.delete_object(Bucket=bucket, Key=key)

    def delete_unchanged(self, info: FileInfo) -> bool:
        """The etag is a digest of the bytes, so that an object written anew with the same ones counts by its time: what
        happens between looking at that and deleting is not seen."""
        bucket, key = split(info.path)
        if self.info(info.path) != info:
            return False
        with _os_errors(info.path):
            try:
                self._client.delete_object(Bucket=bucket, Key=key, IfMatch=info.etag)
            except ClientError as error:
                if _code(error) not in (404, 409, 412):
                    raise
                return False
        return True

    def _made_by(self, bucket: str, key: str) -> str | None:
        try:
            return self._client.head_object(Bucket=bucket, Key=key)["Metadata"].get(_MADE_BY)
        except ClientError as error:
            if _code(error) != 404:
                raise
            return None


@lru_cache(maxsize=1)
def _client(options: PipelineOptions) -> Any:
    """A client by the options that Beam's own filesystem takes, with boto's own settings for what they leave open."""
    s3 = options.view_as(S3Options)
    return boto3.session.Session().client(
        "s3",
        region_name=s3.s3_region_name,
        api_version=s3.s3_api_version,
        use_ssl=not s3.s3_disable_ssl,
        verify=s3.s3_verify,
        endpoint_url=s3.s3_endpoint_url,
        config=_CONFIG,
    )


class _Interrupted(Exception):
    """The bytes of an answer ended too early; boto repeats requests, and not this."""


@with_exponential_backoff(
    num_retries=7,
    initial_delay_secs=1,
    max_delay_secs=20,
    retry_filter=lambda error: isinstance(error, _Interrupted),
    logger=lambda *_: None,
)
def _read(client: Any, info: FileInfo, start: int, end: int) -> bytes:
    bucket, key = split(info.path)
    body = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", IfMatch=info.etag)["Body"]
    try:
        return body.read()
    except (HTTPClientError, IncompleteReadError) as error:
        raise _Interrupted(type(error).__name__) from error
    finally:
        body.close()


@contextmanager
def _os_errors(path: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise store_error(path, _code(error), error.response.get("Error", {}).get("Code", "")) from error
    except NoCredentialsError as error:
        raise store_error(path, 401, "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except (BotoCoreError, _Interrupted) as error:
        raise store_error(path, None, type(error).__name__) from error


def _code(error: ClientError) -> int | None:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
