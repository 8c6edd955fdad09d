# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The users whom one run of one policy reads, and their keys, as IAM has them now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from c7n_keyrot.aws import calls, listings
from c7n_keyrot.custodian.log import Log
from c7n_keyrot.custodian.run_calls import Calls


class Users:
    """Users and keys that were read in this run; nothing of it comes out of a cache.

    :ivar known: users by name, tags included.
    :ivar live: their keys, as ListAccessKeys gives them, by user name.
    :ivar unread: users whose keys, tags or a filter's answer couldn't be read: none of their keys
        is ever acted on.
    :ivar not_found: names that nobody has now: the users were deleted, or renamed.
    """

    def __init__(self, calls: Calls, log: Log) -> None:
        self._calls, self._log = calls, log
        self.known: dict[str, dict[str, Any]] = {}
        self.live: dict[str, list[dict[str, Any]]] = {}
        self.unread: set[str] = set()
        self.not_found: set[str] = set()

    def read(self, users: Iterable[dict[str, Any]], again: bool = False) -> None:
        """Read the users that aren't read yet in this run, tags included, side by side.

        Afterwards each of them is in ``known``, in ``unread`` or in ``not_found``. What
        Custodian's cache or AWS Config has of a user may be out of date; a name may be another's.
        """
        names = {user["UserName"] for user in users} - self.unread
        if not again:
            names -= self.known.keys()

        def get_user(name: str) -> dict[str, Any]:
            user: dict[str, Any] = calls.call(self._calls.client, "get_user", UserName=name)["User"]
            return user

        for name, user, error in self._calls.each("users read", get_user, sorted(names)):
            if user is not None:
                self.known[name] = user
            elif error is not None and error.gone:
                self.known.pop(name, None)
                self._mark_not_found(name)
            else:
                # Without tags nobody knows whether the user is exempt: reported, never acted on.
                self.mark_unread(name, f"user and tags not read, {error}")

    def load_live_keys(self, users: Iterable[dict[str, Any]]) -> None:
        """List the keys of the users that aren't listed yet in this run, side by side.

        Afterwards each of them has an entry in ``live``, or in ``unread`` or in ``not_found``.
        """
        names = {user["UserName"] for user in users} - self.live.keys() - self.unread

        def list_keys(name: str) -> list[dict[str, Any]]:
            return listings.live_keys(self._calls.client, name)

        for name, keys, error in self._calls.each("access keys listed", list_keys, sorted(names)):
            if keys is not None:
                self.live[name] = keys
            elif error is not None and error.gone:
                self._mark_not_found(name)
            else:
                self.mark_unread(name, f"keys not read, {error}")

    def tags(self, name: str) -> list[dict[str, str]]:
        """Return a user's tags; none of a user who isn't read."""
        tags: list[dict[str, str]] = self.known.get(name, {}).get("Tags", [])
        return tags

    def mark_unread(self, name: str, reason: str) -> None:
        """Note that a user couldn't be read, or asked about; the user stays, without a key."""
        self.unread.add(name)
        self._log.fail(f"user {name!r}: {reason}")

    def _mark_not_found(self, name: str) -> None:
        self.not_found.add(name)
        self._log.once(
            f"user {name!r} isn't found: deleted or renamed after the credential report; whether "
            "the keys are active isn't known until a newer report"
        )
