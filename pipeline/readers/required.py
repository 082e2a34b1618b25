"""The columns that a shard has to have."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import BrokenShard
from pipeline.rows import Columns


def require_columns(columns: Columns, names: Sequence[str], container: str) -> None:
    """Check that a file which names its columns has those that are taken out of it.

    Raises:
      BrokenShard: one is missing and its feature is not optional, or stands there twice.
    """
    for name in columns.needed:
        if names.count(name) > 1:
            raise BrokenShard(f"the {container} has {names.count(name)} columns named {name!r}")
    for feature in columns.decoded:
        name = columns.source(feature)
        if name not in names and not columns.may_lack(feature):
            raise BrokenShard(
                f"the {container} lacks the column {name!r} (feature {feature!r}); "
                "name it in input.optional or rename it in input.rename"
            )
    for output, column in columns.passthrough.items():
        name = columns.source(column.source)
        if name not in names and column.source not in columns.optional:
            raise BrokenShard(
                f"the {container} lacks the column {name!r} (pass-through column {output!r}); "
                "leave it out of output.passthrough or rename it in input.rename"
            )
