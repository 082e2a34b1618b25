"""Beam options and runners: `DirectRunner` means Beam's in-process runner, with no download."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, _BeamArgumentParser

from pipeline.errors import JobError
from pipeline.graph import Run, build

IN_PROCESS = "FnApiRunner"
"""Beam's DirectRunner downloads Prism first where it can, and changes the engine with the shape of the pipeline."""

SECRETS = {
    "s3_access_key_id": "AWS_ACCESS_KEY_ID",
    "s3_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "s3_session_token": "AWS_SESSION_TOKEN",
    "azure_connection_string": "AZURE_STORAGE_CONNECTION_STRING",
}
"""Options whose value would stand in the command line and in the options of the job, for all to see; the environment
variable that does the same."""


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options, which hold for the filesystems of this process from now on.

    One that Beam does not know is an error, where Beam itself would warn and go on.

    Raises:
      JobError: naming the option.
    """
    parser = _BeamArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    try:
        known, unknown = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise JobError(f"command line: {error}") from error
    if unknown:
        raise JobError(f"command line: neither this command nor Beam knows {unknown[0]!r}; see --help")
    for option, variable in SECRETS.items():
        if getattr(known, option) is not None:
            raise JobError(f"command line: --{option} would be shown with the job; set {variable} in the environment")
    options = PipelineOptions(list(arguments))
    standard = options.view_as(StandardOptions)
    if standard.runner in (None, "DirectRunner"):
        standard.runner = IN_PROCESS
    FileSystems.set_options(options)
    return options


def run_pipeline(run: Run, options: PipelineOptions) -> None:
    """Build the pipeline, run it, and wait until it is done. Errors of the stages are raised as the runner raises them."""
    p = beam.Pipeline(options=options)
    build(p, run)
    _interruptibly(lambda: p.run().wait_until_finish())


def _interruptibly(call: Callable[[], object]) -> None:
    """Call something in a thread and wait for it.

    SIGTERM and Ctrl-C raise in the main thread, and that must not happen in the middle of the runner's own locks: it
    ended in "cannot notify on un-acquired lock" in place of the signal.
    """
    done: Future[object] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    done.result()
