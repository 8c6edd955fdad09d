# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which keys a tree of filters means, through Custodian's own filter machinery.

The reference asks the tree of every single key, and knows nothing of annotations. What a user
filter says (a tag, `not`) holds for all of the user's keys.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from in_memory import Custodian, Iam

from c7n_keyrot.custodian import matching, patches

NO_KEYS: list[str] = []
OLD, OLDER, NEW = 200, 300, 10

STALE1 = {"type": "stale-access-key", "slot": 1}
STALE2 = {"type": "stale-access-key"}
INACTIVE2 = {"type": "stale-access-key", "status": "Inactive"}
EXPIRING1 = {"type": "expiring-access-key", "slot": 1, "days": 400, "notice": 300}
EXPIRING2 = {"type": "expiring-access-key", "days": 400, "notice": 300}
UNCLEAR2 = {"type": "unclear-access-key"}
UNCLEAR1 = {"type": "unclear-access-key", "slot": 1}
TAGGED = {"tag:team": "shop"}
UNTAGGED = {"tag:team": "absent"}
LIVE_ACTIVE = {"type": "access-key", "key": "Status", "value": "Active"}
LIVE_INACTIVE = {"type": "access-key", "key": "Status", "value": "Inactive"}
LIVE_FRESH = {
    "type": "access-key",
    "key": "CreateDate",
    "value_type": "age",
    "op": "less-than",
    "value": 50,
}
LIVE_OLD = {**LIVE_FRESH, "op": "greater-than"}
NAMED1 = {"type": "access-key", "key": "AccessKeyId", "op": "glob", "value": "*-1"}
NAMED2 = {**NAMED1, "value": "*-2"}
AND = {"match-operator": "and"}
REPORT_OLD = {
    "type": "credential",
    "key": "access_keys.last_rotated",
    "value_type": "age",
    "op": "greater-than",
    "value": 250,
}
REPORT_ACTIVE = {"type": "credential", "key": "access_keys.active", "value": True}
MFA = {"type": "credential", "key": "user", "op": "glob", "value": "b*"}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        # "both" has two stale keys: -1 of 300 days, -2 of 200.
        ([STALE2], ["both-2"]),
        ([STALE1], ["both-1"]),
        ([STALE1, STALE2], NO_KEYS),
        ([{"and": [STALE1, STALE2]}], NO_KEYS),
        ([{"or": [STALE1, STALE2]}], ["both-1", "both-2"]),
        ([{"or": [STALE2, STALE1]}], ["both-1", "both-2"]),
        ([STALE2, {"or": [STALE1, STALE2]}], ["both-2"]),
        ([{"or": [STALE1, STALE2]}, STALE2], ["both-2"]),
        ([{"or": [STALE1, STALE2]}, {"or": [STALE1, STALE2]}], ["both-1", "both-2"]),
        ([{"or": [STALE2, {"and": [STALE1, TAGGED]}]}], ["both-1", "both-2"]),
        ([{"or": [{"and": [STALE1, TAGGED]}, STALE2]}], ["both-1", "both-2"]),
        ([{"or": [{"and": [STALE1, UNTAGGED]}, STALE2]}], ["both-2"]),
        ([{"or": [STALE2, {"and": [STALE1, UNTAGGED]}]}], ["both-2"]),
        ([{"or": [{"and": [UNTAGGED, STALE1]}, STALE2]}], ["both-2"]),
        ([STALE2, {"not": [UNTAGGED]}], ["both-2"]),
        ([{"not": [UNTAGGED]}, STALE2], ["both-2"]),
        ([STALE2, {"not": [{"and": [STALE1, UNTAGGED]}]}], ["both-2"]),
        ([STALE2, {"not": [{"not": [STALE1]}]}], ["both-2"]),
        ([{"not": [{"not": [STALE1]}]}, STALE2], ["both-2"]),
        ([STALE2, {"not": [INACTIVE2]}], ["both-2"]),
        # Keys that are only expiring are never meant.
        ([EXPIRING2], NO_KEYS),
        ([EXPIRING1, STALE2], ["both-2"]),
        ([STALE2, EXPIRING2], ["both-2"]),
        ([{"or": [EXPIRING1, STALE2]}], ["both-2"]),
        ([{"or": [STALE2, EXPIRING1]}], ["both-2"]),
        # Nor are those in doubt; here none is.
        ([UNCLEAR2], NO_KEYS),
        ([STALE2, UNCLEAR2], NO_KEYS),
        ([STALE2, {"not": [UNCLEAR2]}], ["both-2"]),
        ([{"not": [UNCLEAR1, UNCLEAR2]}, STALE2], ["both-2"]),
        ([{"or": [UNCLEAR1, STALE2]}], ["both-2"]),
        # Stock filters beside ours, in any order.
        ([STALE2, LIVE_ACTIVE], ["both-2"]),
        ([LIVE_ACTIVE, STALE2], ["both-2"]),
        ([{"or": [STALE2, {"and": [LIVE_INACTIVE, STALE1]}]}], ["both-2"]),
        ([STALE2, NAMED1], NO_KEYS),
        ([NAMED1, STALE2], NO_KEYS),
        ([NAMED1, STALE1], ["both-1"]),
        ([{"and": [NAMED1]}, STALE2], NO_KEYS),
        ([STALE2, {"and": [NAMED1]}], NO_KEYS),
        ([STALE2, {"or": [NAMED1]}], NO_KEYS),
        ([STALE2, {"or": [NAMED1, NAMED2]}], ["both-2"]),
        ([{"or": [NAMED1, NAMED2]}, STALE2], ["both-2"]),
        ([STALE2, {"or": [NAMED1, {"and": [LIVE_ACTIVE, NAMED2]}]}], ["both-2"]),
        ([{"or": [STALE2, STALE1]}, NAMED1], ["both-1"]),
        ([NAMED1, {"or": [STALE2, STALE1]}], ["both-1"]),
        ([{"or": [STALE2, {"and": [STALE1, NAMED2]}]}], ["both-2"]),
        ([{"or": [{"and": [STALE1, NAMED2]}, {"and": [STALE2, NAMED1]}]}], NO_KEYS),
        ([STALE2, {**NAMED2, **AND}], ["both-2"]),
        ([{"or": [STALE2, STALE1]}, {**NAMED2, **AND}], ["both-2"]),
        ([STALE2, {"not": [LIVE_INACTIVE]}], ["both-2"]),
        ([STALE1, REPORT_OLD], ["both-1"]),
        ([REPORT_OLD, STALE1], ["both-1"]),
        ([STALE2, REPORT_OLD], NO_KEYS),
        ([REPORT_OLD, STALE2], NO_KEYS),
        ([{"or": [STALE1, STALE2]}, REPORT_OLD], ["both-1"]),
        ([STALE2, MFA], ["both-2"]),
        # One arm holds by the user, the other by the other key.
        ([STALE2, {"or": [TAGGED, NAMED1]}], ["both-2"]),
        ([STALE2, {"or": [UNTAGGED, NAMED1]}], NO_KEYS),
        ([{"or": [NAMED1, UNTAGGED]}, STALE2], NO_KEYS),
        ([STALE2, {"or": [{"not": [TAGGED]}, NAMED1]}], NO_KEYS),
        ([STALE2, {"or": [{**STALE1, "status": "Inactive"}, NAMED1]}], NO_KEYS),
        ([STALE2, {"or": [STALE2, NAMED1]}], ["both-2"]),
    ],
)
def test_the_keys_that_a_tree_means(
    iam: Iam, custodian: Custodian, filters: list[Any], expected: list[str]
) -> None:
    iam.add("both", OLDER, OLD, {"team": "shop"})
    iam.add("nobody")
    found = custodian.matched(filters)
    assert found.get("both", []) == expected
    assert "nobody" not in found


def test_entries_are_stocks_own_and_nothing_else(iam: Iam, custodian: Custodian) -> None:
    """Stock compares entries of c7n:matched-keys by equality."""
    iam.add("ana", NEW, OLD)
    for filters in ([STALE2], [LIVE_ACTIVE, STALE2], [STALE2, LIVE_ACTIVE]):
        (user,) = custodian.run(filters)
        assert user["c7n:matched-keys"] == [{**iam.key("ana-2"), "c7n:match-type": "access"}]


def test_a_user_matched_by_another_arm_has_the_annotation_all_the_same(
    iam: Iam, custodian: Custodian
) -> None:
    """Without it remove-keys: {matched: true} dies, and users behind are lost."""
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, NEW, {"team": "shop"})
    found = custodian.matched([{"or": [STALE2, TAGGED]}])
    assert found == {"ana": ["ana-2"], "bob": []}


@pytest.mark.parametrize("source", ["credential-report", "describe"])
@pytest.mark.parametrize(
    "filters",
    [
        [STALE2],
        [LIVE_ACTIVE, STALE2],
        [STALE2, LIVE_ACTIVE],
        [STALE2, LIVE_FRESH],
        [{"or": [STALE2, {"and": [STALE1, {"tag:no": "present"}]}]}],
    ],
)
def test_stock_remove_keys_behind_our_filter_hits_the_same_one_key(
    iam: Iam, custodian: Custodian, source: str, filters: list[Any]
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", OLD, NEW)
    iam.add("cleo", OLDER, OLDER)  # one second: ambiguous
    iam.add("dora", OLD, (OLD - 1, "Inactive"))
    iam.add("emil", OLDER, OLD)
    custodian.run(
        filters, [{"type": "remove-keys", "matched": True, "disable": True}], source=source
    )
    allowed = {("ana", "ana-2", "Inactive"), ("emil", "emil-2", "Inactive")}
    if LIVE_FRESH in filters:
        allowed = set()
    assert set(iam.changed) == allowed


# What is left on the user, without a run around it

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=timezone.utc)
KEY = {"AccessKeyId": "AKIA1", "Status": "Active", "CreateDate": NOW}


def stale_record() -> dict[str, Any]:
    return {
        "filter": "stale-access-key",
        "path": "0",
        "access_key_id": "AKIA1",
        "status": "Active",
        "identified": "date",
    }


def test_filters_that_are_watched_get_the_event() -> None:
    seen: list[Any] = []

    def process(users: Any, event: Any = None) -> Any:
        seen.append(event)
        return users

    element: Any = SimpleNamespace(type="value", process=process, executor_factory=None)
    run: Any = SimpleNamespace(
        manager=SimpleNamespace(executor_factory=None), users=SimpleNamespace(unread=set())
    )
    with patches.watching(run, [element]) as passed:
        element.process([{"UserName": "ana"}], "event")
        assert passed == {"0": {"ana"}}
        element.process = None  # so that leaving finds an attribute to take away
    assert seen == ["event"]


def test_records_of_a_user_who_was_not_read_name_no_key() -> None:
    user: dict[str, Any] = {"UserName": "ana", "c7n:keyrot": [stale_record()]}
    element = SimpleNamespace(type="stale-access-key", data={})
    matching.settle([element], user, [KEY], {"0": {"ana"}}, True, lambda _: False)
    (record,) = user["c7n:keyrot"]
    assert record["access_key_id"] is None
    assert record["status"] is None
    assert record["identified"] == "unread"
    assert user["c7n:matched-keys"] == []


def test_a_user_who_was_not_read_and_has_no_record_has_no_key() -> None:
    user: dict[str, Any] = {"UserName": "ana"}
    matching.settle([], user, [], {}, True, lambda _: False)
    assert user == {"UserName": "ana", "c7n:matched-keys": []}


@pytest.mark.parametrize(
    ("report", "meant"),
    [
        ({"access_keys": [{"last_rotated": NOW.isoformat(), "a": {"b": 1}, "b": 2}]}, True),
        ({"access_keys": [{"last_rotated": NOW.isoformat(), "a": {"b": 2}, "b": 1}]}, False),
        ({"access_keys": [{"last_rotated": "2026-05-01T10:00:00+00:00", "a": {"b": 1}}]}, False),
        ({"access_keys": []}, False),
        ({}, False),
        (None, False),
    ],
)
def test_stocks_credential_filter_looks_at_the_reports_entry_of_the_same_key(
    report: dict[str, Any] | None, meant: bool
) -> None:
    user: dict[str, Any] = {
        "UserName": "ana",
        "c7n:keyrot": [stale_record()],
        "c7n:credential-report": report,
    }
    filters = [
        SimpleNamespace(type="stale-access-key", data={}),
        SimpleNamespace(
            type="credential", data={"type": "credential", "key": "access_keys.a.b", "value": 1}
        ),
    ]
    passed = {"0": {"ana"}, "1": {"ana"}}
    matching.settle(filters, user, [KEY], passed, False, lambda _: False)
    assert [key["AccessKeyId"] for key in user["c7n:matched-keys"]] == ["AKIA1"] * meant


# Random trees

SLOT_FILTERS = [
    STALE1,
    STALE2,
    INACTIVE2,
    {**STALE1, "status": "Inactive"},
    {**STALE2, "days": 250},
]
USER_FILTERS = [TAGGED, UNTAGGED, "rotation-exempt", EXPIRING1, EXPIRING2, UNCLEAR1, UNCLEAR2, MFA]
KEY_FILTERS = [
    LIVE_ACTIVE,
    LIVE_INACTIVE,
    LIVE_FRESH,
    LIVE_OLD,
    NAMED1,
    NAMED2,
    {**NAMED1, **AND},
    {**LIVE_ACTIVE, **AND},
    REPORT_OLD,
    REPORT_ACTIVE,
]


def trees(random: Random, leaves: list[Any], operators: tuple[str, ...]) -> list[Any]:
    """Top-level filters: one of ours, and one or two trees of up to three levels beside it."""

    # What match-operator: and says of a user depends on the filters before it, so the reference
    # can't ask Custodian for a not block with one in it alone.
    alone = [leaf for leaf in leaves if "match-operator" not in leaf]

    def tree(levels: int, leaves: list[Any]) -> Any:
        if levels and random.random() < 0.7:
            operator = random.choice(operators)
            leaves = alone if operator == "not" else leaves
            return {operator: [tree(levels - 1, leaves) for _ in range(random.randint(1, 3))]}
        return random.choice(leaves)

    filters = [tree(3, leaves) for _ in range(random.randint(1, 2))]
    ours = [STALE2, STALE2, STALE1, INACTIVE2, {"or": [STALE1, STALE2]}]
    filters.insert(random.randint(0, 2), random.choice(ours))
    return filters


# Mostly stale and active, since trees are about keys that something is true of.
KINDS = [(OLD, "Active"), (OLDER, "Active"), (OLD, "Active"), (OLDER, "Inactive"), (NEW, "Active")]
CHANGES = [[], [], [], ["rotate"], ["disable"], ["enable"], ["delete"], ["delete", "rotate"]]


def accounts(random: Random) -> list[Any]:
    """Users: what is in slots 1 and 2, tags, what has changed since the report, in which slot."""
    return [
        (
            random.choice([*KINDS, None]),
            random.choice(KINDS),
            random.choice(TAGS),
            random.choice(CHANGES),
            random.randint(1, 2),
        )
        for _ in range(3)
    ]


TAGS = [
    {},
    {"team": "shop"},
    {"team": "pay"},
    {"team": "shop", "keyrot-exempt-until": "2999-01-01"},
    {"keyrot-exempt-until": "2000-01-01"},
]


class Reference:
    """What every filter says, by the facts alone; a key is its id."""

    def __init__(self, iam: Iam, name: str, true_slots: dict[int, str]) -> None:
        self.iam, self.name, self.slots = iam, name, true_slots
        self.live = {key["AccessKeyId"]: key for key in iam.keys[name]}
        self.row = dict(zip(COLUMNS, iam.rows[name], strict=False))

    def _age(self, key: dict[str, Any]) -> float:
        return float((self.iam.now - key["CreateDate"]) / timedelta(days=1))

    def _reported(self, slot: int) -> tuple[str, str]:
        return self.row[f"access_key_{slot}_active"], self.row[f"access_key_{slot}_last_rotated"]

    def stale(self, data: dict[str, Any]) -> set[str]:
        slot, status = data.get("slot", 2), data.get("status", "Active")
        days = data.get("days", 90)
        active, rotated = self._reported(slot)
        key = self.live.get(self.slots.get(slot, ""))
        if rotated == "N/A" or active != str(status == "Active").lower() or key is None:
            return set()
        if self.iam.now - datetime.fromisoformat(rotated) <= timedelta(days=days):
            return set()
        good = key["Status"] == status and self._age(key) > days
        return {key["AccessKeyId"]} if good else set()

    def key(self, data: dict[str, Any], key: dict[str, Any]) -> bool:
        """What a stock key filter says of one key."""
        if data["type"] == "credential":
            mine = [
                (active, rotated)
                for active, rotated in map(self._reported, (1, 2))
                if rotated == key["CreateDate"].isoformat()
            ]
            return any(
                active == "true" if data is REPORT_ACTIVE else self._age(key) > 250
                for active, _ in mine
            )
        if data["key"] == "Status":
            return bool(key["Status"] == data["value"])
        if data["key"] == "AccessKeyId":
            return bool(key["AccessKeyId"].endswith(data["value"][1:]))
        return self._age(key) < 50 if data["op"] == "less-than" else self._age(key) > 50

    def means(self, tree: Any, key_id: str, user: dict[str, bool]) -> bool:
        """Whether the tree, asked of this very key, is true."""
        if isinstance(tree, dict) and len(tree) == 1 and next(iter(tree)) in ("and", "or", "not"):
            ((operator, filters),) = tree.items()
            if operator == "not":
                return user[repr(tree)]
            every = all if operator == "and" else any
            return every(self.means(inner, key_id, user) for inner in filters)
        if tree in SLOT_FILTERS:
            return key_id in self.stale(tree)
        if tree in KEY_FILTERS:
            return self.key(tree, self.live[key_id])
        return user[repr(tree)]


COLUMNS = [
    "user",
    "arn",
    *(
        f"access_key_{slot}_{name}"
        for slot in (1, 2)
        for name in ("active", "last_rotated", "used", "region", "service")
    ),
]


def subtrees(filters: list[Any]) -> list[Any]:
    found = []
    for tree in filters:
        found.append(tree)
        if isinstance(tree, dict) and len(tree) == 1:
            inner = next(iter(tree.values()))
            if isinstance(inner, list):
                found += subtrees(inner)
    return found


def populate(iam: Iam, users: list[Any]) -> dict[str, dict[int, str]]:
    """Add the users, then change some of their keys after the report; the true slots."""
    slots: dict[str, dict[int, str]] = {}
    for number, (one, two, tags, changes, slot) in enumerate(users):
        name = f"{'ab'[number % 2]}{number}"
        # Keys of one age are of one second: ambiguous on purpose now and then.
        iam.add(name, one, two, tags)
        slots[name] = {n: f"{name}-{n}" for n, made in ((1, one), (2, two)) if made}
        for change in changes:
            if slot not in slots[name]:
                continue
            key = iam.key(slots[name][slot])
            if change in ("rotate", "delete"):
                iam.keys[name].remove(key)
                del slots[name][slot]
                if change == "rotate":
                    slots[name][slot] = f"{name}-new-{slot}"
                    iam.add_key(name, slots[name][slot], 0)
            else:
                key["Status"] = "Active" if change == "enable" else "Inactive"
    return slots


def same_second(iam: Iam, name: str) -> bool:
    rotated = [iam.rows[name][3], iam.rows[name][8]]
    return rotated[0] == rotated[1] != "N/A"


# A seed is a test's name: what fails once fails again.
SEEDS = pytest.mark.parametrize("seed", range(150))


def evaluate(custodian: Custodian, iam: Iam, filters: list[Any]) -> dict[str, Any]:
    from c7n_keyrot.custodian import shared_report

    shared_report.reports.clear()
    policy = custodian.policy(filters, source="describe")
    policy.validate()
    users = [iam.get_user(name)["User"] for name in iam.users]
    return {user["UserName"]: user for user in policy.resource_manager.filter_resources(users)}


def user_truth(custodian: Custodian, iam: Iam, filters: list[Any], name: str) -> dict[str, bool]:
    """What Custodian itself says of a user for each filter and block, asked alone."""
    return {
        repr(tree): name in evaluate(custodian, iam, [tree])
        for tree in subtrees(filters)
        if tree not in SLOT_FILTERS and tree not in KEY_FILTERS
    }


@SEEDS
def test_in_any_tree_no_key_is_meant_that_the_tree_is_not_true_of(
    iam: Iam, custodian: Custodian, seed: int
) -> None:
    random = Random(seed)
    leaves = [*SLOT_FILTERS, *SLOT_FILTERS, *USER_FILTERS, *KEY_FILTERS]
    filters = trees(random, leaves, ("and", "or", "not"))
    slots = populate(iam, accounts(random))
    for name, user in evaluate(custodian, iam, filters).items():
        if "c7n:keyrot" not in user:
            continue  # matched by stock filters alone; none of our actions touches it
        reference = Reference(iam, name, slots[name])
        truth = user_truth(custodian, iam, filters, name)
        for key in user["c7n:matched-keys"]:
            assert not same_second(iam, name)
            assert all(reference.means(tree, key["AccessKeyId"], truth) for tree in filters)


@SEEDS
def test_in_trees_of_our_filters_exactly_the_right_keys_are_meant(
    iam: Iam, custodian: Custodian, seed: int
) -> None:
    random = Random(seed)
    filters = trees(random, SLOT_FILTERS, ("and", "or"))
    slots = populate(iam, accounts(random))
    selected = evaluate(custodian, iam, filters)
    for name in iam.users:
        reference = Reference(iam, name, slots[name])
        expected = {
            key_id
            for key_id in reference.live
            if not same_second(iam, name)
            and all(reference.means(tree, key_id, {}) for tree in filters)
        }
        user = selected.get(name, {})
        assert {key["AccessKeyId"] for key in user.get("c7n:matched-keys", ())} == expected


@SEEDS
def test_the_order_of_filters_changes_no_key(iam: Iam, custodian: Custodian, seed: int) -> None:
    random = Random(seed)
    # match-operator: and looks at what the filters before it left: its order is stock's matter.
    orderless = [data for data in KEY_FILTERS if "match-operator" not in data]
    filters = trees(random, [*SLOT_FILTERS, *orderless, TAGGED], ("and", "or", "not"))
    populate(iam, accounts(random))

    def shuffled(trees: list[Any]) -> list[Any]:
        turned = [
            {next(iter(tree)): shuffled(next(iter(tree.values())))}
            if isinstance(tree, dict) and next(iter(tree)) in ("and", "or", "not")
            else tree
            for tree in trees
        ]
        random.shuffle(turned)
        return turned

    before = evaluate(custodian, iam, filters)
    after = evaluate(custodian, iam, shuffled(filters))
    assert before.keys() == after.keys()
    for name, user in before.items():
        if "c7n:keyrot" in user:
            assert user["c7n:matched-keys"] == after[name]["c7n:matched-keys"]
