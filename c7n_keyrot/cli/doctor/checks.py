# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the doctor's checks have in common: a line of its table, and what the lines are about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

OK, FAIL, NOT_CHECKED = "ok", "FAIL", "not checked"

FALLBACK_REGION = "us-east-1"  # Custodian's own


@dataclass(frozen=True)
class Check:
    """A line of the table; `fix` is what to do about a failure, and names the thing."""

    status: str
    name: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.name}: {self.what}" + (f"; fix: {self.fix}" if self.fix else "")
        return f"{self.status:11}  {one_line(text)}"


Checks = Iterator[Check]


@dataclass
class Target:
    """An account that the policies run in."""

    name: str
    account_id: str = ""
    region: str = FALLBACK_REGION
    account: dict[str, Any] | None = None  # its entry of accounts.yml
    policies: list[Planned] = field(default_factory=list)

    def __str__(self) -> str:
        return f"account {self.name}" + (f" ({self.account_id})" if self.account else "")


@dataclass(frozen=True)
class Planned:
    """What a policy means in one account."""

    name: str
    runs: bool  # its conditions allow it there
    permissions: frozenset[str]
    notices: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Queue:
    """A queue of SQS by what an ARN says of it."""

    name: str
    owner: str
    region: str

    def __str__(self) -> str:
        return f"queue {self.name}"

    @property
    def where(self) -> str:
        return f"account {self.owner or 'unknown'}, {self.region}"


def one_line(text: str) -> str:
    """The text without line breaks or control signs, whatever a file or AWS put into it."""
    return "".join(sign if sign.isprintable() else " " for sign in " ".join(text.split()))
