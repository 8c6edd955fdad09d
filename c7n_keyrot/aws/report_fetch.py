# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The credential report: fetched from AWS, which may have to make it first."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from c7n_keyrot.aws import calls, settings
from c7n_keyrot.aws.errors import CallError, ErrorKind
from c7n_keyrot.core.credential_report import RawReport, ReportError
from c7n_keyrot.core.text import one_line

# Part of a report's normal life, two runs at once included; so they are waited for.
NOT_YET = frozenset(("ReportNotPresent", "ReportInProgress", "ReportExpired"))


def fetch(
    client: Any,
    enough: Callable[[datetime], bool] = lambda _: True,
    limit: float = 300,
    progress: Callable[[float], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[RawReport, CallError | None]:
    """Have AWS make a report if there is no recent one, wait for it, and fetch it.

    Where AWS refuses to make one, the last report serves if it is young enough.

    :param client: an IAM client.
    :param enough: tells whether a report of this instant (UTC) is young enough.
    :param limit: seconds that the whole may take; refusals alone are waited for less long.
    :param progress: called before each pause with the seconds waited so far.
    :returns: the report, and the error with which AWS refused to make a new one, or None.
    :raises ReportError: there is none in time, or a call fails for good.
    """
    start, pause, refused_since = clock(), 0.5, None
    while True:
        there, reason, refusal = _have_it_made(client)
        if there:
            raw, reason = _take(client, reason, refusal, enough)
            if raw is not None:
                return raw, refusal
        waited = clock() - start
        if refusal is None:
            refused_since = None
        elif refused_since is None:
            refused_since = waited
        if refusal and refusal.denied:
            raise ReportError(f"credential report: {reason}; allow it to this role")
        # A refusal can last for days.
        refused = refused_since is not None and waited + pause - refused_since > settings.PATIENCE
        if refused or waited + pause > limit:
            raise ReportError(
                f"credential report: not available after {waited:.0f} s ({reason}); run again later"
            )
        progress(waited)
        sleep(pause)
        pause = min(pause * 1.5, 10)


def _have_it_made(client: Any) -> tuple[bool, str, CallError | None]:
    """Return whether there may be a report, what AWS says, and with which error it refuses."""
    try:
        # The answer isn't needed where there is a report, so it is not worth many tries.
        answer = calls.call(client, "generate_credential_report", tries=2)
    except CallError as error:
        return True, str(error), error
    reason = f"iam:GenerateCredentialReport says {one_line(answer['State'], 40)}"
    return answer["State"] == "COMPLETE", reason, None


def _take(
    client: Any, reason: str, refusal: CallError | None, enough: Callable[[datetime], bool]
) -> tuple[RawReport | None, str]:
    """Return the report, if it is there and young enough, and else why not.

    :param reason: what AWS said when it was to make one.
    :raises ReportError: the call fails for good.
    """
    try:
        answer = calls.call(client, "get_credential_report")
        raw = RawReport(answer["Content"], answer["GeneratedTime"].astimezone(timezone.utc))
    except CallError as error:
        if error.denied:
            raise ReportError(f"credential report: {error}; allow it to this role") from None
        if error.code not in NOT_YET and error.kind is not ErrorKind.THROTTLED:
            raise ReportError(f"credential report: {error}") from None
        return None, f"{refusal}; {error}" if refusal else str(error)
    if refusal is None or enough(raw.generated):
        return raw, reason
    return None, f"{reason}; the last report is of {raw.generated:%Y-%m-%d %H:%M} UTC"
