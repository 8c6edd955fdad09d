# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""c7n-keyrot report: what runs left becomes one report, whose schema is the contract."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from output_tree import NOW, PACK, A, B, C, Run, accounts_yml, key_id

import c7n_keyrot
from c7n_keyrot.cli import main
from c7n_keyrot.records import Why
from c7n_keyrot.rotation import DAY, Verdict

SCHEMA = json.loads(
    (Path(c7n_keyrot.__file__).parent / "schemas" / "report.schema.json").read_text("utf-8")
)
STALE, EXPIRING = PACK["stale"]["name"], PACK["expiring"]["name"]
COUNTS = {"fresh": 10, "expiring": 2, "stale": 4, "unknown": 1, "absent": 5, "inactive": 3}


def report(
    capsys: pytest.CaptureFixture[str], *folders: Path, accounts: Path | None = None
) -> dict[str, Any]:
    """The report as JSON, which its schema holds of."""
    args = ["report", *map(str, folders), "--format", "json"]
    args += ["--accounts", str(accounts)] if accounts else []
    assert main(args) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(found)
    return found


def keys(found: dict[str, Any], *fields: str) -> dict[str, Any]:
    """Fields of each key, by its user."""
    return {
        key["user"]: key[fields[0]] if len(fields) == 1 else tuple(key[name] for name in fields)
        for key in found["keys"]
    }


def days_ago(days: float) -> str:
    return (NOW - days * DAY).isoformat()


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A run of the pack in two accounts of three, with a key in every state."""
    out = tmp_path / "out"
    stale = Run(counts={**COUNTS, "fresh": 12, "expiring": 0})
    stale.match("ana", 100, {"OwnerContact": "ana@corp.test"}).outcome("ana")
    stale.match("eve", 120).outcome("eve", "denied", reason="AccessDenied")
    stale.leave("sam", last_rotated=days_ago(200))
    stale.leave("twins", why=Why.UNCLEAR, last_rotated=days_ago(150))
    stale.leave("odd", Verdict.UNKNOWN, Why.UNKNOWN)
    stale.write(out, "payments")
    expiring = Run(kind="expiring", counts=COUNTS).match("bob", 83)
    expiring.leave("zoe", Verdict.EXPIRING, Why.NOT_DUE, last_rotated=days_ago(85))
    expiring.write(out, "payments")
    Run(account_id=B, counts={"fresh": 5, "absent": 1}).write(out, "web")
    return out


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_a_run_of_the_pack(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accounts = accounts_yml(tmp_path, {"payments": A, "web": B, "sandbox": C})
    found = report(capsys, pack, accounts=accounts)
    assert {row["name"]: (row["covered"], row["why"]) for row in found["accounts"]} == {
        "payments": (True, None),
        "sandbox": (False, "never run"),
        "web": (True, None),
    }
    payments = found["accounts"][0]
    assert {name: payments[name] for name in COUNTS if name in payments} == {
        name: count for name, count in COUNTS.items() if name in payments
    }
    assert payments["compliant_percent"] == 70.5, "12 of 17, rounded down"
    assert keys(found, "state") == {
        "ana": "fixed",
        "bob": "expiring",
        "eve": "open",
        "odd": "unclear",
        "sam": "exempt",
        "twins": "unclear",
        "zoe": "expiring",
    }
    assert keys(found, "verdict", "age_days", "days_left")["sam"] == ("stale", 200, -110)
    assert keys(found, "outcome", "reason")["eve"] == ("denied", "AccessDenied")
    assert keys(found, "owner", "access_key_id")["ana"] == ("ana@corp.test", key_id(A, "ana"))
    assert found["outcomes"] == {"disabled": 1, "denied": 1}
    coming = {
        day["date"]: [found["keys"][place]["user"] for place in day["becoming_stale"]]
        for day in found["upcoming"]
    }
    assert {day: users for day, users in coming.items() if users} == {
        "2026-07-24": ["zoe"],
        "2026-07-26": ["bob"],
    }
    assert len(coming) == 15
    (exemption,) = found["exemptions"]
    assert (exemption["user"], exemption["until"], exemption["days_left"]) == (
        "sam",
        "2026-07-29",
        10,
    )
    totals = found["totals"]
    assert (totals["accounts"], totals["covered"], totals["not_covered"]) == (3, 2, 1)
    assert (totals["fresh"], totals["stale"], totals["compliant_percent"]) == (15, 4, 77.2)
    states = Counter(key["state"] for key in found["keys"])
    assert all(totals[state] == states[state] for state in ("open", "unclear", "exempt", "fixed"))
    assert found["rule"]["id"] == "D9.AWS.IAM.07"
    assert len(found["rule"]["frameworks"]) == 19
    assert found["warnings"] == []
