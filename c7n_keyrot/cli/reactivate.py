# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot reactivate OUTPUT_DIR`: switches on again what the pack switched off.

What the pack did last to a key is read out of the outcomes on disk; whether the key is still there
and inactive is asked of AWS. Both must say yes, and so must the user; and both are asked again once
the user has answered, which can be hours later.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import sys
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader
from c7n.credentials import assumed_session

from c7n_keyrot import outcomes
from c7n_keyrot.cli import CommandError
from c7n_keyrot.iam import DENIED, WORKERS, explained, may_have_arrived
from c7n_keyrot.outcomes import Outcome

ACTION = "reactivate"
# Beside a plain file a bucket's copies: one file a run, compressed.
NAMES = tuple(name.removesuffix(".jsonl") for name in (outcomes.FILE, outcomes.INTENTS_FILE))
ENDINGS = (".jsonl", ".jsonl.gz")
FALLBACK_REGION = "us-east-1"  # Custodian's own
LOADER = create_loader()
CALLS = Config(
    connect_timeout=10,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 6},
    max_pool_connections=WORKERS,
)
# An outcome that is no line of a file: what was found doesn't allow to do, or to record, anything.
LEFT = "left alone"
# A line that was cut off: what follows its time, and its run.
TORN = re.compile(rb'\{"time": "[^"]*", ("account_id": .*"run": "([^"]*)".*)', re.DOTALL)
LOST = "restore the file or fetch it again, else ask CloudTrail before a key of it is switched on"
NOT_FOUND = "no such key of this user; if the user got another name, allow iam:GetAccessKeyLastUsed"

Item = TypeVar("Item")
Result = TypeVar("Result")
# The lines of each file in their order; what can't be read stays bytes.
Told = dict[Path, list[Outcome | bytes]]


@dataclass(frozen=True)
class Key:
    """A key with the last line that tells whose work its status is, and that line's file."""

    last: Outcome
    time: datetime
    file: Path

    @property
    def id(self) -> str:
        return str(self.last.access_key_id)

    @property
    def place(self) -> tuple[str, str]:
        return self.last.account_id, self.id

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
    boto3.Session()  # where none can be made, main says why
    told = read(files(args.dir))
    lost = damage(told)
    for text in lost:
        print(_clean(text), file=sys.stderr)
    keys, wanted = list(_chosen(history(told), args)), []
    for key in keys:
        if is_ours(key.last) or in_doubt(key.last):
            wanted.append(key)
        elif args.user or args.key:
            why = key.last.reason and f" ({_clean(key.last.reason)})"
            print(f"{key}: {key.last.outcome} at {_when(key.time)}{why}: nothing to undo")
    if not wanted:
        print(f"Nothing to reactivate by the outcomes in {args.dir}.")
        return 1 if lost else 0
    findings, refused = _look(wanted, args)
    findings = [_leave_in_doubt(finding, args.key) for finding in findings]
    todo = [finding for finding in findings if finding.outcome == outcomes.REACTIVATED]
    for finding in findings:
        if finding.outcome != outcomes.REACTIVATED:
            _say(finding)
    if todo:
        print(_table(todo), flush=True)
    _check_writable(findings)
    if not _confirmed(len(todo), args):
        return 1 if todo or refused or lost or _bad(findings) else 0
    done = _carry_out(findings, history(read(files(args.dir))))
    counts = {o: sum(f.outcome == o for f in done) for o in dict.fromkeys(f.outcome for f in done)}
    result = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing done"
    print(f"Result: {result}.", flush=True)
    if counts.get(outcomes.REACTIVATED):
        print(
            "A later run of the policy disables them again, unless their users are exempt:\n"
            "  aws iam tag-user --user-name USER --tags Key=keyrot-exempt-until,Value=YYYY-MM-DD "
            "Key=keyrot-exempt-reason,Value=REASON"
        )
    if counts.keys() - {LEFT} and any(
        path.name not in (outcomes.FILE, outcomes.INTENTS_FILE) for path in told
    ):
        print(
            "The outcomes are a bucket's copy; so that others know what was done, copy them back: "
            f"aws s3 sync {args.dir} s3://BUCKET/PREFIX"
        )
    return 1 if refused or lost or _bad(done) or len(done) < len(findings) else 0


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

    found, seen = [], {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        # Links can lead around in a circle, and two of them to one folder.
        for name in list(folders):
            place = os.path.realpath(Path(parent, name))
            if place in seen:
                folders.remove(name)
            seen.add(place)
        for path in (Path(parent, name) for name in names):
            if path.is_symlink() and not path.exists():
                raise CommandError(
                    f"can't look into {path}: it links to nothing; mend or remove it"
                )
            if path.name.startswith(NAMES) and path.name.endswith(ENDINGS):
                found.append(path)
    if not found:
        raise CommandError(
            f"no {outcomes.FILE} anywhere below {folder}: no policy with disable-access-key has "
            "acted there; name the -s of the run"
        )
    return sorted(found)


def read(paths: Iterable[Path]) -> Told:
    """Read the files whole.

    :raises CommandError: one can't be read to its end.
    """
    return {path: list(_read(path)) for path in paths}


def _read(path: Path) -> Iterator[Outcome | bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for text in lines:
                try:
                    line = outcomes.parse(text)
                    _time(line)
                    yield line
                except (ValueError, OverflowError):
                    if text.strip():
                        yield text
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"can't read {path}: {reason}; mend or fetch it again") from None


def damage(told: Told) -> list[str]:
    """Say of each file whether something in it is lost."""
    intents = [
        json.dumps(asdict(line)).encode()
        for lines in told.values()
        for line in lines
        if isinstance(line, Outcome) and line.outcome == outcomes.INTENDED
    ]
    found = []
    for path, lines in told.items():
        if not lines:
            found.append(f"{path}: it is empty: what it told is lost; {LOST}")
        bad = [
            number
            for number, line in enumerate(lines)
            if isinstance(line, bytes)
            and not _left_by_a_kill(path, line, lines[number + 1 :], intents)
        ]
        if bad:
            what = f"{len(bad)} line" + ("" if len(bad) == 1 else "s")
            found.append(
                f"{path}: {what} can't be read (the first is line {bad[0] + 1}): "
                f"what was told there is lost; {LOST}"
            )
    return found


def _left_by_a_kill(
    path: Path, line: bytes, later: Sequence[Outcome | bytes], intents: Sequence[bytes]
) -> bool:
    """Tell whether this is half a line of a run that was killed, by which nothing is lost.

    Half an intent was followed by no call; half an outcome has its intent.
    """
    torn = TORN.fullmatch(line.rstrip(b"\n"))
    if not torn or torn[0].endswith(b"}"):
        return False
    if path.name.startswith(NAMES[1]):
        run = torn[2].decode(errors="replace")
        return not any(isinstance(one, Outcome) and one.run == run for one in later)
    known = torn[1].partition(b'"outcome"')[0]
    return any(intent.partition(b", ")[2].startswith(known) for intent in intents)


def history(told: Told) -> list[Key]:
    """Return every key that the files tell of, with the last line that tells whose work it is.

    Each line is appended when it happens, so within a file their order counts: clocks differ. Only
    files among each other are put in order by the times in them.
    """
    ended = {
        _deed(line): line
        for lines in told.values()
        for line in lines
        if isinstance(line, Outcome) and line.outcome != outcomes.INTENDED
    }
    last: dict[tuple[str, str], tuple[tuple[datetime, bool], Key]] = {}
    for path, lines in told.items():
        # The latest time so far, and the last line, of each key in this file.
        times: dict[tuple[str, str], datetime] = {}
        found: dict[tuple[str, str], Key | None] = {}
        for line in lines:
            if not isinstance(line, Outcome) or line.access_key_id is None:
                continue  # damaged, or about no key that could be named
            key, tells, time = Key(line, _time(line), path), line, _time(line)
            closed = line.outcome == outcomes.INTENDED and _deed(line) in ended
            if closed:
                tells = ended[_deed(line)]
                time = _time(tells)
            if is_ours(tells) is None:
                continue
            times[key.place] = max(time, times.get(key.place, time))
            found[key.place] = None if closed else key  # its outcome is in another file
        for place, known in found.items():
            if known is None:
                continue
            # Where both bear one time, what is intended came after the other's end.
            rank = (times[place], known.last.outcome == outcomes.INTENDED)
            if place not in last or rank > last[place][0]:
                last[place] = (rank, known)
    return sorted(
        (key for _, key in last.values()), key=lambda k: (k.last.account_id, k.last.user, k.id)
    )


def _deed(line: Outcome) -> tuple[str | None, ...]:
    return line.run, line.action, line.account_id, line.access_key_id


def _time(line: Outcome) -> datetime:
    time = datetime.fromisoformat(line.time)
    if time.tzinfo is None:
        raise ValueError("no time zone: it can't be compared")
    return time.astimezone(timezone.utc)


def is_ours(line: Outcome) -> bool | None:
    """Tell whether a key that is inactive after this line is so by the pack's work.

    :returns: None where the line says nothing about that.
    """
    if in_doubt(line):
        return False
    if line.action == ACTION and line.outcome == outcomes.GONE:
        return None  # a renamed user's key can look so to a role that may not ask for its user
    if line.outcome in (outcomes.REACTIVATED, outcomes.DELETED, outcomes.GONE):
        return False
    if line.action == "disable-access-key":
        if line.outcome == outcomes.SKIPPED:
            return None
        # Denied: it was active then, so an earlier deactivation of ours was undone before.
        return line.outcome in (outcomes.DISABLED, outcomes.INTENDED, outcomes.UNKNOWN)
    # Of the others only who skipped it has seen it active.
    return False if line.outcome == outcomes.SKIPPED else None


def in_doubt(line: Outcome) -> bool:
    """Tell whether an earlier reactivate may, or may not, have switched the key on.

    If it did, that the key is inactive is somebody's decision.
    """
    return line.action == ACTION and line.outcome in (outcomes.UNKNOWN, outcomes.INTENDED)


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
    # A session isn't made for threads; a client is.
    lock = threading.Lock()

    def client(*what: Any, **how: Any) -> Any:
        with lock:
            return session.client(*what, **how)

    shared = SimpleNamespace(client=client, region_name=session.region_name)

    def connect(account: str) -> Any:
        taken = shared
        try:
            if account in entries:
                taken = _take_role(shared, entries[account], account)
            elif account != current:
                named = _clean(account)
                raise CommandError(
                    f"it isn't in {args.accounts}; add it there, or use credentials of {named} "
                    "(AWS_PROFILE or --profile)"
                    if args.accounts
                    else f"your credentials are for {current}; for these, use credentials of "
                    f"{named} (AWS_PROFILE or --profile), or take its role with "
                    "--accounts accounts.yml"
                )
        except CommandError as error:
            return error
        return taken.client("iam", region_name=taken.region_name or FALLBACK_REGION, config=CALLS)

    users: dict[tuple[str, str], list[Key]] = {}
    clients = dict(zip(by_account, _each("accounts", connect, by_account), strict=True))
    for account, of_account in by_account.items():
        if isinstance(clients[account], CommandError):
            are = "key is left as it is" if len(of_account) == 1 else "keys are left as they are"
            text = f"account {_clean(account)}: {len(of_account)} {are}: {clients[account]}"
            print(text, file=sys.stderr)
            continue
        for key in of_account:
            users.setdefault((account, key.last.user), []).append(key)
    looks = _each(
        "users looked at",
        lambda place: _look_at_user(clients[place[0]], place[1], users[place]),
        users,
    )
    refused = any(isinstance(client, CommandError) for client in clients.values())
    return [finding for found in looks for finding in found], refused


def _each(what: str, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call the function on all items side by side, with a line of progress every two seconds."""
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            futures = [pool.submit(function, item) for item in items]
            while wait(futures, timeout=2).not_done:
                done = sum(future.done() for future in futures)
                print(f"{what}: {done} of {len(futures)}", file=sys.stderr, flush=True)
            return [future.result() for future in futures]
        finally:  # at Ctrl-C what hasn't begun doesn't begin
            pool.shutdown(cancel_futures=True)


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
        return f"sts:{error.operation_name}: {explained('iam', error).code}"
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
            # Else each reads the models of all services anew, which takes longer than its calls.
            session._session.register_component("data_loader", LOADER)
        found = _identity(session)
    except (BotoCoreError, ClientError) as error:
        raise CommandError(f"{way} can't be used ({_reason(error)})") from None
    if found != account:
        raise CommandError(f"its entry in accounts.yml leads to account {found}")
    return session


def _look_at_user(client: Any, user: str, keys: Sequence[Key]) -> list[Finding]:
    try:
        live = _statuses(client, user)
    except (BotoCoreError, ClientError) as error:
        return [Finding(key, client, user, *_failure(error)) for key in keys]
    return [_look_at_key(client, user, key, live.get(key.id)) for key in keys]


def _look_at_key(client: Any, user: str, key: Key, status: str | None) -> Finding:
    if status is None:
        # Keys stay when a user gets another name, and the old name can be given away again.
        try:
            now = _user_of(client, key.id) or user
            if now != user:
                user, status = now, _statuses(client, now).get(key.id)
        except (BotoCoreError, ClientError) as error:
            return Finding(key, client, user, *_failure(error))
    if status is None:
        return Finding(key, client, user, outcomes.GONE, NOT_FOUND)
    if status == "Active":
        return Finding(key, client, user, outcomes.SKIPPED, "the key is Active already")
    return Finding(key, client, user, outcomes.REACTIVATED)


def _leave_in_doubt(finding: Finding, named: Sequence[str]) -> Finding:
    """Leave a key that an earlier reactivate may have switched on, unless --key names it."""
    key = finding.key
    if finding.outcome != outcomes.REACTIVATED or not in_doubt(key.last) or key.id in named:
        return finding
    reason = (
        f"what a reactivate did to it at {_when(key.time)} isn't known; if it switched it on, "
        f"somebody has switched it off since. If nobody has: --key {_clean(key.id)}"
    )
    return replace(finding, outcome=LEFT, reason=reason)


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
        if explained("iam", error).code in (
            *DENIED,
            "NoSuchEntity",
        ):  # IAM denies it for a key that isn't there
            return None
        raise
    return name


def _failure(error: BotoCoreError | ClientError) -> tuple[str, str]:
    if explained("iam", error).code == "NoSuchEntity":
        return outcomes.GONE, NOT_FOUND
    return (outcomes.DENIED if explained("iam", error).code in DENIED else outcomes.FAILED), str(
        explained("iam", error)
    )


# -- what the user says, and what is done then


def _table(todo: Sequence[Finding]) -> str:
    rows = [("ACCOUNT", "USER", "SLOT", "KEY", "DISABLED", "BY POLICY", "")]
    for finding in todo:
        last, note = finding.key.last, ""
        what = ACTION if last.action == ACTION else "run"
        if last.outcome == outcomes.INTENDED:
            note = f"the {what} was cut short"
        elif last.outcome == outcomes.UNKNOWN:
            note = f"the {what} saw no answer ({last.reason})"
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
    for path in dict.fromkeys(
        path
        for finding in findings
        if finding.outcome != LEFT
        for path in (_record_file(finding.key), _intents_file(finding.key))
    ):
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise CommandError(
                f"{path} can't be written, and what is done must be recorded there; "
                "mend that, or copy the folder and name the copy"
            )


def _record_file(key: Key) -> Path:
    if key.file.name.startswith(NAMES) and key.file.suffix == ".jsonl":
        return key.file.with_name(key.file.name.replace(NAMES[1], NAMES[0]))
    return key.file.with_name(outcomes.FILE)


def _intents_file(key: Key) -> Path:
    record = _record_file(key)
    return record.with_name(record.name.replace(NAMES[0], NAMES[1]))


def _carry_out(findings: Sequence[Finding], now: Sequence[Key]) -> list[Finding]:
    """Do it, and record each key as it is done; returns those that were recorded, or left.

    :param now: the history as it is after the user's answer.
    """
    run_id = str(uuid.uuid4())
    told = {key.place: key for key in now}
    done: list[Finding] = []
    unwritable: list[str] = []

    def record(path: Path, time: datetime, finding: Finding) -> bool:
        key, what = finding.key, finding.outcome
        # What answers a line comes after it, though the clock of this machine may be behind.
        time = max(time, key.time + timedelta(milliseconds=1))
        line = replace(
            key.last,
            time=time.isoformat(timespec="milliseconds"),
            run=run_id,
            action=ACTION,
            user=finding.user,
            outcome=what,
            reason=finding.reason,
        )
        try:
            outcomes.append(path, line)
        except OSError as error:
            what = "not tried:" if what == outcomes.INTENDED else f"{what}, but"
            unwritable.append(
                f"{key}: {what} {path} can't be written ({error.strerror or error}): "
                "no further key is touched; mend that, run it again"
            )
            return False
        return True

    def one(finding: Finding) -> Finding | None:
        if unwritable:
            return None
        key = finding.key
        if finding.outcome == LEFT:
            return finding
        if told.get(key.place) != key:
            return replace(finding, outcome=LEFT, reason=_changed("another run was at it"))
        time = datetime.now(timezone.utc)
        if not _bad([finding]):
            (again,) = _look_at_user(finding.client, finding.user, [key])
            if not _bad([again]) and again != finding:
                what = again.reason or "the key is Inactive"
                return replace(finding, outcome=LEFT, reason=_changed(what))
            finding = again
        if finding.outcome == outcomes.REACTIVATED:
            if not record(_intents_file(key), time, replace(finding, outcome=outcomes.INTENDED)):
                return None
            finding = _switch_on(finding)
            time = datetime.now(timezone.utc)
        return finding if record(_record_file(key), time, finding) else None

    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for finding, result in zip(findings, pool.map(one, findings), strict=True):
                if result is not None:
                    done.append(result)
                    if result.outcome != finding.outcome or result.outcome == outcomes.REACTIVATED:
                        _say(result)  # the others were told before
        finally:  # at Ctrl-C what hasn't begun doesn't begin
            pool.shutdown(cancel_futures=True)
    for line in unwritable:
        print(line, file=sys.stderr)
    return done


def _changed(what: str) -> str:
    return f"it isn't as it was shown ({what}); run it again"


def _switch_on(finding: Finding) -> Finding:
    """Call UpdateAccessKey; where its answer is lost, look what became of the key."""
    client, key_id = finding.client, finding.key.id
    try:
        client.update_access_key(UserName=finding.user, AccessKeyId=key_id, Status="Active")
    except (BotoCoreError, ClientError) as error:
        outcome, reason = _failure(error)
        if not may_have_arrived(error):
            return replace(finding, outcome=outcome, reason=reason)
        try:
            status = _statuses(client, finding.user).get(key_id)
        except (BotoCoreError, ClientError) as second:
            reason = f"{reason}, then {explained('iam', second)!s}"
            return replace(finding, outcome=outcomes.UNKNOWN, reason=reason)
        if status == "Active":
            outcome, reason = (
                outcomes.REACTIVATED,
                f"the answer was lost ({explained('iam', error).code})",
            )
        elif status is None:
            outcome, reason = outcomes.GONE, NOT_FOUND
        else:
            reason += "; the key is still Inactive"
        return replace(finding, outcome=outcome, reason=reason)
    return finding


def _bad(findings: Sequence[Finding]) -> bool:
    return any(finding.outcome in (outcomes.DENIED, outcomes.FAILED, LEFT) for finding in findings)


def _say(finding: Finding) -> None:
    text = f"{finding.key}: {finding.outcome}" + (finding.reason and f": {_clean(finding.reason)}")
    print(text, file=sys.stderr if _bad([finding]) else sys.stdout, flush=True)


def _when(time: datetime) -> str:
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _clean(text: Any) -> str:
    """The text without signs that would change what a terminal shows."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(text))
