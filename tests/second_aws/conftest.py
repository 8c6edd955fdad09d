# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Finished, run
from ministack import DAYS, ENFORCING, PACK, READ_ONLY, WRONG_ID, People, SecondAws


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondAws]:
    """One server for all tests: each has accounts of its own in it."""
    program = os.environ.get("SECOND_AWS")
    if not program:
        pytest.skip("no second AWS here: make second-aws installs it, and runs these tests")
    with SecondAws(Path(program).absolute(), tmp_path_factory.mktemp("second")) as server:
        yield server


@pytest.fixture(scope="session")
def people(second: SecondAws) -> dict[str, People]:
    """The accounts' users; all are made at once, since all must wait for their keys to get old."""
    accounts = {number: People(second, number) for number in (PACK, ENFORCING, READ_ONLY, WRONG_ID)}
    for one in accounts.values():
        for name in ("stale-ana", "stale-ben", "left-one-key", "left-off", "left-same-second"):
            one.add(name)
        one.add("left-exempt", keyrot_exempt_until="2999-12-31")
        one.add_keys_of_one_second("left-same-second")
    both = ("stale-ana", "stale-ben", "left-off", "left-exempt")
    for one in accounts.values():
        for name in (*both, "left-one-key"):
            one.add_key(name)
    time.sleep(1.1)  # or first and second key were of one second
    for one in accounts.values():
        for name in both:
            one.add_key(name)
        one.iam.update_access_key(
            UserName="left-off", AccessKeyId=one.ids["left-off"][1], Status="Inactive"
        )
    time.sleep(DAYS * 24 * 3600 + 1.1)
    return accounts


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The HOME of the test's processes; Custodian's cache is in it, as at a user's."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def run_as(second: SecondAws, home: Path, tmp_path: Path) -> Callable[..., Finished]:
    """run_as(account id, args): any command, in an empty folder."""

    def run_command(account_id: str, args: list[Any], **credentials: str) -> Finished:
        return run(args, second.env(account_id, home, **credentials), tmp_path)

    return run_command
