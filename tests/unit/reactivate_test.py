# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the files of outcomes say of a key, without an AWS."""

from __future__ import annotations

import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from c7n_keyrot import cli
from c7n_keyrot.cli import CommandError, reactivate
from c7n_keyrot.outcomes import UNKNOWN, Outcome

DISABLE, DELETE, REACTIVATE = "disable-access-key", "delete-access-key", "reactivate"
KEY = "AKIAIOSFODNN7EXAMPLE"


def line(minute: int = 0, outcome: str = "disabled", action: str = DISABLE, **more) -> Outcome:
    made = {
        "time": f"2026-05-01T10:{minute:02}:00.000+00:00",
        "account_id": "123456789012",
        "policy": "p",
        "run": "r",
        "action": action,
        "user": "ana",
        "slot": 2,
        "access_key_id": KEY,
        "outcome": outcome,
        "reason": "",
    }
    return Outcome(**{**made, **more})


def write(path: Path, *lines: Outcome | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [one if isinstance(one, str) else json.dumps(asdict(one)) for one in lines]
    content = "".join(f"{text}\n" for text in texts).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def ours(*lines: Outcome | str, folder: Path) -> list[str]:
    write(folder / "keyrot-outcomes.jsonl", *lines)
    keys = reactivate.history(reactivate.files(str(folder)))
    return [key.id for key in keys if reactivate.is_ours(key.last)]


@pytest.mark.parametrize(
    ("after", "is_ours"),
    [
        # (what comes after the key was disabled, is its being inactive still the pack's work?)
        ([], True),
        ([line(1, "reactivated", REACTIVATE)], False),
        ([line(1, "reactivated", REACTIVATE), line(2)], True),
        ([line(1, "skipped", REACTIVATE)], False),  # somebody else had switched it on
        ([line(1, "denied", REACTIVATE)], True),
        ([line(1, "failed", REACTIVATE)], True),
        ([line(1, "gone", REACTIVATE)], True),  # perhaps only out of sight
        ([line(1, "deleted", DELETE)], False),
        ([line(1, "denied", DELETE)], True),
        ([line(1, "failed", DELETE)], True),
        ([line(1, "skipped", DELETE)], False),  # it was active then
        ([line(1, "intended", DELETE)], True),
        ([line(1, "skipped")], True),  # it was inactive then
        ([line(1, "denied")], False),  # it was active then
        ([line(1, "failed", reason="Throttling")], False),
        ([line(1, "failed", reason=f"{UNKNOWN} (ServiceFailure)")], True),
        ([line(1, "reactivated", REACTIVATE, access_key_id="AKIAOTHER")], True),
        ([line(1, "reactivated", REACTIVATE, account_id="111111111111")], True),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_last_line_by_time_decides(tmp_path, after, is_ours, order):
    found = ours(*[line(), *after][::order], folder=tmp_path)
    assert found == ([KEY] if is_ours else [])


@pytest.mark.parametrize("outcome", ["disabled", "denied", "gone", "failed"])
def test_intent_and_outcome_of_one_time(tmp_path, outcome):
    write(tmp_path / "keyrot-intents.jsonl", line(1, "intended"))
    found = ours(line(1, outcome), folder=tmp_path)
    assert found == ([KEY] if outcome == "disabled" else [])


def test_intent_without_an_outcome_is_a_run_that_was_cut_short(tmp_path):
    write(tmp_path / "keyrot-intents.jsonl", line(5, "intended"))
    assert ours(line(1, "reactivated", REACTIVATE), folder=tmp_path) == [KEY]


@pytest.mark.parametrize(
    "damaged",
    [
        '{"time": "2026-05-01T10:0',
        "[]",
        line(9, "reactivated", time="yesterday"),
        line(9, "reactivated", time="2026-05-01T10:09:00"),
        line(9, "reactivated", time=5),
        line(9, "reactivated", access_key_id=None),
        line(9, "reactivated", user=["ana"]),
        line(9, "reactivated", account_id=None),
    ],
)
def test_damaged_lines_are_skipped(tmp_path, damaged):
    assert ours(line(), damaged, folder=tmp_path) == [KEY]


def test_files_of_whole_trees_and_copies_of_buckets(tmp_path):
    wanted = [
        write(tmp_path / "a/us-east-1/p/keyrot-outcomes.jsonl", line(access_key_id="AKIA1")),
        write(tmp_path / "p/2026/05/01/10/keyrot-outcomes-1f.jsonl.gz", line(access_key_id="A2")),
        write(tmp_path / "p/2026/05/01/10/keyrot-intents-1f.jsonl.gz", line(0, "intended")),
    ]
    write(tmp_path / "p/custodian-run.log.gz", "nothing")
    write(tmp_path / "p/keyrot-outcomes.jsonl.bak", line())
    assert reactivate.files(str(tmp_path)) == sorted(wanted)
    assert {key.id for key in reactivate.history(wanted)} == {"AKIA1", "A2", KEY}


@pytest.mark.parametrize(
    ("file", "record"),
    [
        ("keyrot-outcomes.jsonl", "keyrot-outcomes.jsonl"),
        ("keyrot-outcomes-1f.jsonl", "keyrot-outcomes-1f.jsonl"),
        ("keyrot-outcomes-1f.jsonl.gz", "keyrot-outcomes.jsonl"),
        ("keyrot-intents.jsonl", "keyrot-outcomes.jsonl"),
    ],
)
def test_where_it_is_recorded(tmp_path, file, record):
    write(tmp_path / file, line())
    (key,) = reactivate.history(reactivate.files(str(tmp_path)))
    assert reactivate._record_file(key) == tmp_path / record


def test_cut_off_copy_is_refused(tmp_path):
    """What it has lost may be that the key was reactivated."""
    path = write(tmp_path / "keyrot-outcomes.jsonl.gz", *[line(n) for n in range(50)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CommandError, match=r"can't read .*jsonl\.gz"):
        reactivate.history([path])


def problems(capsys, *args):
    assert cli.main(["reactivate", *map(str, args)]) == 1
    (text,) = capsys.readouterr().err.splitlines()
    return text


def test_one_line_for_a_folder_that_is_none(tmp_path, capsys):
    file = write(tmp_path / "file", "")
    (tmp_path / "empty").mkdir()
    assert "is not there; OUTPUT_DIR is" in problems(capsys, tmp_path / "typo")
    assert "is a file; name its folder" in problems(capsys, file)
    assert "no keyrot-outcomes.jsonl anywhere below" in problems(capsys, tmp_path / "empty")
    assert "aws s3 sync s3://bucket/out DIR" in problems(capsys, "s3://bucket/out")


def test_signs_that_change_what_a_terminal_shows():
    assert reactivate._clean("a\x1b[2Jb\r\n\u202e") == "a?[2Jb???"


@pytest.mark.parametrize("text", ["", "[]", "accounts: 5", "accounts: [{name: a}]", "a: [", "- x"])
def test_accounts_file_that_is_none(tmp_path, text):
    path = tmp_path / "accounts.yml"
    path.write_text(text)
    with pytest.raises(CommandError, match=r"is no accounts\.yml of c7n-org"):
        reactivate._accounts(path)


class FakeIam:
    def __init__(self) -> None:
        self.active: list[str] = []

    def update_access_key(self, UserName: str, AccessKeyId: str, Status: str) -> None:
        assert Status == "Active"
        self.active.append(AccessKeyId)


def test_disk_that_is_full_stops_it(tmp_path, mocker, capsys):
    """What isn't recorded would be undone again later, when it may be somebody's decision."""
    mocker.patch.object(reactivate, "WORKERS", 1)
    mocker.patch.object(reactivate.outcomes, "append", side_effect=OSError(28, "No space left"))
    file = write(tmp_path / "keyrot-outcomes.jsonl", *[line(access_key_id=f"K{n}") for n in "12"])
    iam = FakeIam()
    findings = [
        reactivate.Finding(key, iam, "ana", "reactivated") for key in reactivate.history([file])
    ]
    assert reactivate._carry_out(findings) == []
    assert iam.active == ["K1"]
    text = capsys.readouterr().err
    assert "key K1: reactivated, but" in text
    assert "(No space left): no further key is touched" in text


def test_after_ctrl_c_no_further_key_is_touched(tmp_path, mocker):
    """The call under way ends; what it did is recorded."""
    mocker.patch.object(reactivate, "WORKERS", 1)
    mocker.patch.object(reactivate, "_say", side_effect=KeyboardInterrupt)
    ends = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            ends.set()
            super().shutdown(wait=wait)

    class SlowIam(FakeIam):
        def update_access_key(self, **call):
            super().update_access_key(**call)
            assert self.active == ["K1"] or ends.wait(60)

    mocker.patch.object(reactivate, "ThreadPoolExecutor", Pool)
    names = [f"K{n}" for n in "1234"]
    file = write(tmp_path / "keyrot-outcomes.jsonl", *[line(access_key_id=key) for key in names])
    iam = SlowIam()
    findings = [
        reactivate.Finding(key, iam, "ana", "reactivated") for key in reactivate.history([file])
    ]
    with pytest.raises(KeyboardInterrupt):
        reactivate._carry_out(findings)
    assert iam.active in (["K1"], ["K1", "K2"])
    recorded = [key.id for key in reactivate.history([file]) if key.last.outcome == "reactivated"]
    assert recorded == iam.active


def test_folder_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path, mocker):
    file = write(tmp_path / "keyrot-outcomes.jsonl", line())
    mocker.patch("os.access", return_value=False)
    findings = [
        reactivate.Finding(key, None, "ana", "reactivated") for key in reactivate.history([file])
    ]
    with pytest.raises(CommandError, match="can't be written, and what is done must be recorded"):
        reactivate._check_writable(findings)
