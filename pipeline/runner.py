"""Beam options and runners: `DirectRunner` means Beam's in-process runner, with no download."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, _BeamArgumentParser

from pipeline.errors import JobError
from pipeline.graph import Run, build

IN_PROCESS = "FnApiRunner"
"""Beam's DirectRunner downloads Prism first where it can, and changes the engine with the shape of the pipeline."""


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options; one that Beam does not know is an error, where Beam itself would warn and go on.

    Raises:
      JobError: naming the option.
    """
    parser = _BeamArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise JobError(f"command line: {error}") from error
    if unknown:
        raise JobError(f"command line: neither this command nor Beam knows {unknown[0]!r}; see --help")
    options = PipelineOptions(list(arguments))
    standard = options.view_as(StandardOptions)
    if standard.runner in (None, "DirectRunner"):
        standard.runner = IN_PROCESS
    return options


def run_pipeline(run: Run, options: PipelineOptions) -> None:
    """Build the pipeline, run it, and wait until it is done. Errors of the stages are raised as the runner raises them."""
    p = beam.Pipeline(options=options)
    build(p, run)
    p.run().wait_until_finish()
