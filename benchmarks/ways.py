"""The ways of scoring that are measured: ours, the loop that is written by hand, and other people's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dataset import FORMATS, WORKLOADS, Dataset


@dataclass(frozen=True)
class Way:
    """A way of scoring.

    title: what the table calls it.
    module: run as `python -m`; it takes the arguments of `benchmarks.dataset.parser` and these.
    speed: which sizes it is run at: fast, near, middle, slow or slowest.
    environment: it has one of its own, made by `benchmarks.peers.tfx_bsl_environment`.
    """

    title: str
    module: str
    arguments: Sequence[str] = ()
    speed: str = "middle"
    workloads: Sequence[str] = WORKLOADS
    formats: Sequence[str] = ("tfrecord",)
    environment: bool = False

    def command(self, dataset: Dataset, output: Path) -> list[str]:
        """The command of Python that scores into a folder."""
        where = ["--workload", dataset.workload, "--format", dataset.format, "--rows", str(dataset.rows)]
        files = ["--work", str(dataset.work), "--output", str(output / "scores.parquet")]
        return ["-m", self.module, *where, *files, *self.arguments]


_PREDICT, _RUN_INFERENCE = "benchmarks.peers.estimator_predict", "benchmarks.peers.run_inference"
_EITHER = ("tfrecord", "parquet")
_ONE_SHAPE = ("images", "tabular")
"""A ragged feature that is parsed alone cannot be batched."""
WAYS = {
    "loop": Way("loop by hand", "benchmarks.loops", speed="fast", formats=tuple(FORMATS)),
    "predict_1": Way("`Estimator.predict`, batch 1", _PREDICT, ("--batch", "1", "--each"), "slowest", _ONE_SHAPE),
    "predict_256": Way("`Estimator.predict`, batch 256", _PREDICT, ("--batch", "256", "--each"), "slow", _ONE_SHAPE),
    "predict_256_parsed": Way(
        "`Estimator.predict`, batch 256, parsed in batches", _PREDICT, ("--batch", "256"), "near"
    ),
    "predict_in_dofn": Way("Beam, predict per batch of 256", "benchmarks.peers.predict_in_dofn", speed="slowest"),
    "run_inference": Way("RunInference, defaults", _RUN_INFERENCE, formats=_EITHER),
    "run_inference_4096": Way("RunInference, batch 4096", _RUN_INFERENCE, ("--batch", "4096"), formats=_EITHER),
    "run_inference_serialized": Way(
        "RunInference, batch 4096, parsed in the SavedModel", _RUN_INFERENCE, ("--batch", "4096", "--serialized")
    ),
    "tfx_bsl": Way(
        "tfx_bsl RunInference",
        "benchmarks.peers.tfx_bsl",
        speed="slow",
        workloads=("images", "tabular"),
        environment=True,
    ),
}


def ours(dataset: Dataset) -> list[str]:
    """The command of Python that a user of ours runs."""
    return ["-m", "pipeline", "score", "--config", str(dataset.job), "--quiet"]
