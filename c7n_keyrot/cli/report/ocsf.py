# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report as OCSF 1.6: a Compliance Finding (class 2003) for each key, one a line."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from c7n_keyrot import __version__
from c7n_keyrot.core.rotation import SEVERITIES

SCHEMA_VERSION = "1.6.0"
CLASS, FINDINGS = 2003, 2
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:c7n-keyrot:ocsf")
# By the state of a key: what was done to the finding, its status, and what the check says.
CREATE, CLOSE = (1, "Create"), (3, "Close")
NEW, SUPPRESSED, RESOLVED = (1, "New"), (3, "Suppressed"), (4, "Resolved")
PASS, WARNING, FAIL = (1, "Pass"), (2, "Warning"), (3, "Fail")
STATES = {
    "open": (CREATE, NEW, FAIL),
    "unclear": (CREATE, NEW, WARNING),
    "exempt": (CREATE, SUPPRESSED, FAIL),
    "expiring": (CREATE, NEW, PASS),
    "fixed": (CLOSE, RESOLVED, PASS),
}
SEVERITY_IDS = {name.lower(): number for number, name in enumerate(SEVERITIES, 1)}
AWS_ACCOUNT = 10


def render(report: Mapping[str, Any]) -> Iterator[str]:
    """Return the findings as lines of JSON."""
    rule = report["rule"]
    return (json.dumps(finding(rule, key)) + "\n" for key in report["keys"])


def finding(rule: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, Any]:
    """Return what OCSF says of a key; the same key has the same ``finding_info.uid`` each time."""
    (activity, activity_name), (status, status_name), (check, check_name) = STATES[key["state"]]
    place = f"{key['account_id']}/{key['user']}/{key['slot']}"
    uid = str(uuid.uuid5(NAMESPACE, f"{rule['id']}/{key['access_key_id'] or place}"))
    time = round(datetime.fromisoformat(key["as_of"]).timestamp() * 1000)
    severity = SEVERITY_IDS.get((rule["severity"] or "").lower(), 0)
    name = rule["id"] or "access-key-rotation"
    title = rule["title"] or "Access keys are rotated"
    account = {"uid": key["account_id"], "type_id": AWS_ACCOUNT, "type": "AWS Account"}
    if key["account"]:
        account["name"] = key["account"]
    resource = {
        "type": "AWS::IAM::AccessKey",
        "uid": key["access_key_id"] or place,
        "name": key["user"],
    }
    if key["owner"]:
        resource["owner"] = {"name": key["owner"]}
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
        "severity": rule["severity"] or "Unknown",
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
        "cloud": {"provider": "AWS", "account": account},
        "finding_info": {
            "uid": uid,
            "title": title,
            "desc": message(key),
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
        "resources": [resource],
        "unmapped": {name: value for name, value in key.items() if value is not None},
    }
    if rule["remediation"]:
        event["remediation"] = {
            "desc": " ".join(rule["remediation"]),
            "references": rule["references"],
        }
    return event


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
