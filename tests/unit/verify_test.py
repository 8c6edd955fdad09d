# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a report stands on: file, line and hash of each key; `--verify` reads them back."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from output_tree import NOW, Run
from pytest_mock import MockerFixture

from c7n_keyrot import cli

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _clock(mocker: MockerFixture) -> None:
    mocker.patch("c7n_keyrot.cli.report.build.clock", return_value=NOW + 2 * DAY)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Two days of runs, and their report: one key of a list, one of the file of all keys."""
    out = tmp_path / "out"
    Run(counts={"fresh": 5}).write(out)
    Run(time=NOW + DAY / 2, counts={"fresh": 4, "stale": 1}).match("ana", 100).write(out)
    Run(
        kind="expiring",
        time=NOW + DAY,
        counts={"fresh": 3, "stale": 2},
        population=[("ana", 2, "Active", 99.5), ("ben", 2, "Active", 91)],
    ).write(out)
    report = tmp_path / "report.json"
    assert cli.main(["report", str(out), "--format", "json", "-o", str(report)]) == 0
    return report, json.loads(report.read_text("utf-8"))


def verify(report: Path, capsys: pytest.CaptureFixture[str], folder: str = "out") -> Any:
    code = cli.main(["report", str(report.parent / folder), "--verify", str(report)])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_each_key_names_what_it_stands_on(made: tuple[Path, dict[str, Any]]) -> None:
    """As the shell's own programs find it."""
    report, found = made
    keys = {key["user"]: key for key in found["keys"]}
    file, line = keys["ana"]["source_file"], keys["ana"]["source_line"]
    assert (file, line) == ("out/iam-user-second-access-key-stale/keyrot-summary.jsonl", 2)
    command = f"sed -n {line}p {file} | sha256sum"
    shell = subprocess.run(command, shell=True, cwd=report.parent, capture_output=True, text=True)
    assert shell.stdout.split()[0] == keys["ana"]["source_sha256"]
    file = report.parent / keys["ben"]["source_file"]
    assert keys["ben"]["source_line"] is None
    digest = hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()
    assert digest == keys["ben"]["source_sha256"]
    assert str(report.parent) not in report.read_text("utf-8")


def test_all_is_as_it_was(
    made: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = verify(made[0], capsys)
    assert code == 0
    assert "2 keys: 2 sources, 2 as they were, 0 not; 0 keys without one" in text


@pytest.mark.parametrize("which", ["line", "population", "gone"])
def test_what_was_changed_is_named(
    made: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], which: str
) -> None:
    report, found = made
    keys = {key["user"]: key for key in found["keys"]}
    file = report.parent / keys["ben" if which == "population" else "ana"]["source_file"]
    if which == "gone":
        file.unlink()
    elif which == "line":
        file.write_text(file.read_text("utf-8").replace('"fresh": 4', '"fresh": 5'), "utf-8")
    else:
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"ben", b"bob")))
    code, text = verify(report, capsys)
    assert code == 1
    assert f"{file.name}: {'the file' if which == 'population' else 'line 2'} isn't what" in text
    assert "1 as they were, 1 not" in text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"keys": [1]}', "x"])
def test_what_is_no_report_is_one_line(
    made: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], content: str
) -> None:
    report, _ = made
    report.write_text(content, "utf-8")
    code, text = verify(report, capsys)
    assert code == 1
    assert "give a report of --format json" in text


@pytest.mark.parametrize("file", ["../etc/passwd", "/etc/passwd", "out/../../x", ""])
def test_a_report_reads_no_file_elsewhere(
    made: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], file: str
) -> None:
    report, found = made
    for key in found["keys"]:
        digest = hashlib.sha256(Path("/etc/passwd").read_bytes()).hexdigest()
        key.update(source_file=file, source_line=None, source_sha256=digest)
    report.write_text(json.dumps(found), "utf-8")
    code, text = verify(report, capsys)
    assert (code, "0 as they were" in text) == (1, True)


def test_nothing_to_compare_is_no_yes(
    made: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    report, found = made
    report.write_text(json.dumps({**found, "keys": []}), "utf-8")
    assert verify(report, capsys)[0] == 1
