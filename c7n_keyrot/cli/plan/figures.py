# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a dry run would do to each key, over all accounts, and which accounts it didn't cover."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from c7n_keyrot.cli import acting
from c7n_keyrot.core.outcomes import Action
from c7n_keyrot.core.records import KeyRecord, NotMatched, RunSummary, Why
from c7n_keyrot.core.rotation import Verdict
from c7n_keyrot.core.text import counted, listed, utc
from c7n_keyrot.core.usage_words import sentence
from c7n_keyrot.evidence.accounts import Account
from c7n_keyrot.evidence.contracts import User
from c7n_keyrot.evidence.gather import PolicyFolder, begun_of, latest

DISABLE, DELETE, NOTIFY, LEAVE = "disable", "delete", "notify", "leave"
UNKNOWN = "not known"
STOPS = "stops at its max-resources, and does nothing"
LIMIT = "ResourceLimitExceeded"  # the metric that Custodian leaves
# A key is skipped for one reason by each policy; the most telling one is shown.
RANKS = {why: rank for rank, why in enumerate(Why)}
# Whose reason counts first: a policy that takes keys, one that notifies, and one about doubts,
# which selects no key that is clear.
TAKES, TELLS, DOUBTS = range(3)
# The verdicts of the keys that a filter selects.
VERDICTS = {
    "stale-access-key": (Verdict.STALE,),
    "expiring-access-key": (Verdict.EXPIRING,),
    "unclear-access-key": (Verdict.STALE, Verdict.UNKNOWN),
}


@dataclass(frozen=True)
class Left:
    """A key that a policy looked at and leaves.

    :ivar policy: its name.
    :ivar status: of the keys that it looks for.
    """

    key: NotMatched
    policy: str
    kind: int
    status: str

    @property
    def rank(self) -> tuple[int, int]:
        """How little it tells: the lowest one is shown."""
        return self.kind, RANKS[self.key.why]

    @property
    def reason(self) -> str:
        if self.key.why is not Why.OTHER_FILTER:
            why = self.key.why.text
        elif self.kind == DOUBTS:
            why = "no policy of this dry run selects it"
        else:
            why = f"ruled out by another filter of {self.policy}"
        return f"{self.key.verdict.value}; {why}"


@dataclass
class PlannedKey:
    """A slot of a user, and what all policies together would do to the key in it.

    :ivar slot: None for a user who gets a notice, but about no key.
    :ivar usage: who used it lately, in one sentence; "" where nobody asked.
    :ivar acts: ``disable`` and ``delete``, as far as a policy would.
    :ivar told: whether a notice would go out about it.
    :ivar uncertain: why a policy that acts can't take it: which live key it is isn't known, or the
        run works with it itself.
    :ivar left: why policies leave it; the lowest rank counts.
    :ivar not_known: why it isn't known what policies would do to it, by ``TAKES`` and ``TELLS``.
    :ivar stopped: which policy would select it, and stops at its ``max-resources``; "" if none.
    """

    user: str
    slot: int | None
    key_id: str | None = None
    age_days: float | None = None
    usage: str = ""
    acts: set[str] = field(default_factory=set)
    told: bool = False
    uncertain: str = ""
    left: list[Left] = field(default_factory=list)
    not_known: dict[int, str] = field(default_factory=dict)
    stopped: str = ""

    @property
    def fate(self) -> str:
        """What would happen to it: the gravest of all."""
        if self.acts:
            return DELETE if DELETE in self.acts else DISABLE
        if TAKES in self.not_known:
            return UNKNOWN
        if self.told and not self.uncertain:
            return NOTIFY
        return UNKNOWN if self.not_known else LEAVE

    @property
    def reason(self) -> str:
        """Why nothing more is done to it."""
        return self._reason[0]

    @property
    def why(self) -> str:
        """The reason, and until when it holds."""
        text, until = self._reason
        return text + (f" until {until}" if until else "")

    @property
    def _reason(self) -> tuple[str, str | None]:
        fate = self.fate
        if fate == UNKNOWN:
            return self.not_known[min(self.not_known)], None
        if self.stopped or self.uncertain:
            return self.stopped or self.uncertain, None
        # Who notifies about a key has selected it: only why it isn't taken is left to say.
        left = [one for one in self.left if fate != NOTIFY or one.kind == TAKES]
        if not left:
            return "", None
        first = min(left, key=lambda one: one.rank)
        return first.reason, first.key.exempt_until


@dataclass
class AccountPlan:
    """What the dry run would do in an account.

    :ivar label: its name and id.
    :ivar problems: why it isn't covered, each in words; none if it is.
    :ivar summaries: of its policies that are in the plan.
    :ivar slots: in which a policy of it would disable keys, if there were any.
    """

    label: str
    keys: dict[tuple[str, int | None], PlannedKey] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    summaries: list[RunSummary] = field(default_factory=list)
    slots: set[int] = field(default_factory=set)

    def key(self, user: str, slot: int | None) -> PlannedKey:
        return self.keys.setdefault((user, slot), PlannedKey(user, slot))

    def of(self, fate: str) -> list[PlannedKey]:
        return [key for key in self.keys.values() if key.fate == fate]

    @property
    def told(self) -> int:
        return sum(key.told for key in self.keys.values())


@dataclass(frozen=True)
class Plan:
    """What the dry run would do in all accounts together.

    :ivar begun: when the dry run began.
    :ivar oldest: when AWS made the oldest credential report that it used; None if it used none.
    :ivar others: other actions than the pack's and ``notify``, which leave keys as they are.
    :ivar uncounted: policies that may disable or delete keys that aren't in these figures: by name,
        and why, the accounts.
    """

    accounts: list[AccountPlan]
    begun: datetime
    oldest: datetime | None
    others: list[str]
    uncounted: dict[tuple[str, str], list[str]]

    def keys(self, fate: str) -> list[tuple[AccountPlan, PlannedKey]]:
        return [(account, key) for account in self.accounts for key in account.of(fate)]

    @property
    def active_keys(self) -> int:
        """Active keys in the slots in which policies disable keys, of all covered accounts."""
        slots = frozenset[int]().union(*(account.slots for account in self.accounts))
        return sum(_active(account.summaries, slots) for account in self.accounts)

    @property
    def percent(self) -> float:
        """The share of the active keys that would be disabled."""
        disabled = len(self.keys(DISABLE))
        active = max(self.active_keys, disabled)
        return 100 * disabled / active if active else 0.0


def _active(summaries: Iterable[RunSummary], slots: Collection[int]) -> int:
    """Return the active keys of an account in these slots; too few rather than too many."""
    by_slots = {_slots(summary): summary.active_keys for summary in summaries}
    alone = sum(by_slots.get(frozenset((slot,)), 0) for slot in slots)
    return by_slots.get(frozenset(slots), 0) or alone


def _slots(summary: RunSummary) -> frozenset[int]:
    return frozenset(one["slot"] for one in summary.filters if "slot" in one)


def make(folders: Iterable[PolicyFolder], known: Sequence[Account]) -> Plan:
    """Return the plan that is in these folders.

    :param folders: what ``gather()`` found; at least one of a dry run. Those of other policies
        on IAM users may be among them.
    :param known: of accounts.yml; () if there is none, then those that left a folder count.
    """
    folders = list(folders)
    found = latest(one for one in folders if one.ours)
    begun = begun_of(found)
    accounts = {one.id or one.name: AccountPlan(str(one).removeprefix("account ")) for one in known}
    ran: dict[str, set[str]] = {place: set() for place in accounts}
    reports: list[str] = []
    others: dict[str, None] = {}
    uncounted: dict[tuple[str, str], list[str]] = {}
    unfinished: list[tuple[AccountPlan, PolicyFolder, str]] = []
    for one in latest(one for one in folders if not one.ours):
        others |= dict.fromkeys(_beside(one, uncounted))
    # An account whose policies all failed left nothing that says its id.
    ids = {one.account: one.account_id for one in found if one.account_id}
    for one in found:
        place = one.account_id or ids.get(one.account, one.account)
        account = accounts.setdefault(place, AccountPlan(_label(one)))
        ran.setdefault(place, set()).add(one.name)
        problem, reason = _problem(one, begun), acting.uncounted(one.policy) or _of_others(one)
        if reason:
            uncounted.setdefault((one.name, reason), []).append(account.label)
        if problem:
            account.problems.append(f"{one.name} {problem}")
            unfinished.append((account, one, problem))
        if problem or reason:
            continue
        others |= dict.fromkeys(_add(account, one))
        if one.summary:
            account.summaries.append(one.summary)
            if one.summary.report_generated:
                reports.append(one.summary.report_generated)
    for account, one, problem in unfinished:
        _doubt(account, one, problem)
    everywhere = {
        one.name for one in found if one.start and one.start >= begun and not _conditional(one)
    }
    for place, account in accounts.items():
        account.problems += _not_run(everywhere, ran[place])
    oldest = min(map(datetime.fromisoformat, reports), default=None)
    return Plan(list(accounts.values()), begun, oldest, list(others), uncounted)


def _beside(one: PolicyFolder, uncounted: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    """Yield the actions of a policy that isn't one of the pack, without its notices.

    :param uncounted: gets why its keys can't be counted, if so.
    """
    if reason := acting.uncounted(one.policy):
        uncounted.setdefault((one.name, reason), []).append(_label(one))
    yield from (name for name, _ in acting.actions(one.policy) if name != acting.NOTIFY)


def _not_run(everywhere: set[str], there: set[str]) -> Iterator[str]:
    """Yield which policies haven't run in an account: of those of all others, or any."""
    if not there:
        yield "no policy of the pack has run there"
    elif missing := sorted(everywhere - there):
        yield f"{listed(missing)} never ran there"


def _label(one: PolicyFolder) -> str:
    name, number = one.account, one.account_id
    return f"{name} ({number})" if name and number else name or number or "account not known"


def _conditional(one: PolicyFolder) -> bool:
    return bool(one.policy.get("conditions"))


def _problem(one: PolicyFolder, begun: datetime) -> str:
    """Return why a policy's folder doesn't say what it would do; "" if it does."""
    if not one.run or one.start is None:
        return "didn't finish: its role can't be taken, a call is denied, or it was stopped"
    if one.start < begun:
        return f"ran at {utc(one.start)}, but not in the last run, which began {utc(begun)}"
    if not one.dry_run:
        return f"ran at {utc(one.start)}, and not as a dry run"
    if LIMIT in one.metrics:
        users = counted(int(one.metrics[LIMIT]), "user")
        return f"{one.failure}: it selects {users}, and would do nothing to any of them"
    if one.failed:
        return one.failure
    if one.summary is None:
        return "left no summary of this run that can be read"
    if one.users and one.users_run != one.run:
        return "left the users of an earlier run only"
    selected = one.metrics.get("ResourceCount", 0)
    if len(one.users) != selected:
        return f"selected {counted(int(selected), 'user')}, of whom {len(one.users)} can be read"
    return ""


def _of_others(one: PolicyFolder) -> str:
    """Return why keys that a filter of Custodian's own selected can't be counted; "" if none is."""
    if any(name == "remove-keys" for name, _ in acting.actions(one.policy)) and any(
        user.matched.keys() - {record.access_key_id for record in user.records}
        for user in one.users
    ):
        return acting.OTHERS
    return ""


@dataclass
class _Acts:
    """What a policy's actions do to keys.

    :ivar takes: the status of the keys that each act takes; "" if it takes any.
    :ivar tells: whether it has a notice.
    :ivar others: the other actions, which leave keys as they are.
    """

    takes: dict[str, str] = field(default_factory=dict)
    tells: bool = False
    others: list[str] = field(default_factory=list)

    @property
    def silent(self) -> bool:
        """Whether its notices leave the run's own key out: those of a day, or of what is done."""
        return bool(self.takes) or "mark-for-op" in self.others


def _acts_of(policy: Mapping[str, Any]) -> _Acts:
    acts = _Acts()
    for name, options in acting.actions(policy):
        if name == Action.DISABLE.value:
            acts.takes[DISABLE] = "Active"
        elif name == Action.DELETE.value:
            acts.takes[DELETE] = "Inactive"
        elif name == "remove-keys":
            acts.takes[DISABLE if options.get("disable") else DELETE] = ""
        elif name == acting.NOTIFY:
            acts.tells = True
        else:
            acts.others.append(name)
    return acts


def _add(account: AccountPlan, one: PolicyFolder) -> list[str]:
    """Add what a policy would do to an account's keys; return the actions that aren't in it."""
    acts = _acts_of(one.policy)
    if DISABLE in acts.takes and one.summary:
        account.slots |= _slots(one.summary)
    not_matched = one.summary.not_matched if one.summary else []
    own = {(left.user, left.slot) for left in not_matched if left.why is Why.OWN}
    for user in one.users:
        for record in user.records:
            key = account.key(user.name, record.slot)
            _add_record(key, record, user, acts, (user.name, record.slot) in own)
        if not user.records:
            account.key(user.name, None).told |= acts.tells
    filters = one.summary.filters if one.summary else []
    kind = _kind(acts, filters)
    for left in not_matched:
        status = _status(filters, left.slot)
        account.key(left.user, left.slot).left.append(Left(left, one.name, kind, status))
    return acts.others


def _kind(acts: _Acts, filters: Sequence[Mapping[str, Any]]) -> int:
    """Return which of ``TAKES``, ``TELLS`` and ``DOUBTS`` a policy is."""
    if filters and all(found["filter"] == "unclear-access-key" for found in filters):
        return DOUBTS
    return TAKES if acts.takes else TELLS


def _status(filters: Iterable[Mapping[str, Any]], slot: int) -> str:
    """Return the status of the keys that a policy's filters look for in a slot."""
    found = (str(one["status"]) for one in filters if one.get("slot") == slot and "status" in one)
    return next(found, "Active")


def _doubt(account: AccountPlan, one: PolicyFolder, problem: str) -> None:
    """Note on the keys that others leave what a policy that didn't end well may do to them.

    A policy that can't say which keys it selects may select each that its filters look for.
    """
    acts = _acts_of(one.policy)
    if one.policy and not acts.takes and not acts.tells:
        return
    summary = one.summary
    filters = summary.filters if summary else _filters(one.policy)
    its = {(left.user, left.slot) for left in summary.not_matched} if summary else set()
    kind = TAKES if acts.takes or not one.policy else TELLS
    for key in account.keys.values():
        fits = any(_fits(filters, left) for left in key.left)
        if (key.user, key.slot) in its or not (fits or (not one.policy and key.left)):
            continue
        if LIMIT in one.metrics:
            key.stopped = f"{key.left[0].key.verdict.value}; {one.name} {STOPS}"
        else:
            key.not_known.setdefault(kind, f"{one.name} {problem}")


def _fits(filters: Iterable[Mapping[str, Any]], left: Left) -> bool:
    """Tell whether one of a policy's filters looks for a key that another policy leaves."""
    return any(
        left.key.verdict in VERDICTS.get(str(one.get("filter")), ())
        and one.get("slot", 2) == left.key.slot
        and one.get("status", "Active") == left.status
        for one in filters
    )


def _filters(policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return our filters that select, as summaries have them, by a policy's own text."""
    found: list[dict[str, Any]] = []
    waiting = policy.get("filters") or []
    waiting = list(waiting) if isinstance(waiting, list) else []
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            one = {"type": one}
        if not isinstance(one, dict):
            continue
        if one.get("type") in VERDICTS:
            found.append({**one, "filter": one["type"]})
        for block in ("and", "or"):
            if isinstance(one.get(block), list):
                waiting += one[block]
    return found


def _add_record(key: PlannedKey, record: KeyRecord, user: User, acts: _Acts, is_own: bool) -> None:
    """Add what a policy would do to a key by one of its records.

    :param is_own: whether the run works with the key itself.
    """
    key.key_id = key.key_id or record.access_key_id
    key.age_days = record.age_days if key.age_days is None else key.age_days
    key.usage = key.usage or sentence(record.usage)
    key.told |= acts.tells and not (is_own and acts.silent)
    status = user.matched.get(record.access_key_id or "")
    if record.filter != "stale-access-key" or not acts.takes:
        return
    if status is not None:
        key.acts |= {act for act, wanted in acts.takes.items() if wanted in ("", status)}
    elif is_own:
        key.uncertain = f"stale; {Why.OWN.text}"
    elif record.access_key_id is None:
        key.uncertain = f"not identified: {record.identified.text}"
