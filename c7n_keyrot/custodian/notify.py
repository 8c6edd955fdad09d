# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Custodian's ``notify`` in a policy with our words: its messages carry what our templates print.

Three methods of the action are wrapped: ``process``, which is handed the users,
``expand_variables``, which makes what a message says of the action itself, and
``send_data_message``, which sends it: each key that it names gets a line in the output folder.
"""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from c7n_keyrot.aws.permit import Permit, check_permit
from c7n_keyrot.core import notice
from c7n_keyrot.core.notice import NOTICE, SITUATIONS, PolicyPlan
from c7n_keyrot.core.outcomes import Action, Result
from c7n_keyrot.core.records import KeyRecord
from c7n_keyrot.core.text import url_name
from c7n_keyrot.custodian.matching import RECORDS, asserted, meant, places
from c7n_keyrot.custodian.run import PolicyRun

# For what the subject says of the account: c7n-mailer fills it in, and nothing in it is run.
IN_ACCOUNT = ": account {{ action.keyrot.account }}"
# What c7n-org sets for the account that it is in.
ORG_NAME, ORG_ID = "AccountName", "AccountId"


def wrapped(run: PolicyRun, users: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield each notify action with our templates, and what its three methods are replaced by.

    :param users: what the filters have selected, with our records.
    """
    reports = [record["report_generated"] for user in users for record in user.get(RECORDS, ())]
    for action in run.manager.actions:
        situation = _situation(action)
        if situation:
            plan = plan_of(run.manager, run.now)
            oldest = min(reports, default=None)
            yield (
                action,
                partial(_process, run, action, situation, plan),
                partial(_expanded, run, action, plan, oldest),
                partial(_sent, run, action, {user["UserName"]: user for user in users}),
            )


def _templates(action: Any) -> list[str]:
    if action.type != "notify":
        return []
    names = (action.data.get("template"), action.data.get("slack_template"))
    return [name for name in names if isinstance(name, str)]


def _situation(action: Any) -> str | None:
    for name in _templates(action):
        found = re.match(r"c7n_keyrot-(?:slack-)?([a-z]+)", name)
        if found and found[1] in SITUATIONS:
            return found[1]
    return None


def _process(
    run: PolicyRun,
    action: Any,
    situation: str,
    plan: PolicyPlan,
    resources: Sequence[dict[str, Any]],
    event: Any = None,
) -> Any:
    """Send the notice, if it is true of anybody; none in a dry run."""
    permit = run.permit()
    if permit is None:
        return None
    # A key that an earlier run has disabled, and that is active again, was switched on.
    before = run.journal.times_disabled() if situation == "disabling" else None
    users = prepared(run, action, situation, plan, resources, before)
    return _send(action, users, event, permit)


def _send(action: Any, users: list[dict[str, Any]], event: Any, permit: Permit) -> Any:
    check_permit("a notice", permit)
    return type(action).process(action, users, event) if users else None


def prepared(
    run: PolicyRun,
    action: Any,
    situation: str,
    plan: PolicyPlan,
    users: Sequence[dict[str, Any]],
    before: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Return the users as they are sent: those that the notice is true of, with what it says.

    :param before: how often earlier runs have disabled a key, by its id.
    """
    # Another template may want our annotations; ours don't, and a message is of limited size.
    ours = all(name.startswith("c7n_keyrot-") for name in _templates(action))
    most_uses = notice.most_uses(len(users))
    sent = []
    for user in users:
        about = notice.about_user(
            situation,
            plan,
            user,
            [KeyRecord.parse(record) for record in user.get(RECORDS, ())],
            {key["AccessKeyId"] for _, key in meant(user)},
            run.users.live.get(user["UserName"], ()),
            run.now,
            most_uses,
            run.exemptions.found.get(user["UserName"]),
        )
        if about is not None:
            for key in about.get("keys", ()):
                if before and (times := before.get(key.get("key", ""))):
                    key["before"] = str(times)
            kept = {k: v for k, v in user.items() if not (ours and k.startswith("c7n:"))}
            sent.append({**kept, NOTICE: about})
    return sent


def _expanded(
    run: PolicyRun, action: Any, plan: PolicyPlan, report: str | None, message: dict[str, Any]
) -> dict[str, Any]:
    """Return the action as it is sent, with what is true of the whole run."""
    data: dict[str, Any] = type(action).expand_variables(action, message)
    account = str(message.get("account_id") or run.account_id)
    # The name in accounts.yml; else the alias that IAM has, if any.
    of_org = os.environ.get(ORG_NAME) if os.environ.get(ORG_ID) == account else None
    names = (account, of_org or str(message.get("account") or ""))
    data["keyrot"] = notice.about_run(plan, run.manager.data, data, names, run.now, report)
    subject = data.get("subject")
    if isinstance(subject, str) and "{{" not in subject and "{%" not in subject:
        data["subject"] = subject + IN_ACCOUNT
    return data


def _sent(
    run: PolicyRun,
    action: Any,
    users: Mapping[str, dict[str, Any]],
    message: dict[str, Any],
    *payload: str,
) -> Any:
    """Send a message, and keep a line for each key that it names.

    :param users: those whom the policy selected, by name, with our records.
    :param payload: as newer Custodians pack it: base64 of the compressed JSON. Older ones pack the
        message later, and don't give it here.
    """
    receipt = type(action).send_data_message(action, message, *payload)
    for packed in payload:
        message = json.loads(zlib.decompress(base64.b64decode(packed)))
    for sent in message["resources"]:
        user = users.get(sent["UserName"], sent)
        slots = {str(key.get("slot")) for key in sent.get(NOTICE, {}).get("keys", ())}
        records = {one["slot"]: one for one in user.get(RECORDS, ()) if str(one["slot"]) in slots}
        tags = {tag["Key"]: tag["Value"] for tag in user.get("Tags", ())}
        message_id = str(receipt) if receipt else None
        for record in records.values():
            line = run.line(Action.NOTIFY, user, record)
            run.journal.notified(
                replace(line, outcome=Result.NOTIFIED, message_id=message_id, tags=tags)
            )
    if run.journal.unwritable:
        run.log.fail(f"a notice was sent, and can't be recorded: {run.journal.unwritable}")
    return receipt


def plan_of(manager: Any, now: datetime) -> PolicyPlan:
    """Return what a policy does, out of its filters and actions."""
    does, days = "", {}
    for action in manager.actions:
        if action.type == "disable-access-key":
            does = "disable"
        elif action.type in ("delete-access-key", "remove-keys"):
            does = "disable" if action.data.get("disable") else "delete"
        elif action.type == "mark-for-op":
            data = action.data
            days[data.get("op")] = notice.days_after(now, data.get("days", 0), data.get("hours", 0))
    exempt = [one for one in _all(manager.filters) if one.type == "rotation-exempt"]
    return PolicyPlan(
        does=does,
        disable_on=days.get("disable-access-key"),
        delete_on=days.get("delete-access-key"),
        marks=tuple(
            element.data.get("tag", "maid_status")
            for element in asserted(manager.filters)
            if element.type == "marked-for-op" and element.data.get("op") == "disable-access-key"
        ),
        exempt_tag=next((one.option("tag") for one in exempt if not one.option("register")), ""),
        register=next((url_name(url) for one in exempt if (url := one.option("register"))), ""),
        ends_within=next(filter(None, (one.data.get("ends-within") for one in exempt)), None),
        longer_than=next(filter(None, (one.data.get("longer-than") for one in exempt)), None),
    )


def _all(filters: Sequence[Any]) -> Iterator[Any]:
    return (element for _, element in places(filters))
