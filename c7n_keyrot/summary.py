# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run says of the whole account: each candidate is matched, or it says why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol

from c7n_keyrot import outcomes, output_folder
from c7n_keyrot.credential_report import Report, Row
from c7n_keyrot.matched_keys import RECORDS, asserted
from c7n_keyrot.records import NotMatched, RunSummary, Why
from c7n_keyrot.rotation import Verdict


class Run(Protocol):
    """What is needed of a ``PolicyRun``."""

    manager: Any
    account_id: str
    execution_id: str
    used_report: Report | None
    unread: set[str]
    gone: set[str]
    left: dict[tuple[str, int], Why]
    exempt_until: dict[str, str]

    def fail(self, line: str) -> None: ...


def write(run: Run, selected: Sequence[dict[str, Any]]) -> None:
    """Add the run's line to ``keyrot-summary.jsonl`` in the policy's output folder.

    :param selected: what the filters have selected, with our records.
    """
    context = run.manager.ctx
    if context.output is None:
        return  # a policy that isn't run, such as in a test of its filters
    try:
        path = output_folder.path_of(context, outcomes.SUMMARY_FILE)
        outcomes.append(path, summary_of(run, selected))
    except OSError as error:
        run.fail(f"{outcomes.SUMMARY_FILE} can't be written ({error.strerror or error})")


def summary_of(run: Run, selected: Sequence[dict[str, Any]]) -> RunSummary:
    """Return what the run says of all keys that its filters look at."""
    ours = [element for element in asserted(run.manager.filters) if hasattr(element, "options")]
    by_slot: dict[int, list[Any]] = {}
    for element in ours:
        if hasattr(element, "slot_of"):
            by_slot.setdefault(element.option("slot"), []).append(element)
    report = run.used_report
    matched = {(user["UserName"], r["slot"]) for user in selected for r in user.get(RECORDS, ())}
    verdicts: Counter[str] = Counter()
    active = candidates = hits = 0
    left: list[NotMatched] = []
    for slot, elements in by_slot.items():
        for row in report.rows.values() if report else ():
            verdict = elements[0].judge(row)
            verdicts[verdict.value] += 1
            active += row.slots[slot - 1].active is True
            wanted = any(element.wanted(row, element.judge(row)) for element in elements)
            candidates += wanted
            if (row.user, slot) in matched:
                hits += wanted
            elif wanted or verdict is Verdict.UNKNOWN:
                left.append(_left(run, row, slot, verdict))
        for name in sorted(report.duplicates) if report else ():
            left.append(NotMatched(name, slot, Verdict.UNKNOWN, Why.TWICE, None))
    return RunSummary(
        time=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        account_id=run.account_id,
        policy=run.manager.data["name"],
        run=run.execution_id,
        dry_run=bool(run.manager.ctx.options.dryrun),
        filters=[{"filter": element.type, **dict(_options(element))} for element in ours],
        report_generated=report.generated.isoformat() if report else None,
        users=report.user_count if report else None,
        active_keys=active,
        verdicts=dict(verdicts),
        candidates=candidates,
        matched=hits if by_slot else len(selected),
        not_matched=left,
    )


def _left(run: Run, row: Row, slot: int, verdict: Verdict) -> NotMatched:
    name = row.user
    until = run.exempt_until.get(name)
    if name in run.unread:
        why = Why.UNREAD
    elif (name, slot) in run.left:
        why = run.left[name, slot]
    elif until is not None:
        why = Why.EXEMPT
    elif verdict is Verdict.UNKNOWN:
        why = Why.UNKNOWN
    else:
        why = Why.GONE if name in run.gone else Why.OTHER_FILTER
    return NotMatched(name, slot, verdict, why, until)


def _options(element: Any) -> Iterator[tuple[str, Any]]:
    for name in element.options:
        value = element.option(name)
        if value is not None:
            yield name, value
