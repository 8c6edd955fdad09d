# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Random weeks of an account: what the report says of it, against somebody who saw it all.

Each day owners create, rotate, deactivate, switch on, delete and rename; some of the pack's
policies run, or are killed, or fail, some as dry runs. `KEYROT_WEEKS=100000` plays so many; without
it some hundred are played, the same ones each time. `KEYROT_WEEKS_SEED=SEED` plays one.
"""

from __future__ import annotations

import copy
import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from output_tree import NOW, Run

from c7n_keyrot.cli.report import build, view
from c7n_keyrot.core.records import Why
from c7n_keyrot.evidence.gather import gather

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
LIMIT, NOTICE = 90, 14
WEEKS = int(os.environ.get("KEYROT_WEEKS", 300))
SEEDS = range(WEEKS)
if "KEYROT_WEEKS_SEED" in os.environ:
    SEEDS = range(int(os.environ["KEYROT_WEEKS_SEED"]), int(os.environ["KEYROT_WEEKS_SEED"]) + 1)
BLOCK = 50


@dataclass
class Key:
    """The second key of a user."""

    number: int
    made: datetime
    active: bool = True

    @property
    def id(self) -> str:
        return f"AKIA{self.number:016d}"

    def age(self, now: datetime) -> float:
        return (now - self.made) / DAY

    def is_stale(self, now: datetime) -> bool:
        return self.made + LIMIT * DAY < now


class World:
    """The account as it is, and what its runs leave."""

    def __init__(self, random: Random, out: Path) -> None:
        self.random, self.out = random, out
        self.now, self.made = NOW, 0
        self.keys: dict[str, Key | None] = {}
        self.exempt: dict[str, datetime] = {}
        self.seen: Counter[str] = Counter()
        self.last: dict[str, str] = {}  # how the newest run of each policy ended
        self.newest: tuple[datetime, dict[str, Key | None]] | None = None
        for _ in range(random.randint(2, 6)):
            self.arrive()

    # -- what people do

    def key(self, age: float) -> Key:
        self.made += 1
        # No two keys of one second: that is another test's.
        return Key(self.made, (self.now - age * DAY).replace(microsecond=0) + self.made * MINUTE)

    def arrive(self) -> None:
        age = self.random.choice([1, 60, 75, 80, 88, 89, 91, 120, 400])
        self.keys[f"user{self.made}"] = self.key(age)

    def someone(self) -> str | None:
        return self.random.choice(sorted(self.keys)) if self.keys else None

    def event(self) -> None:
        name = self.someone()
        if name is None or self.random.random() < 0.15:
            return self.arrive()
        key = self.keys[name]
        what = self.random.choice(["rotate", "off", "on", "delete", "leave", "rename", "exempt"])
        self.seen[what] += 1
        if what == "rotate":
            self.keys[name] = self.key(0.1)
        elif what == "delete":
            self.keys[name] = None
        elif what == "leave":
            del self.keys[name]
            self.exempt.pop(name, None)
        elif what == "rename":
            self.made += 1
            self.keys[f"{name}.{self.made}"] = self.keys.pop(name)
            self.exempt.pop(name, None)
        elif what == "exempt":
            self.exempt[name] = self.now + self.random.choice([2, 60]) * DAY
        elif key:
            key.active = what == "on"
        return None

    # -- what a run of the pack does and leaves

    def run(self, keep: bool) -> None:
        """Let some policies run by one credential report; things happen while they do."""
        then = copy.deepcopy(self.keys)
        made = self.now
        self.now += self.random.choice([1, 20, 120]) * MINUTE
        for _ in range(self.random.choice([0, 0, 1])):
            self.event()
        dry = self.random.random() < 0.2
        kinds = [kind for kind in ("stale", "expiring") if self.random.random() < 0.7]
        for kind in kinds:
            self.now += MINUTE
            how = self.random.choices(["whole", "killed", "failed"], [8, 1, 1])[0]
            run = Run(kind=kind, time=self.now, dry_run=dry, report_hours=0)
            run.report_hours = (self.now - made) / timedelta(hours=1)
            self.seen[how] += 1
            self.last[kind] = how
            if how == "whole":
                self.whole(run, then, made, keep)
            elif how == "failed":
                folder = run.begin(self.out)
                failed = replace(run, failed=True).metadata
                (folder / "metadata.json").write_text(json.dumps(failed), "utf-8")
            else:
                run.begin(self.out)
                return

    def whole(self, run: Run, then: dict[str, Key | None], made: datetime, keep: bool) -> None:
        counts: Counter[str] = Counter({"fresh": 0})
        for name, key in then.items():
            if key is None or not key.active:
                counts["inactive" if key else "absent"] += 1
            elif key.is_stale(made):
                counts["stale"] += 1
            elif key.age(made) >= LIMIT - NOTICE:
                counts["expiring" if run.kind == "expiring" else "fresh"] += 1
            else:
                counts["fresh"] += 1
            self.judge(run, name, key, made)
        run.counts = counts
        if keep:
            run.population = [
                (name, 2, "Active" if key.active else "Inactive", (NOW - key.made) / DAY)
                for name, key in then.items()
                if key
            ]
            self.newest = made, then
        run.write(self.out)

    def judge(self, run: Run, name: str, key: Key | None, made: datetime) -> None:
        """As the plugin: what the report says, then the live key."""
        if key is None or not key.active:
            return
        stale, soon = key.is_stale(made), key.age(made) >= LIMIT - NOTICE
        if not (stale if run.kind == "stale" else soon and not stale):
            return
        live = self.keys.get(name)
        rotated = key.made.isoformat()
        verdict = run.record(name, 1).verdict
        if name not in self.keys:
            run.leave(name, verdict, Why.NOT_FOUND, exempt_until=None, last_rotated=rotated)
        elif live is None or live.id != key.id or not live.active:
            why = Why.CHANGED if live else Why.GONE
            run.leave(name, verdict, why, exempt_until=None, last_rotated=rotated)
        elif self.exempt.get(name, NOW) > self.now:
            until = f"{self.exempt[name]:%Y-%m-%d}"
            run.leave(name, verdict, Why.EXEMPT, exempt_until=until, last_rotated=rotated)
        else:
            run.match(name, key.age(run.time), access_key_id=key.id, last_rotated=rotated)
            if run.kind == "stale" and not run.dry_run:
                run.outcome(name, access_key_id=key.id, last_rotated=rotated)
                live.active = False
                self.seen["disabled"] += 1


def play(seed: int, out: Path, patch: pytest.MonkeyPatch) -> Counter[str]:
    random = Random(seed)
    world = World(random, out)
    keep = random.random() < 0.9
    for day in range(random.randint(2, 21)):
        world.now = NOW + (day + random.random() / 3) * DAY
        for _ in range(random.choice([0, 1, 2])):
            world.event()
        if random.random() < 0.8:
            world.now += 2 * DAY / 24  # nothing of the last minutes is missing in the report
            world.run(keep)
    world.now += random.choice([1, 30, 60 * 24]) * MINUTE
    patch.setattr(build, "clock", lambda: world.now)
    damage: list[Any] = []
    folders = list(gather([str(out)], damage, (), world.now)) if any(out.iterdir()) else []
    report = build.build_report(folders, damage)
    check(world, report)
    return world.seen


def check(world: World, report: dict[str, Any]) -> None:
    """Nothing that the report says is false, and no key that it must have is missing."""
    for row in report["accounts"]:
        if {"killed", "failed"} & set(world.last.values()):
            assert not row["covered"], ("covered, though a policy's last run wasn't whole", row)
    for key in report["keys"]:
        due = datetime.fromisoformat(key["deadline"]) if key["state"] == "expiring" else world.now
        assert due >= world.now, ("expiring, but it is due", key)
    if world.newest is None:
        return
    made, then = world.newest
    by_time = {key.made.isoformat(): (name, key) for name, key in then.items() if key}
    later = {
        one["user"]
        for one in report["keys"]
        if one["outcome_time"] and datetime.fromisoformat(one["outcome_time"]) > made - 15 * MINUTE
    }
    said = {}
    for key in report["keys"]:
        said[key["last_rotated"]] = key["state"]
        _, was = by_time.get(key["last_rotated"], ("", None))
        is_on = was is not None and was.active
        if key["user"] in later or datetime.fromisoformat(key["as_of"]) > made:
            continue
        if key["state"] == "open":
            assert is_on, ("open, but it wasn't active", key)
        elif key["state"] == "fixed":
            assert not is_on, ("fixed, but it was active", key)
    for name, key in then.items():
        if key and key.active and key.is_stale(made):
            state = said.get(key.made.isoformat())
            assert state, ("a stale key is missing", name)
    answer = view.headline(report["totals"])
    if answer.startswith("In compliance"):
        stale = [n for n, k in then.items() if k and k.active and k.is_stale(made)]
        off = {one["user"] for one in report["keys"] if one["state"] == "fixed"}
        assert not set(stale) - off, ("in compliance?", stale)


@pytest.mark.parametrize(
    "seeds",
    [SEEDS[n : n + BLOCK] for n in range(0, len(SEEDS), BLOCK)],
    ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}",
)
def test_no_yes_and_no_no_is_false(
    seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            seen += play(seed, folder, monkeypatch)
        except AssertionError as error:
            error.args = (f"KEYROT_WEEKS_SEED={seed}: {error}",)
            raise
    if len(seeds) == BLOCK:
        # Weeks in which nothing happens would prove nothing.
        for what in ("rotate", "on", "rename", "killed", "failed", "disabled"):
            assert seen[what], what
