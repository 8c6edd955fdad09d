# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Resources of stacks that moto doesn't make: kept as the template has them, to be looked at."""

from __future__ import annotations

from typing import Any

from moto.codebuild.models import codebuild_backends
from moto.core.common_models import CloudFormationModel
from moto.events.models import EventBus
from moto.utilities.utils import get_partition

# What Ref gives; moto's own has none, and gives the object.
EventBus.physical_resource_id = property(lambda bus: bus.name)  # type: ignore[attr-defined]


class Kept:
    """A resource's properties, its name and its ARN. moto finds the classes below by itself."""

    TYPE, NAME, ARN = "", "", ""

    def __init__(self, name: str, properties: dict[str, Any], account_id: str, region: str):
        self.physical_resource_id = name
        self.properties = properties
        self.arn = self.ARN.format(get_partition(region), region, account_id, name)

    @classmethod
    def cloudformation_name_type(cls) -> str:
        return cls.NAME

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.TYPE

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr == "Arn"

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return self.arn

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Kept:
        return cls(resource_name, cloudformation_json["Properties"], account_id, region_name)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> Kept:
        name = original_resource.physical_resource_id
        return cls(name, cloudformation_json["Properties"], account_id, region_name)


class Project(Kept, CloudFormationModel):
    """A project that builds can be started of; nothing runs them here."""

    TYPE, NAME = "AWS::CodeBuild::Project", "Name"
    ARN = "arn:{}:codebuild:{}:{}:project/{}"

    def __init__(self, name: str, properties: dict[str, Any], account_id: str, region: str):
        super().__init__(name, properties, account_id, region)
        backend = codebuild_backends[account_id][region]
        if name not in backend.codebuild_projects:
            role = properties["ServiceRole"]
            backend.create_project(name, "", {}, {}, {}, role, *[None] * 7)


class Schedule(Kept, CloudFormationModel):
    TYPE, NAME = "AWS::Scheduler::Schedule", "Name"
    ARN = "arn:{}:scheduler:{}:{}:schedule/default/{}"


class Alarm(Kept, CloudFormationModel):
    TYPE, NAME = "AWS::CloudWatch::Alarm", "AlarmName"
    ARN = "arn:{}:cloudwatch:{}:{}:alarm:{}"


class BucketPolicy(Kept, CloudFormationModel):
    TYPE = "AWS::S3::BucketPolicy"


class TopicPolicy(Kept, CloudFormationModel):
    TYPE = "AWS::SNS::TopicPolicy"


class EventBusPolicy(Kept, CloudFormationModel):
    TYPE = "AWS::Events::EventBusPolicy"
