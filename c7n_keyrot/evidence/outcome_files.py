# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of outcomes and intents in a folder: what they contain, and what is lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import Outcome, Result
from c7n_keyrot.evidence.files import (
    Damage,
    DamagedFileError,
    Problem,
    existing,
    lost_lines,
    parsed,
    walk,
)

# A plain file, and beside it a bucket's copies: one compressed file for each run.
NAMES = tuple(name.removesuffix(".jsonl") for name in (outcomes.FILE, outcomes.INTENTS_FILE))
NOTIFIED = outcomes.NOTIFIED_FILE.removesuffix(".jsonl")
ENDINGS = (".jsonl", ".jsonl.gz")
# A line that was cut off: what follows its time, and its run.
TORN = re.compile(rb'\{"time": "[^"]*", ("account_id": .*"run": "([^"]*)".*)', re.DOTALL)


@dataclass
class OutcomeFile:
    """A file's lines in their order; what can't be read stays bytes.

    :ivar problem: why the file, or its end, isn't read; "" if it is.
    :ivar closed: whether nobody may read it, though it is a file.
    :ivar account_id: the account that its folder belongs to; "" if that isn't known.
    :ivar others: lines of other accounts, which aren't among ``lines``: how many of each.
    """

    path: Path
    lines: list[Outcome | bytes] = field(default_factory=list)
    problem: str = ""
    closed: bool = False
    account_id: str = ""
    others: Counter[str] = field(default_factory=Counter)

    @property
    def outcomes(self) -> Iterator[Outcome]:
        """The lines that can be read."""
        return (line for line in self.lines if isinstance(line, Outcome))


def read_folder(
    folder: Path, names: Iterable[str], account_id: str, problem: Problem
) -> list[OutcomeFile]:
    """Read the files of outcomes and intents in one folder, as far as they can be.

    :param names: of what is in the folder.
    :param account_id: that the folder belongs to: nobody else can be spoken for there; "" if that
        isn't known.
    :param problem: is called with all that is lost, or isn't used.
    """
    files = [
        _read(folder / name, account_id)
        for name in sorted(names)
        if name.startswith(NAMES) and name.endswith(ENDINGS)
    ]
    for damage in _damage(files):
        problem(damage)
    return files


def read_notified(
    folder: Path, names: Iterable[str], account_id: str, problem: Problem
) -> list[Outcome]:
    """Read which keys notices named, as far as that can be read; parameters as above."""
    files = [
        _read(folder / name, account_id, outcomes.parse)
        for name in sorted(names)
        if name.startswith(NOTIFIED) and name.endswith(ENDINGS)
    ]
    for damage in _damage(files):
        problem(damage)
    return [line for file in files for line in file.outcomes if line.outcome == Result.NOTIFIED]


def read_tree(root: str, owner: Callable[[Path], str], problem: Problem) -> list[OutcomeFile]:
    """Read all files of outcomes and intents below a folder.

    :param owner: tells which account a folder belongs to.
    :param problem: as for ``read_folder()``.
    :raises CommandError: there is none, or one can't be read, nor a folder: what it hides may say
        that a key isn't the pack's any more.
    """

    def stop(damage: Damage) -> None:
        raise CommandError(str(damage))

    found: list[OutcomeFile] = []
    for folder, folders, names in walk(existing(root), stop):
        found += read_folder(folder, (*names, *folders), owner(folder), problem)
    if closed := next((file for file in found if file.closed), None):
        raise CommandError(f"{closed.path}: {closed.problem}; correct that")
    if not found:
        raise CommandError(
            f"no {outcomes.FILE} anywhere below {root}: no policy with disable-access-key has "
            "acted there; name the -s of the run"
        )
    return found


def _done(line: bytes) -> Outcome:
    """Read a line about what was done to a key.

    :raises ValueError: it isn't one.
    """
    found = outcomes.parse(line)
    if found.outcome == Result.NOTIFIED:
        raise ValueError("not an outcome of a key: a notice")
    return found


def _read(path: Path, account_id: str, parse: Callable[[bytes], Outcome] = _done) -> OutcomeFile:
    file = OutcomeFile(path, account_id=account_id)
    try:
        for line in parsed(path, parse):
            if isinstance(line, Outcome) and account_id not in ("", line.account_id):
                file.others[line.account_id] += 1
                continue
            file.lines.append(line)  # keep what was read before the part that can't be
    except DamagedFileError as error:
        file.problem = str(error)
    except OSError as error:
        file.problem, file.closed = f"it can't be read: {error.strerror}", True
    return file


def _damage(files: Sequence[OutcomeFile]) -> Iterator[Damage]:
    """Yield what is lost in each file of a folder, and what isn't used."""
    for file in files:
        if file.problem:
            yield Damage(file.path, file.problem)
        if not (file.lines or file.others or file.problem):
            yield Damage(file.path, "it is empty")
        bad = [
            number
            for number, line in enumerate(file.lines, 1)
            if isinstance(line, bytes)
            and not _left_by_a_kill(file.path, line, file.lines[number:], files)
        ]
        yield from lost_lines(file.path, bad, file.others, file.account_id)


def _left_by_a_kill(
    path: Path, line: bytes, later: Sequence[Outcome | bytes], files: Sequence[OutcomeFile]
) -> bool:
    """Tell whether this is half a line of a run that was killed; then nothing is lost.

    No call followed half an intent; half an outcome has its intent in the same folder.
    """
    torn = TORN.fullmatch(line.rstrip(b"\n"))
    if not torn or torn[0].endswith(b"}"):
        return False
    if path.name.startswith(NAMES[1]):
        run = torn[2].decode(errors="replace")
        return not any(isinstance(one, Outcome) and one.run == run for one in later)
    known = torn[1].partition(b'"outcome"')[0]
    intents = (
        json.dumps(asdict(one)).encode()
        for file in files
        for one in file.outcomes
        if one.outcome == Result.INTENDED
    )
    return any(intent.partition(b", ")[2].startswith(known) for intent in intents)
