# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`make matrix` runs the tests on each Python that is promised and found, and names the others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import pythons

ROOT = Path(__file__).parents[2]
RUNS, FAILS = "#!/bin/sh\nexit 0\n", "#!/bin/sh\nexit 127\n"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({}, None),
        ({"bin/python3.10": RUNS}, "bin/python3.10"),
        ({"bin/python3.10": FAILS}, None),
        # A shim of pyenv that isn't switched on, in front of a real one.
        ({"shims/python3.10": FAILS, "bin/python3.10": RUNS}, "bin/python3.10"),
        ({"bin/python3.1": RUNS, "bin/python3.100": RUNS}, None),
        (
            {"env/versions/3.10.9/bin/python3.10": RUNS, "bin/python3.10": RUNS},
            "bin/python3.10",
        ),
        (
            {
                "shims/python3.10": FAILS,
                "env/versions/3.10.9/bin/python3.10": RUNS,
                "env/versions/3.10.13/bin/python3.10": RUNS,
                "env/versions/3.10.14/bin/python3.10": FAILS,
            },
            "env/versions/3.10.13/bin/python3.10",
        ),
    ],
)
def test_a_python_is_found_on_the_path_then_among_pyenvs(
    there: dict[str, str],
    found: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in there.items():
        script(tmp_path / name, text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}{os.pathsep}{tmp_path / 'bin'}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "env"))
    pythons.find.cache_clear()
    assert pythons.find("3.10") == (found and str(tmp_path / found))
    pythons.find.cache_clear()


def test_pyenv_itself_says_where_its_pythons_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "bin" / "pyenv", f"#!/bin/sh\necho {tmp_path}/elsewhere\n")
    wanted = script(tmp_path / "elsewhere" / "versions" / "3.10.1" / "bin" / "python3.10", RUNS)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin{os.pathsep}/usr/bin")
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    pythons.find.cache_clear()
    assert pythons.find("3.10") == str(wanted)
    pythons.find.cache_clear()


def test_this_python_is_promised() -> None:
    newest = max(int(version.split(".")[1]) for version in pythons.promised())
    if sys.version_info[:2] > (3, newest):
        pytest.skip("this one is newer than all that are promised; it is tried, and may fail")
    assert "{}.{}".format(*sys.version_info) in pythons.promised()


@pytest.mark.parametrize(
    ("flags", "code", "ran"),
    [
        ((), 2, ["3.96", "3.97"]),  # it stops at the first that fails
        (("-k",), 2, ["3.96", "3.97", "3.98"]),
        (("EXCEPT=3.97",), 0, ["3.96", "3.98"]),
        (("EXCEPT=3.97", "WITHOUT=repository"), 0, ["3.96", "3.98"]),
    ],
)
def test_make_matrix(flags: tuple[str, ...], code: int, ran: list[str], tmp_path: Path) -> None:
    """A failure on one Python is a failure; one that isn't there is named."""
    versions = ["3.95", "3.96", "3.97", "3.98"]
    classifiers = "".join(f'    "Programming Language :: Python :: {v}",\n' for v in versions)
    (tmp_path / "pyproject.toml").write_text(f"[project]\nclassifiers = [\n{classifiers}]\n")
    for name in ("Makefile", "tests/end_to_end/pythons.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    # All is made already: make needn't.
    for name in ("setup.cfg", ".ci/tools.txt", ".venv/made", "dist/built"):
        script(tmp_path / name, "")
    for version in versions[1:]:
        script(tmp_path / "bin" / f"python{version}", RUNS)
        status = int(version == "3.97")
        venv = tmp_path / f".venv-{version}"
        script(venv / "bin" / "pytest", f"#!/bin/sh\necho {version} ran: $*; exit {status}\n")
        for stamp in ("made", "tools", "installed"):
            (venv / stamp).touch()
    # Not this process's own: what the make that started it was given would be given to this one.
    env = {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    done = subprocess.run(
        ["make", *flags, "matrix", f"PYTHON={sys.executable}", "TESTS=some tests"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == code, done.stderr
    assert lines[0] == "== Python 3.95 is not on this machine (PATH, pyenv): NOT TESTED"
    assert [line.split(" ran: ")[0] for line in lines if " ran: " in line] == ran
    assert all(line.endswith("some tests") for line in lines if " ran: " in line)
    left_out = "not release and not repository" if "WITHOUT=repository" in flags else "not release"
    assert all(f" -m {left_out} some" in line for line in lines if " ran: " in line)
    assert " ran: " in lines[-1]  # what pytest says last is the last that is said
