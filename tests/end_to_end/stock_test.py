# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What stock Custodian's own key filters do to the same users, as docs/comparison.md says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness import PolicyRun

from demo import world
from embedded_aws import Account

PAGE = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text("utf-8")


def test_stock_filters_disable_keys_that_are_not_the_stale_second_one(
    account: Account, run_custodian: Callable[..., PolicyRun]
) -> None:
    """Right keys as well, and wrong ones in number: first keys, and keys inactive already."""
    people = world.seed_account(account)
    right = {account.key_id(p.name, 2) for p in people if p.outcome == "disabled"}
    example = PAGE.split("```yaml\n")[1].split("```")[0]
    indented = "".join(f"    {line}\n" for line in example.splitlines())
    policy = f"policies:\n  - name: stock\n    resource: aws.iam-user\n{indented}"
    before = account.snapshot()
    run = run_custodian(policy)
    assert run.code == 0, run.text
    disabled = set(account.changes(before))
    assert right - disabled == set()
    wrong = disabled - right
    assert account.key_id("olga", 1) in wrong, "only her first key is stale, and RULE spares it"
    assert {account.key_id("pavel", 1), account.key_id("dmitri", 1)} <= wrong
    assert "quinn" in run.names("stock"), "his stale second key is inactive already"
