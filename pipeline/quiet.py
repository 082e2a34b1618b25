"""Keeps from the terminal what libraries say of themselves; what a person has to know is told by the command."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_START_UP_LINE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IWE]\d{4} .*\.cc:\d+\]"
    rb"|\d{4}-\d\d-\d\d .*: [IWE] .*\.cc:\d+\]"
    rb"|To enable the following instructions"
)


def quiet_libraries() -> None:
    """Silence the logs of TensorFlow and Beam, and a warning of Google's client.

    Beam logs a trace with the text of an error, which may hold values of a row.
    """
    for name in ("tensorflow", "apache_beam"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger().setLevel(logging.ERROR)
    # Google's client tells, at each import, until when it will support this Python
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")


@contextmanager
def without_start_up_lines() -> Iterator[None]:
    """Hold back what TensorFlow's C++ code writes to stderr, and let through all that is not a start-up line of its own.

    No setting of TensorFlow 2.21 does it: https://github.com/tensorflow/tensorflow/issues/100442. A process that aborts
    meanwhile loses its last words; ESTIMATOR_SCORE_TRACEBACK=1 lets everything through.
    """
    if os.environ.get("ESTIMATOR_SCORE_TRACEBACK"):
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not _START_UP_LINE.match(line):
                    os.write(2, line)
