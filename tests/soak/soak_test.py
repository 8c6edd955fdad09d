# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Random accounts, events, faults and policies: the rules of safety hold after every run.

A case is one event in one account and the run of a policy after it. `KEYROT_SOAK=100000` plays so
many; without it some hundred are played, the same ones each time. A failure names its seed, and
`KEYROT_SOAK_SEED=SEED` plays that account alone.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import pytest
import soak_driver
import soak_world
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

CASES = int(os.environ.get("KEYROT_SOAK", 500))
# Cases in the life of one account, and accounts in one test.
LIFE, BLOCK = 25, 10
SEEDS = range(-(-CASES // LIFE))
if "KEYROT_SOAK_SEED" in os.environ:
    SEEDS = range(int(os.environ["KEYROT_SOAK_SEED"]), int(os.environ["KEYROT_SOAK_SEED"]) + 1)
BLOCKS = [SEEDS[start : start + BLOCK] for start in range(0, len(SEEDS), BLOCK)]


@pytest.mark.parametrize("seeds", BLOCKS, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_no_wrong_key_is_touched_and_no_right_one_forgotten(seeds: range) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds:
        seen += soak_driver.play(seed, LIFE)
    if len(seeds) == BLOCK:
        # A model in which nothing happens would prove nothing.
        for what in ("keys acted on", "failed runs", "good runs", "ways back", "reactivate"):
            assert seen[what], what


@settings(
    max_examples=10,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
class Account(RuleBasedStateMachine):
    """The same world in hypothesis' hands, which finds the shortest story of a failure."""

    @initialize(random=st.randoms(use_true_random=False))
    def begin(self, random: Random) -> None:
        self.play = soak_driver.Play(random)
        # What hypothesis decides can be asked for in one thread only.
        self.play.__enter__().threads = 0

    @rule(event=st.sampled_from(sorted(set(soak_world.EVENTS), key=lambda event: event.__name__)))
    def something_happens(self, event: object) -> None:
        self.play.world.event(event)

    @rule()
    def run_with_faults(self) -> None:
        self.play.world.faults()
        self.play.world.run(soak_driver.random_policy(self.play.world.random))

    @rule()
    def reactivate(self) -> None:
        self.play.world.reactivate()

    @rule()
    def all_is_repaired(self) -> None:
        self.play.world.repaired()

    def teardown(self) -> None:
        if hasattr(self, "play"):
            self.play.__exit__(None, None, None)


TestAccount = Account.TestCase
