# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Is the plugin where Custodian, and c7n-org, look for it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import c7n_keyrot
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks

NAME = "c7n-keyrot"
FILTER = "stale-access-key"
PROCESS_LIMIT = 90  # seconds

# Runs in the Python of c7n-org, as a process that starts a worker as c7n-org does.
WORKER = """
import sys
if sys.path[0] == "": del sys.path[0]
import json
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
JOB = '''(
    __import__("c7n.resources", fromlist=["_"]).load_available(),
    "stale-access-key" in
        __import__("c7n.resources.iam", fromlist=["_"]).User.filter_registry.keys(),
    getattr(__import__("sys").modules.get("c7n_keyrot"), "__version__", None),
    getattr(__import__("sys").modules.get("c7n_keyrot"), "__file__", None),
)[1:]'''
try:
    installed = metadata.version("c7n-keyrot")
except metadata.PackageNotFoundError:
    installed = None
with ProcessPoolExecutor(1) as pool:
    print(json.dumps([*pool.submit(eval, JOB).result(), installed]))
"""


def plugin(script: str | None) -> Checks:
    """Is the plugin in this Python's `custodian`: the real console script, as a process."""
    if script is None:
        yield Check(
            FAIL,
            "plugin",
            f"no custodian beside {sys.executable}",
            f"install the plugin where Custodian is: {sys.executable} -m pip install {NAME}",
        )
        return
    done = _process([script, "schema", f"aws.iam-user.filters.{FILTER}"])
    if done.returncode == 0 and FILTER in done.stdout:
        yield Check(OK, "plugin", f"loaded in {script}")
        return
    why = (done.stdout + done.stderr).strip().splitlines()[-1:] or [f"exit {done.returncode}"]
    yield Check(
        FAIL,
        "plugin",
        f"not loaded in {script} ({why[0]})",
        f"reinstall the plugin: {sys.executable} -m pip install --force-reinstall --no-deps {NAME}",
    )


def org_worker(script: str | None) -> Checks:
    """Is the plugin in a worker of c7n-org, in which version."""
    name = "plugin in c7n-org"
    if script is None:
        yield Check(NOT_CHECKED, name, "c7n-org isn't installed")
        return
    python = _python_of(Path(script))
    fix = f"reinstall the plugin: {python} -m pip install --force-reinstall --no-deps {NAME}"
    done = _process([python, "-c", WORKER])
    try:
        loaded, version, file, installed = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        why = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        yield Check(FAIL, name, f"no worker can be started with {python} ({why[0]})", fix)
        return
    if not loaded:
        yield Check(FAIL, name, f"not loaded in a worker of {script}", fix)
    elif version != installed or version != c7n_keyrot.__version__:
        yield Check(
            FAIL,
            name,
            f"{version} is loaded from {file}, {installed} is installed there, this is "
            f"{c7n_keyrot.__version__}",
            fix,
        )
    else:
        yield Check(OK, name, f"{version}, loaded in a worker of {script}")


def version() -> Checks:
    """Is the module that is loaded the package that is installed."""
    loaded, file = c7n_keyrot.__version__, c7n_keyrot.__file__
    fix = (
        f"reinstall the plugin: {sys.executable} -m pip install --force-reinstall --no-deps {NAME}"
    )
    try:
        installed = importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        yield Check(FAIL, "version", f"{loaded} is loaded from {file}, none is installed", fix)
        return
    if loaded != installed:
        yield Check(
            FAIL, "version", f"{loaded} is loaded from {file}, but {installed} is installed", fix
        )
        return
    python = ".".join(map(str, sys.version_info[:3]))
    custodian = importlib.metadata.version("c7n")
    yield Check(OK, "version", f"{NAME} {loaded}, c7n {custodian}, Python {python}")


def script_of(name: str) -> str | None:
    """A console script of this Python: of its environment, or installed with pip's --user."""
    folders = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    folders.append(Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))))
    return next((str(folder / name) for folder in folders if (folder / name).is_file()), None)


def _python_of(script: Path) -> str:
    """The Python that a console script runs in, out of its first lines."""
    with script.open("rb") as file:
        head = file.read(1000).decode("utf-8", "replace")
    found = re.search(r"(/[^\"'\n]*python[0-9.]*)", head)
    return found[1] if found and head.startswith("#!") else sys.executable


def _process(args: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  our own scripts
            args,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PROCESS_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(args, 1, "", f"still running after {PROCESS_LIMIT} s")
    except OSError as error:
        return subprocess.CompletedProcess(args, 1, "", str(error))
