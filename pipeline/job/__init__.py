"""A job: what the job file says, checked, in one shape. Knows nothing of YAML, of what is on disk, TensorFlow or Beam.

`Job.model_validate` takes the mapping of a job file. Whatever ways a key may be written in (a name or a list, a list
or a mapping), its attribute has one type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    WrapValidator,
    field_serializer,
    field_validator,
    model_validator,
)

from pipeline.job.checks import mistakes
from pipeline.job.code import Assets, Variables, variable_digests
from pipeline.job.features import FeatureEntry, features_as_written, features_or_reference
from pipeline.job.messages import KeyPath, MistakesError, describe
from pipeline.job.partitions import partitions
from pipeline.job.runner import Runner
from pipeline.job.values import (
    ArrowType,
    Format,
    PassThroughColumn,
    PassThroughEntry,
    PredictionKey,
    Section,
    Text,
    budget,
    distinct,
    duration,
    format_of_all,
    one_or_more,
    passthrough_columns,
    plain_file_name,
    prediction_keys,
    reference,
)

if TYPE_CHECKING:
    from pipeline.features import Feature

    Features = dict[str, Feature] | str
    PassThrough = dict[str, PassThroughColumn]
    Partitions = dict[str, str] | str
else:
    Features = Annotated[dict[str, FeatureEntry], WrapValidator(features_or_reference)]
    PassThrough = Annotated[dict[str, PassThroughEntry], WrapValidator(passthrough_columns)]
    Partitions = Annotated[dict[str, Text] | str, BeforeValidator(partitions)]

Count = Annotated[int, Field(ge=1)]
Names = Annotated[list[Text], AfterValidator(distinct)]
Reference = Annotated[str, BeforeValidator(reference)]
Budget = Annotated[int | float, BeforeValidator(budget)]


class Csv(Section):
    """How CSV shards are written. `columns`: their order in files without a header; `nulls`: unquoted, they are missing."""

    header: bool = True
    columns: Names = Field(default=[])
    delimiter: str = ","
    nulls: list[str] = Field(default=[""])

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if len(value) != 1 or not value.isascii() or value in '"\r\n':
            raise ValueError(f'expected one ASCII character (for a tab "\\t", in double quotes), got {describe(value)}')
        return value

    @model_validator(mode="after")
    def _columns_instead_of_header(self) -> Csv:
        if self.header and self.columns:
            raise MistakesError([(("columns",), "are read from the header; leave columns out, or write header: false")])
        if not self.header and not self.columns:
            raise MistakesError([(("columns",), "header: false needs columns, all of them, in the order of the file")])
        return self


class Input(Section):
    """The shards and how to read them. `format` is always known here; `rename`: our name -> name in the file.

    record: what the records of TFRecord are.
    ready, min_shards, require_complete: when the input is all there; `wait`: how long a run waits for that, such as 30m.
    only_new: leave out shards that a run in `history`, patterns of output folders, has scored.
    partitions: "hive", or column -> dtype, of columns that stand in the folders of the shards as column=value.
    """

    pattern: Annotated[list[Text], BeforeValidator(one_or_more), Field(min_length=1)]
    format: Format = Field(default=None, validate_default=True)
    record: Literal["example", "sequence_example", "bytes"] = "example"
    optional: Names = Field(default=[])
    rename: dict[str, Text] = Field(default={})
    partitions: Partitions | None = None
    csv: Csv = Csv()
    ignore: list[Text] = Field(default=["_*", ".*"])
    split_bytes: Count | None = None
    ready: Annotated[str, AfterValidator(plain_file_name)] | None = None
    min_shards: Count | None = None
    require_complete: bool = False
    wait: Annotated[str, BeforeValidator(duration)] | None = None
    only_new: bool = False
    history: Annotated[list[Text], BeforeValidator(one_or_more)] = Field(default=[])

    @field_validator("pattern")
    @classmethod
    def _no_alternatives(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            if re.search(r"\{[^{}]*,[^{}]*\}", pattern):
                raise ValueError(f"braces in {pattern!r} are not expanded; write a list of patterns")
        return patterns

    @field_validator("format", mode="before")
    @classmethod
    def _by_extension(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None or "pattern" not in info.data:
            return value or "tfrecord"  # without a pattern that is the mistake to tell
        return format_of_all(info.data["pattern"])


class Transform(Section):
    """The preprocessing: a folder with a SavedModel, or a Python function on tensors."""

    path: Text | None = None
    function: Reference | None = None


class Best(Section):
    """The checkpoint with the best value of an evaluation metric."""

    metric: Text
    mode: Literal["max", "min"]


class BestCheckpoint(Section):
    """`best: {metric: auc, mode: max}` as it stands under `model.checkpoint`."""

    best: Best


def _checkpoint(value: Any, best: Callable[[Any], BestCheckpoint]) -> str | int | Best:
    if isinstance(value, dict):
        return best(value).best
    if value == "best":
        raise ValueError("best needs a metric; write checkpoint: {best: {metric: auc, mode: max}}")
    if isinstance(value, str) and value.isdecimal():
        raise ValueError(f"got text ({value!r}); for that step write {int(value)} without quotes")
    if (isinstance(value, str) and value) or (type(value) is int and value >= 0):
        return value
    raise ValueError(f"expected latest, a step, a path or best: {{metric: auc, mode: max}}, got {describe(value)}")


def _name_or_names(value: Any, names: Callable[[Any], list[str]]) -> list[str] | str:
    if value == "":
        raise ValueError("is empty; name a feature, or leave the key out")
    return value if isinstance(value, str) else names(value)


if TYPE_CHECKING:
    Checkpoint = str | int | Best
    ModelFeatures = list[str] | str
else:
    Checkpoint = Annotated[BestCheckpoint, WrapValidator(_checkpoint)]
    ModelFeatures = Annotated[Names, Field(min_length=1), WrapValidator(_name_or_names)]


class Model(Section):
    """The Estimator, its checkpoint, and which features it gets: a dict in the order named, or one bare tensor.

    saved_model: an export, or a folder of numbered ones; with it `signature` and `tags` and no key of an Estimator.
    checkpoint: "latest", a step, a path, or `Best`. args: further arguments of the builder; argv: None leaves absl's flags alone.
    assets: name, or the absolute path where code expects it -> the file or folder in production.
    """

    estimator: Reference | None = None
    model_fn: Reference | None = None
    saved_model: Text | None = None
    signature: Text | None = None
    tags: Annotated[list[Text], BeforeValidator(one_or_more), Field(min_length=1)] | None = None
    model_dir: Text | None = None
    checkpoint: Checkpoint = "latest"
    params: dict[str, Any] = Field(default={})
    params_as: Literal["dict", "attributes"] = "dict"
    args: dict[str, Any] = Field(default={})
    argv: list[str] | None = None
    assets: Assets = Field(default={})
    serving_input_fn: Reference | None = None
    features: ModelFeatures | None = None
    allow_unused: list[Text] = Field(default=[])
    row_wise: bool = True
    record: Text | None = None
    require_record: bool = False
    staging: Text | None = None

    @field_validator("params", "args")
    @classmethod
    def _plain_values(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        found = [(path, f"{info.field_name} cannot hold {what}; put it in quotes") for path, what in _not_plain(values)]
        if found:
            raise MistakesError(found)
        return values

    @field_serializer("checkpoint", "features")
    def _as_written(self, value: Any) -> Any:
        return {"best": value.model_dump()} if isinstance(value, Best) else value


def _not_plain(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Values that JSON, and so the manifest, has no form for."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_plain(item, (*path, key))
    elif not isinstance(value, (str, int, float, type(None))):
        yield path, describe(value)


class Batch(Section):
    """The bounds of a batch; whichever is met first ends it."""

    rows: Count = 4096
    bytes: Count = 64 * 1024 * 1024


class Output(Section):
    """Where predictions go and which columns they have. `predictions` None: all that the model gives."""

    path: Text
    passthrough: PassThrough = Field(default={})
    predictions: Annotated[dict[str, PredictionKey], BeforeValidator(prediction_keys)] | None = None
    types: dict[str, ArrowType] = Field(default={})
    row_ids: bool = True
    layout: Literal["flat", "mirror"] = "flat"
    rows_per_file: Count | None = None
    if_exists: Literal["fail", "skip", "overwrite"] = "fail"

    @field_serializer("passthrough")
    def _passthrough_as_written(self, columns: dict[str, PassThroughColumn]) -> dict[str, dict[str, str]]:
        return {
            name: {"from": column.source} | ({"dtype": column.dtype} if column.dtype else {})
            for name, column in columns.items()
        }

    @field_serializer("predictions")
    def _predictions_as_written(self, keys: dict[str, PredictionKey] | None) -> dict[str, str] | None:
        return None if keys is None else {column: str(key) for column, key in keys.items()}


class Errors(Section):
    """What a run puts up with. An int budget is a count, a float one a fraction."""

    max_bad_rows: Budget = 0
    max_broken_shards: Budget = 0
    non_finite: Literal["keep", "reject", "fail"] = "fail"
    rejected_path: Text | None = None
    keep_record: bool = True


class Job(Section):
    """One job file.

    features: the raw feature spec, a reference to a function that returns it, or None where the transform carries it.
    env: variables of the environment that user code runs in. setup: called once a process, before other user code.
    base: the job files that it was merged over. No part of the settings.
    """

    name: str
    code: Annotated[list[Text], BeforeValidator(one_or_more)] = Field(default=[])
    input: Input
    transform: Transform | None = None
    features: Features | None = None
    model: Model
    batch: Batch = Batch()
    output: Output
    errors: Errors = Errors()
    runner: Runner = Runner()
    env: Variables = Field(default={})
    setup: Reference | None = None
    base: Annotated[list[Text], BeforeValidator(one_or_more)] = Field(default=[], exclude=True)
    _source: str = PrivateAttr(default="")

    @field_validator("name")
    @classmethod
    def _fits_in_a_path(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ValueError(f"expected letters, digits, '_', '-' and '.' (it stands in paths), got {describe(name)}")
        return name

    @property
    def source(self) -> str:
        """Path of the job file; empty when there is none. No part of the settings."""
        return self._source

    def settings(self) -> dict[str, Any]:
        """The job as plain JSON values, in the form of a job file; `Job.model_validate` takes them back."""
        settings = self.model_dump(exclude_none=True)
        if self.input.format != "csv":
            del settings["input"]["csv"]
        model = settings["model"]
        for section, key in ((settings, "env"), (model, "args"), (model, "assets"), (model, "params_as")):
            if section[key] in ({}, "dict"):
                del section[key]  # manifests of older versions do not have it
        if self.input.record == "example":
            del settings["input"]["record"]
        if self.runner == Runner():
            del settings["runner"]
        return settings

    def model_post_init(self, context: Any) -> None:
        """Take the path of the job file from `model_validate(..., context={"source": path})`."""
        self._source = (context or {}).get("source", "")

    @field_serializer("env")
    def _without_values(self, env: dict[str, str]) -> dict[str, str]:
        return variable_digests(env)

    @field_serializer("features")
    def _features_as_written(self, features: Any) -> Any:
        return features_as_written(features)

    @model_validator(mode="after")
    def _possible(self) -> Job:
        found = list(mistakes(self))
        if found:
            raise MistakesError(found)
        return self
