# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds the Pythons that pyproject.toml promises, on the PATH and among pyenv's.

As a command: `pythons.py` prints the promised versions, `pythons.py 3.10` the path of one; where
the machine has none, it prints nothing and exits with 1.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
# Exits with 0 in a Python of this version that can make an environment.
PROBE = "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != sys.argv[1])"


def promised() -> list[str]:
    """The versions in pyproject.toml's classifiers, such as "3.10"."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT.read_text("utf-8"))


@functools.cache
def find(version: str) -> str | None:
    """The path of a Python of this version, such as "3.10"; None if none is here that runs."""
    on_path = (shutil.which(f"python{version}", path=folder) for folder in os.get_exec_path())
    found = [path for path in on_path if path]
    found += [str(path) for path in _pyenvs(version)]
    return next((path for path in found if _runs(path, version)), None)


def _pyenvs(version: str) -> list[Path]:
    """pyenv's Pythons of this version, the newest first."""
    root = os.environ.get("PYENV_ROOT") or _output("pyenv", "root") or "~/.pyenv"
    folders = Path(root).expanduser().glob(f"versions/{version}.*")
    newest = sorted(folders, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
    return [path / "bin" / f"python{version}" for path in reversed(newest)]


def _runs(python: str, version: str) -> bool:
    # pyenv's shims are on the PATH for all its versions, but run only those that are switched on.
    return _output(python, "-c", PROBE, version) is not None


def _output(*command: str) -> str | None:
    """What a command prints; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(*promised())
    else:
        path = find(sys.argv[1])
        if path is None:
            sys.exit(1)
        print(path)
