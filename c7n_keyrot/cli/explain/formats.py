# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prints what is explained: a table, JSON or CSV, row by row."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from c7n_keyrot.cli.explain import peers
from c7n_keyrot.cli.explain.verdicts import NOT_JUDGED, Options, ReportInfo, SlotVerdict, explain
from c7n_keyrot.cli.tables import paragraph, row_by_row
from c7n_keyrot.core.rotation import Verdict
from c7n_keyrot.core.text import counted, disarmed, listed, utc

# Names schemas/explain.schema.json; it is not a URL.
SCHEMA = "urn:c7n-keyrot:schema:explain:1"
COLUMNS = (
    "user",
    "arn",
    "slot",
    "verdict",
    "active",
    "last_rotated",
    "age_days",
    "deadline",
    "days_left",
    "reason",
)


def _as_json(report: ReportInfo, options: Options) -> None:
    """Print JSON, a key a line."""
    about = {
        "generated": report.generated.isoformat() if report.generated else None,
        "at": options.at.isoformat(),
        "account_id": report.account_id,
        "users": report.users,
        "days": options.days,
        "notice": options.notice,
        "appear_twice": sorted(report.twice),
    }
    print(
        f'{{"$schema": {json.dumps(SCHEMA)},\n "report": {json.dumps(about)},\n "keys": [', end=""
    )
    for number, one in enumerate(explain(report, options)):
        print(",\n  " if number else "\n  ", json.dumps(one.fields()), sep="", end="")
    print("\n ]}")


def _as_csv(report: ReportInfo, options: Options) -> None:
    """Print CSV, a key a row; spreadsheets take no field for a formula."""
    names = [peer.name for peer in peers.PEERS] if options.compare else []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*COLUMNS, *names])
    for one in explain(report, options):
        fields = one.fields()
        said = fields.pop("peers") or {}
        cells = [_plain(fields[column]) for column in COLUMNS] + [said[name] for name in names]
        writer.writerow([disarmed(cell) if isinstance(cell, str) else cell for cell in cells])


def _plain(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _as_table(report: ReportInfo, options: Options) -> None:
    """Print a table for a terminal, and a line that counts the verdicts."""
    say = row_by_row({"USER": report.longest, "SLOT": 4, "VERDICT": 10 if options.compare else 8})
    print(say("USER", "SLOT", "VERDICT", "WHY"))
    verdicts: Counter[str] = Counter()
    for one in explain(report, options):
        verdicts[one.verdict] += 1
        print(say(one.row.user, str(one.number), one.verdict, one.reason))
        for line in differences(one):
            print(paragraph(line, indent=6))
    order = [each.value for each in Verdict] + [NOT_JUDGED]
    counts = ", ".join(f"{verdicts[name]} {name}" for name in reversed(order) if verdicts[name])
    made = f" (report made {utc(report.generated)})" if report.generated else ""
    print()
    print(
        paragraph(
            f"Account {report.account_id} at {utc(options.at, seconds=True)}{made}, "
            f"stale after {options.days:g} days: {counted(report.users, 'user')}, "
            f"{counted(sum(verdicts.values()), 'slot')}" + (f": {counts}." if counts else ".")
        )
    )
    if report.twice:
        print(paragraph(f"Appear more than once: {listed(sorted(report.twice))}."))
    if options.compare:
        print(
            paragraph(
                "Other tools judge by their own 90 days. Those that use CreateDate are given last "
                "rotated, since the report has no other date."
            )
        )


def differences(one: SlotVerdict) -> Iterator[str]:
    """Say which peers judge a key otherwise than we do, and why."""
    if one.peers is None:
        return
    ours = {
        Verdict.STALE.value: peers.FAIL,
        Verdict.FRESH.value: peers.PASS,
        Verdict.EXPIRING.value: peers.PASS,
    }.get(one.verdict, NOT_JUDGED)
    others: dict[peers.Judged, list[str]] = {}
    for name, judged in one.peers.items():
        if judged.word != ours:
            others.setdefault(judged, []).append(name)
    for judged, names in others.items():
        yield f"- {', '.join(names)}: {judged.word} ({judged.why})"


FORMATS = {"table": _as_table, "json": _as_json, "csv": _as_csv}
