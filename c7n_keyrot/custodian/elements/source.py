# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``source: credential-report``: users out of the report, in place of one GetUser for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from c7n.exceptions import PolicyValidationError
from c7n.query import DescribeSource

from c7n_keyrot.custodian import lifecycle, patches
from c7n_keyrot.custodian.elements.narrowing import may_match
from c7n_keyrot.custodian.elements.options import check_mode
from c7n_keyrot.custodian.elements.slots import REPORT_MAX_AGE, slot_filters
from c7n_keyrot.custodian.shared_report import note_candidates, report_of

NAME = "credential-report"


class CredentialReportSource(DescribeSource):  # type: ignore[misc]
    """The users of aws.iam-user policies, taken from the IAM credential report.

    The rows that one of our top-level filters rules out are dropped before the first call that a
    user costs. Those left are read with GetUser, tags included, and have the shape that stock's
    ``describe`` source gives them. Only the report comes out of Custodian's cache, never users.
    """

    type = NAME

    def __init__(self, manager: Any) -> None:
        super().__init__(manager)
        check_mode(self)
        if manager.data.get("query"):
            raise PolicyValidationError(
                f"policy {manager.data.get('name')}: source: {NAME} takes no query; remove it, and "
                "choose users with filters"
            )
        patches.keep_users_out_of_cache(manager, NAME)

    def get_permissions(self) -> list[str]:
        """Return what this source calls."""
        return ["iam:GenerateCredentialReport", "iam:GetCredentialReport", "iam:GetUser"]

    def resources(self, query: Any) -> list[dict[str, Any]]:
        """Return the candidates: the users of the report that the policy's filters can match."""
        run = lifecycle.attach(self.manager)
        lifecycle.begin(run)
        filters = self.manager.filters
        ages = [element.option("report-max-age") for element in slot_filters(filters)]
        report = report_of(run, min(ages, default=REPORT_MAX_AGE.default))
        rows = [row for row in report.rows.values() if may_match(filters, row)]
        note_candidates(run, report, len(rows))
        return [{"UserName": row.user, "Arn": row.arn} for row in rows]

    def get_resources(self, ids: Sequence[str], cache: bool = True) -> list[dict[str, Any]]:
        """Return users by name, for policies that an event starts."""
        lifecycle.attach(self.manager)
        return [{"UserName": name} for name in ids]

    def augment(self, resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Read the users, side by side: who isn't found is left out, who can't be read stays."""
        run = lifecycle.run_of(self.manager)
        run.users.read(resources, again=True)
        return [
            run.users.known.get(user["UserName"], user)
            for user in resources
            if user["UserName"] in run.users.known or user["UserName"] in run.users.unread
        ]


class OtherResource:
    """Stands for the source on every other resource, and says where it belongs."""

    def __init__(self, manager: Any) -> None:
        raise PolicyValidationError(
            f"policy {manager.data.get('name')}: source: {NAME} is for aws.iam-user only, not for "
            f"{manager.data.get('resource')}"
        )
