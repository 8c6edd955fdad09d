# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The walk-throughs in docs/: their own commands, with the credentials that they name.

All roles are made by the templates of deploy/, and held to their policies. Only what a reader has
to fill in is filled in, and ``aws`` is the real one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from harness import Finished, PolicyRun, run, with_doors
from moto.cloudformation.models import cloudformation_backends
from moto.ses.models import ses_backends

from embedded_aws import HUB, ORGANIZATION_ID, REGION, EmbeddedAws, Key

ROOT = Path(__file__).parents[2]
MANAGEMENT = "444444444444"
SENDER = "keys@corp.test"
EXPIRING, STALE = "iam-user-second-access-key-expiring", "iam-user-second-access-key-stale"
SUFFIX = "-notify-only"
# How commands begin that the embedded AWS can't do, and why.
BEYOND_MOTO = {
    "aws cloudformation activate-organizations-access": "it has no such call",
    "aws cloudformation deploy --stack-name c7n-keyrot-hub --template-file new/": (
        "it answers a change set that changes nothing by another error than AWS"
    ),
    "aws cloudformation deploy --stack-name c7n-keyrot-role": (
        "its stack sets don't leave the management account out"
    ),
    "aws cloudformation delete-stack-set": "it deletes no instances by organizational unit",
}


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def commands_in(text: str) -> list[str]:
    """Its commands; a line that ends in a backslash or a pipe goes on."""
    code = "\n".join(re.findall(r"(?m)^ {4}(.*)$", text))
    return re.findall(r"(?:.*[\\|]\n)*.+", code)


def steps() -> dict[str, list[str]]:
    """The commands over an organization, by the heading that they are under."""
    parts = re.split(r"(?m)^## (?:\d\. )?(.+)\n", "## Begin\n" + page("organization"))
    return {title: commands_in(text) for title, text in zip(parts[1::2], parts[2::2], strict=True)}


class Walk:
    """A reader at work in an empty folder."""

    def __init__(self, aws: EmbeddedAws, folder: Path, aws_cli: Path) -> None:
        self.aws, self.folder, self.aws_cli = aws, folder, aws_cli
        self.filled: dict[str, str] = {}  # what the reader puts in the place of dots
        self.variables: dict[str, str] = {}
        self.done: list[tuple[str, Finished]] = []
        self.changed: dict[int, set[str]] = {}
        self.members: dict[str, str] = {}  # {name: account id}, the hub among them

    def env(self, account_id: str, role: str | None) -> dict[str, str]:
        env = with_doors(self.aws.env(account_id, self.folder, role))
        env["AWS_CONFIG_FILE"] = str(self.folder / ".aws" / "config")
        # After Custodian's own programs.
        env["PATH"] = f"{env['PATH']}:{self.aws_cli}"
        return {**env, "AWS_PAGER": ""}

    def run(self, command: str, account_id: str, role: str | None = None) -> None:
        """Run a command of the page; what a variable is set to stays for those after it."""
        if command.startswith(tuple(BEYOND_MOTO)):
            return
        for dots, text in self.filled.items():
            command = command.replace(dots, text)
        command = command.replace("security@example.com", SENDER)
        assert "..." not in command, command
        # A shell of its own for each, in which a variable that isn't set is an error.
        names = re.findall(r"(?m)^([A-Z_]+)=", command)
        show = "".join(f"; printf '\\n%s' \"${name}\"" for name in names)
        env = {**self.env(account_id, role), **self.variables}
        done = run(["/bin/sh", "-euc", f"{command}\n:{show}"], env, self.folder, timeout=180)
        if names and done.code == 0:
            self.variables |= dict(zip(names, done.text.rsplit("\n", len(names))[1:], strict=True))
        self.done.append((command, done))

    def after(self, *words: str) -> Finished:
        """The command that holds all these words."""
        (done,) = [done for command, done in self.done if all(word in command for word in words)]
        return done


@pytest.mark.release
@pytest.mark.waits(seconds=30)
def test_the_walk_through_of_one_account(aws: EmbeddedAws, tmp_path: Path, aws_cli: Path) -> None:
    walk = Walk(aws, tmp_path, aws_cli)
    account = aws.account(HUB)
    account.add_user("old", Key(10), Key(200), {"OwnerContact": "ana@corp.test"})
    key_id = account.key_id("old", 2)
    client(walk, "ses", HUB).verify_email_identity(EmailAddress=SENDER)
    walk.variables["EDITOR"] = "true"  # an editor that leaves the file as it is
    for command in commands_in(page("one-account")):
        if command.startswith("c7n-keyrot reactivate"):  # it asks, at a terminal
            continue
        walk.run(command, HUB)
        if command.startswith("c7n-keyrot init"):
            set_addresses(walk.folder)
        elif command.startswith("cp examples/mailer.yml"):
            url = json.loads(walk.after("sqs create-queue").text)["QueueUrl"]
            fill_in(walk.folder / "mailer.yml", queue_url=url)
        elif command.startswith("custodian run"):
            acts = command.startswith("custodian run -s out policies/")
            assert account.status("old", 2) == ("Inactive" if acts else "Active"), command
    check_commands(walk)
    assert walk.after("c7n-keyrot plan look").lines("old", key_id)
    assert walk.after("c7n-keyrot plan next").lines("old", key_id)
    sent = ses_backends[HUB][REGION].sent_messages
    assert [mail.destinations for mail in sent] == [["ana@corp.test"]] * 2


@pytest.mark.release
@pytest.mark.waits(seconds=30)
def test_the_walk_through_over_an_organization(
    aws: EmbeddedAws, tmp_path: Path, aws_cli: Path
) -> None:
    walk = Walk(aws, tmp_path, aws_cli)
    walk_through(walk)
    check_commands(walk)
    check_keys(walk)
    check_coverage(walk)
    check_mails(walk)
    check_roles(walk)


def walk_through(walk: Walk) -> None:
    root = organization(walk)
    hub = walk.members["Hub"]
    walk.aws.enforce()
    commands = steps()
    walk.run(*commands["Begin"], hub)
    set_addresses(walk.folder)

    # 1: the hub's administrator.
    filled = {"OrganizationId=o-...": f"OrganizationId={ORGANIZATION_ID}", "HUB=...": f"HUB={hub}"}
    filled |= {"EXTERNAL_ID=c7n-keyrot-...": "EXTERNAL_ID=c7n-keyrot-2f6c1d", "ou-...": root}
    walk.filled |= filled | {"MANAGEMENT=...": f"MANAGEMENT={MANAGEMENT}", "r-...": root}
    for command in commands["The hub"][:2]:
        walk.run(command, hub)
    told = json.loads(walk.after("describe-stacks").text)
    outputs = {output["OutputKey"]: output["OutputValue"] for output in told}
    walk.filled |= {"QUEUE_ARN=...": f"QUEUE_ARN={outputs['QueueArn']}"}
    walk.filled |= {"MAILER_ROLE=...": f"MAILER_ROLE={outputs['MailerRoleArn']}"}
    for command in commands["The hub"][2:]:
        walk.run(command, hub)
    client(walk, "ses", hub).verify_email_identity(EmailAddress=SENDER)
    walk.aws.account(hub).add_role("runner", {"Statement": []})
    client(walk, "iam", hub).attach_role_policy(
        RoleName="runner", PolicyArn=outputs["RunnerPolicyArn"]
    )

    # 2 and 3: the management account's.
    for command in [*commands["The role, in all accounts"], *commands["accounts.yml"]]:
        walk.run(command, MANAGEMENT)
    assert walk.after("describe-stack-set-operation", "OPERATION").text.strip() == "SUCCEEDED"

    # 4: the runner, with the files filled in as the text says.
    before = snapshot(walk)
    for command in commands["Look, then notify"]:
        walk.run(command, hub, "runner")
        if command.startswith("cp examples/mailer.yml"):
            values = {"queue_url": outputs["QueueUrl"], "profile": "c7n-keyrot-mailer"}
            fill_in(walk.folder / "mailer.yml", **values)
    walk.changed[4] = changes(walk, before)

    # 5: first "with step 2's credentials".
    for command in commands["Then act"]:
        step_2 = "aws cloudformation" in command
        walk.run(command, *((MANAGEMENT, None) if step_2 else (hub, "runner")))
    walk.changed[5] = changes(walk, before)

    for command in [*commands["Upgrade"], *commands["Remove it"]]:
        walk.run(command, hub if "c7n-keyrot-hub" in command else MANAGEMENT)
    assert not cloudformation_backends[hub][REGION].stacks


def client(walk: Walk, service: str, account_id: str) -> Any:
    given = walk.aws.credentials(account_id)
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=walk.aws.url,
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
    )


def organization(walk: Walk) -> str:
    """Make one with three members, the hub among them, in each a user to be found; its root."""
    organizations = client(walk, "organizations", MANAGEMENT)
    organizations.create_organization()
    for name in "Hub", "Payments", "Web":
        made = organizations.create_account(AccountName=name, Email=f"{name}@corp.test")
        account_id = made["CreateAccountStatus"]["AccountId"]
        walk.members[name] = account_id
        account = walk.aws.account(account_id)
        owner = {"OwnerContact": f"{name.lower()}@corp.test"}
        account.add_user("old", Key(10, last_used_days=1), Key(200), owner)
        account.add_user("soon", None, Key(83), owner)
        account.add_user("fresh", Key(200), Key(5))
    return str(organizations.list_roots()["Roots"][0]["Id"])


def set_addresses(folder: Path) -> None:
    """As a reader does, for addresses of their own."""
    for file in [*folder.glob("policies/*"), *folder.glob("examples/*.yml")]:
        text = file.read_text("utf-8")
        file.write_text(re.sub(r"[\w-]+@example\.com", SENDER, text), "utf-8")


def fill_in(path: Path, **values: str) -> None:
    """Set values in mailer.yml."""
    config = yaml.safe_load(path.read_text("utf-8"))
    path.write_text(yaml.safe_dump({**config, "from_address": SENDER, **values}), "utf-8")


def snapshot(walk: Walk) -> dict[str, dict[str, str]]:
    return {i: walk.aws.account(i).snapshot() for i in walk.members.values()}


def changes(walk: Walk, before: dict[str, dict[str, str]]) -> set[str]:
    return {key_id for i in before for key_id in walk.aws.account(i).changes(before[i])}


def check_commands(walk: Walk) -> None:
    bad = [f"$ {command}\n{done.text}" for command, done in walk.done if done.code]
    assert not bad, "\n".join(bad)


def check_keys(walk: Walk) -> None:
    """Telling changes none, acting disables the second ones."""
    assert walk.changed[4] == set()
    old = {walk.aws.account(i).key_id("old", 2) for i in walk.members.values()}
    assert walk.changed[5] == old


def check_coverage(walk: Walk) -> None:
    """Of all accounts, by what the runs left and by doctor."""
    accounts = yaml.safe_load((walk.folder / "accounts.yml").read_text("utf-8"))["accounts"]
    assert {a["account_id"] for a in accounts} == set(walk.members.values())
    for out, suffix in ("told", SUFFIX), ("out", ""):
        ran = PolicyRun([], 0, "", walk.folder / out)
        for account in accounts:
            assert ran.names(STALE + suffix, account["name"]) == ["old"]
            assert ran.names(EXPIRING + suffix, account["name"]) == ["soon"]
    for name in "told", "out":
        doctor = walk.after("c7n-keyrot doctor", f"--output-dir {name}")
        ids = [account["account_id"] for account in accounts]
        assert doctor.lines("ok", f"coverage of {len(ids)} accounts", *ids), doctor.text


def check_mails(walk: Walk) -> None:
    """Through SES, by the mailer's role, from its own address."""
    sent = ses_backends[walk.members["Hub"]][REGION].sent_messages
    owners = sorted(f"{name.lower()}@corp.test" for name in walk.members)
    assert {mail.source for mail in sent} == {SENDER}
    # Two policies, and each was run twice: in step 4 and in step 5.
    assert sorted(to for mail in sent for to in mail.destinations) == sorted(owners * 4)


def check_roles(walk: Walk) -> None:
    """c7n-org sends as the runner, c7n-mailer reads and mails as the mailer, and nobody else."""
    roles: dict[str, set[str]] = {}
    for call in walk.aws.log:
        key = walk.aws.account(call.account).backend.access_keys.get(call.principal)
        role = key.role_arn.split("/")[-1] if key and key.role_arn else "administrator"
        roles.setdefault(call.action, set()).add(role)
    assert roles["sqs.SendMessage"] == {"runner"}
    assert roles["sqs.ReceiveMessage"] == roles["ses.SendRawEmail"] == {"c7n-keyrot-mailer"}
    assert roles["iam.UpdateAccessKey"] == roles["iam.ListAccessKeys"] == {"c7n-keyrot"}
    assert roles["sts.AssumeRole"] == {"runner"}
