# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether there are credentials that work, and a region to begin in."""

from __future__ import annotations

import boto3
from botocore.config import Config

from c7n_keyrot import iam
from c7n_keyrot.cli import accounts
from c7n_keyrot.cli.accounts import split
from c7n_keyrot.cli.doctor.checks import FAIL, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context
from c7n_keyrot.iam import CallError, Kind

# Seconds, and tries: doctor asks, and doesn't wait.
CALLS = Config(
    connect_timeout=5,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=iam.WORKERS,
)
# AWS wasn't heard at all, so no other call would be.
UNHEARD = (Kind.NO_ANSWER, Kind.NOT_AWS, Kind.OUTAGE)
NETWORK = "look at the network, the proxy (HTTPS_PROXY) and AWS_ENDPOINT_URL"


def checks(context: Context) -> Checks:
    """Whose credentials are these; is there a region."""
    fix = "give credentials: AWS_PROFILE, the AWS_... variables, or aws sso login"
    try:
        own = context.own = accounts.own(config=CALLS)
    except CallError as error:
        yield Check(FAIL, "credentials", str(error), NETWORK if error.kind in UNHEARD else fix)
    else:
        yield Check(OK, "credentials", f"account {own.account_id}, {own.arn}")
    if context.org:
        return  # the regions are those of accounts.yml
    region = [*split(context.args.region), boto3.Session().region_name or ""][0]
    if region:
        yield Check(OK, "region", region)
        return
    fix = "set AWS_DEFAULT_REGION (AWS_REGION doesn't count) or region in ~/.aws/config"
    yield Check(FAIL, "region", "no default region, so custodian stops without -r REGION", fix)
