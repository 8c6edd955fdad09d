# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report as OSCAL assessment-results: a finding an account, an observation a key."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from c7n_keyrot import __version__
from c7n_keyrot.cli.report.ocsf import message

OSCAL_VERSION = "1.1.3"
OBSERVATIONS, END = "observations", "}]}}"  # what the document ends with: its last result
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:c7n-keyrot:oscal")
# A name, not a page: OSCAL wants an absolute URI, and its Python library one of http(s).
PROPERTIES = "https://c7n-keyrot.invalid/ns/oscal"
TOOL = str(uuid.uuid5(NAMESPACE, "tool"))
# Of a key: these fields are properties of its observation.
SAID = (
    "access_key_id",
    "verdict",
    "state",
    "age_days",
    "deadline",
    "why",
    "exempt_until",
    "outcome",
    "outcome_time",
    "user_arn",
    "first_seen",
    "owner",
    "exempt_reason",
    "exempt_approved_by",
    "run",
)
# And of an account: these are of its finding.
ROW_SAID = ("covered", "account_id", "compliant_percent", "report_generated", "last_run")
AGAINST = ("open", "unclear", "exempt")

Object = dict[str, Any]


def render(report: Mapping[str, Any]) -> Iterator[str]:
    """Return the document, part by part; all of its UUIDs follow from what the runs left."""
    digest = hashlib.sha256()
    for name, value in report.items():
        for one in value if isinstance(value, list) else [value]:
            digest.update(json.dumps([name, name == "generated" or one]).encode())
    document = _id(digest.hexdigest())
    plan = _id(document, "plan")
    as_of = report["as_of"] or report["generated"]
    results = {
        "uuid": document,
        "metadata": {
            "title": f"Access key rotation: {_rule(report)}",
            "last-modified": report["generated"],
            "version": as_of,
            "oscal-version": OSCAL_VERSION,
            "props": [_property("generator", f"c7n-keyrot {__version__}")],
        },
        "import-ap": {"href": f"#{plan}"},
        "back-matter": {
            "resources": [
                {
                    "uuid": plan,
                    "title": "The policies of c7n-keyrot",
                    "description": "Stands for an assessment plan: Custodian runs the policies, "
                    "which judge each access key by the account's credential report.",
                },
                *_evidence(report),
            ]
        },
        "results": [_result(report, as_of, document)],
    }
    text = json.dumps({"assessment-results": results})
    # The observations come last, one by one: there may be many.
    yield text.removesuffix(END)
    separator = f', "{OBSERVATIONS}": ['
    for one in _observations(report, as_of):
        yield separator + json.dumps(one)
        separator = ", "
    # A list in OSCAL isn't empty.
    yield ("]" if separator == ", " else "") + END + "\n"


def _observations(report: Mapping[str, Any], as_of: str) -> Iterator[Object]:
    for key in chain(report["keys"], report.get("passed", ())):
        yield _observation(key)
    for one in report["exemptions"]:
        if one["key"] is None:
            yield _exempt(one, as_of)


def _result(report: Mapping[str, Any], as_of: str, document: str) -> Object:
    by_account: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for key in chain(report["keys"], report.get("passed", ())):
        by_account[key["account_id"]].append(key)
    totals = report["totals"]
    runs = report["runs"]
    share = totals["compliant_percent"]
    compliant = f"{share}% of {totals['active_keys']} active access keys are compliant"
    return {
        "uuid": _id(document, "result"),
        "title": f"Access key rotation: {_rule(report)}",
        "description": f"{totals['covered']} of {totals['accounts']} accounts are covered; "
        f"{'no active access key is judged' if share is None else compliant}, by the credential "
        "reports. Ages are those at the runs.",
        "start": (runs[0]["begun"] or f"{runs[0]['date']}T00:00:00+00:00") if runs else as_of,
        "end": as_of,
        "props": [_property(name, totals[name]) for name in totals if totals[name] is not None],
        "local-definitions": {
            "components": [_tool(), *(_component(row) for row in report["accounts"])]
        },
        "reviewed-controls": {"control-selections": [_selection(report["rule"])]},
        "findings": [
            _finding(report, row, by_account[row["account_id"]]) for row in report["accounts"]
        ],
    }


def _selection(rule: Mapping[str, Any]) -> Object:
    return {
        "description": "The rule, and the same check in other catalogs as "
        f"{rule['controls_source']} have it.",
        "props": [
            *(
                _property("control", f"{one['framework']}: {one['control']}", "peers-mapping")
                for one in rule["controls"]
            ),
            *(_property("framework", name) for name in rule["frameworks"]),
        ],
        "include-controls": [{"control-id": _token(rule)}],
    }


def _tool() -> Object:
    return {
        "uuid": TOOL,
        "type": "software",
        "title": "c7n-keyrot",
        "description": f"c7n-keyrot {__version__}, a policy pack of Cloud Custodian",
        "status": {"state": "operational"},
    }


def _origins() -> list[Object]:
    return [{"actors": [{"type": "tool", "actor-uuid": TOOL}]}]


def _evidence(report: Mapping[str, Any]) -> Iterator[Object]:
    """Yield a resource for each run that found a key: what to look for on disk."""
    seen: set[str] = set()
    for key in chain(report["keys"], report.get("passed", ())):
        found = _run(key)
        if found in seen:
            continue
        seen.add(found)
        yield {
            "uuid": found,
            "title": f"Run {key['run']} of {key['policy']}",
            "description": f"Lines of run {key['run']} in the output folder of policy "
            f"{key['policy']}, account {key['account_id']}: keyrot-summary.jsonl, "
            "keyrot-outcomes.jsonl and resources.json.",
            "props": [_property(name, key[name]) for name in ("account_id", "policy", "run")],
        }


def _run(key: Mapping[str, Any]) -> str:
    return _id("run", key["account_id"], key["policy"], key["run"])


def _component(row: Mapping[str, Any]) -> Object:
    name = _account(row)
    return {
        "uuid": _id("account", row["account_id"] or row["name"]),
        "type": "resource-container",
        "title": name,
        "description": f"AWS {name}",
        "status": {"state": "operational"},
    }


def _observation(key: Mapping[str, Any]) -> Object:
    said = [_property(name.replace("_", "-"), key[name]) for name in SAID if key[name] is not None]
    return {
        "uuid": _observed(key),
        "title": f"Access key of {key['user']} in account {key['account_id']}",
        "description": message(key),
        "props": said,
        "methods": ["TEST"],
        "types": ["finding"],
        "subjects": [
            {"subject-uuid": _id("account", key["account_id"]), "type": "component"},
        ],
        "origins": _origins(),
        "relevant-evidence": [
            {"href": f"#{_run(key)}", "description": "What the run left in its output folder"}
        ],
        "collected": key["as_of"],
    }


def _exempt(one: Mapping[str, Any], as_of: str) -> Object:
    """Return the observation of an exempt user without a key that is listed."""
    names = ("state", "until", "reason", "approved_by", "owner", "source")
    return {
        "uuid": _id("exemption", one["account_id"], one["user"]),
        "title": f"Exemption of {one['user']} in account {one['account_id']}",
        "description": f"User {one['user']} has an exemption ({one['state']}), and no key that is "
        "listed here.",
        "props": [
            _property(f"exemption-{name}", one[name]) for name in names if one[name] is not None
        ],
        "methods": ["TEST"],
        "types": ["exemption"],
        "subjects": [{"subject-uuid": _id("account", one["account_id"]), "type": "component"}],
        "origins": _origins(),
        "collected": as_of,
    }


def _finding(
    report: Mapping[str, Any], row: Mapping[str, Any], keys: Sequence[Mapping[str, Any]]
) -> Object:
    satisfied = row["covered"] and not any(row[state] for state in AGAINST)
    why = ", ".join(_reasons(row))
    found = {
        "uuid": _id("finding", row["account_id"] or row["name"]),
        "title": f"{_rule(report)}: {_account(row)}",
        "description": f"{_account(row)}: {why or 'no key is against the rule'}.",
        "props": [
            _property(name.replace("_", "-"), row[name])
            for name in ROW_SAID
            if row[name] is not None
        ],
        "origins": _origins(),
        "target": {
            "type": "objective-id",
            "target-id": _token(report["rule"]),
            "status": {
                "state": "satisfied" if satisfied else "not-satisfied",
                "reason": "pass" if satisfied else "fail" if row["covered"] else "other",
            },
        },
        "related-observations": [{"observation-uuid": _observed(key)} for key in keys],
    }
    if not keys:
        del found["related-observations"]
    return found


def _reasons(row: Mapping[str, Any]) -> Iterator[str]:
    if row["why"]:
        yield f"not covered: {row['why']}"
    for state in AGAINST:
        if row[state]:
            yield f"{row[state]} {state}"


def _rule(report: Mapping[str, Any]) -> str:
    return report["rule"]["id"] or "access keys"


def _account(row: Mapping[str, Any]) -> str:
    names = " ".join(filter(None, (row["name"], row["account_id"] and f"({row['account_id']})")))
    return f"account {names or 'unknown'}"


def _token(rule: Mapping[str, Any]) -> str:
    token = re.sub(r"[^\w.-]", "-", rule["id"] or "access-key-rotation", flags=re.ASCII)
    return token if re.match("[A-Za-z_]", token) else f"_{token}"


def _property(name: str, value: object, kind: str = "") -> Object:
    said = {"name": name.replace("_", "-"), "ns": PROPERTIES, "value": str(value).strip() or "-"}
    return said | {"class": kind} if kind else said


def _observed(key: Mapping[str, Any]) -> str:
    names = ("account_id", "user", "slot", "access_key_id", "as_of")
    return _id("key", *(str(key[name]) for name in names))


def _id(*names: str | None) -> str:
    return str(uuid.uuid5(NAMESPACE, "/".join(map(str, names))))
