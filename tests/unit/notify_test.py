# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What Custodian's notify sends in a policy of ours, by Custodian's own machinery."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from c7n.actions.notify import Notify
from c7n.exceptions import PolicyExecutionError
from c7n.utils import dumps
from in_memory import Custodian, Iam

from c7n_keyrot.aws.event_history import Pacer
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.outcomes import Outcome

STALE, EXPIRING = "stale-access-key", "expiring-access-key"
NOTIFY = {
    "type": "notify",
    "to": ["resource-owner"],
    "subject": "Your AWS access key is being disabled",
    "template": "c7n_keyrot-disabling.html",
    "transport": {"type": "sqs", "queue": "c7n-keyrot"},
}
NOTICE = "c7n:keyrot-notice"
ACCOUNT = "123456789012"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The messages that were sent, unpacked."""
    messages: list[dict[str, Any]] = []

    def send(self: Any, message: Any, packed: str | None = None) -> str:
        # SQS takes no more.
        assert packed is not None
        assert len(packed) <= 262_144
        messages.append(json.loads(zlib.decompress(base64.b64decode(packed))))
        return "id"

    monkeypatch.setattr(Notify, "send_data_message", send)
    monkeypatch.setattr("c7n.utils.get_account_alias_from_sts", lambda session: "acme")
    return messages


def names(sent: list[dict[str, Any]]) -> list[str]:
    return [user["UserName"] for message in sent for user in message["resources"]]


def told_keys(sent: list[dict[str, Any]]) -> set[str]:
    users = [user for message in sent for user in message["resources"]]
    return {key["key"] for user in users for key in user[NOTICE]["keys"]}


def seed(iam: Iam) -> None:
    second = iam.now - timedelta(days=200)
    iam.add("both", 300, 200)
    iam.add("first", 300, 20)
    iam.add("second", 20, 200)
    iam.add("soon", 20, 80)
    iam.add("twin", second, second)
    iam.add("exempt", 20, 200, {"keyrot-exempt-until": "2999-01-01"})
    iam.add("unlisted", 20, 200)
    iam.errors["ListAccessKeys", "unlisted"] = "AccessDenied"
    iam.add("unread", 20, 200)
    iam.errors["GetUser", "unread"] = "AccessDenied"
    iam.add("rotated", 20, 200)
    iam.keys["rotated"].pop()
    iam.add_key("rotated", "rotated-3", 0)


def slot(number: int, **more: Any) -> dict[str, Any]:
    return {"type": STALE, "slot": number, **more}


@pytest.mark.parametrize(
    "filters",
    [
        [slot(2)],
        [slot(1)],
        [{"or": [slot(1), slot(2)]}],
        [{"and": [slot(1), slot(2)]}],
        [slot(2), {"not": [slot(1)]}],
        [{"or": [slot(2), {"type": EXPIRING}]}],
        [{"or": [slot(2), {"type": "value", "key": "UserName", "value": "soon"}]}],
        [{"not": ["rotation-exempt"]}, {"or": [slot(1), slot(2)]}],
        [
            {"or": [slot(1), slot(2)]},
            {"type": "access-key", "key": "AccessKeyId", "value": "both-2"},
        ],
    ],
)
@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_owners_hear_of_the_keys_that_are_disabled_and_of_no_others(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]], filters: list[Any], source: str
) -> None:
    seed(iam)
    if source == "describe":
        iam.errors.pop(("GetUser", "unread"))
        iam.later_errors["unread"] = "AccessDenied"
    if "access-key" in str(filters[1:]):
        # Custodian's own filter would end the run there.
        iam.errors.pop(("ListAccessKeys", "unlisted"))
    with contextlib.suppress(PolicyExecutionError):
        custodian.run(filters, [NOTIFY, "disable-access-key"], source=source)
    assert told_keys(sent) == {key_id for _, key_id, _ in iam.changed}
    # Both keys of one user are never meant by an and.
    assert bool(iam.changed) == ("and" not in filters[0])


@pytest.mark.parametrize("kind", ["disabling", "expiring"])
def test_no_message_is_sent_that_is_true_of_nobody(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]], kind: str
) -> None:
    second = iam.now - timedelta(days=200)
    iam.add("twin", second, second)
    notify = {**NOTIFY, "template": f"c7n_keyrot-{kind}.html"}
    assert len(custodian.run([STALE], [notify])) == 1
    assert sent == []


def test_a_message_has_the_notice_and_none_of_our_other_annotations(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]]
) -> None:
    iam.add("ana", 20, 200, {"OwnerContact": "ana@example.com"})
    (user,) = custodian.run([STALE], [NOTIFY])
    (message,) = sent
    (told,) = message["resources"]
    assert {name for name in told if name.startswith("c7n")} == {NOTICE}
    assert told["Tags"] == [{"Key": "OwnerContact", "Value": "ana@example.com"}]
    # Nor does the notice get anywhere else.
    assert NOTICE not in user
    assert "keyrot" not in NOTIFY
    assert NOTICE not in (custodian.folder / "test" / "resources.json").read_text()
    assert "keyrot" not in json.loads((custodian.folder / "test" / "metadata.json").read_text())


@pytest.mark.parametrize(
    ("change", "annotated"),
    [
        ({}, False),
        ({"slack_template": "c7n_keyrot-slack-disabling"}, False),
        ({"slack_template": "ours"}, True),
        ({"template": "ours.html", "slack_template": "c7n_keyrot-slack-disabling"}, True),
    ],
)
def test_another_template_beside_ours_gets_our_annotations(
    iam: Iam,
    custodian: Custodian,
    sent: list[dict[str, Any]],
    change: dict[str, str],
    annotated: bool,
) -> None:
    iam.add("ana", 20, 200)
    custodian.run([STALE], [{**NOTIFY, **change}])
    (told,) = sent[0]["resources"]
    assert NOTICE in told
    assert ("c7n:keyrot" in told) == annotated


@pytest.mark.parametrize("template", ["default.html", "my-c7n_keyrot-disabling.html", None])
def test_notices_with_templates_of_others_are_as_stock_sends_them(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]], template: str | None
) -> None:
    """A subject without a word of us, all users, all annotations."""
    second = iam.now - timedelta(days=200)
    iam.add("ana", 20, 200)
    iam.add("twin", second, second)
    notify = {key: value for key, value in NOTIFY.items() if key != "template"}
    custodian.run([STALE], [notify | ({"template": template} if template else {})])
    assert sorted(names(sent)) == ["ana", "twin"]
    assert all(NOTICE not in user and "c7n:keyrot" in user for user in sent[0]["resources"])
    assert "keyrot" not in sent[0]["action"]
    assert sent[0]["action"]["subject"] == NOTIFY["subject"]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("Your key", "Your key: account {{ action.keyrot.account }}"),
        ("[{{ account }}] Your key", "[{{ account }}] Your key"),
        ("{% if account %}x{% endif %}", "{% if account %}x{% endif %}"),
        (None, None),
    ],
)
def test_a_subject_without_a_pattern_of_its_own_names_the_account(
    iam: Iam,
    custodian: Custodian,
    sent: list[dict[str, Any]],
    subject: str | None,
    expected: str | None,
) -> None:
    iam.add("ana", 20, 200)
    notify = {**NOTIFY, "subject": subject} if subject else {**NOTIFY}
    if not subject:
        del notify["subject"]
    policy = custodian.policy([STALE], [notify])
    policy.run()
    policy.run()  # and names it once
    assert [message["action"].get("subject") for message in sent] == [expected] * 2


@pytest.mark.parametrize(
    ("environment", "label"),
    [
        ({}, f"acme ({ACCOUNT})"),
        ({"AccountName": "payments", "AccountId": ACCOUNT}, f"payments ({ACCOUNT})"),
        ({"AccountName": "payments", "AccountId": "999999999999"}, f"acme ({ACCOUNT})"),
        ({"AccountName": "payments"}, f"acme ({ACCOUNT})"),
        ({"AccountId": ACCOUNT}, f"acme ({ACCOUNT})"),
    ],
)
def test_under_c7n_org_an_account_has_its_name_of_accounts_yml(
    iam: Iam,
    custodian: Custodian,
    sent: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    label: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    iam.add("ana", 20, 200)
    custodian.run([STALE], [NOTIFY])
    assert sent[0]["action"]["keyrot"]["account"] == label


@pytest.mark.parametrize(
    ("filters", "actions", "said"),
    [
        ([STALE], [], {}),
        ([STALE], ["disable-access-key"], {"does": "disable"}),
        ([slot(2, status="Inactive")], ["delete-access-key"], {"does": "delete"}),
        ([STALE], [{"type": "remove-keys", "matched": True}], {"does": "delete"}),
        (
            [STALE],
            [{"type": "remove-keys", "matched": True, "disable": True}],
            {"does": "disable"},
        ),
        (
            [STALE, {"not": [{"type": "rotation-exempt", "tag": "keep it"}]}],
            [],
            {"exempt_tag": "keep it", "exempt_word": "'keep it'"},
        ),
        (
            [{"type": "marked-for-op", "tag": "m", "op": "disable-access-key"}, STALE],
            [],
            {"dated": True},
        ),
        (
            [{"not": [{"type": "marked-for-op", "tag": "m", "op": "disable-access-key"}]}, STALE],
            [],
            {},
        ),
    ],
)
def test_what_a_policy_does_is_read_off_its_filters_and_actions(
    iam: Iam,
    custodian: Custodian,
    sent: list[dict[str, Any]],
    filters: list[Any],
    actions: list[Any],
    said: dict[str, Any],
) -> None:
    off = "Inactive" if "Inactive" in str(filters) else "Active"
    due = iam.now.strftime("x: disable-access-key@%Y/%m/%d")
    iam.add("ana", 20, (200, off), {"m": due} if "'not'" not in str(filters) else None)
    # Custodian's own remove-keys needs more of IAM than there is here.
    iam.delete_access_key = iam.update_access_key = lambda **_: None
    custodian.run(filters, [NOTIFY, *actions], source="describe")
    found = sent[0]["action"]["keyrot"]
    known = {"does", "dated", "exempt_tag", "exempt_word", "disable_on", "delete_on"}
    assert {name: found[name] for name in known & found.keys()} == said


@pytest.fixture
def crowd(iam: Iam) -> Callable[[int, str], None]:
    def add(number: int, text: str) -> None:
        for index in range(number):
            name = f"svc-reporting-{index:04}"
            tags = {
                "OwnerContact": "reporting@example.com",
                "Environment": "production",
                "Application": "reporting-pipeline",
                f"{name}-2": text,
                f"{name}-1": text,
            }
            iam.add(name, 20, 200, tags)

    return add


def test_three_hundred_users_come_in_one_message(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]], crowd: Any
) -> None:
    """An owner of many users gets one mail of them."""
    crowd(300, "Jenkins on build-3, since 2024")
    custodian.run([STALE], [NOTIFY, "disable-access-key"])
    assert [len(message["resources"]) for message in sent] == [300]
    assert len(dumps(sent[0])) < 2 * 262_144 * 0.75  # Custodian begins another one beyond


def use(iam: Iam, key_id: str, texts: random.Random) -> None:
    """Let the event history have 50 calls with a key, no two of them alike."""
    iam.events["us-east-1", key_id] = [
        {
            "EventTime": iam.now - timedelta(minutes=number),
            "EventSource": "ec2.amazonaws.com",
            "EventName": f"{texts.getrandbits(400):x}",
            "CloudTrailEvent": json.dumps(
                {
                    "sourceIPAddress": f"{texts.getrandbits(128):x}",
                    "userAgent": f"{texts.getrandbits(400):x}/{texts.getrandbits(400):x}",
                    "errorCode": f"{texts.getrandbits(400):x}",
                }
            ),
        }
        for number in range(50)
    ]


@pytest.mark.parametrize("number", [9, 90, 300])
def test_three_hundred_users_come_in_one_message_with_who_uses_their_keys(
    iam: Iam,
    custodian: Custodian,
    sent: list[dict[str, Any]],
    crowd: Any,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    monkeypatch.setattr(Pacer, "wait", lambda self, until: True)
    crowd(number, "Jenkins on build-3, since 2024")
    texts = random.Random(1)
    for index in range(number):
        use(iam, f"svc-reporting-{index:04}-2", texts)
    custodian.run([{"type": STALE, "usage": 7}], [NOTIFY, "disable-access-key"])
    assert [len(message["resources"]) for message in sent] == [number]
    assert len(dumps(sent[0])) < 2 * 262_144
    told = [user[NOTICE]["keys"][0]["usage"] for user in sent[0]["resources"]]
    assert all(usage["said"].startswith("Used 50 times in 7 days") for usage in told)
    # So many places, and a line that counts the rest.
    assert {len(usage.get("lines", ())) for usage in told} == {{9: 7, 90: 3, 300: 0}[number]}


def test_no_message_is_too_long_whatever_the_tags_say(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]], crowd: Any
) -> None:
    """Descriptions of the greatest length, which hardly compress."""
    for index in range(300):
        text = "".join(random.Random(index).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=256))
        crowd_name = f"u{index:03}{text[:58]}"
        iam.add(crowd_name, 20, 200, {f"{crowd_name}-2": text, f"{crowd_name}-1": text[::-1]})
    custodian.run([STALE], [NOTIFY, "disable-access-key"])
    assert len(names(sent)) == 300


def test_user_whom_only_stocks_filter_matched_stops_no_notice(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]]
) -> None:
    """Stock's credential filter leaves entries without a key id in c7n:matched-keys."""
    iam.add("ana", 10, 100)
    iam.add("bob", 100, 10)
    stock = {"type": "credential", "key": "access_keys.active", "value": True}
    custodian.run([{"or": [STALE, stock]}], [NOTIFY, "disable-access-key"])
    assert told_keys(sent) == {"ana-2"}
    assert iam.changed == [("ana", "ana-2", "Inactive")]


def notified(custodian: Custodian) -> list[Outcome]:
    path = custodian.folder / "test" / outcomes.NOTIFIED_FILE
    return [outcomes.parse(line) for line in path.read_bytes().splitlines()]


def test_each_key_that_a_notice_names_has_a_line(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]]
) -> None:
    """With the id of the message, the owner, and who ran it."""
    seed(iam)
    iam.add("ana", 20, 200, {"OwnerContact": "ana@corp.test"})
    with contextlib.suppress(PolicyExecutionError):  # of those who can't be read
        custodian.run([slot(2), {"not": ["rotation-exempt"]}], [NOTIFY])
    lines = notified(custodian)
    assert {line.access_key_id for line in lines} == told_keys(sent)
    assert {(line.action, line.outcome, line.message_id) for line in lines} == {
        ("notify", "notified", "id")
    }
    (ana,) = [line for line in lines if line.user == "ana"]
    assert (ana.owner, ana.slot, ana.run) == ("ana@corp.test", 2, sent[0]["execution_id"])
    assert ana.tags == {"OwnerContact": "ana@corp.test"}
    assert ana.caller
    assert ana.deadline


def test_an_older_custodian_packs_the_message_later(
    iam: Iam, custodian: Custodian, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 0.9.40 or so it has no payload where it sends a message."""
    iam.add("ana", 20, 200)
    monkeypatch.setattr("c7n.utils.get_account_alias_from_sts", lambda session: "acme")
    monkeypatch.setattr(Notify, "send_data_message", lambda self, message: "id")

    def process(self: Notify, resources: Any, event: Any = None) -> None:
        self.send_data_message({"resources": self.prepare_resources(resources)})

    monkeypatch.setattr(Notify, "process", process)
    custodian.run([slot(2)], [NOTIFY])
    (line,) = notified(custodian)
    assert (line.user, line.access_key_id, line.message_id) == ("ana", "ana-2", "id")


def test_what_was_not_sent_has_no_line(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    iam.add("ana", 20, 200)

    def refuse(self: Any, message: Any, packed: str) -> str:
        raise ValueError("no queue")

    monkeypatch.setattr(Notify, "send_data_message", refuse)
    with pytest.raises(ValueError, match="no queue"):
        custodian.run([slot(2)], [NOTIFY, "disable-access-key"])
    assert not (custodian.folder / "test" / outcomes.NOTIFIED_FILE).exists()
    assert iam.changed == []


def test_a_key_that_something_switches_on_again_says_how_often(
    iam: Iam, custodian: Custodian, sent: list[dict[str, Any]]
) -> None:
    """By the outcomes of earlier runs into the same folder, whatever else is in the file."""
    iam.add("ana", 20, 200)
    iam.add("bob", 20, 200)
    policy = [[slot(2)], [NOTIFY, "disable-access-key"]]
    for _ in range(3):
        custodian.run(*policy)
        iam.key("ana-2")["Status"] = "Active"
        with custodian.outcomes.open("ab") as file:
            file.write(b"{half\n")
    said = [
        {key["key"]: key.get("before") for user in one["resources"] for key in user[NOTICE]["keys"]}
        for one in sent
    ]
    assert said == [{"ana-2": None, "bob-2": None}, {"ana-2": "1"}, {"ana-2": "2"}]
