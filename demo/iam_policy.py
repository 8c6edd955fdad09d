# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether IAM policies allow a call: with resources, principals and conditions, unlike moto's.

Only what the pack's roles and queues need; a condition that isn't known here is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any


def allows(
    documents: Iterable[Mapping[str, Any]], action: str, resource: str, facts: Mapping[str, str]
) -> bool:
    """IAM's evaluation, as far as the pack's policies need it: an Allow and no Deny."""
    allowed = False
    for document in documents:
        for statement in _list(document.get("Statement", [])):
            if not _applies(statement, action, resource, facts):
                continue
            if statement["Effect"] == "Deny":
                return False
            allowed = True
    return allowed


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _like(patterns: Any, value: str, fold: bool = False) -> bool:
    """IAM's wildcards: * and ?, nothing else."""
    for pattern in _list(patterns):
        regex = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(regex, value, re.DOTALL | (re.IGNORECASE if fold else 0)):
            return True
    return False


def _applies(
    statement: Mapping[str, Any], action: str, resource: str, facts: Mapping[str, str]
) -> bool:
    if "NotAction" in statement:
        if _like(statement["NotAction"], action, fold=True):
            return False
    elif not _like(statement["Action"], action, fold=True):
        return False
    if not _like(statement.get("Resource", "*"), resource):
        return False
    if "Principal" in statement and not _is_principal(statement["Principal"], facts):
        return False
    return all(
        _holds(operator, key, values, facts)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def _is_principal(principal: Any, facts: Mapping[str, str]) -> bool:
    names = ["*"] if principal == "*" else _list(principal.get("AWS", []))
    account = facts["aws:PrincipalAccount"]
    ours = {"*", account, f"arn:aws:iam::{account}:root", facts["principal"]}
    return not ours.isdisjoint(names)


def _holds(operator: str, key: str, values: Any, facts: Mapping[str, str]) -> bool:
    value = facts.get(key)
    if operator == "Null":
        return (value is None) == (str(values).lower() == "true")
    if operator == "ForAllValues:StringEquals":  # of tag keys: no comma can be in one
        return value is None or set(value.split(",")) <= set(_list(values))
    negated = "Not" in operator
    if value is None:
        return negated
    if operator in ("StringEquals", "StringNotEquals"):
        return (value in _list(values)) != negated
    if operator in ("StringLike", "StringNotLike", "ArnLike", "ArnNotLike"):
        return _like(values, value) != negated
    if operator == "Bool":
        return value == str(values).lower()
    raise NotImplementedError(f"condition {operator} on {key}")
