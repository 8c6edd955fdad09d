# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run says of itself: the summary, which is the message as well, and its subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from c7n_keyrot.cli.runner.left import Deeds, line_of
from c7n_keyrot.core.text import one_line

MOST_KEYS = 1000
MOST_LINES = 200  # of failures
# Bytes. A message of SNS has at most 256 KB, its subject 100 characters.
LARGEST = 240_000


def subject(mode: str, left: Deeds, failed: Sequence[str]) -> str:
    return f"c7n-keyrot {mode}: {left.figures}, steps failed: {len(failed)}"[:100]


def text(mode: str, where: str, left: Deeds, failed: Sequence[str], more: str = "") -> str:
    """Return the summary.

    :param where: the place of the outputs.
    :param more: a sentence about the run as a whole.
    """
    lines = [
        f"c7n-keyrot, {mode}: {left.figures}, steps failed: {len(failed)}.",
        f"Outputs: {where}",
        *([more] if more else []),
        *_first([f"FAILED: {one_line(line, 1000)}" for line in failed], "failures: failed.txt"),
        *(f"NOT KNOWN: {line}" for line in left.unknown),
        *_keys(left),
    ]
    whole, size = list[str](), 0
    for number, line in enumerate(lines):
        size += len(line.encode()) + 1
        if size > LARGEST:
            whole.append(f"... and {len(lines) - number} more lines: outcomes.txt has the keys")
            break
        whole.append(line)
    return "".join(f"{line}\n" for line in whole)


def _first(lines: Sequence[str], what: str) -> Iterator[str]:
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"... and {len(lines) - MOST_LINES} more {what}"


def _keys(left: Deeds) -> Iterator[str]:
    """Yield a line a key, and how many more there are of each kind."""
    room = MOST_KEYS
    for words, some in groupby(map(line_of, left.outcomes), key=_kind):
        lines = list(some)
        yield from lines[:room]
        if len(lines) > room:
            yield f"... and {len(lines) - room} more {words}: outcomes.txt has them all"
        room = max(room - len(lines), 0)


def _kind(line: str) -> str:
    return "in doubt" if line.startswith("in doubt ") else line.partition(" ")[0]
