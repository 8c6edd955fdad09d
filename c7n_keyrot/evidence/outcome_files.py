# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of outcomes in a folder: where they are, what they contain, and what is lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import Outcome, Result
from c7n_keyrot.core.text import counted
from c7n_keyrot.evidence.files import DamagedFileError, existing, foreign, lines_of, walk

# A plain file, and beside it a bucket's copies: one compressed file for each run.
NAMES = tuple(name.removesuffix(".jsonl") for name in (outcomes.FILE, outcomes.INTENTS_FILE))
ENDINGS = (".jsonl", ".jsonl.gz")
# A line that was cut off: what follows its time, and its run.
TORN = re.compile(rb'\{"time": "[^"]*", ("account_id": .*"run": "([^"]*)".*)', re.DOTALL)
LOST = "restore the file or fetch it again, or ask CloudTrail before you switch on a key of it"


@dataclass
class OutcomeFile:
    """A file's lines in their order; what can't be read stays bytes.

    :ivar problem: why the file, or its end, isn't read; "" if it is.
    :ivar account_id: the account that its folder belongs to; "" if that isn't known.
    :ivar others: lines of other accounts, which aren't among ``lines``: how many of each.
    """

    path: Path
    lines: list[Outcome | bytes] = field(default_factory=list)
    problem: str = ""
    account_id: str = ""
    others: Counter[str] = field(default_factory=Counter)


def find(folder: str) -> list[Path]:
    """Return all below the folder that is named like a file of outcomes or intents.

    :raises CommandError: there is none, or a folder can't be read: what it hides may say that a key
        isn't the pack's any more.
    """

    def stop(line: str) -> None:
        raise CommandError(line)

    found = [
        parent / name
        for parent, folders, names in walk(existing(folder), stop)
        for name in (*names, *folders)
        if name.startswith(NAMES) and name.endswith(ENDINGS)
    ]
    if not found:
        raise CommandError(
            f"no {outcomes.FILE} anywhere below {folder}: no policy with disable-access-key has "
            "acted there; name the -s of the run"
        )
    return sorted(found)


def read(paths: Iterable[Path], owner: Callable[[Path], str] = lambda _: "") -> list[OutcomeFile]:
    """Read the files as far as they can be.

    :param owner: tells which account a folder belongs to. Nobody else can be spoken for there.
    :raises CommandError: one may not be read.
    """
    files = []
    for path in paths:
        file = OutcomeFile(path, account_id=owner(path.parent))
        files.append(file)
        try:
            for line in lines_of(path):
                if isinstance(line, Outcome) and file.account_id not in ("", line.account_id):
                    file.others[line.account_id] += 1
                    continue
                file.lines.append(line)  # keep what was read before the part that can't be
        except DamagedFileError as error:
            file.problem = str(error)
        except OSError as error:
            raise CommandError(f"can't read {path}: {error.strerror}; correct that") from None
    return files


def damage(files: Sequence[OutcomeFile]) -> list[str]:
    """Print what is lost in each file."""
    intents = [
        json.dumps(asdict(line)).encode()
        for file in files
        for line in file.lines
        if isinstance(line, Outcome) and line.outcome == Result.INTENDED
    ]
    found = []
    for file in files:
        if file.problem:
            found.append(f"{file.path}: {file.problem}; what it says is lost: {LOST}")
        for account_id, count in file.others.items():
            what = f"{counted(count, 'line')} {foreign(account_id, file.account_id)}"
            found.append(f"{file.path}: {what}; ask who wrote it")
        if not (file.lines or file.others or file.problem):
            found.append(f"{file.path}: it is empty; what it said is lost: {LOST}")
        bad = [
            number
            for number, line in enumerate(file.lines)
            if isinstance(line, bytes)
            and not _left_by_a_kill(file.path, line, file.lines[number + 1 :], intents)
        ]
        if bad:
            found.append(
                f"{file.path}: {counted(len(bad), 'line')} can't be read (the first is line "
                f"{bad[0] + 1}); what they say is lost: {LOST}"
            )
    return found


def _left_by_a_kill(
    path: Path, line: bytes, later: Sequence[Outcome | bytes], intents: Sequence[bytes]
) -> bool:
    """Tell whether this is half a line of a run that was killed; then nothing is lost.

    No call followed half an intent; half an outcome has its intent.
    """
    torn = TORN.fullmatch(line.rstrip(b"\n"))
    if not torn or torn[0].endswith(b"}"):
        return False
    if path.name.startswith(NAMES[1]):
        run = torn[2].decode(errors="replace")
        return not any(isinstance(one, Outcome) and one.run == run for one in later)
    known = torn[1].partition(b'"outcome"')[0]
    return any(intent.partition(b", ")[2].startswith(known) for intent in intents)
