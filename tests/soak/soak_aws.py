# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The ways to the account: a client in memory, and a real one of boto3 over HTTP in memory.

The first is fast. The second shows the retries, and what the package looks at below them.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from soak_faults import BROKEN, PAGES, REFUSED, Fault, NoSuchEntity, raised, without_members
from soak_world import Call, Iam

# The operations that anything here calls, by the name of a client's method.
METHODS = {
    "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_"): name
    for name in (
        "GenerateCredentialReport",
        "GetCredentialReport",
        "GetUser",
        "ListAccessKeys",
        "GetAccessKeyLastUsed",
        "UpdateAccessKey",
        "DeleteAccessKey",
    )
}


class Session:
    """A boto3 session in the account."""

    region_name = "us-east-1"

    def __init__(self, iam: Iam, wire: bool) -> None:
        self.iam, self.wire = iam, wire
        self.events = SimpleNamespace(unregister=lambda *args, **kwargs: None)
        self._session = SimpleNamespace(register_component=lambda *args: None)

    def get_credentials(self) -> Credentials:
        return Credentials(self.iam.own, "none")

    def client(self, service: str, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        assert service == "iam"
        if self.wire:
            return _real_client(self.iam, config)
        return Client(self.iam, stock=config is None)


class Client:
    """Has the methods of boto3's IAM client; each is one call, retries included."""

    def __init__(self, iam: Iam, stock: bool) -> None:
        self.iam, self.stock = iam, stock
        self.meta = SimpleNamespace(events=SimpleNamespace(register=lambda *args: None))
        self.exceptions = SimpleNamespace(NoSuchEntityException=NoSuchEntity)

    def __getattr__(self, method: str) -> Any:
        if method not in METHODS:
            raise AttributeError(method)
        return functools.partial(self._call, METHODS[method])

    def _call(self, operation: str, **params: Any) -> dict[str, Any]:
        answer, fault = self.iam.answer(self.iam.new_call(operation, params), params)
        if fault and fault.what == "members" and isinstance(answer, dict) and not self.stock:
            return without_members(answer, self.iam.random)
        if fault:
            raise raised(fault, operation)
        if isinstance(answer, ClientError):
            raise answer
        assert answer is not None
        return answer

    def can_paginate(self, name: str) -> bool:
        return name in ("list_users", "list_user_tags")

    def get_paginator(self, name: str) -> Any:
        pages = {"list_users": self._pages_of_users, "list_user_tags": self._pages_of_tags}
        return SimpleNamespace(paginate=pages[name], PAGE_ITERATOR_CLS=None)

    def _pages_of_tags(self, UserName: str) -> Iterator[dict[str, Any]]:
        for tag in self._call("ListUserTags", UserName=UserName).get("Tags") or [None]:
            yield {"Tags": [tag] if tag else []}

    def _pages_of_users(self) -> Any:
        answer = self._call("ListUsers")
        return SimpleNamespace(build_full_result=lambda: {"Users": answer["Users"]})


# -- over HTTP

_loader = create_loader()


@functools.cache
def _core() -> Any:
    core = botocore.session.Session()
    core.register_component("data_loader", _loader)
    core.set_credentials("AKIAOFTHEMODEL", "none")
    return boto3.Session(botocore_session=core, region_name="us-east-1")


def _real_client(iam: Iam, config: Any) -> Any:
    """Make a client; as that takes long, one of the same account and configuration once more."""
    made = iam.clients.get(config)
    if made is None:
        unsigned = Config(signature_version=UNSIGNED)
        made = _core().client("iam", config=config.merge(unsigned) if config else unsigned)
        iam.clients[config] = made
    guard = vars(made).pop("keyrot_guard", None)
    if guard:  # it is the package's, of the time before
        made.meta.events.unregister("request-created.iam", guard.check)
    made._endpoint.http_session = _Wire(iam, stock=config is None)
    return made


class _Wire:
    """Stands for a client's connections: each request is a try of a call."""

    def __init__(self, iam: Iam, stock: bool) -> None:
        self.iam, self.stock = iam, stock
        self.calls: dict[str, Call] = {}

    def close(self) -> None:
        """There is nothing to close."""

    def send(self, request: Any) -> AWSResponse:
        body = request.body.decode() if isinstance(request.body, bytes) else request.body
        params = dict(parse_qsl(body, keep_blank_values=True))
        operation = params.pop("Action")
        del params["Version"]
        # botocore gives all tries of a call one id.
        number = request.headers.get("amz-sdk-invocation-id")
        number = number.decode() if isinstance(number, bytes) else str(number)
        if number not in self.calls:
            self.calls = {number: self.iam.new_call(operation, params)}
        answer, fault = self.iam.answer(self.calls[number], params)
        if fault and fault.what in PAGES and self.stock:
            fault = Fault("cut")  # Custodian takes some pages for an answer that names nobody
        status, content = _http(operation, answer, fault)
        response = AWSResponse(request.url, status, {}, None)
        response._content = content
        return response


def _http(operation: str, answer: Any, fault: Fault | None) -> tuple[int, bytes]:
    if isinstance(answer, ClientError):
        metadata = answer.response["ResponseMetadata"]
        status, good = metadata["HTTPStatusCode"], _error(answer.response["Error"]["Code"])
    else:
        status, good = 200, _xml(operation, answer or {})
    if fault is None:
        return status, good
    what = fault.what
    if what == "cut":
        return status, good[: len(good) // 2]
    if what == "nameless":
        return status, good.replace(b"RequestId>", b"Nothing>")
    if what in PAGES:
        return PAGES[what]
    if what in REFUSED or what in BROKEN:
        return {**REFUSED, **BROKEN}[what], _error(what)
    raise raised(fault, operation)


def _error(code: str) -> bytes:
    return (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>injected</Message>"
        "</Error><RequestId>of-the-model</RequestId></ErrorResponse>"
    ).encode()


def _xml(operation: str, answer: dict[str, Any]) -> bytes:
    result = f"<{operation}Result>{_text(answer)}</{operation}Result>" if answer else ""
    return (
        f'<{operation}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/">{result}'
        "<ResponseMetadata><RequestId>of-the-model</RequestId></ResponseMetadata>"
        f"</{operation}Response>"
    ).encode()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{name}>{_text(inner)}</{name}>" for name, inner in value.items())
    if isinstance(value, list):
        return "".join(f"<member>{_text(inner)}</member>" for inner in value)
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return escape(str(value))
