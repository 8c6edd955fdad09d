# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The CloudFormation templates: valid, and no more than the pack needs."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from c7n.config import Config
from c7n.loader import PolicyLoader
from cloudformation import DEPLOY, actions, hub, member, read, runner, stack, told
from moto.events.models import EventPattern
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from c7n_keyrot.cli.doctor.permissions import PARAMETERS
from c7n_keyrot.cli.doctor.policies import UNDECLARED
from embedded_aws import HUB, ORGANIZATION_ID, REGION, allows

pytestmark = pytest.mark.repository

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


@pytest.mark.parametrize("mode", ["enforcing", "read-only"])
def test_the_usage_of_keys_is_a_parameter_of_the_member_role(mode: str) -> None:
    without = set(actions(member(ACCOUNT, HUB, mode)["policy"]))
    with_usage = set(actions(member(ACCOUNT, HUB, mode, Usage="true")["policy"]))
    assert with_usage - without == {"cloudtrail:LookupEvents"}
    assert without <= with_usage


@pytest.mark.parametrize("mode", ["enforcing", "read-only"])
def test_custodians_own_filters_are_a_parameter_of_the_member_role(mode: str) -> None:
    """What the filters of users call in IAM, as doctor names it; and nothing that changes."""
    none, group, every = (
        set(actions(member(ACCOUNT, HUB, mode, StockFilters=value)["policy"]))
        for value in ("none", "group", "all")
    )
    assert none == set(actions(member(ACCOUNT, HUB, mode)["policy"]))
    assert group - none == {"iam:ListGroupsForUser"}
    assert every - group == {
        permission for permission, how in PARAMETERS.items() if how == "StockFilters=all"
    }
    from c7n.resources.iam import User

    filters = [
        "check-permissions",
        "credential",
        "group",
        "has-inline-policy",
        "login-profile",
        "mfa-device",
        "policy",
        "service-specific-credentials",
        "ssh-key",
        "usage",
    ]
    called: set[str] = set()
    for name in filters:
        of_filter = {"type": name, "actions": ["iam:X"], "match": "allowed", "key": "user"}
        element = User.filter_registry.get(name)(of_filter, SimpleNamespace(type="iam-user"))
        called |= {*element.get_permissions(), *UNDECLARED.get(name, ())}
    assert called <= every
    reads = ("Get", "List", "Simulate", "GenerateServiceLastAccessedDetails")
    assert all(one.partition(":")[2].startswith(reads) for one in every - none)


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


@pytest.mark.parametrize("name", ["both-slots", "change-window", "days-per-account", "exemptions"])
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
    bus = f"arn:{partition}:events:{REGION}:{HUB}:event-bus/c7n-keyrot"
    more = {**given, "RunBy": "lambda"}
    for made in (
        member(ACCOUNT, HUB, **given),
        member(ACCOUNT, HUB, **more),
        member(ACCOUNT, HUB, name="DeployerRole", **more),
        hub(HUB, ORGANIZATION_ID, **given),
        hub(HUB, ORGANIZATION_ID, **more),
        runner(HUB, **given),
        stack("key-events.yml", HUB, OrganizationId=ORGANIZATION_ID, **given),
        stack("key-events-member.yml", ACCOUNT, HubBusArn=bus, **given),
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
def test_with_functions_their_roles_may_send_and_only_send(
    resources: dict[str, Any], organization: str | None, tls: str, action: str, allowed: bool
) -> None:
    """With RunBy=hub nobody outside of the hub may: whoever sends decides who gets which mail."""
    role = f"arn:aws:iam::{ACCOUNT}:role/c7n-keyrot"
    facts = {"aws:PrincipalAccount": ACCOUNT, "principal": role, "aws:SecureTransport": tls}
    if organization:
        facts["aws:PrincipalOrgID"] = organization
    by_lambda = hub(HUB, ORGANIZATION_ID, RunBy="lambda")["QueuePolicy"]["PolicyDocument"]
    by_hub = resources["QueuePolicy"]["PolicyDocument"]
    queue = f"arn:aws:sqs:{REGION}:{HUB}:c7n-keyrot"
    assert allows([by_lambda], action, queue, {**facts, "aws:PrincipalArn": role}) is allowed
    # Nobody else there: the mailer believes what a message says, recipients included.
    assert not allows([by_lambda], action, queue, {**facts, "aws:PrincipalArn": USER})
    assert not allows([by_hub], action, queue, {**facts, "aws:PrincipalArn": role})
    assert [s["Effect"] for s in by_hub["Statement"]] == ["Deny"]


def test_without_functions_no_member_role_may_send() -> None:
    for example in ("none", "graceful-rollout", "superseded-first", "delete-stage", "security-hub"):
        document = member(ACCOUNT, HUB, Example=example, Usage="true")["policy"]
        assert not [one for one in actions(document) if one.startswith(("sqs:", "*"))]


def test_mailer_and_runner(resources: dict[str, Any]) -> None:
    mailer = resources["MailerRole"]["Policies"][0]["PolicyDocument"]
    assert set(actions(mailer)) == {
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:SendMessage",
        "sqs:GetQueueAttributes",
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


# The scheduled runner

RUNNER_BUCKET = f"arn:aws:s3:::c7n-keyrot-runner-{HUB}-us-east-1"
PROJECT = f"arn:aws:codebuild:{REGION}:{HUB}:project/c7n-keyrot-runner"
TOPIC = f"arn:aws:sns:{REGION}:{HUB}:c7n-keyrot-runner"


@pytest.fixture
def scheduled() -> dict[str, Any]:
    return runner(HUB, Email="security@example.com")


def documents(role: dict[str, Any]) -> list[dict[str, Any]]:
    return [policy["PolicyDocument"] for policy in role["Policies"]]


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:GetObject", f"{RUNNER_BUCKET}/config/accounts.yml", True),
        ("s3:GetObject", f"{RUNNER_BUCKET}/runs/r/run/a", True),
        ("s3:GetObject", f"{RUNNER_BUCKET}/latest/report.html", False),
        ("s3:PutObject", f"{RUNNER_BUCKET}/runs/r/report.html", True),
        ("s3:PutObject", f"{RUNNER_BUCKET}/latest/report.html", True),
        ("s3:PutObject", f"{RUNNER_BUCKET}/config/accounts.yml", False),
        ("s3:PutObject", f"{RUNNER_BUCKET}/config/c7n_keyrot-1-py3-none-any.whl", False),
        ("s3:PutObject", "arn:aws:s3:::another/runs/r/report.html", False),
        ("s3:DeleteObject", f"{RUNNER_BUCKET}/runs/r/report.html", False),
        ("s3:DeleteObjectVersion", f"{RUNNER_BUCKET}/runs/r/report.html", False),
        ("s3:PutBucketPolicy", RUNNER_BUCKET, False),
        ("sns:Publish", TOPIC, True),
        ("sns:Publish", f"{TOPIC}-2", False),
        ("sns:Subscribe", TOPIC, False),
        ("codebuild:StartBuild", PROJECT, False),
        ("codebuild:StartBuild", f"{PROJECT}-mailer", True),
        ("codebuild:BatchGetBuilds", f"{PROJECT}-mailer", True),
        ("codebuild:UpdateProject", f"{PROJECT}-mailer", False),
        ("iam:PassRole", f"arn:aws:iam::{HUB}:role/c7n-keyrot-runner", False),
        ("iam:UpdateAccessKey", USER, False),
        ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/admin", False),
    ],
)
def test_what_the_runner_may_do(
    scheduled: dict[str, Any], action: str, resource: str, allowed: bool
) -> None:
    """It can read what it runs and not change it, and it can delete nothing."""
    assert allows(documents(scheduled["RunnerRole"]), action, resource, {}) is allowed


@pytest.mark.parametrize(
    ("prefix", "allowed"), [("config/", True), ("runs/r/run/", True), ("", False), (None, False)]
)
def test_what_the_runner_may_list(
    scheduled: dict[str, Any], prefix: str | None, allowed: bool
) -> None:
    facts = {} if prefix is None else {"s3:prefix": prefix}
    document = documents(scheduled["RunnerRole"])
    assert allows(document, "s3:ListBucket", RUNNER_BUCKET, facts) is allowed


def test_the_runner_takes_the_rest_from_the_hub(
    scheduled: dict[str, Any], resources: dict[str, Any]
) -> None:
    name = resources["RunnerPolicy"]["ManagedPolicyName"]
    arn = f"arn:aws:iam::{HUB}:policy/{name}"
    assert scheduled["RunnerRole"]["ManagedPolicyArns"] == [arn]
    variables = scheduled["MailerProject"]["Environment"]["EnvironmentVariables"]
    (mailer,) = [v["Value"] for v in variables if v["Name"] == "MAILER_ROLE"]
    assert mailer == f"arn:aws:iam::{HUB}:role/{resources['MailerRole']['RoleName']}"


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("sts:AssumeRole", f"arn:aws:iam::{HUB}:role/c7n-keyrot-mailer", True),
        ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/c7n-keyrot", False),
        ("sts:AssumeRole", f"arn:aws:iam::{HUB}:role/c7n-keyrot", False),
        ("s3:GetObject", f"{RUNNER_BUCKET}/config/mailer.yml", True),
        ("s3:GetObject", f"{RUNNER_BUCKET}/config/c7n_keyrot-1-py3-none-any.whl", True),
        ("s3:GetObject", f"{RUNNER_BUCKET}/config/accounts.yml", False),
        ("s3:GetObject", f"{RUNNER_BUCKET}/runs/r/run/a", False),
        ("s3:PutObject", f"{RUNNER_BUCKET}/mailer/4a5b.txt", True),
        ("s3:PutObject", f"{RUNNER_BUCKET}/config/mailer.yml", False),
        ("s3:PutObject", f"{RUNNER_BUCKET}/runs/r/run/a", False),
        ("s3:PutObject", f"{RUNNER_BUCKET}/latest/report.html", False),
        ("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{HUB}:c7n-keyrot", False),
        ("sns:Publish", TOPIC, False),
        ("codebuild:StartBuild", PROJECT, False),
    ],
)
def test_what_the_mailer_s_build_may_do(
    scheduled: dict[str, Any], action: str, resource: str, allowed: bool
) -> None:
    """It reads what others wrote into the queue, so it can do no more than mail."""
    role = scheduled["MailerBuildRole"]
    assert "ManagedPolicyArns" not in role
    facts = {"aws:ResourceOrgID": ORGANIZATION_ID}
    assert allows(documents(role), action, resource, facts) is allowed
    assert (
        scheduled["MailerProject"]["ServiceRole"] == f"arn:aws:iam::{HUB}:role/{role['RoleName']}"
    )


def test_each_role_is_for_one_service_of_this_account(scheduled: dict[str, Any]) -> None:
    project = PROJECT
    trust = {
        name: scheduled[name]["AssumeRolePolicyDocument"]["Statement"]
        for name in ("RunnerRole", "MailerBuildRole", "ScheduleRole")
    }
    for statements in trust.values():
        (statement,) = statements
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": HUB}
    assert trust["RunnerRole"][0]["Principal"] == {"Service": "codebuild.amazonaws.com"}
    assert trust["RunnerRole"][0]["Condition"]["ArnEquals"] == {"aws:SourceArn": project}
    assert trust["MailerBuildRole"][0]["Principal"] == {"Service": "codebuild.amazonaws.com"}
    mailer = {"aws:SourceArn": f"{PROJECT}-mailer"}
    assert trust["MailerBuildRole"][0]["Condition"]["ArnEquals"] == mailer
    assert trust["ScheduleRole"][0]["Principal"] == {"Service": "scheduler.amazonaws.com"}
    (start,) = documents(scheduled["ScheduleRole"])
    assert actions(start) == ["codebuild:StartBuild"]
    assert start["Statement"][0]["Resource"] == project


def test_no_policy_of_the_runner_names_everything(scheduled: dict[str, Any]) -> None:
    for role in ("RunnerRole", "MailerBuildRole", "ScheduleRole"):
        for document in documents(scheduled[role]):
            assert "*" not in "".join(actions(document))
            for statement in document["Statement"]:
                assert "*" not in (statement["Resource"], statement["Action"])


def test_the_schedule_starts_the_project_once_a_day_and_never_twice(
    scheduled: dict[str, Any],
) -> None:
    schedule, project = scheduled["DailyRun"], scheduled["Project"]
    assert schedule["State"] == "ENABLED"
    assert json.loads(schedule["Target"]["Input"]) == {"ProjectName": project["Name"]}
    assert schedule["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:codebuild:startBuild"
    assert schedule["Target"]["RoleArn"] == f"arn:aws:iam::{HUB}:role/c7n-keyrot-runner-schedule"
    assert project["ConcurrentBuildLimit"] == 1
    assert project["TimeoutInMinutes"] == 120
    template = yaml.load((DEPLOY / "runner.yml").read_text("utf-8"), yaml.BaseLoader)
    pattern = template["Parameters"]["Schedule"]["AllowedPattern"]
    assert re.fullmatch(pattern, schedule["ScheduleExpression"])
    assert not re.fullmatch(pattern, "cron(0 6 ? * MON *)")


@pytest.mark.parametrize("state", ["ENABLED", "DISABLED"])
def test_one_parameter_stops_it(state: str) -> None:
    """And nobody is told every day that it doesn't run."""
    stopped = runner(HUB, State=state)
    assert stopped["DailyRun"]["State"] == state
    assert stopped["NoRunAlarm"]["ActionsEnabled"] is (state == "ENABLED")


def test_a_look_is_the_default() -> None:
    variables = runner(HUB)["Project"]["Environment"]["EnvironmentVariables"]
    assert {v["Name"]: v["Value"] for v in variables}["MODE"] == "look"
    assert "Subscription" not in runner(HUB)["Topic"]


def test_the_bucket_is_encrypted_versioned_closed_and_outlives_the_stack(
    scheduled: dict[str, Any],
) -> None:
    bucket = scheduled["Bucket"]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    text = (DEPLOY / "runner.yml").read_text("utf-8").split("  Bucket:\n")[1]
    assert text.split("Properties:")[0].count("Policy: Retain") == 2
    for policy, action, resource in (
        ("BucketPolicy", "s3:PutObject", f"{RUNNER_BUCKET}/runs/a"),
        ("TopicPolicy", "sns:Publish", TOPIC),
    ):
        (denied,) = [
            s for s in scheduled[policy]["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"
        ]
        document = {"Statement": [{**denied, "Effect": "Allow"}]}
        for tls, applies in (("false", True), ("true", False)):
            facts = {"aws:SecureTransport": tls, "principal": USER, "aws:PrincipalAccount": HUB}
            assert allows([document], action, resource, facts) is applies


@pytest.mark.parametrize(
    ("status", "project", "told_of"),
    [
        ("FAILED", "c7n-keyrot-runner", True),
        ("TIMED_OUT", "c7n-keyrot-runner", True),
        ("STOPPED", "c7n-keyrot-runner", True),
        ("FAULT", "c7n-keyrot-runner", True),
        ("SUCCEEDED", "c7n-keyrot-runner", False),
        ("IN_PROGRESS", "c7n-keyrot-runner", False),
        ("FAILED", "another", False),
    ],
)
def test_the_end_of_a_build_that_is_told(
    scheduled: dict[str, Any], status: str, project: str, told_of: bool
) -> None:
    detail = {"build-status": status, "project-name": project}
    event = {
        "source": "aws.codebuild",
        "detail-type": "CodeBuild Build State Change",
        "detail": detail,
    }
    pattern = EventPattern(None, scheduled["FailureRule"]["EventPattern"])
    assert pattern.matches_event(event) is told_of


def test_what_is_told_of_a_build(scheduled: dict[str, Any]) -> None:
    """The rule may publish to the topic, and its text is made of what such an event has."""
    (target,) = scheduled["FailureRule"]["Targets"]
    assert target["Arn"] == TOPIC
    (allow,) = [
        s for s in scheduled["TopicPolicy"]["PolicyDocument"]["Statement"] if s["Sid"] == "Failures"
    ]
    assert allow["Condition"]["ArnEquals"]["aws:SourceArn"] == (
        f"arn:aws:events:{REGION}:{HUB}:rule/{scheduled['FailureRule']['Name']}"
    )
    event: dict[str, Any] = {
        "detail": {
            "build-id": f"arn:aws:codebuild:{REGION}:{HUB}:build/c7n-keyrot-runner:1",
            "build-status": "FAILED",
            "additional-information": {"logs": {"deep-link": "https://console.aws.amazon.com/x"}},
        }
    }
    first, second, third = told(event, target).splitlines()
    assert first.endswith(f"FAILED: {event['detail']['build-id']}")
    assert "https://console.aws.amazon.com/x" in second
    assert "s3://c7n-keyrot-runner-" in third


# What the runner installs

PINS = DEPLOY / "requirements.txt"


def pins() -> dict[str, str]:
    """{name: version} of the pinned list, in which each has the hashes of its files."""
    text = re.sub(r"(?m)^\s*#.*\n", "", PINS.read_text("utf-8")).replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        hashes = r"(?: +--hash=sha256:[0-9a-f]{64})+"
        pin = re.fullmatch(rf"([a-z0-9-]+)==(\S+)(?: ; [^-]+)?{hashes} *", line)
        assert pin, line
        found[pin[1]] = pin[2]
    return found


def test_every_pin_has_hashes() -> None:
    assert len(pins()) > 20


def test_all_that_the_pack_needs_is_pinned() -> None:
    """By the metadata of what is installed here, as far as the same versions are pinned."""
    python = {"python_version": "3.13", "python_full_version": "3.13.0"}
    pinned, looked = pins(), set()
    queue = [("c7n-keyrot", extra) for extra in ("", "org", "mailer")]
    while queue:
        name, extra = queue.pop()
        looked.add(name)
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker and not needed.marker.evaluate({**python, "extra": extra}):
                continue
            found = canonicalize_name(needed.name)
            assert needed.specifier.contains(pinned[found]), f"{name} needs {needed}"
            if found not in looked and importlib.metadata.version(found) == pinned[found]:
                queue.append((found, ""))
    assert {"c7n", "c7n-org", "c7n-mailer"} <= set(pinned)


def test_the_list_says_how_it_was_made() -> None:
    """The same command is in the file that it was made of, and in the documentation."""
    command = re.search(r"#    (uv pip compile .*)", PINS.read_text("utf-8"))
    assert command
    words = command[1].split()
    for path in (DEPLOY / "requirements.in", ROOT / "docs" / "runner.md"):
        text = re.sub(r"\\\n#? *", "", path.read_text("utf-8"))
        (line,) = re.findall(r"uv pip compile .*", text)
        assert set(line.split()) == {*words, "--upgrade"}, path


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
            f"{RULES}/custodian-iam-user-second-access-key-x",
            "",
            True,
        ),
        # Custodian's functions of other policies may have mightier roles.
        (
            "lambda:UpdateFunctionCode",
            f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:custodian-iam-user-offboard",
            "",
            False,
        ),
        ("events:PutTargets", f"{RULES}/custodian-iam-user-offboard", "", False),
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
    role = member(ACCOUNT, HUB, name="DeployerRole", RunBy="lambda")
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


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"aws cloudformation (\S+)((?:.*\\\n)*.*)")


def commands(*operations: str) -> Iterator[tuple[str, str]]:
    """Each of these commands to CloudFormation on all pages: where it is, and its options."""
    for page in PAGES:
        for operation, options in COMMAND.findall(page.read_text("utf-8")):
            if operation in operations:
                yield f"{page.name}: {operation}", options


def test_the_update_of_a_stack_set_names_each_parameter() -> None:
    """AWS gives a parameter that isn't named the template's default, whatever it was before."""
    parameters = set(read("member-role.yml")["Parameters"])
    updates = list(commands("update-stack-set", "update-stack", "create-change-set"))
    for place, options in updates:
        named = set(re.findall(r"ParameterKey=(\w+)", options))
        assert named == parameters, (
            f"{place} must name {sorted(parameters - named)} of member-role.yml, and can't name "
            f"{sorted(named - parameters)}"
        )
    assert len(updates) == 2


def test_operations_of_stack_sets_do_more_than_one_account_at_a_time() -> None:
    of_instances = "update-stack-set", "create-stack-instances", "delete-stack-instances"
    for place, options in commands(*of_instances):
        assert "--operation-preferences" in options, place
        # Else at most one account more than may fail is done at a time.
        assert "ConcurrencyMode=SOFT_FAILURE_TOLERANCE" in options, place


def test_each_template_has_a_stack_name_of_its_own() -> None:
    """In the hub a second stack of one name would replace the first."""
    templates: dict[str, set[str]] = {}
    for place, options in commands("deploy"):
        name = re.search(r"--stack-name (\S+)", options)
        template = re.search(r"--template-file \S*?(\w[\w-]*\.yml)", options)
        assert name, place
        assert template, place
        templates.setdefault(name[1], set()).add(template[1])
    assert len(templates) >= 4
    assert {name: files for name, files in templates.items() if len(files) > 1} == {}
