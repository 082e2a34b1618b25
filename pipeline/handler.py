"""The scorer as a Beam model handler, for people who use `RunInference` in a pipeline of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler

from pipeline.scorer import Scorer


class EstimatorModelHandler(ModelHandler[Any, pa.Table, Scorer]):
    """Scores batches of rows with the model of a job file.

        batches | RunInference(EstimatorModelHandler("job.yaml").with_no_batching())

    Elements are batches of rows, as `Scorer.score` takes them: a `pa.RecordBatch`, a `pa.Table`, a DataFrame or a dict of
    arrays. Each gives one `pa.Table` of its predictions, in order. With `with_no_batching` Beam's metrics count rows, but
    for a dict, of which they count the keys.

    Args:
      config: the job file; workers read it at the same path.
      run_date, overrides, variables: as in `Scorer.from_config`.
    """

    def __init__(
        self, config: str, run_date: str | None = None, overrides: Sequence[str] = (), variables: Sequence[str] = ()
    ):
        super().__init__()
        self._config, self._run_date = config, run_date
        self._overrides, self._variables = tuple(overrides), tuple(variables)

    def load_model(self) -> Scorer:
        return Scorer.from_config(self._config, self._run_date, self._overrides, self._variables)

    def run_inference(
        self, batch: Any, model: Scorer, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[pa.Table]:
        # A bare table would be iterated into its columns: Beam makes a list of what is returned.
        return [model.score(element) for element in _elements(batch)]

    def get_num_bytes(self, batch: Any) -> int:
        return sum(_bytes(element) for element in _elements(batch))

    def get_metrics_namespace(self) -> str:
        return "estimator"

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"max_batch_size": 1}  # an element is a batch already

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        if inference_args:
            raise ValueError(f"inference_args: none are known, got {sorted(inference_args)}")


def _elements(batch: Any) -> list[Any]:
    """Beam's batches are lists; with `with_no_batching` a batch is the element itself."""
    return batch if isinstance(batch, list) else [batch]


def _bytes(element: Any) -> int:
    if isinstance(element, (pa.RecordBatch, pa.Table)):
        return element.nbytes
    return sum(getattr(element[name], "nbytes", 0) for name in element)
