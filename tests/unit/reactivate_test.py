# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the files of outcomes say of a key, without an AWS."""

from __future__ import annotations

import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import pytest

from c7n_keyrot import cli
from c7n_keyrot.cli import CommandError, reactivate
from c7n_keyrot.outcomes import Outcome

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
    content = "".join(f"{text}\n" for text in texts).encode(errors="surrogateescape")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def history(folder: Path) -> list[reactivate.Key]:
    return reactivate.history(reactivate.read(reactivate.files(str(folder))))


def ours(*lines: Outcome | str, folder: Path) -> list[str]:
    write(folder / "keyrot-outcomes.jsonl", *lines)
    keys = history(folder)
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
        ([line(1, "intended", REACTIVATE)], False),  # perhaps switched on, and off on purpose
        ([line(1, "unknown", REACTIVATE)], False),
        ([line(1, "unknown", REACTIVATE), line(2)], True),
        ([line(1, "gone", REACTIVATE)], True),  # perhaps only out of sight
        ([line(1, "deleted", DELETE)], False),
        ([line(1, "denied", DELETE)], True),
        ([line(1, "failed", DELETE)], True),
        ([line(1, "skipped", DELETE)], False),  # it was active then
        ([line(1, "intended", DELETE)], True),
        ([line(1, "skipped")], True),  # it was inactive then
        ([line(1, "denied")], False),  # it was active then
        ([line(1, "failed", reason="Throttling")], False),
        ([line(1, "unknown")], True),
        ([line(1, "reactivated", REACTIVATE, access_key_id="AKIAOTHER")], True),
        ([line(1, "reactivated", REACTIVATE, account_id="111111111111")], True),
    ],
)
@pytest.mark.parametrize("forwards", [True, False])
def test_last_line_decides(tmp_path, after, is_ours, forwards):
    """It is the last of its file, whatever the clocks said that wrote it."""
    lines = [line(), *after]
    times = [one.time for one in lines][:: 1 if forwards else -1]
    lines = [replace(one, time=time) for one, time in zip(lines, times, strict=True)]
    assert ours(*lines, folder=tmp_path) == ([KEY] if is_ours else [])


@pytest.mark.parametrize("names", [("-1", "-2"), ("-2", "-1")])
def test_last_file_by_time_decides(tmp_path, names):
    """A bucket has a file for each run."""
    write(tmp_path / f"keyrot-outcomes{names[0]}.jsonl", line(1), line(0, access_key_id="AKIA2"))
    write(tmp_path / f"keyrot-outcomes{names[1]}.jsonl", line(2, "reactivated", REACTIVATE))
    found = [key.id for key in history(tmp_path) if reactivate.is_ours(key.last)]
    assert found == ["AKIA2"]


def test_order_of_intents_though_a_clock_is_behind(tmp_path):
    """A reactivate whose machine is five minutes behind is killed: that is later all the same."""
    write(
        tmp_path / "keyrot-intents.jsonl",
        line(8, "intended"),
        line(4, "intended", REACTIVATE, run="r2"),
    )
    assert ours(line(9), folder=tmp_path) == []
    (key,) = history(tmp_path)
    assert reactivate.in_doubt(key.last)


@pytest.mark.parametrize(
    ("outcome", "is_ours"), [("denied", True), ("failed", True), ("reactivated", False)]
)
def test_intent_that_has_its_outcome_is_no_doubt(tmp_path, outcome, is_ours):
    write(
        tmp_path / "keyrot-intents.jsonl",
        line(0, "intended"),
        line(2, "intended", REACTIVATE, run="r2"),
    )
    after = line(2, outcome, REACTIVATE, run="r2")
    assert ours(line(), after, folder=tmp_path) == ([KEY] if is_ours else [])


def test_open_intent_stays_where_a_later_deed_came_to_nothing(tmp_path):
    """The run that disabled it was killed; a reactivate after it was denied."""
    write(
        tmp_path / "keyrot-intents.jsonl",
        line(0, "intended"),
        line(2, "intended", REACTIVATE, run="r2"),
    )
    assert ours(line(2, "denied", REACTIVATE, run="r2"), folder=tmp_path) == [KEY]


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
        line(9, "failed", reason=None),
        line(9, "failed", reason=5),
        line(9, "reactivated", time="0001-01-01T00:00:00+23:00"),
    ],
)
def test_damaged_lines_are_skipped(tmp_path, damaged):
    assert ours(line(), damaged, folder=tmp_path) == [KEY]


def cut(one: Outcome, part: float = 0.6) -> str:
    text = json.dumps(asdict(one))
    return text[: int(len(text) * part)]


INTENDED = line(3, "intended", run="r3", access_key_id="AKIA3")


@pytest.mark.parametrize(
    ("outcome_lines", "intent_lines", "told"),
    [
        ([line(), ""], [INTENDED, ""], []),  # an empty line may come in between
        ([line(), cut(line())], [], ["line 2"]),
        ([cut(line()), line(), "[]", line()], [], ["2 lines", "line 1"]),
        ([line(9, reason=None)], [], ["1 line can't", "line 1"]),
        ([line(9, time="yesterday")], [], ["line 1"]),
        # What a killed run leaves: the intent tells of the key.
        ([line(), cut(replace(INTENDED, outcome="disabled"))], [INTENDED], []),
        ([cut(replace(INTENDED, outcome="disabled"), 0.99), line()], [INTENDED], []),
        ([line(), cut(line(1, "skipped", run="r3"), 0.8)], [INTENDED], ["line 2"]),
        ([line(), cut(INTENDED, 0.1)], [INTENDED], ["line 2"]),  # it may be anybody's
        # Half an intent was followed by nothing.
        ([line()], [cut(INTENDED)], []),
        ([line()], [cut(INTENDED), line(0, "intended")], []),
        ([line()], [cut(INTENDED), INTENDED], ["keyrot-intents.jsonl", "line 1"]),
        ([line()], [cut(INTENDED).replace("r3", "r\udcff")], []),
        ([line()], ["\0" * 50], ["keyrot-intents.jsonl", "line 1"]),
    ],
)
def test_what_cannot_be_read_is_said_unless_a_killed_run_left_it(
    tmp_path, outcome_lines, intent_lines, told
):
    write(tmp_path / "keyrot-outcomes.jsonl", *outcome_lines)
    if intent_lines:
        write(tmp_path / "keyrot-intents.jsonl", *intent_lines)
    found = reactivate.damage(reactivate.read(reactivate.files(str(tmp_path))))
    assert len(found) == bool(told)
    assert all(word in found[0] for word in told)


def test_random_bytes_and_an_emptied_file(tmp_path, capsys):
    file = write(tmp_path / "a/keyrot-outcomes.jsonl", "")
    for content, words in ((b"", "it is empty"), (bytes(range(256)) * 9, "lines can't be read")):
        file.write_bytes(content)
        assert cli.main(["reactivate", str(tmp_path)]) == 1
        out, err = capsys.readouterr()
        assert "Nothing to reactivate" in out
        (text,) = err.splitlines()
        assert text.startswith(f"{file}: ")
        assert words in text


def test_files_of_whole_trees_and_copies_of_buckets(tmp_path):
    wanted = [
        write(tmp_path / "a/us-east-1/p/keyrot-outcomes.jsonl", line(access_key_id="AKIA1")),
        write(tmp_path / "p/2026/05/01/10/keyrot-outcomes-1f.jsonl.gz", line(access_key_id="A2")),
        write(tmp_path / "p/2026/05/01/10/keyrot-intents-1f.jsonl.gz", line(0, "intended")),
    ]
    write(tmp_path / "p/custodian-run.log.gz", "nothing")
    write(tmp_path / "p/keyrot-outcomes.jsonl.bak", line())
    assert reactivate.files(str(tmp_path)) == sorted(wanted)
    assert {key.id for key in reactivate.history(reactivate.read(wanted))} == {"AKIA1", "A2", KEY}


@pytest.mark.parametrize(
    ("file", "record"),
    [
        ("keyrot-outcomes.jsonl", "keyrot-outcomes.jsonl"),
        ("keyrot-outcomes-1f.jsonl", "keyrot-outcomes-1f.jsonl"),
        ("keyrot-outcomes-1f.jsonl.gz", "keyrot-outcomes.jsonl"),
        ("keyrot-intents.jsonl", "keyrot-outcomes.jsonl"),
        ("keyrot-intents-1f.jsonl", "keyrot-outcomes-1f.jsonl"),
    ],
)
def test_where_it_is_recorded(tmp_path, file, record):
    write(tmp_path / file, line())
    (key,) = history(tmp_path)
    assert reactivate._record_file(key) == tmp_path / record
    intents = tmp_path / record.replace("outcomes", "intents")
    assert reactivate._intents_file(key) == intents


def test_folders_that_are_links_are_read_once(tmp_path):
    """What they hide may be that a key is no longer ours."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "out"
    write(elsewhere / "keyrot-outcomes.jsonl", line(9, "reactivated", REACTIVATE))
    write(folder / "p/keyrot-outcomes.jsonl", line())
    for name, target in (("a", elsewhere), ("b", elsewhere), ("p/up", folder), ("p/me", ".")):
        (folder / name).symlink_to(target)
    found = reactivate.files(str(folder))
    assert len(found) == 2
    assert [key.last.outcome for key in history(folder)] == ["reactivated"]
    (folder / "lost").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CommandError, match="lost: it links to nothing"):
        reactivate.files(str(folder))


def test_cut_off_copy_is_refused(tmp_path):
    """What it has lost may be that the key was reactivated."""
    path = write(tmp_path / "keyrot-outcomes.jsonl.gz", *[line(n) for n in range(50)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CommandError, match=r"can't read .*jsonl\.gz"):
        reactivate.read([path])


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
    """Every key is there and inactive; ana has them all."""

    def __init__(self) -> None:
        self.active: list[str] = []
        self.exceptions = SimpleNamespace(NoSuchEntityException=KeyError)

    def list_access_keys(self, UserName: str) -> dict:
        assert UserName == "ana"
        return {
            "AccessKeyMetadata": [
                {"AccessKeyId": key, "Status": "Active" if key in self.active else "Inactive"}
                for key in NAMES
            ]
        }

    def update_access_key(self, UserName: str, AccessKeyId: str, Status: str) -> None:
        assert Status == "Active"
        self.active.append(AccessKeyId)


NAMES = [f"K{n}" for n in "1234"]


def carry_out(folder: Path, iam: FakeIam) -> list[reactivate.Finding]:
    file = write(folder / "keyrot-outcomes.jsonl", *[line(access_key_id=key) for key in NAMES])
    keys = reactivate.history(reactivate.read([file]))
    return reactivate._carry_out(
        [reactivate.Finding(key, iam, "ana", "reactivated") for key in keys], keys
    )


@pytest.mark.parametrize(
    ("written", "active", "told"),
    [
        (0, [], "key K1: not tried: {}/keyrot-intents.jsonl can't be written"),
        (1, ["K1"], "key K1: reactivated, but {}/keyrot-outcomes.jsonl can't be written"),
    ],
)
def test_disk_that_is_full_stops_it(tmp_path, mocker, capsys, written, active, told):
    """What isn't recorded would be undone again later, when it may be somebody's decision."""
    mocker.patch.object(reactivate, "WORKERS", 1)
    effects = [None] * written + [OSError(28, "No space left")] * 9
    mocker.patch.object(reactivate.outcomes, "append", side_effect=effects)
    iam = FakeIam()
    assert carry_out(tmp_path, iam) == []
    assert iam.active == active
    text = capsys.readouterr().err
    assert told.format(tmp_path) in text
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
    iam = SlowIam()
    with pytest.raises(KeyboardInterrupt):
        carry_out(tmp_path, iam)
    assert iam.active in (["K1"], ["K1", "K2"])
    recorded = [key.id for key in history(tmp_path) if key.last.outcome == "reactivated"]
    assert recorded == iam.active


def test_what_answers_a_line_is_not_older_than_it(tmp_path):
    """The files of a bucket are put in order by their times; this machine's clock may be behind."""
    late = "2999-01-01T00:00:00.000+00:00"
    write(tmp_path / "keyrot-outcomes-1f.jsonl.gz", line(time=late, access_key_id="K1"))
    keys = history(tmp_path)
    findings = [reactivate.Finding(key, FakeIam(), "ana", "reactivated") for key in keys]
    (done,) = reactivate._carry_out(findings, keys)
    assert done.outcome == "reactivated"
    (key,) = history(tmp_path)
    assert (key.last.outcome, key.last.time) == ("reactivated", late.replace(".000", ".001"))


def test_look_is_recorded_with_its_own_time(tmp_path):
    looks = []

    class OnAlready(FakeIam):
        def list_access_keys(self, **call):
            looks.append(datetime.now(timezone.utc))
            sleep(0.01)
            return super().list_access_keys(**call)

    iam = OnAlready()
    iam.active = NAMES
    write(tmp_path / "keyrot-outcomes.jsonl", line(access_key_id="K1"))
    keys = history(tmp_path)
    found = reactivate._look_at_user(iam, "ana", keys)
    assert [one.outcome for one in reactivate._carry_out(found, keys)] == ["skipped"]
    (key,) = history(tmp_path)
    assert key.last.outcome == "skipped"
    assert looks[0] < key.time <= looks[1]


def test_progress_is_told_every_two_seconds(mocker, capsys):
    mocker.patch.object(reactivate, "wait", lambda futures, timeout: wait(futures, timeout / 20))
    free = threading.Event()
    threading.Timer(0.5, free.set).start()
    assert reactivate._each("users looked at", lambda item: free.wait(60) and item, [1, 2]) == [
        1,
        2,
    ]
    assert "users looked at: 0 of 2" in capsys.readouterr().err.splitlines()


def test_folder_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path, mocker):
    file = write(tmp_path / "keyrot-outcomes.jsonl", line())
    mocker.patch("os.access", return_value=False)
    findings = [
        reactivate.Finding(key, None, "ana", "reactivated")
        for key in reactivate.history(reactivate.read([file]))
    ]
    with pytest.raises(CommandError, match="can't be written, and what is done must be recorded"):
        reactivate._check_writable(findings)
