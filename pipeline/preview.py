"""The first scored rows of an output, as a table on a terminal."""

from __future__ import annotations

import pyarrow.parquet as pq

from pipeline import files
from pipeline.manifest import read_manifest

ROWS = 5


def print_rows(output: str) -> None:
    """Print the first rows of the first part that has any. For a person at a terminal: no log may hold a row's values."""
    from rich.console import Console
    from rich.table import Table

    manifest = read_manifest(output) or {"files": []}
    for entry in manifest["files"]:
        if not entry["rows"]:
            continue
        with files.open_read(files.join(output, entry["path"])) as file:
            first = next(pq.ParquetFile(file).iter_batches(ROWS)).to_pydict()
        table = Table(title=entry["path"])
        for name in first:
            table.add_column(name, overflow="fold")
        for row in zip(*first.values(), strict=True):
            table.add_row(*(_short(value, name) for name, value in zip(first, row, strict=True)))
        Console().print(table)
        return


def _short(value: object, column: str = "") -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        shown = ", ".join(map(_short, value[:3]))
        return f"[{shown}, ... {len(value)} in all]" if len(value) > 3 else f"[{shown}]"
    return files.base_name(str(value)) if column == "_shard" else str(value)
