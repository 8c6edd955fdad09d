# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The files that the pack is run with: accounts.yml, policies, mailer.yml."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from c7n_keyrot.cli import CommandError
from c7n_keyrot.cli.doctor.checks import (
    FAIL,
    FALLBACK_REGION,
    Check,
    Checks,
    Planned,
    Queue,
    Target,
)


def read(path: Path) -> dict[str, Any]:
    """A YAML file that is a mapping.

    :raises CommandError: it isn't, or can't be read.
    """
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise CommandError(f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError("can't be read: it isn't UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise CommandError(f"is no YAML: {getattr(error, 'problem', error)}{line}") from None
    if not isinstance(data, dict):
        raise CommandError("is no mapping")
    return data


def accounts_of(path: Path) -> list[dict[str, Any]]:
    """The accounts of an accounts.yml, with the variables that all of them share."""
    data = read(path)
    entries = data.get("accounts")
    if not isinstance(entries, list) or not entries:
        raise CommandError("has no list of accounts")
    if not all(isinstance(entry, dict) for entry in entries):
        raise CommandError("has an account that is no mapping")
    shared = data.get("vars")
    shared = shared if isinstance(shared, dict) else {}
    # As c7n-org does: an account's own variables go before those of all.
    return [{**e, "vars": {**shared, **mapping(e.get("vars"))}} for e in entries]


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def regions_of(account: dict[str, Any]) -> list[str]:
    """The regions that c7n-org would run an account in; these two if none is named."""
    regions = account.get("regions")
    return [str(region) for region in regions] if regions else ["us-east-1", "us-west-2"]


def accounts_sanity(accounts: list[dict[str, Any]]) -> Checks:
    """What c7n-org takes without a word, and that goes wrong."""
    names = Counter(str(account.get("name")) for account in accounts)
    ids = Counter(str(account.get("account_id")) for account in accounts)
    for account in accounts:
        account_id = account.get("account_id")
        name = account.get("name")
        label = f"account {name or account_id}"
        if not name or not isinstance(name, str):
            yield Check(
                FAIL, label, "no name, so the first error ends the whole run", f"name {label}"
            )
        elif names[name] > 1:
            names[name] = 0  # said once
            yield Check(
                FAIL,
                label,
                "two accounts have this name, so they share a folder",
                f"rename one account {name}",
            )
        if not isinstance(account_id, str) or not re.fullmatch(r"\d{12}", account_id):
            yield Check(
                FAIL,
                label,
                f"account_id {account_id!r} isn't 12 digits in quotes",
                f"correct {label}",
            )
        elif ids[account_id] > 1:
            ids[account_id] = 0
            yield Check(
                FAIL,
                label,
                f"{account_id} is there twice, so notices and actions come twice",
                f"remove one account {account_id}",
            )
        regions = account.get("regions") or []
        if not isinstance(regions, list) or len(regions) != 1 or regions == ["all"]:
            yield Check(
                FAIL,
                label,
                f"regions is {regions or 'missing'}, so notices and actions come more than once",
                f"{label}: give exactly one, regions: [{FALLBACK_REGION}]",
            )
        role = account.get("role")
        if not isinstance(role, str):
            yield Check(
                FAIL,
                label,
                "role is a list, so the member sends the notices"
                if isinstance(role, list)
                else "no role",
                f"{label}: give one role, as an ARN",
            )
        elif not role.startswith("arn:"):
            yield Check(
                FAIL,
                label,
                f"role {role} is short, so it becomes an arn:aws: in every partition",
                f"{label}: give the role's ARN",
            )
        action = account["vars"].get("action")
        queue = action.get("queue") if isinstance(action, dict) else None
        if not isinstance(queue, str) or not queue.startswith(("arn:", "https://")):
            yield Check(
                FAIL,
                label,
                "no queue" if queue is None else f"queue {queue!r} is no ARN or URL: the member's",
                f"{label}: give the hub's queue, vars: {{action: {{queue: ARN}}}}",
            )


def plan(data: dict[str, Any], target: Target) -> list[Planned]:
    """What the policies of a file mean in an account: loaded as Custodian or c7n-org loads them.

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
    if target.account is None:
        policies = PolicyLoader(options).load_data(data, "memory://")
    else:
        load_resources(
            {
                str(p["resource"]) if "." in p["resource"] else f"aws.{p['resource']}"
                for p in data["policies"]
            }
        )
        policies = PolicyCollection.from_data(data, options)
    planned = []
    for policy in policies:
        variables: dict[str, Any] = {}
        if target.account is not None:
            policy.conditions.env_vars["account"] = target.account
            variables = target.account["vars"]
        policy.expand_variables(policy.get_variables(variables))
        policy.validate()
        notices = [a for a in policy.data.get("actions", ()) if mapping(a).get("type") == "notify"]
        permissions = set(policy.get_permissions())
        if notices:
            # Each notice asks for the alias, which Custodian's notify doesn't tell.
            permissions.add("iam:ListAccountAliases")
        planned.append(
            Planned(
                policy.name,
                bool(policy.is_runnable()),
                frozenset(permissions),
                tuple(notices),
            )
        )
    return planned


def queue_text(notice: dict[str, Any]) -> str:
    """A notice's queue, filled in as notify does it when it sends; "" if that fails."""
    transport = mapping(notice.get("transport"))
    if transport.get("type") != "sqs":
        return ""
    text = str(transport.get("queue"))
    try:
        return text.format(action=notice)
    except (KeyError, IndexError, ValueError, AttributeError):
        return ""


def parse_queue(text: str, account_id: str, region: str) -> Queue | None:
    """The queue that notify means by a name, URL or ARN; a bare name is the account's own."""
    if text.startswith("arn:"):
        parts = text.split(":", 5)
        return Queue(parts[5], parts[4], parts[3]) if len(parts) == 6 else None
    found = re.fullmatch(r"https?://([^/]+)/(\d{12})/([^/]+)", text)
    if found:
        host, owner, name = found.groups()
        named = re.search(r"(?:^sqs\.)?([a-z]{2,}(?:-[a-z]+)+-\d)\.", host)
        return Queue(name, owner, named[1] if named else FALLBACK_REGION)
    if re.fullmatch(r"[\w.-]+", text):
        return Queue(text, account_id, region)
    return None


def arn_of(partition: str, queue: Queue) -> str:
    return f"arn:{partition}:sqs:{queue.region}:{queue.owner}:{queue.name}"


def validate_mailer(config: dict[str, Any]) -> None:
    """Hold a mailer.yml to c7n-mailer's own schema, where c7n-mailer is installed."""
    if importlib.util.find_spec("c7n_mailer") is None:
        return
    import jsonschema  # type: ignore[import-untyped]  # Custodian needs it, too
    from c7n_mailer.cli import CONFIG_SCHEMA  # type: ignore[import-untyped]

    try:
        jsonschema.validate(config, CONFIG_SCHEMA)
    except jsonschema.ValidationError as error:
        # Only where, and what was wanted: a value might be a password.
        where = ".".join(str(part) for part in error.absolute_path)
        what = (
            error.message
            if error.validator in ("required", "additionalProperties")
            else (
                f"{where} must be of type {error.validator_value}"
                if error.validator == "type"
                else f"{where} isn't valid"
            )
        )
        raise CommandError(f"c7n-mailer refuses it: {what}") from None
