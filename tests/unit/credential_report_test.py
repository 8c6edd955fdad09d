# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The credential report: waited for with patience, and read without guessing."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_memory import client_error
from pytest_mock import MockerFixture

from c7n_keyrot.aws import report_fetch, settings
from c7n_keyrot.aws.errors import DENIED, THROTTLED
from c7n_keyrot.core import credential_report
from c7n_keyrot.core.credential_report import RawReport, ReportError, instant, parse

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=timezone.utc)
MADE = "2026-05-01T10:00:00+00:00"
NAMES = [
    "user",
    "arn",
    *(
        f"access_key_{slot}_{name}"
        for slot in (1, 2)
        for name in (
            "active",
            "last_rotated",
            "last_used_date",
            "last_used_region",
            "last_used_service",
        )
    ),
]
PLAIN = {
    "user": "ana",
    "arn": "arn:aws:iam::123456789012:user/ana",
    "access_key_1_active": "false",
    "access_key_2_active": "true",
    "access_key_2_last_rotated": MADE,
}
USED = {
    "access_key_1_last_used_date": "2026-06-01T00:00:00+00:00",
    "access_key_1_last_used_region": "eu-west-1",
    "access_key_1_last_used_service": "s3",
    "access_key_2_last_used_date": "2026-07-01T00:00:00+00:00",
    "access_key_2_last_used_region": "us-east-1",
    "access_key_2_last_used_service": "sqs",
}


def text(*rows: dict[str, str], names: list[str] | None = None) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, names or NAMES, restval="N/A", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**PLAIN, **row} for row in rows)
    return out.getvalue()


# Parsing


@pytest.mark.parametrize(
    ("fields", "active", "has_key", "rotated"),
    [
        ({}, True, True, True),
        ({"access_key_2_active": "TRUE"}, True, True, True),
        ({"access_key_2_active": " True "}, True, True, True),
        ({"access_key_2_active": "false"}, False, True, True),
        ({"access_key_2_active": "FALSE"}, False, True, True),
        ({"access_key_2_active": "N/A"}, False, True, True),
        ({"access_key_2_active": "false", "access_key_2_last_rotated": "N/A"}, False, False, False),
        ({"access_key_2_active": "", "access_key_2_last_rotated": ""}, False, False, False),
        ({"access_key_2_active": "FALSE", "access_key_2_last_rotated": "n/a"}, False, False, False),
        ({"access_key_2_last_rotated": "N/A"}, True, True, False),
        ({"access_key_2_last_rotated": "no_information"}, True, True, False),
        ({"access_key_2_last_rotated": "not_supported"}, True, True, False),
        ({"access_key_2_last_rotated": "last May"}, True, True, False),
        ({"access_key_2_active": "false", "access_key_2_last_rotated": "?"}, False, True, False),
        ({"access_key_2_active": "yes"}, None, True, True),
        ({"access_key_2_active": "1", "access_key_2_last_rotated": "N/A"}, None, True, False),
    ],
)
def test_a_slot_says_what_the_report_says_and_guesses_nothing(
    fields: dict[str, str], active: bool | None, has_key: bool, rotated: bool
) -> None:
    slot = parse(text(fields).encode(), NOW).rows["ana"].slots[1]
    assert (slot.active, slot.has_key) == (active, has_key)
    assert slot.last_rotated == (instant(MADE) if rotated else None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-05-01T10:00:00+00:00", datetime(2026, 5, 1, 10, tzinfo=timezone.utc)),
        ("2026-05-01T10:00:00Z", datetime(2026, 5, 1, 10, tzinfo=timezone.utc)),
        ("2026-05-01T12:30:00+02:30", datetime(2026, 5, 1, 10, tzinfo=timezone.utc)),
        ("2026-05-01T00:00:00-10:00", datetime(2026, 5, 1, 10, tzinfo=timezone.utc)),
        ("2026-05-01T10:00:00.999999+00:00", datetime(2026, 5, 1, 10, tzinfo=timezone.utc)),
        ("2026-05-01T10:00:00", None),  # whose ten o'clock?
        ("2026-05-01", None),
        # Python 3.11 would read these, 3.10 wouldn't.
        ("20260501T100000+0000", None),
        ("2026-W18-5T10:00:00+00:00", None),
        ("2026-05-01T10:00:00.5+00:00", None),
        ("2026-05-01T10+00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("2026-02-30T10:00:00+00:00", None),
        ("N/A", None),
        ("", None),
        (None, None),
    ],
)
def test_instants_are_utc_or_nothing(value: str | None, expected: datetime | None) -> None:
    assert instant(value) == expected
    if expected:
        assert instant(value).tzinfo is timezone.utc  # type: ignore[union-attr]


@given(st.text())
def test_any_text_is_an_instant_or_none(value: str) -> None:
    found = instant(value)
    assert found is None or (found.utcoffset() == timedelta(0) and found.microsecond == 0)


@given(
    when=st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2999, 1, 1)),
    minutes=st.integers(-14 * 60, 14 * 60),
)
def test_one_instant_written_with_any_offset_is_read_as_one_instant(
    when: datetime, minutes: int
) -> None:
    utc = when.replace(microsecond=0, tzinfo=timezone.utc)
    written = utc.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    assert instant(written) == utc


@given(order=st.permutations([*NAMES, "cert_1_active", "mfa_active", "new column, of tomorrow"]))
def test_columns_are_found_by_their_names(order: list[str]) -> None:
    row = parse(text({"access_key_2_last_used_service": "s3"}, names=order), NOW).rows["ana"]
    assert row.slots[1].last_rotated == instant(MADE)
    assert row.slots[1].last_used_service == "s3"
    assert not row.slots[0].has_key


@pytest.mark.parametrize("column", credential_report.NEEDED)
def test_a_needed_column_that_is_missing_is_named(column: str) -> None:
    names = [name for name in NAMES if name != column]
    with pytest.raises(ReportError, match=f"'{column}' is missing"):
        parse(text({}, names=names), NOW)


@pytest.mark.parametrize("column", [*NAMES, "user_creation_time"])
def test_a_column_that_is_read_and_appears_twice_is_named(column: str) -> None:
    """Whichever of them were taken, the other one might be true."""
    names = [*NAMES, "user_creation_time"]
    for twice in ([column, *names], [*names, column]):
        with pytest.raises(ReportError, match=f"'{column}' appears twice"):
            parse(text({}, names=twice), NOW)


def test_a_column_that_is_not_read_may_appear_twice() -> None:
    assert "ana" in parse(text({}, names=["mfa_active", *NAMES, "mfa_active"]), NOW).rows


@pytest.mark.parametrize("column", sorted(set(NAMES) - set(credential_report.NEEDED)))
def test_columns_about_the_last_use_may_be_missing(column: str) -> None:
    names = [name for name in NAMES if name != column]
    assert parse(text({}, names=names), NOW).rows["ana"].slots[1].active


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "'user' is missing"),
        (b"\n\n", "'user' is missing"),
        (b"<html>no report</html>", "'user' is missing"),
        (text({}).encode()[:-20], "fewer or more fields"),
        (text({}).encode() + b"bob,arn\n", "fewer or more fields"),
        (text({}).encode() + b"bob,arn," + b"x," * 20 + b"\n", "fewer or more fields"),
        (text({}).encode() + b'"bob', "not CSV|fewer or more fields"),
        (text({}).encode() + b"\xff\xfe", "not UTF-8"),
        (text({"arn": "a" * 200_000}).encode(), "not CSV"),
        (text({}).replace("ana", "a\0b").encode(), "not CSV"),
    ],
)
def test_what_is_no_whole_report_is_one_clear_error(content: bytes, reason: str) -> None:
    with pytest.raises(ReportError, match=reason) as caught:
        parse(content, NOW)
    assert "\n" not in str(caught.value)


@given(st.data())
def test_a_report_that_is_cut_inside_of_a_row_is_refused(data: Any) -> None:
    names = ["ana", "bob", "cleo"]
    lines = text(*({"user": name} for name in names)).splitlines()
    row = data.draw(st.integers(1, 3))
    # Inside of the last field nothing tells, and the keys' columns come before it.
    cut = data.draw(st.integers(1, lines[row].rindex(",")))
    with pytest.raises(ReportError, match="fewer or more fields"):
        parse("\n".join([*lines[:row], lines[row][:cut]]), NOW)


def test_the_root_account_is_no_user() -> None:
    report = parse(text({"user": "<root_account>"}, {"user": "ana"}), NOW)
    assert list(report.rows) == ["ana"]
    assert report.user_count == 1


def test_a_name_that_stands_twice_has_no_row_but_counts_as_a_user() -> None:
    stale = {"user": "twin", "access_key_2_last_rotated": "2020-01-01T00:00:00+00:00"}
    report = parse(text({"user": "twin"}, {}, stale, stale), NOW)
    assert list(report.rows) == ["ana"]
    assert report.duplicates == {"twin"}
    assert report.user_count == 2


@pytest.mark.parametrize(
    "name", ["=cmd()", "+1", "-x", "@home", "a,b", 'say "hi"', "Ünïcode", "two\nlines"]
)
def test_odd_names_are_kept_as_they_are(name: str) -> None:
    arn = f"arn:aws:iam::123456789012:user/<&>/{name}"
    row = parse(text({"user": name, "arn": arn}).encode(), NOW).rows[name]
    assert (row.user, row.arn) == (name, arn)


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    assert "ana" in parse(b"\xef\xbb\xbf" + text({}).encode(), NOW).rows


def test_the_instant_of_the_making_is_utc() -> None:
    local = NOW.astimezone(timezone(timedelta(hours=-5)))
    assert parse(text({}), local).generated.utcoffset() == timedelta(0)
    assert parse(text({}), local).generated == NOW


@given(
    st.lists(
        st.fixed_dictionaries(
            {"user": st.text("abc", min_size=1, max_size=3)},
            optional={
                name: st.sampled_from(["true", "false", "N/A", "", MADE, "x", "2026-01-01"])
                for name in NAMES[2:]
            },
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_user_is_either_a_row_or_a_duplicate(rows: list[dict[str, str]]) -> None:
    report = parse(text(*rows), NOW)
    names = [row["user"] for row in rows]
    assert set(names) == set(report.rows) | report.duplicates
    assert report.duplicates == {name for name in names if names.count(name) > 1}
    for row in report.rows.values():
        for slot in row.slots:
            assert slot.has_key or (slot.active is False and slot.last_rotated is None)


@pytest.mark.parametrize("account_id", [None, ""])
def test_report_without_any_row_is_refused_where_nothing_tells_whose_it_is(
    account_id: str | None,
) -> None:
    with pytest.raises(ReportError, match="rows are missing"):
        parse(text(), NOW, account_id)


def test_an_account_without_users_and_root_row_has_no_users() -> None:
    """As seen in the China partition."""
    report = parse(text(), NOW, "123456789012")
    assert (report.account_id, report.rows, report.user_count) == ("123456789012", {}, 0)


def test_the_rows_tell_whose_report_it_is_where_there_are_any() -> None:
    assert parse(text({}), NOW, "222222222222").account_id == "123456789012"
    root = {"user": "<root_account>", "arn": "arn:aws-cn:iam::111111111111:root"}
    assert parse(text(root), NOW, "222222222222").account_id == "111111111111"


def test_an_empty_line_is_no_row() -> None:
    content = text({"user": "ana"}, {"user": "bob"})
    header, ana, bob = content.splitlines()
    spaced = "\n".join([header, ana, "", bob, "", ""])
    assert parse(spaced, NOW).rows == parse(content, NOW).rows


def test_a_user_has_no_date_where_its_column_is_missing() -> None:
    """None of the other columns is taken for it, though all that may hold a date do."""
    one, *others = [name for name in NAMES if name != "access_key_1_last_rotated"]
    names = [one, "access_key_1_last_rotated", *others, "password_changed"]
    dates = dict.fromkeys(("access_key_1_last_rotated", "password_changed"), MADE)
    (ana,) = parse(text({**USED, **dates}, names=names), NOW).rows.values()
    assert ana.created is None
    assert ana.slots[0].last_rotated is not None


def test_each_slot_has_its_own_last_use() -> None:
    found = parse(text(USED), NOW).rows["ana"].slots
    assert [(slot.last_used_region, slot.last_used_service) for slot in found] == [
        ("eu-west-1", "s3"),
        ("us-east-1", "sqs"),
    ]
    assert [slot.last_used_date and slot.last_used_date.month for slot in found] == [6, 7]


def test_nothing_is_known_of_last_uses_where_their_columns_are_missing() -> None:
    names = [name for name in NAMES if "last_used" not in name]
    for slot in parse(text(USED, names=names), NOW).rows["ana"].slots:
        assert slot.last_used_date is slot.last_used_region is slot.last_used_service is None


def test_a_field_that_goes_on_after_its_closing_quote_is_refused() -> None:
    """Read leniently, two rows could pass for one."""
    with pytest.raises(ReportError, match=r"^credential report: not CSV \("):
        parse(text({}).replace("ana,", '"ana"x,', 1), NOW)


def test_line_breaks_inside_of_a_name_are_kept() -> None:
    names = {"a\r\nb", "a\nb", "a\rb"}
    assert set(parse(text(*({"user": name} for name in names)), NOW).rows) == names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            text({}) + "ben,arn\n",
            "credential report: line 3 has fewer or more fields than the header, so it is cut or "
            "broken; run again later",
        ),
        (
            text(),
            "credential report: its rows are missing, even the root user's; run again later",
        ),
        (
            text({}, {"user": "ben", "arn": "arn:aws:iam::111111111111:user/ben"}),
            "credential report: its rows are of 2 accounts; run again later",
        ),
    ],
)
def test_the_words_about_a_report_that_is_refused(content: str, words: str) -> None:
    with pytest.raises(ReportError) as caught:
        parse(content, NOW)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("arn", "account_id"),
    [(PLAIN["arn"], "123456789012"), ("a:b:c:d:e:f", "e"), ("a:b:c:d:e", "")],
)
def test_the_account_is_the_fifth_part_of_the_arn(arn: str, account_id: str) -> None:
    assert parse(text({"arn": arn}), NOW).account_id == account_id


# Fetching


class Clock:
    """Time passes only while somebody sleeps, and it doesn't begin at 0."""

    def __init__(self) -> None:
        self.now, self.pauses = 1000.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def fetch(
    mocker: MockerFixture, generate: Any, get: Any = None, refused: str | None = None, **how: Any
) -> Any:
    """Fetch from a client that answers so, one after the other; states, codes or errors."""

    def answers(given: Any, good: Any) -> Any:
        for answer in given:
            if isinstance(answer, Exception):
                yield answer
            else:
                yield good(answer)

    client = mocker.Mock(meta=None)
    client.generate_credential_report.side_effect = answers(generate, lambda s: {"State": s})
    client.get_credential_report.side_effect = answers(
        get or [b"text"], lambda content: {"Content": content, "GeneratedTime": NOW}
    )
    clock = Clock()
    raw, refusal = report_fetch.fetch(client, sleep=clock.sleep, clock=clock, **how)
    assert (refusal is None) is (refused is None)
    assert refused is None or refused in str(refusal)
    return raw, clock, client


def test_a_report_that_is_there_costs_two_calls_and_no_pause(mocker: MockerFixture) -> None:
    raw, clock, client = fetch(mocker, ["COMPLETE"])
    assert raw == RawReport(b"text", NOW)
    assert clock.pauses == []
    assert client.generate_credential_report.call_count == 1


def test_a_report_is_waited_for_with_pauses_that_grow_by_half_up_to_ten_seconds(
    mocker: MockerFixture,
) -> None:
    told: list[float] = []
    states = ["STARTED", *["INPROGRESS"] * 12, "COMPLETE"]
    _, clock, _ = fetch(mocker, states, progress=told.append)
    assert clock.pauses[:4] == [0.5, 0.75, 1.125, 1.6875]
    assert clock.pauses == sorted(clock.pauses)
    assert clock.pauses[-2:] == [10, 10]
    assert told[:3] == [0, 0.5, 1.25]


@pytest.mark.parametrize("code", ["ReportNotPresent", "ReportInProgress", "ReportExpired"])
def test_two_runs_at_once_may_make_the_report_vanish_again(
    mocker: MockerFixture, code: str
) -> None:
    raw, _, client = fetch(
        mocker,
        ["COMPLETE", "STARTED", "INPROGRESS", "COMPLETE"],
        [client_error(code, "GetCredentialReport"), b"text"],
    )
    assert raw.content == b"text"
    assert client.get_credential_report.call_count == 2


@pytest.mark.parametrize("code", sorted(THROTTLED))
def test_throttling_is_waited_out_while_there_is_no_report(
    mocker: MockerFixture, code: str
) -> None:
    none = client_error("ReportNotPresent", "GetCredentialReport")
    raw, clock, _ = fetch(
        mocker,
        [client_error(code), client_error(code), "STARTED", "COMPLETE", "COMPLETE"],
        [
            none,
            client_error(code, "GetCredentialReport"),
            client_error(code, "GetCredentialReport"),
            b"t",
        ],
    )
    assert raw.content == b"t"
    assert len(clock.pauses) == 4


@pytest.mark.parametrize(
    "code", ["LimitExceeded", "Throttling", "AccessDenied", "ServiceFailure", "ExpiredToken"]
)
def test_where_no_new_report_is_made_the_last_one_serves_at_once(
    mocker: MockerFixture, code: str
) -> None:
    """AWS has been seen to refuse for days, with a good report in its hand."""
    raw, clock, client = fetch(mocker, [client_error(code)], [b"old"], refused=code)
    assert (raw.content, clock.pauses) == (b"old", [])
    assert client.get_credential_report.call_count == 1


@pytest.mark.parametrize("code", ["LimitExceeded", "Throttling", "ServiceFailure"])
def test_a_refusal_that_stays_is_not_waited_for_as_long_as_a_report(
    mocker: MockerFixture, code: str
) -> None:
    """The last report is too old; a refusal may last for days."""
    with pytest.raises(ReportError) as caught:
        fetch(mocker, [client_error(code)] * 99, [b"old"] * 99, enough=lambda generated: False)
    seconds = int(re.findall(r"not available after (\d+) s", str(caught.value))[0])
    assert settings.PATIENCE - 10 <= seconds <= settings.PATIENCE
    assert f"({code}); the last report is of {NOW:%Y-%m-%d %H:%M} UTC" in str(caught.value)


@pytest.mark.parametrize("code", sorted(DENIED))
@pytest.mark.parametrize("at", ["generate", "get"])
def test_a_denied_call_is_named_at_once(mocker: MockerFixture, code: str, at: str) -> None:
    denied, none = client_error(code), client_error("ReportNotPresent")
    with pytest.raises(ReportError) as caught:
        fetch(
            mocker,
            [denied] if at == "generate" else ["COMPLETE"],
            [none if at == "generate" else denied],
        )
    action = "GenerateCredentialReport" if at == "generate" else "GetCredentialReport"
    assert f"iam:{action} is denied ({code})" in str(caught.value)
    assert str(caught.value).endswith("; allow it to this role")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (["INPROGRESS"] * 999, "INPROGRESS"),
        (["COMPLETE"] * 999, "ReportInProgress"),
        (["COMPLETE", "STARTED"] * 999, "STARTED|ReportInProgress"),
    ],
)
@pytest.mark.parametrize("limit", [0, 7, 300])
def test_past_the_limit_it_ends_with_what_aws_said_last(
    mocker: MockerFixture, answers: list[Any], reason: str, limit: float
) -> None:
    with pytest.raises(ReportError, match=reason) as caught:
        fetch(
            mocker,
            answers,
            [client_error("ReportInProgress", "GetCredentialReport")] * 999,
            limit=limit,
        )
    seconds = int(re.findall(r"not available after (\d+) s", str(caught.value))[0])
    assert limit - 10 <= seconds <= limit


def test_the_limit_is_kept(mocker: MockerFixture) -> None:
    clock = Clock()
    client = mocker.Mock(meta=None)
    client.generate_credential_report.return_value = {"State": "INPROGRESS"}
    with pytest.raises(ReportError):
        report_fetch.fetch(client, limit=60, sleep=clock.sleep, clock=clock)
    assert sum(clock.pauses) <= 60


def test_without_a_limit_five_minutes_are_waited(mocker: MockerFixture) -> None:
    with pytest.raises(ReportError, match=r"not available after 29\d s \(iam:Gen.* says STARTED"):
        fetch(mocker, ["STARTED"] * 1000)


def test_a_pause_that_just_fits_into_the_limit_is_made(mocker: MockerFixture) -> None:
    _, clock, _ = fetch(mocker, ["STARTED", "COMPLETE"], limit=0.5)
    assert clock.pauses == [0.5]


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "ServiceFailure"])
def test_other_errors_are_not_hidden(mocker: MockerFixture, code: str) -> None:
    with pytest.raises(ReportError, match=code):
        fetch(mocker, ["COMPLETE"], [client_error(code)])


def test_progress_is_told_before_each_pause(mocker: MockerFixture) -> None:
    told: list[float] = []
    fetch(mocker, ["STARTED", "INPROGRESS", "COMPLETE"], limit=60, progress=told.append)
    assert told == [0.0, 0.5]
