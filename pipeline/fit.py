"""The command `fit`: a job file to a transform."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import transforms
from pipeline.code import add_user_code, resolve
from pipeline.job.fit import FitJob
from pipeline.shipment import Shipment
from transforms.fit import require_fit


def fit(job: FitJob, beam_arguments: Sequence[str] = ()) -> str:
    """Fit the transform of a job file, and return what to tell of it.

    Raises:
      ScoringError: as `transforms.fit` has it, or a reference that cannot be imported.
    """
    require_fit()  # before the user's module is imported, which needs it too
    add_user_code(job.code)
    features = job.features if isinstance(job.features, dict) else resolve(job.features, "features")()
    resolve(job.transform.function, "transform.function")
    code = Shipment.of(job.code)
    preprocessing_fn = _PreprocessingFn(code, job.transform.function)
    started = time.monotonic()
    with code.archived() as archive:
        arguments = [*beam_arguments, f"--files_to_stage={archive}"]
        transform = transforms.fit(preprocessing_fn, job.input, features, job.transform.path, arguments)
    lines = {
        "transform": transform.path,
        "takes": ", ".join(transform.raw_spec),
        "gives": ", ".join(transform.output_spec),
        "fingerprint": transform.fingerprint,
        "seconds": f"{time.monotonic() - started:.1f}",
    }
    return "\n".join(f"{name:<12}{value}" for name, value in lines.items())


@dataclass(frozen=True)
class _PreprocessingFn:
    """The user's function; workers trace it too, and find it again by its reference."""

    code: Shipment
    reference: str

    def __call__(self, inputs: dict[str, Any]) -> Mapping[str, Any]:
        self.code.add()
        return resolve(self.reference, "transform.function")(inputs)
