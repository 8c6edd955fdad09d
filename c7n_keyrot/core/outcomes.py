# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What was done to each key: a file of JSON lines in the output folder of every policy."""

from __future__ import annotations

import contextlib
import enum
import errno
import gzip
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from c7n_keyrot.core.records import VERSION, RunSummary

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

FILE = "keyrot-outcomes.jsonl"
# The same lines, written before the first action of a policy: a run that is killed between a call
# and its outcome leaves this, so that what it did can still be found and undone.
INTENTS_FILE = "keyrot-intents.jsonl"
SUMMARY_FILE = "keyrot-summary.jsonl"


class Word(str, enum.Enum):
    """A word of a closed set; as text it is the word, on every Python."""

    __str__ = str.__str__


class Action(Word):
    """What was to be done to a key."""

    DISABLE = "disable-access-key"
    DELETE = "delete-access-key"
    REACTIVATE = "reactivate"


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


# What an AWS id can be; in a command line neither needs a quote.
ACCOUNT_ID = re.compile("[0-9]{12}")
KEY_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

# Bounds for files that others may have written. A line of ours has some 400 bytes.
LONGEST_LINE = 64 * 1024
MOST_SHOWN = 4096
MOST_DAMAGED = 1000  # lines
MOST_DECOMPRESSED = 256 * 1024 * 1024
Line = TypeVar("Line")
KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))


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

    @property
    def operation(self) -> tuple[str | None, ...]:
        """What an intent and its outcome have in common."""
        return self.run, self.action, self.account_id, self.access_key_id


# Of those fields that aren't text alone.
KINDS_OF = {
    "slot": (int, type(None)),
    "access_key_id": (str, type(None)),
    "version": (int,),
    "user_id": (str, type(None)),
}


def append(path: Path, record: Outcome | RunSummary) -> None:
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
    """Read the outcomes of a file in the order in which they happened; damaged lines are skipped.

    :raises OSError: it can't be opened or read.
    :raises DamagedFileError: as ``lines()`` does.
    """
    return (line for line in lines(path) if isinstance(line, Outcome))


class DamagedFileError(Exception):
    """A file that can't be read, or not to its end; the text says why."""


def lines(path: Path) -> Iterator[Outcome | bytes]:
    """Read a file, or a bucket's compressed copy of one, whoever has written it.

    :returns: its outcomes in their order, and the beginning of each line that isn't one.
    :raises OSError: it can't be opened or read.
    :raises DamagedFileError: as ``parsed()`` does.
    """
    return parsed(path, parse)


def parsed(
    path: Path, parse: Callable[[bytes], Line], longest: int = LONGEST_LINE
) -> Iterator[Line | bytes]:
    """Read each line of a file, or of a bucket's compressed copy of one.

    :param parse: reads one line, or raises ``ValueError``.
    :param longest: bytes; a longer line isn't read.
    :returns: what the lines hold, and the beginning of each line that can't be read.
    :raises OSError: it can't be opened or read.
    :raises DamagedFileError: it isn't a regular file; or its end, after what is returned, can't be
        read.
    """
    with open_regular(path) as plain:
        compressed = path.suffix == ".gz"
        file = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if compressed else plain
        damaged = 0
        for text in _bounded(file, MOST_DECOMPRESSED if compressed else float("inf"), longest):
            try:
                yield parse(text)
            except ValueError:
                if not text.strip():
                    continue
                damaged += 1
                if damaged > MOST_DAMAGED:
                    what = f"more than {MOST_DAMAGED} of its lines can't be read"
                    raise DamagedFileError(f"{what}, so the rest isn't") from None
                yield text[:MOST_SHOWN]


def _bounded(file: BinaryIO, left: float, longest: int) -> Iterator[bytes]:
    """Yield each line of a file; of one that is too long something that can't be parsed.

    :param left: bytes that are read at most.
    :param longest: bytes that a line has at most.
    """
    begins = True
    try:
        while text := file.readline(longest):
            ends = text.endswith(b"\n")
            if begins:
                yield text if ends or len(text) < longest else b"too long: " + text
            begins = ends
            left -= len(text)
            if left < 0:
                what = f"it is longer than {MOST_DECOMPRESSED >> 20} MB"
                raise DamagedFileError(f"{what}, so the rest isn't read")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DamagedFileError("it can't be decompressed to its end") from None


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file; a FIFO would keep its reader waiting.

    :raises OSError: it can't be opened.
    :raises DamagedFileError: it isn't a regular file.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        mode = os.fstat(descriptor).st_mode  # another one may have got the name meanwhile
        if stat.S_ISREG(mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    kind = next((word for test, word in KINDS if test(mode)), "a device")
    raise DamagedFileError(f"it is {kind}, not a regular file")


def parse(line: bytes) -> Outcome:
    """Read one line, and check each of its fields: anybody may have written it.

    :raises ValueError: it is torn, or not one of ours.
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
    instant(outcome)
    return replace(outcome, action=Action(outcome.action), outcome=Result(outcome.outcome))


def instant(outcome: Outcome | RunSummary) -> datetime:
    """Return when it happened, in UTC.

    :raises ValueError: its time can't be read, has no zone, or lies where nothing can be added.
    """
    time = datetime.fromisoformat(outcome.time)
    if time.tzinfo is None or not 1970 < time.year < 9998:
        raise ValueError("not an outcome: its time has no zone, or is out of range")
    return time.astimezone(timezone.utc)
