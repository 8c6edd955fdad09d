# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import html
import json
import logging
import re
import shlex
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from c7n_mailer import utils
from c7n_mailer.utils import get_message_subject
from c7n_mailer.utils_email import get_mimetext_message
from notices import (
    ACCOUNT,
    KEY,
    SITUATIONS,
    exemptions,
    message,
    record,
    render,
    user,
    users,
)

from c7n_keyrot.cli import main, templates

FORMS = ("html", "txt", "slack")
HOSTILE = {
    "html": "<img src=x onerror=alert(1)>&lt;b&gt;",
    "attribute": "\"><script>alert('x')</script>",
    "shell": 'a\'; rm -rf ~ #$(id)`id` && "$HOME" \\ !x *',
    "lines": "x\r\nBcc: evil@example.com\n\nDeadline    1 January 2099\u2028\u0085\x0b\x1b[2J\x00",
    "jinja": "{{ 7 * 7 }}{% for x in y %}",
    "unicode": "zoë-ключ-鍵-🔑",
    "rtl": "\u202egnp.exe \u05d0\u05d1\u05d2 \u2066x",
    "surrogate": "lone \ud800 one",
    "dash": "--profile=evil",
    "long": "n" * 512,
    "slack": "<!channel> <@U123> ``` *b* &",
    "json": '"},{"type":"x"} \\u0041 \\',
}


@pytest.fixture(autouse=True, scope="module")
def _one_environment() -> Iterator[None]:
    """The mailer compiles its templates anew for every mail; here they are the same all along."""
    with pytest.MonkeyPatch.context() as patch:
        environment = utils.get_jinja_env([str(templates.folder())])
        patch.setattr(utils, "get_jinja_env", lambda folders: environment)
        yield


def shown(situation: str, form: str, resources: list[dict[str, Any]], **how: Any) -> str:
    """What a reader sees: the text of a mail, or of all blocks of a Slack message."""
    if form == "slack":
        payload = json.loads(render(message(situation, resources, **how), "general"))
        parts = [block["text"] for block in payload["blocks"]]
        assert all(len(part["text"]) <= 3000 for part in parts)
        text = "\n".join(part["text"] for part in parts)
        return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    body = render(message(situation, resources, form, **how))
    return Reader.read(body) if form == "html" else body


class Reader(HTMLParser):
    """The text of an HTML mail as a reader sees it, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    @classmethod
    def read(cls, body: str) -> str:
        reader = cls()
        reader.feed(body.partition("</style>")[2])
        return reader.text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += "\n" if tag in ("p", "td", "tr", "pre", "li", "h1", "h2", "br") else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def lines_with(text: str, words: str) -> list[str]:
    return [
        line.strip().replace("```", "")
        for line in re.split(r"\n|```", text)
        if words in line and "aws iam" in line
    ]


def test_templates_prints_the_folder_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert templates.run(None) == 0  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert (Path(out.removesuffix("\n")) / "c7n_keyrot-disabling.html.j2").is_file()
    assert (out.count("\n"), err) == (1, "")


def test_templates_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["templates"]) == 0
    assert capsys.readouterr().out == f"{templates.folder()}\n"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("situation", "said"),
    [
        ("expiring", "Access key of jane.doe will be disabled on 30 July 2026"),
        ("disabling", "Access key of jane.doe is being disabled by this run"),
    ],
)
def test_one_user_has_all_that_its_owner_needs(situation: str, said: str, form: str) -> None:
    text = shown(situation, form, [user("jane.doe", record(situation), path="/team/")])
    flat = " ".join(text.split())
    day = "30 July 2026, 10:00 UTC" if situation == "expiring" else "18 July 2026, 10:00 UTC"
    for words in [
        said,
        f"{ACCOUNT} (acme-production)",
        "jane.doe",
        KEY,
        "slot 2",
        "78 days" if situation == "expiring" else "90 days",
        "1 May 2026" if situation == "expiring" else "19 April 2026",
        "17 July 2026",
        "s3 in eu-west-1",
        day,
        f"aws iam update-access-key --access-key-id {KEY} --status Inactive --user-name jane.doe",
        "aws iam create-access-key --user-name jane.doe",
        "Move every application and tool to the new key",
        f"aws iam delete-access-key --access-key-id {KEY} --user-name jane.doe",
        f"aws iam update-access-key --access-key-id {KEY} --status Active --user-name jane.doe",
        "ask security@example.com",
        "keyrot-exempt-until=YYYY-MM-DD",
        "keyrot-exempt-reason",
        "aws iam tag-user --user-name jane.doe --tags Key=keyrot-exempt-until,Value=YYYY-MM-DD",
        "D9.AWS.IAM.07: Ensure access keys",
        "AWS CIS Foundations 2.0.0",
        "AWS PCI-DSS 3.2, 4.0",
        "Credential report of 19 July 2026, 08:00 UTC",
        f"iam-user-second-access-key-{situation}",
    ]:
        assert words in flat


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_happens_is_never_said_of_a_policy_that_does_not_do_it(
    situation: str, form: str
) -> None:
    made = user("jane.doe", record(situation))
    text = shown(situation, form, [made], actions=["notify"], action={"enforced": False})
    assert not re.search(r"(will|is|are|being) (be )?(being )?disabled", text)
    assert "by this run" not in text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("action", "said", "unsaid"),
    [
        ("disable-access-key", "is being disabled by this run", "deleted by"),
        ({"type": "remove-keys", "matched": True, "disable": True}, "being disabled", "deleted by"),
        ("delete-access-key", "is being deleted by this run", "--status"),
        ({"type": "remove-keys", "matched": True}, "is being deleted by this run", "--status"),
    ],
)
def test_what_is_being_done_is_what_the_policy_does(
    form: str, action: Any, said: str, unsaid: str
) -> None:
    made = [user("jane.doe", record("disabling"))]
    text = shown("disabling", form, made, actions=["notify", action])
    assert said in text
    assert unsaid not in text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("identified", "reason"),
    [
        ("ambiguous", "created in the same second"),
        ("unread", "keys couldn't be read"),
        ("no", "none of the user's keys fits"),
    ],
)
def test_unidentified_keys_are_left_alone_and_said_so(
    form: str, identified: str, reason: str
) -> None:
    made = user("twin", record("disabling", access_key_id=None, identified=identified))
    text = " ".join(shown("disabling", form, [made]).split())
    assert "nothing is being done" in text
    assert "Nothing is done to any key of this user" in text
    assert reason in text
    assert "aws iam list-access-keys --user-name twin" in text
    assert "update-access-key --access-key-id KEY_ID --status Inactive --user-name twin" in text
    assert "disabled" not in text


@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_another_filter_rules_out_is_not_said_to_be_disabled(form: str) -> None:
    made = user("jane.doe", record("disabling"))
    made["c7n:matched-keys"] = []
    text = shown("disabling", form, [made])
    assert "being disabled" not in text
    assert "Nothing is done to any key of this user" in " ".join(text.split())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("state", "value", "said"),
    [
        ("expired", "2026-01-01", "The tag keyrot-exempt-until=2026-01-01 has ended"),
        ("unreadable", "soon\n<b>", "The tag keyrot-exempt-until=soon\ufffd<b> can't be read"),
    ],
)
@pytest.mark.parametrize("number", [1, 5])
def test_an_exemption_that_does_not_exempt(
    form: str, state: str, value: str, said: str, number: int
) -> None:
    tag = {"tag": "keyrot-exempt-until", "value": value, "state": state}
    made = [
        user(f"u{n}", record("expiring", exemption=tag, access_key_id=f"AKIA{n}"))
        for n in range(number)
    ]
    assert shown("expiring", form, made).count(said) == number


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("left", "said"), [(2, "in 2 days"), (1, "within 24 hours")])
def test_the_last_day_is_not_said_to_be_a_whole_one(form: str, left: int, said: str) -> None:
    text = shown("expiring", form, [user("ana", record("expiring", days_left=left))])
    assert said in text
    assert "1 day" not in text


@pytest.mark.parametrize("form", FORMS)
def test_never_used(form: str) -> None:
    made = user("jane.doe", record("expiring", last_used_date=None, last_used_service="N/A"))
    text = shown("expiring", form, [made])
    assert "never used" in text
    assert "N/A" not in text


@pytest.mark.parametrize("form", ["html", "txt"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_two_hundred_users_are_all_there_by_deadline_and_short(situation: str, form: str) -> None:
    made = users(situation)
    body = render(message(situation, made, form))
    assert len(body.encode()) < 70_000  # and as base64, which the mailer makes of it, below 100 KB
    text = shown(situation, form, made)
    places = [text.index(u["c7n:keyrot"][0]["access_key_id"]) for u in made]
    order = sorted(range(200), key=lambda n: (made[n]["c7n:keyrot"][0]["deadline"], n))
    deadlines = [
        made[n]["c7n:keyrot"][0]["deadline"] for n in sorted(order, key=places.__getitem__)
    ]
    assert deadlines == sorted(deadlines)
    assert text.count("aws iam delete-access-key") == 1


@pytest.mark.parametrize("situation", SITUATIONS)
def test_two_hundred_long_names_with_exemptions_stay_below_100_kb(situation: str) -> None:
    tag = {"tag": "keyrot-exempt-until", "value": "v" * 256, "state": "unreadable"}
    made = [user(f"{n:03}" + "x" * 61, record(situation, exemption=tag)) for n in range(200)]
    assert len(render(message(situation, made)).encode()) < 100_000


@pytest.mark.parametrize("situation", SITUATIONS)
def test_slack_takes_two_hundred_users(situation: str) -> None:
    payload = json.loads(render(message(situation, users(situation)), "general"))
    assert len(payload["blocks"]) <= 50
    assert sum(len(block["text"]["text"]) for block in payload["blocks"]) < 12_000
    assert re.search(r"and \d+ more keys", json.dumps(payload))
    assert len(payload["blocks"][0]["text"]["text"]) <= 150


@pytest.mark.parametrize(
    ("recipient", "channel"),
    [("general", "general"), ("U0123", "U0123"), ("https://hooks.slack.com/services/x", None)],
)
def test_slack_names_a_channel_except_to_a_webhook(recipient: str, channel: str | None) -> None:
    made = message("expiring", [user("jane.doe", record("expiring"))])
    assert json.loads(render(made, recipient)).get("channel") == channel


# Hostile content


def hostile(situation: str, text: str) -> list[dict[str, Any]]:
    tag = {"tag": "keyrot-exempt-until", "value": text, "state": "unreadable"}
    changes = {"last_used_service": text, "last_used_region": text, "exemption": tag}
    named = user(text, record(situation, **changes), path=f"/{text}/", tags={text: text})
    twin = user(text, record(situation, access_key_id=None, identified="ambiguous", **changes))
    bare = {"UserName": text, "Tags": [{"Key": "maid_status", "Value": f"x-access-key@{text}"}]}
    return [named, twin, bare]


def elements(reader: Reader) -> list[str]:
    return [tag for tag, _ in reader.tags if tag != "span"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_html_is_escaped(situation: str, number: int, text: str) -> None:
    made = hostile(situation, text)
    for n in range(1, number):
        more = record(situation, access_key_id=f"AKIA{n}")
        made.append(user(f"{text}{n}", more))
    harmless = copy.deepcopy(made)
    body = render(message(situation, made, name=text))
    body.encode()
    reader, plain = Reader(), Reader()
    reader.feed(body)
    for one in harmless:
        for part in (one, *one.get("c7n:keyrot", ())):
            for key, value in part.items():
                if isinstance(value, str):
                    part[key] = value.replace(text, "harmless")
            if isinstance(part.get("exemption"), dict):
                part["exemption"]["value"] = "harmless"
    plain.feed(render(message(situation, harmless)))
    # A command's words are spans, so there are as many as the name has words.
    assert elements(reader) == elements(plain)
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert "49" not in reader.text if text == HOSTILE["jinja"] else True


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("situation", SITUATIONS)
def test_text_mails_lines_can_not_be_forged(situation: str, text: str) -> None:
    made = hostile(situation, text)
    body = render(message(situation, made, "txt"))
    body.encode()
    assert not re.search(r"^(Bcc|Deadline)", body, re.MULTILINE)
    assert all(line.isprintable() for line in body.split("\n"))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("situation", SITUATIONS)
def test_slack_is_json_and_mentions_nobody(situation: str, text: str) -> None:
    payload = json.loads(render(message(situation, hostile(situation, text)), "general"))
    assert payload["channel"] == "general"
    for block in payload["blocks"][1:]:
        assert "<" not in block["text"]["text"]
        assert block["text"]["text"].count("```") % 2 == 0
    assert "<" not in payload["text"]


NAMES = [name for kind, name in HOSTILE.items() if name.isprintable() and kind != "slack"]
NAMES += ["jane.doe", "=cmd", "+x", "@x", "-x", "it's", "a  b", "~", "$(touch pwned)", "a;b"]


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize(
    ("form", "name"),
    # Slack has no way to show a backtick in code; IAM has no such names.
    [(form, name) for form in FORMS for name in NAMES if form != "slack" or "`" not in name],
)
def test_commands_reach_exactly_this_user(
    form: str, number: int, name: str, tmp_path: Path
) -> None:
    """What a reader copies goes through a real shell, and `aws` gets its arguments."""
    aws = tmp_path / "aws"
    aws.write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    aws.chmod(0o755)
    made = [user(name, record("disabling"))] + [
        user(f"other{n}", record("disabling", access_key_id=f"AKIA{n}")) for n in range(1, number)
    ]
    if form == "html":
        body = render(message("disabling", made))
        text = "\n".join(
            html.unescape(re.sub("<[^>]+>", "", code))
            for code in re.findall(r"<code>(.*?)</code>", body)
        )
    else:
        text = shown("disabling", form, made)
    assignments = ""
    if number > 1:
        found = re.findall(rf"user=.*? key={KEY}", text)
        assert len(found) == 1
        assignments = f"{found[0]}\n"
    command = lines_with(text, "--status Inactive")[0]
    done = subprocess.run(
        ["sh", "-c", assignments + command],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": "/nonexistent"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    words = done.stdout.decode().split("\0")[:-1]
    head = ["iam", "update-access-key", "--access-key-id", KEY, "--status", "Inactive"]
    joined = [f"--user-name={name}"]
    assert words in ([*head, "--user-name", name], head + joined)
    assert words[-1] == joined[0] or not name.startswith("-")
    assert not (tmp_path / "pwned").exists()
    if number == 1:
        assert shlex.split(command)[1:] == words


# Nothing is needed


BROKEN: list[Any] = [None, "", "text", 7, [], {}, [None], ["text"], {"x": None}, True]


def variants(situation: str) -> dict[str, dict[str, Any]]:
    """Messages with a part missing, or of a wrong kind."""
    whole = message(situation, [user("jane.doe", record(situation), tags=MARKED), user("joe")])
    mark = {"op": "disable-access-key", "tag": "keyrot-disable-on"}
    whole["policy"]["actions"].insert(1, {"type": "mark-for-op", "days": 14, **mark})
    whole["policy"]["filters"].append({"type": "marked-for-op", **mark})
    made = {}
    paths: list[tuple[Any, ...]] = [
        *((key,) for key in whole if key not in ("action", "policy", "resources")),
        *(("policy", key) for key in whole["policy"]),
        *(("policy", "metadata", key) for key in whole["policy"]["metadata"]),
        *(("action", key) for key in whole["action"] if not key.endswith("template")),
        *(("resources", 0, key) for key in whole["resources"][0]),
        *(("resources", 0, "c7n:keyrot", 0, key) for key in record(situation)),
        *(("resources", 0, "c7n:matched-keys", 0, key) for key in ("AccessKeyId", "CreateDate")),
        *(("resources", 0, "Tags", 0, key) for key in ("Key", "Value")),
        *(("policy", "actions", 1, key) for key in ("op", "days")),
        *(("policy", "filters", 2, key) for key in ("op", "tag")),
        ("policy", "filters", 0, "not"),
    ]
    for path in paths:
        for number, value in enumerate(["missing", *BROKEN]):
            changed = copy.deepcopy(whole)
            place: Any = changed
            try:
                for step in path[:-1]:
                    place = place[step]
            except IndexError:
                continue
            if number == 0:
                place.pop(path[-1], None)
            else:
                place[path[-1]] = value
            made[f"{path}={value!r}"] = changed
    return made


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_missing_or_odd_field_fails(situation: str, form: str) -> None:
    """A template that fails ends the mailer, and its message blocks the queue."""
    failed = []
    for name, made in variants(situation).items():
        made["action"]["template"] = f"c7n_keyrot-{situation}.{form}"
        if isinstance(made.get("execution_start", 0), (str, list, dict)):
            continue  # the mailer itself fails
        try:
            text = render(made, "general" if form == "slack" else ["owner@example.com"])
            text.encode()
        except Exception as error:
            failed.append(f"{name}: {error!r}")
    assert failed == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_users_of_a_policy_without_our_filters(situation: str, form: str) -> None:
    stock = user("stock")
    stock["c7n:matched-keys"] = [{"AccessKeyId": KEY, "CreateDate": "2026-01-01T00:00:00+00:00"}]
    bare = {"UserName": "bare"}
    text = shown(situation, form, [stock, bare], metadata=None, filters=None)
    assert KEY in text
    assert "1 January 2026" in text
    assert "Also matched by this policy" in text or "ALSO MATCHED BY THIS POLICY" in text
    assert "bare" in text


@pytest.mark.parametrize("form", FORMS)
def test_an_own_exemption_tag_is_named(form: str) -> None:
    filters = [{"not": [{"type": "rotation-exempt", "tag": "leave-until"}]}]
    made = [user("jane.doe", record("expiring"))]
    text = shown("expiring", form, made, filters=filters)
    assert "leave-until=YYYY-MM-DD" in text
    assert "keyrot-exempt-until" not in text


@pytest.mark.parametrize("form", FORMS)
def test_no_exemption_is_offered_where_the_policy_has_none(form: str) -> None:
    made = [user("jane.doe", record("expiring"))]
    text = shown("expiring", form, made, filters=["expiring-access-key"])
    assert "tag-user" not in text
    assert "ask security@example.com" in text


@pytest.mark.parametrize("form", FORMS)
def test_one_key_that_two_filters_mean_is_told_of_once(form: str) -> None:
    made = [user("jane.doe", record("disabling"), record("disabling", path="1"))]
    assert "Access key of jane.doe is being disabled" in shown("disabling", form, made)


MARKED = {
    "keyrot-delete-on": "Resource does not meet policy: delete-access-key@2026/09/01",
    "keyrot-disable-on": "Resource does not meet policy: disable-access-key@2026/08/20",
    "old": "Resource does not meet policy: disable-access-key@2026/01/01",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_marked_user_is_disabled_on_the_marks_day(form: str) -> None:
    """The reminders of a graceful roll-out name the day of the tag that the policy asks for."""
    due = {"type": "marked-for-op", "tag": "keyrot-disable-on", "op": "disable-access-key"}
    made = user("jane.doe", record("disabling"), tags=MARKED)
    text = shown("expiring", form, [made], filters=["stale-access-key", due])
    assert "will be disabled on 20 August 2026" in text


@pytest.mark.parametrize("form", FORMS)
def test_a_mark_that_the_policy_does_not_ask_for_says_nothing(form: str) -> None:
    made = user("jane.doe", record("expiring"), tags=MARKED)
    assert "will be disabled on 30 July 2026" in shown("expiring", form, [made])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("days", "day"),
    [
        (0, "19 July 2026"),
        (14, "2 August 2026"),
        (180, "15 January 2027"),
        (590, "29 February 2028"),
    ],
)
def test_a_user_who_is_being_marked_gets_the_new_marks_day(form: str, days: int, day: str) -> None:
    made = user("jane.doe", record("disabling"), tags=MARKED)
    marking = [{"type": "mark-for-op", "op": "disable-access-key", "days": days}]
    text = shown("expiring", form, [made], actions=marking)
    assert f"will be disabled on {day}" in text


@pytest.mark.parametrize("form", FORMS)
def test_a_notice_says_when_an_inactive_key_is_to_be_deleted(form: str) -> None:
    made = user("jane.doe", record("disabling"))
    marking = {"type": "mark-for-op", "op": "delete-access-key", "days": 30}
    text = shown("disabling", form, [made], actions=[marking, "disable-access-key"])
    said = "If nobody switches it on again, it is to be deleted from 18 August 2026 on."
    assert said in " ".join(text.split())
    assert "to be deleted" not in " ".join(shown("disabling", form, [made]).split())


@pytest.mark.parametrize("form", FORMS)
def test_both_keys_of_a_user_stand_in_one_notice(form: str) -> None:
    first = record("disabling", slot=1, access_key_id="AKIAFIRST")
    text = shown("disabling", form, [user("jane.doe", first, record("disabling"))])
    flat = " ".join(text.split())
    assert "Both access keys of jane.doe are being disabled by this run" in flat
    assert "They are being disabled" in flat
    assert "use the user's other key" not in flat
    for key in ("AKIAFIRST", KEY):
        for status in ("Inactive", "Active"):
            assert f"--access-key-id {key} --status {status} --user-name jane.doe" in flat
    assert flat.count("create-access-key") == (2 if form == "slack" else 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("situation", "do"),
    [
        ("expiring", "Create a new key and move everything to it by then (steps 2 and 3)"),
        ("disabling", "Create a new key and move everything to it (steps 2 and 3). To win time"),
    ],
)
def test_what_to_do_stands_before_the_details(form: str, situation: str, do: str) -> None:
    for number in (1, 5):
        text = " ".join(shown(situation, form, users(situation, number)).split())
        assert text.index(do) < text.index("AKIA")


# Exemptions


@pytest.mark.parametrize("form", ["html", "txt"])
def test_an_exemption_has_its_day_reason_and_owner(form: str) -> None:
    flat = " ".join(shown("exemptions", form, exemptions()).split())
    parts = [
        "Exemption of svc-legacy-000 from the rotation of access keys",
        "These exemptions end within 14 days.",
        "Rotate the keys before.",
        "aws iam tag-user --user-name svc-legacy-000 --tags Key=keyrot-exempt-until,Value=",
        "aws iam untag-user --user-name svc-legacy-000 --tag-keys keyrot-exempt-until",
        "D9.AWS.IAM.07",
    ]
    assert [flat.index(part) for part in parts] == sorted(flat.index(part) for part in parts)
    for words in [
        f"arn:aws:iam::{ACCOUNT}:user/svc-legacy-000",
        "1 August 2026",
        "appliance without a second key slot, SEC-1482",
        "owner@example.com",
    ]:
        assert words in flat
    assert "AKIA" not in flat
    assert "Also matched" not in flat


@pytest.mark.parametrize("form", ["html", "txt"])
def test_what_an_exemption_lacks_is_said(form: str) -> None:
    lacking = exemptions(1, keyrot_exempt_until="soon", keyrot_exempt_reason=" ", OwnerContact=None)
    text = shown("exemptions", form, lacking)
    assert text.count("none") == 2
    assert "soon" in text


@pytest.mark.parametrize("form", ["html", "txt"])
def test_an_exemption_by_another_tag(form: str) -> None:
    made = [user("jane.doe", tags={"leave-until": "2026-08-03"})]
    filters = [{"type": "rotation-exempt", "tag": "leave-until"}]
    text = shown("exemptions", form, made, filters=filters)
    assert "3 August 2026" in text
    assert "Key=leave-until" in text


@pytest.mark.parametrize("form", ["html", "txt"])
def test_two_hundred_exemptions_by_day_and_short(form: str) -> None:
    made = exemptions(200, keyrot_exempt_reason="r" * 256)
    body = render(message("exemptions", made, form))
    assert len(body.encode()) < 100_000
    days = [int(day) for day in re.findall(r"(\d+) August 2026", body)]
    assert len(days) == 200
    assert days == sorted(days)
    assert "200 exemptions from the rotation" in body
    assert body.count("aws iam untag-user") == 1 or form == "html"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_exemptions_are_escaped(text: str) -> None:
    def made(value: str, number: int) -> list[dict[str, Any]]:
        tags = {"keyrot-exempt-until": value, "keyrot-exempt-reason": value, "Owner": value}
        return [user(f"{value}{n}", path=f"/{value}/", tags=tags) for n in range(number)]

    for number in (1, 2):
        reader, plain = Reader(), Reader()
        reader.feed(render(message("exemptions", made(text, number))))
        plain.feed(render(message("exemptions", made("harmless", number))))
        assert elements(reader) == elements(plain)
        body = render(message("exemptions", made(text, number), "txt"))
        body.encode()
        assert not re.search(r"^(Bcc|Deadline)", body, re.MULTILINE)
        assert all(line.isprintable() for line in body.split("\n"))


def test_no_odd_tag_of_an_exemption_fails() -> None:
    for form in ("html", "txt"):
        for value in BROKEN:
            odd = exemptions()
            odd[0]["Tags"] = [{"Key": "keyrot-exempt-until", "Value": value}, value]
            render(message("exemptions", [*odd, {"UserName": value}], form))
            odd[0]["Tags"] = value
            render(message("exemptions", odd, form, action={"violation_desc": value}))


# The pack and the examples, with what their notices must say


def policies(path: str) -> list[dict[str, Any]]:
    text = (Path(__file__).parents[2] / path).read_text("utf-8")
    return list(yaml.safe_load(text)["policies"])


@pytest.mark.parametrize(
    ("path", "ending", "said"),
    [
        ("policies/second-access-key.yml", "expiring", "will be disabled on 30 July 2026"),
        ("policies/second-access-key.yml", "stale", "is being disabled by this run"),
        ("examples/both-slots.yml", "expiring", "will be disabled on 30 July 2026"),
        ("examples/both-slots.yml", "one", "is being disabled by this run"),
        ("examples/both-slots.yml", "both", "is being disabled by this run"),
        ("examples/delete-stage.yml", "-key-delete", "is being deleted by this run"),
        ("examples/delete-stage.yml", "disable", "to be deleted from 18 August 2026 on"),
        ("examples/exemptions.yml", "soon", "These exemptions end within 14 days."),
        ("examples/exemptions.yml", "void", "have ended or are no date"),
        ("examples/graceful-rollout.yml", "-mark", "will be disabled on 2 August 2026"),
        ("examples/graceful-rollout.yml", "remind", "will be disabled on 20 August 2026"),
        ("examples/graceful-rollout.yml", "disable-marked", "is being disabled by this run"),
        ("examples/notify-only.yml", "expiring-notify-only", "is due for rotation on 30 July"),
        ("examples/notify-only.yml", "stale-notify-only", "is past its rotation date"),
        ("examples/superseded-first.yml", "superseded", "is being disabled by this run"),
        ("examples/superseded-first.yml", "kept", "is past its rotation date"),
    ],
)
def test_a_notice_says_what_its_policy_does(path: str, ending: str, said: str) -> None:
    (policy,) = [policy for policy in policies(path) if policy["name"].endswith(ending)]
    (notify,) = [action for action in policy["actions"] if "template" in action]
    kind = "expiring" if "expiring-access-key" in str(policy["filters"]) else "disabling"
    made = message(kind, [user("jane.doe", record(kind), tags=MARKED)], action=notify)
    flat = " ".join(Reader.read(render({**made, "policy": policy})).split())
    assert said in flat
    again = "The next run deactivates a key past its deadline again" in flat
    assert again == ("disabled by this run" in flat and "graceful" not in path)
    if "exemptions" not in path:  # they have words of their own
        promised = re.findall(r"(?:will be|being) (?:disabled|deleted)", flat)
        assert (promised != []) == (" be" in said), promised


# Subjects


def pack_subjects() -> list[str]:
    return [
        action["subject"]
        for policy in policies("policies/second-access-key.yml")
        for action in policy["actions"]
        if isinstance(action, dict) and "subject" in action
    ]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("subject", pack_subjects())
def test_subjects_are_one_line_whatever_users_are_called(subject: str, text: str) -> None:
    made = message("disabling", hostile("disabling", text), action={"subject": subject})
    plain = message(
        "disabling", [user("jane.doe", record("disabling"))], action={"subject": subject}
    )
    assert get_message_subject(made) == get_message_subject(plain)
    assert get_message_subject(made).isprintable()
    mail = get_mimetext_message(
        {"from_address": "c@example.com", "templates_folders": [str(templates.folder())]},
        logging.getLogger("test"),
        made,
        made["resources"],
        ["owner@example.com"],
    ).as_string()
    headers = mail.partition("\n\n")[0]
    assert "Bcc" not in headers
    assert len(re.findall("^Subject:", headers, re.MULTILINE)) == 1


def test_nothing_but_the_templates_own_elements_is_loaded() -> None:
    body = render(message("expiring", users("expiring", 5)))
    assert not re.search(r"<(img|script|link|iframe|video|object)|url\(|@import", body)
