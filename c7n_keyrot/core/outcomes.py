# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What was done to each key: a file of JSON lines in the output folder of every policy."""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import json
import os
import re
import stat
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path

from c7n_keyrot.core.records import VERSION, RunBegun, RunSummary
from c7n_keyrot.core.rotation import Verdict

FILE = "keyrot-outcomes.jsonl"
# The same lines, written before the first action of a policy: a run that is killed between a call
# and its outcome leaves this, so that what it did can still be found and undone.
INTENTS_FILE = "keyrot-intents.jsonl"
SUMMARY_FILE = "keyrot-summary.jsonl"
BEGUN_FILE = "keyrot-begun.jsonl"
# A line for each key that a notice names. In a file of its own: it says nothing of what the key is.
NOTIFIED_FILE = "keyrot-notified.jsonl"


class Word(str, enum.Enum):
    """A word of a closed set; as text it is the word, on every Python."""

    __str__ = str.__str__


class Action(Word):
    """What was to be done to a key."""

    DISABLE = "disable-access-key"
    DELETE = "delete-access-key"
    REACTIVATE = "reactivate"
    NOTIFY = "notify"  # in the file of notices only


class Result(Word):
    """What became of it."""

    DISABLED = "disabled"
    DELETED = "deleted"
    REACTIVATED = "reactivated"
    GONE = "gone"  # AWS proves that the key was deleted
    DENIED = "denied"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"  # the call may have taken effect, or nobody can tell where the key is
    INTENDED = "intended"  # in the file of intents only
    NOTIFIED = "notified"  # in the file of notices only


# What an AWS id can be; in a command line neither needs a quote.
ACCOUNT_ID = re.compile("[0-9]{12}")
KEY_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True)
class Outcome:
    """What happened to one key: a line of ``keyrot-outcomes.jsonl`` or ``keyrot-intents.jsonl``.

    - ``time``: when it had happened, or before it is tried; ISO 8601, UTC
    - ``account_id``, ``policy``; ``run``: Custodian's execution id
    - ``action``: what was to be done
    - ``user``; ``slot``: 1 or 2, None if it isn't known
    - ``access_key_id``: None where no key could be named
    - ``outcome``: what became of it
    - ``reason``: for people: the error's code, or why; nothing is decided by it
    - ``version``: of this list of fields; a line without one is of version 1
    - ``user_id``: AWS's id of the user, which stays when the name changes; None if it isn't known
    - ``last_rotated``, ``age_days``, ``days``, ``deadline``, ``verdict``: as the filter found the
      key, so that the line can be read alone a year later (``KeyRecord``)
    - ``owner``: the contact in the user's tags
    - ``caller``: the ARN of who ran, by GetCallerIdentity
    - ``message_id``: of a notice: SQS's (or SNS's) id of the message that names the key
    - ``tags``: of a notice: the user's tags, by which c7n-mailer finds whom to write to

    The last nine are None where they aren't known, such as in a line of an older release.
    """

    time: str
    account_id: str
    policy: str
    run: str
    action: Action
    user: str
    slot: int | None
    access_key_id: str | None
    outcome: Result
    reason: str
    version: int = VERSION
    user_id: str | None = None
    last_rotated: str | None = None
    age_days: float | None = None
    days: float | None = None
    deadline: str | None = None
    verdict: Verdict | None = None
    owner: str | None = None
    caller: str | None = None
    message_id: str | None = None
    tags: dict[str, str] | None = None

    @property
    def operation(self) -> tuple[str | None, ...]:
        """What an intent and its outcome have in common."""
        return self.run, self.action, self.account_id, self.access_key_id


# Of those fields that aren't text alone.
OLDEST = 10**8
NONE = type(None)
KINDS_OF = {
    "slot": (int, NONE),
    "version": (int,),
    **dict.fromkeys(("age_days", "days"), (int, float, NONE)),
    **dict.fromkeys(
        ("access_key_id", "user_id", "last_rotated", "deadline", "verdict", "owner", "caller"),
        (str, NONE),
    ),
    "message_id": (str, NONE),
    "tags": (dict, NONE),
}


def append(path: Path, record: Outcome | RunSummary | RunBegun) -> None:
    """Add one line, whole, whatever other runs write to the same file meanwhile.

    :raises OSError: the line could not be written.
    """
    line = json.dumps(asdict(record)).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path.name)
        # Else another run's line, half written, would look like the one below. Some file systems
        # have no locks: there an empty line may come in between, which no reader takes for a line.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A run that was killed may have left half a line; ours mustn't be appended to it.
        if os.lseek(descriptor, 0, os.SEEK_END):
            os.lseek(descriptor, -1, os.SEEK_END)
            if os.read(descriptor, 1) != b"\n":
                line = b"\n" + line
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, "no room for a whole line", path.name)
    finally:
        os.close(descriptor)


def parse(line: bytes) -> Outcome:
    """Read one line, and check each of its fields: anybody may have written it.

    :raises ValueError: it is torn, or isn't an outcome.
    """
    try:
        outcome = Outcome(**json.loads(line))
    except (TypeError, RecursionError) as error:  # not an object, or nested without end
        raise ValueError(f"not an outcome: {error}") from None
    for name, value in vars(outcome).items():
        if type(value) not in KINDS_OF.get(name, (str,)):
            raise ValueError(f"not an outcome: {name} is {value!r}")
        if isinstance(value, str):
            value.encode()  # half a surrogate pair is no text that AWS or a terminal takes
    if outcome.version != VERSION:
        raise ValueError(f"not an outcome of version {VERSION}")
    if not ACCOUNT_ID.fullmatch(outcome.account_id):
        raise ValueError("not an outcome: account_id is not an account's")
    if outcome.access_key_id is not None and not KEY_ID.fullmatch(outcome.access_key_id):
        raise ValueError("not an outcome: access_key_id is not a key's")
    if outcome.slot not in (None, 1, 2):
        raise ValueError("not an outcome: there is no such slot")
    if (outcome.action == Action.NOTIFY) != (outcome.outcome == Result.NOTIFIED):
        raise ValueError("not an outcome: only a notice is notified")
    instant(outcome)
    _check_key(outcome)
    verdict = None if outcome.verdict is None else Verdict(outcome.verdict)
    return replace(
        outcome, action=Action(outcome.action), outcome=Result(outcome.outcome), verdict=verdict
    )


def _check_key(outcome: Outcome) -> None:
    """Check what an outcome says of its key.

    :raises ValueError: a time has no zone, a number is out of range, or a tag is no text.
    """
    for text in chain.from_iterable((outcome.tags or {}).items()):
        if not isinstance(text, str):
            raise ValueError("not an outcome: a tag is no text")
        text.encode()
    for time in (outcome.last_rotated, outcome.deadline):
        if time is not None and datetime.fromisoformat(time).tzinfo is None:
            raise ValueError("not an outcome: a time of its key has no zone")
    for number in (outcome.age_days, outcome.days):
        # A whole number of JSON has as many digits as somebody likes.
        if number is not None and not abs(number) <= OLDEST:
            raise ValueError("not an outcome: a number of days is out of range")


def instant(outcome: Outcome | RunSummary | RunBegun) -> datetime:
    """Return when it happened, in UTC.

    :raises ValueError: its time can't be read, has no zone, or lies where nothing can be added.
    """
    time = datetime.fromisoformat(outcome.time)
    if time.tzinfo is None or not 1970 < time.year < 9998:
        raise ValueError("not an outcome: its time has no zone, or is out of range")
    return time.astimezone(timezone.utc)
