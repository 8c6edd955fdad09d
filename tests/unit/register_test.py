# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exemptions by a reviewed list, and how long an exemption may be."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from c7n.exceptions import PolicyExecutionError, PolicyValidationError
from in_memory import ACCOUNT, Custodian, Iam
from pytest_mock import MockerFixture

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.records import RunSummary
from c7n_keyrot.custodian.elements import register

NEW, OLD = 10, 200
HEAD = "account,user,until,reason,approved by"


def day(days: int) -> str:
    return f"{datetime.now(timezone.utc) + timedelta(days=days):%Y-%m-%d}"


def exempt(url: object, **options: Any) -> dict[str, Any]:
    return {"type": "rotation-exempt", "register": str(url), **options}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A register in which ana is exempt for 30 days."""
    path = tmp_path / "exemptions.csv"
    path.write_text(f"{HEAD}\n{ACCOUNT},ana,{day(30)},legacy,boss@corp.test\n", "utf-8")
    return path


@pytest.mark.parametrize("source", ["credential-report", "describe"])
@pytest.mark.parametrize("order", [1, -1])
def test_only_the_register_exempts(
    iam: Iam, custodian: Custodian, listed: Path, source: str, order: int
) -> None:
    """Whoever may tag users can't exempt them."""
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD, {"keyrot-exempt-until": day(9)})
    filters = [{"type": "stale-access-key"}, {"not": [exempt(listed)]}][::order]
    custodian.run(filters, ["disable-access-key"], source=source)
    assert iam.changed == [("bob", "bob-2", "Inactive")]


@pytest.mark.parametrize("url", ["{path}", "file://{path}", "exemptions.csv"])
def test_where_it_may_be(
    iam: Iam, custodian: Custodian, listed: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(listed.parent)
    iam.add("ana", NEW, OLD)
    found = custodian.matched([exempt(url.format(path=listed))])
    assert found == {"ana": []}


def test_it_is_read_anew_in_each_run(iam: Iam, custodian: Custodian, listed: Path) -> None:
    """Though Custodian has a cache."""
    custodian.options.update(cache="memory", cache_period=15)
    iam.add("ana", NEW, OLD)
    filters = [{"type": "stale-access-key"}, {"not": [exempt(listed)]}]
    policy = custodian.policy(filters)
    assert policy.run() == []
    listed.write_text(f"{HEAD}\n", "utf-8")
    assert len(custodian.policy(filters).run()) == 1
    listed.write_text(f"{HEAD}\n{ACCOUNT},ANA,{day(0)},x,y\n", "utf-8")
    assert custodian.policy(filters).run() == []


def test_a_run_keeps_the_exemptions_that_it_saw(
    iam: Iam, custodian: Custodian, listed: Path
) -> None:
    """Of a register each line of the account, whatever the age of the user's keys."""
    iam.add("ana", NEW, OLD)
    iam.add("fay", NEW, NEW)
    with listed.open("a", encoding="utf-8") as file:
        file.write(f"{ACCOUNT},FAY,{day(-3)},moved,boss\n{ACCOUNT},nobody,{day(9)},x,y\n")
        file.write(f"222222222222,ana,{day(9)},x,y\n")
    custodian.run([{"not": [exempt(listed)]}, "stale-access-key"])
    (summary,) = _summaries(custodian)
    assert [
        (one.user, one.state.value, one.until, one.reason, one.approved_by)
        for one in summary.exempt
    ] == [
        ("ana", "valid", day(30), "legacy", "boss@corp.test"),
        ("fay", "expired", day(-3), "moved", "boss"),
    ]
    assert {one.source for one in summary.exempt} == {"exemptions.csv"}


@pytest.mark.parametrize("order", [1, -1])
def test_an_exemption_by_tag_has_its_owner_its_reason_and_the_keys_id(
    iam: Iam, custodian: Custodian, order: int
) -> None:
    tags = {"keyrot-exempt-until": day(30), "keyrot-exempt-reason": "a device", "OwnerContact": "o"}
    iam.add("ana", NEW, OLD, tags)
    iam.add("old", NEW, OLD, {"keyrot-exempt-until": "2020-01-31"})
    iam.add("twins", OLD, OLD, tags)
    custodian.run([{"not": ["rotation-exempt"]}, "stale-access-key"][::order])
    (summary,) = _summaries(custodian)
    found = {
        one.user: (one.state.value, one.until, one.reason, one.owner) for one in summary.exempt
    }
    assert found == {
        "ana": ("valid", day(30), "a device", "o"),
        "old": ("expired", "2020-01-31", "", None),
        "twins": ("valid", day(30), "a device", "o"),
    }
    ids = {one.user: one.access_key_id for one in summary.not_matched if one.why.value == "exempt"}
    assert ids == {"ana": "ana-2", "twins": None}


def test_keys_of_exempt_users_that_cannot_be_listed_stop_nothing(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD, {"keyrot-exempt-until": day(30)})
    iam.errors["ListAccessKeys", "ana"] = "AccessDenied"
    custodian.run([{"not": ["rotation-exempt"]}, "stale-access-key"])
    (summary,) = _summaries(custodian)
    assert [one.access_key_id for one in summary.not_matched] == [None]


def _summaries(custodian: Custodian) -> list[RunSummary]:
    path = custodian.folder / "test" / outcomes.SUMMARY_FILE
    return [RunSummary.parse(line) for line in path.read_bytes().splitlines()]


COLUMNS = (
    "its first line must name the columns account, user, until, reason, approved by, each once; "
    "not so: "
)
GOOD = f"{ACCOUNT},ana,2999-01-01,legacy,boss"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        # (the file, the error)
        ("", "it is empty"),
        ("<html>", "its first line must name the columns"),
        (HEAD.replace("reason", "cause"), COLUMNS + "reason"),
        (f"{HEAD},user\n{GOOD},x", COLUMNS + "user"),
        (f"{HEAD}\n{GOOD}\n{ACCOUNT},bob,2999-01", "line 3 has 3 cells"),
        (f"{HEAD}\n{ACCOUNT},bob,soon,x,y", "line 2: until must be a date (YYYY-MM-DD)"),
        (f"{HEAD}\n{ACCOUNT},bob,2999-01-01,,y", "line 2: reason is empty"),
        (f"{HEAD}\n{ACCOUNT},bob,2999-01-01,x, ", "line 2: approved by is empty"),
        (f"{HEAD}\n{ACCOUNT[1:]},bob,2999-01-01,x,y", "line 2: account must be an id of 12"),
        (f"{HEAD}\n{ACCOUNT},b*,2999-01-01,x,y", "line 2: user must be the name of an IAM user"),
        (f"{HEAD}\n{GOOD}\n{GOOD.replace('ana', 'Ana')}", f"line 3: 'ana' of {ACCOUNT} is there"),
        (f'{HEAD}\n"{GOOD}', "line 2 isn't CSV"),
    ],
)
def test_one_that_is_not_whole_stops_the_policy(
    iam: Iam, custodian: Custodian, listed: Path, text: str, why: str
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("cleo", NEW, OLD)
    listed.write_text(text, "utf-8")
    filters = [{"type": "stale-access-key"}, {"not": [exempt(listed)]}]
    with pytest.raises(PolicyExecutionError) as caught:
        custodian.run(filters, ["disable-access-key"])
    assert str(caught.value).startswith(f"the register exemptions.csv: {why}")
    assert iam.changed == []


def test_one_that_cannot_be_read_stops_the_policy(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    mocker.patch("c7n.resolver.urlopen", side_effect=OSError("https://x/?token=hunter2"))
    iam.add("ana", NEW, OLD)
    filters = [
        {"type": "stale-access-key"},
        {"not": [exempt("https://me:pw@x/l.csv?token=hunter2")]},
    ]
    with pytest.raises(PolicyExecutionError) as caught:
        custodian.run(filters, ["disable-access-key"])
    assert str(caught.value) == (
        "the register https://x/l.csv can't be read (OSError); nobody knows who is exempt, so "
        "nothing is done"
    )
    assert iam.changed == []


def test_columns_may_be_in_any_order_beside_others(listed: Path) -> None:
    listed.write_text(
        f"\ufeffTicket;x,Approved_By,until,USER,Reason,Account\r\n\r\n"
        f'7,boss,2999-01-01,ana,"a, b",{ACCOUNT}\r\n',
        "utf-8",
    )
    (line,) = register.read(str(listed), None).items()
    assert line[0] == (ACCOUNT, "ana")
    assert (line[1].reason, line[1].approved_by) == ("a, b", "boss")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"register": "http://x/l.csv"}, "register must be an s3://, https:// or file:// URL"),
        ({"register": "ftp://x/l.csv"}, "not ftp://x/l.csv"),
        ({"register": "l.csv", "tag": "x"}, "tag has no meaning with register"),
        ({"longest": 0}, "longest must be a number > 0"),
    ],
)
def test_what_is_refused(custodian: Custodian, options: dict[str, Any], error: str) -> None:
    with pytest.raises(PolicyValidationError, match=error):
        custodian.policy([{"type": "rotation-exempt", **options}]).validate()


@pytest.mark.parametrize(("days", "holds"), [(365, True), (366, False)])
@pytest.mark.parametrize("by_register", [True, False])
def test_an_exemption_that_is_too_long_exempts_nobody(
    iam: Iam,
    custodian: Custodian,
    listed: Path,
    caplog: pytest.LogCaptureFixture,
    days: int,
    holds: bool,
    by_register: bool,
) -> None:
    iam.add("ana", NEW, OLD, {} if by_register else {"keyrot-exempt-until": day(days)})
    listed.write_text(f"{HEAD}\n{ACCOUNT},ana,{day(days)},legacy,boss\n", "utf-8")
    one: dict[str, Any] = exempt(listed) if by_register else {"type": "rotation-exempt"}
    filters = [{"type": "stale-access-key"}, {"not": [{**one, "longest": 365}]}]
    users = custodian.run(filters)
    assert bool(users) is not holds
    logged = "is more than 365 days from now: not exempt" in caplog.text
    assert logged is not holds
    if users:
        assert users[0]["c7n:keyrot"][0]["exemption"]["state"] == "too-long"
    assert len(custodian.run([{**one, "longest": 365, "state": "too-long"}])) == (not holds)


def test_it_asks_for_s3_only_if_it_is_there(custodian: Custodian) -> None:
    def permissions(url: str) -> tuple[str, ...]:
        (found,) = custodian.policy([exempt(url)]).resource_manager.filters
        return tuple(found.get_permissions())

    assert "s3:GetObject" in permissions("s3://lists/exemptions.csv")
    assert "s3:GetObject" not in permissions("exemptions.csv")
