# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The filter rotation-exempt for aws.iam-user: by a tag with a last day."""

from __future__ import annotations

from typing import Any

from c7n_keyrot.core import rotation
from c7n_keyrot.core.rotation import Exemption, ExemptionState
from c7n_keyrot.custodian.elements.options import NUMBER, Option, declare, invalid, one_of, text
from c7n_keyrot.custodian.elements.slots import KeyrotFilter, slot_filters
from c7n_keyrot.custodian.shared_report import report_of

ANY = "any"
STATES = (*(state.value for state in ExemptionState), ANY)


@declare(
    "rotation-exempt",
    Option(
        "tag",
        text("the key of a tag"),
        "the tag with the last day (YYYY-MM-DD, UTC) of an exemption",
        "keyrot-exempt-until",
    ),
    Option(
        "state",
        one_of(*STATES),
        "valid, expired, unreadable, or any: which exemptions match; only a valid one exempts",
        "valid",
    ),
    Option("ends-within", NUMBER, "and its last day is at most this many days after today (UTC)"),
    Option("longer-than", NUMBER, "and its last day is more than this many days after today (UTC)"),
)
class RotationExempt(KeyrotFilter):
    """Users with an exemption that hasn't ended: a tag with its last day, YYYY-MM-DD.

    The whole day counts, in UTC. An ISO 8601 date-time with its zone, such as
    ``2027-03-31T00:00:00Z``, means the UTC day that it lies in. A date that has passed or can't be
    read exempts nobody, and is logged. Tags are always read from IAM in this run, never out of a
    cache.

    {options}

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-not-exempt
            resource: aws.iam-user
            source: credential-report
            filters:
              - stale-access-key
              - not: [rotation-exempt]

    Exemptions that end soon, or that exempt nobody:

    .. code-block:: yaml

        policies:
          - name: iam-user-exemption-ends-soon
            resource: aws.iam-user
            source: credential-report
            filters:
              - type: rotation-exempt
                ends-within: 14

          - name: iam-user-exemption-void
            resource: aws.iam-user
            source: credential-report
            filters:
              - or:
                  - {type: rotation-exempt, state: expired}
                  - {type: rotation-exempt, state: unreadable}
    """

    permissions = ("iam:GetUser",)

    def validate(self) -> KeyrotFilter:
        super().validate()
        state, within, longer = map(self.option, ("state", "ends-within", "longer-than"))
        if state not in (ExemptionState.VALID.value, ANY):
            for name in ("ends-within", "longer-than"):
                if name in self.data:
                    raise invalid(
                        self, f"{name} has no meaning with state: {state}; leave one of them out"
                    )
        if within is not None and longer is not None and longer >= within:
            raise invalid(
                self, f"longer-than {longer} and ends-within {within} can never both match"
            )
        return self

    def process(self, resources: list[dict[str, Any]], event: Any = None) -> list[dict[str, Any]]:
        """Keep the users with such an exemption today."""
        run, kept = self.run, []
        for element in slot_filters(self.manager.filters):
            # AWS may take minutes to make it: who is exempted meanwhile is exempt.
            report_of(run, element.option("report-max-age"))
        run.users.read(resources)
        for user in resources:
            name = user["UserName"]
            if name in run.users.unread:
                continue
            user["Tags"] = run.users.tags(name)
            found = rotation.exemption(user["Tags"], self.option("tag"), run.now)
            if found is None:
                continue
            run.exemptions.note(name, found)
            if found.state is not ExemptionState.VALID:
                self._log_void(name, found)
            if self._is_wanted(found):
                kept.append(user)
        return kept

    def _is_wanted(self, found: Exemption) -> bool:
        state, within, longer = map(self.option, ("state", "ends-within", "longer-than"))
        if state not in (found.state.value, ANY):
            return False
        if within is None and longer is None:
            return True
        if found.until is None:
            return False
        left = (found.until - self.run.now.date()).days
        return (within is None or left <= within) and (longer is None or left > longer)

    def _log_void(self, name: str, found: Exemption) -> None:
        """Log an exemption that exempts nobody."""
        unreadable = found.state is ExemptionState.UNREADABLE
        why = "is not a date (YYYY-MM-DD)" if unreadable else "has passed"
        self.run.log.once(f"user {name!r}: {found.tag} {found.value!r} {why}: not exempt")
