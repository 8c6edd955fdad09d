# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads output folders: what each policy of the pack found and did there. The one reader of them.

It reads Custodian's ``metadata.json`` and ``resources.json``, and our three data contracts.
Anybody may have written them: each field is checked, and what can't be read is a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.outcomes import Outcome, Result
from c7n_keyrot.core.records import KeyRecord, RunBegun, RunSummary
from c7n_keyrot.core.text import counted
from c7n_keyrot.evidence import population
from c7n_keyrot.evidence.accounts import Account
from c7n_keyrot.evidence.contracts import (
    User,
    instant_of,
    is_clean,
    metrics_of,
    read_begun,
    read_summary,
    read_user,
    shared,
)
from c7n_keyrot.evidence.files import (
    Damage,
    DamagedFileError,
    content,
    existing,
    failure,
    foreign,
    ids_of,
    last_error,
    last_run,
    lost_lines,
    mapping,
    owner,
    parsed,
    place,
    read_json,
    walk,
)
from c7n_keyrot.evidence.outcome_files import read_folder, read_notified

# A policy with one of these is one of the pack.
OUR_FILTERS = frozenset(
    (
        "stale-access-key",
        "expiring-access-key",
        "unclear-access-key",
        "rotation-exempt",
        "time-window",
    )
)
OUR_ACTIONS = frozenset(("disable-access-key", "delete-access-key", "post-key-finding"))
METADATA, RESOURCES, LOG = "metadata.json", "resources.json", "custodian-run.log"
# Bytes. The line of a summary has some 100 for each key that isn't matched.
LONGEST_SUMMARY = 32 << 20
# Clocks differ; what is further in the future isn't true.
AHEAD = timedelta(days=1)
Dated = TypeVar("Dated", RunBegun, RunSummary, Outcome)
NEVER = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class PolicyFolder:
    """What is left in the output folder of one policy. All times are UTC.

    :ivar path: the folder.
    :ivar account_id: 12 digits, or "" if nothing in the folder says it.
    :ivar account: the account's folder in a tree of c7n-org, which is its name; else "".
    :ivar region: as in the metadata, else the folder's in a tree of c7n-org.
    :ivar name: the policy's.
    :ivar policy: the policy as it ran last, out of the metadata; {} without it.
    :ivar run: Custodian's execution id of the last run with metadata; "" without it.
    :ivar start: when the newest run began; None if nothing says so.
    :ivar end: when it ended; None if it left no metadata: it was stopped, or goes on.
    :ivar dry_run: whether it was one.
    :ivar metrics: of it, by name.
    :ivar users: whom ``users_run`` selected: that run, or an earlier one if that run ended before
        it could say whom.
    :ivar summaries: of all runs into the folder, in their order.
    :ivar above: the folder that OUTPUT_DIR is in; paths that are shown begin below it.
    :ivar populations: the files of all keys of a credential report that are there.
    :ivar outcomes: of all runs into the folder, and of ``c7n-keyrot reactivate``; an intent without
        an outcome is among them as ``intended``.
    :ivar notified: which keys notices named, of all runs into the folder.
    """

    path: Path
    account_id: str
    account: str
    region: str
    name: str
    policy: Mapping[str, Any] = field(default_factory=dict, repr=False)
    run: str = ""
    dry_run: bool = False
    start: datetime | None = None
    end: datetime | None = None
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)
    users: tuple[User, ...] = field(default=(), repr=False)
    users_run: str = ""
    summaries: tuple[RunSummary, ...] = field(default=(), repr=False)
    outcomes: tuple[Outcome, ...] = field(default=(), repr=False)
    populations: tuple[Path, ...] = field(default=(), repr=False)
    above: Path = field(default=Path(), repr=False)
    notified: tuple[Outcome, ...] = field(default=(), repr=False)

    @property
    def ours(self) -> bool:
        """Whether a policy of the pack has run into it, by what is there."""
        return not self.policy or is_ours(self.policy) or bool(self.summaries)

    @property
    def records(self) -> Iterator[tuple[User, KeyRecord]]:
        """Each record of ``users_run``, with its user."""
        return ((user, record) for user in self.users for record in user.records)

    @property
    def failed(self) -> bool:
        """Whether the last run ended with an error, or before it could leave its metadata."""
        if self.end is None or self.metrics.get("PolicyException"):
            return True
        mine = [one for one in self.summaries if one.account_id == self.account_id]
        return bool(mine) and mine[-1].run != self.run and outcomes.instant(mine[-1]) > self.end

    @property
    def failure(self) -> str:
        """How the last run ended, if it ``failed``; to be read after the policy's name."""
        return failure(self.path, self.start, self.end, self.metrics)

    @property
    def is_stopped(self) -> bool:
        """Whether the newest run has begun, and didn't end: it was stopped, or goes on."""
        return self.start is not None and self.end is None

    @property
    def error(self) -> str:
        """The last error in the log of the last run; "" if there is none, or no log."""
        if self.start is None or self.end is None:
            return ""
        return last_error(self.path, self.start.timestamp(), self.end.timestamp())

    @property
    def resources(self) -> list[dict[str, Any]]:
        """What the last run selected, as it stands in the file; [] if that can't be read."""
        for file in (self.path / RESOURCES, self.path / f"{RESOURCES}.gz"):
            with suppress(DamagedFileError):
                found = read_json(file)
                return [mapping(one) for one in found] if isinstance(found, list) else []
        return []

    @cached_property
    def summary(self) -> RunSummary | None:
        """The summary of the last run with metadata; None if it left none."""
        return next((one for one in reversed(self.summaries) if one.run == self.run), None)


def gather(
    folders: Sequence[str],
    damage: list[Damage],
    accounts: Iterable[Account] = (),
    now: datetime | None = None,
    others: Callable[[Mapping[str, Any]], bool] = lambda _: False,
) -> Iterator[PolicyFolder]:
    """Yield the folder of each policy of the pack in output folders, in the order of their paths.

    A folder without metadata doesn't say which filters the policy has. It comes last, and only if
    its name is that of a policy of the pack, or if no folder has metadata; else a warning names it.

    :param folders: each the ``-s`` of custodian run or c7n-org run, a folder in one, or a copy of
        a bucket.
    :param damage: gets all that can't be read, or that contradicts itself.
    :param accounts: of accounts.yml; they say which id a folder of c7n-org is for.
    :param now: the instant (UTC) after which nothing can have happened.
    :param others: tells which policies that aren't ours are wanted, too.
    :raises CommandError: one of the folders isn't there.
    """
    seen, names = set[Path](), set[str]()
    unnamed: list[tuple[PolicyFolder, _Problem]] = []
    for root in map(existing, folders):
        problem = _Problem(damage, root)
        reader = _Reader(problem, accounts, now or datetime.now(timezone.utc))
        for path, inner, files in walk(root, problem):
            real = path.resolve()
            if real in seen or not any(map(_is_left_by_a_policy, files)):
                continue
            seen.add(real)
            found = reader.folder(root, path, files, inner)
            if found.policy:
                if found.ours:
                    names.add(found.name)
                if found.ours or others(found.policy):
                    yield found
            elif found.summaries or found.outcomes or found.is_stopped or others({}):
                yield found
            elif any(name.startswith(LOG) for name in files):
                unnamed.append((found, problem))
    yield from _with_a_log_only(unnamed, names)


def _with_a_log_only(
    unnamed: Iterable[tuple[PolicyFolder, _Problem]], names: Collection[str]
) -> Iterator[PolicyFolder]:
    """Yield the folders that may be of policies of the pack; a warning names each of the others.

    :param names: of the policies of the pack in the folders that have metadata.
    """
    for found, problem in unnamed:
        if found.name in names or not names:
            yield found
        else:
            problem.of(
                found.path,
                "its policy left a log only: it was stopped, or runs; if it is one of the pack, "
                "its keys are missing here",
            )


def latest(folders: Iterable[PolicyFolder]) -> list[PolicyFolder]:
    """Return the last run of each policy in each account and region."""
    found: dict[tuple[str, str, str], PolicyFolder] = {}
    for one in sorted(folders, key=lambda one: one.start or NEVER):
        found[one.account_id or one.account, one.region, one.name] = one
    return list(found.values())


def begun_of(folders: Iterable[PolicyFolder]) -> datetime:
    """Return when the last run began that left some of these folders."""
    return last_run((one.start, one.end or one.start) for one in folders if one.start)


def is_ours(policy: Mapping[str, Any]) -> bool:
    """Tell whether a policy has one of our filters or actions."""
    found = policy.get("filters"), policy.get("actions")
    left: list[Any] = [one for some in found if isinstance(some, list) for one in some]
    while left:
        element = left.pop()
        if isinstance(element, dict):
            for block in ("and", "or", "not"):
                if isinstance(element.get(block), list):
                    left += element[block]
            element = element.get("type")
        if isinstance(element, str) and element in OUR_FILTERS | OUR_ACTIONS:
            return True
    return False


def _is_left_by_a_policy(name: str) -> bool:
    name = name.removesuffix(".gz")
    return name in (METADATA, LOG) or (name.startswith("keyrot-") and name.endswith(".jsonl"))


class _Problem:
    """Adds to a list what can't be read, with places that start at OUTPUT_DIR."""

    def __init__(self, damage: list[Damage], root: Path) -> None:
        self.damage, self.above = damage, "" if root.parent == Path() else f"{root.parent}/"

    def __call__(self, damage: Damage) -> None:
        self.damage.append(replace(damage, above=self.above))

    def of(self, path: Path, what: str, loses: bool = True) -> None:
        self(Damage(path, what, loses=loses))


class _Reader:
    """Reads one folder after the other.

    :param problem: is called with all that isn't read.
    """

    def __init__(self, problem: _Problem, accounts: Iterable[Account], now: datetime) -> None:
        self.problem, self.latest = problem, now + AHEAD
        self.ids = ids_of(accounts)

    def folder(
        self, root: Path, path: Path, files: Sequence[str], inner: Sequence[str] = ()
    ) -> PolicyFolder:
        """Return what a folder holds.

        :param root: OUTPUT_DIR, below which the folder lies.
        :param files: the names of its files, and ``inner`` of its folders.
        """
        mine = owner(root, path, self.ids)
        data = self._metadata(path, files, mine)
        execution, config = mapping(data.get("execution")), mapping(data.get("config"))
        policy, run = mapping(data.get("policy")), execution.get("id", "")
        account, region, name = place(path.relative_to(root))
        summaries = self._summaries(path, files, mine)
        start, end = instant_of(execution.get("start")), instant_of(execution.get("end_time"))
        metrics, dry_run = metrics_of(data.get("metrics")), config.get("dryrun") is True
        begun = max(self._begun(path, files, mine), key=outcomes.instant, default=None)
        if begun and begun.run != run and (end is None or outcomes.instant(begun) > end):
            start, end, metrics, dry_run = outcomes.instant(begun), None, {}, begun.dry_run
        read = read_folder(path, (*files, *inner), mine, self.problem)
        done = _ended([line for one in read for line in self._not_ahead(one.path, one.outcomes)])
        lines = [one.account_id for one in reversed(summaries)]
        lines += [one.account_id for one in reversed(done)]
        lines += [begun.account_id] if begun and begun.account_id else []
        account_id = mine or config.get("account_id") or next(iter(lines), "")
        if others := sorted({one for one in lines if one != account_id}):
            what = f"it is of account {account_id}, but has lines of {', '.join(others)}"
            self.problem.of(path, what)
        if policy and (problem := shared(str(policy["name"]), run, summaries)):
            self.problem.of(path, problem)
        runs = {run, *(one.run for one in summaries)}
        users = self._users(path, files, runs, account_id) if is_ours(policy) else ()
        return PolicyFolder(
            path=path,
            account_id=account_id,
            account=account,
            region=config.get("region") or region,
            name=policy.get("name") or name or root.name,
            policy=policy,
            run=run,
            dry_run=dry_run,
            start=start,
            end=end,
            metrics=metrics,
            users=users,
            users_run=next((r.run for user in users for r in user.records), run),
            summaries=tuple(summaries),
            outcomes=tuple(done),
            above=root.parent,
            populations=tuple(path / one for one in files if population.is_one(one)),
            notified=tuple(self._not_ahead(path, read_notified(path, files, mine, self.problem))),
        )

    def _metadata(self, path: Path, files: Sequence[str], mine: str) -> dict[str, Any]:
        """Return the metadata, checked as far as it is used; {} if it isn't usable.

        :param mine: the account that the folder belongs to; "" if that isn't known.
        """
        for name in (METADATA, f"{METADATA}.gz"):
            if name in files:
                try:
                    data = mapping(read_json(path / name))
                    self._check(data)
                    found = mapping(data.get("config")).get("account_id")
                    if mine and found and found != mine:
                        self.problem.of(path / name, foreign(found, mine), loses=False)
                        continue
                except DamagedFileError as error:
                    self.problem.of(path / name, f"{error}; it isn't used")
                    continue
                return data
        return {}

    def _check(self, data: Mapping[str, Any]) -> None:
        execution, config = mapping(data.get("execution")), mapping(data.get("config"))
        start, end = instant_of(execution.get("start")), instant_of(execution.get("end_time"))
        texts = (
            execution.get("id"),
            config.get("region") or "",
            mapping(data.get("policy")).get("name"),
        )
        if not all(isinstance(text, str) and is_clean(text) for text in texts):
            raise DamagedFileError("it isn't Custodian's metadata of a run")
        if start is None or end is None or end < start:
            raise DamagedFileError("it doesn't say when the run was")
        if end > self.latest:
            raise DamagedFileError("it is of a run in the future")
        account_id = config.get("account_id")
        if account_id and not (
            isinstance(account_id, str) and outcomes.ACCOUNT_ID.fullmatch(account_id)
        ):
            raise DamagedFileError("its account_id isn't an account's")

    def _begun(self, path: Path, files: Sequence[str], mine: str) -> Iterator[RunBegun]:
        """Yield the last line of each file that says when runs of the policy began.

        Those before it are of runs that nobody asks about any more, and there may be hundreds.
        """
        for name in files:
            if not name.startswith("keyrot-begun") or not name.endswith((".jsonl", ".jsonl.gz")):
                continue
            file = path / name
            try:
                lines = content(file).splitlines()
            except OSError as error:
                self.problem.of(file, f"it can't be read: {error.strerror}")
                continue
            except DamagedFileError as error:
                self.problem.of(file, str(error))
                continue
            if lines:
                yield from self._last_begun(file, lines, mine)

    def _last_begun(self, file: Path, lines: Sequence[bytes], mine: str) -> Iterator[RunBegun]:
        for number, line in reversed(list(enumerate(lines, 1))):
            try:
                begun = read_begun(line)
            except ValueError:
                for damage in lost_lines(file, [number], {}, mine):
                    self.problem(damage)
                continue
            if mine and begun.account_id not in ("", mine):
                for damage in lost_lines(file, [], {begun.account_id: 1}, mine):
                    self.problem(damage)
                continue
            found = self._not_ahead(file, [begun])
            yield from found
            if found:
                return

    def _summaries(self, path: Path, files: Sequence[str], mine: str) -> list[RunSummary]:
        """Return the lines of all summaries, in the order of their times."""
        found = self._lines(path, files, mine, "keyrot-summary", read_summary)
        return sorted(found, key=outcomes.instant)

    def _lines(
        self,
        path: Path,
        files: Sequence[str],
        mine: str,
        begins: str,
        parse: Callable[[bytes], Dated],
    ) -> list[Dated]:
        """Return the lines of one file, or in a bucket's copy of one for each run.

        :param begins: what the names of the files begin with.
        """
        found: list[Dated] = []
        for name in files:
            if not name.startswith(begins) or not name.endswith((".jsonl", ".jsonl.gz")):
                continue
            file, damaged, others = path / name, list[int](), Counter[str]()
            read: list[Dated] = []
            try:
                for number, line in enumerate(parsed(file, parse, LONGEST_SUMMARY), 1):
                    if isinstance(line, bytes):
                        damaged.append(number)
                    elif mine and line.account_id not in ("", mine):
                        others[line.account_id] += 1
                    else:
                        read.append(line)
            except DamagedFileError as error:
                self.problem.of(file, str(error))
            except OSError as error:
                self.problem.of(file, f"it can't be read: {error.strerror}")
            for damage in lost_lines(file, damaged, others, mine):
                self.problem(damage)
            found += self._not_ahead(file, read)
        return found

    def _not_ahead(self, file: Path, lines: Iterable[Dated]) -> list[Dated]:
        """Return the lines that aren't of the future."""
        lines = list(lines)
        found = [line for line in lines if outcomes.instant(line) <= self.latest]
        if len(found) < len(lines):
            what = f"{counted(len(lines) - len(found), 'line')} dated in the future, not used"
            self.problem.of(file, what, loses=False)
        return found

    def _users(
        self, path: Path, files: Sequence[str], runs: set[str], account_id: str
    ) -> tuple[User, ...]:
        """Return the users whom the last of the runs selected that could say so."""
        file = next((path / name for name in (RESOURCES, f"{RESOURCES}.gz") if name in files), None)
        if file is None:
            return ()
        try:
            data = read_json(file)
            if not isinstance(data, list):
                raise DamagedFileError("it isn't a list of users")
        except DamagedFileError as error:
            self.problem.of(file, str(error))
            return ()
        users, damaged, others = [], 0, 0
        for value in data:
            try:
                user = read_user(value)
            except ValueError:
                damaged += 1
                continue
            if not runs.issuperset(record.run for record in user.records):
                others += 1
            elif user.arn.split(":")[4:5] != [account_id]:
                damaged += 1
            else:
                users.append(user)
        if damaged:
            what = f"{counted(damaged, 'user')} can't be read, or are not of account {account_id}"
            self.problem.of(file, what)
        if others:
            what = f"{counted(others, 'user')} of a run that left nothing else, not used"
            self.problem.of(file, what)
        return tuple(users)


def _ended(both: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes, and the intents that have none, in the order of their times.

    An outcome that couldn't be written to its own file is in the file of intents.
    """
    ended = {line.operation for line in both if line.outcome != Result.INTENDED}
    lines = [
        line for line in both if line.outcome != Result.INTENDED or line.operation not in ended
    ]
    # Of one instant an intent without an end is the later one.
    return sorted(lines, key=lambda one: (outcomes.instant(one), one.outcome == Result.INTENDED))
