"""What many tests need: TensorFlow's C++ library says less, so that a failure can be read; models trained, a transform saved."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from memory_store import root  # noqa: F401  a fixture
from object_stores import _reached, bucket, google_emulator, line, pauses, s3_emulator, store  # noqa: F401  fixtures

if TYPE_CHECKING:
    from portable_runners import ScoredDigits
    from record_job import Check
    from runs import RunServer
    from scenes import Scene
    from zoo import Kind

    import transforms

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported, so before any test module is


def pytest_configure() -> None:
    """Take Ctrl-C, and let processes that tests start take it, also where a script without job control runs the tests."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep the garbage collector away from what was imported, which stays: it would take a twentieth of the time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries in C++ would print, behind the closing line, that all which is frozen was leaked."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def model_dir_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], str]:
    """The `model_dir` of a kind, which is trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("zoo")

    def model_dir(kind: Kind) -> str:
        path = folder / kind.name
        if not path.exists():
            kind.train(str(path))
        return str(path)

    return model_dir


@pytest.fixture(scope="session")
def linear_model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The `model_dir` of the tabular model of `linear_model.py`, trained."""
    import pipeline.tf_estimator  # noqa: F401, I001  makes tf.estimator exist
    import linear_model

    path = str(tmp_path_factory.mktemp("linear") / "model")
    linear_model.train(path)
    return path


@pytest.fixture(scope="session")
def scaler_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a `saved_transforms.Scaler`."""
    import saved_transforms
    import tensorflow as tf

    path = str(tmp_path_factory.mktemp("scaler") / "transform")
    tf.saved_model.save(saved_transforms.Scaler(), path)
    return path


@pytest.fixture(scope="session")
def scaler(scaler_path: str) -> transforms.Transform:
    import transforms

    return transforms.load(scaler_path)


@pytest.fixture(scope="session")
def run_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunServer]:
    """Starts runs as processes of their own, to be disturbed."""
    from runs import RunServer

    server = RunServer(tmp_path_factory.mktemp("runs"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def disturbed_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of those runs."""
    import bad_inputs

    return bad_inputs.train(tmp_path_factory.mktemp("disturbed"))


@pytest.fixture(scope="session")
def fresh(run_server: RunServer, tmp_path_factory: pytest.TempPathFactory, disturbed_model_dir: Path) -> Scene:
    """A job with nothing at its output."""
    from scenes import Scene

    folder = tmp_path_factory.mktemp("fresh")
    return Scene(run_server, folder, disturbed_model_dir, str(folder / "out"))


@pytest.fixture(scope="session")
def over(run_server: RunServer, tmp_path_factory: pytest.TempPathFactory, disturbed_model_dir: Path) -> Scene:
    """A job that replaces an older output with more shards."""
    from scenes import Scene

    folder = tmp_path_factory.mktemp("over")
    return Scene(run_server, folder, disturbed_model_dir, str(folder / "out"), is_over=True)


@pytest.fixture(params=["fresh", "over"])
def scene(request: pytest.FixtureRequest) -> Scene:
    """A job whose runs are disturbed, once of either kind."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def trained_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the trainer of `record_model.py` leaves: transform, model and record; and shards of rows."""
    import record_job

    folder = tmp_path_factory.mktemp("recorded") / "trainer"
    folder.mkdir()
    record_job.train_elsewhere(folder)
    return folder


@pytest.fixture
def recorded(trained_elsewhere: Path, tmp_path: Path) -> Path:
    """A copy of all that in another place, to be changed."""
    return Path(shutil.copytree(trained_elsewhere, tmp_path / "elsewhere"))


@pytest.fixture
def threads_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes back what a run of several processes says to libraries of this one."""
    import pyarrow as pa

    count = pa.cpu_count()
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "")  # so that it is put back whether it was there or not
        monkeypatch.delenv(variable)
    yield
    pa.set_cpu_count(count)


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the command `check`."""
    from record_job import Check

    return Check(capsys)


@pytest.fixture
def write_side(tmp_path: Path) -> Callable[..., str]:
    """Writes a table as a side of `compare`, by a name in `tmp_path`; see `compare_tables.write_side`."""
    import compare_tables

    return partial(compare_tables.write_side, tmp_path)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ScoredDigits:
    """The example of the digits, see `portable_runners.ScoredDigits`."""
    from portable_runners import ScoredDigits

    return ScoredDigits(tmp_path_factory.mktemp("digits"))
