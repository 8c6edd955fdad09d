# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`make demo` keeps its promises: what it shows, and that it can be run again."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from environments import Environment
from harness import BIN, Finished, run

from demo import world

REPOSITORY = Path(__file__).parents[2]
TITLES = {"disabled": "DISABLED", "reminded": "REMINDED", "unclear": "IN DOUBT"}
TITLES["left"] = "NOT CHANGED"


def demo(*args: str | Path, cwd: Path, python: str | Path = sys.executable) -> Finished:
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "HOME": str(cwd)}
    return run([python, *args], env, cwd, timeout=300)


@pytest.mark.waits(seconds=20)
def test_everybody_is_shown_with_the_right_outcome(tmp_path: Path) -> None:
    done = demo(REPOSITORY / "demo" / "run.py", cwd=tmp_path)
    assert done.code == 0, done.text
    assert programs(done) == {"custodian", "c7n-org", "c7n-mailer", "c7n-keyrot", "python"}
    check_people(done.text)
    check_text(done.text, tmp_path)
    check_mails(done.text, tmp_path)
    check_end(done.text)


@pytest.mark.release
def test_without_startup_files_it_uses_the_commands_of_c7n_keyrot(
    bare: Environment, tmp_path: Path
) -> None:
    """Its first half, and over the output of an earlier one."""
    half = "from demo import run; run.prepare(); run.one_account(); run.what_you_saw(0)"
    for earlier in (True, False):
        command = "from demo import run; run.prepare()" if earlier else half
        done = demo("-c", command, cwd=tmp_path, python=bare.python)
        assert done.code == 0, done.text
    assert programs(done) == {"c7n-keyrot", "python"}
    check_people(done.text)
    check_text(done.text, tmp_path)


def programs(done: Finished) -> set[str]:
    return {line.split()[1] for line in done.lines("      $ ")}


def check_people(text: str) -> None:
    group, seen = "", {}
    for line in text.splitlines():
        title = next((key for key, word in TITLES.items() if line.startswith(f"{word}")), None)
        group = title or group
        cells = re.split(r" {2,}", line)
        if group and len(cells) == 6:
            seen[cells[0]] = (group, cells[3], cells[4].split(",")[0])
    now = {"disabled": "inactive"}
    assert seen == {
        person.name: (
            person.outcome,
            person.verdict,
            now.get(person.outcome, person.slot2.status.lower() if person.slot2 else "-"),
        )
        for person in world.people()
    }


def check_text(text: str, folder: Path) -> None:
    """It reads well in a log of 100 columns, and shows nothing of the machine."""
    assert [line for line in text.splitlines() if len(line) > 100] == []
    assert text.isascii()
    assert "\x1b" not in text
    for path in (folder, REPOSITORY, sys.prefix, sys.base_prefix, Path.home()):
        assert f"{path}/" not in text
    assert "not-a-secret" not in text


def check_mails(text: str, folder: Path) -> None:
    paths = re.findall(r"demo-output/\S+\.(?:eml|html|log)\b", text)
    assert len(paths) == len(set(paths)) > 20
    assert [path for path in paths if not (folder / path).stat().st_size] == []
    mails = folder / "demo-output" / "organization" / "mails"
    assert {path.name for path in mails.iterdir()} == {
        Path(path).name for path in paths if "/mails/" in path
    }


def check_end(text: str) -> None:
    """Why there are more mails than notices; and the next command is the one that README has."""
    (notices, mails) = re.search(r"(\d+) notices became (\d+) mails", text).groups()
    assert 0 < int(notices) < int(mails)
    program, *words = text.splitlines()[-1].removeprefix("$ ").split()
    command = " ".join([Path(program).name, *words])
    assert f"    {command}\n" in (REPOSITORY / "README.md").read_text("utf-8")


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "demo-output" / "mine"
    mine.parent.mkdir()
    mine.touch()
    done = demo(REPOSITORY / "demo" / "run.py", cwd=tmp_path)
    assert done.code == 1
    assert done.lines("demo-output", "move it away")
    assert mine.exists()
