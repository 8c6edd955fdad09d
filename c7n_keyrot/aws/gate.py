# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one gate to AWS: every call of this package, made by ``calls.call()``, goes through it.

It knows an answer of AWS from anything else, such as a proxy's page; retries what is not AWS's, as
it does for an error of the server; and ends in one class of error with one short line that never
holds the body of an answer. Nothing here knows Custodian.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from botocore.config import Config
from botocore.exceptions import ClientError

from c7n_keyrot.aws import models, settings
from c7n_keyrot.aws.errors import (
    THROTTLED,
    CallError,
    ErrorKind,
    NotAwsError,
    OutageError,
    code_of_json,
    explained,
    may_have_arrived,
)
from c7n_keyrot.core.text import one_line


class OutageGuard:
    """Ends the retries of all side-by-side calls once none has succeeded for PATIENCE seconds."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.last_success, self.over = time.monotonic(), False
        self.last_failure = ""

    def succeeded(self) -> None:
        self.last_success = time.monotonic()

    def check(self, **_: Any) -> None:
        if self.over or time.monotonic() - self.last_success > settings.PATIENCE:
            self.over = True
            last = self.last_failure and f"; the last try: {self.last_failure}"
            raise OutageError(f"AWS answered no call for {settings.PATIENCE:.0f} s{last}")


class _Current(threading.local):
    """The thread's current call, for the gate below botocore's retries."""

    def __init__(self) -> None:
        self.operation, self.lost, self.tries, self.most = "", False, 0, 0


_current = _Current()


class _LastTryError(Exception):
    """Keeps botocore from trying again; ``error`` is what the last try ended with."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Gate:
    """Stands before a client's HTTP session, and hands on only answers that are AWS's."""

    def __init__(self, session: Any, protocol: str, guard: OutageGuard) -> None:
        self.session, self.protocol, self.guard = session, protocol, guard

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def send(self, request: Any) -> Any:
        """Send one try of a call.

        :raises NotAwsError: what answered isn't AWS.
        """
        # Again, once botocore's rate limiter has let it wait its turn.
        self.guard.check()
        _current.tries += 1
        is_last = _current.tries == _current.most
        try:
            answer = self.session.send(request)
            code = self._code(answer)
        except Exception as error:
            _current.lost |= may_have_arrived(error)
            self.guard.last_failure = explained("", error).reason
            if is_last:
                raise _LastTryError(error) from None
            raise
        _current.lost |= answer.status_code >= 500 and code not in THROTTLED
        if answer.status_code < 500 and code not in THROTTLED:
            self.guard.succeeded()
            return answer
        self.guard.last_failure = one_line(code, 64)
        if is_last:
            raise _LastTryError(ClientError({"Error": {"Code": code}}, _current.operation))
        return answer

    def _code(self, answer: Any) -> str:
        """Return the code of an error of AWS; "" for an answer that isn't an error."""
        body: bytes = answer.content
        status: int = answer.status_code
        if self.protocol != "query":
            is_object = body.lstrip().startswith(b"{")
            if is_object and status < 300:
                return ""
            code = code_of_json(body, answer.headers)
            if not is_object or not code:
                raise NotAwsError(what=_looks_like(body, status))
            return code
        try:
            root = ElementTree.fromstring(body)  # noqa: S314 - botocore reads it so, too
        except (ElementTree.ParseError, ValueError):
            raise NotAwsError(what=_looks_like(body, status)) from None
        name = _local(root)
        if status < 300 and name == f"{_current.operation}Response":
            if _text(root, "ResponseMetadata", "RequestId"):
                return ""
        elif status >= 300 and name == "ErrorResponse":
            code = _text(root, "Error", "Code")
            if code and _text(root, "RequestId"):
                return code
        raise NotAwsError(what=_looks_like(body, status))


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _text(element: Any, *path: str) -> str:
    for name in path:
        element = next((child for child in element if _local(child) == name), None)
        if element is None:
            return ""
    return (element.text or "").strip()


def _looks_like(body: bytes, status: int) -> str:
    """Say what a body is, without quoting it: it may hold a secret."""
    start = body[:2000].lstrip().lower()
    if not start:
        what = "empty answer"
    elif start.startswith((b"<!doctype html", b"<html")) or b"<html" in start:
        what = "HTML page"
    elif start.startswith((b"{", b"[")):
        what = "JSON"
    elif start.startswith(b"<"):
        what = "XML that is cut or isn't AWS's"
    else:
        what = "not XML"
    return f"{what}, HTTP {status}"


def client(
    session: Any, service: str = "iam", *, region: str | None = None, config: Config | None = None
) -> Any:
    """Make a boto3 client whose every answer is checked before botocore reads it.

    :param session: a boto3 session.
    :param config: timeouts and retries; by default those for many calls side by side.
    :raises CallError: it can't be made, such as for a profile that doesn't exist.
    :seam: botocore.endpoint:Endpoint
    """
    with as_call_error(f"{service}:client"):
        models.share(session)
        try:
            made = session.client(service, region_name=region, config=config or CALLS)
        except ValueError as error:
            if not str(error).startswith("Invalid endpoint"):
                raise
            what = "AWS_ENDPOINT_URL isn't a URL"
            raise CallError(f"{service}:client", ErrorKind.OTHER, "Endpoint", what) from None
    endpoint = getattr(made, "_endpoint", None)
    if endpoint is not None:  # not so for a client that a test made
        guard = OutageGuard()
        model = made.meta.service_model
        # botocore has no public place below its retries that sees every answer.
        endpoint.http_session = _Gate(endpoint.http_session, model.protocol, guard)
        made.meta.events.register(f"request-created.{service}", guard.check)
        made.keyrot_guard = guard
    return made


def client_of(session: Any) -> Any:
    """Return the session's IAM client, made once: it is for all threads.

    It is kept on the session, and goes with it: a c7n-org worker sees many.
    """
    if "keyrot" not in vars(session):
        session.keyrot = client(session)
    return session.keyrot


def renew(client: Any) -> None:
    """Begin a new piece of work: reset the outage timer."""
    guard: OutageGuard | None = getattr(client, "keyrot_guard", None)
    if guard is not None:
        guard.renew()


CALLS = Config(
    retries={"mode": "adaptive", "total_max_attempts": settings.TRIES},
    max_pool_connections=settings.WORKERS,
    connect_timeout=10,
    read_timeout=20,
)


@contextmanager
def as_call_error(name: str, operation: str = "", tries: int = 0) -> Iterator[None]:
    """Turn whatever is raised inside into a CallError.

    :param name: the call for the error's line, such as ``iam:GetUser``.
    """
    before = dict(vars(_current))
    vars(_current).update(operation=operation, lost=False, tries=0, most=tries)
    try:
        yield
    except CallError:
        raise
    except Exception as error:  # noqa: BLE001 - the promise is a CallError for whatever it is
        known = error.error if isinstance(error, _LastTryError) else error
        # Not chained: a parser's error quotes the answer, which may hold a secret.
        raise explained(name, known, _current.lost) from None
    finally:
        vars(_current).update(before)
