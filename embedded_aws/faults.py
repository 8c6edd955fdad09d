# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: which calls fail and how, hooks in between, limits, listings that lag."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from embedded_aws.calls import Answer, Call, error_answer
from embedded_aws.clock import monotonic
from embedded_aws.foreign import Foreign
from embedded_aws.lag import Lag
from embedded_aws.partitions import Partition

# Not errors of AWS, but of the network.
RESET, STALL = "reset", "stall"


@dataclass
class Rule:
    """An injected fault or a hook. `hits` counts the calls it applied to; stop() ends it."""

    action: str  # a pattern: "iam.*"
    act: str | Foreign | Callable[[Call], object]  # an error, an answer, or the hook to call
    times: int | None = None  # for so many calls; None: for ever
    skip: int = 0  # after so many that match
    user: str | None = None  # only calls about this IAM user
    account: str | None = None  # only calls in this account
    when: Callable[[dict[str, Any]], bool] | None = None  # only with parameters like this
    # Of faults only:
    status: int | None = None  # the HTTP status, if not AWS's for this error
    message: str | None = None
    late: bool = False  # carry the call out first, so that only its answer is lost
    seconds: float = 3600.0  # how long a stall lasts before the connection is closed
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def stop(self) -> None:
        self.times = 0

    def take(self, call: Call) -> bool:
        """Tell whether to act on this call, and count it then."""
        if not fnmatch.fnmatchcase(call.action, self.action):
            return False
        if self.user is not None and self.user != call.user:
            return False
        if self.account is not None and self.account != call.account:
            return False
        if self.when is not None and not self.when(call.params):
            return False
        with self._lock:
            if self.skip > 0:
                self.skip -= 1
                return False
            if self.times is not None:
                if self.times <= 0:
                    return False
                self.times -= 1
            self.hits += 1
            return True


class FaultInjection:
    """The faults, hooks and limits of an ``EmbeddedAws``, for tests."""

    def __init__(self, partition: Partition) -> None:
        self.lock = threading.RLock()  # moto's backends aren't made for many threads
        self.closing = threading.Event()
        self._faults: list[Rule] = []
        self._before: list[Rule] = []
        self._after: list[Rule] = []
        self._limit: tuple[str, float] | None = None
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lag = Lag(partition)

    def fail(
        self, action: str, error: str = "Throttling", times: int | None = None, **which: Any
    ) -> Rule:
        """Answer matching calls with an error: AWS's code, or "reset" or "stall" (no answer).

        action: a pattern such as iam.GetUser or iam.*; times: for so many calls (None: for ever);
        which: the calls meant, and how, as Rule says (user, account, when, skip, late, ...).
        """
        rule = Rule(action, error, times, **which)
        self._faults.append(rule)
        return rule

    def answer(
        self,
        action: str,
        answer: Foreign | bytes,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
        late: bool = False,
        **which: Any,
    ) -> Rule:
        """Answer matching calls with something that isn't AWS's, such as a proxy's page.

        answer: one of those in ``embedded_aws.foreign``, or the bytes of a body;
        status, headers: in place of its own; late: carry the call out first;
        action, times, which: as for fail().
        """
        foreign = answer if isinstance(answer, Foreign) else Foreign(answer)
        foreign = replace(
            foreign,
            status=foreign.status if status is None else status,
            headers=foreign.headers if headers is None else headers,
        )
        rule = Rule(action, foreign, times, late=late or foreign.late, **which)
        self._faults.append(rule)
        return rule

    def lag(self, seconds: float, account: str | None = None) -> None:
        """Let ListAccessKeys show what was true so many seconds ago, as IAM's listings do.

        The listing lags behind calls that create, update or delete a key; the calls act at once.
        What a test changes without a call shows at once, unless such a call came just before.
        account: only in this one; by default in all.
        """
        self._lag.set(seconds, account)

    def before(
        self,
        action: str,
        callback: Callable[[Call], object],
        times: int | None = 1,
        **which: Any,
    ) -> Rule:
        """Run the callback when a matching call has arrived, before it does anything."""
        rule = Rule(action, callback, times, **which)
        self._before.append(rule)
        return rule

    def after(
        self,
        action: str,
        callback: Callable[[Call], object],
        times: int | None = 1,
        **which: Any,
    ) -> Rule:
        """Run the callback when a matching call has taken effect, before it is answered."""
        rule = Rule(action, callback, times, **which)
        self._after.append(rule)
        return rule

    def limit(self, calls_per_second: float | None, action: str = "iam.*") -> None:
        """Answer Throttling above so many calls a second and account (a token bucket, as AWS)."""
        self._limit = (action, calls_per_second) if calls_per_second else None
        self._buckets.clear()

    def heal(self) -> None:
        """End all faults, hooks, limits and lags."""
        self._faults, self._before, self._after, self._limit = [], [], [], None
        self._lag.end()

    # The server's side

    def _fault(
        self, environ: dict[str, Any], call: Call, fault: Rule, real: Answer | None = None
    ) -> Answer:
        if isinstance(fault.act, Foreign):
            return fault.act.answer(real)
        if fault.act == STALL:
            self.closing.wait(fault.seconds)
        if fault.act in (RESET, STALL):
            raise ConnectionResetError(f"injected: {fault.act}")
        return error_answer(environ, call, str(fault.act), fault.status, fault.message)

    def _over_limit(self, call: Call) -> bool:
        if not self._limit or not fnmatch.fnmatchcase(call.action, self._limit[0]):
            return False
        rate = self._limit[1]
        with self.lock:
            now = monotonic()
            tokens, last = self._buckets.get(call.account, (max(rate, 1.0), now))
            tokens = min(max(rate, 1.0), tokens + (now - last) * rate)
            self._buckets[call.account] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
            return tokens < 1
