# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a call, or answers in AWS's place: as exceptions, and as HTTP answers."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

# Stands in every answer that isn't AWS's, and must never come out of the package.
SECRET = "planted+SECRET/wJalrXUtnFEMI"
URL = "https://iam.amazonaws.com/"

# AWS's own errors after which everybody knows that the call took no effect.
REFUSED = {"AccessDenied": 403, "Throttling": 400, "ExpiredToken": 403, "LimitExceeded": 409}
BROKEN = {"ServiceFailure": 500, "ServiceUnavailable": 503}
# Nobody can tell by these whether the call took effect.
LOST = ("ServiceFailure", "ServiceUnavailable", "reset", "timeout", "parser", "key", "http")
NOT_SENT = "no connection"

PAGE = (
    f"<!DOCTYPE html>\n<html><head><meta charset=utf-8><title>Sign in</title></head>"
    f"<body><p>{SECRET}<br></body></html>"
)
XHTML = (
    '<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Error</title>'
    f"</head><body><p>{SECRET}</p></body></html>"
)
FORGED = (
    "<ErrorResponse><Error><Code>NoSuchEntity\nERROR forged</Code>"
    f"<Message>{SECRET}</Message></Error></ErrorResponse>"
)
# AWS's own, but to another call.
ANOTHER = (
    f"<GetGroupResponse><GetGroupResult><Id>{SECRET}</Id></GetGroupResult><ResponseMetadata>"
    "<RequestId>of-another</RequestId></ResponseMetadata></GetGroupResponse>"
)
# By name: (status, body). "cut" and "nameless" are made of the true answer.
PAGES: dict[str, tuple[int, bytes]] = {
    "page 200": (200, PAGE.encode()),
    "page 403": (403, PAGE.encode()),
    "page 407": (407, PAGE.encode()),
    "page 502": (502, PAGE.encode()),
    "xhtml 200": (200, XHTML.encode()),
    "xhtml 503": (503, XHTML.encode()),
    "moved": (302, b""),
    "nothing": (200, b""),
    "no content": (204, b""),
    "ok": (200, b"<ok/>"),
    "json": (200, f'{{"token": "{SECRET}"}}'.encode()),
    "garbage": (200, b"\x1f\x8b\x08" + bytes(range(256)) + SECRET.encode()),
    "other": (200, f"<AResponse><AResult><Id>{SECRET}</Id></AResult></AResponse>".encode()),
    "another's": (200, ANOTHER.encode()),
    "forged": (404, FORGED.encode()),
    "half": (200, f"<AResponse><AResult><SecretAccessKey>{SECRET}</Sec".encode()),
    "cut": (200, b""),
    "nameless": (200, b""),
}


@dataclass(frozen=True)
class Fault:
    """What happens to calls, ``after`` they took effect or before.

    ``skip`` of them are answered first; then it happens ``times`` times, or for ever (None).
    """

    what: str
    after: bool = False
    times: int | None = None
    skip: int = 0

    @property
    def is_lost(self) -> bool:
        """Nobody can tell by it whether the call took effect."""
        return self.what in LOST or self.what in PAGES

    def __str__(self) -> str:
        return f"{self.what}{' after' if self.after else ''} x {self.times or 'ever'}"


def random_fault(random: Random, *, change: bool, wire: bool) -> Fault:
    """A fault of a call that changes something, or reads it."""
    if wire and random.random() < 0.6:
        what = random.choice(list(PAGES))
    elif random.random() < (0.25 if change else 0.4):
        what = random.choice([*REFUSED, NOT_SENT])
    else:
        more = [] if wire or change else ["members", "members"]
        what = random.choice([*(LOST[:4] if wire else LOST), *more])
    fault = Fault(what)
    times = random.choice([None, None, 1, 2, 3])
    if wire:
        # A client of ours makes eight tries, or three, or two.
        times = random.choice([None, 1, 2, 3, 7, 8, 10])
    after = change and fault.is_lost and random.random() < 0.5
    # Users' keys are listed more than once.
    return Fault(what, after, times, 0 if change else random.choice([0, 0, 1, 2]))


class NoSuchEntity(ClientError):
    """IAM's NoSuchEntityException, by which some callers know it."""


def error(code: str, operation: str, status: int = 400) -> ClientError:
    """An error of AWS, as botocore raises it."""
    made = NoSuchEntity if code == "NoSuchEntity" else ClientError
    answer = {
        "Error": {"Code": code, "Message": "injected"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": 0},
    }
    return made(answer, operation)


def raised(fault: Fault, operation: str) -> Exception:
    """What a client raises where this happened, once it has tried as often as it does."""
    what = "key" if fault.what == "members" else fault.what
    if what in REFUSED or what in BROKEN:
        return error(what, operation, {**REFUSED, **BROKEN}[what])
    made: dict[str, Exception] = {
        "reset": ConnectionClosedError(endpoint_url=URL),
        "timeout": ReadTimeoutError(endpoint_url=URL),
        NOT_SENT: EndpointConnectionError(endpoint_url=URL),
        "http": HTTPClientError(error=SECRET),
        "parser": ResponseParserError(f"Unable to parse response, invalid XML:\n{SECRET}"),
        "key": KeyError(f"{operation}Result {SECRET}"),
    }
    return made[what]


def without_members(answer: dict[str, Any], random: Random) -> dict[str, Any]:
    """What botocore makes of a page that is well-formed XML: an answer that lacks something."""
    answer = dict(answer)
    name = random.choice([name for name in answer if name not in ("UserName", "IsTruncated")])
    value = answer.pop(name)
    if isinstance(value, dict) and random.random() < 0.5:
        answer[name] = {}
    elif isinstance(value, list) and value and random.random() < 0.5:
        answer[name] = [{"UserName": value[0].get("UserName")}]
    elif random.random() < 0.3:
        answer[name] = None
    return answer
