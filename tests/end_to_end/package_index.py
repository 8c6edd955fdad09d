# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""How tests reach a package index, and what they take from there besides their environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from codebuild import executable
from harness import BIN, run
from launcher import Launcher, make_door

# What pip and uv say where no package index can be reached.
OFFLINE = re.compile(
    r"Failed to establish a new connection|dns error|Connection refused|tcp connect"
)
# How this machine reaches a package index: proxies, certificates, mirrors.
NETWORK = re.compile(
    r"(?i).*_proxy|SSL_CERT_|REQUESTS_CA_|PIP_(?!TARGET|USER|PREFIX)|UV_(?!TOOL|NO_)"
)


def network() -> dict[str, str]:
    """Return the variables by which this machine reaches a package index."""
    return {name: value for name, value in os.environ.items() if NETWORK.match(name)}


def cache(*command: str) -> str:
    """Return the folder that a tool says it caches in, outside of the test's own HOME."""
    done = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, text=True)
    return done.stdout.strip()


def install_aws_cli(folder: Path) -> None:
    """Install the real AWS CLI below a folder.

    In an environment of its own: it pins another botocore than Custodian's.
    """
    env = {
        **network(),
        "PATH": os.defpath,
        "HOME": str(folder),
        "UV_CACHE_DIR": cache("uv", "cache", "dir"),
        "UV_PYTHON": sys.executable,
        "UV_TOOL_DIR": str(folder / "tools"),
        "UV_TOOL_BIN_DIR": str(folder / "bin"),
    }
    done = run([BIN / "uv", "tool", "install", "awscli"], env, folder, timeout=300)
    if done.code and OFFLINE.search(done.text):
        pytest.skip("no package index can be reached: the AWS CLI isn't there")
    assert done.code == 0, done.text


def aws_program(folder: Path) -> Path:
    """Return a folder with `aws`, which goes by a launcher to the one that is installed."""
    program, made = folder / "bin" / "aws", Path(tempfile.mkdtemp(dir=folder))
    if not os.environ.get("EXEC_ALL"):
        python = program.read_text("utf-8").splitlines()[0].removeprefix("#!")
        module = "awscli.clidriver"
        at = Launcher(Path(python), {module}, module).sockets[module]
        program = made / "door"
        make_door(program, folder / "bin" / "aws", {"": at})
    # For SQS it passes over AWS_ENDPOINT_URL.
    script = f'exec {program} --endpoint-url "$AWS_ENDPOINT_URL" "$@"'
    executable(made / "program" / "aws", script)
    return made / "program"
