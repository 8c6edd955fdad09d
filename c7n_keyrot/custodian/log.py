# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What one run of one policy logs, and the failures that it ends with."""

from __future__ import annotations

import logging
from typing import Any

from c7n.exceptions import PolicyExecutionError

from c7n_keyrot.aws import settings
from c7n_keyrot.custodian.state import ReportInUse


class Log:
    """The log of a run: each line names the account and the policy.

    :ivar failures: what failed, in order; the run ends with an error if there is anything.
    """

    def __init__(self, manager: Any, report: ReportInUse) -> None:
        self._manager, self._report = manager, report
        self.failures: list[str] = []
        self._logged: set[str] = set()

    def share(self, logged: set[str]) -> None:
        """Take over what earlier policies of the same run have logged by ``once()``."""
        self._logged = logged

    @property
    def logged(self) -> set[str]:
        """What ``once()`` has logged: a set to share, not a copy."""
        return self._logged

    def write(self, line: str, level: int, to: logging.Logger = settings.log) -> None:
        """Log a line."""
        account = self._report.account_id or "unknown"
        policy = self._manager.data.get("name")
        to.log(level, "account %s (policy %s): %s", account, policy, line)

    def once(self, line: str, level: int = logging.WARNING) -> None:
        """Log a line once in a run, however many filters and policies come across it."""
        if line not in self._logged:
            self._logged.add(line)
            self.write(line, level)

    def fail(self, line: str) -> None:
        """Note a failure: all users are still tried, then the run ends with an error."""
        self.failures.append(line)
        self.write(line, logging.ERROR)

    def error(self) -> PolicyExecutionError:
        """Return the error that the failures of this run add up to."""
        more = len(self.failures) - 1
        return PolicyExecutionError(self.failures[0] + (f" (and {more} more)" if more else ""))

    def stop(self, line: str) -> PolicyExecutionError:
        """Log a fatal condition, and return the error to raise."""
        self.write(line, logging.ERROR)
        return PolicyExecutionError(line)
