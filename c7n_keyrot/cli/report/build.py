# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes the report: one dict, as ``schemas/report.schema.json`` describes it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from c7n_keyrot.cli.report import returns
from c7n_keyrot.core.outcomes import ACCOUNT_ID, Result
from c7n_keyrot.core.records import ExemptUser
from c7n_keyrot.core.text import counted, listed, one_line, utc, without_paths
from c7n_keyrot.evidence import figures, files
from c7n_keyrot.evidence.accounts import Account
from c7n_keyrot.evidence.figures import OLD, PRESENT
from c7n_keyrot.evidence.files import Damage, mapping
from c7n_keyrot.evidence.gather import PolicyFolder
from c7n_keyrot.evidence.ledger import OWN_FIELDS, AccountLedger, End, Ledger

SCHEMA = "urn:c7n-keyrot:schema:report:1"
VERSION = 1
DAYS_SHOWN = 14  # of what comes
STATES = ("open", "unclear", "exempt", "expiring", "fixed")
MOST_WARNINGS = 1000
DEFAULT_DAYS = 90
# The same check in other catalogs. They mean both access keys, not the second alone.
CONTROLS_SOURCE = "Prowler's compliance files; they mean both access keys"
CONTROLS = (
    ("CIS AWS Foundations 1.4 to 4.0.1", "1.14"),
    ("CIS AWS Foundations 5.0", "1.13"),
    ("CIS AWS Foundations 6.0", "2.13"),
    ("CIS AWS Foundations 7.0", "2.12"),
    ("AWS Foundational Security Best Practices", "IAM.3"),
    ("ISO 27001:2022", "A.5.15"),
    ("NIST CSF 1.1", "PR.AC-1"),
    ("PCI DSS 4.0", "8.3.9"),
    ("PCI DSS 4.0", "8.6.3"),
    ("MITRE ATT&CK", "T1078"),
)


def clock() -> datetime:
    """Return the instant that a report is made at, UTC."""
    return datetime.now(timezone.utc)


def build_report(
    folders: Iterable[PolicyFolder],
    damage: Sequence[Damage],
    accounts: Sequence[Account] = (),
    contact_tags: Collection[str] = (),
    with_passed: bool = False,
) -> dict[str, Any]:
    """Return the report.

    Ages are those at the runs. By ``clock()`` a key whose deadline has passed isn't expiring, and
    old runs answer nothing.

    :param folders: what ``gather()`` yields.
    :param damage: what ``gather()`` adds to while it yields; it goes into the report's warnings.
    :param accounts: of accounts.yml: those that should be covered.
    :param contact_tags: of mailer.yml: which tags of a user name the owner; () for the usual ones.
    :param with_passed: whether it has ``passed`` as well: each other key of each covered account,
        by the credential report that was kept.
    """
    now = clock()
    ledger, rules = Ledger(contact_tags), _Rules()
    ledger.add(rules.noting(folders))
    told = list(map(str, damage))
    names = _names(accounts, ledger, told)
    lines = {key: figures.present(one.lines) for key, one in ledger.accounts.items()}
    limits = Counter(line.days for some in lines.values() for line in some)
    days = max(limits, key=lambda limit: (limits[limit], limit), default=DEFAULT_DAYS)
    as_of = max(filter(None, (one.newest for one in ledger.accounts.values())), default=None)
    old = f"no run since {utc(as_of)}" if as_of and now - as_of > OLD else None
    if old:
        told.insert(0, f"{old}: how things are now isn't known")
    begun = _begun(ledger)
    rows, keys, passed = [], [], list[dict[str, Any]]()
    exempt: dict[tuple[str, str], tuple[str | None, ExemptUser]] = {}
    for key, name in names.items():
        account = ledger.accounts.get(key) or AccountLedger(None)
        unread: list[Damage] = []
        then = account.population(unread)
        entries = list(account.findings(now, then))
        told += map(str, unread)
        found = [_key(entry, name) for entry in entries]
        found.sort(key=lambda one: (one["user"], one["slot"] or 0, one["access_key_id"] or ""))
        chosen = figures.chosen(lines.get(key, ()), days)
        why = _why_not(account, chosen, as_of, begun, old)
        row = _account(key, name, account, chosen, found, why)
        for line in chosen:
            unlisted, made = account.unlisted(line, entries)
            if unlisted:
                row["open"] += unlisted
                told.append(
                    f"{_who(key, name)}: {counted(unlisted, 'stale key')} of the credential report "
                    f"of {utc(made)} counted as open, though no list names which: no policy with "
                    "stale-access-key has run by this report"
                )
        if with_passed and then and why is None:
            passing = account.passing(then, entries, now)
            passed += [_key(one, name) for one in passing]
        elif with_passed:
            told.append(
                f"{_who(key, name)}: keys that pass aren't listed: "
                + (why or "no run left all of its keys (C7N_KEYROT_POPULATION, docs/files.md)")
            )
        rows.append(row)
        if row["account_id"]:
            exempt |= {(key, user): (name, one) for user, one in account.exempt().items()}
        keys += found
        account.forget()
    told += _left_out(ledger, names)
    return ({"passed": passed} if with_passed else {}) | {
        "$schema": SCHEMA,
        "version": VERSION,
        "generated": now.isoformat(timespec="seconds"),
        "as_of": as_of and as_of.isoformat(timespec="seconds"),
        "rule": rules.rule(days, lines.values()),
        "totals": _totals(rows),
        "accounts": rows,
        "keys": keys,
        "outcomes": dict(Counter(one["outcome"] for one in keys if one["outcome"])),
        "switched_on": returns.summary(keys),
        "upcoming": _upcoming(keys, as_of),
        "exemptions": _exemptions(keys, exempt, as_of),
        "runs": _runs(ledger.accounts.values(), days),
        "warnings": [one_line(without_paths(text), 500) for text in told[:MOST_WARNINGS]],
    }


class _Rules:
    """The rule, as the policies' own metadata has it; the newest that says most counts."""

    def __init__(self) -> None:
        self.best: tuple[Any, ...] = ()
        self.metadata: Mapping[str, Any] = {}

    def noting(self, folders: Iterable[PolicyFolder]) -> Iterable[PolicyFolder]:
        for folder in folders:
            metadata = mapping(folder.policy.get("metadata"))
            rank = "rule-id" in metadata, len(_texts(metadata.get("frameworks"))), folder.start
            if folder.start and rank > (self.best or (False, -1, folder.start)):
                self.best, self.metadata = rank, metadata
            yield folder

    def rule(self, days: float, lines: Iterable[Sequence[figures.Judgement]]) -> dict[str, Any]:
        said = self.metadata
        slots = {slot for some in lines for line in some for slot in line.slots}
        return {
            "id": _text(said.get("rule-id")),
            "title": _text(said.get("title")),
            "severity": _text(said.get("severity")),
            "category": _text(said.get("category")),
            "entity": _text(said.get("entity")),
            "days": days,
            "slots": sorted(slots),
            "frameworks": _texts(said.get("frameworks")),
            "remediation": _texts(said.get("remediation")),
            "references": _texts(said.get("references")),
            "controls": [{"framework": name, "control": number} for name, number in CONTROLS],
            "controls_source": CONTROLS_SOURCE,
        }


def _text(value: Any) -> str | None:
    return one_line(value) if isinstance(value, str) and value else None


def _texts(value: Any) -> list[str]:
    texts = value if isinstance(value, list) else ()
    return [one_line(text) for text in texts[:200] if isinstance(text, str)]


def _names(accounts: Sequence[Account], ledger: Ledger, told: list[str]) -> dict[str, str | None]:
    """Return the name of each account by its key in the ledger, in the order of the names."""
    names: dict[str, str | None] = {}
    for account in accounts:
        if not ACCOUNT_ID.fullmatch(account.id):
            told.append(f"{account}: accounts.yml has no account_id of 12 digits for it")
            names.setdefault(f"name:{account.name}", account.name)
        elif account.id in names:
            told.append(f"{account}: accounts.yml has this id twice; the first name counts")
        else:
            names[account.id] = account.name or None
    for key, one in ledger.accounts.items():
        if accounts and key not in names:
            told.append(f"account {key} isn't in accounts.yml")
        if len(one.names) > 1:
            told.append(f"account {key} has several folders: {listed(one.names)}")
        names.setdefault(key, one.names[0] if one.names else None)
    cleaned = {key: name and one_line(name, 100) for key, name in names.items()}
    return dict(sorted(cleaned.items(), key=lambda pair: (pair[1] or pair[0], pair[0])))


def _left_out(ledger: Ledger, names: Mapping[str, str | None]) -> Iterator[str]:
    """Say which accounts weren't in the newest run as a whole.

    A role that can't be taken leaves no trace where an earlier run has left its files.
    """
    ended = {key: one.ended for key, one in ledger.accounts.items()}
    times = [time for some in ended.values() for time in some]
    begun = files.last_run(times)
    late = [
        _who(key, names[key])
        for key, some in ended.items()
        if any(start < begun for start, _ in some)
    ]
    if late:
        yield (
            f"the newest run, which began {utc(begun)}, left out a policy or more in "
            f"{counted(len(late), 'account')}: {listed(sorted(late))}; it was for some only, or a "
            "role couldn't be taken, or a call was denied"
        )


def _who(key: str, name: str | None) -> str:
    return f"account {name} ({key})" if name and not key.startswith("name:") else f"account {key}"


def _key(entry: dict[str, Any], name: str | None) -> dict[str, Any]:
    found = {field: value for field, value in entry.items() if field not in OWN_FIELDS}
    return found | {"account": name} | returns.times(found)


def _account(
    key: str,
    name: str | None,
    account: AccountLedger,
    lines: Sequence[figures.Judgement],
    keys: Sequence[Mapping[str, Any]],
    why: str | None,
) -> dict[str, Any]:
    counts = figures.figures(lines) if lines else dict.fromkeys(figures.FIGURES)
    states = Counter(one["state"] for one in keys)
    newest, last = account.newest, account.last_end
    return {
        "account_id": None if key.startswith("name:") else key,
        "name": name,
        "covered": why is None,
        "why": why,
        **counts,
        **{state: states[state] for state in STATES if state != "expiring"},
        "days": lines[0].days if lines else None,
        "report_generated": (
            min(line.report for line in lines).isoformat(timespec="seconds") if lines else None
        ),
        "run_ids": [line.run for line in lines],
        "last_run": newest and newest.isoformat(timespec="seconds"),
        "dry_run": last.dry_run if last else None,
        "failed": sorted(one_line(one.name, 200) for one in account.failed),
    }


def _why_not(
    account: AccountLedger,
    lines: Sequence[figures.Judgement],
    as_of: datetime | None,
    begun: Mapping[Path, datetime],
    old: str | None,
) -> str | None:
    """Return why an account isn't covered; None if it is.

    :param begun: when the last run into each tree of c7n-org began.
    :param old: says that all runs are too old for an answer, if they are.
    """
    failed = account.failed
    if failed:
        return "run failed: " + "; ".join(map(_failure, failed[:5]))
    if not account.latest and not account.ends:
        return "never run"
    if old:
        return old
    if not lines:
        return "no run judged its keys by a credential report"
    report = min(line.report for line in lines)
    if as_of and as_of - report > PRESENT:
        return f"credential report too old: made {utc(report)}, the newest run is of {utc(as_of)}"
    for slot, time in account.unjudged().items():
        return f"no run judged the keys of slot {slot} since {utc(time)}"
    begins = [(one.start, one.tree) for one in account.ends.values() if one.start]
    if begins:
        start, tree = max(begins, key=lambda pair: pair[0])
        if tree and start < begun[tree]:
            return (
                f"the newest run, which began {utc(begun[tree])}, left it out: it was for other "
                "accounts only, or the role couldn't be taken"
            )
    return None


def _begun(ledger: Ledger) -> dict[Path, datetime]:
    """Return when the last run into each tree of c7n-org began."""
    times: dict[Path, list[tuple[datetime, datetime]]] = defaultdict(list)
    for account in ledger.accounts.values():
        for one in account.ends.values():
            if one.tree and one.start:
                # One without an end was stopped; when isn't known.
                times[one.tree].append((one.start, one.end or one.start))
    return {tree: files.last_run(some) for tree, some in times.items()}


def _failure(last: End) -> str:
    name = one_line(last.name, 200)
    return f"{name} {files.failure(last.path, last.start, last.end, last.metrics)}"


def _totals(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    covered = sum(row["covered"] for row in rows)
    judged = [row for row in rows if row["users"] is not None]
    return {
        "accounts": len(rows),
        "covered": covered,
        "not_covered": len(rows) - covered,
        **figures.total(judged),
        **{state: sum(row[state] for row in rows) for state in STATES if state != "expiring"},
    }


def _upcoming(keys: Sequence[dict[str, Any]], as_of: datetime | None) -> list[dict[str, Any]]:
    """Return what happens on the day (UTC) of the newest run and on those after it."""
    if as_of is None:
        return []
    stale: dict[date, list[int]] = defaultdict(list)
    ending: dict[date, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        if key["state"] == "expiring" and key["deadline"]:
            instant = datetime.fromisoformat(key["deadline"])
            stale[instant.astimezone(timezone.utc).date()].append(place)
        if key["exempt_until"] and key["state"] in ("exempt", "expiring"):
            ending[date.fromisoformat(key["exempt_until"])].append(place)
    days = [as_of.date() + timedelta(days=number) for number in range(DAYS_SHOWN + 1)]
    return [
        {"date": day.isoformat(), "becoming_stale": stale[day], "exemptions_ending": ending[day]}
        for day in days
    ]


def _exemptions(
    keys: Sequence[dict[str, Any]],
    exempt: Mapping[tuple[str, str], tuple[str | None, ExemptUser]],
    as_of: datetime | None,
) -> list[dict[str, Any]]:
    """Return the exemptions: of each key in the list that has one, and of each other user.

    :param exempt: by account id and user, the account's name and what a run saw.
    """
    found, listed = [], set()
    for place, key in enumerate(keys):
        if key["exemption"]:
            _, one = exempt.get((key["account_id"], key["user"]), (None, None))
            listed.add((key["account_id"], key["user"]))
            found.append(_exemption(key, place, one, as_of))
    for (account, user), (name, one) in exempt.items():
        if (account, user) not in listed:
            nobody = {"account_id": account, "account": name, "user": user, "slot": None}
            found.append(_exemption(nobody, None, one, as_of))
    return sorted(found, key=lambda one: (one["until"] or "", one["account_id"], one["user"]))


def _exemption(
    key: Mapping[str, Any], place: int | None, one: ExemptUser | None, as_of: datetime | None
) -> dict[str, Any]:
    until = one.until if one else key["exempt_until"]
    return {
        "account_id": key["account_id"],
        "account": key["account"],
        "user": key["user"],
        "slot": key["slot"],
        "access_key_id": key.get("access_key_id"),
        "state": one.state.value if one else key["exemption"],
        "until": until,
        "days_left": (date.fromisoformat(until) - as_of.date()).days if until and as_of else None,
        "reason": one_line(one.reason) or None if one else None,
        "approved_by": one_line(one.approved_by) or None if one else None,
        "owner": one_line(one.owner) if one and one.owner else key.get("owner"),
        "source": one_line(one.source, 200) if one else None,
        "key": place,
    }


def _runs(accounts: Iterable[AccountLedger], days: float) -> list[dict[str, Any]]:
    """Return the figures of each day (UTC) that had a run: of those accounts that it covered."""
    by_day: dict[str, list[tuple[dict[str, Any], int, bool]]] = defaultdict(list)
    done: dict[str, Counter[str]] = defaultdict(Counter)
    begun: dict[str, list[str]] = defaultdict(list)
    for account in accounts:
        of_account: dict[str, list[figures.Judgement]] = defaultdict(list)
        for line in account.lines:
            of_account[line.time.date().isoformat()].append(line)
        for day, lines in of_account.items():
            exempt = max(line.exempt for line in lines)
            dry = all(line.dry_run for line in lines)
            begun[day].append(min(line.time for line in lines).isoformat(timespec="seconds"))
            by_day[day].append((figures.figures(figures.chosen(lines, days)), exempt, dry))
        for day, results in account.by_day.items():
            done[day].update(result.value for result in results.values())
    return [
        {
            "date": day,
            "begun": min(begun[day], default=None),
            "accounts": len(by_day[day]),
            **figures.total(counts for counts, _, _ in by_day[day]),
            "exempt": sum(exempt for _, exempt, _ in by_day[day]),
            "dry_run": bool(by_day[day]) and all(dry for _, _, dry in by_day[day]),
            "outcomes": {one.value: done[day][one.value] for one in Result if done[day][one.value]},
        }
        for day in sorted({*by_day, *done})
    ]
