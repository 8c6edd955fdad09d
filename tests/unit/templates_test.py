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
    UNCLEAR,
    exemptions,
    group,
    message,
    notified,
    other,
    record,
    render,
    twin,
    usage,
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
        f"AWS account acme-production ({ACCOUNT})",
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
    text = shown(situation, form, [made], acts=False, action={"enforced": False})
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
    text = shown("disabling", form, made, acts=False, actions=["notify", action])
    assert said in text
    assert unsaid not in text


UNDATED = dict.fromkeys(("last_rotated", "age_days", "deadline", "days_left"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identified": "ambiguous"}, "were created in the same second"),
        ({"identified": "unmatched"}, "key of the user has the date that"),
        ({"identified": "unread"}, "the policy asks about the user couldn't be read in this run"),
        ({"identified": "unmatched", "verdict": "unknown", **UNDATED}, "its date can't be read"),
        ({"identified": "date", "verdict": "unknown"}, "not whether it is active"),
    ],
)
@pytest.mark.parametrize("number", [1, 5])
def test_a_doubt_is_told_with_its_reason_and_with_what_resolves_it(
    form: str, changes: dict[str, Any], reason: str, number: int
) -> None:
    made = [twin(f"twin{n}", tags={"AKIATWINB": "build server"}, **changes) for n in range(number)]
    flat = " ".join(shown("unclear", form, made).split())
    many = number > 1
    for words in [
        "5 access keys need review" if many else "The second access key of twin0 needs review",
        "Nothing is done to any key of " + ("these users" if many else "this user"),
        reason,
        "AKIATWINA",
        "active, created 19 April 2026, 10:00 UTC, 90 days old",
        "build server",
        "aws iam list-access-keys --user-name" + ('="$user"' if many else " twin0"),
        "get-access-key-last-used --access-key-id " + ('"$key"' if many else "AKIATWINB"),
        "--access-key-id " + ('"$key"' if many else "KEY_ID") + " --status Inactive",
        "active key that is older than 90 days",
        "D9.AWS.IAM.07",
        "Credential report of 19 July 2026, 08:00 UTC",
    ]:
        assert words in flat, words
    assert not re.search(r"(will be|being) (disabled|deleted)", flat)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("identified", ["ambiguous", "unmatched", "unread"])
def test_no_notice_of_a_key_goes_out_where_none_is_identified(
    situation: str, identified: str
) -> None:
    """Its subject would say what isn't done, and can't be another for one user."""
    doubt = record(situation, access_key_id=None, identified=identified)
    users = [user("twin", doubt), user("jane.doe", record(situation))]
    made = message(situation, users)
    assert [user["UserName"] for user in made["resources"]] == ["jane.doe"]


def test_no_notice_of_disabling_goes_out_where_another_filter_rules_the_key_out() -> None:
    made = user("jane.doe", record("disabling"))
    made["c7n:matched-keys"] = []
    assert message("disabling", [made])["resources"] == []
    assert message("disabling", [made], acts=False)["resources"] != []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "active, 17 days old, last used 18 July 2026 by sts in us-east-1"),
        ({"status": "Inactive", "last_used_date": None}, "inactive, 17 days old, never used"),
        (
            {"in_report": False, "last_used_date": None, "age_days": 0.4},
            "active, 0 days old, created after the credential report",
        ),
    ],
)
def test_an_owner_sees_the_other_key(
    form: str, situation: str, changes: dict[str, Any], said: str
) -> None:
    """Whether the work is done already."""
    with_other = record(situation, other_key=other(**changes, description="new pipeline"))
    flat = " ".join(shown(situation, form, [user("jane.doe", with_other)]).split())
    for words in (said, "AKIAOTHERKEYEXAMPLE7", "new pipeline", "This user has two keys"):
        assert words in flat, words
    alone = " ".join(shown(situation, form, [user("jane.doe", record(situation))]).split())
    assert "ther key none" in alone
    assert "two keys" not in alone


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("number", [1, 5])
def test_a_keys_description_is_shown(form: str, situation: str, number: int) -> None:
    """As the console shows it."""
    made = [
        user(f"u{n}", record(situation, access_key_id=f"AKIA{n}", description=f"job <{n}>"))
        for n in range(number)
    ]
    text = shown(situation, form, made)
    for n in range(number):
        assert f"job <{n}>" in text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("state", "value", "said"),
    [
        ("expired", "2026-01-01", "Exemption keyrot-exempt-until=2026-01-01 has ended"),
        (
            "unreadable",
            "soon\n<b>",
            "Exemption keyrot-exempt-until=soon\ufffd<b> can't be read",
        ),
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
@pytest.mark.parametrize(
    ("deadline", "said"),
    [
        ("2026-07-21T00:00:00+00:00", "in 2 days"),
        ("2026-07-20T23:59:59+00:00", "tomorrow"),
        ("2026-07-19T23:59:59+00:00", "today"),
        ("2026-07-19T09:00:00+00:00", "today"),
    ],
)
def test_how_long_there_is_left_fits_the_date_beside_it(
    form: str, deadline: str, said: str
) -> None:
    text = shown("expiring", form, [user("ana", record("expiring", deadline=deadline))])
    assert said in text


@pytest.mark.parametrize("form", FORMS)
def test_never_used(form: str) -> None:
    made = user("jane.doe", record("expiring", last_used_date=None, last_used_service="N/A"))
    text = shown("expiring", form, [made])
    assert re.search(r"Last used\s+never\b|never used", text)
    assert "N/A" not in text


@pytest.mark.parametrize("form", ["html", "txt"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_two_hundred_users_are_all_there_by_deadline_and_short(situation: str, form: str) -> None:
    made = users(situation)
    body = render(message(situation, made, form))
    assert len(body.encode()) < 74_000  # and as base64, which the mailer makes of it, below 100 KB
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("number", [1, 5])
def test_an_owner_sees_who_uses_the_key(form: str, situation: str, number: int) -> None:
    server = group(action="iam:GetUser", source="10.9.8.7", agent="Boto3/1.34", count=3)
    used = usage(events=230, groups=[group(), server], other_groups=1, other_events=15)
    made = [
        user(f"u{n}", record(situation, access_key_id=f"AKIA{n}", usage=used))
        for n in range(number)
    ]
    flat = " ".join(shown(situation, form, made).split())
    for words, times in (
        ("Used 230 times in 7 days", number),
        ("s3:ListBuckets from 203.0.113.7 by aws-cli/2.15, 212 times, last 2 hours ago", number),
        ("iam:GetUser from 10.9.8.7 by Boto3/1.34, 3 times, last 2 hours ago", number),
        ("and 15 other calls", number),
        ("It has no data events, such as reads of S3 objects", 1),
    ):
        assert flat.count(words) == times, words


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"events": 0, "groups": []}, "No call in 7 days is in CloudTrail's event history"),
        (
            {"events": 0, "groups": [], "regions": [], "unknown": {"us-east-1": "X is denied"}},
            "Usage in us-east-1 isn't known: X is denied",
        ),
    ],
)
def test_silence_of_the_history_is_never_told_as_no_use(
    form: str, situation: str, changes: dict[str, Any], said: str
) -> None:
    made = [user("ana", record(situation, usage=usage(**changes)))]
    flat = " ".join(shown(situation, form, made).split())
    assert said in flat
    assert "may be in use all the same" in flat
    assert "unused" not in flat.lower()


@pytest.mark.parametrize("form", FORMS)
def test_without_the_option_no_notice_speaks_of_usage(form: str) -> None:
    text = shown("disabling", form, [user("ana", record("disabling"))])
    assert "CloudTrail" not in text
    assert "Usage" not in text


# Hostile content


def hostile(situation: str, text: str) -> list[dict[str, Any]]:
    tag = {"tag": "keyrot-exempt-until", "value": text, "state": "unreadable"}
    changes = {
        "last_used_service": text,
        "last_used_region": text,
        "exemption": tag,
        "description": text,
    }
    if situation == "unclear":
        return [twin(text, tags={text: text, "AKIATWINA": text}, **changes)]
    hostile_group = group(action=text, source=text, agent=text, errors={text: 1})
    changes["usage"] = usage(groups=[hostile_group, group()], unknown={text: text})
    changes["other_key"] = other(description=text, last_used_service=text, access_key_id=text)
    named = user(text, record(situation, **changes), path=f"/{text}/", tags={text: text})
    bare = {"UserName": text, "Tags": [{"Key": "maid_status", "Value": f"x-access-key@{text}"}]}
    return [named, bare]


def elements(reader: Reader) -> list[str]:
    return [tag for tag, _ in reader.tags if tag != "span"]


def replaced(value: Any, old: str, new: str) -> Any:
    """The same data with other texts in it, in keys as well."""
    if isinstance(value, dict):
        return {replaced(k, old, new): replaced(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [replaced(each, old, new) for each in value]
    return value.replace(old, new) if isinstance(value, str) else value


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("situation", [*SITUATIONS, "unclear"])
def test_html_is_escaped(situation: str, number: int, text: str) -> None:
    made = hostile(situation, text)
    for n in range(1, number):
        more = record(situation, access_key_id=f"AKIA{n}") if situation != "unclear" else None
        made.append(user(f"{text}{n}", more) if more else twin(f"{text}{n}"))
    body = render(message(situation, made))
    body.encode()
    reader, plain = Reader(), Reader()
    reader.feed(body)
    plain.feed(render(message(situation, replaced(made, text, "harmless"))))
    # A command's words are spans, so there are as many as the name has words.
    assert elements(reader) == elements(plain)
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert "49" not in reader.text if text == HOSTILE["jinja"] else True


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("situation", [*SITUATIONS, "unclear", "exemptions"])
def test_what_a_message_says_is_escaped_whoever_wrote_it(situation: str, text: str) -> None:
    """Every text of the message in turn, past all that our own side cleans."""
    whole = sample(situation)
    plain = Reader()
    plain.feed(render(whole))
    for path in paths(whole):
        if isinstance(at(whole, path), str) and path[0] != "policy" and "template" not in path[-1:]:
            changed = put(whole, path, text)
            reader = Reader()
            reader.feed(render(changed))
            loaded = {"script", "img", "iframe", "object", "svg", "b"} & set(elements(reader))
            assert loaded <= {"b"}, path
            assert elements(reader).count("b") <= elements(plain).count("b") + 1, path


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("situation", [*SITUATIONS, "unclear"])
def test_text_mails_lines_can_not_be_forged(situation: str, text: str) -> None:
    made = hostile(situation, text)
    body = render(message(situation, made, "txt"))
    body.encode()
    assert not re.search(r"^(Bcc|Deadline)", body, re.MULTILINE)
    assert all(line.isprintable() for line in body.split("\n"))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("situation", [*SITUATIONS, "unclear"])
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


BROKEN: list[Any] = [
    *(None, "", "text", 7, [], {}, [None], ["text"], {"x": None}, True, False),
    *(float("inf"), float("-inf"), float("nan"), 10**400, -1, 1e308, "\ud800", "n" * 100_000),
]
ODD = [None, float("inf"), [None], {"x": None}]


def sample(situation: str, form: str = "html") -> dict[str, Any]:
    """A message in which every field says something."""
    if situation == "exemptions":
        return message(situation, exemptions(), form)
    tag = {"tag": "keyrot-exempt-until", "value": "2026-01-01", "state": "expired"}
    more = {"exemption": tag, "description": "job", "drift": True}
    if situation == "unclear":
        return message(situation, [twin("lena", tags={"AKIATWINA": "job"}, **more)], form)
    used = usage(groups=[group(), group(source="10.9.8.7")], unknown={"eu-west-1": "denied"})
    known = record(situation, other_key=other(description="job"), usage=used, **more)
    return message(situation, [user("jane.doe", known, tags=MARKED)], form)


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in a message."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for step, each in inner:
        yield (*above, step)
        if isinstance(each, (dict, list)):
            yield from paths(each, (*above, step))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def put(whole: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(whole)
    at(changed, path[:-1])[path[-1]] = value
    return changed


# The mailer itself reads these before any template.
MAILERS = {("execution_start",), ("action",), ("policy",)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", [*SITUATIONS, "unclear", "exemptions"])
def test_no_missing_or_odd_field_fails(situation: str, form: str) -> None:
    """A template that fails ends the mailer, and its message blocks the queue."""
    if (situation, form) == ("exemptions", "slack"):
        pytest.skip("there is none")
    whole, failed = sample(situation, form), []
    for path in paths(whole):
        if path in MAILERS or "template" in str(path[-1]) or path == ("resources",):
            continue
        gone = copy.deepcopy(whole)
        del at(gone, path[:-1])[path[-1]]
        for value, made in [("missing", gone), *((v, put(whole, path, v)) for v in ODD)]:
            try:
                render(made, "general" if form == "slack" else ["owner@example.com"]).encode()
            except Exception as error:
                failed.append(f"{path}={str(value)[:50]}: {error!r}")
    assert failed == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", [*SITUATIONS, "unclear"])
def test_no_value_fails_wherever_it_is(situation: str, form: str) -> None:
    """All that a template prints at once: each kind of value in the place of every text."""

    def all_of(found: Any, value: Any) -> Any:
        if isinstance(found, dict):
            return {key: all_of(each, value) for key, each in found.items()}
        return [all_of(each, value) for each in found] if isinstance(found, list) else value

    whole = sample(situation, form)
    for value in BROKEN:
        made = {**whole, "resources": all_of(whole["resources"], value)}
        made["action"] = {**whole["action"], "keyrot": all_of(whole["action"]["keyrot"], value)}
        render(made, "general" if form == "slack" else ["owner@example.com"]).encode()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [None, [], [None], ["x"], [{}], [{"UserName": 7}], "x", {}])
def test_no_odd_list_of_users_fails(form: str, value: Any) -> None:
    made = put(sample("disabling", form), ("resources",), value)
    render(made, "general" if form == "slack" else ["owner@example.com"]).encode()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_users_of_a_policy_without_our_filters(situation: str, form: str) -> None:
    """Nothing of ours is on their way, so the message is as stock's."""
    made = sample(situation, form)
    del made["action"]["keyrot"]
    made["resources"] = [{"UserName": "bare"}]
    text = render(made, "general" if form == "slack" else ["owner@example.com"])
    assert "lso matched by this policy" in text.replace(
        "ALSO MATCHED BY THIS POLICY", "lso matched by this policy"
    )
    assert "bare" in text
    assert ACCOUNT in text


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
    text = shown("expiring", form, [made], actions=["notify", *marking])
    assert f"will be disabled on {day}" in text


@pytest.mark.parametrize("form", FORMS)
def test_a_notice_says_when_an_inactive_key_is_to_be_deleted(form: str) -> None:
    made = user("jane.doe", record("disabling"))
    marking = {"type": "mark-for-op", "op": "delete-access-key", "days": 30}
    text = shown("disabling", form, [made], actions=["notify", marking])
    said = "Unless it is activated again, it will be deleted, from 18 August 2026 on."
    assert said in " ".join(text.split())
    assert "will be deleted" not in " ".join(shown("disabling", form, [made]).split())


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
        ("disabling", "Create a new key and move everything to it (steps 2 and 3). To gain time"),
    ],
)
def test_what_to_do_stands_before_the_details(form: str, situation: str, do: str) -> None:
    for number in (1, 5):
        text = " ".join(shown(situation, form, users(situation, number)).split())
        assert text.index(do) < text.index("AKIA")


# Exemptions


@pytest.mark.parametrize("form", ["html", "txt"])
def test_an_exemption_has_its_day_reason_and_owner(form: str) -> None:
    words = {"violation_desc": "These exemptions need a look.", "action_desc": "Rotate before."}
    flat = " ".join(shown("exemptions", form, exemptions(), action=words).split())
    parts = [
        "Exemption of svc-legacy-000 from the rotation of access keys",
        "These exemptions need a look.",
        "Rotate before.",
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
@pytest.mark.parametrize(
    ("options", "number", "said"),
    [
        ({"ends-within": 9}, 1, "This exemption ends within 9 days."),
        ({"ends-within": 1}, 2, "These exemptions end within 1 day."),
        ({"longer-than": 30}, 1, "This exemption lasts longer than 30 days."),
        ({"longer-than": 30}, 2, "The last day may be 18 August 2026, at most."),
        ({"longer-than": 7.5}, 2, "These exemptions last longer than 7.5 days."),
    ],
)
def test_the_numbers_of_a_notice_are_the_policys_own(
    form: str, options: dict[str, float], number: int, said: str
) -> None:
    filters = [{"type": "rotation-exempt", **options}]
    text = shown("exemptions", form, exemptions(number), filters=filters)
    assert said in " ".join(text.split())
    assert ("1 August 2026, in 13 days" in text) or number == 1


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


# The pack and the examples, with what their notices must say


def policies(path: str) -> list[dict[str, Any]]:
    text = (Path(__file__).parents[2] / path).read_text("utf-8")
    return list(yaml.safe_load(text)["policies"])


@pytest.mark.parametrize(
    ("path", "ending", "said"),
    [
        ("policies/second-access-key.yml", "expiring", "will be disabled on 30 July 2026"),
        ("policies/second-access-key.yml", "stale", "is being disabled by this run"),
        ("policies/second-access-key.yml", "unclear", "second access key of jane.doe needs review"),
        ("examples/both-slots.yml", "expiring", "will be disabled on 30 July 2026"),
        ("examples/both-slots.yml", "one", "is being disabled by this run"),
        ("examples/both-slots.yml", "both", "is being disabled by this run"),
        ("examples/delete-stage.yml", "-key-delete", "is being deleted by this run"),
        ("examples/delete-stage.yml", "disable", "it will be deleted, from 18 August 2026 on"),
        ("examples/exemptions.yml", "soon", "This exemption ends within 14 days."),
        ("examples/exemptions.yml", "long", "The last day may be 20 July 2027, at most."),
        ("examples/exemptions.yml", "void", "have ended, or their last day is not a date"),
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
    kind = "expiring" if "expiring-access-key" in str(policy["filters"]) else "disabling"
    doubt = {"filter": UNCLEAR, "identified": "ambiguous", "access_key_id": None}
    status = "Inactive" if "-key-delete" in ending else "Active"
    more = doubt if ending == "unclear" else {"status": status}
    made = user("jane.doe", record(kind, **more), tags=MARKED)
    flat = " ".join(Reader.read(render(notified(policy, [made]))).split())
    assert said in flat
    again = "The next run deactivates a key past its deadline again" in flat
    assert again == ("disabled by this run" in flat and "graceful" not in path)
    if "exemptions" not in path:  # they have words of their own
        promised = re.findall(r"(?:will be|being) (?:disabled|deleted)", flat)
        assert (promised != []) == (" be" in said), promised


def test_an_examples_words_follow_its_settings() -> None:
    text = (Path(__file__).parents[2] / "examples/exemptions.yml").read_text("utf-8")
    text = text.replace("soon: &soon 14", "soon: &soon 9").replace("&longest 366", "&longest 100")
    said = []
    for policy in yaml.safe_load(text)["policies"][:2]:
        body = Reader.read(render(notified(policy, exemptions(2))))
        said += re.findall(r"These exemptions (?:end|last).*?\.", body)
        assert "14" not in str(policy["actions"][0])
    assert said == [
        "These exemptions end within 9 days.",
        "These exemptions last longer than 100 days.",
    ]


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


@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_comes_back_is_said_with_how_often(form: str) -> None:
    one = shown("disabling", form, [user("ana", record("disabling"))], before={KEY: 5})
    assert "It was disabled before and switched on again, 5 times." in " ".join(one.split())
    assert "switched on again" not in shown(
        "disabling", form, [user("ana", record("disabling"))], before={"AKIAX": 5}
    )
    assert "switched on again" not in shown(
        "expiring", form, [user("ana", record("expiring"))], before={KEY: 5}
    )
