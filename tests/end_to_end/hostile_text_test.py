# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Users whose names and paths break shells, tables and logs, through the real programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from c7n.reports import csvout
from harness import Finished, PolicyRun, as_file, custodian, keyrot

from embedded_aws import Account, EmbeddedAws, Key

NAMES = [
    # These IAM allows.
    "=1+1",
    "+1+1",
    "-rf",
    "@SUM",
    "a,b=c@d",
    # And these only a forged report could bring.
    "q\"u'o$(id)`id`; rm -rf / |",
    "two\nlines",
    "2026-05-01 10:00:00,000: custodian.keyrot:INFO user 'eve': disabled",
    "<img src=x onerror=alert(1)>&amp;",
    "line\u2028rtl\u202e\u200b\x85",
    "%s {user}",
]
PATH = "/<b>&\"';$(id)=1+1,\x7f/"
POLICIES = {
    "policies": [
        {
            "name": "p",
            "resource": "aws.iam-user",
            "source": "credential-report",
            "filters": ["stale-access-key", {"not": ["rotation-exempt"]}],
            "actions": ["disable-access-key"],
        }
    ]
}


@pytest.fixture
def hostile(account: Account) -> Account:
    for name in NAMES:
        tags = {"keyrot-exempt-until": f"{name}\u2028"}
        account.add_user(name, Key(5), Key(200), tags, path=PATH)
    return account


def one_line(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_hostile_names_go_through_every_output_and_come_out_as_they_are(
    hostile: Account,
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
    tmp_path: Path,
) -> None:
    before = hostile.snapshot()
    run = run_custodian(POLICIES)
    assert run.code == 0, run.text
    assert len(hostile.changes(before)) == len(NAMES)
    # Outcomes and resources hold the very names.
    outcomes = run.outcomes("p")
    assert sorted((o["user"], o["outcome"]) for o in outcomes) == sorted(
        (name, "disabled") for name in NAMES
    )
    assert run.names("p") == sorted(NAMES)
    # One event is one line, on the screen and in the file, and no name looks like one.
    assert one_line(run.text)
    assert one_line(run.log("p"))
    for text in (run.text, run.log("p")):
        events = [line for line in text.split("\n") if ": disabled" in line]
        assert len([line for line in events if "key AKIA" in line]) == len(NAMES)

    # Custodian's report: one row a user; no cell that a spreadsheet takes for a formula.
    command = custodian("report", "-s", run.out, "--field", 'status="c7n:keyrot"[0].verdict')
    report = run_in([*command, as_file(POLICIES, tmp_path)])
    assert report.code == 0, report.text
    rows = list(csv.DictReader(io.StringIO(report.text, newline="")))
    assert sorted(row["UserName"].removeprefix("'") for row in rows) == sorted(NAMES)
    if hasattr(csvout, "sanitize_csv_value"):  # older Custodians leave them to the reader
        assert not [cell for row in rows for cell in row.values() if cell[:1] in "=+-@" and cell]
    assert {row["status"] for row in rows} == {"stale"}

    # The way back: the table, and names that begin with a hyphen.
    asked = run_in(keyrot("reactivate", run.out))
    assert asked.code == 1
    assert one_line(asked.text)
    assert len([line for line in asked.text.split("\n") if "AKIA" in line]) == len(NAMES)
    done = run_in(keyrot("reactivate", run.out, "--yes", "--user=-rf", "--user==1+1"))
    assert done.code == 0, done.text
    assert {hostile.status(name, 2) for name in ("-rf", "=1+1")} == {"Active"}
    rest = run_in(keyrot("reactivate", run.out, "--yes"))
    assert rest.code == 0, rest.text
    assert one_line(rest.text)
    assert hostile.changes(before) == {}
    lines = (run.out / "p" / "keyrot-outcomes.jsonl").read_bytes()
    assert lines.isascii()
    assert [json.loads(line)["outcome"] for line in lines.decode().split("\n") if line].count(
        "reactivated"
    ) == len(NAMES)


def test_hostile_names_that_fail_are_one_line_each(
    aws: EmbeddedAws, hostile: Account, run_custodian: Callable[..., PolicyRun]
) -> None:
    aws.fail("iam.UpdateAccessKey", "AccessDenied")
    aws.fail("iam.GetUser", "AccessDenied", user="two\nlines")
    run = run_custodian(POLICIES)
    assert run.code != 0
    assert one_line(run.text)
    assert len(run.lines("keyrot:ERROR", "UpdateAccessKey is denied")) == len(NAMES) - 1
    assert run.lines("keyrot:ERROR", repr("two\nlines"), "GetUser is denied")
    assert one_line(run.log("p"))
