# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Credentials of AWS: those at hand, and the one way to take a role with them."""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError

from c7n_keyrot.aws import calls, gate
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import one_line

FALLBACK_REGION = "us-east-1"  # Custodian's own
SESSION_NAME = "c7n-keyrot"

# If a role can't be taken again, the call's error says so; botocore would log a traceback.
logging.getLogger("botocore.credentials").setLevel(logging.ERROR)


# Of all sessions: side by side each would read the models anew before any has kept them.
MAKING_CLIENTS = threading.Lock()


class Access:
    """Credentials of AWS, and whose they are; threads may share it.

    :ivar session: a boto3 session. It isn't made for threads: see ``client()``.
    :ivar arn: what GetCallerIdentity says, or the role that was taken.
    :ivar region: of its clients, unless another one is asked for.
    """

    def __init__(
        self, session: Any, region: str, config: Config | None = None, arn: str = ""
    ) -> None:
        self.session, self.region, self.config = session, region, config
        self._clients: dict[tuple[str, str], Any] = {}
        self.arn: str = arn or calls.call(self.client("sts"), "get_caller_identity")["Arn"]

    @property
    def partition(self) -> str:
        return part_of(self.arn, 1)

    @property
    def account_id(self) -> str:
        return part_of(self.arn, 4)

    def client(self, service: str = "iam", region: str | None = None) -> Any:
        """Return the client of a service, for ``calls.call``.

        :raises CallError: it can't be made.
        """
        place = service, region or self.region
        with MAKING_CLIENTS:
            if place not in self._clients:
                self._clients[place] = gate.client(
                    self.session, service, region=place[1], config=self.config
                )
            return self._clients[place]


def part_of(arn: str, number: int) -> str:
    """Return a part of an ARN, such as 4, the account; "" if it is too short."""
    return ([*arn.split(":", 5), *[""] * 6])[number]


@functools.cache
def partition_of(region: str) -> str:
    """Return the partition of a region, as botocore knows it; ``aws`` for one that it doesn't."""
    found: str
    try:
        found = botocore.session.get_session().get_partition_for_region(region)
    except BotoCoreError:
        found = "aws"
    return found


def of_profile(name: str, region: str, config: Config | None = None) -> Access:
    """Return the credentials of a profile of the AWS configuration.

    :raises CallError: GetCallerIdentity failed, or there are no credentials.
    :raises CommandError: no session can be made, such as for a profile that doesn't exist.
    """
    try:
        return Access(boto3.Session(profile_name=name, region_name=region), region, config)
    except BotoCoreError as error:
        what = f"profile {one_line(name)} can't be used: {one_line(error)}"
        raise CommandError(what) from None


def own(profile: str | None = None, config: Config | None = None) -> Access:
    """Return the credentials that the command was started with.

    :param profile: of the AWS configuration; None for the usual ones.
    :param config: timeouts and retries of its clients, and of those that ``take()`` returns.
    :raises CallError: GetCallerIdentity failed, or there are no credentials.
    :raises BotoCoreError: no session can be made, such as for a profile that doesn't exist.
    """
    session = boto3.Session(profile_name=profile)
    return Access(session, session.region_name or FALLBACK_REGION, config)


def assume(access: Access, role: str, external_id: str, region: str) -> Access:
    """Return credentials of a role, which renew themselves.

    :raises CallError: it can't be taken.
    """
    sts = access.client("sts")
    asked: dict[str, Any] = {"RoleArn": role, "RoleSessionName": SESSION_NAME}
    if external_id:
        asked["ExternalId"] = external_id

    def credentials() -> dict[str, str]:
        # For an hour: STS's default, and the maximum for a role that is taken with a role.
        found = calls.call(sts, "assume_role", **asked)["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }

    def again() -> dict[str, str]:
        gate.renew(sts)  # which nobody needed since
        return credentials()

    core: Any = botocore.session.get_session()
    # As Custodian does; botocore has no public way to a role by credentials at hand.
    core._credentials = RefreshableCredentials.create_from_metadata(
        credentials(), again, "sts-assume-role"
    )
    core.set_config_variable("region", region)
    return Access(boto3.Session(botocore_session=core), region, access.config, role)
