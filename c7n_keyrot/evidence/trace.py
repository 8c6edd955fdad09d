# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a statement stands on: a line of a file that a run left, and its hash."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from c7n_keyrot.evidence.files import DamagedFileError, content, raw_lines

LONGEST = 32 << 20  # bytes of a line, as of a summary
SUMMARY = "keyrot-summary"


@dataclass(frozen=True)
class Source:
    """Where a statement stands.

    :ivar file: below the folder that OUTPUT_DIR is in, with ``/``.
    :ivar line: its number, from 1; None: the whole file, uncompressed.
    :ivar sha256: hex; of the line with its line break, as ``sed -n Np FILE | sha256sum`` has it.
    """

    file: str
    line: int | None
    sha256: str


def of_run(folder: Path, above: Path, run: str) -> Source | None:
    """Return the line of a run's summary; None if it can't be found any more.

    :param folder: of the policy; ``above`` is the folder that OUTPUT_DIR is in.
    """
    words = f'"run": "{run}"'.encode()
    found: Source | None = None
    for path in sorted(folder.glob(f"{SUMMARY}*.jsonl*")):
        with suppress(OSError, DamagedFileError):
            for number, line in enumerate(raw_lines(path, LONGEST), 1):
                if words in line:
                    found = Source(shown(path, above), number, hashlib.sha256(line).hexdigest())
    return found


def shown(path: Path, above: Path) -> str:
    """Return a path as reports show it: a report is passed on, so no folder of a machine."""
    return path.relative_to(above).as_posix()


def holds(source: Source, above: Path) -> bool:
    """Tell whether a line, or a file, still is what a report stands on."""
    path = Path(source.file)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return False  # a report may have been written by anybody
    path = above / path
    try:
        if source.line is None:
            return hashlib.sha256(content(path)).hexdigest() == source.sha256
        for number, line in enumerate(raw_lines(path, LONGEST), 1):
            if number == source.line:
                return hashlib.sha256(line).hexdigest() == source.sha256
    except (OSError, DamagedFileError):
        pass
    return False
