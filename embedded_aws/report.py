# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The credential report of an account: its text, and its life from STARTED to ReportExpired."""

from __future__ import annotations

import csv
import io
from collections import deque
from datetime import timedelta
from typing import Any

from moto.iam.exceptions import IAMException

from embedded_aws.calls import MESSAGES
from embedded_aws.clock import iso, monotonic, shift_instants, utcnow

REPORT_COLUMNS = [
    "user",
    "arn",
    "user_creation_time",
    "password_enabled",
    "password_last_used",
    "password_last_changed",
    "password_next_rotation",
    "mfa_active",
    *(
        f"access_key_{slot}_{column}"
        for slot in (1, 2)
        for column in (
            "active",
            "last_rotated",
            "last_used_date",
            "last_used_region",
            "last_used_service",
        )
    ),
    *(f"cert_{slot}_{column}" for slot in (1, 2) for column in ("active", "last_rotated")),
    "additional_credentials_info",
]


class ReportedAccount:
    """An account and its credential report.

    ``aws`` is the ``EmbeddedAws``: it says how long a report takes and how long it is valid.
    """

    def __init__(self, aws: Any, account_id: str):
        self.aws, self.id = aws, account_id
        self.report_states: deque[str] = deque()
        self.root_last_used_days: float | None = None
        self._report: bytes | None = None
        self._report_time = utcnow()
        self._report_ready = 0.0  # by the clock's monotonic()

    @property
    def backend(self) -> Any:
        """moto's IAM of this account."""
        return self.aws.partition.iam(self.id)

    def generate_report(self, age_hours: float = 0) -> str:
        """Make a report of the account as it is now, dated `age_hours` ago; return its text."""
        with self.aws.lock:
            text = self.report_text()
        self.set_report(text, age_hours)
        return text

    def set_report(self, text: str | bytes, age_hours: float = 0) -> None:
        """Make this text the finished report, dated `age_hours` ago."""
        self._report = text.encode() if isinstance(text, str) else text
        self._report_time = utcnow() - timedelta(hours=age_hours)
        self._report_ready = 0.0

    def delete_report(self) -> None:
        self._report = None

    def set_report_states(self, *states: str) -> None:
        """Set the answers of the next GenerateCredentialReport calls, whatever is true."""
        self.report_states = deque(states)

    def report_text(self) -> str:
        """Return the report's CSV of this moment, with all of AWS's columns, the root row first."""
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        write(REPORT_COLUMNS)
        used = self.root_last_used_days
        no_keys = ["false", *["N/A"] * 4] * 2
        no_certs = ["false", "N/A"] * 2
        write(
            [
                "<root_account>",
                self.aws.partition.arn("iam", self.id, "root"),
                "2019-01-01T00:00:00+00:00",
                "not_supported",
                "no_information" if used is None else iso(utcnow() - timedelta(days=used)),
                "not_supported",
                "not_supported",
                "true",
                *no_keys,
                *no_certs,
                "N/A",
            ]
        )
        for user in self.backend.users.values():
            password = ["false", "N/A", "N/A", "N/A"]
            if user.password:
                last = user.password_last_used
                password = ["true", iso(last) if last else "no_information"]
                password += [iso(user.create_date), "N/A"]
            by_slot = {key.slot: key for key in user.access_keys}
            write(
                [
                    user.name,
                    user.arn,
                    iso(user.create_date),
                    *password,
                    "true" if user.mfa_devices else "false",
                    *self._slot_columns(by_slot.get(1)),
                    *self._slot_columns(by_slot.get(2)),
                    *no_certs,
                    "N/A",
                ]
            )
        return out.getvalue()

    @staticmethod
    def _slot_columns(key: Any) -> list[str]:
        if key is None:
            return ["false", *["N/A"] * 4]
        used = key.last_used
        return [
            "true" if key.status == "Active" else "false",
            getattr(key, "report_date", None) or iso(key.create_date),
            *([iso(used.timestamp), used.region, used.service] if used else ["N/A"] * 3),
        ]

    def start_report(self) -> dict[str, str]:
        """GenerateCredentialReport's answer."""
        if self.report_states:
            return {"State": self.report_states.popleft()}
        if self._report is not None:
            if monotonic() < self._report_ready:
                return {"State": "INPROGRESS"}
            if utcnow() - self._report_time < timedelta(hours=self.aws.report_valid_hours):
                return {"State": "COMPLETE"}
        self._report = self.report_text().encode()
        self._report_ready = monotonic() + self.aws.report_seconds
        self._report_time = utcnow() + timedelta(seconds=int(self.aws.report_seconds))
        return {
            "State": "STARTED",
            "Description": "No report exists. Starting a new report generation task",
        }

    def finished_report(self) -> dict[str, Any]:
        """Return GetCredentialReport's answer, or its error."""
        error = None
        if self._report is None:
            error = "ReportNotPresent"
        elif monotonic() < self._report_ready:
            error = "ReportInProgress"
        elif utcnow() - self._report_time >= timedelta(hours=self.aws.report_expires_hours):
            error = "ReportExpired"
        if error:
            raise IAMException(error, MESSAGES[error])
        return {
            "Content": self._report,
            "ReportFormat": "text/csv",
            "GeneratedTime": self._report_time,
        }

    def shift_report(self, by: timedelta) -> None:
        """Make the report, and all instants in it, so much older."""
        self._report_time -= by
        if self._report is not None:
            text = self._report.decode("utf-8", "surrogateescape")
            self._report = shift_instants(text, by).encode("utf-8", "surrogateescape")
