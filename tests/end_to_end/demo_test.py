# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`make demo` keeps its promises: what it shows, and that it can be run again."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from environments import Environment
from harness import BIN, Finished, run

from demo import world

REPOSITORY = Path(__file__).parents[2]
TITLES = {"disabled": "DISABLED", "reminded": "REMINDED", "unclear": "IN DOUBT", "left": "LEFT"}


def demo(*args: str | Path, cwd: Path, python: str | Path = sys.executable) -> Finished:
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "HOME": str(cwd)}
    return run([python, *args], env, cwd, timeout=300)


def test_everybody_is_shown_with_the_right_outcome_also_the_second_time(
    bare: Environment, tmp_path: Path
) -> None:
    """The second time by a build without startup files, so by the commands of `c7n-keyrot` only."""
    ways = (
        (sys.executable, [REPOSITORY / "demo" / "run.py"]),
        (bare.python, ["-m", "demo.run"]),
    )
    for python, how in ways:
        done = demo(*how, cwd=tmp_path, python=python)
        assert done.code == 0, done.text
        programs = {line.split()[1] for line in done.lines("      $ ")}
        stock = {"custodian", "c7n-org", "c7n-mailer"} if python == sys.executable else set()
        assert programs == {"c7n-keyrot", "python", *stock}
        check_people(done.text)
        check_text(done.text, tmp_path)
        check_mails(done.text, tmp_path)


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


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "demo-output" / "mine"
    mine.parent.mkdir()
    mine.touch()
    done = demo(REPOSITORY / "demo" / "run.py", cwd=tmp_path)
    assert done.code == 1
    assert done.lines("demo-output", "move it away")
    assert mine.exists()
