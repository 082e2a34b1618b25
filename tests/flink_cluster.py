"""A Flink cluster of this machine, with pools of workers in this Python environment:

python tests/flink_cluster.py                            until Ctrl-C
python tests/flink_cluster.py bash -c 'estimator-score score --config configs/digits.yaml $FLINK_OPTIONS'
python tests/flink_cluster.py --fetch                    only download what it needs

A JobManager and two TaskManagers with two slots each, started from the files of Flink's Python packages. What was
downloaded and built (Flink, and Beam's job server as one jar) stays in FLINK_CACHE, or ~/.cache/estimator-score. Needs
Linux, Java 11 or 17, Maven and pip; no process is left behind.

Each TaskManager has a pool of its own, as it has in a pod with a sidecar: Beam calls the workers of every TaskManager `1-1`,
`2-1` and so on, and a pool that several share ends those of the one for the other. Here the pools listen on 127.0.0.1 and
127.0.0.2, and each TaskManager takes POOL_HOST for the address of its own.
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
_START_SECONDS = 240.0
POOL_HOST = "worker-pool"
_POOL = """
import sys
import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance
server = grpc.server(shared_unbounded_instance())
pool = BeamFnExternalWorkerPoolServicer(use_process=True, data_buffer_time_limit_ms=-1)
beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
"""
"""`worker_pool_main` of Beam for one address; that listens on all."""


class Unavailable(Exception):
    """What the cluster needs cannot be had here; the message names it."""


class FlinkCluster:
    """A cluster that runs while the context is open; its logs are in `folder`.

    python: of the worker pools.
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
            f"--environment_config={POOL_HOST}:{self._pool}",
            *more,
        ]

    def get(self, path: str) -> Any:
        """What the REST interface answers."""
        response = requests.get(f"{self.url}/v1/{path}", timeout=10)
        response.raise_for_status()
        return response.json()

    def __enter__(self) -> FlinkCluster:
        home, conf = flink_home(), self._folder / "conf"
        shutil.copytree(home / "conf", conf)
        settings = _flat(yaml.safe_load((conf / "config.yaml").read_text())) | {
            "jobmanager.rpc.port": self._rpc,
            "rest.port": self._rest,
            "taskmanager.numberOfTaskSlots": SLOTS,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 4,
            "restart-strategy.fixed-delay.delay": "4 s",
            "heartbeat.interval": 1500,  # so that a lost TaskManager is known after 3 s and not 20
            "io.tmp.dirs": str(self._folder / "tmp"),
        }
        (conf / "config.yaml").write_text(yaml.safe_dump(settings))
        (self._folder / "tmp").mkdir()
        try:
            self._start_flink("jobmanager", "jobmanager.sh")
            for number in range(TASK_MANAGERS):
                self._start_pool(number)
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
        name, hosts = f"taskmanager{number}", self._folder / f"hosts{number}"
        hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n{_pool_address(number)} {POOL_HOST}\n")
        java = {"FLINK_ENV_JAVA_OPTS_TM": f"-Djdk.net.hosts.file={hosts}"}
        self._start_flink(name, "taskmanager.sh", f"-Dtaskmanager.resource-id={name}", environment=java)

    def _start_flink(self, name: str, script: str, *options: str, environment: Mapping[str, str] | None = None) -> None:
        home, conf, own = str(flink_home()), str(self._folder / "conf"), str(self._folder)
        flink = {"FLINK_HOME": home, "FLINK_CONF_DIR": conf, "FLINK_LOG_DIR": own, "FLINK_PID_DIR": own}
        command = [str(flink_home() / "bin" / script), "start-foreground", *options]
        self._start(name, command, {**flink, **(environment or {})})

    def _start_pool(self, number: int) -> None:
        """Start a worker pool, which starts its workers by the first `python` on PATH."""
        command = [self._python, "-c", _POOL, f"{_pool_address(number)}:{self._pool}"]
        path = os.pathsep.join([str(Path(self._python).parent), os.environ["PATH"]])
        self._start(f"pool{number}", command, {"PATH": path})

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


def fetch() -> None:
    """Download and build what is not there yet. Raises Unavailable."""
    if shutil.which("java") is None:
        raise Unavailable("Java 11 or 17: there is no java on PATH")
    flink_home()
    job_server_jar()


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
            _fetch("org.apache.beam:beam-runners-flink-1.19 of Maven Central", ["mvn", "-q", "-B", "package"], name)
            (Path(name) / "target" / "flink-job-server-1.jar").rename(jar)
    return jar


def _download(folder: Path, package: str, *options: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *options, "-d", str(folder), package]
    _fetch(f"{package} of PyPI", command, folder)


def _fetch(what: str, command: Sequence[str], folder: str | Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "output", None) or str(error)
        raise Unavailable(f"{what}: {' '.join(said.split())[-300:]}") from error


def _pool_address(number: int) -> str:
    return f"127.0.0.{number + 1}"


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
    fetch()
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
