# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The policies: whether they are valid, and where they run."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from c7n_keyrot import autoload
from c7n_keyrot.cli import acting
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context, Planned, Target
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import listed, one_line
from c7n_keyrot.evidence.accounts import Account, read_yaml, split
from c7n_keyrot.evidence.files import mapping

DEFAULT = Path("policies")
# What Custodian's own filters call and don't declare, and what they declare and don't call.
UNDECLARED = {
    "policy": ("iam:GetPolicy",),
    "config-compliance": ("config:GetComplianceDetailsByConfigRule",),
}
NOT_CALLED = {"config:DescribeComplianceByConfigRule"}
TAKING = ("disable-access-key", "delete-access-key", "remove-keys")
ON_A_SLOT = ("stale-access-key", "expiring-access-key", "unclear-access-key")
ENDINGS = (".yml", ".yaml", ".json")


def checks(context: Context) -> Checks:
    """Check that the policies are valid in each account, and run there once."""
    if not context.targets:
        return  # an earlier check said why
    given, path = context.args.policies is not None, context.args.policies or DEFAULT
    if not path.exists():
        fix = "c7n-keyrot init writes the folder policies, or give --policies DIR"
        status = FAIL if given else NOT_CHECKED
        yield Check(status, "policies", f"{path}: no such folder or file", fix)
        return
    files = files_of(path)
    if not files:
        yield Check(FAIL, "policies", f"no policy file in {path}", f"c7n-keyrot init writes {path}")
    autoload.install()  # for this process; Custodian's own is the check "plugin"
    names: set[str] = set()
    for file in files:
        yield from _of_file(file, names, context, named=file == path)
    for pattern in split(context.args.policy):
        if not any(fits(name, pattern, context) for name in names):
            yield Check(FAIL, f"-p {pattern}", f"no policy of this name in {path}", "correct -p")
    yield from more_than_once(context)


def files_of(path: Path) -> list[Path]:
    """Return the files of policies in a folder, in order; or the one file."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in ENDINGS)


def _of_file(file: Path, names: set[str], context: Context, named: bool) -> Checks:
    """Check the policies of a file in each account.

    :param names: gets the names of all its policies.
    :param named: whether --policies names the file itself, not only its folder.
    """
    try:
        data = read_yaml(file)
        if not named and "policies" not in data:
            # Such as accounts.yml and mailer.yml, which init writes beside the examples.
            yield Check(NOT_CHECKED, f"policies {file}", "no policies in it")
            return
        if not isinstance(data.get("policies"), list):
            raise CommandError("it has no list of policies")
        names.update(str(mapping(policy).get("name")) for policy in data["policies"])
        data = {**data, "policies": chosen(data["policies"], context)}
    except CommandError as error:
        yield Check(FAIL, f"policies {file}", str(error), f"correct {file}")
        return
    for problem in acting.bad_names([mapping(one) for one in data["policies"]]):
        fix = f"give each policy of {file} a name of its own"
        yield Check(FAIL, f"policies {file}", problem, fix)
    if data["policies"]:
        yield from _in_each_place(file, data, context)


def fits(name: str, pattern: str, context: Context) -> bool:
    """Tell whether -p names a policy: c7n-org takes whole names, custodian patterns."""
    return name == pattern if context.org else fnmatch.fnmatch(name, pattern)


def chosen(policies: Sequence[Any], context: Context) -> list[Any]:
    """Return the policies that -p and -l choose."""
    patterns, tags = split(context.args.policy), set(split(context.args.policytags))
    return [
        policy
        for policy in policies
        if not patterns or any(fits(str(mapping(policy).get("name")), p, context) for p in patterns)
        if tags.issubset(mapping(policy).get("tags") or ())
    ]


def _in_each_place(file: Path, data: dict[str, Any], context: Context) -> Checks:
    names = ", ".join(str(mapping(policy).get("name")) for policy in data["policies"])
    failed = False
    for target in context.targets:
        try:
            target.policies += plan(file, data, target)
        except Exception as error:  # noqa: BLE001 - an invalid policy can raise anything
            failed, fix = True, f"correct {file}"
            what = f"{type(error).__name__}: {one_line(error)}"
            yield Check(FAIL, f"policies {file}", what, fix, target.account)
    if not failed:
        yield Check(OK, f"policies {file}", names)


def plan(file: Path, data: dict[str, Any], target: Target) -> list[Planned]:
    """Return what the policies of a file mean, loaded as Custodian or c7n-org loads them.

    :raises Exception: whatever makes them invalid there.
    """
    # Here, since importing Custodian takes half a second.
    from c7n.config import Config as Options
    from c7n.loader import PolicyLoader
    from c7n.policy import PolicyCollection
    from c7n.resources import load_resources

    options = Options.empty(
        region=target.region, account_id=target.account_id or "0" * 12, cache=None, output_dir="."
    )
    data = json.loads(json.dumps(data, default=str))  # c7n changes what it is given
    account, variables = target.account, dict[str, Any]()
    if account is None:
        policies = PolicyLoader(options).load_data(data, "memory://")
    else:
        variables = account.vars
        load_resources(
            {
                str(p["resource"]) if "." in p["resource"] else f"aws.{p['resource']}"
                for p in data["policies"]
            }
        )
        policies = PolicyCollection.from_data(data, options)
    planned = []
    for policy in policies:
        if account is not None:
            policy.conditions.env_vars["account"] = account.entry
        policy.expand_variables(policy.get_variables(variables))
        policy.validate()
        notices = [a for a in policy.data.get("actions", ()) if mapping(a).get("type") == "notify"]
        permissions = set(policy.get_permissions())
        for element in policy.resource_manager.iter_filters():  # those in blocks as well
            permissions |= {*element.get_permissions(), *UNDECLARED.get(element.type, ())}
        permissions -= NOT_CALLED
        if notices:
            # Each notice reads the account's alias, which Custodian's notify doesn't declare.
            permissions.add("iam:ListAccountAliases")
        planned.append(
            Planned(
                policy.name,
                bool(policy.is_runnable()),
                frozenset(permissions),
                tuple(notices),
                str(file),
                policy.execution_mode == "pull",
                bool(policy.resource_manager.resource_type.global_resource),
                tuple(_takes(policy)),
                frozenset(_judges(policy)),
            )
        )
    return planned


def _takes(policy: Any) -> Iterator[tuple[int, float, str]]:
    """Yield slot, days and status of the keys that a policy disables or deletes."""
    manager = policy.resource_manager
    if any(action.type in TAKING for action in manager.actions):
        for one in _stale(manager.filters):
            yield one.option("slot"), one.option("days"), one.option("status")


def _judges(policy: Any) -> Iterator[tuple[int, float]]:
    """Yield slot and days of each filter on a slot, those in blocks as well."""
    for one in policy.resource_manager.iter_filters():
        if one.type in ON_A_SLOT:
            yield one.option("slot"), one.option("days")


def _stale(filters: Sequence[Any]) -> Iterator[Any]:
    for one in filters:
        if one.type == "stale-access-key":
            yield one
        elif one.type in ("and", "or"):
            yield from _stale(one.filters)


def more_than_once(context: Context) -> Checks:
    """Yield the policies that run in several regions, though their resource has none."""
    regions: dict[Account, dict[str, list[str]]] = {}
    for target, policy in context.policies():
        if target.account is not None and policy.once:
            of_account = regions.setdefault(target.account, {})
            of_account.setdefault(policy.name, []).append(target.region)
    for account, of_account in regions.items():
        twice: dict[tuple[str, ...], list[str]] = {}
        for name, found in of_account.items():
            places = tuple(dict.fromkeys(found))  # a name may appear twice in a file
            if len(places) > 1:
                twice.setdefault(places, []).append(name)
        for places, names in twice.items():
            what = (
                f"run in {len(places)} regions ({listed(places, 5)}), so notices and actions "
                f"come more than once: {', '.join(names)}"
            )
            fix = f"regions: [{places[0]}] in accounts.yml, or -r {places[0]} (here, too)"
            yield Check(FAIL, "regions", what, fix, account)
