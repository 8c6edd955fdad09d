# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The actions for aws.iam-user: disable-access-key and delete-access-key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from c7n.actions import BaseAction
from c7n.utils import type_schema

from c7n_keyrot import outcomes
from c7n_keyrot.credential_report import DENIED
from c7n_keyrot.filters import stale_filters
from c7n_keyrot.matched_keys import MATCHED_KEYS, RECORDS
from c7n_keyrot.options import check_mode, invalid
from c7n_keyrot.outcomes import Outcome
from c7n_keyrot.policy_run import OutageError, PolicyRun, answer_lost, code, explain, log
from c7n_keyrot.rotation import Identified


class _KeyAction(BaseAction):  # type: ignore[misc]
    """Acts on the keys in ``c7n:matched-keys`` that a stale-access-key filter of ours put there."""

    # A key's status before the action, in the filter that selects it and on the key, and after it.
    status: str
    afterwards: str | None
    outcome: str

    @property
    def name(self) -> str:
        """What Custodian calls the action in its log and in the file of its results."""
        return str(self.type)

    def validate(self) -> _KeyAction:
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
        return self

    def process(self, resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Act on every matched key, side by side; one user's failure stops no other.

        :returns: the outcomes, which are in ``keyrot-outcomes.jsonl`` already.
        """
        self.run = PolicyRun.of(self.manager)
        self.lock = threading.Lock()
        self.in_doubt: list[tuple[Outcome, Exception]] = []
        self.done: list[dict[str, Any]] = []
        # Custodian's or and not blocks lose the order.
        users = sorted(
            (user for user in resources if user.get(RECORDS)), key=lambda user: user["UserName"]
        )
        self.run.each(f"{self.type}: users done", self._one_user, users)
        self._look_up_lost_answers()
        return self.done

    def _one_user(self, user: dict[str, Any]) -> None:
        slots = {
            record["access_key_id"]: record["slot"]
            for record in user[RECORDS]
            if record["filter"] == "stale-access-key"
        }
        for key in user[MATCHED_KEYS]:
            if key["AccessKeyId"] in slots:
                self._one_key(user, slots[key["AccessKeyId"]], key)
        for slot, reason in self._left_alone(user):
            self._record(self._line(user, slot, None, outcomes.SKIPPED, reason))

    def _one_key(self, user: dict[str, Any], slot: int, key: dict[str, Any]) -> None:
        line = self._line(user, slot, key["AccessKeyId"], outcomes.INTENDED, "")
        if key["Status"] != self.status:
            # If not so, the other action of this policy has seen to it.
            if key["AccessKeyId"] not in self.run.acted_on:
                reason = f"the key is {key['Status']}, not {self.status}"
                self._record(replace(line, outcome=outcomes.SKIPPED, reason=reason))
        elif self._write(outcomes.INTENTS_FILE, line):
            try:
                outcome, reason = self._try(user["UserName"], key["AccessKeyId"])
            except (ClientError, BotoCoreError, OutageError) as error:
                self.in_doubt.append((line, error))
            else:
                self._record(replace(line, time=_now(), outcome=outcome, reason=reason))

    def _left_alone(self, user: dict[str, Any]) -> Iterator[tuple[int, str]]:
        """Say for which slots the filters matched the user, but mean no key, and why."""
        meant = {key["AccessKeyId"] for key in user[MATCHED_KEYS]}
        seen = set()
        for record in user[RECORDS]:
            if record["filter"] != "stale-access-key" or record["access_key_id"] in meant:
                continue
            if record["slot"] not in seen:
                seen.add(record["slot"])
                yield (
                    record["slot"],
                    LEFT_ALONE.get(
                        record["identified"], "another filter of the policy doesn't mean this key"
                    ),
                )

    def _try(self, name: str, key_id: str) -> tuple[str, str]:
        """Act on one key, and say what became of it: outcome and reason."""
        try:
            return self.act(name, key_id)
        except ClientError as error:
            if answer_lost(error):
                raise
            reason = code(error)
            if reason == "NoSuchEntity":
                return outcomes.GONE, GONE
            self.run.fail(f"user {name!r}: key {key_id}: {explain(error)}")
            return (outcomes.DENIED if reason in DENIED else outcomes.FAILED), reason

    def _look_up_lost_answers(self) -> None:
        """Look what became of calls whose answer never came: they may have taken effect."""

        def live_status(doubt: tuple[Outcome, Exception]) -> str | None:
            return self.live_status(doubt[0].user, str(doubt[0].access_key_id))

        doubts = sorted(self.in_doubt, key=lambda doubt: doubt[0].user)
        for (line, lost), status, error in self.run.each("lost answers", live_status, doubts):
            if error is None and status == self.afterwards:
                outcome, reason = self.outcome, f"the answer was lost ({code(lost)})"
            elif code(error) == "NoSuchEntity" or (error is None and status is None):
                outcome, reason = outcomes.GONE, GONE
            else:
                denied = error is None and code(lost) in DENIED
                outcome = outcomes.DENIED if denied else outcomes.FAILED
                reason = code(lost) if error is None else f"{outcomes.UNKNOWN} ({code(lost)})"
                told = explain(lost) if error is None else f"{explain(lost)}; {outcomes.UNKNOWN}"
                self.run.fail(f"user {line.user!r}: key {line.access_key_id}: {told}")
            self._record(replace(line, time=_now(), outcome=outcome, reason=reason))

    def live_status(self, name: str, key_id: str) -> str | None:
        """Return the key's status as of now; None if it isn't there."""
        live = self.run.client.list_access_keys(UserName=name)["AccessKeyMetadata"]
        return next((key["Status"] for key in live if key["AccessKeyId"] == key_id), None)

    def act(self, name: str, key_id: str) -> tuple[str, str]:
        """Do it to one key."""
        raise NotImplementedError

    def _line(
        self, user: dict[str, Any], slot: int, key_id: str | None, outcome: str, reason: str
    ) -> Outcome:
        return Outcome(
            time=_now(),
            account_id=self.run.account_id,
            policy=self.manager.data["name"],
            run=self.manager.ctx.execution_id,
            action=self.type,
            user=user["UserName"],
            slot=slot,
            access_key_id=key_id,
            outcome=outcome,
            reason=reason,
        )

    def _record(self, line: Outcome) -> None:
        named = f"key {line.access_key_id}" if line.access_key_id else f"key in slot {line.slot}"
        reason = line.reason and f" ({line.reason})"
        log.info("user %r: %s: %s%s", line.user, named, line.outcome, reason)
        self.done.append(vars(line))
        self.run.acted_on.add(line.access_key_id)
        self._write(outcomes.FILE, line)

    def _write(self, name: str, line: Outcome) -> bool:
        """Add a line to a file on disk. Once that fails no further key is touched.

        What can't be recorded can't be undone either.
        """
        with self.lock:
            try:
                if not self.run.unwritable:
                    outcomes.append(outcomes.path_of(self.manager.ctx, name), line)
                    return True
            except OSError as error:
                self.run.unwritable = str(error.strerror or error)
        what = "not tried" if line.outcome == outcomes.INTENDED else line.outcome
        self.run.fail(
            f"user {line.user!r}: key {line.access_key_id}: {what}; {name} can't be written "
            f"({self.run.unwritable})"
        )
        return False


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


GONE = "the key or its user is gone meanwhile"
LEFT_ALONE = {
    Identified.AMBIGUOUS.value: "ambiguous: two keys of one second can't be told apart",
    Identified.NO.value: "the credential report's dates show no live key to be this one",
    Identified.UNREAD.value: "the user's keys or tags couldn't be read",
}


class DisableAccessKey(_KeyAction):
    """Deactivate the keys that ``stale-access-key`` matched, and nothing else.

    Each key gets a line in ``keyrot-outcomes.jsonl`` in the policy's output folder, as it is done.
    Undone with ``c7n-keyrot reactivate OUTPUT_DIR``, or for one key with ``aws iam
    update-access-key --status Active``.

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-stale
            resource: aws.iam-user
            source: credential-report
            filters:
              - stale-access-key
            actions:
              - disable-access-key
    """

    schema = type_schema("disable-access-key")
    permissions = ("iam:UpdateAccessKey",)
    status, afterwards, outcome = "Active", "Inactive", outcomes.DISABLED

    def act(self, name: str, key_id: str) -> tuple[str, str]:
        self.run.client.update_access_key(UserName=name, AccessKeyId=key_id, Status="Inactive")
        return self.outcome, ""


class DeleteAccessKey(_KeyAction):
    """Delete the keys that ``stale-access-key`` with ``status: Inactive`` matched.

    Nothing brings a deleted key back. So each one is looked at once more, and is deleted only if
    it is still inactive; an active key is refused. Each key gets a line in
    ``keyrot-outcomes.jsonl`` in the policy's output folder.

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-delete
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

    schema = type_schema("delete-access-key")
    permissions = ("iam:ListAccessKeys", "iam:DeleteAccessKey")
    status, afterwards, outcome = "Inactive", None, outcomes.DELETED

    def act(self, name: str, key_id: str) -> tuple[str, str]:
        now = self.live_status(name, key_id)
        if now is None:
            return outcomes.GONE, "the key is gone meanwhile"
        if now != self.status:
            return outcomes.SKIPPED, f"the key is {now} meanwhile, not {self.status}"
        self.run.client.delete_access_key(UserName=name, AccessKeyId=key_id)
        return self.outcome, ""
