"""A worker process that a launcher on this machine has started: `python -m pipeline.worker`, never called by people.

The launcher tells on stdin, in one line of JSON, what to do; where stdin ends, the launcher is gone, and so is the worker. On
stdout it is told how many rows and parts are done.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from pipeline import progress
from pipeline.garbage import importing, keep_imports
from pipeline.quiet import quiet_libraries

_INTERVAL = 0.5


def main() -> None:
    """Serve the launcher's runner until it has no more work."""
    for stopping in (signal.SIGINT, signal.SIGTERM):  # the launcher gets them too, and it decides
        signal.signal(stopping, signal.SIG_IGN)
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    counts = os.dup(1)
    os.dup2(2, 1)  # what user code prints is no count
    threading.Thread(target=_count, args=(counts,), daemon=True).start()
    quiet_libraries()
    keep_imports()
    with importing():
        from apache_beam.internal import pickler
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
        from apache_beam.runners.worker.sdk_worker import SdkHarness

    options = PipelineOptions.from_dictionary(told["options"])
    FileSystems.set_options(options)
    pickler.set_library(options.view_as(SetupOptions).pickle_library)
    try:
        SdkHarness(told["control"], worker_id=told["worker_id"]).run()
    finally:
        _tell(counts)
        sys.stderr.flush()
    os._exit(0)  # the model need not be taken apart


def _end_with_launcher() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _count(counts: int) -> None:
    stop = threading.Event()
    while not stop.wait(_INTERVAL):
        _tell(counts)


def _tell(counts: int) -> None:
    os.write(counts, f"{progress.current.rows} {progress.current.parts}\n".encode())


if __name__ == "__main__":
    main()
