"""A Flink cluster of this machine, with a pool of workers in this Python environment:

python tests/flink_cluster.py                            until Ctrl-C
python tests/flink_cluster.py bash -c 'estimator-score score --config configs/digits.yaml $FLINK_OPTIONS'
python tests/flink_cluster.py --fetch                    only download what it needs

A JobManager and two TaskManagers with two slots each, started from the files of Flink's Python packages. What was
downloaded and built (Flink, and Beam's job server as one jar) stays in FLINK_CACHE, or ~/.cache/estimator-score. Needs
Java 11 or 17, Maven and pip; no process is left behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
import yaml

FLINK = "1.19.3"
ROOT = Path(__file__).resolve().parent.parent
POM = Path(__file__).resolve().parent / "data" / "flink_job_server" / "pom.xml"
TASK_MANAGERS, SLOTS = 2, 2
_START_SECONDS = 90.0
_POOL = """
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer, main
BeamFnExternalWorkerPoolServicer.StopWorker = lambda *_: beam_fn_api_pb2.StopWorkerResponse()
main()
"""
"""Beam's pool, shared by two TaskManagers, which it is not made for: both call their workers by the same names, so that one
would stop those of the other. A worker ends by itself when its TaskManager hangs up."""


class FlinkCluster:
    """A cluster that runs while the context is open; its logs are in `folder`.

    python: of the worker pool.
    """

    def __init__(self, folder: Path, python: str = sys.executable):
        self._folder, self._python = folder, python
        self._rest, self._rpc, self._pool = _free_ports(3)
        self.url = f"http://localhost:{self._rest}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def options(self, *more: str) -> list[str]:
        """Options of `score` for this cluster."""
        return [
            "--runner=FlinkRunner",
            f"--flink_master=localhost:{self._rest}",
            "--flink_version=1.19",
            f"--flink_job_server_jar={job_server_jar()}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{self._pool}",
            *more,
        ]

    def get(self, path: str) -> Any:
        """What the REST interface answers."""
        response = requests.get(f"{self.url}/v1/{path}", timeout=10)
        response.raise_for_status()
        return response.json()

    def __enter__(self) -> FlinkCluster:
        home, conf = flink_home(), self._folder / "conf"
        job_server_jar()
        shutil.copytree(home / "conf", conf)
        settings = _flat(yaml.safe_load((conf / "config.yaml").read_text())) | {
            "jobmanager.rpc.port": self._rpc,
            "rest.port": self._rest,
            "taskmanager.numberOfTaskSlots": SLOTS,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 20,
            "restart-strategy.fixed-delay.delay": "3 s",
            "io.tmp.dirs": str(self._folder / "tmp"),
        }
        (conf / "config.yaml").write_text(yaml.safe_dump(settings))
        (self._folder / "tmp").mkdir()
        try:
            self._start_pool()
            self._start_flink("jobmanager", "jobmanager.sh", "start-foreground")
            for number in range(TASK_MANAGERS):
                self.start_task_manager(number)
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process of the cluster, and the workers that the pool has started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes.values():
                _signal_group(process, number)
            until = time.monotonic() + 10
            for process in self.processes.values():
                try:
                    process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue

    def start_task_manager(self, number: int) -> None:
        """Start a TaskManager, also in place of one that was killed; its name on the cluster is that of its process."""
        name = f"taskmanager{number}"
        self._start_flink(name, "taskmanager.sh", "start-foreground", f"-Dtaskmanager.resource-id={name}")

    def _start_flink(self, name: str, script: str, *arguments: str) -> None:
        home, conf, own = str(flink_home()), str(self._folder / "conf"), str(self._folder)
        flink = {"FLINK_HOME": home, "FLINK_CONF_DIR": conf, "FLINK_LOG_DIR": own, "FLINK_PID_DIR": own}
        self._start(name, [str(flink_home() / "bin" / script), *arguments], flink)

    def _start_pool(self) -> None:
        """Start the worker pool, which starts its workers by the first `python` on PATH."""
        command = [self._python, "-c", _POOL, f"--service_port={self._pool}"]
        path = os.pathsep.join([str(Path(self._python).parent), os.environ["PATH"]])
        self._start("pool", command, {"PATH": path})

    def kill(self, name: str) -> None:
        """Kill a process of the cluster, and all that it has started."""
        _signal_group(self.processes[name], signal.SIGKILL)
        self.processes[name].wait()

    def log(self, name: str) -> Path:
        """What a process has said."""
        return self._folder / f"{name}.said"

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with self.log(name).open("ab") as said:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,  # a checkout that is not installed is found from here
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until every TaskManager has come."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log(name).read_text()[-2000:]}")
            try:
                if self.get("overview")["slots-total"] == TASK_MANAGERS * SLOTS:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.5)
        raise RuntimeError(f"the cluster was not there after {_START_SECONDS:.0f} s; see {self._folder}")


def cache() -> Path:
    """The folder of what was downloaded and built."""
    folder = Path(os.environ.get("FLINK_CACHE") or Path.home() / ".cache" / "estimator-score")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def flink_home() -> Path:
    """Flink, unpacked: its jars are in one of its Python packages, its scripts and settings in the other."""
    home = cache() / f"flink-{FLINK}"
    if home.exists():
        return home
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        folder = Path(name)
        _download(folder, f"apache-flink-libraries=={FLINK}", "--no-binary=:all:")
        linux = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64"]
        _download(folder, f"apache-flink=={FLINK}", *linux)
        (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        with zipfile.ZipFile(wheel) as files:
            wanted = [file for file in files.namelist() if file.startswith(("pyflink/bin/", "pyflink/conf/"))]
            files.extractall(folder, wanted)
        (unpacked,) = folder.glob("apache-flink-libraries-*/deps")
        for part in ("bin", "conf"):
            shutil.copytree(folder / "pyflink" / part, unpacked / part, dirs_exist_ok=True)
        for script in (unpacked / "bin").glob("*.sh"):
            script.chmod(0o755)
        unpacked.rename(home)
    return home


def job_server_jar() -> Path:
    """Beam's job server for this Flink, with all that it needs."""
    jar = cache() / "beam-flink-1.19-job-server.jar"
    if not jar.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as name:
            shutil.copy(POM, name)
            subprocess.run(["mvn", "-q", "-B", "package"], cwd=name, check=True)
            (Path(name) / "target" / "flink-job-server-1.jar").rename(jar)
    return jar


def _download(folder: Path, package: str, *options: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *options, "-d", str(folder), package]
    subprocess.run(command, check=True)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def main() -> int:
    if sys.argv[1:] == ["--fetch"]:
        print(flink_home(), job_server_jar(), sep="\n")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, FlinkCluster(Path(folder)) as cluster:
        try:
            options = " ".join(cluster.options())
            if sys.argv[1:]:
                return subprocess.run(sys.argv[1:], env={**os.environ, "FLINK_OPTIONS": options}).returncode
            print(f"{cluster.url} runs until Ctrl-C; score with\n{options}", flush=True)
            signal.pause()
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
