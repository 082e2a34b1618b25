"""SavedModels of TensorFlow 2 by each kind of signature, and what is refused with its reason and the way on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_models import (
    COLORS,
    ROWS,
    make_columns,
    read_scores,
    save_words,
    write_job,
    write_parquet,
    write_tfrecord,
)

from pipeline.commands import main

NUMBERS = {"numbers": {"dtype": "float32", "shape": [3]}}
COUNT = {"count": {"dtype": "int32"}}
COLOR = {"color": {"dtype": "string"}}
WEIGHTS = {"blue": 0.5, "red": 1.5, "green": 2.5}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_words(tmp_path_factory.mktemp("words"))


@pytest.mark.parametrize("write", [write_tfrecord, write_parquet])
@pytest.mark.parametrize("signature", ["serving_default", "examples"])
def test_a_table_of_the_saved_model(signature: str, write: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    write(tmp_path / "rows")
    job = write_job(tmp_path, words, features=COLOR, model={"signature": signature})

    assert main(["score", "--config", str(job), "--quiet"]) == 0

    assert read_scores(tmp_path)["score"].tolist() == [WEIGHTS[COLORS[row % 3]] for row in range(ROWS)]


def test_tensors_by_name(words: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows")
    job = write_job(tmp_path, words, features=NUMBERS | COUNT, model={"signature": "numbers"})

    assert main(["check", "--config", str(job)]) == 0
    assert main(["score", "--config", str(job), "--quiet"]) == 0

    columns = make_columns()
    expected = np.array(columns["numbers"], np.float32).sum(1) + np.array(columns["count"], np.float32)
    np.testing.assert_allclose(read_scores(tmp_path)["sum"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "features", "said"),
    [
        pytest.param(
            {"signature": "score"},
            COLOR,
            ["no signature 'score'", "batch, examples, four, numbers, serving_default"],
            id="signature",
        ),
        pytest.param({"tags": ["gpu"]}, COLOR, ["no graph with the tags gpu", "model.tags", "serve"], id="tags"),
        pytest.param(
            {"signature": "numbers"},
            NUMBERS,
            ["takes count, numbers; missing: count", "count: {dtype: int32}"],
            id="missing",
        ),
        pytest.param(
            {"signature": "numbers"},
            NUMBERS | COUNT | COLOR,
            ["color:", "has no such input", "input.rename"],
            id="unknown",
        ),
        pytest.param(
            {"signature": "numbers"},
            NUMBERS | {"count": {"dtype": "int64"}},
            ["features: count:", "takes int32, and the feature is int64"],
            id="dtype",
        ),
        pytest.param(
            {"signature": "numbers"},
            COUNT | {"numbers": {"dtype": "float32", "shape": [2]}},
            ["features: numbers:", "takes the shape [3] for a row, and the feature has [2]"],
            id="shape",
        ),
        pytest.param(
            {"signature": "numbers"},
            COUNT | {"numbers": {"dtype": "float32", "kind": "varlen"}},
            ["features: numbers:", "takes a dense tensor, and the feature is varlen"],
            id="kind",
        ),
        pytest.param(
            {"signature": "four"}, NUMBERS, ["batches of exactly 4 rows", "unknown batch dimension"], id="batch"
        ),
        pytest.param(
            {},
            {"text": {"dtype": "string"}},
            ["features: text:", "has no such input; it takes color"],
            id="another text",
        ),
        pytest.param({"signature": "batch"}, NUMBERS, ["'share'", "other rows"], id="not row-wise"),
    ],
)
def test_refused(
    model: dict[str, Any], features: dict[str, Any], said: list[str], words: str, tmp_path: Path, capfd: Any
) -> None:
    write_parquet(tmp_path / "rows")
    job = write_job(tmp_path, words, features=features, model=model)

    assert main(["check", "--config", str(job)]) in (2, 6)

    error = capfd.readouterr().err
    for text in said:
        assert text in error


def test_operations_that_are_gone(words: str, tmp_path: Path, capfd: Any) -> None:
    write_parquet(tmp_path / "rows")
    changed = Path(shutil.copytree(words, tmp_path / "changed"))
    graph = (changed / "saved_model.pb").read_bytes()
    name = b"LookupTableFindV2"
    assert name in graph
    (changed / "saved_model.pb").write_bytes(graph.replace(name, b"ContribTableFind2"))

    assert main(["check", "--config", str(write_job(tmp_path, str(changed), features=COLOR))]) == 6

    error = capfd.readouterr().err
    assert "does not know: ContribTableFind2" in error
    assert "tf.contrib are gone" in error


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda model: (model / "saved_model.pb").unlink(), "lacks saved_model.pb", id="no graph"),
        pytest.param(lambda model: (model / "saved_model.pb").write_bytes(b"\xff\xff"), "is damaged", id="graph"),
        pytest.param(
            lambda model: next(model.glob("variables/*.index")).unlink(), "variables.index is missing", id="index"
        ),
        pytest.param(
            lambda model: next(model.glob("assets/*")).unlink(), "is missing; copy the whole folder", id="asset"
        ),
        pytest.param(
            lambda model: next(model.glob("variables/*.data*")).write_bytes(b""),
            "is incomplete",
            id="variables cut short",
        ),
    ],
)
def test_a_damaged_folder(damage: Callable[[Path], None], said: str, words: str, tmp_path: Path, capfd: Any) -> None:
    write_parquet(tmp_path / "rows")
    changed = Path(shutil.copytree(words, tmp_path / "changed"))
    damage(changed)

    assert main(["score", "--config", str(write_job(tmp_path, str(changed), features=COLOR)), "--quiet"]) == 6

    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("model/checkpoint", "is a model_dir with checkpoints; write model.model_dir"),
        ("model/latest/saved_model.pb", "name one of latest"),
        ("model/saved_model.pbtxt", "as_text=False"),
        ("model/notes.txt", "holds neither saved_model.pb nor numbered folders"),
    ],
)
def test_what_is_no_saved_model(made: str, said: str, tmp_path: Path, capfd: Any) -> None:
    write_parquet(tmp_path / "rows")
    (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / made).write_bytes(b"x")

    assert main(["check", "--config", str(write_job(tmp_path, str(tmp_path / "model"), features=COLOR))]) == 6

    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model_dir", ".", "goes with an Estimator; model.saved_model is the model here"),
        ("checkpoint", 7, "goes with an Estimator"),
        ("features", ["color"], "goes with a model_fn, and a signature takes its inputs by name"),
        ("allow_unused", ["x"], "goes with an Estimator"),
    ],
)
def test_keys_that_do_not_go_with_it(key: str, value: Any, said: str, words: str, tmp_path: Path, capfd: Any) -> None:
    write_parquet(tmp_path / "rows")
    assert main(["check", "--config", str(write_job(tmp_path, words, features=COLOR, model={key: value}))]) == 2
    assert f"model.{key}: {said}" in capfd.readouterr().err


def test_a_file_of_keras(tmp_path: Path, capfd: Any) -> None:
    write_parquet(tmp_path / "rows")
    (tmp_path / "model.keras").write_bytes(b"x")
    assert main(["check", "--config", str(write_job(tmp_path, str(tmp_path / "model.keras"), features=COLOR))]) == 2
    assert "is a file of Keras, which holds no signature; export it" in capfd.readouterr().err
