# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The action for aws.iam-user that reports stale keys to AWS Security Hub: post-key-finding."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from c7n.actions import BaseAction
from c7n.utils import get_partition

from c7n_keyrot.aws import calls, gate
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.one_key import OneKey
from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.core.outcomes import Result
from c7n_keyrot.core.rotation import DAY, MOST_DAYS, SEVERITIES, created, deadline, is_older
from c7n_keyrot.core.text import one_line
from c7n_keyrot.custodian import lifecycle
from c7n_keyrot.custodian.elements.filters import stale_filters
from c7n_keyrot.custodian.elements.options import (
    Option,
    check_mode,
    check_options,
    declare,
    invalid,
    one_of,
    text,
)
from c7n_keyrot.custodian.matching import meant
from c7n_keyrot.custodian.shared_report import report_of
from c7n_keyrot.custodian.summary import shortened

# The most that BatchImportFindings takes in a call, and GetFindings returns.
BATCH = 100
# 20,000 findings: more open ones than that aren't checked in one run, which is reported.
MOST_PAGES = 200
# Of a finding, and the longest of each text in it.
MOST_REQUIREMENTS, LONGEST_REQUIREMENT = 32, 64
LONGEST_TITLE, LONGEST_DESCRIPTION, LONGEST_FIELD = 256, 1024, 2048
GENERATORS = "c7n-keyrot/"
TYPES = ["Software and Configuration Checks/AWS Security Best Practices"]
URL = "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html"
REMEDY = (
    "Create a new key and move every application to it. Deactivate the old key, and delete it once "
    "nothing needs it any more."
)


@dataclass(frozen=True)
class _Key:
    """A key that a finding is about; ``created`` is ISO 8601, UTC."""

    user: str
    user_arn: str
    slot: int
    access_key_id: str
    created: str
    days: float

    @property
    def fields(self) -> dict[str, str]:
        """The key as a finding keeps it."""
        return {
            f"c7n-keyrot/{name}": str(value)[:LONGEST_FIELD] for name, value in vars(self).items()
        }

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> _Key:
        """Read a key back out of a finding, which anybody may have written.

        :raises ValueError: this action didn't write it.
        """
        try:
            kept = {
                field.name: str(fields[f"c7n-keyrot/{field.name}"])
                for field in dataclasses.fields(cls)
            }
            made = datetime.fromisoformat(kept["created"])
            kept |= {"slot": int(kept["slot"]), "days": float(kept["days"])}  # type: ignore[dict-item]
        except (KeyError, TypeError) as error:
            raise ValueError(f"not one of our findings: {error}") from None
        key = cls(**kept)  # type: ignore[arg-type]
        if not (key.user and made.tzinfo and key.slot in (1, 2) and 0 < key.days <= MOST_DAYS):
            raise ValueError("not one of our findings: a field is out of range")
        return key


@declare(
    "post-key-finding",
    Option("region", text("a region's name"), "of Security Hub; by default the policy's own"),
    Option(
        "severity",
        one_of(*SEVERITIES),
        "of the findings; by default ``metadata.severity`` of the policy, else ``MEDIUM``",
    ),
)
class PostKeyFinding(BaseAction):  # type: ignore[misc]
    """Post a finding to AWS Security Hub for each active key that ``stale-access-key`` matched.

    A finding is about one key: its resources are the key (``AwsIamAccessKey``) and its user
    (``AwsIamUser``). Its id is made of account, key and rule, so each run updates it, and nothing
    is tagged. Once the key is inactive, deleted, or younger than ``days``, the next run of the
    policy sets it to ``PASSED``. It does so for findings of other policies, too, such as one that
    was renamed, but then by the limit in the finding. If a finding is rejected, later actions
    don't run.

    {options}

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-findings
            resource: aws.iam-user
            source: credential-report
            filters:
              - stale-access-key
              - not: [rotation-exempt]
            actions:
              - post-key-finding
    """

    permissions = ("securityhub:BatchImportFindings", "securityhub:GetFindings")
    # A policy that selects nobody any more has findings to close.
    acts_without_users = True

    def validate(self) -> PostKeyFinding:
        check_options(self)
        check_mode(self)
        found = stale_filters(self.manager.filters)
        if not any(element.option("status") == "Active" for element in found):
            raise invalid(
                self,
                "needs a stale-access-key filter for active keys in the policy (not inside of a "
                "not block)",
            )
        lifecycle.attach(self.manager)
        return self

    def process(self, resources: list[dict[str, Any]]) -> None:
        """Post a finding for each matched key, and close those of keys that aren't stale any more.

        :raises PolicyExecutionError: a finding couldn't be posted, read or closed.
        """
        self.run = lifecycle.run_of(self.manager)
        permit = self.run.permit()
        if permit is not None:
            self._act_on(resources, permit)

    def _act_on(self, resources: list[dict[str, Any]], permit: Permit) -> None:
        self.now = datetime.now(timezone.utc)
        before = len(self.run.log.failures)
        # The filters don't ask for it where those before them have left nobody.
        ages = (element.option("report-max-age") for element in stale_filters(self.manager.filters))
        self.report = self.run.report.used or report_of(self.run, min(ages))
        try:
            self.client = gate.client(self.run.calls.session, "securityhub", region=self._region)
        except CallError as error:
            raise self.run.log.stop(f"no finding is posted or closed: {error}") from None
        posted = {self._id(key): self._finding(key, "FAILED") for key in self._stale(resources)}
        try:
            closed = self._closed(posted)
        except CallError as error:
            self.run.log.fail(f"existing findings can't be read, so none is closed: {error}")
            closed = []
        self._import([*posted.values(), *closed], permit)
        if len(self.run.log.failures) > before:
            raise self.run.log.error()

    def _stale(self, users: list[dict[str, Any]]) -> Iterator[_Key]:
        for user in users:
            # The run's own key is stale, too, though nothing is done to it.
            for record, key in meant(user, self.run.own.withheld.get(user["UserName"], ())):
                # An action before this one may have handled it.
                if key["Status"] == "Active" and not self._is_fixed(key["AccessKeyId"]):
                    yield _Key(
                        user=user["UserName"],
                        user_arn=user["Arn"],
                        slot=record["slot"],
                        access_key_id=key["AccessKeyId"],
                        created=created(key).isoformat(),
                        days=record["days"],
                    )

    def _is_fixed(self, key_id: str) -> bool:
        """Tell whether an action of this run has deactivated or deleted the key."""
        return self.run.done.last.get(key_id) in (Result.DISABLED, Result.DELETED)

    # -- existing findings

    def _closed(self, posted: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return, as ``PASSED``, the open findings whose key isn't stale any more.

        :raises CallError: the open ones can't be read.
        """
        left: dict[_Key, bool] = {}
        for finding in self._open():
            try:
                key = _Key.read(finding.get("ProductFields") or {})
            except ValueError:
                continue
            if finding.get("Id") == self._id(key) and self._id(key) not in posted:
                left[key] = finding["GeneratorId"] == self._generator
        # A policy that was renamed, or isn't run any more, doesn't close its findings itself. Its
        # limit isn't known here: that in the finding counts.
        limits = {key: self._limit(key) if is_mine else key.days for key, is_mine in left.items()}
        closed = []
        for key, is_stale, error in self.run.calls.each(
            "findings checked", lambda key: self._is_stale(key, limits[key]), left
        ):
            if error is not None:
                self.run.log.fail(
                    f"user {key.user!r}: finding of {key.access_key_id} kept: {error}"
                )
            elif not is_stale:
                closed.append(self._finding(key, "PASSED", limits[key]))
        return closed

    def _open(self) -> Iterator[dict[str, Any]]:
        wanted = {
            "AwsAccountId": self.run.account_id,
            "ProductArn": self._product,
            "RecordState": "ACTIVE",
            "ComplianceStatus": "FAILED",
        }
        filters = {
            name: [{"Value": value, "Comparison": "EQUALS"}] for name, value in wanted.items()
        }
        asked: dict[str, Any] = {
            "Filters": {
                "GeneratorId": [{"Value": GENERATORS, "Comparison": "PREFIX"}],
                **filters,
            },
            "MaxResults": BATCH,
        }
        for _ in range(MOST_PAGES):
            answer = calls.call(self.client, "get_findings", **asked)
            for finding in answer["Findings"]:
                if str(finding.get("GeneratorId")).startswith(GENERATORS):
                    yield finding
            token = answer.get("NextToken")
            if not token:
                return
            if token == asked.get("NextToken"):
                self.run.log.fail("GetFindings repeats its pages; the rest isn't checked")
                return
            asked["NextToken"] = token
        self.run.log.fail(f"more than {MOST_PAGES * BATCH} open findings; the rest isn't checked")

    def _is_stale(self, key: _Key, days: float) -> bool:
        """Tell whether the key of an open finding is stale still, though it isn't matched.

        Such as that of a user who is exempt now.

        :param days: the limit.
        :raises CallError: that can't be known.
        """
        if self._is_fixed(key.access_key_id):
            return False
        user: dict[str, Any] | None = None
        try:
            live = OneKey(self.run.calls.client, key.access_key_id, key.user).live()
            if live is not None:
                old = is_older(created(live), self.run.now, days)
                return old and live["Status"] != "Inactive"
            user = calls.call(self.run.calls.client, "get_user", UserName=key.user)["User"]
        except CallError as error:
            if not error.gone:
                raise
        # Its user may have another name now, and another user the old one. The credential report
        # shows it by the key's date. A row is out of date only if its very user lacks the key now.
        made = datetime.fromisoformat(key.created)
        return bool(self.report.duplicates) or any(
            slot.has_key and slot.active is not False and slot.last_rotated in (made, None)
            for row in self.report.rows.values()
            if row.user != key.user or user is None or row.created != created(user)
            for slot in row.slots
        )

    def _limit(self, key: _Key) -> float:
        """Return after how many days a key of this slot is stale, by the policy as it is now.

        According to the finding itself where the policy no longer checks the slot.
        """
        limits = (
            element.option("days")
            for element in stale_filters(self.manager.filters)
            if element.option("slot") == key.slot and element.option("status") == "Active"
        )
        return min(limits, default=key.days)

    # -- findings that are posted

    def _import(self, findings: list[dict[str, Any]], permit: Permit) -> None:
        refused = []
        gate.renew(self.client)  # to check many keys may have taken long
        for start in range(0, len(findings), BATCH):
            batch = findings[start : start + BATCH]
            try:
                answer = calls.call(
                    self.client, "batch_import_findings", permit=permit, Findings=batch
                )
            except CallError as error:
                self.run.log.fail(f"{len(batch)} findings not posted: {error}")
                continue
            if answer["FailedCount"]:
                refused += [
                    one_line(f"{one.get('Id')} ({one.get('ErrorCode')})")
                    for one in answer.get("FailedFindings") or [{}]
                ]
        if refused:
            named = ", ".join(shortened(refused))
            self.run.log.fail(f"Security Hub rejected {len(refused)} findings: {named}")

    def _id(self, key: _Key) -> str:
        rule = f"stale-access-key-{key.slot}"
        return f"c7n-keyrot/{self.run.account_id}/{key.access_key_id}/{rule}"

    def _finding(self, key: _Key, status: str, limit: float = 0) -> dict[str, Any]:
        """Return a finding.

        :param limit: in days, that a key whose finding is closed isn't above.
        """
        made = datetime.fromisoformat(key.created)
        age = (self.now - made) / DAY
        failed = status == "FAILED"
        metadata = self.manager.data.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        says = (
            f"It is active and was last rotated {age:.0f} days ago, on {made:%Y-%m-%d}; the limit "
            f"is {key.days:g} days."
            if failed
            else f"It isn't active any more, or isn't older than {limit:g} days."
        )
        default = f"An active access key is older than {key.days:g} days (slot {key.slot})"
        requirements = [
            one_line(one, LONGEST_REQUIREMENT)
            for one in metadata.get("frameworks") or ()
            if isinstance(one, str) and one.strip()
        ]
        return {
            "SchemaVersion": "2018-10-08",
            "Id": self._id(key),
            "ProductArn": self._product,
            "GeneratorId": self._generator,
            "AwsAccountId": self.run.account_id,
            # Since then it is so; the same in every run.
            "CreatedAt": _time(deadline(made, key.days)),
            "UpdatedAt": _time(self.now),
            # An import changes the severity and the types of a finding that exists only so: those
            # outside of it are the customer's.
            "FindingProviderFields": {
                "Severity": {"Label": self._severity(metadata) if failed else "INFORMATIONAL"},
                "Types": TYPES,
            },
            "Title": one_line(metadata.get("title") or default, LONGEST_TITLE),
            "Description": one_line(
                f"Access key {key.access_key_id} of IAM user {key.user}. {says}",
                LONGEST_DESCRIPTION,
            ),
            "Remediation": {"Recommendation": {"Text": REMEDY, "Url": URL}},
            "ProductFields": key.fields,
            "Resources": self._resources(key),
            "Compliance": {
                "Status": status,
                **(
                    {"RelatedRequirements": requirements[:MOST_REQUIREMENTS]}
                    if requirements
                    else {}
                ),
            },
            "RecordState": "ACTIVE",
        }

    def _resources(self, key: _Key) -> list[dict[str, Any]]:
        place = {"Partition": get_partition(self._region), "Region": self._region}
        about_key = {
            "AccessKeyId": key.access_key_id,
            "AccountId": self.run.account_id,
            "CreatedAt": _time(datetime.fromisoformat(key.created)),
            "PrincipalName": key.user,
            "PrincipalType": "User",
        }
        return [
            {
                "Type": "AwsIamAccessKey",
                "Id": f"AWS::IAM::AccessKey:{key.access_key_id}",
                "Details": {"AwsIamAccessKey": about_key},
                **place,
            },
            {
                "Type": "AwsIamUser",
                "Id": key.user_arn,
                "Details": {"AwsIamUser": {"UserName": key.user}},
                **place,
            },
        ]

    def _severity(self, metadata: Mapping[str, Any]) -> str:
        named = str(metadata.get("severity", "")).upper()
        return self.data.get("severity") or (named if named in SEVERITIES else "MEDIUM")

    @property
    def _generator(self) -> str:
        # Of the policy: another one's limit in days must not close what this one has opened.
        return f"{GENERATORS}{self.manager.data['name']}"

    @property
    def _region(self) -> str:
        return str(self.data.get("region") or self.manager.config.region)

    @property
    def _product(self) -> str:
        """The account's own product: an integration needn't be enabled for it."""
        place = f"{get_partition(self._region)}:securityhub:{self._region}"
        return f"arn:{place}:{self.run.account_id}:product/{self.run.account_id}/default"


def _time(instant: datetime) -> str:
    return instant.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
