# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Switches keys on, and records what became of each one as it is done."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from c7n_keyrot import iam, outcomes
from c7n_keyrot.cli import CommandError
from c7n_keyrot.cli.reactivate.files import NAMES
from c7n_keyrot.cli.reactivate.history import REACTIVATE, Key
from c7n_keyrot.cli.reactivate.live_keys import (
    LEFT,
    NOT_FOUND,
    Finding,
    failure,
    look_at_user,
    patiently,
    statuses,
)
from c7n_keyrot.iam import CallError


def check_writable(findings: Sequence[Finding]) -> None:
    """Refuse to begin what couldn't be recorded: a later call would undo what isn't ours.

    :raises CommandError: so.
    """
    for path in dict.fromkeys(
        path
        for finding in findings
        if finding.recorded
        for path in (record_file(finding.key), intents_file(finding.key))
    ):
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise CommandError(
                f"{path} can't be written, and what is done must be recorded there; "
                "correct that, or copy the folder and name the copy"
            )


def record_file(key: Key) -> Path:
    """Return the file for what is done to the key: the plain one beside what tells of it."""
    if key.file.name.startswith(NAMES) and key.file.suffix == ".jsonl":
        return key.file.with_name(key.file.name.replace(NAMES[1], NAMES[0]))
    return key.file.with_name(outcomes.FILE)


def intents_file(key: Key) -> Path:
    """Return the file for what is about to be done to the key."""
    record = record_file(key)
    return record.with_name(record.name.replace(NAMES[0], NAMES[1]))


def carry_out(
    findings: Sequence[Finding], now: Sequence[Key], tell: Callable[[Finding], None]
) -> list[Finding]:
    """Do it, and record each key as it is done.

    :param now: the history as it is after the user's answer.
    :param tell: called with each finding that the user hasn't seen yet, in their order.
    :returns: those that were recorded, or left.
    """
    work = _Work({key.place: key for key in now})
    done: list[Finding] = []
    for finding in findings:
        iam.renew(finding.access.client("iam"))
    with ThreadPoolExecutor(iam.WORKERS) as pool:
        try:
            for finding, result in zip(findings, pool.map(work.on, findings), strict=True):
                if result is not None:
                    done.append(result)
                    if result.outcome != finding.outcome or result.to_do:
                        tell(result)  # the others were told before
        finally:  # at Ctrl-C what hasn't begun doesn't begin
            pool.shutdown(cancel_futures=True)
    for line in work.unwritable:
        print(line, file=sys.stderr)
    return done


class _Work:
    """One run of the command; its keys are worked on side by side."""

    def __init__(self, history: dict[tuple[str, str | None], Key]) -> None:
        self.history, self.run = history, str(uuid.uuid4())
        self.unwritable: list[str] = []  # once something is in it no further key is touched

    def on(self, finding: Finding) -> Finding | None:
        """Do what is to be done about a key; None where it couldn't be recorded."""
        try:
            return self._on(finding)
        except Exception as error:  # it takes away no other key's outcome
            return replace(finding, outcome=outcomes.FAILED, reason=_fault(error))

    def _on(self, finding: Finding) -> Finding | None:
        key = finding.key
        if self.unwritable:
            return None
        if not finding.recorded:
            return finding
        if self.history.get(key.place) != key:
            return replace(finding, outcome=LEFT, reason=_changed("another run was at it"))
        time = _now()
        if not finding.bad:
            (again,) = look_at_user(finding.access, finding.user, [key])
            if not again.recorded or (not again.bad and again != finding):
                what = again.reason or "the key is Inactive"
                return replace(finding, outcome=LEFT, reason=_changed(what))
            finding = again
        if finding.to_do:
            intent = replace(finding, outcome=outcomes.INTENDED)
            if not self._record(intents_file(key), time, intent):
                return None
            finding = _switch_on(finding)
            time = _now()
        return finding if self._record(record_file(key), time, finding) else None

    def _record(self, path: Path, time: datetime, finding: Finding) -> bool:
        key, what = finding.key, finding.outcome
        # What answers a line comes after it, though the clock of this machine may be behind.
        time = max(time, key.time + timedelta(milliseconds=1))
        line = replace(
            key.last,
            time=time.isoformat(timespec="milliseconds"),
            run=self.run,
            action=REACTIVATE,
            user=finding.user,
            outcome=what,
            reason=finding.reason,
        )
        try:
            outcomes.append(path, line)
        except OSError as error:
            what = "not tried:" if what == outcomes.INTENDED else f"{what}, but"
            self.unwritable.append(
                f"{key}: {what} {path} can't be written ({error.strerror or error}): "
                "no further key is touched; correct that, run it again"
            )
            return False
        return True


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _changed(what: str) -> str:
    return f"it isn't as it was shown ({what}); run it again"


def _fault(error: Exception) -> str:
    # Its text may quote anything.
    return f"c7n-keyrot failed ({type(error).__name__}, a fault of its own: report it)"


def _switch_on(finding: Finding) -> Finding:
    try:
        outcome, reason = _update(finding)
    except Exception as error:  # where nobody knows how far it was
        outcome, reason = outcomes.UNKNOWN, _fault(error)
    return replace(finding, outcome=outcome, reason=reason)


def _update(finding: Finding) -> tuple[str, str]:
    """Make the call, and return outcome and reason.

    Where its answer is lost it is made again, since switching on twice is switching on once; then
    the key is looked at. A listing proves the new status only: the old one may be IAM's lag.
    """
    access, user, key_id = finding.access, finding.user, finding.key.id

    def update() -> CallError | None:
        client = access.client("iam")
        try:
            iam.call(
                client, "update_access_key", UserName=user, AccessKeyId=key_id, Status="Active"
            )
        except CallError as error:
            return error
        return None

    lost = update()
    if lost is None:
        return outcomes.REACTIVATED, ""
    if not lost.lost:
        return failure(lost)
    was_lost = f"the answer was lost ({lost.reason})"
    last = update()
    if last is None:
        return outcomes.REACTIVATED, was_lost
    if last.gone:
        return failure(last)
    try:
        for _ in patiently():
            status = statuses(access, user).get(key_id)
            if status is None:
                return outcomes.GONE, NOT_FOUND
            if status == "Active":
                return outcomes.REACTIVATED, was_lost
    except CallError as error:
        last = error
    return outcomes.UNKNOWN, f"it may have taken effect ({last.reason})"
