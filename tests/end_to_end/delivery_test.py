# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Mail servers and Slack that refuse: no notice is lost without a word, and none is sent twice.

The real `c7n-keyrot mailer` between a queue and an SMTP server, which answers as a test says.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from attack_test import notice, send  # noqa: F401 - a fixture
from harness import Finished
from mailer_test import QUEUE
from notices import record, user

from embedded_aws import HUB, EmbeddedAws

SECURITY = ["security@corp.test"]


class Smtp(Controller):
    """An SMTP server that answers RCPT TO and DATA as it is told."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.refused: dict[str, str] = {}
        self.answer = "250 OK"
        super().__init__(self, hostname="127.0.0.1", port=0)

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.answer.startswith("250"):
            mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append((envelope.rcpt_tos, mail))
        return self.answer

    def reached(self) -> list[list[str]]:
        found = sorted(to for to, _ in self.mails)
        self.mails.clear()
        return found


@pytest.fixture
def smtp() -> Iterator[Smtp]:
    server = Smtp()
    server.start()
    yield server
    server.stop()


def three(**action: Any) -> dict[str, Any]:
    """One message, as notify sends it for an account: three owners."""
    made = notice("ana", {"owner_absent_contact": SECURITY, **action})
    for name in ("bo", "cy"):
        tags = {"OwnerContact": f"{name}@corp.test"}
        made["resources"].append(user(name, record("disabling"), tags=tags))
    return made


def later(aws: EmbeddedAws) -> None:
    """Let the time pass for which messages aren't seen."""
    for message in aws.partition.sqs(HUB).queues[QUEUE]._messages:
        message.delayed_until = message.visible_at = 0


def mails(*names: str) -> list[list[str]]:
    return [[f"{name}@corp.test"] for name in names]


def test_what_may_pass_waits_and_is_sent_once(
    send: Callable[..., Finished],  # noqa: F811
    smtp: Smtp,
    aws: EmbeddedAws,
) -> None:
    """A mailbox that is full for a day: the others' owners don't get theirs twice."""
    smtp.refused = {"bo@corp.test": "452 4.2.2 full"}
    done = send([three(), notice("dan")])
    assert done.code == 1, done.text
    assert smtp.reached() == mails("ana", "cy", "dan")
    (line,) = done.lines("wait in the queue")
    assert line.endswith(
        f"1 notice wait in the queue: 127.0.0.1:{smtp.port} refused an address (452)"
    )
    (message,) = aws.messages(QUEUE)
    assert [one["UserName"] for one in message["resources"]] == ["bo"]

    smtp.refused = {}
    later(aws)
    done = send([])
    assert done.code == 0, done.text
    assert smtp.reached() == mails("bo")
    assert aws.messages(QUEUE) == []


def test_what_is_refused_for_good_goes_to_the_contact(
    send: Callable[..., Finished],  # noqa: F811
    smtp: Smtp,
    aws: EmbeddedAws,
) -> None:
    smtp.refused = {"bo@corp.test": "550 5.1.1 no such user"}
    nobody = notice("ed", {"owner_absent_contact": []})
    smtp.refused["ed@corp.test"] = "550 no"
    done = send([three(), nobody])
    assert done.code == 1
    assert done.lines("nobody has the notice about ed: refused: ed@corp.test (550)"), done.text
    (mail,) = [mail for to, mail in smtp.mails if to == SECURITY]
    said = "The mail server doesn't take mails for bo@corp.test (550)."
    for part in ("plain", "html"):
        body = mail.get_body((part,))
        assert body is not None
        assert said.replace("'", "&#x27;" if part == "html" else "'") in body.get_content()
    assert smtp.reached() == sorted([*mails("ana", "cy"), SECURITY])
    assert aws.messages(QUEUE) == []


@pytest.mark.parametrize("answer", ["451 4.7.1 greylisted", "554 5.7.1 spam"])
def test_a_mail_that_is_not_taken_stays(
    send: Callable[..., Finished],  # noqa: F811
    smtp: Smtp,
    aws: EmbeddedAws,
    answer: str,
) -> None:
    smtp.answer = answer
    done = send([three()])
    assert done.code == 1
    assert done.lines(f"refused the mail ({answer[:3]})"), done.text
    assert aws.calls["sqs.DeleteMessage"] == 0
    assert aws.calls["sqs.ReceiveMessage"] <= 2  # and not again and again


def test_one_bad_tag_mutes_nobody_else(
    send: Callable[..., Finished],  # noqa: F811
    smtp: Smtp,
) -> None:
    made = three()
    for name, tag in (("odd", "@team.blue"), ("ümit", "ümit@corp.test"), ("none", "")):
        tags = {"OwnerContact": tag}
        made["resources"].append(user(name, record("disabling"), tags=tags))
    done = send([made])
    assert done.code == 0, done.text
    (mail,) = [mail for to, mail in smtp.mails if to == SECURITY]
    body = mail.get_body(("plain",))
    assert body is not None
    text = body.get_content()
    assert "No mail address of an owner was found for odd, ümit, none: the tag is missing" in text
    assert smtp.reached() == sorted([*mails("ana", "bo", "cy"), SECURITY])


def test_mails_have_what_mails_need(
    send: Callable[..., Finished],  # noqa: F811
    smtp: Smtp,
) -> None:
    old = notice("ana", execution_start=1_700_000_000)
    send([old])
    ((_, mail),) = smtp.mails
    assert mail.get_content_type() == "multipart/alternative"
    assert mail["Date"]
    assert mail["Message-ID"].endswith("@example.com>")
    assert mail["Auto-Submitted"] == "auto-generated"
    body = mail.get_body(("plain",))
    assert body is not None
    assert "it was written at 2023-11-14 22:13 UTC. The key may have changed" in body.get_content()
