# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The real c7n-mailer process between a real queue and a real SMTP server."""

from __future__ import annotations

import base64
import email
import email.policy
import html
import json
import re
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import (
    Finished,
    PolicyRun,
    finish,
    keyrot,
    kill,
    mailer,
    on_another_day,
    on_the_day,
    start,
)
from notices import message, record, user

from demo import world
from embedded_aws import HUB, REGION, Account, EmbeddedAws, Key

PACK = Path(__file__).parents[2] / "policies" / "second-access-key.yml"
SLACK = PACK.parents[1] / "examples" / "slack.yml"
QUEUE = "c7n-keyrot"
SECURITY = "security@example.com"
STALE = "iam-user-second-access-key-stale"


class Smtp(Controller):
    """An SMTP server on a free port that keeps what it is given: recipients and mail."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        super().__init__(self, hostname="127.0.0.1", port=0)

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((envelope.rcpt_tos, mail))
        return "250 OK"

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for to, mail in self.mails if to == [address]]


@pytest.fixture
def smtp() -> Iterator[Smtp]:
    server = Smtp()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def queue(aws: EmbeddedAws) -> str:
    return aws.create_queue(QUEUE)


@pytest.fixture
def run_mailer(
    aws: EmbeddedAws,
    run_in: Callable[..., Finished],
    home: Path,
    smtp: Smtp,
    queue: str,
    tmp_path: Path,
) -> Callable[..., None]:
    """run_mailer(): `c7n-mailer --run` with the folder that `c7n-keyrot templates` prints.

    Until the queue is empty: a message goes when it has been sent. Then it would wait ten seconds
    for more, so it is ended.
    """

    def run(config: dict[str, Any] | None = None, env: dict[str, str] | None = None) -> None:
        settings = {
            "queue_url": queue,
            "from_address": "custodian@example.com",
            "contact_tags": ["OwnerContact"],
            "region": REGION,
            "smtp_server": "127.0.0.1",
            "smtp_port": smtp.port,
            "smtp_ssl": False,
            **(config or {}),
        }
        file = tmp_path / "mailer.yml"
        file.write_text(json.dumps(settings))  # JSON is YAML
        folder = run_in(keyrot("templates")).text.removesuffix("\n")
        whole = {**aws.env(HUB, home), **(env or {})}
        wanted = aws.calls["sqs.DeleteMessage"] + len(aws.messages(QUEUE))
        process = start(mailer("--run", "-c", file, "-t", folder), whole, tmp_path)
        ended, deadline = None, time.monotonic() + 60
        while (
            aws.calls["sqs.DeleteMessage"] < wanted or aws.messages(QUEUE)
        ) and time.monotonic() < deadline:
            ended = process.poll()
            if ended is not None:
                break
            time.sleep(0.05)
        kill(process)
        text = finish(process).text
        assert ended in (None, 0), text
        assert aws.calls["sqs.DeleteMessage"] == wanted, text

    return run


def put(aws: EmbeddedAws, queue: str, messages: Sequence[dict[str, Any]]) -> None:
    """Put messages into the queue, packed as `notify` does it."""
    client = boto3.client(
        "sqs",
        endpoint_url=aws.url,
        region_name=REGION,
        aws_access_key_id=aws.credentials()["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key="not-a-secret",
    )
    for made in messages:
        client.send_message(
            QueueUrl=queue,
            MessageBody=base64.b64encode(zlib.compress(json.dumps(made).encode())).decode(),
            MessageAttributes={"mtype": {"DataType": "String", "StringValue": "maidmsg/1.0"}},
        )


def test_the_pack_tells_each_owner_of_their_own_users(
    aws: EmbeddedAws,
    account: Account,
    smtp: Smtp,
    run_custodian: Callable[..., Any],
    run_mailer: Callable[..., None],
) -> None:
    account.set_alias("acme-production")
    alice = {"OwnerContact": "alice@example.com"}
    account.add_user("alice-old", slot1=Key(10), slot2=Key(200, last_used_days=3), tags=alice)
    account.add_user(
        "alice-ci", slot2=Key(120), tags={**alice, "keyrot-exempt-until": "2020-01-01"}
    )
    account.add_user("alice-soon", slot2=world.due_in(14), tags=alice)
    account.add_user("bob-old", slot2=Key(95), tags={"OwnerContact": "bob@example.com"})
    account.add_user("nobodys", slot2=Key(300), tags={"OwnerContact": "not an address"})
    account.add_user("fresh", slot1=Key(300), slot2=Key(5), tags=alice)
    expected = {
        ("alice@example.com", "disabling"): ["alice-old", "alice-ci"],
        ("bob@example.com", "disabling"): ["bob-old"],
        (SECURITY, "disabling"): ["nobodys"],
        ("alice@example.com", "expiring"): ["alice-soon"],
    }
    names = ["alice-old", "alice-ci", "alice-soon", "bob-old", "nobodys", "fresh"]

    ran = run_custodian(PACK)
    assert ran.code == 0, ran.text
    assert account.status("alice-old", 2) == "Inactive"
    run_mailer()

    assert len(smtp.mails) == len(expected)
    for (address, situation), theirs in expected.items():
        subject = "being disabled" if situation == "disabling" else "will be disabled"
        (mail,) = [mail for mail in smtp.to(address) if subject in mail["Subject"]]
        assert (mail["To"], mail["From"]) == (address, "custodian@example.com")
        assert mail.get_content_type() == "text/html"
        body = mail.get_content()
        assert mail["Subject"].endswith(f": account acme-production ({HUB})")
        assert f"AWS account acme-production ({HUB})" in body
        assert SECURITY in body
        for name in names:
            assert (name in body) == (name in theirs), (address, name)
        for name in theirs:
            assert account.key_id(name, 2) in body
        # It is shown as the other key, and no command is about it.
        words = re.sub("</?span>", "", body)
        assert f"--access-key-id {account.key_id('alice-old', 1)}" not in words
        assert ("is being disabled by this run" in body) == (theirs in (["bob-old"], ["nobodys"]))
    (mail,) = [mail for mail in smtp.to("alice@example.com") if "being" in mail["Subject"]]
    assert "2 access keys are being disabled by this run" in mail.get_content()
    assert "keyrot-exempt-until=2020-01-01 has ended" in mail.get_content()


def test_an_owner_sees_the_other_key_and_what_the_console_says_of_the_keys(
    account: Account,
    queue: str,
    smtp: Smtp,
    run_custodian: Callable[..., Any],
    run_mailer: Callable[..., None],
) -> None:
    owner = {"OwnerContact": "ana@example.com"}
    account.add_user("ana", slot1=Key(12, last_used_days=1), slot2=Key(200), tags=owner)
    first, second = account.key_id("ana", 1), account.key_id("ana", 2)
    account.tag("ana", {first: "new build server", second: "old build server"})

    assert run_custodian(PACK).code == 0
    run_mailer()

    (mail,) = smtp.to("ana@example.com")
    text = " ".join(re.sub("<[^>]+>", " ", mail.get_content()).split())
    assert f"{second} “ old build server ” slot 2" in text
    assert f"Other key {first} “ new build server ” active, 12 days old, last used" in text
    assert "This user has two keys, the most that AWS allows" in text


def test_nobody_is_told_of_an_action_that_is_not_taken(
    aws: EmbeddedAws,
    account: Account,
    queue: str,
    smtp: Smtp,
    run_custodian: Callable[..., Any],
    run_mailer: Callable[..., None],
) -> None:
    """Neither of a key in doubt nor where keys, or tags, can't be read."""
    second = datetime.now(timezone.utc) - timedelta(days=200)
    for name in ("good", "twin", "unlisted", "unread"):
        twin = Key(rotated_at=second) if name == "twin" else Key(10)
        tags = {"OwnerContact": f"{name}@example.com"}
        account.add_user(name, twin, Key(rotated_at=second), tags=tags)
    aws.fail("iam.ListAccessKeys", "AccessDenied", user="unlisted")
    aws.fail("iam.GetUser", "AccessDenied", user="unread")

    done = run_custodian(on_the_day(PACK))
    run_mailer()

    assert done.code == 2
    for name in ("unlisted", "unread"):
        assert done.lines("ERROR", f"user '{name}'"), done.text
    assert done.lines("WARNING", "user 'twin'"), done.text
    assert [(to, mail["Subject"]) for to, mail in smtp.mails] == [
        ([SECURITY], f"AWS access keys that need review: account {HUB}"),
        (["good@example.com"], f"Your AWS access key is being disabled: account {HUB}"),
    ]
    text = html.unescape(re.sub("<[^>]+>", " ", smtp.mails[0][1].get_content()))
    text = " ".join(text.split())
    assert "The second access key of twin needs review" in text
    assert "Two of the user's keys were created in the same second" in text
    for number in (1, 2):
        assert f"get-access-key-last-used --access-key-id {account.key_id('twin', number)}" in text


def test_mails_of_two_accounts_to_one_owner_differ_in_their_subjects(
    aws: EmbeddedAws,
    queue: str,
    smtp: Smtp,
    run_c7n_org: Callable[..., Any],
    run_mailer: Callable[..., None],
) -> None:
    """By the names in accounts.yml, whether the account has an alias or not."""
    accounts = {"payments": "111111111111", "wéb {{ 7 * 7 }}\x07": "222222222222"}
    for number in accounts.values():
        aws.account(number).add_role("c7n-keyrot")
        aws.account(number).add_user(
            "ana", slot2=Key(200), tags={"OwnerContact": "ana@example.com"}
        )
    aws.account("111111111111").set_alias("acme-pay")
    file = {
        "accounts": [
            {
                "name": name,
                "account_id": number,
                "role": f"arn:aws:iam::{number}:role/c7n-keyrot",
                "regions": [REGION],
                "vars": {"action": {"queue": f"arn:aws:sqs:{REGION}:{HUB}:{QUEUE}"}},
            }
            for name, number in accounts.items()
        ]
    }

    done = run_c7n_org(file, PACK)
    assert done.code == 0, done.text
    run_mailer()

    assert sorted(mail["Subject"] for mail in smtp.to("ana@example.com")) == [
        "Your AWS access key is being disabled: account payments (111111111111)",
        "Your AWS access key is being disabled: account wéb {{ 7 * 7 }}\ufffd (222222222222)",
    ]


def test_hostile_messages_arrive_as_plain_mails_and_block_nothing(
    aws: EmbeddedAws, queue: str, smtp: Smtp, run_mailer: Callable[..., None]
) -> None:
    name = "x<img src=1>\nBcc: evil@example.com\n'\"; $(id) \ud800\u202e"
    owner = {"OwnerContact": "owner@example.com"}
    evil = record("disabling", exemption={"tag": name, "value": name, "state": "unreadable"})
    bare = message("disabling", [{"UserName": "bare"}], action={"subject": "bare"})
    for part in ("metadata", "filters", "actions"):
        del bare["policy"][part]
    bare["account"] = ""
    forms = ["html", "txt"]
    put(
        aws,
        queue,
        [
            *(message("disabling", [user(name, evil, path=f"/{name}/", tags=owner)], form)
              for form in forms),
            bare,
            message("expiring", [user("last", record("expiring"))]),
        ],
    )  # fmt: skip

    run_mailer()

    assert [to for to, _ in smtp.mails] == [["owner@example.com"]] * 2 + [[SECURITY]] * 2
    for (_, mail), kind in zip(smtp.mails, ["text/html", "text/plain"], strict=False):
        assert mail.get_content_type() == kind
        assert mail["Bcc"] is None
        assert "\nBcc" not in mail.get_content()
        assert "<img" not in mail.get_content() or kind == "text/plain"
    assert "bare" in smtp.mails[2][1].get_content()
    assert "last" in smtp.mails[3][1].get_content()


class Slack:
    """Slack for the mailer: a proxy for HTTPS that answers by itself, and keeps what it is sent."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "slack.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "slack.com")])
        hosts = [x509.DNSName("slack.com"), x509.DNSName("hooks.slack.com")]
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.ca.write_bytes(private + certificate.public_bytes(pem))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca)
        self.posts: list[tuple[str, bytes]] = []
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile = self.connection.makefile("rb")
                self.wfile = self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]
                self.close_connection = False
                self.handle_one_request()
                self.close_connection = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posts.append((self.headers["Host"] + self.path, body))
                answer: dict[str, Any] = {"ok": True}
                if "nobody" in body.decode():
                    answer = {"ok": False, "error": "users_not_found"}
                elif "lookupByEmail" in self.path:
                    answer["user"] = {"id": "U" + body.decode().split("%40")[0][-5:].upper()}
                data = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def env(self) -> dict[str, str]:
        return {
            "HTTPS_PROXY": f"http://127.0.0.1:{self.server.server_port}",
            "NO_PROXY": "127.0.0.1",
            "REQUESTS_CA_BUNDLE": str(self.ca),
        }


def test_slack_gets_each_owners_users_and_a_webhook_all(
    aws: EmbeddedAws,
    account: Account,
    queue: str,
    smtp: Smtp,
    tmp_path: Path,
    run_custodian: Callable[..., PolicyRun],
    run_mailer: Callable[..., None],
) -> None:
    """By examples/slack.yml; and a webhook, which has no owner."""
    owners = {"his": "james@corp.test", "hers": "maria@corp.test", "new": "nobody@corp.test"}
    for name, owner in owners.items():
        account.add_user(name, Key(5), Key(200), {"OwnerContact": owner})
    done = run_custodian(SLACK)
    assert done.code == 0, done.text
    ids = {name: account.key_id(name, 2) for name in owners}
    hook = {"to": ["https://hooks.slack.com/services/T/B/x"]}
    made = [user(name, record("disabling", access_key_id=ids[name])) for name in owners]
    put(aws, queue, [message("disabling", made, action=hook)])
    slack = Slack(tmp_path)

    run_mailer({"slack_token": "xoxb-token"}, env=slack.env)

    slack.server.shutdown()
    sent = {
        json.loads(body).get("channel"): body.decode() for _, body in slack.posts if b"{" in body
    }
    shown = {to: {name for name, key in ids.items() if key in text} for to, text in sent.items()}
    # Who isn't in Slack gets the mail, as everybody does.
    assert shown == {"UJAMES": {"his"}, "UMARIA": {"hers"}, None: {"his", "hers", "new"}}
    for name, owner in owners.items():
        (mail,) = smtp.to(owner)
        assert {key for key in ids.values() if key in mail.get_content()} == {ids[name]}
    assert all("xoxb-token" not in text for text in sent.values())


def test_an_owner_finds_the_server_that_still_uses_the_key(
    aws: EmbeddedAws,
    account: Account,
    queue: str,
    smtp: Smtp,
    run_custodian: Callable[..., Any],
    run_mailer: Callable[..., None],
) -> None:
    """Out of the mail alone; and where nobody knows, the key is disabled all the same."""
    policies = on_another_day(PACK).replace("# usage: 7", "usage: 7")
    laptop = "Boto3/1.34.14 md/Botocore#1.34.14 ua/2.0 os/macos lang/python#3.11.8"

    def add(name: str) -> None:
        owner = {"OwnerContact": f"{name}@example.com"}
        used = Key(200, last_used_days=0.1, last_used_region="eu-west-1")
        account.add_user(name, Key(10), used, tags=owner)

    def text_to(name: str) -> str:
        (mail,) = smtp.to(f"{name}@example.com")
        return " ".join(html.unescape(re.sub("<[^>]+>", "\n", mail.get_content())).split())

    add("bob")
    denied = aws.fail("cloudtrail.LookupEvents", "AccessDeniedException")
    without = run_custodian(policies)
    assert without.code == 2, without.text
    assert without.lines("ERROR", "history of us-east-1", "LookupEvents is denied"), without.text
    assert [line["outcome"] for line in without.outcomes(STALE)] == ["disabled"]
    assert account.status("bob", 2) == "Inactive"

    denied.stop()
    aws.reset_calls()
    aws.move_clock(0.25)  # then there is a new credential report
    add("ana")
    add("idle")
    account.record_call("ana", 2, times=60, region="eu-west-1")
    account.record_call("ana", 2, "sts:GetCallerIdentity", "<b>x</b>", laptop, minutes_ago=3000)
    account.record_call("ana", 2, "iam:GetUser", minutes_ago=5, error="AccessDenied")
    account.record_call("ana", 2, "iam:ListUsers", minutes_ago=4, late_minutes=15)
    account.record_call("ana", 2, "iam:CreateUser", minutes_ago=8 * 24 * 60)
    account.record_call("ana", 1, "ec2:DescribeInstances", "192.0.2.99")
    ran = run_custodian(policies, "--cache-period", "0")
    assert ran.code == 0, ran.text
    assert aws.calls["cloudtrail.LookupEvents"] == 5  # two regions; a page has 50 events
    assert account.status("ana", 2) == account.status("idle", 2) == "Inactive"

    run_mailer()
    text = text_to("ana")
    for words in (
        "Used 62 times in 7 days",
        "iam:GetUser, s3:ListBuckets from 203.0.113.7 by aws-cli/2.15, 61 times, last 5 minutes "
        "ago, 1 failed (AccessDenied)",
        "sts:GetCallerIdentity from <b>x</b> by Boto3/1.34 Python/3.11, once, last 2 days ago",
        "It has no data events, such as reads of S3 objects",
    ):
        assert words in text, text
    for words in ("ListUsers", "CreateUser", "192.0.2.99"):
        assert words not in text
    text = text_to("idle")
    assert "No call in 7 days is in CloudTrail's event history (eu-west-1, us-east-1)" in text
    assert "may be in use all the same" in text
    unknown = "Usage in eu-west-1 and us-east-1 isn't known: cloudtrail:LookupEvents is denied"
    assert unknown in text_to("bob")
