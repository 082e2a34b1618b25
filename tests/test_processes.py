"""How many processes hold a copy of the model: what a runner is told, and what fits into a machine's memory."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import DebugOptions, PortableOptions
from linear_job import job_settings, write_job, write_shards

from pipeline import machine
from pipeline.commands import main
from pipeline.errors import JobError, ModelError
from pipeline.job.file import load_job
from pipeline.launch import prepare
from pipeline.memory import Need, peak, usage
from pipeline.plan import match_shards
from pipeline.runner import pipeline_options, processes_asked
from pipeline.scoring import close_scorers, open_scorer

pytestmark = pytest.mark.usefixtures("threads_as_before")

GIB = 2**30
MANY = ["--direct_running_mode=multi_processing", "--direct_num_workers=3"]
DATAFLOW = [
    "--runner=DataflowRunner", "--project=a-project", "--region=a-region", "--temp_location=/tmp",
    "--sdk_container_image=worker:1", "--dataflow_endpoint=http://localhost:1", "--no_auth",
]  # fmt: skip
ONE = "--experiments=no_use_multiple_sdk_containers"


@pytest.mark.parametrize(
    ("arguments", "in_job", "workers", "asked"),
    [
        pytest.param([], None, None, 1, id="in process: one"),
        pytest.param([], 3, None, 3, id="the job file"),
        pytest.param([], 3, 2, 2, id="the command line goes before"),
        pytest.param([], 3, "auto", "auto", id="auto"),
        pytest.param(MANY, 2, None, 3, id="Beam's options"),
        pytest.param(["--direct_running_mode=multi_threading", "--direct_num_workers=4"], 2, None, 1, id="threads"),
        pytest.param(["--runner=FlinkRunner"], None, None, 1, id="Flink: one"),
        pytest.param(["--runner=FlinkRunner"], 4, None, 4, id="Flink: the job file"),
        pytest.param(["--runner=FlinkRunner", "--sdk_worker_parallelism=2"], 4, None, 2, id="Flink: Beam's option"),
        pytest.param(["--runner=FlinkRunner", "--sdk_worker_parallelism=0"], None, None, 0, id="Flink: one a core"),
        pytest.param(["--runner=PortableRunner"], 2, None, 2, id="portable"),
        pytest.param(DATAFLOW, None, None, 0, id="Dataflow: one a core"),
        pytest.param(DATAFLOW, 1, None, 1, id="Dataflow: one a machine"),
        pytest.param([*DATAFLOW, ONE], None, None, 1, id="Dataflow: Beam's option"),
        pytest.param(["--runner=PrismRunner"], None, None, 1, id="Prism"),
    ],
)
def test_what_is_asked(arguments: list[str], in_job: Any, workers: Any, asked: Any) -> None:
    options = pipeline_options(arguments)
    assert processes_asked(options, in_job, workers) == asked
    runner = arguments[0] if arguments else ""
    if "Flink" in runner or "Portable" in runner:
        assert int(options.view_as(PortableOptions).sdk_worker_parallelism) == asked
    if "Dataflow" in runner:
        told = options.view_as(DebugOptions).experiments or []
        assert ("no_use_multiple_sdk_containers" in told) == (asked == 1)


@pytest.mark.parametrize(
    ("arguments", "in_job", "workers", "message"),
    [
        (MANY, None, 2, "--workers says what --direct_num_workers and --direct_running_mode say; keep one"),
        (["--runner=FlinkRunner"], None, 2, "--workers is for this machine; for FlinkRunner set runner.processes_per"),
        (["--runner=FlinkRunner"], "auto", None, "auto goes by the memory of this machine, and FlinkRunner has others"),
        (
            DATAFLOW,
            4,
            None,
            "Dataflow runs one process a core, or 1 a machine, and not 4: leave it out and choose a machine",
        ),
        (["--runner=FlinkRunner", "--sdk_worker_parallelism=two"], None, None, "expected a whole number, got 'two'"),
        (["--runner=PrismRunner"], 2, None, "PrismRunner runs one process a machine, and not 2; leave it out"),
    ],
    ids=["said twice", "workers elsewhere", "auto elsewhere", "Dataflow", "no number", "Prism"],
)
def test_what_is_refused(arguments: list[str], in_job: Any, workers: Any, message: str) -> None:
    with pytest.raises(JobError) as refused:
        processes_asked(pipeline_options(arguments), in_job, workers)
    assert message in str(refused.value)


@pytest.mark.parametrize("number", ["0", "two", "-1", "1.5"])
def test_the_option_takes_numbers_and_auto(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["score", "--config", "job.yaml", "--workers", number])
    assert ended.value.code == 2
    assert "expected a whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("memory", "cores", "fitting"),
    [(64, 4, 4), (23, 4, 3), (22, 4, 2), (10, 4, 1), (1, 4, 1), (64, 1, 1)],
    ids=["cores", "with the reserve", "a gigabyte less", "one", "none does", "one core"],
)
def test_as_many_as_fit(memory: int, cores: int, fitting: int) -> None:
    need = Need(base=1 * GIB, model=5 * GIB, shared=2 * GIB)  # 20 GiB for three, and a tenth of 23 left free
    assert need.as_many_as_fit(memory * GIB, cores) == fitting


def test_the_sum_is_in_the_refusal() -> None:
    need = Need(base=1 * GIB, model=5 * GIB + GIB // 10, shared=GIB // 2)
    need.check(4, 25 * GIB)
    with pytest.raises(ModelError) as refused:
        need.check(4, 16 * GIB)
    assert str(refused.value) == (
        "4 processes of 6.1 GiB (the model 5.1 GiB) each and 0.5 GiB of libraries that they share need 24.9 GiB, this machine "
        "has 16.0 GiB: set runner.processes_per_machine (--workers) to 2, or score on a machine with more memory"
    )
    with pytest.raises(ModelError) as refused:
        need.check(1, 4 * GIB)
    assert str(refused.value) == (
        "1 process of 6.1 GiB (the model 5.1 GiB) and 0.5 GiB of libraries needs 6.6 GiB, this machine has 4.0 GiB: score on a "
        "machine with more memory"
    )


def groups(root: Path, group: str, limits: dict[str, str]) -> str:
    """A tree of control groups as the system shows it; gives its root."""
    for path, text in {"proc/self/cgroup": group, **limits}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return str(root)


V1 = "4:memory:/pod/box\n3:cpu,cpuacct:/pod/box\n2:name=systemd:/pod/box"


@pytest.mark.parametrize(
    ("group", "limits", "mebibytes"),
    [
        pytest.param("0::/", {"sys/fs/cgroup/memory.max": str(100 << 20)}, 100, id="v2"),
        pytest.param("0::/", {"sys/fs/cgroup/memory.max": "max"}, None, id="v2 without a limit"),
        pytest.param("0::/a/b", {"sys/fs/cgroup/a/memory.max": str(50 << 20)}, 50, id="v2 of a group above"),
        pytest.param("0::/host/path", {"sys/fs/cgroup/memory.max": str(70 << 20)}, 70, id="v2 inside a container"),
        pytest.param(
            V1,
            {
                "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": str(80 << 20),
                "sys/fs/cgroup/memory/pod/box/memory.limit_in_bytes": "9223372036854771712",
            },
            80,
            id="v1",
        ),
        pytest.param(V1, {}, None, id="v1 without files"),
    ],
)
def test_memory_of_the_machine(group: str, limits: dict[str, str], mebibytes: int | None, tmp_path: Path) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.memory(groups(tmp_path, group, limits)) == (mebibytes << 20 if mebibytes else physical)


@pytest.mark.parametrize(
    ("group", "limits", "cores"),
    [
        pytest.param("0::/", {"sys/fs/cgroup/cpu.max": "50000 100000"}, 1, id="v2, half a core"),
        pytest.param("0::/", {"sys/fs/cgroup/cpu.max": "250000 100000"}, 3, id="v2, two and a half"),
        pytest.param("0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, 8, id="v2 without a quota"),
        pytest.param(
            V1,
            {
                "sys/fs/cgroup/cpu/pod/box/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu/pod/box/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            2,
            id="v1",
        ),
    ],
)
def test_cores_of_the_machine(
    group: str, limits: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert machine.cores(groups(tmp_path, group, limits)) == cores


def test_memory_of_this_process() -> None:
    before = usage()
    block = bytearray(os.urandom(1 << 20)) * 64
    after = usage()
    assert 60 << 20 <= after.private - before.private < 80 << 20  # other threads free and take some meanwhile
    assert peak() >= after.private + after.shared > len(block)


@pytest.fixture
def job(linear_model_dir: str, tmp_path: Path) -> Path:
    """A job file over three shards."""
    write_shards(tmp_path, 3, 5)
    return write_job(tmp_path, job_settings(tmp_path, linear_model_dir, "processes"))


def score(job: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a run."""
    report = job.with_name("report.json")
    code = main(["score", "--config", str(job), "--quiet", "--report", str(report), *options])
    return code, json.loads(report.read_text(encoding="utf-8"))


def limit(monkeypatch: pytest.MonkeyPatch, processes: float) -> None:
    """Let this machine have the memory of so many processes like this one."""
    now = usage()
    monkeypatch.setattr(machine, "memory", lambda: int(now.shared + processes * now.private))


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 0.5)
    restored: list[str] = []
    monkeypatch.setattr("tensorflow.compat.v1.train.Saver.restore", lambda *_: restored.append("restored"))
    code, report = score(job)
    assert code == 6
    assert restored == []
    assert re.search(
        r"model\.ckpt-20: 1 process of [\d.]+ GiB \(the model 0\.0 GiB\) and .* score on a machine", report["error"]
    )


def test_too_many_processes_are_refused_and_auto_takes_fewer(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    limit(monkeypatch, 1.5)
    code, report = score(job, "--workers", "3")
    assert code == 6
    assert re.match(
        r"3 processes of .* set runner\.processes_per_machine \(--workers\) to 1, or score", report["error"]
    )
    code, report = score(job, "--workers", "auto")
    assert code == 0
    assert report["memory"]["processes_per_machine"] == 1
    assert len(report["memory"]["workers_peak_bytes"]) == 1


def test_a_worker_of_a_cluster_refuses_by_its_own_memory(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_job(str(job))
    spec = prepare(loaded, match_shards(loaded.input)).spec
    close_scorers()
    limit(monkeypatch, 1.5)
    open_scorer(spec)
    close_scorers()
    for processes in (2, 0):  # one a core
        monkeypatch.setattr(machine, "cores", lambda: 2)
        with pytest.raises(ModelError, match=r"2 processes of .* each and .* need .*, this machine has"):
            open_scorer(replace(spec, processes=processes))


@pytest.mark.parametrize(
    ("processes", "row_wise", "share", "threads"),
    [
        (4, False, 2, "2"),
        (4, True, 2, "1"),
        (2, True, 4, "4"),
        (8, False, 1, "1"),
        (20, True, 1, "1"),
        (0, True, 1, "1"),
        (1, True, None, None),
    ],
)
def test_processes_share_the_cores(
    processes: int, row_wise: bool, share: int | None, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches that are scored at once on two cores leave none for a second thread of an operation."""
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "5")
    before = pa.cpu_count()
    machine.share_cores(processes, row_wise)
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == threads
    assert os.environ["TF_NUM_INTEROP_THREADS"] == "5"  # what the user says stands
    assert pa.cpu_count() == (share or before)


@pytest.mark.parametrize(("row_wise", "threads"), [(True, "1"), (False, None)])
def test_one_process_of_two_cores(row_wise: bool, threads: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 2)
    machine.share_cores(1, row_wise)
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == threads
    assert "TF_NUM_INTEROP_THREADS" not in os.environ
