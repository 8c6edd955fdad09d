# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run is to do: read and checked as a whole, without a call, before anything is done."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c7n_keyrot.cli import acting
from c7n_keyrot.cli.mail_server import MailServer
from c7n_keyrot.cli.mailer_config import validate
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import ACCOUNT_ID
from c7n_keyrot.core.text import one_line
from c7n_keyrot.evidence.accounts import Account, load, read_yaml

LOOK, TELL, ACT = "look", "tell", "act"
MODES = (LOOK, TELL, ACT)  # each may do what those before it may
KEYS = re.compile("[0-9]{1,9}")
PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")
TOPIC = re.compile(r"arn:[a-z-]+:sns:([a-z0-9-]+):[0-9]{12}:[A-Za-z0-9_-]{1,256}")
BUCKET = re.compile("s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?")
PROJECT = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{1,254}")


@dataclass(frozen=True)
class Settings:
    """What a run is to do.

    :ivar policies: the file that is run.
    :ivar max_keys: as ``plan`` takes it, ``max_percent`` as well; "" for no limit.
    :ivar out: ``s3://BUCKET`` or a folder; "" if what was given can't be used.
    :ivar topic: an ARN; "" for none, or if what was given can't be used.
    :ivar mailer_project: of CodeBuild, which sends the mails; "": they are sent here.
    :ivar mail_server: that of mailer.yml, without a login; None for SES.
    :ivar known: of accounts.yml.
    :ivar uncounted: policies with an action of Custodian's own on keys, which leaves no outcome.
    :ivar problems: why nothing may be done; none if all is well.
    """

    mode: str
    policies: Path
    accounts: Path
    mailer: Path
    max_keys: str
    max_percent: str
    out: str
    topic: str
    mailer_project: str
    mail_server: MailServer | None = None
    known: Sequence[Account] = ()
    uncounted: Sequence[str] = ()
    problems: list[str] = field(default_factory=list)

    @property
    def bucket(self) -> str:
        """The name of the bucket; "" for a folder."""
        found = BUCKET.fullmatch(self.out)
        return found[1] if found else ""


def read(args: argparse.Namespace) -> Settings:
    """Return the settings, with all that is wrong with them."""
    problems: list[str] = []
    mode = _mode(args, problems)
    policies = args.config / (args.tell_policies if mode == TELL else args.policies)
    accounts, mailer = args.config / "accounts.yml", args.config / "mailer.yml"
    topic = _checked(args.topic, TOPIC, "--topic", "the ARN of a topic", problems)
    project = _checked(args.mailer_project, PROJECT, "--mailer-project", "a name", problems)
    known: list[Account] = []
    try:
        known = load(accounts)
        problems += _of_accounts(known, accounts)
    except CommandError as error:
        problems.append(str(error))
    listed: list[dict[str, Any]] = []
    try:
        listed = acting.policies_of(policies)
        problems += _of_policies(listed, mode)
    except CommandError as error:
        problems.append(str(error))
    server = None
    try:
        config = read_yaml(mailer)
        validate(config, mailer)
        server = _mail_server(config)
    except CommandError as error:
        problems.append(str(error))
    return Settings(
        mode=mode,
        policies=policies,
        accounts=accounts,
        mailer=mailer,
        max_keys=_strictest(args.max_keys, KEYS, "--max-keys", mode, problems),
        max_percent=_strictest(args.max_percent, PERCENT, "--max-percent", mode, problems),
        out=_out(args.out, problems),
        topic=topic,
        mailer_project=project,
        mail_server=server,
        known=known,
        uncounted=[acting.name_of(one) for one in listed if _leaves_no_outcome(one)],
        problems=problems,
    )


def _mode(args: argparse.Namespace, problems: list[str]) -> str:
    """Return the mode: the lower one of what may be done and what was asked for."""
    for name, value in (("the mode", args.mode), ("--asked", args.asked)):
        if value is not None and value not in MODES:
            problems.append(f"{name} is {_quoted(value)}: it must be look, tell or act")
    if problems:
        return LOOK
    asked = args.mode if args.asked is None else args.asked
    if MODES.index(asked) > MODES.index(args.mode):
        problems.append(f"--asked is {asked}, but this runner may do no more than {args.mode}")
    return str(min(asked, args.mode, key=MODES.index))


def _quoted(value: str) -> str:
    return repr(one_line(value, 60)) if value == one_line(value, 60) else repr(value)[:80]


def _checked(
    value: str | None, pattern: re.Pattern[str], option: str, what: str, problems: list[str]
) -> str:
    if not value or pattern.fullmatch(value):
        return value or ""
    problems.append(f"{option} {_quoted(value)} isn't {what}")
    return ""


def _strictest(
    values: Sequence[str], pattern: re.Pattern[str], option: str, mode: str, problems: list[str]
) -> str:
    """Return the lowest of the values; "" for none."""
    most = 100 if pattern is PERCENT else 10**9
    odd = [value for value in values if not pattern.fullmatch(value) or float(value) > most]
    problems += [f"{option} {_quoted(value)} isn't a number from 0 to {most}" for value in odd]
    if not values and mode == ACT:
        problems.append(f"{option} is needed in act")
    return min(values, key=float, default="") if not odd else ""


def _out(value: str, problems: list[str]) -> str:
    if BUCKET.fullmatch(value):
        return value.rstrip("/")
    if not value or "://" in value:
        problems.append(f"--out {_quoted(value)} is neither s3://BUCKET nor a folder")
        return ""
    return value


def _mail_server(config: dict[str, Any]) -> MailServer | None:
    """Return the mail server of a mailer.yml that is valid; errors don't name its host."""
    if "smtp_server" not in config:
        return None
    server = MailServer({**config, "smtp_username": None}, None)
    server.name = "the mail server of mailer.yml"
    return server


def _of_accounts(known: Sequence[Account], path: Path) -> Iterator[str]:
    """Yield what is wrong with the accounts; each has its own folder of outputs, by its name."""
    names: set[str] = set()
    for one in known:
        if not ACCOUNT_ID.fullmatch(one.id):
            yield f"{path}: {one} needs an account_id of 12 digits, in quotes"
        if not one.name or one.name in (".", "..") or "/" in one.name or one.name in names:
            yield f"{path}: {one} needs a name of its own, without /"
        names.add(one.name)


def _of_policies(listed: Sequence[dict[str, Any]], mode: str) -> Iterator[str]:
    """Yield what the policies may do beyond what the mode promises."""
    if not listed:
        yield "there is no policy in the file"
    yield from acting.bad_names(listed)
    if mode == TELL:
        for line in acting.beyond_notices(listed):
            yield f"{line}: tell does no more than notify"
    if mode == ACT:
        for one in listed:
            if why := acting.uncounted(one):
                yield f"{acting.name_of(one)} {why}; it can't be counted"


def _leaves_no_outcome(policy: dict[str, Any]) -> bool:
    """Tell whether a policy acts on keys by an action of Custodian's own."""
    return any(name == "remove-keys" for name, _ in acting.actions(policy))
