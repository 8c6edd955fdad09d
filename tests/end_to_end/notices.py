# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Notices as `notify` makes them, rendered by c7n-mailer's own code, for all tests of templates."""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from c7n import utils
from c7n.config import Config
from c7n.policy import PolicyCollection
from c7n.resources import load_resources
from c7n_mailer.utils import get_rendered_jinja

from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.cli import templates
from c7n_keyrot.custodian import patches

ACCOUNT = "111111111111"
NOW = datetime(2026, 7, 19, 9, tzinfo=timezone.utc)
SITUATIONS = {"expiring": "expiring-access-key", "disabling": "stale-access-key"}
UNCLEAR = "unclear-access-key"
KEY = "AKIAIOSFODNN7EXAMPLE"


def record(situation: str, **changes: Any) -> dict[str, Any]:
    """A record as our filters leave it on a user."""
    stale = situation == "disabling"
    made = {
        "filter": SITUATIONS[situation],
        "path": "0",
        "run": "run",
        "verdict": "stale" if stale else "expiring",
        "slot": 2,
        "access_key_id": KEY,
        "status": "Active",
        "identified": "date",
        "drift": False,
        "last_rotated": "2026-04-19T10:00:00+00:00" if stale else "2026-05-01T10:00:00+00:00",
        "age_days": 90.9 if stale else 78.9,
        "days": 90,
        "deadline": "2026-07-18T10:00:00+00:00" if stale else "2026-07-30T10:00:00+00:00",
        "days_left": 0 if stale else 12,
        "last_used_date": "2026-07-17T09:11:00+00:00",
        "last_used_service": "s3",
        "last_used_region": "eu-west-1",
        "report_generated": "2026-07-19T08:00:00+00:00",
        "exemption": None,
        "description": None,
        "other_key": None,
        "usage": None,
        "version": 1,
    }
    return {**made, **changes}


def other(**changes: Any) -> dict[str, Any]:
    """A user's other key, as it is in a record."""
    made = {
        "access_key_id": "AKIAOTHERKEYEXAMPLE7",
        "status": "Active",
        "created": "2026-07-01T10:00:00+00:00",
        "age_days": 17.9,
        "in_report": True,
        "last_used_date": "2026-07-18T22:05:00+00:00",
        "last_used_service": "sts",
        "last_used_region": "us-east-1",
        "description": None,
    }
    return {**made, **changes}


def usage(**changes: Any) -> dict[str, Any]:
    """Who used a key, as it is in a record."""
    made = {
        "days": 7,
        "until": NOW.isoformat(),
        "regions": ["eu-west-1", "us-east-1"],
        "unknown": {},
        "events": 212,
        "groups": [group()],
        "other_groups": 0,
        "other_events": 0,
        "cut": False,
    }
    return {**made, **changes}


def group(**changes: Any) -> dict[str, Any]:
    """Calls of one kind, as they are in a record."""
    made = {
        "action": "s3:ListBuckets",
        "source": "203.0.113.7",
        "agent": "aws-cli/2.15",
        "count": 212,
        "first": "2026-07-12T10:00:00+00:00",
        "last": "2026-07-19T07:00:00+00:00",
        "errors": {},
    }
    return {**made, **changes}


def user(
    name: str, *records: dict[str, Any], path: str = "/", tags: dict[str, str] | None = None
) -> dict[str, Any]:
    """A user as our filters leave it: GetUser's shape with the two annotations."""
    return {
        "UserName": name,
        "Path": path,
        "UserId": "AIDAEXAMPLE",
        "Arn": f"arn:aws:iam::{ACCOUNT}:user{path}{name}",
        "CreateDate": "2025-01-01T00:00:00+00:00",
        "Tags": [{"Key": key, "Value": value} for key, value in (tags or {}).items()],
        "c7n:keyrot": list(records),
        "c7n:matched-keys": [
            {
                "UserName": name,
                "AccessKeyId": made["access_key_id"],
                "Status": "Active",
                "CreateDate": made["last_rotated"],
                "c7n:match-type": "access",
            }
            for made in records
            if made["filter"] == "stale-access-key" and made["access_key_id"]
        ],
    }


def twin(name: str, tags: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """A user whose key in slot 2 can't be identified, with the keys that IAM lists."""
    doubt = {"filter": UNCLEAR, "access_key_id": None, "status": None, "identified": "ambiguous"}
    made = user(name, record("disabling", **{**doubt, **changes}), tags=tags)
    made["c7n:AccessKeys"] = [
        {
            "UserName": name,
            "AccessKeyId": f"AKIATWIN{letter}",
            "Status": "Active",
            "CreateDate": "2026-04-19T10:00:00+00:00",
        }
        for letter in "AB"
    ]
    return made


def users(situation: str, number: int = 200) -> list[dict[str, Any]]:
    """So many users, in no order, with names as long as names of machines are."""
    made = []
    for index in range(number):
        mixed = index * 37 % number
        changes: dict[str, Any] = {
            "access_key_id": f"AKIAIOSFODNN7{mixed:07}",
            "deadline": f"2026-{8 + mixed // 100:02}-{1 + mixed % 28:02}T10:00:00+00:00",
            "last_used_service": "secretsmanager",
            "other_key": other(access_key_id=f"AKIAOTHER{mixed:07}"),
            "description": "nightly job" if mixed % 3 == 0 else None,
        }
        if mixed % 4 == 0:
            changes |= {"last_used_date": None, "last_used_service": None}
        made.append(user(f"svc-reporting-pipeline-{mixed:03}", record(situation, **changes)))
    return made


def exemptions(number: int = 1, **changes: str | None) -> list[dict[str, Any]]:
    """So many exempt users: stock's shape, without a record of ours. A tag that is None isn't."""
    made = []
    for index in range(number):
        tags = {
            "keyrot-exempt-until": f"2026-08-{1 + index * 37 % number % 28:02}",
            "keyrot-exempt-reason": "appliance without a second key slot, SEC-1482",
            "OwnerContact": "owner@example.com",
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        present = {name: value for name, value in tags.items() if value is not None}
        made.append(user(f"svc-legacy-{index:03}", tags=present))
    return made


def message(
    situation: str,
    resources: Sequence[dict[str, Any]],
    form: str = "html",
    action: dict[str, Any] | None = None,
    **policy: Any,
) -> dict[str, Any]:
    """What `notify` puts into the queue for one of the pack's policies, or for exemptions.

    Custodian's own action makes it, with what `hooks.attach_notices` hangs on it in a run.
    """
    before = policy.pop("before", None)
    actions: list[Any] = policy.pop("actions", None) or ["notify"]
    if policy.pop("acts", situation == "disabling") and "notify" in actions:
        actions = [*actions, "disable-access-key"]
    notice = {
        "type": "notify",
        "to": ["resource-owner"],
        "owner_absent_contact": ["security@example.com"],
        "template": f"c7n_keyrot-{situation}.{form}",
        "slack_template": f"c7n_keyrot-slack-{situation}",
        "transport": {"type": "sqs", "queue": "c7n-keyrot"},
        **(action or {}),
    }
    filters: list[Any] = ["rotation-exempt"]
    if situation != "exemptions":
        filters = [{"not": ["rotation-exempt"]}, SITUATIONS.get(situation, UNCLEAR)]
    data = {
        "name": f"iam-user-second-access-key-{situation}",
        "resource": "aws.iam-user",
        "filters": filters,
        "actions": [notice if one == "notify" else one for one in actions],
        "metadata": {
            "rule-id": "D9.AWS.IAM.07",
            "title": "Ensure access keys are rotated every 90 days or less",
            "severity": "High",
            "frameworks": ["AWS CIS Foundations 2.0.0", "AWS PCI-DSS 3.2, 4.0"],
            "references": ["https://docs.aws.amazon.com/IAM/latest/UserGuide/"],
        },
        **policy,
    }
    return notified(data, resources, before)


def notified(
    policy: dict[str, Any],
    users: Sequence[dict[str, Any]],
    before: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The message of a policy's notify action about users as our filters leave them.

    Without users if there is none, and so no message.

    :param before: how often earlier runs have disabled a key, by its id.
    """
    load_resources(("aws.iam-user",))
    options = Config.empty(region="us-east-1", account_id=ACCOUNT)
    (loaded,) = PolicyCollection.from_data({"policies": [policy]}, options)
    manager = loaded.resource_manager
    manager.ctx.start_time = NOW.timestamp() + 0.25
    live = {
        user["UserName"]: [
            {**key, "CreateDate": datetime.fromisoformat(key["CreateDate"])}
            for key in user.get("c7n:AccessKeys", ())
        ]
        for user in users
    }
    run = SimpleNamespace(
        manager=manager,
        now=NOW,
        account_id=ACCOUNT,
        users=SimpleNamespace(live=live),
        exemptions=SimpleNamespace(found={}),
        permit=Permit,
        journal=SimpleNamespace(times_disabled=lambda: before or {}),
    )
    patches.attach_notices(run, users)
    (action,) = [action for action in manager.actions if action.type == "notify"]
    sent: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "get_account_alias_from_sts", lambda session: "acme-production")
        patch.setattr(utils, "local_session", lambda factory: None)
        patch.setattr(action, "send_data_message", lambda message, packed: sent.append(packed))
        action.process(list(users))
    if not sent:
        return {"resources": []}
    (packed,) = sent
    made: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return made


def render(made: dict[str, Any], recipient: Any = ("owner@example.com",)) -> str:
    """The mail's body; for Slack's templates, whose recipient is a text, the payload."""
    kind = "slack_template" if isinstance(recipient, str) else "template"
    text = get_rendered_jinja(
        recipient,
        made,
        made["resources"],
        logging.getLogger("test"),
        kind,
        "default",
        [str(templates.folder())],
    )
    assert text is not None, "the mailer found no template"
    return str(text)
