# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What one run of one policy knows: the clock, the users, their live keys, and what went wrong.

The source, the filters and the actions of a policy share it; ``lifecycle`` keeps it on
Custodian's own objects.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any, TypeVar

from c7n.exceptions import PolicyExecutionError
from c7n.utils import local_session

from c7n_keyrot.aws import calls, gate, listings, own_keys
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.own_keys import Own
from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.aws.settings import log
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.credential_report import Report
from c7n_keyrot.core.records import Why
from c7n_keyrot.custodian import output

LIVE_KEYS = "c7n:AccessKeys"

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def is_serverless(manager: Any) -> bool:
    """Tell whether the policy acts in Lambda only."""
    mode = manager.data.get("mode") or {}
    return bool(mode.get("type", "pull") != "pull")


class PolicyRun:
    """The state of one run of one policy; ``lifecycle.run_of(manager)`` makes or finds it."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.begin()

    def begin(self) -> None:
        """Begin another run: forget all that an earlier one has found."""
        self.execution_id = self.manager.ctx.execution_id
        self.execution = object()  # an event's Lambda filters before it has an id
        self.now = datetime.now(timezone.utc).replace(microsecond=0)
        self.failures: list[str] = []
        # Users whose keys, tags or a filter's answer couldn't be read: no key of theirs is ever
        # acted on.
        self.unread: set[str] = set()
        # Nobody has these names now: the users were deleted, or renamed.
        self.not_found: set[str] = set()
        # As IAM has them in this run, by name: users, tags included, and their keys.
        self.users: dict[str, dict[str, Any]] = {}
        self.live: dict[str, list[dict[str, Any]]] = {}
        self.account_id: str = self.manager.config.account_id
        # Why no outcome can be written any more, by any action of the policy.
        self.unwritable = ""
        self.writing = threading.Lock()
        # Whether the intents of all its key actions are kept, and those whose turn hasn't come.
        self.prepared = False
        self.open_intents: dict[tuple[str | None, ...], outcomes.Outcome] = {}
        # What an action of the policy has done to a key last, by its id.
        self.acted_on: dict[str | None, outcomes.Result] = {}
        # Why candidates aren't matched, by user and slot, and exemptions that hold, by user.
        self.left: dict[tuple[str, int], Why] = {}
        self.exempt_until: dict[str, str] = {}
        self.used_report: Report | None = None
        # Exemption tags that have ended or can't be read, by user: the notice tells of them.
        self.ended_exemptions: dict[str, dict[str, str]] = {}
        # Users of the account, and those left to look at, where our source was asked.
        self.population: int | None = None
        self.candidates: int | None = None
        # What each key action has done, by outcome.
        self.outcomes: Counter[str] = Counter()
        self.logged: set[str] = set()
        # The keys that the run works with, once asked for; those of them that it would have taken.
        self._own: Own | None = None
        self.withheld: dict[str, list[dict[str, Any]]] = {}
        self._client: Any = None

    # -- AWS

    @property
    def session(self) -> Any:
        """The policy's boto3 session in this thread; it may have to take a role for it.

        :raises CallError: there are no credentials, or the role can't be taken.
        """
        with gate.as_call_error("sts:AssumeRole"):
            return local_session(self.manager.session_factory)

    @property
    def client(self) -> Any:
        """The IAM client of the policy's session, made once: it is for all threads.

        :raises CallError: there are no credentials.
        """
        if self._client is None:
            self._client = gate.client_of(self.session)
        return self._client

    def each(
        self, what: str, function: Callable[[Item], Answer], items: Iterable[Item]
    ) -> list[tuple[Item, Answer | None, CallError | None]]:
        """Call the function on all items side by side; an error of one stops no other.

        :param what: names the work in the progress line, which comes every two seconds.
        :returns: (item, result, error or None) for each item, in the order of the items.
        """
        items = list(items)
        if not items:
            return []
        try:
            gate.renew(self.client)
        except CallError as error:
            return [(item, None, error) for item in items]
        return calls.side_by_side(
            function,
            items,
            lambda done, total: self.log(f"{what}: {done} of {total}", logging.INFO),
            self.manager.executor_factory,
        )

    def read_users(self, users: Iterable[dict[str, Any]], again: bool = False) -> None:
        """Read the users that aren't read yet in this run, tags included, side by side.

        Afterwards each of them is in ``users``, in ``unread`` or in ``not_found``. What Custodian's
        cache or AWS Config says of a user may be of before; a name may be another's.
        """
        names = {user["UserName"] for user in users} - self.unread
        if not again:
            names -= self.users.keys()

        def get_user(name: str) -> dict[str, Any]:
            user: dict[str, Any] = calls.call(self.client, "get_user", UserName=name)["User"]
            return user

        for name, user, error in self.each("users read", get_user, sorted(names)):
            if user is not None:
                self.users[name] = user
            elif error is not None and error.gone:
                self.users.pop(name, None)
                self.mark_not_found(name)
            else:
                # Without tags nobody knows whether the user is exempt: reported, never acted on.
                self.mark_unread(name, f"user and tags not read, {error}")

    def load_live_keys(self, users: Iterable[dict[str, Any]]) -> None:
        """List the keys of the users that aren't listed yet in this run, side by side.

        Afterwards each of them has an entry in ``live``, or in ``unread`` or in ``not_found``.
        """
        names = {user["UserName"] for user in users} - self.live.keys() - self.unread

        def list_keys(name: str) -> list[dict[str, Any]]:
            return listings.live_keys(self.client, name)

        for name, keys, error in self.each("access keys listed", list_keys, sorted(names)):
            if keys is not None:
                self.live[name] = keys
            elif error is not None and error.gone:
                self.mark_not_found(name)
            else:
                self.mark_unread(name, f"keys not read, {error}")

    def last_used(self, key_id: str) -> tuple[datetime | None, str | None, str | None]:
        """Return a key's last use by IAM's GetAccessKeyLastUsed: date (UTC), service, region."""
        answer = calls.call(self.client, "get_access_key_last_used", AccessKeyId=key_id)
        answer = answer["AccessKeyLastUsed"]
        used: datetime | None = answer.get("LastUsedDate")
        if used is None:
            return None, None, None
        return used.astimezone(timezone.utc), answer.get("ServiceName"), answer.get("Region")

    # -- what it may do, and what is kept of it

    def permit(self) -> Permit | None:
        """Return what every call needs that changes or sends something; None in a dry run."""
        options = self.manager.ctx.options
        # Twice, since a change of one line mustn't let a dry run act.
        return None if options.dryrun else Permit(options)

    def append(self, name: str, line: outcomes.Outcome) -> bool:
        """Add a line to a file on disk. Once that fails no further key is touched."""
        with self.writing:
            try:
                if not self.unwritable:
                    outcomes.append(output.path_of(self.manager.ctx, name), line)
                    return True
            except OSError as error:
                self.unwritable = f"{name} can't be written ({error.strerror or error})"
        return False

    def append_anywhere(self, line: outcomes.Outcome) -> bool:
        """Add a line to the outcomes, or else to the intents: readers take both.

        :returns: whether it is where it belongs.
        """
        if self.append(outcomes.FILE, line):
            return True
        with contextlib.suppress(OSError):
            path = output.path_of(self.manager.ctx, outcomes.INTENTS_FILE)
            outcomes.append(path, line)
        return False

    # -- the run's own keys

    def is_own(self, name: str, key_id: str) -> bool:
        """Tell whether the run may work with this key itself, so that it must be left alone.

        :raises PolicyExecutionError: that can't be found out.
        """
        try:
            if self._own is None:
                with gate.as_call_error("the run's own credentials"):
                    session = self.manager.session_factory(assume=False)
                    self._own = own_keys.of(session)
        except CallError as error:
            raise self.stop(
                "it can't be found out which access key the run itself works with, so none is "
                f"touched: {error}"
            ) from None
        return self._own.has(self.account_id, name, key_id)

    def leave_own(self, name: str, slot: int, key_id: str) -> None:
        """Note, and say, that a key is left alone since the run works with it itself."""
        self.left[name, slot] = Why.OWN
        self.log_once(
            f"user {name!r}: key {key_id} is left alone, since the run itself works with it: start "
            "it with a role, or rotate this key"
        )

    def last_used_if_there(self, key_id: str) -> datetime | None:
        """Return when a key was used last; None if it wasn't, or if there is no such key."""
        try:
            return self.last_used(key_id)[0]
        except CallError as error:
            if error.gone:
                return None
            raise

    # -- what went wrong

    def log_once(self, line: str, level: int = logging.WARNING) -> None:
        """Log a line once in a run, however many filters and policies come across it."""
        if line not in self.logged:
            self.logged.add(line)
            self.log(line, level)

    def log(self, line: str, level: int, to: logging.Logger = log) -> None:
        """Log a line with its account and policy."""
        account = self.account_id or "unknown"
        to.log(level, "account %s (policy %s): %s", account, self.policy, line)

    @property
    def policy(self) -> str:
        """The policy's name."""
        return str(self.manager.data.get("name"))

    def note(self, name: str, slot: int, why: Why) -> None:
        """Note why a candidate isn't matched; the first reason counts."""
        self.left.setdefault((name, slot), why)

    def mark_not_found(self, name: str) -> None:
        """Note that no user has the name now, so nothing is known of the keys."""
        self.not_found.add(name)
        self.log_once(
            f"user {name!r} isn't found: deleted or renamed after the credential report; whether "
            "the keys are active isn't known until a newer report"
        )

    def mark_unread(self, name: str, reason: str) -> None:
        """Note that a user couldn't be read, or asked about; the user stays, without a key."""
        self.unread.add(name)
        self.fail(f"user {name!r}: {reason}")

    def fail(self, line: str) -> None:
        """Note a failure: all users are still tried, then the run ends with an error."""
        self.failures.append(line)
        self.log(line, logging.ERROR)

    def error(self) -> PolicyExecutionError:
        """Return the error that the failures of this run add up to."""
        more = len(self.failures) - 1
        return PolicyExecutionError(self.failures[0] + (f" (and {more} more)" if more else ""))

    def stop(self, line: str) -> PolicyExecutionError:
        """Log what makes it senseless to go on, and return the error to raise."""
        self.log(line, logging.ERROR)
        return PolicyExecutionError(line)
