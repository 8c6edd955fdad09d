# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The filter time-window for aws.iam-user: on some days and at some hours only."""

from __future__ import annotations

import logging
from typing import Any

from c7n_keyrot.custodian.elements.filters import nots_above
from c7n_keyrot.custodian.elements.options import (
    HOURS_RANGE,
    WEEKDAYS,
    Option,
    declare,
    invalid,
    some_of,
)
from c7n_keyrot.custodian.elements.slots import KeyrotFilter


@declare(
    "time-window",
    Option("weekdays", some_of(*WEEKDAYS), "a list of Mon to Sun: only on these UTC days"),
    Option(
        "hours",
        HOURS_RANGE,
        "[FROM, TO]: only from FROM o'clock to before TO o'clock, 0 to 24, in UTC",
    ),
)
class TimeWindow(KeyrotFilter):
    """All users if the policy began within a window of the week, else nobody.

    For changes that may be made at certain times only, or for notices that go out on some days of a
    daily run. The policy runs all the same, so its summary has every stale key on each day. A run
    that began within the window isn't stopped at its end. For a window over midnight put two
    filters into an ``or`` block.

    A dry run shows what a run at the right time would do, whenever it is made: a plan that is made
    before the window must have the keys that the run within it disables.

    {options}

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-on-tuesdays
            resource: aws.iam-user
            source: credential-report
            filters:
              - stale-access-key
              - not: [rotation-exempt]
              - type: time-window
                weekdays: [Tue]
                hours: [8, 12]
            actions:
              - disable-access-key
    """

    # It calls nothing. Custodian wants a permission named: one that each policy of iam-user needs.
    permissions = ("iam:GetUser",)

    def validate(self) -> KeyrotFilter:
        super().validate()
        weekdays, hours = self.option("weekdays"), self.option("hours")
        if weekdays is None and hours is None:
            raise invalid(self, "give weekdays, hours, or both: without them it is always true")
        if hours is not None and hours[0] >= hours[1]:
            raise invalid(
                self,
                f"hours {hours}: FROM must be less than TO (over midnight: two filters in an or "
                "block)",
            )
        return self

    def process(self, resources: list[dict[str, Any]], event: Any = None) -> list[dict[str, Any]]:
        """Keep all users, or none."""
        if self.run.manager.ctx.options.dryrun:
            return resources if nots_above(self) % 2 == 0 else []
        if self.is_open:
            return resources
        self.run.log.once(f"{self._window}: outside the window; no users are matched", logging.INFO)
        return []

    @property
    def is_open(self) -> bool:
        """Whether the policy began within the window."""
        now, weekdays, hours = self.run.now, self.option("weekdays"), self.option("hours")
        return (weekdays is None or WEEKDAYS[now.weekday()] in weekdays) and (
            hours is None or hours[0] <= now.hour < hours[1]
        )

    @property
    def _window(self) -> str:
        weekdays, hours = self.option("weekdays"), self.option("hours")
        days = ", ".join(weekdays) if weekdays else "daily"
        return f"time-window {days}" + (f" {hours[0]:g} to {hours[1]:g} h" if hours else "")
