"""The job file of `fit`: read, checked, and shown in the docs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401

import pytest
import yaml
from fit_rows import write_job

from pipeline.commands import main
from pipeline.errors import JobError
from pipeline.features import Feature
from pipeline.job.file import load_fit_job

DOCS = Path(__file__).resolve().parent.parent / "docs" / "fit.md"


def test_job_file_is_read(tmp_path: Path) -> None:
    job = load_fit_job(write_job(tmp_path), overrides=["transform.path=/made/{{x}}"])

    assert job.input.pattern == [str(tmp_path / "rows-*.tfrecord")]
    assert job.input.format == "tfrecord"
    assert job.features == {"miles": Feature("miles")}
    assert (job.transform.function, job.transform.path) == ("steps:preprocessing_fn", "/made/{x}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"model": {}}, "fit.yaml:6: model: unknown key", id="model"),
        pytest.param({"transform": {"path": "transform"}}, "transform.function: is missing", id="no function"),
        pytest.param({"transform": {"function": "steps:f"}}, "transform.path: is missing", id="no path"),
        pytest.param({"input": {"pattern": "a.csv", "optional": ["miles"]}}, "input.optional: is for scoring",
                     id="optional"),
        pytest.param({"features": {"age": {"dtype": "int32"}}}, "features.age.dtype: TensorFlow Transform takes",
                     id="dtype"),
        pytest.param({"features": {"age": {"dtype": "int64", "default": 0}}},
                     "features.age.default: a saved transform does not keep defaults", id="default"),
        pytest.param({"code": ["nowhere"]}, "code[0]: no such file or folder", id="code"),
    ],
)  # fmt: skip
def test_mistake_in_job_file_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError) as refused:
        load_fit_job(write_job(tmp_path, **changes))

    assert message in str(refused.value)


def test_job_file_is_checked_without_tensorflow_and_beam(tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.job.file import load_fit_job; load_fit_job(sys.argv[1]); "
        "print(sorted({'tensorflow', 'apache_beam'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code, write_job(tmp_path)], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"


def test_job_file_shown_is_taken(tmp_path: Path) -> None:
    shown = DOCS.read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "my_trainer").mkdir()
    path = tmp_path / "fit.yaml"
    path.write_text(shown)

    assert load_fit_job(str(path)).model_fields_set == set(yaml.safe_load(shown))


def test_command_without_the_extra_ends_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_transform", None)

    assert main(["fit", "--config", write_job(tmp_path)]) == 2

    assert "estimator-score[fit]" in capsys.readouterr().err
