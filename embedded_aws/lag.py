# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""IAM is eventually consistent: for a while after a write, ListAccessKeys shows the old state."""

from __future__ import annotations

import copy
from typing import Any

from embedded_aws.calls import Call
from embedded_aws.clock import monotonic
from embedded_aws.partitions import Partition

WRITES = ("iam.CreateAccessKey", "iam.UpdateAccessKey", "iam.DeleteAccessKey")


class Lag:
    """Listings of access keys that lag so many seconds behind writes."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self._seconds: dict[str | None, float] = {}  # by account; None: all others
        # By account and user: when something was written, and the keys just before.
        self._before: dict[tuple[str, str], list[tuple[float, list[Any]]]] = {}

    def set(self, seconds: float, account: str | None) -> None:
        self._seconds[account] = seconds

    def end(self) -> None:
        """Stop all lag from now on."""
        self._seconds.clear()
        self.catch_up()

    def catch_up(self) -> None:
        """Make the listings show the current state."""
        self._before.clear()

    def note(self, call: Call) -> None:
        """Remember the keys as they are before a write."""
        if call.action not in WRITES or call.user is None or not self._of(call.account):
            return
        user = self.partition.iam(call.account).users.get(call.user)
        if user is not None:
            keys = [copy.copy(key) for key in user.access_keys]
            self._before.setdefault((call.account, call.user), []).append((monotonic(), keys))

    def listed(self, account: str, name: str, keys: list[Any]) -> list[Any]:
        """Return the keys that a listing shows now, if `keys` is the true state."""
        since = monotonic() - self._of(account)
        for written, before in self._before.get((account, name), ()):
            if written > since:
                return before
        return keys

    def _of(self, account: str) -> float:
        return self._seconds.get(account, self._seconds.get(None, 0.0))
