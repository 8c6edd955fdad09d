# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""accounts.yml: what c7n-org refuses in it, and what it accepts though it goes wrong."""

from __future__ import annotations

import importlib.util
import posixpath
import re
from collections import Counter
from collections.abc import Sequence

import boto3

from c7n_keyrot.aws.credentials import FALLBACK_REGION, partition_of
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context, Target
from c7n_keyrot.cli.doctor.regions import check_of
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import counted
from c7n_keyrot.evidence.accounts import Account, load, read_yaml, select, split


def checks(context: Context) -> Checks:
    """Check which accounts the run is for, and their entries."""
    args, path = context.args, context.args.accounts
    if path is None:
        account_id = context.own.account_id if context.own else ""
        region = [*split(args.region), boto3.Session().region_name or FALLBACK_REGION][0]
        context.targets = [Target(None, region, account_id)]
        for option in ("account", "tags", "not_accounts"):
            if getattr(args, option):
                name = {"account": "-a", "tags": "-t"}.get(option, "--not-accounts")
                yield Check(FAIL, name, "it is for accounts.yml", "give --accounts FILE")
        return
    try:
        listed = load(path)
    except CommandError as error:
        fix = f"correct {path}" if path.exists() else "c7n-keyrot init writes examples/accounts.yml"
        yield Check(FAIL, "accounts", str(error), fix)
        return
    context.accounts = select(listed, args.account, args.tags, args.not_accounts)
    partition = context.own.partition if context.own else ""
    wrong = [*entries(context.accounts, partition), *unknown(args.account, listed)]
    wrong += filter(None, (named(region, "-r") for region in split(args.region)))
    if not any(check.status == FAIL for check in wrong):
        wrong += refused(context)
    yield from wrong
    if not context.accounts:
        fix = "name accounts and tags that accounts.yml has"
        yield Check(FAIL, "accounts", f"-a, -t and --not-accounts leave none of {path}", fix)
    elif not any(check.status == FAIL for check in wrong):
        count = counted(len(listed), "account")
        if len(context.accounts) < len(listed):
            count = f"{len(context.accounts)} of {count}, by -a, -t and --not-accounts"
        yield Check(OK, "accounts", f"{path}: {count}")
    context.targets = [
        Target(account, region, account.id)
        for account in context.accounts
        for region in regions_of(account, args.region)
    ]


def regions_of(account: Account, given: Sequence[str]) -> tuple[str, ...]:
    """Return the regions that an account is run in; for ``all`` those that botocore knows."""
    regions = account.runs_in(given)
    if "all" not in regions:
        return regions
    return tuple(boto3.Session().get_available_regions("ec2", account.partition))


def named(region: str, where: str, account: Account | None = None) -> Check | None:
    """Return what is wrong with a region's name, as c7n-org takes it; None if nothing is."""
    return None if region == "all" else check_of(region, where, account=account)


def unknown(names: Sequence[str], accounts: Sequence[Account]) -> Checks:
    """Yield the values of -a that aren't an account's whole name or id."""
    known = {known for account in accounts for known in (account.name, account.id)}
    for name in split(names):
        if name not in known:
            what = "accounts.yml has no such account (c7n-org knows whole names and ids only)"
            yield Check(FAIL, f"-a {name}", what, "correct -a")


def folder_of(name: str) -> str:
    """Return an account's folder in the -s of c7n-org; names that mean one folder are one."""
    return posixpath.normpath(name)


def leaves(name: str) -> bool:
    """Tell whether c7n-org, which joins the name to its -s, writes outside of that, or into it."""
    folder = folder_of(name)
    return folder.startswith(("/", "../")) or folder in (".", "..")


def entries(accounts: Sequence[Account], partition: str) -> Checks:
    """Yield what is wrong with the entries.

    :param partition: of the credentials, as far as they are known.
    """
    names = Counter(folder_of(account.name) for account in accounts if account.name)
    ids = Counter(account.id for account in accounts)
    for account in accounts:
        yield from _about_name(account, names)
        yield from _about_id(account, ids)
        yield from _about_role(account, partition)


def _about_name(account: Account, names: Counter[str]) -> Checks:
    """Yield what is wrong with an entry's name.

    :param names: how many accounts have each folder; 0 once that is reported.
    """
    name, folder = account.name, folder_of(account.name)
    if not name:
        what = "no name, so the first error ends the whole run"
        yield Check(FAIL, "", what, "give it a name, in quotes if it is a number", account)
    elif leaves(name):
        what = f"the name {name!r} leaves the folder of -s: nothing finds its outcomes there"
        yield Check(FAIL, "", what, "give it a name without .. and without / before it", account)
    elif "{" in name or "}" in name:
        what = f"Custodian fills in the braces of the name {name!r} as variables"
        yield Check(FAIL, "", what, "give it a name without braces", account)
    elif names[folder] > 1:
        names[folder] = 0  # said once
        what = f"two accounts share the folder {folder}"
        yield Check(FAIL, "", what, "give one of them another name", account)
    elif re.search("[?#]", name):
        what = "with -s s3://... what follows ? or # in the name is lost"
        yield Check(NOT_CHECKED, "", what, account=account)


def _about_id(account: Account, ids: Counter[str]) -> Checks:
    """Yield what is wrong with an entry's id.

    :param ids: how many entries have each id; 0 once that is reported.
    """
    account_id = account.entry.get("account_id")
    if not isinstance(account_id, str) or not re.fullmatch(r"[0-9]{12}", account_id):
        what = f"account_id {account_id!r} isn't 12 digits in quotes, so c7n-org stops"
        yield Check(FAIL, "", what, "write the 12 digits, in quotes", account)
    elif ids[account_id] > 1:
        ids[account_id] = 0
        what = f"{account_id} appears twice, so notices and actions come twice"
        yield Check(FAIL, "", what, "remove one of the two", account)


def _about_role(account: Account, partition: str) -> Checks:
    """Yield what is wrong with an entry's role and regions."""
    if "role" not in account.entry and "profile" not in account.entry:
        what = "neither role nor profile, so c7n-org stops"
        yield Check(FAIL, "", what, "give the ARN of its role", account)
    if account.short and partition not in ("", "aws"):
        what = f"c7n-org turns the short role into an arn:aws:, but this is {partition}"
        yield Check(FAIL, "", what, f"give the whole ARN, arn:{partition}:iam::...", account)
    for region in account.regions:
        wrong = named(region, "accounts.yml", account)
        if wrong is not None:
            yield wrong
        elif region != "all" and partition and partition_of(region) != partition:
            what = f"region {region} isn't one of {partition}, where the credentials are"
            yield Check(FAIL, "", what, "give a region of that partition", account)


def refused(context: Context) -> Checks:
    """Yield what c7n-org's own schema refuses, if c7n-org is installed."""
    if importlib.util.find_spec("c7n_org") is None:
        return
    import jsonschema  # type: ignore[import-untyped]  # Custodian needs it, too
    from c7n_org.cli import CONFIG_SCHEMA  # type: ignore[import-untyped]

    path = context.args.accounts
    error = jsonschema.Draft7Validator(CONFIG_SCHEMA).iter_errors(read_yaml(path))
    for first in list(error)[:1]:
        # Only where: a value might be a secret, such as an external id.
        where = ".".join(str(part) for part in first.absolute_path) or "it"
        what = f"c7n-org refuses {path}: {where} isn't valid ({first.validator})"
        yield Check(FAIL, "accounts", what, f"correct {path}")
