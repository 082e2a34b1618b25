"""The process that user code runs in: `env` and `setup`, in the launcher and in every process that scores."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import code_job
import code_model
import pytest
from code_job import flags_as_before  # noqa: F401  a fixture
from staged_job import snapshot

from pipeline import environment
from pipeline.code import add_user_code
from pipeline.environment import enter_environment, set_variables
from pipeline.errors import JobError, ModelError
from pipeline.job.file import load_job
from pipeline.manifest import read_manifest
from pipeline.scoring import close_scorers, open_scorer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "production"
    code_model.train(folder)
    return folder


@pytest.fixture(autouse=True)
def _own_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of a test is left behind."""
    before = dict(os.environ)
    monkeypatch.setattr(environment, "_before", {})
    yield
    os.environ.clear()
    os.environ.update(before)


def test_every_process_gets_all_of_it(production: Path, tmp_path: Path) -> None:
    """The variables are there before TensorFlow is imported; code, flags, files and the set-up are the same in two processes."""
    log, laid = tmp_path / "log", tmp_path / "laid" / "words.txt"
    log.mkdir()
    model = {
        "argv": ["--vocabulary={assets.words}", "--factor=2"],
        "args": {"offsets": "{assets.offsets}", "places": [str(laid)]},
        "assets": {"words": "words.txt", "offsets": "offsets.json", str(laid): "words.txt"},
    }
    config = code_job.write_job(
        production,
        shards=4,
        model=model,
        env={"MODEL_SHIFT": "0.5", "MODEL_LOG": str(log), "TF_EARLY": "{assets.words}"},
        setup="code_model:set_up",
    )
    before = snapshot(production / "model")
    look = """
import os, sys
class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            print("TF_EARLY at the import of TensorFlow:", os.path.basename(os.environ.get("TF_EARLY", "none")))
sys.meta_path.insert(0, Look())
from pipeline.commands import main
sys.exit(main(sys.argv[1:]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", look, "score", "--config", config, "--quiet", "--workers", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "TF_EARLY at the import of TensorFlow: words.txt\n"
    logs = [json.loads(path.read_text(encoding="utf-8")) for path in log.iterdir()]
    words = (production / "words.txt").read_text(encoding="utf-8")
    assert logs == [{"shift": 0.5, "set_up": 1, "factor": 2, "tags": [], "words": [words, words]}] * 2
    assert snapshot(production / "model") == before

    plain = code_job.prepared(code_job.write_job(production, output={"path": str(tmp_path / "plain")}))
    expected = [score + 0.5 + 11 for score in code_job.scored(plain)]
    assert code_job.written(production) == pytest.approx(expected, abs=1e-5)
    manifest = read_manifest(str(production / "out"))
    assert manifest is not None
    assert set(manifest["job"]["env"]) == {"MODEL_SHIFT", "MODEL_LOG", "TF_EARLY"}
    assert all(value.startswith("sha256:") for value in manifest["job"]["env"].values())
    assert manifest["settings"]["environment"]


def test_they_travel_to_a_worker_of_another_machine(production: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has neither the variables nor the module yet."""
    config = code_job.write_job(production, env={"MODEL_SHIFT": "0.25"})
    monkeypatch.delitem(sys.modules, "code_model")
    try:
        spec = pickle.loads(pickle.dumps(code_job.prepared(config).spec))
        assert sys.modules["code_model"].SHIFT == 0.25
        close_scorers()
        del os.environ["MODEL_SHIFT"], sys.modules["code_model"]
        monkeypatch.setattr(environment, "_before", {})
        open_scorer(spec)
        assert (os.environ["MODEL_SHIFT"], sys.modules["code_model"].SHIFT) == ("0.25", 0.25)
    finally:
        close_scorers()


def test_variables_are_part_of_the_settings(production: Path) -> None:
    keys = set()
    for env in ({}, {"SEEN_BY_MODEL": "1"}, {"SEEN_BY_MODEL": "2"}):
        settings = load_job(code_job.write_job(production, env=env)).settings()
        keys.add(json.dumps(settings.get("env", {})))
        assert not any(value in ("1", "2") for value in settings.get("env", {}).values())
    assert len(keys) == 3


def test_those_of_another_job_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAS_THERE", "before")
    set_variables({"WAS_THERE": "now", "IS_NEW": "1"}, [])
    assert (os.environ["WAS_THERE"], os.environ["IS_NEW"]) == ("now", "1")
    set_variables({"IS_NEW": "2"}, [])
    assert (os.environ["WAS_THERE"], os.environ["IS_NEW"]) == ("before", "2")
    set_variables({}, [])
    assert (os.environ["WAS_THERE"], os.environ.get("IS_NEW")) == ("before", None)


@pytest.mark.parametrize(
    ("name", "modules", "message"),
    [
        pytest.param(
            "TF_ANYTHING", [], "TF_ANYTHING would come too late: this process has imported TensorFlow", id="TensorFlow"
        ),
        pytest.param(
            "SEEN_BY_MODEL", ["json"], "SEEN_BY_MODEL would come too late: .* imported json already", id="code"
        ),
    ],
)
def test_a_variable_that_comes_too_late(
    name: str, modules: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match=message):
        set_variables({name: "1"}, modules)
    assert name not in os.environ
    monkeypatch.setenv(name, "1")
    set_variables({name: "1"}, modules)  # it is what it should be


SET_UPS = """
times = 0
def once():
    global times
    times += 1
def wants(path):
    pass
def fails():
    raise ValueError("no licence")
"""


@pytest.fixture
def set_ups(production: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "set_ups.py").write_text(SET_UPS, encoding="utf-8")
    monkeypatch.setattr(environment, "_set_up", set())
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "set_ups", raising=False)
    add_user_code([str(tmp_path / "set_ups.py")])
    return code_job.write_job(production)


def test_setup_is_called_once_a_process(set_ups: str) -> None:
    job = load_job(set_ups).model_copy(update={"setup": "set_ups:once"})
    job = job.model_copy(update={"model": job.model.model_copy(update={"argv": None})})
    for _ in range(3):
        enter_environment(job)
    assert sys.modules["set_ups"].times == 1


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        pytest.param("wants", JobError, "setup: set_ups:wants is called without arguments: .*'path'", id="arguments"),
        pytest.param("fails", ModelError, r"setup: set_ups:fails: .*set_ups.py:9: ValueError: no licence", id="fails"),
        pytest.param("absent", JobError, "setup: .*set_ups.py has no 'absent'", id="absent"),
    ],
)
def test_setup_that_cannot_be_called(set_ups: str, function: str, error: type[Exception], message: str) -> None:
    job = load_job(set_ups).model_copy(update={"setup": f"set_ups:{function}"})
    with pytest.raises(error, match=message):
        enter_environment(job)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        pytest.param({"DB_PASSWORD": "x"}, "env.DB_PASSWORD: looks like a secret", id="secret"),
        pytest.param({"GOOGLE_APPLICATION_CREDENTIALS": "x"}, "CREDENTIALS: looks like a secret", id="credentials"),
        pytest.param({"PYTHONPATH": "x"}, "env.PYTHONPATH: is read where a process starts", id="read at start"),
        pytest.param({"A-B": "x"}, "env.A-B: is no name of a variable", id="name"),
        pytest.param({"A": 1}, r"env.A: expected text, got a whole number \(1\)", id="number"),
    ],
)
def test_variables_that_are_refused(production: Path, env: dict[str, object], message: str) -> None:
    with pytest.raises(JobError, match=message):
        load_job(code_job.write_job(production, env=env))
