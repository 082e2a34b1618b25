"""The stages as PTransforms: each adds labels, metrics and a worker's life cycle to plain functions, and nothing else.

What flows from `ReadShards` to `WriteParts` is `pipeline.rows.PartBatch`. The four stages between the two shuffles fuse
on every runner we know; where one cuts them, `WriteParts` refuses batches that are missing or out of order.
"""

import pipeline.stages.coder  # noqa: F401  registers it
from pipeline.stages.input import BatchRows, ReadPlan, ReadShards
from pipeline.stages.output import Publish, WriteParts
from pipeline.stages.predict import Predict

__all__ = ["BatchRows", "Predict", "Publish", "ReadPlan", "ReadShards", "WriteParts"]
