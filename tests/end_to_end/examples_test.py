# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The examples for an organization do what they say."""

from __future__ import annotations

import email
import socket
import time
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from aiosmtpd.controller import Controller
from harness import Finished, PolicyRun, c7n_org, custodian, kill, mailer, start

from c7n_keyrot.cli.templates import folder
from demo import world
from embedded_aws import HUB, Account, EmbeddedAws, Key

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PACK = ROOT / "policies" / "second-access-key.yml"
SUFFIX = "-notify-only"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def test_notify_only_is_the_pack_without_its_action() -> None:
    """But for what the notices may no longer promise, and the limit on what is disabled."""
    pack, notify_only = read(PACK), read(EXAMPLES / "notify-only.yml")
    whole, shown = pack["vars"].pop("rule"), notify_only["vars"].pop("rule")
    assert shown.items() <= whole.items()
    assert pack["vars"] == notify_only["vars"]
    for policy, quiet in zip(pack["policies"], notify_only["policies"], strict=True):
        assert quiet.pop("name") == policy.pop("name") + SUFFIX
        assert quiet.pop("description") != policy.pop("description")
        assert (policy.pop("metadata"), quiet.pop("metadata")) == (whole, shown)
        policy.pop("max-resources", None)
        policy["actions"] = [a for a in policy["actions"] if a != "disable-access-key"]
        for notice in policy["actions"] + quiet["actions"]:
            notice.pop("subject")
        assert quiet["actions"][0].pop("enforced", None) in (False, None)
        assert quiet == policy


def test_slack_is_the_pack_with_slack_for_owners() -> None:
    pack, slack = read(PACK), read(EXAMPLES / "slack.yml")
    assert slack["vars"].pop("rule").items() <= pack["vars"].pop("rule").items()
    assert pack["vars"] == slack["vars"]
    for policy, other in zip(pack["policies"], slack["policies"], strict=True):
        del policy["metadata"], other["metadata"]
        notice = other["actions"][0]
        if notice["to"] == ["slack://owners", "resource-owner"]:
            kind = notice["template"].removeprefix("c7n_keyrot-").removesuffix(".html")
            assert notice.pop("slack_template") == f"c7n_keyrot-slack-{kind}"
            notice["to"] = ["resource-owner"]
        assert other == policy


def test_lambda_is_the_pack_in_a_mode() -> None:
    pack, functions = read(PACK), read(EXAMPLES / "lambda.yml")
    assert functions["vars"].pop("rule").items() <= pack["vars"].pop("rule").items()
    mode = functions["vars"].pop("mode")
    assert pack["vars"] == functions["vars"]
    for policy, other in zip(pack["policies"], functions["policies"], strict=True):
        del policy["metadata"], other["metadata"]
        assert other.pop("mode") == mode
        assert other == policy


def test_all_validate(run_in: Callable[..., Finished]) -> None:
    files = [EXAMPLES / "notify-only.yml", EXAMPLES / "days-per-account.yml"]
    done = run_in(custodian("validate", *files))
    assert done.code == 0, done.text


@pytest.mark.parametrize("path", [PACK, EXAMPLES / "exemptions.yml"], ids=lambda path: path.name)
def test_no_variable_is_left_unfilled_in_any_account(
    run_in: Callable[..., Finished], path: Path
) -> None:
    """By c7n-org's own check, which takes a subject's Jinja for a variable."""
    files = ("-c", EXAMPLES / "accounts.yml", "-u", path)
    done = run_in(c7n_org("validate", "--per-account", *files))
    assert done.code == 0, done.text


def test_c7n_org_and_c7n_mailer_accept_their_files() -> None:
    from c7n_mailer.cli import CONFIG_SCHEMA as MAILER
    from c7n_org.cli import CONFIG_SCHEMA as ORGANIZATION

    jsonschema.validate(read(EXAMPLES / "accounts.yml"), ORGANIZATION)
    config = read(EXAMPLES / "mailer.yml")
    jsonschema.validate(config, MAILER)
    assert config["contact_tags"][0] == "OwnerContact"
    assert not [key for key in config if "password" in key or "token" in key]


class Box:
    """Takes mails."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))
        return "250 OK"


def test_notify_only_mails_promise_nothing(
    aws: EmbeddedAws,
    account: Account,
    run_custodian: Callable[..., PolicyRun],
    home: Path,
    tmp_path: Path,
) -> None:
    """Through c7n-mailer with examples/mailer.yml, but for the mail server."""
    aws.create_queue("c7n-keyrot")
    account.add_user("old", slot2=Key(100), tags={"OwnerContact": "old@example.com"})
    account.add_user("soon", slot2=world.due_in(7), tags={"OwnerContact": "soon@example.com"})
    before = account.snapshot()
    done = run_custodian(EXAMPLES / "notify-only.yml")
    assert done.code == 0, done.text
    assert account.changes(before) == {}

    box = Box()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    try:
        config = read(EXAMPLES / "mailer.yml")
        config |= {"smtp_server": "127.0.0.1", "smtp_port": port, "smtp_ssl": False}
        (tmp_path / "mailer.yml").write_text(yaml.safe_dump(config), "utf-8")
        args = mailer("--run", "-c", tmp_path / "mailer.yml", "-t", folder())
        process = start(args, aws.env(HUB, home), tmp_path)
        deadline = time.monotonic() + 60
        while len(box.mails) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        # It would wait for more notices.
        kill(process)
        process.communicate()
    finally:
        server.stop()
    mails = {mail["to"]: mail for mail in box.mails}
    assert set(mails) == {"old@example.com", "soon@example.com"}
    for user, subject in [
        ("old", "Your AWS access key is past its rotation date"),
        ("soon", "Your AWS access key is due for rotation soon"),
    ]:
        mail = mails[f"{user}@example.com"]
        text = mail.get_content()
        assert subject in mail["subject"]
        assert account.key_id(user, 2) in text
        for promise in ("will be disabled", "being disabled", "will be deactivated"):
            assert promise not in text
        assert mail["from"] == config["from_address"]


def test_finding_in_security_hub_fails_and_passes(
    aws: EmbeddedAws, account: Account, run_custodian: Callable[..., PolicyRun]
) -> None:
    account.add_user("old", slot1=Key(10), slot2=Key(100))
    account.add_user("exempt", slot2=Key(100), tags={"keyrot-exempt-until": "2999-01-01"})
    account.add_user("new", slot1=Key(100), slot2=Key(10))
    before = account.snapshot()
    hub = boto3.client(
        "securityhub",
        region_name="us-east-1",
        endpoint_url=aws.url,
        aws_access_key_id=aws.credentials(HUB)["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=aws.credentials(HUB)["AWS_SECRET_ACCESS_KEY"],
    )

    def statuses() -> dict[str, str]:
        return {
            one["Resources"][1]["Id"]: one["Compliance"]["Status"]
            for one in hub.get_findings()["Findings"]
        }

    done = run_custodian(EXAMPLES / "security-hub.yml")
    assert done.code == 0, done.text
    assert account.changes(before) == {}
    assert statuses() == {account.arn("old"): "FAILED"}
    account.set_status("old", 2, "Inactive")
    done = run_custodian(EXAMPLES / "security-hub.yml")
    assert done.code == 0, done.text
    assert statuses() == {account.arn("old"): "PASSED"}


NAMES = sorted(path.name for path in EXAMPLES.glob("*.yml"))
POLICY_FILES = [name for name in NAMES if name not in ("accounts.yml", "mailer.yml")]


@pytest.mark.parametrize("name", [name for name in POLICY_FILES if name != "slack.yml"])
def test_queue_and_addressees_are_the_packs(name: str) -> None:
    """So that what is set up for the pack serves the examples as well."""
    assert addressees(read(EXAMPLES / name)) <= addressees(read(PACK))


def addressees(data: dict[str, Any]) -> set[str]:
    differing = ("template", "subject", "enforced", "violation_desc", "action_desc")
    return {
        str({key: value for key, value in sorted(notice.items()) if key not in differing})
        for policy in data["policies"]
        for notice in policy["actions"]
        if isinstance(notice, dict) and notice["type"] == "notify"
    }


@pytest.mark.parametrize("name", POLICY_FILES)
def test_of_the_rule_examples_say_what_notices_show(name: str) -> None:
    """It stands in full in the pack alone."""
    whole = read(PACK)["vars"]["rule"]
    said = read(EXAMPLES / name)["vars"]["rule"]
    assert said.keys() <= {"rule-id", "title", "severity", "category", "entity"}
    # Both slots have the title without its end, "(second access key)".
    assert all(whole[key].startswith(value) for key, value in said.items())
