"""The files that the model's graph opened when the record was made, and those that it opens now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline import files
from pipeline.errors import ModelError
from pipeline.graph_files import graph_files
from pipeline.staging import file_digest

if TYPE_CHECKING:
    from pipeline.record import Found
    from pipeline.record.file import RecordedFile


def recorded_files(estimator: Any, input_fn: Callable[[], Any]) -> tuple[RecordedFile, ...]:
    """The files that the PREDICT graph of an Estimator opens, without those of its input, in the order of the graph."""
    import tensorflow as tf

    from pipeline.record.file import RecordedFile

    mode = tf.estimator.ModeKeys.PREDICT
    with tf.Graph().as_default() as graph:
        tf.compat.v1.train.create_global_step(graph)
        features = tf.compat.v1.data.make_initializable_iterator(input_fn()).get_next()
        before = len(graph.get_operations())
        estimator.model_fn(features, None, mode, estimator.config)
        paths = graph_files(graph, before).paths
    there = (path for path in paths if files.info(path) is not None)
    return tuple(RecordedFile(files.base_name(path), file_digest(path)) for path in there)


def compare_files(found: Found | None, now: Mapping[str, str]) -> None:
    """Raise a ModelError for a file whose content is not that of when the record was made.

    Args:
      found: the record of the checkpoint; None or one of an older version: nothing is known.
      now: path -> SHA-256, in hex, of the files that the graph of the model opens, in their order.
    """
    if found is None or found.record.files is None:
        return
    for then, path in _pairs(found.record.files, list(now)):
        if then.sha256 != now[path]:
            raise ModelError(
                f"the graph reads {path}, and its content is not that of {then.name} when checkpoint "
                f"{found.record.checkpoint} was recorded (SHA-256 {now[path][:12]}, then {then.sha256[:12]}): the model was "
                "trained with another file. Score with that one; if the change is meant, make the record again"
            )


def _pairs(then: Sequence[RecordedFile], now: Sequence[str]) -> Iterator[tuple[RecordedFile, str]]:
    """Which file is which: by the order in the graph, for folders may be others; by names where there are more or fewer."""
    if len(then) == len(now):
        yield from zip(then, now, strict=True)
        return
    by_name = defaultdict(list)
    for path in now:
        by_name[files.base_name(path)].append(path)
    for recorded in then:
        if by_name[recorded.name]:
            yield recorded, by_name[recorded.name].pop(0)
