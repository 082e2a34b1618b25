"""Flags of the user's code (`model.argv`): absl's, which those of `tf.compat.v1.app` are too."""

from __future__ import annotations

import sys
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import code_job
import code_model
import pytest
import tensorflow as tf
from absl import flags
from code_job import flags_as_before  # noqa: F401  a fixture

from pipeline import Scorer
from pipeline.commands import main
from pipeline.errors import JobError
from pipeline.flags import parse_flags
from pipeline.job.file import load_job
from pipeline.launch import open_estimator, open_transform
from pipeline.scoring import close_scorers

flags.DEFINE_integer("flag_of_test", 3, "A flag.")
flags.DEFINE_bool("switch_of_test", True, "A switch.")
flags.DEFINE_multi_string("words_of_test", ["none"], "Words.")
flags.DEFINE_string("of_program", "default", "A flag that the program around has.")


def values() -> tuple[int, bool, list[str]]:
    return flags.FLAGS.flag_of_test, flags.FLAGS.switch_of_test, flags.FLAGS.words_of_test


def test_each_call_starts_from_the_defaults() -> None:
    parse_flags(["--flag_of_test=4", "--noswitch_of_test", "--words_of_test=a", "--words_of_test", "b"])
    assert values() == (4, False, ["a", "b"])
    assert tf.compat.v1.app.flags.FLAGS.flag_of_test == 4
    parse_flags(["--words_of_test=c"])
    assert values() == (3, True, ["c"])
    parse_flags([])
    assert values() == (3, True, ["none"])


def test_flags_of_the_program_around_stay() -> None:
    flags.FLAGS(["program", "--of_program=own"])
    parse_flags(["--flag_of_test=5"])
    parse_flags(None)
    assert (flags.FLAGS.of_program, flags.FLAGS.flag_of_test) == ("own", 3)
    flags.FLAGS.unparse_flags()


def test_a_job_without_argv_finds_them_as_in_a_new_process() -> None:
    assert not flags.FLAGS.is_parsed()
    parse_flags(["--flag_of_test=4"])
    parse_flags(None)
    with pytest.raises(flags.UnparsedFlagAccessError):
        _ = flags.FLAGS.flag_of_test


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(
            ["--flag_of_tset=4"],
            "defines no flag 'flag_of_tset'; did you mean 'flag_of_test'\\?; those count",
            id="unknown",
        ),
        pytest.param(
            ["--flag_of_test=4", "--zzz"], "the user's code defines no flag 'zzz'; those count", id="nothing close"
        ),
        pytest.param(["--flag_of_test=x"], "model.argv: flag --flag_of_test=x: invalid literal for int", id="value"),
        pytest.param(["--flag_of_test=4", "train"], "model.argv: 'train' is no flag; write --name=value", id="no flag"),
    ],
)
def test_argv_that_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(JobError, match=message):
        parse_flags(argv)
    parse_flags([])
    assert values() == (3, True, ["none"])


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "production"
    code_model.train(folder)
    return folder


def test_jobs_in_one_process(production: Path) -> None:
    """Each gets its own flags, also a second time, and so does a Scorer."""
    rows, found = dict(code_model.ROWS), []
    for factor in ("--factor=1", "--factor=3", "--factor=1"):
        argv = ["--vocabulary={assets.words}", factor, "--tag=a"]
        with Scorer.from_config(code_job.write_job(production, model={"argv": argv})) as scorer:
            found.append(scorer.score(rows)["score"].to_pylist())
        assert flags.FLAGS.tag == ["a"]
    assert found[0] == found[2]
    assert found[1] == pytest.approx([score + 22 for score in found[0]], abs=1e-5)


def test_a_builder_that_is_called_three_times(production: Path) -> None:
    config = code_job.write_job(production)
    names, scores = [], []
    for _ in range(3):
        prepared = code_job.prepared(config)
        scores.append(code_job.scored(prepared))
        names.append([spec.key for spec in prepared.scorer.model.predictions])
        close_scorers()
    assert scores[0] == scores[1] == scores[2]
    assert names[0] == names[1] == names[2]


def test_an_unknown_flag_of_a_job(production: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--vocabulary={assets.words}", "--facter=2"]
    assert main(["check", "--config", code_job.write_job(production, model={"argv": argv})]) == 2
    assert "model.argv: the user's code defines no flag 'facter'; did you mean 'factor'?" in capsys.readouterr().err


READ = {
    "absl": "from absl import flags",
    "TensorFlow 1": "import tensorflow as tf\nflags = tf.compat.v1.app.flags",
}


@pytest.mark.parametrize("imported", READ, ids=str)
@pytest.mark.parametrize("argv", [None, []], ids=["no argv", "empty argv"])
def test_flags_without_argv(
    production: Path, tmp_path: Path, imported: str, argv: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read where the module is imported, which only `[]` allows: nobody has parsed them."""
    name = f"{imported.split()[0].lower()}_flags_{'given' if argv == [] else 'left_out'}"
    source = f"{READ[imported]}\nflags.DEFINE_string('{name}', 'default', '')\nVALUE = flags.FLAGS.{name}\n"
    (tmp_path / f"{name}.py").write_text(source + "from code_model import build\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["program", "--config", "job.yaml"])
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    model = {"estimator": f"{name}:build", "argv": argv}
    job = load_job(code_job.write_job(production, model=model))
    if argv is None:
        with pytest.raises(JobError, match=r"(UnparsedFlagAccess|UnrecognizedFlag)Error.*model\.argv"):
            open_estimator(open_transform(job)[0])
    else:
        open_estimator(open_transform(job)[0])
        assert sys.modules[name].VALUE == "default"
