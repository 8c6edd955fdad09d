# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The users of the embedded AWS: realistic ones, for the demo and the tests."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from embedded_aws import HUB, MEMBER_ROLE, PARTITIONS, Account, EmbeddedAws, Key

MEMBERS = {"111111111111": "shop", "222222222222": "payments", "333333333333": "sandbox"}
QUEUE = "c7n-keyrot"
EXEMPT = "keyrot-exempt-until"
OWNER = "OwnerContact"
MINUTE = 1 / 24 / 60
SECOND = MINUTE / 60
LAST_MINUTES = (
    120  # seconds of a day; what begins before them is done with its reminders by midnight
)


@dataclass(frozen=True)
class Person:
    """A user, and what the pack does to the key in slot 2 as shipped.

    verdict: absent, inactive, fresh, expiring, stale or unknown, by the credential report.
    outcome: "disabled", "reminded" (a notice, nothing done), "unclear" (not touched, the security
    team has a notice, on some weekdays) or "left" (not selected at all).
    """

    name: str
    why: str
    verdict: str
    outcome: str
    slot1: Key | None = None
    slot2: Key | None = None
    tags: dict[str, str] = field(default_factory=dict)
    path: str = "/"
    rotated_since: bool = False  # slot 2, after the credential report


def due_in(days: int, last_used_days: float | None = None) -> Key:
    """Return a key whose 90 days end on the UTC day that is so many days from today.

    In a day's last two minutes it waits for the next one: a run that comes after it has a day less.
    """
    now = datetime.now(timezone.utc)
    left = 86400 - (now.hour * 3600 + now.minute * 60 + now.second)
    if left <= LAST_MINUTES:
        time.sleep(left)
    noon = datetime.now(timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0)
    return Key(rotated_at=noon + timedelta(days=days - 90), last_used_days=last_used_days)


def people(now: datetime | None = None) -> list[Person]:
    """Return users for every verdict, and look-alikes; ages count from `now` (UTC)."""
    now = (now or datetime.now(timezone.utc)).replace(microsecond=0)

    def day(days: int) -> str:
        return f"{now + timedelta(days=days):%Y-%m-%d}"

    same_second = now - timedelta(days=150)
    ana, ben = {OWNER: "ana@corp.test"}, {OWNER: "ben@corp.test"}
    used = Key(12, last_used_days=0.1)
    stale = Key(200, last_used_days=0.5)
    return [
        # To be disabled
        Person("ana", "second key 200 days old, in use", "stale", "disabled", used, stale, ana),
        Person(
            "ben",
            "moved to the first key, forgot the second",
            "stale",
            "disabled",
            used,
            Key(130, last_used_days=40),
            ben,
        ),
        Person("carla", "second key never used", "stale", "disabled", used, Key(365), ana),
        Person("dmitri", "both keys stale: only the second", "stale", "disabled", Key(300), stale),
        Person(
            "emre",
            "his only key is in slot 2: the first was deleted",
            "stale",
            "disabled",
            None,
            Key(120, last_used_days=1),
            ben,
        ),
        Person(
            "finn",
            "one second over 90 days",
            "stale",
            "disabled",
            used,
            Key(rotated_at=now - timedelta(days=90, seconds=1), last_used_days=2),
        ),
        Person(
            "grace",
            "her exemption has expired",
            "stale",
            "disabled",
            used,
            stale,
            {EXEMPT: day(-30), "keyrot-exempt-reason": "migration until spring", **ana},
        ),
        Person(
            "hugo",
            "his exemption isn't a date",
            "stale",
            "disabled",
            used,
            stale,
            {EXEMPT: "next spring", **ben},
        ),
        Person(
            "ci-deploy",
            "a machine's user, with a path",
            "stale",
            "disabled",
            used,
            Key(95, last_used_days=0.01, last_used_service="ecr", last_used_region="eu-west-1"),
            {"team": "build", **ben},
            "/machines/ci/",
        ),
        # To be reminded
        Person(
            "ines",
            "second key has 7 days left",
            "expiring",
            "reminded",
            used,
            due_in(7, last_used_days=1),
            ana,
        ),
        Person(
            "jonas",
            "second key is 90 days old tomorrow: the last reminder",
            "expiring",
            "reminded",
            used,
            due_in(1, last_used_days=1),
        ),
        Person("kim", "10 days left: no reminder today", "expiring", "left", used, due_in(10), ben),
        # Reported to the security team, but no key is touched
        Person(
            "lena",
            "both keys made in one second: which is which?",
            "stale",
            "unclear",
            Key(rotated_at=same_second),
            Key(rotated_at=same_second),
            ana,
        ),
        # Left alone
        Person(
            "marek",
            "exempt for 60 more days",
            "stale",
            "left",
            used,
            stale,
            {EXEMPT: day(60), "keyrot-exempt-reason": "vendor appliance, CHG-1042", **ana},
        ),
        Person(
            "nora",
            "rotated since the credential report",
            "stale",
            "left",
            used,
            stale,
            ben,
            rotated_since=True,
        ),
        Person("olga", "only her first key is stale", "fresh", "left", Key(250), Key(20), ana),
        Person("pavel", "one key, stale, in slot 1", "absent", "left", Key(250)),
        Person(
            "quinn",
            "second key stale, but inactive already",
            "inactive",
            "left",
            used,
            Key(400, status="Inactive"),
            ben,
        ),
        Person("rosa", "second key fresh", "fresh", "left", used, Key(3), ana),
        Person("sam", "no keys", "absent", "left"),
        Person(
            "tomas",
            "the report has no date for the second key",
            "unknown",
            "unclear",
            used,
            Key(300, report_date="N/A"),
        ),
    ]


def seed_account(
    account: Account, users: Iterable[Person] | None = None, report_age_hours: float = 1
) -> list[Person]:
    """Add the people to the account, with a credential report made some time ago."""
    users = list(people() if users is None else users)
    for person in users:
        account.add_user(person.name, person.slot1, person.slot2, person.tags, person.path)
    account.generate_report(report_age_hours)
    for person in users:
        if person.rotated_since:
            account.rotate(person.name, 2)
    return users


def seed_organization(aws: EmbeddedAws) -> dict[str, list[Person]]:
    """The hub with its queue, and three members with the role: all people, some, none to find.

    No user of the hub is to be found. Return {account id: its people}.
    """
    everybody = people()
    homes = {
        HUB: [p for p in everybody if p.name in ("rosa", "sam")],
        "111111111111": everybody,
        "222222222222": [p for p in everybody if p.name in ("ana", "emre", "ines", "rosa")],
        "333333333333": [p for p in everybody if p.name in ("olga", "pavel", "quinn", "sam")],
    }
    for account_id, users in homes.items():
        account = aws.account(account_id)
        seed_account(account, users)
        account.set_alias(f"example-{MEMBERS.get(account_id, 'hub')}")
        account.add_role()
    aws.create_queue(QUEUE, organization=True)
    return homes


def accounts_file(account_ids: Iterable[str] = MEMBERS, partition: str = "aws") -> dict[str, Any]:
    """Return c7n-org's accounts.yml for these members."""
    where = PARTITIONS[partition]
    return {
        "accounts": [
            {
                "account_id": account_id,
                "name": MEMBERS.get(account_id, f"account-{account_id}"),
                "role": where.arn("iam", account_id, f"role/{MEMBER_ROLE}"),
                "regions": [where.region],
            }
            for account_id in account_ids
        ]
    }
