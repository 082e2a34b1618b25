"""The features of a record against those of a job: each difference is refused by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pipeline.errors import ModelError
from pipeline.features import FeatureSpec
from pipeline.graph_input import parse_order
from pipeline.record.file import Record, RecordedFeature, raw_features

_NAMED_AT_MOST = 10


def compare_features(
    record: Record, spec: FeatureSpec, transform: Any, choice: Sequence[str] | str | None, optional: Collection[str]
) -> str:
    """Refuse other features than in training.

    Args:
      record: says which features training had, raw ones and those of the model.
      spec: the job's raw features.
      transform: the job's transform, or None.
      choice: `model.features` of the job.
      optional: raw features of the job that rows may lack.

    Returns:
      How the order of the model's features differs, or "": only a model that goes by their order minds.

    Raises:
      ModelError: names the first feature that is gone, new, or of another kind, dtype or rank.
    """
    if isinstance(choice, str) != record.bare:
        was, now = ("one bare tensor", "a dict") if record.bare else ("a dict", "one bare tensor")
        wanted = record.model[0].name if record.bare else _choice(record.model)
        raise ModelError(f"training gave the model {was}, the job gives it {now}; write model.features: {wanted}")
    raw = raw_features({name: spec[name] for name in parse_order(spec)})
    recorded = _names(record.raw)
    required = [feature for feature in raw if feature.name in recorded or feature.name not in optional]
    if transform is not None:
        _compare(record.raw, required, "raw feature")
    model = raw if transform is None else _outputs(transform)
    if choice is not None:
        by_name = {feature.name: feature for feature in model}
        model = tuple(by_name[name] for name in ([choice] if isinstance(choice, str) else choice) if name in by_name)
    _compare(record.model, model, "feature of the model")
    if transform is None:  # a raw feature that training had and no model got is none of the job's
        _compare([feature for feature in record.raw if feature.name in spec], required, "raw feature")
    if _names(record.model) == _names(model):
        return ""
    return (
        f"features reach the model in another order than in training: {_listed(_names(model))}, where training had "
        f"{_listed(_names(record.model))}; a model that stacks them mixes them up. Write model.features: "
        f"{_choice(record.model)}"
    )


def _compare(then: Iterable[RecordedFeature], now: Iterable[RecordedFeature], what: str) -> None:
    before, after = {feature.name: feature for feature in then}, {feature.name: feature for feature in now}
    gone, new = [name for name in before if name not in after], [name for name in after if name not in before]
    if len(gone) == len(new) == 1:
        raise ModelError(
            f"the {what} {gone[0]!r} of training is called {new[0]!r} in the job, or is another one. Call it {gone[0]!r}; "
            "where the files have another name for it write that under input.rename"
        )
    if gone:
        raise ModelError(f"training had the {what} {_listed(gone)}, which the job drops; add it")
    if new:
        raise ModelError(
            f"the job has the {what} {_listed(new)}, which training did not have; leave it out of features, or of "
            "model.features"
        )
    for name, feature in before.items():
        found = after[name]
        if feature[1:3] != found[1:3] or len({feature.rank, found.rank} - {None}) > 1:
            raise ModelError(
                f"the {what} {name!r} was {_in_words(feature)} in training, and is {_in_words(found)} in the job; declare it "
                "as in training"
            )


def _outputs(transform: Any) -> tuple[RecordedFeature, ...]:
    return tuple(
        RecordedFeature(name, output.kind, output.dtype, None if output.shape is None else 1 + len(output.shape))
        for name, output in transform.output_spec.items()
    )


def _in_words(feature: RecordedFeature) -> str:
    rank = "unknown rank" if feature.rank is None else f"rank {feature.rank}"
    return f"{feature.kind} {feature.dtype} of {rank}"


def _names(features: Iterable[RecordedFeature]) -> list[str]:
    return [feature.name for feature in features]


def _choice(features: Iterable[RecordedFeature]) -> str:
    return f"[{', '.join(_names(features))}]"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(map(repr, names[:_NAMED_AT_MOST])) + more
