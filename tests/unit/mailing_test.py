# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a message may bring to `c7n-keyrot mailer`: tests/end_to_end/attack_test.py sends them."""

from __future__ import annotations

import base64
import json
import logging
import zlib
from pathlib import Path
from typing import Any

import pytest
from c7n_mailer import cli
from c7n_mailer.utils import get_message_subject
from notices import ACCOUNT, message, record, user

from c7n_keyrot.cli import mailer_message, mailing

LOG = logging.getLogger("test")
STAFF = {"name": "keys", "resource": "aws.iam-user"}


def packed(made: Any) -> str:
    return base64.b64encode(zlib.compress(json.dumps(made).encode())).decode()


def cleaned(made: Any) -> dict[str, Any]:
    """What c7n-mailer gets in the place of the message."""
    text = zlib.decompress(base64.b64decode(mailer_message.cleaned(packed(made), LOG)))
    read: dict[str, Any] = json.loads(text)
    return read


def small(**action: Any) -> dict[str, Any]:
    return {
        "account": "prod",
        "account_id": ACCOUNT,
        "region": "us-east-1",
        "event": None,
        "policy": dict(STAFF),
        "action": {"to": ["sec@corp.test"], **action},
        "resources": [{"UserName": "ana"}],
    }


def test_our_own_notices_look_the_same() -> None:
    """All that c7n-mailer renders but the subject is untouched, and the subject reads the same."""
    for situation in ("expiring", "disabling"):
        made = message(situation, [user("ana", record(situation))], action={"subject": "Your key"})
        seen = cleaned(made)
        assert get_message_subject(seen) == get_message_subject(made)
        assert get_message_subject(seen).endswith(f"account acme-production ({ACCOUNT})")
        for one in (seen, made):
            del one["action"]["subject"]
        assert seen == made


@pytest.mark.parametrize(
    "subject",
    [
        "Your AWS access key: account {{ action.keyrot.account }}",
        "{{ account }} {{ account_id }} {{ region }} {{ policy['name'] }}",
        "{{ account | upper }}: {{ nothing | default('x') }}{{ nothing }}",
        "{% if account %}{{ account }}{% else %}no name{% endif %}",
        "{{ account if account == 'prod' else region }}{# a comment #}",
        "100% {of} it",
        "without anything",
    ],
)
def test_what_people_write_into_a_subject_reads_as_it_did(subject: str) -> None:
    made = small(subject=subject, keyrot={"account": "prod (1) {{ 7 * 7 }}"})
    expected = get_message_subject(made)
    assert get_message_subject(cleaned(made)) == expected


CODE = "cycler.__init__.__globals__.os.popen('touch ran').read()"


@pytest.mark.parametrize(
    "subject",
    [
        f"{{{{ {CODE} }}}}",
        f"{{% if {CODE} %}}x{{% endif %}}",
        "{{ account.__class__.__mro__ }}",
        "{{ account['__class__'] }}",
        "{{ account|attr('__class__') }}",
        "{{ 'x' * 10**10 }}",
        "{% for i in range(10**9) %}{% for j in range(10**9) %}{% endfor %}{% endfor %}",
        "{{ range(10**9)|list }}",
        "{{ account|center(10**9) }}",
        "{% set x = account %}{{ x }}",
        "{% include '/mailer.yml' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ policy }}",
        "{{ account.upper }}",
        "{{ nothing.more }}",
        "{{ unfinished",
        "{{ " + "(" * 900,
        "{{ account }}" * 1000,
        "{% raw %}{{ account }}",
        "{{ policy|upper }}",
    ],
)
def test_what_is_more_than_words_is_sent_as_it_is_written(
    subject: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And it is said; no notice is lost by it."""
    monkeypatch.chdir(tmp_path)
    seen = get_message_subject(cleaned(small(subject=subject)))
    assert subject.startswith(seen.removesuffix("..."))
    assert len(seen) <= mailer_message.LONGEST_SENT
    assert "isn't filled in" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [f"{{{{ {CODE} }}}}", "{{ 7 * 7 }}", "{% endraw %}{{ 7 * 7 }}"])
def test_the_name_of_a_policy_is_no_template_either(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the subject of a notice that has none."""
    monkeypatch.chdir(tmp_path)
    made = {**small(), "policy": {**STAFF, "name": name}}
    assert get_message_subject(cleaned(made)) == f"Custodian notification - {name}"
    assert list(tmp_path.iterdir()) == []


def test_what_fills_a_subject_is_one_short_line() -> None:
    made = small(subject="{{ account }}{{ action.long }}", long="x" * 10**6)
    made["account"] = "a\nBcc: evil@corp.test\n2026 - mailer - ERROR - no\u2028"
    seen = cleaned(made)
    assert get_message_subject(seen).isprintable()
    assert seen["account"].isprintable()
    assert len(get_message_subject(seen)) <= 1000


def nested(depth: int) -> str:
    return base64.b64encode(zlib.compress(b"[" * depth + b"]" * depth)).decode()


def bomb(size: int) -> str:
    return base64.b64encode(zlib.compress(b" " * size)).decode()


# By what is said of it.
REFUSED = {
    "it isn't packed": ["x", "{}", "123", '"x"', "[]", base64.b64encode(b"text").decode()],
    "more than 16 MiB": [bomb(mailer_message.LARGEST + 1), packed(small())[:-8], ""],
    "nested too deeply": [nested(200_000)],
    "the message isn't": [packed([]), packed("x"), packed(None)],
    "policy isn't": [packed({**small(), "policy": None})],
    "policy.name isn't": [packed({**small(), "policy": {"name": ["x"], "resource": "y"}})],
    "resources isn't": [packed({**small(), "resources": x}) for x in (None, {}, ["ana"])],
    "event isn't": [packed({**small(), "event": "x"})],
    "account isn't": [packed({**small(), "account": {"a": 1}})],
    "action isn't": [packed({**small(), "action": []})],
    "action.to isn't": [packed(small(to=to)) for to in ("x", [1], [None], ["a@b.test\nBcc: c"])],
    "action.cc isn't": [packed(small(cc=["a@b.test\r\nDATA"]))],
    "action.owner_absent_contact isn't": [packed(small(owner_absent_contact="a@b.test"))],
    "action.template isn't": [
        packed(small(template=name))
        for name in (
            "/mailer.yml", "/etc/passwd", "../x", "a/../b", "~/x", "C:x", "a\\b", "a//b", "", "x\0",
            ".aws/credentials", {"a": 1}, "x\ny",
        )
    ],
    "action.slack_template isn't": [packed(small(slack_template="/mailer.yml"))],
    "action.from isn't": [packed(small(**{"from": "a@b.test\nBcc: c@d.test"}))],
    "action.template_format isn't": [packed(small(template_format="html\nX: y"))],
    "action.priority_header isn't": [packed(small(priority_header=x)) for x in ([], "6", " 1", "")],
    "action.subject isn't": [packed(small(subject=["x"]))],
}  # fmt: skip


@pytest.mark.parametrize(("said", "bodies"), REFUSED.items(), ids=REFUSED)
def test_what_notify_does_not_write_is_refused_in_one_line(said: str, bodies: list[str]) -> None:
    for body in bodies:
        with pytest.raises(mailer_message.Refused, match=said):
            mailer_message.cleaned(body, LOG)


def test_a_message_by_a_topic_is_read() -> None:
    body = json.dumps({"Message": packed(small(subject="{{ account }}"))})
    assert mailer_message.cleaned(body, LOG) == mailer_message.cleaned(
        packed(small(subject="prod")), LOG
    )


@pytest.mark.parametrize("name", ["default", "c7n_keyrot-expiring.html", "mine/my notice.txt"])
def test_the_names_of_templates_are_taken(name: str) -> None:
    assert cleaned(small(template=name))["action"]["template"] == name


def told(made: dict[str, Any], *reached: int) -> list[str]:
    """What is logged of a message if c7n-mailer found an address for these of its users."""
    users = made["resources"]
    found = {("ana@corp.test",): [users[place] for place in reached]}
    return list(mailing.sent_to_nobody(made, found, ["OwnerContact"]))


def test_who_has_no_address_is_named() -> None:
    made = {**small(), "resources": [{"UserName": name} for name in ("ana", "bo\n - INFO", "cy")]}
    assert told(made, 0, 1, 2) == []
    (line,) = told(made, 0)
    assert line.startswith("policy:keys account:prod sent to nobody for 2 of 3 users (bo")
    assert line.isprintable()
    made["resources"] = [{"UserName": f"u{i}"} for i in range(500)]
    (line,) = told(made)
    assert "500 of 500 users (u0, u1, u2, u3, u4, u5, u6, u7, u8, u9 and 490 more)" in line


@pytest.mark.parametrize(
    ("to", "known"),
    [
        ([], False),
        (["resource-owner"], False),
        (["slack://owners", "resource-owner"], False),
        (["slack://#security"], True),
        (["resource-owner", "arn:aws:sns:us-east-1:123456789012:topic"], True),
        (["https://hooks.slack.com/services/x"], True),
        (["splunkhec://index"], True),
    ],
)
def test_what_needs_no_mail_address_is_sent_to_somebody(to: list[str], known: bool) -> None:
    """For these c7n-mailer logs `Sent ... to []` as well."""
    assert (told(small(to=to)) == []) is known


def test_a_topic_in_the_owner_s_tag_is_somebody() -> None:
    topic = {"Key": "OwnerContact", "Value": "arn:aws:sns:us-east-1:123456789012:topic"}
    made = {**small(), "resources": [{"UserName": "ana", "Tags": [topic]}]}
    assert told(made) == []
    made["resources"][0]["Tags"] = [{**topic, "Key": "Other"}]
    assert len(told(made)) == 1


def test_what_c7n_mailer_quotes_of_its_configuration_is_cut_off() -> None:
    text = "policy:p sending to:[] \n\n error: refused\n\n mailer.yml: {'smtp_password': 'hunter2'}"
    mailer = mailing._Mailer()
    made = logging.LogRecord("x", logging.ERROR, "x.py", 1, text, None, None)
    assert mailer.without_configuration(made)
    assert made.getMessage() == "policy:p sending to:[] \n\n error: refused"
    plain = logging.LogRecord("x", logging.INFO, "x.py", 1, "sent %s", ("%d",), None)
    assert mailer.without_configuration(plain)
    assert plain.getMessage() == "sent %d"


BAD = {
    "queue_url: x\nsmtp_pasword: hunter2": "unknown options: smtp_pasword",
    "{queue_url: x, smtp_password:hunter2}": "unknown options: 1 that can't be an option's name",
    "queue_url: x\nsmtp_password:hunter2": "isn't YAML: could not find expected ':' in line 3",
    'queue_url: x\nsmtp_password: "hunter2': "isn't YAML: found unexpected end of stream in line 3",
    "queue_url: x\nsmtp_password: *hunter2": "isn't YAML: found undefined alias '...' in line 2",
    "queue_url: x\nsmtp_password: !hunter2 x": "for the tag '...' in line 2",
    "queue_url: x\nsmtp_password: !hunter'2 x": "for the tag '...' in line 2",
    "queue_url: x\nsmtp_password: [hunter2]": "smtp_password isn't valid",
    "queue_url: x\nsmtp_password: hunter2\nsmtp_port: '25'": "smtp_port must be of type integer",
    "smtp_password: hunter2": "'queue_url' is a required property",
    "smtp_password:hunter2": "the file must be of type object",
    "": "the file must be of type object",
    "queue_url: x\nsmtp_password: 2026-99-99": "can't be used (ValueError)",
}


@pytest.mark.parametrize(("text", "said"), BAD.items())
def test_a_configuration_that_cannot_be_used_is_said_without_a_value(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mailer.yml").write_text(f"{text}\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["c7n-mailer", "--run", "-c", "mailer.yml"])
    with pytest.raises(SystemExit) as ended:
        mailing.run(cli.main)
    line = str(ended.value)
    assert line.startswith("c7n-keyrot mailer: ")
    assert said in line
    assert "mailer.yml" in line
    assert "hunter" not in line
    assert ended.value.__suppress_context__
