# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the run did to keys, by what it left: intents without an outcome included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from c7n_keyrot.cli import acting
from c7n_keyrot.cli.runner.settings import Settings
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import Outcome, Result
from c7n_keyrot.core.text import counted, one_line
from c7n_keyrot.evidence.files import Damage
from c7n_keyrot.evidence.gather import gather

# The most important first: what was done, what may have been done, what wasn't.
RANKS = (
    Result.DISABLED,
    Result.DELETED,
    Result.INTENDED,
    Result.UNKNOWN,
    Result.FAILED,
    Result.DENIED,
    Result.GONE,
    Result.SKIPPED,
    Result.REACTIVATED,
)
IN_DOUBT = (Result.INTENDED, Result.UNKNOWN)
WORDS = {Result.INTENDED: "in doubt", Result.UNKNOWN: "in doubt"}
MOST_NAMED = 20  # of what couldn't be read


@dataclass
class Deeds:
    """What the run did.

    :ivar outcomes: the most important first.
    :ivar unknown: what can't be known, each in words; then figures are too small, if anything.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def count(self, *results: Result) -> int:
        """Return to how many keys one of these happened."""
        keys = {
            (one.account_id, one.access_key_id or (one.user, one.slot, one.policy))
            for one in self.outcomes
            if one.outcome in results
        }
        return len(keys)

    @property
    def disabled(self) -> int:
        return self.count(Result.DISABLED)

    @property
    def deleted(self) -> int:
        return self.count(Result.DELETED)

    @property
    def in_doubt(self) -> int:
        return self.count(*IN_DOUBT)

    @property
    def figures(self) -> str:
        """The counts, in words."""
        more = " or more" if self.unknown else ""
        return (
            f"keys disabled: {self.disabled}{more}, deleted: {self.deleted}{more}, "
            f"in doubt: {self.in_doubt}{more}"
        )


def line_of(outcome: Outcome) -> str:
    """Return what happened to a key: what, account, user, key."""
    slot = f"no key id, slot {outcome.slot}" if outcome.slot else "no key id"
    words = (
        WORDS.get(outcome.outcome, outcome.outcome),
        outcome.account_id,
        one_line(outcome.user, 128),
        outcome.access_key_id or f"({slot})",
    )
    return " ".join(words)


def read(folder: Path, settings: Settings) -> Deeds:
    """Return what a run into a folder did; what can't be read is named."""
    left, warnings = Deeds(), list[str]()
    found, damage = list[Outcome](), list[Damage]()
    try:
        for one in gather([str(folder)], damage, settings.known, None, acting.is_of_keys):
            found += one.outcomes
            # Custodian's own action leaves no outcomes.
            if one.name in settings.uncounted and one.metrics.get("ResourceCount", 1):
                where = one.account or one.account_id
                warnings.append(f"{one.name} in {where}: its remove-keys leaves no outcomes")
    except (CommandError, OSError) as error:
        warnings.append(f"the outputs of the run: {one_line(error)}")
    ranks = {result: rank for rank, result in enumerate(RANKS)}
    left.outcomes = sorted(
        found,
        key=lambda one: (ranks[one.outcome], one.account_id, one.user, one.access_key_id or ""),
    )
    left.unknown = _bounded([*map(str, damage), *warnings])
    return left


def _bounded(lines: Sequence[str]) -> list[str]:
    shown = [one_line(line, 500) for line in lines[:MOST_NAMED]]
    if len(lines) > MOST_NAMED:
        shown.append(
            f"and {counted(len(lines) - MOST_NAMED, 'more line')} about what can't be read"
        )
    return shown
