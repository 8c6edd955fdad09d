# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A second reading of the rule, without any code of the package: which keys does a policy mean?

It is slow and plain, and looks where no tool can: into the account, at the keys' true slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

from soak_world import EXEMPT, Iam, Report, Slot


@dataclass(frozen=True)
class LiveKey:
    """A key as it was when a run began."""

    id: str
    slot: int
    created: datetime
    status: str
    used: datetime | None


@dataclass(frozen=True)
class LiveUser:
    name: str
    created: datetime
    tags: dict[str, str]
    keys: tuple[LiveKey, ...]


def look(iam: Iam) -> dict[str, LiveUser]:
    """The account as it is now."""
    return {
        user.name: LiveUser(
            user.name,
            user.created,
            dict(user.tags),
            tuple(
                LiveKey(key.id, key.slot, key.created, key.status, key.used)
                for key in user.slots.values()
            ),
        )
        for user in iam.users.values()
    }


OPERATORS = ("and", "or", "not")


def operator_of(tree: Any) -> str | None:
    (word, *more) = tree if isinstance(tree, dict) else (tree,)
    return word if not more and word in OPERATORS else None


class Reading:
    """What a policy's filters say of one user, by one report, at one instant."""

    def __init__(self, user: LiveUser, row: dict[int, Slot] | None, now: datetime) -> None:
        self.user, self.row, self.now = user, row, now

    def meant(self, filters: list[Any]) -> set[str]:
        """The keys that a filter of ours names and of which the whole tree is true."""
        named = self.named({"and": filters})
        return {
            key.id
            for key in self.user.keys
            if key.id in named and all(self.true_of(tree, key) for tree in filters)
        }

    # -- of one key

    def true_of(self, tree: Any, key: LiveKey) -> bool:
        operator = operator_of(tree)
        if operator == "and":
            return all(self.true_of(inner, key) for inner in tree["and"])
        if operator == "or":
            return any(self.true_of(inner, key) for inner in tree["or"])
        if operator == "not" or kind(tree) != "stale-access-key":
            return self.true_of_user(tree)
        return self.key_of(options(tree)) == key

    def named(self, tree: Any) -> set[str]:
        """The keys that stale-access-key filters name, in blocks that are true of the user."""
        operator = operator_of(tree)
        if operator == "not" or not self.true_of_user(tree):
            return set()
        if operator:
            return set().union(*(self.named(inner) for inner in tree[operator]))
        key = self.key_of(options(tree))
        return {key.id} if key else set()

    # -- of the user

    def true_of_user(self, tree: Any) -> bool:
        operator = operator_of(tree)
        if operator:
            said = [self.true_of_user(inner) for inner in tree[operator]]
            return {"and": all(said), "or": any(said), "not": not all(said)}[operator]
        data = options(tree)
        if data["type"] == "value":
            return self.user.tags.get("team") == "shop"
        if data["type"] == "rotation-exempt":
            return self.exempt()
        return self.slot_holds(data)

    def exempt(self) -> bool:
        """The tag's whole day counts, in UTC."""
        text = self.user.tags.get(EXEMPT, "")
        try:
            year, month, day = text.split("-")
            until = date(int(year), int(month), int(day))
        except ValueError:
            return False
        return self.now.astimezone(timezone.utc) < datetime(
            until.year, until.month, until.day, tzinfo=timezone.utc
        ) + timedelta(days=1)

    def slot_holds(self, data: dict[str, Any]) -> bool:
        """Whether a filter on a slot matches the user: with a key, or in doubt about it."""
        if data["type"] == "unclear-access-key":
            return self.unclear(data)
        if not self.reported(data):
            return False
        key, doubt = self.stands_in(data["slot"])
        if doubt:
            # It may be any of them; of what is in doubt nobody is reminded.
            return data["type"] == "stale-access-key" and any(
                self.fits(data, key) and self.still(data, key) for key in self.user.keys
            )
        return key is not None and self.fits(data, key) and self.still(data, key)

    def unclear(self, data: dict[str, Any]) -> bool:
        """Whether somebody has to look which key it is, or what the report means."""
        slot = self.row and self.row[data["slot"]]
        if not slot or slot.is_active is False:
            return False
        key, doubt = self.stands_in(data["slot"])
        stale = {**data, "type": "stale-access-key", "status": "Active"}
        if slot.is_active and slot.date:
            return (
                doubt
                and self.right(stale, True, slot.date)
                and any(self.fits(stale, key) for key in self.user.keys)
            )
        possible = self.user.keys if doubt else [key] if key else []
        return any(one.status == "Active" for one in possible)

    def key_of(self, data: dict[str, Any]) -> LiveKey | None:
        if data["type"] != "stale-access-key" or not self.slot_holds(data):
            return None
        return self.stands_in(data["slot"])[0]

    # -- the rule

    def reported(self, data: dict[str, Any]) -> bool:
        """What the report says: status and age."""
        slot = self.row and self.row[data["slot"]]
        if not slot or slot.date is None or slot.is_active is None:
            return False
        return self.right(data, slot.is_active, slot.date)

    def right(self, data: dict[str, Any], active: bool, rotated: datetime) -> bool:
        age = (self.now - rotated).total_seconds()
        limit = data["days"] * 86400
        if data["type"] == "stale-access-key":
            return active == (data["status"] == "Active") and age > limit
        if not active or age > limit:
            return False
        if "remind-at" not in data:
            return limit - age <= data["notice"] * 86400
        last = (rotated + timedelta(days=data["days"])).toordinal()
        return last - self.now.toordinal() in data["remind-at"]

    def fits(self, data: dict[str, Any], key: LiveKey) -> bool:
        return self.right(data, key.status == "Active", key.created)

    def still(self, data: dict[str, Any], key: LiveKey) -> bool:
        """What is asked of AWS besides: the last use, and a successor."""
        if data.get("unused-days") and key.used:
            unused = (self.now - key.used).total_seconds()
            if unused <= data["unused-days"] * 86400:
                return False
        return not data.get("superseded") or any(
            other.status == "Active"
            and other.created > key.created
            and other.used is not None
            and (key.used is None or other.used > key.used)
            for other in self.user.keys
        )

    def stands_in(self, number: int) -> tuple[LiveKey | None, bool]:
        """The key that can be shown to stand in the slot; and whether a doubt is left.

        It takes the evidence that there is, dates; that the key so found truly stands in the slot
        is what the model knows, and what a false reading would break.
        """
        assert self.row is not None
        mine, theirs = self.row[number].date, self.row[3 - number].date
        live = self.user.keys
        dated = [key for key in live if key.created == mine]
        hidden = any(
            slot.date is None and (slot.is_active, slot.rotated) != (False, "N/A")
            for slot in self.row.values()
        )
        if mine == theirs or hidden:
            return None, bool(live)
        if len(dated) > 1:
            return None, True
        if dated:
            found = dated[0]
        else:
            others = [key for key in live if key.created == theirs]
            rest = [key for key in live if key not in others]
            if len(others) > 1 or (not others and rest):
                return None, True
            if not rest:
                return None, False
            (found,) = rest
        assert found.slot == number, "the evidence itself was wrong: an error of the model"
        return found, False


def kind(tree: Any) -> str:
    return str(options(tree)["type"])


DEFAULTS = {
    "stale-access-key": {"slot": 2, "days": 90, "status": "Active"},
    "expiring-access-key": {"slot": 2, "days": 90, "notice": 14},
    "unclear-access-key": {"slot": 2, "days": 90},
}


def options(tree: Any) -> dict[str, Any]:
    """A filter with its defaults."""
    data = {"type": tree} if isinstance(tree, str) else tree
    if "type" not in data:
        return {"type": "value", **data}
    return {**DEFAULTS.get(data["type"], {}), **data}


def meant(
    filters: list[Any], users: dict[str, LiveUser], report: Report | None, now: datetime
) -> set[str]:
    """The ids of all keys of an account that a policy's filters mean."""
    if report is None or report.broken:
        return set()
    return {
        key
        for user in users.values()
        # A row of another user, who had the name then, says nothing of this one.
        if report.users.get(user.name) == user.created
        for key in Reading(user, report.rows.get(user.name), now).meant(filters)
    }
