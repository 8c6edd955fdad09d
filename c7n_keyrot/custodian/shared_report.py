# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The credential report of a session, which the policies of a run share: fetched and kept once."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from c7n.cache import factory as cache_factory

from c7n_keyrot.aws import gate, report_fetch, settings
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.core import credential_report
from c7n_keyrot.core.credential_report import RawReport, Report, ReportError
from c7n_keyrot.core.text import one_line
from c7n_keyrot.custodian.run import PolicyRun

# Seconds; a fault that stays must not keep a run, and those after it, waiting for ever.
REPORT_LIMIT = settings.setting("C7N_KEYROT_REPORT_LIMIT", 300)
# Seconds that a fetched report is reused in one process: both policies of the pack share one. A
# warm Lambda lives for hours, so it isn't kept longer than Custodian's cache would.
REPORT_REUSE = 15 * 60
# Seconds that a failed wait counts for later policies; less, since a report may come.
FAILURE_REUSE = 5 * 60


@dataclass
class _Shared:
    """What the policies of a run share: a report, or why there is none, and what was logged."""

    report: Report | ReportError
    since: float  # time.monotonic() of its fetching
    logged: set[str]
    population: str = ""  # the hash of what this process keeps of all keys; empty until then
    # By policy, the execution that used it.
    users: dict[str, object] = field(default_factory=dict)

    def is_new_run(self, policy: str, execution: object) -> bool:
        """Note a use; tell whether another run begins with it: its policy has used it before.

        A warm Lambda runs its policy again and again in one session.
        """
        if self.users.setdefault(policy, execution) is execution:
            return False
        self.users, self.logged = {policy: execution}, set()
        return True


# By session, and gone with it: a c7n-org worker has one for each of many accounts.
reports: WeakKeyDictionary[Any, _Shared] = WeakKeyDictionary()


def report_of(run: PolicyRun, max_age: float) -> Report:
    """Return the account's credential report, which the policies of a run share.

    :param max_age: hours that it may be old.
    :raises PolicyExecutionError: it is older, or can't be fetched or read.
    """
    report = _known_report(run, max_age)
    configured = run.manager.config.account_id
    if configured and configured != report.account_id:
        raise run.log.stop(
            f"credential report: it belongs to account {report.account_id}, but this run is for "
            f"{configured}: correct its id or role in accounts.yml, or the credentials"
        )
    run.report.use(report)
    age = _age(run, report.generated)
    if age > max_age:
        raise run.log.stop(
            f"credential report: {age:.1f} hours old, but report-max-age is {max_age:g}; AWS "
            "makes a new one every 4 hours at most: run later, or raise report-max-age"
        )
    for name in sorted(report.duplicates):
        run.log.once(f"user {name!r} appears twice in the credential report: skipped")
    return report


def shared_by(run: PolicyRun, report: Report) -> _Shared | None:
    """Return what this process knows of a report; None if its session has another one."""
    try:
        known = reports.get(run.calls.session)
    except CallError:  # the session has ended meanwhile, and can't be renewed
        return None
    return known if known is not None and known.report is report else None


def note_candidates(run: PolicyRun, report: Report, candidates: int) -> None:
    """Note how many users of the report the policy's filters can match."""
    run.report.count(report.user_count, candidates)


def _age(run: PolicyRun, generated: datetime) -> float:
    """Return how many hours old a report is."""
    return (run.now - generated) / timedelta(hours=1)


def _known_report(run: PolicyRun, max_age: float) -> Report:
    """Return the session's report, or fetch one; a failed wait isn't repeated in a run."""
    try:
        session = run.calls.session
        known = reports.get(session)
        if known is not None:
            passed = time.monotonic() - known.since
            is_new_run = known.is_new_run(run.policy, run.execution)
            run.log.share(known.logged)
            if isinstance(known.report, ReportError):
                if passed <= FAILURE_REUSE and not is_new_run:
                    raise known.report
            elif passed <= REPORT_REUSE and _age(run, known.report.generated) <= max_age:
                return known.report
        report = _load(run, session, max_age)
    except ReportError as error:
        raise run.log.stop(str(error)) from None
    except CallError as error:
        raise run.log.stop(f"credential report: {error}") from None
    _share(run, session, report)
    return report


def _share(run: PolicyRun, session: Any, report: Report | ReportError) -> None:
    reports[session] = shared = _Shared(report, time.monotonic(), run.log.logged)
    shared.users[run.policy] = run.execution


def _load(run: PolicyRun, session: Any, max_age: float) -> Report:
    account = run.manager.config.account_id
    # A handle of our own: Custodian calls sources while its own one is open, and a with inside
    # of a with closes the database under it.
    cache = cache_factory(run.manager.config if account else None)
    key = {"account": account, "keyrot": "credential-report/1"}
    cached = _from_cache(run, cache, key)
    if cached is not None and _age(run, cached.generated) <= max_age:
        return cached
    gate.renew(run.calls.client)

    try:
        raw, refusal = report_fetch.fetch(
            run.calls.client,
            lambda generated: _age(run, generated) <= max_age,
            REPORT_LIMIT,
            progress=lambda waited: _progress(run, waited),
        )
    except ReportError as error:
        _share(run, session, error)
        raise
    report = credential_report.parse(raw.content, raw.generated, account)
    if refusal is not None:
        run.log.once(
            f"credential report: {refusal}; going on with the last report, which is "
            f"{_age(run, raw.generated):.1f} hours old"
        )
    try:
        with cache:
            cache.save(key, {"content": raw.content, "generated": raw.generated})
    except Exception as error:  # noqa: BLE001 - whatever is there in place of a database
        _pass_over_cache(run, error)
    return report


def _from_cache(run: PolicyRun, cache: Any, key: dict[str, Any]) -> Report | None:
    try:
        with cache:
            cached = cache.get(key)
        if cached is None:
            return None
        raw = RawReport(**cached)
        return credential_report.parse(raw.content, raw.generated, key["account"])
    except Exception as error:  # noqa: BLE001 - locked, no database, or not what we put there
        _pass_over_cache(run, error)
        return None


def _pass_over_cache(run: PolicyRun, error: Exception) -> None:
    path = one_line(run.manager.config.cache)
    what = one_line(f"{type(error).__name__}: {error}", 100)
    run.log.once(f"Custodian's cache {path} can't be used ({what}); going on without it")


def _progress(run: PolicyRun, waited: float) -> None:
    if waited > 2:
        run.log.write(
            f"credential report: waiting for AWS to make it, {waited:.0f} s so far", logging.INFO
        )
