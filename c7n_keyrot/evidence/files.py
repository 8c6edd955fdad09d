# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads an output folder of Custodian, or a bucket's copy of one, whoever has written it."""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from c7n_keyrot.core import denials, outcomes
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import counted, one_line, without_paths

if TYPE_CHECKING:  # it takes long to import, and not all commands need it
    from c7n_keyrot.evidence.accounts import Account

# Bytes that are read of a file, and of the end of a log.
MOST, LOG_END = 256 << 20, 256 << 10
# Nothing marks where a run begins, so a longer break between policies separates two runs.
# Within a run there are short breaks: a slow role, a worker that starts. Two runs that are closer
# count as one: what either covered is a minute old.
BREAK = timedelta(minutes=1)
# A bucket's copy has a folder for each hour of the runs below the policy's.
# The last line of a run of ``custodian`` that failed; c7n-org mutes it.
FAILED = "Error while executing policy"
HOUR = re.compile(r"\d{4}/\d\d/\d\d/\d\d", re.ASCII)
# A folder for each run is often named so, to the minute; such an id is one if accounts.yml has it.
MINUTE = re.compile(r"20[1-4]\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([01]\d|2[0-3])[0-5]\d")
# Bounds for files that others may have written. One of our lines has some 400 bytes.
LONGEST_LINE = 64 * 1024
MOST_SHOWN = 4096
MOST_DAMAGED = 1000  # lines
MOST_DECOMPRESSED = 256 * 1024 * 1024
KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))

Line = TypeVar("Line")


class DamagedFileError(Exception):
    """A file that can't be read, or not to its end; the text says why."""


@dataclass(frozen=True)
class Damage:
    """What of an output folder can't be read, or isn't used. The reader's one report of it.

    :ivar path: the file or folder.
    :ivar what: why, in words that follow the path.
    :ivar line: the first line of the file that can't be read; None if it isn't a line.
    :ivar loses: whether what it says is lost; else somebody wrote what isn't the truth.
    :ivar above: what the text leaves out of the path: a report is passed on.
    """

    path: Path
    what: str
    line: int | None = None
    loses: bool = True
    above: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.what}"
        return text.replace(self.above, "") if self.above else text


Problem = Callable[[Damage], None]


def existing(folder: str) -> Path:
    """Return the folder that a user named as OUTPUT_DIR.

    :raises CommandError: it isn't one.
    """
    if "://" in folder:
        raise CommandError(
            f"{folder} isn't on this machine; copy it first, with aws s3 sync {folder} DIR"
        )
    if not Path(folder).is_dir():
        what = "is a file; name its folder" if Path(folder).exists() else "is not there"
        raise CommandError(f"{folder} {what}; OUTPUT_DIR is the -s of custodian run or c7n-org run")
    return Path(folder)


def walk(folder: Path, problem: Problem) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder below one, itself included, with its folders and its files, sorted.

    Links are followed, but no folder is entered twice.

    :param problem: is called with each place that can't be looked into.
    """

    def unreadable(error: OSError) -> None:
        problem(Damage(Path(error.filename), f"can't look into it: {error.strerror}"))

    seen = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        folders.sort()
        for path in (Path(parent, name) for name in (*names, *folders)):
            if path.is_symlink() and not path.exists():
                problem(Damage(path, "it links to nothing; correct or remove it"))
        yield Path(parent), list(folders), sorted(names)
        # Links can form a circle, and two of them can lead to one folder.
        for name in list(folders):
            place = os.path.realpath(Path(parent, name))
            if place in seen:
                folders.remove(name)
            seen.add(place)


def ids_of(accounts: Iterable[Account]) -> dict[str, str]:
    """Return the ids of accounts by the names of their folders; names of several have none."""
    ids: dict[str, str] = {}
    for one in filter(lambda one: one.name, accounts):
        known = ids.setdefault(one.name, one.id)
        if known != one.id:
            ids[one.name] = ""
    return {name: one for name, one in ids.items() if outcomes.ACCOUNT_ID.fullmatch(one)}


def place(path: Path) -> tuple[str, str, str]:
    """Return a folder's account and region in a tree of c7n-org, and its policy; "" for none.

    :param path: relative to OUTPUT_DIR.
    """
    parts = path.parts
    if HOUR.fullmatch("/".join(parts[-4:])):
        parts = parts[:-4]
    account, region, name = ("", "", "", *parts)[-3:]
    return account, region, name


def owner(root: Path, folder: Path, ids: Mapping[str, str]) -> str:
    """Return the account that a folder belongs to; "" if its path doesn't say.

    What is in it about another account is damage: in the bucket of Lambda's outcomes each account
    may write below its own id, and anything there. So the outermost id counts.

    :param root: OUTPUT_DIR as it was given; ``folder`` is in it.
    :param ids: of accounts.yml, by the names of folders; see ``ids_of()``.
    """
    below = folder.relative_to(root)
    for parts in ((root.name,), below.parts):
        if found := _first_id(parts, ids):
            return found
    name, _, _ = place(below)
    return ids.get(name, "") or _first_id(root.parts[::-1], ids)


def _first_id(parts: Sequence[str], ids: Mapping[str, str]) -> str:
    for part in parts:
        if outcomes.ACCOUNT_ID.fullmatch(part):
            if part in ids:
                return ids[part]
            if not MINUTE.fullmatch(part) or part in ids.values():
                return part
    return ""


def foreign(found: str, mine: str) -> str:
    """Say why what speaks of one account in the folder of another one isn't used."""
    return f"of account {found}, in a folder of account {mine}: not used"


def lost_lines(
    path: Path, bad: Sequence[int], others: Mapping[str, int], mine: str
) -> Iterator[Damage]:
    """Yield which lines of a file can't be read, and which aren't used.

    :param bad: the numbers of those that can't.
    :param others: how many are of other accounts than ``mine``, by their ids.
    """
    if bad:
        what = f"{counted(len(bad), 'line')} can't be read (the first is line {bad[0]})"
        yield Damage(path, what, bad[0])
    for account_id, count in others.items():
        what = f"{counted(count, 'line')} {foreign(account_id, mine)}"
        yield Damage(path, what, loses=False)


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
    damaged = 0
    for text in raw_lines(path, longest):
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


def raw_lines(path: Path, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """Yield each line of a file, or of a bucket's compressed copy of one; errors as above."""
    with open_regular(path) as plain:
        compressed = path.suffix == ".gz"
        file = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if compressed else plain
        yield from _bounded(file, MOST_DECOMPRESSED if compressed else float("inf"), longest)


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


def content(file: Path, most: int = MOST) -> bytes:
    """Return the content of a regular file, compressed or not; of a longer one its beginning.

    :raises OSError: it can't be opened or read.
    :raises DamagedFileError: it isn't a regular file, or can't be decompressed.
    """
    with open_regular(file) as plain:
        if file.suffix != ".gz":
            return plain.read(most)
        try:
            return gzip.GzipFile(fileobj=plain).read(most)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise DamagedFileError("it can't be decompressed to its end") from None


def read_json(file: Path) -> Any:
    """Return what a JSON file holds, compressed or not.

    :raises DamagedFileError: it can't be read; the text says why.
    """
    try:
        data = content(file, MOST + 1)
    except OSError as error:
        raise DamagedFileError(f"it can't be read: {error.strerror}") from None
    if len(data) > MOST:
        raise DamagedFileError(f"it is longer than {MOST >> 20} MB")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise DamagedFileError("it isn't JSON") from None


def last_run(times: Iterable[tuple[datetime, datetime]]) -> datetime:
    """Return when the last run began: of c7n-org or custodian, with all its policies.

    :param times: when each policy began and ended, UTC; without any it was in 1970.
    """
    begun = busy = datetime.fromtimestamp(0, timezone.utc)
    for start, end in sorted(times):
        if start > busy + BREAK:
            begun = start
        busy = max(busy, end)
    return begun


def failure(
    folder: Path, start: datetime | None, end: datetime | None, metrics: Mapping[str, float]
) -> str:
    """Say how a run that failed ended, to be read after the policy's name.

    :param start: when the run began, ``end`` when it ended; None without metadata.
    :param metrics: the run's, by name.
    """
    if start is None or end is None:
        return "left no metadata: it was stopped, or still runs"
    if "ResourceLimitExceeded" in metrics:
        return "was stopped by max-resources"
    if not metrics.get("PolicyException"):
        return "was stopped before its end, or still runs"
    error = last_error(folder, start.timestamp(), end.timestamp())
    return ended_with(error) + ("" if error else "; look at what custodian printed")


def ended_with(error: str) -> str:
    """Say that a run ended with an error, the last one in its log; "" if the log has none."""
    return f"ended with an error: {error}" if error else "ended with an error that isn't in its log"


def last_error(folder: Path, start: float, end: float) -> str:
    """Return the last error in the log of a run; "" if the log has none.

    Runs append to one log, with times in the zone of their machine. So its last line says which
    lines are of this run, and the file's own time whether that line is.

    :param start: when the run began, ``end`` when it ended; seconds since 1970, UTC.
    """
    for name in ("custodian-run.log", "custodian-run.log.gz"):
        with suppress(OSError, DamagedFileError):
            file = folder / name
            if file.stat().st_mtime < start - 1:
                continue
            lines = content(file)[-LOG_END:].decode("utf-8", "replace").splitlines()
            times = [_time(line) for line in lines]
            known = [when for when in times if when is not None]
            begun = known[-1] - (end - start) - 1 if known else 0.0
            for number in reversed(range(len(lines))):
                when, (_, error, what) = times[number], lines[number].partition(" - ERROR - ")
                if when is None or when < begun or not error:
                    continue
                # Custodian's own last line of a run has the cause in the traceback after it.
                cause = _raised(lines[number + 1 :]) if what == FAILED else one_line(what)
                if cause:
                    return without_paths(cause)
    return ""


def _raised(lines: list[str]) -> str:
    """Return what the last traceback of these lines ends with; "" if there is none.

    Quoted are Custodian's own errors and ours; others may have words of an answer.
    """
    starts = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent")]
    after = lines[starts[-1] + 1 :] if starts else []
    name, _, text = next((line for line in after if line[:1].strip()), "").partition(": ")
    if name.startswith("c7n.exceptions."):
        return one_line(text)
    return denials.of_boto(text) or one_line(name.rpartition(".")[2])


def _time(line: str) -> float | None:
    try:
        return float(time.mktime(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S")))
    except (ValueError, OverflowError):
        return None


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}
