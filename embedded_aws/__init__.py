# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""An AWS on 127.0.0.1: moto's server, corrected where moto differs from AWS, with faults on demand.

    with EmbeddedAws() as aws:
        account = aws.account("111111111111")
        account.add_user("alice", slot1=Key(10), slot2=Key(200))
        subprocess.run(["custodian", ...], env=aws.env("111111111111", home=folder))

Alone, for another process: ``python -m embedded_aws --users 1000 --find 200 --latency-ms 30``.
moto's state is global to the process, so only one EmbeddedAws can be open at a time; each begins
empty. All times are UTC. For the demo, the tests and the benchmarks; not shipped.
"""

from embedded_aws.account import Account, Key, LiveKey
from embedded_aws.calls import Call
from embedded_aws.constants import HUB, MEMBER_ROLE, ORGANIZATION_ID, REGION
from embedded_aws.crowd import seed_bench
from embedded_aws.faults import Rule
from embedded_aws.foreign import FOREIGN, Foreign, cut
from embedded_aws.partitions import PARTITIONS
from embedded_aws.permissions import allows
from embedded_aws.server import EmbeddedAws

__all__ = [
    "FOREIGN",
    "HUB",
    "MEMBER_ROLE",
    "ORGANIZATION_ID",
    "PARTITIONS",
    "REGION",
    "Account",
    "Call",
    "EmbeddedAws",
    "Foreign",
    "Key",
    "LiveKey",
    "Rule",
    "allows",
    "cut",
    "seed_bench",
]
