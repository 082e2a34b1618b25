"""Mutants of shards, read by the pipeline and by independent readers: whatever the bytes, no row gets values they lack.

    PYTHONPATH=tests python -m fuzz --mutants 20000 --seed 1

A mutant is known by its format and its number, and made from these alone:

    PYTHONPATH=tests python -m fuzz --replay avro:1000017
"""

from __future__ import annotations

FORMATS = ("tfrecord", "parquet", "csv", "jsonl", "avro")
