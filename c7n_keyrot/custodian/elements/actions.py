# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The actions for aws.iam-user: disable-access-key and delete-access-key."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from c7n.actions import BaseAction
from c7n.utils import type_schema

from c7n_keyrot.aws import calls
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.one_key import OneKey, outcome_of, unknown
from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.core.outcomes import Action, Outcome, Result
from c7n_keyrot.core.records import Why
from c7n_keyrot.core.rotation import Identified
from c7n_keyrot.custodian import intents, lifecycle, output, patches
from c7n_keyrot.custodian.elements.filters import stale_filters
from c7n_keyrot.custodian.elements.options import check_mode, invalid
from c7n_keyrot.custodian.matching import MATCHED_KEYS, RECORDS, meant


@dataclass
class _Task:
    """One user's part of an action: what was recorded, and the keys whose answer was lost."""

    user: dict[str, Any]
    # With the error to log.
    lines: list[tuple[Outcome, CallError | None]] = field(default_factory=list)
    in_doubt: list[tuple[Outcome, CallError]] = field(default_factory=list)


class KeyAction(BaseAction):  # type: ignore[misc]
    """Acts on the keys in ``c7n:matched-keys`` that a stale-access-key filter put there."""

    # A key's status before the action, in the filter that selects it and on the key, and after it.
    status: str
    afterwards: str | None
    outcome: Result
    verb: str

    @property
    def name(self) -> str:
        """What Custodian calls the action in its log and in the file of its results."""
        return str(self.type)

    def validate(self) -> KeyAction:
        for name in self.data:
            if name != "type":
                raise invalid(self, f"unknown option {name!r}; it has none")
        check_mode(self)
        found = list(stale_filters(self.manager.filters))
        if not found:
            raise invalid(
                self, "needs a stale-access-key filter in the policy (not inside of a not block)"
            )
        if not any(element.option("status") == self.status for element in found):
            raise invalid(
                self,
                f"acts on {self.status.lower()} keys only: add status: {self.status} to "
                "stale-access-key",
            )
        lifecycle.attach(self.manager)
        return self

    def process(self, resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Act on every matched key, side by side; one user's failure stops no other.

        :returns: the outcomes, which are in ``keyrot-outcomes.jsonl`` already.
        :raises PolicyExecutionError: the intents can't be kept.
        """
        self.run = lifecycle.run_of(self.manager)
        permit = self.run.permit()
        return [] if permit is None else self._act_on(resources, permit)

    def _act_on(self, resources: list[dict[str, Any]], permit: Permit) -> list[dict[str, Any]]:
        intents.prepare(self.run, resources, permit)
        self.permit = permit
        self.not_tried: list[Outcome] = []
        # Custodian's or and not blocks lose the order.
        tasks = [
            _Task(user)
            for user in sorted(resources, key=lambda user: str(user["UserName"]))
            if user.get(RECORDS)
        ]
        if output.is_bucket(self.manager.ctx):
            patches.watch_upload(self.run)
        # The first alone: if its outcome can't be written, no other key is touched.
        for some in (tasks[:1], tasks[1:]):
            for task, _, error in self.run.calls.each(
                f"{self.type}: users done", self._one_user, some
            ):
                if error is not None:
                    self.run.log.fail(f"user {task.user['UserName']!r}: {error}")
            self._settle_doubts(some)
        for task in tasks:
            for line, error in task.lines:
                self._log(line, error)
        if self.not_tried:
            intents.not_tried(self.run, self.not_tried)
        return [vars(line) for task in tasks for line, _ in task.lines]

    def _log(self, line: Outcome, error: CallError | None) -> None:
        key = f"key {line.access_key_id}" if line.access_key_id else f"key in slot {line.slot}"
        who = f"user {line.user!r}: {key}"
        if line.outcome == Result.UNKNOWN:
            maybe = f"{error}; it is unknown whether it took effect"
            self.run.log.fail(f"{who}: {maybe if error else line.reason}")
        elif line.outcome in (Result.DENIED, Result.FAILED):
            self.run.log.fail(f"{who}: {error}")
        else:
            reason = line.reason and f" ({line.reason})"
            self.run.log.write(f"{who}: {line.outcome}{reason}", logging.INFO)

    def intents(self, resources: Sequence[dict[str, Any]]) -> list[Outcome]:
        """Return a line for each key that the action is going to touch."""
        self.run = lifecycle.run_of(self.manager)
        return [
            self._line(user, record, key["AccessKeyId"], Result.INTENDED, "")
            for user in sorted(resources, key=lambda user: str(user["UserName"]))
            for record, key in meant(user)
            if key["Status"] == self.status
        ]

    def planned(self, resources: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name and the record of each key that the action would touch."""
        for user in sorted(resources, key=lambda user: str(user["UserName"])):
            for record, key in meant(user):
                if key["Status"] == self.status:
                    yield user["UserName"], record

    def _one_user(self, task: _Task) -> None:
        user = task.user
        for record, key in meant(user):
            self._one_key(task, record, key)
        for record, reason in self._left_alone(user):
            # Without the key's id, which would end what an earlier line says of that key.
            self._record(task, self._line(user, record, None, Result.SKIPPED, reason))

    def _one_key(self, task: _Task, record: dict[str, Any], key: dict[str, Any]) -> None:
        line = self._line(task.user, record, key["AccessKeyId"], Result.INTENDED, "")
        if key["Status"] != self.status:
            # If not so, the other action of this policy already handled it.
            if key["AccessKeyId"] not in self.run.done.last:
                reason = f"the key is {key['Status']}, not {self.status}"
                self._record(task, replace(line, outcome=Result.SKIPPED, reason=reason))
        elif not self.run.journal.unwritable:
            self._touch(task, line)
        else:
            # What can't be recorded can't be undone either.
            self.not_tried.append(line)

    def _touch(self, task: _Task, line: Outcome) -> None:
        self.run.journal.close(line)
        try:
            outcome, reason = self.act(line.user, str(line.access_key_id))
        except CallError as error:
            if error.lost:
                task.in_doubt.append((line, error))
                return
            if error.gone:
                outcome, reason = self._missing(line.user, str(line.access_key_id))
                self._record(task, replace(line, outcome=outcome, reason=reason))
                return
            line = replace(line, outcome=outcome_of(error), reason=error.reason)
            self._record(task, line, error)
        else:
            self._record(task, replace(line, outcome=outcome, reason=reason))

    def _key(self, name: str, key_id: str) -> OneKey:
        user_id = self.run.users.known.get(name, {}).get("UserId")
        return OneKey(self.run.calls.client, key_id, name, user_id)

    def _missing(self, name: str, key_id: str) -> tuple[Result, str]:
        return self._key(name, key_id).missing("a run with a newer credential report takes it")

    def _left_alone(self, user: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Say by which records the filters matched the user, but selected no key, and why."""
        meant = {key["AccessKeyId"] for key in user[MATCHED_KEYS]}
        own = {key["AccessKeyId"] for key in self.run.own.withheld.get(user["UserName"], ())}
        seen = set()
        for record in user[RECORDS]:
            if record["filter"] != "stale-access-key" or record["access_key_id"] in meant:
                continue
            if record["slot"] not in seen:
                seen.add(record["slot"])
                reason = "another filter of the policy excludes this key"
                if record["access_key_id"] in own:
                    reason = Why.OWN.text
                yield record, NO_KEY.get(record["identified"], reason)

    def _settle_doubts(self, tasks: list[_Task]) -> None:
        """Find out what became of the calls whose answer was lost: they may have taken effect."""
        doubts = [(task, *doubt) for task in tasks for doubt in task.in_doubt]
        for (task, line, lost), found, bug in self.run.calls.each(
            "lost answers", lambda doubt: self._find_out(doubt[1], doubt[2]), doubts
        ):
            outcome, reason, error = found or (Result.UNKNOWN, unknown(bug or lost), bug or lost)
            self._record(task, replace(line, outcome=outcome, reason=reason), error)

    def _find_out(self, line: Outcome, lost: CallError) -> tuple[Result, str, CallError]:
        name, key_id = line.user, str(line.access_key_id)
        return self._key(name, key_id).after_lost_answer(
            lost,
            lambda: self.act(name, key_id, tries=3)[0] == self.outcome,
            self.outcome,
            self.afterwards,
        )

    def act(self, name: str, key_id: str, tries: int = 0) -> tuple[Result, str]:
        """Apply the action to one key; return outcome and reason.

        :param tries: how many at most; 0 for the client's own number.
        :raises CallError: the call fails.
        """
        raise NotImplementedError

    def _line(
        self,
        user: dict[str, Any],
        record: dict[str, Any],
        key_id: str | None,
        outcome: Result,
        reason: str,
    ) -> Outcome:
        line = self.run.line(Action(self.type), user, record)
        return replace(line, time=_now(), access_key_id=key_id, outcome=outcome, reason=reason)

    def _record(self, task: _Task, line: Outcome, error: CallError | None = None) -> None:
        line = replace(line, time=_now())
        task.lines.append((line, error))
        self.run.done.note(line)
        if not self.run.journal.record(line):
            self.run.log.fail(
                f"user {line.user!r}: key {line.access_key_id}: {line.outcome}, but "
                f"{self.run.journal.unwritable}"
            )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


IN_DOUBT = (Identified.AMBIGUOUS, Identified.UNMATCHED, Identified.UNREAD)
NO_KEY = {one.value: one.text for one in IN_DOUBT}


class DisableAccessKey(KeyAction):
    """Deactivate the keys that ``stale-access-key`` matched, and nothing else.

    Each key gets a line in ``keyrot-outcomes.jsonl`` in the policy's output folder, as it is done.
    Undone with ``c7n-keyrot reactivate OUTPUT_DIR``, or for one key with ``aws iam
    update-access-key --status Active``.

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-disable
            resource: aws.iam-user
            source: credential-report
            filters:
              - stale-access-key
            actions:
              - disable-access-key
    """

    schema = type_schema(Action.DISABLE.value)
    permissions = ("iam:UpdateAccessKey",)
    status, afterwards, outcome, verb = "Active", "Inactive", Result.DISABLED, "disable"

    def act(self, name: str, key_id: str, tries: int = 0) -> tuple[Result, str]:
        calls.call(
            self.run.calls.client,
            "update_access_key",
            tries=tries,
            permit=self.permit,
            UserName=name,
            AccessKeyId=key_id,
            Status="Inactive",
        )
        return self.outcome, ""


class DeleteAccessKey(KeyAction):
    """Delete the keys that ``stale-access-key`` with ``status: Inactive`` matched.

    Nothing brings a deleted key back. So each one is read once more, and is deleted only if
    it is still inactive; an active key is refused. Each key gets a line in
    ``keyrot-outcomes.jsonl`` in the policy's output folder.

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-delete-inactive
            resource: aws.iam-user
            source: credential-report
            filters:
              - type: stale-access-key
                status: Inactive
                days: 180
                unused-days: 90
            actions:
              - delete-access-key
    """

    schema = type_schema(Action.DELETE.value)
    permissions = ("iam:ListAccessKeys", "iam:DeleteAccessKey")
    status, afterwards, outcome, verb = "Inactive", None, Result.DELETED, "delete"

    def act(self, name: str, key_id: str, tries: int = 0) -> tuple[Result, str]:
        now = self._key(name, key_id).status()
        if now is None:
            return self._missing(name, key_id)
        if now != self.status:
            return Result.SKIPPED, f"the key is {now} now, not {self.status}"
        key = {"UserName": name, "AccessKeyId": key_id}
        calls.call(
            self.run.calls.client, "delete_access_key", tries=tries, permit=self.permit, **key
        )
        return self.outcome, ""
