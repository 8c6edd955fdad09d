# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The plain state of one run of one policy, in parts: each part has its own methods that write it.

Nothing else writes to a part, and none of them makes a call.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from c7n_keyrot.core.credential_report import Report
from c7n_keyrot.core.outcomes import Outcome, Result
from c7n_keyrot.core.records import Why
from c7n_keyrot.core.rotation import Exemption, ExemptionState

NOT_TRIED = "not tried"
Answer = TypeVar("Answer")


class ReportInUse:
    """The credential report that a run uses, and the account that it belongs to.

    :ivar account_id: Custodian's; where Custodian couldn't ask STS, the report's.
    :ivar used: None until a filter, an action or our source has asked for it.
    :ivar population: the users of the account, once our source was asked; else None.
    :ivar candidates: those whom the policy's filters can match, once our source was asked.
    """

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.used: Report | None = None
        self.population: int | None = None
        self.candidates: int | None = None

    def use(self, report: Report) -> None:
        """Note the report, and its account."""
        self.used = report
        # What is done must be found again, so the account is never empty from here on.
        self.account_id = report.account_id

    def count(self, population: int, candidates: int) -> None:
        """Note how many users our source found in the report."""
        self.population, self.candidates = population, candidates


class Exemptions:
    """What a rotation-exempt filter found on users, by user name.

    :ivar found: all that is known of it.
    :ivar valid: the last day (YYYY-MM-DD, UTC) of an exemption that holds.
    :ivar void: one that has ended or can't be read: the notice reports it.
    :ivar listed: what a register has of users in the credential report, looked at or not.
    """

    def __init__(self) -> None:
        self.found: dict[str, Exemption] = {}
        self.valid: dict[str, str] = {}
        self.void: dict[str, dict[str, str]] = {}
        self.listed: dict[str, Exemption] = {}
        self._registers: dict[str, Any] = {}

    def once(self, url: str, read: Callable[[], Answer]) -> Answer:
        """Return what was read from a register; read it if this run hasn't yet."""
        if url not in self._registers:
            self._registers[url] = read()
        found: Answer = self._registers[url]
        return found

    def list(self, name: str, found: Exemption) -> None:
        """Note what a register has of a user."""
        self.listed[name] = found

    def note(self, name: str, found: Exemption) -> None:
        """Note a user's exemption."""
        self.found[name] = found
        if found.state is not ExemptionState.VALID:
            self.void[name] = {
                "tag": found.tag,
                "value": found.value,
                "state": found.state.value,
            }
        elif found.until is not None:
            self.valid[name] = found.until.isoformat()


class LeftOut:
    """Why candidates aren't matched, by user name and slot; the first reason counts."""

    def __init__(self) -> None:
        self.why: dict[tuple[str, int], Why] = {}

    def note(self, name: str, slot: int, why: Why) -> None:
        """Note why a candidate isn't matched."""
        self.why.setdefault((name, slot), why)

    def own(self, name: str, slot: int) -> None:
        """Note that a key is skipped since the run works with it; no other reason counts then."""
        self.why[name, slot] = Why.OWN


class Done:
    """What the key actions of a policy have done; they note it from many threads.

    :ivar last: what was done to a key last, by its id.
    :ivar counts: keys by outcome, and those ``not tried``.
    """

    def __init__(self) -> None:
        self._noting = threading.Lock()
        self.last: dict[str | None, Result] = {}
        self.counts: Counter[str] = Counter()

    def note(self, line: Outcome) -> None:
        """Note an outcome."""
        with self._noting:
            self.last[line.access_key_id] = line.outcome
            self.counts[line.outcome] += 1

    def not_tried(self, keys: int) -> None:
        """Note how many keys weren't touched, since nothing could be recorded."""
        with self._noting:
            self.counts[NOT_TRIED] += keys
