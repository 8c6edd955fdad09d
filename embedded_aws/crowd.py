# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Many users at once, for benchmarks and for tests that need a crowd."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from embedded_aws.account import Account, Key

# The keys of the users, in turn: those to find, and the look-alikes.
OLD, NEW = Key(200, last_used_days=1), Key(20, last_used_days=1)
OFF = Key(200, status="Inactive")
TO_FIND: list[tuple[Key | None, Key | None]] = [
    (NEW, OLD),
    (OLD, OLD),
    (NEW, OLD),
    (OFF, OLD),
    (None, OLD),
]
OTHERS: list[tuple[Key | None, Key | None]] = [
    (None, None),
    (NEW, None),
    (OLD, None),
    (None, None),
    (OLD, NEW),
    (NEW, OFF),
    (NEW, None),
    (None, None),
    (NEW, NEW),
    (None, NEW),
    (OLD, OFF),
    (None, None),
    (NEW, None),
]


def seed_bench(account: Account, n: int, find: int | None = None) -> dict[str, str]:
    """Add n users, exactly `find` of them (20% by default) to find, evenly spread.

    Return {user: id of the key to disable}. All dates differ, so each key can be identified.
    """
    find = n // 5 if find is None else min(find, n)
    wanted: dict[str, str] = {}
    now = datetime.now(timezone.utc)  # one for all: with many users the clock moves on
    for i in range(n):
        name = f"user-{i:05d}"
        to_find = (i + 1) * find // n > i * find // n
        kinds, turn = (TO_FIND, len(wanted)) if to_find else (OTHERS, i)
        keys = [
            replace(key, rotated_at=now - timedelta(days=key.age_days, seconds=2 * i + slot))
            if key
            else None
            for slot, key in enumerate(kinds[turn % len(kinds)])
        ]
        account.add_user(name, *keys, tags={"team": f"t{i % 7}"}, path=f"/unit-{i % 3}/")
        if to_find:
            wanted[name] = account.key_id(name, 2)
    return wanted
