# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The file of outcomes: whole lines, whoever else writes, and whatever was torn before."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from c7n.output import DirectoryOutput
from c7n.resources.aws import S3Output
from hypothesis import given
from hypothesis import strategies as st
from in_memory import outcomes_in
from pytest_mock import MockerFixture

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.outcomes import Action, Outcome, Result
from c7n_keyrot.core.rotation import Verdict
from c7n_keyrot.custodian import output as custodian_output
from c7n_keyrot.evidence import files

LINE = Outcome(
    time="2026-11-24T08:00:00.000+00:00",
    account_id="123456789012",
    policy="p",
    run="r",
    action=Action.DISABLE,
    user="ana",
    slot=2,
    access_key_id="AKIA1",
    outcome=Result.DISABLED,
    reason="",
)


def test_a_line_is_one_flat_object_with_all_fields_in_order(tmp_path: Path) -> None:
    path = tmp_path / outcomes.FILE
    outcomes.append(path, LINE)
    (line,) = path.read_text().splitlines()
    assert list(json.loads(line)) == [
        "time",
        "account_id",
        "policy",
        "run",
        "action",
        "user",
        "slot",
        "access_key_id",
        "outcome",
        "reason",
        "version",
        "user_id",
        "last_rotated",
        "age_days",
        "days",
        "deadline",
        "verdict",
        "owner",
        "caller",
        "message_id",
        "tags",
    ]
    assert outcomes_in(path) == [LINE]


def test_a_line_without_a_version_is_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / outcomes.FILE
    fields = asdict(LINE)
    del fields["version"]
    path.write_text(json.dumps(fields))
    assert outcomes_in(path) == [LINE]


OLDER = (
    b'{"time": "2026-11-24T08:00:00.000+00:00", "account_id": "123456789012", "policy": "p", '
    b'"run": "r", "action": "disable-access-key", "user": "ana", "slot": 2, "access_key_id": '
    b'"AKIA1", "outcome": "disabled", "reason": "", "version": 1, "user_id": null}\n'
)


def test_a_line_of_an_older_release_is_read() -> None:
    assert outcomes.parse(OLDER) == LINE


def test_what_a_line_says_of_its_key_comes_back(tmp_path: Path) -> None:
    whole = replace(
        LINE,
        last_rotated="2026-01-01T00:00:00+00:00",
        age_days=327.3,
        days=90,
        deadline="2026-04-01T00:00:00+00:00",
        verdict=Verdict.STALE,
        owner="Ana <ana@example.com>",
        caller="arn:aws:iam::123456789012:role/x",
    )
    outcomes.append(tmp_path / outcomes.FILE, whole)
    assert outcomes_in(tmp_path / outcomes.FILE) == [whole]


def test_words_of_a_line_are_printed_as_words() -> None:
    (line,) = [outcomes.parse(WHOLE)]
    assert (type(line.action), type(line.outcome)) == (Action, Result)
    assert f"{line.action} {line.outcome:>10} {line.outcome!s}" == (
        "disable-access-key   disabled disabled"
    )


@given(
    user=st.text(),
    reason=st.text(),
    slot=st.none() | st.integers(1, 2),
    key=st.none() | st.from_regex(outcomes.KEY_ID, fullmatch=True),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    user: str,
    reason: str,
    slot: int | None,
    key: str | None,
) -> None:
    path = tmp_path_factory.mktemp("o") / outcomes.FILE
    line = replace(LINE, user=user, reason=reason, slot=slot, access_key_id=key)
    outcomes.append(path, line)
    outcomes.append(path, LINE)
    assert path.read_bytes().count(b"\n") == 2
    assert outcomes_in(path) == [line, LINE]


WHOLE = json.dumps(asdict(LINE)).encode()


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (b"", 0),
        (WHOLE + b"\n", 1),
        (WHOLE + b"\n" + WHOLE + b"\n", 2),
        (WHOLE, 1),  # only the line's end is missing
        (WHOLE[:-1], 0),
        (WHOLE + b"\n" + WHOLE[:40], 1),
        (b"{", 0),
        (b"\n\n" + WHOLE + b"\n\n", 1),
        (b'[]\n5\nnull\n"a"\n', 0),
        (b'{"time": "now"}\n', 0),
        (b"\xff\xfe\x00\n", 0),
        (b"\x00" * 4096, 0),
        (b"[" * 100_000 + b"\n", 0),
        (b'{"time": "now", "extra": 1}\n', 0),
    ],
)
def test_a_torn_line_costs_itself_and_no_other(tmp_path: Path, before: bytes, kept: int) -> None:
    path = tmp_path / outcomes.FILE
    path.write_bytes(before)
    other = replace(LINE, user="later")
    outcomes.append(path, other)
    assert path.read_bytes().startswith(before)
    assert outcomes_in(path) == [LINE] * kept + [other]


@pytest.mark.parametrize("field", list(asdict(LINE)))
@pytest.mark.parametrize("value", [None, 5, 5.5, True, "2", [], {}])
def test_a_field_of_another_type_is_damage(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / outcomes.FILE
    path.write_text(json.dumps({**asdict(LINE), field: value}) + "\n")
    texts = ("policy", "run", "user", "reason", "access_key_id", "user_id", "owner", "caller")
    texts += ("message_id",)
    numbers = ("age_days", "days")
    may_be_none = ("slot", "access_key_id", "user_id", *list(asdict(LINE))[12:])
    if value is None:
        right = field in may_be_none
    elif type(value) is str:
        right = field in texts
    elif value == {}:
        right = field == "tags"
    else:
        right = type(value) in (int, float) and field in numbers
    assert len(outcomes_in(path)) == right


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("time", ["now", "2026-11-24T08:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59Z"]),
        ("account_id", ["", "12345678901", "1234567890123", "12345678901x", "12345678901\u0660"]),
        ("access_key_id", ["", "-x", "--yes", "a b", "a\n", "a;b", "a" * 129, "\u0660"]),
        ("action", ["", "notify", "Disable-access-key"]),
        ("tags", [{"a": 1}, {"a": None}, {"a": "\ud800"}]),
        ("outcome", ["", "off", "DISABLED", "notified"]),
        ("slot", [0, 3, -1, 10**30]),
        ("last_rotated", ["", "now", "2026-11-24T08:00:00"]),
        ("deadline", ["", "now", "2026-11-24T08:00:00"]),
        ("age_days", [float("nan"), float("inf"), 10**400]),
        ("days", [float("nan"), -float("inf"), 10**400]),
        ("verdict", ["", "old"]),
        ("version", [0, 2]),
        ("user", ["\ud800", "a\udfff"]),
        ("policy", ["\ud800"]),
        ("reason", ["\ud800"]),
    ],
)
def test_a_value_that_a_field_cannot_have_is_damage(
    tmp_path: Path, field: str, values: list[Any]
) -> None:
    path = tmp_path / outcomes.FILE
    texts = [json.dumps({**asdict(LINE), field: value}) for value in values]
    path.write_text("\n".join([*texts, json.dumps(asdict(LINE))]))
    assert outcomes_in(path) == [LINE]
    read = list(files.parsed(path, outcomes.parse))
    assert read[:-1] == [text.encode() + b"\n" for text in texts]


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_longer_than_any_outcome_is_damage(tmp_path: Path, ending: str, end: bytes) -> None:
    """Also one that begins as an outcome does; the next one is read."""
    path = tmp_path / f"{outcomes.FILE}{ending}"
    long = WHOLE + b" " * 300_000
    content = b"\n".join([WHOLE, long, WHOLE, long]) + end
    path.write_bytes(gzip.compress(content) if ending else content)
    assert outcomes_in(path) == [LINE, LINE]
    kept = [len(line) for line in files.parsed(path, outcomes.parse) if isinstance(line, bytes)]
    assert kept == [files.MOST_SHOWN] * 2


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from c7n_keyrot.core.outcomes import append, parse
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
line = parse(sys.stdin.readline().encode())
for number in range(count):
    append(path, replace(line, user=name, policy=str(number), reason="x" * 900))
"""


def test_two_processes_may_write_one_file(tmp_path: Path) -> None:
    path, count = tmp_path / outcomes.FILE, 200
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name, str(count)],
            stdin=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(WHOLE.decode() + "\n")
        writer.stdin.flush()
    assert [writer.wait(30) for writer in writers] == [0, 0]
    found = outcomes_in(path)
    for name in ("one", "two"):
        written = [int(line.policy) for line in found if line.user == name]
        assert written == list(range(count))
    assert path.read_bytes().count(b"\n") == 2 * count


def test_a_disk_without_room_for_a_whole_line_is_an_error(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    mocker.patch.object(outcomes.os, "write", lambda descriptor, line: len(line) - 1)
    closed = mocker.spy(outcomes.os, "close")
    with pytest.raises(OSError, match="no room"):
        outcomes.append(tmp_path / outcomes.FILE, LINE)
    assert closed.call_count == 1


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        outcomes.append(tmp_path / "no" / outcomes.FILE, LINE)


def context(output: Any) -> Any:
    return SimpleNamespace(output=output, execution_id="run-1")


def test_the_file_is_in_the_policys_output_folder(mocker: MockerFixture) -> None:
    output = mocker.Mock(spec=DirectoryOutput, root_dir="out/p")
    assert custodian_output.path_of(context(output)) == Path("out/p/keyrot-outcomes.jsonl")
    intents = custodian_output.path_of(context(output), outcomes.INTENTS_FILE)
    assert intents == Path("out/p/keyrot-intents.jsonl")


def test_in_a_bucket_each_run_has_a_file_of_its_own(mocker: MockerFixture) -> None:
    """It is uploaded at the end; one name would put a later run's over an earlier one's."""
    output = mocker.Mock(spec=S3Output, root_dir="tmp")
    assert custodian_output.path_of(context(output)) == Path("tmp/keyrot-outcomes-run-1.jsonl")
    intents = custodian_output.path_of(context(output), outcomes.INTENTS_FILE)
    assert intents == Path("tmp/keyrot-intents-run-1.jsonl")
