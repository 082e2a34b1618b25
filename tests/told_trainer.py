"""`code:` of three kinds that tells which files a process has imported: a package folder with a file of data, a module, a wheel."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from linear_job import TESTS, job_settings, write_job, write_shards

MODEL = """\
import json
import os
from pathlib import Path

import a_module_in_a_wheel
import linear_model

import pipeline

WORDS = Path(__file__).with_name("words.txt").read_text()


def build_estimator(model_dir, params):
    told = {"words": WORDS, "pipeline": pipeline.__file__, "pid": os.getpid()}
    told["code"] = [module.__file__ for module in (linear_model, a_module_in_a_wheel)] + [__file__]
    Path(params["told"], f"{os.getpid()}.json").write_text(json.dumps(told))
    return linear_model.build_estimator(model_dir)
"""
SHARDS, ROWS = 3, 7


def write_told_job(folder: Path, model_dir: str) -> Path:
    """A job whose processes say in `folder/told` what they have imported."""
    (folder / "told").mkdir()
    trainer = folder / "told_trainer"
    trainer.mkdir()
    (trainer / "__init__.py").write_text("")
    (trainer / "model.py").write_text(MODEL)
    (trainer / "words.txt").write_text("beside the code")
    wheel = folder / "wheels" / "in_a_wheel-1-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a_module_in_a_wheel.py", "")
    write_shards(folder, SHARDS, ROWS)
    model = {"estimator": "told_trainer.model:build_estimator", "params": {"told": str(folder / "told")}}
    settings = job_settings(folder, model_dir, "told", model)
    settings["code"] = [str(trainer), str(TESTS / "linear_model.py"), str(wheel)]
    return write_job(folder, settings)


def told(folder: Path) -> list[dict[str, Any]]:
    """What the processes have said so far."""
    return [json.loads(path.read_text()) for path in (folder / "told").iterdir()]
