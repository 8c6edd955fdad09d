# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The population: every key of a credential report as CSV, for whoever audits all keys."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice

from c7n_keyrot.core.credential_report import Report
from c7n_keyrot.core.text import disarmed

START, END = "keyrot-population-", ".csv.gz"
COLUMNS = ("account_id", "user", "created", "slot", "status", "last_rotated", "last_used")
STATUSES = {True: "Active", False: "Inactive", None: "unknown"}
AT_ONCE = 2000  # lines that are made and written together


def file_name(generated: datetime) -> str:
    """Return the name of the file for a credential report of this instant."""
    return f"{START}{generated.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}{END}"


def parts(report: Report) -> Iterator[bytes]:
    """Yield the CSV (UTF-8) of all keys, part by part: an account may have thousands.

    The same report makes the same bytes. A name that begins like a formula has an apostrophe in
    front, which no IAM name can have, so that a spreadsheet takes it for text.
    """
    lines = _lines(report)
    while some := list(islice(lines, AT_ONCE)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(some)
        yield text.getvalue().encode()


def _lines(report: Report) -> Iterator[tuple[str | int, ...]]:
    """Yield the header, and a line for each slot that has a key, in the report's order.

    At the end come users whose name stands twice in it.
    """
    yield COLUMNS
    for some in (report.rows.values(), report.twice):
        for row in some:
            name, created = disarmed(row.user), _time(row.created)
            for number, slot in enumerate(row.slots, 1):
                if slot.has_key:
                    yield (
                        report.account_id,
                        name,
                        created,
                        number,
                        STATUSES[slot.active],
                        _time(slot.last_rotated),
                        _time(slot.last_used_date),
                    )


def _time(instant: datetime | None) -> str:
    return instant.isoformat() if instant else ""
