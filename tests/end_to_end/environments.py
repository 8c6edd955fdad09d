# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Environments to install into, made in no time: c7n and the rest are there by links."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

OURS = """
policies:
  - name: ours
    resource: aws.iam-user
    source: credential-report
    filters:
      - type: stale-access-key
      - not: [rotation-exempt]
    actions: [disable-access-key]
"""
THEIRS = """
policies:
  - name: theirs
    resource: aws.iam-user
    filters: [{type: access-key, key: Status, value: Active}]
    actions: [{type: remove-keys, matched: true, disable: true}]
  - name: not-even-iam
    resource: aws.s3
"""
BROKEN = "policies: [{name: p, resource: aws.nothing}]"


class Done:
    """A process that ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def text(self) -> str:
        return self.out + self.err


class Environment:
    """A virtual environment that sees c7n and the rest, and nothing of ours, without a copy.

    It is made if the folder isn't there.
    """

    def __init__(self, folder: Path, *libraries: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        if not folder.exists():
            self._make(libraries)
        self.site = next(folder.glob("lib/python*/site-packages"))
        self.at_first = self.files()

    def _make(self, libraries: tuple[Path, ...]) -> None:
        venv = [sys.executable, "-m", "venv", "--without-pip", str(self.folder)]
        subprocess.run(venv, check=True, timeout=60)
        site = next(self.folder.glob("lib/python*/site-packages"))
        # A folder named in a .pth file is searched; the .pth files in that folder aren't run.
        (site / "libraries.pth").write_text("".join(f"{path}\n" for path in libraries))
        for name, text in (("ours", OURS), ("theirs", THEIRS), ("ours-broken", BROKEN)):
            (self.folder / f"{name}.yml").write_text(text)

    def files(self) -> set[str]:
        """All there is but caches, which pip leaves to Python."""
        return {
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if "__pycache__" not in path.parts
        }

    def run(self, *command: str | Path, **env: str) -> Done:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "PYTHON", "C7N_"))
        }
        return Done(
            subprocess.run(
                [str(word) for word in command],
                cwd=self.folder,  # not the checkout, whose c7n_keyrot would be found first
                env={**clean, "AWS_DEFAULT_REGION": "us-east-1", **env},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
            )
        )

    def pip(self, *words: str | Path, **env: str) -> str:
        """pip of the tests' own environment, at work on this one."""
        done = self.run(sys.executable, "-m", "pip", "--python", self.python, *words, **env)
        assert done.code == 0, done.text
        return done.out

    def custodian(self, *words: str | Path, **env: str) -> Done:
        main = "import sys; from c7n.cli import main; sys.exit(main())"
        return self.run(self.python, "-c", main, *words, **env)


def unpack(folder: Path) -> Path:
    """Copies the very files of the wheel that is under test, as pip laid them out."""
    for file in importlib.metadata.files("c7n-keyrot") or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:  # not bin/, not caches
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    return folder


def link_libraries(folder: Path) -> None:
    """Fill it with links to the tests' own site-packages without us: c7n in no time."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith("c7n_keyrot") and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
