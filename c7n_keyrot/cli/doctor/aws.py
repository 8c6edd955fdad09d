# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What AWS says: calls that only read, and its policy simulator."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected

from c7n_keyrot.cli import CommandError
from c7n_keyrot.cli.doctor.checks import FAIL, FALLBACK_REGION, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.iam import DENIED

# No user's name and no key's id: what they stand in only reads.
NOBODY, NO_KEY = "c7n-keyrot-doctor", "AKIAIOSFODNN7EXAMPLE"

# Seconds.
CALLS = Config(
    connect_timeout=5, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}
)

# Calls that answer whether they are allowed without doing anything.
READS: dict[str, tuple[str, dict[str, Any]]] = {
    "iam:GetCredentialReport": ("get_credential_report", {}),
    "iam:ListAccountAliases": ("list_account_aliases", {}),
    "iam:GetUser": ("get_user", {"UserName": NOBODY}),
    "iam:ListAccessKeys": ("list_access_keys", {"UserName": NOBODY}),
    "iam:ListUsers": ("list_users", {"MaxItems": 1}),
    "iam:GetAccessKeyLastUsed": ("get_access_key_last_used", {"AccessKeyId": NO_KEY}),
}
# Answers that come only to those who may ask.
ALLOWED = {"NoSuchEntity", "ReportNotPresent", "ReportInProgress", "ReportExpired"}


def region() -> str:
    with contextlib.suppress(BotoCoreError):
        return boto3.Session().region_name or FALLBACK_REGION
    return FALLBACK_REGION


def iam(session: Any) -> Any:
    return session.client("iam", region_name=region(), config=CALLS)


def code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""


def reason(error: Exception) -> str:
    """An error in a few words."""
    if isinstance(error, ClientError):
        verb = "is denied" if code(error) in DENIED else "failed"
        return f"{error.operation_name} {verb} ({code(error)})"
    if isinstance(error, CommandError):
        return str(error)
    return f"{type(error).__name__}: {error}"


UNREACHABLE = "AWS doesn't answer"
NO_ANSWER = (HTTPClientError, NotConnected)


def read_call(client: Any, permission: str) -> tuple[str, str]:
    """Make a call that only reads; whether it was allowed, or why nobody knows."""
    method, params = READS[permission]
    try:
        getattr(client, method)(**params)
    except ClientError as error:
        if code(error) in ALLOWED:
            return OK, ""
        if code(error) not in DENIED:
            return NOT_CHECKED, reason(error)
        # For a key that doesn't exist AWS denies the call to everybody.
        return (NOT_CHECKED if permission == "iam:GetAccessKeyLastUsed" else FAIL), "denied"
    except NO_ANSWER:
        return NOT_CHECKED, UNREACHABLE
    except BotoCoreError as error:
        return NOT_CHECKED, reason(error)
    return OK, ""


def simulate(
    client: Any, principal: str, asked: dict[str, list[str]]
) -> dict[str, tuple[str, str]]:
    """Ask IAM's policy simulator, which makes none of the calls, where it may be asked."""
    taken = re.fullmatch(r"arn:([^:]+):sts::(\d+):assumed-role/([^/]+)/.*", principal)
    source = f"arn:{taken[1]}:iam::{taken[2]}:role/{taken[3]}" if taken else principal
    answers = {}
    why = ""
    for permission, resources in asked.items():
        if not why:
            try:
                results = client.simulate_principal_policy(
                    PolicySourceArn=source,
                    ActionNames=[permission],
                    **({"ResourceArns": resources} if resources else {}),
                )["EvaluationResults"]
                allowed = all(result["EvalDecision"] == "allowed" for result in results)
                answers[permission] = (OK, "") if allowed else (FAIL, "denied")
                continue
            except (BotoCoreError, ClientError):
                why = "only the call itself, or iam:SimulatePrincipalPolicy, could tell"
        answers[permission] = NOT_CHECKED, why
    return answers


def grouped(name: str, answers: dict[str, tuple[str, str]], fix: str) -> Checks:
    """A line for all that are there, one for each that isn't, one for all that can't be asked."""
    there = [permission for permission, (status, _) in answers.items() if status == OK]
    if there:
        yield Check(OK, name, ", ".join(there))
    for permission, (status, _) in answers.items():
        if status == FAIL:
            yield Check(FAIL, name, f"{permission} is denied", f"{permission}: {fix}")
    reasons: dict[str, list[str]] = {}
    for permission, (status, why) in answers.items():
        if status == NOT_CHECKED:
            reasons.setdefault(why, []).append(permission)
    for why, unknown in reasons.items():
        yield Check(NOT_CHECKED, name, f"{', '.join(unknown)}: {why}")
