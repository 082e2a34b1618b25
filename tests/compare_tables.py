"""Tables of scores, and how they are written for `compare` to read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.compare.result import Comparison

ROWS = 300
Write = Callable[..., str]


def scores(rows: int = ROWS) -> pa.Table:
    """A key, a score, a class of it, probabilities and the columns that tell where a row came from."""
    random = np.random.default_rng(7)
    probabilities = random.dirichlet(np.ones(4), rows).astype(np.float32)
    return pa.table(
        {
            "trip_id": [f"trip-{number:06d}" for number in range(rows)],
            "score": random.random(rows, np.float32),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), 4),
            "classes": probabilities.argmax(axis=1),
            "label": [f"class {number}" for number in probabilities.argmax(axis=1)],
            "_shard": ["a.tfrecord"] * rows,
            "_row": np.arange(rows),
        }
    )


def changed(table: pa.Table, column: str, values: dict[int, Any]) -> pa.Table:
    """The table with other values in some rows of a column."""
    cells = table[column].to_pylist()
    for row, value in values.items():
        cells[row] = value
    return table.set_column(table.schema.get_field_index(column), column, pa.array(cells, table[column].type))


def write_side(folder: Path, name: str, table: pa.Table) -> str:
    """A table as one side of `compare`: an output folder of three parts, or a file by the extension of its name."""
    path = folder / name
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif ".csv" in name:
        frame = pd.DataFrame(
            {
                column: [json.dumps(cell) if isinstance(cell, list) else cell for cell in cells]
                for column, cells in table.to_pydict().items()
            }
        )
        frame.to_csv(path, index=False)
    elif ".jsonl" in name:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        path.mkdir()
        bounds = [0, table.num_rows // 3, table.num_rows // 2, table.num_rows]
        files = []
        for number in range(3):
            part = path / f"part-{number:05d}-of-00003.parquet"
            pq.write_table(table.slice(bounds[number], bounds[number + 1] - bounds[number]), part)
            files.append({"path": part.name, "bytes": part.stat().st_size})
        (path / "_rejected").mkdir()
        pq.write_table(pa.table({"_row": [0]}), path / "_rejected" / "part-00000-of-00003.parquet")
        (path / "_manifest.json").write_text(json.dumps({"format_version": 1, "files": files}))
        (path / "_SUCCESS").write_text("run")
    return str(path)


def columns(comparison: Comparison) -> dict[str, Any]:
    """The columns of the JSON report by name."""
    return {column["name"]: column for column in json.loads(comparison.to_json())["columns"]}
