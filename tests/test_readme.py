"""README and docs: what they show is loaded, parsed and compared with the code, so that neither can go stale."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import pipeline
from pipeline import commands, errors
from pipeline.errors import JobError
from pipeline.job import Batch, Csv, Errors, Input, Job, Model, Output, Runner, Transform
from pipeline.job.features import FeatureEntry
from pipeline.job.file import load_job

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
JOB_FILE = ROOT / "docs" / "job_file.md"
SCHEDULE = ROOT / "docs" / "schedule.md"
PAGES = [
    README,
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "docs/job_file.md", "docs/fit.md", "docs/faults.md")),
    SCHEDULE,
    ROOT / "docs" / "bring_your_model.md",
]

BASE = """\
name: trips
code: [my_trainer/]
input:
  pattern: shards/*.tfrecord
features:
  miles: {dtype: float32}
  hour: {dtype: int64}
model:
  estimator: my_trainer.model:build_estimator
  model_dir: model
output:
  path: predictions
"""
"""What a fragment of a job file is part of: each of its sections replaces the one here."""

SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": Job,
    "input": Input,
    "transform": Transform,
    "features": FeatureEntry,
    "model": Model,
    "batch": Batch,
    "output": Output,
    "errors": Errors,
    "runner": Runner,
}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, without the indentation that they have in a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def table_rows(text: str, header: str) -> list[list[str]]:
    """Cells of the rows of every table with that first header cell; a bar in code is no end of a cell."""
    rows, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and cells[0] == header:
            inside = True
        elif not cells:
            inside = False
        elif inside and set(cells[0]) != {"-"}:
            rows.append(cells)
    return rows


def sections() -> dict[str, str]:
    """Heading -> text of each section of the reference."""
    parts = re.split(r"^## (.+)$", JOB_FILE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def shown_jobs() -> Iterator[Any]:
    for page in (README, JOB_FILE, SCHEDULE):
        for number, block in enumerate(blocks(page, "yaml")):
            yield pytest.param(block, id=f"{page.name}-{number}")


def snippets(page: Path = README) -> list[str]:
    return blocks(page, "python")


def shown_commands() -> list[str]:
    """The lines of code, in blocks and between backticks, that run something of this project."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
        lines += re.findall(r"^    (\S.*)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
        found += [line.partition(" # ")[0].strip() for line in lines]
    ours = re.compile(r"(\.venv/bin/)?(python -m pipeline|estimator-score) (?!COMMAND)")
    return [line for line in dict.fromkeys(found) if ours.match(line)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the job files shown name."""
    for name in ("my_trainer", "model", "shards", "transform", "libs"):
        (tmp_path / name).mkdir()
    (tmp_path / "my_trainer" / "__init__.py").touch()
    (tmp_path / "libs" / "my_layers-1.2-py3-none-any.whl").touch()
    (tmp_path / "house.yaml").write_text(BASE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(settings: dict[str, Any]) -> Job:
    Path("job.yaml").write_text(yaml.safe_dump(settings))
    return load_job("job.yaml", "2024-05-01")


@pytest.mark.parametrize("text", shown_jobs())
@pytest.mark.usefixtures("folder")
def test_job_file_shown_is_taken(text: str) -> None:
    shown = yaml.safe_load(text)
    settings = yaml.safe_load(BASE) | shown
    if "path" in shown.get("transform", {}) or "serving_input_fn" in shown.get("model", {}):
        del settings["features"]
    if "model" not in shown and "features" in shown:
        settings["model"].pop("features", None)

    job = load(settings)

    assert set(shown) <= job.model_fields_set
    if "name" in shown and "model" in shown:  # whole: taken as it stands in the page, comments and all
        Path("job.yaml").write_text(text)
        assert load_job("job.yaml", "2024-05-01").settings() == job.settings()


def test_a_whole_job_file_is_shown_first() -> None:
    assert {"name", "input", "model", "output"} <= yaml.safe_load(blocks(README, "yaml")[0]).keys()


def refusals() -> Iterator[Any]:
    for written, message in table_rows(JOB_FILE.read_text(), "written"):
        yield pytest.param(written.strip("`"), message, id=written.strip("`"))


@pytest.mark.parametrize(("written", "message"), refusals())
@pytest.mark.usefixtures("folder")
def test_mistake_shown_is_refused_with_the_message_shown(written: str, message: str) -> None:
    settings = yaml.safe_load(BASE)
    for key, value in yaml.safe_load(written).items():
        both_mappings = isinstance(value, dict) and isinstance(settings.get(key), dict) and key != "features"
        settings[key] = settings[key] | value if both_mappings else value

    with pytest.raises(JobError) as refused:
        load(settings)

    assert message in str(refused.value)


@pytest.mark.parametrize("section", SECTIONS)
def test_reference_has_every_key_with_its_default(section: str) -> None:
    model = SECTIONS[section]
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if model is Input:
        fields |= {f"csv.{name}": field for name, field in Csv.model_fields.items()}
    rows = {cells[0].strip("`"): cells for cells in table_rows(sections()[section], "key")}

    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        written = rows[name][2]
        if field.is_required():
            assert written == "required", name
        elif isinstance(field.default, BaseModel):
            assert written == "", f"{name}: a section has no default of its own"
        elif written == "by extension":
            assert name == "format"
        else:
            value = None if written == "none" else yaml.safe_load(written.strip("`"))
            assert field.default is not PydanticUndefined
            assert value == field.default, name


@pytest.mark.parametrize(
    ("section", "key", "model"),
    [("input", "format", Input), ("output", "if_exists", Output), ("errors", "non_finite", Errors)],
    ids=["format", "if_exists", "non_finite"],
)
def test_reference_has_every_choice(section: str, key: str, model: type[BaseModel]) -> None:
    row = next(cells for cells in table_rows(sections()[section], "key") if cells[0] == f"`{key}`")

    assert set(re.findall(r"`(\w+)`", row[1])) == set(get_args(model.model_fields[key].annotation))


@pytest.mark.parametrize("line", shown_commands())
def test_command_shown_is_taken_by_the_parser(line: str) -> None:
    words = shlex.split(line)
    arguments = words[words.index("pipeline") + 1 :] if "pipeline" in words else words[1:]

    known, rest = commands._parser().parse_known_args(arguments)

    assert known.command in words
    assert rest == []


def test_table_of_commands_is_that_of_the_parser() -> None:
    shown = {cells[0].strip("`").split()[0] for cells in table_rows(README.read_text(), "command")}

    help_text = commands._parser().format_help()
    listed = re.search(r"positional arguments:\n(.*?)\n\n", help_text, re.DOTALL)
    assert listed
    assert shown == set(re.findall(r"^ {4}(\w+)", listed[1], re.MULTILINE))


def test_options_named_are_options() -> None:
    text = re.search(r"^## Commands$(.*?)^## ", README.read_text(), re.MULTILINE | re.DOTALL)
    assert text
    named = set(re.findall(r"`(--\w+)", text[1]))

    known, _ = commands._parser().parse_known_args(["score", "--config", "job.yaml"])
    assert {"--run_date", "--set", "--report", "--quiet"} <= named
    assert {option.removeprefix("--") for option in named} <= vars(known).keys()


def test_exit_codes_are_those_of_the_errors() -> None:
    rows = table_rows(README.read_text(), "code")
    shown = {cells[2].strip("`"): int(cells[0]) for cells in rows if cells[2]}
    classes: list[type[errors.ScoringError]] = [errors.ScoringError, *errors.ScoringError.__subclasses__()]
    ours = [kind for kind in classes if kind.__module__ == errors.__name__ and kind is not errors.VerdictError]

    assert shown == {kind.__name__: kind.exit_code for kind in ours}
    numbers = set(re.findall(r"\b\d+\b", commands.EXIT_CODES))
    assert {cells[0] for cells in rows} == numbers


@pytest.mark.parametrize("source", snippets(), ids=lambda source: source.strip().splitlines()[0])
def test_python_shown_compiles_and_names_what_is_public(source: str) -> None:
    tree = ast.parse(source)
    compile(tree, "README.md", "exec")

    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "pipeline"
        for alias in node.names
    ]
    used = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pipeline"
    ]
    assert {*imported, *used} - {"tf_estimator"} <= set(pipeline.__all__)


def test_stages_named_are_public() -> None:
    named = re.search(r"The stages themselves are PTransforms: (.*?)\. ", README.read_text(), re.DOTALL)

    assert named
    assert set(re.findall(r"`(\w+)`", named[1])) | {"Scorer", "predict_input_fn", "EstimatorModelHandler"} == set(
        pipeline.__all__
    )


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_scripts_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target
    for script in set(re.findall(r"(?:\./|scripts/|\.ci/|configs/|constraints/|tests/)[\w./@-]*\w", text)):
        assert (ROOT / script).exists(), script


def test_versions_are_those_of_the_constraints() -> None:
    shown = {
        (version, cells[0])
        for cells in table_rows(README.read_text(), "TensorFlow")
        for version in cells[1].split(", ")
    }
    files = [re.fullmatch(r"py3(\d+)-tf([\d.]+)", file.stem) for file in (ROOT / "constraints").glob("*.txt")]

    assert shown == {(f"3.{match[1]}", match[2]) for match in files if match}
