# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What stands beside the pack: policies of one name, and what others write into a bucket."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from harness import Finished, PolicyRun, keyrot

from embedded_aws import EmbeddedAws, Key

MINE, THEIRS = "222222222222", "333333333333"
STALE = {
    "name": "stale",
    "resource": "aws.iam-user",
    "source": "credential-report",
    "filters": ["stale-access-key", {"type": "value", "key": "UserName", "value": "ana"}],
    "actions": ["disable-access-key"],
}


@pytest.fixture
def accounts(aws: EmbeddedAws, tmp_path: Path) -> dict[str, object]:
    for account_id in (MINE, THEIRS):
        aws.account(account_id).add_role()
        for name in ("ana", "ben", "cy"):
            aws.account(account_id).add_user(name, Key(5), Key(200))
    entries = [
        {
            "name": name,
            "account_id": i,
            "role": f"arn:aws:iam::{i}:role/c7n-keyrot",
            "regions": ["us-east-1"],
        }
        for name, i in (("mine", MINE), ("theirs", THEIRS))
    ]
    (tmp_path / "accounts.yml").write_text(yaml.safe_dump({"accounts": entries}), "utf-8")
    return {"accounts": entries}


def named(user: str, name: str = "stale") -> dict[str, object]:
    policy = copy.deepcopy(STALE)
    policy["name"] = name
    policy["filters"][1]["value"] = user  # type: ignore[index]
    return policy


def test_policies_of_one_name(
    aws: EmbeddedAws,
    tmp_path: Path,
    accounts: dict[str, object],
    run_c7n_org: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    """c7n-org runs both, into one folder: no limit would hold for the first one."""
    policies = {"policies": [named("ana"), named("ben"), named("cy", "other")]}
    file = tmp_path / "policies.yml"
    file.write_text(yaml.safe_dump(policies), "utf-8")
    dry = run_c7n_org(accounts, policies, "--dryrun")
    assert dry.code == 1
    plan = keyrot("plan", dry.out, "--accounts", tmp_path / "accounts.yml", "--max-keys", "4")
    done = run_in(plan)
    assert done.code == 3, done.text
    assert "another policy of this name has run into the same folder" in " ".join(done.text.split())
    done = run_in([*plan, "--policies", str(file)])
    assert (done.code, len(done.lines("2 policies are named stale"))) == (3, 1)
    files = ["--policies", file, "--accounts", tmp_path / "accounts.yml"]
    assert run_in(keyrot("doctor", *files)).lines("FAIL", "2 policies are named stale")
    report = run_in(keyrot("report", dry.out, "--format", "json", "-o", "-"))
    assert "another policy of this name" in report.text
    acted = run_c7n_org(accounts, policies)
    assert acted.code == 1
    for account_id in (MINE, THEIRS):
        status = {name: aws.account(account_id).status(name, 2) for name in ("ana", "ben", "cy")}
        assert status == {"ana": "Inactive", "ben": "Active", "cy": "Inactive"}


def test_a_prefix_speaks_for_its_account_only(
    aws: EmbeddedAws,
    tmp_path: Path,
    accounts: dict[str, object],
    run_c7n_org: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    """A copy of the bucket of Lambda's outcomes, where one account wrote another one's files."""
    acted = run_c7n_org(accounts, {"policies": [named("ana")]})
    assert acted.code == 0, acted.text
    bucket = tmp_path / "bucket" / "lambda"
    shutil.copytree(acted.out / "theirs" / "us-east-1", bucket / MINE)
    flags = ["--accounts", tmp_path / "accounts.yml"]
    report = run_in(
        keyrot("report", bucket.parent, *flags, "--format", "json", "-o", tmp_path / "r")
    )
    assert report.code in (0, 1)
    if report.code == 0:
        rows = json.loads((tmp_path / "r").read_text("utf-8"))["accounts"]
        assert [row["covered"] for row in rows] == [False, False]
    done = run_in(keyrot("reactivate", bucket.parent, *flags, "--yes"))
    assert done.code == 1
    assert done.lines(f"of account {THEIRS}, in a folder of account {MINE}: not used")
    assert aws.account(THEIRS).status("ana", 2) == "Inactive"
    assert run_in(keyrot("usage", bucket.parent, *flags)).code == 1
    shutil.copytree(acted.out / "theirs" / "us-east-1", bucket / THEIRS)
    done = run_in(keyrot("reactivate", bucket.parent, *flags, "--yes"))
    assert aws.account(THEIRS).status("ana", 2) == "Active", done.text
