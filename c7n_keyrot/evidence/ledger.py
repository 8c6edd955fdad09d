# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the folders say of each account: its runs, its keys now, and what was done to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from c7n_keyrot.core import outcomes, rotation
from c7n_keyrot.core.outcomes import Outcome, Result
from c7n_keyrot.core.population import file_name
from c7n_keyrot.core.records import ExemptUser, KeyRecord, NotMatched, RunSummary, Why
from c7n_keyrot.core.rotation import ExemptionState, Identified, Verdict
from c7n_keyrot.core.text import one_line, without_paths
from c7n_keyrot.core.usage_words import sentence
from c7n_keyrot.evidence import population, trace
from c7n_keyrot.evidence.contracts import User, contacts
from c7n_keyrot.evidence.figures import OLD, PRESENT, Judgement, Listing, line_of
from c7n_keyrot.evidence.files import Damage, DamagedFileError
from c7n_keyrot.evidence.gather import PolicyFolder
from c7n_keyrot.evidence.population import KeyThen, Population

# After these a key isn't active any more.
FIXED = (Result.DISABLED, Result.DELETED, Result.GONE)
# Outcomes that are shown of a key that no run finds any more: something was done, or may have been.
LASTING = (Result.DISABLED, Result.DELETED, Result.REACTIVATED, Result.UNKNOWN, Result.INTENDED)
IN_DOUBT = (Result.UNKNOWN.value, Result.INTENDED.value)
MOST_POPULATIONS = 4  # the newest may be of a run that was stopped, or damaged
# Of these a stale key of the report isn't one any more.
NOT_ANY_MORE = (Why.CHANGED, Why.GONE)
# How a key ended: what the pack did, and what others did, by the reason or outcome that says so.
OWN_ENDS = (Result.DISABLED.value, Result.DELETED.value)
ENDS = {
    Why.CHANGED.value: "changed",
    Why.GONE.value: "removed",
    Result.GONE.value: "removed",
}
# Of these an inactive key of the report isn't Inactive any more.
NOT_INACTIVE = (Why.CHANGED, Why.UNKNOWN)
# Of these only a newer report, or a person, can tell.
DOUBTFUL = (Why.UNCLEAR, Why.UNREAD, Why.TWICE, Why.UNKNOWN, Why.NOT_FOUND, Why.OTHER_USER)
# A report that AWS made so shortly after a change may not show it.
LAG = timedelta(minutes=15)
# A credential report may be so old when a run acts by it, with room for clocks that differ.
REPORT_AGE = timedelta(days=2)

# All exemptions are read once a week (examples/exemptions.yml).
EXEMPTIONS_KNOWN = timedelta(days=8)
EXEMPTIONS = {state.value: state.value for state in ExemptionState}

Entry = dict[str, Any]
Place = tuple[str, int | None]


@dataclass
class Latest:
    """The newest run of a policy that could say what it found."""

    summary: RunSummary
    time: datetime
    records: list[Entry]
    folder: Path
    above: Path

    @property
    def entries(self) -> list[Entry]:
        """The keys that it matched, and those that it left, with what that stands on."""
        found = [*self.records, *(_of_left(self.summary, one) for one in self.summary.not_matched)]
        if found:
            source = _of_source(trace.of_run(self.folder, self.above, self.summary.run))
            for entry in found:
                entry |= source
        return found


@dataclass(frozen=True)
class End:
    """How the last run into a policy's folder ended; see ``PolicyFolder``."""

    path: Path
    name: str
    start: datetime | None
    end: datetime | None
    dry_run: bool
    metrics: Mapping[str, float]
    failed: bool
    account: str

    @property
    def tree(self) -> Path | None:
        """The folder that c7n-org ran into: TREE/ACCOUNT/REGION/POLICY; None for any other."""
        is_one = self.account and self.path.parent.parent.name == self.account
        return self.path.parent.parent.parent if is_one else None


@dataclass
class AccountLedger:
    """All that the folders say of one account.

    :ivar account_id: None where no folder says it.
    :ivar names: of its folders in trees of c7n-org.
    :ivar latest: by policy, ``ends`` as well.
    :ivar done: the newest outcome of each key by its id.
    :ivar placed: the newest outcome of each user and slot.
    :ivar history: all outcomes and notices of a key by its id, or by its place without one.
    :ivar facts: what a run said last of a key, by its id.
    :ivar by_day: what was done on a day (UTC) to which keys.
    :ivar hashed: the newest summary that has the hash of a population, by the file's name.
    :ivar populations: the files of the newest populations, by name, in whichever folder.
    """

    account_id: str | None
    names: list[str] = field(default_factory=list)
    lines: list[Judgement] = field(default_factory=list)
    latest: dict[str, Latest] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)
    done: dict[str, Outcome] = field(default_factory=dict)
    placed: dict[Place, Outcome] = field(default_factory=dict)
    history: dict[str | Place, list[Outcome]] = field(default_factory=dict)
    facts: dict[str, Entry] = field(default_factory=dict)
    by_day: dict[str, dict[tuple[str, str], Result]] = field(default_factory=dict)
    runs: set[tuple[str, str]] = field(default_factory=set)
    hashed: dict[str, tuple[RunSummary, datetime]] = field(default_factory=dict)
    populations: dict[str, list[tuple[Path, Path]]] = field(default_factory=dict)
    contact_tags: Collection[str] = ()

    # -- filled

    def add_summary(self, summary: RunSummary, folder: PolicyFolder) -> None:
        """Add a run of a policy, once, wherever its line is found."""
        if (summary.policy, summary.run) in self.runs:
            return
        self.runs.add((summary.policy, summary.run))
        line = line_of(summary)
        if line:
            self.lines.append(line)
            if summary.population:
                self.hashed[population_name(line.report)] = summary, line.report
                _keep_newest(self.hashed)
        records = []
        if folder.users_run == summary.run and folder.account_id == self.account_id:
            records = [_of_record(summary, *pair, self.contact_tags) for pair in folder.records]
        for entry in records:
            key_id = entry["access_key_id"]
            if key_id and entry["as_of"] >= self.facts.get(key_id, entry)["as_of"]:
                self.facts[key_id] = entry
        time, known = outcomes.instant(summary), self.latest.get(summary.policy)
        if not known or time > known.time:
            self.latest[summary.policy] = Latest(summary, time, records, folder.path, folder.above)

    def add_population(self, path: Path, above: Path) -> None:
        """Add a file of all keys; the newest are kept, and read when the keys are asked for.

        :param above: the folder that OUTPUT_DIR is in.
        """
        self.populations.setdefault(path.name.removesuffix(".gz"), []).append((path, above))
        _keep_newest(self.populations)

    def add_outcome(self, line: Outcome) -> None:
        """Add what was done to a key."""
        time = outcomes.instant(line)
        place, key_id = (one_line(line.user, 128), line.slot), line.access_key_id
        known = self.placed.get(place)
        if not known or time >= outcomes.instant(known):
            self.placed[place] = line
        if key_id:
            known = self.done.get(key_id)
            if not known or time >= outcomes.instant(known):
                self.done[key_id] = line
        self.add_notice(line)
        key = key_id or f"{line.user}/{line.slot}"
        self.by_day.setdefault(time.date().isoformat(), {})[key, line.action] = line.outcome

    def add_notice(self, line: Outcome) -> None:
        """Add a line to the history of a key: a notice, or what was done."""
        place = one_line(line.user, 128), line.slot
        self.history.setdefault(line.access_key_id or place, []).append(line)

    def add_end(self, folder: PolicyFolder) -> None:
        """Add how the last run into a folder ended."""
        known = self.ends.get(folder.name)
        if not known or not known.start or (folder.start and folder.start > known.start):
            self.ends[folder.name] = End(
                folder.path,
                folder.name,
                folder.start,
                folder.end,
                folder.dry_run,
                folder.metrics,
                folder.failed,
                folder.account,
            )
        if folder.account and folder.account not in self.names:
            self.names.append(folder.account)

    # -- read

    @property
    def newest(self) -> datetime | None:
        """When the newest run was; None without one."""
        times = [one.time for one in self.latest.values()]
        times += [one.end for one in self.ends.values() if one.end]
        return max(times, default=None)

    @property
    def last_end(self) -> End | None:
        """The last run that ended."""
        ended = [one for one in self.ends.values() if one.end]
        return max(ended, key=lambda one: one.end or 0, default=None)

    @property
    def ended(self) -> list[tuple[datetime, datetime]]:
        """When each policy began and ended last, without those that aren't run any more.

        One that was stopped ended when it began, since nobody knows when.
        """
        newest = self.newest
        return [
            (one.start, one.end or one.start)
            for one in self.ends.values()
            if one.start and newest and newest - (one.end or one.start) < PRESENT
        ]

    @property
    def failed(self) -> list[End]:
        """The last runs of policies that failed, without those that aren't run any more."""
        newest = self.newest
        return [
            one
            for one in self.ends.values()
            if one.failed and not (newest and (at := one.end or one.start) and newest - at > OLD)
        ]

    def forget(self) -> None:
        """Forget the keys, once they have been read: an organization has many."""
        self.latest = {name: replace(one, records=[]) for name, one in self.latest.items()}
        self.facts.clear()
        self.done.clear()
        self.history.clear()
        self.placed.clear()

    def population(self, damage: list[Damage]) -> Population | None:
        """Return all keys by the newest credential report that was kept; None without one.

        :param damage: gets each file that isn't what its run left.
        """
        for name in sorted(self.populations.keys() & self.hashed.keys(), reverse=True):
            summary, report = self.hashed[name]
            for path, above in self.populations[name]:
                try:
                    digest = str(summary.population)
                    found = population.read(path, summary.account_id, report, digest)
                    return replace(
                        found, source=trace.Source(trace.shown(path, above), None, digest)
                    )
                except DamagedFileError as error:
                    damage.append(Damage(path, str(error)))
        return None

    def findings(self, now: datetime, then: Population | None = None) -> Iterator[Entry]:
        """Yield each key that isn't fresh, and each to which something was done.

        :param now: what is due before this instant (UTC) isn't expiring any more.
        :param then: all keys by the newest credential report, which settles what older lists say.
        """
        judged = self._judged(now, then)
        exempt = self.exempt()
        for entry in judged:
            entry["first_seen"] = self._first_seen(entry)
            if entry["exemption"] and entry["user"] in exempt:
                entry |= _of_exemption(exempt[entry["user"]])
        yield from judged
        known = {entry["access_key_id"] for entry in judged}
        shown = {entry[OUTCOME_OF] for entry in judged}
        for key_id, line in self.done.items():
            if key_id not in known | shown and line.outcome in LASTING:
                entry = {**self.facts.get(key_id, _of_outcome(line)), "verdict": None}
                # One with a notice lists no stale keys: it only counts them.
                listing = (one for one in self.lines if not (one.notice and one.stale))
                reports = (one.report for one in listing if line.slot in one.slots)
                seen = any(outcomes.instant(line) < report for report in reports)
                entry["first_seen"] = self._first_seen(entry)
                entry = self._with_outcome(entry, line, now, seen)
                if then:
                    _settle(entry, then)
                yield entry

    def _judged(self, now: datetime, then: Population | None) -> list[Entry]:
        """Return each key that a run listed, or that is stale in the newest report of all keys."""
        found: dict[Place, Entry] = {}
        latest = sorted(self.latest.values(), key=lambda one: one.time)
        for one in latest:
            if latest[-1].time - one.time < (OLD if then else PRESENT):
                for entry in one.entries:
                    place = entry["user"], entry["slot"]
                    found[place] = _merged(found.get(place), entry)
        since = latest[-1].time - PRESENT if latest else now
        judged: list[Entry] = []
        others: list[Entry] = []
        for place, listed in found.items():
            entry = self._with_outcome(listed, self._outcome_of(place, listed), now)
            if then and _settle(entry, then):
                judged.append(entry)
            elif _time(entry) > since:
                others.append(entry)
        if then:
            judged += self._unnamed(then, found, now)
        judged += others
        self._end(judged)
        return judged

    def exempt(self) -> dict[str, ExemptUser]:
        """Return the exemptions that the newest runs saw, by user."""
        newest, found = self.newest, dict[str, ExemptUser]()
        for one in sorted(self.latest.values(), key=lambda one: one.time):
            if newest and newest - one.time < EXEMPTIONS_KNOWN:
                found |= {one_line(each.user, 128): each for each in one.summary.exempt}
        return found

    def _first_seen(self, entry: Entry) -> str:
        """Return when the first run judged the slot by a report that had the key as not fresh."""
        first = datetime.fromisoformat(entry["as_of"])
        if entry["deadline"]:
            due = datetime.fromisoformat(entry["deadline"])
            listed = self._listing.first(entry["slot"], entry["days"], due)
            first = min(first, listed or first)
        return first.isoformat(timespec="seconds")

    @cached_property
    def _listing(self) -> Listing:
        """Which line listed a key first; asked for once all lines are there."""
        return Listing(self.lines)

    def unjudged(self) -> dict[int, datetime]:
        """Return the slots that no run of the present judged, though one did before, and when."""
        newest = max((line.time for line in self.lines), default=None)
        last: dict[int, datetime] = {}
        for line in self.lines:
            for slot in line.slots:
                last[slot] = max(line.time, last.get(slot, line.time))
        return {
            slot: time
            for slot, time in sorted(last.items())
            if newest and PRESENT <= newest - time < OLD
        }

    def unlisted(self, line: Judgement, entries: Iterable[Entry]) -> tuple[int, datetime]:
        """Return how many keys are stale that no list names, and by which report.

        :param line: one to count by; a newer one of its slots and limit counts instead.
        :param entries: all findings.
        """
        same = (one for one in self.lines if (one.slots, one.days) == (line.slots, line.days))
        line = _newest(same) or line
        listed = sum(_counted(entry, line) for entry in entries)
        return max(line.stale - listed, 0), line.report

    def _unnamed(
        self, then: Population, found: Mapping[Place, Entry], now: datetime
    ) -> Iterator[Entry]:
        """Yield the stale keys of a credential report that no list names.

        Such as those that became stale since the last run of the policy that lists stale keys.
        """
        summary = self.hashed[population_name(then.report)][0]
        # By a newer report, of which all keys weren't kept, there may be others now.
        newer = {slot for line in self.lines if line.report > then.report for slot in line.slots}
        limits = {slot: days for slot, days in self._limits().items() if slot not in newer}
        exempt = self.exempt()
        for (name, slot), key in then.keys.items():
            days, rotated = limits.get(slot), key.last_rotated
            if key.status != population.ACTIVE or not rotated or not days:
                continue
            due, place = rotation.deadline(rotated, days), (one_line(name, 128), slot)
            known = found.get(place)
            if due >= then.report or (known and known["last_rotated"] == rotated.isoformat()):
                continue
            entry = _entry(
                summary,
                user=place[0],
                slot=slot,
                verdict=Verdict.STALE.value,
                age_days=round((then.report - rotated) / rotation.DAY, 1),
                days=days,
                last_rotated=rotated.isoformat(),
                deadline=due.isoformat(),
                days_left=rotation.days_left(rotated, then.report, days),
                as_of=then.report.isoformat(timespec="seconds"),
            )
            entry |= _of_source(then.source)
            line = self._outcome_of(place, entry)
            if line:
                entry["access_key_id"] = line.access_key_id
            exemption = exempt.get(place[0])
            if exemption and exemption.state is ExemptionState.VALID:
                why = {"why": Why.EXEMPT.value, "exemption": ExemptionState.VALID.value}
                entry |= {**why, "exempt_until": exemption.until}
            entry = self._with_outcome(entry, line, now)
            if name in then.twice:
                _set(entry, "unclear")
            elif line and line.outcome in FIXED and outcomes.instant(line) + LAG > then.report:
                _set(entry, "fixed")  # shortly before, which the report doesn't show yet
            yield entry

    def passing(self, then: Population, entries: Iterable[Entry], now: datetime) -> Iterator[Entry]:
        """Yield each key of a judged slot that isn't among the findings: those that pass.

        Their state is ``passed``, at the instant of the credential report. Whatever isn't proven by
        it isn't passed: a deadline that is over now makes it ``open``, no date ``unclear``.

        :param entries: all findings.
        """
        summary = self.hashed[population_name(then.report)][0]
        limits, exempt = self._limits(), self.exempt()
        # Of a finding without a date nobody knows whether it is about this very key.
        known = {(one["user"], one["slot"], one["last_rotated"]) for one in entries}
        for (name, slot), key in then.keys.items():
            days, rotated = limits.get(slot), key.last_rotated
            user, date = one_line(name, 128), rotated and rotated.isoformat()
            if not days or {(user, slot, date), (user, slot, None)} & known:
                continue
            due = rotation.deadline(rotated, days) if rotated else None
            verdict, state = _passes(key, name in then.twice, due, now)
            entry = _entry(
                summary,
                user=user,
                slot=slot,
                verdict=verdict.value,
                state=state,
                age_days=round((then.report - rotated) / rotation.DAY, 1) if rotated else None,
                days=days,
                last_rotated=date,
                deadline=due and due.isoformat(),
                days_left=rotation.days_left(rotated, then.report, days) if rotated else None,
                as_of=then.report.isoformat(timespec="seconds"),
                first_seen=self._first_passed(slot, days, rotated, then.report),
                history=[],
            )
            if user in exempt:
                found = exempt[user]
                its = {"exemption": found.state.value, "exempt_until": found.until}
                entry |= its | _of_exemption(found)
            yield entry

    def _first_passed(
        self, slot: int, days: float, rotated: datetime | None, report: datetime
    ) -> str:
        """Return when the first run judged a slot by a credential report that had this key."""
        times = [
            line.time
            for line in self.lines
            if slot in line.slots and line.days == days and rotated and line.report >= rotated
        ]
        return min([*times, report]).isoformat(timespec="seconds")

    def _limits(self) -> dict[int, float]:
        """Return the limit of each slot, in days, according to the newest report it has."""
        lines = sorted(self.lines, key=lambda one: (one.report, one.time))
        return {slot: line.days for line in lines for slot in line.slots}

    def _end(self, entries: Sequence[Entry]) -> None:
        """End the stale keys of older lists that a newer report doesn't count any more.

        If it counts fewer than there are, nobody knows which of them ended.
        """
        older: dict[tuple[int, float], list[Entry]] = {}
        for entry in entries:
            is_one = entry["verdict"] == Verdict.STALE.value and entry["days"]
            if is_one and entry["slot"] and entry["state"] in ("open", "exempt", "unclear"):
                older.setdefault((entry["slot"], entry["days"]), []).append(entry)
        for (slot, days), some in older.items():
            line = _newest(one for one in self.lines if slot in one.slots and one.days == days)
            # Of several slots together only nothing is known of each.
            if line is None or (len(line.slots) > 1 and line.stale):
                continue
            before = [one for one in some if _last_known(one) < line.report]
            left = line.stale - sum(
                _counted(one, line)
                for one in entries
                if one[REPORT_OF] and datetime.fromisoformat(one[REPORT_OF]) == line.report
            )
            if len(before) > max(left, 0):
                for one in before:
                    _set(one, "fixed" if left <= 0 and line.whole else "unclear", "changed")

    def _outcome_of(self, place: Place, entry: Entry) -> Outcome | None:
        if entry["access_key_id"]:
            return self.done.get(entry["access_key_id"])
        line = self.placed.get(place)
        if line is None or line.access_key_id is None:
            return line
        # The slot had this very key already when the report was made that the run acted by.
        rotated = entry["last_rotated"] and datetime.fromisoformat(entry["last_rotated"])
        if not rotated or rotated >= outcomes.instant(line) - REPORT_AGE:
            return None
        # Its user may have another name since.
        return self.done.get(line.access_key_id, line)

    def _with_outcome(
        self, entry: Entry, line: Outcome | None, now: datetime, seen: bool = False
    ) -> Entry:
        """Return an entry with what was done last to its key.

        :param seen: a later report would show the key, if it were active.
        """
        entry[OUTCOME_OF] = line and line.access_key_id
        if line:
            entry |= {
                "outcome": line.outcome.value,
                "outcome_time": _utc(line.time),
                "action": line.action.value,
                "reason": without_paths(one_line(line.reason)) or None,
                "access_key_id": entry["access_key_id"] or line.access_key_id,
                "owner": entry["owner"] or (line.owner and one_line(line.owner)),
            }
        _set(entry, "fixed" if seen else _state(entry, line, now))
        entry["history"] = self._history_of(entry, line)
        return entry

    def _history_of(self, entry: Entry, line: Outcome | None) -> list[dict[str, Any]]:
        """Return all that was done to a key, and each notice that named it, in their order."""
        key_id = entry["access_key_id"] or (line and line.access_key_id)
        place = entry["user"], entry["slot"]
        lines = self.history.get(key_id or place, [])
        # Several folders may have copies of one file.
        once = {(one.time, one.action, one.outcome, one.run, one.message_id): one for one in lines}
        events = sorted(once.values(), key=outcomes.instant)
        return [_event(one, self.contact_tags) for one in events]


def _event(line: Outcome, contact_tags: Collection[str]) -> dict[str, Any]:
    """Return a line of a key's history as the report has it."""
    owner = contacts(line.tags, contact_tags) if contact_tags and line.tags else line.owner
    return {
        "time": _utc(line.time),
        "action": line.action.value,
        "outcome": line.outcome.value,
        "reason": without_paths(one_line(line.reason)) or None,
        "policy": one_line(line.policy, 200),
        "run": one_line(line.run, 100),
        "caller": line.caller and one_line(line.caller),
        "owner": owner and one_line(owner),
        "message_id": line.message_id and one_line(line.message_id, 200),
    }


def _passes(
    key: KeyThen, is_twice: bool, due: datetime | None, now: datetime
) -> tuple[Verdict, str]:
    """Return the verdict on a key that no finding names, and its state."""
    if key.status == population.INACTIVE and not is_twice:
        return Verdict.INACTIVE, PASSED
    if is_twice or key.status != population.ACTIVE or due is None:
        return Verdict.UNKNOWN, "unclear"
    return Verdict.FRESH, PASSED if due >= now else "open"


def population_name(report: datetime) -> str:
    """Return the name of the file of all keys of a credential report, without ``.gz``."""
    return file_name(report).removesuffix(".gz")


def _keep_newest(found: dict[str, Any]) -> None:
    """Forget all but the newest files: an organization has many, and one is read."""
    while len(found) > MOST_POPULATIONS:
        del found[min(found)]


def _set(entry: Entry, state: str, closed: str | None = None) -> None:
    """Set a key's state, and how it ended.

    :param closed: what the newest report of all keys shows of it; the pack's own outcome counts
        more, and without both the reason of the run that found it changed.
    """
    entry["state"] = state
    entry["closed"] = None
    if state == "fixed":
        done = entry["outcome"] if entry["outcome"] in OWN_ENDS else None
        entry["closed"] = done or closed or ENDS.get(entry["why"] or entry["outcome"])


def _settle(entry: Entry, then: Population) -> bool:
    """Set what became of a key since it was listed, by a newer report of all keys.

    :returns: whether the report says what became of it.
    """
    rotated = entry["last_rotated"] and datetime.fromisoformat(entry["last_rotated"])
    if not rotated or _last_known(entry) + LAG > then.report:
        return False
    place = entry["user"], entry["slot"]
    key = then.keys.get(place)
    if entry["user"] in then.twice or (key and key.last_rotated is None):
        _set(entry, "unclear")
    elif key is None or key.last_rotated != rotated:
        moved = then.has_moved(place, rotated)
        _set(entry, "unclear" if moved else "fixed", "rotated" if key else "removed")
    elif key.status == population.ACTIVE:
        if entry["state"] == "fixed" or entry["outcome"] in IN_DOUBT:
            _set(entry, "open")  # it was switched on again, or never switched off
    elif key.status != population.INACTIVE:
        _set(entry, "unclear")
    elif entry["verdict"] != Verdict.INACTIVE.value:
        _set(entry, "fixed", "deactivated")
    if entry["state"] != "fixed":
        entry[REPORT_OF] = then.report.isoformat()  # it counts by this report
    return True


def _time(entry: Entry) -> datetime:
    return datetime.fromisoformat(entry["as_of"])


def _utc(time: str | None) -> str | None:
    """Return an instant in UTC, whatever zone a file has it in."""
    return datetime.fromisoformat(time).astimezone(timezone.utc).isoformat() if time else None


def _of_record(
    summary: RunSummary, user: User, record: KeyRecord, contact_tags: Collection[str]
) -> Entry:
    owner = user.owner(contact_tags)
    return _entry(
        summary,
        user=one_line(user.name, 128),
        slot=record.slot,
        access_key_id=record.access_key_id,
        verdict=record.verdict.value,
        identified=record.identified.value,
        age_days=record.age_days,
        days=record.days,
        last_rotated=_utc(record.last_rotated),
        deadline=_utc(record.deadline),
        days_left=record.days_left,
        owner=owner and one_line(owner),
        description=record.description and one_line(record.description),
        last_used_date=_utc(record.last_used_date),
        last_used_service=record.last_used_service and one_line(record.last_used_service, 100),
        last_used_region=record.last_used_region and one_line(record.last_used_region, 100),
        usage=sentence(record.usage) or None,
        exemption=EXEMPTIONS.get((record.exemption or {}).get("state", "")),
        user_arn=one_line(user.arn, 1000),
        partition=_partition(user.arn),
    )


def _of_left(summary: RunSummary, left: NotMatched) -> Entry:
    time = outcomes.instant(summary)
    limits = (one.get("days") for one in summary.filters if one.get("slot") == left.slot)
    days = next(filter(None, limits), None)
    rotated = datetime.fromisoformat(left.last_rotated) if left.last_rotated else None
    return _entry(
        summary,
        user=one_line(left.user, 128),
        slot=left.slot,
        access_key_id=left.access_key_id,
        verdict=left.verdict.value,
        age_days=round((time - rotated) / rotation.DAY, 1) if rotated else None,
        days=days,
        last_rotated=_utc(left.last_rotated),
        deadline=rotation.deadline(rotated, days).isoformat() if rotated and days else None,
        days_left=rotation.days_left(rotated, time, days) if rotated and days else None,
        why=left.why.value,
        exempt_until=left.exempt_until,
        exemption="valid" if left.why is Why.EXEMPT else None,
    )


def _of_source(source: trace.Source | None) -> Entry:
    names = ("file", "line", "sha256")
    return {f"source_{name}": getattr(source, name, None) for name in names}


def _of_exemption(found: ExemptUser) -> Entry:
    return {
        "exempt_reason": one_line(found.reason) or None,
        "exempt_approved_by": one_line(found.approved_by) or None,
        **({"owner": one_line(found.owner)} if found.owner else {}),
    }


def _of_outcome(line: Outcome) -> Entry:
    return {
        **EMPTY,
        "account_id": line.account_id,
        "user": one_line(line.user, 128),
        "slot": line.slot,
        "access_key_id": line.access_key_id,
        "age_days": line.age_days,
        "days": line.days,
        "last_rotated": _utc(line.last_rotated),
        "deadline": _utc(line.deadline),
        "owner": line.owner and one_line(line.owner),
        "partition": _partition(line.caller),
        "policy": one_line(line.policy, 200),
        "run": one_line(line.run, 100),
        "as_of": outcomes.instant(line).isoformat(timespec="seconds"),
    }


# All fields of a key in the report, and two that only this module needs.
FIELDS = (
    "account_id",
    "account",
    "user",
    "slot",
    "access_key_id",
    "verdict",
    "state",
    "age_days",
    "days",
    "last_rotated",
    "deadline",
    "days_left",
    "identified",
    "why",
    "exempt_until",
    "exemption",
    "outcome",
    "outcome_time",
    "action",
    "reason",
    "owner",
    "description",
    "last_used_date",
    "last_used_service",
    "last_used_region",
    "usage",
    "policy",
    "run",
    "as_of",
    "dry_run",
    "user_arn",
    "partition",
    "first_seen",
    "closed",
    "source_file",
    "source_line",
    "source_sha256",
    "exempt_reason",
    "exempt_approved_by",
    "times_disabled",
    "times_switched_on",
)
PASSED = "passed"  # the state of a key that no finding names
OUTCOME_OF = "outcome_of"
REPORT_OF = "report_of"  # when its credential report was made
OWN_FIELDS = (OUTCOME_OF, REPORT_OF)
# Each key has it besides; a table has no room for it.
HISTORY = "history"
EMPTY: Entry = dict.fromkeys((*FIELDS, *OWN_FIELDS))


def _entry(summary: RunSummary, **fields: Any) -> Entry:
    return {
        **EMPTY,
        "account_id": summary.account_id,
        "policy": one_line(summary.policy, 200),
        "run": one_line(summary.run, 100),
        "as_of": outcomes.instant(summary).isoformat(timespec="seconds"),
        "dry_run": summary.dry_run,
        "partition": _partition(summary.caller),
        REPORT_OF: _utc(summary.report_generated),
        **fields,
    }


def _partition(arn: str | None) -> str | None:
    """Return the partition that an ARN names; None without an ARN."""
    found = (arn or "").split(":")[1:2]
    return one_line(found[0], 50) if found else None


def _merged(before: Entry | None, entry: Entry) -> Entry:
    """Return what two policies say of one slot: a record says more, the later run counts.

    Why one of them left the key alone stays, if the other one can't say so.
    """
    if before is None:
        return entry
    if before["last_rotated"] and entry["last_rotated"] not in (None, before["last_rotated"]):
        return entry  # the slot has another key now
    is_record = before["identified"] and not entry["identified"]
    one, other = (before, entry) if is_record else (entry, before)
    if other["why"] in (Why.EXEMPT.value, Why.UNCLEAR.value, Why.OWN.value) and not one["why"]:
        names = ("why", "exempt_until", "exemption")
        one |= {name: other[name] for name in names}
    return one


def _state(entry: Entry, line: Outcome | None, now: datetime) -> str:
    """Return whether a key still is against the rule; the words are those of the schema."""
    verdict, why = entry["verdict"], entry["why"]
    result = line.outcome if line and _is_after(entry, line) else None
    inactive, again = verdict == Verdict.INACTIVE.value, result is Result.REACTIVATED
    ended = why not in NOT_INACTIVE if inactive else why in NOT_ANY_MORE
    if result in FIXED or (ended and not again):
        return "fixed"
    if result in (Result.UNKNOWN, Result.INTENDED):
        return "unclear"
    if verdict == Verdict.EXPIRING.value:
        if not entry["deadline"]:
            return "unclear"
        if datetime.fromisoformat(entry["deadline"]) >= now:
            return "expiring"
    until = entry["exempt_until"]
    if why == Why.EXEMPT.value and not (until and until < now.date().isoformat()):
        return "exempt"
    doubtful = entry["identified"] not in (None, Identified.DATE, Identified.ELIMINATION)
    if verdict == Verdict.UNKNOWN.value or doubtful or why in DOUBTFUL or (inactive and not again):
        return "unclear"
    return "open"


def _is_after(entry: Entry, line: Outcome) -> bool:
    return line.run == entry["run"] or outcomes.instant(line) >= datetime.fromisoformat(
        entry["as_of"]
    )


def _newest(lines: Iterable[Judgement]) -> Judgement | None:
    """Return the line of the newest credential report, of several the last."""
    return max(lines, key=lambda one: (one.report, one.time), default=None)


def _last_known(entry: Entry) -> datetime:
    """Return the newest instant at which something says how a key was."""
    times = [entry["as_of"], entry["outcome_time"], entry[REPORT_OF]]
    return max(datetime.fromisoformat(time) for time in times if time)


def _counted(entry: Entry, line: Judgement) -> bool:
    """Return whether the stale keys that a line counts have this one among them."""
    if entry["slot"] not in line.slots or (entry["days"] or line.days) < line.days:
        return False
    verdict, deadline = entry["verdict"], entry["deadline"]
    if verdict == Verdict.EXPIRING.value:
        if not deadline or datetime.fromisoformat(deadline) >= line.report:
            return False
    elif verdict != Verdict.STALE.value and (verdict or entry["state"] == "fixed"):
        return False
    if entry["state"] != "fixed":
        return True
    # It was stale and active at these instants. A key that was deleted was inactive before.
    times = [entry[REPORT_OF]]
    if entry["outcome"] == Result.DISABLED.value:
        times.append(entry["outcome_time"])
    return any(datetime.fromisoformat(time) >= line.report for time in times if time)


class Ledger:
    """All accounts, by id, or by the name of their folder where nothing says the id."""

    def __init__(self, contact_tags: Collection[str] = ()) -> None:
        """:param contact_tags: which tags of a user name the owner; () for the usual ones."""
        self.accounts: dict[str, AccountLedger] = {}
        self.contact_tags = contact_tags

    def of(self, account_id: str, name: str = "") -> AccountLedger:
        """Return an account's part."""
        key = account_id or f"name:{name}"
        return self.accounts.setdefault(
            key, AccountLedger(account_id or None, contact_tags=self.contact_tags)
        )

    def add(self, folders: Iterable[PolicyFolder]) -> None:
        """Add what the folders hold."""
        for folder in folders:
            # Each line is of the account that it names, whichever folder it is in.
            for summary in folder.summaries:
                self.of(summary.account_id).add_summary(summary, folder)
            for line in folder.outcomes:
                self.of(line.account_id).add_outcome(line)
            account = self.of(folder.account_id, folder.account)
            account.add_end(folder)
            for path in folder.populations:
                account.add_population(path, folder.above)
            for line in folder.notified:
                self.of(line.account_id).add_notice(line)
            self.of(folder.account_id, folder.account).add_end(folder)
