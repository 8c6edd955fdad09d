# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The CloudFormation templates: valid, and no more than the pack needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from c7n.config import Config
from c7n.loader import PolicyLoader
from cloudformation import DEPLOY, actions, hub, member, stack

from embedded_aws import HUB, ORGANIZATION_ID, REGION, allows

ROOT = Path(__file__).parents[2]
ACCOUNT = "111111111111"
PACK = ROOT / "policies" / "second-access-key.yml"
NOTIFY_ONLY = ROOT / "examples" / "notify-only.yml"
LAMBDA = ROOT / "examples" / "lambda.yml"
BUCKET = f"arn:aws:s3:::c7n-keyrot-outcomes-{HUB}"
USER = f"arn:aws:iam::{ACCOUNT}:user/alice"


def test_cfn_lint() -> None:
    """Not a warning either."""
    script = Path(sys.executable).parent / "cfn-lint"
    args = [script, "--include-checks", "I", "--", *sorted(DEPLOY.glob("*.yml"))]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def needed(path: Path) -> set[str]:
    """What the member's role is asked for: Custodian's own sum, and what only its notify knows."""
    loader = PolicyLoader(Config.empty(region=REGION, account_id=ACCOUNT))
    policies = loader.load_data(yaml.safe_load(path.read_text("utf-8")), "memory://")
    found: set[str] = set()
    for policy in policies:
        found |= policy.get_permissions()
        for notify in (a for a in policy.resource_manager.actions if a.type == "notify"):
            assert notify.data["assume_role"] is False  # so the hub sends, not the member
            found.add("iam:ListAccountAliases")
    return found - {"sqs:SendMessage"}


@pytest.mark.parametrize(
    ("mode", "example", "path"),
    [
        ("enforcing", "none", PACK),
        ("read-only", "none", NOTIFY_ONLY),
        ("read-only", "delete-stage", NOTIFY_ONLY),
        *(
            ("enforcing", name, ROOT / "examples" / f"{name}.yml")
            for name in ("graceful-rollout", "superseded-first", "delete-stage")
        ),
    ],
)
def test_member_role_may_do_what_the_policies_need_and_nothing_more(
    mode: str, example: str, path: Path
) -> None:
    document = member(ACCOUNT, HUB, mode, Example=example)["policy"]
    assert sorted(actions(document)) == sorted(needed(path))
    assert "*" not in "".join(actions(document))
    assert not any("NotAction" in s or "NotResource" in s for s in document["Statement"])


@pytest.mark.parametrize("mode", ["read-only", "enforcing"])
def test_findings_are_posted_in_either_mode(mode: str) -> None:
    granted, usual = (
        set(actions(member(ACCOUNT, HUB, mode, Example=example)["policy"]))
        for example in ("security-hub", "none")
    )
    asked = needed(ROOT / "examples" / "security-hub.yml")
    assert asked <= granted
    assert granted - usual == {one for one in asked if one.startswith("securityhub:")}


def test_read_only_is_the_default_and_lacks_what_changes() -> None:
    enforcing, read_only = (
        set(actions(member(ACCOUNT, HUB, mode)["policy"])) for mode in ("enforcing", "read-only")
    )
    assert enforcing - read_only == {"iam:UpdateAccessKey"}
    template = (DEPLOY / "member-role.yml").read_text("utf-8")
    assert "Default: read-only" in template


@pytest.mark.parametrize("name", ["both-slots", "days-per-account", "exemptions"])
def test_the_other_examples_need_no_more_than_the_pack(name: str) -> None:
    assert needed(ROOT / "examples" / f"{name}.yml") <= needed(PACK)


def test_only_the_marks_of_the_stages_may_be_set() -> None:
    document = member(ACCOUNT, HUB, Example="delete-stage")["policy"]
    (statement,) = (s for s in document["Statement"] if "iam:TagUser" in s["Action"])
    marks = set()
    for name in ("graceful-rollout", "delete-stage"):
        for policy in yaml.safe_load((ROOT / "examples" / f"{name}.yml").read_text())["policies"]:
            for action in policy["actions"]:
                if isinstance(action, dict) and action["type"] == "mark-for-op":
                    marks.add(action["tag"])
    assert set(statement["Condition"]["ForAllValues:StringEquals"]["aws:TagKeys"]) == marks


@pytest.mark.parametrize("action", ["iam:UpdateAccessKey", "iam:DeleteAccessKey"])
@pytest.mark.parametrize(
    ("user", "allowed"),
    [
        ("user/alice", True),
        ("user/team/alice", True),
        ("user/break-glass/root-2", False),
        ("role/alice", False),
    ],
)
def test_only_users_outside_the_protected_path(user: str, allowed: bool, action: str) -> None:
    more = {"ProtectedPath": "/break-glass/", "Example": "delete-stage"}
    document = member(ACCOUNT, HUB, **more)["policy"]
    arn = f"arn:aws:iam::{ACCOUNT}:{user}"
    assert allows([document], action, arn, {}) is allowed


@pytest.mark.parametrize(
    ("account", "external_id", "trusted"),
    [
        (HUB, "c7n-keyrot-2f6c1d", True),
        (HUB, "another", False),
        (HUB, None, False),
        ("999999999999", "c7n-keyrot-2f6c1d", False),
    ],
)
def test_only_the_hub_with_the_external_id(
    account: str, external_id: str | None, trusted: bool
) -> None:
    facts = {"aws:PrincipalAccount": account, "principal": f"arn:aws:iam::{account}:user/runner"}
    if external_id:
        facts["sts:ExternalId"] = external_id
    trust = member(ACCOUNT, HUB)["trust"]
    assert allows([trust], "sts:AssumeRole", "*", facts) is trusted


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_every_arn_is_of_the_partition(partition: str) -> None:
    given = {
        "AWS::Partition": partition,
        "ProtectedPath": "/break-glass/",
        "Example": "delete-stage",
    }
    more = {**given, "RunBy": "lambda"}
    for made in (
        member(ACCOUNT, HUB, **given),
        member(ACCOUNT, HUB, **more),
        member(ACCOUNT, HUB, role="DeployerRole", **more),
        hub(HUB, ORGANIZATION_ID, **given),
        hub(HUB, ORGANIZATION_ID, **more),
    ):
        arns = re.findall(r"arn:([^:]*):", json.dumps(made))
        assert set(arns) == {partition}


@pytest.fixture
def resources() -> dict[str, Any]:
    return hub(HUB, ORGANIZATION_ID)


def test_queues_are_encrypted_and_the_first_has_the_second_behind_it(
    resources: dict[str, Any],
) -> None:
    assert resources["Queue"]["SqsManagedSseEnabled"] is True
    assert resources["DeadLetters"]["SqsManagedSseEnabled"] is True
    redrive = resources["Queue"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"].endswith(":c7n-keyrot-dead-letters")
    assert 1 < redrive["maxReceiveCount"] < 10


@pytest.mark.parametrize(
    ("organization", "tls", "action", "allowed"),
    [
        (ORGANIZATION_ID, "true", "sqs:SendMessage", True),
        (ORGANIZATION_ID, "false", "sqs:SendMessage", False),
        (ORGANIZATION_ID, "true", "sqs:ReceiveMessage", False),
        ("o-another000", "true", "sqs:SendMessage", False),
        (None, "true", "sqs:SendMessage", False),
    ],
)
def test_the_organization_may_send_and_only_send(
    resources: dict[str, Any], organization: str | None, tls: str, action: str, allowed: bool
) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/c7n-keyrot"
    facts = {"aws:PrincipalAccount": ACCOUNT, "principal": role, "aws:SecureTransport": tls}
    if organization:
        facts["aws:PrincipalOrgID"] = organization
    document = resources["QueuePolicy"]["PolicyDocument"]
    queue = f"arn:aws:sqs:{REGION}:{HUB}:c7n-keyrot"
    assert allows([document], action, queue, {**facts, "aws:PrincipalArn": role}) is allowed
    # Nobody else there: the mailer believes what a message says, recipients included.
    assert not allows([document], action, queue, {**facts, "aws:PrincipalArn": USER})


def test_mailer_and_runner(resources: dict[str, Any]) -> None:
    mailer = resources["MailerRole"]["Policies"][0]["PolicyDocument"]
    assert set(actions(mailer)) == {
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "ses:SendEmail",
        "ses:SendRawEmail",
    }
    runner = resources["RunnerPolicy"]["PolicyDocument"]
    assert set(actions(runner)) == {"sts:AssumeRole", "sqs:SendMessage", "sqs:GetQueueUrl"}
    ours = {"aws:ResourceOrgID": ORGANIZATION_ID}
    role = f"arn:aws:iam::{ACCOUNT}:role/"
    assert allows([runner], "sts:AssumeRole", f"{role}c7n-keyrot", ours)
    assert not allows([runner], "sts:AssumeRole", f"{role}admin", ours)
    assert not allows([runner], "sts:AssumeRole", f"{role}c7n-keyrot", {})
    mailer_role = f"arn:aws:iam::{HUB}:role/c7n-keyrot-mailer"
    assert allows([runner], "sts:AssumeRole", mailer_role, ours)
    assert allows(
        [resources["MailerRole"]["AssumeRolePolicyDocument"]],
        "sts:AssumeRole",
        "*",
        {"aws:PrincipalAccount": HUB, "principal": f"arn:aws:iam::{HUB}:role/runner"},
    )


# RunBy=lambda


def test_a_functions_role_is_for_lambda_and_can_do_what_its_policies_need_and_report() -> None:
    role = member(ACCOUNT, HUB, RunBy="lambda")
    (trusted,) = role["trust"]["Statement"]
    assert trusted["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert set(actions(role["policy"])) == needed(LAMBDA) | {
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "s3:PutObject",
        "s3:PutObjectAcl",
        "sqs:SendMessage",
    }


RULES = f"arn:aws:events:{REGION}:{ACCOUNT}:rule"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:custodian-iam-user-second-access-key-stale"
OURS = f"arn:aws:iam::{ACCOUNT}:role/c7n-keyrot"


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:PutObject", f"{BUCKET}/lambda/{ACCOUNT}/policy/2026/11/26/06/x", True),
        ("s3:PutObject", f"{BUCKET}/lambda/222222222222/policy/x", False),
        ("s3:GetObject", f"{BUCKET}/lambda/{ACCOUNT}/policy/x", False),
        ("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{HUB}:c7n-keyrot", True),
        ("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{HUB}:another", False),
        ("logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/"
         "custodian-iam-user-second-access-key-stale:log-stream:x", True),
        ("logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:another:x", False),
        ("lambda:UpdateFunctionCode", FUNCTION, False),
    ],
)  # fmt: skip
def test_a_function_writes_below_its_own_accounts_prefix(
    action: str, resource: str, allowed: bool
) -> None:
    document = member(ACCOUNT, HUB, RunBy="lambda")["policy"]
    assert allows([document], action, resource, {}) is allowed


@pytest.mark.parametrize(
    ("action", "resource", "service", "allowed"),
    [
        ("lambda:CreateFunction", FUNCTION, "", True),
        ("lambda:CreateFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:other", "", False),
        (
            "events:PutRule",
            f"{RULES}/custodian-iam-user-x",
            "",
            True,
        ),
        ("events:PutRule", f"{RULES}/other", "", False),
        ("iam:PassRole", OURS, "lambda.amazonaws.com", True),
        ("iam:PassRole", OURS, "ec2.amazonaws.com", False),
        ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", "lambda.amazonaws.com", False),
        ("iam:UpdateAccessKey", USER, "", False),
        ("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{HUB}:c7n-keyrot", "", False),
    ],
)
def test_the_deployer_deploys_these_functions_with_this_role_only(
    action: str, resource: str, service: str, allowed: bool
) -> None:
    role = member(ACCOUNT, HUB, role="DeployerRole", RunBy="lambda")
    facts = {"iam:PassedToService": service}
    assert allows([role["policy"]], action, resource, facts) is allowed
    assert role["trust"] == member(ACCOUNT, HUB)["trust"]


def test_the_deployer_can_be_taken_away() -> None:
    given = {"HubAccountId": HUB, "ExternalId": "c7n-keyrot-2f6c1d", "RunBy": "lambda"}
    with_it = stack("member-role.yml", ACCOUNT, **given)
    without = stack("member-role.yml", ACCOUNT, Deployer="absent", **given)
    assert with_it.keys() - without.keys() == {"DeployerRole"}
    assert with_it["Role"] == without["Role"]


@pytest.mark.parametrize(
    ("change", "action", "key", "allowed"),
    [
        ({}, "s3:PutObject", f"lambda/{ACCOUNT}/p/x", True),
        ({}, "s3:PutObject", "lambda/222222222222/p/x", False),
        ({}, "s3:GetObject", f"lambda/{ACCOUNT}/p/x", False),
        ({"aws:SecureTransport": "false"}, "s3:PutObject", f"lambda/{ACCOUNT}/p/x", False),
        ({"aws:PrincipalOrgID": "o-another000"}, "s3:PutObject", f"lambda/{ACCOUNT}/p/x", False),
        ({"aws:PrincipalArn": USER}, "s3:PutObject", f"lambda/{ACCOUNT}/p/x", False),
    ],
)
def test_the_bucket_takes_each_accounts_outcomes_below_its_own_prefix(
    change: dict[str, str], action: str, key: str, allowed: bool
) -> None:
    made = hub(HUB, ORGANIZATION_ID, RunBy="lambda")
    assert BUCKET.endswith(f":::{made['Outcomes']['BucketName']}")
    facts = {
        "aws:PrincipalAccount": ACCOUNT,
        "principal": OURS,
        "aws:PrincipalArn": OURS,
        "aws:PrincipalOrgID": ORGANIZATION_ID,
        "aws:SecureTransport": "true",
    }
    document = made["OutcomesPolicy"]["PolicyDocument"]
    assert allows([document], action, f"{BUCKET}/{key}", {**facts, **change}) is allowed


def test_without_functions_there_is_no_bucket(resources: dict[str, Any]) -> None:
    assert not [name for name in resources if name.startswith("Outcomes")]
