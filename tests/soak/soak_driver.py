# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the real policies on the model, with faults, and checks the rules of safety after each."""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import io
import json
import logging
import os
import random as everywhere
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import botocore.retries.bucket
import soak_oracle
import soak_world
from c7n.cache import InMemoryCache
from c7n.config import Config
from c7n.exceptions import PolicyExecutionError
from c7n.policy import PolicyCollection
from c7n.resources import load_resources
from c7n.utils import reset_session_cache
from soak_aws import Session
from soak_faults import SECRET, random_fault
from soak_oracle import ACTIONS, operator_of
from soak_world import ACCOUNT, CHANGES, DAY, DURING, EVENTS, READS, SECOND, WHOLE, Killed

from c7n_keyrot.aws import calls as aws_calls
from c7n_keyrot.aws import credentials, gate, one_key, report_fetch
from c7n_keyrot.aws.credentials import Access
from c7n_keyrot.cli import reactivate
from c7n_keyrot.cli.reactivate import live_keys, work
from c7n_keyrot.cli.reactivate.history import key_histories
from c7n_keyrot.core import outcomes
from c7n_keyrot.custodian import run, shared_report
from c7n_keyrot.custodian.elements import actions
from c7n_keyrot.evidence.outcome_files import read_folder

POLICY = "keys"
DONE = {"disabled", "deleted", "reactivated"}
BAD = {"denied", "failed", "unknown"}
NAMES = {field.name for field in fields(outcomes.Outcome)}
# One life in so many is played over HTTP.
WIRE = 20
# Seconds without any answer of AWS after which the package may give up, as it says.
PATIENCE = timedelta(seconds=44)


# -- policies


def leaf(random: Random) -> Any:
    kind = random.random()
    if kind < 0.55:
        return stale(random)
    if kind < 0.7:
        data = {"type": "expiring-access-key", "slot": random.choice([1, 2])}
        if random.random() < 0.5:
            days = random.choice(soak_world.DAYS)
            data |= {"days": days, "notice": random.choice([14, 0.5, 0.25][2 * (days < 14) :])}
        if random.random() < 0.3 and data.get("days", 90) > 14:
            data |= {"notice": 14, "remind-at": random.choice([[14, 7, 1], [3, 1], [1, 0]])}
        return data
    if kind < 0.78:
        return unclear(random)
    if kind < 0.87:
        return "rotation-exempt"
    return {"tag:team": "shop"}


def stale(random: Random, status: str | None = None) -> dict[str, Any]:
    data: dict[str, Any] = {"type": "stale-access-key"}
    if random.random() < 0.6:
        data["slot"] = random.choice([1, 2])
    if random.random() < 0.6:
        data["days"] = random.choice(soak_world.DAYS)
    status = status or random.choice(["Active", "Active", "Inactive"])
    if status == "Inactive" or random.random() < 0.2:
        data["status"] = status
    if random.random() < 0.2:
        data["unused-days"] = random.choice([30, 0.5])
    if random.random() < 0.15:
        data["superseded"] = True
    return data


def unclear(random: Random) -> dict[str, Any]:
    data = {"type": "unclear-access-key", "slot": random.choice([1, 2])}
    if random.random() < 0.5:
        data["days"] = random.choice(soak_world.DAYS)
    return data


def tree(random: Random, levels: int) -> Any:
    if levels and random.random() < 0.6:
        operator = random.choice(["and", "or", "or", "not"])
        return {operator: [tree(random, levels - 1) for _ in range(random.randint(1, 3))]}
    return leaf(random)


def leaves(filters: list[Any], inside_not: bool = True) -> Iterator[Any]:
    for one in filters:
        operator = operator_of(one)
        if operator is None:
            yield one
        elif inside_not or operator != "not":
            yield from leaves(one[operator], inside_not)


@functools.cache
def _loaded() -> None:
    load_resources({"aws.iam-user"})


def random_policy(random: Random) -> dict[str, Any]:
    """A policy that validates: its actions have a filter that selects for them."""
    what = random.choice(["disable", "disable", "disable", "delete", "both"])
    status = {"disable": ["Active"], "delete": ["Inactive"], "both": ["Active", "Inactive"]}[what]
    wanted = [stale(random, one) for one in status]
    filters = wanted if len(wanted) == 1 else [{"or": wanted}]
    if random.random() < 0.6:
        filters.append({"not": ["rotation-exempt"]})
    if random.random() < 0.3:
        filters.append({"not": [unclear(random)]})
    if random.random() < 0.4:
        filters.append(tree(random, 3))
    if random.random() < 0.15:
        filters.append(tree(random, 2))
    random.shuffle(filters)
    age = random.choice([None, None, 24, 1, 3000, 3000])
    for one in leaves(filters):
        if age and isinstance(one, dict) and "type" in one:
            one["report-max-age"] = age
    words = {"disable": "disable-access-key", "delete": "delete-access-key"}
    names = [words[word] for word in (words if what == "both" else [what])]
    return {
        "name": POLICY,
        "resource": "aws.iam-user",
        "source": random.choice(["credential-report", "credential-report", "describe"]),
        "filters": filters,
        "actions": names,
    }


def max_age(policy: dict[str, Any]) -> float:
    ages = [
        one.get("report-max-age", 24)
        for one in leaves(policy["filters"])
        if isinstance(one, dict) and "type" in one
    ]
    return min(ages, default=24)


def settles(policy: dict[str, Any]) -> bool:
    """Whether a key that was acted on can't make the policy mean another one."""
    data = [soak_oracle.options(one) for one in leaves(policy["filters"], inside_not=True)]
    nots = any(
        "not" in json.dumps(one) and "access-key" in json.dumps(one) for one in policy["filters"]
    )
    statuses = {one["status"] for one in data if one["type"] == "stale-access-key"}
    return not nots and len(statuses) == 1


class Inline:
    """An executor that does each thing at once: the fastest, and the same in every replay."""

    def __init__(self, max_workers: int = 0) -> None:
        """It needs none."""

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *exception: Any) -> None:
        """All has been done already."""

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def map(self, function: Any, items: Any) -> Iterator[Any]:
        return iter([function(item) for item in items])

    def shutdown(self, **_: Any) -> None:
        """All has been done already."""


class Heard(logging.Handler):
    """What is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class World:
    """One account from its beginning on; `step()` is one case."""

    def __init__(self, random: Random, folder: Path, heard: Heard, wire: bool) -> None:
        _loaded()
        self.random, self.folder, self.heard, self.wire = random, folder, heard, wire
        self.iam = soak_world.account(random)
        self.iam.lagging = random.choice([0, 0, 0.3, 0.9])
        self.iam.blind = random.random() < 0.3
        self.threads = 0.02  # how likely Custodian's workers are to be threads
        self.history = soak_oracle.History()
        self.sizes: list[int] = []
        self.claimed: set[str] = set()
        self.doubted: set[str] = set()
        self.cached: soak_world.Report | None = None
        self.cached_at = self.iam.now
        self.torn = 0  # lines that killed runs left half-written
        self.lost = 0  # those of them of which no intent tells
        self.was_full = False  # once there was no room on the disk
        self.story: list[str] = []
        self.shown = ""  # by the last reactivate
        self.seen: Counter[str] = Counter()
        # Of the run that is under way:
        self.room: int | None = None
        self.no_room = False
        self.appends = 0
        self.called_by_then: set[str] = set()
        # The account after each event in the midst of it, and the keys that it had touched by then.
        self.meanwhile: list[tuple[dict[str, soak_oracle.LiveUser], set[str]]] = []
        self.tear_at: int | None = None

    # -- the world around the package

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """The model's clock, no waiting, a disk that can be full, and a process that can die."""
        world = self

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return world.iam.tick().astimezone(tz)

        started, latest = self.iam.now, [0.0]

        def sleep(seconds: float) -> None:
            world.iam.sleep(seconds)

        def monotonic() -> float:
            latest[0] = max(latest[0], (world.iam.now - started).total_seconds())
            return latest[0]

        clock = SimpleNamespace(monotonic=monotonic, sleep=sleep)
        fetch = functools.partial(report_fetch.fetch, sleep=sleep, clock=monotonic)
        append = outcomes.append

        def appended(path: Path, line: Any) -> None:
            if world.iam.killed:
                raise Killed
            if not isinstance(line, outcomes.Outcome):
                append(path, line)  # the summary: no key hangs on it
                return
            world.appends += 1
            if world.room is not None and world.appends == world.room + 1:
                # Room for a moment only: what comes after it could be written again.
                world.no_room = world.was_full = True
                world.called_by_then = world.called()
                raise OSError(28, "No space left on device")
            if world.appends == world.tear_at:
                world.iam.killed = True
                world.torn += 1
                text = json.dumps(vars(line))
                # A shorter piece of a skipped line may begin as an intent of the same run does, and
                # then nobody can tell whether it is lost.
                skipped = line.outcome == "skipped"
                half = text[: text.index('"outcome"') if skipped else len(text) // 2]
                world.lost += skipped or f'"run": "{line.run}"' not in half
                with path.open("a") as file:
                    if file.tell() and not path.read_bytes().endswith(b"\n"):
                        file.write("\n")
                    file.write(half)
                raise Killed
            append(path, line)

        def own(profile: str | None = None, config: Any = None) -> Access:
            arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/operator/ana"
            return Access(Session(world.iam, world.wire), "us-east-1", arn=arn)

        with (
            patch.object(run, "datetime", Clock),
            patch.object(actions, "datetime", Clock),
            patch.object(work, "datetime", Clock),
            patch.object(live_keys, "datetime", Clock),
            patch.object(shared_report, "time", clock),
            patch.object(one_key, "time", clock),
            patch.object(gate, "time", clock),
            patch.object(time, "sleep", sleep),  # botocore's, between two tries
            patch.object(
                botocore.retries.bucket.TokenBucket, "acquire", lambda *args, **more: True
            ),
            patch.object(report_fetch, "fetch", fetch),
            patch.object(outcomes, "append", appended),
            patch.object(credentials, "own", own),
            patch.object(work, "ThreadPoolExecutor", Inline),
            patch.object(aws_calls.side_by_side, "__defaults__", (Inline,)),
        ):
            yield

    def new_process(self) -> None:
        self.session = Session(self.iam, self.wire)
        self.cached = None
        shared_report.reports.clear()
        InMemoryCache._InMemoryCache__shared_state.clear()

    # -- a case: one event, then a run of a policy

    def step(self) -> None:
        event = self.random.choice(EVENTS)
        self.event(event)
        # A name that is new is what reactivate must see through.
        renames = event in (soak_world.user_renamed, soak_world.names_exchanged)
        if self.random.random() < (0.6 if renames else 0.12):
            self.reactivate()
        self.faults()
        self.run(random_policy(self.random))
        if self.random.random() < 0.1:
            self.repaired()

    def event(self, event: Any) -> None:
        self.seen[event.__name__] += 1
        self.story.append(f"{self.iam.now:%F %T} {event.__name__}")
        self.iam.actor = "hand"
        event(self.iam)

    def faults(self) -> None:
        """What goes wrong in the next run: mostly nothing, else up to three things."""
        iam, random = self.iam, self.random
        iam.heal()
        self.room = self.tear_at = None
        if random.random() < 0.4:
            return
        wrong = {
            self.call_fails: 50,
            self.report_fails: 10,
            self.process_is_killed: 10,
            self.line_is_torn: 7,
            self.disk_is_full: 7,
            self.somebody_interferes: 16,
        }
        for what in random.choices(list(wrong), list(wrong.values()), k=random.randint(1, 3)):
            what()

    def call_fails(self) -> None:
        self.fault(self.random.choice(READS + CHANGES + CHANGES))

    def report_fails(self) -> None:
        self.fault(self.random.choice(WHOLE))

    def process_is_killed(self) -> None:
        self.iam.kill_at = (self.random.randint(1, 3), self.random.random() < 0.5)

    def line_is_torn(self) -> None:
        self.tear_at = self.random.randint(1, 5)

    def disk_is_full(self) -> None:
        self.room = self.random.randint(0, 4)

    def somebody_interferes(self) -> None:
        during = self.random.choice(DURING)
        self.seen[f"{during.__name__} during a run"] += 1
        hook = functools.partial(self.interfere, during)
        self.iam.hooks[self.random.randint(1, 15)] = hook

    def fault(self, operation: str) -> None:
        """Calls go wrong: of all subjects, of one, or of some; in one way, or in two in turn."""
        iam, random = self.iam, self.random
        change = operation in CHANGES
        made = [
            random_fault(random, change=change, wire=self.wire)
            for _ in range(2 if change and random.random() < 0.3 else 1)
        ]
        subjects = ["*"]
        if operation not in WHOLE and random.random() < (0.5 if change else 0.7):
            of_users = operation in ("GetUser", "ListAccessKeys", "ListUserTags")
            known = list(iam.users) if of_users else [key.id for key in iam.all_keys()]
            subjects = random.sample(known, random.choice([1, 1, len(known) // 2]) if known else 0)
        for subject in subjects:
            iam.faults[operation, subject] = list(made)

    def called(self) -> set[str]:
        """The keys for which a change was called in this run."""
        return {call.subject for call in self.iam.log if call.operation in CHANGES}

    def interfere(self, event: Any) -> None:
        event(self.iam)
        done = {key for key, _ in self.iam.touched}
        self.meanwhile.append((soak_oracle.look(self.iam), done))

    def run(self, policy: dict[str, Any], again: bool = True) -> None:
        """Run the policy as it is; check everything; then run it once more, in the same second."""
        iam, random = self.iam, self.random
        if again:
            iam.whole_second()
            # Mostly another one than those of the account's users.
            own = [key.id for key in iam.all_keys()] if random.random() < 0.2 else []
            iam.own = random.choice([*own, "AKIAOFTHEMODEL"])
        if again and (random.random() < 0.7 or iam.now - self.cached_at > timedelta(minutes=15)):
            self.new_process()
        dryrun = random.random() < 0.05
        views, now, held = soak_oracle.looks(iam), iam.now.replace(microsecond=0), self.cached
        self.meanwhile = []
        iam.begin()
        self.heard.records.clear()
        self.appends, self.no_room = 0, False
        error, run_id, users = self.execute(policy, dryrun)
        report = self.report_of(policy, held, now)
        lines = "".join(f"\n    {call}" for call in iam.log if any(call.tries) or call.lagged)
        self.story.append(
            f"{now:%F %T} run {run_id[:8]} {json.dumps(policy)} kill={iam.kill_at} "
            f"tear={self.tear_at} room={self.room}{lines}\n  -> {error!r} {iam.touched}"
        )
        filters, own = policy["filters"], iam.own
        each = [soak_oracle.meant(filters, view, report, now, own) for view in views]
        said = set().union(*each)
        for later, done in self.meanwhile:
            # It may have read the account as it was before an event, or as it was after it.
            users_then = self.undone(views[0], later, done)
            said |= soak_oracle.meant(filters, users_then, report, now, own)
        surely = set.intersection(*each)
        self.check(policy, views, said, surely, error, run_id, users, dryrun, report, now)
        self.check_words(policy, error)
        if iam.report:
            iam.now = max(iam.now, iam.report.generated)
        iam.whole_second()
        iam.now += SECOND
        self.check_history()
        clean = error is None and not iam.hooked and not iam.killed and len(views) == 1
        clean = clean and not any(any(call.tries) or call.lagged for call in iam.log)
        clean = clean and later_by_little(iam.now, now) and not iam.lagging
        if again and clean and not dryrun and random.random() < 0.3:
            iam.heal()
            self.room = self.tear_at = None
            touched, later = list(iam.touched), iam.now
            iam.now = now + timedelta(milliseconds=500)
            self.run(policy, again=False)
            iam.now = max(iam.now, later)
            if settles(policy) and not iam.hooked:
                assert iam.touched == [], f"a second run does more than {touched}"

    @staticmethod
    def undone(
        before: dict[str, soak_oracle.LiveUser],
        later: dict[str, soak_oracle.LiveUser],
        done: set[str],
    ) -> dict[str, soak_oracle.LiveUser]:
        """The account as an event during the run left it, without what the run had done by then."""
        users = {}
        for name, user in later.items():
            keys = {key.id: key for key in user.keys}
            if name in before:
                # But not what the event has put another key in the place of.
                taken = {key.slot for key in user.keys if key.id not in done}
                keys |= {
                    key.id: key
                    for key in before[name].keys
                    if key.id in done and key.slot not in taken
                }
            users[name] = soak_oracle.LiveUser(name, user.created, user.tags, tuple(keys.values()))
        return users

    def execute(
        self, policy: dict[str, Any], dryrun: bool
    ) -> tuple[BaseException | None, str, list[dict[str, Any]]]:
        """One run, as `custodian run` has it; the error that ends it, its id and its users."""
        reset_session_cache()
        cache = {"cache": "memory", "cache_period": 15} if self.random.random() < 0.3 else {}
        config = Config.empty(
            region="us-east-1",
            account_id=ACCOUNT,
            output_dir=str(self.folder),
            dryrun=dryrun,
            **cache,
        )
        session = self.session
        factory = lambda *args, **kwargs: session  # noqa: E731 - c7n sets attributes on it
        data = {"policies": [copy.deepcopy(policy)]}
        (loaded,) = PolicyCollection.from_data(data, config, factory)
        loaded.validate()
        threads = self.random.random() < self.threads and not self.iam.kill_at and not self.tear_at
        threads = threads and self.room is None and not self.iam.hooks
        loaded.resource_manager.executor_factory = ThreadPoolExecutor if threads else Inline
        error, users = None, []
        try:
            users = loaded.run() or []
        except (Exception, Killed) as raised:
            error = raised
        return error, loaded.ctx.execution_id, users

    def report_of(
        self, policy: dict[str, Any], held: soak_world.Report | None, now: datetime
    ) -> soak_world.Report | None:
        """The report that the run went by: a new one, or what it had kept."""
        if self.iam.handed is None:
            if not any(call.operation in WHOLE[:2] for call in self.iam.log):
                return held
            # For a few minutes it is known that there is none; that isn't checked here.
            self.new_process()
            return None
        if not self.iam.handed.broken:
            self.cached, self.cached_at = self.iam.handed, now
        return self.iam.handed

    # -- what must hold

    def check(
        self,
        policy: dict[str, Any],
        views: list[dict[str, soak_oracle.LiveUser]],
        said: set[str],
        surely: set[str],
        error: BaseException | None,
        run_id: str,
        users: list[dict[str, Any]],
        dryrun: bool,
        report: soak_world.Report | None,
        now: datetime,
    ) -> None:
        iam = self.iam
        touched = {key for key, _ in iam.touched}
        assert len(touched) == len(iam.touched) or len(policy["actions"]) > 1
        status: dict[str, set[str]] = {}
        for view in views:
            for user in view.values():
                for key in user.keys:
                    status.setdefault(key.id, set()).add(key.status)
        owner = {key.id: user.name for user in views[0].values() for key in user.keys}

        # Rule 1 and 7: never another key, and each in the state that the action is for.
        assert touched <= said, f"wrong keys {touched - said}"
        assert not iam.active_deleted
        if dryrun:
            assert not touched
        for key, what in iam.touched:
            wanted = {"Inactive": soak_oracle.DISABLE, "deleted": soak_oracle.DELETE}[what]
            assert wanted in policy["actions"]
            before = "Active" if what == "Inactive" else "Inactive"
            assert iam.hooked or before in status[key]

        # Nothing of users that couldn't be read whole.
        first = next((n for n, c in enumerate(iam.log) if c.operation in CHANGES), len(iam.log))
        # The last call of each: Custodian's own source tries again by itself.
        read = {(call.operation, call.subject): call for call in iam.log[:first]}
        hidden = {
            call.user or call.subject
            for call in read.values()
            if call.operation in READS and (call.failed or self.is_missing(call))
        }
        if not iam.hooked:
            assert not {owner[key] for key in touched} & hidden

        stopped = self.stop_expected(policy, report, now)
        if stopped and policy["source"] == "credential-report":
            assert error is not None or iam.killed
        if stopped:
            assert not touched
        everything = self.lines(outcomes.INTENTS_FILE, run_id) + self.lines(outcomes.FILE, run_id)
        lines = [line for line in everything if line["outcome"] != "intended"]
        intents = [line for line in everything if line["outcome"] == "intended"]
        named = {line["access_key_id"] for line in lines} - {None}
        intended = {line["access_key_id"] for line in intents}
        # What was touched can be found again, whatever happened afterwards.
        assert touched <= intended
        assert iam.own not in intended, "the run's own key"
        self.note(lines)
        for line in lines:
            self.check_line(line)
        if iam.killed:
            self.seen["killed"] += 1
            return

        # Rule 3: every key an outcome, and the run fails exactly if something failed.
        bad = [line for line in lines if line["outcome"] in BAD]
        reads = [call for call in iam.log if call.operation in (*READS, "ListUsers")]
        latest = {(call.operation, call.subject): call for call in reads}
        fails = bool(bad or self.no_room or stopped)
        fails |= any(call.failed or self.is_missing(call) for call in latest.values())
        may_fail = fails or any(call.failed or self.is_missing(call) for call in reads)
        silent = iam.longest_silence > PATIENCE
        if not (stopped and policy["source"] == "describe"):
            assert error is not None or not fails, "it has failed, and ends well"
        assert error is None or may_fail or silent, "nothing has failed"
        for line in bad:
            logged = any(
                record.levelno >= logging.ERROR
                and str(line["access_key_id"]) in record.getMessage()
                for record in self.heard.records
            )
            assert logged, f"no line of the log tells of {line}"
        assert (
            error is None
            or isinstance(error, PolicyExecutionError)
            or (policy["source"] == "describe" and self.stock_failed())
        ), repr(error)
        self.seen["failed runs" if fails else "good runs"] += 1
        if self.no_room:
            assert self.called() <= self.called_by_then, "touched what can't be recorded"
            return
        assert touched <= named
        for user in users:
            if any(one["filter"] == "stale-access-key" for one in user.get("c7n:keyrot", ())):
                told = [line for line in lines if line["user"] == user["UserName"]]
                assert dryrun or told, "a matched user without an outcome"
        if dryrun or stopped or iam.hooked or silent or self.whole_run_lost(policy):
            return
        acts = {"Active": soak_oracle.DISABLE, "Inactive": soak_oracle.DELETE}
        for key in surely:
            (was,) = status[key] if len(status[key]) == 1 else [""]
            if acts.get(was) not in policy["actions"] or owner[key] in hidden:
                continue
            told = [
                line["outcome"]
                for line in lines
                if line["access_key_id"] == key and line["action"] == acts[was]
            ]
            assert len(told) == 1, f"forgotten: {key} {told}"
            assert told[0] in DONE | BAD, f"{key} {told}"
        self.seen["keys acted on"] += len(touched)

    @staticmethod
    def is_missing(call: soak_world.Call) -> bool:
        """IAM denies GetAccessKeyLastUsed for a key that isn't there."""
        return call.operation == "GetAccessKeyLastUsed" and bool(call.refused)

    def stock_failed(self) -> bool:
        """A call failed that is Custodian's own; the package has no part in it."""
        of_stock = ("GetUser", "ListUsers", "ListUserTags")
        return any(call.failed for call in self.iam.log if call.operation in of_stock)

    def check_line(self, line: dict[str, Any]) -> None:
        """An outcome is true, or unknown where nobody can know."""
        iam, key_id, outcome = self.iam, line["access_key_id"], line["outcome"]
        if key_id is None:
            assert outcome == "skipped"
            return
        self.seen[outcome] += 1
        key = iam.find(key_id)
        operation, status, done = ACTIONS[line["action"]]
        calls = [
            call
            for call in iam.log
            if (call.operation, call.subject, call.status) == (operation, key_id, status)
        ]
        lagged = any(call.lagged for call in iam.log if call.user == line["user"])
        beside = iam.hooked or lagged
        there = key is not None and key.user == line["user"]
        # Not so if it only has another user's name.
        achieved = key.status == status if key and there else key is None and not status
        told = f"{line} but {[str(call) for call in calls]}, {key}"
        if outcome == "gone":
            # Never so of a renamed user's; a listing that lags may lack a key that is new.
            assert key is None or lagged, told
            assert key is None or not any(call.effect for call in calls), told
        elif outcome == "skipped":
            assert not calls or not any(call.effect for call in calls), told
            if line["action"] == soak_oracle.REACTIVATE:
                # A lagging listing of what somebody else did may mislead it.
                assert achieved or (beside and (not key or key.by != "tool")), told
        else:
            right = soak_oracle.true_outcomes(line["action"], key_id, line["user"], iam.log)
            right |= {done} if beside and calls and achieved else set()
            right |= {"unknown"} if not there or beside else set()
            odd = key is not None and bool(key.odd or beside)
            right |= {"failed"} if odd and line["action"] == soak_oracle.REACTIVATE else set()
            if iam.longest_silence > PATIENCE:  # it didn't come to a call, or to another one
                right |= {"unknown"} if any(call.is_lost for call in calls) else {"failed"}
            if self.no_room and not calls and line["action"] == soak_oracle.DELETE:
                right |= {"failed"}  # not tried, since its outcome couldn't be kept
            assert outcome in right, f"{told} {right}"

    def check_words(self, policy: dict[str, Any] | None, error: BaseException | None) -> None:
        """No body of an answer comes out anywhere, and nothing has more than one line."""
        stock = policy is not None and policy["source"] == "describe" and self.stock_failed()
        for record in self.heard.records:
            text = record.getMessage()
            if record.name.startswith("custodian.keyrot"):
                assert "\n" not in text, text
                assert len(text) < 1000, text
                assert not record.exc_info, text
                assert "an internal error: report it" not in text, text
            assert SECRET not in text or stock, text
        if error is not None and not stock:
            assert "\n" not in str(error), error
            assert SECRET not in "".join(traceback.format_exception(error)), error
        if stock:
            # Custodian logs its own errors whole; what it has logged of them isn't looked at.
            (self.folder / POLICY / "custodian-run.log").unlink(missing_ok=True)
        elif any(any(call.tries) for call in self.iam.log):
            for path in self.folder.rglob("*"):
                text = path.read_bytes() if path.is_file() else b""
                place = text.find(SECRET.encode())
                assert place < 0, f"{path.name}: {text[max(place - 300, 0) : place + 40]!r}"

    def whole_run_lost(self, policy: dict[str, Any]) -> bool:
        """Stock's own source dies of the first user that it can't read."""
        of_stock = ("ListUsers", "GetUser") if policy["source"] == "describe" else ()
        return any(call.failed for call in self.iam.log if call.operation in of_stock)

    def stop_expected(
        self, policy: dict[str, Any], report: soak_world.Report | None, now: datetime
    ) -> bool:
        """Whether the policy had to stop for want of a credential report."""
        if report is None:
            asked = [call for call in self.iam.log if call.operation in WHOLE[:2]]
            there = self.iam.report
            if asked and there and not there.broken and self.iam.longest_silence < PATIENCE:
                # That AWS makes no new one is no reason, while it hands out the last one.
                old = (now - there.generated) / timedelta(hours=1) > max_age(policy)
                refused = any(
                    call.failed for call in asked if call.operation == "GetCredentialReport"
                )
                assert old or refused, "there is a report, and nobody has fetched it"
            return True
        if report.broken:
            return True
        return (now - report.generated) / timedelta(hours=1) > max_age(policy)

    def lines(self, name: str, run_id: str | None = None) -> list[dict[str, Any]]:
        """The lines of a file; all but those that a kill cut in half are whole and right."""
        path = self.folder / POLICY / name
        found, torn = [], 0
        for text in path.read_text("utf-8").splitlines() if path.exists() else ():
            line = parsed(text)
            if line is None:
                torn += 1
                continue
            assert line.keys() == NAMES
            assert line["outcome"] in DONE | BAD | {"gone", "skipped", "intended"}
            # An outcome that can't be written where it belongs is among the intents.
            intended = line["outcome"] == "intended"
            assert intended == (name == outcomes.INTENTS_FILE) or (self.was_full and not intended)
            assert line["account_id"] == ACCOUNT
            assert datetime.fromisoformat(line["time"]).tzinfo
            assert line["policy"] == POLICY
            assert line["slot"] in (1, 2)
            found.append(line)
        assert torn <= self.torn
        return [line for line in found if run_id in (None, line["run"])]

    # -- the way back

    def note(self, lines: list[dict[str, Any]]) -> None:
        """The tool takes for its work what somebody else did a moment before."""
        for line in lines:
            key = self.iam.find(line["access_key_id"])
            if key and line["outcome"] == "disabled":
                key.unseen = key.by != "tool"
            elif (
                key
                and line["outcome"] in ("denied", "gone")
                and line["action"] == soak_oracle.DISABLE
            ):
                key.unseen = False

    def claimed_by_history(self) -> tuple[set[str], set[str]]:
        """The keys that reactivate takes for the tool's work, and those of which it can't tell."""
        names = (outcomes.INTENTS_FILE, outcomes.FILE)
        paths = [path for name in names if (path := self.folder / POLICY / name).exists()]
        sizes = [path.stat().st_size for path in paths]
        if sizes != self.sizes:
            self.sizes = sizes
            there = [path.name for path in paths]
            keys = key_histories(read_folder(self.folder / POLICY, there, "", lambda _: None))
            self.claimed = {key.id for key in keys if key.ours}
            self.doubted = {key.id for key in keys if key.doubt}
            self.history.read([line for name in names for line in self.lines(name)])
            second = self.history.ours, self.history.doubted
            assert (self.claimed, self.doubted) == second, f"by a second reading {second}"
        return self.claimed, self.doubted

    def check_history(self) -> None:
        claimed, doubted = self.claimed_by_history()
        for key in self.iam.all_keys():
            if key.active:
                continue
            if key.id in claimed and key.by != "tool":
                assert key.unseen, f"{key}: somebody else's work is claimed"
                self.seen["claimed unseen"] += 1
            if key.by == "tool":
                assert key.id in claimed | doubted, f"{key}: its way back is lost"
                self.seen["ways back"] += 1

    def reactivate(self) -> None:
        """`c7n-keyrot reactivate --yes`, with or without faults, for all keys or some."""
        iam, random = self.iam, self.random
        if not (self.folder / POLICY / outcomes.FILE).exists():
            return
        iam.heal()
        iam.whole_second()
        self.room = self.tear_at = None
        chance = random.random()
        if chance < 0.4:
            self.fault(random.choice(["ListAccessKeys", "UpdateAccessKey", "GetAccessKeyLastUsed"]))
        elif chance < 0.5:
            iam.kill_at = (random.randint(1, 2), random.random() < 0.5)
        if random.random() < 0.15:
            hook = functools.partial(random.choice(DURING), iam)
            iam.hooks[random.randint(1, 6)] = hook
        claimed, doubted = self.claimed_by_history()
        named: set[str] = set()
        if doubted and random.random() < 0.3:
            named = set(random.sample(sorted(doubted), random.randint(1, len(doubted))))
        off = {key.id for key in iam.all_keys() if key.status == "Inactive"}
        mine = {key.id for key in iam.all_keys() if key.by == "tool" or key.unseen}
        lagging = any(iam.views(user) for user in iam.users.values())
        code = self.one_command(named)
        wanted = named or claimed
        touched = {key for key, _ in iam.touched}
        assert all(what == "Active" for _, what in iam.touched)
        assert touched <= wanted
        # By --key somebody has decided; else it is the tool's work, as far as anybody can see. What
        # a listing still shows inactive is switched on once more.
        if not lagging and not iam.hooked:
            assert touched <= off
            assert named or touched <= mine
        for key_id in touched:
            iam.made[key_id].unseen = False
        left = 0
        if not iam.hooked:
            left = self.check_command(code, wanted, set() if named else doubted)
        quiet = not iam.hooked and not any(any(call.tries) or call.lagged for call in iam.log)
        if quiet and code is not None and not iam.blind:
            assert touched == wanted & off
            iam.heal()
            again = self.one_command(set())
            if not named and not any(call.lagged for call in iam.log):
                assert not iam.touched
                self.check_command(again, claimed, doubted)
        self.check_history()
        self.seen["reactivate"] += 1
        self.seen["left in doubt"] += left
        iam.heal()
        iam.whole_second()
        iam.now += SECOND

    def one_command(self, named: set[str]) -> int | None:
        """Run it and check what it says and records; returns its exit code, None if killed."""
        iam = self.iam
        iam.begin()
        self.heard.records.clear()
        known, intended = self.lines(outcomes.FILE), self.lines(outcomes.INTENTS_FILE)
        code, text = self.command(named)
        lines = "".join(f"\n    {call}" for call in iam.log)
        self.story.append(
            f"{iam.now:%F %T} reactivate {sorted(named)} kill={iam.kill_at}{lines}\n  -> {code} "
            f"{iam.touched}"
        )
        self.story.append(text)
        self.shown = text
        assert SECRET not in text
        assert "an internal error: report it" not in text
        for line in text.splitlines():
            assert len(line) < 1000, line
        self.check_words(None, None)
        new = [line for line in self.lines(outcomes.FILE) if line not in known]
        for line in new:
            self.check_line(line)
            assert code is None or line["outcome"] not in BAD or code == 1, line
        touched = {key for key, _ in iam.touched}
        intents = [line for line in self.lines(outcomes.INTENTS_FILE) if line not in intended]
        assert touched <= {line["access_key_id"] for line in intents}
        assert code is None or touched <= {line["access_key_id"] for line in new}
        return code

    def check_command(self, code: int | None, wanted: set[str], doubted: set[str]) -> int:
        """Its exit code says whether all is as it should be; returns how many keys are in doubt."""
        iam = self.iam
        if code is None:
            return 0
        # What somebody else switched off a moment ago may be listed as it was before.
        lagged = {call.user for call in iam.log if call.lagged}
        off = {
            key.id
            for key in iam.all_keys()
            if key.status == "Inactive" and not (key.by == "hand" and key.user in lagged)
        }
        if wanted & off:
            assert code == 1, f"{wanted & off} are off"
        if doubted & off:
            assert code == 1, f"{doubted & off} are in doubt"
        for key in (wanted | doubted) & off:
            assert key in self.shown, f"{key} is off, and nobody hears of it"
        # So long it takes what a listing shows for its lag.
        recent = iam.now - 2 * self.history.LAG
        faulty = any(call.failed or call.lagged for call in iam.log) or any(
            self.history.off.get(key, recent) > recent for key in wanted | doubted
        )
        # Of a user who isn't there nobody can tell whether the key was deleted.
        faulty |= any((key := iam.find(key_id)) is None or key.odd for key_id in wanted | doubted)
        if not faulty and not (wanted | doubted) & off and not self.lost:
            assert code == 0
        return len(doubted & off)

    def command(self, named: set[str]) -> tuple[int | None, str]:
        """Run it: (its exit code, what it says); no code if it was killed."""
        args = argparse.Namespace(
            dir=str(self.folder), user=[], key=sorted(named), yes=True, profile=None, accounts=None
        )
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                return reactivate.run(args), out.getvalue()
            except Killed:
                return None, out.getvalue()

    # -- in the end nothing is forgotten

    def repaired(self) -> None:
        """All faults are over and a new report is there: a run leaves no right key behind."""
        iam = self.iam
        iam.heal()
        iam.caught_up()
        self.room = self.tear_at = None
        iam.actor = "hand"
        iam.next_report = "good"
        iam.make_report()
        self.new_process()
        iam.begin()
        self.heard.records.clear()
        slot, days = self.random.choice([1, 2]), self.random.choice(soak_world.DAYS)
        policy = {
            "name": POLICY,
            "resource": "aws.iam-user",
            "source": self.random.choice(["credential-report", "describe"]),
            "filters": [
                {"type": "stale-access-key", "slot": slot, "days": days},
                {"not": ["rotation-exempt"]},
            ],
            "actions": ["disable-access-key"],
        }
        iam.whole_second()
        now = iam.now
        # By the facts alone, whatever a report may say.
        right = {
            key.id
            for user in soak_oracle.look(iam).values()
            for key in user.keys
            if key.slot == slot
            and key.status == "Active"
            and now - key.created > timedelta(days=days)
            and len({one.created for one in user.keys}) == len(user.keys)
            and not soak_oracle.Reading(user, None, now).exempt()
            and key.id != iam.own
        }
        error, run_id, _ = self.execute(policy, dryrun=False)
        self.note(self.lines(outcomes.FILE, run_id))
        self.story.append(f"{now:%F %T} repaired run {json.dumps(policy)} {iam.touched}")
        assert error is None
        assert {key for key, _ in iam.touched} == right
        self.cached, self.cached_at = iam.handed, now
        self.check_history()
        iam.now = max(iam.now, iam.report.generated)
        iam.whole_second()
        iam.now += DAY


@functools.lru_cache(1000)
def parsed(text: str) -> dict[str, Any] | None:
    """A line of a file; None for half a line."""
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return line


def later_by_little(later: datetime, now: datetime) -> bool:
    return later - now < timedelta(milliseconds=2500)


class Play:
    """A world in a folder of its own, with the package's surroundings patched while it lasts."""

    def __init__(self, random: Random, wire: bool = False) -> None:
        self.random, self.wire, self.stack = random, wire, contextlib.ExitStack()

    def __enter__(self) -> World:
        heard = Heard()
        self.stack.callback(logging.root.setLevel, logging.root.level)
        self.stack.callback(logging.root.removeHandler, heard)
        logging.root.setLevel(logging.INFO)
        logging.root.addHandler(heard)
        # In memory where that can be: a hundred thousand cases write a million files.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        folder = Path(tempfile.mkdtemp(prefix="keyrot-soak-", dir=memory))
        self.stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self.stack.callback(reset_session_cache)
        self.world = World(self.random, folder, heard, self.wire)
        self.stack.callback(self.world.new_process)
        self.stack.enter_context(self.world.patched())
        self.world.new_process()
        return self.world

    def __exit__(self, *exception: Any) -> None:
        self.stack.close()


def play(seed: int, cases: int) -> Counter[str]:
    """One account, so many cases; an error tells the seed and the account's story."""
    everywhere.seed(seed)  # botocore's pauses
    with Play(Random(seed), wire=seed % WIRE == 0) as world:
        for case in range(cases):
            try:
                world.step()
            except Exception as error:
                story = "\n".join(world.story[-8:])
                raise AssertionError(f"seed {seed}, case {case}: {error}\n{story}") from error
    return world.seen
