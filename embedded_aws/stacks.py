# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""CloudFormation, where moto doesn't do all that the templates in deploy/ say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import moto.cloudformation.models
import moto.cloudformation.responses
import yaml
from moto.cloudformation.models import ChangeSet, StackSet, cloudformation_backends
from moto.cloudformation.parsing import ResourceMap
from moto.core.common_models import CloudFormationModel
from moto.iam.models import Role, iam_backends
from moto.sqs.models import Queue, sqs_backends
from moto.utilities.utils import get_partition

from embedded_aws import kept  # noqa: F401  (so that moto finds its classes)
from embedded_aws.partitions import PARTITIONS


def make_stack(
    account_id: str, region: str, name: str, template: Path, parameters: Mapping[str, str]
) -> dict[str, str]:
    """Make a stack, or update it; return its outputs.

    :raises RuntimeError: it couldn't be made.
    """
    backend = cloudformation_backends[account_id][region]
    text = template.read_text("utf-8")
    if name in [stack.name for stack in backend.stacks.values()]:
        given = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]
        stack = backend.update_stack(name, text, None, given, None)
    else:
        stack = backend.create_stack(name, text, dict(parameters))
    if not stack.status.endswith("_COMPLETE") or "ROLLBACK" in stack.status:
        raise RuntimeError(f"stack {name}: {stack.status}")
    return {output["OutputKey"]: output["OutputValue"] for output in stack.outputs or []}


def queue_url(queue: Queue) -> str:
    """Return what Ref gives; in China its ending differs from moto's."""
    partition = PARTITIONS[get_partition(queue.region)]
    return partition.queue_url(queue.account_id, queue.name)


class QueuePolicy(CloudFormationModel):
    """A resource that moto doesn't know. The class is enough: moto looks for such classes."""

    def __init__(self, name: str):
        self.physical_resource_id = name

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SQS::QueuePolicy"

    @classmethod
    def create_from_cloudformation_json(  # type: ignore[misc]
        cls,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> QueuePolicy:
        properties = cloudformation_json["Properties"]
        policy = _text(properties["PolicyDocument"])
        for url in properties["Queues"]:
            name = url.split("/")[-1]
            sqs_backends[account_id][region_name].set_queue_attributes(name, {"Policy": policy})
        return cls(resource_name)

    @classmethod
    def update_from_cloudformation_json(  # type: ignore[misc]
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> QueuePolicy:
        return cls.create_from_cloudformation_json(
            new_resource_name, cloudformation_json, account_id, region_name
        )


_create_role = Role.create_from_cloudformation_json.__func__


def create_role(
    cls: type[Role],
    resource_name: str,
    cloudformation_json: Any,
    account_id: str,
    region_name: str,
    **kwargs: Any,
) -> Role:
    """As moto's, but policies are JSON text, as elsewhere, and managed ones are attached."""
    role = _create_role(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs)
    _set_policies(role, cloudformation_json["Properties"], account_id, region_name)
    return role


def update_role(
    cls: type[Role],
    original_resource: Role,
    new_resource_name: str,
    cloudformation_json: Any,
    account_id: str,
    region_name: str,
) -> Role:
    """Set trust and policies; moto updates neither."""
    properties = cloudformation_json["Properties"]
    original_resource.assume_role_policy_document = _text(properties["AssumeRolePolicyDocument"])
    _set_policies(original_resource, properties, account_id, region_name)
    return original_resource


def _set_policies(role: Role, properties: Any, account_id: str, region: str) -> None:
    role.policies = {
        policy["PolicyName"]: _text(policy["PolicyDocument"])
        for policy in properties.get("Policies", [])
    }
    # AWS's own don't exist here: a role may do less here, never more.
    known = iam_backends[account_id][get_partition(region)].managed_policies
    for arn in [*role.managed_policies]:
        role.managed_policies[arn].detach_from(role)
    for arn in properties.get("ManagedPolicyArns", []):
        if arn in known:
            known[arn].attach_to(role)


def _text(document: Mapping[str, Any]) -> str:
    """Return a policy as JSON, without AWS::NoValue statements, which moto leaves as null."""
    statements = [statement for statement in document["Statement"] if statement is not None]
    return json.dumps({**document, "Statement": statements})


_make_resources = ResourceMap.__init__


def make_resources(resources: ResourceMap, *args: Any, **kwargs: Any) -> None:
    """As moto's, but with the region's partition, not always aws."""
    _make_resources(resources, *args, **kwargs)
    partition = PARTITIONS[get_partition(resources._region_name)]
    resources._parsed_resources |= {
        "AWS::Partition": partition.name,
        "AWS::URLSuffix": partition.suffix,
    }


_difference = ResourceMap.build_resource_diff


def build_resource_diff(
    resources: ResourceMap, other_template: dict[str, Any], parameters: Any = None
) -> dict[str, Any]:
    """As moto's, and with the resources that a parameter changes through a condition."""
    found = _difference(resources, other_template, parameters)
    if parameters and parameters != resources.input_parameters:
        for name, resource in other_template["Resources"].items():
            known = any(name in names for names in found.values())
            if not known and "Fn::If" in json.dumps(resource, default=str):
                found["Modify"].append(name)
    # Whose condition didn't hold was never made; if it holds now, it is.
    unmade = [name for name in found["Modify"] if resources._parsed_resources.get(name) is None]
    found["Modify"] = [name for name in found["Modify"] if name not in unmade]
    found["Add"] = [*found["Add"], *unmade]
    return found


_tag = moto.cloudformation.models.yaml_tag_constructor


def yaml_tag(loader: Any, tag: str, node: Any) -> Any:
    """As moto's, but a condition that another one names is known by "Condition" alone."""
    return {"Condition": node.value} if tag == "!Condition" else _tag(loader, tag, node)


class _Template(yaml.SafeLoader):
    """Reads a template; what !Ref and the like stand for isn't needed."""


_Template.add_multi_constructor("!", lambda loader, tag, node: tag)


def _with_defaults(template: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return all parameters of a template: those that aren't named have its defaults."""
    # Nothing but SafeLoader's own constructors, and one that returns text.
    declared = yaml.load(template, Loader=_Template).get("Parameters", {})
    defaults = {name: str(one["Default"]) for name, one in declared.items() if "Default" in one}
    return {**defaults, **parameters}


_make_stack_set = StackSet.__init__


def make_stack_set(stack_set: StackSet, *args: Any, **kwargs: Any) -> None:
    """As moto's, but a stack set knows the value of each parameter of its template."""
    _make_stack_set(stack_set, *args, **kwargs)
    stack_set.parameters = _with_defaults(stack_set.template, stack_set.parameters)


_update_stack_set = StackSet.update


def update_stack_set(stack_set: StackSet, *args: Any, **kwargs: Any) -> Any:
    """As moto's, but the stacks of the set are updated as well.

    A parameter that isn't named gets the template's default, as AWS has it.
    """
    operation = _update_stack_set(stack_set, *args, **kwargs)
    stack_set.parameters = _with_defaults(stack_set.template, kwargs["parameters"])
    for instance in stack_set.instances.stack_instances:
        instance.stack.update(stack_set.template, parameters=stack_set.parameters)
    return operation


_apply_change_set = ChangeSet.apply


def apply_change_set(change_set: ChangeSet) -> None:
    """As moto's, but the stack has outputs and its new parameters afterwards."""
    _apply_change_set(change_set)
    stack = change_set.stack
    stack.template, stack.parameters = change_set.template, change_set.parameters
    stack._parse_template()
    stack.output_map = stack._create_output_map()


# What moto_patches puts in the place of moto's own: (owner, name, value).
STACK_PATCHES = (
    (Role, "create_from_cloudformation_json", classmethod(create_role)),
    (Role, "update_from_cloudformation_json", classmethod(update_role)),
    (ResourceMap, "__init__", make_resources),
    (ResourceMap, "build_resource_diff", build_resource_diff),
    (Queue, "physical_resource_id", property(queue_url)),
    (StackSet, "__init__", make_stack_set),
    (StackSet, "update", update_stack_set),
    (ChangeSet, "apply", apply_change_set),
    (moto.cloudformation.models, "yaml_tag_constructor", yaml_tag),
    (moto.cloudformation.responses, "yaml_tag_constructor", yaml_tag),
)
