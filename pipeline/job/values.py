"""Values of a job file that may be written in more than one way, and the one shape each has afterwards."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.job.messages import MistakesError, describe, did_you_mean, number_remedy

Text = Annotated[str, Field(min_length=1)]
Format = Literal["tfrecord", "parquet", "csv", "jsonl", "avro"]
ArrowType = Literal[
    "binary", "string", "bool", "float16", "float32", "float64",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip

_EXTENSIONS: dict[str, Format] = {
    "tfrecord": "tfrecord",
    "tfrecords": "tfrecord",
    "parquet": "parquet",
    "csv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "avro": "avro",
}
_COMPRESSED = {"tfrecord": ("gz", "gzip", "zlib", "z"), "csv": ("gz", "gzip"), "jsonl": ("gz", "gzip")}
_SHARD_NUMBER = re.compile(r"(-[\d*?]+-of-[\d*?]+|-?\*+)$")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"[1-9]\d{0,8}[smhd]")
_PREDICTION = re.compile(r"(?P<key>[^\[\]]+)(\[(?P<index>-?\d+)\])?")


class Section(BaseModel):
    """A mapping of the job file: no other keys, no value of another type, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


@dataclass(frozen=True)
class PassThroughColumn:
    """An input field that is copied to the output. `dtype`: a dtype of features, or binary; None where the input has one itself."""

    source: str
    dtype: str | None = None


@dataclass(frozen=True)
class PredictionKey:
    """A prediction, or one value of its last axis. A key of several heads is written `head/key`."""

    key: str
    index: int | None = None

    def __str__(self) -> str:
        return self.key if self.index is None else f"{self.key}[{self.index}]"


def format_of(path: str) -> Format | None:
    """The format that the extension of a file name, or of a pattern of them, tells.

    Numbers and wildcards behind the extension do not matter: `x.tfrecord.gz-00000-of-00008` is TFRecord.
    """
    parts = _SHARD_NUMBER.sub("", posixpath.basename(path).lower()).split(".")[1:]
    record_format = _EXTENSIONS.get(parts[-1]) if parts else None
    if record_format or len(parts) < 2:
        return record_format
    inner = _EXTENSIONS.get(parts[-2])
    return inner if inner and parts[-1] in _COMPRESSED.get(inner, ()) else None


def format_of_all(patterns: list[str]) -> Format:
    """The one format that all patterns tell.

    Raises:
      ValueError: a pattern tells none, or two tell different ones.
    """
    found = {pattern: format_of(pattern) for pattern in patterns}
    for pattern, record_format in found.items():
        if record_format is None:
            raise ValueError(
                f"the name {pattern!r} does not tell the format; write input.format: "
                "tfrecord, parquet, csv, jsonl or avro"
            )
    formats = sorted({record_format for record_format in found.values() if record_format})
    if len(formats) > 1:
        raise ValueError(
            f"the patterns are of different formats ({', '.join(formats)}); one job reads one, write it as input.format"
        )
    return next(iter(found.values())) or "tfrecord"


def one_or_more(value: Any) -> Any:
    """A single name stands for a list of one."""
    return [value] if isinstance(value, str) else value


def reference(value: Any) -> Any:
    """A `module:function` string."""
    if not isinstance(value, str):
        raise ValueError(f"expected a reference module:function, got {describe(value)}")
    if _REFERENCE.fullmatch(value):
        return value
    module, _, function = value.rpartition("." if ":" not in value else ":")
    module = module.removesuffix(".py").replace("/", ".").strip(".")
    remedy = f"{module}:{function}"
    remedy = f"; write {remedy}" if _REFERENCE.fullmatch(remedy) and function != "py" else ""
    raise ValueError(f"expected a reference module:function, got {describe(value)}{remedy}")


def distinct(names: list[str]) -> list[str]:
    """Refuses a list that names something twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice; name it once")
    return names


def budget(value: Any) -> int | float:
    """A count of 0 or more, or a fraction from 0 to below 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        remedy = number_remedy(value, whole=False)
        raise ValueError(f"expected a count or a fraction, got {describe(value)}{remedy}")
    if isinstance(value, float) and not 0 <= value < 1:
        remedy = f"; write {value:.0f} for a count" if value >= 1 and value.is_integer() else ""
        raise ValueError(f"a fraction is from 0 to below 1, got {value}{remedy}")
    if value < 0:
        raise ValueError(f"a count is 0 or more, got {value}")
    return value


def duration(value: Any) -> str:
    """A length of time: a whole number of seconds, minutes, hours or days, such as 30m."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return value
    seconds = f"; write {value}s for seconds" if type(value) is int and value > 0 else ""
    raise ValueError(f"expected a duration such as 90s, 30m, 2h or 1d, got {describe(value)}{seconds}")


def seconds_of(text: str) -> int:
    """The seconds of a `duration`."""
    return int(text[:-1]) * _SECONDS[text[-1]]


def plain_file_name(name: str) -> str:
    """The name of one file, without a folder and without wildcards."""
    if not name or re.search(r"[/\\*?\[]", name):
        raise ValueError(
            f"expected the name of a file that lies beside the shards, such as _SUCCESS, got {describe(name)}"
        )
    return name


def processes(value: Any) -> int | str:
    """A number of processes, 1 or more, or "auto"."""
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(
        f"expected a whole number from 1 on or auto, got {describe(value)}{number_remedy(value, whole=True)}"
    )


def known_dtype(value: Any, more: tuple[str, ...] = ()) -> str:
    """The name of a dtype that features can have, or of one `more`."""
    from pipeline.features import DTYPES  # imports numpy and pyarrow: only for jobs that name a dtype

    known = (*DTYPES, *more)
    if value not in known:
        remedies = {"float": "float32", "double": "float64", "int": "int64", "str": "string", "bytes": "string"}
        close = f"; did you mean {remedies[value]!r}?" if value in remedies else did_you_mean(value, known, 0.7)
        raise ValueError(f"no dtype of features is {describe(value)}{close}")
    return value


def passthrough_dtype(value: Any) -> str:
    """The name of a dtype of features, or binary: strings that are passed through have to be UTF-8."""
    return known_dtype(value, ("binary",))


class PassThroughEntry(Section):
    """One pass-through column as it stands in `output.passthrough:`."""

    source: Text = Field(alias="from")
    dtype: Annotated[str, BeforeValidator(passthrough_dtype)] | None = None


def passthrough_columns(
    value: Any, entries: Callable[[Any], dict[str, PassThroughEntry]]
) -> dict[str, PassThroughColumn]:
    """`output.passthrough:`, a list of names or a mapping of columns."""
    if isinstance(value, list):
        value = {name: name for name in _names(value)}
    if isinstance(value, dict):
        value = {column: {"from": entry} if isinstance(entry, str) else entry for column, entry in value.items()}
    return {column: PassThroughColumn(entry.source, entry.dtype) for column, entry in entries(value).items()}


def prediction_keys(value: Any) -> dict[str, PredictionKey]:
    """`output.predictions:`, a list of keys or a mapping of columns to `key` or `key[index]`."""
    if value in ([], {}):
        raise ValueError("is empty; name at least one, or leave the key out for all predictions")
    if isinstance(value, list):
        for key in _names(value):
            if "[" in key:
                raise ValueError(f'{key!r} needs a column name: write a mapping {{column: "{key}"}}')
        return {key.replace("/", "_"): PredictionKey(key) for key in value}
    if not isinstance(value, dict):
        raise ValueError(f"expected a list of keys or a mapping column: key, got {describe(value)}")
    mistakes, keys = [], {}
    for column, text in value.items():
        try:
            keys[column] = _prediction_key(text)
        except ValueError as error:
            mistakes.append(((column,), str(error)))
    if mistakes:
        raise MistakesError(mistakes)
    return keys


def _prediction_key(text: Any) -> PredictionKey:
    match = _PREDICTION.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"expected key or key[index], got {describe(text)}")
    if match["index"] and int(match["index"]) < 0:
        raise ValueError(f"the index of {text!r} counts from 0; a negative one is not taken")
    return PredictionKey(match["key"], int(match["index"]) if match["index"] else None)


def _names(values: list[Any]) -> list[str]:
    for value in values:
        if not isinstance(value, str) or not value:
            raise ValueError(f"expected a list of names, got {describe(value)} in it")
    return distinct(values)
