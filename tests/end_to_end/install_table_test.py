# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each line of the README's table of ways to install, as it is written there, with the real tools.

Custodian and what it needs come from PyPI, or from the caches of pip and uv.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from harness import BIN, Finished, run
from package_index import OFFLINE, cache, network
from wheels import CHECKOUT

from embedded_aws import HUB, EmbeddedAws

pytestmark = pytest.mark.release

POLICIES = """
policies:
  - name: ours
    resource: aws.iam-user
    source: credential-report
    filters: [stale-access-key]
"""
ACCOUNTS = "accounts: [{account_id: '%s', name: one, role: %s, regions: [us-east-1]}]"


def rows() -> dict[str, str]:
    """{the command that installed Custodian: the one that adds the pack}."""
    table = (CHECKOUT / "README.md").read_text("utf-8").split("<!-- install:")[1].split("\n\n")[0]
    lines = re.findall(r"^\| `(.+?)` \| `(.+?)`", table, re.MULTILINE)
    assert {first.split()[0] for first, _ in lines} == {"pip", "pipx", "uv"}
    return dict(lines)


class Machine:
    """An own HOME; on its PATH what is installed there, and this environment's pipx and uv."""

    def __init__(self, aws: EmbeddedAws, home: Path) -> None:
        self.home = home
        (home / "ours.yml").write_text(POLICIES)
        (home / "accounts.yml").write_text(ACCOUNTS % (HUB, aws.account(HUB).add_role()))
        tools = home / "tools"
        tools.mkdir()
        for tool in ("pipx", "uv"):
            (tools / tool).symlink_to(BIN / tool)
        path = [home / ".local" / "bin", home / "venv" / "bin", tools, "/usr/bin", "/bin"]
        self.env = {
            **network(),
            **aws.env(HUB, home=home),
            "NO_PROXY": "127.0.0.1",
            "PIP_CACHE_DIR": cache("pip", "cache", "dir"),
            "UV_CACHE_DIR": cache("uv", "cache", "dir"),
            # pipx takes the Python that it runs in; uv would take any, or fetch one.
            "UV_PYTHON": sys.executable,
            "PATH": os.pathsep.join(map(str, path)),
        }

    def run(self, command: str) -> Finished:
        return run(shlex.split(command), self.env, self.home, timeout=300)


@pytest.fixture
def machine(aws: EmbeddedAws, home: Path) -> Machine:
    return Machine(aws, home)


@pytest.mark.parametrize("first", rows())
def test_line_of_the_table(first: str, machine: Machine, wheel: Path) -> None:
    """After it the tool that was there has the pack; beside `custodian` there is `c7n-keyrot`."""
    if first.startswith("pip "):
        venv = [sys.executable, "-m", "venv", machine.home / "venv"]
        subprocess.run(venv, check=True, timeout=120)
    done = machine.run(first)
    if done.code and OFFLINE.search(done.text):
        pytest.skip(f"no package index can be reached: {first}")
    assert done.code == 0, done.text
    done = machine.run(rows()[first].replace("WHEEL", shlex.quote(str(wheel))))
    assert done.code == 0, done.text
    if first.endswith("c7n-org"):
        done = machine.run("c7n-org run -c accounts.yml -s out -u ours.yml")
        wrote = machine.home / "out" / "one" / "us-east-1" / "ours" / "resources.json"
    else:
        done = machine.run("custodian run -s out ours.yml")
        wrote = machine.home / "out" / "ours" / "resources.json"
        assert machine.run("c7n-keyrot --version").code == 0
    assert done.code == 0, done.text
    assert wrote.exists(), done.text
    assert wrote.read_text() == "[]"
