"""The user's code on its way to workers: archive, unpacking, and what is said where it is missing or other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from pipeline import progress
from pipeline.errors import JobError
from pipeline.shipment import STAGED_ONLY_BY_BOOT, Shipment

pytestmark = pytest.mark.any_tensorflow

ROOT = Path(__file__).resolve().parent.parent
IMPORTER = """
import json, pickle, sys
pickle.load(open(sys.argv[1], "rb")).add()
import a_package.model, lone, in_wheel, in_folder
print(json.dumps([a_package.model.TEXT, a_package.model.__file__, lone.__file__, in_wheel.__file__, in_folder.__file__]))
"""


@pytest.fixture
def code(tmp_path: Path) -> list[str]:
    """Entries of every kind: a package with a file of data, a module, a wheel, a folder of modules."""
    home = tmp_path / "home"
    files = {
        "a_package/__init__.py": "",
        "a_package/model.py": "from pathlib import Path\nTEXT = Path(__file__).with_name('words.txt').read_text()\n",
        "a_package/words.txt": "word",
        "a_package/.env": "SECRET=1",
        "lone.py": "",
        "unshipped.py": "",
        "folder/in_folder.py": "",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    with zipfile.ZipFile(home / "x-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("in_wheel.py", "")
    return [str(home / name) for name in ("a_package", "lone.py", "x-1-py3-none-any.whl", "folder")]


def import_elsewhere(shipment: Shipment, folder: Path, staged: Path | None) -> subprocess.CompletedProcess[str]:
    """Import the code in a process of its own, with `staged` as what Beam's boot program calls semi-persistent."""
    import pickle

    (folder / "shipment.pickle").write_bytes(pickle.dumps(shipment))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("SEMI_PERSISTENT_DIRECTORY", None)
    if staged is not None:
        environment["SEMI_PERSISTENT_DIRECTORY"] = str(staged)
    command = [sys.executable, "-c", IMPORTER, str(folder / "shipment.pickle")]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def stage(shipment: Shipment, folder: Path) -> Path:
    """Put the archive where the boot program puts it; gives the semi-persistent folder."""
    (folder / "staged").mkdir(parents=True)
    with shipment.archived() as archive:
        (folder / "staged" / Path(archive).name).write_bytes(Path(archive).read_bytes())
    return folder


def test_staged_code_is_imported_from_where_it_was_staged(code: list[str], tmp_path: Path) -> None:
    shipment = Shipment.of(code)
    staged = stage(shipment, tmp_path / "semi")
    for entry in code:  # the launcher's disk is not that of the worker
        os.rename(entry, f"{entry}.gone")
    for _ in range(2):  # the second process finds it unpacked
        done = import_elsewhere(shipment, tmp_path, staged)
        assert done.returncode == 0, done.stderr
        text, *found = json.loads(done.stdout)
        assert text == "word"
        assert all(path.startswith(str(staged / "staged" / "code-")) for path in found)
    assert len(list((staged / "staged").iterdir())) == 2


def test_staged_code_goes_before_modules_of_the_same_name_where_the_worker_starts(
    code: list[str], tmp_path: Path
) -> None:
    shipment = Shipment.of(code)
    (tmp_path / "lone.py").write_text("raise ImportError")
    assert import_elsewhere(shipment, tmp_path, stage(shipment, tmp_path / "semi")).returncode == 0


def test_unstaged_code_is_read_on_the_workers_own_disk(code: list[str], tmp_path: Path) -> None:
    done = import_elsewhere(Shipment.of(code), tmp_path, None)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[2] == code[1]


@pytest.mark.parametrize("semi_persistent", [False, True], ids=["pool", "boot program without the archive"])
def test_a_worker_that_lacks_a_file_names_its_path(semi_persistent: bool, code: list[str], tmp_path: Path) -> None:
    shipment = Shipment.of(code)
    os.remove(code[1])
    done = import_elsewhere(shipment, tmp_path, tmp_path / "semi" if semi_persistent else None)
    assert f"JobError: code: {code[1]} is not on the worker " in done.stderr
    assert "the same path has to be on the worker's own disk" in done.stderr


def test_a_worker_with_another_file_names_its_path(code: list[str], tmp_path: Path) -> None:
    shipment = Shipment.of(code)
    Path(code[1]).write_text("# newer")
    done = import_elsewhere(shipment, tmp_path, None)
    assert f"JobError: code: {code[1]} on the worker " in done.stderr
    assert "is another file than the launcher's" in done.stderr


def test_a_file_that_changes_while_the_run_is_launched_is_told(code: list[str]) -> None:
    shipment = Shipment.of(code)
    Path(code[1]).write_text("# newer")
    with pytest.raises(JobError, match=r"lone\.py was changed while the run was launched"), shipment.archived():
        pass


def test_the_archive_holds_what_was_recorded_and_is_named_by_it(code: list[str], tmp_path: Path) -> None:
    shipment = Shipment.of(code)
    with shipment.archived() as archive, zipfile.ZipFile(archive) as members:
        assert members.namelist() == [
            "0/a_package/__init__.py",
            "0/a_package/model.py",
            "0/a_package/words.txt",
            "1/lone.py",
            "2/x-1-py3-none-any.whl",
            "3/folder/in_folder.py",
        ]
        first, content = Path(archive).name, Path(archive).read_bytes()
    assert not Path(archive).exists()
    with shipment.archived() as archive:
        assert (Path(archive).name, Path(archive).read_bytes()) == (first, content)
    Path(code[1]).write_text("# newer")
    assert Shipment.of(code).name != first


def test_only_files_of_the_code_are_shipped(code: list[str]) -> None:
    recorded = {code[1]: "a digest", "/elsewhere/model.py": "another"}
    assert Shipment.of(code, recorded).digests == {code[1]: "a digest"}


def test_beam_stages_the_archive_while_a_job_is_submitted(code: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress.current, "tell", said.append)
    options = PipelineOptions(["--runner=PortableRunner", "--files_to_stage=/of/the/user"])
    shipment = Shipment.of(code)
    with shipment.staged(options):
        given, ours = options.view_as(SetupOptions).files_to_stage
        assert (given, Path(ours).name) == ("/of/the/user", shipment.name)
        assert Path(ours).is_file()
    assert options.view_as(SetupOptions).files_to_stage == ["/of/the/user"]
    assert said == []
    with shipment.staged(PipelineOptions(["--environment_type=EXTERNAL"])):
        assert said == [STAGED_ONLY_BY_BOOT]


def test_a_job_without_code_ships_nothing() -> None:
    options = PipelineOptions(["--environment_type=EXTERNAL"])
    with Shipment.of([]).staged(options):
        assert options.view_as(SetupOptions).files_to_stage is None
