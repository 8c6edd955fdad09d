# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""An IAM in the test's own memory, and policies run on it by Custodian's own machinery.

Fast enough for thousands of runs, and it can answer what no server does. What depends on real
clients is tested with the embedded AWS (embedded_aws/).
"""

from __future__ import annotations

import copy
import csv
import io
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from c7n.config import Config
from c7n.policy import Policy, PolicyCollection
from c7n.resources import load_resources

from c7n_keyrot.core.outcomes import Outcome, parse
from c7n_keyrot.evidence.files import parsed

ACCOUNT = "123456789012"
CALLER = f"arn:aws:sts::{ACCOUNT}:assumed-role/c7n-keyrot/run"
COLUMNS = ("active", "last_rotated", "last_used_date", "last_used_region", "last_used_service")
HEADER = [
    "user",
    "arn",
    *(f"access_key_{slot}_{name}" for slot in (1, 2) for name in COLUMNS),
    "user_creation_time",
]
# What a key is in a test: days of age or the instant of its making, and its status.
Made = float | datetime | tuple[float | datetime, str] | None


def utcnow() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def client_error(code: str, operation: str = "Anything", status: int | None = None) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "injected"}}
    if status is not None:
        answer["ResponseMetadata"] = {"HTTPStatusCode": status}
    return ClientError(answer, operation)


class Iam:
    """A boto3 IAM client and what it asks: users, keys, a credential report made when asked for."""

    def __init__(self) -> None:
        self.now = utcnow()
        self.users: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, list[dict[str, Any]]] = {}
        self.used: dict[str, datetime] = {}
        self.rows: dict[str, list[str]] = {}
        self.text: str | None = None  # what the report says, whatever is true
        self.age_hours = 1.0
        self.calls: Counter[str] = Counter()
        # (call, user or key id or "*") -> the error's code
        self.errors: dict[tuple[str, str], str] = {}
        # User -> code with which GetUser fails once stock's describe has read the user.
        self.later_errors: dict[str, str] = {}
        self.changed: list[tuple[str, str, str]] = []
        # What CloudTrail's event history has: entries of LookupEvents, by region and key id.
        self.events: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.page = 100  # keys in a page of ListAccessKeys
        self.lock = threading.Lock()
        self.meta = SimpleNamespace(events=SimpleNamespace(register=lambda *args: None))

    # -- what a test says

    def add(
        self,
        name: str,
        slot1: Made = None,
        slot2: Made = None,
        tags: dict[str, str] | None = None,
        path: str = "/",
    ) -> str:
        """Add a user, and a row of the report; the id of the key in slot N is NAME-N."""
        self.users[name] = {
            "UserName": name,
            "Path": path,
            "Arn": f"arn:aws:iam::{ACCOUNT}:user{path}{name}",
            "UserId": f"AIDA{name}",
            "CreateDate": self.now - timedelta(days=1000),
            "Tags": [{"Key": key, "Value": value} for key, value in (tags or {}).items()],
        }
        self.keys[name] = []
        row = [name, self.users[name]["Arn"]]
        for slot, made in ((1, slot1), (2, slot2)):
            if made is None:
                row += ["false", *["N/A"] * 4]
                continue
            age, status = made if isinstance(made, tuple) else (made, "Active")
            self.add_key(name, f"{name}-{slot}", age, status)
            rotated = self.keys[name][-1]["CreateDate"].isoformat()
            row += ["true" if status == "Active" else "false", rotated, *["N/A"] * 3]
        self.rows[name] = [*row, self.users[name]["CreateDate"].isoformat()]
        return name

    def add_key(
        self, name: str, key_id: str, age: float | datetime = 0, status: str = "Active"
    ) -> None:
        made = age if isinstance(age, datetime) else self.now - timedelta(days=age)
        self.keys[name].append(
            {
                "UserName": name,
                "AccessKeyId": key_id,
                "Status": status,
                "CreateDate": made.replace(microsecond=0),
            }
        )

    def all_keys(self) -> list[dict[str, Any]]:
        return [key for name in self.users for key in self.keys[name]]

    def key(self, key_id: str) -> dict[str, Any]:
        return next(k for keys in self.keys.values() for k in keys if k["AccessKeyId"] == key_id)

    def rename(self, name: str, new: str) -> None:
        """Give a user another name, with the keys; a report made by then has the old one."""
        self.users[new] = {**self.users.pop(name), "UserName": new}
        self.keys[new] = self.keys.pop(name)
        for key in self.keys[new]:
            key["UserName"] = new

    def tag(self, name: str, **tags: str) -> None:
        self.users[name]["Tags"] = [
            {"Key": key.replace("_", "-"), "Value": value} for key, value in tags.items()
        ]

    def statuses(self) -> dict[str, str]:
        return {k["AccessKeyId"]: k["Status"] for keys in self.keys.values() for k in keys}

    def report(self) -> bytes:
        out = io.StringIO()
        csv.writer(out).writerows([HEADER, *self.rows.values()])
        return (out.getvalue() if self.text is None else self.text).encode()

    # -- what boto3 calls

    def _call(self, operation: str, subject: str = "") -> None:
        with self.lock:
            self.calls[operation] += 1
        code = self.errors.get((operation, subject)) or self.errors.get((operation, "*"))
        if code:
            raise client_error(code, operation)

    def generate_credential_report(self) -> dict[str, Any]:
        self._call("GenerateCredentialReport")
        return {"State": "COMPLETE"}

    def get_credential_report(self) -> dict[str, Any]:
        self._call("GetCredentialReport")
        return {
            "Content": self.report(),
            "GeneratedTime": self.now - timedelta(hours=self.age_hours),
        }

    def _user(self, operation: str, name: str) -> dict[str, Any]:
        self._call(operation, name)
        if name not in self.users:
            raise client_error("NoSuchEntity", operation)
        return self.users[name]

    def get_user(self, UserName: str) -> dict[str, Any]:
        user = copy.deepcopy(self._user("GetUser", UserName))
        if UserName in self.later_errors:
            self.errors["GetUser", UserName] = self.later_errors[UserName]
        return {"User": user}

    def list_access_keys(self, UserName: str, Marker: str = "0") -> dict[str, Any]:
        self._user("ListAccessKeys", UserName)
        keys, end = self.keys[UserName], int(Marker) + self.page
        more = {"IsTruncated": end < len(keys), **({"Marker": f"{end}"} if end < len(keys) else {})}
        return {"AccessKeyMetadata": copy.deepcopy(keys[int(Marker) : end]), **more}

    def get_access_key_last_used(self, AccessKeyId: str) -> dict[str, Any]:
        self._call("GetAccessKeyLastUsed", AccessKeyId)
        owners = {key["AccessKeyId"]: key["UserName"] for key in self.all_keys()}
        if AccessKeyId not in owners:
            raise client_error("AccessDenied", "GetAccessKeyLastUsed")  # as AWS
        used = self.used.get(AccessKeyId)
        answer: dict[str, Any] = {"ServiceName": "s3" if used else "N/A", "Region": "us-east-1"}
        last = {**answer, **({"LastUsedDate": used} if used else {})}
        return {"UserName": owners[AccessKeyId], "AccessKeyLastUsed": last}

    def _find(self, operation: str, name: str, key_id: str) -> dict[str, Any]:
        self._call(operation, key_id)
        for key in self.keys.get(name, ()):
            if key["AccessKeyId"] == key_id:
                return key
        raise client_error("NoSuchEntity", operation)

    def update_access_key(self, UserName: str, AccessKeyId: str, Status: str) -> dict[str, Any]:
        key = self._find("UpdateAccessKey", UserName, AccessKeyId)
        self.changed.append((UserName, AccessKeyId, Status))
        key["Status"] = Status
        return {}

    def delete_access_key(self, UserName: str, AccessKeyId: str) -> dict[str, Any]:
        key = self._find("DeleteAccessKey", UserName, AccessKeyId)
        self.keys[UserName].remove(key)
        self.changed.append((UserName, AccessKeyId, "deleted"))
        return {}

    def can_paginate(self, name: str) -> bool:
        return name == "list_users"

    def get_paginator(self, name: str) -> Any:
        assert name == "list_users"
        return SimpleNamespace(paginate=self._pages_of_users, PAGE_ITERATOR_CLS=None)

    def _pages_of_users(self) -> Any:
        self._call("ListUsers")
        users = copy.deepcopy(list(self.users.values()))
        for user in users:
            del user["Tags"]
        return SimpleNamespace(build_full_result=lambda: {"Users": users})


class Session:
    """A boto3 session whose every client is the test's Iam."""

    def __init__(self, iam: Iam) -> None:
        self.iam, self.region_name = iam, "us-east-1"
        self.events = SimpleNamespace(unregister=lambda *args, **kwargs: None)
        self.credentials: Any = Credentials("AKIAOFTHERUN", "not-a-secret")

    def get_credentials(self) -> Any:
        return self.credentials

    def client(self, service: str, region_name: str = "", **kwargs: Any) -> Any:
        if service == "cloudtrail":
            return CloudTrail(self.iam, region_name)
        if service == "sts":
            return Sts(self.iam)
        assert service == "iam"
        return self.iam


class Sts:
    """STS's client of a session."""

    def __init__(self, iam: Iam) -> None:
        self.iam = iam

    def get_caller_identity(self) -> dict[str, Any]:
        self.iam._call("GetCallerIdentity")
        return {"Arn": CALLER, "Account": ACCOUNT}


class CloudTrail:
    """CloudTrail's client for a region."""

    def __init__(self, iam: Iam, region: str) -> None:
        self.iam, self.region = iam, region

    def lookup_events(self, LookupAttributes: Any, **asked: Any) -> dict[str, Any]:
        (attribute,) = LookupAttributes
        self.iam._call("LookupEvents", self.region)
        return {"Events": self.iam.events.get((self.region, attribute["AttributeValue"]), [])}


class Custodian:
    """Builds policies on aws.iam-user as `custodian run` does, and runs them."""

    def __init__(self, iam: Iam, folder: Path) -> None:
        self.iam, self.folder = iam, folder
        self.session = Session(iam)
        self.options: dict[str, Any] = {}

    def factory(self, *args: Any, **kwargs: Any) -> Session:
        return self.session

    def load(self, *policies: dict[str, Any]) -> list[Policy]:
        """Build policies whose own validate() isn't called yet, as c7n-org does: no schema."""
        for policy in policies:
            load_resources({policy["resource"]})
        config = Config.empty(
            **{
                "region": "us-east-1",
                "account_id": ACCOUNT,
                "output_dir": str(self.folder),
                **self.options,
            }
        )
        factory = lambda *args, **kwargs: self.session  # noqa: E731 - c7n sets attributes on it
        return list(PolicyCollection.from_data({"policies": list(policies)}, config, factory))

    def policy(self, filters: Sequence[Any], actions: Sequence[Any] = (), **more: Any) -> Policy:
        data = {
            "name": "test",
            "resource": "aws.iam-user",
            "source": "credential-report",
            "filters": copy.deepcopy(list(filters)),
            "actions": copy.deepcopy(list(actions)),
            **more,
        }
        return self.load({key: value for key, value in data.items() if value is not None})[0]

    def run(
        self, filters: Sequence[Any], actions: Sequence[Any] = (), **more: Any
    ) -> list[dict[str, Any]]:
        """Validate and run a policy; the users that it selects, by name."""
        policy = self.policy(filters, actions, **more)
        policy.validate()
        return sorted(policy.run(), key=lambda user: user["UserName"])

    def matched(self, filters: Sequence[Any], **more: Any) -> dict[str, list[str]]:
        """Run the filters; {user: ids of the keys that they mean}."""
        return {user["UserName"]: matched_ids(user) for user in self.run(filters, **more)}

    @property
    def outcomes(self) -> Path:
        return self.folder / "test" / "keyrot-outcomes.jsonl"


def outcomes_in(path: Path) -> list[Outcome]:
    """The outcomes of a file in their order, without the lines that can't be read."""
    return [line for line in parsed(path, parse) if isinstance(line, Outcome)]


def matched_ids(user: dict[str, Any]) -> list[str]:
    return [key["AccessKeyId"] for key in user["c7n:matched-keys"]]
