# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: which calls fail and how, hooks in between, limits, and AWS's own errors."""

from __future__ import annotations

import fnmatch
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from embedded_aws.clock import monotonic

# The HTTP status of each error that AWS answers with; everything else is a 400.
STATUS = {
    "AccessDenied": 403,
    "AccessDeniedException": 403,
    "ExpiredToken": 403,
    "InvalidClientTokenId": 403,
    "SignatureDoesNotMatch": 403,
    "NoSuchEntity": 404,
    "ReportInProgress": 404,
    "LimitExceeded": 409,
    "ReportExpired": 410,
    "ReportNotPresent": 410,
    "InternalFailure": 500,
    "ServiceFailure": 500,
    "ServiceUnavailable": 503,
    "RequestLimitExceeded": 503,
}
MESSAGES = {
    "Throttling": "Rate exceeded",
    "ExpiredToken": "The security token included in the request is expired",
    "InvalidClientTokenId": "The security token included in the request is invalid.",
    "ReportInProgress": "Report generation in progress",
    "ReportExpired": "Report expired",
    "ReportNotPresent": "Credential report not present",
}
# Not errors that AWS answers with, but what a network does to the connection.
RESET, STALL = "reset", "stall"

# Status line, headers, body.
Answer = tuple[str, list[tuple[str, str]], bytes]


@dataclass(frozen=True)
class Call:
    """A call as it arrived. `user` is the IAM user it is about, also where only a key is named."""

    time: float
    account: str
    action: str  # iam.GetUser
    params: dict[str, Any]
    user: str | None
    principal: str  # the access key id that signed it


@dataclass
class Rule:
    """An injected fault or a hook. `hits` counts the calls it applied to; stop() ends it."""

    action: str  # a pattern: "iam.*"
    act: str | Callable[[Call], object]  # an error, or the hook to call
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
        """Whether this call is one to act on; counts it if so."""
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
    """The faults, hooks and limits of an ``EmbeddedAws``: this is its side that tests use."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # moto's backends aren't made for many threads
        self.closing = threading.Event()
        self._faults: list[Rule] = []
        self._before: list[Rule] = []
        self._after: list[Rule] = []
        self._limit: tuple[str, float] | None = None
        self._buckets: dict[str, tuple[float, float]] = {}

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
        """End all faults, hooks and limits."""
        self._faults, self._before, self._after, self._limit = [], [], [], None

    # The server's side

    def _fault(self, environ: dict[str, Any], call: Call, fault: Rule) -> Answer:
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


def error_answer(
    environ: Mapping[str, Any],
    call: Call,
    code: str,
    status: int | None = None,
    message: str | None = None,
) -> Answer:
    """An error as AWS words it, in the protocol of the call."""
    number = status or STATUS.get(code, 400)
    text = message or MESSAGES.get(code)
    if text is None and code.startswith("AccessDenied"):
        wanted = call.action.replace(".", ":", 1)
        text = (
            f"User: arn:aws:iam::{call.account}:user/administrator is not authorized to perform:"
            f" {wanted} because no identity-based policy allows the {wanted} action"
        )
    text = text or f"An injected {code}"
    reason = {403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}.get(number, "Error")
    line = f"{number} {reason}"
    if "HTTP_X_AMZ_TARGET" in environ:
        answer = json.dumps({"__type": f"com.amazonaws#{code}", "message": text}).encode()
        headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-ErrorType", code)]
        return line, headers, answer
    side = "Receiver" if number >= 500 else "Sender"
    xml = (
        f"<ErrorResponse><Error><Type>{side}</Type><Code>{escape(code)}</Code>"
        f"<Message>{escape(text)}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
    )
    return line, [("Content-Type", "text/xml")], xml.encode()
