# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Messages by whoever may write to the queue: `c7n-keyrot mailer` runs nothing that they bring.

The real c7n-mailer, a queue and an SMTP server. A command that ran would leave a file.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
from harness import Finished, keyrot, mailer, run
from mailer_test import QUEUE, Smtp, put
from moto.sqs.models import SQSBackend
from notices import message, record, user

from c7n_keyrot.cli import templates
from embedded_aws import HUB, REGION, EmbeddedAws

EVIL = "evil@corp.test"
SECRET = "not-a-password-but-secret"


@pytest.fixture
def smtp() -> Iterator[Smtp]:
    server = Smtp()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def send(
    aws: EmbeddedAws, home: Path, smtp: Smtp, tmp_path: Path
) -> Iterator[Callable[..., Finished]]:
    """send(messages): put them into the queue, and run the mailer once, to its end."""
    queue = aws.create_queue(QUEUE)
    receive = SQSBackend.receive_message

    def at_once(backend: Any, name: str, count: int, wait: int, *rest: Any) -> Any:
        return receive(backend, name, count, 0, *rest)

    def send_all(
        messages: list[dict[str, Any]], bodies: tuple[str, ...] = (), plain: bool = False
    ) -> Finished:
        client = boto3.client(
            "sqs",
            endpoint_url=aws.url,
            region_name=REGION,
            aws_access_key_id=aws.credentials()["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key="not-a-secret",
        )
        kind = {"mtype": {"DataType": "String", "StringValue": "maidmsg/1.0"}}
        for body in bodies:
            client.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=kind)
        put(aws, queue, messages)
        settings = {
            "queue_url": queue,
            "from_address": "custodian@example.com",
            "contact_tags": ["OwnerContact"],
            "region": REGION,
            "smtp_server": "127.0.0.1",
            "smtp_port": smtp.port,
            "smtp_ssl": False,
            "additional_email_headers": {"X-Team": SECRET},
        }
        (tmp_path / "mailer.yml").write_text(json.dumps(settings))
        words = ["--run", "-c", "mailer.yml"]
        command = mailer(*words, "-t", templates.folder()) if plain else keyrot("mailer", *words)
        return run(command, aws.env(HUB, home), tmp_path, timeout=60)

    with mock.patch.object(SQSBackend, "receive_message", at_once):
        yield send_all


def notice(name: str, action: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """One of ours, to the owner of that name, with changes."""
    tags = {"OwnerContact": f"{name}@corp.test"}
    made = message("disabling", [user(name, record("disabling"), tags=tags)])
    made["action"] |= {"subject": "Your key", **(action or {})}
    return {**made, **changes}


def shell(path: Path) -> str:
    return f"{{{{ cycler.__init__.__globals__.os.popen('touch {path}').read() }}}}"


def named(text: str) -> dict[str, Any]:
    """One whose policy's name is the subject."""
    made = notice("named")
    del made["action"]["subject"]
    made["policy"]["name"] = text
    return made


def odd(**changes: Any) -> dict[str, Any]:
    return {"UserName": "odd", "Tags": [{"Key": "OwnerContact", "Value": "o@corp.test"}], **changes}


def test_nothing_that_a_message_brings_is_run(
    send: Callable[..., Finished], smtp: Smtp, aws: EmbeddedAws, tmp_path: Path
) -> None:
    """The others' mails arrive, and what isn't sent stays in the queue and is named."""
    ran = tmp_path / "ran"
    sent = [
        notice("subject", {"subject": f"Key {shell(ran)}"}),
        notice("loop", {"subject": "{% for i in range(10**9) %}{{ 'a' * 10**9 }}{% endfor %}"}),
        notice("words", {"action_desc": shell(ran), "violation_desc": shell(ran)}),
        notice("account", account=shell(ran), region=shell(ran), account_id=shell(ran)),
        named(shell(ran)),
        notice("metadata", {"keyrot": {**notice("x")["action"]["keyrot"], "account": shell(ran)}}),
        notice(
            "tags",
            resources=[user("tags", record("disabling"), tags={"OwnerContact": "tags@corp.test",
                                                              "a": shell(ran)})],
        ),
    ]  # fmt: skip
    left = [
        notice("file", {"template": "/mailer.yml", "to": [EVIL]}),
        notice("file", {"template": "../mailer.yml", "to": [EVIL]}),
        notice("file", {"template": "/etc/passwd", "to": [EVIL]}),
        notice("file", {"template": shell(ran), "to": [EVIL]}),
        notice("slack", {"slack_template": "/mailer.yml", "to": [f"slack://{EVIL}"]}),
        notice("to", {"to": [f"a@corp.test\nBcc: {EVIL}"]}),
        notice("to", {"to": "http://127.0.0.1:1/"}),
        notice("from", {"from": f"a@corp.test\r\nBcc: {EVIL}"}),
        notice("format", {"template_format": f"html\nBcc: {EVIL}"}),
        notice("priority", {"priority_header": {"a": 1}}),
        notice("time", execution_start="never"),
        notice("people", resources=[odd(Tags=[{"Key": 1}])]),
        notice("people", resources=[odd(**{"keyrot:notice": 7, "c7n:keyrot": 7})], policy=7),
        {"policy": {}},
    ]
    bodies = (
        base64.b64encode(zlib.compress(b" " * 2**27)).decode(),  # 128 MiB out of 170 KB
        base64.b64encode(zlib.compress(b"[" * 10**5 + b"]" * 10**5)).decode(),
        "no message at all\n2026-11-30 - custodian-mailer - INFO - Sent",
    )

    done = send([*left, *sent, notice("last")], bodies)

    assert not ran.exists(), done.text
    assert done.code == 1, done.text
    named_lines = done.lines(" - ERROR - Message ", "stays in the queue: ")
    assert len(named_lines) == len(left) + len(bodies), done.text
    assert sorted(to for (to,), _ in smtp.mails) == sorted(
        f"{name}@corp.test"
        for name in ("subject", "loop", "words", "account", "named", "metadata", "tags", "last")
    ), done.text
    assert [mail["Subject"] for mail in smtp.to("subject@corp.test")] == [f"Key {shell(ran)}"]
    assert [mail["Subject"] for mail in smtp.to("last@corp.test")] == ["Your key"]
    assert aws.calls["sqs.DeleteMessage"] == len(sent) + 1
    assert SECRET not in done.text
    texts = [part for _, mail in smtp.mails for part in mail.walk() if not part.is_multipart()]
    assert len(texts) == 2 * len(smtp.mails)  # each as text and as HTML
    assert not [part for part in texts if SECRET in part.get_content()]


def test_plain_c7n_mailer_runs_it_and_mails_files(
    send: Callable[..., Finished], smtp: Smtp, tmp_path: Path
) -> None:
    """What SECURITY.md says of it; if this fails, c7n-mailer has been corrected."""
    ran = tmp_path / "ran"
    stolen = notice("file", {"template": "/mailer.yml", "to": [EVIL]})
    send([notice("subject", {"subject": shell(ran)}), stolen], plain=True)
    assert ran.exists()
    assert [EVIL in to for to, mail in smtp.mails if SECRET in mail.get_content()] == [True]


def test_only_sqs_is_read(send: Callable[..., Finished], tmp_path: Path, aws: EmbeddedAws) -> None:
    """c7n-mailer's readers for other clouds would render what they are sent."""
    config = {"queue_url": "projects/p/subscriptions/s", "from_address": "a@corp.test"}
    (tmp_path / "other.yml").write_text(json.dumps(config))
    done = run(keyrot("mailer", "--run", "-c", "other.yml"), aws.env(HUB, tmp_path), tmp_path)
    assert done.code == 1


def test_a_notice_to_nobody_is_an_error(send: Callable[..., Finished], smtp: Smtp) -> None:
    """c7n-mailer says `Sent ... to []`; also if another user of the message has an owner."""
    no_one = {"owner_absent_contact": []}
    lone = notice("x", no_one, resources=[user("lone", record("disabling"))])
    both = notice("ana", no_one)
    both["resources"].append(user("bo", record("disabling")))
    done = send([lone, both])
    assert len(done.lines(" - INFO - Sent ", " to []")) == 1, done.text
    nobody = done.lines(" - ERROR - policy:", "no address was found")
    assert ["1 of 1 users (lone)" in line for line in nobody] == [True, False], done.text
    assert ["1 of 2 users (bo)" in line for line in nobody] == [False, True]
    assert [to for to, _ in smtp.mails] == [["ana@corp.test"]]


def test_no_error_quotes_mailer_yml(
    send: Callable[..., Finished], smtp: Smtp, tmp_path: Path, aws: EmbeddedAws, home: Path
) -> None:
    smtp.port = 1  # nothing listens there
    done = send([notice("ana")])
    assert done.code == 1
    assert done.text == (
        "c7n-keyrot mailer: 127.0.0.1:1: a connection: Connection refused. Nothing was taken out "
        "of the queue; about 1 message is in it\n"
    )
    (tmp_path / "bad.yml").write_text(f"queue_url: x\nsmtp_pasword: {SECRET}\n")
    done = run(keyrot("mailer", "--run", "-c", "bad.yml"), aws.env(HUB, home), tmp_path)
    assert done.code == 1
    said = "c7n-keyrot mailer: c7n-mailer refuses bad.yml: unknown options: smtp_pasword"
    assert done.text.splitlines() == [said]
