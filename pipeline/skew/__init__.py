"""Training/serving skew in plain words: what a transform was fitted on, against the first rows of the shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.rows import Shard
from pipeline.scoring import ScoringSpec, fetched_places, load_transform
from pipeline.skew.lookups import Lookup, lookups
from pipeline.skew.missing import NONE_MISSING, Fill, Presence, filled_in, fills, of_values
from pipeline.skew.sample import Sample, first_rows
from pipeline.skew.scales import Buckets, Scale, buckets, scales
from pipeline.skew.traced import MOST_BAD, Traced, trace
from pipeline.skew.words import Fact
from pipeline.text import LISTED, counted

__all__ = ["Skew", "find_skew"]


@dataclass(frozen=True)
class Skew:
    """What was found. lines: what to tell, the first one of the rows. warnings: what of it smells. No value of a row in any."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def find_skew(spec: ScoringSpec, shards: Sequence[Shard]) -> Skew:
    """Hold the first rows against the transform: missing values, vocabularies, z-scores, ranges and buckets.

    What the transform's graph does not tell for certain is left out. Without a transform missing values are told alone.

    Args:
      spec: of a job that was proved to work.
      shards: of the job.
    """
    import tensorflow as tf

    if spec.columns.record != "example" or not spec.columns.features:
        return Skew(("nothing is told: the records are parsed in a way of their own",))
    sample = first_rows(spec, shards)
    if sample is None:
        return Skew(("no row to look at",))
    looked_at = f"the first {counted(sample.read, 'row')}, of {sample.shards:,} of {counted(len(shards), 'shard')}"
    transform = load_transform(fetched_places(spec).local_job, spec.columns.features)
    try:
        found = _look(trace(spec, transform, spec.job.model.features), sample.rows)
    except (ValueError, tf.errors.OpError):  # of TensorFlow: the flat copy is no graph that it takes, or cannot be run
        if transform is None:
            raise
        looked_at += "; the graph of the transform cannot be followed"
        found = _look(trace(spec, None, None), sample.rows)
    if found is None:
        return Skew((f"{looked_at}; no row is good, or more than {MOST_BAD} are bad, so nothing is told",))
    if found.rows < sample.read:
        looked_at += f"; {sample.read - found.rows:,} bad ones left out"
    facts = _facts(found, sample, spec)
    warnings = [f"{' and '.join(fact.features)}: {fact.text} (skew)" for fact in facts if fact.is_skew]
    return Skew((looked_at, *_lines(facts)), tuple(warnings))


@dataclass(frozen=True)
class _Found:
    """Steps of a transform with what their tensors are for the sample.

    rows: how many of the sample were good. values: feature -> its values. present: feature -> rows that have a value,
    None where the sample knows.
    """

    rows: int
    values: Mapping[str, np.ndarray]
    present: Mapping[str, int] | None
    fills: list[tuple[Fill, np.ndarray]]
    lookups: list[tuple[Lookup, Mapping[str, np.ndarray]]]
    numbers: list[tuple[Scale | Buckets, Mapping[str, np.ndarray]]]


def _look(traced: Traced, rows: pa.RecordBatch) -> _Found | None:
    """Find the steps and run them; None where too many rows are bad."""
    operations, origins = traced.operations, traced.origins
    filled = fills(operations, origins)
    with traced.graph.as_default():
        looked_up = lookups(operations, origins)
    numbers: list[Scale | Buckets] = [*scales(operations, origins), *buckets(operations, origins)]
    fetches = {
        "values": dict(traced.values),
        "fills": [fill.default for fill in filled],
        "lookups": [dict(lookup.tensors) for lookup in looked_up],
        "numbers": [dict(step.tensors) for step in numbers],
        "present": () if traced.present is None else traced.present,
    }
    result = traced.run(fetches, rows)
    if result is None:
        return None
    fetched, good = result
    return _Found(
        rows=good,
        values=fetched["values"],
        present=None if traced.present is None else dict(zip(traced.values, map(int, fetched["present"]), strict=True)),
        fills=list(zip(filled, fetched["fills"], strict=True)),
        lookups=list(zip(looked_up, fetched["lookups"], strict=True)),
        numbers=list(zip(numbers, fetched["numbers"], strict=True)),
    )


def _facts(found: _Found, sample: Sample, spec: ScoringSpec) -> list[Fact]:
    """All facts, features in the order of the spec, how much is missing first."""
    read, present = (sample.read, sample.present) if found.present is None else (found.rows, found.present)
    presence = {
        name: Presence(feature, name in spec.columns.optional, read, present[name])
        for name, feature in spec.columns.features.items()
    }
    facts: list[Fact | None] = []
    for name, of_feature in presence.items():
        filled = filled_in(each for each in found.fills if each[0].way.feature == name)
        facts.append(of_feature.fact(filled))
        if of_feature.present:
            facts += of_values(of_feature.feature, found.values[name])
    # Of a feature that no row has, the transform gets fillers alone.
    there = {name for name in presence if presence[name].present}
    facts += [
        lookup.fact(tensors, _fillers(lookup, presence))
        for lookup, tensors in found.lookups
        if there.issuperset(lookup.features)
    ]
    facts += [step.fact(tensors) for step, tensors in found.numbers if step.way.feature in there]
    return [fact for fact in facts if fact is not None]


def _fillers(lookup: Lookup, presence: Mapping[str, Presence]) -> int | None:
    """How many of the keys of a lookup may stand for missing values and not be known as such; None: nobody knows."""
    if lookup.way is not None:
        return presence[lookup.way.feature].fillers
    looked_at = [presence[name] for name in lookup.features]
    return None if any(each.missing or each.feature.kind != "fixed" for each in looked_at) else 0


def _lines(facts: Sequence[Fact]) -> list[str]:
    """A line a feature, or a group of them; those of which nothing is to be told together in the last line."""
    texts: dict[tuple[str, ...], list[str]] = {}
    for fact in facts:
        told = texts.setdefault(fact.features, [])
        if fact.text not in told:
            told.append(fact.text)
    plain = [names[0] for names, told in texts.items() if told == [NONE_MISSING]]
    lines = [f"{' and '.join(names)}: {'; '.join(told)}" for names, told in texts.items() if told != [NONE_MISSING]]
    if plain:
        more = f" and {len(plain) - LISTED:,} more" if len(plain) > LISTED else ""
        lines.append(f"{', '.join(plain[:LISTED])}{more}: {NONE_MISSING}")
    return lines
