# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model of one AWS account: it knows what no report tells, each key's true slot and its history.

It answers IAM's calls at once and in this process, so that a hundred thousand cases end in minutes.
Its clock goes on when somebody sleeps. It knows nothing of the package.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

from botocore.exceptions import ClientError
from soak_faults import Fault, error

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
OPERATIONS = {
    name: "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    for name in (*READS, *CHANGES, *WHOLE)
}
# Seconds that a listing may be behind. The package counts on less than five minutes.
LAGS = (1, 3, 8, 9, 30, 120, 250)


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
    odd: str = ""  # a status that is neither Active nor Inactive; it isn't active then
    used: datetime | None = None
    micros: int = 0
    by: str | None = None
    # Somebody did the same, or undid it, after or beside the tool: no run could see it.
    unseen: bool = False

    @property
    def status(self) -> str:
        return self.odd or ("Active" if self.active else "Inactive")

    def entry(self) -> dict[str, Any]:
        return {
            "UserName": self.user,
            "AccessKeyId": self.id,
            "Status": self.status,
            "CreateDate": self.created.replace(microsecond=self.micros),
        }


@dataclass(frozen=True)
class View:
    """A user's keys as they were, which listings show so long: (entry, slot) of each."""

    until: datetime
    keys: tuple[tuple[dict[str, Any], int], ...]


@dataclass(eq=False)
class User:
    name: str
    path: str
    created: datetime
    id: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    slots: dict[int, Key] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    lagged: bool = False  # the last listing was


@dataclass(eq=False)
class Call:
    """A call and its tries: None for one that was answered as AWS does."""

    operation: str
    subject: str
    user: str
    status: str = ""
    tries: list[Fault | None] = field(default_factory=list)
    effect: bool = False
    refused: str = ""  # by the account itself, with this code
    lagged: bool = False  # a listing that showed what was before

    @property
    def failed(self) -> bool:
        """Nothing that AWS says came back, or an injected error of AWS."""
        return bool(self.tries) and self.tries[-1] is not None

    @property
    def is_lost(self) -> bool:
        """Nobody who made this call can tell whether it took effect."""
        bad = self.failed or bool(self.refused)
        return bad and any(fault and fault.is_lost for fault in self.tries)

    def __str__(self) -> str:
        tries = ", ".join(str(fault or self.refused or "fine") for fault in self.tries)
        notes = " lagged" * self.lagged + " effect" * self.effect
        return f"{self.operation}({self.subject or ''}: {tries}{notes})"


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
        self.made: dict[str, Key] = {}  # all keys that there ever were
        self.rest: dict[str, list[dict[str, Any]]] = {}  # pages to come, by marker
        self.clients: dict[Any, Any] = {}  # real ones of boto3, by their configuration
        self.number = 0
        self.own = "AKIAOFTHEMODEL"  # the key that runs work with
        self.report: Report | None = None
        self.next_report = "good"
        self.waits = 0
        self.blind = False  # the role may not ask for a key's last use, and so not for its user
        self.lagging = 0.0  # how likely a write is to be followed by listings that lag
        self.heal()
        self.begin()

    # -- for the driver

    def heal(self) -> None:
        self.faults: dict[tuple[str, str], list[Fault]] = {}
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
        self.log: list[Call] = []
        self.answered_at, self.silence = self.now, timedelta(0)
        self.touched: list[tuple[str, str]] = []
        self.handed: Report | None = None

    def all_keys(self) -> list[Key]:
        return [key for user in self.users.values() for key in user.slots.values()]

    def tick(self) -> datetime:
        """The time as a process reads it."""
        self.now += timedelta(milliseconds=1)
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def whole_second(self) -> None:
        if self.now.microsecond:
            self.now = self.now.replace(microsecond=0) + SECOND

    # -- what people do

    def add_user(self, name: str) -> User:
        path = self.random.choice(["/", "/", "/team/", '/a<b>&"c/'])
        # No two users are of one second: those nothing tells apart once they exchange names.
        self.number += 1
        created = START - 1000 * DAY + self.number * SECOND
        self.users[name] = User(name, path, created, f"AIDA{self.number:016}")
        return self.users[name]

    def add_key(self, user: User, slot: int, created: datetime | None = None) -> Key:
        self.number += 1
        made = (created or self.now).replace(microsecond=0)
        key = Key(f"AKIA{self.number:016}", user.name, slot, made)
        key.micros = self.random.choice([0, 0, 123456])
        self.written(user)
        user.slots[slot] = self.made[key.id] = key
        return key

    def set_status(self, key: Key, active: bool) -> None:
        if key.active and not active:
            key.by, key.unseen = self.actor, key.unseen and self.actor == "hand"
        elif not active and self.actor == "tool":
            key.unseen = True  # somebody was a moment faster; IAM's answer is the same
        elif active and not key.active and key.by == "tool" and self.actor == "hand":
            key.unseen = True
        key.active, key.odd = active, ""

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
            number = self.random.choice([1, 2])
            damage_row = self.random.choice(DAMAGES)
            damage_row(Victim(self, victim, number, rows, lines))
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

    # -- IAM's operations

    def new_call(self, operation: str, params: dict[str, Any]) -> Call:
        """A client begins a call; it makes one try of it or more."""
        subject = params.get("AccessKeyId") or params.get("UserName") or ""
        user = params.get("UserName") or (self.made[subject].user if subject in self.made else "")
        call = Call(operation, subject, user, params.get("Status", ""))
        self.log.append(call)
        return call

    def answer(
        self, call: Call, params: dict[str, Any]
    ) -> tuple[dict[str, Any] | ClientError | None, Fault | None]:
        """One try of a call: the account's answer, if it arrived; and what becomes of that."""
        if self.killed:
            raise Killed
        self.calls += 1
        hook = self.hooks.pop(self.calls, None)
        if hook:
            self.hooked, self.hooked_at = True, self.calls
            before, self.actor = self.actor, "hand"
            hook()
            self.actor = before
        operation = call.operation
        change = operation in CHANGES
        kill = False
        if change:
            self.changes += 1
            kill = self.kill_at is not None and self.kill_at[0] == self.changes
            if kill and not self.kill_at[1]:
                self._kill(call.subject)
        fault = self._fault(call)
        call.tries.append(fault)
        answer: dict[str, Any] | ClientError | None = None
        if not fault or fault.after or not change:
            try:
                answer = getattr(self, OPERATIONS[operation])(call, **params)
            except ClientError as refused:
                answer = refused
                call.refused = refused.response["Error"]["Code"]
        if kill:
            self._kill(call.subject)
        if not fault or fault.what in ("AccessDenied", "ExpiredToken"):
            self.answered()
        return answer, fault

    def _fault(self, call: Call) -> Fault | None:
        for place in ((call.operation, call.subject), (call.operation, "*")):
            for number, fault in enumerate(self.faults.get(place, ())):
                if fault.skip:
                    self.faults[place][number] = replace(fault, skip=fault.skip - 1)
                    return None
                if fault.times is None:
                    return fault
                if fault.times:
                    self.faults[place][number] = replace(fault, times=fault.times - 1)
                    return fault
        return None

    def answered(self) -> None:
        """AWS answers a call: how long hadn't it?"""
        self.silence = max(self.silence, self.now - self.answered_at)
        self.answered_at = self.now

    @property
    def longest_silence(self) -> timedelta:
        """For how long AWS has answered no call since the run began."""
        return max(self.silence, self.now - self.answered_at)

    def _user(self, name: str) -> User:
        if name not in self.users:
            raise error("NoSuchEntity", "of a user", 404)
        return self.users[name]

    def arn(self, user: User) -> str:
        return f"arn:aws:iam::{ACCOUNT}:user{user.path}{user.name}"

    def _shape(self, user: User) -> dict[str, Any]:
        return {
            "UserName": user.name,
            "Path": user.path,
            "Arn": self.arn(user),
            "UserId": user.id,
            "CreateDate": user.created,
        }

    def generate_credential_report(self, call: Call) -> dict[str, Any]:
        if self.report is None or self.now - self.report.generated >= REPORT_EVERY:
            if self.waits:
                self.waits -= 1
                return {"State": "STARTED" if self.random.random() < 0.5 else "INPROGRESS"}
            # The clock of the run stands still, as its own time does: to the second.
            now = self.now
            self.make_report()
            self.now = now
        return {"State": "COMPLETE"}

    def get_credential_report(self, call: Call) -> dict[str, Any]:
        if self.report is None:
            raise error("ReportNotPresent", "GetCredentialReport", 410)
        if call.tries[-1] is None:
            self.handed = self.report
        return {"Content": self.report.content, "GeneratedTime": self.report.generated}

    def get_user(self, call: Call, UserName: str) -> dict[str, Any]:
        user = self._user(UserName)
        return {"User": {**self._shape(user), "Tags": self._tags(user)}}

    @staticmethod
    def _tags(user: User) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in user.tags.items()]

    def list_access_keys(
        self, call: Call, UserName: str, Marker: str | None = None
    ) -> dict[str, Any]:
        """List the keys, in pages of any number; between two of them anything may happen."""
        user = self._user(UserName)
        if Marker is not None and Marker in self.rest:
            call.lagged = user.lagged
            return self._keys_in_pages(self.rest.pop(Marker))
        entries = [key.entry() for key in user.slots.values()]
        views = self.views(user)
        if views and call.tries[-1] is None and self.random.random() < 0.2:
            views.clear()  # it has caught up
        if views:
            entries = [{**entry, "UserName": user.name} for entry, _ in views[0].keys]
        call.lagged = user.lagged = bool(views)
        self.random.shuffle(entries)
        return self._keys_in_pages(entries)

    def _keys_in_pages(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        end = len(entries) if self.random.random() < 0.7 else self.random.randint(0, len(entries))
        if end == len(entries):
            return {"AccessKeyMetadata": entries, "IsTruncated": False}
        marker = f"page-{self.calls}"
        self.rest[marker] = entries[end:]
        return {"AccessKeyMetadata": entries[:end], "IsTruncated": True, "Marker": marker}

    def find(self, key_id: str) -> Key | None:
        return next((key for key in self.all_keys() if key.id == key_id), None)

    def get_access_key_last_used(self, call: Call, AccessKeyId: str) -> dict[str, Any]:
        key = self.find(AccessKeyId)
        if key is None or self.blind:
            raise error("AccessDenied", "GetAccessKeyLastUsed", 403)  # so does AWS
        used = {"LastUsedDate": key.used} if key.used else {}
        last = {"ServiceName": "s3" if key.used else "N/A", "Region": "us-east-1", **used}
        return {"UserName": key.user, "AccessKeyLastUsed": last}

    def update_access_key(
        self, call: Call, UserName: str, AccessKeyId: str, Status: str
    ) -> dict[str, Any]:
        key = self._key_of(UserName, AccessKeyId)
        self.written(self.users[UserName])
        self.set_status(key, Status == "Active")
        self._touched(call, AccessKeyId, Status)
        return {}

    def delete_access_key(self, call: Call, UserName: str, AccessKeyId: str) -> dict[str, Any]:
        user, key = self._user(UserName), self._key_of(UserName, AccessKeyId)
        # No run can see what a listing doesn't show yet, or what happens at this very moment.
        if key.status != "Inactive" and self.hooked_at != self.calls and not user.lagged:
            self.active_deleted.append(key.id)
        self.written(user)
        del user.slots[key.slot]
        self._touched(call, AccessKeyId, "deleted")
        return {}

    def _key_of(self, name: str, key_id: str) -> Key:
        key = self.find(key_id)
        if key is None or key.user != name:
            raise error("NoSuchEntity", "of a key", 404)
        return key

    def _touched(self, call: Call, key_id: str, what: str) -> None:
        call.effect = True
        if (key_id, what) not in self.touched:
            self.touched.append((key_id, what))

    def _kill(self, key_id: str) -> None:
        self.killed = True
        raise Killed(key_id)

    def list_users(self, call: Call) -> dict[str, Any]:
        return {"Users": [self._shape(user) for user in self.users.values()]}

    def list_user_tags(self, call: Call, UserName: str) -> dict[str, Any]:
        return {"Tags": self._tags(self._user(UserName)), "IsTruncated": False}

    # -- listings lag behind writes

    def views(self, user: User) -> list[View]:
        """What listings of a user's keys may still show, the oldest first; it ends by itself."""
        user.views[:] = [view for view in user.views if view.until > self.now]
        return user.views

    def written(self, user: User) -> None:
        """Something is written: listings may show the keys of before for a while."""
        if not self.lagging or self.random.random() >= self.lagging:
            return
        keys = tuple((key.entry(), key.slot) for key in user.slots.values())
        until = self.now + self.random.choice(LAGS) * SECOND
        user.views.append(View(max([until, *(view.until for view in self.views(user))]), keys))

    def caught_up(self) -> None:
        """All listings show what is."""
        for user in self.users.values():
            user.views.clear()


@dataclass(frozen=True)
class Victim:
    """A user's row of a report that is being made, and the slot in it that gets damaged.

    ``rows`` is what a careful reader gets out of ``lines``.
    """

    iam: Iam
    name: str
    number: int
    rows: dict[str, dict[int, Slot]]
    lines: list[list[str]]

    @property
    def line(self) -> list[str]:
        return next(line for line in self.lines if line[0] == self.name)

    @property
    def slot(self) -> Slot:
        return self.rows[self.name][self.number]

    @property
    def other(self) -> Slot:
        return self.rows[self.name][3 - self.number]

    def write(self, slot: Slot) -> None:
        """Put other words into the slot's columns for status and date."""
        column = 3 + 5 * (self.number - 1)
        self.line[column : column + 2] = [slot.active, slot.rotated]
        self.rows[self.name][self.number] = slot


def twice(victim: Victim) -> None:
    victim.lines.append(list(victim.line))
    del victim.rows[victim.name]


def missing(victim: Victim) -> None:
    victim.lines.remove(victim.line)
    del victim.rows[victim.name]


def ghost(victim: Victim) -> None:
    """A line about a user that there isn't, with another one's first key."""
    victim.rows.pop("ghost", None)  # one of that name may be real, and is there two times then
    arn, made = f"arn:aws:iam::{ACCOUNT}:user/ghost", START.isoformat()
    key = victim.line[3:8]
    victim.lines.append(["ghost", arn, made, "true", made, *["N/A"] * 3, *key])


def undated(victim: Victim) -> None:
    slot, random = victim.slot, victim.iam.random
    if slot.date is None:
        return
    texts = ["yesterday", "N/A", "2026-01-01T00:00:00", "9"]
    if not slot.is_active and victim.other.date == slot.date:
        # Nobody can tell an inactive key without a date from an empty slot.
        texts.remove("N/A")
    victim.write(replace(slot, rotated=random.choice(texts), date=None))


def odd(victim: Victim) -> None:
    slot, random = victim.slot, victim.iam.random
    if slot.date is not None:
        active = random.choice(["Expired", "yes", "1"])
        victim.write(replace(slot, active=active, is_active=None))


def drift(victim: Victim) -> None:
    slot, random = victim.slot, victim.iam.random
    if slot.date is not None and victim.other.date != slot.date:
        date = slot.date + random.choice([-1, 1]) * SECOND
        victim.write(replace(slot, rotated=date.isoformat(), date=date))


def future(victim: Victim) -> None:
    if victim.slot.date is not None:
        date = victim.iam.now + 1000 * DAY
        victim.write(replace(victim.slot, rotated=date.isoformat(), date=date))


DAMAGES = (twice, missing, ghost, undated, odd, drift, future)


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
        iam.written(iam.users[key.user])
        del iam.users[key.user].slots[key.slot]
        iam.add_key(iam.users[key.user], key.slot)


def key_deactivated(iam: Iam) -> None:
    key = _any_key(iam)
    if key:
        iam.written(iam.users[key.user])
        iam.set_status(key, False)


def key_activated(iam: Iam) -> None:
    key = _any_key(iam)
    if key:
        iam.written(iam.users[key.user])
        iam.set_status(key, True)


def key_deleted(iam: Iam) -> None:
    key = _any_key(iam)
    if key:
        iam.written(iam.users[key.user])
        del iam.users[key.user].slots[key.slot]


def key_expired(iam: Iam) -> None:
    """IAM's model of a status has more words than two."""
    keys = [key for key in iam.all_keys() if key.by != "tool" and not key.unseen]
    off = [key for key in keys if key.status == "Inactive"]
    if keys:
        key = iam.random.choice(off or keys)
        iam.written(iam.users[key.user])
        iam.set_status(key, False)
        key.odd, key.by = "Expired", "hand"


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
    """Those whose key was disabled above all: reactivate must find it, or say that it can't."""
    off = [iam.users[key.user] for key in iam.all_keys() if key.by == "tool"]
    user = iam.random.choice(off) if off else _any_user(iam)
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
        iam.now += iam.random.choice(
            [SECOND, 2 * HOUR, 5 * HOUR, DAY, 20 * DAY, 95 * DAY, 95 * DAY]
        )


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
    key_expired,
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
    key_expired,
    key_created,
    tag_set,
    user_deleted,
    user_renamed,
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
