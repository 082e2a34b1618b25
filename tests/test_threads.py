"""Threads: which of their ends are told."""

from __future__ import annotations

import threading

import pytest

from pipeline.threads import let_break


@pytest.mark.any_tensorflow
def test_an_error_is_told_but_of_threads_that_may_break(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.thread.name))
    let_break.__wrapped__("reader", "writer")  # the function behind the cache: `monkeypatch` takes the hook back
    for name in ("reader", "another", "writer"):
        thread = threading.Thread(target=lambda: 1 / 0, name=name)
        thread.start()
        thread.join()
    assert told == ["another"]
