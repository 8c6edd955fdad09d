# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether the credentials work, and there is a region to begin in."""

from __future__ import annotations

import boto3
from botocore.config import Config

from c7n_keyrot.aws import credentials, settings
from c7n_keyrot.aws.errors import CallError, ErrorKind
from c7n_keyrot.cli.doctor.checks import FAIL, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context
from c7n_keyrot.evidence.accounts import split

# Seconds, and tries: doctor doesn't wait long.
CALLS = Config(
    connect_timeout=5,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": min(2, settings.TRIES)},
    max_pool_connections=settings.WORKERS,
)
# AWS couldn't be reached, so other calls would fail as well.
UNREACHED = (ErrorKind.NO_ANSWER, ErrorKind.NOT_AWS, ErrorKind.OUTAGE)
NETWORK = "look at the network, the proxy (HTTPS_PROXY) and AWS_ENDPOINT_URL"


def checks(context: Context) -> Checks:
    """Check whose credentials these are, and whether there is a region."""
    fix = "give credentials: AWS_PROFILE, the AWS_... variables, or aws sso login"
    try:
        own = context.own = credentials.own(config=CALLS)
    except CallError as error:
        yield Check(FAIL, "credentials", str(error), NETWORK if error.kind in UNREACHED else fix)
    else:
        yield Check(OK, "credentials", f"account {own.account_id}, {own.arn}")
    if context.org:
        return  # regions come from accounts.yml
    region = [*split(context.args.region), boto3.Session().region_name or ""][0]
    if region:
        yield Check(OK, "region", region)
        return
    fix = "set AWS_DEFAULT_REGION (AWS_REGION doesn't count) or region in ~/.aws/config"
    yield Check(FAIL, "region", "no default region, so custodian stops without -r REGION", fix)
