# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the outcomes say of each key: if it is inactive, who switched it off.

Only actions, outcomes, intents and times decide; the reason in a line is for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.outcomes import Action, Outcome, Result
from c7n_keyrot.core.text import one_line, utc
from c7n_keyrot.evidence.outcome_files import OutcomeFile

# For this long after a write, IAM's listing may still show the state before it.
MAY_LAG = timedelta(minutes=5)


class Says(Enum):
    """What a line says about who switched the key off, if it is inactive."""

    OURS = "the pack switched it off last"
    IN_DOUBT = "the pack may have switched it off last, or somebody else"
    NOT_OURS = "the pack didn't switch it off last"
    WAS_ACTIVE = "not ours, unless the listing that showed the key Active was behind"


# Every other line says nothing, such as that of a delete-access-key that was denied.
SAYS = {
    (Action.DISABLE, Result.DISABLED): Says.OURS,
    (Action.DISABLE, Result.UNKNOWN): Says.IN_DOUBT,
    (Action.DISABLE, Result.INTENDED): Says.IN_DOUBT,
    (Action.DISABLE, Result.DENIED): Says.WAS_ACTIVE,
    (Action.DISABLE, Result.FAILED): Says.WAS_ACTIVE,
    (Action.DISABLE, Result.GONE): Says.WAS_ACTIVE,
    (Action.DELETE, Result.DELETED): Says.NOT_OURS,
    (Action.DELETE, Result.SKIPPED): Says.WAS_ACTIVE,
    (Action.REACTIVATE, Result.REACTIVATED): Says.NOT_OURS,
    (Action.REACTIVATE, Result.SKIPPED): Says.WAS_ACTIVE,
    # An earlier reactivate may have switched it on, and somebody may have switched it off since.
    (Action.REACTIVATE, Result.UNKNOWN): Says.IN_DOUBT,
    (Action.REACTIVATE, Result.INTENDED): Says.IN_DOUBT,
    # No other "gone" says anything: to older versions a renamed user's key looked gone, too.
}

Place = tuple[str, str | None]
Operation = tuple[str | None, ...]


@dataclass(frozen=True)
class KeyHistory:
    """A key, and what the outcomes say of it by the last line that says anything.

    :ivar time: of that line, in UTC.
    :ivar file: that line's.
    :ivar disabled: when the pack switched it off last, or may have; None if no line says so.
    :ivar doubt: why it is in doubt; "" if it isn't.
    """

    last: Outcome
    time: datetime
    file: Path
    ours: bool
    doubt: str = ""
    disabled: datetime | None = None

    @property
    def id(self) -> str:
        return str(self.last.access_key_id)

    @property
    def place(self) -> Place:
        return self.last.account_id, self.id

    def __str__(self) -> str:
        return one_line(f"account {self.last.account_id}: user {self.last.user}: key {self.id}")

    def may_lag(self, now: datetime) -> bool:
        """Tell whether a listing that shows the key Active may predate its deactivation."""
        return self.disabled is not None and now - self.disabled < MAY_LAG


def key_histories(files: Sequence[OutcomeFile]) -> list[KeyHistory]:
    """Return every key that the files mention.

    Each line is appended when it happens, so within a file their order counts: clocks differ. Only
    files among each other are put in order by the times in them.
    """
    intended: set[Operation] = set()
    ended: dict[Operation, Outcome] = {}
    for line in _outcomes(files):
        if line.outcome == Result.INTENDED:
            intended.add(line.operation)
        else:
            ended[line.operation] = line
    keys: dict[Place, KeyHistory] = {}
    for _, line, file in sorted(_events(files, ended, intended), key=lambda event: event[0]):
        place = line.account_id, line.access_key_id
        keys[place] = _after(keys.get(place), line, file, line.operation in intended)
    return sorted(keys.values(), key=lambda key: (key.last.account_id, key.last.user, key.id))


def _outcomes(files: Sequence[OutcomeFile]) -> Iterator[Outcome]:
    """Yield the lines about keys that could be named."""
    for file in files:
        for line in file.lines:
            if isinstance(line, Outcome) and line.access_key_id is not None:
                yield line


Event = tuple[tuple[datetime, bool], Outcome, OutcomeFile]


def _only_looked(line: Outcome, intended: set[Operation]) -> bool:
    """Tell whether the line is of a reactivate that never came to a call."""
    unknown = (line.action, line.outcome) == (Action.REACTIVATE, Result.UNKNOWN)
    return unknown and line.operation not in intended


def _events(
    files: Sequence[OutcomeFile], ended: dict[Operation, Outcome], intended: set[Operation]
) -> Iterator[Event]:
    """Yield each line that says something, with a sort key for the lines of one key.

    An intent that has its outcome isn't a separate event. But its place in the file may order
    other lines better than the clocks do.
    """
    step = timedelta(microseconds=1)
    known: dict[Operation, datetime] = {}
    for last_time in (False, True):
        for file in files:
            latest: dict[Place, datetime] = {}
            for line in _outcomes([file]):
                operation, place = line.operation, (line.account_id, line.access_key_id)
                closed = line.outcome == Result.INTENDED and operation in ended
                end = ended[operation] if closed else line
                if (end.action, end.outcome) not in SAYS or _only_looked(end, intended):
                    continue
                time = outcomes.instant(end)
                if place in latest:
                    time = max(time, latest[place] + step)
                if not closed and line.outcome != Result.INTENDED:
                    time = max(time, known.get(operation, time))
                latest[place] = time
                if closed:
                    known[operation] = time
                elif last_time:
                    # At the same time, an intent comes after the end of another operation.
                    yield (time, line.outcome == Result.INTENDED), line, file


def _after(
    before: KeyHistory | None, line: Outcome, file: OutcomeFile, intended: bool
) -> KeyHistory:
    """Return what is known of a key after one more line."""
    says, time = SAYS[line.action, line.outcome], outcomes.instant(line)
    disabled = before.disabled if before else None
    doubt = ""
    if (
        says is Says.WAS_ACTIVE
        and before
        and before.may_lag(time)
        and (before.ours or before.doubt)
    ):
        doubt = f"a {_who(line)} at {utc(time)} saw it Active, and IAM's listings lag behind"
    elif says is Says.IN_DOUBT:
        what = "was cut short" if line.outcome == Result.INTENDED else "got no answer"
        reason = line.reason and f" ({one_line(line.reason)})"
        doubt = f"the {_who(line)} at {utc(time)} {what}{reason}"
        if line.action == Action.REACTIVATE:
            doubt += "; if it switched the key on, somebody has switched it off since"
        else:
            doubt += "; if it didn't switch the key off, somebody else has"
    elif says is Says.OURS and not intended:
        doubt = "that run's intents don't name it, so the pack may not have disabled it"
    elif says is Says.OURS and file.problem:
        doubt = f"the end of {one_line(file.path)}, which mentions it, can't be read"
    if line.action == Action.DISABLE and says in (Says.OURS, Says.IN_DOUBT):
        disabled = time
    return KeyHistory(line, time, file.path, says is Says.OURS and not doubt, doubt, disabled)


def _who(line: Outcome) -> str:
    return Action.REACTIVATE if line.action == Action.REACTIVATE else "run"
