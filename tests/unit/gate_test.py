# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The gate: what is AWS's answer, what is tried again, and what an error says.

boto3's own clients speak over HTTP with a server that answers whatever a test says.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    MetadataRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    TokenRetrievalError,
)
from pytest_mock import MockerFixture

from c7n_keyrot.aws import calls as aws_calls
from c7n_keyrot.aws import gate, settings
from c7n_keyrot.aws.errors import CallError, ErrorKind, OutageError, explained
from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.core.text import one_line

SPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
ID = "<ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata>"
SECRET = "wJalrXUtnFEMIsecret"
USER = (
    "<User><Path>/</Path><UserName>ana</UserName><UserId>AIDA</UserId>"
    "<Arn>arn:aws:iam::123456789012:user/ana</Arn><CreateDate>2020-01-01T00:00:00Z</CreateDate>"
    "</User>"
)


def answered(operation: str, result: str) -> bytes:
    name = f"{operation}Response"
    result = f"<{operation}Result>{result}</{operation}Result>"
    return f'<{name} xmlns="{SPACE}">{result}{ID}</{name}>'.encode()


def refused(code: str, message: str = "no") -> bytes:
    return (
        f'<ErrorResponse xmlns="{SPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{message}</Message></Error><RequestId>r-1</RequestId></ErrorResponse>"
    ).encode()


GOOD = answered("GetUser", USER)
PAGE = f"<!DOCTYPE html><html><body>{SECRET}</body></html>".encode()
# (status, body) that isn't AWS's, and what the error says of it.
STRANGE = {
    "a page": (200, PAGE, "HTML page, HTTP 200"),
    "a page of a proxy": (407, PAGE, "HTML page, HTTP 407"),
    "a page of a gateway": (502, PAGE, "HTML page, HTTP 502"),
    "XHTML": (200, b"<html><body><p>" + SECRET.encode() + b"</p></body></html>", "HTML page"),
    "some XML": (200, b"<ok/>", "XML that is cut or isn't AWS's, HTTP 200"),
    "XML in an error": (403, b"<ok/>", "XML that is cut or isn't AWS's, HTTP 403"),
    "an error without code": (403, refused("").replace(b"no", SECRET.encode()), "XML that is cut"),
    "JSON": (200, b'{"ok": true}', "JSON, HTTP 200"),
    "nothing": (200, b"", "empty answer, HTTP 200"),
    "no content": (204, b"", "empty answer, HTTP 204"),
    "a redirect": (302, b"", "empty answer, HTTP 302"),
    "a cut answer": (200, GOOD[:-40], "XML that is cut"),
    "another call's answer": (200, answered("ListUsers", ""), "XML that is cut or isn't AWS's"),
    "an answer without id": (200, GOOD.replace(ID.encode(), b""), "XML that is cut"),
    "garbage": (200, gzip.compress(b"x" * 99), "not XML, HTTP 200"),
    "5 MB": (200, PAGE * 60_000, "HTML page, HTTP 200"),
}


class Server:
    """Answers from a list, the last of them for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.calls = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                status, body = server.answers[min(server.calls, len(server.answers) - 1)]
                server.calls += 1
                self.send_response(status)
                self.send_header("Content-Length", "0" if status == 204 else str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def session(server: Server, mocker: MockerFixture) -> Any:
    session = boto3.Session("AKIAIOSFODNN7EXAMPLE", "x", region_name="us-east-1")
    url = f"http://127.0.0.1:{server.http.server_port}"
    make = session.client
    mocker.patch.object(
        session, "client", lambda *args, **how: make(*args, endpoint_url=url, **how)
    )
    # No pauses between tries.
    mocker.patch("botocore.endpoint.time.sleep")
    return session


@pytest.fixture
def client(session: Any) -> Any:
    config = Config(retries={"mode": "standard", "total_max_attempts": 3})
    return gate.client(session, config=config)


KEY = {"UserName": "ana", "AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "Status": "Inactive"}


def failure(client: Any, method: str = "update_access_key", **how: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        aws_calls.call(client, method, permit=Permit(), **(how or KEY))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__, "no parser's error is shown with it"
    return caught.value


@pytest.mark.parametrize(("status", "body", "what"), STRANGE.values(), ids=STRANGE)
def test_what_is_not_an_answer_of_aws_is_tried_again(
    client: Any, server: Server, status: int, body: bytes, what: str
) -> None:
    server.answers = [(status, body), (200, GOOD)]
    assert aws_calls.call(client, "get_user", UserName="ana")["User"]["UserName"] == "ana"
    assert server.calls == 2


@pytest.mark.parametrize(("status", "body", "what"), STRANGE.values(), ids=STRANGE)
def test_what_is_never_an_answer_of_aws_ends_in_one_short_line(
    client: Any, server: Server, status: int, body: bytes, what: str
) -> None:
    server.answers = [(status, body)]
    error = failure(client)
    assert (error.kind, error.lost, server.calls) == (ErrorKind.NOT_AWS, True, 3)
    says = f"iam:UpdateAccessKey failed (something that isn't AWS answered ({what}"
    assert str(error).startswith(says)
    assert str(error).endswith("): check the proxy)")
    assert SECRET not in str(error)
    assert len(str(error)) < 150


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (200, b'{"QueueUrl": "https://x"}', None, ""),
        (
            400,
            b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist"}',
            ErrorKind.OTHER,
            "QueueDoesNot",
        ),
        (403, b'{"__type": "x#AccessDenied"}', ErrorKind.DENIED, "is denied"),
        (400, b'{"__type": "ThrottlingException"}', ErrorKind.THROTTLED, "(ThrottlingException)"),
        (407, PAGE, ErrorKind.NOT_AWS, "(HTML page, HTTP 407): check the proxy)"),
        (403, b'{"error": "sign in"}', ErrorKind.NOT_AWS, "(JSON, HTTP 403): check the proxy)"),
        (502, b"", ErrorKind.NOT_AWS, "(empty answer, HTTP 502): check the proxy)"),
    ],
)
def test_a_service_that_speaks_json(
    server: Server, session: Any, status: int, body: bytes, kind: ErrorKind | None, says: str
) -> None:
    server.answers = [(status, body)]
    config = Config(retries={"mode": "standard", "total_max_attempts": 2})
    client = gate.client(session, "sqs", config=config)
    if kind is None:
        assert aws_calls.call(client, "get_queue_url", QueueName="q")["QueueUrl"] == "https://x"
        return
    error = failure(client, "get_queue_url", QueueName="q")
    assert error.kind is kind
    assert says in str(error)
    assert server.calls == (2 if kind in (ErrorKind.NOT_AWS, ErrorKind.THROTTLED) else 1)


def test_a_throttled_call_of_a_service_that_speaks_json_is_no_success(
    server: Server, session: Any
) -> None:
    """Otherwise the patience with an AWS that answers nothing else would never end."""
    server.answers = [(400, b'{"__type": "ThrottlingException"}')]
    config = Config(retries={"mode": "standard", "total_max_attempts": 2})
    client = gate.client(session, "cloudtrail", region="us-east-1", config=config)
    client.keyrot_guard.last_success -= settings.PATIENCE / 2
    before = client.keyrot_guard.last_success
    assert failure(client, "lookup_events", MaxResults=1).kind is ErrorKind.THROTTLED
    assert client.keyrot_guard.last_success == before


@pytest.mark.parametrize("body", [b"{}", b'{"Events": null}', b'{"Events": [{"EventName": "x"}]}'])
def test_a_history_without_events_is_not_cloudtrails(
    server: Server, session: Any, body: bytes
) -> None:
    server.answers = [(200, body)]
    client = gate.client(session, "cloudtrail", region="us-east-1")
    with pytest.raises(CallError, match="isn't AWS"):
        aws_calls.call(client, "lookup_events", tries=1, MaxResults=1)


def test_an_answer_without_what_is_needed_is_not_aws(client: Any, server: Server) -> None:
    server.answers = [(200, answered("GetUser", "<User><Path>/</Path></User>"))]
    error = failure(client, "get_user", UserName="ana")
    assert error.kind is ErrorKind.NOT_AWS
    assert "an answer without User.UserName" in str(error)


def test_an_answer_without_a_last_use_is_not_aws(client: Any, server: Server) -> None:
    """Of a key that was never used IAM says so: its service is N/A."""
    text = "<UserName>ana</UserName><AccessKeyLastUsed></AccessKeyLastUsed>"
    server.answers = [(200, answered("GetAccessKeyLastUsed", text))]
    error = failure(client, "get_access_key_last_used", AccessKeyId="AKIAIOSFODNN7EXAMPLE")
    assert "an answer without AccessKeyLastUsed.ServiceName" in str(error)


@pytest.mark.parametrize(
    ("code", "status", "kind", "text", "lost", "calls"),
    [
        ("AccessDenied", 403, ErrorKind.DENIED, "is denied (AccessDenied)", False, 1),
        ("NoSuchEntity", 404, ErrorKind.GONE, "failed (NoSuchEntity)", False, 1),
        ("Throttling", 400, ErrorKind.THROTTLED, "failed (Throttling)", False, 3),
        ("RequestLimitExceeded", 503, ErrorKind.THROTTLED, "failed (Req", False, 3),
        ("ExpiredToken", 403, ErrorKind.CREDENTIALS, "failed (ExpiredToken)", False, 1),
        ("ServiceFailure", 500, ErrorKind.OTHER, "failed (ServiceFailure)", True, 3),
        ("two&#10;lines&#8238;", 400, ErrorKind.OTHER, "failed (two lines", False, 1),
        ("x" * 999, 400, ErrorKind.OTHER, f"failed ({'x' * 61}...)", False, 1),
    ],
)
def test_an_error_of_aws_says_what_it_is(
    client: Any,
    server: Server,
    code: str,
    status: int,
    kind: ErrorKind,
    text: str,
    lost: bool,
    calls: int,
) -> None:
    server.answers = [(status, refused(code))]
    error = failure(client)
    assert (error.kind, error.lost, server.calls) == (kind, lost, calls)
    assert str(error).startswith(f"iam:UpdateAccessKey {text}")
    assert str(error).isprintable()


def test_a_denial_says_which_other_policy_it_is_of(client: Any, server: Server) -> None:
    end = "with an explicit deny in a service control policy: arn:hidden"
    server.answers = [(403, refused("AccessDenied", f"User: hidden is not authorized {end}"))]
    error = failure(client)
    assert (error.kind, error.code) == (ErrorKind.DENIED, "AccessDenied")
    assert error.reason == "AccessDenied: explicit deny in a service control policy"


def test_an_endpoint_that_is_no_url_is_not_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "hidden")
    with pytest.raises(CallError, match="AWS_ENDPOINT_URL isn't a URL") as raised:
        gate.client(boto3.Session(region_name="us-east-1"))
    assert (raised.value.kind, "hidden" in str(raised.value)) == (ErrorKind.OTHER, False)


@pytest.mark.parametrize(
    ("first", "lost"),
    [((502, b""), True), ((200, PAGE), True), ((400, refused("Throttling")), False)],
)
def test_an_earlier_try_may_have_taken_effect(
    client: Any, server: Server, first: tuple[int, bytes], lost: bool
) -> None:
    server.answers = [first, (403, refused("AccessDenied"))]
    error = failure(client)
    assert (error.kind, error.lost, server.calls) == (ErrorKind.DENIED, lost, 2)
    server.answers, server.calls = [(403, refused("AccessDenied"))], 0
    assert not failure(client).lost, "each call begins anew"


@pytest.mark.parametrize("answer", [(502, b""), (500, refused("ServiceFailure")), (200, PAGE)])
def test_a_call_that_only_reads_has_no_effect_that_could_be_lost(
    client: Any, server: Server, answer: tuple[int, bytes]
) -> None:
    server.answers = [answer]
    assert not failure(client, "get_user", UserName="ana").lost
    assert failure(client).lost


@pytest.mark.parametrize("answer", [(400, refused("Throttling")), (502, b""), (407, PAGE)])
def test_fewer_tries_can_be_asked_for(
    client: Any, server: Server, answer: tuple[int, bytes]
) -> None:
    server.answers = [answer]
    with pytest.raises(CallError) as caught:
        aws_calls.call(client, "get_user", tries=2, UserName="ana")
    assert server.calls == 2
    known = {400: ErrorKind.THROTTLED, 502: ErrorKind.NOT_AWS, 407: ErrorKind.NOT_AWS}
    assert caught.value.kind is known[answer[0]]


@pytest.mark.parametrize(
    ("error", "kind", "text", "lost"),
    [
        (
            ConnectionClosedError(endpoint_url=SECRET),
            ErrorKind.NO_ANSWER,
            "ConnectionClosedError: the connection broke",
            True,
        ),
        (ReadTimeoutError(endpoint_url="u"), ErrorKind.NO_ANSWER, "no answer in time", True),
        (
            ConnectTimeoutError(endpoint_url="u"),
            ErrorKind.NO_ANSWER,
            "no connection in time",
            False,
        ),
        (EndpointConnectionError(endpoint_url="u"), ErrorKind.NO_ANSWER, "no connection", False),
        (NoCredentialsError(), ErrorKind.CREDENTIALS, "Unable to locate credentials", False),
        (
            ParamValidationError(report="Invalid,\nvalue: \x1b[31m0"),
            ErrorKind.OTHER,
            "ParamValidationError: Parameter validation failed: Invalid, value: [31m0",
            False,
        ),
        (
            CredentialRetrievalError(provider="custom-process", error_msg=SECRET),
            ErrorKind.CREDENTIALS,
            "CredentialRetrievalError: custom-process gave no credentials",
            False,
        ),
        (
            MetadataRetrievalError(error_msg=SECRET),
            ErrorKind.CREDENTIALS,
            "the local credential provider gave no credentials",
            False,
        ),
        (
            TokenRetrievalError(provider="sso", error_msg=SECRET),
            ErrorKind.CREDENTIALS,
            "sso gave no credentials",
            False,
        ),
        (EOFError(), ErrorKind.CREDENTIALS, "asks for an MFA code", False),
        (FileNotFoundError(2, SECRET), ErrorKind.CREDENTIALS, "doesn't exist", False),
        (PermissionError(13, SECRET), ErrorKind.CREDENTIALS, "can't be run", False),
        (OSError(errno.ENOEXEC, SECRET), ErrorKind.CREDENTIALS, "can't be run", False),
        (json.JSONDecodeError(SECRET, SECRET, 0), ErrorKind.CREDENTIALS, "isn't JSON", False),
        (ConnectionResetError(SECRET), ErrorKind.NOT_AWS, "can't be read", True),
        (OutageError("AWS answered no call"), ErrorKind.OUTAGE, "AWS answered no call", False),
        # As of Custodian's own call for a role's credentials.
        (KeyError(SECRET), ErrorKind.NOT_AWS, "an answer that can't be read, KeyError", True),
        (ClientError({}, "GetUser"), ErrorKind.OTHER, "no code", False),
    ],
)
def test_other_errors_in_a_few_words(
    error: Exception, kind: ErrorKind, text: str, lost: bool
) -> None:
    found = explained("iam:UpdateAccessKey", error)
    assert (found.kind, found.lost) == (kind, lost)
    assert re.fullmatch(rf"iam:UpdateAccessKey failed \(.*{re.escape(text)}.*\)", str(found))
    assert SECRET not in str(found)


def test_an_outage_ends_only_when_nothing_succeeds(mocker: MockerFixture) -> None:
    now = mocker.patch.object(gate.time, "monotonic", return_value=1000.0)
    guard = gate.OutageGuard()
    for _ in range(2):
        now.return_value += settings.PATIENCE - 1
        guard.check()
        guard.succeeded()
    now.return_value += settings.PATIENCE + 1
    with pytest.raises(OutageError, match="answered no call"):
        guard.check()
    guard.succeeded()
    with pytest.raises(OutageError):  # for all that were waiting then
        guard.check()
    guard.renew()
    guard.check()


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ((200, GOOD), True),
        ((403, refused("AccessDenied")), True),
        ((404, refused("NoSuchEntity")), True),
        ((400, refused("Throttling")), False),
        ((503, refused("ServiceUnavailable")), False),
        ((407, PAGE), False),
    ],
)
def test_an_answer_that_says_no_is_an_answer(
    client: Any, server: Server, mocker: MockerFixture, answer: tuple[int, bytes], counts: bool
) -> None:
    succeeded = mocker.spy(client.keyrot_guard, "succeeded")
    server.answers = [answer]
    with contextlib.suppress(CallError):
        aws_calls.call(client, "get_user", UserName="ana")
    assert bool(succeeded.call_count) is counts


@pytest.mark.parametrize(
    ("text", "expected"),
    [("24", 24), ("0.5", 0.5), ("999", 200), ("0", 7), ("-1", 7), ("nan", 7), ("inf", 7), ("x", 7)],
)
def test_a_setting_is_a_number_within_its_bounds(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: float
) -> None:
    monkeypatch.setenv("C7N_KEYROT_X", text)
    assert settings.setting("C7N_KEYROT_X", 7, most=200) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("1", 1), ("21", 20), ("0", 8), ("2.5", 8)]
)
def test_a_whole_setting_is_no_fraction(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    monkeypatch.setenv("C7N_KEYROT_X", text)
    assert settings.setting("C7N_KEYROT_X", 8, most=20, whole=True) == expected


@pytest.mark.parametrize(("text", "tries"), [("", 8), ("1", 1)])
def test_tries_of_a_call_are_a_setting(text: str, tries: int) -> None:
    """Of every client that isn't made for a single look: doctor makes two tries, or fewer."""
    code = (
        "from c7n_keyrot.aws import gate\n"
        "from c7n_keyrot.cli.doctor import credentials\n"
        "print([c.retries['total_max_attempts'] for c in (gate.CALLS, credentials.CALLS)])"
    )
    env = {**os.environ, **({"C7N_KEYROT_TRIES": text} if text else {})}
    if not text:
        env.pop("C7N_KEYROT_TRIES", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([tries, min(2, tries)])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb\r\n\tc", "a b c"),
        ("\x1b[31mred\u202e", "[31mred"),
        ("x" * 400, "x" * 297 + "..."),
        (5, "5"),
    ],
)
def test_text_from_outside_is_one_line(text: Any, line: str) -> None:
    assert one_line(text) == line
