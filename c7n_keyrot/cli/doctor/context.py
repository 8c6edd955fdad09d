# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the doctor's checks find out for those after them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from c7n_keyrot.aws.credentials import FALLBACK_REGION, Access
from c7n_keyrot.cli.doctor.sqs import Queue, queue_of
from c7n_keyrot.evidence.accounts import Account
from c7n_keyrot.evidence.gather import PolicyFolder


@dataclass(frozen=True)
class Planned:
    """What a policy means in one place.

    :ivar file: where it is written.
    :ivar runs: whether its conditions let it run there.
    :ivar pull: whether it runs at once, not as a Lambda function that is set up.
    :ivar takes: slot, days and status of the keys that it disables or deletes.
    :ivar judges: slot and days (limit) of each of its filters on a slot.
    :ivar once: whether one run covers all regions, since its resource has none.
    """

    name: str
    runs: bool = True
    permissions: frozenset[str] = frozenset()
    notices: tuple[dict[str, Any], ...] = ()
    file: str = ""
    pull: bool = True
    once: bool = True
    takes: tuple[tuple[int, float, str], ...] = ()
    judges: frozenset[tuple[int, float]] = frozenset()


@dataclass
class Target:
    """A place that the policies run in: an account (of accounts.yml, or none) and a region."""

    account: Account | None = None
    region: str = FALLBACK_REGION
    account_id: str = ""
    policies: list[Planned] = field(default_factory=list)

    def __str__(self) -> str:
        return str(self.account or f"account {self.account_id or 'of the credentials'}")

    def sends_as_member(self, notice: dict[str, Any]) -> bool:
        """Tell whether a notice goes out with the account's credentials, not with the hub's."""
        account = self.account
        if account is None:
            return False
        # The credentials of a profile, or of a chain of roles, are those that c7n-org starts with.
        own = account.chain or (account.profile and not account.roles)
        return bool(own or notice.get("assume_role", True))


@dataclass
class Context:
    """The doctor's arguments, and what is known so far.

    :ivar own: the credentials that the doctor was started with; None if they don't work.
    :ivar accounts: those of accounts.yml that the run is for.
    :ivar targets: where the policies run; none if a check found that this can't be known.
    :ivar mailer: what mailer.yml says.
    :ivar left: the last run of each policy that left its metadata in --output-dir.
    """

    args: argparse.Namespace
    own: Access | None = None
    accounts: list[Account] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    mailer: dict[str, Any] = field(default_factory=dict)
    left: list[PolicyFolder] = field(default_factory=list)

    @property
    def org(self) -> bool:
        """Whether the run is one of c7n-org."""
        return self.args.accounts is not None

    @property
    def known(self) -> bool:
        """Whether any policy is known."""
        return any(target.policies for target in self.targets)

    def policies(self) -> Iterator[tuple[Target, Planned]]:
        """Yield the policies that run, and where."""
        for target in self.targets:
            for policy in target.policies:
                if policy.runs:
                    yield target, policy

    def notices(self) -> Iterator[tuple[Target, Planned, dict[str, Any]]]:
        """Yield the notices of the policies that run."""
        for target, policy in self.policies():
            for notice in policy.notices:
                yield target, policy, notice

    def queues(self) -> list[Queue]:
        """Return the queues that notices go to."""
        found = (queue_of(n, t.account_id, t.region) for t, _, n in self.notices())
        return list(dict.fromkeys(queue for queue in found if queue is not None))
