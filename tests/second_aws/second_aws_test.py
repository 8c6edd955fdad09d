# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pack and its commands, as processes, against an AWS that isn't ours: `make second-aws`."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Finished, c7n_org, custodian, keyrot, on_the_day
from ministack import DAYS, ENFORCING, HUB, PACK, READ_ONLY, REGION, WRONG_ID, People, SecondAws

ROOT = Path(__file__).parents[2]
STALE = "iam-user-second-access-key-stale"
UNCLEAR = "iam-user-second-access-key-unclear"
ORGANIZATION, EXTERNAL_ID = "o-secondaws01", "second-2f6c1d"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """The pack as it is on Mondays, for keys that are seconds old."""
    text = on_the_day(ROOT / "policies" / "second-access-key.yml")
    values = {"days": f"{DAYS:.6f}", "notice": f"{DAYS / 3:.6f}", "remind-at": "[0]"}
    for setting, value in values.items():
        text, found = re.subn(rf"(?<=&{setting} )\S.*", value, text)
        assert found == 1, setting
    file = tmp_path / "pack.yml"
    file.write_text(text, "utf-8")
    return file


def notices(second: SecondAws, account_id: str, queue: str) -> dict[str, list[str]]:
    """{policy: users} of the notices in a queue, decoded as c7n-mailer does."""
    sqs = second.client("sqs", account_id)
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    found: dict[str, list[str]] = {}
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            notice = json.loads(zlib.decompress(base64.b64decode(message["Body"])))
            users = sorted(user["UserName"] for user in notice["resources"])
            found.setdefault(f"{notice['account_id']} {notice['policy']['name']}", []).extend(users)
    return found


def test_exactly_the_second_keys_go_off_and_come_back(
    second: SecondAws,
    people: dict[str, People],
    run_as: Callable[..., Finished],
    pack: Path,
    tmp_path: Path,
) -> None:
    """A dry run changes nothing. Exempt users, keys in doubt and first keys stay as they are."""
    account = people[PACK]
    second.client("sqs", PACK).create_queue(QueueName="c7n-keyrot")
    before = account.statuses()

    shown = run_as(PACK, custodian("run", "--dryrun", "-s", tmp_path / "dry", pack))
    assert shown.code == 0, shown.text
    planned = run_as(PACK, keyrot("plan", tmp_path / "dry"))
    assert planned.code == 0, planned.text
    assert planned.lines("Would disable: 2 keys"), planned.text
    assert account.statuses() == before
    assert notices(second, PACK, "c7n-keyrot") == {}

    out = tmp_path / "out"
    acted = run_as(PACK, custodian("run", "-s", out, pack))
    assert acted.code == 0, acted.text
    assert account.statuses() == account.wanted()
    assert account.wanted() != before
    assert notices(second, PACK, "c7n-keyrot") == {
        f"{PACK} {UNCLEAR}": ["left-same-second"],
        f"{PACK} {STALE}": ["stale-ana", "stale-ben"],
    }

    reported = run_as(PACK, keyrot("report", out))
    assert reported.code == 0, reported.text
    assert reported.lines("1 of 1 account covered", "4 keys listed"), reported.text
    used = run_as(PACK, keyrot("usage", out))
    assert used.code == 0, used.text
    assert used.lines("2 keys, 7 days."), used.text
    undone = run_as(PACK, keyrot("reactivate", out, "--yes"))
    assert undone.code == 0, undone.text
    assert undone.lines("Result: 2 reactivated.")
    assert account.statuses() == before


def accounts_file(queue: str) -> dict[str, Any]:
    """One of the accounts has another external id than its role."""
    ids = {ENFORCING: EXTERNAL_ID, READ_ONLY: EXTERNAL_ID, WRONG_ID: "not-" + EXTERNAL_ID}
    accounts = [
        {
            "name": account_id,
            "account_id": account_id,
            "role": f"arn:aws:iam::{account_id}:role/c7n-keyrot",
            "external_id": external_id,
            "regions": [REGION],
        }
        for account_id, external_id in ids.items()
    ]
    return {"vars": {"action": {"queue": queue}}, "accounts": accounts}


def deploy(second: SecondAws) -> dict[str, str]:
    """Make the stacks of hub and members; return the outputs of hub.yml."""
    templates = ROOT / "deploy"
    given = {"OrganizationId": ORGANIZATION, "FromAddress": "security@corp.test"}
    outputs = second.deploy(HUB, "hub", templates / "hub.yml", **given)
    second.deploy(HUB, "runner", templates / "runner.yml")
    trust = {"HubAccountId": HUB, "ExternalId": EXTERNAL_ID}
    modes = {ENFORCING: "enforcing", READ_ONLY: "read-only", WRONG_ID: "enforcing"}
    for account_id, mode in modes.items():
        second.deploy(account_id, "member", templates / "member-role.yml", Mode=mode, **trust)
    return outputs


def runner_of(second: SecondAws, policy_arn: str) -> dict[str, str]:
    """A user of the hub with the runner's policy: the credentials of its key."""
    iam = second.client("iam", HUB)
    iam.create_user(UserName="runner")
    iam.attach_user_policy(UserName="runner", PolicyArn=policy_arn)
    # aws:ResourceOrgID isn't known there, so the runner's policy doesn't let it take a role.
    roles = "arn:aws:iam::*:role/c7n-keyrot"
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": roles}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="runner", PolicyName="members", PolicyDocument=document)
    key = iam.create_access_key(UserName="runner")["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }


def test_c7n_org_does_what_the_stacks_of_deploy_allow_and_no_more(
    second: SecondAws,
    people: dict[str, People],
    run_as: Callable[..., Finished],
    pack: Path,
    tmp_path: Path,
) -> None:
    """Stacks made by its CloudFormation; the roles are held to their policies."""
    hub = deploy(second)
    credentials = runner_of(second, hub["RunnerPolicyArn"])
    accounts, out = tmp_path / "accounts.yml", tmp_path / "out"
    accounts.write_text(json.dumps(accounts_file(hub["QueueArn"])), "utf-8")
    before = {account_id: one.statuses() for account_id, one in people.items()}

    command = c7n_org("run", "-c", accounts, "-s", out, "-u", pack)
    done = run_as(HUB, command, **credentials)
    assert done.code == 1, done.text
    assert people[ENFORCING].statuses() == people[ENFORCING].wanted()
    for account_id in (READ_ONLY, WRONG_ID):
        assert people[account_id].statuses() == before[account_id]
    assert len(done.lines("iam:UpdateAccessKey is denied", READ_ONLY, "user 'stale-")) >= 2
    assert done.lines("Access denied api:AssumeRole", WRONG_ID)
    assert notices(second, HUB, "c7n-keyrot") == {
        f"{account_id} {policy}": users
        for account_id in (ENFORCING, READ_ONLY)
        for policy, users in (
            (UNCLEAR, ["left-same-second"]),
            (STALE, ["stale-ana", "stale-ben"]),
        )
    }
    doctor = keyrot("doctor", "--accounts", accounts, "--output-dir", out)
    asked = run_as(HUB, doctor, **credentials)
    assert asked.code == 1, asked.text
    failed = [line.split(":")[0].split() for line in asked.lines("FAIL ")]
    assert [(words[1], words[-1]) for words in failed] == [
        ("permissions", f"({WRONG_ID})"),
        ("coverage", f"({READ_ONLY})"),
        ("coverage", f"({WRONG_ID})"),
    ]
