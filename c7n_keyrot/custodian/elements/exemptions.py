# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The filter rotation-exempt for aws.iam-user: by a tag with a last day, or by a register."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from c7n_keyrot.core import rotation
from c7n_keyrot.core.rotation import Exemption, ExemptionState
from c7n_keyrot.core.text import url_name
from c7n_keyrot.custodian.elements import register
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
        "register",
        text("a URL (s3://, https://, file://) or the path of a file"),
        "a reviewed list of exemptions in place of the tag: CSV with the columns account, user, "
        "until, reason, approved by; if it can't be read as a whole, the policy stops",
    ),
    Option(
        "longest",
        NUMBER,
        "an exemption whose last day is more than this many days after today (UTC) exempts nobody",
    ),
    Option(
        "state",
        one_of(*STATES),
        "valid, expired, unreadable, too-long, or any: which exemptions match; only a valid one "
        "exempts",
        "valid",
    ),
    Option("ends-within", NUMBER, "and its last day is at most this many days after today (UTC)"),
    Option("longer-than", NUMBER, "and its last day is more than this many days after today (UTC)"),
)
class RotationExempt(KeyrotFilter):
    """Users with an exemption that hasn't ended: by a tag with its last day, or by a register.

    The whole day counts, in UTC. An ISO 8601 date-time with its zone, such as
    ``2027-03-31T00:00:00Z``, means the UTC day that it lies in. A date that has passed or can't be
    read exempts nobody, and is logged. Tags are always read from IAM in this run, never out of a
    cache. So is a register: a list that is reviewed before it counts, such as in a pull request.
    With it, tags of the user don't count.

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

    By a reviewed list, for a year at most:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-not-approved
            resource: aws.iam-user
            source: credential-report
            filters:
              - stale-access-key
              - not:
                  - type: rotation-exempt
                    register: s3://security-lists/exemptions.csv
                    longest: 365

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

    def get_permissions(self) -> tuple[str, ...]:
        """Return the actions of AWS that this very filter calls."""
        of_s3 = str(self.data.get("register", "")).startswith("s3://")
        return (*self.permissions, *(("s3:GetObject",) if of_s3 else ()))

    def validate(self) -> KeyrotFilter:
        super().validate()
        self._check_register()
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

    def _check_register(self) -> None:
        url = self.data.get("register")
        if url is None:
            return
        if "tag" in self.data:
            raise invalid(self, "tag has no meaning with register; leave one of them out")
        if urlsplit(url).scheme not in register.SCHEMES:
            raise invalid(
                self,
                f"register must be an s3://, https:// or file:// URL, or a path, not "
                f"{url_name(url)}",
            )

    def process(self, resources: list[dict[str, Any]], event: Any = None) -> list[dict[str, Any]]:
        """Keep the users with such an exemption today."""
        run, kept = self.run, []
        for element in slot_filters(self.manager.filters):
            # AWS may take minutes to make it: who is exempted meanwhile is exempt.
            report_of(run, element.option("report-max-age"))
        register_lines = self._register()
        for row in run.report.used.rows.values() if register_lines and run.report.used else ():
            listed = self._of({"UserName": row.user}, register_lines)
            if listed is not None:
                run.exemptions.list(row.user, listed)
        run.users.read(resources)
        for user in resources:
            name = user["UserName"]
            if name in run.users.unread:
                continue
            user["Tags"] = run.users.tags(name)
            found = self._of(user, register_lines)
            if found is None:
                continue
            run.exemptions.note(name, found)
            if found.state is not ExemptionState.VALID:
                self._log_void(name, found)
            if self._is_wanted(found):
                kept.append(user)
        return kept

    def _register(self) -> dict[register.Place, register.Exempted] | None:
        """Return the register's lines; None without one. It is read once in a run."""
        url = self.option("register")
        if url is None:
            return None
        try:
            return self.run.exemptions.once(
                url, lambda: register.read(url, self.manager.session_factory)
            )
        except register.RegisterError as error:
            raise self.run.log.stop(str(error)) from None

    def _of(
        self, user: dict[str, Any], lines: dict[register.Place, register.Exempted] | None
    ) -> Exemption | None:
        now, longest = self.run.now, self.option("longest")
        if lines is None:
            return rotation.exemption(user["Tags"], self.option("tag"), now, longest)
        line = lines.get((self.run.account_id, user["UserName"].lower()))
        if line is None:
            return None
        return Exemption(
            url_name(self.option("register")),
            line.until.isoformat(),
            rotation.exemption_state(line.until, now, longest),
            line.until,
            line.reason,
            line.approved_by,
        )

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
        why = {
            ExemptionState.UNREADABLE: "is not a date (YYYY-MM-DD)",
            ExemptionState.EXPIRED: "has passed",
            ExemptionState.TOO_LONG: f"is more than {self.option('longest')} days from now",
        }.get(found.state, found.state.value)
        self.run.log.once(f"user {name!r}: {found.tag} {found.value!r} {why}: not exempt")
