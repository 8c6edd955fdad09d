# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""time-window: on some days and hours (UTC) everybody passes, at other times nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from c7n.exceptions import PolicyValidationError
from in_memory import Custodian, Iam

ROOT = Path(__file__).parents[2]
TUESDAY = datetime(2026, 12, 1, tzinfo=timezone.utc)
STALE, EXEMPT = "stale-access-key", {"not": ["rotation-exempt"]}
SECOND = timedelta(seconds=1)

Clock = Callable[[datetime], datetime]


def window(**options: Any) -> dict[str, Any]:
    return {"type": "time-window", **options}


@pytest.mark.parametrize(
    ("options", "instant", "is_open"),
    [
        ({"weekdays": ["Tue"]}, TUESDAY, True),
        ({"weekdays": ["Tue"]}, TUESDAY - SECOND, False),
        ({"weekdays": ["Tue"]}, TUESDAY + timedelta(days=1) - SECOND, True),
        ({"weekdays": ["Tue"]}, TUESDAY + timedelta(days=1), False),
        ({"weekdays": ["Mon", "Wed"]}, TUESDAY, False),
        ({"weekdays": ["Mon", "Wed"]}, TUESDAY + timedelta(days=1), True),
        ({"hours": [8, 12]}, TUESDAY + timedelta(hours=8) - SECOND, False),
        ({"hours": [8, 12]}, TUESDAY + timedelta(hours=8), True),
        ({"hours": [8, 12]}, TUESDAY + timedelta(hours=12) - SECOND, True),
        ({"hours": [8, 12]}, TUESDAY + timedelta(hours=12), False),
        ({"hours": [0, 24]}, TUESDAY, True),
        ({"hours": [0, 24]}, TUESDAY - SECOND, True),
        ({"weekdays": ["Tue"], "hours": [8, 12]}, TUESDAY + timedelta(hours=9), True),
        ({"weekdays": ["Tue"], "hours": [8, 12]}, TUESDAY + timedelta(hours=33), False),
        ({"weekdays": ["Tue"], "hours": [8, 12]}, TUESDAY + timedelta(hours=7), False),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_when_it_is_open(
    iam: Iam,
    custodian: Custodian,
    clock: Clock,
    options: dict[str, Any],
    instant: datetime,
    is_open: bool,
    first: bool,
) -> None:
    """Before the filter on keys or behind it; a key is disabled in the window only."""
    iam.now = clock(instant)
    iam.add("old", None, instant - timedelta(days=200))
    iam.add("new", None, instant - timedelta(days=2))
    filters = [window(**options), STALE][:: 1 if first else -1]
    custodian.run([*filters, EXEMPT], ["disable-access-key"])
    assert iam.key("old-2")["Status"] == ("Inactive" if is_open else "Active")
    assert iam.key("new-2")["Status"] == "Active"


@pytest.mark.parametrize(
    ("block", "hour", "is_open"),
    [
        ({"or": [window(hours=[22, 24]), window(hours=[0, 4])]}, 23, True),
        ({"or": [window(hours=[22, 24]), window(hours=[0, 4])]}, 3, True),
        ({"or": [window(hours=[22, 24]), window(hours=[0, 4])]}, 4, False),
        ({"not": [window(hours=[8, 12])]}, 9, False),
        ({"not": [window(hours=[8, 12])]}, 12, True),
        ({"and": [STALE, window(hours=[8, 12])]}, 9, True),
    ],
)
def test_in_blocks(
    iam: Iam, custodian: Custodian, clock: Clock, block: Any, hour: int, is_open: bool
) -> None:
    iam.now = clock(TUESDAY + timedelta(hours=hour))
    iam.add("old", None, iam.now - timedelta(days=200))
    assert list(custodian.matched([STALE, block])) == (["old"] if is_open else [])


def test_every_stale_key_is_in_the_summary_of_a_run_outside(
    iam: Iam, custodian: Custodian, clock: Clock, told: Callable[[], list[str]]
) -> None:
    iam.now = clock(TUESDAY - SECOND)
    iam.add("old", None, iam.now - timedelta(days=200))
    custodian.run([STALE, window(weekdays=["Tue"], hours=[8, 12])], ["disable-access-key"])
    (path,) = custodian.folder.rglob("keyrot-summary.jsonl")
    summary = json.loads(path.read_text("utf-8").splitlines()[-1])
    assert (summary["candidates"], summary["matched"]) == (1, 0)
    (left,) = summary["not_matched"]
    assert (left["user"], left["verdict"], left["why"]) == ("old", "stale", "other filter")
    assert {"filter": "time-window", "weekdays": ["Tue"], "hours": [8, 12]} in summary["filters"]
    assert "time-window Tue 8 to 12 h: outside the window; no users are matched" in " ".join(told())


@pytest.mark.parametrize(
    "block",
    [
        window(hours=[8, 12]),
        window(hours=[8, 11]),
        {"not": [window(hours=[8, 12])]},
        {"not": [window(hours=[8, 11])]},
        {"not": [{"not": [window(hours=[8, 11])]}]},
        {"or": [window(hours=[8, 11]), {"not": [window(hours=[8, 12])]}]},
    ],
)
def test_dry_run_shows_what_a_run_at_the_right_time_would_do(
    iam: Iam, custodian: Custodian, clock: Clock, told: Callable[[], list[str]], block: Any
) -> None:
    """Else a run that begins within the window acts after a plan that was made before it."""
    iam.now = clock(TUESDAY + timedelta(hours=11, minutes=30))
    iam.add("old", None, iam.now - timedelta(days=200))
    custodian.options["dryrun"] = True
    custodian.run([STALE, block], ["disable-access-key"])
    assert iam.key("old-2")["Status"] == "Active"
    assert "would disable 1" in " ".join(told())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give weekdays, hours, or both"),
        ({"hours": [12, 8]}, "FROM must be less than TO"),
        ({"hours": [8, 8]}, "FROM must be less than TO"),
    ],
)
def test_what_has_no_meaning_is_refused(
    custodian: Custodian, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(PolicyValidationError, match=says):
        custodian.run([STALE, window(**options)])


# examples/change-window.yml


def test_the_example_is_the_pack_with_a_window() -> None:
    pack, example = (
        yaml.safe_load((ROOT / path).read_text("utf-8"))
        for path in ("policies/second-access-key.yml", "examples/change-window.yml")
    )
    for policy, other in zip(pack["policies"], example["policies"], strict=True):
        for one in (policy, other):
            del one["metadata"], one["description"]
        if policy != other:
            assert policy["name"].endswith("-stale")
            others = [f for f in other["filters"] if f not in policy["filters"]]
            assert others == [window(weekdays=["Tue"], hours=[8, 12])]
            assert [f for f in other["filters"] if f not in others] == policy["filters"]
            other["filters"] = policy["filters"]
        assert policy == other
    assert {**example["vars"], "rule": 0, "window": 0} == {**pack["vars"], "rule": 0, "window": 0}
