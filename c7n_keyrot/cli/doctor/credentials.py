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
from c7n_keyrot.cli.doctor.regions import check_of
from c7n_keyrot.core import denials
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
GIVE = "give credentials: AWS_PROFILE, the AWS_... variables, or aws sso login"
# By the code of an error of credentials.
FIXES = {
    "EOFError": "start it in a terminal; or take the session first (aws configure "
    "export-credentials --format env) and give its AWS_... variables",
    "FileNotFoundError": "correct credential_process in your AWS configuration",
    "InvalidClientTokenId": "give other credentials: these don't exist (any more), or are a "
    "session of GetSessionToken without MFA, which can't call IAM",
    "JSONDecodeError": "correct credential_process in your AWS configuration",
    "PermissionError": "correct credential_process in your AWS configuration",
    "RequestExpired": "set the clock of this machine",
    "SignatureDoesNotMatch": "correct the secret access key, or the clock of this machine",
}
WHERE = "AWS_DEFAULT_REGION or ~/.aws/config"


def fix_of(error: CallError, otherwise: str) -> str:
    """Return what to do about an error of a call.

    :param otherwise: what helps if it isn't the network, the credentials or a policy's Deny.
    """
    if error.kind in UNREACHED:
        return NETWORK
    if error.kind is ErrorKind.CREDENTIALS:
        return FIXES.get(error.code, GIVE)
    return denials.advice(error.reason, error.call) or otherwise


def checks(context: Context) -> Checks:
    """Check whose credentials these are, and whether there is a region."""
    session = boto3.Session()
    wrong = check_of(session.region_name, WHERE) if session.region_name else None
    if wrong is not None:
        yield wrong
        if wrong.status == FAIL:
            return  # no call leaves the machine then
    try:
        own = context.own = credentials.own(config=CALLS)
    except CallError as error:
        yield Check(FAIL, "credentials", str(error), fix_of(error, GIVE))
    else:
        yield Check(OK, "credentials", f"account {own.account_id}, {own.arn}")
    if context.org:
        return  # regions come from accounts.yml
    region = [*split(context.args.region), session.region_name or ""][0]
    if region:
        yield check_of(region, "-r") or Check(OK, "region", region)
        return
    fix = "set AWS_DEFAULT_REGION (AWS_REGION doesn't count) or region in ~/.aws/config"
    yield Check(FAIL, "region", "no default region, so custodian stops without -r REGION", fix)
