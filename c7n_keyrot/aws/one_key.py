# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""One access key as AWS has it now, and what a call that was to change it came to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from c7n_keyrot.aws import listings, settings
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.core.outcomes import Result
from c7n_keyrot.core.text import one_line

GONE = "the key was deleted"
NOT_FOUND = "AWS doesn't find the key under its user's name: it was deleted, or the user renamed"
MORE_LOOKS = 5  # within settings.LAG


def outcome_of(error: CallError) -> Result:
    """Return the outcome for a key whose call failed without any effect."""
    return Result.DENIED if error.denied else Result.FAILED


def unknown(error: CallError) -> str:
    """Return the reason of the outcome ``unknown``."""
    return f"it may have taken effect ({error.reason})"


def looks() -> Iterator[None]:
    """Yield at once, and then a few times more, less and less often, for ``settings.LAG``."""
    yield
    for number in range(MORE_LOOKS):
        time.sleep(settings.LAG * 2**number / (2**MORE_LOOKS - 1))
        yield


@dataclass(frozen=True)
class OneKey:
    """Where to look for an access key.

    :ivar client: an IAM client of the key's account.
    :ivar user: the name of the key's user.
    :ivar user_id: ``UserId`` of the user, read earlier; None if it isn't known.
    """

    client: Any
    id: str
    user: str
    user_id: str | None = None

    def live(self) -> dict[str, Any] | None:
        """Return the key's entry in the user's listing; None if the user has no such key.

        :raises CallError: the call fails, or there is no such user.
        """
        keys = listings.live_keys(self.client, self.user)
        return next((key for key in keys if key["AccessKeyId"] == self.id), None)

    def status(self) -> str | None:
        """Return the key's status as of now; None if the user has no such key.

        :raises CallError: the call fails, or there is no such user.
        """
        key = self.live()
        return None if key is None else str(key["Status"])

    def settled(self, wanted: str | None) -> str | None:
        """Wait for a status for as long as IAM's listings may lag; return the status seen last.

        :param wanted: the status; None for a key that isn't listed.
        :returns: None as soon as the user has no such key, whatever is wanted.
        :raises CallError: the call fails, or there is no such user.
        """
        status = None
        for _ in looks():
            status = self.status()
            if status is None or status == wanted:
                break
        return status

    def missing(self, advice: str = "") -> tuple[Result, str]:
        """Return outcome and reason of a key that AWS doesn't find under its user's name.

        :param advice: what to do if its user has another name now.
        """
        try:
            found = listings.whereabouts(self.client, self.id, self.user, self.user_id)
        except CallError as error:
            return Result.UNKNOWN, f"{NOT_FOUND} ({error})"
        if found.is_gone:
            return Result.GONE, GONE
        if found.user and found.user != self.user:
            renamed = f"its user's name is {one_line(found.user, 128)!r} now"
            return Result.UNKNOWN, f"{NOT_FOUND}: {renamed}{advice and f'; {advice}'}"
        return Result.UNKNOWN, NOT_FOUND

    def after_lost_answer(
        self, lost: CallError, again: Callable[[], bool], done: Result, wanted: str | None
    ) -> tuple[Result, str, CallError]:
        """Find out what became of a change whose answer was lost: it may have taken effect.

        It is made again, which changes nothing if it took effect; then the key is looked at. A
        listing proves the new status only: the old one may be IAM's lag.

        :param again: makes the call again, and tells whether that proves it.
        :param done: the outcome if the change took effect.
        :param wanted: the key's status then; None for a key that is deleted.
        :returns: outcome, reason, and the error that was met last.
        """
        took_effect = done, f"the answer was lost ({lost.reason})", lost
        error = lost
        try:
            if again():
                return took_effect
        except CallError as second:
            # NoSuchEntity proves nothing: the key may be there under another name of its user.
            error = second
        try:
            status = self.settled(wanted)
        except CallError as third:
            error = third
        else:
            if status is None:
                outcome, reason = self.missing()
                if outcome is Result.GONE:
                    return took_effect if wanted is None else (outcome, reason, error)
            elif status == wanted:
                return took_effect
        return Result.UNKNOWN, unknown(error), error
