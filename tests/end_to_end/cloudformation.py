# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the templates in deploy/ as CloudFormation would, as far as they need it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
REGION = "us-east-1"
NOTHING = object()
# Of a type: service, the property that names the resource, and how its ARN ends.
ARNS = {
    "AWS::CloudWatch::Alarm": ("cloudwatch", "AlarmName", "alarm:{}"),
    "AWS::CodeBuild::Project": ("codebuild", "Name", "project/{}"),
    "AWS::Events::EventBus": ("events", "Name", "event-bus/{}"),
    "AWS::Events::Rule": ("events", "Name", "rule/{}"),
    "AWS::IAM::Role": ("iam", "RoleName", "role/{}"),
    "AWS::Logs::LogGroup": ("logs", "LogGroupName", "log-group:{}:*"),
    "AWS::SNS::Topic": ("sns", "TopicName", "{}"),
    "AWS::SQS::Queue": ("sqs", "QueueName", "{}"),
}
# What Ref gives, of types for which that is a name and not an ARN or a URL.
NAMES = {
    "AWS::CodeBuild::Project": "Name",
    "AWS::Events::EventBus": "Name",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
}


class _Loader(yaml.SafeLoader):
    pass


def _tag(loader: Any, suffix: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {f"!{suffix}": loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {f"!{suffix}": loader.construct_sequence(node, deep=True)}
    return {f"!{suffix}": loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _tag)


def read(name: str) -> dict[str, Any]:
    """A template of deploy/, with what stands for !Ref and the like left as it is written."""
    template: dict[str, Any] = yaml.load((DEPLOY / name).read_text("utf-8"), _Loader)
    return template


def stack(name: str, account_id: str, **parameters: str) -> dict[str, Any]:
    """The properties of a template's resources, {logical name: properties}, all filled in."""
    template = read(name)
    values = {
        "AWS::AccountId": account_id,
        "AWS::Partition": "aws",
        "AWS::Region": REGION,
        **{key: p["Default"] for key, p in template["Parameters"].items() if "Default" in p},
        **parameters,
    }
    partition = values["AWS::Partition"]
    assert set(template["Parameters"]) <= set(values), "a parameter is missing"

    def ref(key: str) -> Any:
        if key == "AWS::NoValue":
            return NOTHING
        if key.startswith("!"):  # a literal ${...}, for IAM
            return f"${{{key[1:]}}}"
        if key in template["Resources"]:
            type_ = template["Resources"][key]["Type"]
            if type_ == "AWS::SNS::Topic":
                return arn(key)
            name = NAMES.get(type_)
            return fill(template["Resources"][key]["Properties"][name]) if name else f"<{key}>"
        return values[key]

    def arn(logical: str) -> str:
        resource = template["Resources"][logical]
        service, name, form = ARNS[resource["Type"]]
        named = form.format(fill(resource["Properties"][name]))
        region = "" if service == "iam" else REGION
        return f"arn:{partition}:{service}:{region}:{account_id}:{named}"

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in map(fill, value) if item is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and next(iter(value)).startswith("!"):
            ((word, argument),) = value.items()
            return FUNCTIONS[word[1:]](argument)
        filled = {key: fill(item) for key, item in value.items()}
        return {key: item for key, item in filled.items() if item is not NOTHING}

    def condition(key: str) -> bool:
        return bool(fill(template["Conditions"][key]))

    FUNCTIONS = {
        "Ref": ref,
        "Sub": lambda text: re.sub(r"\$\{([^}]+)\}", lambda found: str(ref(found[1])), text),
        "GetAtt": lambda path: arn(path.split(".")[0]),
        "If": lambda args: fill(args[1] if condition(args[0]) else args[2]),
        "Equals": lambda args: fill(args[0]) == fill(args[1]),
        "Not": lambda args: not fill(args[0]),
        "And": lambda args: all(map(fill, args)),
        "Or": lambda args: any(map(fill, args)),
        "Condition": condition,
    }
    return {
        key: fill(r["Properties"])
        for key, r in template["Resources"].items()
        if "Condition" not in r or condition(r["Condition"])
    }


def member(
    account_id: str, hub: str, mode: str = "enforcing", name: str = "Role", **parameters: str
) -> dict[str, Any]:
    """A role of deploy/member-role.yml: {"policy": document, "trust": document}."""
    role = stack(
        "member-role.yml",
        account_id,
        HubAccountId=hub,
        Mode=mode,
        **{"ExternalId": "c7n-keyrot-2f6c1d", **parameters},
    )[name]
    assert len(role["Policies"]) == 1
    return {
        "policy": role["Policies"][0]["PolicyDocument"],
        "trust": role["AssumeRolePolicyDocument"],
    }


def hub(account_id: str, organization: str, **parameters: str) -> dict[str, Any]:
    given = {"OrganizationId": organization, "FromAddress": "security@example.com"}
    return stack("hub.yml", account_id, **{**given, **parameters})


def runner(account_id: str, **parameters: str) -> dict[str, Any]:
    return stack("runner.yml", account_id, **parameters)


def told(event: dict[str, Any], target: dict[str, Any]) -> str:
    """What EventBridge makes of an event for a target with an input transformer."""
    text = str(target["InputTransformer"]["InputTemplate"])
    for name, path in target["InputTransformer"]["InputPathsMap"].items():
        value: Any = event
        for key in path.removeprefix("$.").split("."):
            value = value[key]
        text = text.replace(f"<{name}>", value)
    assert "<" not in text
    return "".join(f"{json.loads(line)}\n" for line in text.splitlines())


def actions(document: dict[str, Any], effect: str = "Allow") -> list[str]:
    """All actions of a policy's statements, repeated where it repeats them."""
    found = []
    for statement in document["Statement"]:
        if statement["Effect"] == effect:
            action = statement["Action"]
            found += action if isinstance(action, list) else [action]
    return found
