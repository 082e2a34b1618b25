"""What tf.Examples hold: feature names, kinds and numbers of values, never a value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import InputError
from pipeline.text import job_features, table

Counts = Mapping[str, Sequence[int]]
"""Kind of list -> number of values in each record that has any."""

_DTYPES = {"float_list": "float32", "int64_list": "int64", "bytes_list": "string"}


def describe_examples(records: Sequence[bytes], path: str) -> list[str]:
    """A table of the features of serialized tf.Examples, and a draft of the `features:` section that reads them.

    Raises:
      InputError: no record of the shard at `path` is a tf.Example.
    """
    seen: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    others: list[_NoExampleError] = []
    for record in records:
        try:
            _count_values(record, seen)
        except _NoExampleError as error:
            others.append(error)
    if others and len(others) == len(records):
        raise InputError(f"{path}: the records are {others[0]}; only tf.Examples can be scored")
    total = len(records) - len(others)
    rows, entries, comments = [], {}, {}
    for name, kinds in sorted(seen.items()):
        counts = [count for some in kinds.values() for count in some]
        low, high = f"{min(counts, default=0):,}", f"{max(counts, default=0):,}"
        rows.append((name, " or ".join(sorted(kinds)) or "none", low, high, f"{len(counts):,}"))
        entry, comment = _draft(kinds, counts, total)
        if entry:
            entries[name] = entry
        if comment:
            comments[name] = comment
    header = ("name", "kind", "min values", "max values", "present in")
    lines = table(f"features of the first {total:,} tf.Examples", rows, header)
    if others:
        lines += [
            "",
            f"{len(others):,} of the first {len(records):,} records are no tf.Examples: they will be rejected",
        ]
    if not seen:
        return lines
    return [
        *lines,
        "",
        "draft from these counts alone; shapes, defaults and kinds have to be those of the parsing spec of the training",
        *job_features(entries, comments),
        *(f"  # {name}: {comment}" for name, comment in comments.items() if name not in entries),
    ]


class _NoExampleError(ValueError):
    """A record is something else; the message tells what."""


def _count_values(record: bytes, seen: dict[str, dict[str, list[int]]]) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    try:
        example = example_pb2.Example.FromString(record)
        sequence = example_pb2.SequenceExample.FromString(record)
    except DecodeError as error:
        raise _NoExampleError("no tf.Examples") from error
    # A SequenceExample is a valid Example, with a field that nobody knows.
    if sequence.feature_lists.feature_list:
        raise _NoExampleError("tf.SequenceExamples")
    if record and not example.HasField("features"):
        raise _NoExampleError("no tf.Examples")
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        counts = seen[name]
        if kind is not None:
            number = len(getattr(feature, kind).value)
            counts[kind].extend([number] if number else [])


def _draft(kinds: Counts, counts: Sequence[int], total: int) -> tuple[dict[str, Any] | None, str]:
    """The feature as it would stand in a job file, and what to say of it."""
    dtypes = sorted(_DTYPES[kind] for kind, some in kinds.items() if some)
    if not dtypes:
        return None, "has no value in these records, so its dtype cannot be told"
    if len(dtypes) > 1:
        return {"dtype": dtypes[0]}, f"{' in some records, '.join(dtypes)} in others; only one can be read"
    missing = f"{total - len(counts):,} of {total:,} records have no value" if len(counts) < total else ""
    if set(counts) == {1}:
        return {"dtype": dtypes[0]}, missing and f"{missing}: add the default, or kind: varlen, of the training"
    if len(set(counts)) == 1 and not missing:
        return {"dtype": dtypes[0], "shape": [counts[0]]}, ""
    return {"dtype": dtypes[0], "kind": "varlen"}, missing
