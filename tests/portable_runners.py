"""What the tests of Beam's portable runners need beside Python: Prism, Spark's job server, and workers that Beam's boot
program starts. What was downloaded and built stays in RUNNERS_CACHE, or ~/.cache/estimator-score; needs Go, Maven and Java.

python tests/portable_runners.py    only download and build
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apache_beam
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
BEAM = f"github.com/apache/beam/sdks/v2/{{}}@v{apache_beam.__version__}"
PROGRAMS = {"prism": "go/cmd/prism", "container": "python/container"}
LAUNCH = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pipeline.commands import main; sys.exit(main(sys.argv[1:]))"
)
BOOT = """\
#!/bin/sh
unset PYTHONPATH
PATH={python}:$PATH RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 exec {boot} --semi_persist_dir={folder} "$@"
"""


def cache() -> Path:
    """The folder of what was downloaded and built."""
    folder = Path(os.environ.get("RUNNERS_CACHE") or Path.home() / ".cache" / "estimator-score")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def program(name: str) -> Path:
    """A program of Beam's, built from the Go module of the version that is installed: `prism`, or the boot program."""
    path = cache() / f"beam-{apache_beam.__version__}" / name
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            module = BEAM.format(PROGRAMS[name])
            _fetch(module, ["go", "install", module], env={**os.environ, "GOBIN": folder, "GOFLAGS": "-mod=mod"})
            path.parent.mkdir(exist_ok=True)
            os.replace(Path(folder) / name, path)
    return path


def spark_job_server() -> Path:
    """Beam's job server for Spark, with Spark in it."""
    jar = cache() / "beam-spark-3.5-job-server.jar"
    if not jar.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            shutil.copy(ROOT / "tests" / "data" / "spark_job_server" / "pom.xml", folder)
            _fetch(
                "org.apache.beam:beam-runners-spark-3:2.62.0 and Spark 3.5.3",
                ["mvn", "-q", "-B", "package"],
                cwd=folder,
            )
            os.replace(Path(folder) / "target" / "spark-job-server-1.jar", jar)
    return jar


def _fetch(what: str, command: list[str], **more: Any) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{what} is not there, and there is no {command[0]} to get it with")
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode:
        pytest.skip(f"{what} cannot be had: {(done.stderr or done.stdout).strip()[-500:]}")


class ScoredDigits:
    """The example of the digits, trained for a moment, and scored on this machine into `output`."""

    config = ROOT / "configs" / "digits.yaml"

    def __init__(self, folder: Path):
        from examples.digits import train

        self._work, self.output = folder, folder / "local"
        train.train(folder, steps=100)
        score(folder, self.config, self.settings(self.output))

    def settings(self, output: Path) -> dict[str, Any]:
        """Settings of a run into another output."""
        shards, model = self._work / "shards" / "*.tfrecord", self._work / "model"
        return {"input.pattern": shards, "model.model_dir": model, "output.path": output}


class BootedWorkers:
    """Workers that Beam's boot program starts, in a Python environment that has all but this project.

    python: of the environment, which the boot program installs into. staged: where it leaves what was staged.
    """

    def __init__(self, folder: Path):
        environment = folder / "environment"
        venv.create(environment, symlinks=True)
        self.python = environment / "bin" / "python"
        libraries = next(environment.glob("lib/python*/site-packages"))
        (libraries / "of_the_launcher.pth").write_text("".join(f"{path}\n" for path in _site_packages()))
        self.staged = folder / "semi_persistent" / "staged"
        self.boot = folder / "boot"
        self.boot.write_text(
            BOOT.format(python=self.python.parent, boot=program("container"), folder=self.staged.parent)
        )
        self.boot.chmod(0o755)
        self._folder = folder

    def check(self, told: list[dict[str, Any]]) -> None:
        """Of the processes that have told what they imported, at least one is a worker that had everything from staging."""
        workers = [each for each in told if each["pipeline"].startswith(str(self.python.parents[1]))]
        assert workers
        assert all(file.startswith(str(self.staged)) for each in workers for file in each["code"])
        assert {each["words"] for each in workers} == {"beside the code"}

    def wheel(self) -> str:
        """The option that has a wheel of this project staged, for the boot program to install."""
        from pipeline.wheel import write_wheel

        return f"--extra_package={write_wheel(str(self._folder))}"

    def by_process(self) -> list[str]:
        """Options by which a runner starts the boot program."""
        command = json.dumps({"command": str(self.boot)})
        return ["--environment_type=PROCESS", f"--environment_config={command}", self.wheel()]

    @contextmanager
    def by_pool(self) -> Iterator[list[str]]:
        """Options by which a runner asks a pool, which starts the boot program as that of the worker image does."""
        with pool(self._folder, f"--container_executable={self.boot}") as options:
            yield [*options, self.wheel()]


@contextmanager
def pool(folder: Path, *more: str, path: str = "") -> Iterator[list[str]]:
    """A pool of workers, and the options by which a runner asks it.

    more: arguments of Beam's pool. path: goes before PATH, by which it finds its `python`.
    """
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": os.pathsep.join([path, os.environ["PATH"]])}
    with (folder / "pool.said").open("w") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
        )
    try:
        _wait_for(port)
        yield ["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _site_packages() -> list[str]:
    return [path for path in sys.path if path.endswith("site-packages")]


def _wait_for(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("localhost", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def score(
    folder: Path, config: Path, settings: Mapping[str, Any], *options: str, code: int = 0, command: str = "score"
) -> str:
    """Run `score` as a process of its own, with `folder` as its working folder; gives what it said to stderr."""
    set_ = [option for key, value in settings.items() for option in ("--set", f"{key}={value}")]
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, command, "--config", str(config), *set_, *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, said = process.communicate(timeout=300)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a worker that outlives its launcher
    assert process.returncode == code, out + said
    return said


def published(output: Path) -> tuple[list[Any], dict[str, Any]]:
    """The rows of each part, and what the manifest says of all but this very run; all that is temporary is gone."""
    manifest = json.loads((output / "_manifest.json").read_text())
    assert (output / "_SUCCESS").read_text() == manifest["run_id"]
    names = {file["path"] for file in manifest["files"]} | {"_manifest.json", "_SUCCESS"}
    assert {path.name for path in output.iterdir()} == names
    same = ("rows", "schema", "shards", "features", "model", "transform", "versions", "code", "settings")
    parts = [pq.read_table(output / file["path"]) for file in manifest["files"]]
    return parts, {name: manifest[name] for name in same}


if __name__ == "__main__":
    print(program("prism"), program("container"), spark_job_server(), sep="\n")
