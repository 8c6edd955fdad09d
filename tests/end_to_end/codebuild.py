# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the build specification of a CodeBuild project in bash, as CodeBuild runs it.

Each command in a shell of its own that keeps the exported variables and the folder of the one
before it, which is all that CodeBuild is sure to keep. A command that fails ends its phase.
``post_build`` is run whenever ``build`` was begun. The build is red if a phase failed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PHASES = ("install", "pre_build", "build", "post_build")


@dataclass
class Build:
    """A build that ended; `failed` has the command that failed in each phase that did."""

    folder: Path
    text: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def green(self) -> bool:
        return not self.failed

    def lines(self, *words: str) -> list[str]:
        return [line for line in self.text.splitlines() if all(word in line for word in words)]


def build(
    project: Mapping[str, Any],
    folder: Path,
    env: Mapping[str, str],
    skip: Callable[[str], bool] = lambda command: False,
) -> Build:
    """Run a project's build in an empty folder.

    :param project: its properties, as CloudFormation has them.
    :param env: what the build has besides the project's own variables.
    :param skip: commands that aren't run.
    """
    folder.mkdir(parents=True)
    source = project["Source"]
    assert source["Type"] == "NO_SOURCE"
    specification = yaml.safe_load(source["BuildSpec"])
    assert specification["version"] == 0.2
    assert specification["env"] == {"shell": "bash"}
    phases = specification["phases"]
    assert list(phases) == [phase for phase in PHASES if phase in phases]
    own = {v["Name"]: str(v["Value"]) for v in project["Environment"]["EnvironmentVariables"]}
    done = Build(folder, env={**own, **env})
    cwd = folder
    for phase in PHASES:
        if set(done.failed) & {"install", "pre_build"}:
            break
        for command in phases.get(phase, {}).get("commands", ()):
            assert isinstance(command, str), command  # "key: value" would be a mapping
            if skip(command):
                continue
            code, cwd = _run(command, done, cwd)
            if code:
                done.failed[phase] = command
                break
    return done


def _run(command: str, done: Build, cwd: Path) -> tuple[int, Path]:
    state = done.folder.with_name(f"{done.folder.name}.state")
    script = f'{command}\ncode=$?\n{{ pwd; env -0; }} > "{state}"\nexit $code\n'
    ended = subprocess.run(
        ["/bin/bash", "-c", script],
        env=done.env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    done.text += ended.stdout
    where, _, variables = state.read_text("utf-8").partition("\n")
    done.env = dict(pair.split("=", 1) for pair in variables.split("\0") if "=" in pair)
    return ended.returncode, Path(where)


def executable(path: Path, script: str) -> None:
    """Write a program in sh."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    os.chmod(path, 0o755)
