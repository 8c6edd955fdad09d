# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model of one AWS account: it knows what no report tells, each key's true slot and its history.

It answers as a boto3 IAM client does, at once and in this process, so that a hundred thousand cases
end in minutes. It knows nothing of the package.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from random import Random
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError, ConnectionClosedError

ACCOUNT = "123456789012"
START = datetime(2026, 5, 1, 12, 0, 0, tzinfo=timezone.utc)
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
EXEMPT = "keyrot-exempt-until"
# AWS makes a report at most this often.
REPORT_EVERY = timedelta(hours=4)

COLUMNS = ("active", "last_rotated", "last_used_date", "last_used_region", "last_used_service")
HEADER = [
    "user",
    "arn",
    "user_creation_time",
    *(f"access_key_{slot}_{name}" for slot in (1, 2) for name in COLUMNS),
]

READS = ("GetUser", "ListAccessKeys", "GetAccessKeyLastUsed", "ListUserTags")
CHANGES = ("UpdateAccessKey", "DeleteAccessKey")
WHOLE = ("GenerateCredentialReport", "GetCredentialReport", "ListUsers")
ERRORS = ("AccessDenied", "Throttling", "ServiceFailure", "ExpiredToken", "reset", "reset-late")


class Killed(BaseException):
    """The process is gone: nothing of it catches this, and nothing happens after it."""


@dataclass(eq=False)
class Key:
    """One access key. ``by`` tells who deactivated it last: ``tool``, ``hand`` or nobody yet."""

    id: str
    user: str
    slot: int
    created: datetime
    active: bool = True
    used: datetime | None = None
    micros: int = 0
    by: str | None = None
    # Somebody did the same, or undid it, after or beside the tool: no run could see it.
    unseen: bool = False
    # A run was cut off, or heard no answer, while it was at this key.
    unsure: bool = False

    @property
    def status(self) -> str:
        return "Active" if self.active else "Inactive"

    def entry(self) -> dict[str, Any]:
        return {
            "UserName": self.user,
            "AccessKeyId": self.id,
            "Status": self.status,
            "CreateDate": self.created.replace(microsecond=self.micros),
        }


@dataclass(eq=False)
class User:
    name: str
    path: str
    created: datetime
    tags: dict[str, str] = field(default_factory=dict)
    slots: dict[int, Key] = field(default_factory=dict)


@dataclass(frozen=True)
class Slot:
    """What a report says of a slot, as text, and what of it can be understood."""

    active: str
    rotated: str
    is_active: bool | None
    date: datetime | None


@dataclass(frozen=True)
class Report:
    """A credential report. ``rows`` is what a careful reader gets out of ``content``."""

    generated: datetime
    content: bytes
    rows: dict[str, dict[int, Slot]]
    users: dict[str, datetime]  # when they were created
    broken: bool


class Iam:
    """The account, its clock, and the client's methods. ``random`` decides what is by chance."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = START
        self.users: dict[str, User] = {}
        self.number = 0
        self.report: Report | None = None
        self.next_report = "good"
        self.waits = 0
        self.meta = SimpleNamespace(events=SimpleNamespace(register=lambda *args: None))
        self.exceptions = SimpleNamespace(NoSuchEntityException=NoSuchEntity)
        self.heal()
        self.begin()

    # -- for the driver

    def heal(self) -> None:
        self.faults: dict[tuple[str, str], str] = {}
        self.kill_at: tuple[int, bool] | None = None
        self.hooks: dict[int, Callable[[], None]] = {}

    def begin(self, actor: str = "tool") -> None:
        """A run starts: what it does is noted from here on."""
        self.actor = actor
        self.calls = self.changes = 0
        self.killed = self.hooked = False
        self.hooked_at = 0
        # Keys that were deleted while they were active, and had been for the last two calls.
        self.active_deleted: list[str] = []
        self.fired: list[tuple[str, str, str]] = []
        self.touched: list[tuple[str, str]] = []
        self.handed: Report | None = None

    def all_keys(self) -> list[Key]:
        return [key for user in self.users.values() for key in user.slots.values()]

    def tick(self) -> datetime:
        """The time as a process reads it."""
        self.now += timedelta(milliseconds=1)
        return self.now

    def whole_second(self) -> None:
        if self.now.microsecond:
            self.now = self.now.replace(microsecond=0) + SECOND

    # -- what people do

    def add_user(self, name: str) -> User:
        path = self.random.choice(["/", "/", "/team/", '/a<b>&"c/'])
        # No two users are of one second: those nothing tells apart once they exchange names.
        self.number += 1
        created = START - 1000 * DAY + self.number * SECOND
        self.users[name] = User(name, path, created)
        return self.users[name]

    def add_key(self, user: User, slot: int, created: datetime | None = None) -> Key:
        self.number += 1
        made = (created or self.now).replace(microsecond=0)
        key = Key(f"AKIA{self.number:016}", user.name, slot, made)
        key.micros = self.random.choice([0, 0, 123456])
        user.slots[slot] = key
        return key

    def set_status(self, key: Key, active: bool) -> None:
        if key.active and not active:
            key.by, key.unseen = self.actor, key.unseen and self.actor == "hand"
        elif not active and self.actor == "tool":
            key.unseen = True  # somebody was a moment faster; IAM's answer is the same
        elif active and not key.active and key.by == "tool" and self.actor == "hand":
            key.unseen = True
        key.active = active

    def make_report(self) -> None:
        """Make a report of what is true now, or, by ``next_report``, a damaged one."""
        # It takes AWS longer than a second: no key is made in the second that a report shows.
        self.whole_second()
        self.now += SECOND
        rows: dict[str, dict[int, Slot]] = {}
        lines = [["<root_account>", f"arn:aws:iam::{ACCOUNT}:root", *["not_supported"] * 11]]
        for user in self.users.values():
            slots, line = {}, [user.name, self.arn(user), user.created.isoformat()]
            for number in (1, 2):
                slots[number] = self._slot(user.slots.get(number))
                line += [slots[number].active, slots[number].rotated, "N/A", "N/A", "N/A"]
            rows[user.name] = slots
            lines.append(line)
        damage = self.next_report
        if damage == "rows" and self.users:
            victim = self.random.choice(list(rows))
            self._damage(victim, rows, lines)
        columns = [name.replace("key_2_active", "x") for name in HEADER]
        out = io.StringIO()
        csv.writer(out).writerows([columns if damage == "column" else HEADER, *lines])
        text = out.getvalue()
        if damage == "cut":
            text = text[: text.rindex(",")]
        content = text.encode("utf-16" if damage == "encoding" else "utf-8")
        broken = damage in ("column", "cut", "encoding")
        users = {user.name: user.created for user in self.users.values()}
        self.report = Report(self.now, content, rows, users, broken)
        self.next_report = "good"
        self.now += SECOND

    def _slot(self, key: Key | None) -> Slot:
        if key is None:
            return Slot("false", "N/A", False, None)
        zone = self.random.choice([timezone.utc, timezone.utc, timezone(timedelta(hours=-7))])
        text = key.created.astimezone(zone).isoformat()
        active = str(key.active)
        return Slot(
            self.random.choice([active, active.lower(), active.lower()]),
            text.replace("+00:00", "Z") if self.random.random() < 0.2 else text,
            key.active,
            key.created,
        )

    def _damage(
        self, victim: str, rows: dict[str, dict[int, Slot]], lines: list[list[str]]
    ) -> None:
        line = next(line for line in lines if line[0] == victim)
        number = self.random.choice([1, 2])
        column, slot = 3 + 5 * (number - 1), rows[victim][number]
        kind = self.random.choice(
            ["twice", "missing", "ghost", "undated", "odd", "drift", "future"]
        )
        if kind == "twice":
            lines.append(list(line))
            del rows[victim]
        elif kind == "missing":
            lines.remove(line)
            del rows[victim]
        elif kind == "ghost":
            rows.pop("ghost", None)  # one of that name may be real, and stands twice then
            lines.append(
                [
                    "ghost",
                    f"arn:aws:iam::{ACCOUNT}:user/ghost",
                    START.isoformat(),
                    "true",
                    START.isoformat(),
                    *["N/A"] * 3,
                    *line[3:8],
                ]
            )
        elif slot.date is None:
            return
        elif kind == "undated":
            texts = ["yesterday", "N/A", "2026-01-01T00:00:00", "9"]
            if not slot.is_active and rows[victim][3 - number].date == slot.date:
                # Nobody can tell an inactive key without a date from an empty slot.
                texts.remove("N/A")
            line[column + 1] = self.random.choice(texts)
            rows[victim][number] = Slot(slot.active, line[column + 1], slot.is_active, None)
        elif kind == "odd":
            line[column] = self.random.choice(["Expired", "yes", "1"])
            rows[victim][number] = Slot(line[column], slot.rotated, None, slot.date)
        elif kind == "drift":
            date = slot.date + self.random.choice([-1, 1]) * SECOND
            line[column + 1] = date.isoformat()
            rows[victim][number] = Slot(slot.active, date.isoformat(), slot.is_active, date)
        elif kind == "future":
            date = self.now + 1000 * DAY
            line[column + 1] = date.isoformat()
            rows[victim][number] = Slot(slot.active, date.isoformat(), slot.is_active, date)

    # -- what boto3 calls

    def _call(self, operation: str, subject: str = "") -> bool:
        """Count the call, let it fail if it has to; True if only its answer is lost."""
        if self.killed:
            raise Killed
        self.calls += 1
        hook = self.hooks.pop(self.calls, None)
        if hook:
            self.hooked, self.hooked_at = True, self.calls
            before, self.actor = self.actor, "hand"
            hook()
            self.actor = before
        fault = self.faults.get((operation, subject)) or self.faults.get((operation, "*"))
        if not fault:
            return False
        if fault == "reset-late" and operation not in CHANGES:
            fault = "reset"
        self.fired.append((operation, subject, fault))
        if fault == "reset-late":
            return True
        if fault == "reset":
            raise ConnectionClosedError(endpoint_url="https://iam.amazonaws.com/")
        raise error(fault, operation)

    def _user(self, operation: str, name: str) -> User:
        self._call(operation, name)
        if name not in self.users:
            raise error("NoSuchEntity", operation)
        return self.users[name]

    def arn(self, user: User) -> str:
        return f"arn:aws:iam::{ACCOUNT}:user{user.path}{user.name}"

    def _shape(self, user: User) -> dict[str, Any]:
        return {
            "UserName": user.name,
            "Path": user.path,
            "Arn": self.arn(user),
            "UserId": f"AIDA{user.name}",
            "CreateDate": user.created,
        }

    def generate_credential_report(self) -> dict[str, Any]:
        self._call("GenerateCredentialReport")
        if self.report is None or self.now - self.report.generated >= REPORT_EVERY:
            if self.waits:
                self.waits -= 1
                return {"State": "STARTED" if self.random.random() < 0.5 else "INPROGRESS"}
            # The clock of the run stands still, as its own time does: to the second.
            now = self.now
            self.make_report()
            self.now = now
        return {"State": "COMPLETE"}

    def get_credential_report(self) -> dict[str, Any]:
        self._call("GetCredentialReport")
        if self.report is None:
            raise error("ReportNotPresent", "GetCredentialReport")
        self.handed = self.report
        return {"Content": self.report.content, "GeneratedTime": self.report.generated}

    def get_user(self, UserName: str) -> dict[str, Any]:
        user = self._user("GetUser", UserName)
        return {"User": {**self._shape(user), "Tags": self._tags(user)}}

    @staticmethod
    def _tags(user: User) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in user.tags.items()]

    def list_access_keys(self, UserName: str) -> dict[str, Any]:
        user = self._user("ListAccessKeys", UserName)
        keys = [key.entry() for key in user.slots.values()]
        self.random.shuffle(keys)
        return {"AccessKeyMetadata": keys, "IsTruncated": False}

    def find(self, key_id: str) -> Key | None:
        return next((key for key in self.all_keys() if key.id == key_id), None)

    def get_access_key_last_used(self, AccessKeyId: str) -> dict[str, Any]:
        self._call("GetAccessKeyLastUsed", AccessKeyId)
        key = self.find(AccessKeyId)
        if key is None:
            self.fired.append(("GetAccessKeyLastUsed", AccessKeyId, "missing"))
            raise error("AccessDenied", "GetAccessKeyLastUsed")  # so does AWS
        used = {"LastUsedDate": key.used} if key.used else {}
        last = {"ServiceName": "s3" if key.used else "N/A", "Region": "us-east-1", **used}
        return {"UserName": key.user, "AccessKeyLastUsed": last}

    def update_access_key(self, UserName: str, AccessKeyId: str, Status: str) -> dict[str, Any]:
        return self._change("UpdateAccessKey", UserName, AccessKeyId, Status)

    def delete_access_key(self, UserName: str, AccessKeyId: str) -> dict[str, Any]:
        return self._change("DeleteAccessKey", UserName, AccessKeyId, "deleted")

    def _change(self, operation: str, name: str, key_id: str, what: str) -> dict[str, Any]:
        self.changes += 1
        kill = self.kill_at is not None and self.kill_at[0] == self.changes
        if kill and not self.kill_at[1]:
            self._kill(key_id)
        lost = self._call(operation, key_id)
        key = self.find(key_id)
        if key is None or key.user != name:
            raise error("NoSuchEntity", operation)
        self.touched.append((key_id, what))
        if what == "deleted":
            if key.active and self.hooked_at != self.calls:
                self.active_deleted.append(key_id)
            del self.users[name].slots[key.slot]
        else:
            self.set_status(key, what == "Active")
        if kill:
            self._kill(key_id)
        if lost and self.random.random() < 0.5:
            raise error("ServiceFailure", operation)
        if lost:
            raise ConnectionClosedError(endpoint_url="https://iam.amazonaws.com/")
        return {}

    def _kill(self, key_id: str) -> None:
        self.killed = True
        raise Killed(key_id)

    def can_paginate(self, name: str) -> bool:
        return name in ("list_users", "list_user_tags")

    def get_paginator(self, name: str) -> Any:
        pages = {"list_users": self._pages_of_users, "list_user_tags": self._pages_of_tags}
        return SimpleNamespace(paginate=pages[name], PAGE_ITERATOR_CLS=None)

    def _pages_of_tags(self, UserName: str) -> Iterator[dict[str, Any]]:
        for tag in self._tags(self._user("ListUserTags", UserName)) or [None]:
            yield {"Tags": [tag] if tag else []}

    def _pages_of_users(self) -> Any:
        self._call("ListUsers")
        users = [self._shape(user) for user in self.users.values()]
        return SimpleNamespace(build_full_result=lambda: {"Users": users})


class NoSuchEntity(ClientError):
    """IAM's NoSuchEntityException, by which some callers know it."""


def error(code: str, operation: str) -> ClientError:
    made = NoSuchEntity if code == "NoSuchEntity" else ClientError
    status = {"ServiceFailure": 500, "AccessDenied": 403}.get(code, 400)
    answer = {
        "Error": {"Code": code, "Message": "injected"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": 0},
    }
    return made(answer, operation)


class Session:
    """A boto3 session in the account."""

    region_name = "us-east-1"

    def __init__(self, iam: Iam) -> None:
        self.iam = iam
        self.events = SimpleNamespace(unregister=lambda *args, **kwargs: None)

    def client(self, service: str, *args: Any, **kwargs: Any) -> Iam:
        assert service == "iam"
        return self.iam


# Events: each changes one thing of the account, as people do between two runs, or during one.


def _any_user(iam: Iam) -> User | None:
    return iam.random.choice(list(iam.users.values())) if iam.users else None


def _any_key(iam: Iam) -> Key | None:
    keys = iam.all_keys()
    return iam.random.choice(keys) if keys else None


def key_created(iam: Iam) -> None:
    user = _any_user(iam)
    free = [slot for slot in (1, 2) if user and slot not in user.slots]
    if user and free:
        iam.add_key(user, iam.random.choice(free))
        if len(free) == 2 and iam.random.random() < 0.3:
            # A script made both in one second.
            iam.add_key(user, next(slot for slot in (1, 2) if slot not in user.slots))


def key_rotated(iam: Iam) -> None:
    key = _any_key(iam)
    if key:
        del iam.users[key.user].slots[key.slot]
        iam.add_key(iam.users[key.user], key.slot)


def key_deactivated(iam: Iam) -> None:
    key = _any_key(iam)
    if key:
        iam.set_status(key, False)


def key_activated(iam: Iam) -> None:
    key = _any_key(iam)
    if key:
        iam.set_status(key, True)


def key_deleted(iam: Iam) -> None:
    key = _any_key(iam)
    if key:
        del iam.users[key.user].slots[key.slot]


def key_used(iam: Iam) -> None:
    key = _any_key(iam)
    if key and key.active:
        key.used = iam.now.replace(microsecond=0)


def user_deleted(iam: Iam) -> None:
    user = _any_user(iam)
    if user and len(iam.users) > 1:
        del iam.users[user.name]


def user_recreated(iam: Iam) -> None:
    user = _any_user(iam)
    if user:
        fresh = iam.add_user(user.name)
        for slot in user.slots:
            if iam.random.random() < 0.7:
                iam.add_key(fresh, slot)


def user_created(iam: Iam) -> None:
    names = [
        name for name in ("ana", "bob", "=cmd", "d,e", "eve", "ghost") if name not in iam.users
    ]
    if names:
        user = iam.add_user(iam.random.choice(names))
        for slot in (1, 2):
            if iam.random.random() < 0.7:
                iam.add_key(user, slot)


def user_renamed(iam: Iam) -> None:
    user = _any_user(iam)
    new = f"{user.name}x" if user else ""
    if user and new not in iam.users and len(new) < 10:
        del iam.users[user.name]
        user.name = new
        iam.users[new] = user
        for key in user.slots.values():
            key.user = new


def keys_of_one_second(iam: Iam) -> None:
    """A script makes a key for each of two users."""
    users = [user for user in iam.users.values() if len(user.slots) < 2]
    if len(users) > 1:
        for user in iam.random.sample(users, 2):
            iam.add_key(
                user, iam.random.choice([slot for slot in (1, 2) if slot not in user.slots])
            )


def names_exchanged(iam: Iam) -> None:
    """Dates alone would mislead where both have keys of one second."""
    if len(iam.users) < 2:
        return
    one, two = iam.random.sample(list(iam.users.values()), 2)
    one.name, two.name = two.name, one.name
    for user in (one, two):
        iam.users[user.name] = user
        for key in user.slots.values():
            key.user = user.name


def tag_set(iam: Iam) -> None:
    user = _any_user(iam)
    if user:
        day = iam.now.date()
        off = iam.random.choice([0, 1, 30, -1, -300])
        exempt = str(day + timedelta(days=off)) if iam.random.random() < 0.85 else "soon"
        tag, value = iam.random.choice([(EXEMPT, exempt), (EXEMPT, exempt), ("team", "shop")])
        user.tags[tag] = value


def tag_removed(iam: Iam) -> None:
    user = _any_user(iam)
    if user and user.tags:
        del user.tags[iam.random.choice(list(user.tags))]


def report_made(iam: Iam) -> None:
    if iam.random.random() < 0.3:
        iam.next_report = iam.random.choice(["rows", "rows", "rows", "column", "cut", "encoding"])
    iam.make_report()


def report_lost(iam: Iam) -> None:
    iam.report = None
    iam.waits = iam.random.choice([0, 0, 1, 3])


# Ends of options: what these policies say, and one second beside it.
DAYS = (90, 90, 90, 30, 7.125, 0.5)


def clock_moved(iam: Iam) -> None:
    iam.whole_second()
    key = _any_key(iam)
    due = iam.now
    if key:
        by = timedelta(days=iam.random.choice(DAYS)) + iam.random.choice([0, 0, 1, -1]) * SECOND
        due = key.created + by
    if due > iam.now and iam.random.random() < 0.6:
        iam.now = due
    else:
        iam.now += iam.random.choice([SECOND, 5 * HOUR, DAY, 20 * DAY, 95 * DAY, 95 * DAY])


EVENTS: tuple[Callable[[Iam], None], ...] = (
    key_created,
    key_created,
    key_rotated,
    key_deactivated,
    key_deactivated,
    key_activated,
    key_activated,
    key_activated,
    key_deleted,
    key_used,
    user_deleted,
    user_recreated,
    user_created,
    user_renamed,
    keys_of_one_second,
    names_exchanged,
    tag_set,
    tag_set,
    tag_removed,
    report_made,
    report_lost,
    clock_moved,
    clock_moved,
    clock_moved,
)
# Those that change one thing that a run reads once: a run sees it as before or as after.
DURING = (
    key_rotated,
    key_deactivated,
    key_activated,
    key_deleted,
    key_created,
    tag_set,
    user_deleted,
)


def account(random: Random) -> Iam:
    """A new account with some users, most of whose keys are old."""
    iam = Iam(random)
    names = ["ana", "bob", "=cmd", "d,e", "eve"]
    for name in names[: random.randint(1, 5)]:
        user = iam.add_user(name)
        second = START - random.choice([90, 91, 200]) * DAY
        for slot in (1, 2):
            if random.random() < 0.8:
                age = random.choice([0, 5, 29, 30, 31, 76, 89, 90, 90, 91, 200, 400]) * DAY
                made = START - age - random.choice([0, 0, 1, -1, 3600]) * SECOND
                same = random.random() < 0.15
                key = iam.add_key(user, slot, second if same else min(made, START))
                key.active = random.random() < 0.75
                if not key.active:
                    key.by = "hand"
                if random.random() < 0.6:
                    key.used = key.created + (START - key.created) * random.random()
                    key.used = key.used.replace(microsecond=0)
        if random.random() < 0.2:
            tag_set(iam)
    iam.now += 2 * SECOND
    return iam
