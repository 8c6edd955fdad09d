# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What one run of one policy knows: the clock, the credential report, the live keys, failures.

The source, the filters and the actions of a policy share it. It is kept on the policy's resource
manager, and puts two things around the manager's own methods: the account's real number of users
where Custodian checks ``max-resources``, and a last look after all filters.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from c7n.cache import factory as cache_factory
from c7n.exceptions import PolicyExecutionError
from c7n.utils import dumps, local_session

from c7n_keyrot import credential_report, iam, notify, summary
from c7n_keyrot.credential_report import RawReport, Report, ReportError
from c7n_keyrot.iam import CallError, log
from c7n_keyrot.matched_keys import MATCHED_KEYS, RECORDS, settle, watching
from c7n_keyrot.records import Why

# What each policy ends with, apart from what is wrong, so that it can be chosen.
summary_log = logging.getLogger("custodian.keyrot.summary")

LIVE_KEYS = "c7n:AccessKeys"

# Seconds; a fault that stays must not keep a run, and those behind it, waiting for ever.
REPORT_LIMIT = iam.setting("C7N_KEYROT_REPORT_LIMIT", 300)
# Seconds that a fetched report is reused in one process: both policies of the pack share one. A
# warm Lambda lives for hours, so it isn't kept longer than Custodian's cache would.
REPORT_REUSE = 15 * 60
# Seconds that a wait in vain counts for the policies behind; less, since a report may come.
FAILURE_REUSE = 5 * 60
# Keys that a dry run, or an error, names; the rest is counted.
MOST_NAMED = 20

Item = TypeVar("Item")
Result = TypeVar("Result")


def shortened(names: list[str]) -> list[str]:
    """Return the names that fit into a log, and how many are left out."""
    left = len(names) - MOST_NAMED
    return names if left <= 0 else [*names[:MOST_NAMED], f"{left} more"]


@dataclass
class _Shared:
    """What the policies of a run share: a report, or why there is none, and what was logged."""

    report: Report | ReportError
    since: float  # time.monotonic() of its fetching
    logged: set[str]
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


class EndOfRun:
    """Stands behind a policy's actions: says what was done, and raises what has failed."""

    type = name = "keyrot-summary"

    def __init__(self, run: PolicyRun) -> None:
        self.run = run

    def process(self, resources: list[dict[str, Any]], event: Any = None) -> None:
        self.run.end(resources)


class PolicyRun:
    """The state of one run of one policy; ``PolicyRun.of(manager)`` makes or finds it."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self._begin()
        # On the instance only: policies without our words never meet any of this.
        filter_resources, check_limit = manager.filter_resources, manager.check_resource_limit

        def filtered(resources: list[dict[str, Any]], event: Any = None) -> Any:
            return self._filter(filter_resources, resources, event)

        def checked(selected: int, population: int) -> Any:
            return check_limit(selected, self.population or population)

        manager.filter_resources, manager.check_resource_limit = filtered, checked

    @classmethod
    def of(cls, manager: Any) -> PolicyRun:
        """Return the run of a resource manager."""
        run: PolicyRun | None = vars(manager).get("keyrot")
        if run is None:
            run = manager.keyrot = cls(manager)
        return run

    def begin(self) -> None:
        """Forget an earlier execution of the same policy, before the first look at AWS.

        Not where an action runs: a Lambda that an event starts filters before its execution gets
        an id, and what failed then must still end it with an error.
        """
        if self.manager.ctx.execution_id != self.execution_id:
            actions = self.manager.actions
            actions[:] = [action for action in actions if not isinstance(action, EndOfRun)]
            self._begin()

    def _begin(self) -> None:
        self.execution_id = self.manager.ctx.execution_id
        self.execution = object()  # an event's Lambda filters before it has an id
        self.now = datetime.now(timezone.utc).replace(microsecond=0)
        self.failures: list[str] = []
        # Users whose keys or tags couldn't be read: no key of theirs is ever acted on.
        self.unread: set[str] = set()
        self.gone: set[str] = set()
        # As IAM has them in this run, by name: users, tags included, and their keys.
        self.users: dict[str, dict[str, Any]] = {}
        self.live: dict[str, list[dict[str, Any]]] = {}
        self.account_id: str = self.manager.config.account_id
        # Why no outcome can be written any more, by any action of the policy.
        self.unwritable = ""
        self.acted_on: set[str | None] = set()
        # Why candidates aren't matched, by user and slot, and exemptions that hold, by user.
        self.left: dict[tuple[str, int], Why] = {}
        self.exempt_until: dict[str, str] = {}
        self.used_report: Report | None = None
        # Exemption tags that have ended or can't be read, by user: the notice tells of them.
        self.ended_exemptions: dict[str, dict[str, str]] = {}
        # Users of the account, and those left to look at, where our source was asked.
        self.population: int | None = None
        self.candidates: int | None = None
        # What each key action has done, by outcome.
        self.outcomes: Counter[str] = Counter()
        self._logged: set[str] = set()
        self._client: Any = None

    # -- AWS

    @property
    def session(self) -> Any:
        """The policy's boto3 session in this thread; it may have to take a role for it.

        :raises CallError: so.
        """
        with iam.gate("sts:AssumeRole"):
            return local_session(self.manager.session_factory)

    @property
    def client(self) -> Any:
        """The IAM client of the policy's session, made once: it is for all threads.

        :raises CallError: there are no credentials.
        """
        if self._client is None:
            session = self.session
            # Kept on the session, so that it goes with it: a c7n-org worker sees many.
            if "keyrot" not in vars(session):
                session.keyrot = iam.client(session)
            self._client = session.keyrot
        return self._client

    def each(
        self, what: str, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> list[tuple[Item, Result | None, CallError | None]]:
        """Call the function on all items side by side; an error of one stops no other.

        :param what: names the work in the progress line, which comes every two seconds.
        :returns: (item, result, error or None) for each item, in the order of the items.
        """
        items = list(items)
        if not items:
            return []
        try:
            iam.renew(self.client)
        except CallError as error:
            return [(item, None, error) for item in items]
        return iam.side_by_side(
            function,
            items,
            lambda done, total: self.log(f"{what}: {done} of {total}", logging.INFO),
            self.manager.executor_factory,
        )

    def report(self, max_age: float) -> Report:
        """Return the account's credential report.

        :param max_age: hours that it may be old.
        :raises PolicyExecutionError: it is older, or can't be had or read.
        """
        report = self._known_report(max_age)
        configured = self.manager.config.account_id
        if configured and configured != report.account_id:
            raise self._stop(
                f"credential report: it is of account {report.account_id}, but this run is for "
                f"{configured}: correct its id or role in accounts.yml, or the credentials"
            )
        self.used_report = report
        # Custodian has none where it couldn't ask STS, and what is done must be found again.
        self.account_id = report.account_id
        age = self._age(report)
        if age > max_age:
            raise self._stop(
                f"credential report: {age:.1f} hours old, but report-max-age is {max_age:g}; AWS "
                "makes a new one every 4 hours at most: run later, or raise report-max-age"
            )
        for name in sorted(report.duplicates):
            self.say(f"user {name!r} stands twice in the credential report: left alone")
        return report

    def _age(self, report: Report | RawReport) -> float:
        return (self.now - report.generated) / timedelta(hours=1)

    def _known_report(self, max_age: float) -> Report:
        """Return the session's report, or fetch one; a wait in vain is done once a run."""
        try:
            session = self.session
            known = reports.get(session)
            if known is not None:
                passed = time.monotonic() - known.since
                is_new_run = known.is_new_run(self._policy, self.execution)
                self._logged = known.logged
                if isinstance(known.report, ReportError):
                    if passed <= FAILURE_REUSE and not is_new_run:
                        raise known.report
                elif passed <= REPORT_REUSE and self._age(known.report) <= max_age:
                    return known.report
            report = self._load(session, max_age)
        except ReportError as error:
            raise self._stop(str(error)) from None
        except CallError as error:
            raise self._stop(f"credential report: {error}") from None
        self._share(session, report)
        return report

    def _share(self, session: Any, report: Report | ReportError) -> None:
        reports[session] = shared = _Shared(report, time.monotonic(), self._logged)
        shared.users[self._policy] = self.execution

    @property
    def _policy(self) -> str:
        return str(self.manager.data.get("name"))

    def _load(self, session: Any, max_age: float) -> Report:
        account = self.manager.config.account_id
        # A handle of our own: Custodian calls sources while its own one is open, and a with inside
        # of a with closes the database under it.
        cache = cache_factory(self.manager.config if account else None)
        key = {"account": account, "keyrot": "credential-report/1"}
        cached = self._from_cache(cache, key)
        if cached is not None and self._age(cached) <= max_age:
            return cached
        iam.renew(self.client)

        def enough(generated: datetime) -> bool:
            return (self.now - generated) / timedelta(hours=1) <= max_age

        try:
            raw, refusal = credential_report.fetch(
                self.client, enough, REPORT_LIMIT, progress=self._progress
            )
        except ReportError as error:
            self._share(session, error)
            raise
        report = credential_report.parse(raw.content, raw.generated, account)
        if refusal is not None:
            self.say(
                f"credential report: {refusal}; going on with the last report, which is "
                f"{self._age(raw):.1f} hours old"
            )
        try:
            with cache:
                cache.save(key, {"content": raw.content, "generated": raw.generated})
        except Exception as error:  # whatever lies there in place of a database
            self._pass_over_cache(error)
        return report

    def _from_cache(self, cache: Any, key: dict[str, Any]) -> Report | None:
        try:
            with cache:
                cached = cache.get(key)
            if cached is None:
                return None
            raw = RawReport(**cached)
            return credential_report.parse(raw.content, raw.generated, key["account"])
        except Exception as error:  # locked, no database, or what somebody else has put there
            self._pass_over_cache(error)
            return None

    def _pass_over_cache(self, error: Exception) -> None:
        path = iam.one_line(self.manager.config.cache)
        what = iam.one_line(f"{type(error).__name__}: {error}", 100)
        self.say(f"Custodian's cache {path} can't be used ({what}); going on without it")

    def _progress(self, waited: float) -> None:
        if waited > 2:
            self.log(f"credential report: AWS is making it, {waited:.0f} s so far", logging.INFO)

    def read_users(self, users: Iterable[dict[str, Any]], again: bool = False) -> None:
        """Read the users that aren't read yet in this run, tags included, side by side.

        Afterwards each of them has an entry in ``users``, or in ``unread``, or is gone. What
        Custodian's cache or AWS Config says of a user may be of before; a name may be another's.
        """
        names = {user["UserName"] for user in users} - self.unread
        if not again:
            names -= self.users.keys()

        def get_user(name: str) -> dict[str, Any]:
            user: dict[str, Any] = iam.call(self.client, "get_user", UserName=name)["User"]
            return user

        for name, user, error in self.each("users read", get_user, sorted(names)):
            if user is not None:
                self.users[name] = user
            elif error is not None and error.gone:
                self.users.pop(name, None)
                self.gone.add(name)
                self.say(f"user {name!r} is gone since the credential report", logging.INFO)
            else:
                # Without tags nobody knows whether the user is exempt: reported, never acted on.
                self.hide(name, f"user and tags not read, {error}")

    def load_live_keys(self, users: Iterable[dict[str, Any]]) -> None:
        """List the keys of the users that aren't listed yet in this run, side by side.

        Afterwards each of them has an entry in ``live``, or in ``unread``, or is gone.
        """
        names = {user["UserName"] for user in users} - self.live.keys() - self.unread

        def list_keys(name: str) -> list[dict[str, Any]]:
            return iam.live_keys(self.client, name)

        for name, keys, error in self.each("access keys listed", list_keys, sorted(names)):
            if keys is not None:
                self.live[name] = keys
            elif error is not None and error.gone:
                self.gone.add(name)
                self.say(f"user {name!r} is gone since the credential report", logging.INFO)
            else:
                self.hide(name, f"keys not read, {error}")

    def last_used(self, key_id: str) -> tuple[datetime | None, str | None, str | None]:
        """Return a key's last use by IAM's GetAccessKeyLastUsed: date (UTC), service, region."""
        answer = iam.call(self.client, "get_access_key_last_used", AccessKeyId=key_id)
        answer = answer["AccessKeyLastUsed"]
        used: datetime | None = answer.get("LastUsedDate")
        if used is None:
            return None, None, None
        return used.astimezone(timezone.utc), answer.get("ServiceName"), answer.get("Region")

    # -- what went wrong

    def say(self, line: str, level: int = logging.WARNING) -> None:
        """Log a line once in a run, however many filters and policies come across it."""
        if line not in self._logged:
            self._logged.add(line)
            self.log(line, level)

    def log(self, line: str, level: int, to: logging.Logger = log) -> None:
        """Log a line with its account and policy."""
        account = self.account_id or "unknown"
        to.log(level, "account %s (policy %s): %s", account, self._policy, line)

    def note(self, name: str, slot: int, why: Why) -> None:
        """Note why a candidate isn't matched; the first reason counts."""
        self.left.setdefault((name, slot), why)

    def hide(self, name: str, reason: str) -> None:
        """Note that a user's keys or tags couldn't be read; the user stays, without a key."""
        self.unread.add(name)
        self.fail(f"user {name!r}: {reason}")

    def fail(self, line: str) -> None:
        """Note a failure: all users are still tried, then the run ends with an error."""
        self.failures.append(line)
        self.log(line, logging.ERROR)

    def error(self) -> PolicyExecutionError:
        """Return the error that the failures of this run add up to."""
        more = len(self.failures) - 1
        return PolicyExecutionError(self.failures[0] + (f" (and {more} more)" if more else ""))

    def _stop(self, line: str) -> PolicyExecutionError:
        self.log(line, logging.ERROR)
        return PolicyExecutionError(line)

    # -- around the filters

    def _filter(self, original: Any, resources: list[dict[str, Any]], event: Any) -> Any:
        self.begin()
        # The in-memory cache hands the same users to the next policy: annotations of ours mustn't
        # get there, nor those of the policy before come here.
        ours = {RECORDS, MATCHED_KEYS, LIVE_KEYS}
        resources = [{k: v for k, v in user.items() if k not in ours} for user in resources]
        filters = self.manager.filters
        with watching(filters) as passed:
            selected = original(resources, event)
        for user in selected:
            name = user["UserName"]
            settle(filters, user, self.live.get(name, ()), passed, name in self.unread)
            for record in user.get(RECORDS, ()):
                record["exemption"] = self.ended_exemptions.get(name)
        notify.attach(self, selected)
        summary.write(self, selected)
        if self.candidates is not None:
            self.log(
                f"{self.population} users in the credential report, {self.candidates} candidates, "
                f"{len(selected)} matched",
                logging.INFO,
            )
        actions = self.manager.actions
        if self.manager.ctx.options.dryrun or not selected:
            # No action is reached that could do it.
            if self.failures and self.manager.ctx.output is not None:
                self.manager.ctx.output.write_file("resources.json", dumps(selected, indent=2))
            self.end(selected)
        elif not any(isinstance(action, EndOfRun) for action in actions):
            actions.append(EndOfRun(self))
        return selected

    def end(self, selected: list[dict[str, Any]]) -> None:
        """Say in one line what the policy did, or what a dry run would do.

        As a warning, since c7n-org shows nothing less.

        :raises PolicyExecutionError: something has failed.
        """
        text = f"{len(selected)} matched"
        acting = [action for action in self.manager.actions if hasattr(action, "planned")]
        if self.manager.ctx.options.dryrun:
            text = f"dry run: {text}"
            for action in acting:
                lines = list(action.planned(selected))
                text += f", would {action.verb} {len(lines)}"
                for line in shortened(lines):
                    self.log(f"would {action.verb}: {line}", logging.WARNING, summary_log)
        elif acting:
            always = [action.outcome for action in acting] + ["skipped", "denied", "failed"]
            names = dict.fromkeys([*always, *sorted(self.outcomes)])
            text += ": " + ", ".join(f"{self.outcomes[name]} {name}" for name in names)
        self.log(text, logging.WARNING, summary_log)
        if self.failures:
            raise self.error()
