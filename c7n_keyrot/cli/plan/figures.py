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
from c7n_keyrot.core.text import counted, listed, utc
from c7n_keyrot.core.usage_words import sentence
from c7n_keyrot.evidence.accounts import Account
from c7n_keyrot.evidence.contracts import User
from c7n_keyrot.evidence.gather import PolicyFolder, begun_of, latest

DISABLE, DELETE, NOTIFY, LEAVE = "disable", "delete", "notify", "leave"
# A key is skipped for one reason by each policy; the most telling one is shown.
RANKS = {why: rank for rank, why in enumerate(Why)}


@dataclass
class PlannedKey:
    """A slot of a user, and what all policies together would do to the key in it.

    :ivar slot: None for a user who gets a notice, but about no key.
    :ivar usage: who used it lately, in one sentence; "" where nobody asked.
    :ivar acts: ``disable`` and ``delete``, as far as a policy would.
    :ivar told: whether a notice would go out about it.
    :ivar uncertain: why a policy that acts can't take it: which live key it is isn't known, or the
        run works with it itself.
    :ivar left: why policies leave it, by their rank; the first counts.
    """

    user: str
    slot: int | None
    key_id: str | None = None
    age_days: float | None = None
    usage: str = ""
    acts: set[str] = field(default_factory=set)
    told: bool = False
    uncertain: str = ""
    left: dict[int, NotMatched] = field(default_factory=dict)

    @property
    def fate(self) -> str:
        """What would happen to it: the gravest of all."""
        if self.acts:
            return DELETE if DELETE in self.acts else DISABLE
        return NOTIFY if self.told and not self.uncertain else LEAVE

    @property
    def reason(self) -> str:
        """Why nothing is done to it."""
        if self.uncertain or not self.left:
            return self.uncertain
        first = self.left[min(self.left)]
        return f"{first.verdict.value}; {first.why.text}"

    @property
    def why(self) -> str:
        """The reason, and until when it holds."""
        until = self.left[min(self.left)].exempt_until if self.left else None
        return self.reason + (f" until {until}" if until and not self.uncertain else "")


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
    for one in latest(one for one in folders if not one.ours):
        reason = acting.uncounted(one.policy)
        if reason:
            uncounted.setdefault((one.name, reason), []).append(_label(one))
        others |= dict.fromkeys(name for name, _ in acting.actions(one.policy))
    others.pop(acting.NOTIFY, None)
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
        if problem or reason:
            continue
        others |= dict.fromkeys(_add(account, one))
        if one.summary:
            account.summaries.append(one.summary)
            if one.summary.report_generated:
                reports.append(one.summary.report_generated)
    everywhere = {
        one.name for one in found if one.start and one.start >= begun and not _conditional(one)
    }
    for place, account in accounts.items():
        account.problems += _not_run(everywhere, ran[place])
    oldest = min(map(datetime.fromisoformat, reports), default=None)
    return Plan(list(accounts.values()), begun, oldest, list(others), uncounted)


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
    if one.failed or "ResourceLimitExceeded" in one.metrics:
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
    for left in not_matched:
        key = account.key(left.user, left.slot)
        key.left.setdefault(RANKS[left.why], left)
    return acts.others


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
