# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What every call needs that changes or sends something, and what a dry run never has."""

from __future__ import annotations

from typing import Any

from c7n_keyrot.aws.errors import READS, CallError, ErrorKind

# What else does no harm: AWS writes a report on the account; the way into it.
HARMLESS = ("iam:GenerateCredentialReport", "sts:AssumeRole")


class Permit:
    """Allows calls that change or send something. There is none in a dry run."""

    def __init__(self, options: Any = None) -> None:
        """Make one.

        :param options: Custodian's, of the run; None for a command that has asked its user.
        :raises CallError: it is a dry run.
        """
        if getattr(options, "dryrun", False):
            raise _not_permitted("c7n-keyrot")


def check_permit(name: str, permit: Permit | None) -> None:
    """Refuse to change or send anything without a permit, whoever has forgotten to ask for one.

    :param name: what is refused, for the error's line.
    :raises CallError: there is none.
    """
    if not isinstance(permit, Permit):
        raise _not_permitted(name)


def check_call(name: str, permit: Permit | None) -> None:
    """Refuse a call that isn't known to be harmless, such as ``iam:UpdateAccessKey``.

    :raises CallError: there is no permit for it.
    """
    if not READS.match(name) and name not in HARMLESS:
        check_permit(name, permit)


def _not_permitted(name: str) -> CallError:
    what = "not done: this is a dry run, or nothing has permitted it"
    return CallError(name, ErrorKind.OTHER, "NotPermitted", what)
