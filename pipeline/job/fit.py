"""What `fit` is told: the training shards, their raw features, the function to fit and where its transform goes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from pipeline.job import Features, Input, Reference
from pipeline.job.messages import KeyPath, MistakesError
from pipeline.job.values import Section, Text, one_or_more
from transforms.fit import unfit


class FitTransform(Section):
    """The preprocessing_fn, and the folder that is made of it."""

    function: Reference
    path: Text


class FitJob(Section):
    """A job file of `fit`: sections of a scoring job, with training shards as `input`."""

    code: Annotated[list[Text], BeforeValidator(one_or_more)] = Field(default=[])
    input: Input
    features: Features
    transform: FitTransform
    base: Annotated[list[Text], BeforeValidator(one_or_more)] = Field(default=[], exclude=True)

    @model_validator(mode="after")
    def _possible(self) -> FitJob:
        found: list[tuple[KeyPath, str]] = []
        if self.input.optional:
            found.append((("input", "optional"), "is for scoring; training rows have all features, so leave it out"))
        if self.input.record != "example":
            found.append((("input", "record"), "a transform is fitted to tf.Examples; leave it out"))
        for key in ("ready", "min_shards", "require_complete", "wait", "only_new", "history"):
            if key in self.input.model_fields_set:
                found.append((("input", key), "is for scoring; leave it out"))
        if isinstance(self.features, dict):
            found += [(("features", name, key), why) for name, key, why in unfit(self.features)]
        if found:
            raise MistakesError(found)
        return self
