# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The partitions of AWS: each is an AWS of its own, with its regions, ARNs and credentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moto.iam.models import iam_backends
from moto.sqs.models import sqs_backends
from moto.sts.models import sts_backends


@dataclass(frozen=True)
class Partition:
    """A partition: its name, the region that is used here, and what its hosts end in.

    Its methods give moto's state of an account in it.
    """

    name: str
    region: str
    suffix: str = "amazonaws.com"

    def iam(self, account_id: str) -> Any:
        return iam_backends[account_id][self.name]

    def sts(self, account_id: str) -> Any:
        return sts_backends[account_id][self.name]

    def sqs(self, account_id: str) -> Any:
        return sqs_backends[account_id][self.region]

    def arn(self, service: str, account_id: str, resource: str, region: str = "") -> str:
        return f"arn:{self.name}:{service}:{region}:{account_id}:{resource}"

    def queue_arn(self, account_id: str, name: str) -> str:
        return self.arn("sqs", account_id, name, self.region)

    def queue_url(self, account_id: str, name: str) -> str:
        """Return its URL as AWS's console and CloudFormation show it."""
        return f"https://sqs.{self.region}.{self.suffix}/{account_id}/{name}"


PARTITIONS = {
    partition.name: partition
    for partition in (
        Partition("aws", "us-east-1"),
        Partition("aws-cn", "cn-north-1", "amazonaws.com.cn"),
        Partition("aws-us-gov", "us-gov-west-1"),
    )
}
