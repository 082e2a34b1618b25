"""Job files that are merged over others (`base`), and their placeholders (`--var`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.commands import main
from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.job.file import load_fit_job, load_job

HOUSE = """\
input:
  pattern: in/*.tfrecord
  optional: [tips]
features:
  miles: {dtype: float32}
  tips: {dtype: float32}
model:
  estimator: trainer:build
  model_dir: model
  params: {units: 16, layers: [1, 2]}
batch: {rows: 512}
"""
TAXI = """\
base: house.yaml
name: taxi
model:
  params: {layers: [3], rate: 0.1}
output:
  path: out
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: with a model_dir in it, and one in `shared` and in `jobs`."""
    monkeypatch.chdir(tmp_path)
    for name in ("model", "shared/model", "jobs/model"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def write(**files: str) -> None:
    """Write job files; `__` in a name stands for a slash."""
    for name, text in files.items():
        Path(f"{name.replace('__', '/')}.yaml").write_text(text)


def load(*overrides: str, path: str = "taxi.yaml", variables: tuple[str, ...] = (), **files: str) -> Job:
    write(**files)
    return load_job(path, None, overrides, variables)


def refused(*overrides: str, path: str = "taxi.yaml", variables: tuple[str, ...] = (), **files: str) -> str:
    with pytest.raises(JobError) as error:
        load(*overrides, path=path, variables=variables, **files)
    return str(error.value)


class TestBase:
    def test_mappings_are_merged_and_all_else_is_replaced(self, folder: Path) -> None:
        job = load(house=HOUSE, taxi=TAXI)
        assert job.model.params == {"units": 16, "layers": [3], "rate": 0.1}
        assert (job.batch.rows, job.input.optional, job.model.estimator) == (512, ["tips"], "trainer:build")
        assert job.base == [str(folder / "house.yaml")]

    def test_the_merged_job_is_that_of_one_file(self) -> None:
        one = yaml.safe_load(HOUSE) | {"name": "taxi", "output": {"path": "out"}}
        one["model"]["params"] = {"units": 16, "layers": [3], "rate": 0.1}
        write(one=yaml.safe_dump(one))
        assert load(house=HOUSE, taxi=TAXI).settings() == load_job("one.yaml").settings()

    def test_a_list_is_merged_in_its_order_and_a_base_may_have_one(self, folder: Path) -> None:
        job = load(
            house=HOUSE,
            large="base: house.yaml\nbatch: {rows: 4096, bytes: 1000}\n",
            strict="errors: {non_finite: reject}\nbatch: {rows: 1}\n",
            taxi=TAXI.replace("house.yaml", "[large.yaml, strict.yaml]"),
        )
        assert (job.batch.rows, job.batch.bytes, job.errors.non_finite) == (1, 1000, "reject")
        assert job.base == [str(folder / f"{name}.yaml") for name in ("house", "large", "strict")]

    def test_nothing_takes_a_value_away(self) -> None:
        taxi = TAXI + "transform: {path: null, function: 'a:b'}\nbatch: {rows: 7}\n"
        job = load(house=HOUSE + "transform: {path: gs://b/t}\n", taxi=taxi)
        assert job.transform is not None
        assert (job.transform.path, job.transform.function) == (None, "a:b")

    def test_one_base_by_two_ways_is_no_circle(self) -> None:
        jobs = dict.fromkeys(("a", "b"), "base: house.yaml\n")
        assert load(house=HOUSE, taxi=TAXI.replace("house.yaml", "[a.yaml, b.yaml]"), **jobs).batch.rows == 512

    def test_relative_paths_start_at_the_file_that_names_them(self, folder: Path) -> None:
        taxi = TAXI.replace("house.yaml", "../shared/house.yaml")
        job = load("errors.rejected_path=bad", path="jobs/taxi.yaml", shared__house=HOUSE, jobs__taxi=taxi)
        assert job.input.pattern == [f"{folder}/shared/in/*.tfrecord"]
        assert job.model.model_dir == f"{folder}/shared/model"
        assert job.output.path == f"{folder}/jobs/out"
        assert job.errors.rejected_path == f"{folder}/bad"
        own = load(path="jobs/taxi.yaml", jobs__taxi=taxi.replace("model:\n", "model:\n  model_dir: model\n"))
        assert own.model.model_dir == f"{folder}/jobs/model"

    def test_set_goes_before_all_files(self) -> None:
        job = load("model.params.units=1", "batch.rows=2", house=HOUSE, taxi=TAXI)
        assert (job.model.params, job.batch.rows) == ({"units": 1, "layers": [3], "rate": 0.1}, 2)

    def test_fit_has_it_too(self, folder: Path) -> None:
        write(
            house="features:\n  miles: {dtype: float32}\ninput: {pattern: in/*.tfrecord}\n",
            fit="base: house.yaml\ntransform: {function: 'a:b', path: made}\n",
        )
        job = load_fit_job("fit.yaml")
        assert (job.input.pattern, job.base) == ([f"{folder}/in/*.tfrecord"], [f"{folder}/house.yaml"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({"house": HOUSE + "bach: 1\n"}, "house.yaml:12: bach: unknown key; did you mean 'batch'?", id="in the base"),
        pytest.param({"taxi": TAXI + "bach: 1\n"}, "taxi.yaml:7: bach: unknown key; did you mean 'batch'?", id="in the job"),
        pytest.param({"taxi": TAXI.replace("base:", "bsae:")}, "taxi.yaml:1: bsae: unknown key; did you mean 'base'?", id="mistyped base"),
        pytest.param({"house": HOUSE.replace("rows: 512", "rows: 0")}, "house.yaml:11: batch.rows: has to be 1 or more", id="value of the base"),
        pytest.param({"taxi": TAXI + "batch: {rows: 0}\n"}, "taxi.yaml:7: batch.rows: has to be 1 or more", id="value over the base"),
        pytest.param({"house": HOUSE.replace("estimator: trainer:build", "features: [mile]")}, "house.yaml:8: model.features: 'mile' is no raw feature", id="list of the base"),
        pytest.param({"house": HOUSE.replace("model_dir: model", "model_dir: modle")}, "house.yaml:9: model.model_dir: no such folder: {folder}/modle", id="path of the base"),
        pytest.param({"taxi": TAXI.replace("output:\n  path: out\n", "")}, "taxi.yaml: output: is missing", id="missing in both"),
        pytest.param({"taxi": TAXI.replace("house", "huose")}, "taxi.yaml:1: base: huose.yaml: no such file; did you mean 'house.yaml'?", id="no such file"),
        pytest.param({"taxi": TAXI.replace("house.yaml", "model")}, "taxi.yaml:1: base: model: is a folder; name the job file in it", id="folder"),
        pytest.param({"taxi": TAXI.replace("house.yaml", "gs://b/house.yaml")}, "taxi.yaml:1: base: gs://b/house.yaml is no local path", id="remote"),
        pytest.param({"taxi": TAXI.replace("house.yaml", "7")}, "taxi.yaml:1: base: expected a job file or a list of them, got a whole number (7)", id="number"),
        pytest.param({"taxi": TAXI.replace("house.yaml", "{path: a}")}, "taxi.yaml:1: base: expected a job file or a list of them, got a mapping", id="mapping"),
        pytest.param({"taxi": TAXI.replace("house.yaml", "'{name}.yaml'")}, "taxi.yaml:1: base: {name} is not known before the base was read", id="name"),
        pytest.param({"taxi": TAXI.replace("house.yaml", "taxi.yaml")}, "taxi.yaml:1: base: goes in a circle: taxi.yaml -> taxi.yaml; leave one out", id="itself"),
        pytest.param({"house": "base: jobs/../taxi.yaml\n" + HOUSE}, "house.yaml:1: base: goes in a circle: taxi.yaml -> house.yaml -> taxi.yaml", id="circle"),
        pytest.param({"house": "- a\n"}, "house.yaml: holds a list; a job file is a mapping", id="base that is a list"),
        pytest.param({"house": HOUSE + "  rows: 1\n"}, "house.yaml:12:3: not indented like the lines above", id="base that is no YAML"),
    ],
)  # fmt: skip
def test_a_mistake_has_the_file_and_the_key(files: dict[str, str], message: str, folder: Path) -> None:
    assert message.replace("{folder}", str(folder)) in refused(**{"house": HOUSE, "taxi": TAXI} | files)


def test_mistakes_stand_in_the_order_of_the_files() -> None:
    text = refused(house=HOUSE + "x: 1\n", taxi=TAXI + "y: 1\nbatch: {rows: 0}\n")
    assert [line.split(": ")[:2] for line in text.splitlines()] == [
        ["house.yaml:12", "x"],
        ["taxi.yaml:7", "y"],
        ["taxi.yaml:8", "batch.rows"],
    ]


def test_set_names_no_base() -> None:
    assert refused("base=house.yaml", house=HOUSE, taxi=TAXI) == (
        "--set base: stands in job files alone; write a job file with that base"
    )


class TestVariables:
    TAXI = TAXI.replace("path: out", 'path: "gs://b/{region}/{name}"')

    def test_they_fill_all_texts(self) -> None:
        house = HOUSE.replace("in/*", "in-{region}/*").replace("units: 16", 'units: "{size}{size}"')
        job = load(
            "model.params.x={size}", variables=("region=eu", "size=a=b {c}"), house=house, taxi=self.TAXI
        )  # fmt: skip
        assert job.output.path == "gs://b/eu/taxi"
        assert job.input.pattern[0].endswith("/in-eu/*.tfrecord")
        assert job.model.params["units"] == "a=b {c}a=b {c}"  # what stands in a value is not filled again

    def test_they_choose_the_base(self) -> None:
        taxi = TAXI.replace("house.yaml", '"{kind}.yaml"')
        assert load(variables=("kind=house",), house=HOUSE, taxi=taxi).batch.rows == 512

    def test_the_last_one_counts(self) -> None:
        assert load(variables=("region=eu", "region=us"), house=HOUSE, taxi=self.TAXI).output.path == "gs://b/us/taxi"

    @pytest.mark.parametrize(
        ("variables", "message"),
        [
            ((), "taxi.yaml:6: output.path: {region} is no placeholder; for the braces themselves write {{region}}; known are run_date, name; --var region=... makes it one"),
            (("size=1",), "{region} is no placeholder; for the braces themselves write {{region}}; known are run_date, name, size;"),
            (("regoin=eu",), "taxi.yaml:6: output.path: {region} is no placeholder; did you mean {regoin}?"),
            (("region=eu", "size=1"), "--var size: the job file has no {size}; its placeholders: {name}, {region}"),
            (("region",), "--var region: expected name=value, such as --var region=eu"),
            (("a-b=eu",), "--var a-b=eu: expected name=value"),
            (("run_date=2024-01-01",), "--var run_date: is given with --run_date YYYY-MM-DD"),
            (("name=other",), "--var name: is the name of the job; override it with --set name=..."),
        ],
        ids=["none", "another", "mistyped", "unused", "no value", "no name", "run_date", "name"],
    )  # fmt: skip
    def test_what_is_refused(self, variables: tuple[str, ...], message: str) -> None:
        assert message in refused(variables=variables, house=HOUSE, taxi=self.TAXI)

    def test_a_placeholder_that_was_replaced_needs_no_value(self) -> None:
        job = load(house=HOUSE.replace("in/*", "in-{region}/*"), taxi=TAXI + "input: {pattern: a/*.tfrecord}\n")
        assert job.input.pattern[0].endswith("/a/*.tfrecord")


@pytest.mark.parametrize("command", ["score", "check", "explain", "record", "fit"])
def test_every_command_with_a_job_takes_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(house=HOUSE, taxi=TestVariables.TAXI + "batch: {rows: 0}\n")
    row = ["--row", "a:1"] if command == "explain" else []
    arguments: list[Any] = [command, "--config", "taxi.yaml", "--var", "region=eu", "--var", "size=1", *row]
    assert main(arguments) == 2
    assert "--var size: the job file has no {size}" in capsys.readouterr().err
