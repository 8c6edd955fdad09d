# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""deploy/key-events*.yml: CloudTrail's event of a key that the pack disabled becomes a sentence."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cloudformation import actions, stack, told
from moto.events.models import EventPattern

from embedded_aws import HUB, ORGANIZATION_ID, REGION, allows

pytestmark = pytest.mark.repository

MEMBER = "111111111111"
BUS = f"arn:aws:events:{REGION}:{HUB}:event-bus/c7n-keyrot"
TOPIC = f"arn:aws:sns:{REGION}:{HUB}:c7n-keyrot-key-disabled"
# As CloudTrail words it.
EVENT: dict[str, Any] = {
    "version": "0",
    "source": "aws.iam",
    "detail-type": "AWS API Call via CloudTrail",
    "account": MEMBER,
    "region": "us-east-1",
    "detail": {
        "eventVersion": "1.10",
        "eventTime": "2026-11-26T06:01:02Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": "UpdateAccessKey",
        "awsRegion": "us-east-1",
        "userIdentity": {
            "type": "AssumedRole",
            "arn": f"arn:aws:sts::{MEMBER}:assumed-role/c7n-keyrot/CloudCustodian",
            "accountId": MEMBER,
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "arn": f"arn:aws:iam::{MEMBER}:role/c7n-keyrot",
                    "userName": "c7n-keyrot",
                }
            },
        },
        "requestParameters": {
            "userName": "ana",
            "accessKeyId": "AKIAIOSFODNN7EXAMPLE",
            "status": "Inactive",
        },
        "responseElements": None,
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    event = copy.deepcopy(EVENT)
    *folders, last = path.split(".")
    place = event["detail"]
    for folder in folders:
        place = place[folder]
    place[last] = value
    return event


@pytest.fixture
def hub() -> dict[str, Any]:
    return stack("key-events.yml", HUB, OrganizationId=ORGANIZATION_ID, Email="a@example.com")


@pytest.fixture
def member() -> dict[str, Any]:
    return stack("key-events-member.yml", MEMBER, HubBusArn=BUS)


@pytest.mark.parametrize(
    ("event", "of_the_pack"),
    [
        (EVENT, True),
        (changed("requestParameters.status", "Active"), False),  # c7n-keyrot reactivate
        (changed("errorCode", "AccessDenied"), False),
        (changed("eventName", "DeleteAccessKey"), False),
        (changed("eventSource", "sts.amazonaws.com"), False),
        (changed("userIdentity.sessionContext.sessionIssuer.userName", "admin"), False),
        (changed("userIdentity", {"type": "IAMUser", "userName": "c7n-keyrot"}), False),
        ({**EVENT, "source": "aws.s3"}, False),
    ],
)
def test_which_events_are_those_of_the_pack(
    hub: dict[str, Any], member: dict[str, Any], event: dict[str, Any], of_the_pack: bool
) -> None:
    """For the member's rule and for the hub's, which are the same."""
    assert hub["Rule"]["EventPattern"] == member["Rule"]["EventPattern"]
    assert EventPattern(None, hub["Rule"]["EventPattern"]).matches_event(event) is of_the_pack


def test_the_sentence(hub: dict[str, Any]) -> None:
    (target,) = hub["Rule"]["Targets"]
    assert target["Arn"] == TOPIC
    first, second, command = told(EVENT, target).splitlines()
    assert first == (
        "c7n-keyrot disabled the access key AKIAIOSFODNN7EXAMPLE of the user ana in the account "
        "111111111111, at 2026-11-26T06:01:02Z."
    )
    assert "c7n-keyrot reactivate" in second
    assert command == (
        "aws iam update-access-key --user-name ana --access-key-id AKIAIOSFODNN7EXAMPLE"
        " --status Active"
    )


@pytest.mark.parametrize(
    ("organization", "role", "allowed"),
    [
        (ORGANIZATION_ID, "c7n-keyrot-key-events", True),
        (ORGANIZATION_ID, "admin", False),
        ("o-another000", "c7n-keyrot-key-events", False),
    ],
)
def test_who_may_send_events_to_the_hub(
    hub: dict[str, Any], member: dict[str, Any], organization: str, role: str, allowed: bool
) -> None:
    """The member's rule only: the topic believes what an event says."""
    arn = f"arn:aws:iam::{MEMBER}:role/{role}"
    facts = {
        "principal": arn,
        "aws:PrincipalAccount": MEMBER,
        "aws:PrincipalArn": arn,
        "aws:PrincipalOrgID": organization,
    }
    policy = {"Statement": [hub["BusPolicy"]["Statement"]]}
    assert allows([policy], "events:PutEvents", BUS, facts) is allowed
    (sends,) = member["Role"]["Policies"]
    assert actions(sends["PolicyDocument"]) == ["events:PutEvents"]
    assert sends["PolicyDocument"]["Statement"][0]["Resource"] == BUS
    (target,) = member["Rule"]["Targets"]
    assert target["Arn"] == BUS
    assert target["RoleArn"] == f"arn:aws:iam::{MEMBER}:role/c7n-keyrot-key-events"
    assert member["Role"]["RoleName"] == "c7n-keyrot-key-events"


def test_the_hubs_rule_and_nobody_else_publishes(hub: dict[str, Any]) -> None:
    allow, deny = hub["TopicPolicy"]["PolicyDocument"]["Statement"]
    assert allow["Principal"] == {"Service": "events.amazonaws.com"}
    assert hub["Rule"]["Name"] in allow["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert (deny["Effect"], deny["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
