# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which accounts and policies the last run covered; c7n-org's exit code doesn't say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from c7n_keyrot.cli.doctor import permissions
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context, Planned, Target
from c7n_keyrot.core import denials
from c7n_keyrot.core.text import listed, utc
from c7n_keyrot.evidence.accounts import Account
from c7n_keyrot.evidence.files import Damage, ended_with
from c7n_keyrot.evidence.gather import PolicyFolder, begun_of, gather, latest

RESTORE = "restore the file or fetch it again; what it says is lost"
RUN_AGAIN = "run the policies as they are now"
NEVER, STOPPED, ENDED = "never began", "was stopped at once", "ended with an error"


def checks(context: Context) -> Checks:
    """Check that the last run into the folder did each policy in each account without an error."""
    out = context.args.output_dir
    if out is None:
        yield Check(NOT_CHECKED, "coverage", "no --output-dir DIR given")
        return
    if "://" in out:
        fix = f"copy it to a folder first: aws s3 sync {out} DIR"
        yield Check(FAIL, "output-dir", f"{out} isn't on this machine", fix)
        return
    fix = "give the -s of custodian run or c7n-org run"
    if "{" in out and "{policy_name" not in out:
        what = (
            f"{out}: with braces in -s Custodian adds no folder for each policy, so they share one"
        )
        yield Check(FAIL, "output-dir", what, "run with {policy_name} in -s, and give what it made")
        return
    if not Path(out).is_dir():
        yield Check(FAIL, "output-dir", f"{out}: no such folder", fix)
        return
    left, damage = read(out, context.accounts)
    context.left = left
    for one in damage:
        what = "ask who wrote it; an account's folder speaks for that account only"
        yield Check(FAIL, "output-dir", str(one), RESTORE if one.loses else what)
    if not left and not any(Path(out).rglob("custodian-run.log*")):
        yield Check(FAIL, "output-dir", f"no policy has run into {out}", fix)
    elif context.targets:  # otherwise an earlier check said why
        yield from covered(context, Path(out), left)


def read(out: str, accounts: Iterable[Account] = ()) -> tuple[list[PolicyFolder], list[Damage]]:
    """Return the last run of each policy that left its metadata, and what can't be read."""
    damage: list[Damage] = []
    found = latest(gather([out], damage, accounts, others=lambda _: True))
    return [one for one in found if one.start], damage


def covered(context: Context, out: Path, left: Sequence[PolicyFolder]) -> Checks:
    """Yield what was covered, by account.

    :param left: what the folder holds.
    """
    alone = bool(left) and all(
        one.path.relative_to(out).parts[:1] in ((), (one.name,)) for one in left
    )
    targets = context.targets
    if context.org and alone:
        what = f"{out} has a run of custodian, but --accounts is for c7n-org"
        yield Check(FAIL, "output-dir", what, "give the -s of c7n-org run")
        return
    names = list(dict.fromkeys(one.name for one in left))
    if not context.org and not alone:
        what = "accounts that left no folder: --accounts FILE would name them"
        yield Check(NOT_CHECKED, "coverage", what)
        planned = [policy for policy in targets[0].policies if policy.runs]
        places = dict.fromkeys((one.account_id, one.region) for one in left)
        targets = [Target(None, region, account, planned) for account, region in places]
    if not context.known:
        what = "policies that left no folder: --policies would name them"
        yield Check(NOT_CHECKED, "coverage", what)
    expected = {policy.name for target in targets for policy in target.policies if policy.runs}
    if left and expected and not expected.intersection(names):
        what = f"{out} holds {listed(names)}, and none of --policies ({listed(sorted(expected))})"
        yield Check(FAIL, "coverage", what, "give the policies of that run as --policies")
        return
    begun = begun_of(left)
    for target in targets:
        planned = target.policies if context.known else [Planned(name) for name in names]
        yield from _of(target, planned, left, begun, out)


def _of(
    target: Target,
    planned: Iterable[Planned],
    left: Sequence[PolicyFolder],
    begun: datetime,
    out: Path,
) -> Checks:
    found = {
        one.name: one
        for one in left
        if target.account_id in ("", one.account_id)
        and (one.region == target.region or target.account is None)
    }
    name = "coverage"
    if target.account is None and target.account_id:
        name = f"coverage of {target}"
    done: list[str] = []
    failed: dict[tuple[str, str], list[str]] = {}
    cause: tuple[str, str] | None = None
    after: dict[tuple[str, str], list[str]] = {}
    for policy in planned:
        if not policy.runs or not policy.pull:
            continue
        one = found.get(policy.name)
        other = _judged_another(policy, one) if one else ""
        if one and one.start and one.start >= begun and not one.failed and not other:
            done.append(policy.name)
            continue
        reason = (other, RUN_AGAIN) if other else _why_not(policy.name, one, target, begun, out)
        if reason[0].startswith(NEVER) and cause:
            after.setdefault(cause, []).append(policy.name)
            continue
        failed.setdefault(reason, []).append(policy.name)
        # Where a call is denied, c7n-org leaves out the account's later policies.
        if target.account and reason[0].startswith((STOPPED, ENDED)):
            cause = reason
    for reason, names in failed.items():
        why, fix = reason
        if reason in after:
            why += f"; {', '.join(after[reason])} never began after that"
        yield Check(FAIL, name, f"{', '.join(names)} {why}", fix, target.account)
    if done:
        dry = " a dry run," if all(found[policy].dry_run for policy in done) else ""
        what = f"{', '.join(done)} (the last run,{dry} begun {utc(begun)})"
        yield Check(OK, name, what, account=target.account)


def _judged_another(policy: Planned, left: PolicyFolder) -> str:
    """Say that the last run of a policy judged another slot or limit; "" if it didn't.

    A run of slot 1 covers nothing of slot 2, whatever its policy's name.
    """
    if left.failed or left.summary is None:
        return ""
    judged = {(one["slot"], one["days"]) for one in left.summary.filters if "slot" in one}
    missing = sorted(policy.judges - judged)
    if not missing:
        return ""
    done = _keys(sorted(judged)) if judged else "no slot"
    return f"judged {done} in its last run, but --policies has {_keys(missing)}"


def _keys(some: Iterable[tuple[int, float]]) -> str:
    return listed([f"slot {slot} (limit {days:g} days)" for slot, days in some])


def _why_not(
    policy: str, left: PolicyFolder | None, target: Target, begun: datetime, out: Path
) -> tuple[str, str]:
    """Return why a policy isn't covered, and what to do."""
    runner, again = ("c7n-org", "c7n-org") if target.account else ("custodian", "it")
    fix = f"correct that, and run {again} again"
    if left and left.start and left.start < begun:
        return (
            f"isn't of the last run, which began {utc(begun)}: a role that can't be taken, a call "
            f"that is denied, or an error; {runner}'s output says which",
            f"{fix}; if the run was for some only, give doctor its -a, -t and -p",
        )
    if left and left.is_stopped:
        return f"didn't finish: {runner} was stopped, or still runs", fix
    if left:
        error = left.error
        if not error:
            where = f"the line with policy:{policy}" if target.account else "its last lines"
            return f"{ended_with(error)}: {runner}'s output has it, {where}", fix
        denied = re.search(r"\b([a-z]+:\w+) is denied", error)
        if denied:
            allow = denials.advice(error, denied[1]) or permissions.how_to_allow(denied[1], target)
            fix = f"{allow}, and run {again} again"
        return ended_with(error), fix
    folder = out / policy
    if target.account:
        folder = out / target.account.name / target.region / policy
    log = folder / "custodian-run.log"
    if log.is_file() and log.stat().st_size == 0:
        return f"{STOPPED}: the role can't be taken, or a call is denied", fix
    if folder.is_dir():
        return f"didn't finish: {runner} was stopped, or still runs", fix
    if target.account:
        return (
            f"{NEVER}: an earlier policy of the account was denied a call, the policy isn't "
            "valid there, or a worker died; c7n-org's output says which",
            f"{fix}; if the run was for some only, give doctor its -a, -t and -p",
        )
    return NEVER, f"{fix}; if the run was for some only, give doctor its -p"
