# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot usage`, in this process, on the embedded AWS."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from output_tree import A, B, C, Run, accounts_yml, key_id

from c7n_keyrot import cli
from c7n_keyrot.aws import calls
from embedded_aws import HUB, EmbeddedAws, Key

EAST, WEST = "us-east-1", "eu-west-1"
Usage = Callable[..., tuple[int, str, str]]
PROGRESS = re.compile(r"(keys read|accounts): \d+ of \d+\n")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as embedded:
        for name, value in embedded.env(HUB, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield embedded
        assert embedded.errors == []


@pytest.fixture
def usage(aws: EmbeddedAws, capsys: pytest.CaptureFixture[str]) -> Usage:
    """usage(arguments): exit code, what is printed, what is on stderr but for progress.

    That comes every two seconds, so on a loaded machine at any time.
    """

    def run(*args: Any) -> tuple[int, str, str]:
        code = cli.main(["usage", *map(str, args)])
        out, err = capsys.readouterr()
        lines = err.splitlines(keepends=True)
        return code, out, "".join(line for line in lines if not PROGRESS.fullmatch(line))

    return run


@pytest.fixture
def key(aws: EmbeddedAws) -> str:
    """A key of the hub, used last in eu-west-1."""
    account = aws.account(HUB)
    account.add_user("ana", slot2=Key(200, last_used_days=0, last_used_region=WEST))
    account.record_call("ana", 2, times=3, region=WEST)
    account.record_call("ana", 2, "iam:GetUser", "10.9.8.7", error="AccessDenied")
    account.record_call("ana", 2, "ec2:RunInstances", region="ap-south-1")
    account.record_call("ana", 2, "sts:GetCallerIdentity", minutes_ago=20 * 24 * 60)
    return account.key_id("ana", 2)


def test_one_key_by_its_id(usage: Usage, key: str) -> None:
    code, out, err = usage(key)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["ACCOUNT", "KEY", "USER", "CALLS"]
    assert [HUB, key, "ana", "3"] == lines[1].split()[:4]
    flat = " ".join(out.split())
    assert "s3:ListBuckets from 203.0.113.7 by aws-cli/2.15" in flat
    assert "iam:GetUser from 10.9.8.7 by aws-cli/2.15 (failed: 1 AccessDenied)" in flat
    assert "RunInstances" not in out
    assert "GetCallerIdentity" not in out
    assert "1 key, 7 days. CloudTrail's event history has no data events" in flat


@pytest.mark.parametrize(
    ("args", "actions"),
    [
        ((), {"s3:ListBuckets", "iam:GetUser"}),
        (("--days", "30"), {"s3:ListBuckets", "iam:GetUser", "sts:GetCallerIdentity"}),
        (("--region", "ap-south-1,us-east-1"), {"ec2:RunInstances", "iam:GetUser"}),
        (("--region", EAST, "--region", WEST), {"s3:ListBuckets", "iam:GetUser"}),
    ],
)
def test_days_and_regions(usage: Usage, key: str, args: tuple[str, ...], actions: set[str]) -> None:
    code, out, _ = usage(key, "--format", "json", *args)
    said = json.loads(out)
    (one,) = said["keys"]
    assert code == 0
    assert (one["account_id"], one["user"], one["access_key_id"]) == (HUB, "ana", key)
    assert {group["action"] for group in one["usage"]["groups"]} == actions
    assert "may be in use all the same" in said["note"]


@pytest.fixture
def runs(aws: EmbeddedAws, tmp_path: Path) -> tuple[Path, Path]:
    """A tree of c7n-org with a dry run in three accounts, and an accounts.yml."""
    out = tmp_path / "out"
    for name, account in (("payments", A), ("web", B), ("gone", C)):
        run = Run(account_id=account, dry_run=True)
        run.match("ana", 100, last_used_region=WEST).match("=cmd|x", 100).write(out, name)
        Run(account_id=account, kind="expiring").match("ana", 100).write(out, name)
    for account in (A, B):
        aws.account(account).add_role("keyrot")
        for region in (WEST, EAST):
            agent = "=1+1"
            source = f"10.0.0.{region[0] == 'e':d}"
            aws.history.add(
                account, region, key_id(account, "ana"), "ana", "s3:ListBuckets", source, agent, 9
            )
    return out, accounts_yml(tmp_path, {"payments": A, "web": B, "gone": C})


def test_all_keys_of_a_run_over_accounts(
    aws: EmbeddedAws, usage: Usage, runs: tuple[Path, Path]
) -> None:
    out, accounts = runs
    code, text, err = usage(out, "--accounts", accounts, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert code == 1
    assert f"account {C}: its keys aren't asked about" in err
    assert err.count("\n") == 1, err
    assert {(row["account_id"], row["user"]) for row in rows} == {
        (account, user) for account in (A, B) for user in ("ana", "'=cmd|x")
    }
    of_ana = [row for row in rows if row["account_id"] == A and row["user"] == "ana"]
    assert {row["source"] for row in of_ana} == {"10.0.0.0", "10.0.0.1"}
    assert {row["agent"] for row in of_ana} == {"'=1+1"}
    (other,) = [r for r in rows if r["account_id"] == A and r["user"] != "ana"]
    assert other["note"].startswith("No call in 7 days is in CloudTrail's event history (us-east-1")
    # A key that two policies matched is asked about once.
    assert aws.calls["cloudtrail.LookupEvents"] == 2 * 3


def test_a_denied_account_is_not_known_and_the_exit_code_tells(
    aws: EmbeddedAws, usage: Usage, runs: tuple[Path, Path]
) -> None:
    out, accounts = runs
    aws.account(C).add_role("keyrot")
    aws.fail("cloudtrail.LookupEvents", "AccessDeniedException", account=B)
    code, text, err = usage(out, "--accounts", accounts)
    assert code == 1
    flat = " ".join(text.split())
    assert "Usage in us-east-1 and eu-west-1 isn't known: cloudtrail:LookupEvents is denied" in flat
    assert "10.0.0.1 by =1+1" in flat  # of the other account
    lines = err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"account {B}: ") for line in lines)


def test_throttling_by_somebody_else_is_waited_for(
    aws: EmbeddedAws, usage: Usage, key: str
) -> None:
    aws.fail("cloudtrail.LookupEvents", "ThrottlingException", times=1)
    code, out, err = usage(key)
    assert (code, err) == (0, "")
    assert "s3:ListBuckets" in out


def test_progress_is_said_of_what_takes_long(
    key: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, begun = calls.wait, []

    def wait(futures: set[Any], timeout: float) -> Any:
        begun.append(timeout)
        return real(futures, timeout) if begun[1:] else (set(), futures)  # nothing yet, at first

    monkeypatch.setattr(calls, "wait", wait)
    assert cli.main(["usage", key]) == 0
    assert "keys read: 0 of 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["no-key"], "no-key is not there"),
        (["s3://bucket/out"], "copy it first"),
        (["AKIAIOSFODNN7EXAMPLE", "out"], "out isn't the id of an access key"),
        (["AKIAIOSFODNN7EXAMPLE", "--accounts", "accounts.yml"], "isn't there|can't be read"),
        (["AKIAIOSFODNN7EXAMPLE", "--region", "mars"], "--region mars: not a region"),
    ],
)
def test_a_mistake_is_one_line(usage: Usage, args: list[str], words: str) -> None:
    code, out, err = usage(*args)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert any(word in err for word in words.split("|")), err


@pytest.mark.parametrize("days", ["0", "0.5", "91", "week", "nan"])
def test_days_are_those_that_the_history_has(usage: Usage, days: str) -> None:
    with pytest.raises(SystemExit) as ended:
        usage("AKIAIOSFODNN7EXAMPLE", "--days", days)
    assert ended.value.code == 2


def test_a_key_of_another_account_is_not_taken_for_a_quiet_one(
    aws: EmbeddedAws, usage: Usage
) -> None:
    code, _, err = usage("AKIAIOSFODNN7EXAMPLE")
    assert code == 1
    assert f"it is not a key of account {HUB}, or the call is not allowed" in err


def test_runs_without_a_key_are_said_to_be_so(usage: Usage, tmp_path: Path) -> None:
    Run(account_id=HUB).write(tmp_path / "out")
    code, out, _ = usage(tmp_path / "out")
    assert code == 0
    assert out.startswith("No key was matched by the runs in ")


@pytest.mark.parametrize(
    ("partition", "region"), [("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")]
)
def test_another_partition_has_its_own_region_of_global_services(
    partition: str,
    region: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with EmbeddedAws(partition=partition) as aws:
        for name, value in aws.env(HUB, tmp_path).items():
            monkeypatch.setenv(name, value)
        aws.account(HUB).add_user("ana", slot2=Key(200))
        aws.account(HUB).record_call("ana", 2, region=region)
        key = aws.account(HUB).key_id("ana", 2)
        assert cli.main(["usage", key, "--format", "json"]) == 0
        (said,) = json.loads(capsys.readouterr().out)["keys"]
        assert (said["usage"]["regions"], said["usage"]["events"]) == ([region], 1)
        assert aws.errors == []
