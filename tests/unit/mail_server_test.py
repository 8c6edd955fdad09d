# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a mail server, or SES, says of a mail; end-to-end tests have a server that takes it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from email.mime.text import MIMEText
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from pytest_mock import MockerFixture

from c7n_keyrot.cli import mail_server
from c7n_keyrot.cli.mail_server import MailServer, NotDeliveredError, Ses


def mail(*to: str) -> MIMEText:
    made = MIMEText("hello", "plain", "utf-8")
    made["From"], made["To"] = "keys@corp.test", ", ".join(to)
    return made


Answers = Callable[..., MailServer]


@pytest.fixture
def server() -> Iterator[Answers]:
    """server(answers): a mail server that says these lines, one for each command, then ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve(*answers: str, **config: Any) -> MailServer:
        def talk() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for answer in answers:
                    connection.sendall(f"{answer}\r\n".encode())
                    if answer.startswith("354"):
                        while lines.readline() not in (b".\r\n", b""):
                            pass
                    elif not lines.readline():
                        return

        threading.Thread(target=talk, daemon=True).start()
        settings = {"smtp_server": "127.0.0.1", "smtp_port": port, "smtp_ssl": False, **config}
        return MailServer(settings, config.get("password"))

    yield serve
    listener.close()


HELLO = ("220 hi", "250 mail")
TLS = ("220 hi", "250-mail\r\n250 STARTTLS")
AUTH = ("220 hi", "250-mail\r\n250 AUTH PLAIN")


@pytest.mark.parametrize(
    ("answers", "config", "why"),
    [
        (("554 go away",), {}, "refused a connection (554)"),
        ((), {}, "ended a connection"),
        (HELLO, {"smtp_ssl": True}, "doesn't offer STARTTLS"),
        ((*TLS, "454 not now"), {"smtp_ssl": True}, "refused STARTTLS (454)"),
        (HELLO, {"smtp_username": "me", "password": "hunter2"}, "doesn't offer the login"),
        (
            (*AUTH, "535 5.7.8 hunter2 is wrong"),
            {"smtp_username": "me", "password": "hunter2"},
            "refused the login (535)",
        ),
    ],
)
def test_a_server_that_cannot_be_used(
    server: Answers, answers: tuple[str, ...], config: dict[str, Any], why: str
) -> None:
    used = server(*answers, **config)
    with pytest.raises(NotDeliveredError) as caught:
        used.connect()
    assert str(caught.value) == f"{used.name} {why}"
    assert caught.value.is_out


def test_a_certificate_that_nobody_vouches_for(server: Answers, mocker: MockerFixture) -> None:
    """A user and a password don't go to whoever answers."""
    error = ssl.SSLCertVerificationError()
    error.verify_message = "self-signed certificate"
    mocker.patch("smtplib.SMTP.starttls", side_effect=error)
    used = server(*TLS, smtp_ssl=True)
    with pytest.raises(
        NotDeliveredError, match="isn't trusted .self-signed certificate.; SSL_CERT"
    ):
        used.connect()
    assert mail_server._trusted().verify_mode is ssl.CERT_REQUIRED
    assert mail_server._trusted().check_hostname


def test_one_that_does_not_answer(mocker: MockerFixture) -> None:
    mocker.patch.object(mail_server, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        used = MailServer({"smtp_server": "127.0.0.1", "smtp_port": port}, None)
        with pytest.raises(NotDeliveredError, match="didn't answer a connection in 0.05 seconds"):
            used.connect()


@pytest.mark.parametrize(
    ("answers", "refused"),
    [
        (("250 ok", "250 ok", "550 5.1.1 unknown", "354 go", "250 taken"), {"b@x.test": "550"}),
        (("250 ok", "553 no", "550 no", "250 reset"), {"a@x.test": "553", "b@x.test": "550"}),
        (("250 ok", "250 ok", "251 forwarded", "354 go", "250 taken"), {}),
    ],
)
def test_what_is_refused_for_good(
    server: Answers, answers: tuple[str, ...], refused: dict[str, str]
) -> None:
    used = server(*HELLO, *answers)
    to = ("a@x.test", "b@x.test")
    assert used.send("keys@corp.test", to, mail(*to)) == refused


@pytest.mark.parametrize(
    ("answers", "why", "is_out"),
    [
        (("550 who are you",), "refused the sender (550)", False),
        (("250 ok", "450 4.2.0 greylisted"), "refused an address (450)", False),
        (("250 ok", "550 5.7.1 relaying denied"), "refused an address (550)", False),
        (("250 ok", "530 log in first"), "refused an address (530)", False),
        (("421 closing",), "refused the sender (421)", True),
        (("250 ok", "250 ok", "554 no"), "refused the mail (554)", False),
        (("250 ok", "250 ok", "354 go", "552 too big"), "refused the mail (552)", False),
        (("250 ok", "250 ok", "354 go"), "ended the mail", True),
    ],
)
def test_what_may_pass(server: Answers, answers: tuple[str, ...], why: str, is_out: bool) -> None:
    used = server(*HELLO, *answers)
    with pytest.raises(NotDeliveredError) as caught:
        used.send("keys@corp.test", ["a@x.test"], mail("a@x.test"))
    assert str(caught.value) == f"{used.name} {why}"
    assert caught.value.is_out is is_out


class Client:
    """SES, which refuses some addresses."""

    def __init__(self, *bad: str, code: str = "InvalidParameterValue") -> None:
        self.bad, self.code, self.calls = bad, code, []  # type: ignore[var-annotated]

    def send_raw_email(self, RawMessage: Any, Destinations: list[str] | None = None) -> None:
        self.calls.append(Destinations)
        if self.code == "offline":
            raise EndpointConnectionError(endpoint_url="https://x")
        if Destinations is None or set(self.bad) & set(Destinations):
            raise ClientError({"Error": {"Code": self.code}}, "SendRawEmail")


def test_ses_names_no_address_so_each_is_tried() -> None:
    client = Client("b@x.test")
    to = ["a@x.test", "b@x.test"]
    assert Ses(client).send("k@x.test", to, mail(*to)) == {"b@x.test": "InvalidParameterValue"}
    assert client.calls == [None, ["a@x.test"], ["b@x.test"]]


@pytest.mark.parametrize(
    ("code", "why", "is_out"),
    [
        ("MessageRejected", "SES answered MessageRejected", False),
        ("Throttling", "SES answered Throttling", True),
        ("AccountSendingPausedException", "SES answered AccountSendingPausedException", True),
        ("InvalidClientTokenId", "SES answered InvalidClientTokenId", True),
        ("offline", "SES: EndpointConnectionError", True),
    ],
)
def test_what_ses_refuses_may_pass(code: str, why: str, is_out: bool) -> None:
    with pytest.raises(NotDeliveredError) as caught:
        Ses(Client(code=code)).send("k@x.test", ["a@x.test"], mail("a@x.test"))
    assert (str(caught.value), caught.value.is_out) == (why, is_out)
