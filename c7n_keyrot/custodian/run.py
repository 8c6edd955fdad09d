# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What one run of one policy knows: the clock, and its parts, each written by its own methods.

The source, the filters and the actions of a policy share it; ``lifecycle`` keeps it on
Custodian's own objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.core.notice import owner_of
from c7n_keyrot.core.outcomes import Action, Outcome, Result
from c7n_keyrot.core.rotation import Verdict
from c7n_keyrot.custodian.journal import Journal
from c7n_keyrot.custodian.log import Log
from c7n_keyrot.custodian.run_calls import Calls, OwnKeys
from c7n_keyrot.custodian.state import Done, Exemptions, LeftOut, ReportInUse
from c7n_keyrot.custodian.users import Users

LIVE_KEYS = "c7n:AccessKeys"


def is_serverless(manager: Any) -> bool:
    """Tell whether the policy acts in Lambda only."""
    mode = manager.data.get("mode") or {}
    return bool(mode.get("type", "pull") != "pull")


class PolicyRun:
    """The state of one run of one policy; ``lifecycle.run_of(manager)`` makes or finds it."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.begin()

    def begin(self) -> None:
        """Begin another run: forget all that an earlier one has found."""
        manager = self.manager
        self.execution_id = manager.ctx.execution_id
        self.is_noted = False
        self.execution = object()  # an event's Lambda filters before it has an id
        self.now = datetime.now(timezone.utc).replace(microsecond=0)
        self.report = ReportInUse(manager.config.account_id)
        self.exemptions = Exemptions()
        self.left = LeftOut()
        self.done = Done()
        self.journal = Journal(manager)
        self.log = Log(manager, self.report)
        self.calls = Calls(manager, self.log)
        self.users = Users(self.calls, self.log)
        self.own = OwnKeys(manager, self.report, self.left, self.log)

    def note(self) -> None:
        """Note that the output folder has a line of this run's beginning."""
        self.is_noted = True

    @property
    def policy(self) -> str:
        """The policy's name."""
        return str(self.manager.data.get("name"))

    @property
    def account_id(self) -> str:
        """The id of the account; empty while nobody knows it."""
        return self.report.account_id

    def line(self, action: Action, user: Mapping[str, Any], record: Mapping[str, Any]) -> Outcome:
        """Return the outcome of an action on a key, as far as it is known before the action.

        :param record: the annotation of the filter that found the key.
        """
        name = user["UserName"]
        return Outcome(
            time=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            account_id=self.account_id,
            policy=self.manager.data["name"],
            run=self.manager.ctx.execution_id,
            action=action,
            user=name,
            slot=record["slot"],
            access_key_id=record["access_key_id"],
            outcome=Result.INTENDED,
            reason="",
            user_id=self.users.known.get(name, user).get("UserId"),
            last_rotated=record["last_rotated"],
            age_days=record["age_days"],
            days=record["days"],
            deadline=record["deadline"],
            verdict=Verdict(record["verdict"]),
            owner=owner_of(self.users.tags(name)),
            caller=self.calls.caller,
        )

    def permit(self) -> Permit | None:
        """Return what every call needs that changes or sends something; None in a dry run."""
        options = self.manager.ctx.options
        # Twice, since a change of one line mustn't let a dry run act.
        return None if options.dryrun else Permit(options)
