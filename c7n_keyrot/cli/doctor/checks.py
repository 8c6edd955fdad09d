# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The lines of the doctor's table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from c7n_keyrot.core.text import one_line
from c7n_keyrot.evidence.accounts import Account

OK, FAIL, NOT_CHECKED = "ok", "FAIL", "not checked"
# Characters of a part of a line, and accounts that a line names unless they fail.
LIMIT, NAMED = 1000, 10


@dataclass(frozen=True)
class Check:
    """What was found out about one thing, in one account or in general.

    :ivar fix: what to do about a failure; it works as it is written.
    :ivar account: so that what is the same in many accounts becomes one line.
    """

    status: str
    name: str
    what: str
    fix: str = ""
    account: Account | None = None

    def __str__(self) -> str:
        return _line(self, [str(self.account)] if self.account else [])


Checks = Iterator[Check]


def lines(checks: Iterable[Check], accounts: int) -> Iterator[tuple[str, str]]:
    """Yield (status, line) with one line for what is the same in several accounts.

    :param accounts: how many accounts there are.
    """
    found: dict[tuple[str, ...], tuple[Check, list[str]]] = {}
    for check in checks:
        key = (check.status, check.name, check.what, check.fix)
        _, names = found.setdefault(key, (check, []))
        if check.account is not None:
            names.append(str(check.account).removeprefix("account "))
    for check, names in found.values():
        if len(names) < 2:
            yield check.status, str(check)
            continue
        # To fix something one needs the names.
        most = len(names) if check.status == FAIL else NAMED
        subject = f"{len(names)} accounts"
        if len(names) == accounts and accounts > NAMED:
            subject = f"all {accounts} accounts"
        else:
            more = f" and {len(names) - most} more" if len(names) > most else ""
            subject += f" ({', '.join(names[:most])}{more})"
        yield check.status, _line(check, [subject])


def _line(check: Check, subject: list[str]) -> str:
    label = " of ".join(part for part in (one_line(check.name, LIMIT), *subject) if part)
    text = f"{label}: {one_line(check.what, LIMIT)}"
    return f"{check.status:11}  {text}" + (
        f"; fix: {one_line(check.fix, LIMIT)}" if check.fix else ""
    )
