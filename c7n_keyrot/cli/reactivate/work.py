# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Switch keys on, and record what happened to each one as it is done."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from c7n_keyrot.aws import calls, gate, settings
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.cli.reactivate.history import KeyHistory, Place
from c7n_keyrot.cli.reactivate.live_keys import (
    Finding,
    NotTouched,
    failure,
    look_at_user,
    one_key,
)
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import Action, Result
from c7n_keyrot.evidence.outcome_files import NAMES

AGAIN = "run this again"


def check_writable(findings: Sequence[Finding]) -> None:
    """Refuse to begin what couldn't be recorded: a later run would undo what isn't ours.

    :raises CommandError: a file can't be written.
    """
    for path in dict.fromkeys(
        path
        for finding in findings
        if finding.recorded
        for path in (record_file(finding.key), intents_file(finding.key))
    ):
        regular = path.is_file() or not path.exists()
        if not regular or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise CommandError(
                f"{path} can't be written, and what is done must be recorded there; "
                "make it writable, or copy the folder and name the copy"
            )


def record_file(key: KeyHistory) -> Path:
    """Return the file for the key's outcome: the plain one beside the file that mentions it."""
    if key.file.name.startswith(NAMES) and key.file.suffix == ".jsonl":
        return key.file.with_name(key.file.name.replace(NAMES[1], NAMES[0]))
    return key.file.with_name(outcomes.FILE)


def intents_file(key: KeyHistory) -> Path:
    """Return the file for the key's intent."""
    record = record_file(key)
    return record.with_name(record.name.replace(NAMES[0], NAMES[1]))


def carry_out(
    findings: Sequence[Finding], now: Sequence[KeyHistory], tell: Callable[[Finding], None]
) -> list[Finding]:
    """Switch the keys on, and record each one as it is done.

    :param now: the history as it is after the user's answer.
    :param tell: called with each finding that the user hasn't seen yet.
    :returns: those that were recorded, or left.
    """
    work = _Work({key.place: key for key in now})
    done: list[Finding] = []

    def note(finding: Finding, result: Finding) -> None:
        done.append(result)
        if result.outcome != finding.outcome or result.to_do:
            tell(result)  # the others were printed before

    _each(work.on, findings, note)
    # After all others, so that a lasting fault delays none of them.
    _each(work.settle, [finding for finding, _ in work.lost.values()], note)
    for line in work.unwritable:
        print(line, file=sys.stderr)
    return done


def _each(
    function: Callable[[Finding], Finding | None],
    findings: Sequence[Finding],
    note: Callable[[Finding, Finding], None],
) -> None:
    """Call the function on all findings side by side; keep what isn't None, in their order."""
    for finding in findings:
        gate.renew(finding.access.client("iam"))
    with ThreadPoolExecutor(settings.WORKERS) as pool:
        try:
            for finding, result in zip(findings, pool.map(function, findings), strict=True):
                if result is not None:
                    note(finding, result)
        finally:  # at Ctrl-C what hasn't begun doesn't begin
            pool.shutdown(cancel_futures=True)


class _Work:
    """One run of the command; its keys are worked on side by side."""

    def __init__(self, history: dict[Place, KeyHistory]) -> None:
        self.history, self.run = history, str(uuid.uuid4())
        self.unwritable: list[str] = []  # once something is in it no further key is touched
        # Keys at whose call the answer was lost.
        self.lost: dict[Place, tuple[Finding, CallError]] = {}

    def on(self, finding: Finding) -> Finding | None:
        """Do what is to be done about a key; None where it isn't done, or couldn't be recorded."""
        try:
            return self._on(finding)
        except Exception as error:  # noqa: BLE001 - it takes away no other key's outcome
            return replace(finding, outcome=Result.FAILED, reason=_fault(error))

    def _on(self, finding: Finding) -> Finding | None:
        key = finding.key
        if self.unwritable:
            return None
        if not finding.recorded:
            return finding
        if self.history.get(key.place) != key:
            return replace(
                finding, outcome=NotTouched.NOT_CHANGED, reason=_changed("another run handled it")
            )
        time = _now()
        if not finding.bad:
            (again,) = look_at_user(finding.access, finding.user, [key])
            if not again.recorded or (not again.bad and again != finding):
                what = again.reason or "the key is Inactive"
                return replace(finding, outcome=NotTouched.NOT_CHANGED, reason=_changed(what))
            finding = again
        if finding.to_do:
            intent = replace(finding, outcome=Result.INTENDED)
            if not self._record(intents_file(key), time, intent):
                return None
            error = _switch_on(finding)
            if error and error.lost:
                self.lost[key.place] = finding, error
                return None
            if error:
                at_aws = one_key(finding.access, finding.user, key)
                outcome, reason = at_aws.missing(AGAIN) if error.gone else failure(error)
                finding = replace(finding, outcome=outcome, reason=reason)
            time = _now()
        return finding if self._record(record_file(key), time, finding) else None

    def settle(self, finding: Finding) -> Finding | None:
        """Find out what became of a key at whose call the answer was lost, and record it."""
        _, lost = self.lost[finding.key.place]
        try:
            outcome, reason = _find_out(finding, lost)
        except Exception as error:  # noqa: BLE001 - it takes away no other key's outcome
            outcome, reason = Result.UNKNOWN, _fault(error)
        finding = replace(finding, outcome=outcome, reason=reason)
        return finding if self._record(record_file(finding.key), _now(), finding) else None

    def _record(self, path: Path, time: datetime, finding: Finding) -> bool:
        key, outcome = finding.key, Result(finding.outcome)
        # A line that answers another comes after it, even if this machine's clock is slow.
        time = max(time, key.time + timedelta(milliseconds=1))
        line = replace(
            key.last,
            time=time.isoformat(timespec="milliseconds"),
            run=self.run,
            action=Action.REACTIVATE,
            user=finding.user,
            outcome=outcome,
            reason=finding.reason,
            # What that line found at its own time isn't so now.
            age_days=None,
            verdict=None,
            caller=finding.access.arn,
        )
        try:
            outcomes.append(path, line)
        except OSError as error:
            what = "not tried:" if outcome is Result.INTENDED else f"{outcome}, but"
            self.unwritable.append(
                f"{key}: {what} {path} can't be written ({error.strerror or error}): "
                "no further key is touched; fix that, and run this again"
            )
            return False
        return True


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _changed(what: str) -> str:
    return f"it has changed since it was shown ({what}); run this again"


def _fault(error: Exception) -> str:
    # Its text may quote anything.
    return f"c7n-keyrot failed ({type(error).__name__}, a bug: report it)"


def _switch_on(finding: Finding, tries: int = 0) -> CallError | None:
    """Make the call; return how it ended, or None if it succeeded."""
    try:
        calls.call(
            finding.access.client("iam"),
            "update_access_key",
            tries=tries,
            permit=Permit(),  # the user has been asked
            UserName=finding.user,
            AccessKeyId=finding.key.id,
            Status="Active",
        )
    except CallError as error:
        return error
    return None


def _find_out(finding: Finding, lost: CallError) -> tuple[Result, str]:
    """Return outcome and reason of a call whose answer was lost."""

    def again() -> bool:
        error = _switch_on(finding, tries=3)
        if error is not None:
            raise error
        return True

    outcome, reason, _ = one_key(finding.access, finding.user, finding.key).after_lost_answer(
        lost, again, Result.REACTIVATED, "Active"
    )
    return outcome, reason
