# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Read accounts.yml, and get credentials in an account, both as c7n-org does.

The source is c7n_org/cli.py: ``accounts_iterator``, ``filter_accounts``, ``resolve_regions``,
``run_account`` and ``get_session``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from c7n_keyrot.aws.credentials import (
    FALLBACK_REGION,
    Access,
    assume,
    of_profile,
    partition_of,
)
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import one_line

# c7n-org's own default, if neither -r nor the account names a region.
FALLBACK_REGIONS = ("us-east-1", "us-west-2")


@dataclass(frozen=True, eq=False)
class Account:
    """An entry of accounts.yml, as c7n-org reads it.

    :ivar name: also the account's folder in the ``-s`` of c7n-org; "" if there is none.
    :ivar id: the account id, as text; in a file that c7n-org takes it has 12 digits.
    :ivar roles: ARNs, each taken with the credentials of the one before it.
    :ivar short: whether ``role`` is a name alone, of which c7n-org makes an ``arn:aws:``.
    :ivar chain: whether ``role`` is a list: then all calls are the last role's, also those with
        ``assume_role: false``.
    :ivar profile: of the AWS configuration; used only if there is no role.
    :ivar regions: those of the entry; () if none is given.
    :ivar vars: variables of the account, and those of the whole file that it doesn't set itself.
    :ivar entry: what a policy's conditions see as ``account``.
    """

    name: str
    id: str
    roles: tuple[str, ...] = ()
    short: bool = False
    chain: bool = False
    profile: str = ""
    external_id: str = ""
    regions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    vars: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return one_line(f"account {self.name} ({self.id})" if self.name else f"account {self.id}")

    @property
    def partition(self) -> str:
        """The partition of the role, or else of the region: ``aws``, ``aws-cn``, ``aws-us-gov``."""
        if self.roles and self.roles[-1].startswith("arn:"):
            return self.roles[-1].split(":")[1]
        return partition_of(self.regions[0] if self.regions else FALLBACK_REGION)

    def runs_in(self, given: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the regions that ``c7n-org run`` runs the account in.

        :param given: the values of c7n-org's ``-r``.
        :returns: at least one; ``all`` stays as it is, since only EC2 knows them.
        """
        return split(given) or split(self.regions) or FALLBACK_REGIONS


def split(values: Iterable[str] | None) -> tuple[str, ...]:
    """Return the values of an option of c7n-org, each of which may be several with commas."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file that is a mapping.

    :raises CommandError: it isn't, or can't be read; the text names the file.
    """
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path} can't be read: it isn't UTF-8") from None
    except yaml.YAMLError as error:
        raise CommandError(f"{path} isn't YAML: {yaml_problem(error)}") from None
    except (ValueError, RecursionError) as error:  # such as a date that doesn't exist
        raise CommandError(f"{path} isn't YAML that can be read ({type(error).__name__})") from None
    if not isinstance(data, dict):
        raise CommandError(f"{path} isn't a mapping")
    return data


def yaml_problem(error: yaml.YAMLError) -> str:
    """Return what is wrong, and in which line, without a word of the file: one may be a password.

    The error's whole text quotes the file; what is wrong may quote an alias or a tag.
    """
    mark = getattr(error, "problem_mark", None)
    line = f" in line {mark.line + 1}" if mark else ""
    what = one_line(getattr(error, "problem", None) or type(error).__name__)
    return re.sub(r"'(?!<)[^']{2,}'|\"[^\"]{2,}\"", "'...'", what) + line


def load(path: Path) -> list[Account]:
    """Return the accounts of a file as c7n-org reads them, in their order.

    What c7n-org would refuse in an entry counts as missing; ``entry`` still has it.

    :raises CommandError: it isn't an accounts.yml; the text names the file.
    """
    data = read_yaml(path)
    entries = data.get("accounts")
    if not isinstance(entries, list) or not entries:
        raise CommandError(f"{path} isn't an accounts.yml of c7n-org: it has no list of accounts")
    if not all(isinstance(entry, dict) for entry in entries):
        raise CommandError(f"{path} has an account that isn't a mapping")
    return [_account(entry, _mapping(data.get("vars"))) for entry in entries]


def _account(entry: dict[str, Any], shared: dict[str, Any]) -> Account:
    account_id, role = str(entry.get("account_id") or ""), entry.get("role")
    short = isinstance(role, str) and role != "" and not role.startswith("arn")
    if short:
        # As c7n-org does in every partition; it doesn't complete short names in a list.
        role = f"arn:aws:iam::{account_id}:role/{role}"
    variables = {**shared, **_mapping(entry.get("vars"))}
    changes = {"role": role} if "role" in entry else {}
    return Account(
        name=_text(entry.get("name")),
        id=account_id,
        roles=(role,) if isinstance(role, str) and role else _texts(role),
        short=short,
        chain=isinstance(role, list),
        profile=_text(entry.get("profile")),
        external_id=_text(entry.get("external_id")),
        regions=_texts(entry.get("regions")),
        tags=_texts(entry.get("tags")),
        vars=variables,
        entry={**entry, **changes, "vars": variables, "provider": "aws"},
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def select(
    accounts: Sequence[Account],
    names: Iterable[str] = (),
    tags: Iterable[str] = (),
    not_names: Iterable[str] = (),
) -> list[Account]:
    """Return the accounts that c7n-org's ``-a``, ``-t`` and ``--not-accounts`` choose.

    :param names: whole names or ids, with commas or repeated; none means all.
    :param tags: whole tags, all of which the account must have.
    """
    names, tags, not_names = split(names), split(tags), split(not_names)
    return [
        account
        for account in accounts
        if not {account.name, account.id}.intersection(not_names)
        and (not names or {account.name, account.id}.intersection(names))
        and set(tags).issubset(account.tags)
    ]


def take(access: Access, account: Account) -> Access:
    """Return credentials in the account, by its role (or chain of roles), else by its profile.

    If ``role`` is an empty list, c7n-org uses the credentials that it was started with. The
    credentials of a role renew themselves.

    :param access: the credentials that the command was started with.
    :raises CommandError: the role or profile can't be used, or leads to another account. Its
        ``__cause__`` is a CallError if a call failed.
    """
    region = account.regions[0] if account.regions else access.region
    taken, way = access, account.profile and f"profile {account.profile}"
    try:
        for way in account.roles:
            taken = assume(taken, way, account.external_id, region)
        if not account.roles and account.profile:
            taken = of_profile(account.profile, region, access.config)
    except CallError as error:
        raise CommandError(f"{one_line(way)} can't be used: {error}") from error
    if taken.account_id != account.id:
        found = one_line(taken.account_id) or "nowhere"
        raise CommandError(f"its entry in accounts.yml leads to account {found}")
    return taken
