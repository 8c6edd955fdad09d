# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What became of keys between two reports: new, closed, changed, and what isn't known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from c7n_keyrot.cli.report.words import CLOSED
from c7n_keyrot.cli.tables import paragraph, table
from c7n_keyrot.core.rotation import Verdict
from c7n_keyrot.core.text import counted, listed, utc

Report = Mapping[str, Any]
Key = Mapping[str, Any]
KINDS = ("new", "closed", "changed", "not_known")
NOT_LISTED = "not listed"
SHOWN = ("account_id", "account", "user", "slot", "access_key_id", "owner", "run")


def difference(before: Report, now: Report) -> dict[str, Any]:
    """Return what became of keys; each is in one list at most.

    new: it is listed now, and wasn't. closed: it was open, in doubt, exempt or expiring, and is
    fixed. changed: its state is another one. not_known: it isn't listed any more, or its account
    isn't covered now, so nobody knows.
    """
    found: dict[str, Any] = {
        "since": before["as_of"],
        "as_of": now["as_of"],
        **{kind: [] for kind in KINDS},
    }
    index = {place: key for key in before["keys"] for place in _places(key)}
    covered = {row["account_id"] for row in now["accounts"] if row["covered"]}
    seen = set[int]()
    for key in now["keys"]:
        was = next((index[place] for place in _places(key) if place in index), None)
        if was is not None:
            seen.add(id(was))
        kind = _kind(was, key, key["account_id"] in covered)
        if kind:
            found[kind].append(_row(was, key))
    proof = _Proof(now, covered)
    for key in before["keys"]:
        if id(key) not in seen and key["state"] != "fixed":
            closed = proof.end_of(key)
            found["closed" if closed else "not_known"].append(_row(key, None, closed))
    return found


class _Proof:
    """All keys of the later report's covered accounts, as far as their runs kept them."""

    def __init__(self, now: Report, covered: AbstractSet[str]) -> None:
        keys = [*now["keys"], *now["passed"]]
        self.accounts = {key["account_id"] for key in now["passed"]} & covered
        self.places = {(key["account_id"], key["user"], key["slot"]): key for key in keys}
        self.dates = {(key["account_id"], key["slot"], key["last_rotated"]) for key in keys}

    def end_of(self, key: Key) -> str | None:
        """Return how a key ended that isn't listed any more; None if that isn't known."""
        account, slot, rotated = key["account_id"], key["slot"], key["last_rotated"]
        if account not in self.accounts or not rotated:
            return None
        there = self.places.get((account, key["user"], slot))
        if there and there["last_rotated"] == rotated:
            return "deactivated" if there["verdict"] == Verdict.INACTIVE.value else None
        if (account, slot, rotated) in self.dates:
            return None  # of a user with another name: one was renamed
        return "rotated" if there else "removed"


def _places(key: Key) -> Iterator[tuple[Any, ...]]:
    """Yield what tells which key it is: its id, and where only one report has it, its date."""
    if key["access_key_id"]:
        yield key["account_id"], key["access_key_id"]
    # Without a date, too: such a key stays in doubt until somebody looks at it.
    yield key["account_id"], key["user"], key["slot"], key["last_rotated"]


def _kind(was: Key | None, key: Key, is_covered: bool) -> str | None:
    if was is None:
        # One that became stale after the first report was made, and was disabled since.
        if key["state"] == "fixed":
            return "closed" if key["outcome"] else None
        return "new"
    if key["state"] == was["state"]:
        return None
    if key["state"] == "fixed":
        return "closed"
    return "changed" if is_covered else "not_known"


def _row(was: Key | None, key: Key | None, closed: str | None = None) -> dict[str, Any]:
    known = key or was or {}
    return {
        **{name: known[name] for name in SHOWN},
        "before": was["state"] if was else None,
        "now": key["state"] if key else None,
        "closed": key["closed"] if key else closed,
    }


def as_text(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a difference."""
    counts = [f"{len(found[kind])} {kind.replace('_', ' ')}" for kind in KINDS]
    yield paragraph(f"From {_time(found['since'])} to {_time(found['as_of'])}: {listed(counts)}.")
    for kind in KINDS:
        if found[kind]:
            yield ""
            yield kind.replace("_", " ").capitalize()
            yield table(("ACCOUNT", "USER", "KEY", "BEFORE", "NOW"), map(_cells, found[kind]))
    if found["not_known"]:
        yield ""
        many = counted(len(found["not_known"]), "key")
        yield paragraph(
            f"{many} not known: no run of the later report lists the key, or its account isn't "
            "covered there."
        )


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    how = CLOSED.get(row["closed"], row["closed"]) if row["closed"] else ""
    now = how or row["now"] or NOT_LISTED
    key = row["access_key_id"] or f"slot {row['slot']}"
    return (
        row["account"] or row["account_id"] or "",
        row["user"],
        key,
        row["before"] or NOT_LISTED,
        now,
    )


def _time(text: str | None) -> str:
    return utc(datetime.fromisoformat(text)) if text else "a report without a run"


def as_json(found: Mapping[str, Any]) -> str:
    """Return a difference as JSON."""
    return json.dumps(found, indent=1) + "\n"
