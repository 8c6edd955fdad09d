# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes what runs leave in output folders, out of the package's own dataclasses."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml

from c7n_keyrot.core import outcomes, population
from c7n_keyrot.core.outcomes import Action, Outcome, Result
from c7n_keyrot.core.records import ExemptUser, KeyRecord, NotMatched, RunBegun, RunSummary, Why
from c7n_keyrot.core.rotation import DAY, Identified, Verdict, days_left, deadline

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 7, 19, 9, tzinfo=timezone.utc)
PACK = {
    policy["name"].removeprefix("iam-user-second-access-key-"): policy
    for policy in yaml.safe_load((ROOT / "policies" / "second-access-key.yml").read_text("utf-8"))[
        "policies"
    ]
}
# Which of our filters each policy of the pack has.
FILTERS = {
    kind: next(f for f in PACK[kind]["filters"] if isinstance(f, dict) and "type" in f)
    for kind in PACK
}
A, B, C = "111111111111", "222222222222", "333333333333"


def key_id(account_id: str, user: str, slot: int = 2) -> str:
    """An id for a key that is always the same one."""
    return "AKIA" + uuid.uuid5(uuid.NAMESPACE_OID, f"{account_id}/{user}/{slot}").hex[:16].upper()


@dataclass
class Run:
    """A run of one policy in one account; ``write`` leaves what it leaves on disk."""

    account_id: str = A
    kind: str = "stale"
    time: datetime = NOW
    dry_run: bool = False
    failed: bool = False
    counts: Mapping[str, int] = field(default_factory=lambda: {"fresh": 10})
    left: list[NotMatched] = field(default_factory=list)
    exempt: list[ExemptUser] = field(default_factory=list)
    users: list[dict[str, Any]] = field(default_factory=list)
    done: list[Outcome] = field(default_factory=list)
    intents: list[Outcome] = field(default_factory=list)
    notices: list[Outcome] = field(default_factory=list)
    policy: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    report_hours: float = 1
    # All keys of the report: user, slot, status, days before NOW.
    population: Sequence[tuple[str, int, str, float]] | None = None
    region: str = "us-east-1"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def data(self) -> Mapping[str, Any]:
        return self.policy or PACK[self.kind]

    @property
    def report(self) -> datetime:
        return self.time - timedelta(hours=self.report_hours)

    def record(self, user: str, age: float, **changes: Any) -> KeyRecord:
        """What the policy's filter says of a user's second key that is so many days old."""
        rotated = self.time - age * DAY
        found = {**FILTERS[self.kind], **self.options}
        record = KeyRecord(
            filter=found["type"],
            path="1",
            run=self.id,
            verdict={"expiring": Verdict.EXPIRING}.get(self.kind, Verdict.STALE),
            slot=2,
            access_key_id=key_id(self.account_id, user),
            status="Active",
            identified=Identified.DATE,
            drift=False,
            last_rotated=rotated.isoformat(),
            age_days=round(age, 1),
            days=found["days"],
            deadline=deadline(rotated, found["days"]).isoformat(),
            days_left=days_left(rotated, self.time, found["days"]),
            last_used_date=None,
            last_used_service=None,
            last_used_region=None,
            report_generated=self.report.isoformat(),
        )
        return dataclasses.replace(record, **changes)

    def match(
        self, name: str, age: float, tags: Mapping[str, str] | None = None, **changes: Any
    ) -> Run:
        """Let the run select a user."""
        record = self.record(name, age, **changes)
        matched = [{"AccessKeyId": record.access_key_id, "Status": record.status}]
        self.users.append(
            {
                "UserName": name,
                "Arn": f"arn:aws:iam::{self.account_id}:user/{name}",
                "Path": "/",
                "Tags": [{"Key": key, "Value": value} for key, value in (tags or {}).items()],
                "c7n:keyrot": [record.annotation()],
                "c7n:matched-keys": matched
                if record.access_key_id and self.kind == "stale"
                else [],
            }
        )
        return self

    def leave(
        self, name: str, verdict: Verdict = Verdict.STALE, why: Why = Why.EXEMPT, **more: Any
    ) -> Run:
        """Let the run not match a key."""
        until = f"{self.time + 10 * DAY:%Y-%m-%d}" if why is Why.EXEMPT else None
        fields = {"slot": 2, "why": why, "exempt_until": until, **more}
        self.left.append(NotMatched(user=name, verdict=verdict, **fields))
        return self

    def outcome(
        self,
        name: str,
        outcome: str = "disabled",
        action: str = "disable-access-key",
        intent: bool = False,
        **more: Any,
    ) -> Run:
        """Let the run, or a later command, do something to a key."""
        line = Outcome(
            time=(self.time + timedelta(minutes=1)).isoformat(timespec="milliseconds"),
            account_id=self.account_id,
            policy=self.data["name"],
            run=self.id,
            action=Action(action),
            user=name,
            slot=2,
            access_key_id=key_id(self.account_id, name),
            outcome=Result(outcome),
            reason="",
        )
        (self.intents if intent else self.done).append(dataclasses.replace(line, **more))
        return self

    @property
    def summary(self) -> RunSummary:
        judged = [name for name in self.counts if name not in ("absent", "inactive")]
        options = {"slot": 2, "days": 90, **FILTERS[self.kind], **self.options}
        options["filter"] = options.pop("type")
        if self.kind == "stale":
            options.setdefault("status", "Active")
        return RunSummary(
            time=self.time.isoformat(timespec="milliseconds"),
            account_id=self.account_id,
            policy=self.data["name"],
            run=self.id,
            dry_run=self.dry_run,
            filters=[options],
            report_generated=self.report.isoformat(),
            users=sum(self.counts.values()),
            active_keys=sum(self.counts[name] for name in judged),
            verdicts=dict(self.counts),
            candidates=len(self.users) + len(self.left),
            matched=len(self.users),
            not_matched=self.left,
            exempt=self.exempt,
            population=self.csv and hashlib.sha256(self.csv).hexdigest(),
        )

    @property
    def csv(self) -> bytes | None:
        """The file of all keys, if it is kept."""
        if self.population is None:
            return None
        lines = [
            f"{self.account_id},{user},,{slot},{status},{(NOW - age * DAY).isoformat()},"
            for user, slot, status, age in self.population
        ]
        return "\n".join([",".join(population.COLUMNS), *lines, ""]).encode()

    @property
    def metadata(self) -> dict[str, Any]:
        start = self.time.timestamp() - 1
        metrics = {"ResourceCount": len(self.users)} | (
            {"PolicyException": 1} if self.failed else {}
        )
        return {
            "policy": self.data,
            "version": "0.9.53",
            "execution": {"id": self.id, "start": start, "end_time": start + 2, "duration": 2},
            "config": {
                "account_id": self.account_id,
                "region": self.region,
                "dryrun": self.dry_run,
            },
            "metrics": [{"MetricName": k, "Value": v} for k, v in metrics.items()],
        }

    def keep(self, folder: Path) -> None:
        """Leave the file of all keys, if the run has them."""
        if self.csv:
            packed = gzip.compress(self.csv)
            (folder / population.file_name(self.report)).write_bytes(packed)

    def begin(self, out: Path, account: str = "") -> Path:
        """Leave what a run leaves that is killed at its first call."""
        folder = out / account / self.region if account else out
        folder /= self.data["name"]
        folder.mkdir(parents=True, exist_ok=True)
        begun = RunBegun(
            time=(self.time - timedelta(seconds=1)).isoformat(timespec="milliseconds"),
            account_id=self.account_id,
            policy=self.data["name"],
            run=self.id,
            dry_run=self.dry_run,
            filters=self.summary.filters,
        )
        outcomes.append(folder / outcomes.BEGUN_FILE, begun)
        (folder / "custodian-run.log").touch()
        return folder

    def write(self, out: Path, account: str = "") -> Path:
        """Leave it in a policy's folder, in a tree of c7n-org if an account's name is given.

        As Custodian does: lines are added, other files are written anew.
        """
        folder = self.begin(out, account)
        (folder / "metadata.json").write_text(json.dumps(self.metadata), "utf-8")
        (folder / "resources.json").write_text(json.dumps(self.users), "utf-8")
        self.keep(folder)
        outcomes.append(folder / outcomes.SUMMARY_FILE, self.summary)
        for name, lines in (
            (outcomes.FILE, self.done),
            (outcomes.INTENTS_FILE, self.intents),
            (outcomes.NOTIFIED_FILE, self.notices),
        ):
            for line in lines:
                outcomes.append(folder / name, line)
        return folder


def accounts_yml(folder: Path, accounts: Mapping[str, str] | Sequence[tuple[str, str]]) -> Path:
    """An accounts.yml; the accounts by name."""
    pairs: Iterable[tuple[str, str]] = (
        accounts.items() if isinstance(accounts, Mapping) else accounts
    )
    entries = [
        {"name": name, "account_id": account_id, "role": "keyrot", "regions": ["us-east-1"]}
        for name, account_id in pairs
    ]
    path = folder / "accounts.yml"
    path.write_text(yaml.safe_dump({"accounts": entries}), "utf-8")
    return path
