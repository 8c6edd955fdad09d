# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reports of any size, as `c7n-keyrot report --format json` writes them."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

NOW = datetime(2026, 11, 26, 3, 40, tzinfo=timezone.utc)
# The fields whose text others wrote.
FOREIGN = ("user", "owner", "name", "account", "reason", "why", "description", "title")
NAMES = ["ana", "ben", "ci-deploy", "dmitri", "emre", "finn", "svc-backup", "terraform", "lena"]
PLACES = ["production", "staging", "data", "sandbox"]
STATES = ["open", "fixed", "fixed", "fixed", "expiring", "unclear", "exempt"]
JUDGED = ("fresh", "expiring", "stale", "unknown")
RULE = {
    "id": "D9.AWS.IAM.07",
    "title": "Ensure access keys are rotated every 90 days or less (second access key)",
    "severity": "High",
    "category": "Security, Identity & Compliance",
    "entity": "IAM user",
    "days": 90.0,
    "slots": [2],
    "remediation": ["Deactivate the old key.", "Create a new key and store it safely."],
    "references": ["https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html"],
    "frameworks": [
        "AWS CIS Foundations 1.0.0, 1.1.0",
        "AWS GDPR Readiness",
        "AWS MITRE ATT&CK Framework v10, v11.3",
        "AWS NIST 800-53 Rev 4, Rev 5",
    ],
    "controls": [
        {"framework": "CIS AWS Foundations 1.4 to 4.0.1", "control": "1.14"},
        {"framework": "PCI DSS 4.0", "control": "8.3.9"},
        {"framework": "PCI DSS 4.0", "control": "8.6.3"},
    ],
    "controls_source": "Prowler's compliance files; they mean both access keys",
}


def key(number: int, account: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    state = chance.choice(STATES)
    low, high = {"expiring": (76, 90), "exempt": (91, 300)}.get(state, (90.1, 800))
    age = None if state == "unclear" else round(chance.uniform(low, high), 1)
    rotated = None if age is None else NOW - timedelta(days=age)
    until = f"{NOW + timedelta(days=chance.randrange(1, 200)):%Y-%m-%d}"
    outcome = {"fixed": "disabled", "open": chance.choice(["denied", "skipped", None])}.get(state)
    reasons = {"skipped": "changed since matched", "denied": "AccessDenied"}
    return {
        "account_id": account["account_id"],
        "account": account["name"],
        "user": f"{chance.choice(NAMES)}-{number}",
        "slot": 2,
        "access_key_id": None if state in ("unclear", "exempt") else f"AKIA{number:016}",
        "verdict": {"expiring": "expiring", "unclear": "unknown"}.get(state, "stale"),
        "state": state,
        "age_days": age,
        "days": 90.0,
        "last_rotated": rotated and rotated.isoformat(),
        "deadline": rotated and (rotated + timedelta(days=90)).isoformat(),
        "days_left": None if age is None else -int(age - 90),
        "identified": None if state in ("unclear", "exempt") else "date",
        "why": {"exempt": "exempt", "unclear": "unknown"}.get(state),
        "exempt_until": until if state == "exempt" else None,
        "exemption": "valid" if state == "exempt" else None,
        "outcome": outcome,
        "outcome_time": outcome and NOW.isoformat(),
        "action": outcome and "disable-access-key",
        "reason": reasons.get(outcome or ""),
        "owner": chance.choice(["ana@corp.test", "ben@corp.test", None]),
        "description": None,
        "last_used_date": (NOW - timedelta(days=chance.uniform(0, 90))).isoformat(),
        "last_used_service": "s3",
        "last_used_region": "eu-west-1",
        "usage": None,
        "policy": "iam-user-second-access-key-stale",
        "run": "6f0f4e56-0000-4000-8000-000000000001",
        "as_of": NOW.isoformat(),
        "dry_run": False,
        "user_arn": None,
        "partition": "aws",
        "first_seen": NOW.isoformat(),
        "closed": None,
        "source_file": None,
        "source_line": None,
        "source_sha256": None,
        "exempt_reason": "a device that can't rotate" if state == "exempt" else None,
        "exempt_approved_by": None,
        "times_disabled": int(outcome == "disabled"),
        "times_switched_on": 0,
        "history": [
            {
                "time": NOW.isoformat(),
                "action": "disable-access-key",
                "outcome": outcome,
                "reason": None,
                "policy": "p",
                "run": "r",
                "caller": "arn:aws:iam::111111111111:user/ops",
                "owner": None,
                "message_id": None,
            }
        ]
        if outcome
        else [],
    }


def percent(counts: dict[str, Any]) -> float | None:
    judged = sum(counts[name] for name in JUDGED)
    return int(1000 * (counts["fresh"] + counts["expiring"]) / judged) / 10 if judged else None


def report(accounts: int = 4, keys_each: int = 12, uncovered: int = 1) -> dict[str, Any]:
    chance = random.Random(7)
    rows: list[dict[str, Any]] = []
    keys: list[dict[str, Any]] = []
    for number in range(accounts):
        row: dict[str, Any] = {
            "account_id": f"{111111111111 + number}",
            "name": f"{PLACES[number % 4]}-{number}",
            "covered": number >= uncovered,
            "why": None if number >= uncovered else "never run",
        }
        mine = [
            key(number * keys_each + each, row, chance)
            for each in range(keys_each if row["covered"] else 0)
        ]
        verdicts, states = (
            Counter(one["verdict"] for one in mine),
            Counter(one["state"] for one in mine),
        )
        fresh = chance.randrange(5, 90) if keys_each else 0
        counts: dict[str, Any] = {
            "users": fresh + len(mine) + 9,
            "active_keys": fresh + len(mine),
            "fresh": fresh,
            **{name: verdicts[name] for name in JUDGED[1:]},
        }
        counts["compliant_percent"] = percent(counts)
        row |= counts if row["covered"] else dict.fromkeys(counts)
        row |= {name: states[name] for name in ("open", "unclear", "exempt", "fixed")}
        row |= {
            "days": 90.0 if row["covered"] else None,
            "report_generated": NOW.isoformat() if row["covered"] else None,
            "run_ids": ["6f0f4e56-0000-4000-8000-000000000001"] if row["covered"] else [],
            "last_run": NOW.isoformat() if row["covered"] else None,
            "dry_run": False if row["covered"] else None,
            "failed": [],
        }
        rows.append(row)
        keys += mine
    known = [row for row in rows if row["covered"]]
    names = ("users", "active_keys", *JUDGED)
    totals: dict[str, Any] = {name: sum(row[name] for row in known) for name in names}
    states = Counter(one["state"] for one in keys)
    places = {
        state: [place for place, one in enumerate(keys) if one["state"] == state]
        for state in STATES
    }
    return {
        "$schema": "urn:c7n-keyrot:schema:report:1",
        "version": 1,
        "generated": NOW.isoformat(),
        "as_of": NOW.isoformat(),
        "rule": RULE,
        "totals": {
            "accounts": len(rows),
            "covered": len(known),
            "not_covered": len(rows) - len(known),
            **totals,
            "compliant_percent": percent(totals),
            **{name: states[name] for name in ("open", "unclear", "exempt", "fixed")},
        },
        "accounts": rows,
        "keys": keys,
        "outcomes": dict(Counter(one["outcome"] for one in keys if one["outcome"])),
        "switched_on": {
            "disabled": 9,
            "keys": 2,
            "undone": 1,
            "by_others": 3,
            "median_hours": 20.5,
        },
        "upcoming": [
            {
                "date": f"{NOW + timedelta(days=day):%Y-%m-%d}",
                "becoming_stale": places["expiring"][day : day + 2] if day % 4 == 1 else [],
                "exemptions_ending": places["exempt"][day : day + 1] if day % 3 == 0 else [],
            }
            for day in range(15)
        ],
        "exemptions": [
            {
                "account_id": keys[place]["account_id"],
                "user": keys[place]["user"],
                "slot": 2,
                "state": "valid",
                "until": keys[place]["exempt_until"],
                "days_left": 30,
                "account": keys[place]["account"],
                "access_key_id": None,
                "reason": "a device that can't rotate",
                "approved_by": None,
                "owner": keys[place]["owner"],
                "source": "keyrot-exempt-until",
                "key": place,
            }
            for place in places["exempt"]
        ],
        "runs": [
            {
                "date": f"{NOW - timedelta(days=7 * (9 - week)):%Y-%m-%d}",
                "begun": (NOW - timedelta(days=7 * (9 - week))).isoformat(),
                "accounts": len(known),
                "users": 400,
                "active_keys": 300,
                "fresh": 205 + 9 * week,
                "expiring": 3,
                "stale": 90 - 9 * week,
                "unknown": 2,
                "compliant_percent": round(69.3 + 3 * week, 1),
                "exempt": 4,
                "dry_run": week < 3,
                "outcomes": {"disabled": 9} if week > 2 else {},
            }
            for week in range(10)
        ],
        "warnings": [],
    }
