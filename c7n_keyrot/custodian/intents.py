# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The intents of a run: what it is going to do to which keys, written before its first action.

So they come before the first notice as well. If they can't be kept, no action of the policy runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.permit import Permit, check_permit
from c7n_keyrot.core.outcomes import Action, Outcome, Result
from c7n_keyrot.core.text import one_line
from c7n_keyrot.custodian import output, summary
from c7n_keyrot.custodian.run import PolicyRun


def prepare(run: PolicyRun, users: Sequence[dict[str, Any]], permit: Permit) -> None:
    """Write the intents of all key actions of a policy, once in a run.

    :param users: what the filters have selected, settled.
    :raises PolicyExecutionError: they can't be kept, so no action may run.
    :raises CallError: it is a dry run.
    """
    check_permit("the intents", permit)
    if run.journal.prepared:
        return
    actions = [action for action in run.manager.actions if hasattr(action, "intents")]
    lines = [line for action in actions for line in action.intents(users)]
    if run.journal.prepare(lines) and lines and output.is_bucket(run.manager.ctx):
        try:
            output.upload_intents(run.manager.ctx, permit)
        except CallError as error:
            run.journal.refuse(
                f"their intents can't be kept ({error}); check the bucket of -s (output_dir), "
                "and who may write to it"
            )
    if not run.journal.prepared:
        not_tried(run, lines)
        summary.end(run, users)


def not_tried(run: PolicyRun, lines: Sequence[Outcome]) -> None:
    """Record that keys weren't touched, since what is done to them couldn't be recorded."""
    run.done.not_tried(len(lines))
    names = [f"{line.user!r} {line.access_key_id}" for line in lines]
    named = ", ".join(summary.shortened(names))
    run.log.fail(f"{len(names)} keys not tried, since {run.journal.unwritable}: {named}")
    # The words of a reason hold nothing of the machine.
    _close(run, lines, "not tried, since intents or outcomes can't be kept")


def give_up(run: PolicyRun, action: Any, error: BaseException) -> None:
    """Record that no key is touched whose turn hadn't come when an action failed."""
    why = f"not tried, since {action.type} ended with {one_line(type(error).__name__)}"
    _close(run, run.journal.open_intents, why)


def _close(run: PolicyRun, lines: Sequence[Outcome], reason: str) -> None:
    """Write an outcome for each intent, so that it leaves no doubt; best effort."""
    for line in lines:
        run.journal.close(line)
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        # That a deletion was skipped says that the key was seen active.
        outcome = Result.SKIPPED if line.action == Action.DISABLE else Result.FAILED
        run.journal.record(replace(line, time=now, outcome=outcome, reason=reason))
