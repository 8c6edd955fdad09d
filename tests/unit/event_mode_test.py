# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lambda policies that an event starts: Custodian filters before their execution has an id."""

from __future__ import annotations

from typing import Any

import pytest
from c7n.exceptions import PolicyExecutionError
from in_memory import Custodian, Iam

ACCOUNT = "123456789012"
MODE = {
    "type": "cloudtrail",
    "role": f"arn:aws:iam::{ACCOUNT}:role/x",
    "packages": ["c7n_keyrot"],
    "handler": "c7n_keyrot.handler.run",
    "events": [
        {"source": "iam.amazonaws.com", "event": "TagUser", "ids": "requestParameters.userName"}
    ],
}
EVENT = {
    "detail-type": "AWS API Call via CloudTrail",
    "detail": {
        "eventSource": "iam.amazonaws.com",
        "eventName": "TagUser",
        "requestParameters": {"userName": "ana"},
        "userIdentity": {},
    },
    "account": ACCOUNT,
    "region": "us-east-1",
}
NEW, OLD = 5, 200


def push(custodian: Custodian) -> Any:
    filters = ["stale-access-key", {"not": ["rotation-exempt"]}]
    policy = custodian.policy(filters, ["disable-access-key"], mode=MODE)
    policy.validate()
    return policy.push(EVENT, None)


def test_the_events_user_is_seen_to(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD)
    push(custodian)
    assert iam.statuses() == {
        "ana-1": "Active",
        "ana-2": "Inactive",
        "bob-1": "Active",
        "bob-2": "Active",
    }


@pytest.mark.parametrize("operation", ["GetUser", "ListAccessKeys", "UpdateAccessKey"])
def test_what_failed_ends_the_lambda_with_an_error(
    iam: Iam, custodian: Custodian, operation: str
) -> None:
    """Though nothing is left to act on: without it there is no retry, and no alarm."""
    iam.add("ana", NEW, OLD)
    iam.errors[operation, "*"] = "AccessDenied"
    with pytest.raises(PolicyExecutionError, match="denied"):
        push(custodian)
    assert set(iam.statuses().values()) == {"Active"}
