# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report as OCSF 1.6: a Compliance Finding (class 2003) for each key, one a line."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from c7n_keyrot import __version__
from c7n_keyrot.core.rotation import SEVERITIES

SCHEMA_VERSION = "1.6.0"
CLASS, FINDINGS = 2003, 2
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:c7n-keyrot:ocsf")
CREATE, UPDATE, CLOSE = (1, "Create"), (2, "Update"), (3, "Close")
NEW, SUPPRESSED, RESOLVED = (1, "New"), (3, "Suppressed"), (4, "Resolved")
PASS, WARNING, FAIL = (1, "Pass"), (2, "Warning"), (3, "Fail")
# By the state of a key: the finding's status, and what the check says.
STATES = {
    "open": (NEW, FAIL),
    "unclear": (NEW, WARNING),
    "exempt": (SUPPRESSED, FAIL),
    "expiring": (NEW, PASS),
    "fixed": (RESOLVED, PASS),
    "passed": (NEW, PASS),
}
SEVERITY_IDS = {name: number for number, name in enumerate(SEVERITIES, 1)}
AWS_ACCOUNT, UNKNOWN_USER = 10, 0
# IAM is global; by partition the region that its events and findings are in.
REGIONS = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)


def render(report: Mapping[str, Any]) -> Iterator[str]:
    """Return the findings as lines of JSON."""
    rule = report["rule"]
    keys = chain(report["keys"], report.get("passed", ()))
    return (json.dumps(finding(rule, key)) + "\n" for key in keys)


def place_of(key: Mapping[str, Any]) -> str:
    """Return what names a key whatever its state: its place, and when it came there.

    The key's id isn't always known: nobody asks for that of an exempt key.
    """
    place = f"{key['account_id']}/{key['user']}/{key['slot']}"
    rotated = key["last_rotated"]
    if not rotated:
        return f"{place}/{key['access_key_id'] or ''}"
    return f"{place}/{datetime.fromisoformat(rotated).timestamp():.0f}"


def finding(rule: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, Any]:
    """Return what OCSF says of a key; the same key has the same ``finding_info.uid`` each time."""
    (status, status_name), (check, check_name) = STATES[key["state"]]
    activity, activity_name = _activity(key)
    uid = str(uuid.uuid5(NAMESPACE, f"{rule['id']}/{place_of(key)}"))
    time, first = _milliseconds(key["as_of"]), _milliseconds(key["first_seen"])
    severity = SEVERITY_IDS.get((rule["severity"] or "").upper(), 0)
    name = rule["id"] or "access-key-rotation"
    title = rule["title"] or "Access keys are rotated"
    event = {
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": FINDINGS,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Compliance Finding",
        "type_uid": CLASS * 100 + activity,
        "type_name": f"Compliance Finding: {activity_name}",
        "time": time,
        "severity_id": severity,
        "severity": SEVERITIES[severity - 1].capitalize() if severity else "Unknown",
        "status_id": status,
        "status": status_name,
        "message": message(key),
        "metadata": {
            "version": SCHEMA_VERSION,
            "product": {
                "name": "c7n-keyrot",
                "vendor_name": "The c7n-keyrot Authors",
                "version": __version__,
            },
            "profiles": ["cloud"],
            "event_code": name,
            "uid": str(uuid.uuid5(NAMESPACE, f"{uid}/{key['as_of']}/{key['outcome_time']}")),
        },
        "cloud": {"provider": "AWS", "account": _account(key), "region": _region(key)},
        "finding_info": {
            "uid": uid,
            "title": title,
            "desc": message(key),
            "created_time": first,
            "first_seen_time": first,
            "last_seen_time": time,
            "modified_time": time,
            "analytic": {"uid": name, "name": title, "type_id": 1, "type": "Rule"},
        },
        "compliance": {
            "control": name,
            "standards": rule["frameworks"],
            # Of the same check elsewhere: as `controls_source` says.
            "requirements": [
                f"{one['framework']}: {one['control']} (by {rule['controls_source']})"
                for one in rule["controls"]
            ],
            "status_id": check,
            "status": check_name,
            "status_details": [message(key)],
        },
        "resources": _resources(key),
        "unmapped": {name: value for name, value in key.items() if value not in (None, [])},
    }
    if rule["remediation"]:
        event["remediation"] = {
            "desc": " ".join(rule["remediation"]),
            "references": rule["references"],
        }
    return event


def _activity(key: Mapping[str, Any]) -> tuple[int, str]:
    if key["state"] == "fixed":
        return CLOSE
    is_first = datetime.fromisoformat(key["first_seen"]) >= datetime.fromisoformat(key["as_of"])
    return CREATE if is_first else UPDATE


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def _account(key: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "uid": key["account_id"],
        "name": key["account"] or key["account_id"],
        "type_id": AWS_ACCOUNT,
        "type": "AWS Account",
    }


def _region(key: Mapping[str, Any]) -> str:
    return REGIONS.get(key["partition"] or "aws", "global")


def _resources(key: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the key and its user; each with the owner, if the user's tags name one."""
    place = {"region": _region(key), "cloud_partition": key["partition"] or "aws"}
    if key["owner"]:
        owner = {
            "name": key["owner"],
            "uid": key["owner"],
            "type_id": UNKNOWN_USER,
            "type": "Unknown",
            "account": _account(key),
        }
        if ADDRESS.fullmatch(key["owner"]):
            owner["email_addr"] = key["owner"]
        place["owner"] = owner
    user = key["user_arn"] or f"{key['account_id']}/{key['user']}"
    return [
        {
            "type": "AwsIamAccessKey",
            "uid": key["access_key_id"] or f"{user}/{key['slot']}",
            "name": f"access key {key['slot'] or ''} of {key['user']}",
            **place,
        },
        {"type": "AwsIamUser", "uid": user, "name": key["user"], **place},
    ]


def message(key: Mapping[str, Any]) -> str:
    """Say in one sentence what is known of a key."""
    text = f"Access key {key['slot'] or ''}".strip() + f" of {key['user']}: {key['state']}"
    if key["age_days"] is not None:
        text += f", {key['age_days']} days old at the run"
    if key["exempt_until"]:
        text += f", exempt until {key['exempt_until']}"
    if key["why"]:
        text += f", skipped ({key['why']})"
    if key["outcome"]:
        text += f", {key['outcome']}"
        if key["reason"]:
            text += f" ({key['reason']})"
    return text
