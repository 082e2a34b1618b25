"""What the command `inspect` refuses, in words."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  tf.estimator, before TensorFlow is imported

import pytest
from inspected import ROWS, write_csv

from pipeline.commands import main
from pipeline.errors import JobError
from pipeline.inspect import inspect


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            pytest.param("job.yaml", b"name: a\n", "is it a job file, run check --config", id="job-file"),
            pytest.param(
                "notes.txt", b"some text", "is a file of another kind; inspect takes an output folder", id="text"
            ),
            pytest.param("empty", b"", "is a file of another kind", id="empty"),
            pytest.param("some.zlib", zlib.compress(b"some text"), "is a file of another kind", id="zlib"),
            pytest.param(
                "events.out.tfevents.17.host", b"", "holds events for TensorBoard; inspect its model_dir", id="events"
            ),
        ],
    )
    def test_files(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(JobError, match=re.escape(message)) as raised:
            inspect(str(path))
        assert str(path) in str(raised.value)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            JobError, match=r"there is nothing at .*; inspect takes an output folder, a model_dir, a checkpoint"
        ):
            inspect(str(tmp_path / "model.ckpt-7"))

    def test_folders(self, tmp_path: Path) -> None:
        with pytest.raises(JobError, match=r"is a folder of another kind \(no files in it\); inspect takes"):
            inspect(str(tmp_path))
        write_csv(tmp_path / "b.csv", ROWS)
        (tmp_path / "a").mkdir()
        with pytest.raises(JobError, match=r"is a folder of another kind \(it has a/, b.csv\); inspect takes"):
            inspect(str(tmp_path))

    def test_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_csv(tmp_path / "a.csv", ROWS)
        assert main(["inspect", str(path)]) == 0
        assert capsys.readouterr().out == inspect(str(path)) + "\n"
        assert main(["inspect", str(tmp_path / "no")]) == 2
        assert capsys.readouterr().err.startswith("error: there is nothing at ")
