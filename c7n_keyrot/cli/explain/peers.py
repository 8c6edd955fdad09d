# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What other tools say of the same key, each by its own boundary.

Each is read out of its source, which ``PEERS`` names, and has its default of 90 days. A tool that
asks IAM for a key's CreateDate is given the report's last rotated in its place. A tool that counts
by its machine's local time is taken to run in UTC.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from c7n_keyrot.core.credential_report import ROOT, Row, Slot
from c7n_keyrot.core.rotation import DAY

FAIL, PASS, NOT_JUDGED = "fail", "pass", "not judged"
LIMIT = 90 * DAY
# Parts of reasons.
WHOLE_DAYS = "counts whole days and fails over 90, so from 91 days on"
CREATED = "by CreateDate"
ROOT_TOO = "; judges the root user, too"


class Judged(NamedTuple):
    """What a peer says of a key: ``fail``, ``pass`` or ``not judged``; and why, in words."""

    word: str
    why: str


@dataclass(frozen=True, slots=True)
class JudgedKey:
    """A key that is in a slot (1 or 2) of a row, and the instant (UTC) to judge it at."""

    row: Row
    number: int
    now: datetime

    @property
    def slot(self) -> Slot:
        return self.row.slots[self.number - 1]

    @property
    def is_root(self) -> bool:
        return self.row.user == ROOT


Judge = Callable[[JudgedKey, timedelta], Judged]


def _if(fails: bool, why: str) -> Judged:
    return Judged(FAIL if fails else PASS, why)


def _cloudguard(key: JudgedKey, age: timedelta) -> Judged:
    if key.number != 2:
        return Judged(NOT_JUDGED, "its rule D9.AWS.IAM.07 is about the second key only")
    return _if(age > LIMIT, "fails over 90 days, to the second")


def _prowler(key: JudgedKey, age: timedelta) -> Judged:
    root = ROOT_TOO if key.is_root else ""
    return _if(age.days > 90, f"{WHOLE_DAYS}{root}")


def _aws_config(_: JudgedKey, age: timedelta) -> Judged:
    return _if(age >= LIMIT, f"fails from exactly 90 days on; {CREATED}")


def _whole_days(_: JudgedKey, age: timedelta) -> Judged:
    return _if(age.days > 90, f"{WHOLE_DAYS}; {CREATED}")


def _steampipe(key: JudgedKey, age: timedelta) -> Judged:
    today = key.now - key.now.replace(hour=0, minute=0, second=0, microsecond=0)
    return _if(
        age - today >= LIMIT,
        f"counts from the midnight (UTC) before, and fails from 90 days on; {CREATED}",
    )


def _cloudsploit(key: JudgedKey, age: timedelta | None) -> Judged:
    created = key.row.created
    days = min(_rounded(age), _rounded(key.now - created)) if created else 0
    only = "only warns: it " if 90 < days <= 180 else ""
    return _if(
        days > 180, f"{only}rounds days, warns over 90 and fails over 180, if the user is as old"
    )


def _rounded(age: timedelta | None) -> float:
    """Return whole days as JavaScript rounds them; no date counts as older than any user."""
    return math.inf if age is None else math.floor(abs(age) / DAY + 0.5)


def _mondoo(key: JudgedKey, age: timedelta) -> Judged:
    created = key.row.created
    older = created is not None and key.now - created > LIMIT
    root = ROOT_TOO if key.is_root else ""
    return _if(older and age >= LIMIT, f"fails from exactly 90 days on, if the user is older{root}")


def _trivy(_: JudgedKey, age: timedelta) -> Judged:
    return _if(age > LIMIT, f"fails over 90 days, to the second; {CREATED}")


def _custodian(key: JudgedKey, age: timedelta) -> Judged:
    # The two filters know users only. The key that is old is the one that fails.
    active = any(slot.active for slot in key.row.slots)
    return _if(
        age > LIMIT and active,
        "two filters match a user of whom one key is active and one is over 90 days old",
    )


@dataclass(frozen=True)
class Peer:
    """A tool and its check.

    :ivar source: the repository and the file, or the check's name.
    :ivar judge: judges a key with a date; it isn't asked about others.
    :ivar undated: judges an active key without a readable date; None: it asks IAM for the date.
    :ivar root: whether it judges the root user's keys.
    :ivar inactive: whether it can judge a key that isn't active.
    """

    name: str
    source: str
    judge: Judge
    undated: Callable[[JudgedKey], Judged] | None = None
    root: bool = False
    inactive: bool = False


PEERS = (
    Peer("cloudguard", "CloudGuard rule D9.AWS.IAM.07", _cloudguard),
    Peer(
        "prowler",
        "prowler-cloud/prowler: iam_rotate_access_key_90_days",
        _prowler,
        undated=lambda _: Judged(PASS, "passes a key without a date"),
        root=True,
    ),
    Peer("aws-config", "awslabs/aws-config-rules: IAM_ACCESS_KEY_ROTATED", _aws_config),
    Peer(
        "security-hub-iam3",
        "aws-solutions/automated-security-response-on-aws: RevokeUnrotatedKeys.py (IAM.3)",
        _whole_days,
    ),
    Peer(
        "steampipe",
        "turbot/steampipe-mod-aws-compliance: iam_user_access_key_age_90",
        _steampipe,
    ),
    Peer("scoutsuite", "nccgroup/ScoutSuite: iam-user-no-key-rotation.json", _whole_days),
    Peer(
        "cloudsploit",
        "aquasecurity/cloudsploit: accessKeysRotated.js",
        _cloudsploit,
        undated=lambda key: _cloudsploit(key, None),
    ),
    Peer(
        "mondoo",
        "mondoohq/cnspec: mondoo-aws-security-access-keys-rotated in mondoo-aws-security.mql.yaml",
        _mondoo,
        root=True,
    ),
    Peer("trivy", "aquasecurity/trivy-checks: rotate_access_keys.rego", _trivy),
    Peer(
        "custodian-credential",
        "cloud-custodian/cloud-custodian: the filter credential in c7n/resources/iam.py",
        _custodian,
        undated=lambda _: Judged(PASS, "doesn't match a key without a date, and doesn't say so"),
        inactive=True,
    ),
)


def ask(row: Row, number: int, now: datetime) -> dict[str, Judged]:
    """Return what each peer says of a slot, by its name.

    :param number: of the slot, 1 or 2.
    :param now: the instant to judge at, UTC.
    """
    key = JudgedKey(row, number, now)
    return {peer.name: _ask(peer, key) for peer in PEERS}


def _ask(peer: Peer, key: JudgedKey) -> Judged:
    slot = key.slot
    if not slot.has_key:
        return Judged(NOT_JUDGED, "no key")
    if key.is_root and not peer.root:
        return Judged(NOT_JUDGED, "leaves the root user out")
    if slot.active is None:
        return Judged(NOT_JUDGED, "the report doesn't say whether the key is active")
    if not slot.active and not peer.inactive:
        return Judged(NOT_JUDGED, "judges active keys only")
    if slot.last_rotated is None:
        if peer.undated is None:
            return Judged(NOT_JUDGED, "asks for a date that the report doesn't have")
        return peer.undated(key)
    return peer.judge(key, key.now - slot.last_rotated)
