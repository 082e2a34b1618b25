"""Features as a job file writes them, and as the rest of the project has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipeline.job.messages import MistakesError, describe
from pipeline.job.values import Section, Text, known_dtype, one_or_more, reference

if TYPE_CHECKING:
    from pipeline.features import Feature

Size = Annotated[int, Field(ge=1)]


def _one_or_more_sizes(value: Any) -> Any:
    return [value] if type(value) is int else value


class FeatureEntry(Section):
    """One feature as it stands in `features:`.

    index_key, value_key, size, already_sorted: of a sparse one, as in `tf.io.SparseFeature`. feature_list: whether it
    stands in the feature lists of a tf.SequenceExample, as a sequence always does.
    """

    dtype: Annotated[str, BeforeValidator(known_dtype)]
    shape: list[Size] = Field(default=[])
    kind: Literal["fixed", "varlen", "ragged", "sequence", "sparse"] = "fixed"
    default: Any = None
    index_key: Annotated[list[Text], BeforeValidator(one_or_more)] = Field(default=[])
    value_key: Text | None = None
    size: Annotated[list[Size], BeforeValidator(_one_or_more_sizes)] = Field(default=[])
    already_sorted: bool = False
    feature_list: bool = False


_OF_KIND = {
    "shape": ("fixed", "sequence"),
    "default": ("fixed", "sequence"),
    "index_key": ("sparse",),
    "value_key": ("sparse",),
    "size": ("sparse",),
    "already_sorted": ("sparse",),
}
"""Keys that belong to some kinds alone."""


def features_or_reference(value: Any, entries: Callable[[Any], dict[str, FeatureEntry]]) -> dict[str, Feature] | str:
    """`features:` as a reference to a function, or as the features themselves."""
    if isinstance(value, str):
        return reference(value)
    if value == {}:
        raise ValueError("has no feature; name at least one")
    mistakes, features = [], {}
    for name, entry in entries(value).items():
        try:
            features[name] = _feature(name, entry)
        except ValueError as error:
            mistakes.append(((name,), str(error)))
    if mistakes:
        raise MistakesError(mistakes)
    return features


def features_as_written(features: dict[str, Feature] | str | None) -> Any:
    """The opposite of `features_or_reference`."""
    if features is None or isinstance(features, str):
        return features
    return {name: _feature_as_written(feature) for name, feature in features.items()}


def _feature(name: str, entry: FeatureEntry) -> Feature:
    from pipeline.features import Feature

    for key, kinds in _OF_KIND.items():
        value = getattr(entry, key)
        if entry.kind not in kinds and value is not None and value is not False and value != []:
            raise ValueError(f"kind {entry.kind} has no {key}; leave it out, or write kind: {' or '.join(kinds)}")
    if entry.kind == "sparse":
        return _sparse(name, entry)
    feature = Feature(name, entry.dtype, entry.kind, tuple(entry.shape), feature_list=entry.feature_list)
    if entry.default is None:
        return feature
    values = [_default_value(value, entry.dtype) for value in _flattened(entry.default)]
    if entry.kind == "sequence" and len(values) != 1:
        raise ValueError(f"the default has {len(values)} values; a sequence is padded with one")
    if len(values) not in (1, feature.size):
        raise ValueError(f"the default has {len(values)} values, the shape {entry.shape} holds {feature.size}")
    return replace(feature, default=values[0] if len(values) == 1 else tuple(values))


def _sparse(name: str, entry: FeatureEntry) -> Feature:
    from pipeline.features import Feature

    for key in ("index_key", "value_key", "size"):
        if not getattr(entry, key):
            raise ValueError(f"kind sparse needs {key}, as tf.io.SparseFeature has it")
    if len(entry.index_key) != len(entry.size):
        raise ValueError(f"index_key names {len(entry.index_key)} fields and size has {len(entry.size)} numbers")
    return Feature(
        name, entry.dtype, "sparse", tuple(entry.size), index_keys=tuple(entry.index_key), value_key=entry.value_key,
        already_sorted=entry.already_sorted, feature_list=entry.feature_list,
    )  # fmt: skip


def _default_value(value: Any, dtype: str) -> Any:
    if dtype == "string" and isinstance(value, str):
        return value.encode()
    if dtype == "bool" and isinstance(value, bool):
        return value
    if dtype.startswith("float") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if "int" in dtype and isinstance(value, int) and not isinstance(value, bool):
        bits = int(dtype.partition("int")[2])
        low, high = (0, 2**bits) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        if low <= value < high:
            return value
    raise ValueError(f"the default of a {dtype} feature cannot be {describe(value)}")


def _flattened(value: Any) -> list[Any]:
    return [inner for item in value for inner in _flattened(item)] if isinstance(value, list) else [value]


def _feature_as_written(feature: Feature) -> dict[str, Any]:
    entry: dict[str, Any] = {"dtype": feature.dtype, "kind": feature.kind}
    if feature.kind == "sparse":
        entry |= {"index_key": list(feature.index_keys), "value_key": feature.value_key, "size": list(feature.shape)}
        if feature.already_sorted:
            entry["already_sorted"] = True
    elif feature.shape:
        entry["shape"] = list(feature.shape)
    if feature.feature_list:
        entry["feature_list"] = True
    if feature.default is not None:
        values = feature.default if isinstance(feature.default, tuple) else (feature.default,)
        written = [value.decode() if isinstance(value, bytes) else value for value in values]
        entry["default"] = written if isinstance(feature.default, tuple) else written[0]
    return entry
