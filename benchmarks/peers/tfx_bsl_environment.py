"""The environment of `benchmarks.peers.tfx_bsl`, whose packages go with no others; made once, below WORK:

python -m benchmarks.peers.tfx_bsl_environment
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.dataset import WORK
from benchmarks.measure import ROOT

PACKAGES = ROOT / "benchmarks" / "tfx_bsl-py311.txt"
"""Every package with its version: pip does not find them by itself. Made by `uv pip compile` from tfx-bsl==1.15.1,
tensorflow-transform==1.15.0, apache-beam[gcp]==2.56.0, tensorflow==2.15.1, pyarrow==10.0.1; these need Python 3.11."""


def make_environment(work: Path) -> Path:
    """The interpreter of the environment, which is made where it is missing.

    Raises:
      RuntimeError: this is not Python 3.11, of which the environment is to be.
    """
    folder = work.absolute() / "tfx_bsl"
    python = folder / "bin" / "python"
    if (folder / "made").exists():
        return python
    if sys.version_info[:2] != (3, 11):
        raise RuntimeError(f"tfx_bsl is pinned for Python 3.11, this is {sys.version.split()[0]}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--compile"]
    subprocess.run([python, "-m", "pip", "install", *options, "--requirement", PACKAGES], check=True)
    (folder / "made").touch()
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the environment of tfx_bsl.")
    parser.add_argument("--work", type=Path, default=WORK, help="folder to make it in")
    print(make_environment(parser.parse_args().work))


if __name__ == "__main__":
    main()
