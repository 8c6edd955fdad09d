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
import shutil
import tempfile
import time
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

import soak_oracle
import soak_world
from c7n.cache import InMemoryCache
from c7n.config import Config
from c7n.exceptions import PolicyExecutionError
from c7n.policy import PolicyCollection
from c7n.resources import load_resources
from c7n.utils import reset_session_cache
from soak_oracle import operator_of
from soak_world import ACCOUNT, CHANGES, DAY, DURING, ERRORS, EVENTS, READS, WHOLE, Killed

from c7n_keyrot import actions, credential_report, iam, outcomes, policy_run
from c7n_keyrot.cli import accounts, reactivate
from c7n_keyrot.cli.reactivate import files, live_keys, work
from c7n_keyrot.cli.reactivate.history import Key, history

POLICY, DISABLE = "keys", "disable-access-key"
OUTCOMES = {
    *("disabled", "deleted", "reactivated", "gone", "denied", "failed", "unknown", "skipped")
}
NAMES = {field.name for field in fields(outcomes.Outcome)}


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
    if random.random() < 0.5:
        filters.append(tree(random, 3))
    if random.random() < 0.2:
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
        pass

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


class World:
    """One account from its beginning on; `step()` is one case."""

    def __init__(self, random: Random, folder: Path) -> None:
        _loaded()
        self.random, self.folder = random, folder
        self.iam = soak_world.account(random)
        self.cached: soak_world.Report | None = None
        self.cached_at = self.iam.now
        self.torn = 0  # lines that killed runs left half-written
        self.lost = 0  # those of them of which no intent tells
        # Keys at which a reactivate was killed, or knows not what it did.
        self.interrupted: set[str] = set()
        self.was_active: set[str] = set()  # keys that a run has seen active, if no listing lags
        self.story: list[str] = []
        self.seen: Counter[str] = Counter()
        # Of the run that is under way:
        self.room: int | None = None
        self.no_room = False
        self.appends = 0
        self.touched_by_then: set[tuple[str, str]] = set()
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

        waited = [0.0]

        def sleep(seconds: float) -> None:
            waited[0] += seconds

        fetch = functools.partial(credential_report.fetch, sleep=sleep, clock=lambda: waited[0])
        append = outcomes.append

        def appended(path: Path, line: outcomes.Outcome) -> None:
            if world.iam.killed:
                raise Killed
            world.appends += 1
            if world.room is not None and world.appends == world.room + 1:
                # Room for a moment only: what comes after it could be written again.
                world.no_room, world.touched_by_then = True, set(world.iam.touched)
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

        access = SimpleNamespace(
            account_id=ACCOUNT, partition="aws", region="us-east-1", client=lambda *_: world.iam
        )
        with (
            patch.object(policy_run, "datetime", Clock),
            patch.object(actions, "datetime", Clock),
            patch.object(live_keys, "datetime", Clock),
            patch.object(work, "datetime", Clock),
            patch.object(credential_report, "fetch", fetch),
            patch.object(outcomes, "append", appended),
            patch.object(time, "sleep", sleep),
            patch.object(accounts, "own", lambda profile: access),
            patch.object(work, "ThreadPoolExecutor", _InlinePool),
            patch.object(iam.side_by_side, "__defaults__", (Inline,)),
        ):
            yield

    def new_process(self) -> None:
        self.session = soak_world.Session(self.iam)
        self.cached = None
        policy_run.reports.clear()
        InMemoryCache._InMemoryCache__shared_state.clear()

    # -- a case: one event, then a run of a policy

    def step(self) -> None:
        event = self.random.choice(EVENTS)
        self.event(event)
        if self.random.random() < 0.12:
            self.reactivate()
        self.faults()
        self.run(random_policy(self.random))
        if self.random.random() < 0.1:
            self.mended()

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
        subjects = [user.name for user in iam.users.values()] + [key.id for key in iam.all_keys()]
        for _ in range(random.randint(1, 3)):
            kind = random.random()
            if kind < 0.5:
                operation = random.choice(READS + CHANGES + CHANGES)
                subject = "*" if random.random() < 0.3 else random.choice(subjects)
                iam.faults[operation, subject] = random.choice(ERRORS)
            elif kind < 0.6:
                iam.faults[random.choice(WHOLE), "*"] = random.choice(ERRORS)
            elif kind < 0.7:
                iam.kill_at = (random.randint(1, 3), random.random() < 0.5)
            elif kind < 0.77:
                self.tear_at = random.randint(1, 5)
            elif kind < 0.84:
                self.room = random.randint(0, 4)
            else:
                during = random.choice(DURING)
                self.seen[f"{during.__name__} during a run"] += 1
                iam.hooks[random.randint(1, 15)] = functools.partial(self.interfere, during)

    def interfere(self, event: Any) -> None:
        event(self.iam)
        done = {key for key, _ in self.iam.touched}
        self.meanwhile.append((soak_oracle.look(self.iam), done))

    def run(self, policy: dict[str, Any], again: bool = True) -> None:
        """Run the policy as it is; check everything; then run it once more, in the same second."""
        iam, random = self.iam, self.random
        if again:
            iam.whole_second()
        if again and (random.random() < 0.7 or iam.now - self.cached_at > timedelta(minutes=15)):
            self.new_process()
        dryrun = random.random() < 0.05
        before, now, held = soak_oracle.look(iam), iam.now.replace(microsecond=0), self.cached
        self.meanwhile = []
        iam.begin()
        self.appends, self.no_room = 0, False
        for known, shared in list(policy_run.reports.items()):
            if isinstance(shared.report, credential_report.ReportError):
                del policy_run.reports[known]  # a failure is remembered for a while only
        error, run_id, users = self.execute(policy, dryrun)
        report = self.report_of(policy, held, now)
        self.story.append(
            f"{now:%F %T} run {json.dumps(policy)} faults={iam.faults} fired={iam.fired} "
            f"kill={iam.kill_at} tear={self.tear_at} room={self.room} -> {error!r} {iam.touched}"
        )
        said = soak_oracle.meant(policy["filters"], before, report, now)
        for later, done in self.meanwhile:
            # It may have read the account as it was before an event, or as it was after it.
            users_then = self.undone(before, later, done)
            said |= soak_oracle.meant(policy["filters"], users_then, report, now)
        self.check(policy, before, said, error, run_id, users, dryrun, report, now)
        if iam.report:
            iam.now = max(iam.now, iam.report.generated)
        iam.whole_second()
        iam.now += soak_world.SECOND
        self.check_history()
        clean = error is None and not iam.fired and not iam.hooked and not iam.killed
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
                keys |= {key.id: key for key in before[name].keys if key.id in done}
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
        threads = self.random.random() < 0.02 and not self.iam.kill_at and not self.tear_at
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
            return held
        if not self.iam.handed.broken:
            self.cached, self.cached_at = self.iam.handed, now
        return self.iam.handed

    # -- what must hold

    def check(
        self,
        policy: dict[str, Any],
        before: dict[str, soak_oracle.LiveUser],
        said: set[str],
        error: BaseException | None,
        run_id: str,
        users: list[dict[str, Any]],
        dryrun: bool,
        report: soak_world.Report | None,
        now: datetime,
    ) -> None:
        iam = self.iam
        touched = {key for key, _ in iam.touched}
        # A call whose answer is lost is made again.
        again = any(fault == "reset-late" for _, _, fault in iam.fired)
        assert len(touched) == len(iam.touched) or len(policy["actions"]) > 1 or again
        status = {key.id: key.status for user in before.values() for key in user.keys}
        owner = {key.id: user.name for user in before.values() for key in user.keys}

        # Rule 1 and 7: never another key, and each in the state that the action is for.
        assert touched <= said, f"wrong keys {touched - said}"
        assert not iam.active_deleted
        if dryrun:
            assert not touched
        for key, what in iam.touched:
            wanted = {"Inactive": "disable-access-key", "deleted": "delete-access-key"}[what]
            assert wanted in policy["actions"]
            assert iam.hooked or status[key] == ("Active" if what == "Inactive" else "Inactive")

        # Nothing of users that couldn't be read whole.
        hidden = {
            owner.get(subject, subject)
            for operation, subject, fault in iam.fired
            if operation in READS
        }
        if not iam.hooked:
            in_action = any(operation in CHANGES for operation, _, _ in iam.fired)
            assert in_action or not {owner[key] for key in touched} & hidden

        stopped = self.stop_expected(policy, report, now)
        if stopped and policy["source"] == "credential-report":
            assert error is not None or iam.killed
        if stopped:
            assert not touched
        lines = self.lines(outcomes.FILE, run_id)
        # What couldn't be written there is in the other file.
        both = lines + self.lines(outcomes.INTENTS_FILE, run_id)
        lines = [line for line in both if line["outcome"] != "intended"]
        intents = [line for line in both if line["outcome"] == "intended"]
        named = {line["access_key_id"] for line in lines} - {None}
        intended = {line["access_key_id"] for line in intents}
        # What was touched can be found again, whatever happened afterwards.
        assert touched <= intended
        self.note(lines, intents, run_id)
        if iam.killed:
            self.seen["killed"] += 1
            return

        # Rule 3: every key an outcome, and the run fails exactly if something failed.
        bad = {line["outcome"] for line in lines} & {"denied", "failed", "unknown"}
        faults = [
            fault
            for operation, _, fault in iam.fired
            if (fault != "reset-late" or operation not in CHANGES)
            # Nobody needs a new report while there is one.
            and (operation != "GenerateCredentialReport" or iam.handed is None)
        ]
        fails = bool(faults or bad or self.no_room or stopped)
        # Whose deed it is can't be told where an answer is lost and somebody else did the same.
        beside = iam.hooked and any(
            operation in CHANGES and fault in ("reset", "ServiceFailure")
            for operation, _, fault in iam.fired
        )
        if not beside and not (stopped and policy["source"] == "describe"):
            assert (error is not None) == fails, (faults, bad, self.no_room, stopped)
        assert (
            error is None
            or isinstance(error, PolicyExecutionError)
            or (
                policy["source"] == "describe"
                and any(operation in ("GetUser", "ListUsers") for operation, _, _ in iam.fired)
            )
        ), repr(error)
        assert error is None or "\n" not in str(error)
        self.seen["failed runs" if fails else "good runs"] += 1
        if self.no_room:
            assert set(iam.touched) == self.touched_by_then, "touched what can't be recorded"
            return
        assert touched <= named
        for user in users:
            if any(one["filter"] == "stale-access-key" for one in user.get("c7n:keyrot", ())):
                told = [line for line in lines if line["user"] == user["UserName"]]
                assert dryrun or told, "a matched user without an outcome"
        if dryrun or stopped or iam.hooked or self.whole_run_lost(policy):
            return
        acts = {"Active": "disable-access-key", "Inactive": "delete-access-key"}
        expected = {
            key
            for key in said
            if acts[status[key]] in policy["actions"] and owner[key] not in hidden
        }
        if not any(operation in CHANGES for operation, _, _ in iam.fired):
            assert expected <= touched, f"forgotten: {expected - touched}"
        for key in expected:
            told = [
                line["outcome"]
                for line in lines
                if line["access_key_id"] == key and line["action"] == acts[status[key]]
            ]
            assert told == [self.expected_outcome(key, status[key])]
        self.seen["keys acted on"] += len(touched)

    def expected_outcome(self, key: str, status: str) -> str:
        operation = "UpdateAccessKey" if status == "Active" else "DeleteAccessKey"
        fault = self.iam.faults.get((operation, key)) or self.iam.faults.get((operation, "*"))
        if fault in (None, "reset-late"):
            return "disabled" if status == "Active" else "deleted"
        if fault in ("reset", "ServiceFailure"):
            return "unknown"
        return "denied" if fault == "AccessDenied" else "failed"

    def whole_run_lost(self, policy: dict[str, Any]) -> bool:
        """Stock's own source dies of the first user that it can't read."""
        of_stock = {"ListUsers", "GetUser"} if policy["source"] == "describe" else set()
        lost = of_stock | {"GetCredentialReport"}
        lost |= {"GenerateCredentialReport"} if self.iam.handed is None else set()
        return any(operation in lost for operation, _, _ in self.iam.fired)

    def stop_expected(
        self, policy: dict[str, Any], report: soak_world.Report | None, now: datetime
    ) -> bool:
        if report is None or report.broken:
            return True
        return (now - report.generated) / timedelta(hours=1) > max_age(policy)

    def lines(self, name: str, run_id: str | None = None) -> list[dict[str, Any]]:
        """The lines of a file; all but those that a kill cut in half are whole and right."""
        path = self.folder / POLICY / name
        found, torn = [], 0
        for text in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                line = json.loads(text)
            except ValueError:
                torn += 1
                continue
            assert line.keys() == NAMES
            assert line["outcome"] in OUTCOMES or (
                name == outcomes.INTENTS_FILE and line["outcome"] == "intended"
            )
            assert line["account_id"] == ACCOUNT
            assert datetime.fromisoformat(line["time"]).tzinfo
            assert line["policy"] == POLICY
            assert line["slot"] in (1, 2)
            found.append(line)
        assert torn <= self.torn
        return [line for line in found if run_id in (None, line["run"])]

    # -- the way back

    def note(self, lines: list[dict[str, Any]], intents: list[dict[str, Any]], run_id: str) -> None:
        """What a run's own files say of keys, as far as they can be known to be uncertain."""
        told = {(line["action"], line["access_key_id"]) for line in lines}
        for line in intents:
            key = self.iam.find(line["access_key_id"])
            if key and (line["action"], key.id) not in told:
                key.unsure = True
        for line in lines:
            key, what = self.iam.find(line["access_key_id"]), line["outcome"]
            if key is None:
                continue
            if what == "disabled":
                key.unsure, key.unseen = False, key.by != "tool"
            elif what in ("denied", "failed", "unknown") and line["action"] != DISABLE:
                continue  # it was inactive; whose work that is, is as unknown as before
            elif what == "unknown":
                key.unsure = True
            elif what in ("denied", "failed", "reactivated", "gone"):
                key.unsure = key.unseen = False
                self.was_active.add(key.id)

    def keys_by_history(self) -> list[Key]:
        paths = [self.folder / POLICY / name for name in (outcomes.FILE, outcomes.INTENTS_FILE)]
        return history(files.read(path for path in paths if path.exists()))

    def claimed_by_history(self) -> tuple[set[str], set[str]]:
        """The keys that reactivate takes for the tool's work, and those of which it can't tell."""
        keys = self.keys_by_history()
        claimed = {key.id for key in keys if key.ours}
        doubted = {key.id for key in keys if key.doubt}
        assert not claimed & doubted
        unsure = {key.id for key in self.iam.all_keys() if key.unsure}
        alive = {key.id for key in self.iam.all_keys()}
        assert doubted & alive <= self.interrupted | unsure | self.was_active
        return claimed, doubted

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
        """`c7n-keyrot reactivate --yes`, with or without faults."""
        iam, random = self.iam, self.random
        if not (self.folder / POLICY / outcomes.FILE).exists():
            return
        iam.heal()
        iam.whole_second()
        self.room = self.tear_at = None
        chance = random.random()
        if chance < 0.3:
            operation = random.choice(["ListAccessKeys", "UpdateAccessKey", "GetAccessKeyLastUsed"])
            iam.faults[operation, "*"] = random.choice(ERRORS)
        elif chance < 0.45:
            iam.kill_at = (random.randint(1, 2), random.random() < 0.5)
        claimed, doubted = self.claimed_by_history()
        mine = {key.id: key.by == "tool" or key.unseen for key in iam.all_keys()}
        off = {key.id for key in iam.all_keys() if not key.active}
        left = doubted & off | self.may_lag()
        iam.begin()
        code, text = self.command()
        self.story.append(
            f"{iam.now:%F %T} reactivate faults={iam.faults} kill={iam.kill_at} -> {code} "
            f"{iam.touched}"
        )
        fired = [fault for fault in iam.fired if fault[2] != "missing"]
        for key, what in iam.touched:
            assert what == "Active"
            assert key in claimed & off
            assert mine[key]
            iam.find(key).unseen = iam.find(key).unsure = False
        run_ids = [line["run"] for line in self.lines(outcomes.FILE)]
        last = [line for line in self.lines(outcomes.FILE) if line["run"] == run_ids[-1]]
        self.interrupted |= {o["access_key_id"] for o in last if o["outcome"] == "unknown"}
        if code is not None:
            # Of a lost answer it finds out what it did.
            bad = [fault for fault in fired if fault[2] != "reset-late"] or left
            if {operation for operation, _, _ in fired} != {"GetAccessKeyLastUsed"}:
                assert (code != 0) == bool(bad or self.lost), text
        if not fired and code is not None:
            assert {key for key, _ in iam.touched} == claimed & off, text
            iam.heal()
            iam.begin()
            code, text = self.command()
            assert (code, iam.touched) == (int(bool(left or self.lost)), []), text
        self.check_history()
        self.seen["reactivate"] += 1
        self.seen["left in doubt"] += len(doubted & off)
        iam.heal()
        iam.whole_second()
        iam.now += soak_world.SECOND

    def may_lag(self) -> set[str]:
        """Active keys that the tool switched off so lately that their listing may be behind."""
        on = {key.id for key in self.iam.all_keys() if key.active}
        return {
            key.id
            for key in self.keys_by_history()
            if (key.ours or key.doubt) and key.id in on and key.may_lag(self.iam.now)
        }

    def command(self) -> tuple[int | None, str]:
        """Run it: (its exit code, what it says); no code if it was killed."""
        args = argparse.Namespace(
            dir=str(self.folder), user=[], key=[], yes=True, profile=None, accounts=None
        )
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                return reactivate.run(args), out.getvalue()
            except Killed as killed:
                self.interrupted.update(killed.args[:1])
                return None, out.getvalue()

    # -- in the end nothing is forgotten

    def mended(self) -> None:
        """All faults are over and a new report is there: a run leaves no right key behind."""
        iam = self.iam
        iam.heal()
        self.room = self.tear_at = None
        iam.actor = "hand"
        iam.next_report = "good"
        iam.make_report()
        self.new_process()
        iam.begin()
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
        }
        error, _, _ = self.execute(policy, dryrun=False)
        self.story.append(f"{now:%F %T} mended run {json.dumps(policy)} {iam.touched}")
        assert error is None
        assert {key for key, _ in iam.touched} == right
        self.cached, self.cached_at = iam.handed, now
        self.check_history()
        iam.now = max(iam.now, iam.report.generated)
        iam.whole_second()
        iam.now += DAY


class _InlinePool(Inline):
    def map(self, function: Any, items: Any) -> Iterator[Any]:
        return iter([function(item) for item in items])

    def shutdown(self, **_: Any) -> None:
        """All has been done already."""


class Play:
    """A world in a folder of its own, with the package's surroundings patched while it lasts."""

    def __init__(self, random: Random) -> None:
        self.random, self.stack = random, contextlib.ExitStack()

    def __enter__(self) -> World:
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        self.stack.callback(logging.disable, level)
        folder = Path(tempfile.mkdtemp(prefix="keyrot-soak-"))
        self.stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self.stack.callback(reset_session_cache)
        self.world = World(self.random, folder)
        self.stack.callback(self.world.new_process)
        self.stack.enter_context(self.world.patched())
        self.world.new_process()
        return self.world

    def __exit__(self, *exception: Any) -> None:
        self.stack.close()


def play(seed: int, cases: int) -> Counter[str]:
    """One account, so many cases; an error tells the seed and the account's story."""
    with Play(Random(seed)) as world:
        for case in range(cases):
            try:
                world.step()
            except Exception as error:
                story = "\n".join(world.story[-8:])
                raise AssertionError(f"seed {seed}, case {case}: {error}\n{story}") from error
    return world.seen
