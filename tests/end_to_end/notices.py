# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Notices as `notify` makes them, rendered by c7n-mailer's own code, for all tests of templates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from c7n_mailer.utils import get_rendered_jinja

from c7n_keyrot.cli import templates

ACCOUNT = "111111111111"
SITUATIONS = {"expiring": "expiring-access-key", "disabling": "stale-access-key"}
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


def users(situation: str, number: int = 200) -> list[dict[str, Any]]:
    """So many users, in no order, with names as long as names of machines are."""
    made = []
    for index in range(number):
        mixed = index * 37 % number
        changes: dict[str, Any] = {
            "access_key_id": f"AKIAIOSFODNN7{mixed:07}",
            "deadline": f"2026-{8 + mixed // 100:02}-{1 + mixed % 28:02}T10:00:00+00:00",
            "last_used_service": "secretsmanager",
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
    """What `notify` puts into the queue for one of the pack's two policies, or for exemptions."""
    actions: list[Any] = [{"type": "notify"}]
    filters: list[Any] = ["rotation-exempt"]
    if situation in SITUATIONS:
        filters = [{"not": ["rotation-exempt"]}, {"type": SITUATIONS[situation]}]
    if situation == "disabling":
        actions.append("disable-access-key")
    return {
        "event": None,
        "account_id": ACCOUNT,
        "partition": "aws",
        "account": "acme-production",
        "version": "0.9.53",
        "region": "us-east-1",
        "execution_id": "run",
        "execution_start": 1784451600.25,  # 2026-07-19T09:00:00Z
        "policy": {
            "name": f"iam-user-second-access-key-{situation}",
            "resource": "aws.iam-user",
            "filters": filters,
            "actions": actions,
            "metadata": {
                "rule-id": "D9.AWS.IAM.07",
                "title": "Ensure access keys are rotated every 90 days or less",
                "severity": "High",
                "frameworks": ["AWS CIS Foundations 2.0.0", "AWS PCI-DSS 3.2, 4.0"],
                "references": ["https://docs.aws.amazon.com/IAM/latest/UserGuide/"],
            },
            **policy,
        },
        "action": {
            "type": "notify",
            "to": ["resource-owner"],
            "owner_absent_contact": ["security@example.com"],
            "violation_desc": "These exemptions end within 14 days.",
            "action_desc": "Rotate the keys before.",
            "template": f"c7n_keyrot-{situation}.{form}",
            "slack_template": f"c7n_keyrot-slack-{situation}",
            **(action or {}),
        },
        "resources": list(resources),
    }


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
