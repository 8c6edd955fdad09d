# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The lines on disk about what one run of one policy does to keys: its intents and its outcomes."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.outcomes import Outcome, Result
from c7n_keyrot.custodian import output


class Journal:
    """The intents and outcomes of a run; actions write them from many threads.

    :ivar unwritable: why no line can be kept any more, so no further key may be touched; else "".
    :ivar prepared: the intents of all key actions of the policy are kept.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._writing = threading.Lock()
        self._open: dict[tuple[str | None, ...], Outcome] = {}
        self.unwritable = ""
        self.prepared = False

    @property
    def open_intents(self) -> list[Outcome]:
        """The intents of keys whose turn hasn't come."""
        return list(self._open.values())

    def prepare(self, lines: Sequence[Outcome]) -> bool:
        """Keep all intents of the policy, before its first action.

        :returns: whether that has worked; if not, ``unwritable`` says why.
        """
        self.prepared = all(self._append(outcomes.INTENTS_FILE, line) for line in lines)
        self._open = {line.operation: line for line in lines}
        return self.prepared

    def refuse(self, why: str) -> None:
        """Note why the intents aren't kept after all, so that no key is touched."""
        self.prepared, self.unwritable = False, why

    def close(self, line: Outcome) -> None:
        """Note that the turn of an intent has come."""
        self._open.pop(line.operation, None)

    def record(self, line: Outcome) -> bool:
        """Add a line to the outcomes, or else to the intents: readers take both.

        :returns: whether it is where it belongs.
        """
        if self._append(outcomes.FILE, line):
            return True
        with contextlib.suppress(OSError):
            outcomes.append(output.path_of(self._manager.ctx, outcomes.INTENTS_FILE), line)
        return False

    def times_disabled(self) -> Counter[str]:
        """Return how often each key was deactivated by earlier runs into this folder, by its id.

        Of a bucket nothing is read: the count is too low there, as it is without those files.
        """
        found: Counter[str] = Counter()
        path = output.path_of(self._manager.ctx)
        with contextlib.suppress(OSError), path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    one = outcomes.parse(line)
                    if one.outcome == Result.DISABLED and one.access_key_id:
                        found[one.access_key_id] += 1
        return found

    def notified(self, line: Outcome) -> None:
        """Add a line about a notice that was sent."""
        self._append(outcomes.NOTIFIED_FILE, line)

    def _append(self, name: str, line: Outcome) -> bool:
        """Add a line to a file on disk. Once that fails no further key is touched."""
        with self._writing:
            try:
                if not self.unwritable:
                    outcomes.append(output.path_of(self._manager.ctx, name), line)
                    return True
            except OSError as error:
                self.unwritable = f"{name} can't be written ({error.strerror or error})"
        return False
