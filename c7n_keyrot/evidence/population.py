# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every key of an account, as one credential report had it: the file that runs leave, read back."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from c7n_keyrot.core.population import COLUMNS, END, START, STATUSES
from c7n_keyrot.evidence.files import MOST_DECOMPRESSED, DamagedFileError, content
from c7n_keyrot.evidence.trace import Source

Slot = tuple[str, int]  # a user's name, and 1 or 2
ACTIVE, INACTIVE = STATUSES[True], STATUSES[False]


@dataclass(frozen=True)
class KeyThen:
    """A key in the report.

    :ivar status: ``Active``, ``Inactive``, or ``unknown`` if the report doesn't say it.
    :ivar last_rotated: UTC; None if the report doesn't say it.
    """

    status: str
    last_rotated: datetime | None


@dataclass(frozen=True)
class Population:
    """All keys of an account.

    :ivar report: when AWS made the credential report, UTC.
    :ivar source: the file.
    :ivar twice: users whose name stands twice in the report: nobody knows which line is whose.
    """

    report: datetime
    keys: Mapping[Slot, KeyThen]
    twice: frozenset[str]
    source: Source | None = None

    def has_moved(self, place: Slot, rotated: datetime) -> bool:
        """Tell whether another user has an active key of that slot and second: one was renamed."""
        return any(
            then.status == ACTIVE and then.last_rotated == rotated
            for (user, slot), then in self.keys.items()
            if slot == place[1] and user != place[0]
        )


def is_one(name: str) -> bool:
    """Tell whether a file is a population by its name, compressed or not."""
    return name.startswith(START) and name.removesuffix(".gz").endswith(END.removesuffix(".gz"))


def read(path: Path, account_id: str, report: datetime, digest: str) -> Population:
    """Read a population.

    :param report: when AWS made the credential report, and ``digest`` the SHA-256 of the CSV, in
        hex, both as a run's summary has them.
    :raises DamagedFileError: it can't be read, or isn't what that run left.
    """
    try:
        data = content(path, MOST_DECOMPRESSED + 1)
    except OSError as error:
        raise DamagedFileError(f"it can't be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedFileError("it isn't what the run left: its SHA-256 isn't the summary's")
    keys: dict[Slot, KeyThen] = {}
    created: dict[str, str] = {}
    twice: set[str] = set()
    for account, user, born, slot, then in _lines(data):
        if account != account_id:
            raise DamagedFileError(f"it is of account {account}, not of {account_id}")
        if (user, slot) in keys or created.setdefault(user, born) != born:
            twice.add(user)
        keys[user, slot] = then
    return Population(report, keys, frozenset(twice))


def _lines(data: bytes) -> Iterator[tuple[str, str, str, int, KeyThen]]:
    """Yield account, user, when it was created, slot, and the key.

    :raises DamagedFileError: a line isn't one.
    """
    lines = csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline=""))
    try:
        if tuple(next(lines, ())) != COLUMNS:
            raise DamagedFileError("its header isn't that of a population")
        for account, name, born, slot, status, rotated, _ in lines:
            # No IAM name has an apostrophe: it keeps a spreadsheet from taking one for a formula.
            then = KeyThen(status, datetime.fromisoformat(rotated) if rotated else None)
            yield account, name.removeprefix("'"), born, int(slot), then
    except (ValueError, csv.Error):
        raise DamagedFileError(f"line {lines.line_num} can't be read") from None
