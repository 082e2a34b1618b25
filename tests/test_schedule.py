"""The schedulers' files in configs/schedule: what they say is parsed, held against the command line, and run."""

from __future__ import annotations

import configparser
import fcntl
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import schedule_home
import yaml
from schedule_home import HOME, ROOT, SCHEDULE, Home

from pipeline import commands
from pipeline.errors import (
    BudgetError,
    CountError,
    InputError,
    JobError,
    ModelError,
    OutputError,
    ScoringError,
    StorageError,
)
from pipeline.job.file import load_job

pytestmark = pytest.mark.any_tensorflow

DATE = "2024-05-01"
UNITS = ("digits-nightly@.service", "digits-nightly.timer")


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(SCHEDULE / name)
    return parser


def service_command(instance: str) -> list[str]:
    """The words that systemd runs for an instance of the service."""
    line = unit(UNITS[0])["Service"]["ExecStart"]
    escapes = {"%%": "%", "$$": "$", "%i": instance}
    return shlex.split(re.sub(r"%%|\$\$|%i", lambda match: escapes[match[0]], line))


def cron_line() -> tuple[str, str, str]:
    """When, who, and the command that cron gives to sh."""
    (line,) = (line for line in (SCHEDULE / "digits-nightly.cron").read_text().splitlines() if re.match(r"[\d*]", line))
    *when, user, command = line.split(maxsplit=6)
    assert not re.search(r"(?<!\\)%", command), "cron ends a command at a bare %"
    return " ".join(when), user, command.replace(r"\%", "%")


def cron_job() -> Any:
    return yaml.safe_load((SCHEDULE / "digits-nightly.cronjob.yaml").read_text())


def container() -> Any:
    (found,) = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return found


def shell_commands() -> list[Any]:
    """What sh is given by each scheduler."""
    pod = container()
    service = service_command(DATE)
    assert service[:2] == ["/bin/sh", "-c"]
    assert pod["command"] == ["/bin/sh", "-c"]
    (script,) = pod["args"]
    return [
        pytest.param(service[2], id="systemd"),
        pytest.param(cron_line()[2], id="cron"),
        pytest.param(script.replace("$$(", "$("), id="kubernetes"),
    ]


def printed(script: str, environment: dict[str, str] | None = None) -> list[str]:
    """The words that a script hands to estimator-score."""
    head, _, options = script.partition("estimator-score score ")
    assert head == "exec " or HOME in head
    told = subprocess.run(
        ["sh", "-c", rf"printf '%s\n' score {options}"], capture_output=True, text=True, check=True, env=environment
    )
    return told.stdout.splitlines()


def yesterday() -> str:
    return (datetime.now(timezone.utc) - timedelta(days=1)).strftime("%Y-%m-%d")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, linear_model_dir: str) -> Home:
    home = Home.make(tmp_path_factory.mktemp("home"), linear_model_dir)
    home.lay(yesterday())
    return home


class TestEveryScheduler:
    @pytest.mark.parametrize("script", shell_commands())
    def test_its_command_is_taken_by_the_parser(self, script: str) -> None:
        words = printed(script)
        known, rest = commands._parser().parse_known_args(words)
        assert (known.command, rest) == ("score", [])
        assert Path(known.config).name == "nightly.yaml"
        assert known.run_date in (DATE, yesterday())
        assert known.report

    @pytest.mark.parametrize(
        "text",
        [text for path in sorted(SCHEDULE.iterdir()) for text in re.findall(rf"{HOME}(/configs/[\w./-]+)", path.read_text())],
    )  # fmt: skip
    def test_files_named_are_there(self, text: str) -> None:
        assert (ROOT / text.lstrip("/")).is_file()

    def test_the_head_tells_the_command_that_installs_it(self) -> None:
        installed = {path.name for path in SCHEDULE.glob("digits*")}
        heads = [re.split(r"\n\n(?=[\[M]|api|from)", (SCHEDULE / name).read_text())[0] for name in installed]
        lines = "\n".join(line for head in heads for line in re.findall(r"\b(?:install|apply) .*", head))
        assert set(re.findall(r"configs/schedule/([\w.@-]+)", lines)) == installed

    def test_exit_codes_that_a_retry_cannot_mend(self) -> None:
        final = {error.exit_code for error in (JobError, BudgetError, CountError, ModelError, OutputError)}
        assert not final & {error.exit_code for error in (ScoringError, InputError, StorageError)}
        (fails, ignored) = cron_job()["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
        assert fails == {
            "action": "FailJob",
            "onExitCodes": {"containerName": container()["name"], "operator": "In", "values": sorted(final)},
        }
        assert ignored["action"] == "Ignore"
        prevented = unit(UNITS[0])["Service"]["RestartPreventExitStatus"]
        assert {int(code) for code in prevented.split()} == final


def test_a_date_that_is_not_given(home: Home) -> None:
    message = "{run_date} has no value; give it with --run_date YYYY-MM-DD"
    with pytest.raises(JobError, match=re.escape(message)):
        load_job(str(home.nightly))
    assert f"`{message}`" in (ROOT / "docs" / "schedule.md").read_text()


def test_paths_of_the_job_are_of_the_date(home: Home) -> None:
    job = load_job(str(home.nightly), DATE)
    assert job.input.pattern == [f"{home.folder}/work/digits/days/{DATE}/*.tfrecord"]
    assert job.output.path == str(home.output(DATE))
    assert (job.output.if_exists, job.input.ready, job.input.require_complete) == ("skip", "_SUCCESS", True)


class TestSystemd:
    def test_the_timer_starts_the_service_for_yesterday(self) -> None:
        timer, install = unit(UNITS[1])["Timer"], unit(UNITS[1])["Install"]
        assert timer["Unit"] == UNITS[0].replace("@", "@yesterday")
        assert (timer["Persistent"], timer["OnCalendar"]) == ("true", "*-*-* 05:00:00 UTC")
        assert install["WantedBy"] == "timers.target"

    @pytest.mark.parametrize(("instance", "date"), [(DATE, DATE), ("yesterday", None)])
    def test_the_instance_is_the_date(self, instance: str, date: str | None) -> None:
        words = printed(service_command(instance)[2])
        assert words[words.index("--run_date") + 1] == (date or yesterday())
        assert words[-1] == f"/var/log/estimator-score/digits-{instance}.json"

    def test_a_run_is_one_shot_that_is_restarted_a_few_times(self) -> None:
        section = unit(UNITS[0])["Service"]
        assert (section["Type"], section["Restart"], section["LogsDirectory"]) == (
            "oneshot",
            "on-failure",
            "estimator-score",
        )
        assert int(unit(UNITS[0])["Unit"]["StartLimitBurst"]) == 5

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
    def test_systemd_takes_the_units(self, tmp_path: Path) -> None:
        for name in UNITS:
            shutil.copy(SCHEDULE / name, tmp_path)
        wrong = (SCHEDULE / UNITS[0]).read_text().replace("Type=oneshot", "Type=oneshoot")
        (tmp_path / "wrong@.service").write_text(wrong)

        def told(*names: str) -> str:
            paths = [str(tmp_path / name) for name in names]
            verified = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True)
            return "\n".join(line for line in verified.stderr.splitlines() if str(tmp_path) in line)

        assert "oneshoot" in told("wrong@yesterday.service")
        assert told("digits-nightly@yesterday.service", "digits-nightly.timer") == ""


class TestCron:
    @staticmethod
    def start(home: Home) -> subprocess.CompletedProcess[str]:
        """Start the line as cron does."""
        command = home.here(cron_line()[2]).replace("/var/log/estimator-score", str(home.folder))
        environment = {"HOME": str(home.folder), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
        environment["PYTHONWARNINGS"] = "ignore"  # of the model, which TensorFlow 2.15 gives
        return subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, timeout=100)

    @pytest.mark.skipif(shutil.which("flock") is None, reason="no flock on this machine")
    def test_a_line_that_is_started_several_times(self, home: Home) -> None:
        date = yesterday()
        with (home.folder / "digits.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier start that is at work
            beside = self.start(home)
            assert (beside.returncode, beside.stdout, beside.stderr) == (1, "", "")
            assert not (home.folder / "digits.json").exists()
            assert not home.output(date).exists()
        first = self.start(home)
        assert first.returncode == 0, first.stderr
        assert schedule_home.report(home.folder / "digits.json")["status"] == "done"
        assert home.scored(date) == 2 * schedule_home.ROWS
        run_id = home.run_id(date)
        again = self.start(home)
        assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
        assert schedule_home.report(home.folder / "digits.json")["status"] == "skipped"
        assert home.run_id(date) == run_id
        assert (first.stdout, first.stderr) == ("", ""), "cron mails what is said"

    def test_the_later_starts_are_the_retries(self) -> None:
        when, user, command = cron_line()
        assert (when, user) == ("0 5-8 * * *", "scoring")
        assert command.startswith("flock -n ")


class TestKubernetes:
    def test_one_run_at_a_time_and_none_that_is_missed(self) -> None:
        job = cron_job()
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
        spec = job["spec"]
        assert (spec["concurrencyPolicy"], spec["timeZone"], spec["schedule"]) == ("Forbid", "Etc/UTC", "0 5 * * *")
        assert spec["startingDeadlineSeconds"] == 3600

    def test_a_pod_is_retried_by_the_job_alone(self) -> None:
        job = cron_job()["spec"]["jobTemplate"]["spec"]
        assert job["backoffLimit"] == 4
        assert job["template"]["spec"]["restartPolicy"] == "Never"

    def test_the_job_file_is_mounted(self) -> None:
        pod = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (mount,), (volume,) = container()["volumeMounts"], pod["volumes"]
        assert mount["name"] == volume["name"]
        assert f"{mount['mountPath']}/nightly.yaml" in container()["args"][0]
        assert volume["configMap"]["name"] == cron_job()["metadata"]["name"]

    @pytest.mark.parametrize(("environment", "date"), [({"RUN_DATE": DATE}, DATE), ({}, None)], ids=["given", "none"])
    def test_another_date_is_given_by_the_environment(self, environment: dict[str, str], date: str | None) -> None:
        words = printed(container()["args"][0].replace("$$(", "$("), {"PATH": "/usr/bin:/bin", **environment})
        assert words[words.index("--run_date") + 1] == (date or yesterday())

    @pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
    def test_kubectl_sets_the_date(self) -> None:
        command: Sequence[str] = [
            "kubectl",
            "set",
            "env",
            "--local",
            "-f",
            "digits-nightly.cronjob.yaml",
            f"RUN_DATE={DATE}",
        ]
        told = subprocess.run([*command, "-o", "yaml"], cwd=SCHEDULE, capture_output=True, text=True, check=True)
        pod = yaml.safe_load(told.stdout)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert pod["containers"][0]["env"] == [{"name": "RUN_DATE", "value": DATE}]
        assert pod["containers"][0]["args"] == container()["args"]
