# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The IAM credential report, parsed into typed rows.

The format is described in the AWS IAM user guide, "Generate credential reports for your AWS
account". Nothing here knows Custodian.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from operator import itemgetter
from typing import NamedTuple

ROOT = "<root_account>"
NOTHING = frozenset(("", "n/a", "no_information", "not_supported"))
NEEDED = (
    "user",
    "arn",
    "access_key_1_active",
    "access_key_1_last_rotated",
    "access_key_2_active",
    "access_key_2_last_rotated",
)
# Read where they exist.
CREATED = "user_creation_time"
SLOT_COLUMNS = (
    "active",
    "last_rotated",
    "last_used_date",
    "last_used_region",
    "last_used_service",
)
# Held against the text first: which other ways to write a time ``fromisoformat`` reads depends on
# Python's version, and a verdict must not.
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


class ReportError(Exception):
    """The credential report can't be fetched or read; the message is one line for users."""


# Tuples: an account has thousands, and a frozen dataclass takes three times as long to make.
class Slot(NamedTuple):
    """One of the two access key slots of a row; all times are UTC.

    ``active`` is None where the report says neither true nor false. ``has_key`` is False for an
    empty slot. ``last_rotated`` is None where there is no date, or one that can't be read.
    """

    active: bool | None
    has_key: bool
    last_rotated: datetime | None
    last_used_date: datetime | None
    last_used_region: str | None
    last_used_service: str | None


class Row(NamedTuple):
    """One IAM user of the report; ``slots[0]`` is the first access key, ``slots[1]`` the second.

    ``created`` is when the user was, UTC; None where the report doesn't say it, or not readably.
    """

    user: str
    arn: str
    slots: tuple[Slot, Slot]
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class RawReport:
    """The report as AWS hands it out: CSV bytes, and the instant (UTC) of its making."""

    content: bytes
    generated: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """The parsed report: rows by user name, without the root row.

    ``account_id`` is the account of the rows' ARNs. ``duplicates`` are names that appear more than
    once. None of their rows is in ``rows``, since nothing shows which one is true; all are in
    ``twice``.
    """

    account_id: str
    generated: datetime
    rows: dict[str, Row]
    duplicates: frozenset[str]
    twice: tuple[Row, ...] = ()

    @property
    def user_count(self) -> int:
        """How many users the account has, according to this report."""
        return len(self.rows) + len(self.duplicates)


def parse(content: bytes | str, generated: datetime, account_id: str | None = None) -> Report:
    """Parse the report's CSV by its header; columns that aren't needed are ignored.

    :param content: CSV as AWS returns it (UTF-8).
    :param generated: the instant of the report's making, UTC.
    :param account_id: the account that was asked, where it is known. Without it a report without
        rows is refused: in China there may be no root row, and then nothing shows whose it is.
    :raises ReportError: a needed column is missing, a column that is read appears twice, a row is
        cut, the rows are of more than one account, or the text isn't UTF-8 CSV.
    """
    rows: dict[str, Row] = {}
    twice: list[Row] = []
    accounts = set()
    try:
        for row in read(lines(content)):
            accounts.add(account_of(row))
            if row.user == ROOT:
                continue
            if row.user in rows:
                twice.append(row)
            else:
                rows[row.user] = row
        if not accounts and account_id:
            accounts.add(account_id)
        account = the_account(accounts)
    except ReportError as error:
        raise ReportError(f"credential report: {error}; run again later") from None
    duplicates = frozenset(row.user for row in twice)
    twice += [rows.pop(name) for name in sorted(duplicates)]
    return Report(account, _utc(generated), rows, duplicates, tuple(twice))


def lines(content: bytes | str) -> Iterable[str]:
    """Return the lines of a report's CSV (UTF-8), with their ends as they are."""
    if isinstance(content, str):
        return io.StringIO(content, newline="")
    return io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")


def account_of(row: Row) -> str:
    """Return the account of a row's ARN; "" if it has none."""
    return row.arn.split(":")[4] if row.arn.count(":") > 4 else ""


def the_account(accounts: Collection[str]) -> str:
    """Return the one account of all rows.

    :raises ReportError: there are several, or no row at all.
    """
    if len(accounts) != 1:
        what = f"of {len(accounts)} accounts" if accounts else "missing, even the root user's"
        raise ReportError(f"its rows are {what}")
    return next(iter(accounts))


def read(lines: Iterable[str]) -> Iterator[Row]:
    """Read the rows of a report one by one, the root user's included.

    :param lines: of its CSV, with their ends as they are.
    :raises ReportError: a needed column is missing, a column that is read appears twice, a row is
        cut, or the text isn't UTF-8 CSV. The message says what is wrong, and nothing else.
    """
    try:
        reader = csv.reader(_without_nul(lines), strict=True)
        header = next(reader, [])
        places = _places(header)
        user, arn, created = places["user"], places["arn"], places.get(CREATED, -1)
        first, second = _columns(places, "access_key_1_"), _columns(places, "access_key_2_")
        for fields in reader:
            if not fields:
                continue  # an empty line
            # A short row is a report that was cut: the users after the cut would pass for clean.
            if len(fields) != len(header):
                raise ReportError(
                    f"line {reader.line_num} has fewer or more fields than the header, so it is "
                    "cut or broken"
                )
            fields.append("")  # what a missing column says
            yield Row(
                fields[user],
                fields[arn],
                (_slot(*first(fields)), _slot(*second(fields))),
                instant(_text(fields[created])),
            )
    except UnicodeDecodeError as error:
        raise ReportError(f"not UTF-8 ({error.reason})") from error
    except csv.Error as error:
        raise ReportError(f"not CSV ({error})") from error


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    """Refuse NUL, as Python 3.10 does; newer ones would read on."""
    for line in lines:
        if "\0" in line:
            raise csv.Error("line contains NUL")
        yield line


def _places(header: list[str]) -> dict[str, int]:
    """Return where each column stands; refuse a header in which one that is read isn't clear."""
    places = {name: place for place, name in enumerate(header)}
    for column in NEEDED:
        if column not in places:
            raise ReportError(f"the column {column!r} is missing")
    slots = (f"access_key_{slot}_{name}" for slot in (1, 2) for name in SLOT_COLUMNS)
    for column in ("user", "arn", CREATED, *slots):
        if header.count(column) > 1:
            raise ReportError(f"the column {column!r} appears twice")
    return places


def _columns(places: dict[str, int], prefix: str) -> Callable[[list[str]], tuple[str, ...]]:
    """Return what picks a slot's columns out of a row; the last field for one that is missing."""
    return itemgetter(*(places.get(prefix + name, -1) for name in SLOT_COLUMNS))


def _slot(active: str, rotated: str, used: str, region: str, service: str) -> Slot:
    is_active, rotation = _boolean(active), _text(rotated)
    return Slot(
        active=is_active,
        has_key=is_active is not False or rotation is not None,
        last_rotated=instant(rotation),
        last_used_date=instant(_text(used)),
        last_used_region=_text(region),
        last_used_service=_text(service),
    )


def _text(value: str) -> str | None:
    return None if value.strip().lower() in NOTHING else value.strip()


def _boolean(value: str) -> bool | None:
    word = value.strip().lower()
    return {"true": True, "false": False}.get(word, False if word in NOTHING else None)


def instant(value: str | None) -> datetime | None:
    """Read a time of the report, to the second, as UTC; None for what can't be read.

    It is ISO 8601 with an offset: without one the instant isn't known.
    """
    if value is None or not TIME.fullmatch(value):
        return None
    try:
        # Python 3.10 doesn't know the letter Z.
        return _utc(datetime.fromisoformat(value.replace("Z", "+00:00"))).replace(microsecond=0)
    except (ValueError, OverflowError):
        return None


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(timezone.utc)
