"""Work beside the main thread, where signals raise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from typing import Any


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    """Call something in a thread of its own, which does not keep the process alive.

    SIGTERM and Ctrl-C raise in the main thread, and that must not happen in the middle of the runner's own locks: it
    ended in "cannot notify on un-acquired lock" in place of the signal.
    """
    done: Future[Any] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return done


@cache
def let_break(*names: str) -> None:
    """Say nothing, from now on, of an error that ends a thread of one of these names: Beam's readers of a broken stream."""
    otherwise = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.thread is None or args.thread.name not in names:
            otherwise(args)

    threading.excepthook = hook
