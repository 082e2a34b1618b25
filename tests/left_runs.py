"""The lock of a run that was left to a cluster, for tests of what finds it there; Google's service is `dataflow_stub.py`."""

from __future__ import annotations

from typing import Any

from dataflow_stub import DataflowStub
from published import new_plan

from pipeline.handover import left_job
from pipeline.lease import Lease, acquire
from pipeline.plan import write_plan
from pipeline.runner import pipeline_options

IMAGE = "--sdk_container_image=worker:1"
UNKNOWN = {"runner": "PortableRunner", "name": "trips-1", "options": {}}
"""A job for which nobody can be asked."""


def job_of(stub: DataflowStub, name: str = "trips-1") -> dict[str, Any]:
    """What the lock says of a job on the stub, which has one of that name."""
    stub.take({"name": name})
    options = pipeline_options([*stub.options, IMAGE, f"--job_name={name}"])
    found = left_job(options, "trips", "r1", no_wait=True)
    assert found is not None
    return found


def left(output: str, job: dict[str, Any], run_id: str = "r1") -> Lease:
    """The lock of a run whose launcher is gone, and its plan."""
    lease = acquire(output, run_id, in_process=False, job=job)
    write_plan(output, new_plan(run_id, 1))
    return lease
