# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which accounts and policies the last run of c7n-org covered."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks, Target
from c7n_keyrot.cli.doctor.inputs import regions_of

# Seconds. A run of c7n-org leaves no mark of its own, so a longer break between policies parts two
# runs. Inside of one there are short ones: a role that is taken slowly, a worker that starts. Two
# runs with less between them count as one: what either covered was covered a minute ago.
BREAK = 60.0


@dataclass(frozen=True)
class Result:
    """What a policy left in its folder; times are seconds since 1970, UTC."""

    start: float
    end: float
    failed: bool


def coverage(out: Path, targets: list[Target], policies: list[str]) -> Checks:
    """Which accounts and policies c7n-org's last run into this folder covered.

    Its exit code doesn't tell. A policy is covered if its metadata is of that run and without an
    exception.
    """
    results: dict[tuple[str, str, str], Result] = {}
    for file in out.glob("*/*/*/metadata.json"):
        name, region, policy = file.relative_to(out).parts[:3]
        result = _result(file)
        if result:
            results[name, region, policy] = result
    if not results and any(out.glob("*/metadata.json")):
        yield Check(
            FAIL,
            f"output-dir {out}",
            "it holds a run of custodian, not of c7n-org",
            "give the -s of c7n-org run",
        )
        return
    if not targets:
        yield Check(
            NOT_CHECKED, "coverage", "accounts without a folder: --accounts FILE would name them"
        )
        places = sorted({file.relative_to(out).parts[:2] for file in out.glob("*/*/*/")})
        targets = [Target(name, "", region) for name, region in places]
    known = policies or sorted({policy for _, _, policy in results})
    if not policies:
        yield Check(
            NOT_CHECKED, "coverage", "policies that left no folder: --policies would name them"
        )
    begun = last_run(results.values())
    for target in targets:
        planned = [p.name for p in target.policies if p.runs] if target.policies else known
        for region in regions_of(target.account)[:1] if target.account else [target.region]:
            yield from _covered(out, target, region, planned, results, begun)


def _covered(
    out: Path,
    target: Target,
    region: str,
    planned: list[str],
    results: dict[tuple[str, str, str], Result],
    begun: float,
) -> Checks:
    done = []
    for policy in planned:
        result = results.get((target.name, region, policy))
        if result and result.start >= begun and not result.failed:
            done.append(policy)
            continue
        folder = out / target.name / region / policy
        yield Check(
            FAIL,
            f"coverage of {target}",
            f"{policy} {_why_not(folder, result, begun)}",
            f"correct account {target.name} and run c7n-org again",
        )
    if done:
        when = max(results[target.name, region, policy].start for policy in done)
        yield Check(OK, f"coverage of {target}", f"{', '.join(done)} ({_utc(when)})")


def _why_not(folder: Path, result: Result | None, begun: float) -> str:
    log = folder / "custodian-run.log"
    if result and result.start < begun:
        return (
            f"isn't of the last run (it is of {_utc(result.start)}, the last run began "
            f"{_utc(begun)}): a role that can't be taken, a call that is denied, or an error that "
            "c7n-org's output names"
        )
    if result:
        return f"ended with an error: {_last_error(log) or f'see {log}'}"
    if not folder.is_dir():
        return (
            "never began: an earlier policy of the account was denied a call, the policy isn't "
            "valid there, or a worker died; c7n-org's output says which"
        )
    if log.is_file() and log.stat().st_size == 0:
        return "was stopped at once: its role can't be taken, or a call is denied"
    return f"didn't finish: {_last_error(log) or f'see {log}'}"


def _last_error(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    found = [line.split(" - ERROR - ", 1)[1] for line in lines if " - ERROR - " in line]
    return found[-1][:300] if found else ""


def _result(file: Path) -> Result | None:
    try:
        data = json.loads(file.read_text("utf-8"))
        execution = data["execution"]
        start = float(execution["start"])
        end = float(execution.get("end_time", start))
        failed = any(metric["MetricName"] == "PolicyException" for metric in data["metrics"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Result(start, end, failed)


def last_run(results: Iterable[Result]) -> float:
    """When the last of the runs began that these results are of; seconds since 1970."""
    begun = busy = 0.0
    for result in sorted(results, key=lambda result: result.start):
        if result.start > busy + BREAK:
            begun = result.start
        busy = max(busy, result.end)
    return begun


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
