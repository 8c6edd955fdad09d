# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a notice says, as plain data: dates in words, commands' words quoted, what the policy does.

c7n-mailer is another program, so a template can't call our Python. What it prints is
computed here and travels in the message: ``about_run`` in the notify action under ``keyrot``,
``about_user`` on each user under ``c7n:keyrot-notice``. All of it is text, on one line, printable
and bounded, or True; a field that says nothing is left out. Nothing is escaped for HTML or Slack:
only a template knows its format.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

from c7n_keyrot.core import rotation
from c7n_keyrot.core.records import KeyRecord, OtherKey
from c7n_keyrot.core.rotation import Exemption, Identified, Verdict, created
from c7n_keyrot.core.usage_words import in_words

NOTICE = "c7n:keyrot-notice"
# Which filter's records a situation is about, if the policy has several.
FILTERS = {
    "disabling": "stale-access-key",
    "expiring": "expiring-access-key",
    "unclear": "unclear-access-key",
}
SITUATIONS = (*FILTERS, "exemptions")
# Where c7n-mailer's contact_tags look for the owner of a user, as in examples/mailer.yml.
OWNER_TAGS = ("OwnerContact", "OwnerEmail", "Owner")
REASON_TAG = "keyrot-exempt-reason"
# Lines about who uses a key, by the number of users in a message: SQS bounds it, and mail programs
# cut long mails.
MOST_USES = ((10, 6), (100, 2))
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True)
class PolicyPlan:
    """What a policy does, as far as its notices say it.

    - ``does``: to the keys, now: ``disable``, ``delete`` or nothing
    - ``disable_on``, ``delete_on``: the days that a ``mark-for-op`` of the policy sets
    - ``marks``: the tags with a day on which the policy disables marked users' keys
    - ``exempt_tag``: the tag that exempts a user; empty if the policy knows no exemption
    - ``register``: the name of the register of exemptions; empty without one
    - ``ends_within``, ``longer_than``: days; which exemptions the policy looks for
    """

    does: str = ""
    disable_on: datetime | None = None
    delete_on: datetime | None = None
    marks: tuple[str, ...] = ()
    exempt_tag: str = ""
    register: str = ""
    ends_within: float | None = None
    longer_than: float | None = None


# Words


def clean(value: object, limit: int = 300) -> str:
    """Return text from outside as one line of printable characters, of at most so many.

    What can't be printed becomes U+FFFD, so that a changed name reaches no other user.
    """
    text = "" if value is None else str(value)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quote(value: str) -> str:
    """Return a cleaned text as one word for a POSIX shell, or zsh, which expands ``=name``."""
    if re.fullmatch(r"[A-Za-z0-9_\-.,+@/:]+", value):
        return value
    return "'" + value.replace("'", "'\"'\"'") + "'"


def user_option(word: str) -> str:
    """Return the AWS CLI's option for a quoted user name; it takes ``-x`` for another option."""
    return f"--user-name{'=' if word.startswith(('-', chr(39) + '-')) else ' '}{word}"


def day(instant: datetime) -> str:
    """Return the UTC day in words, such as ``30 July 2026``."""
    return date_words(instant.astimezone(timezone.utc).date())


def date_words(at: date) -> str:
    """Return a date in words."""
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}"


def moment(instant: datetime | str | None) -> str:
    """Return an instant, or its ISO 8601 text, in words: ``30 July 2026, 10:00 UTC``."""
    if not instant:
        return ""
    at = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
    return f"{day(at)}, {at.astimezone(timezone.utc):%H:%M} UTC"


def count(number: float, noun: str) -> str:
    """Return ``1 day``, ``2 days``, ``1.5 days``."""
    return f"{number:.10g} {noun}{'' if number == 1 else 's'}"


def days_after(now: datetime, days: object, hours: object = 0) -> datetime | None:
    """Return the day that ``mark-for-op`` sets; None for what it can't set."""
    try:
        return now + timedelta(days=float(str(days)), hours=float(str(hours)))
    except (ValueError, OverflowError):
        return None


def filled(**fields: object) -> dict[str, Any]:
    """Return the fields that say something; a template takes a missing one for an empty text."""
    return {name: value for name, value in fields.items() if value}


# The run


def about_run(
    plan: PolicyPlan,
    policy: Mapping[str, Any],
    action: Mapping[str, Any],
    account: tuple[str, str],
    now: datetime,
    report: str | None,
) -> dict[str, Any]:
    """Return what all notices of one action of one run say.

    :param policy: the policy's data.
    :param action: the notify action's data.
    :param account: the account's id and, if known, its name.
    :param now: the instant of the run, UTC.
    :param report: ISO 8601 instant of the credential report.
    """
    metadata = policy.get("metadata")
    rule = metadata if isinstance(metadata, dict) else {}
    number, name = (clean(part, 64) for part in account)
    contacts = [text for text in _texts(action.get("owner_absent_contact")) if "@" in text]
    longest = days_after(now, plan.longer_than) if plan.longer_than else None
    return filled(
        account=f"{name} ({number})" if name else number,
        policy=clean(policy.get("name")),
        does=plan.does,
        dated=bool(plan.marks),
        disable_on=plan.disable_on and day(plan.disable_on),
        delete_on=plan.delete_on and day(plan.delete_on),
        exempt_tag=clean(plan.exempt_tag),
        register=clean(plan.register, 200),
        exempt_word=quote(clean(plan.exempt_tag)) if plan.exempt_tag else "",
        ends_within=plan.ends_within and count(plan.ends_within, "day"),
        longer_than=plan.longer_than and count(plan.longer_than, "day"),
        until_at_most=longest and day(longest),
        contact=", ".join(contacts),
        made=moment(now),
        report=moment(report),
        rule_id=clean(rule.get("rule-id")),
        title=clean(rule.get("title")),
        severity=clean(rule.get("severity")),
        frameworks=_texts(rule.get("frameworks")),
        references=_texts(rule.get("references")),
    )


def _texts(value: object) -> list[str]:
    entries = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [text for entry in entries if (text := clean(entry))]


# A user


def about_user(
    situation: str,
    plan: PolicyPlan,
    user: Mapping[str, Any],
    records: Sequence[KeyRecord],
    matched: Collection[str],
    live: Sequence[Mapping[str, Any]],
    now: datetime,
    most_uses: int = 1,
    exemption: Exemption | None = None,
) -> dict[str, Any] | None:
    """Return what a notice says of one user; None if it would say something that isn't true.

    A notice about a key is for users whose key is identified and, in a policy that acts, is acted
    on. Its subject says so, and can't differ per user. Who is left out is reported by
    the run itself, and by a policy with ``unclear-access-key``.

    :param situation: one of ``SITUATIONS``: which template it is.
    :param matched: ids of the keys that the policy's actions act on.
    :param live: the user's ``AccessKeyMetadata``, of IAM's ListAccessKeys.
    :param most_uses: lines at most about who uses a key.
    :param exemption: the one that the policy's filter found, if any.
    """
    word = quote(clean(user.get("UserName"), 1000))
    about = filled(word=word, option=user_option(word))
    tags = _tags(user)
    if situation == "exemptions":
        return about | _exemption(exemption or _tagged(plan, tags, now), tags, now)
    mine = [record for record in records if record.filter == FILTERS[situation]]
    if situation == "unclear":
        keys = _distinct([_doubt(record) for record in mine])
        said = {"keys": keys, "live": [_live(key, tags, now) for key in live]}
        return None if records and not mine else about | said
    mine = mine or list(records)
    # The run's own keys aren't matched: for them no deadline holds either.
    sets_day = plan.disable_on or plan.delete_on or situation == "expiring"
    acts = plan.does if situation == "disabling" else ""
    known = [
        record
        for record in mine
        if record.access_key_id
        and (
            record.access_key_id in matched
            or not (acts or (sets_day and record.filter == FILTERS["disabling"]))
        )
    ]
    if records and not known:
        return None
    marked = _marked_day(plan, tags) if situation == "expiring" else None
    return about | {"keys": _distinct([_key(record, marked, now, most_uses) for record in known])}


def owner_of(tags: Sequence[Mapping[str, str]]) -> str | None:
    """Return the contact in a user's tags, as c7n-mailer finds it; None without one.

    :param tags: ``Tags`` of IAM's GetUser.
    """
    return clean(_owner({tag["Key"]: tag["Value"] for tag in tags})) or None


def _owner(tags: Mapping[str, str]) -> str:
    # In IAM two tags can't differ by case alone.
    values = {name.lower(): value.strip() for name, value in tags.items()}
    return next((values[tag.lower()] for tag in OWNER_TAGS if values.get(tag.lower())), "")


def most_uses(users: int) -> int:
    """Return how many lines about who uses a key a notice of so many users has room for."""
    return next((lines for number, lines in MOST_USES if users <= number), 1)


def _tags(user: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in user.get("Tags") or ()}


def _distinct(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # Two filters of one policy may mean the same key.
    return list({(key.get("key"), key["slot"]): key for key in reversed(keys)}.values())[::-1]


def _key(
    record: KeyRecord, marked: datetime | None, now: datetime, most_uses: int
) -> dict[str, Any]:
    return filled(
        key=quote(clean(record.access_key_id)),
        slot=str(record.slot),
        about=clean(record.description, 120),
        due=marked.isoformat() if marked else record.deadline,
        deadline=day(marked) if marked else moment(record.deadline),
        left="" if marked or not record.deadline else _left(record.deadline, now),
        marked=bool(marked),
        stale=record.verdict in (Verdict.STALE, Verdict.INACTIVE),
        days=f"{record.days:.10g}",
        drift=record.drift,
        exemption=record.exemption and _void(record.exemption),
        other=record.other_key and _other(record.other_key),
        usage=record.usage and in_words(record.usage, now, most_uses),
        **_age_and_use(record),
    )


def _age_and_use(record: KeyRecord) -> dict[str, Any]:
    return filled(
        rotated=moment(record.last_rotated),
        age="" if record.age_days is None else count(int(record.age_days), "day"),
        used=moment(record.last_used_date),
        used_by=_used_by(record) if record.last_used_date else "",
    )


def _left(deadline: str, now: datetime) -> str:
    """Say how far off a deadline is, by UTC days as its date is."""
    at = datetime.fromisoformat(deadline).astimezone(timezone.utc)
    return "passed" if at < now else _days_off(at.date(), now)


def _days_off(at: date, now: datetime) -> str:
    days = (at - now.astimezone(timezone.utc).date()).days
    return "passed" if days < 0 else {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")


def _used_by(key: KeyRecord | OtherKey) -> str:
    parts = (("by", key.last_used_service), ("in", key.last_used_region))
    return " ".join(f"{word} {clean(part)}" for word, part in parts if part and part != "N/A")


def _void(exemption: Mapping[str, str]) -> dict[str, str]:
    tag, value = clean(exemption.get("tag")), clean(exemption.get("value"), 41)
    return filled(tag=f"{tag}={value}", state=clean(exemption.get("state")))


def _other(key: OtherKey) -> dict[str, Any]:
    return filled(
        key=clean(key.access_key_id),
        status=clean(key.status).lower(),
        about=clean(key.description, 120),
        age=count(int(key.age_days), "day"),
        reported=key.in_report,
        used=moment(key.last_used_date),
        used_by=_used_by(key) if key.last_used_date else "",
    )


def _doubt(record: KeyRecord) -> dict[str, Any]:
    if record.identified is Identified.AMBIGUOUS:
        why = "same-second"
    elif record.verdict is Verdict.UNKNOWN:
        why = "no-status" if record.last_rotated else "no-date"
    else:
        why = "unread" if record.identified is Identified.UNREAD else "no-match"
    return filled(
        slot=str(record.slot),
        due=record.deadline,
        why=why,
        days=f"{record.days:.10g}",
        exemption=record.exemption and _void(record.exemption),
        **_age_and_use(record),
    )


def _live(key: Mapping[str, Any], tags: Mapping[str, str], now: datetime) -> dict[str, Any]:
    made = created(dict(key))
    return filled(
        key=quote(clean(key["AccessKeyId"])),
        status=clean(key["Status"]).lower(),
        about=clean(tags.get(key["AccessKeyId"]), 120),
        created=moment(made),
        age=count(int((now - made) / rotation.DAY), "day"),
    )


def _marked_day(plan: PolicyPlan, tags: Mapping[str, str]) -> datetime | None:
    """Return the day on which the user's key will be disabled, by a mark of Custodian's."""
    if plan.disable_on:
        return plan.disable_on.replace(hour=0, minute=0, second=0)
    for tag in plan.marks:
        found = re.search(r": disable-access-key@(\d{4}/\d\d/\d\d)", tags.get(tag, ""))
        if found:
            try:
                at = datetime.strptime(found[1], "%Y/%m/%d")
            except ValueError:
                continue
            return at.replace(tzinfo=timezone.utc)
    return None


def _tagged(plan: PolicyPlan, tags: Mapping[str, str], now: datetime) -> Exemption | None:
    entries = [{"Key": name, "Value": value} for name, value in tags.items()]
    return rotation.exemption(entries, plan.exempt_tag, now) if plan.exempt_tag else None


def _exemption(found: Exemption | None, tags: Mapping[str, str], now: datetime) -> dict[str, Any]:
    until = found.until if found else None
    reason = tags.get(REASON_TAG, "").strip()
    if found and found.approved_by:
        reason = f"{found.reason[:120]}; approved by {found.approved_by[:100]}"
    return filled(
        due=until.isoformat() if until else "",
        until=date_words(until) if until else clean(found.value.strip(), 41) if found else "",
        left=_days_off(until, now) if until else "",
        reason=clean(reason, 240),
        owner=clean(_owner(tags), 120),
    )
