# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one gate to AWS: every call of this package goes through ``call()``.

It knows an answer of AWS from anything else, such as a proxy's page; retries what is not AWS's, as
it does for an error of the server; and ends in one class of error with one short line that never
holds the body of an answer. Nothing here knows Custodian.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from xml.etree import ElementTree

from botocore.config import Config
from botocore.exceptions import ClientError

from c7n_keyrot import service_models
from c7n_keyrot.call_errors import (
    THROTTLED,
    CallError,
    Kind,
    NotAwsError,
    OutageError,
    code_of_json,
    explained,
    may_have_arrived,
    one_line,
)
from c7n_keyrot.permit import Permit, check_call

# What callers take from here of the other room; all else below is for them, too.
__all__ = ["CallError", "Kind", "one_line"]

log = logging.getLogger("custodian.keyrot")

Item = TypeVar("Item")
Result = TypeVar("Result")


def setting(name: str, default: float, most: float = float("inf")) -> float:
    """Return a number > 0 out of the environment; the default, and a line, for anything else."""
    text = os.environ.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        log.error("%s=%r in the environment must be a number > 0; using %g", name, text, default)
        return default
    if value > most:
        log.error("%s=%r in the environment must be at most %g; using that", name, text, most)
    return min(value, most)


# At 30 ms a call more than 24 side by side gain little; see benchmarks/RESULTS.md.
WORKERS = max(1, int(setting("C7N_KEYROT_WORKERS", 24, most=200)))
# Seconds; a fault that stays must not keep a run, and those behind it, waiting for ever.
PATIENCE = setting("C7N_KEYROT_PATIENCE", 45)
# Seconds; IAM's listings lag behind its writes, so for so long one that shows the state of before
# is asked for again.
LAG = setting("C7N_KEYROT_LAG", 10, most=600)

# What an answer must have to be AWS's: botocore reads a well-formed page as one without members.
NEEDED: dict[str, tuple[tuple[str, type | tuple[type, ...]], ...]] = {
    "GenerateCredentialReport": (("State", str),),
    "GetCredentialReport": (("Content", (bytes, str)), ("GeneratedTime", datetime)),
    "GetUser": (("User.UserName", str), ("User.CreateDate", datetime)),
    "ListAccessKeys": (
        ("AccessKeyMetadata.*.AccessKeyId", str),
        ("AccessKeyMetadata.*.Status", str),
        ("AccessKeyMetadata.*.CreateDate", datetime),
    ),
    # Without it "never used" looks the same as an answer that lacks something.
    "GetAccessKeyLastUsed": (("AccessKeyLastUsed.ServiceName", str),),
    "GetCallerIdentity": (("Account", str), ("Arn", str)),
    "AssumeRole": (
        ("Credentials.AccessKeyId", str),
        ("Credentials.SecretAccessKey", str),
        ("Credentials.SessionToken", str),
        ("Credentials.Expiration", datetime),
    ),
    "GetQueueUrl": (("QueueUrl", str),),
    "LookupEvents": (("Events", list), ("Events.*.EventTime", datetime)),
    "GetFindings": (("Findings", list), ("Findings.*.Id", str), ("Findings.*.GeneratorId", str)),
    "BatchImportFindings": (("FailedCount", int),),
}


# -- the client


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
        if self.over or time.monotonic() - self.last_success > PATIENCE:
            self.over = True
            last = self.last_failure and f"; the last try: {self.last_failure}"
            raise OutageError(f"AWS answered no call for {PATIENCE:.0f} s{last}")


class _Current(threading.local):
    """The call that a thread is at, for the gate below botocore's retries."""

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
        """Return the code of an error of AWS; "" for an answer that is none."""
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
    """Say what a body is, in words of ours: its own may hold a secret."""
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
        what = "no XML"
    return f"{what}, HTTP {status}"


def client(
    session: Any, service: str = "iam", *, region: str | None = None, config: Config | None = None
) -> Any:
    """Make a boto3 client whose every answer is looked at before botocore reads it.

    :param session: a boto3 session.
    :param config: timeouts and retries; by default those for many calls side by side.
    :raises CallError: it can't be made, such as for a profile that isn't there.
    """
    with gate(f"{service}:client"):
        service_models.share(session)
        made = session.client(service, region_name=region, config=config or CALLS)
    endpoint = getattr(made, "_endpoint", None)
    if endpoint is not None:  # not so in a test's client of its own
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
    """Begin a new piece of work: what was before doesn't count for its patience."""
    guard: OutageGuard | None = getattr(client, "keyrot_guard", None)
    if guard is not None:
        guard.renew()


CALLS = Config(
    retries={"mode": "adaptive", "total_max_attempts": 8},
    max_pool_connections=WORKERS,
    connect_timeout=10,
    read_timeout=20,
)


# -- a call, and what its error means


def call(
    client: Any, method: str, *, tries: int = 0, permit: Permit | None = None, **params: Any
) -> dict[str, Any]:
    """Call AWS; the only way in which this package does.

    :param method: a method of a boto3 client, such as ``get_user``.
    :param tries: how many at most, if fewer than the client makes by itself.
    :param permit: what each call needs that isn't harmless.
    :returns: the answer, which has all that ``NEEDED`` lists.
    :raises CallError: for whatever goes wrong, and nothing else.
    """
    operation = "".join(word.capitalize() for word in method.split("_"))
    model = getattr(getattr(client, "meta", None), "service_model", None)
    service = getattr(model, "endpoint_prefix", "iam")
    name = f"{service}:{operation}"
    check_call(name, permit)
    with gate(name, operation, tries):
        answer: dict[str, Any] = getattr(client, method)(**params)
        for path, kind in NEEDED.get(operation, ()):
            if not all(isinstance(value, kind) for value in _at(answer, path.split("."))):
                raise NotAwsError(what=f"an answer without {path}")
    return answer


def _at(value: Any, path: list[str]) -> Iterator[Any]:
    """Yield what stands at a path; None where it leads nowhere."""
    if not path:
        yield value
    elif path[0] == "*":
        for entry in value if isinstance(value, list) else [None]:
            yield from _at(entry, path[1:])
    else:
        yield from _at(value.get(path[0]) if isinstance(value, dict) else None, path[1:])


@contextmanager
def gate(name: str, operation: str = "", tries: int = 0) -> Iterator[None]:
    """Turn whatever is raised inside into a CallError.

    :param name: the call for the error's line, such as ``iam:GetUser``.
    """
    before = dict(vars(_current))
    vars(_current).update(operation=operation, lost=False, tries=0, most=tries)
    try:
        yield
    except CallError:
        raise
    except Exception as error:
        known = error.error if isinstance(error, _LastTryError) else error
        # Not chained: a parser's error quotes the answer, which may hold a secret.
        raise explained(name, known, _current.lost) from None
    finally:
        vars(_current).update(before)


# -- many calls


def side_by_side(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    progress: Callable[[int, int], None],
    executor: Callable[..., Executor] = ThreadPoolExecutor,
) -> list[tuple[Item, Result | None, CallError | None]]:
    """Call the function on all items side by side; what goes wrong with one stops no other.

    :param progress: called every two seconds with how many are done, and how many there are.
    :returns: (item, result, error or None) for each item, in the order of the items.
    """
    items = list(items)
    futures: list[Future[Result]] = []
    with executor(max_workers=WORKERS) as pool:
        try:
            futures += (pool.submit(function, item) for item in items)
            pending = set(futures)
            while pending:
                _, pending = wait(pending, timeout=2)
                if pending:
                    progress(len(items) - len(pending), len(items))
        finally:
            # After Ctrl-C it must stop; the executor would do everything that waits.
            for future in futures:
                future.cancel()
    return [(item, *_result(future)) for item, future in zip(items, futures, strict=True)]


def _result(future: Future[Result]) -> tuple[Result | None, CallError | None]:
    error = future.exception()
    if error is None:
        return future.result(), None
    if isinstance(error, CallError):
        return None, error
    if not isinstance(error, Exception):
        raise error
    log.debug("a fault of c7n-keyrot", exc_info=error)
    name = type(error).__name__
    return None, CallError("c7n-keyrot", Kind.OTHER, name, f"{name}, a fault of its own: report it")
