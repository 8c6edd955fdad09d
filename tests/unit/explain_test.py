# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot explain`: every slot of a credential report, its verdict and why."""

from __future__ import annotations

import csv
import io
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import c7n_keyrot
from c7n_keyrot import cli
from c7n_keyrot.cli import explain
from c7n_keyrot.cli.explain import peers, verdicts

NOW = datetime(2026, 11, 26, 10, 0, 0, tzinfo=timezone.utc)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
COLUMNS = [
    "user",
    "arn",
    "user_creation_time",
    *(f"access_key_{slot}_{name}" for slot in (1, 2) for name in ("active", "last_rotated")),
]
SCHEMA = json.loads(
    Path(c7n_keyrot.__file__).parent.joinpath("schemas/explain.schema.json").read_text("utf-8")
)
USER = "arn:aws:iam::123456789012:user/ana"
ROOT = {"user": "<root_account>", "arn": "arn:aws:iam::123456789012:root"}

Explain = Callable[..., str]


def ago(days: float) -> str:
    return (NOW - days * DAY).isoformat()


def user(name: str, second: str = "N/A", active: str = "true", **more: str) -> dict[str, str]:
    """A row; its second key was rotated then, and has the status."""
    row = {"user": name, "arn": USER, "user_creation_time": "2020-01-01T00:00:00+00:00"}
    if second != "N/A":
        row |= {"access_key_2_active": active, "access_key_2_last_rotated": second}
    return row | more


def report(*rows: dict[str, str], columns: list[str] = COLUMNS) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="N/A", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({f"access_key_{slot}_active": "false" for slot in (1, 2)} | row)
    return out.getvalue()


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    """said(content, *flags): what the command prints about a report of this content."""

    def run(content: str | bytes, *flags: str, code: int = 0) -> str:
        file = tmp_path / "report.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        assert cli.main(["explain", str(file), "--at", NOW.isoformat(), *flags]) == code
        done = capsys.readouterr()
        assert (done.out if code else done.err) == ""
        return done.err if code else done.out

    return run


def keys(said: Explain, content: str | bytes, *flags: str) -> list[dict[str, Any]]:
    data = json.loads(said(content, "--format", "json", *flags))
    jsonschema.validate(data, SCHEMA, format_checker=jsonschema.FormatChecker())
    return list(data["keys"])


@pytest.mark.parametrize(
    ("rotated", "active", "verdict", "left", "reason"),
    [
        ("N/A", "false", "absent", None, "no key in this slot"),
        (
            ago(200),
            "false",
            "inactive",
            -110,
            "rotated 2026-05-10, 200.0 days ago: not active, and the rule judges active keys only",
        ),
        (
            ago(10),
            "true",
            "fresh",
            80,
            "rotated 2026-11-16, 10.0 days ago: stale after 2027-02-14, in 80 days",
        ),
        (
            ago(76),
            "true",
            "expiring",
            14,
            "rotated 2026-09-11, 76.0 days ago: stale after 2026-12-10, in 14 days",
        ),
        (
            (NOW - 76 * DAY + SECOND).isoformat(),
            "true",
            "fresh",
            15,
            "rotated 2026-09-11, 76.0 days ago: stale after 2026-12-10, in 15 days",
        ),
        (
            ago(90),
            "true",
            "expiring",
            0,
            "rotated 2026-08-28, 90.0 days ago: stale after 2026-11-26 10:00:00 UTC, in 0 days",
        ),
        (
            (NOW - 90 * DAY - SECOND).isoformat(),
            "true",
            "stale",
            0,
            "rotated 2026-08-28, 90.0 days ago: stale since 2026-11-26 09:59:59 UTC",
        ),
        (
            "2026-08-01T00:00:00Z",
            "true",
            "stale",
            -27,
            "rotated 2026-08-01, 117.4 days ago: stale since 2026-10-30",
        ),
        (
            ago(-3),
            "true",
            "fresh",
            93,
            "rotated 2026-11-29, 3.0 days ahead: stale after 2027-02-27, in 93 days",
        ),
        (
            "yesterday",
            "true",
            "unknown",
            None,
            "active, but its date is missing or can't be read",
        ),
        (
            ago(10),
            "perhaps",
            "unknown",
            80,
            "the report says neither that the key is active nor that it isn't",
        ),
        ("soon", "false", "inactive", None, "not active, and the rule judges active keys only"),
    ],
)
def test_the_verdict_and_its_reason(
    said: Explain, rotated: str, active: str, verdict: str, left: int | None, reason: str
) -> None:
    content = report(user("ana", rotated, active))
    (key,) = keys(said, content, "--slot", "2")
    assert (key["user"], key["slot"], key["peers"]) == ("ana", 2, None)
    assert (key["verdict"], key["days_left"], key["reason"]) == (verdict, left, reason)
    text = said(content, "--slot", "2")
    assert text.splitlines()[1].split(None, 3) == ["ana", "2", verdict, reason]
    assert " ".join(text.split("\n\n")[1].split()) == (
        "Account 123456789012 at 2026-11-26 10:00:00 UTC, stale after 90 days: 1 user, 1 slot: "
        f"1 {verdict}."
    )


def test_all_of_a_key(said: Explain) -> None:
    (key,) = keys(said, report(user("ana", ago(76.25))), "--slot", "2", "--notice", "20")
    assert key == {
        "user": "ana",
        "arn": USER,
        "slot": 2,
        "verdict": "expiring",
        "active": True,
        "last_rotated": "2026-09-11T04:00:00+00:00",
        "age_days": 76.2,
        "deadline": "2026-12-10T04:00:00+00:00",
        "days_left": 14,
        "reason": "rotated 2026-09-11, 76.2 days ago: stale after 2026-12-10, in 14 days",
        "peers": None,
    }


@pytest.mark.parametrize("at", ["0001-01-01", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"])
@pytest.mark.parametrize("rotated", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59+00:00"])
def test_the_first_and_the_last_day_of_all(said: Explain, at: str, rotated: str) -> None:
    if at.endswith("-12:00"):
        with pytest.raises(SystemExit):
            said(report(user("ana", rotated)), "--at", at)
        return
    (key,) = keys(said, report(user("ana", rotated)), "--at", at, "--slot", "2", "--compare")
    assert key["verdict"] == ("stale" if at[:4] > rotated[:4] else "fresh")


def test_without_notice_no_key_is_expiring(said: Explain) -> None:
    flags = ["--days", "10", "--notice", "0", "--slot", "2"]
    content = report(*(user(f"u{age}", ago(age)) for age in (1, 10, 11)))
    assert [key["verdict"] for key in keys(said, content, *flags)] == ["fresh", "fresh", "stale"]


def test_what_is_said_of_the_whole_report(said: Explain) -> None:
    content = report(ROOT, user("ana"), user("bob"), user("bob"))
    data = json.loads(said(content, "--format", "json", "--days", "30.5", "--notice", "3"))
    assert data["$schema"] == SCHEMA["$id"]
    assert data["report"] == {
        "generated": None,
        "at": NOW.isoformat(),
        "account_id": "123456789012",
        "users": 2,
        "days": 30.5,
        "notice": 3,
        "appear_twice": ["bob"],
    }


@pytest.mark.parametrize(("slot", "numbers"), [("1", [1]), ("2", [2]), ("both", [1, 2])])
def test_each_user_and_each_slot_that_is_asked_for(
    said: Explain, slot: str, numbers: list[int]
) -> None:
    content = report(ROOT, user("bob"), user("ana", ago(1)))
    found = [(key["user"], key["slot"]) for key in keys(said, content, "--slot", slot)]
    assert found == [(name, number) for name in ("bob", "ana") for number in numbers]


@pytest.mark.parametrize("made", ["2026-11-26T04:10:00+00:00", "2026-11-26T04:10:00Z", None])
def test_the_answer_of_the_aws_cli_is_read_too(said: Explain, made: str | None) -> None:
    csv_ = report(ROOT, user("ana", ago(200)))
    answer = {"Content": b64encode(csv_.encode()).decode(), "ReportFormat": "text/csv"}
    content = json.dumps(answer | ({"GeneratedTime": made} if made else {}), indent=4)
    data = json.loads(said(content, "--format", "json"))
    jsonschema.validate(data, SCHEMA)
    assert data["report"]["generated"] == (made and "2026-11-26T04:10:00+00:00")
    assert [key["verdict"] for key in data["keys"]] == ["absent", "stale"]
    assert ("made 2026-11-26 04:10 UTC" in said(content)) is (made is not None)


def test_a_name_that_appears_twice_is_unknown(said: Explain) -> None:
    content = report(user("ana", ago(1)), user("bob", ago(200)), user("ana", ago(200)))
    found = keys(said, content, "--slot", "2")
    assert [key["verdict"] for key in found] == ["unknown", "stale", "unknown"]
    assert "appears more than once" in found[0]["reason"]
    assert said(content).endswith("Appear more than once: ana.\n")


def test_an_account_without_users(said: Explain) -> None:
    assert keys(said, report(ROOT)) == []
    assert "0 users, 0 slots." in said(report(ROOT))


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_files_of_windows_are_read_too(said: Explain, end: str) -> None:
    content = report(user("ana", ago(200))).replace("\r\n", end)
    for data in (content.encode(), content.encode("utf-8-sig")):
        assert [key["verdict"] for key in keys(said, data, "--slot", "2")] == ["stale"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the column 'user' is missing"),
        (b'{"Content": "dXNlc"}', "the column 'user' is missing"),
        (b'{"Content": 1}', "the column 'user' is missing"),
        (b"[" * 100_000, "the column 'user' is missing"),
        (b"{" * 100_000, "the column 'user' is missing"),
        (b"<html></html>", "the column 'user' is missing"),
        (report(user("ana"), columns=COLUMNS[:-1]), "'access_key_2_last_rotated' is missing"),
        (report(user("ana")) + "bob,arn\n", "line 3 has fewer or more fields than the header"),
        (report(user("ana")) + '"bob', "not CSV"),
        (report(user("ana")).encode("utf-16"), "not UTF-8"),
        (report(user("a-b")).replace("a-b", "a\0b"), "not CSV (line contains NUL)"),
        (report(), "its rows are missing"),
        (report(user("ana"), user("bob", arn=USER.replace("123", "999"))), "of 2 accounts"),
    ],
)
def test_a_broken_file_is_one_line_on_stderr(
    said: Explain, content: str | bytes, words: str
) -> None:
    for form in ("table", "json", "csv"):
        (line,) = said(content, "--format", form, code=1).splitlines()
        assert line.startswith("c7n-keyrot explain: ")
        assert "report.csv isn't a whole credential report" in line
        assert words in line


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, words in ((tmp_path / "no.csv", "No such file"), (tmp_path, "Is a directory")):
        assert cli.main(["explain", str(path)]) == 1
        assert capsys.readouterr().err == f"c7n-keyrot explain: {path} can't be read: {words}" + (
            " or directory\n" if words.startswith("No") else "\n"
        )


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
def test_a_file_without_an_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verdicts, "MOST", 1 << 20)
    assert cli.main(["explain", "/dev/zero"]) == 1
    assert "is longer than 1 MB" in capsys.readouterr().err


def test_a_report_on_stdin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = io.BytesIO(report(user("ana", "2020-01-01T00:00:00+00:00")).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(content))
    assert cli.main(["explain", "-"]) == 0
    assert "stale since 2020-03-31" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-11-26", "2026-11-26T00:00:00+00:00"),
        ("2026-11-26T10:00", "2026-11-26T10:00:00+00:00"),
        ("2026-11-26 10:00:01", "2026-11-26T10:00:01+00:00"),
        ("2026-11-26T10:00:01.999Z", "2026-11-26T10:00:01+00:00"),
        ("2026-11-26T10:00:00+02:00", "2026-11-26T08:00:00+00:00"),
        ("2026-11-26T00:30-01:00", "2026-11-26T01:30:00+00:00"),
    ],
)
def test_the_instant_is_utc_unless_it_names_a_zone(text: str, iso: str) -> None:
    assert explain.instant(text).isoformat() == iso


@pytest.mark.parametrize(
    "flags",
    [
        *(["--at", text] for text in ("", "now", "2026-13-01", "26.11.2026", "2026-11-26T25:00")),
        *(["--days", text] for text in ("0", "-1", "nan", "inf", "365001", "ninety")),
        *(["--notice", text] for text in ("-1", "nan", "inf", "365001", "some")),
        ["--slot", "3"],
        ["--format", "xml"],
    ],
)
def test_wrong_arguments(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["explain", "report.csv", *flags])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert flags[0] in error
    bounds = {"--days": "above 0 and up to 365000", "--notice": "from 0 to 365000", "--at": "9999"}
    assert bounds.get(flags[0], "choose from") in error


def test_days_are_up_to_those_of_a_policy(said: Explain) -> None:
    assert "stale after" in said(report(user("ana", ago(200))), "--days", "365000")


def test_a_notice_as_long_as_the_days_is_refused(said: Explain) -> None:
    line = said(report(), "--days", "14", code=1)
    assert "--notice 14 must be less than --days 14" in line


HOSTILE = '=cmd|"/c calc"!A1\x1b[31m\n\u202eEVIL, 1'


def test_hostile_names_in_the_table(said: Explain) -> None:
    text = said(report(user(HOSTILE, ago(1))), "--compare")
    assert text.isprintable() or set(filter(lambda c: not c.isprintable(), text)) == {"\n"}
    assert all(len(line) <= 120 for line in text.splitlines())


def test_hostile_names_in_csv_are_no_formulas(said: Explain) -> None:
    text = said(
        report(user(HOSTILE, ago(1)), user("+1", arn="@a:b:c:d:123456789012:f")), "--format", "csv"
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["user"][:2] for row in rows] == ["'=", "'=", "'+", "'+"]
    assert rows[2]["arn"].startswith("'@")
    assert len(text.splitlines()) == 5
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_hostile_names_in_json_are_as_they_are(said: Explain) -> None:
    assert keys(said, report(user(HOSTILE, ago(1))))[0]["user"] == HOSTILE
    assert said(report(user(HOSTILE, ago(1))), "--format", "json").isascii()


def test_csv_has_the_columns_of_json(said: Explain) -> None:
    content = report(user("ana", ago(200)))
    (row,) = csv.DictReader(
        io.StringIO(said(content, "--slot", "2", "--format", "csv", "--compare"))
    )
    (key,) = keys(said, content, "--slot", "2", "--compare")
    fields = {**key, **key.pop("peers"), "active": "true"}
    del fields["peers"]
    assert row == {name: str(value) for name, value in fields.items()}


def test_peers_are_asked_with_compare_only(said: Explain) -> None:
    old = {"user_creation_time": ago(2000)}
    key = {"access_key_1_active": "true", "access_key_1_last_rotated": ago(200)}
    content = report(ROOT | old | key)
    assert keys(said, content) == []
    (root,) = keys(said, content, "--compare")
    assert (root["user"], root["slot"], root["verdict"]) == ("<root_account>", 1, "not judged")
    assert {name for name, word in root["peers"].items() if word == "fail"} == {
        "prowler",
        "mondoo",
    }
    assert list(root["peers"]) == [peer.name for peer in peers.PEERS]


def test_the_table_says_why_peers_differ(said: Explain) -> None:
    content = report(
        user("hours", (NOW - 90 * DAY - SECOND).isoformat()),
        user("first", access_key_1_active="true", access_key_1_last_rotated=ago(200)),
        user("day", ago(90)),
    )
    text = " ".join(said(content, "--compare").split())
    assert "- prowler: pass (counts whole days and fails over 90, so from 91 days on)" in text
    assert "- security-hub-iam3, scoutsuite: pass (counts whole days" in text
    assert "- steampipe: pass (counts from the midnight (UTC)" in text
    assert "- cloudguard: not judged (its rule D9.AWS.IAM.07 is about the second key only)" in text
    assert "- aws-config: fail (fails from exactly 90 days on; by CreateDate)" in text
    assert "Those that use CreateDate are given last rotated" in text
    assert "- " not in said(content)


def test_a_long_report_is_read_without_holding_its_rows(said: Explain) -> None:
    content = report(*(user(f"user{n}", ago(n % 200)) for n in range(2000)))
    assert len(keys(said, content)) == 4000
    last = " ".join(said(content).split("\n\n")[1].split())
    assert last.endswith(
        "2000 users, 4000 slots: 1090 stale, 150 expiring, 760 fresh, 2000 absent."
    )
