# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What our side computes for a notice. How it is worded is in templates_test.py."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notices import KEY, NOW, exemptions, group, other, record, twin, usage, user

from c7n_keyrot.core import notice
from c7n_keyrot.core.notice import PolicyPlan
from c7n_keyrot.core.records import KeyRecord

EAST = timezone(timedelta(hours=13))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("", ""),
        ("zoë 鍵", "zoë 鍵"),
        ("a\nb\x00\u2028c", "a\ufffdb\ufffd\ufffdc"),
        ("lone \ud800", "lone \ufffd"),
        ("n" * 400, "n" * 299 + "…"),
        (7, "7"),
    ],
)
def test_text_from_outside_is_one_bounded_line(value: object, expected: str) -> None:
    assert notice.clean(value) == expected


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("jane.doe", "jane.doe"),
        ("a+b=c,d@e_f-g", "'a+b=c,d@e_f-g'"),
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", "'it'\"'\"'s'"),
        ("~", "'~'"),
    ],
)
def test_a_word_is_quoted_when_a_shell_would_change_it(name: str, word: str) -> None:
    assert notice.quote(name) == word


def test_a_shell_gets_every_word_back(tmp_path: Any) -> None:
    names = [chr(code) * 2 for code in range(32, 127)] + ["a'b\"c$(d)`e`\\", "*", "-n", "=x", "鍵"]
    words = " ".join(map(notice.quote, names))
    done = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {words}"], cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stdout.decode().splitlines() == names


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("ana", "--user-name ana"),
        ("-x", "--user-name=-x"),
        ("--a b", "--user-name='--a b'"),
        ("'-", "--user-name ''\"'\"'-'"),
    ],
)
def test_a_name_is_never_taken_for_an_option(name: str, option: str) -> None:
    assert notice.user_option(notice.quote(name)) == option


@pytest.mark.parametrize(
    ("instant", "words"),
    [
        (None, ""),
        ("2026-07-30T10:05:59+00:00", "30 July 2026, 10:05 UTC"),
        (datetime(2026, 1, 1, 12, tzinfo=EAST), "31 December 2025, 23:00 UTC"),
        (datetime(9999, 12, 31, 23, 59, tzinfo=timezone.utc), "31 December 9999, 23:59 UTC"),
    ],
)
def test_instants_in_words_are_of_utc(instant: Any, words: str) -> None:
    assert notice.moment(instant) == words
    assert notice.day(instant) == words.split(",")[0] if isinstance(instant, datetime) else True


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 days"), (1, "1 day"), (1.5, "1.5 days"), (365_000, "365000 days")]
)
def test_numbers_of_days_in_words(number: float, words: str) -> None:
    assert notice.count(number, "day") == words


@pytest.mark.parametrize(
    ("days", "hours", "expected"),
    [
        (0, 0, "19 July 2026"),
        (14, 0, "2 August 2026"),
        (590, 0, "29 February 2028"),
        ("3", 0, "22 July 2026"),
        (0.5, 24, "20 July 2026"),
        (float("nan"), 0, None),
        (float("inf"), 0, None),
        (10**9, 0, None),
        (10**400, 0, None),
        (None, 0, None),
        (1, [], None),
    ],
)
def test_the_day_of_a_mark(days: object, hours: object, expected: str | None) -> None:
    found = notice.days_after(NOW, days, hours)
    assert (found and notice.day(found)) == expected


def about(situation: str, plan: PolicyPlan, one: dict[str, Any]) -> dict[str, Any] | None:
    live = [
        {**key, "CreateDate": datetime.fromisoformat(key["CreateDate"])}
        for key in one.get("c7n:AccessKeys", ())
    ]
    matched = {key["AccessKeyId"] for key in one["c7n:matched-keys"]}
    records = [KeyRecord.parse(made) for made in one["c7n:keyrot"]]
    return notice.about_user(situation, plan, one, records, matched, live, NOW)


@pytest.mark.parametrize(
    ("tag", "deadline"),
    [
        ("Resource does not meet policy: disable-access-key@2026/08/20", "20 August 2026"),
        ("any words: disable-access-key@2026/08/20 0900 UTC", "20 August 2026"),
        ("Resource does not meet policy: delete-access-key@2026/08/20", "18 July 2026, 10:00 UTC"),
        ("Resource does not meet policy: disable-access-key@2026/02/30", "18 July 2026, 10:00 UTC"),
        ("2026/08/20", "18 July 2026, 10:00 UTC"),
        ("", "18 July 2026, 10:00 UTC"),
    ],
)
def test_a_marked_users_deadline_is_the_marks_day(tag: str, deadline: str) -> None:
    made = user("ana", record("disabling"), tags={"mark": tag})
    found = about("expiring", PolicyPlan(marks=("other", "mark")), made)
    assert found
    assert found["keys"][0]["deadline"] == deadline
    assert ("left" in found["keys"][0]) == (deadline[-3:] == "UTC")


@pytest.mark.parametrize(
    ("value", "until", "left"),
    [
        ("2026-08-03", "3 August 2026", "in 15 days"),
        (" 2026-08-03 ", "3 August 2026", "in 15 days"),
        ("2026-08-03T23:00:00-02:00", "4 August 2026", "in 16 days"),
        ("2026-07-20", "20 July 2026", "tomorrow"),
        ("2026-07-19", "19 July 2026", "today"),
        ("2026-07-18", "18 July 2026", "passed"),
        ("9999-12-31", "31 December 9999", "in 2912243 days"),
        ("soon", "soon", ""),
        ("x" * 256, "x" * 40 + "…", ""),
        (None, "", ""),
    ],
)
def test_an_exemptions_day_in_words(value: str | None, until: str, left: str) -> None:
    (made,) = exemptions(keyrot_exempt_until=value)
    found = about("exemptions", PolicyPlan(exempt_tag="keyrot-exempt-until"), made)
    assert found
    assert (found.get("until", ""), found.get("left", "")) == (until, left)


@pytest.mark.parametrize(
    ("account", "label"),
    [
        (("111111111111", "payments"), "payments (111111111111)"),
        (("111111111111", ""), "111111111111"),
        (("111111111111", "a\r\nb" + "n" * 99), "a\ufffd\ufffdb" + "n" * 59 + "… (111111111111)"),
    ],
)
def test_an_account_has_its_name_and_its_number(account: tuple[str, str], label: str) -> None:
    assert notice.about_run(PolicyPlan(), {}, {}, account, NOW, None)["account"] == label


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value


TEXTS = st.text(alphabet=st.characters(), max_size=400)


@given(TEXTS, st.sampled_from(["disabling", "expiring", "unclear", "exemptions"]))
def test_all_that_is_said_is_printable_and_bounded(text: str, situation: str) -> None:
    tag = {"tag": text, "value": text, "state": text}
    more = {
        "description": text,
        "last_used_service": text,
        "last_used_region": text,
        "exemption": tag,
    }
    tags = {text: text, "keyrot-exempt-until": text, "keyrot-exempt-reason": text, "Owner": text}
    used = usage(
        groups=[group(action=text, source=text, agent=text, errors={text: 1}), group()],
        unknown={text: text},
    )
    key = record(
        "disabling", **more, usage=used, other_key=other(access_key_id=text, description=text)
    )
    made = twin(text, tags, **more) if situation == "unclear" else user(text, key, tags=tags)
    plan = PolicyPlan("disable", NOW, NOW, ("x",), text, 3, 4)
    policy = {"name": text, "metadata": {"title": text, "frameworks": [text], "references": text}}
    action = {"owner_absent_contact": [text]}
    run = notice.about_run(plan, policy, action, (text, text), NOW, None)
    for said in (run, about(situation, plan, made)):
        assert said is not None
        for leaf in leaves(said):
            assert leaf is True or leaf.isprintable()
            assert leaf is True or len(leaf) < 2100  # a name of 400 quotes, quoted
            assert leaf, "a field that says nothing is left out"


@pytest.mark.parametrize("metadata", [None, [], "x", {"title": 7, "frameworks": {"a": 1}}])
def test_any_metadata_is_taken(metadata: Any) -> None:
    said = notice.about_run(PolicyPlan(), {"metadata": metadata}, {}, ("1", ""), NOW, None)
    assert "frameworks" not in said


def test_the_plans_fields_are_documented() -> None:
    for field in dataclasses.fields(PolicyPlan):
        assert f"``{field.name}``" in str(PolicyPlan.__doc__)


def test_two_filters_of_a_policy_that_mean_one_key_tell_of_it_once() -> None:
    made = user("ana", record("disabling"), record("disabling", path="1"))
    found = about("disabling", PolicyPlan("disable"), made)
    assert found
    assert [key["key"] for key in found["keys"]] == [KEY]
