# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot reactivate OUTPUT_DIR`: switches on again what the pack switched off.

What the pack did last to a key is read out of the outcomes on disk; whether the key is still there
and inactive is asked of AWS. Both must say yes, and so must the user.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import uuid
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from c7n.credentials import assumed_session

from c7n_keyrot import outcomes
from c7n_keyrot.cli import CommandError
from c7n_keyrot.credential_report import DENIED
from c7n_keyrot.outcomes import Outcome
from c7n_keyrot.policy_run import WORKERS, code, explain

ACTION = "reactivate"
# Beside a plain file a bucket's copies: one file a run, compressed.
NAMES = tuple(name.removesuffix(".jsonl") for name in (outcomes.FILE, outcomes.INTENTS_FILE))
ENDINGS = (".jsonl", ".jsonl.gz")
FALLBACK_REGION = "us-east-1"  # Custodian's own
CALLS = Config(
    connect_timeout=10,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 6},
    max_pool_connections=WORKERS,
)
NOT_FOUND = "no such key of this user; if the user got another name, allow iam:GetAccessKeyLastUsed"


@dataclass(frozen=True)
class Key:
    """A key with the last line that tells whose work its status is, and that line's file."""

    last: Outcome
    time: datetime
    file: Path

    @property
    def id(self) -> str:
        return str(self.last.access_key_id)

    def __str__(self) -> str:
        return _clean(f"account {self.last.account_id}: user {self.last.user}: key {self.id}")


@dataclass(frozen=True)
class Finding:
    """What a look at AWS says: ``outcome`` is ``reactivated`` where that is to be done."""

    key: Key
    client: Any
    user: str
    outcome: str
    reason: str = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "reactivate",
        help="switch on again the keys that the pack disabled",
        description="Switches on again the keys that disable-access-key switched off last, by the "
        "outcomes in OUTPUT_DIR. It shows them, and asks, before it does anything.",
        epilog="The next run disables a stale key again, unless its user is exempt.",
    )
    parser.add_argument(
        "dir",
        metavar="OUTPUT_DIR",
        help="the -s of custodian run or c7n-org run, or a folder in it",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        action="append",
        default=[],
        help="only this user's keys (can be repeated)",
    )
    parser.add_argument(
        "--key", metavar="ID", action="append", default=[], help="only this key (can be repeated)"
    )
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.add_argument("--profile", help="a profile of your AWS configuration (or AWS_PROFILE)")
    parser.add_argument(
        "--accounts",
        metavar="FILE",
        type=Path,
        help="c7n-org's accounts.yml: take each account's role, for the outcomes of many accounts",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    keys = list(_chosen(history(files(args.dir)), args))
    disabled = [key for key in keys if is_ours(key.last)]
    if args.user or args.key:
        for key in keys:
            if key not in disabled:
                why = key.last.reason and f" ({_clean(key.last.reason)})"
                print(f"{key}: {key.last.outcome} at {_when(key.time)}{why}: nothing to undo")
    if not disabled:
        print(f"Nothing to reactivate by the outcomes in {args.dir}.")
        return 0
    findings, refused = _look(disabled, args)
    todo = [finding for finding in findings if finding.outcome == outcomes.REACTIVATED]
    for finding in findings:
        if finding not in todo:
            _say(finding)
    if todo:
        print(_table(todo), flush=True)
    _check_writable(findings)
    if not _confirmed(len(todo), args):
        return 1 if todo or refused or _bad(findings) else 0
    done = _carry_out(findings)
    counts = {o: sum(f.outcome == o for f in done) for o in dict.fromkeys(f.outcome for f in done)}
    result = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing done"
    print(f"Result: {result}.", flush=True)
    if counts.get(outcomes.REACTIVATED):
        print(
            "A later run of the policy disables them again, unless their users are exempt:\n"
            "  aws iam tag-user --user-name USER --tags Key=keyrot-exempt-until,Value=YYYY-MM-DD "
            "Key=keyrot-exempt-reason,Value=REASON"
        )
    return 1 if refused or _bad(done) or len(done) < len(findings) else 0


# -- what the outcomes say


def files(folder: str) -> list[Path]:
    """Return the files of outcomes and intents anywhere below the folder.

    :raises CommandError: there is none, or a folder can't be looked into: what it hides may say
        that a key is no longer ours.
    """
    if "://" in folder:
        raise CommandError(
            f"{folder} isn't on this machine; copy it first, with aws s3 sync {folder} DIR"
        )
    if not Path(folder).is_dir():
        what = "is a file; name its folder" if Path(folder).exists() else "is not there"
        raise CommandError(f"{folder} {what}; OUTPUT_DIR is the -s of custodian run or c7n-org run")

    def stop(error: OSError) -> None:
        raise CommandError(f"can't look into {error.filename}: {error.strerror}")

    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=stop)
        for name in names
        if name.startswith(NAMES) and name.endswith(ENDINGS)
    ]
    if not found:
        raise CommandError(
            f"no {outcomes.FILE} anywhere below {folder}: no policy with disable-access-key has "
            "acted there; name the -s of the run"
        )
    return sorted(found)


def history(paths: Sequence[Path]) -> list[Key]:
    """Return every key that the files tell of, with the last line that tells whose work it is."""
    last: dict[tuple[str, str], Key] = {}
    for path in paths:
        for line in _read(path):
            try:
                time = datetime.fromisoformat(line.time)
            except (TypeError, ValueError):
                continue
            names = (line.account_id, line.user, line.access_key_id)
            if time.tzinfo is None or not all(isinstance(name, str) for name in names):
                continue  # damaged, or about no key that could be named
            if is_ours(line) is None:
                continue
            place = (line.account_id, str(line.access_key_id))
            known = last.get(place)
            # An intent and its outcome can bear the same time; the outcome is the later one.
            if known is None or (time, line.outcome != outcomes.INTENDED) > (
                known.time,
                known.last.outcome != outcomes.INTENDED,
            ):
                last[place] = Key(line, time, path)
    return sorted(last.values(), key=lambda k: (k.last.account_id, k.last.user, k.id))


def _read(path: Path) -> Iterator[Outcome]:
    try:
        if path.suffix != ".gz":
            yield from outcomes.read(path)
            return
        with gzip.open(path) as lines:
            for line in lines:
                try:
                    yield Outcome(**json.loads(line))
                except (ValueError, TypeError):
                    continue
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"can't read {path}: {reason}; mend or fetch it again") from None


def is_ours(line: Outcome) -> bool | None:
    """Tell whether a key that is inactive after this line is so by the pack's work.

    :returns: None where the line says nothing about that.
    """
    if line.action == ACTION and line.outcome == outcomes.GONE:
        return None  # a renamed user's key can look so to a role that may not ask for its user
    if line.outcome in (outcomes.REACTIVATED, outcomes.DELETED, outcomes.GONE):
        return False
    if line.action == "disable-access-key":
        if line.outcome == outcomes.SKIPPED:
            return None
        if line.outcome == outcomes.FAILED:
            return line.reason.startswith(outcomes.UNKNOWN)
        # Denied: it was active then, so an earlier deactivation of ours was undone before.
        return line.outcome in (outcomes.DISABLED, outcomes.INTENDED)
    # Of the others only who skipped it has seen it active.
    return False if line.outcome == outcomes.SKIPPED else None


def _chosen(keys: Sequence[Key], args: argparse.Namespace) -> Iterator[Key]:
    """Yield the keys that are asked for; a name that fits none stops everything: it may be a slip.

    :raises CommandError: so.
    """
    for option, wanted, known in (
        ("--user", args.user, {key.last.user for key in keys}),
        ("--key", args.key, {key.id for key in keys}),
    ):
        for value in wanted:
            if value not in known:
                raise CommandError(
                    f"{option} {_clean(value)}: no outcome in {args.dir} tells of it; nothing done"
                )
    found = [
        key
        for key in keys
        if (not args.user or key.last.user in args.user) and (not args.key or key.id in args.key)
    ]
    if keys and not found:
        raise CommandError("none of the keys of --key is one of the users of --user; nothing done")
    yield from found


# -- what AWS says


def _look(keys: Sequence[Key], args: argparse.Namespace) -> tuple[list[Finding], bool]:
    """Return what is to be done about each key, and whether any account was left out."""
    session, current = _credentials(args.profile)
    entries = _accounts(args.accounts) if args.accounts else {}
    by_account: dict[str, list[Key]] = {}
    for key in keys:
        by_account.setdefault(key.last.account_id, []).append(key)
    if not args.accounts and current not in by_account:
        named = ", ".join(_clean(account) for account in by_account)
        raise CommandError(
            f"the outcomes in {args.dir} are of account {named}, but your credentials are for "
            f"{current}; use credentials of {named} (AWS_PROFILE or --profile), or take its role "
            "with --accounts accounts.yml"
        )
    findings, refused = [], False
    for account, of_account in by_account.items():
        try:
            taken = session
            if account in entries:
                taken = _take_role(session, entries[account], account)
            elif account != current:
                way = (
                    f"it isn't in {args.accounts}"
                    if args.accounts
                    else f"your credentials are for {current}"
                )
                raise CommandError(
                    f"{way}; for these, use credentials of {_clean(account)} "
                    "(AWS_PROFILE or --profile), or take its role with --accounts accounts.yml"
                )
        except CommandError as error:
            refused = True
            count = f"{len(of_account)} key{'s' if len(of_account) > 1 else ''} left as it is"
            print(f"account {_clean(account)}: {count}: {error}", file=sys.stderr)
            continue
        client = taken.client("iam", region_name=taken.region_name or FALLBACK_REGION, config=CALLS)
        findings += _look_at(client, of_account)
    return findings, refused


def _credentials(profile: str | None) -> tuple[Any, str]:
    try:
        session = boto3.Session(profile_name=profile)
        return session, _identity(session)
    except (BotoCoreError, ClientError) as error:
        raise CommandError(
            f"no AWS credentials that work ({_reason(error)}); set AWS_PROFILE, or give --profile"
        ) from None


def _identity(session: Any) -> str:
    client = session.client("sts", region_name=session.region_name or FALLBACK_REGION, config=CALLS)
    return str(client.get_caller_identity()["Account"])


def _reason(error: Exception) -> str:
    if isinstance(error, ClientError):
        return f"sts:{error.operation_name}: {code(error)}"
    return " ".join(str(error).split()) or type(error).__name__


def _accounts(path: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of c7n-org's accounts.yml by account id."""
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
        return {str(entry["account_id"]).zfill(12): entry for entry in data["accounts"]}
    except OSError as error:
        raise CommandError(f"can't read {path}: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise CommandError(
            f"{path} is no accounts.yml of c7n-org: a list, accounts, each with an account_id"
        ) from None


def _take_role(session: Any, entry: dict[str, Any], account: str) -> Any:
    """Return a session in the account, by the profile or the role (or chain of roles) there."""
    region = next(iter(entry.get("regions") or ()), None) or FALLBACK_REGION
    external = entry.get("external_id")
    way: Any = entry.get("profile")
    try:
        if way:
            session = boto3.Session(profile_name=way, region_name=region)
        roles = entry.get("role") or []
        for role in [roles] if isinstance(roles, str) else roles:
            # As c7n-org reads a short name.
            way = role if role.startswith("arn:") else f"arn:aws:iam::{account}:role/{role}"
            # By name: c7n 0.9.29 has a parameter less.
            session = assumed_session(
                way,
                "c7n-keyrot",
                session=session,
                region=region,
                external_id=external and str(external),
            )
        found = _identity(session)
    except (BotoCoreError, ClientError) as error:
        raise CommandError(f"{way} can't be used ({_reason(error)})") from None
    if found != account:
        raise CommandError(f"its entry in accounts.yml leads to account {found}")
    return session


def _look_at(client: Any, keys: Sequence[Key]) -> list[Finding]:
    by_user: dict[str, list[Key]] = {}
    for key in keys:
        by_user.setdefault(key.last.user, []).append(key)
    with ThreadPoolExecutor(WORKERS) as pool:
        looks = pool.map(lambda user: _look_at_user(client, user, by_user[user]), by_user)
        return [finding for found in looks for finding in found]


def _look_at_user(client: Any, user: str, keys: Sequence[Key]) -> list[Finding]:
    try:
        live = _statuses(client, user)
        if not live.keys() & {key.id for key in keys}:
            # Keys stay when a user gets another name.
            renamed = next((name for key in keys if (name := _user_of(client, key.id))), user)
            if renamed != user:
                user, live = renamed, _statuses(client, renamed)
    except (BotoCoreError, ClientError) as error:
        return [Finding(key, client, user, *_failure(error)) for key in keys]
    found = []
    for key in keys:
        status = live.get(key.id)
        if status is None:
            found.append(Finding(key, client, user, outcomes.GONE, NOT_FOUND))
        elif status == "Active":
            found.append(Finding(key, client, user, outcomes.SKIPPED, "the key is Active already"))
        else:
            found.append(Finding(key, client, user, outcomes.REACTIVATED))
    return found


def _statuses(client: Any, user: str) -> dict[str, str]:
    try:
        live = client.list_access_keys(UserName=user)["AccessKeyMetadata"]
    except client.exceptions.NoSuchEntityException:
        return {}
    return {key["AccessKeyId"]: key["Status"] for key in live}


def _user_of(client: Any, key_id: str) -> str | None:
    try:
        name: str | None = client.get_access_key_last_used(AccessKeyId=key_id).get("UserName")
    except ClientError as error:
        if code(error) in (*DENIED, "NoSuchEntity"):  # IAM denies it for a key that isn't there
            return None
        raise
    return name


def _failure(error: BotoCoreError | ClientError) -> tuple[str, str]:
    if code(error) == "NoSuchEntity":
        return outcomes.GONE, NOT_FOUND
    return (outcomes.DENIED if code(error) in DENIED else outcomes.FAILED), explain(error)


# -- what the user says, and what is done then


def _table(todo: Sequence[Finding]) -> str:
    rows = [("ACCOUNT", "USER", "SLOT", "KEY", "DISABLED", "BY POLICY", "")]
    for finding in todo:
        last, note = finding.key.last, ""
        if last.outcome == outcomes.INTENDED:
            note = "the run was cut short"
        elif last.outcome == outcomes.FAILED:
            note = f"the run saw no answer ({last.reason})"
        if finding.user != last.user:
            note += f"{note and ', '}the user was {last.user}"
        cells = (last.account_id, finding.user, last.slot, finding.key.id, _when(finding.key.time))
        rows.append((*map(_clean, cells), _clean(last.policy), _clean(note)))  # type: ignore[arg-type]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _confirmed(count: int, args: argparse.Namespace) -> bool:
    what = f"{count} key" + ("" if count == 1 else "s")
    if args.yes:
        return True
    if not sys.stdin.isatty():
        if count:
            print(f"Nothing done. To reactivate {what}, run the same again with --yes.")
        return False
    if not count:
        return True
    try:
        answer = input(f"Reactivate {what}? Type yes: ")
    except (EOFError, KeyboardInterrupt):
        answer = ""
        print()
    if answer.strip().lower() == "yes":
        return True
    print("Nothing done.")
    return False


def _check_writable(findings: Sequence[Finding]) -> None:
    """Refuse to begin what couldn't be recorded: a later call would undo what isn't ours."""
    for path in dict.fromkeys(_record_file(finding.key) for finding in findings):
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise CommandError(
                f"{path} can't be written, and what is done must be recorded there; "
                "mend that, or copy the folder and name the copy"
            )


def _record_file(key: Key) -> Path:
    if key.file.name.startswith(NAMES[0]) and key.file.suffix == ".jsonl":
        return key.file
    return key.file.with_name(outcomes.FILE)


def _carry_out(findings: Sequence[Finding]) -> list[Finding]:
    """Do it, and record each key as it is done; returns those that were recorded."""
    run_id = str(uuid.uuid4())
    done: list[Finding] = []
    unwritable: list[str] = []

    def one(finding: Finding) -> Finding | None:
        if unwritable:
            return None
        key, (outcome, reason) = finding.key, (finding.outcome, finding.reason)
        if outcome == outcomes.REACTIVATED:
            try:
                finding.client.update_access_key(
                    UserName=finding.user, AccessKeyId=key.id, Status="Active"
                )
            except (BotoCoreError, ClientError) as error:
                outcome, reason = _failure(error)
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = replace(
            key.last,
            time=time,
            run=run_id,
            action=ACTION,
            user=finding.user,
            outcome=outcome,
            reason=reason,
        )
        try:
            outcomes.append(_record_file(key), line)
        except OSError as error:
            unwritable.append(
                f"{key}: {outcome}, but {_record_file(key)} can't be written "
                f"({error.strerror or error}): no further key is touched; mend that, run it again"
            )
            return None
        return replace(finding, outcome=outcome, reason=reason)

    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for finding, result in zip(findings, pool.map(one, findings), strict=True):
                if result is not None:
                    done.append(result)
                    if finding.outcome == outcomes.REACTIVATED:  # the others were told before
                        _say(result)
        finally:  # at Ctrl-C what hasn't begun doesn't begin
            pool.shutdown(cancel_futures=True)
    for line in unwritable:
        print(line, file=sys.stderr)
    return done


def _bad(findings: Sequence[Finding]) -> bool:
    return any(finding.outcome in (outcomes.DENIED, outcomes.FAILED) for finding in findings)


def _say(finding: Finding) -> None:
    text = f"{finding.key}: {finding.outcome}" + (finding.reason and f": {_clean(finding.reason)}")
    print(text, file=sys.stderr if _bad([finding]) else sys.stdout, flush=True)


def _when(time: datetime) -> str:
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _clean(text: Any) -> str:
    """The text without signs that would change what a terminal shows."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(text))
