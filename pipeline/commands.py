"""The command line: `python -m pipeline COMMAND`, or `estimator-score COMMAND`.

Nothing heavy is imported before the job file was found right, so that `--help` and a refused job file answer at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal, NoReturn

from pipeline.errors import JobError, ScoringError, Terminated, without_values
from pipeline.garbage import importing, keep_imports, look_at_nothing_more
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from pipeline.job import Job
    from pipeline.report import Report

EXIT_CODES = """\
exit codes:
  0 done or skipped            4 too many bad rows or broken shards
  1 failed, a retry may help   5 counts do not add up
  2 job file or command line   6 model, checkpoint or transform refused
  3 no input, or not all       7 output exists or is locked
  8 compare: scores differ     130, 143 stopped
"""

COMPARE = (
    "Join two sets of scores by key, and tell how far apart they are and which rows differ. Prints values of rows."
)
COMPARE_RULES = """\
A number differs when |new - old| > A + R * |old|; with neither --atol nor --rtol, when it is more than
1e-5 * max(1, largest |old| of the column). NaN and missing numbers equal each other and nothing else; lists of other
lengths differ. Other columns are equal or not. Rows on one side alone differ; a key with several rows always ends in
exit code 8, and its rows are left out. Columns of one side alone are named, _shard and _row ignored unless in --on.
p50, p99 and p99.9 come from a histogram: at most 0.8% too large. Largest and mean are those of all values.
Memory stays below 2 GB; the rest goes to a folder in TMPDIR.
"""


def run_and_exit() -> NoReturn:
    """The process of a command: run it and end with its exit code."""
    keep_imports()
    code = main()
    look_at_nothing_more()
    if code in (130, 143):  # threads of the runner would go on with their work, and the process wait for them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if rest and known.command not in ("score", "fit"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    previous = signal.signal(signal.SIGTERM, _stop) if _in_main_thread() else None
    try:
        commands = {
            "score": _score, "check": _check, "explain": _explain, "inspect": _inspect, "record": _record,
            "compare": _compare, "fit": _fit, "wait": _wait,
        }  # fmt: skip
        return commands[known.command](known, rest)
    except ScoringError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stopped:
        print(f"stopped{_how_far(stopped)}", file=sys.stderr)
        return 130
    except Terminated as stopped:
        print(f"terminated{_how_far(stopped)}", file=sys.stderr)
        return 143
    except Exception as error:
        if os.environ.get("ESTIMATOR_SCORE_TRACEBACK"):
            raise
        print(f"error: {without_values(error)}", file=sys.stderr)
        print("set ESTIMATOR_SCORE_TRACEBACK=1 to see all of it; it may hold values of rows", file=sys.stderr)
        return 1
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="estimator-score",
        description="Score files of features with a TensorFlow Estimator checkpoint into Parquet.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    job = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    job.add_argument("--config", required=True, metavar="FILE", help="the job file")
    job.add_argument("--run_date", metavar="YYYY-MM-DD", help="fills {run_date} in the job file")
    job.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="overrides section.key of the job file"
    )
    job.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="fills {NAME} in the job file")
    score = commands.add_parser(
        "score", parents=[job], allow_abbrev=False, help="the main job: shards in, predictions out",
        epilog="Further options go to Beam, such as --runner.",
    )  # fmt: skip
    score.add_argument("--limit_shards", type=_count, metavar="N", help="a trial run: only the first N shards")
    score.add_argument(
        "--limit_rows", type=_count, metavar="M", help="a trial run: only the first M rows of each shard"
    )
    score.add_argument(
        "--no_resume", action="store_true", help="start anew: drop the parts and the checkpoint of an unfinished run"
    )
    score.add_argument(
        "--workers", type=_workers, metavar="N", help="processes that score on this machine, or auto: as many as fit"
    )
    score.add_argument("--no_wait", action="store_true", help="leave the run to the cluster; see the command wait")
    score.add_argument("--report", metavar="FILE", help="write the report of the run as JSON")
    score.add_argument("--quiet", action="store_true", help="no progress and no summary")
    commands.add_parser("check", parents=[job], allow_abbrev=False, help="prove the job without running it")
    explain = commands.add_parser(
        "explain", parents=[job], allow_abbrev=False, help="one row, from its record to its scores"
    )
    row = explain.add_mutually_exclusive_group(required=True)
    row.add_argument("--row", metavar="SHARD:ROW", help="the row, as the columns _shard and _row name it")
    row.add_argument("--key", metavar="COLUMN=VALUE", help="the first row with this value in a pass-through column")
    explain.add_argument("--tensor", action="append", default=[], metavar="NAME", help="a tensor of the graph to show")
    record = commands.add_parser(
        "record",
        parents=[job],
        allow_abbrev=False,
        help="make a parity record for a model that was trained without one",
    )
    record.add_argument("--rows", type=int, default=200, metavar="N", help="how many raw rows to keep; 0: none (200)")
    record.add_argument(
        "--against",
        metavar="PATH",
        help="known predictions: an exported SavedModel, or a file of scores joined by --on",
    )
    record.add_argument("--on", metavar="COLUMNS", help="pass-through columns of the key, with commas between them")
    commands.add_parser(
        "fit", parents=[job], allow_abbrev=False, help="make a transform from training shards (extra fit)",
        epilog="Further options go to Beam, such as --runner.",
    )  # fmt: skip
    wait = commands.add_parser(
        "wait", allow_abbrev=False, help="wait for a run that was left to a cluster; ends with its exit code"
    )
    wait.add_argument("output", help="the output folder")
    wait.add_argument("--timeout", type=_seconds, metavar="6h", help="for so long at most; s, m, h or d")
    inspect = commands.add_parser("inspect", allow_abbrev=False, help="tell what a file or folder holds")
    inspect.add_argument("path", help="a checkpoint, a transform folder, a SavedModel, a shard or an output folder")
    inspect.add_argument(
        "--as_job", action="store_true", help="print a draft of the job file that scores with a SavedModel"
    )
    compare = commands.add_parser(
        "compare", allow_abbrev=False, help="two sets of scores, joined by key: how far apart, which rows",
        description=COMPARE, epilog=COMPARE_RULES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for side in ("new", "old"):
        compare.add_argument(
            side, metavar=side.upper(), help="an output folder, or .parquet, .csv, .jsonl; or a pattern"
        )
    compare.add_argument("--on", required=True, metavar="COLUMNS", help="the key: columns of NEW, separated by commas")
    compare.add_argument(
        "--map", action="append", default=[], metavar="NEW=OLD", help="a column, key or not, has another name in OLD"
    )
    compare.add_argument("--atol", type=float, metavar="A", help="see below; 0 when only --rtol is given")
    compare.add_argument("--rtol", type=float, metavar="R", help="see below; 0 when only --atol is given")
    compare.add_argument(
        "--max_differing", type=int, default=0, metavar="N", help="rows that may differ before the exit code is 8 (0)"
    )
    compare.add_argument("--report", metavar="FILE", help="also write it as .json, or as an .html page with plots")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _seconds(text: str) -> int:
    from pipeline.job.values import duration, seconds_of

    try:
        return seconds_of(duration(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _workers(text: str) -> int | Literal["auto"]:
    return "auto" if text == "auto" else _count(text)


def _load_job(known: argparse.Namespace) -> Job:
    from pipeline.job.file import load_job

    job = load_job(known.config, known.run_date, known.set, known.var)
    quiet_libraries()
    return job


def _score(known: argparse.Namespace, beam_arguments: list[str]) -> int:
    job = _load_job(known)
    _check_report(known.report)
    from pipeline.report import Report

    try:
        report = _skip(job, known.run_date, beam_arguments) or _run(job, known, beam_arguments)
    except Exception as error:
        code = error.exit_code if isinstance(error, ScoringError) else 1
        failed = Report(job.name, job.output.path, code, "failed", run_date=known.run_date, error=without_values(error))
        _write_report(known.report, failed)
        raise
    _write_report(known.report, report)
    if not known.quiet:
        if report.status == "done" and sys.stdout.isatty():
            from pipeline.preview import print_rows

            print_rows(report.output)
        print(report.summary())
    return report.exit_code


def _skip(job: Job, run_date: str | None, beam_arguments: list[str]) -> Report | None:
    """Find out before Beam is imported that there is nothing to do; only Beam knows its options."""
    if job.output.if_exists == "overwrite" or beam_arguments or job.runner.options:
        return None
    from pipeline.skip import skip_if_complete

    return skip_if_complete(job, run_date)


def _run(job: Job, known: argparse.Namespace, beam_arguments: list[str]) -> Report:
    with importing():
        from pipeline.run import score

    return score(
        job,
        run_date=known.run_date,
        quiet=known.quiet,
        resume=not known.no_resume,
        limit_shards=known.limit_shards,
        limit_rows=known.limit_rows,
        workers=known.workers,
        no_wait=known.no_wait,
        beam_arguments=beam_arguments,
    )


def _check(known: argparse.Namespace, _: list[str]) -> int:
    job = _load_job(known)
    from pipeline.check import check

    print(check(job))
    return 0


def _explain(known: argparse.Namespace, _: list[str]) -> int:
    job = _load_job(known)
    from pipeline.explain import explain

    print(explain(job, known.row, known.key, known.tensor))
    return 0


def _record(known: argparse.Namespace, _: list[str]) -> int:
    job = _load_job(known)
    from pipeline.record.make import make_record

    on = [name.strip() for name in known.on.split(",")] if known.on else []
    print(make_record(job, known.rows, known.against, on))
    return 0


def _fit(known: argparse.Namespace, beam_arguments: list[str]) -> int:
    from pipeline.job.file import load_fit_job

    job = load_fit_job(known.config, known.run_date, known.set, known.var)
    quiet_libraries()
    from pipeline.fit import fit

    print(fit(job, beam_arguments))
    return 0


def _wait(known: argparse.Namespace, _: list[str]) -> int:
    quiet_libraries()
    from pipeline.wait import wait

    print(wait(known.output, known.timeout, lambda message: print(message, file=sys.stderr, flush=True)).summary())
    return 0


def _inspect(known: argparse.Namespace, _: list[str]) -> int:
    quiet_libraries()
    from pipeline.inspect import draft_job, inspect

    print(draft_job(known.path) if known.as_job else inspect(known.path))
    return 0


def _compare(known: argparse.Namespace, _: list[str]) -> int:
    from pipeline.compare import compare, key_columns, renamed_columns
    from pipeline.compare.report import check_report, write_report

    if known.report is not None:
        check_report(known.report)
    comparison = compare(
        known.new, known.old, key_columns(known.on), renamed=renamed_columns(known.map),
        atol=known.atol, rtol=known.rtol, max_differing=known.max_differing,
    )  # fmt: skip
    print(comparison.summary())
    if known.report is not None:
        write_report(comparison, known.report)
    return comparison.exit_code


def _check_report(path: str | None) -> None:
    """Find out before the run that its report cannot be written."""
    if path is not None and not Path(path).parent.is_dir():
        raise JobError(f"--report {path}: No such file or directory")


def _write_report(path: str | None, report: Report) -> None:
    if path is None:
        return
    try:
        Path(path).write_text(report.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise JobError(f"--report {path}: {error.strerror}") from error


def _how_far(stopped: BaseException) -> str:
    return f"; {stopped}" if str(stopped) else "; nothing was published"


def _stop(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
