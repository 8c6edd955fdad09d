# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""One account of the embedded AWS: its users, keys and roles, and their true state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from moto.iam.models import AccessKeyLastUsed

from embedded_aws.calls import Call
from embedded_aws.clock import naive, shift_dates, utcnow
from embedded_aws.constants import HUB, MEMBER_ROLE
from embedded_aws.report import ReportedAccount
from embedded_aws.stacks import make_stack


@dataclass(frozen=True)
class Key:
    """An access key to make: `age_days` old, or created at the instant `rotated_at`."""

    age_days: float = 10
    status: str = "Active"
    last_used_days: float | None = None  # days ago; None: never used
    last_used_service: str = "s3"
    last_used_region: str | None = None  # the AWS's own
    rotated_at: datetime | None = None
    report_date: str | None = None  # what reports say instead of its date


@dataclass(frozen=True)
class LiveKey:
    """A key as it is now, with the slot that the credential report shows it in."""

    user: str
    slot: int
    access_key_id: str
    status: str
    created: datetime
    last_used: datetime | None


class Account(ReportedAccount):
    """One account of the embedded AWS. Changes made here cost no call and need no permission."""

    def __init__(self, aws: Any, account_id: str):
        super().__init__(aws, account_id)

    # Users and keys

    def add_user(
        self,
        name: str,
        slot1: Key | None = None,
        slot2: Key | None = None,
        tags: Mapping[str, str] | None = None,
        path: str = "/",
        created_days_ago: float = 400,
        password: bool = False,
    ) -> str:
        """Add a user with keys in these slots; return the name.

        Keys of the same age are a second apart (the first is older), since two keys of one second
        are ambiguous. To get those, give both the same `rotated_at`.
        """
        now = utcnow()
        with self.aws.lock:
            pairs = [{"Key": key, "Value": value} for key, value in (tags or {}).items()]
            user = self.backend.create_user(self.aws.partition.region, name, path, pairs)
            user.create_date = now - timedelta(days=created_days_ago)
            user.password = "secret" if password else None
            same = slot1 and slot2 and not slot1.rotated_at and slot1.age_days == slot2.age_days
            for slot, key in ((1, slot1), (2, slot2)):
                if key:
                    made = self.backend.create_access_key(name)
                    made.slot = slot
                    self._set(made, key, now - timedelta(seconds=1 if same and slot == 1 else 0))
        return name

    def _set(self, made: Any, key: Key, now: datetime) -> None:
        made.status = key.status
        created = key.rotated_at or now - timedelta(days=key.age_days)
        made.create_date = naive(created)
        made.report_date = key.report_date
        if key.last_used_days is not None:
            made.last_used = AccessKeyLastUsed(
                naive(now - timedelta(days=key.last_used_days)),
                key.last_used_service,
                key.last_used_region or self.aws.partition.region,
            )

    def delete_user(self, name: str) -> None:
        with self.aws.lock:
            for key in list(self.backend.users[name].access_keys):
                self.backend.delete_access_key(key.access_key_id, name)
            self.backend.delete_user(name)

    def rename_user(self, name: str, new: str) -> None:
        """Give a user another name; keys and tags stay. A report made by then has the old one."""
        tags = self.tags(name)
        with self.aws.lock:
            self.untag(name, *tags)
            self.backend.update_user(name, None, new)
            for key in self.backend.users[new].access_keys:
                key.user_name = new  # moto forgets them
            self.tag(new, tags)

    def users(self) -> list[str]:
        with self.aws.lock:
            return list(self.backend.users)

    def _key(self, name: str, slot: int) -> Any:
        for key in self.backend.users[name].access_keys:
            if key.slot == slot:
                return key
        raise KeyError(f"user {name!r} has no key in slot {slot}")

    def key_id(self, name: str, slot: int) -> str:
        return str(self._key(name, slot).access_key_id)

    def status(self, name: str, slot: int) -> str:
        return str(self._key(name, slot).status)

    def set_status(self, name: str, slot: int, status: str) -> None:
        self._key(name, slot).status = status

    def keys(self, name: str) -> dict[int, LiveKey]:
        """Return the user's keys by slot."""
        with self.aws.lock:
            return {key.slot: self._live(key) for key in self.backend.users[name].access_keys}

    @staticmethod
    def _live(key: Any) -> LiveKey:
        utc = timezone.utc
        return LiveKey(
            key.user_name,
            key.slot,
            key.access_key_id,
            key.status,
            key.create_date.replace(tzinfo=utc),
            key.last_used.timestamp.replace(tzinfo=utc) if key.last_used else None,
        )

    def add_key(self, name: str, key: Key | None = None) -> str:
        """Create a key in the lowest free slot; return its id."""
        with self.aws.lock:
            made = self.backend.create_access_key(name)
            self._set(made, key or Key(age_days=0), utcnow())
            return str(made.access_key_id)

    def delete_key(self, name: str, slot: int) -> None:
        with self.aws.lock:
            self.backend.delete_access_key(self.key_id(name, slot), name)

    def rotate(self, name: str, slot: int, key: Key | None = None) -> str:
        """Replace the slot's key by a new one (of today, by default); return its id."""
        with self.aws.lock:
            self.delete_key(name, slot)
            made = self.backend.create_access_key(name)
            made.slot = slot
            self._set(made, key or Key(age_days=0), utcnow())
            return str(made.access_key_id)

    def use_key(
        self, name: str, slot: int, days_ago: float = 0, service: str = "s3", region: str = ""
    ) -> None:
        region = region or self.aws.partition.region
        when = utcnow() - timedelta(days=days_ago)
        self._key(name, slot).last_used = AccessKeyLastUsed(naive(when), service, region)

    def record_call(
        self,
        name: str,
        slot: int,
        call: str = "s3:ListBuckets",
        source: str = "203.0.113.7",
        agent: str = "aws-cli/2.15.30 Python/3.11.8 Linux/5.10 exe/x86_64.amzn.2",
        times: int = 1,
        region: str = "",
        minutes_ago: float = 120,
        **how: Any,
    ) -> None:
        """Let CloudTrail's event history have calls made with the key, a minute apart.

        how: as ``EventHistory.add`` has it.
        """
        region = region or self.aws.partition.region
        with self.aws.lock:
            for index in range(times):
                ago, key_id = minutes_ago + index, self.key_id(name, slot)
                self.aws.history.add(self.id, region, key_id, name, call, source, agent, ago, **how)

    def tags(self, name: str) -> dict[str, str]:
        backend = self.backend
        return dict(backend.tagger.get_tag_dict_for_resource(backend.users[name].arn))

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        self.backend.tagger.tag_resource(self.backend.users[name].arn, pairs)

    def untag(self, name: str, *keys: str) -> None:
        self.backend.tagger.untag_resource_using_names(self.backend.users[name].arn, list(keys))

    def arn(self, name: str) -> str:
        return str(self.backend.users[name].arn)

    def set_alias(self, alias: str | None) -> None:
        self.backend.account_aliases = [alias] if alias else []

    # The true state, to compare with

    def live_keys(self) -> list[LiveKey]:
        with self.aws.lock:
            return [
                self._live(key)
                for user in self.backend.users.values()
                for key in sorted(user.access_keys, key=lambda key: int(key.slot))
            ]

    def snapshot(self) -> dict[str, str]:
        """Return every key's status by its id, for changes()."""
        return {key.access_key_id: key.status for key in self.live_keys()}

    def changes(self, before: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
        """Return the keys that differ from the snapshot: {id: (then, now)}; None: no key."""
        now = self.snapshot()
        return {
            key_id: (before.get(key_id), now.get(key_id))
            for key_id in [*before, *(key_id for key_id in now if key_id not in before)]
            if before.get(key_id) != now.get(key_id)
        }

    def expected(
        self, days: float = 90, slot: int = 2, status: str = "Active", now: datetime | None = None
    ) -> dict[str, str]:
        """Return {user: key id} of the keys that the rule is about, by their live state.

        The caller must leave out exemptions, and keys that can't be told apart.
        """
        limit = (now or datetime.now(timezone.utc)) - timedelta(days=days)
        return {
            key.user: key.access_key_id
            for key in self.live_keys()
            if key.slot == slot and key.status == status and key.created < limit
        }

    @property
    def log(self) -> list[Call]:
        """The calls made to this account, oldest first (of the last 100,000 of all accounts)."""
        return [call for call in list(self.aws.log) if call.account == self.id]

    # Roles

    def add_role(
        self,
        name: str = MEMBER_ROLE,
        policy: Mapping[str, Any] | None = None,
        trust: Mapping[str, Any] | None = None,
    ) -> str:
        """Make a role (again); return its ARN. Both documents only count under aws.enforce()."""
        statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        trusted = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": HUB}}
        with self.aws.lock:
            for role_id, role in list(self.backend.roles.items()):
                if role.name == name:
                    del self.backend.roles[role_id]
            role = self.backend.create_role(
                name,
                json.dumps(trust or {"Version": "2012-10-17", "Statement": [trusted]}),
                "/",
                None,
                "",
                [],
                "3600",
            )
            document = policy or {"Version": "2012-10-17", "Statement": [statement]}
            role.put_policy("permissions", json.dumps(document))
            return str(role.arn)

    def deploy(self, stack: str, template: Path, **parameters: str) -> dict[str, str]:
        """Make a CloudFormation stack, or update it; return its outputs."""
        with self.aws.lock:
            return make_stack(self.id, self.aws.partition.region, stack, template, parameters)

    # Time

    def shift(self, by: timedelta) -> None:
        for user in self.backend.users.values():
            user.create_date -= by
            for key in user.access_keys:
                key.create_date -= by
                if key.last_used:
                    used = key.last_used
                    key.last_used = AccessKeyLastUsed(
                        used.timestamp - by, used.service, used.region
                    )
            tags = self.backend.tagger.tags.get(user.arn, {})
            for name, value in tags.items():
                tags[name] = shift_dates(value, timedelta(days=by.days))
        self.shift_report(by)
