# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``report --verify``: are the lines that a report stands on still as they were?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import counted, one_line
from c7n_keyrot.evidence.files import DamagedFileError, existing, mapping, read_json
from c7n_keyrot.evidence.trace import Source, holds

MOST_NAMED = 20


def verify(report: Path, dirs: Sequence[str]) -> int:
    """Compare a report's sources with the folders; print what differs, and return the exit code.

    :param report: of ``--format json``.
    :raises CommandError: it isn't one, or a folder isn't there.
    """
    above = [existing(folder).parent for folder in dirs]
    keys = _keys(report)
    sources = dict.fromkeys(filter(None, map(_source, keys)))
    wrong = [one for one in sources if not any(holds(one, folder) for folder in above)]
    for source in wrong[:MOST_NAMED]:
        where = f"line {source.line}" if source.line else "the file"
        print(f"{one_line(source.file)}: {where} isn't what the report stands on", file=sys.stderr)
    if len(wrong) > MOST_NAMED:
        print(f"... and {len(wrong) - MOST_NAMED} more", file=sys.stderr)
    without = sum(_source(key) is None for key in keys)
    print(
        f"{counted(len(keys), 'key')}: {counted(len(sources), 'source')}, "
        f"{len(sources) - len(wrong)} as they were, {len(wrong)} not; "
        f"{counted(without, 'key')} without one"
    )
    return 1 if wrong or not sources else 0


def _keys(report: Path) -> list[Mapping[str, Any]]:
    try:
        found = mapping(read_json(report)).get("keys")
    except DamagedFileError as error:
        raise CommandError(f"{report}: {error}; give a report of --format json") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise CommandError(f"{report}: it has no keys; give a report of --format json")
    return found


def _source(key: Mapping[str, Any]) -> Source | None:
    file, line, digest = (key.get(f"source_{name}") for name in ("file", "line", "sha256"))
    if not isinstance(file, str) or not isinstance(digest, str):
        return None
    return Source(file, line if type(line) is int else None, digest)
