# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""How one run of one policy asks AWS: its session, its IAM client, many calls side by side."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

from c7n.utils import local_session

from c7n_keyrot.aws import calls, gate, own_keys
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.own_keys import Own
from c7n_keyrot.custodian.log import Log
from c7n_keyrot.custodian.state import LeftOut, ReportInUse

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Calls:
    """The calls to AWS of a run, with the credentials of its policy."""

    def __init__(self, manager: Any, log: Log) -> None:
        self._manager, self._log = manager, log
        self._client: Any = None
        self._has_asked = False
        self._caller: str | None = None

    @property
    def session(self) -> Any:
        """The policy's boto3 session in this thread; it may have to take a role for it.

        :raises CallError: there are no credentials, or the role can't be taken.
        """
        with gate.as_call_error("sts:AssumeRole"):
            return local_session(self._manager.session_factory)

    @property
    def client(self) -> Any:
        """The IAM client of the policy's session, made once: it is for all threads.

        :raises CallError: there are no credentials.
        """
        if self._client is None:
            self._client = gate.client_of(self.session)
        return self._client

    @property
    def caller(self) -> str | None:
        """The ARN of who runs, asked once for a session; None if that can't be found out."""
        if not self._has_asked:
            # Else each thread would take the role anew.
            self._has_asked = True
            with contextlib.suppress(CallError):
                self._caller = own_keys.caller_of(self.session)
        return self._caller

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
            lambda done, total: self._log.write(f"{what}: {done} of {total}", logging.INFO),
            self._manager.executor_factory,
        )

    def last_used(self, key_id: str) -> tuple[datetime | None, str | None, str | None]:
        """Return a key's last use by IAM's GetAccessKeyLastUsed: date (UTC), service, region.

        :raises CallError: the call fails, or there is no such key.
        """
        answer = calls.call(self.client, "get_access_key_last_used", AccessKeyId=key_id)
        answer = answer["AccessKeyLastUsed"]
        used: datetime | None = answer.get("LastUsedDate")
        if used is None:
            return None, None, None
        return used.astimezone(timezone.utc), answer.get("ServiceName"), answer.get("Region")

    def last_used_if_there(self, key_id: str) -> datetime | None:
        """Return when a key was used last (UTC); None if it wasn't, or if there is no such key.

        :raises CallError: the call fails.
        """
        try:
            return self.last_used(key_id)[0]
        except CallError as error:
            if error.gone:
                return None
            raise


class OwnKeys:
    """The keys that the run itself works with: none of them is ever touched.

    :ivar withheld: those that the filters have selected all the same, by user name.
    """

    def __init__(self, manager: Any, report: ReportInUse, left: LeftOut, log: Log) -> None:
        self._manager, self._report, self._left, self._log = manager, report, left, log
        self._own: Own | None = None  # asked for once it is needed
        self.withheld: dict[str, list[dict[str, Any]]] = {}

    def has(self, name: str, key_id: str) -> bool:
        """Tell whether the run may work with this key itself, so that it must not be changed.

        :raises PolicyExecutionError: that can't be found out.
        """
        try:
            if self._own is None:
                with gate.as_call_error("the run's own credentials"):
                    session = self._manager.session_factory(assume=False)
                    self._own = own_keys.of(session)
        except CallError as error:
            raise self._log.stop(
                "it can't be found out which access key the run itself works with, so none is "
                f"touched: {error}"
            ) from None
        return self._own.has(self._report.account_id, name, key_id)

    def withhold(self, name: str, keys: Sequence[dict[str, Any]]) -> None:
        """Note the keys of a user that the filters select, and that the run works with."""
        self.withheld[name] = list(keys)

    def skip(self, name: str, slot: int, key_id: str) -> None:
        """Note, and log, that a key is skipped since the run works with it itself."""
        self._left.own(name, slot)
        self._log.once(
            f"user {name!r}: key {key_id} is skipped, since the run itself works with it: start "
            "it with a role, or rotate this key"
        )
