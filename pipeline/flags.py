"""The flags of absl (and of `tf.compat.v1.app.flags`, which are the same) that user code has defined, set by `model.argv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import JobError
from pipeline.job.messages import did_you_mean

_set: set[str] = set()
"""Flags that an earlier call has set."""
_parsed_here = False
"""Whether nobody but an earlier call has parsed flags."""


def parse_flags(argv: Sequence[str] | None) -> None:
    """Set flags as a command line would; those of an earlier call go back to their defaults.

    Flags that the program around has parsed for itself stay, unless argv names them.

    Args:
      argv: such as `["--units=8", "--noverbose"]`, without the name of a program. None: flags are as if this was never called.

    Raises:
      JobError: a flag that nobody has defined, a value that it does not take, a flag missing that is required, or no flag.
    """
    global _parsed_here
    if argv is None and not _set and not _parsed_here:
        return
    from absl import flags

    values = flags.FLAGS
    for name in _set & set(values):
        values[name].unparse()
    _set.clear()
    if argv is None:
        if _parsed_here:
            values.unparse_flags()
        _parsed_here = False
        return
    _parsed_here = _parsed_here or not values.is_parsed()
    present = {name: values[name].present for name in values}
    try:
        rest = values(["model.argv", *argv])[1:]
    except flags.Error as error:
        _forget(values, present)
        raise JobError(f"model.argv: {_in_words(error, values)}") from error
    _set.update(name for name in values if values[name].present != present.get(name, 0))
    if rest:
        raise JobError(f"model.argv: {rest[0]!r} is no flag; write --name=value, one text each")


def _forget(values: Any, present: dict[str, int]) -> None:
    """Take back what was set before argv was refused."""
    for name in values:
        if values[name].present != present.get(name, 0):
            values[name].unparse()


def _in_words(error: Exception, values: Any) -> str:
    from absl import flags

    if not isinstance(error, flags.UnrecognizedFlagError):
        return str(error)
    close = did_you_mean(error.flagname, [name for name in values if len(name) > 1])
    return (
        f"the user's code defines no flag {error.flagname!r}{close if 'did you mean' in close else ''}; those count that are "
        "defined when the modules of model, transform and features are imported"
    )
