"""A worker that Beam itself refuses for its version of Python or Beam: told as our own comparison tells it."""

from __future__ import annotations

import pytest

from pipeline.errors import JobError
from pipeline.versions import refuse_what_beam_refused

pytestmark = pytest.mark.any_tensorflow

HERE, THERE = (
    "beam:version:sdk_base:apache/beam_python3.11_sdk:2.77.0",
    "beam:version:sdk_base:apache/beam_python{}_sdk:{}",
)
TRACE = """\
java.util.concurrent.ExecutionException: java.lang.RuntimeException: Error received from SDK harness for instruction 1: \
Traceback (most recent call last):
  File "apache_beam/runners/worker/bundle_processor.py", line 1109, in _verify_descriptor_created_in_a_compatible_env
    raise RuntimeError(
RuntimeError: Pipeline construction environment and pipeline runtime environment are not compatible. Submission environment: \
{}. Runtime environment: {}.

\tat java.util.concurrent.CompletableFuture.reportGet(Unknown Source)
"""


@pytest.mark.parametrize(
    ("python", "beam", "told"),
    [
        ("3.12", "2.77.0", "Python 3.11 here and 3.12 there;"),
        ("3.11", "2.76.0rc1", "Apache Beam 2.77.0 here and 2.76.0rc1 there;"),
        ("3.9", "2.62.0", "Python 3.11 here and 3.9 there, Apache Beam 2.77.0 here and 2.62.0 there;"),
    ],
    ids=["Python", "Beam", "both"],
)
def test_what_beam_refuses_is_told_in_our_words(python: str, beam: str, told: str) -> None:
    with pytest.raises(JobError) as refused:
        refuse_what_beam_refused(TRACE.format(HERE, THERE.format(python, beam)))
    assert str(refused.value).startswith(f"the workers have other versions than this launcher: {told}")
    assert refused.value.exit_code == 2


def test_another_error_of_a_worker_is_left_alone() -> None:
    refuse_what_beam_refused(
        "Traceback (most recent call last):\nRuntimeError: Submission environment: of something else"
    )
