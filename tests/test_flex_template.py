"""The Flex Template: its parameters are options of the command, and what it starts takes them as Dataflow gives them.

Neither `docker` nor `gcloud` runs here: the Dockerfile is held to what is there, not built.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import commands
from pipeline.runner import pipeline_options

pytestmark = pytest.mark.any_tensorflow

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "configs" / "dataflow"
PARAMETERS = json.loads((FOLDER / "metadata.json").read_text())["parameters"]
BY_DATAFLOW = [
    "--runner=DataflowRunner", "--project=a-project", "--region=a-region", "--job_name=trips-20240501",
    "--temp_location=gs://bucket/temp", "--staging_location=gs://bucket/staging", "--max_num_workers=8",
    "--template_location=gs://bucket/staging/template_launches/1/job_object",
    "--dataflow_endpoint=http://localhost:1", "--no_auth",  # else Beam looks at the buckets
]  # fmt: skip
"""What its launcher adds."""


def example(parameter: dict[str, Any]) -> str:
    return parameter["helpText"].rpartition("such as ")[2]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter["name"])
def test_a_parameter_is_an_option(parameter: dict[str, Any]) -> None:
    assert set(parameter) <= {"name", "label", "helpText", "isOptional", "regexes"}
    (regex,) = parameter["regexes"]
    assert re.search(regex, example(parameter))

    given = [f"--{each['name']}={example(each)}" for each in PARAMETERS if not each.get("isOptional")]
    option = f"--{parameter['name']}={example(parameter)}"
    known, rest = commands._parser().parse_known_args(["score", *dict.fromkeys([*given, option])])
    pipeline_options([*rest, *BY_DATAFLOW])  # refuses what Beam does not know
    if option not in rest:
        found = getattr(known, parameter["name"])
        assert str(found[0] if isinstance(found, list) else found) == example(parameter)


def test_options_that_a_run_may_need_are_parameters() -> None:
    """Flags are none: a parameter has a value. Those of files would write in the launcher's own container."""
    known, _ = commands._parser().parse_known_args(["score", "--config", "x"])
    flags = {name for name, value in vars(known).items() if isinstance(value, bool)}
    ours = set(vars(known)) - flags - {"command", "report", "workers"}
    assert ours == {parameter["name"] for parameter in PARAMETERS} - {"sdk_container_image", "experiments"}


def test_what_the_template_starts_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "score.py"), f"--config={tmp_path}/none.yaml", *BY_DATAFLOW]
    found = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2
    assert found.stderr.startswith(f"error: {tmp_path}/none.yaml")


def test_the_page_names_the_parameters() -> None:
    text = (ROOT / "docs" / "dataflow.md").read_text()
    (named,) = re.findall(r"with the parameters:\n(.*?)\. A template", text, re.DOTALL)
    assert re.findall(r"`(\w+)`", named) == [parameter["name"] for parameter in PARAMETERS]


def test_the_image_has_what_the_template_starts() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    copied = dict(re.findall(r"^COPY (configs/\S+) (\S+)$", text, re.MULTILINE))
    assert copied["configs/dataflow/score.py"] == re.findall(r"^ENV FLEX_TEMPLATE_PYTHON_PY_FILE=(\S+)$", text, re.M)[0]
    assert all((ROOT / source).is_file() for source in copied)
    assert "ENTRYPOINT" not in re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    shown = re.findall(r"--parameters (\S+)", text)[0].split(",")
    named = {pair.partition("=")[0] for pair in shown}
    required = {parameter["name"] for parameter in PARAMETERS if not parameter.get("isOptional")}
    assert required <= named <= {parameter["name"] for parameter in PARAMETERS}
