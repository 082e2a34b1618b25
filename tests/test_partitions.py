"""Columns that stand in the folders of the shards: in features, in a transform and passed through, for every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import partitioned_model
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from partitioned_model import FOLDERS, ROWS, rows_of, score_of, write_input

from pipeline.commands import main

pytestmark = pytest.mark.any_tensorflow

Run = Callable[..., pa.Table]
ID = {"from": "id", "dtype": "int64"}


@pytest.fixture(scope="session")
def partitioned_model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("partitioned") / "model")
    partitioned_model.train(path)
    return path


@pytest.fixture
def job(tmp_path: Path, partitioned_model_dir: str) -> Callable[..., Path]:
    """Writes the job file over `tmp_path/in`; arguments are merged into its sections."""

    def write(extension: str, name: str = "out", **sections: dict[str, Any]) -> Path:
        settings: dict[str, Any] = {
            "name": "partitioned",
            "code": [partitioned_model.__file__],
            "input": {"pattern": str(tmp_path / "in/**" / f"*.{extension}"), "partitions": "hive"},
            "features": partitioned_model.FEATURES,
            "model": {"model_fn": "partitioned_model:model_fn", "model_dir": partitioned_model_dir},
            "output": {"path": str(tmp_path / name), "passthrough": {"id": ID}},
        }
        for section, changes in sections.items():
            settings[section] = {**settings.get(section, {}), **changes}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        return path

    return write


@pytest.fixture
def score(job: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: Any, **sections: Any) -> pa.Table:
        path = job(*arguments, **sections)
        assert main(["score", "--config", str(path), "--quiet"]) == 0, capfd.readouterr().err
        output = Path(yaml.safe_load(path.read_text(encoding="utf-8"))["output"]["path"])
        return pa.concat_tables(
            pq.read_table(part, partitioning=None)
            for part in sorted(output.rglob("part-*.parquet"))
            if "_rejected" not in part.parts
        )

    return run


@pytest.fixture
def refusal(job: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: Any, **sections: Any) -> tuple[int, str]:
        code = main(["score", "--config", str(job(*arguments, **sections)), "--quiet"])
        return code, capfd.readouterr().err

    return run


def expected() -> dict[int, tuple[float, str | None, str]]:
    """Id -> score, region and hour, of all rows."""
    return {
        row["id"]: (score_of(row, region, hour), None if region.startswith("__") else region, hour)
        for index, (region, hour) in enumerate(FOLDERS)
        for row in rows_of(index)
    }


def found(table: pa.Table) -> dict[int, tuple[float, str | None, str]]:
    columns = [table[name].to_pylist() for name in ("id", "score", "region", "hour")]
    return {row[0]: row[1:] for row in zip(*columns, strict=True)}


@pytest.mark.parametrize("extension", partitioned_model.WRITERS)
def test_columns_of_the_path_in_every_format(extension: str, tmp_path: Path, score: Run) -> None:
    write_input(tmp_path / "in", extension)
    table = score(
        extension, output={"path": str(tmp_path / "out"), "passthrough": {"id": ID, "region": "region", "hour": "hour"}}
    )
    assert found(table) == expected()
    assert [str(table.schema.field(name).type) for name in ("region", "hour")] == ["string", "string"]


@pytest.mark.parametrize("extension", ["tfrecord", "parquet"])
def test_dtypes_of_a_map(extension: str, tmp_path: Path, score: Run) -> None:
    write_input(tmp_path / "in", extension)
    passthrough = {"id": ID, "hour": "hour", "small": {"from": "hour", "dtype": "int8"}}
    table = score(
        extension,
        input={
            "pattern": str(tmp_path / "in/*/*/*"),
            "format": extension,
            "partitions": {"region": "string", "hour": "int64"},
        },
        output={"path": str(tmp_path / "out"), "passthrough": passthrough},
    )
    assert [table.schema.field(name).type for name in ("hour", "small")] == [pa.int64(), pa.int8()]
    assert dict(zip(table["id"].to_pylist(), table["hour"].to_pylist(), strict=True)) == {
        id: int(hour) for id, (_, _, hour) in expected().items()
    }
    assert table["small"].to_pylist() == table["hour"].to_pylist()
    assert sorted(table["score"].to_pylist()) == sorted(row[0] for row in expected().values())


@pytest.mark.parametrize("extension", ["tfrecord", "csv"])
def test_batches_across_the_shards_of_a_joined_part(extension: str, tmp_path: Path, score: Run) -> None:
    write_input(tmp_path / "in", extension)
    passthrough = {"id": ID, "region": "region", "hour": "hour"}
    output = {"path": str(tmp_path / "out"), "passthrough": passthrough, "rows_per_file": 1000}
    table = score(extension, output=output, batch={"rows": 4})
    assert len(list((tmp_path / "out").glob("part-*"))) == 1
    assert found(table) == expected()


def test_other_names_by_rename(tmp_path: Path, score: Run) -> None:
    write_input(tmp_path / "in", "jsonl")
    features = {"number": {"dtype": "int64"}, **partitioned_model.FEATURES}
    path = {
        "path": str(tmp_path / "out"),
        "passthrough": {"id": ID, "region": "where", "hour": {"from": "hour", "dtype": "string"}},
    }
    table = score("jsonl", input={"rename": {"number": "hour", "where": "region"}}, features=features, output=path)
    assert found(table) == expected()


@pytest.mark.parametrize("extension", ["tfrecord", "avro"])
def test_columns_of_the_path_go_through_the_transform(extension: str, tmp_path: Path, score: Run) -> None:
    write_input(tmp_path / "in", extension)
    table = score(extension, transform={"function": "partitioned_model:an_hour_later"})
    scores = dict(zip(table["id"].to_pylist(), table["score"].to_pylist(), strict=True))
    assert scores == {id: row[0] + 100 for id, row in expected().items()}


@pytest.mark.parametrize(
    "kind", [{"kind": "varlen"}, {"kind": "ragged"}, {"shape": [1], "default": "nowhere"}], ids=str
)
@pytest.mark.parametrize("extension", ["tfrecord", "csv"])
def test_every_kind_of_feature(extension: str, kind: dict[str, Any], tmp_path: Path, score: Run) -> None:
    write_input(tmp_path / "in", extension)
    features = {**partitioned_model.FEATURES, "region": {"dtype": "string", **kind}}
    table = score(extension, features=features, transform={"function": "partitioned_model:one_region"})
    scores = dict(zip(table["id"].to_pylist(), table["score"].to_pylist(), strict=True))
    assert scores == {id: row[0] for id, row in expected().items()}


@pytest.mark.parametrize("extension", ["tfrecord", "parquet"])
def test_the_path_goes_before_a_field_of_that_name(extension: str, tmp_path: Path, score: Run) -> None:
    folder = tmp_path / "in/region=north/hour=3"
    folder.mkdir(parents=True)
    rows = [{**row, "hour": 99} for row in rows_of(0)]
    partitioned_model.WRITERS[extension](folder / f"rows.{extension}", rows)
    passthrough = {"id": ID, "hour": "hour", "bytes": {"from": "region", "dtype": "binary"}}
    table = score(extension, output={"path": str(tmp_path / "out"), "passthrough": passthrough})
    assert table["score"].to_pylist() == [score_of(row, "north", "3") for row in rows]
    assert table["hour"].to_pylist() == ["3"] * ROWS
    assert table["bytes"].to_pylist() == [b"north"] * ROWS


@pytest.mark.parametrize("extension", ["tfrecord", "parquet"])
def test_the_manifest_counts_what_paths_have(extension: str, tmp_path: Path, score: Run) -> None:
    write_input(tmp_path / "in", extension)
    score(extension, batch={"rows": 4})
    features = json.loads((tmp_path / "out/_manifest.json").read_bytes())["features"]
    assert features == {
        "x": {"present": 3 * ROWS, "missing": 0},
        "hour": {"present": 3 * ROWS, "missing": 0},
        "region": {"present": 2 * ROWS, "missing": ROWS},
    }


@pytest.mark.parametrize("extension", ["tfrecord", "parquet", "csv"])
def test_rejected_rows_keep_the_columns_of_their_path(extension: str, tmp_path: Path, score: Run) -> None:
    """A row that is refused first and scored later, from a file whose own path says nothing, or something else."""
    write_input(tmp_path / "in", extension)
    output = {"path": str(tmp_path / "hour=11/out"), "passthrough": {"id": ID, "region": "region", "hour": "hour"}}
    budget = {"max_bad_rows": 1000, "non_finite": "reject"}
    refused = score(extension, "first", output=output, errors=budget, model={"params": {"refuse": 3}})
    again = {"pattern": str(tmp_path / "hour=11/out/_rejected/*.parquet"), "format": extension}
    mended = score(extension, "second", input=again, output={**output, "path": str(tmp_path / "again")})
    assert 0 < mended.num_rows == 3 * ROWS - refused.num_rows
    assert {**found(refused), **found(mended)} == expected()


def test_explain_and_check_show_them(
    tmp_path: Path, job: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    paths = write_input(tmp_path / "in", "tfrecord")
    path = job("tfrecord", output={"path": str(tmp_path / "out"), "passthrough": {"id": ID, "region": "region"}})
    assert main(["explain", "--config", str(path), "--row", f"{paths[-1]}:2"]) == 0
    said = capfd.readouterr().out
    assert "hour: [8]" in said
    assert "region: ['süd/west'" in said or "region: [b's\\xc3\\xbcd/west']" in said
    assert main(["check", "--config", str(path)]) == 0
    assert "partitions  region: string, hour: string" in capfd.readouterr().out


@pytest.mark.parametrize("extension", ["tfrecord", "csv"])
def test_record_of_rows_with_columns_of_their_path(
    extension: str, tmp_path: Path, job: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    write_input(tmp_path / "in", extension)
    path = job(extension, model={"record": str(tmp_path / "record")})
    assert main(["record", "--config", str(path)]) == 0, capfd.readouterr().err
    assert main(["score", "--config", str(path), "--quiet"]) == 0, capfd.readouterr().err
    manifest = json.loads((tmp_path / "out/_manifest.json").read_bytes())
    assert manifest["record"] == {"state": "verified", "max_difference": 0.0}


REFUSED: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "a value that does not fit": (
        {"features": {"region": {"dtype": "int64", "default": 5}}}, 3,
        ["region=north/hour=07/rows.csv: 'region=north': feature 'region': expected int64, found text that is not a number", "input.pattern"],
    ),
    "a value that does not fit the map": (
        {"input": {"partitions": {"region": "float32", "hour": "string"}}}, 3,
        ["'region=north': expected float32, found text that is not a number"],
    ),
    "a dtype that the feature does not take": (
        {"input": {"partitions": {"region": "string", "hour": "float32"}}, "features": {"hour": {"dtype": "string"}}}, 3,
        ["'hour=23': feature 'hour': expected string, found float"],
    ),
    "a missing value without a default": (
        {"features": {"region": {"dtype": "string"}}}, 3,
        ["'region=__HIVE_DEFAULT_PARTITION__': feature 'region': missing, and it has no default"],
    ),
    "a column of the map that no path has": (
        {"input": {"partitions": {"day": "string"}}}, 3, ["input.partitions: day: the path of", "it has: region, hour"],
    ),
    "a pass-through column that does not fit": (
        {"output": {"passthrough": {"hour": {"from": "region", "dtype": "int64"}}}}, 3,
        ["'region=north': pass-through column 'hour': "],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sections", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_refused_at_launch(sections: Any, code: int, said: list[str], tmp_path: Path, refusal: Any) -> None:
    write_input(tmp_path / "in", "csv")
    features = {**partitioned_model.FEATURES, **sections.get("features", {})}
    ended, error = refusal("csv", **{**sections, "features": features})
    assert ended == code
    assert [text for text in said if text not in error] == []
    assert not (tmp_path / "out/_SUCCESS").exists()


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("region=north", "lacks the column 'hour'"),
        ("region=a/hour=1/day=2", "lacks the column 'day'"),
        ("plain", "has no folder column=value"),
        ("region=a/hour=1/hour=2", "'hour=1' and 'hour=2' both give the column 'hour'"),
        ("region=%FF/hour=1", "'region=%FF' is no UTF-8 text"),
    ],
)
def test_shards_of_other_folders(folder: str, said: str, tmp_path: Path, refusal: Any) -> None:
    [first, *_] = write_input(tmp_path / "in", "csv")
    other = tmp_path / "in" / folder / "other.csv"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(first.read_bytes())
    code, error = refusal("csv")
    assert code == 3
    assert "input.partitions" in error
    assert said in error
    assert str(other) in error
