"""`input.partitions`: hive, or a mapping of columns to their dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.job.messages import KeyPath, MistakesError, describe
from pipeline.job.values import known_dtype

if TYPE_CHECKING:
    from pipeline.job import Input


def partitions(value: Any) -> dict[str, str] | str:
    """The value of the key, checked."""
    if value == "hive":
        return "hive"
    if not isinstance(value, dict) or not value:
        raise ValueError(f"expected hive or a mapping column: dtype, got {describe(value)}")
    mistakes: list[tuple[KeyPath, str]] = []
    for column, dtype in value.items():
        try:
            known_dtype(dtype)
        except ValueError as error:
            mistakes.append(((column,), str(error)))
    if mistakes:
        raise MistakesError(mistakes)
    return value


def may_be_in_path(source: Input, name: str) -> bool:
    """Whether a feature or a pass-through source may be given by the path of a shard; by `hive` only the shards tell."""
    if source.partitions is None:
        return False
    return source.partitions == "hive" or source.rename.get(name, name) in source.partitions
