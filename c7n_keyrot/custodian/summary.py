# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run reports on the whole account: each candidate is matched, or the reason why not."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from c7n_keyrot.aws import listings
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.credential_report import Report, Row
from c7n_keyrot.core.notice import REASON_TAG, owner_of
from c7n_keyrot.core.records import ExemptUser, NotMatched, RunBegun, RunSummary, Why
from c7n_keyrot.core.rotation import Verdict, identify
from c7n_keyrot.core.text import one_line
from c7n_keyrot.custodian import output, population
from c7n_keyrot.custodian.matching import RECORDS, asserted
from c7n_keyrot.custodian.run import PolicyRun

# What each policy ends with, apart from what is wrong, so that it can be chosen.
summary_log = logging.getLogger("custodian.keyrot.summary")

# Keys that a dry run, or an error, names; the rest is counted.
MOST_NAMED = 20


def write(run: PolicyRun, selected: Sequence[dict[str, Any]]) -> None:
    """Add the run's line to ``keyrot-summary.jsonl`` in the policy's output folder.

    A policy with ``stale-access-key`` also puts what it says of the account into the metrics.

    :param selected: what the filters have selected, with our records.
    """
    context = run.manager.ctx
    if context.output is None:
        return  # a policy that isn't run, such as in a test of its filters
    if output.is_taken(context):
        raise run.log.stop(
            "another policy of this name has run into the same folder; this one isn't run: give "
            "each policy its own name"
        )
    if output.is_shared(context):
        run.log.once(
            "with braces in -s Custodian adds no folder for the policy, so each policy's files "
            "replace those of the one before, and plan, report and doctor see the last one only: "
            "write {policy_name} into -s"
        )
    summary = dataclasses.replace(summary_of(run, selected), population=population.keep(run))
    if any(one["filter"] == "stale-access-key" for one in summary.filters):
        stale = summary.verdicts.get(Verdict.STALE.value, 0)
        figures = {"Users": summary.users, "KeysActive": summary.active_keys, "KeysStale": stale}
        _put_metrics(run, figures)
    _append(run, outcomes.SUMMARY_FILE, summary)


def write_begin(run: PolicyRun) -> None:
    """Add a line to ``keyrot-begun.jsonl``: the policy begins, and nothing was asked yet.

    Not for a function that an event starts, which has no output folder while it filters.
    """
    if run.manager.ctx.output is None:
        return
    begun = RunBegun(
        time=_now(),
        account_id=run.account_id,
        policy=run.policy,
        run=run.execution_id,
        dry_run=bool(run.manager.ctx.options.dryrun),
        filters=_filters(_ours(run)),
    )
    if not _append(run, outcomes.BEGUN_FILE, begun) or not output.is_bucket(run.manager.ctx):
        return
    permit = run.permit()
    if permit is None:
        return  # Custodian uploads what a dry run leaves, at its end
    try:
        output.upload(run.manager.ctx, outcomes.BEGUN_FILE, permit)
    except CallError as error:
        what = f"{outcomes.BEGUN_FILE} isn't in the bucket until the end of the run ({error})"
        run.log.write(what, logging.WARNING)


def _append(run: PolicyRun, name: str, line: RunSummary | RunBegun) -> bool:
    try:
        outcomes.append(output.path_of(run.manager.ctx, name), line)
    except OSError as error:
        run.log.fail(f"{name} can't be written ({error.strerror or error})")
        return False
    return True


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _ours(run: PolicyRun) -> list[Any]:
    """Return our filters of the policy that select."""
    return [element for element in asserted(run.manager.filters) if hasattr(element, "options")]


def _filters(ours: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"filter": element.type, **dict(_options(element))} for element in ours]


def _put_metrics(run: PolicyRun, values: Mapping[str, int | None]) -> None:
    """Put counts into Custodian's metrics: metadata.json, and what ``--metrics`` names."""
    metrics = run.manager.ctx.metrics
    if metrics is None:
        return  # a policy that isn't run, such as in a test of its filters
    try:
        for name, value in values.items():
            if value is not None:
                metrics.put_metric(name, value, "Count", Scope="Policy")
    # Custodian tries again itself.
    except Exception as error:  # noqa: BLE001 - of any service that Custodian sends them to
        run.log.write(f"metrics can't be sent ({one_line(error)})", logging.WARNING)


def _metric(outcome: str) -> str:
    """Return the metric of an outcome, such as ``KeysDisabled``."""
    return "Keys" + outcome.title().replace(" ", "")


def summary_of(run: PolicyRun, selected: Sequence[dict[str, Any]]) -> RunSummary:
    """Return what the run reports on all keys that its filters check."""
    ours = _ours(run)
    by_slot: dict[int, list[Any]] = {}
    for element in ours:
        if hasattr(element, "slot_of"):
            by_slot.setdefault(element.option("slot"), []).append(element)
    report = run.report.used
    matched = {(user["UserName"], r["slot"]) for user in selected for r in user.get(RECORDS, ())}
    # Their users are selected, and nothing is done to these keys.
    matched -= {place for place, why in run.left.why.items() if why is Why.OWN}
    verdicts: Counter[str] = Counter()
    active = candidates = hits = 0
    left: list[NotMatched] = []
    for slot, elements in by_slot.items():
        for row in report.rows.values() if report else ():
            judged = [(element, element.judge(row)) for element in elements]
            verdict = judged[0][1]
            verdicts[verdict.value] += 1
            active += row.slots[slot - 1].active is True
            wanted = any(element.wanted(row, its) for element, its in judged)
            candidates += wanted
            if (row.user, slot) in matched:
                hits += wanted
            elif wanted or verdict in (Verdict.UNKNOWN, Verdict.EXPIRING):
                left.append(_left(run, row, slot, verdict, wanted))
        for name in sorted(report.duplicates) if report else ():
            left.append(NotMatched(name, slot, Verdict.UNKNOWN, Why.TWICE, None))
    left = _with_key_ids(run, report, left) if _is_stale_policy(ours) else left
    return RunSummary(
        time=_now(),
        account_id=run.account_id,
        policy=run.manager.data["name"],
        run=run.execution_id,
        dry_run=bool(run.manager.ctx.options.dryrun),
        filters=_filters(ours),
        report_generated=report.generated.isoformat() if report else None,
        users=report.user_count if report else None,
        active_keys=active,
        verdicts=dict(verdicts),
        candidates=candidates,
        matched=hits if by_slot else len(selected),
        not_matched=left,
        caller=run.calls.caller,
        exempt=list(_exempt(run)),
    )


def _is_stale_policy(ours: Sequence[Any]) -> bool:
    return any(element.type == "stale-access-key" for element in ours)


def _with_key_ids(
    run: PolicyRun, report: Report | None, left: Sequence[NotMatched]
) -> list[NotMatched]:
    """Return the keys that aren't matched; the stale ones of exempt users with their ids.

    Filters don't list the keys of exempt users. Evidence names them. One that can't be identified
    has none: nothing depends on it.
    """
    wanted = [one for one in left if one.why is Why.EXEMPT and one.verdict is Verdict.STALE]
    live = dict(run.users.live)

    def list_keys(name: str) -> list[dict[str, Any]]:
        return listings.live_keys(run.calls.client, name)

    names = sorted({one.user for one in wanted} - live.keys())
    for name, keys, _ in run.calls.each("keys of exempt users listed", list_keys, names):
        if keys is not None:
            live[name] = keys
    found: dict[tuple[str, int], str | None] = {}
    for one in wanted:
        if report is not None and one.user in live:
            key, _ = identify(report.rows[one.user], one.slot, live[one.user])
            found[one.user, one.slot] = key["AccessKeyId"] if key else None
    return [dataclasses.replace(one, access_key_id=found.get((one.user, one.slot))) for one in left]


def _exempt(run: PolicyRun) -> Iterator[ExemptUser]:
    """Yield the exemptions that the run saw, by user."""
    for name, found in sorted({**run.exemptions.listed, **run.exemptions.found}.items()):
        tags = run.users.tags(name)
        reasons = (tag["Value"] for tag in tags if tag["Key"] == REASON_TAG)
        reason = found.reason if found.approved_by else next(reasons, "")
        yield ExemptUser(
            user=name,
            source=one_line(found.tag, 200),
            state=found.state,
            until=found.until.isoformat() if found.until else None,
            reason=one_line(reason),
            approved_by=one_line(found.approved_by),
            owner=owner_of(tags),
        )


def _left(run: PolicyRun, row: Row, slot: int, verdict: Verdict, wanted: bool) -> NotMatched:
    name = row.user
    until = run.exemptions.valid.get(name)
    if name in run.users.unread:
        why = Why.UNREAD
    elif (name, slot) in run.left.why:
        why = run.left.why[name, slot]
    elif until is not None:
        why = Why.EXEMPT
    elif verdict is Verdict.UNKNOWN:
        why = Why.UNKNOWN
    elif not wanted:
        why = Why.NOT_DUE
    else:
        why = Why.NOT_FOUND if name in run.users.not_found else Why.OTHER_FILTER
    rotated = row.slots[slot - 1].last_rotated
    return NotMatched(name, slot, verdict, why, until, rotated.isoformat() if rotated else None)


def _options(element: Any) -> Iterator[tuple[str, Any]]:
    for name in element.options:
        value = element.option(name)
        if value is not None:
            yield name, value


def end(run: PolicyRun, selected: Sequence[dict[str, Any]]) -> None:
    """Say in one line what the policy did, or what a dry run would do.

    As a warning, since c7n-org shows nothing less.

    :raises PolicyExecutionError: something has failed.
    """
    text = f"{len(selected)} matched"
    acting = [action for action in run.manager.actions if hasattr(action, "planned")]
    if run.manager.ctx.options.dryrun:
        text = f"dry run: {text}"
        for action in acting:
            lines = [_key(name, record, run.now) for name, record in action.planned(selected)]
            text += f", would {action.verb} {len(lines)}"
            for line in shortened(lines):
                run.log.write(f"would {action.verb}: {line}", logging.WARNING, summary_log)
    elif acting:
        always = [action.outcome for action in acting] + ["skipped", "denied", "failed"]
        names = dict.fromkeys([*always, *sorted(run.done.counts)])
        text += ": " + ", ".join(f"{run.done.counts[name]} {name}" for name in names)
        counted = dict.fromkeys([*names, outcomes.Result.UNKNOWN.value])
        _put_metrics(run, {_metric(name): run.done.counts[name] for name in counted})
    run.log.write(text, logging.WARNING, summary_log)
    if run.log.failures:
        raise run.log.error()


def _key(name: str, record: dict[str, Any], now: datetime) -> str:
    """Say of a key whose it is, how old, and when it was used."""
    used = "never used"
    if record["last_used_date"]:
        hours = (now - datetime.fromisoformat(record["last_used_date"])) / timedelta(hours=1)
        ago = f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
        used = f"last used {ago} ago"
    return f"{name!r} {record['access_key_id']} {record['age_days']:.0f} days old, {used}"


def shortened(names: list[str]) -> list[str]:
    """Return the names that fit into a log, and how many are left out."""
    left = len(names) - MOST_NAMED
    return names if left <= 0 else [*names[:MOST_NAMED], f"{left} more"]
