"""How long a run takes to its first prediction, and how long a command takes that has nothing to score:

    python -m benchmarks.startup --write benchmarks/results/startup.md

Models are those of examples/digits and examples/tabular, trained below work/ if they are not there (the second needs the
extra fit). `bare` is a process that imports TensorFlow and Beam, builds the same Estimator, and takes the first batch of
`Estimator.predict` over the same shards, with the same transform. `ours` is `score`, as its own report tells, all checks
counted; of it, replay of the record and probe of rows are told apart, which are made on the very graph and session that
then score. The two run in turns, and a ratio is the median of theirs, with quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import ROOT, markdown, preamble, run_measured

PACKAGES = ("tensorflow", "tensorflow-estimator", "apache-beam", "pyarrow")
HEADER = ("to the first prediction", "bare", "ours", "of it replay", "probe", "ours / bare", "without both")
COMMANDS_HEADER = ("command", "seconds", "CPU seconds", "peak memory")
REFUSED = "name: refused\ninput: {pattern: nothing/*.tfrecord, formt: tfrecord}\n"
EXPECTED_TO_FAIL = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], capture_output=True)"

Trainer = tuple[Any, int, Callable[[Any], Any]]


class Times(NamedTuple):
    """Seconds from the start of a process to its first prediction, and of them in the two checks."""

    first: float
    replay: float = 0
    probe: float = 0


class Run(NamedTuple):
    """Of one process: by the clock, and CPU time."""

    clock: Times
    cpu: Times


def digits(work: Path, params: dict[str, Any]) -> Trainer:
    """The Estimator, the rows of a batch, and what a trainer makes of serialized rows."""
    import tensorflow as tf

    from examples.digits.model import build_estimator

    spec = {"input_tensor": tf.io.FixedLenFeature([8, 8], tf.float32)}
    return build_estimator(str(work / "model"), params), 4096, lambda rows: tf.io.parse_example(rows, spec)


def tabular(work: Path, params: dict[str, Any]) -> Trainer:
    """As `digits`."""
    import tensorflow as tf

    import transforms
    from examples.tabular.data import raw_spec
    from examples.tabular.model import build_estimator

    transform, spec = transforms.load(str(work / "transform")), raw_spec()
    return build_estimator(str(work / "model"), params), 512, lambda rows: transform(tf.io.parse_example(rows, spec))


TRAINERS = {"digits": (digits, "shards"), "tabular": (tabular, "held_out")}
"""Model -> its trainer, and the folder of the shards."""
TRAINED_BY = {
    "digits": [["-m", "examples.digits.train", "--work", "work/digits"]],
    "tabular": [
        ["-m", "examples.tabular.data", "--work", "work/tabular"],
        ["-m", "pipeline", "fit", "--config", "configs/tabular_fit.yaml"],
        ["-m", "examples.tabular.train", "--work", "work/tabular"],
    ],
}


def predict_once(model: str, found: Path) -> None:
    """Be the bare process, and write to a file how old it is at its first prediction."""
    if not metadata.version("tensorflow").startswith("2.15"):
        os.environ["TF_USE_LEGACY_KERAS"] = (
            "1"  # as everybody has it who imports tf.estimator; Keras 3 would take longer
        )
    import tensorflow as tf  # noqa: I001  TensorFlow by itself, and then what makes tf.estimator of it
    import apache_beam  # noqa: F401
    import pipeline.tf_estimator  # noqa: F401
    import yaml

    from pipeline.stopwatch import process_age

    trainer, folder = TRAINERS[model]
    params = yaml.safe_load((ROOT / "configs" / f"{model}.yaml").read_text())["model"]["params"]
    estimator, batch_size, parse = trainer(ROOT / "work" / model, params)
    shards = sorted(str(path) for path in (ROOT / "work" / model / folder).glob("*.tfrecord"))
    predictions = estimator.predict(
        lambda: tf.data.TFRecordDataset(shards).batch(batch_size).map(parse), yield_single_examples=False
    )
    next(predictions)
    found.write_text(json.dumps(process_age()))


def run_bare(model: str, scratch: Path) -> Run:
    found = scratch / "bare.json"
    run_measured(["-m", "benchmarks.startup", "--bare", model, "--found", str(found)], scratch)
    clock, cpu = json.loads(found.read_text())
    return Run(Times(clock), Times(cpu))


def run_ours(model: str, scratch: Path) -> Run:
    found = scratch / "report.json"
    run_measured([*score(model, scratch), "--report", str(found)], scratch)
    told = json.loads(found.read_text())
    return Run(
        *(Times(told[unit]["first_prediction"], told[unit]["replay"], told[unit]["probe"])
          for unit in ("seconds", "cpu_seconds"))
    )  # fmt: skip


def score(model: str, scratch: Path, *settings: str) -> list[str]:
    """The command that scores with a model."""
    named = [f"output.path={scratch}/predictions-{model}", *settings]
    options = [argument for setting in named for argument in ("--set", setting)]
    return ["-m", "pipeline", "score", "--config", f"configs/{model}.yaml", "--quiet", *options]


def compared(model: str, pairs: Sequence[tuple[Run, Run]]) -> Iterator[tuple[str, ...]]:
    """Two lines of the table, by the clock and by CPU time."""
    for unit, name in (("clock", "seconds"), ("cpu", "CPU seconds")):
        both: list[tuple[Times, Times]] = [(getattr(bare, unit), getattr(ours, unit)) for bare, ours in pairs]
        yield (
            f"{model}, {name}",
            f"{statistics.median(bare.first for bare, _ in both):.2f}",
            f"{statistics.median(ours.first for _, ours in both):.2f}",
            f"{statistics.median(ours.replay for _, ours in both):.2f}",
            f"{statistics.median(ours.probe for _, ours in both):.2f}",
            _quartiles([ours.first / bare.first for bare, ours in both]),
            _quartiles([(ours.first - ours.replay - ours.probe) / bare.first for bare, ours in both]),
        )


def _quartiles(values: Sequence[float]) -> str:
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def commands(scratch: Path, times: int) -> Iterator[tuple[str, ...]]:
    """A line of the table for each command that scores nothing, or little."""
    refused = scratch / "refused.yaml"
    refused.write_text(REFUSED)
    for name, command in (
        ("`--help`", ["-m", "pipeline", "--help"]),
        ("`score`, job file refused", ["-c", EXPECTED_TO_FAIL, "-m", "pipeline", "score", "--config", str(refused)]),
        ("`score` of 450 images", score("digits", scratch)),
        ("`score` that skips", score("digits", scratch, "output.if_exists=skip")),
    ):
        usages = [run_measured(command, scratch) for _ in range(times)]
        clock, cpu, peak = (statistics.median(usage[place] for usage in usages) for place in range(3))
        yield name, f"{clock:.2f}", f"{cpu:.2f}", f"{peak / 1e6:,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the time to the first prediction.")
    parser.add_argument("--models", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--pairs", type=int, default=9, metavar="N")
    parser.add_argument("--work", type=Path, default=Path("work/benchmarks/startup"), help="folder of what is made")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where to write the page; it is printed too")
    parser.add_argument("--bare", choices=TRAINERS, help=argparse.SUPPRESS)
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.bare:
        predict_once(known.bare, known.found)
        return
    scratch = known.work.absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    lines: list[tuple[str, ...]] = []
    for model in known.models:
        for training in [] if (ROOT / "work" / model / "evaluation.json").exists() else TRAINED_BY[model]:
            run_measured(training, scratch)
        run_bare(model, scratch), run_ours(model, scratch)  # all files are in the page cache from now on
        lines += compared(model, [(run_bare(model, scratch), run_ours(model, scratch)) for _ in range(known.pairs)])
    command = f"python -m benchmarks.startup --models {' '.join(known.models)} --pairs {known.pairs}"
    page = preamble("From start to the first prediction", command, PACKAGES)
    page += ["", *markdown([HEADER, *lines]), ""]
    if "digits" in known.models:
        page += [*markdown([COMMANDS_HEADER, *commands(scratch, known.pairs)]), ""]
    sys.stdout.write("\n".join(page))
    if known.write:
        known.write.write_text("\n".join(page))


if __name__ == "__main__":
    main()
