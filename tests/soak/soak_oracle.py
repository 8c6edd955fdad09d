# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A second reading of the rules, without any code of the package.

Which keys does a policy mean, which outcomes are true, and whose work is it by the lines on disk
that a key is inactive? It is slow and plain, and looks where no tool can: into the account, at the
keys' true slots, and at what each call did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

from soak_world import EXEMPT, Call, Iam, Report, Slot


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


def looks(iam: Iam) -> list[dict[str, LiveUser]]:
    """The account as it is now, and as listings may show it, where they lag behind."""
    found = [look(iam)]
    for number in range(max((len(iam.views(user)) for user in iam.users.values()), default=0)):
        users = dict(found[0])
        for user in iam.users.values():
            if number < len(user.views):
                keys = tuple(
                    LiveKey(
                        entry["AccessKeyId"],
                        slot,
                        entry["CreateDate"].replace(microsecond=0),
                        entry["Status"],
                        iam.made[entry["AccessKeyId"]].used,  # of that nothing lags
                    )
                    for entry, slot in user.views[number].keys
                )
                users[user.name] = replace(users[user.name], keys=keys)
        found.append(users)
    return found


OPERATORS = ("and", "or", "not")


def operator_of(tree: Any) -> str | None:
    (word, *more) = tree if isinstance(tree, dict) else (tree,)
    return word if not more and word in OPERATORS else None


class Reading:
    """What a policy's filters say of one user, by one report, at one instant."""

    def __init__(
        self, user: LiveUser, row: dict[int, Slot] | None, now: datetime, own: str = ""
    ) -> None:
        self.user, self.row, self.now, self.own = user, row, now, own

    def meant(self, filters: list[Any]) -> set[str]:
        """The keys that a filter of ours names and of which the whole tree is true."""
        named = self.named({"and": filters})
        return {
            key.id
            for key in self.user.keys
            if key.id in named and all(self.true_of(tree, key) for tree in filters)
            if key.id != self.own
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
        if data["type"] == "expiring-access-key" and key is not None and key.id == self.own:
            return False  # nobody is reminded of what won't happen
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
        return any(one.status != "Inactive" for one in possible)

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
        # A key of any other status is neither active nor inactive.
        return key.status in ("Active", "Inactive") and self.right(
            data, key.status == "Active", key.created
        )

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
        # A listing that lags may lack the other of two keys of one second; but those are new.
        new = self.now - found.created < timedelta(hours=1)
        assert found.slot == number or new, "the evidence itself was wrong: an error of the model"
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
    filters: list[Any],
    users: dict[str, LiveUser],
    report: Report | None,
    now: datetime,
    own: str,
) -> set[str]:
    """The ids of all keys of an account that a policy's filters mean, without the run's own."""
    if report is None or report.broken:
        return set()
    return {
        key
        for user in users.values()
        # A row of another user, who had the name then, says nothing of this one.
        if report.users.get(user.name) == user.created
        for key in Reading(user, report.rows.get(user.name), now, own).meant(filters)
    }


# -- outcomes

DISABLE, DELETE, REACTIVATE = "disable-access-key", "delete-access-key", "reactivate"
# What each action calls, and its outcome where it has done what it should.
ACTIONS = {
    DISABLE: ("UpdateAccessKey", "Inactive", "disabled"),
    DELETE: ("DeleteAccessKey", "", "deleted"),
    REACTIVATE: ("UpdateAccessKey", "Active", "reactivated"),
}


def true_outcomes(action: str, key: str, user: str, log: Sequence[Call]) -> set[str]:
    """The outcomes that may stand for a key, by all that was called for it and its user.

    What else happened to the key meanwhile, or was so before, isn't looked at: ``gone`` and
    ``skipped`` are not among them.
    """
    operation, status, done = ACTIONS[action]
    places = [
        number
        for number, call in enumerate(log)
        if (call.operation, call.subject, call.status) == (operation, key, status)
    ]
    calls = [log[number] for number in places]
    looked = [
        call
        for call in log[places[-1] if places else 0 :]
        if call.operation == "ListAccessKeys" and call.user == user
    ]
    if not calls:
        if action == REACTIVATE:
            # It may have looked for the key under another name.
            looked = [call for call in log if call.operation != operation]
        return {"denied" if is_denied(call) else "failed" for call in looked if call.failed}
    last = calls[-1]
    if any(call.effect for call in calls):
        # Whoever saw it afterwards knows; nobody else does who heard no answer.
        seen = any(not call.failed and not call.refused and not call.lagged for call in looked)
        unheard = all(call.failed or call.refused for call in calls)
        return {done, "unknown"} if unheard and not seen else {done}
    if any(call.is_lost for call in calls):
        again = len(calls) > 1 or any(call.failed for call in looked)
        return {"unknown"} if again and last.failed else set()
    if not last.failed:
        return set()
    return {"denied" if is_denied(last) else "failed"}


def is_denied(call: Call) -> bool:
    fault = call.tries[-1]
    return fault is not None and fault.what == "AccessDenied"


class History:
    """Whose work it is by the lines on disk that a key is inactive, if it is so.

    ``ours`` are keys that the tool has switched off last, ``doubted`` those of which nobody can
    tell, such as of one at which a run was cut off.
    """

    LAG = timedelta(minutes=5)

    def __init__(self) -> None:
        self.ours: set[str] = set()
        self.doubted: set[str] = set()
        self.off: dict[str, datetime] = {}  # when it was switched off last, or may have been
        self.runs: set[str] = set()

    def read(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take in what is new: all lines of the next run, of which the last ones may be missing."""
        new = [line for line in lines if line["run"] not in self.runs and line["access_key_id"]]
        ended = {
            (line["action"], line["access_key_id"]) for line in new if line["outcome"] != "intended"
        }
        tried = {
            (line["action"], line["access_key_id"]) for line in new if line["outcome"] == "intended"
        }
        for line in new:
            operation = line["action"], line["access_key_id"]
            unknown = (line["action"], line["outcome"]) == (REACTIVATE, "unknown")
            if unknown and operation not in tried:
                continue  # it only looked for the key, and found no user of the name
            is_open = operation not in ended
            if line["outcome"] != "intended" or is_open:
                self._take(line)
        self.runs.update(line["run"] for line in new)

    def _take(self, line: dict[str, Any]) -> None:
        key, action, outcome = line["access_key_id"], line["action"], line["outcome"]
        time = datetime.fromisoformat(line["time"])
        what = (action, outcome)
        known = key in self.ours or key in self.doubted
        if what == (DISABLE, "disabled"):
            self._is(key, ours=True)
        elif action in (DISABLE, REACTIVATE) and outcome in ("unknown", "intended"):
            self._is(key, doubted=True)
        elif what in (
            (DISABLE, "denied"),
            (DISABLE, "failed"),
            (DISABLE, "gone"),
            (DELETE, "skipped"),
            (REACTIVATE, "skipped"),
        ):
            # It was seen active; or the listing was behind.
            self._is(key, doubted=known and time - self.off.get(key, time) < self.LAG)
        elif what in ((DELETE, "deleted"), (REACTIVATE, "reactivated")):
            self._is(key)
        if action == DISABLE and outcome in ("disabled", "unknown", "intended"):
            self.off[key] = time

    def _is(self, key: str, *, ours: bool = False, doubted: bool = False) -> None:
        self.ours.discard(key)
        self.doubted.discard(key)
        if ours:
            self.ours.add(key)
        if doubted:
            self.doubted.add(key)
