# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A filter of Custodian's own that can't ask about a user, in a policy with ours.

Custodian's group filter swallows the error. `tests/unit/stock_filters_test.py` has all filters.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Finished, PolicyRun, as_file, keyrot

from embedded_aws import FOREIGN, HUB, MEMBER_ROLE, Account, EmbeddedAws, seed_bench

ROLE = Path(__file__).parents[2] / "deploy" / "member-role.yml"
OFF = ("Active", "Inactive")
GROUP = {"type": "group", "key": "GroupName", "value": "KeepKeys"}
QUICK = {"AWS_MAX_ATTEMPTS": "2"}


@pytest.fixture
def users(account: Account) -> dict[str, str]:
    """Eight users with a stale second key; every other one is in the group KeepKeys."""
    found = seed_bench(account, 12, find=8)
    for name in ("KeepKeys", "Others"):
        account.backend.create_group(name)
    for index, user in enumerate(found):
        account.backend.add_user_to_group("Others" if index % 2 else "KeepKeys", user)
    account.generate_report()
    return found


def policy(*filters: Any, **more: Any) -> dict[str, Any]:
    return {
        "policies": [
            {
                "name": "test",
                "resource": "aws.iam-user",
                "source": "credential-report",
                "filters": list(filters),
                "actions": ["disable-access-key"],
                **more,
            }
        ]
    }


def deployed(account: Account, **parameters: str) -> None:
    given = {"HubAccountId": HUB, "ExternalId": "an-external-id", "Mode": "enforcing"}
    account.deploy("member", ROLE, **given, **parameters)


def test_whose_groups_the_role_may_not_list_is_left(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
    tmp_path: Path,
) -> None:
    """Nobody is taken for one who is in no group; doctor says so before, and what allows it."""
    kept, others = list(users)[::2], list(users)[1::2]
    exempting = policy("stale-access-key", {"not": [GROUP]})
    deployed(account)
    aws.enforce()
    before = account.snapshot()
    ask = keyrot("doctor", "--policies", as_file(exempting, tmp_path))
    told = run_in(ask, role=MEMBER_ROLE)
    assert told.code != 0
    assert told.lines("iam:ListGroupsForUser is denied"), told.text
    run = run_custodian(exempting, role=MEMBER_ROLE)
    assert run.code != 0, run.text
    assert account.changes(before) == {}
    assert run.names("test") == sorted(users)
    for user in users:
        (line,) = run.lines("keyrot:ERROR", repr(user))
        assert "iam:ListGroupsForUser is denied (AccessDenied)" in line
    deployed(account, StockFilters="group")
    told = run_in(ask, role=MEMBER_ROLE)
    assert not told.lines("ListGroupsForUser is denied"), told.text
    run = run_custodian(exempting, role=MEMBER_ROLE)
    assert run.code == 0, run.text
    assert account.changes(before) == {users[user]: OFF for user in others}
    assert not set(kept) & set(run.names("test"))


@pytest.mark.parametrize(
    ("negated", "source"),
    [(True, "credential-report"), (False, "describe")],
    ids=["in a not block", "outside"],
)
def test_a_call_that_fails_leaves_its_user_and_no_other(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    negated: bool,
    source: str,
) -> None:
    """All eight are of one chunk; those after one whose call failed are asked all the same."""
    kept, others = list(users)[::2], list(users)[1::2]
    # The error's code, and the first of those in the group and of those who aren't.
    failing = [kept[0], others[0], others[2]]
    aws.fail("iam.ListGroupsForUser", "Throttling", user=failing[0])
    aws.answer("iam.ListGroupsForUser", FOREIGN["HTML page"], user=failing[1])
    aws.answer("iam.ListGroupsForUser", FOREIGN["XHTML page"], user=failing[2])
    before = account.snapshot()
    element = {"not": [GROUP]} if negated else GROUP
    run = run_custodian(policy(element, "stale-access-key", source=source), env=QUICK)
    assert run.code != 0, run.text
    wanted = (set(others) if negated else set(kept)) - set(failing)
    assert account.changes(before) == {users[user]: OFF for user in wanted}
    assert set(run.names("test")) == wanted | set(failing)
    outcomes = {line["user"]: line["outcome"] for line in run.outcomes("test")}
    assert outcomes == dict.fromkeys(wanted, "disabled") | dict.fromkeys(failing, "skipped")
    for user in failing:
        assert run.lines("keyrot:ERROR", repr(user), "iam:ListGroupsForUser failed"), run.text
    assert "Please sign in" not in run.text
