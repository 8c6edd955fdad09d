# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether the plugin is where Custodian, and c7n-org, look for it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import c7n_keyrot
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context
from c7n_keyrot.core.text import one_line
from c7n_keyrot.custodian import seams

NAME = "c7n-keyrot"
FILTER = "stale-access-key"
PROCESS_LIMIT = 90  # seconds
STARTUP_FILES = ("c7n_keyrot.pth", "c7n_keyrot.start")

# Runs in the Python of c7n-org, as a process that starts a worker as c7n-org does.
WORKER = """
import sys
if sys.path[0] == "": del sys.path[0]
import json
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
JOB = '''(
    __import__("c7n.resources", fromlist=["_"]).load_resources(("aws.iam-user",)),
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


def checks(_: Context) -> Checks:
    """Check what is installed: the plugin, its version, and whether it fits this Custodian."""
    yield from loaded()
    yield version()
    yield from fits()


def loaded() -> Checks:
    """Check whether ``custodian`` and a worker of c7n-org load the plugin, and which version."""
    if not startup_file():
        yield from explicit()
        return
    # Here, since sysconfig isn't made for threads.
    custodian = script_of("custodian")
    org = script_of("c7n-org") or shutil.which("c7n-org")
    with ThreadPoolExecutor(2) as pool:  # each takes a second or two
        found = pool.submit(lambda: [plugin(custodian)]), pool.submit(lambda: [org_worker(org)])
        for lines in found:
            yield from lines.result()


def plugin(script: str | None) -> Check:
    """Check this Python's ``custodian``: the real console script, as a process."""
    if script is None:
        what = f"no custodian in {sys.prefix}"
        return Check(FAIL, "plugin", what, "install c7n-keyrot where Custodian is")
    done = _process([script, "schema", f"aws.iam-user.filters.{FILTER}"])
    if done.returncode == 0 and FILTER in done.stdout:
        return Check(OK, "plugin", f"loaded in {script}")
    why = (done.stdout + done.stderr).strip().splitlines()[-1:] or [f"exit {done.returncode}"]
    what = f"not loaded in {script} ({why[0]})"
    fix = f"{reinstall(Path(script).parent)}; or use c7n-keyrot custodian, which has it"
    return Check(FAIL, "plugin", what, fix)


def startup_file() -> bool:
    """Tell whether there is a startup file, which the programs of this environment need."""
    try:
        installed = importlib.metadata.distribution(NAME)
    except importlib.metadata.PackageNotFoundError:
        return True  # `version` says that it isn't installed
    return any(Path(str(installed.locate_file(name))).is_file() for name in STARTUP_FILES)


def explicit() -> Checks:
    """Check, without a startup file, that the commands of ``c7n-keyrot`` have the plugin."""
    here = "there is no startup file, so"
    command = [sys.executable, "-m", "c7n_keyrot"]
    done = _process([*command, "custodian", "schema", f"aws.iam-user.filters.{FILTER}"])
    if done.returncode == 0 and FILTER in done.stdout:
        what = f"loaded by c7n-keyrot custodian; {here} custodian alone doesn't have it"
        yield Check(OK, "plugin", what)
    else:
        why = (done.stdout + done.stderr).strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        what = f"not loaded by c7n-keyrot custodian ({why[0]})"
        yield Check(FAIL, "plugin", what, reinstall(Path(sys.executable).parent))
    name = "plugin in c7n-org"
    if _process([*command, "org", "--help"]).returncode:
        yield Check(
            NOT_CHECKED, name, f"c7n-org isn't installed; {here} only c7n-keyrot org would have it"
        )
    else:
        yield Check(OK, name, f"loaded by c7n-keyrot org; {here} c7n-org alone doesn't have it")


def org_worker(script: str | None) -> Check:
    """Check whether a worker of c7n-org loads the plugin, and which version."""
    name = "plugin in c7n-org"
    if script is None:
        return Check(NOT_CHECKED, name, "c7n-org isn't installed")
    python = _python_of(Path(script))
    fix = reinstall(Path(python).parent)
    done = _process([python, "-c", WORKER])
    try:
        loaded, version, file, installed = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        why = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        return Check(FAIL, name, f"no worker can be started with {python} ({why[0]})", fix)
    if not loaded:
        if importlib.util.find_spec("c7n_org"):
            fix += "; or use c7n-keyrot org, which has it"
        return Check(FAIL, name, f"not loaded in a worker of {script}", fix)
    if version != installed or version != c7n_keyrot.__version__:
        what = (
            f"{version} is loaded from {file}, {installed} is installed there, this is "
            f"{c7n_keyrot.__version__}"
        )
        return Check(FAIL, name, what, fix)
    return Check(OK, name, f"{version}, loaded in a worker of {script}")


def version() -> Check:
    """Check that the loaded module is the installed package."""
    loaded, file = c7n_keyrot.__version__, c7n_keyrot.__file__
    fix = reinstall(Path(sys.executable).parent)
    try:
        installed = importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return Check(FAIL, "version", f"{loaded} is loaded from {file}, none is installed", fix)
    if loaded != installed:
        what = f"{loaded} is loaded from {file}, but {installed} is installed"
        return Check(FAIL, "version", what, fix)
    python = ".".join(map(str, sys.version_info[:3]))
    custodian = importlib.metadata.version("c7n")
    return Check(OK, "version", f"{NAME} {loaded}, c7n {custodian}, Python {python}")


def fits() -> Checks:
    """Check that each place in Custodian that the plugin relies on is as it was when tested."""
    oldest, newest = seams.TESTED
    custodian = importlib.metadata.version("c7n")
    newer = seams.is_newer(custodian)
    found = list(seams.moved())
    fix = f"install a c7n from {oldest} to {newest}, or a c7n-keyrot that was tested with this one"
    for line in found:
        yield Check(FAIL, "seams", f"c7n {custodian}: {one_line(line)}", fix)
    if not found:
        what = f"all {len(seams.SEAMS)} places of Custodian that are relied on are as they were"
        note = f" (c7n {custodian} is newer than {newest}, the newest one tested)" if newer else ""
        yield Check(OK, "seams", what + note)


def reinstall(folder: Path) -> str:
    """Return how to install the plugin again, from where it was installed.

    :param folder: of the scripts of the environment that it is missing in.
    """
    source, editable = source_of()
    pip = folder / "pip"
    if not source or not pip.is_file():  # as with pipx and uv
        where = source or "the wheel that it came from"
        return f"install c7n-keyrot in {folder.parent} again, from {where} (README, Install)"
    return f"{pip} install --force-reinstall --no-deps {'-e ' * editable}{source}"


def source_of() -> tuple[str, bool]:
    """Return where the plugin was installed from, and whether that is editable.

    :returns: what pip takes: a path, a URL, or the name of the package where an index had it; ""
        if it is gone.
    """
    try:
        record = importlib.metadata.distribution(NAME).read_text("direct_url.json")
        data = json.loads(record or "{}")
        url = str(data.get("url", ""))
        editable = bool(data.get("dir_info", {}).get("editable"))
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        return "", False
    if not url:
        return NAME, False
    if not url.startswith("file:"):
        return (f"git+{url}" if data.get("vcs_info") else url), False
    path = unquote(urlsplit(url).path)
    return (path if Path(path).exists() else ""), editable


def script_of(name: str) -> str | None:
    """Return a console script of this Python, or one installed with pip's --user."""
    folders = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    folders.append(Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))))
    return next((str(folder / name) for folder in folders if (folder / name).is_file()), None)


def _python_of(script: Path) -> str:
    """Return the Python that a console script runs in, out of its first lines."""
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
