# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""source: credential-report: few calls, the shape of stock's describe, and nobody forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from c7n.config import Config
from c7n.exceptions import PolicyExecutionError, PolicyValidationError
from c7n.loader import PolicyLoader
from c7n.policy import PolicyCollection
from c7n.resources import load_resources
from in_memory import Custodian, Iam, outcomes_in
from pytest_mock import MockerFixture

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.outcomes import Result
from c7n_keyrot.custodian.elements.source import CredentialReportSource
from embedded_aws import EmbeddedAws, Key

NEW, OLD, OLDER = 10, 200, 300
STALE = {"type": "stale-access-key"}
STALE1 = {**STALE, "slot": 1}
INACTIVE = {**STALE, "status": "Inactive"}
EXPIRING = {"type": "expiring-access-key"}
EXEMPT = {"not": ["rotation-exempt"]}
UNCLEAR = {"type": "unclear-access-key"}
TAG = {"tag:team": "shop"}
COUNT = {"type": "value", "value_type": "resource_count", "op": "gte", "value": 0}
FIRST = {"type": "reduce", "sort-by": "UserName", "limit": 100}

KINDS = {
    "stale1": (OLD, NEW),
    "stale2": (NEW, OLD),
    "both": (OLDER, OLD),
    "inactive2": (NEW, (OLD, "Inactive")),
    "expiring2": (NEW, 85),
    "fresh": (NEW, NEW + 1),
    "one": (OLD, None),
    "none": (None, None),
    "odd2": (NEW, OLD + 2),
}


@pytest.fixture
def everybody(iam: Iam) -> Iam:
    for name, slots in KINDS.items():
        iam.add(name, *slots)
    iam.rows["odd2"][8] = "N/A"
    return iam


@pytest.mark.parametrize(
    ("filters", "asked"),
    [
        ([STALE], {"stale2", "both"}),
        ([EXEMPT, STALE], {"stale2", "both"}),
        ([TAG, STALE], {"stale2", "both"}),
        ([STALE, STALE1], {"both"}),
        ([{"and": [STALE, STALE1]}], {"both"}),
        ([{"or": [STALE, STALE1]}], {"stale1", "stale2", "both", "one"}),
        ([{"or": [STALE, {"and": [STALE1, TAG]}]}], {"stale1", "stale2", "both", "one"}),
        ([{"or": [STALE, INACTIVE]}], {"stale2", "both", "inactive2"}),
        ([INACTIVE], {"inactive2"}),
        ([EXPIRING], {"expiring2"}),
        ([{"or": [STALE, EXPIRING]}], {"stale2", "both", "expiring2"}),
        ([STALE, EXPIRING], set()),
        # Stale or unknown by the report; which of them is unclear, the live keys say.
        ([UNCLEAR], {"stale2", "both", "odd2"}),
        ([{**UNCLEAR, "slot": 1}], {"stale1", "both", "one"}),
        ([{"or": [UNCLEAR, EXPIRING]}], {"stale2", "both", "odd2", "expiring2"}),
        ([STALE, {"not": [UNCLEAR]}], {"stale2", "both"}),
        ([{"not": [UNCLEAR]}, STALE], {"stale2", "both"}),
        ([{"not": [UNCLEAR]}], set(KINDS)),
        ([STALE, UNCLEAR], {"stale2", "both"}),
        # What isn't known passes.
        ([], set(KINDS)),
        ([TAG], set(KINDS)),
        ([{"or": [STALE, TAG]}], set(KINDS)),
        ([{"not": [STALE]}], set(KINDS)),
        ([EXEMPT], set(KINDS)),
        ([{"not": [{"not": [STALE]}]}], set(KINDS)),
        # Filters that look at all users must see all of them.
        ([FIRST, STALE], set(KINDS)),
        ([COUNT, STALE], set(KINDS)),
        ([{"and": [COUNT, STALE]}], set(KINDS)),
        ([{"or": [{"not": [FIRST]}, STALE]}, STALE], set(KINDS)),
        ([STALE, FIRST], {"stale2", "both"}),
        ([STALE, COUNT], {"stale2", "both"}),
        ([STALE, FIRST, STALE1], {"stale2", "both"}),
        ([STALE, {"and": [FIRST, STALE1]}], {"stale2", "both"}),
    ],
)
def test_only_users_that_the_filters_can_match_cost_a_call(
    everybody: Iam, custodian: Custodian, mocker: MockerFixture, filters: list[Any], asked: set[str]
) -> None:
    get_user = mocker.spy(everybody, "get_user")
    found = {user["UserName"] for user in custodian.run(filters)}
    assert {call.kwargs["UserName"] for call in get_user.call_args_list} == asked
    assert get_user.call_count == len(asked)
    assert everybody.calls["ListUsers"] == 0
    assert found == {user["UserName"] for user in custodian.run(filters, source="describe")}


def test_reduce_before_ours_reduces_all_users(everybody: Iam, custodian: Custodian) -> None:
    both = {"type": "reduce", "sort-by": "UserName", "order": "asc", "limit": 1}
    assert [user["UserName"] for user in custodian.run([both, STALE])] == ["both"]
    last = {**both, "order": "desc"}
    assert [user["UserName"] for user in custodian.run([last, STALE])] == ["stale2"]
    everybody.add("zoe", NEW, NEW)
    from c7n_keyrot.custodian import shared_report

    shared_report.reports.clear()
    assert custodian.run([last, STALE]) == []


@pytest.mark.parametrize("filters", [[], [STALE], [TAG, STALE], [STALE, TAG]])
def test_users_have_the_shape_of_describe(
    iam: Iam, custodian: Custodian, filters: list[Any]
) -> None:
    iam.add("ana", NEW, OLD, {"team": "shop", "OwnerContact": "ana@example.com"}, "/x/y/")
    (ours,) = custodian.run(filters)
    (stock,) = custodian.run(filters, source="describe")
    for user in (ours, stock):
        user.pop("c7n:matched-keys", None)  # without our words describe has none
        for record in user.get("c7n:keyrot", []):
            record.pop("run")
    assert ours == stock
    assert {tag["Key"] for tag in ours["Tags"]} == {"team", "OwnerContact"}


def test_a_user_who_is_gone_since_the_report_is_left_out(
    everybody: Iam, custodian: Custodian
) -> None:
    del everybody.users["stale2"]
    assert list(custodian.matched([STALE])) == ["both"]
    assert "stale2" not in custodian.matched([])


@pytest.mark.parametrize("name", ["stale2", "gone"])
def test_users_by_name_for_policies_that_an_event_starts(
    everybody: Iam, custodian: Custodian, name: str
) -> None:
    manager = custodian.policy([STALE]).resource_manager
    users = manager.get_resources([name])
    assert [user["UserName"] for user in users] == ([] if name == "gone" else [name])
    assert all("Tags" in user for user in users)
    matched = manager.filter_resources(users)
    assert [user["c7n:matched-keys"][0]["AccessKeyId"] for user in matched] == (
        [] if name == "gone" else ["stale2-2"]
    )


def test_config_users_are_filtered_as_well(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD, {"keyrot-exempt-until": "2999-01-01"})
    policy = custodian.policy([STALE, EXEMPT], source="config")
    policy.validate()
    manager = policy.resource_manager
    # As AWS Config has them: of yesterday, and without the tag.
    users = [{"UserName": name, "UserId": name, "Tags": []} for name in ("ana", "bob", "gone")]
    mocker.patch.object(manager.source, "resources", return_value=users)
    mocker.patch.object(manager.source, "augment", side_effect=lambda resources: resources)
    (user,) = manager.resources()
    assert [key["AccessKeyId"] for key in user["c7n:matched-keys"]] == ["ana-2"]


@pytest.mark.parametrize("resource", ["aws.iam-role", "aws.iam-group", "aws.s3", "aws.ec2"])
def test_on_another_resource_it_is_a_clear_error(custodian: Custodian, resource: str) -> None:
    with pytest.raises(PolicyValidationError) as caught:
        custodian.policy([], resource=resource).resource_manager.source  # noqa: B018
    assert "source: credential-report is for aws.iam-user only" in str(caught.value)
    assert resource in str(caught.value)
    assert "policy test" in str(caught.value)


def test_the_schema_knows_the_source(custodian: Custodian) -> None:
    load_resources({"aws.iam-user"})
    data = {
        "policies": [
            {"name": "p", "resource": "aws.iam-user", "source": "credential-report"},
        ]
    }
    (policy,) = PolicyLoader(Config.empty()).load_data(data, "memory://")
    assert isinstance(policy.resource_manager.source, CredentialReportSource)


def test_permissions(custodian: Custodian) -> None:
    permissions = custodian.policy([STALE], ["disable-access-key"]).get_permissions()
    assert set(permissions) == {
        "iam:GenerateCredentialReport",
        "iam:GetCredentialReport",
        "iam:GetUser",
        "iam:ListAccessKeys",
        "iam:UpdateAccessKey",
    }


# With real clients, against the embedded AWS


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as embedded:
        for name, value in embedded.env(home=tmp_path).items():
            if name.startswith("AWS_"):
                monkeypatch.setenv(name, value)
        yield embedded
    assert embedded.errors == []


def run(folder: Path, filters: list[Any], actions: list[Any], **more: Any) -> list[Any]:
    load_resources({"aws.iam-user"})
    data = {
        "name": "test",
        "resource": "aws.iam-user",
        "source": "credential-report",
        "filters": filters,
        "actions": actions,
        **more,
    }
    config = Config.empty(
        region="us-east-1",
        account_id="123456789012",
        output_dir=str(folder),
        cache=str(folder / "cache"),
        cache_period=15,
    )
    (policy,) = PolicyCollection.from_data({"policies": [data]}, config)
    policy.validate()
    return list(policy.run())


@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_with_real_clients_and_custodians_default_cache(
    aws: EmbeddedAws, tmp_path: Path, source: str
) -> None:
    account = aws.account()
    for number in range(30):
        account.add_user(f"u{number}", Key(10), Key(200 if number % 3 == 0 else 5))
    account.add_user("exempt", Key(10), Key(200), {"keyrot-exempt-until": "2999-01-01"})
    before, wanted = account.snapshot(), account.expected()
    del wanted["exempt"]
    users = run(tmp_path, [EXEMPT, STALE], ["disable-access-key"], source=source)
    assert {user["UserName"] for user in users} == set(wanted)
    assert set(account.changes(before)) == set(wanted.values())
    if source == "credential-report":
        assert aws.calls["iam.GetUser"] == len(wanted) + 1
        assert aws.calls["iam.ListUsers"] == 0


def test_a_throttled_call_is_tried_again(aws: EmbeddedAws, tmp_path: Path) -> None:
    account = aws.account()
    account.add_user("ana", Key(10), Key(200))
    for action in ("iam.ListAccessKeys", "iam.GetUser", "iam.UpdateAccessKey"):
        aws.fail(action, "Throttling", times=1)
    run(tmp_path, [STALE], ["disable-access-key"])
    assert account.status("ana", 2) == "Inactive"


def test_a_denied_call_is_not_tried_again(aws: EmbeddedAws, tmp_path: Path) -> None:
    aws.account().add_user("ana", Key(10), Key(200))
    aws.fail("iam.ListAccessKeys", "AccessDenied")
    with pytest.raises(PolicyExecutionError, match="iam:ListAccessKeys is denied"):
        run(tmp_path, [STALE], ["disable-access-key"])
    assert aws.calls["iam.ListAccessKeys"] == 1


def test_a_deletion_whose_answer_was_lost_is_no_other_ones_deed(
    aws: EmbeddedAws, tmp_path: Path
) -> None:
    """The client tries again by itself, and hears NoSuchEntity of what it has just deleted."""
    account = aws.account()
    account.add_user("ana", Key(10), Key(200, status="Inactive"))
    aws.fail("iam.DeleteAccessKey", "reset", times=1, late=True)
    run(tmp_path, [INACTIVE], ["delete-access-key"])
    assert list(account.keys("ana")) == [1]
    (line,) = outcomes_in(tmp_path / "test" / outcomes.FILE)
    assert line.outcome == Result.DELETED
