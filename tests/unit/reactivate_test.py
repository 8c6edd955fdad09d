# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the files of outcomes say of a key, without an AWS."""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import shlex
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import jmespath
import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError
from in_memory import client_error
from pytest_mock import MockerFixture

from c7n_keyrot import cli
from c7n_keyrot.aws import settings
from c7n_keyrot.cli.reactivate import screen, work
from c7n_keyrot.cli.reactivate.history import KeyHistory, key_histories
from c7n_keyrot.cli.reactivate.live_keys import Finding, NotTouched, look_at_user
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import Action, Outcome, Result
from c7n_keyrot.evidence.outcome_files import OutcomeFile, read_tree

DISABLE, DELETE, REACTIVATE = "disable-access-key", "delete-access-key", "reactivate"
KEY = "AKIAIOSFODNN7EXAMPLE"


def line(minute: int = 0, outcome: str = "disabled", action: str = DISABLE, **more: Any) -> Outcome:
    made = {
        "time": f"2026-05-01T10:{minute:02}:00.000+00:00",
        "account_id": "123456789012",
        "policy": "p",
        "run": f"r{minute}",
        "action": action,
        "user": "ana",
        "slot": 2,
        "access_key_id": KEY,
        "outcome": outcome,
        "reason": "",
    }
    made |= more
    return Outcome(**made | {"action": Action(made["action"]), "outcome": Result(made["outcome"])})


def write(path: Path, *lines: Outcome | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [one if isinstance(one, str) else json.dumps(asdict(one)) for one in lines]
    content = "".join(f"{text}\n" for text in texts).encode(errors="surrogateescape")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def keys_of(folder: Path) -> list[KeyHistory]:
    return key_histories(read(folder))


def read(folder: Path, damage: list[str] | None = None) -> list[OutcomeFile]:
    told: list[str] = [] if damage is None else damage
    return read_tree(str(folder), lambda _: "", lambda one: told.append(str(one)))


def damage_in(folder: Path) -> list[str]:
    told: list[str] = []
    read(folder, told)
    return told


def intents_of(*lines: Outcome | str) -> list[Outcome]:
    """The intents that a run of the pack writes before it disables these."""
    return [
        replace(one, outcome=Result.INTENDED)
        for one in lines
        if isinstance(one, Outcome) and (one.action, one.outcome) == (DISABLE, "disabled")
    ]


def standing(*lines: Outcome | str, folder: Path, intents: list[Outcome] | None = None) -> str:
    """Whose work it is by these lines that the key is inactive: "ours", "in doubt", "not ours"."""
    write(folder / "keyrot-outcomes.jsonl", *lines)
    intents = intents_of(*lines) if intents is None else intents
    if intents:
        write(folder / "keyrot-intents.jsonl", *intents)
    (key,) = (key for key in keys_of(folder) if key.place == ("123456789012", KEY))
    assert not (key.ours and key.doubt)
    return "ours" if key.ours else "in doubt" if key.doubt else "not ours"


LOST = client_error("InternalFailure", "UpdateAccessKey", 500)
DENIED = client_error("AccessDenied", "UpdateAccessKey", 403)
GONE = client_error("NoSuchEntity", "UpdateAccessKey", 404)

TRIED = [line(10, "intended", REACTIVATE), line(10, "unknown", REACTIVATE)]
# What comes after the key was disabled at minute 0, and whose work its being inactive is then.
AFTER = [
    ([], "ours"),
    ([line(10, "reactivated", REACTIVATE)], "not ours"),
    ([line(10, "reactivated", REACTIVATE), line(20)], "ours"),
    ([line(10, "denied", REACTIVATE)], "ours"),
    ([line(10, "failed", REACTIVATE)], "ours"),
    ([line(10, "gone", REACTIVATE)], "ours"),  # perhaps only out of sight
    ([line(10, "intended", REACTIVATE)], "in doubt"),  # perhaps switched on, and off on purpose
    ([line(10, "unknown", REACTIVATE)], "ours"),  # it only looked, and didn't find the key
    ([*TRIED], "in doubt"),
    ([*TRIED, line(20)], "ours"),
    ([*TRIED, line(20, "denied", REACTIVATE)], "in doubt"),
    ([line(10, "deleted", DELETE)], "not ours"),
    ([line(10, "gone", DELETE)], "ours"),  # perhaps its user got another name
    ([line(10, "denied", DELETE)], "ours"),
    ([line(10, "failed", DELETE)], "ours"),
    ([line(10, "unknown", DELETE)], "ours"),  # if it is there
    ([line(10, "intended", DELETE)], "ours"),
    ([line(10, "skipped")], "ours"),  # it was inactive then
    ([line(10, "unknown")], "in doubt"),
    ([line(10, "intended")], "in doubt"),
    ([line(10, "reactivated", REACTIVATE, access_key_id="AKIAOTHER")], "ours"),
    ([line(10, "reactivated", REACTIVATE, account_id="111111111111")], "ours"),
]
# These have seen the key Active, if it wasn't IAM's lag.
SAW_IT_ACTIVE = [
    line(minute, outcome, action)
    for minute in (4, 5)
    for outcome, action in (
        ("denied", DISABLE),
        ("failed", DISABLE),
        ("gone", DISABLE),
        ("skipped", DELETE),
        ("skipped", REACTIVATE),
    )
]


@pytest.mark.parametrize(("after", "expected"), AFTER)
@pytest.mark.parametrize("forwards", [True, False])
def test_last_line_decides(
    tmp_path: Path, after: list[Outcome], expected: str, forwards: bool
) -> None:
    """It is the last of its file, whatever the clocks said that wrote it."""
    lines = [line(), *after]
    times = [one.time for one in lines][:: 1 if forwards else -1]
    lines = [replace(one, time=time) for one, time in zip(lines, times, strict=True)]
    assert standing(*lines, folder=tmp_path) == expected


@pytest.mark.parametrize("line_", SAW_IT_ACTIVE)
def test_seen_active_within_five_minutes_may_be_the_lag_of_a_listing(
    tmp_path: Path, line_: Outcome
) -> None:
    expected = "in doubt" if line_.time < line(5).time else "not ours"
    assert standing(line(), line_, folder=tmp_path) == expected
    assert standing(line(), replace(line_, time=line(30).time), folder=tmp_path) == "not ours"
    # Nor is what was no work of ours before.
    on = line(1, "reactivated", REACTIVATE)
    assert standing(line(), on, line_, folder=tmp_path) == "not ours"


@pytest.mark.parametrize("outcome", ["skipped", "denied", "failed"])
@pytest.mark.parametrize(
    "reason",
    ["unknown whether it took effect (ReadTimeoutError)", "the key is Active already", "disabled"],
)
def test_reason_decides_nothing(tmp_path: Path, outcome: str, reason: str) -> None:
    after = line(30, outcome)
    without = standing(line(), after, folder=tmp_path)
    assert standing(line(), replace(after, reason=reason), folder=tmp_path) == without


@pytest.mark.parametrize(
    ("intent", "expected"),
    [
        ({}, "ours"),
        ({"time": line(50).time}, "ours"),  # it is of the same run; clocks differ
        ({"user": "anna"}, "ours"),
        ({"run": "another"}, "in doubt"),
        ({"action": DELETE}, "in doubt"),
        ({"account_id": "111111111111"}, "in doubt"),
        ({"access_key_id": "AKIAOTHER"}, "in doubt"),
        ({"outcome": "disabled"}, "in doubt"),
    ],
)
def test_disabled_line_counts_with_an_intent_of_its_run_only(
    tmp_path: Path, intent: dict[str, str], expected: str
) -> None:
    made = line(0, **{"outcome": "intended", **intent})
    write(tmp_path / "keyrot-outcomes.jsonl", line())
    write(tmp_path / "b/keyrot-intents-1f.jsonl.gz", made)
    (key,) = (key for key in keys_of(tmp_path) if key.place == ("123456789012", KEY))
    assert key.ours == (expected == "ours")
    assert bool(key.doubt) == (expected == "in doubt")
    assert standing(line(), folder=tmp_path, intents=[made]) == expected


def test_disabled_line_alone_is_in_doubt(tmp_path: Path) -> None:
    assert standing(line(), folder=tmp_path, intents=[]) == "in doubt"


@pytest.mark.parametrize("names", [("-1", "-2"), ("-2", "-1")])
def test_last_file_by_time_decides(tmp_path: Path, names: tuple[str, str]) -> None:
    """A bucket has a file for each run."""
    before = [line(1), line(0, access_key_id="AKIA2")]
    write(tmp_path / f"keyrot-outcomes{names[0]}.jsonl", *before)
    write(tmp_path / f"keyrot-intents{names[0]}.jsonl", *intents_of(*before))
    write(tmp_path / f"keyrot-outcomes{names[1]}.jsonl", line(2, "reactivated", REACTIVATE))
    assert [key.id for key in keys_of(tmp_path) if key.ours] == ["AKIA2"]


def test_order_of_intents_though_a_clock_is_behind(tmp_path: Path) -> None:
    """A reactivate whose machine is five minutes behind is killed: that is later all the same."""
    intents = [line(9, "intended"), line(4, "intended", REACTIVATE)]
    assert standing(line(9), folder=tmp_path, intents=intents) == "in doubt"
    intents.append(line(2, "intended"))
    lines = [line(9), line(4, "reactivated", REACTIVATE), line(2)]
    assert standing(*lines, folder=tmp_path, intents=intents) == "ours"


def test_order_of_outcomes_though_a_clock_is_behind(tmp_path: Path) -> None:
    """A killed run's intent is followed by another run's, whose machine is behind."""
    intents = [line(30, "intended"), line(4, "intended", REACTIVATE)]
    lines = [line(4, "reactivated", REACTIVATE)]
    assert standing(*lines, folder=tmp_path, intents=intents) == "not ours"


@pytest.mark.parametrize(
    ("outcome", "expected"), [("denied", "ours"), ("failed", "ours"), ("reactivated", "not ours")]
)
def test_intent_that_has_its_outcome_is_no_doubt(
    tmp_path: Path, outcome: str, expected: str
) -> None:
    intents = [line(0, "intended"), line(20, "intended", REACTIVATE)]
    after = line(20, outcome, REACTIVATE)
    assert standing(line(), after, folder=tmp_path, intents=intents) == expected


def test_open_intent_stays_where_a_later_deed_came_to_nothing(tmp_path: Path) -> None:
    """The run that disabled it was killed; a reactivate after it was denied."""
    intents = [line(0, "intended"), line(20, "intended", REACTIVATE)]
    after = line(20, "denied", REACTIVATE)
    assert standing(after, folder=tmp_path, intents=intents) == "in doubt"


@pytest.mark.parametrize("outcome", ["disabled", "denied", "gone", "failed"])
def test_intent_and_outcome_of_one_time(tmp_path: Path, outcome: str) -> None:
    expected = "ours" if outcome == "disabled" else "not ours"
    intents = [line(1, "intended")]
    assert standing(line(1, outcome), folder=tmp_path, intents=intents) == expected


def test_intent_without_an_outcome_is_a_run_that_was_cut_short(tmp_path: Path) -> None:
    """Whether it was at this key, nobody knows: in a bucket they are all there from the start."""
    before = line(1, "reactivated", REACTIVATE)
    assert standing(before, folder=tmp_path, intents=[line(5, "intended")]) == "in doubt"
    (key,) = keys_of(tmp_path)
    assert "was cut short" in key.doubt


# -- what can't be read


@pytest.mark.parametrize(
    "damaged",
    [
        '{"time": "2026-05-01T10:0',
        "[]",
        "[" * 5000,
        '{"a":' * 5000,
        "9" * 5000,
        "NaN",
        json.dumps(asdict(line(9, "reactivated"))).replace('"slot": 2', '"slot": NaN'),
        json.dumps(asdict(line(9, "reactivated"))).replace('"slot": 2', f'"slot": {"2" * 5000}'),
        line(9, "reactivated", time="yesterday"),
        line(9, "reactivated", time="2026-05-01T10:09:00"),
        line(9, "reactivated", time=5),
        line(9, "reactivated", time="0001-01-01T00:00:00+23:00"),
        line(9, "reactivated", time="9999-12-31T23:59:59.999+00:00"),
        line(9, "reactivated", time="9999-12-31T23:59:59-23:00"),
        line(9, "reactivated", user=["ana"]),
        line(9, "reactivated", user="a\ud800"),
        line(9, "reactivated", reason="\udfff"),
        line(9, "reactivated", account_id=None),
        line(9, "reactivated", account_id="12345678901\u0662"),
        line(9, "reactivated", access_key_id="--yes"),
        line(9, "reactivated", access_key_id="A; rm -rf /"),
        line(9, "reactivated", slot=3),
        line(9, "reactivated", slot=2**70),
        line(9, "reactivated", slot=True),
        line(9, "reactivated", slot=2.0),
        json.dumps(asdict(line(9, "reactivated"))).replace("reactivated", "switched on"),
        json.dumps(asdict(line(9))).replace("disable-access-key", "switch-on"),
        line(9, "skipped", reason="a" * 70_000),
        line(9, "failed", reason=None),
        line(9, "failed", reason=5),
    ],
)
def test_line_that_cannot_be_read_is_told_of_and_costs_no_other(
    tmp_path: Path, damaged: str | Outcome
) -> None:
    """The key is ours by the line before; another one is by the line after."""
    other = line(1, access_key_id="AKIAOTHER")
    assert standing(line(), damaged, other, folder=tmp_path) == "ours"
    assert [key.ours for key in keys_of(tmp_path)] == [True, True]
    (told,) = damage_in(tmp_path)
    assert "1 line can't be read (the first is line 2)" in told


def test_line_about_no_key_that_could_be_named_is_no_damage(tmp_path: Path) -> None:
    assert standing(line(), line(9, "skipped", access_key_id=None), folder=tmp_path) == "ours"
    assert damage_in(tmp_path) == []


def test_endless_line_is_read_on_without_holding_it(tmp_path: Path) -> None:
    path = write(tmp_path / "keyrot-outcomes.jsonl", line(access_key_id="AKIA1"))
    write(tmp_path / "keyrot-intents.jsonl", line(0, "intended", access_key_id="AKIA1"))
    with path.open("ab") as file:
        file.truncate(300_000_000)  # all zeros, and no place on the disk
        file.seek(0, 2)
        file.write(b"\n" + json.dumps(asdict(line(1, access_key_id="AKIA2"))).encode() + b"\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (_, found) = read(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB
    assert [isinstance(one, Outcome) for one in found.lines] == [True, False, True]


def gzip_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(json.dumps(asdict(line())).encode() + b"\n")
        for _ in range(400):
            file.write(bytes(1 << 20))


def cut_short(path: Path) -> None:
    """Random reasons, so that it doesn't shrink to one block."""
    lines = [line(n, reason=random.Random(n).randbytes(999).hex()) for n in range(50)]
    path.write_bytes(write(path, *lines).read_bytes()[:-400])


def not_gzip(path: Path) -> None:
    write(path.with_suffix(""), line()).rename(path)


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("keyrot-outcomes.jsonl.gz", gzip_bomb, "it is longer than 256 MB"),
        ("keyrot-outcomes.jsonl.gz", cut_short, "it can't be decompressed to its end"),
        ("keyrot-outcomes.jsonl.gz", not_gzip, "it can't be decompressed to its end"),
        ("keyrot-outcomes.jsonl", lambda path: path.write_text("x\n" * 5000), "more than 1000 of"),
        ("keyrot-outcomes.jsonl", os.mkfifo, "it is a FIFO, not a regular file"),
        ("keyrot-outcomes.jsonl.gz", os.mkfifo, "it is a FIFO, not a regular file"),
        ("keyrot-outcomes.jsonl", Path.mkdir, "it is a folder, not a regular file"),
        ("keyrot-outcomes.jsonl", lambda p: p.symlink_to("/dev/zero"), "it is a device, not a"),
        ("keyrot-intents.jsonl", os.mkfifo, "it is a FIFO, not a regular file"),
    ],
)
def test_file_that_cannot_be_read_costs_no_other(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    make: Callable[[Path], object],
    told: str,
) -> None:
    """What it tells of, as far as it could be read, is in doubt: its end may say otherwise."""
    (tmp_path / "a").mkdir()
    make(tmp_path / "a" / name)
    write(tmp_path / "b/keyrot-outcomes.jsonl", line(access_key_id="AKIAOTHER"))
    write(tmp_path / "b/keyrot-intents.jsonl", line(0, "intended", access_key_id="AKIAOTHER"))
    write(tmp_path / "c/keyrot-intents.jsonl", *[line(n, "intended") for n in range(50)])
    damage: list[str] = []
    found = read(tmp_path, damage)
    (text,) = [text for text in damage if told in text]
    assert text.startswith(f"{tmp_path / 'a' / name}: {told}")
    assert [key.id for key in key_histories(found) if key.ours] == ["AKIAOTHER"]


def test_socket_is_no_file_of_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("keyrot-outcomes.jsonl")
        (text,) = damage_in(Path())
    assert "it is a socket, not a regular file" in text


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
        ([line(), cut(replace(INTENDED, outcome=Result.DISABLED))], [INTENDED], []),
        ([cut(replace(INTENDED, outcome=Result.DISABLED), 0.99), line()], [INTENDED], []),
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
    tmp_path: Path,
    outcome_lines: list[Outcome | str],
    intent_lines: list[Outcome | str],
    told: list[str],
) -> None:
    write(tmp_path / "keyrot-outcomes.jsonl", *outcome_lines)
    if intent_lines:
        write(tmp_path / "keyrot-intents.jsonl", *intent_lines)
    found = damage_in(tmp_path)
    assert len(found) == bool(told)
    assert all(word in found[0] for word in told)


def test_random_bytes_and_an_emptied_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a/keyrot-outcomes.jsonl", "")
    for content, words in ((b"", "it is empty"), (bytes(range(256)) * 9, "lines can't be read")):
        file.write_bytes(content)
        assert cli.main(["reactivate", str(tmp_path)]) == 1
        out, err = capsys.readouterr()
        assert "Nothing to reactivate" in out
        (text,) = err.splitlines()
        assert text.startswith(f"{file}: ")
        assert words in text


def test_files_of_whole_trees_and_copies_of_buckets(tmp_path: Path) -> None:
    wanted = [
        write(tmp_path / "a/us-east-1/p/keyrot-outcomes.jsonl", line(access_key_id="AKIA1")),
        write(tmp_path / "p/2026/05/01/10/keyrot-outcomes-1f.jsonl.gz", line(access_key_id="A2")),
        write(tmp_path / "p/2026/05/01/10/keyrot-intents-1f.jsonl.gz", line(0, "intended")),
    ]
    write(tmp_path / "p/custodian-run.log.gz", "nothing")
    write(tmp_path / "p/keyrot-outcomes.jsonl.bak", line())
    assert [file.path for file in read(tmp_path)] == sorted(wanted)
    assert {key.id for key in keys_of(tmp_path)} == {"AKIA1", "A2", KEY}


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
def test_where_it_is_recorded(tmp_path: Path, file: str, record: str) -> None:
    write(tmp_path / file, line())
    (key,) = keys_of(tmp_path)
    assert work.record_file(key) == tmp_path / record
    assert work.intents_file(key) == tmp_path / record.replace("outcomes", "intents")


def test_folders_that_are_links_are_read_once(tmp_path: Path) -> None:
    """What they hide may be that a key is no longer ours."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "out"
    write(elsewhere / "keyrot-outcomes.jsonl", line(9, "reactivated", REACTIVATE))
    write(folder / "p/keyrot-outcomes.jsonl", line())
    for name, target in (("a", elsewhere), ("b", elsewhere), ("p/up", folder), ("p/me", ".")):
        (folder / name).symlink_to(target)
    assert len(read(folder)) == 2
    assert [key.last.outcome for key in keys_of(folder)] == ["reactivated"]
    (folder / "lost").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CommandError, match="lost: it links to nothing"):
        read(folder)


def problems(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert cli.main(["reactivate", *map(str, args)]) == 1
    (text,) = capsys.readouterr().err.splitlines()
    return text


def test_one_line_for_a_folder_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "file", "")
    (tmp_path / "empty").mkdir()
    assert "is not there; OUTPUT_DIR is" in problems(capsys, tmp_path / "typo")
    assert "is a file; name its folder" in problems(capsys, file)
    assert "no keyrot-outcomes.jsonl anywhere below" in problems(capsys, tmp_path / "empty")
    assert "aws s3 sync s3://bucket/out DIR" in problems(capsys, "s3://bucket/out")


# -- what is done


class FakeIam:
    """Every key is there and inactive; ana has them all."""

    def __init__(self) -> None:
        self.active: list[str] = []

    def list_access_keys(self, UserName: str) -> dict[str, Any]:
        assert UserName == "ana"
        return {
            "AccessKeyMetadata": [
                {
                    "AccessKeyId": key,
                    "Status": "Active" if key in self.active else "Inactive",
                    "CreateDate": datetime(2026, 1, 1, tzinfo=timezone.utc),
                }
                for key in NAMES
            ]
        }

    def get_user(self, UserName: str) -> dict[str, Any]:
        made = datetime(2020, 1, 1, tzinfo=timezone.utc)
        return {"User": {"UserName": UserName, "UserId": f"AIDA{UserName}", "CreateDate": made}}

    def get_access_key_last_used(self, AccessKeyId: str) -> dict[str, Any]:
        raise DENIED

    def update_access_key(self, UserName: str, AccessKeyId: str, Status: str) -> dict[str, Any]:
        assert Status == "Active"
        self.active.append(AccessKeyId)
        return {}


NAMES = [f"K{n}" for n in "1234"]


def access(iam_client: FakeIam | None) -> SimpleNamespace:
    arn = "arn:aws:iam::123456789012:user/undoer"
    return SimpleNamespace(
        client=lambda *_: iam_client, partition="aws", region="us-east-1", arn=arn
    )


def carry_out(
    folder: Path, iam_client: FakeIam, tell: Callable[[Finding], None] = screen.say
) -> list[Finding]:
    lines = [line(access_key_id=key) for key in NAMES]
    write(folder / "keyrot-outcomes.jsonl", *lines)
    write(folder / "keyrot-intents.jsonl", *intents_of(*lines))
    keys = keys_of(folder)
    findings = [Finding(key, access(iam_client), "ana", Result.REACTIVATED) for key in keys]
    return work.carry_out(findings, keys, tell)


@pytest.mark.parametrize(
    ("written", "active", "told"),
    [
        (0, [], "key K1: not tried: {}/keyrot-intents.jsonl can't be written"),
        (1, ["K1"], "key K1: reactivated, but {}/keyrot-outcomes.jsonl can't be written"),
    ],
)
def test_disk_that_is_full_stops_it(
    tmp_path: Path,
    mocker: MockerFixture,
    capsys: pytest.CaptureFixture[str],
    written: int,
    active: list[str],
    told: str,
) -> None:
    """What isn't recorded would be undone again later, when it may be somebody's decision."""
    mocker.patch.object(settings, "WORKERS", 1)
    effects = [None] * written + [OSError(28, "No space left")] * 9
    mocker.patch.object(outcomes, "append", side_effect=effects)
    client = FakeIam()
    assert carry_out(tmp_path, client) == []
    assert client.active == active
    text = capsys.readouterr().err
    assert told.format(tmp_path) in text
    assert "(No space left): no further key is touched" in text


def test_after_ctrl_c_no_further_key_is_touched(tmp_path: Path, mocker: MockerFixture) -> None:
    """The call under way ends; what it did is recorded."""
    mocker.patch.object(settings, "WORKERS", 1)
    ends = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            ends.set()
            super().shutdown(wait=wait)

    class SlowIam(FakeIam):
        def update_access_key(self, **call: Any) -> dict[str, Any]:
            super().update_access_key(**call)
            assert self.active == ["K1"] or ends.wait(60)
            return {}

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    mocker.patch.object(work, "ThreadPoolExecutor", Pool)
    client = SlowIam()
    with pytest.raises(KeyboardInterrupt):
        carry_out(tmp_path, client, interrupted)
    assert client.active in (["K1"], ["K1", "K2"])
    recorded = [key.id for key in keys_of(tmp_path) if key.last.outcome == "reactivated"]
    assert recorded == client.active


def test_fault_of_our_own_at_one_key_takes_away_no_other_outcome(
    tmp_path: Path, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    look = work.look_at_user

    def look_at_user(way: Any, user: str, keys: list[KeyHistory]) -> Any:
        if keys[0].id == "K2":
            raise RuntimeError("wJalrXUtnFEMI")
        return look(way, user, keys)

    def find_out(finding: Finding, lost: Any) -> Any:
        raise RuntimeError("wJalrXUtnFEMI")

    class LosesAnAnswer(FakeIam):
        def update_access_key(self, **call: Any) -> dict[str, Any]:
            if call["AccessKeyId"] == "K3":
                raise LOST
            return super().update_access_key(**call)

    mocker.patch.object(work, "look_at_user", look_at_user)
    mocker.patch.object(work, "_find_out", find_out)
    done = carry_out(tmp_path, LosesAnAnswer())
    assert {one.key.id: one.outcome for one in done} == {
        "K1": "reactivated",
        "K2": "failed",
        "K3": "unknown",
        "K4": "reactivated",
    }
    recorded = {key.id: key.last.outcome for key in keys_of(tmp_path)}
    assert recorded == {
        "K1": "reactivated",
        "K2": "disabled",
        "K3": "unknown",
        "K4": "reactivated",
    }
    out, err = capsys.readouterr()
    assert err.count("a bug: report it") == 2
    assert "wJalrXUtnFEMI" not in out + err


OFF, ON, NO_KEY = "Inactive", "Active", None


@pytest.mark.parametrize(
    ("updates", "listings", "outcome", "reason"),
    [
        # (what UpdateAccessKey answers, then ListAccessKeys (the last for ever), what is recorded)
        ([{}], [], "reactivated", ""),
        ([DENIED], [], "denied", "iam:UpdateAccessKey is denied (AccessDenied)"),
        ([GONE], [NO_KEY], "gone", "the key was deleted"),
        ([GONE], [OFF], "unknown", "deleted, or the user renamed"),
        ([GONE], [GONE], "unknown", "deleted, or the user renamed"),
        ([client_error("Throttling", "UpdateAccessKey", 400)], [], "failed", "Throttling"),
        ([LOST, {}], [], "reactivated", "the answer was lost (InternalFailure)"),
        ([LOST, LOST], [ON], "reactivated", "the answer was lost (InternalFailure)"),
        ([LOST, LOST], [OFF, OFF, ON], "reactivated", "the answer was lost (InternalFailure)"),
        ([LOST, LOST], [OFF], "unknown", "it may have taken effect (InternalFailure)"),
        ([LOST, LOST], [NO_KEY], "gone", "the key was deleted"),
        ([LOST, LOST], [OFF, DENIED], "unknown", "it may have taken effect (AccessDenied)"),
        ([LOST, DENIED], [ON], "reactivated", "the answer was lost (InternalFailure)"),
        ([LOST, DENIED], [OFF], "unknown", "it may have taken effect (AccessDenied)"),
        ([LOST, GONE], [NO_KEY], "gone", "the key was deleted"),
        # Its user may have got another name.
        ([LOST, GONE], [GONE], "unknown", "it may have taken effect (NoSuchEntity)"),
        ([ConnectionClosedError(endpoint_url="x"), {}], [], "reactivated", "the answer was lost"),
        ([ValueError("wJalrXUtnFEMI"), {}], [], "reactivated", "the answer was lost"),
        ([EndpointConnectionError(endpoint_url="x")], [], "failed", "no connection"),
    ],
)
def test_write_whose_answer_is_lost_is_made_again_before_anything_is_concluded(
    tmp_path: Path,
    mocker: MockerFixture,
    updates: list[Any],
    listings: list[Any],
    outcome: str,
    reason: str,
) -> None:
    """A listing proves the new status only; the old one may be IAM's lag."""
    mocker.patch.object(settings, "LAG", 0.01)
    updates, listings = list(updates), [OFF, *listings]  # the first is the look before

    class Faulty(FakeIam):
        def update_access_key(self, **call: Any) -> dict[str, Any]:
            answer = updates.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        def list_access_keys(self, UserName: str) -> dict[str, Any]:
            status = listings.pop(0) if len(listings) > 1 else listings[0]
            if isinstance(status, Exception):
                raise status
            key = {"AccessKeyId": "K1", "Status": status, "CreateDate": datetime.now(timezone.utc)}
            return {"AccessKeyMetadata": [key] if status else []}

    write(tmp_path / "keyrot-outcomes.jsonl", line(access_key_id="K1", user_id="AIDAana"))
    keys = keys_of(tmp_path)
    findings = [Finding(key, access(Faulty()), "ana", Result.REACTIVATED) for key in keys]
    (done,) = work.carry_out(findings, keys, lambda _: None)
    assert done.outcome == outcome
    assert reason in done.reason
    assert "wJalrXUtnFEMI" not in done.reason
    assert updates == []
    (key,) = keys_of(tmp_path)
    assert (key.last.outcome, bool(key.doubt)) == {
        # What says nothing of whose work it is leaves it as it was: without an intent.
        "reactivated": ("reactivated", False),
        "unknown": ("unknown", True),
    }.get(outcome, ("disabled", True))


def look_at(keys: list[KeyHistory], *listings: str) -> tuple[list[Finding], int]:
    """Look at K1 where IAM lists it so (the last for ever); the findings, and how many looks."""
    looks = []

    class Lagging(FakeIam):
        def list_access_keys(self, UserName: str) -> dict[str, Any]:
            status = listings[min(len(looks), len(listings) - 1)]
            looks.append(status)
            return {
                "AccessKeyMetadata": [
                    {
                        "AccessKeyId": "K1",
                        "Status": status,
                        "CreateDate": datetime.now(timezone.utc),
                    }
                ]
            }

    return look_at_user(access(Lagging()), "ana", keys), len(looks)


@pytest.mark.parametrize(
    ("seconds", "listings", "outcome", "looks"),
    [
        (5, [OFF], "reactivated", 1),
        (5, [ON, ON, OFF], "reactivated", 3),
        (5, [ON], "not settled", 6),
        (290, [ON], "not settled", 6),
        (310, [ON], "skipped", 1),
        (-600, [ON], "not settled", 6),  # the clock that wrote it is ahead
        (-600, [OFF], "reactivated", 1),
    ],
)
@pytest.mark.parametrize("last", ["disabled", "unknown", "intended"])
def test_listing_soon_after_a_run_may_be_behind(
    tmp_path: Path,
    mocker: MockerFixture,
    seconds: float,
    listings: list[Any],
    outcome: str,
    looks: int,
    last: str,
) -> None:
    mocker.patch.object(settings, "LAG", 0.01)
    time = (datetime.now(timezone.utc) - timedelta(seconds=seconds)).isoformat()
    name = "intents" if last == "intended" else "outcomes"
    write(tmp_path / f"keyrot-{name}.jsonl", line(0, last, time=time, access_key_id="K1"))
    (found,), looked = look_at(keys_of(tmp_path), *listings)
    assert (found.outcome, looked) == (outcome, looks)
    if outcome == "not settled":
        assert "listings lag: run this again in a few minutes" in found.reason
        assert found.bad
        assert work.carry_out([found], keys_of(tmp_path), lambda _: None) == [found]
        assert not (tmp_path / "keyrot-intents.jsonl").exists() or last == "intended"


def test_lag_counts_from_the_deactivation_not_from_a_later_line(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    """An earlier reactivate's lost call, a moment ago, may have switched it on."""
    now = datetime.now(timezone.utc).isoformat()
    lines = [line(), line(9, "unknown", REACTIVATE, time=now)]
    lines = [replace(one, access_key_id="K1") for one in lines]
    write(tmp_path / "keyrot-outcomes.jsonl", *lines)
    (found,), looked = look_at(keys_of(tmp_path), ON)
    assert (found.outcome, looked) == ("skipped", 1)


def test_what_answers_a_line_is_not_older_than_it(tmp_path: Path) -> None:
    """The files of a bucket are put in order by their times; this machine's clock may be behind."""
    late = "2999-01-01T00:00:00.000+00:00"
    write(tmp_path / "keyrot-outcomes-1f.jsonl.gz", line(time=late, access_key_id="K1"))
    keys = keys_of(tmp_path)
    findings = [Finding(key, access(FakeIam()), "ana", Result.REACTIVATED) for key in keys]
    (done,) = work.carry_out(findings, keys, screen.say)
    assert done.outcome == "reactivated"
    (key,) = keys_of(tmp_path)
    assert (key.last.outcome, key.last.time) == ("reactivated", late.replace(".000", ".001"))


def test_look_is_recorded_with_its_own_time(tmp_path: Path) -> None:
    looks = []

    class OnAlready(FakeIam):
        def list_access_keys(self, **call: Any) -> dict[str, Any]:
            looks.append(datetime.now(timezone.utc))
            sleep(0.01)
            return super().list_access_keys(**call)

    client = OnAlready()
    client.active = NAMES
    write(tmp_path / "keyrot-outcomes.jsonl", line(access_key_id="K1"))
    keys = keys_of(tmp_path)
    found = look_at_user(access(client), "ana", keys)
    assert [one.outcome for one in work.carry_out(found, keys, screen.say)] == ["skipped"]
    (key,) = keys_of(tmp_path)
    assert key.last.outcome == "skipped"
    assert key.last.caller == "arn:aws:iam::123456789012:user/undoer"
    assert looks[0] < key.time <= looks[1]


@pytest.mark.parametrize("name", ["outcomes", "intents"])
def test_fifo_in_the_place_of_a_record_is_refused_before_anything_is_done(
    tmp_path: Path, name: str
) -> None:
    other = "intents" if name == "outcomes" else "outcomes"
    write(tmp_path / f"keyrot-{other}.jsonl", line())
    os.mkfifo(tmp_path / f"keyrot-{name}.jsonl")
    findings = [Finding(key, access(None), "ana", Result.REACTIVATED) for key in keys_of(tmp_path)]
    with pytest.raises(CommandError, match=f"keyrot-{name}.jsonl can't be written"):
        work.check_writable(findings)


def test_folder_that_cannot_be_written_is_refused_before_anything_is_done(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    write(tmp_path / "keyrot-outcomes.jsonl", line())
    mocker.patch("os.access", return_value=False)
    findings = [Finding(key, access(None), "ana", Result.REACTIVATED) for key in keys_of(tmp_path)]
    with pytest.raises(CommandError, match="can't be written, and what is done must be recorded"):
        work.check_writable(findings)


@pytest.mark.parametrize(
    ("partition", "region"),
    [("aws", "us-east-1"), ("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")],
)
def test_command_for_cloudtrail(tmp_path: Path, partition: str, region: str) -> None:
    """It is a line that a shell reads as it is meant, and a query that the AWS CLI can read."""
    write(tmp_path / "keyrot-outcomes.jsonl", line())
    way = SimpleNamespace(partition=partition, region="eu-west-1")
    (found,) = (Finding(key, way, "ana", NotTouched.IN_DOUBT) for key in keys_of(tmp_path))
    parts = shlex.split(screen.trail(found))
    assert parts[:3] == ["aws", "cloudtrail", "lookup-events"]
    options = dict(zip(parts[3::2], parts[4::2], strict=True))
    assert options["--region"] == region
    assert options["--lookup-attributes"] == f"AttributeKey=ResourceName,AttributeValue={KEY}"
    events = {"Events": [{"EventName": n, "CloudTrailEvent": n} for n in ("UpdateAccessKey", "x")]}
    assert jmespath.search(options["--query"], events) == ["UpdateAccessKey"]


@pytest.mark.parametrize(
    ("answer", "agreed", "told"),
    [
        ("yes", True, ""),
        ("YES", True, ""),
        ("y", True, ""),
        (" Y ", True, ""),
        ("no", False, "Nothing done.\n"),
        ("N", False, "Nothing done.\n"),
        ("", False, "Nothing done.\n"),
        ("yep", False, "Nothing done: 'yep' is neither yes nor no.\n"),
        ("a\x1b[2J", False, "Nothing done: 'a [2J' is neither yes nor no.\n"),
        (EOFError(), False, "\nNothing done.\n"),
        (KeyboardInterrupt(), False, "\nNothing done.\n"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, ""), False, "is neither yes nor no"),
    ],
)
def test_answer(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str], answer: Any, agreed: bool, told: str
) -> None:
    mocker.patch("sys.stdin.isatty", return_value=True, create=True)
    mocker.patch("builtins.input", side_effect=[answer])
    assert screen.confirmed(1, yes=False) is agreed
    assert told in capsys.readouterr().out


def test_what_an_account_s_prefix_says_of_another_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a copy of the bucket of Lambda's outcomes; each may write below its own id only."""
    mine, theirs = "222222222222", "333333333333"
    folder = tmp_path / "lambda" / mine / "p" / "2026" / "05" / "01" / "10"
    for kind, outcome in (("outcomes", "disabled"), ("intents", "intended")):
        write(folder / f"keyrot-{kind}-r.jsonl.gz", line(1, outcome, run="r", account_id=theirs))
    assert cli.main(["reactivate", str(tmp_path), "--yes"]) == 1
    said = capsys.readouterr()
    assert "Nothing to reactivate" in said.out
    assert said.err.count(f"1 line of account {theirs}, in a folder of account {mine}") == 2


@pytest.mark.parametrize("status", ["Expired", "inactive", ""])
@pytest.mark.parametrize("minutes", [0, 60])
def test_a_key_that_is_neither_active_nor_inactive_is_left_and_said(
    tmp_path: Path, status: str, minutes: int
) -> None:
    """Nothing is known by it: neither that the key works, nor that it was switched off."""
    time = (datetime.now(timezone.utc) - timedelta(minutes=minutes)).isoformat()
    write(tmp_path / "keyrot-outcomes.jsonl", line(time=time, access_key_id="K1"))
    (found,), looked = look_at(keys_of(tmp_path), status)
    assert (found.outcome, looked, found.bad) == ("failed", 1, True)
    assert "neither Active nor Inactive" in found.reason
