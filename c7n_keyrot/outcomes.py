# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What was done to each key: a file of JSON lines in the output folder of every policy."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

FILE = "keyrot-outcomes.jsonl"
# The same lines, written just before a key is touched: a run that is killed between the call and
# its outcome leaves this, so that what it did can still be found and undone.
INTENTS_FILE = "keyrot-intents.jsonl"

DISABLED = "disabled"
DELETED = "deleted"
REACTIVATED = "reactivated"
GONE = "gone"
DENIED = "denied"
FAILED = "failed"
SKIPPED = "skipped"
# The call may have taken effect, and AWS couldn't be asked.
UNKNOWN = "unknown"
INTENDED = "intended"


@dataclass(frozen=True)
class Outcome:
    """What happened to one key. ``time`` is ISO 8601 in UTC, ``run`` Custodian's execution id.

    ``access_key_id`` is None where no key could be named; ``reason`` says why, or is the error's
    code.
    """

    time: str
    account_id: str
    policy: str
    run: str
    action: str
    user: str
    slot: int | None
    access_key_id: str | None
    outcome: str
    reason: str


def append(path: Path, outcome: Outcome) -> None:
    """Add one line, whole, whatever other runs write to the same file meanwhile.

    :raises OSError: the line could not be written.
    """
    line = json.dumps(asdict(outcome)).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path.name)
        # Else another run's line, half written, would look like the one below. Some file systems
        # have no locks: there an empty line may come in between, which no reader takes for a line.
        with contextlib.suppress(OSError):
            if fcntl:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A run that was killed may have left half a line; ours mustn't be glued to it.
        if os.lseek(descriptor, 0, os.SEEK_END):
            os.lseek(descriptor, -1, os.SEEK_END)
            if os.read(descriptor, 1) != b"\n":
                line = b"\n" + line
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, "no room for a whole line", path.name)
    finally:
        os.close(descriptor)


def read(path: Path) -> Iterator[Outcome]:
    """Read the outcomes of a file in the order in which they happened; torn lines are skipped."""
    with path.open("rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                yield parse(line)


def parse(line: bytes) -> Outcome:
    """Read one line.

    :raises ValueError: it is torn, or not one of ours.
    """
    try:
        outcome = Outcome(**json.loads(line))
    except (TypeError, RecursionError) as error:  # no object, or nested without end
        raise ValueError(f"no outcome: {error}") from None
    for name, value in vars(outcome).items():
        kinds = {"slot": (int, type(None)), "access_key_id": (str, type(None))}.get(name, (str,))
        if type(value) not in kinds:
            raise ValueError(f"no outcome: {name} is {value!r}")
    return outcome
