# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the page says, as plain data: the template only lays it out.

All comes from the report. Only sums, shares and words are computed here. Times are UTC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from c7n_keyrot import __version__
from c7n_keyrot.cli.report import charts
from c7n_keyrot.cli.report.charts import Column, Part
from c7n_keyrot.cli.report.words import (
    CLOSED,
    OUTCOMES,
    SECTIONS,
    STATES,
    WHY,
    account_name,
    clean,
    day_name,
    instant,
    key_account,
    many,
    percent,
    some,
)
from c7n_keyrot.evidence.figures import OLD

MOST_EXEMPTIONS = 200  # rows; --format json has all of them
ACCOUNTS_AT_ONCE = 200  # rows that are shown before somebody asks for more
COME_BACK = 2  # times: then something may switch the key on by itself
MOST_NAMES = 12  # of the keys of a day
BROAD, NARROW = 540, 330  # width of a chart on a screen and on a phone, in pixels
STALE_NEWS = timedelta(days=2)  # a report of runs that are older says so

Report = Mapping[str, Any]

# The last age, in days, of a column of the histogram, beside the rule's own limit.
AGES = (120, 180, 365, 730)


@dataclass(frozen=True)
class Card:
    """One of the three answers at the top; ``state`` is good, soon, bad or none."""

    question: str
    figure: str
    unit: str
    state: str
    answer: str
    detail: str
    section: str
    link: str


def page(report: Report) -> dict[str, Any]:
    """Return all that the template prints, in the order of the page."""
    totals, days = report["totals"], f"{report['rule']['days']:g}"
    columns, since = ages(report), no_run_since(report)
    return {
        "title": f"Access key rotation, {instant(report['generated'])} UTC",
        "made": instant(report["generated"]),
        "sections": SECTIONS,
        "headline": headline(totals, since),
        "lead": lead(report),
        "cards": [covered(report), compliant(totals, since), upcoming(report, since)],
        "warnings": warnings(report),
        "limit": days,
        "active_keys": totals["active_keys"],
        "days": list(calendar(report)),
        "shares": charts.shares([part for part, _ in parts(totals, days)]),
        "parts": parts(totals, days),
        "columns": columns,
        "histogram": [
            charts.histogram(columns, 2, f"{days} days", width) for width in (BROAD, NARROW)
        ],
        **trend(report),
        "accounts": accounts(report),
        "at_once": ACCOUNTS_AT_ONCE,
        "key_count": len(report["keys"]),
        "states": STATES,
        "key_outcomes": sorted({clean(key["outcome"]) or "none" for key in report["keys"]}),
        "outcomes": outcomes(report["outcomes"]),
        "switched_on": switched_on(report["switched_on"]),
        "come_back": list(come_back(report)),
        "exemptions": list(exemptions(report)),
        "exemption_count": len(report["exemptions"]),
        "rule": rule(report["rule"]),
        "version": __version__,
        "colour": charts.colour,
    }


# The answer


def no_run_since(report: Report) -> str:
    """Return when the newest run was, if that is too long ago for an answer; else nothing."""
    if not report["as_of"]:
        return ""
    old = datetime.fromisoformat(report["generated"]) - datetime.fromisoformat(report["as_of"])
    return instant(report["as_of"]) if old > OLD else ""


def headline(totals: Mapping[str, Any], since: str = "") -> str:
    """Answer in one sentence whether all is in order.

    :param since: see ``no_run_since``.
    """
    if since:
        return f"Not known: no run since {since} UTC"
    missing = totals["not_covered"]
    if not totals["covered"]:
        return "No answer yet: no account is covered"
    if totals["open"]:
        keys = "key is" if totals["open"] == 1 else "keys are"
        answer = f"Not in compliance: {totals['open']:,} {keys} too old and still active"
    elif totals["unclear"]:
        keys = "key needs" if totals["unclear"] == 1 else "keys need"
        answer = f"Not yet in compliance: {totals['unclear']:,} {keys} review"
    elif totals["exempt"]:
        are = "is" if totals["exempt"] == 1 else "are"
        answer = f"Only {many(totals['exempt'], 'exempt key')} {are} too old"
    elif missing:
        answer = "No active key is too old"
    else:
        answer = "In compliance: no active key is too old"
    join, are = "and" if totals["open"] else "but", "is" if missing == 1 else "are"
    return answer + (f", {join} {many(missing, 'account')} {are} not covered" if missing else "")


def lead(report: Report) -> str:
    totals, slots = report["totals"], report["rule"]["slots"]
    keys = {(1,): "first access keys", (2,): "second access keys"}.get(tuple(slots), "access keys")
    dry = [row["dry_run"] for row in report["accounts"] if row["dry_run"] is not None]
    looked = f", by runs up to {instant(report['as_of'])} UTC" if report["as_of"] else ""
    return (
        f"The {keys} of {many(totals['users'], 'user')} in {many(totals['covered'], 'account')}"
        f"{looked}.{' They were dry runs, so nothing was done.' if dry and all(dry) else ''}"
    )


def covered(report: Report) -> Card:
    totals = report["totals"]
    missing = totals["not_covered"]
    state, answer = ("bad", f"No, {missing:,} missing") if missing else ("good", "Yes, all")
    if not totals["accounts"]:
        state, answer = "none", "There is none"
    names = [account_name(row) for row in report["accounts"] if not row["covered"]]
    return Card(
        "Is every account covered?",
        f"{totals['covered']:,}",
        f"of {many(totals['accounts'], 'account')}",
        state,
        answer,
        f"Not covered: {some(names, 3)}." if names else "",
        "accounts",
        "See the accounts",
    )


def compliant(totals: Mapping[str, Any], since: str = "") -> Card:
    found = totals["stale"] + totals["unknown"]
    now = {"fixed": "fixed", "open": "open", "unclear": "in doubt", "exempt": "exempt"}
    told = ", ".join(f"{totals[name]:,} {words}" for name, words in now.items() if totals[name])
    if since:
        state, answer = "none", "Not known"
    elif totals["open"]:
        state, answer = "bad", f"No, {many(totals['open'], 'key')} still open"
    elif totals["unclear"]:
        state, answer = "soon", f"Not yet, {many(totals['unclear'], 'key')} in doubt"
    elif not totals["covered"]:
        state, answer = "none", "Not known"
    elif totals["not_covered"]:
        state, answer = "soon", f"Not known of {many(totals['not_covered'], 'account')}"
    elif totals["exempt"]:
        state, answer = "soon", "All but exempt keys"
    else:
        state, answer = "good", "Yes"
    share = percent(totals["compliant_percent"]) if totals["active_keys"] else "0"
    of = f"of {many(totals['active_keys'], 'key')}" if totals["active_keys"] else "active keys"
    return Card(
        "Are the keys in compliance?",
        share,
        f"{of}, as found",
        state,
        answer,
        f"{many(found, 'key')} found too old or unknown. Now: {told}." if told else "",
        "compliance",
        "See ages and trend",
    )


def upcoming(report: Report, since: str = "") -> Card:
    days = report["upcoming"]
    due = sum(len(day["becoming_stale"]) for day in days)
    first = next((day["date"] for day in days if day["becoming_stale"]), None)
    known = bool(days) and not since
    ends = sum(len(day["exemptions_ending"]) for day in days)
    return Card(
        "What comes next?",
        f"{due:,}",
        "key due in 14 days" if due == 1 else "keys due in 14 days",
        "soon" if due else "good" if known else "none",
        f"The first on {day_name(first)}" if first else "No key is due" if known else "Not known",
        f"{many(ends, 'exemption')} {'ends' if ends == 1 else 'end'}, too." if ends else "",
        "next",
        "See the days",
    )  # fmt: skip


def warnings(report: Report) -> list[str]:
    told = [clean(warning) for warning in report["warnings"]]
    if report["as_of"]:
        old = datetime.fromisoformat(report["generated"]) - datetime.fromisoformat(report["as_of"])
        if STALE_NEWS < old <= OLD:  # beyond that the report says it
            told.insert(0, f"The newest run is {old.days} days older than this page.")
    return told


# The parts of the page


def calendar(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the coming days, what is due on each, and for whom."""
    words = {
        "becoming_stale": ("soon", "key is due", "keys are due"),
        "exemptions_ending": ("none", "exemption ends", "exemptions end"),
    }
    for day in report["upcoming"]:
        events = []
        for name, (kind, one, several) in words.items():
            keys = [report["keys"][place] for place in day[name]]
            if keys:
                who = [f"{clean(key['user'])} ({key_account(key)})" for key in keys[:MOST_NAMES]]
                more = f" and {len(keys) - MOST_NAMES:,} more" if len(keys) > MOST_NAMES else ""
                text = one if len(keys) == 1 else several
                event = {"kind": kind, "count": len(keys), "text": text, "who": who, "more": more}
                events.append(event)
        yield {"date": day["date"], "name": day_name(day["date"]), "events": events}


def parts(totals: Mapping[str, Any], days: str) -> list[tuple[Part, str]]:
    """Return the verdicts' parts of all active keys, each with its meaning."""
    return [
        (Part("fresh", "Fresh", totals["fresh"]), "rotated in time"),
        (Part("expiring", "Expiring", totals["expiring"]), "rotated in time, and due soon"),
        (Part("stale", "Stale", totals["stale"]), f"rotated more than {days} days ago"),
        (Part("unknown", "Unknown", totals["unknown"]), "the date can't be read"),
    ]


def ages(report: Report) -> list[Column]:
    """Return the histogram's columns: fresh keys, then the others by age, then those without one.

    The ages of fresh keys aren't in a report, only their number.
    """
    limit = report["rule"]["days"]
    edges = [limit, *(age for age in AGES if age > limit)]
    counts = [Counter[str]() for _ in range(len(edges) + 1)]
    for key in report["keys"]:
        if key["age_days"] is not None and key["verdict"] in ("expiring", "stale"):
            at = next((i for i, last in enumerate(edges) if key["age_days"] <= last), len(edges))
            if key["verdict"] == "stale" and not at:  # 90.04 days are 90.0, to one decimal
                at = 1
            state = key["state"] if key["verdict"] == "stale" else "expiring"
            counts[at][state if state in STATES else "open"] += 1
    kinds = {"fixed": "fixed", "exempt": "exempt", "open": "stale", "unclear": "stale"}
    columns = [Column("fresh", [Part("fresh", "", report["totals"]["fresh"])])]
    for at, count in enumerate(counts):
        label = f"to {edges[at]:g}" if at < len(edges) else "older"
        stacked = [Part(kind, "", count[state]) for state, kind in kinds.items()]
        columns.append(Column(label, [Part("expiring", "", count["expiring"]), *stacked]))
    unknown = report["totals"]["unknown"]
    return columns + ([Column("no date", [Part("unknown", "", unknown)])] if unknown else [])


def trend(report: Report) -> dict[str, Any]:
    """Return the trend's chart in two widths, and its figures; nothing for fewer than two runs."""
    runs = [
        run | {"compliant_percent": run["compliant_percent"] if run["active_keys"] else None}
        for run in report["runs"]
    ]
    if len(runs) < 2:
        return {"trend": [], "trend_chart": []}
    values = {date.fromisoformat(run["date"]): run["compliant_percent"] for run in runs}
    drawn = [charts.trend(values, width) for width in (BROAD, NARROW)]
    return {"trend": runs[::-1], "trend_chart": drawn}


def accounts(report: Report) -> list[dict[str, Any]]:
    """Return the rows of the accounts: those not covered first, then by their open keys."""
    keys = Counter(key["account_id"] for key in report["keys"])
    rows = []
    for place, row in enumerate(report["accounts"]):
        share = row["compliant_percent"] if row["active_keys"] else None
        due = bool(row["open"] or row["unclear"])
        states = ["missing"] * (not row["covered"]) + ["due"] * due
        rows.append(
            {
                **row,
                "place": place,
                "name": account_name(row),
                "why": clean(row["why"]) or ("dry run" if row["dry_run"] else ""),
                "key_count": keys[row["account_id"]],
                "facts": facts(row),
                "state": " ".join(states) or "fine",
                "share": share,
                "percent": percent(share) if row["active_keys"] is not None else "not known",
                "bar": "" if share is None else charts.share(share),
            }
        )
    return sorted(rows, key=lambda row: (row["covered"], -row["open"] - row["unclear"]))


def facts(row: Mapping[str, Any]) -> str:
    """Return where an account's figures are from: what to look for on disk."""
    told = []
    if row["last_run"]:
        told.append(
            f"Last run: {instant(row['last_run'])}{', a dry run' if row['dry_run'] else ''}."
        )
    if row["report_generated"]:
        told.append(
            f"Figures according to the credential report of {instant(row['report_generated'])},"
            f" with a limit of {row['days']:g} days; in keyrot-summary.jsonl by run"
            f" {some([clean(one) for one in row['run_ids']], 3)}."
        )
    if row["failed"]:
        told.append(f"Failed: {some([clean(name) for name in row['failed']], 5)}.")
    return " ".join(told) or "No run of this account is in these folders."


def keys(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the rows of the keys, for the script: those that need review come first."""
    places = {row["account_id"]: place for place, row in enumerate(report["accounts"])}
    order = {state: number for number, state in enumerate(STATES)}
    for key in sorted(report["keys"], key=lambda key: order.get(key["state"], -1)):
        yield {
            "account": places.get(key["account_id"]),
            "user": clean(key["user"]),
            "slot": key["slot"],
            "key": clean(key["access_key_id"]) or None,
            "state": clean(key["state"]),
            "age": key["age_days"],
            "deadline": instant(key["deadline"]) if key["deadline"] else None,
            "left": key["days_left"],
            "outcome": clean(key["outcome"]) or None,
            "done": instant(key["outcome_time"]) if key["outcome_time"] else None,
            "why": why(key) or None,
            "reason": clean(key["reason"]) or None,
            "owner": clean(key["owner"]) or None,
            "note": clean(key["description"]) or None,
            "used": instant(key["last_used_date"]) if key["last_used_date"] else None,
            "used_by": used_by(key) or None,
            "history": list(map(event, key["history"])) or None,
        }


def event(one: Mapping[str, Any]) -> str:
    """Say in one line what happened to a key, when, and who did it."""
    who = clean(one["caller"]).rpartition(":")[2]
    about = clean(one["owner"]) if one["outcome"] == "notified" else clean(one["reason"])
    return (
        f"{instant(one['time'])}: {clean(one['outcome'])}"
        + (f" ({about})" if about else "")
        + (f", by {who}" if who else "")
    )


def why(key: Mapping[str, Any]) -> str:
    if key["closed"] in CLOSED:
        return CLOSED[key["closed"]]
    if key["exempt_until"]:
        return f"until {clean(key['exempt_until'])}"
    return WHY.get(key["why"], clean(key["why"]))


def used_by(key: Mapping[str, Any]) -> str:
    where = (clean(key[f"last_used_{what}"]) for what in ("service", "region"))
    return ". ".join(filter(None, (", ".join(filter(None, where)), clean(key["usage"]))))


def outcomes(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    order = [*OUTCOMES, *(name for name in counts if name not in OUTCOMES)]
    return [
        {"name": name, "count": counts[name], "state": state, "meaning": meaning}
        for name in order
        if counts.get(name)
        for state, meaning in [OUTCOMES.get(name, ("none", ""))]
    ]


def switched_on(figures: Mapping[str, Any]) -> str:
    """Say how many of the disabled keys were switched on again; nothing if none was disabled."""
    if not figures["disabled"]:
        return ""
    text = f"Of {many(figures['disabled'], 'disabled key')} {figures['keys']:,} "
    text += "was" if figures["keys"] == 1 else "were"
    if not figures["keys"]:
        return f"{text} switched on again."
    hours = round(figures["median_hours"])
    return (
        f"{text} switched on again: {many(figures['undone'], 'time')} by c7n-keyrot reactivate, "
        f"{many(figures['by_others'], 'time')} by others. The median is "
        f"{many(hours, 'hour') if hours else 'less than an hour'} after the key was disabled."
    )


def come_back(report: Report) -> Iterator[str]:
    """Say which keys were switched on more than once, the most often first."""
    found = [key for key in report["keys"] if key["times_switched_on"] >= COME_BACK]
    found.sort(key=lambda key: -key["times_switched_on"])
    for key in found[:MOST_NAMES]:
        yield (
            f"{clean(key['access_key_id']) or 'A key'} of {clean(key['user'])} "
            f"({key_account(key)}): switched on again {key['times_switched_on']} times"
        )
    if len(found) > MOST_NAMES:
        yield f"and {len(found) - MOST_NAMES:,} more"


def exemptions(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the exemptions' rows, the first to end first."""
    for one in report["exemptions"][:MOST_EXEMPTIONS]:
        slot = one["slot"]
        yield {
            "user": clean(one["user"]),
            "account": key_account(one),
            "key": clean(one["access_key_id"]) or (f"key {slot}" if slot else ""),
            "state": clean(one["state"]),
            "until": clean(one["until"]) or "no date",
            "left": one["days_left"],
            "owner": clean(one["owner"]),
            "reason": clean(one["reason"]),
            "approved_by": clean(one["approved_by"]),
        }


def rule(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rule's texts, and how many frameworks its lines name with all their versions."""
    frameworks = [clean(text) for text in said["frameworks"]]
    controls: dict[str, list[str]] = {}
    for one in said["controls"]:
        controls.setdefault(clean(one["framework"]), []).append(clean(one["control"]))
    names = ("id", "severity", "category", "entity")
    return {
        "title": clean(said["title"]) or "The policies of these runs don't name their rule.",
        "facts": {name: clean(said[name]) for name in names if said[name]},
        "frameworks": frameworks,
        "framework_count": sum(text.count(", ") + 1 for text in frameworks),
        "remediation": [clean(text) for text in said["remediation"]],
        "references": [clean(text) for text in said["references"]],
        "controls": {name: ", ".join(numbers) for name, numbers in controls.items()},
        "controls_source": clean(said["controls_source"]),
    }
