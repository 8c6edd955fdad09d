# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether IAM policies allow a call: with resources, principals and conditions, unlike moto's.

Only what the pack's roles and queues need; a condition that isn't known here is an error.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from email import message_from_bytes
from email.utils import parseaddr
from typing import Any
from urllib.parse import unquote

from embedded_aws.calls import Call
from embedded_aws.constants import ORGANIZATION_ID
from embedded_aws.partitions import Partition


def allows(
    documents: Iterable[Mapping[str, Any]], action: str, resource: str, facts: Mapping[str, str]
) -> bool:
    """Evaluate policies as IAM does, as far as the pack needs it: an Allow and no Deny."""
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


def _filled(patterns: Any, facts: Mapping[str, str]) -> list[str]:
    """Fill in variables, such as ${aws:PrincipalAccount}; one that isn't known matches nothing."""
    variable = re.compile(r"\$\{([^}]+)\}")
    return [variable.sub(lambda found: facts.get(found[1], "\0"), p) for p in _list(patterns)]


def _like(patterns: Any, value: str, fold: bool = False) -> bool:
    """Match IAM's wildcards: * and ?, nothing else."""
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
    if not _like(_filled(statement.get("Resource", "*"), facts), resource):
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
    partition = facts["principal"].split(":")[1]
    ours = {"*", account, f"arn:{partition}:iam::{account}:root", facts["principal"]}
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


def queue_of(call: Call) -> tuple[str, str] | None:
    """Return (account id, name) of the queue that the call is about, by its URL or its name."""
    if call.action == "sqs.GetQueueUrl":
        owner = call.params.get("QueueOwnerAWSAccountId", call.account)
        return owner, call.params["QueueName"]
    found = re.search(r"/(\d{12})/([^/]+)$", str(call.params.get("QueueUrl", "")))
    return (found[1], found[2]) if found else None


def bucket_of(call: Call) -> str:
    """Return the name of the bucket that the call is about; "" for a call about none."""
    path = call.action.partition(" /")[2] if call.action.startswith("s3.") else ""
    return path.partition("/")[0]


# What an S3 call is named in policies, by its method; of a bucket and of an object.
S3_ACTIONS = {
    ("GET", False): "s3:ListBucket",
    ("HEAD", False): "s3:ListBucket",
    ("GET", True): "s3:GetObject",
    ("HEAD", True): "s3:GetObject",
    ("PUT", True): "s3:PutObject",
    ("POST", True): "s3:PutObject",  # of an upload in parts
    ("DELETE", True): "s3:DeleteObject",
}


def wanted_by(call: Call) -> str:
    """Return the action that policies must allow: iam:GetUser."""
    if not call.action.startswith("s3."):
        return call.action.replace(".", ":", 1)
    method, path = call.action[3:].split(" ", 1)
    return S3_ACTIONS.get((method, "/" in path.strip("/")), f"s3:{method}")


def _sender(call: Call) -> str:
    """Return the address that a mail is from; "" for a call that sends none."""
    if "Source" in call.params:
        return parseaddr(call.params["Source"])[1]
    raw = base64.b64decode(call.params.get("RawMessage.Data", ""))
    return parseaddr(message_from_bytes(raw).get("From", ""))[1]


class Permissions:
    """Checks calls against policies: a queue's or bucket's and, if `enforced`, those of roles."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.enforced = False
        # Here, since moto would heed their Deny without its condition: {bucket: (owner, policy)}.
        self.bucket_policies: dict[str, tuple[str, Mapping[str, Any]]] = {}

    def denied(self, call: Call) -> str | None:
        """Return AWS's sentence if the call isn't allowed."""
        queue = queue_of(call)
        resource = self._resource(call, queue)
        wanted = wanted_by(call)
        sentence = f"User: {self._principal(call)} is not authorized to perform: {wanted}"
        facts = self._facts(call)
        owner, of_resource = self._resource_policy(call, queue)
        foreign = owner is not None and owner != call.account
        if foreign and of_resource and not allows(of_resource, wanted, resource, facts):
            return (
                f"{sentence} on resource: {resource} because no resource-based policy allows the"
                f" {wanted} action"
            )
        if wanted == "sts:AssumeRole" and not self._trusted(call, resource):
            return f"{sentence} on resource: {resource}"
        role = self._role(call)
        if not self.enforced or role is None or wanted == "sts:GetCallerIdentity":
            return None
        documents = [json.loads(document) for document in role.policies.values()]
        documents += [
            json.loads(version.document)
            for policy in role.managed_policies.values()
            for version in policy.versions
            if version.is_default
        ]
        if call.action.startswith("lambda.") and "Role" in call.params:
            passed = {**facts, "iam:PassedToService": "lambda.amazonaws.com"}
            if not allows(documents, "iam:PassRole", call.params["Role"], passed):
                return f"{sentence.rpartition(' ')[0]} iam:PassRole on {call.params['Role']}"
        # In one account either side may allow, and either may deny.
        if allows([*documents, *([] if foreign else of_resource)], wanted, resource, facts):
            return None
        return (
            f"{sentence} on resource: {resource} because no identity-based policy allows the"
            f" {wanted} action"
        )

    def _resource_policy(
        self, call: Call, queue: tuple[str, str] | None
    ) -> tuple[str | None, list[Any]]:
        """Return the owner of the queue or bucket that the call is about, and its policy."""
        if queue:
            found = self.partition.sqs(queue[0]).queues.get(queue[1])
            return queue[0], [json.loads(found.policy or "{}")] if found else []
        owner, document = self.bucket_policies.get(bucket_of(call), (None, None))
        return owner, [document] if document else []

    def _resource(self, call: Call, queue: tuple[str, str] | None) -> str:
        if queue:
            return self.partition.queue_arn(*queue)
        if call.action.startswith("s3."):
            path = unquote(call.action.split(" ", 1)[1]).strip("/")
            return f"arn:{self.partition.name}:s3:::{path}"
        if call.action.startswith("events."):
            rule = call.params.get("Rule") or call.params.get("Name")
            return self._arn(call, f"rule/{rule}", "events", self.partition.region)
        if call.action.startswith("lambda."):
            name = str(call.params.get("Resource") or call.params.get("FunctionName"))
            name = name.rpartition(":")[2]
            return self._arn(call, f"function:{name}", "lambda", self.partition.region)
        if call.action.startswith("codebuild."):
            builds = [call.params.get("id", ""), *call.params.get("ids", ())]
            name = call.params.get("projectName") or "".join(builds[:2]).split(":")[0]
            return self._arn(call, f"project/{name}", "codebuild", self.partition.region)
        for name in ("RoleArn", "TopicArn"):
            if name in call.params:
                return str(call.params[name])
        if call.action.startswith("iam.") and call.user is not None:
            user = self.partition.iam(call.account).users.get(call.user)
            return user.arn if user else self._arn(call, f"user/{call.user}")
        return "*"

    def _role(self, call: Call) -> Any:
        backend = self.partition.iam(call.account)
        key = backend.access_keys.get(call.principal)
        if key is None or key.role_arn is None:
            return None
        name = key.role_arn.split("/")[-1]
        return next((role for role in backend.roles.values() if role.name == name), None)

    def _principal(self, call: Call) -> str:
        key = self.partition.iam(call.account).access_keys.get(call.principal)
        if key is None or key.role_arn is None:
            return self._arn(call, "user/administrator")
        return self._arn(call, f"assumed-role/{key.role_arn.split('/')[-1]}/session", "sts")

    def _arn(self, call: Call, resource: str, service: str = "iam", region: str = "") -> str:
        return self.partition.arn(service, call.account, resource, region)

    def _facts(self, call: Call) -> dict[str, str]:
        """Return what conditions and principals of policies are compared with."""
        role = self._role(call)
        facts = {
            "principal": role.arn if role else self._principal(call),
            "aws:PrincipalAccount": call.account,
            "aws:PrincipalArn": role.arn if role else self._principal(call),
            "aws:PrincipalOrgID": ORGANIZATION_ID,
            "aws:ResourceOrgID": ORGANIZATION_ID,  # all accounts here are of one organization
            "aws:RequestedRegion": self.partition.region,
            "aws:SecureTransport": "true",  # as far as policies are concerned
        }
        if sender := _sender(call):
            facts["ses:FromAddress"] = sender
        if call.action.startswith("s3.") and "prefix" in call.params:
            facts["s3:prefix"] = call.params["prefix"]
        if "ExternalId" in call.params:
            facts["sts:ExternalId"] = call.params["ExternalId"]
        tag = re.compile(r"Tags\.member\.\d+\.Key|TagKeys\.member\.\d+")
        if tag_keys := [value for name, value in call.params.items() if tag.fullmatch(name)]:
            facts["aws:TagKeys"] = ",".join(tag_keys)
        backend = self.partition.iam(call.account)
        if call.user is not None and call.user in backend.users:
            tags = backend.tagger.get_tag_dict_for_resource(backend.users[call.user].arn)
            for key, value in tags.items():
                facts[f"aws:ResourceTag/{key}"] = facts[f"iam:ResourceTag/{key}"] = value
        return facts

    def _trusted(self, call: Call, arn: str) -> bool:
        ours = re.escape(self.partition.name)
        found = re.fullmatch(rf"arn:{ours}:iam::(\d{{12}}):role/(?:.*/)?([^/]+)", arn)
        if not found:
            return False
        roles = self.partition.iam(found[1]).roles.values()
        role = next((role for role in roles if role.name == found[2]), None)
        if role is None:
            return False
        if not self.enforced:
            return True
        document = json.loads(role.assume_role_policy_document)
        return allows([document], "sts:AssumeRole", arn, self._facts(call))
