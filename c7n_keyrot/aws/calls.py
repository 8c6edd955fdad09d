# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A call to AWS, and many side by side: the only way in which this package calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from datetime import datetime
from typing import Any, TypeVar

from c7n_keyrot.aws import settings
from c7n_keyrot.aws.errors import (
    CallError,
    ErrorKind,
    NotAwsError,
)
from c7n_keyrot.aws.gate import as_call_error
from c7n_keyrot.aws.permit import Permit, check_call
from c7n_keyrot.aws.settings import log

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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
    operation = operation_of(method)
    model = getattr(getattr(client, "meta", None), "service_model", None)
    service = getattr(model, "endpoint_prefix", "iam")
    name = f"{service}:{operation}"
    check_call(name, permit)
    with as_call_error(name, operation, tries):
        answer: dict[str, Any] = getattr(client, method)(**params)
        for path, kind in NEEDED.get(operation, ()):
            if not all(isinstance(value, kind) for value in _at(answer, path.split("."))):
                raise NotAwsError(what=f"an answer without {path}")
    return answer


def operation_of(method: str) -> str:
    """Return AWS's name of what a method of a boto3 client calls, such as ``GetUser``."""
    return "".join(word.capitalize() for word in method.split("_"))


def _at(value: Any, path: list[str]) -> Iterator[Any]:
    """Yield what stands at a path; None where it leads nowhere."""
    if not path:
        yield value
    elif path[0] == "*":
        for entry in value if isinstance(value, list) else [None]:
            yield from _at(entry, path[1:])
    else:
        yield from _at(value.get(path[0]) if isinstance(value, dict) else None, path[1:])


def side_by_side(
    function: Callable[[Item], Answer],
    items: Iterable[Item],
    progress: Callable[[int, int], None],
    executor: Callable[..., Executor] = ThreadPoolExecutor,
) -> list[tuple[Item, Answer | None, CallError | None]]:
    """Call the function on all items side by side; what goes wrong with one stops no other.

    :param progress: called every two seconds with how many are done, and how many there are.
    :returns: (item, result, error or None) for each item, in the order of the items.
    """
    items = list(items)
    futures: list[Future[Answer]] = []
    with executor(max_workers=settings.WORKERS) as pool:
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


def _result(future: Future[Answer]) -> tuple[Answer | None, CallError | None]:
    error = future.exception()
    if error is None:
        return future.result(), None
    if isinstance(error, CallError):
        return None, error
    if not isinstance(error, Exception):
        raise error
    log.debug("a fault of c7n-keyrot", exc_info=error)
    name = type(error).__name__
    return None, CallError(
        "c7n-keyrot", ErrorKind.OTHER, name, f"{name}, an internal error: report it"
    )
