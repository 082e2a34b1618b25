"""Batch scoring with TensorFlow Estimators: the pipeline, and what a program of your own can use of it.

    from pipeline import Scorer
    with Scorer.from_config("job.yaml") as scorer:
        table = scorer.score({"input_tensor": images})

Importing this package imports neither TensorFlow nor Beam; naming something of it does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.handler import EstimatorModelHandler
    from pipeline.predict_input import predict_input_fn
    from pipeline.scorer import Scorer
    from pipeline.stages import BatchRows, Predict, Publish, ReadPlan, ReadShards, WriteParts

__version__ = "0.1.0"

_MODULES = {
    "Scorer": "pipeline.scorer",
    "predict_input_fn": "pipeline.predict_input",
    "EstimatorModelHandler": "pipeline.handler",
    "ReadPlan": "pipeline.stages",
    "ReadShards": "pipeline.stages",
    "BatchRows": "pipeline.stages",
    "Predict": "pipeline.stages",
    "WriteParts": "pipeline.stages",
    "Publish": "pipeline.stages",
}

__all__ = [
    "BatchRows",
    "EstimatorModelHandler",
    "Predict",
    "Publish",
    "ReadPlan",
    "ReadShards",
    "Scorer",
    "WriteParts",
    "predict_input_fn",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
