# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pack in China and in GovCloud: the same policies, under the roles of deploy/, enforced.

A call that is signed for a region of another partition is refused there, as AWS refuses it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from cloudformation import DEPLOY
from harness import (
    Finished,
    PolicyRun,
    as_file,
    c7n_org,
    keyrot,
    on_another_day,
    on_the_day,
    with_own_addresses,
)

from demo import world
from embedded_aws import HUB, MEMBER_ROLE, ORGANIZATION_ID, PARTITIONS, EmbeddedAws

PACK = DEPLOY.parent / "policies" / "second-access-key.yml"
EXPIRING, STALE = "iam-user-second-access-key-expiring", "iam-user-second-access-key-stale"
UNCLEAR = "iam-user-second-access-key-unclear"
EXTERNAL_ID = "c7n-keyrot-2f6c1d"


@pytest.fixture(params=["aws-cn", "aws-us-gov"])
def aws(request: pytest.FixtureRequest) -> Iterator[EmbeddedAws]:
    with EmbeddedAws(partition=request.param) as embedded:
        yield embedded
    assert embedded.errors == []


def member(aws: EmbeddedAws, account_id: str) -> list[world.Person]:
    """Let people live in the account, and make the member's role."""
    account = aws.account(account_id)
    account.deploy(
        "c7n-keyrot",
        DEPLOY / "member-role.yml",
        HubAccountId=HUB,
        ExternalId=EXTERNAL_ID,
        Mode="enforcing",
    )
    return world.seed_account(account)


def hub(aws: EmbeddedAws, **parameters: str) -> str:
    """Make the hub's stack, and the role "runner" with its policy; the queue's ARN."""
    outputs = aws.account(HUB).deploy(
        "hub",
        DEPLOY / "hub.yml",
        OrganizationId=ORGANIZATION_ID,
        FromAddress="keys@example.com",
        **parameters,
    )
    aws.account(HUB).add_role("runner", {"Statement": []})
    keys = aws.credentials(HUB)
    iam = boto3.client(
        "iam",
        endpoint_url=aws.url,
        region_name=aws.partition.region,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    iam.attach_role_policy(RoleName="runner", PolicyArn=outputs["RunnerPolicyArn"])
    return outputs["QueueArn"]


def check(aws: EmbeddedAws, account_id: str, before: dict[str, str], run: PolicyRun) -> None:
    """Exactly the keys to be disabled are, and each has its outcome."""
    account = aws.account(account_id)
    people = {person.name: person.outcome for person in world.people()}
    disabled = {name for name, outcome in people.items() if outcome == "disabled"}
    assert set(account.changes(before)) == {account.key_id(name, 2) for name in disabled}
    name = world.MEMBERS.get(account_id, None)
    outcomes = run.outcomes(STALE, name)
    assert {o["user"] for o in outcomes if o["outcome"] == "disabled"} == disabled
    for user in run.resources(STALE, name):
        assert user["Arn"].startswith(f"arn:{aws.partition.name}:iam::{account_id}:user/")
    reminded = {name for name, outcome in people.items() if outcome == "reminded"}
    assert set(run.names(EXPIRING, name)) == reminded


@pytest.mark.parametrize("weekdays", [on_the_day, on_another_day])
def test_custodian_in_another_partition(
    aws: EmbeddedAws,
    run_custodian: Callable[..., PolicyRun],
    weekdays: Callable[[Path], str],
) -> None:
    member(aws, HUB)
    hub(aws, RunBy="lambda")
    before = aws.account(HUB).snapshot()
    aws.enforce()
    # By itself the member's role may send to the queue, as the accounts' functions do.
    run = run_custodian(weekdays(PACK), role=MEMBER_ROLE)
    assert run.code == 0, run.text
    check(aws, HUB, before, run)
    notices = aws.messages(world.QUEUE)
    doubts = [UNCLEAR] if weekdays is on_the_day else []
    assert sorted(notice["policy"]["name"] for notice in notices) == [EXPIRING, STALE, *doubts]
    assert {notice["region"] for notice in notices} == {aws.partition.region}


def test_c7n_org_and_reactivate_in_another_partition(
    aws: EmbeddedAws,
    run_c7n_org: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
    tmp_path: Path,
) -> None:
    queue = hub(aws)
    members = ["111111111111", "222222222222"]
    before = {}
    for account_id in members:
        member(aws, account_id)
        before[account_id] = aws.account(account_id).snapshot()
    aws.enforce()
    accounts = world.accounts_file(members, aws.partition.name)
    for account in accounts["accounts"]:
        account["external_id"] = EXTERNAL_ID
    accounts["vars"] = {"action": {"queue": queue}}
    run = run_c7n_org(accounts, PACK, role="runner")
    assert run.code == 0, run.text
    for account_id in members:
        check(aws, account_id, before[account_id], run)
    notices = aws.messages(world.QUEUE)
    assert {notice["account_id"] for notice in notices} == set(members)
    assert len(notices) == 2 * len(members)

    # The way back, by the same roles. Without a region nobody knows where to ask.
    nowhere = {"AWS_DEFAULT_REGION": ""}
    lost = run_in(keyrot("reactivate", run.out, "--yes"), role="runner", env=nowhere)
    assert lost.code == 1
    assert lost.lines("no AWS credentials that work", "China or GovCloud", "AWS_DEFAULT_REGION")
    # Of one account's keys the outcomes leave a doubt.
    (run.folder(STALE, world.MEMBERS[members[1]]) / "keyrot-intents.jsonl").unlink()
    command = keyrot("reactivate", run.out, "--accounts", as_file(accounts, tmp_path), "--yes")
    back = run_in(command, role="runner")
    assert back.code == 1
    assert aws.account(members[0]).changes(before[members[0]]) == {}
    disabled = aws.account(members[1]).changes(before[members[1]])
    asked = back.lines(f"aws cloudtrail lookup-events --region {aws.partition.region} ")
    assert len(asked) == len(disabled)
    (line,) = back.lines("  c7n-keyrot reactivate ", "--key")
    back = run_in(keyrot(*shlex.split(line)[1:], "--yes"), role="runner")
    assert back.code == 0, back.text
    assert aws.account(members[1]).changes(before[members[1]]) == {}


@pytest.mark.parametrize("queue_is", ["url", "arn"])
def test_doctor_in_another_partition(
    aws: EmbeddedAws, run_in: Callable[..., Finished], tmp_path: Path, queue_is: str
) -> None:
    """All that a run there needs is ok."""
    arn, region, china = hub(aws), aws.partition.region, aws.partition.name == "aws-cn"
    for account_id in (HUB, "111111111111"):
        member(aws, account_id)
    url = aws.partition.queue_url(HUB, "c7n-keyrot")
    accounts = world.accounts_file(["111111111111"], aws.partition.name)
    accounts["accounts"][0]["external_id"] = EXTERNAL_ID
    accounts["vars"] = {"action": {"queue": url if queue_is == "url" else arn}}
    file = as_file(accounts, tmp_path)
    mailer = as_file({"queue_url": url, "region": region, "contact_tags": ["Owner"]}, tmp_path)
    aws.enforce()
    policies = with_own_addresses(PACK, tmp_path / "policies")
    ran = run_in(c7n_org("run", "-c", file, "-s", "out", "-u", policies), role="runner")
    assert ran.code == 0, ran.text
    flags = ["--accounts", file, "--mailer", mailer, "--output-dir", "out"]
    done = run_in(keyrot("doctor", *flags), role="runner")
    assert not done.lines("FAIL"), done.text
    assert done.lines("ok", "queue c7n-keyrot", region)
    assert done.lines("ok", "role c7n-keyrot", "can be used")
    assert done.lines("ok", "permissions of account", "iam:GetUser")
    assert done.lines("ok", "coverage", STALE)
    # The URL that Custodian makes of an ARN has no China ending.
    assert bool(done.lines("not checked", "China's ending")) == (china and queue_is == "arn")


def test_doctor_names_what_is_of_another_partition(
    aws: EmbeddedAws, run_in: Callable[..., Finished], tmp_path: Path
) -> None:
    hub(aws)
    member(aws, "111111111111")
    aws.enforce()
    accounts = world.accounts_file(["111111111111"], aws.partition.name)
    accounts["accounts"][0].update(role="c7n-keyrot", regions=["us-east-1"])
    done = run_in(keyrot("doctor", "--accounts", as_file(accounts, tmp_path)), role="runner")
    assert done.lines("FAIL", "111111111111", "short role", "arn:aws:")
    assert done.lines("FAIL", "111111111111", "region us-east-1 isn't one of")


def test_every_partition_of_the_embedded_aws_is_tried() -> None:
    assert set(PARTITIONS) == {"aws", "aws-cn", "aws-us-gov"}
