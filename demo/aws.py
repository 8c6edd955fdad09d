# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""An AWS on 127.0.0.1: moto's server, made like AWS where moto isn't, with faults on demand.

    with EmbeddedAws() as aws:
        account = aws.account("111111111111")
        account.add_user("alice", slot1=Key(10), slot2=Key(200))
        subprocess.run(["custodian", ...], env=aws.env("111111111111", home=folder))

Alone, for another process: ``python -m demo.aws --users 1000 --find 200 --latency-ms 30``.
moto's state is global to the process, so one EmbeddedAws can be open at a time; each begins empty.
All times are UTC.
"""

from __future__ import annotations

import argparse
import base64
import csv
import fnmatch
import io
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import moto.backends
import moto.iam.models
from moto.core.base_backend import BackendDict
from moto.core.responses import ActionResult
from moto.iam.exceptions import IAMException
from moto.iam.models import AccessKeyLastUsed, get_account_id_from, iam_backends
from moto.iam.responses import IamResponse
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.sqs.models import sqs_backends
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

from demo.iam_policy import allows

HUB = "123456789012"
REGION = "us-east-1"
MEMBER_ROLE = "c7n-keyrot"
ORGANIZATION_ID = "o-keyrot0001"

REPORT_COLUMNS = [
    "user",
    "arn",
    "user_creation_time",
    "password_enabled",
    "password_last_used",
    "password_last_changed",
    "password_next_rotation",
    "mfa_active",
    *(
        f"access_key_{slot}_{column}"
        for slot in (1, 2)
        for column in (
            "active",
            "last_rotated",
            "last_used_date",
            "last_used_region",
            "last_used_service",
        )
    ),
    *(f"cert_{slot}_{column}" for slot in (1, 2) for column in ("active", "last_rotated")),
    "additional_credentials_info",
]

# The HTTP status of each error that AWS answers with; everything else is a 400.
STATUS = {
    "AccessDenied": 403,
    "AccessDeniedException": 403,
    "ExpiredToken": 403,
    "InvalidClientTokenId": 403,
    "SignatureDoesNotMatch": 403,
    "NoSuchEntity": 404,
    "ReportInProgress": 404,
    "LimitExceeded": 409,
    "ReportExpired": 410,
    "ReportNotPresent": 410,
    "InternalFailure": 500,
    "ServiceFailure": 500,
    "ServiceUnavailable": 503,
    "RequestLimitExceeded": 503,
}
MESSAGES = {
    "Throttling": "Rate exceeded",
    "ExpiredToken": "The security token included in the request is expired",
    "InvalidClientTokenId": "The security token included in the request is invalid.",
    "ReportInProgress": "Report generation in progress",
    "ReportExpired": "Report expired",
    "ReportNotPresent": "Credential report not present",
}
# Not errors that AWS answers with, but what a network does to the connection.
RESET, STALL = "reset", "stall"

_open = threading.Lock()


def utcnow() -> datetime:
    """Now, naive and in whole seconds: moto wants the one, AWS's dates are the other."""
    return datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None)


def naive(when: datetime) -> datetime:
    """An instant as moto keeps it: naive, in UTC, in whole seconds."""
    if when.tzinfo is not None:
        when = when.astimezone(timezone.utc).replace(tzinfo=None)
    return when.replace(microsecond=0)


def iso(when: datetime) -> str:
    return naive(when).isoformat() + "+00:00"


@dataclass(frozen=True)
class Key:
    """An access key to be made: `age_days` old, or created at the instant `rotated_at`."""

    age_days: float = 10
    status: str = "Active"
    last_used_days: float | None = None  # days ago; None: never used
    last_used_service: str = "s3"
    last_used_region: str = REGION
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


@dataclass(frozen=True)
class Call:
    """A call as it arrived. `user` is the IAM user it is about, also where only a key is named."""

    time: float
    account: str
    action: str  # iam.GetUser
    params: dict[str, Any]
    user: str | None
    principal: str  # the access key id that signed it


@dataclass
class Rule:
    """An injected fault or a hook. `hits` counts the calls it applied to; stop() ends it."""

    action: str  # a pattern: "iam.*"
    act: str | Callable[[Call], object]  # an error, or the hook to call
    times: int | None = None  # for so many calls; None: for ever
    skip: int = 0  # after so many that match
    user: str | None = None  # only calls about this IAM user
    account: str | None = None  # only calls in this account
    when: Callable[[dict[str, Any]], bool] | None = None  # only with parameters like this
    # Of faults only:
    status: int | None = None  # the HTTP status, if not AWS's for this error
    message: str | None = None
    late: bool = False  # carry the call out first, so that only its answer is lost
    seconds: float = 3600.0  # how long a stall lasts before the connection is closed
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def stop(self) -> None:
        self.times = 0

    def take(self, call: Call) -> bool:
        """Whether this call is one to act on; counts it if so."""
        if not fnmatch.fnmatchcase(call.action, self.action):
            return False
        if self.user is not None and self.user != call.user:
            return False
        if self.account is not None and self.account != call.account:
            return False
        if self.when is not None and not self.when(call.params):
            return False
        with self._lock:
            if self.skip > 0:
                self.skip -= 1
                return False
            if self.times is not None:
                if self.times <= 0:
                    return False
                self.times -= 1
            self.hits += 1
            return True


class Account:
    """One account of the embedded AWS. Changes made here cost no call and need no permission."""

    def __init__(self, aws: EmbeddedAws, account_id: str):
        self.aws, self.id = aws, account_id
        self.report_states: deque[str] = deque()
        self.root_last_used_days: float | None = None
        self._report: bytes | None = None
        self._report_time = utcnow()
        self._report_ready = 0.0  # time.monotonic()

    @property
    def backend(self) -> Any:
        return iam_backends[self.id]["aws"]

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
        """Add a user whose keys sit in the slots given; the name is returned.

        Keys of one and the same age are a second apart (the first is the older), since two keys of
        one second are ambiguous: for those give both the same `rotated_at`.
        """
        now = utcnow()
        with self.aws.lock:
            pairs = [{"Key": key, "Value": value} for key, value in (tags or {}).items()]
            user = self.backend.create_user(REGION, name, path, pairs)
            user.create_date = now - timedelta(days=created_days_ago)
            user.password = "secret" if password else None
            same = slot1 and slot2 and not slot1.rotated_at and slot1.age_days == slot2.age_days
            for slot, key in ((1, slot1), (2, slot2)):
                if key:
                    made = self.backend.create_access_key(name)
                    made.slot = slot
                    self._set(made, key, now - timedelta(seconds=1 if same and slot == 1 else 0))
        return name

    @staticmethod
    def _set(made: Any, key: Key, now: datetime) -> None:
        made.status = key.status
        created = key.rotated_at or now - timedelta(days=key.age_days)
        made.create_date = naive(created)
        made.report_date = key.report_date
        if key.last_used_days is not None:
            made.last_used = AccessKeyLastUsed(
                naive(now - timedelta(days=key.last_used_days)),
                key.last_used_service,
                key.last_used_region,
            )

    def delete_user(self, name: str) -> None:
        with self.aws.lock:
            for key in list(self.backend.users[name].access_keys):
                self.backend.delete_access_key(key.access_key_id, name)
            self.backend.delete_user(name)

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
        """The user's keys by slot."""
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
        """Create a key in the lowest free slot; its id."""
        with self.aws.lock:
            made = self.backend.create_access_key(name)
            self._set(made, key or Key(age_days=0), utcnow())
            return str(made.access_key_id)

    def delete_key(self, name: str, slot: int) -> None:
        with self.aws.lock:
            self.backend.delete_access_key(self.key_id(name, slot), name)

    def rotate(self, name: str, slot: int, key: Key | None = None) -> str:
        """Replace the slot's key by a new one (of today, by default); the new id."""
        with self.aws.lock:
            self.delete_key(name, slot)
            made = self.backend.create_access_key(name)
            made.slot = slot
            self._set(made, key or Key(age_days=0), utcnow())
            return str(made.access_key_id)

    def use_key(
        self, name: str, slot: int, days_ago: float = 0, service: str = "s3", region: str = REGION
    ) -> None:
        when = utcnow() - timedelta(days=days_ago)
        self._key(name, slot).last_used = AccessKeyLastUsed(naive(when), service, region)

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

    # What is true, to compare with

    def live_keys(self) -> list[LiveKey]:
        with self.aws.lock:
            return [
                self._live(key)
                for user in self.backend.users.values()
                for key in sorted(user.access_keys, key=lambda key: int(key.slot))
            ]

    def snapshot(self) -> dict[str, str]:
        """Every key's status by its id, to be compared with changes()."""
        return {key.access_key_id: key.status for key in self.live_keys()}

    def changes(self, before: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
        """Which keys are not as in the snapshot: {id: (then, now)}, None where there is no key."""
        now = self.snapshot()
        return {
            key_id: (before.get(key_id), now.get(key_id))
            for key_id in [*before, *(key_id for key_id in now if key_id not in before)]
            if before.get(key_id) != now.get(key_id)
        }

    def expected(
        self, days: float = 90, slot: int = 2, status: str = "Active", now: datetime | None = None
    ) -> dict[str, str]:
        """{user: key id} of the keys that the rule is about, by what is live now.

        Exemptions, and keys that can't be told apart, are the caller's to leave out.
        """
        limit = (now or datetime.now(timezone.utc)) - timedelta(days=days)
        return {
            key.user: key.access_key_id
            for key in self.live_keys()
            if key.slot == slot and key.status == status and key.created < limit
        }

    @property
    def log(self) -> list[Call]:
        """The calls made to this account, oldest first (the last 100,000 of all accounts)."""
        return [call for call in list(self.aws.log) if call.account == self.id]

    # The credential report

    def generate_report(self, age_hours: float = 0) -> str:
        """Let there be a report of the account as it is now, made `age_hours` ago; its text."""
        with self.aws.lock:
            text = self.report_text()
        self.set_report(text, age_hours)
        return text

    def set_report(self, text: str | bytes, age_hours: float = 0) -> None:
        """Let this text be the finished report, made `age_hours` ago."""
        self._report = text.encode() if isinstance(text, str) else text
        self._report_time = utcnow() - timedelta(hours=age_hours)
        self._report_ready = 0.0

    def delete_report(self) -> None:
        self._report = None

    def set_report_states(self, *states: str) -> None:
        """What the next GenerateCredentialReport calls answer, whatever is true."""
        self.report_states = deque(states)

    def report_text(self) -> str:
        """The report's CSV of this moment, with all of AWS's columns, the root row first."""
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        write(REPORT_COLUMNS)
        used = self.root_last_used_days
        no_keys = ["false", *["N/A"] * 4] * 2
        no_certs = ["false", "N/A"] * 2
        write(
            [
                "<root_account>",
                f"arn:aws:iam::{self.id}:root",
                "2019-01-01T00:00:00+00:00",
                "not_supported",
                "no_information" if used is None else iso(utcnow() - timedelta(days=used)),
                "not_supported",
                "not_supported",
                "true",
                *no_keys,
                *no_certs,
                "N/A",
            ]
        )
        for user in self.backend.users.values():
            password = ["false", "N/A", "N/A", "N/A"]
            if user.password:
                last = user.password_last_used
                password = ["true", iso(last) if last else "no_information"]
                password += [iso(user.create_date), "N/A"]
            by_slot = {key.slot: key for key in user.access_keys}
            write(
                [
                    user.name,
                    user.arn,
                    iso(user.create_date),
                    *password,
                    "true" if user.mfa_devices else "false",
                    *self._slot_columns(by_slot.get(1)),
                    *self._slot_columns(by_slot.get(2)),
                    *no_certs,
                    "N/A",
                ]
            )
        return out.getvalue()

    @staticmethod
    def _slot_columns(key: Any) -> list[str]:
        if key is None:
            return ["false", *["N/A"] * 4]
        used = key.last_used
        return [
            "true" if key.status == "Active" else "false",
            getattr(key, "report_date", None) or iso(key.create_date),
            *([iso(used.timestamp), used.region, used.service] if used else ["N/A"] * 3),
        ]

    def _generate_credential_report(self) -> dict[str, str]:
        if self.report_states:
            return {"State": self.report_states.popleft()}
        if self._report is not None:
            if time.monotonic() < self._report_ready:
                return {"State": "INPROGRESS"}
            if utcnow() - self._report_time < timedelta(hours=self.aws.report_valid_hours):
                return {"State": "COMPLETE"}
        self._report = self.report_text().encode()
        self._report_ready = time.monotonic() + self.aws.report_seconds
        self._report_time = utcnow() + timedelta(seconds=int(self.aws.report_seconds))
        return {
            "State": "STARTED",
            "Description": "No report exists. Starting a new report generation task",
        }

    def _get_credential_report(self) -> dict[str, Any]:
        error = None
        if self._report is None:
            error = "ReportNotPresent"
        elif time.monotonic() < self._report_ready:
            error = "ReportInProgress"
        elif utcnow() - self._report_time >= timedelta(hours=self.aws.report_expires_hours):
            error = "ReportExpired"
        if error:
            raise IAMException(error, MESSAGES[error])
        return {
            "Content": self._report,
            "ReportFormat": "text/csv",
            "GeneratedTime": self._report_time,
        }

    # Roles

    def add_role(
        self,
        name: str = MEMBER_ROLE,
        policy: Mapping[str, Any] | None = None,
        trust: Mapping[str, Any] | None = None,
    ) -> str:
        """Make a role (again); its ARN. Both documents only count under aws.enforce()."""
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

    # Time

    def _shift(self, by: timedelta) -> None:
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
                tags[name] = _shift_dates(value, timedelta(days=by.days))
        self._report_time -= by
        if self._report is not None:
            text = self._report.decode("utf-8", "surrogateescape")
            self._report = _shift_instants(text, by).encode("utf-8", "surrogateescape")


def _shift_dates(text: str, by: timedelta) -> str:
    """The dates of a tag's value (2026-05-01, or Custodian's 2026/05/01), moved by whole days."""

    def moved(found: re.Match[str]) -> str:
        try:
            date = datetime(int(found[1]), int(found[3]), int(found[4]), tzinfo=timezone.utc) - by
        except (ValueError, OverflowError):
            return found[0]
        return date.strftime(f"%Y{found[2]}%m{found[2]}%d")

    return re.sub(r"(?<!\d)(\d{4})([-/])(\d\d)\2(\d\d)(?!\d)", moved, text)


def _shift_instants(text: str, by: timedelta) -> str:
    def moved(found: re.Match[str]) -> str:
        try:
            return iso(datetime.fromisoformat(found[0]) - by)
        except (ValueError, OverflowError):
            return found[0]

    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", moved, text)


class EmbeddedAws:
    """The server; a context manager.

    latency: seconds that each call takes; report_seconds: how long a credential report takes;
    report_valid_hours: from which age on GenerateCredentialReport makes a new one;
    report_expires_hours: from which age on GetCredentialReport answers ReportExpired.
    """

    def __init__(
        self,
        latency: float = 0.0,
        report_seconds: float = 0.0,
        report_valid_hours: float = 4.0,
        report_expires_hours: float = 4.0,
        port: int = 0,
    ):
        self.latency = latency
        self.report_seconds = report_seconds
        self.report_valid_hours = report_valid_hours
        self.report_expires_hours = report_expires_hours
        self.lock = threading.RLock()  # moto's backends aren't made for many threads
        self.calls: Counter[str] = Counter()
        self.log: deque[Call] = deque(maxlen=100_000)
        self.errors: list[str] = []  # failures of the embedded AWS itself: a test's to look at
        self.url = ""
        self._port = port
        self._accounts: dict[str, Account] = {}
        self._faults: list[Rule] = []
        self._before: list[Rule] = []
        self._after: list[Rule] = []
        self._limit: tuple[str, float] | None = None
        self._buckets: dict[str, tuple[float, float]] = {}
        self._enforced = False
        self._closing = threading.Event()
        self._stack = ExitStack()
        self.control: Callable[[str, dict[str, str]], Any] | None = None

    def __enter__(self) -> EmbeddedAws:
        if not _open.acquire(blocking=False):
            raise RuntimeError("an EmbeddedAws is open in this process already: close it first")
        self._stack.callback(_open.release)
        try:
            BackendDict.reset()
            self._stack.callback(BackendDict.reset)
            self._patch_moto()
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._stack.close()

    def _start(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        server = make_server(
            "127.0.0.1", self._port, self._serve, threaded=True, request_handler=_QuietHandler
        )
        self._stack.callback(server.server_close)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"

    def _patch_moto(self) -> None:
        """Where moto's IAM is unlike AWS's. Undone at the exit."""
        # It looks at 90 folders, twice a request: a quarter of the time of a call.
        modules = list(moto.backends.list_of_moto_modules())
        listed = mock.patch.object(moto.backends, "list_of_moto_modules", return_value=modules)
        self._stack.enter_context(listed)
        make_key = moto.iam.models.User.create_access_key

        def create_access_key(user: Any, *args: Any, **kwargs: Any) -> Any:
            taken = {key.slot for key in user.access_keys}
            key = make_key(user, *args, **kwargs)
            key.slot = 2 if 1 in taken else 1
            return key

        def generate_credential_report(response: Any) -> ActionResult:
            account = self.account(response.current_account)
            return ActionResult(account._generate_credential_report())

        def get_credential_report(response: Any) -> ActionResult:
            return ActionResult(self.account(response.current_account)._get_credential_report())

        def list_users(response: Any) -> ActionResult:
            prefix = response._get_param("PathPrefix") or "/"
            users = [u for u in response.backend.users.values() if u.path.startswith(prefix)]
            page, more = _page(response, users)
            return ActionResult({"Users": page, **more})

        def get_account_authorization_details(response: Any) -> ActionResult:
            found = response.backend.get_account_authorization_details(
                response._get_param("Filter", [])
            )
            kinds = {
                "UserDetailList": "users",
                "GroupDetailList": "groups",
                "RoleDetailList": "roles",
                "Policies": "managed_policies",
            }
            everything = [(kind, item) for kind, name in kinds.items() for item in found[name]]
            page, more = _page(response, everything)
            lists = {kind: [item for other, item in page if other == kind] for kind in kinds}
            return ActionResult({**lists, **more})

        def get_access_key_last_used(response: Any) -> ActionResult:
            # moto walks through all keys of all accounts: quadratic over a run.
            key_id = response._get_param("AccessKeyId")
            key = response.backend.access_keys.get(key_id)
            if key is None or key.user_name is None:
                raise IAMException(
                    "NoSuchEntity", f"The Access Key with id {key_id} cannot be found."
                )
            used = {"Region": "N/A", "ServiceName": "N/A"}
            if key.last_used:
                used = {
                    "LastUsedDate": key.last_used.timestamp,
                    "Region": key.last_used.region,
                    "ServiceName": key.last_used.service,
                }
            return ActionResult({"UserName": key.user_name, "AccessKeyLastUsed": used})

        patch = mock.patch.object
        enter = self._stack.enter_context
        enter(patch(moto.iam.models, "utcnow", utcnow))
        enter(patch(moto.iam.models.User, "create_access_key", create_access_key))
        for method in (
            generate_credential_report,
            get_credential_report,
            list_users,
            get_account_authorization_details,
            get_access_key_last_used,
        ):
            enter(patch(IamResponse, method.__name__, method))

    # Accounts and processes

    def account(self, account_id: str = HUB) -> Account:
        with self.lock:
            return self._accounts.setdefault(account_id, Account(self, account_id))

    @property
    def accounts(self) -> list[Account]:
        return list(self._accounts.values())

    def credentials(self, account_id: str = HUB, role: str | None = None) -> dict[str, str]:
        """Variables with credentials that land in the account: of its administrator, or of a role.

        A role's are limited to its policies under enforce().
        """
        if role is None:
            return {
                "AWS_ACCESS_KEY_ID": f"AKIA0000{account_id}",
                "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            }
        with self.lock:
            iam_backends[account_id]["aws"].get_role(role)  # must be there
            assumed = sts_backends[account_id]["aws"].assume_role(
                region_name=REGION,
                role_session_name="demo",
                role_arn=f"arn:aws:iam::{account_id}:role/{role}",
                policy="",
                duration=3600,
                external_id="",
            )
        return {
            "AWS_ACCESS_KEY_ID": assumed.access_key_id,
            "AWS_SECRET_ACCESS_KEY": assumed.secret_access_key,
            "AWS_SESSION_TOKEN": assumed.session_token,
        }

    def env(
        self, account_id: str = HUB, home: str | Path = "/nonexistent", role: str | None = None
    ) -> dict[str, str]:
        """A process's whole environment: this AWS, this account, nothing else of the caller's."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            **self.credentials(account_id, role),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        }

    # Calls

    def reset_calls(self) -> None:
        with self.lock:
            self.calls.clear()
            self.log.clear()

    # Queues

    def create_queue(
        self,
        name: str,
        account_id: str = HUB,
        policy: Mapping[str, Any] | None = None,
        organization: bool = False,
    ) -> str:
        """Make a queue; its URL. Other accounts may send only as its policy says.

        organization: a policy that lets every account of the organization send.
        """
        if organization:
            statement = {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "sqs:SendMessage",
                "Resource": f"arn:aws:sqs:{REGION}:{account_id}:{name}",
                "Condition": {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
            }
            policy = {"Version": "2012-10-17", "Statement": [statement]}
        with self.lock:
            attributes = {"Policy": json.dumps(policy)} if policy else {}
            sqs_backends[account_id][REGION].create_queue(name, **attributes)
        return f"{self.url}/{account_id}/{name}"

    def messages(self, name: str, account_id: str = HUB) -> list[Any]:
        """The queue's messages, left where they are; notices decoded as c7n-mailer would."""
        with self.lock:
            queue = sqs_backends[account_id][REGION].queues[name]
            return [_decode(message.body) for message in queue._messages]

    # Time

    def move_clock(self, days: float) -> None:
        """Let `days` pass: all that is dated gets so much older (processes use the real clock).

        That is users, keys, last uses, reports, and the dates in users' tags (by whole days).
        """
        with self.lock:
            for account in self.accounts:
                account._shift(timedelta(days=days))

    # Faults, hooks, limits

    def fail(
        self, action: str, error: str = "Throttling", times: int | None = None, **which: Any
    ) -> Rule:
        """Answer matching calls with an error: AWS's code, or "reset" or "stall" (no answer).

        action: a pattern such as iam.GetUser or iam.*; times: for so many calls (None: for ever);
        which: the calls meant, and how, as Rule says (user, account, when, skip, late, ...).
        """
        rule = Rule(action, error, times, **which)
        self._faults.append(rule)
        return rule

    def before(
        self,
        action: str,
        callback: Callable[[Call], object],
        times: int | None = 1,
        **which: Any,
    ) -> Rule:
        """Run the callback when a matching call has arrived, before it does anything."""
        rule = Rule(action, callback, times, **which)
        self._before.append(rule)
        return rule

    def after(
        self,
        action: str,
        callback: Callable[[Call], object],
        times: int | None = 1,
        **which: Any,
    ) -> Rule:
        """Run the callback when a matching call has taken effect, before it is answered."""
        rule = Rule(action, callback, times, **which)
        self._after.append(rule)
        return rule

    def limit(self, calls_per_second: float | None, action: str = "iam.*") -> None:
        """Answer Throttling above so many calls a second and account (a token bucket, as AWS)."""
        self._limit = (action, calls_per_second) if calls_per_second else None
        self._buckets.clear()

    def enforce(self, on: bool = True) -> None:
        """Hold roles to their policies, and AssumeRole to the role's trust (external id included).

        Administrators (env() without a role) stay free. moto's own enforcement knows neither
        resources nor external ids, so this is ours.
        """
        self._enforced = on

    def heal(self) -> None:
        """End all faults, hooks and limits."""
        self._faults, self._before, self._after, self._limit = [], [], [], None

    # The server's side

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        path = environ["PATH_INFO"]
        if path.startswith("/__keyrot/"):
            return self._serve_control(path, environ, start_response)
        call = self._read(environ, body)
        with self.lock:
            self.calls[call.action] += 1
            self.log.append(call)
        if self.latency:
            time.sleep(self.latency)
        try:
            status, headers, answer = self._answer(environ, call)
        except ConnectionError:
            _hang_up(environ)
            raise
        except Exception as error:  # one call's end (a hook's mistake, say), not the server's
            self.errors.append(f"{call.action}: {error!r}")
            status, headers, answer = _error(environ, call, "InternalFailure", message=repr(error))
        start_response(status, [*headers, ("Content-Length", str(len(answer)))])
        return [answer]

    def _read(self, environ: dict[str, Any], body: bytes) -> Call:
        header = environ.get("HTTP_AUTHORIZATION", "")
        scope = re.search(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/", header)
        principal, service = (scope[1], scope[2]) if scope else ("", "unsigned")
        target = environ.get("HTTP_X_AMZ_TARGET")
        if target:
            params = json.loads(body or b"{}")
            action = target.split(".")[-1]
        else:
            params = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
            action = params.get("Action", f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        ours = re.fullmatch(r"AKIA0000(\d{12})", principal)
        account = ours[1] if ours else get_account_id_from(principal)
        # moto would take keys that it doesn't know for the default account's.
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
        user = params.get("UserName")
        if user is None and service == "iam" and "AccessKeyId" in params:
            key = iam_backends[account]["aws"].access_keys.get(params["AccessKeyId"])
            user = key.user_name if key else None
        return Call(time.time(), account, f"{service}.{action}", params, user, principal)

    def _answer(
        self, environ: dict[str, Any], call: Call
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        if self._over_limit(call):
            return _error(environ, call, "Throttling")
        fault = next((rule for rule in self._faults if rule.take(call)), None)
        if fault and not fault.late:
            return self._fault(environ, call, fault)
        for hook in self._before:
            if hook.take(call):
                hook.act(call)  # type: ignore[operator]
        denied = self._denied(environ, call)
        if denied:
            return _error(environ, call, "AccessDenied", message=denied)
        answer = self._ask_moto(environ, call)
        for hook in self._after:
            if hook.take(call):
                hook.act(call)  # type: ignore[operator]
        return self._fault(environ, call, fault) if fault else answer

    def _ask_moto(
        self, environ: dict[str, Any], call: Call
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        started: list[Any] = []
        try:
            # A mailer that waits for messages must not keep all others waiting.
            with nullcontext() if call.action == "sqs.ReceiveMessage" else self.lock:
                parts = self._moto(environ, lambda *args: started.append(args))
                body = b"".join(parts)
        except NotImplementedError:
            return _error(environ, call, "InvalidAction", message=f"no {call.action} here")
        status, headers = started[0][:2]
        return status, [h for h in headers if h[0].lower() != "content-length"], body

    def _fault(
        self, environ: dict[str, Any], call: Call, fault: Rule
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        if fault.act == STALL:
            self._closing.wait(fault.seconds)
        if fault.act in (RESET, STALL):
            raise ConnectionResetError(f"injected: {fault.act}")
        return _error(environ, call, str(fault.act), fault.status, fault.message)

    def _over_limit(self, call: Call) -> bool:
        if not self._limit or not fnmatch.fnmatchcase(call.action, self._limit[0]):
            return False
        rate = self._limit[1]
        with self.lock:
            now = time.monotonic()
            tokens, last = self._buckets.get(call.account, (max(rate, 1.0), now))
            tokens = min(max(rate, 1.0), tokens + (now - last) * rate)
            self._buckets[call.account] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
            return tokens < 1

    # Permissions

    def _denied(self, environ: dict[str, Any], call: Call) -> str | None:
        """AWS's sentence if the call isn't allowed. Sees to calls that cross accounts as well."""
        service = call.action.split(".")[0]
        queue = re.search(r"/(\d{12})/([^/]+)$", str(call.params.get("QueueUrl", "")))
        resource = self._resource(call, queue)
        wanted = call.action.replace(".", ":", 1)
        sentence = f"User: {self._principal(call)} is not authorized to perform: {wanted}"
        if service == "sqs" and queue and queue[1] != call.account:
            # moto finds a queue by its name alone; in AWS the URL's account says whose it is.
            environ["HTTP_X_MOTO_ACCOUNT_ID"] = queue[1]
            found = sqs_backends[queue[1]][REGION].queues.get(queue[2])
            policy = json.loads(found.policy or "{}") if found else None
            if policy is not None and not allows([policy], wanted, resource, self._facts(call)):
                return f"{sentence} on resource: {resource} because no resource-based policy" + (
                    f" allows the {wanted} action"
                )
        if wanted == "sts:AssumeRole" and not self._trusted(call, resource):
            return f"{sentence} on resource: {resource}"
        role = self._role(call)
        if not self._enforced or role is None or wanted == "sts:GetCallerIdentity":
            return None
        documents = [json.loads(document) for document in role.policies.values()]
        documents += [json.loads(p.document) for p in role.managed_policies.values()]
        if allows(documents, wanted, resource, self._facts(call)):
            return None
        return (
            f"{sentence} on resource: {resource} because no identity-based policy allows the"
            f" {wanted} action"
        )

    def _resource(self, call: Call, queue: re.Match[str] | None) -> str:
        if queue:
            return f"arn:aws:sqs:{REGION}:{queue[1]}:{queue[2]}"
        if "RoleArn" in call.params:
            return str(call.params["RoleArn"])
        if call.action.startswith("iam.") and call.user is not None:
            user = iam_backends[call.account]["aws"].users.get(call.user)
            return user.arn if user else f"arn:aws:iam::{call.account}:user/{call.user}"
        return "*"

    def _role(self, call: Call) -> Any:
        backend = iam_backends[call.account]["aws"]
        key = backend.access_keys.get(call.principal)
        if key is None or key.role_arn is None:
            return None
        name = key.role_arn.split("/")[-1]
        return next((role for role in backend.roles.values() if role.name == name), None)

    def _principal(self, call: Call) -> str:
        key = iam_backends[call.account]["aws"].access_keys.get(call.principal)
        if key is None or key.role_arn is None:
            return f"arn:aws:iam::{call.account}:user/administrator"
        return f"arn:aws:sts::{call.account}:assumed-role/{key.role_arn.split('/')[-1]}/session"

    def _facts(self, call: Call) -> dict[str, str]:
        """What conditions and principals of policies are compared with."""
        role = self._role(call)
        facts = {
            "principal": role.arn if role else self._principal(call),
            "aws:PrincipalAccount": call.account,
            "aws:PrincipalArn": role.arn if role else self._principal(call),
            "aws:PrincipalOrgID": ORGANIZATION_ID,
            "aws:RequestedRegion": REGION,
            "aws:SecureTransport": "true",  # as far as policies are concerned
        }
        if "ExternalId" in call.params:
            facts["sts:ExternalId"] = call.params["ExternalId"]
        tag = re.compile(r"Tags\.member\.\d+\.Key|TagKeys\.member\.\d+")
        if tag_keys := [value for name, value in call.params.items() if tag.fullmatch(name)]:
            facts["aws:TagKeys"] = ",".join(tag_keys)
        if call.user is not None and call.user in iam_backends[call.account]["aws"].users:
            for key, value in self.account(call.account).tags(call.user).items():
                facts[f"aws:ResourceTag/{key}"] = facts[f"iam:ResourceTag/{key}"] = value
        return facts

    def _trusted(self, call: Call, arn: str) -> bool:
        found = re.fullmatch(r"arn:aws[a-z-]*:iam::(\d{12}):role/(?:.*/)?([^/]+)", arn)
        if not found:
            return False
        roles = iam_backends[found[1]]["aws"].roles.values()
        role = next((role for role in roles if role.name == found[2]), None)
        if role is None:
            return False
        if not self._enforced:
            return True
        document = json.loads(role.assume_role_policy_document)
        return allows([document], "sts:AssumeRole", arn, self._facts(call))

    # Control over HTTP, for benchmarks in another process

    def _serve_control(
        self, path: str, environ: dict[str, Any], start_response: Any
    ) -> Iterable[bytes]:
        query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        name = path.removeprefix("/__keyrot/")
        answer: Any = None
        with self.lock:
            if name == "calls":
                answer = dict(self.calls)
            elif self.control:
                answer = self.control(name, query)
        status = "404 Not Found" if answer is None else "200 OK"
        body = json.dumps(answer).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [body]


class _QuietHandler(MotoRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        pass


def _page(response: Any, items: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """A page of MaxItems (100 by default), which moto gives in one piece."""
    start = int(response._get_param("Marker") or 0)
    end = start + int(response._get_param("MaxItems") or 100)
    more: dict[str, Any] = {"IsTruncated": end < len(items)}
    if more["IsTruncated"]:
        more["Marker"] = str(end)
    return items[start:end], more


def _hang_up(environ: Mapping[str, Any]) -> None:
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        with suppress(OSError):  # the client may have been faster
            connection.shutdown(socket.SHUT_RDWR)


def _error(
    environ: Mapping[str, Any],
    call: Call,
    code: str,
    status: int | None = None,
    message: str | None = None,
) -> tuple[str, list[tuple[str, str]], bytes]:
    """An error as AWS words it, in the protocol of the call."""
    number = status or STATUS.get(code, 400)
    text = message or MESSAGES.get(code)
    if text is None and code.startswith("AccessDenied"):
        wanted = call.action.replace(".", ":", 1)
        text = (
            f"User: arn:aws:iam::{call.account}:user/administrator is not authorized to perform:"
            f" {wanted} because no identity-based policy allows the {wanted} action"
        )
    text = text or f"An injected {code}"
    reason = {403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}.get(number, "Error")
    line = f"{number} {reason}"
    if "HTTP_X_AMZ_TARGET" in environ:
        answer = json.dumps({"__type": f"com.amazonaws#{code}", "message": text}).encode()
        headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-ErrorType", code)]
        return line, headers, answer
    side = "Receiver" if number >= 500 else "Sender"
    xml = (
        f"<ErrorResponse><Error><Type>{side}</Type><Code>{escape(code)}</Code>"
        f"<Message>{escape(text)}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
    )
    return line, [("Content-Type", "text/xml")], xml.encode()


def _decode(body: str) -> Any:
    try:
        return json.loads(zlib.decompress(base64.b64decode(body)))
    except (ValueError, zlib.error):
        return body


def main(argv: list[str] | None = None) -> None:
    """Serve seeded accounts until a signal; one line of JSON says where."""
    from demo import world  # not above: world imports this module

    parser = argparse.ArgumentParser(prog="python -m demo.aws", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--users", type=int, default=1000, help="users in each account")
    parser.add_argument("--find", type=int, default=200, help="of them to find, at most")
    parser.add_argument("--members", type=int, default=0, help="seed so many members, not the hub")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="a call")
    parser.add_argument("--report-seconds", type=float, default=2.0, help="to generate a report")
    parser.add_argument("--calls-per-second", type=float, help="Throttling above, an account")
    args = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    latency = args.latency_ms / 1000
    with EmbeddedAws(latency, args.report_seconds, port=args.port) as aws:
        aws.limit(args.calls_per_second)
        ids = [f"{200_000_000_000 + n}" for n in range(args.members)] or [HUB]
        find, before = {}, {}
        for account_id in ids:
            account = aws.account(account_id)
            account.add_role()
            find[account_id] = world.seed_bench(account, args.users, args.find)
            before[account_id] = account.snapshot()

        def control(name: str, query: dict[str, str]) -> Any:
            if name == "truth":
                return {
                    "find": find,
                    "changed": {i: aws.account(i).changes(before[i]) for i in ids},
                }
            if name != "reset":
                return None
            aws.reset_calls()
            for account_id in ids:
                account = aws.account(account_id)
                for key_id, key in account.backend.access_keys.items():
                    key.status = before[account_id].get(key_id, key.status)
                if query.get("report") == "fresh":
                    account.generate_report()
                else:
                    account.delete_report()
            return {}

        aws.control = control
        aws.create_queue("c7n-keyrot")
        line = {"url": aws.url, "hub": HUB, "accounts": ids, "env": aws.env(HUB)}
        print(json.dumps(line), flush=True)
        stop.wait()


if __name__ == "__main__":
    from demo.aws import main  # the module that demo.world knows, not a second copy of it

    main()
