"""Options of Beam's runners that a job file names under `runner`, as the command line would have them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from pipeline.errors import JobError
from pipeline.job.messages import describe, did_you_mean
from pipeline.job.runner import Runner


def beam_parser() -> _BeamArgumentParser:
    """The parser of all options that Beam has."""
    parser = _BeamArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    return parser


def with_job_options(runner: Runner, arguments: Sequence[str]) -> list[str]:
    """The options of a job file, and behind them those of the command line; an option that is given there counts alone.

    Raises:
      JobError: naming the key of an option that Beam does not have, or not with such a value.
    """
    actions = beam_parser()._option_string_actions
    given = {actions[name].dest for name in (text.partition("=")[0] for text in arguments) if name in actions}
    found = [] if runner.name is None or "runner" in given else [f"--runner={runner.name}"]
    for name, value in runner.options.items():
        action = actions.get(f"--{name}")
        if action is None:
            known = [option.removeprefix("--") for option in actions]
            close = did_you_mean(name, known)
            raise JobError(
                f"runner.options.{name}: Beam has no such option{close if 'did you mean' in close else '; see its documentation'}"
            )
        if action.dest not in given:
            found += _written(name, value, action, actions)
    return [*found, *arguments]


def _written(name: str, value: Any, action: argparse.Action, actions: Mapping[str, argparse.Action]) -> Iterator[str]:
    """One option as the command line has it."""
    values = value if isinstance(value, list) else [value]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise JobError(f"runner.options.{name}: expected true or false, got {describe(value)}")
        opposite = f"--no_{name}" if action.const is True else f"--{name.removeprefix('no_')}"
        if value:
            yield f"--{name}"
        elif opposite in actions:
            yield opposite
        elif bool(action.default) is bool(action.const):
            raise JobError(f"runner.options.{name}: is what Beam does anyway, and has no opposite; leave it out")
        return
    if isinstance(value, list) and type(action) is argparse._StoreAction:
        raise JobError(f"runner.options.{name}: takes one value, got a list")
    for each in values:
        _check_value(name, each, action)
        yield f"--{name}={_text(each)}"


def _check_value(name: str, value: Any, action: argparse.Action) -> None:
    try:
        if callable(action.type):
            action.type(_text(value))
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        wanted = {int: "a whole number", float: "a number"}.get(action.type, "another value")  # type: ignore[call-overload]
        raise JobError(f"runner.options.{name}: expected {wanted}, got {describe(value)}") from None
    if action.choices is not None and value not in action.choices:
        known = ", ".join(map(str, action.choices))
        raise JobError(f"runner.options.{name}: expected one of {known}, got {describe(value)}")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
