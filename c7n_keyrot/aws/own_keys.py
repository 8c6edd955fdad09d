# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which access keys a run works with itself: it must never switch off its own.

A key counts whether it signs the calls to IAM, or only those by which a role is taken. What was
done before the process began, such as a role that a build job took, can't be seen from here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from c7n_keyrot.aws import calls, gate
from c7n_keyrot.aws.errors import CallError, ErrorKind

# How botocore calls credentials that no access key of an IAM user signed for.
KEYLESS = frozenset(("iam-role", "container-role", "sso", "login", "assume-role-with-web-identity"))
# Those that Custodian, c7n-org and doctor make out of a session at hand, which is checked itself.
BY_SESSION = "sts-assume-role"
BY_PROFILE = "assume-role"
# What a process may have been started with, by botocore's names; no call is made to read them.
AT_START = ("assume-role", "shared-credentials-file", "config-file")
# For what is good to know, and may not delay a run.
BRIEF = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})
# As the process began: c7n-org puts an account's own credentials there later.
STARTED_WITH = tuple(
    os.environ.get(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
)


@dataclass(frozen=True)
class Own:
    """The keys that a run works with.

    :ivar ids: of access keys.
    :ivar users: (account id, name) of IAM users whose temporary credentials it has: any of their
        keys may have made these.
    """

    ids: frozenset[str]
    users: frozenset[tuple[str, str]]

    def has(self, account_id: str, user: str, key_id: str) -> bool:
        """Tell whether it may be a key that the run works with."""
        return key_id in self.ids or (account_id, user) in self.users


def of(session: Any) -> Own:
    """Return the keys that a session works with, and those that this process was started with.

    :param session: a boto3 session, before any role that is taken with it.
    :raises CallError: AWS can't be asked whose temporary credentials these are; or a session
        whose credentials can't be read.
    """
    ids, users = set(), set()
    sources = [*_behind(session.get_credentials()), *_behind(_started_with())]
    for source in sources:
        frozen = source.get_frozen_credentials()
        ids.add(frozen.access_key)
        # A Lambda function's are its role's.
        if frozen.token and "AWS_LAMBDA_FUNCTION_NAME" not in os.environ:
            user = _user_of(*frozen[:3], session.region_name)
            users |= {user} if user else set()
    return Own(frozenset(ids), frozenset(users))


def _behind(credentials: Any) -> Iterator[Any]:
    """Yield the credentials at the beginning of a chain of roles, unless no key can be there."""
    while credentials is not None and credentials.method == BY_PROFILE:
        refresh = credentials._refresh_using
        # With mfa_serial botocore wraps it.
        fetch = getattr(refresh, "_refresh", refresh)
        try:
            credentials = fetch.__self__._source_credentials
        except AttributeError:
            reason = "this botocore doesn't say which credentials a profile's role was taken with"
            raise CallError("botocore", ErrorKind.OTHER, "NotKnown", reason) from None
    if credentials is not None and credentials.method not in (*KEYLESS, BY_SESSION):
        yield credentials


@functools.cache
def _started_with() -> Any:
    """Return the credentials that the process was started with, as far as it costs no call."""
    key_id, secret, token = STARTED_WITH
    if key_id and secret:
        core = botocore.session.Session()
        core.set_credentials(key_id, secret, token)
        return core.get_credentials()
    try:
        providers = botocore.session.Session().get_component("credential_provider").providers
        loaded = (one.load() for one in providers if one.METHOD in AT_START)
        return next((found for found in loaded if found is not None), None)
    except BotoCoreError:  # of a profile that nothing can have been started with
        return None


def caller_of(session: Any) -> str | None:
    """Return the ARN of who calls with a session, by GetCallerIdentity; None if AWS doesn't say.

    It is asked once and kept on the session, like the client. No run waits for it long: where
    only IAM can be reached, nobody knows.
    """
    if "keyrot_caller" not in vars(session):
        try:
            client = gate.client(session, "sts", config=BRIEF)
            session.keyrot_caller = calls.call(client, "get_caller_identity")["Arn"]
        except CallError:
            session.keyrot_caller = None
    found: str | None = session.keyrot_caller
    return found


@functools.cache
def _user_of(key_id: str, secret: str, token: str, region: str | None) -> tuple[str, str] | None:
    """Ask whose temporary credentials these are; None if they aren't an IAM user's."""
    session = boto3.Session(key_id, secret, token, region_name=region)
    arn = calls.call(gate.client(session, "sts"), "get_caller_identity")["Arn"]
    return user_in(arn)


def user_in(arn: str) -> tuple[str, str] | None:
    """Return the account id and the name of an IAM user's ARN; None for any other."""
    parts = arn.split(":", 5)
    kind, _, name = parts[5].partition("/") if len(parts) == 6 else ("", "", "")
    return (parts[4], name.rpartition("/")[2]) if kind == "user" else None
