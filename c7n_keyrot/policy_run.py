# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What one run of one policy knows: the clock, the credential report, the live keys, failures.

The source, the filters and the actions of a policy share it. It is kept on the policy's resource
manager, and puts two things around the manager's own methods: the account's real number of users
where Custodian checks ``max-resources``, and a last look after all filters.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from c7n.cache import factory as cache_factory
from c7n.exceptions import PolicyExecutionError
from c7n.utils import dumps, local_session

from c7n_keyrot import credential_report
from c7n_keyrot.credential_report import RawReport, Report, ReportError
from c7n_keyrot.matched_keys import MATCHED_KEYS, RECORDS, settle, watching

log = logging.getLogger("custodian.keyrot")

LIVE_KEYS = "c7n:AccessKeys"


def setting(name: str, default: float) -> float:
    """Return a number > 0 out of the environment; the default, and a line, for anything else."""
    text = os.environ.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        log.error(
            "the environment's %s=%r is no number > 0: set it right; now %g", name, text, default
        )
        return default
    return value


# At 30 ms a call more than 24 side by side win little; see benchmarks/RESULTS.md.
WORKERS = max(1, int(setting("C7N_KEYROT_WORKERS", 24)))
# Seconds; a fault that stays must not keep a run, and those behind it, waiting for ever.
REPORT_LIMIT = setting("C7N_KEYROT_REPORT_LIMIT", 300)
PATIENCE = setting("C7N_KEYROT_PATIENCE", 45)
# Seconds that a fetched report is reused in one process: both policies of the pack share one. A
# warm Lambda lives for hours, so it isn't kept longer than Custodian's cache would.
REPORT_REUSE = 15 * 60

Item = TypeVar("Item")
Result = TypeVar("Result")


# The last report of each session, and time.monotonic() of its fetching. It goes with the session: a
# c7n-org worker has one for each of many accounts.
reports: WeakKeyDictionary[Any, tuple[Report, float]] = WeakKeyDictionary()


class OutageError(Exception):
    """AWS has not answered any call for so long that going on makes no sense."""


class _Patience:
    """Ends the retries of all side-by-side calls once none has succeeded for PATIENCE seconds."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.last_success, self.over = time.monotonic(), False

    def answered(self, http_response: Any = None, parsed: Any = None, **_: Any) -> None:
        error = (parsed or {}).get("Error", {}).get("Code")
        if http_response.status_code < 500 and error not in credential_report.THROTTLED:
            self.last_success = time.monotonic()

    def check(self, **_: Any) -> None:
        if self.over or time.monotonic() - self.last_success > PATIENCE:
            self.over = True
            raise OutageError(f"AWS answered no call for {PATIENCE:.0f} s")


def _client(session: Any) -> tuple[Any, _Patience]:
    """Make the IAM client of a session once; its pool and retries fit calls side by side."""
    # Kept on the session, so that it goes with it: a c7n-org worker sees many.
    if "keyrot" not in vars(session):
        client = session.client(
            "iam",
            config=Config(
                retries={"mode": "adaptive", "total_max_attempts": 8},
                max_pool_connections=WORKERS,
                connect_timeout=10,
                read_timeout=20,
            ),
        )
        patience = _Patience()
        # Before each try, and again once botocore's rate limiter has let it wait its turn.
        client.meta.events.register("request-created.iam", patience.check)
        client.meta.events.register("before-send.iam", patience.check)
        client.meta.events.register("after-call.iam", patience.answered)
        session.keyrot = client, patience
    connection: tuple[Any, _Patience] = session.keyrot
    return connection


class _Last:
    """Stands behind a policy's actions once something has failed, so that the run says so."""

    type = name = "keyrot-failures"

    def __init__(self, run: PolicyRun) -> None:
        self.run = run

    def process(self, resources: Any, event: Any = None) -> None:
        raise self.run.error()


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
            actions[:] = [action for action in actions if not isinstance(action, _Last)]
            self._begin()

    def _begin(self) -> None:
        self.execution_id = self.manager.ctx.execution_id
        self.now = datetime.now(timezone.utc).replace(microsecond=0)
        self.failures: list[str] = []
        # Users whose keys or tags couldn't be read: no key of theirs is ever acted on.
        self.unread: set[str] = set()
        # As IAM has them in this run, by name: users, tags included, and their keys.
        self.users: dict[str, dict[str, Any]] = {}
        self.live: dict[str, list[dict[str, Any]]] = {}
        self.account_id: str = self.manager.config.account_id
        # Why no outcome can be written any more, by any action of the policy.
        self.unwritable = ""
        self.acted_on: set[str | None] = set()
        # Exemption tags that have ended or can't be read, by user: the notice tells of them.
        self.ended_exemptions: dict[str, dict[str, str]] = {}
        # Users of the account, and those left to look at, where our source was asked.
        self.population: int | None = None
        self.candidates: int | None = None
        self._said: set[str] = set()
        self._connection: tuple[Any, _Patience] | None = None

    # -- AWS

    @property
    def client(self) -> Any:
        """The IAM client of the policy's session."""
        return self._connect()[0]

    def _connect(self) -> tuple[Any, _Patience]:
        # Once: Custodian keeps a session for each thread, and a client takes long to make.
        if self._connection is None:
            self._connection = _client(local_session(self.manager.session_factory))
        return self._connection

    def each(
        self, what: str, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> list[tuple[Item, Result | None, Exception | None]]:
        """Call the function on all items side by side; an error of one stops no other.

        :param what: names the work in the progress line, which comes every two seconds.
        :returns: (item, result, error of AWS or None) for each item, in the order of the items.
        """
        items = list(items)
        if not items:
            return []
        self._connect()[1].renew()
        start, total = time.monotonic(), len(items)
        futures: list[Future[Result]] = []
        with self.manager.executor_factory(max_workers=WORKERS) as executor:
            try:
                futures += (executor.submit(function, item) for item in items)
                pending = set(futures)
                while pending:
                    _, pending = wait(pending, timeout=2)
                    if pending and time.monotonic() - start > 2:
                        log.info("%s: %d of %d", what, total - len(pending), total)
            finally:
                # Whoever presses Ctrl-C wants it to stop; the executor would do all that waits.
                for future in futures:
                    future.cancel()
        results: list[tuple[Item, Result | None, Exception | None]] = []
        for item, future in zip(items, futures, strict=True):
            error = future.exception()
            if error is None:
                results.append((item, future.result(), None))
            elif isinstance(error, (ClientError, BotoCoreError, OutageError)):
                results.append((item, None, error))
            else:
                raise error
        return results

    def report(self, max_age: float) -> Report:
        """Return the account's credential report.

        :param max_age: hours that it may be old.
        :raises PolicyExecutionError: it is older, or can't be had or read.
        """
        session = local_session(self.manager.session_factory)
        report, fetched = reports.get(session, (None, 0.0))
        outdated = time.monotonic() - fetched > REPORT_REUSE
        if report is None or outdated or self._age(report) > max_age:
            report = self._load(max_age)
            reports[session] = report, time.monotonic()
        configured = self.manager.config.account_id
        if configured and configured != report.account_id:
            raise self._stop(
                f"credential report: it is of account {report.account_id}, but this run is for "
                f"{configured}: correct the account's id or role (accounts.yml, --account-id)"
            )
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

    def _load(self, max_age: float) -> Report:
        account = self.manager.config.account_id
        # A handle of our own: Custodian calls sources while its own one is open, and a with inside
        # of a with closes the database under it.
        cache = cache_factory(self.manager.config if account else None)
        key = {"account": account, "keyrot": "credential-report/1"}
        with cache:
            cached = cache.get(key)
        raw = cached and RawReport(**cached)
        try:
            if raw is None or self._age(raw) > max_age:
                self._connect()[1].renew()
                raw = credential_report.fetch(self.client, REPORT_LIMIT, self._progress)
            report = credential_report.parse(raw.content, raw.generated, account)
            if cached is None or raw.generated != cached["generated"]:
                with cache:
                    cache.save(key, {"content": raw.content, "generated": raw.generated})
            return report
        except ReportError as error:
            raise self._stop(str(error)) from None
        except (ClientError, BotoCoreError, OutageError) as error:
            raise self._stop(f"credential report: {explain(error)}") from None

    def _progress(self, waited: float) -> None:
        if waited > 2:
            log.info("credential report: AWS is making it, %.0f s so far", waited)

    def read_users(self, users: Iterable[dict[str, Any]], again: bool = False) -> None:
        """Read the users that aren't read yet in this run, tags included, side by side.

        Afterwards each of them has an entry in ``users``, or in ``unread``, or is gone. What
        Custodian's cache or AWS Config says of a user may be of before; a name may be another's.
        """
        names = {user["UserName"] for user in users} - self.unread
        if not again:
            names -= self.users.keys()

        def get_user(name: str) -> dict[str, Any]:
            user: dict[str, Any] = self.client.get_user(UserName=name)["User"]
            return user

        for name, user, error in self.each("users read", get_user, sorted(names)):
            if user is not None:
                self.users[name] = user
            elif code(error) == "NoSuchEntity":
                self.users.pop(name, None)
                self.say(f"user {name!r} is gone since the credential report", logging.INFO)
            else:
                # Without tags nobody knows whether the user is exempt: reported, never acted on.
                self.hide(name, f"user and tags not read, {explain(error)}")

    def load_live_keys(self, users: Iterable[dict[str, Any]]) -> None:
        """List the keys of the users that aren't listed yet in this run, side by side.

        Afterwards each of them has an entry in ``live``, or in ``unread``, or is gone.
        """
        names = {user["UserName"] for user in users} - self.live.keys() - self.unread

        def list_keys(name: str) -> list[dict[str, Any]]:
            keys: list[dict[str, Any]] = self.client.list_access_keys(UserName=name)[
                "AccessKeyMetadata"
            ]
            return keys

        for name, keys, error in self.each("access keys listed", list_keys, sorted(names)):
            if keys is not None:
                self.live[name] = keys
            elif code(error) == "NoSuchEntity":
                self.say(f"user {name!r} is gone since the credential report", logging.INFO)
            else:
                self.hide(name, f"keys not read, {explain(error)}")

    def last_used(self, key_id: str) -> tuple[datetime | None, str | None, str | None]:
        """Return a key's last use by IAM's GetAccessKeyLastUsed: date (UTC), service, region."""
        answer = self.client.get_access_key_last_used(AccessKeyId=key_id)["AccessKeyLastUsed"]
        used: datetime | None = answer.get("LastUsedDate")
        if used is None:
            return None, None, None
        return used.astimezone(timezone.utc), answer.get("ServiceName"), answer.get("Region")

    # -- what went wrong

    def say(self, line: str, level: int = logging.WARNING) -> None:
        """Log a line once in a run, however many filters come across it."""
        if line not in self._said:
            self._said.add(line)
            log.log(level, "policy %s: %s", self.manager.data.get("name"), line)

    def hide(self, name: str, reason: str) -> None:
        """Note that a user's keys or tags couldn't be read; the user stays, without a key."""
        self.unread.add(name)
        self.fail(f"user {name!r}: {reason}")

    def fail(self, line: str) -> None:
        """Note a failure: all users are still tried, then the run ends with an error."""
        self.failures.append(line)
        log.error("policy %s: %s", self.manager.data.get("name"), line)
        if not any(isinstance(action, _Last) for action in self.manager.actions):
            self.manager.actions.append(_Last(self))

    def error(self) -> PolicyExecutionError:
        """Return the error that the failures of this run add up to."""
        more = len(self.failures) - 1
        return PolicyExecutionError(self.failures[0] + (f" (and {more} more)" if more else ""))

    def _stop(self, line: str) -> PolicyExecutionError:
        log.error("policy %s: %s", self.manager.data.get("name"), line)
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
        if self.candidates is not None:
            log.info(
                "policy %s: %d users in the credential report, %d candidates, %d matched",
                self.manager.data.get("name"),
                self.population,
                self.candidates,
                len(selected),
            )
        if self.failures and (self.manager.ctx.options.dryrun or not selected):
            # No action is reached that could raise it.
            if self.manager.ctx.output is not None:
                self.manager.ctx.output.write_file("resources.json", dumps(selected, indent=2))
            raise self.error()
        return selected


def code(error: Exception | None) -> str:
    """Return the code of an error of AWS, or the error's class."""
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Code"])
    return type(error).__name__


def answer_lost(error: Exception) -> bool:
    """Tell whether a call that ended so may have taken effect, in its last try or in one before."""
    if not isinstance(error, ClientError):
        return True
    answer: dict[str, Any] = dict(error.response.get("ResponseMetadata", {}))
    return bool(answer.get("HTTPStatusCode", 0) >= 500 or answer.get("RetryAttempts"))


def explain(error: Exception | None) -> str:
    """Say in a few words what AWS answered to which call."""
    if isinstance(error, ClientError):
        action, reason = f"iam:{error.operation_name}", code(error)
        denied = reason in credential_report.DENIED
        return f"{action} is denied ({reason})" if denied else f"{action} failed ({reason})"
    if isinstance(error, OutageError):
        return str(error)
    text = "".join(char if char.isprintable() else " " for char in str(error))
    return f"{type(error).__name__}: {' '.join(text.split())}"
