"""The command: a run of many mutants, or one again with all that both readers make of it."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from fuzz import FORMATS
from fuzz.run import names_of, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--mutants", type=int, default=20_000, help="in all, shared out evenly among the formats")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--replay", metavar="FORMAT:NUMBER", help="read this one mutant here, and keep its file")
    arguments = parser.parse_args()
    if arguments.replay:
        return replay(arguments.replay)
    found = 0
    for record_format in arguments.formats:
        report = run(names_of(record_format, arguments.seed, -(-arguments.mutants // len(arguments.formats))))
        print(f"{record_format}: {report}", flush=True)
        found += len(report.findings)
    return 1 if found else 0


def replay(name: str) -> int:
    from fuzz import judge, subject
    from fuzz.mutants import Mutant

    mutant = Mutant.named(name)
    path = Path(tempfile.mkdtemp()) / f"mutant.{mutant.format}"
    path.write_bytes(mutant.content)
    print(f"{path}: {len(mutant.content)} bytes", flush=True)
    reading = judge.independent(mutant, str(path))
    print(reading, flush=True)
    outcome = subject.run(mutant, str(path), subject.echo_scorer() if mutant.format == "tfrecord" else None)
    print(outcome)
    findings = list(judge.findings(mutant, outcome, reading))
    print(*findings or ["nothing found"], sep="\n")
    return 1 if findings else 0


raise SystemExit(main())
