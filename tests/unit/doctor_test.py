# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import json
import os
import sys
from argparse import Namespace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from c7n_keyrot.cli import doctor, main
from c7n_keyrot.cli.doctor import (
    coverage,
    installation,
    organization,
    permissions,
    policies,
    queues,
    recipients,
    regions,
)
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, lines
from c7n_keyrot.cli.doctor.context import Context, Planned, Target
from c7n_keyrot.cli.doctor.installation import _python_of
from c7n_keyrot.cli.doctor.sqs import KNOWN_URL, Queue, parse_queue, queue_of
from c7n_keyrot.evidence.accounts import Account, load
from c7n_keyrot.evidence.gather import PolicyFolder, begun_of

EXAMPLES = Path(__file__).parents[2] / "examples"
HUB_QUEUE = Queue("c7n-keyrot", "123456789012", "eu-west-1")


@pytest.mark.parametrize(
    ("text", "queue"),
    [
        ("arn:aws:sqs:eu-west-1:123456789012:c7n-keyrot", HUB_QUEUE),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/c7n-keyrot", HUB_QUEUE),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/c7n-keyrot", HUB_QUEUE),
        (
            "https://queue.amazonaws.com/123456789012/c7n-keyrot",
            Queue("c7n-keyrot", "123456789012", "us-east-1"),
        ),
        (
            "https://sqs.us-gov-west-1.amazonaws.com/123456789012/c7n-keyrot",
            Queue("c7n-keyrot", "123456789012", "us-gov-west-1"),
        ),
        (
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/c7n-keyrot",
            Queue("c7n-keyrot", "123456789012", "cn-north-1"),
        ),
        ("mine", Queue("mine", "999999999999", "us-west-2")),
        ("", None),
        ("{queue}", None),
        ("arn:aws:sqs", None),
        ("https://example.com/", None),
    ],
)
def test_queue_by_name_url_or_arn(text: str, queue: Queue | None) -> None:
    assert parse_queue(text, "999999999999", "us-west-2") == queue


@pytest.mark.parametrize(
    ("queue", "known"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/c7n-keyrot", True),
        ("https://queue.amazonaws.com/123456789012/c7n-keyrot", True),
        ("https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com/123456789012/c7n-keyrot", False),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/c7n-keyrot", False),
    ],
)
def test_url_that_custodian_takes_for_a_name(queue: str, known: bool) -> None:
    notice = {"transport": {"type": "sqs", "queue": queue}}
    assert (queue_of(notice, "1", "us-east-1") is not None) == known
    assert (KNOWN_URL.match(queue) is not None) == known


@pytest.mark.parametrize(
    ("region", "status", "words"),
    [
        ("eu-west-1", None, ""),
        ("us-gov-west-1", None, ""),
        ("cn-north-1", None, ""),
        ("us-esat-1", FAIL, "is it us-east-1?"),
        ("useast1", FAIL, "isn't a region"),
        ("eu-west-1a", FAIL, "is it eu-west-1?"),
        ("eu-west", FAIL, "isn't a region"),
        ("ap-southeast-99", NOT_CHECKED, "botocore knows no region"),  # it may be new
    ],
)
def test_name_of_a_region(region: str, status: str | None, words: str) -> None:
    check = regions.check_of(region, "-r")
    assert (check and check.status) == status
    assert words in (check.what if check else "")


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        ("arn:aws:sqs:eu-west-1:123456789012:c7n-keyrot", ""),
        ("arn:aws:sqs:eu-west-1:123456789012:c7n-keyrot.fifo", "it is a FIFO queue"),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/a.fifo", "it is a FIFO queue"),
        ("mine.fifo", "it is a FIFO queue"),
        ("arn:aws:sqs:us-esat-1:123456789012:c7n-keyrot", "isn't a region"),
    ],
)
@pytest.mark.parametrize("assumed", [True, False])
def test_queue_that_custodian_can_never_send_to(queue: str, words: str, assumed: bool) -> None:
    """Whoever would send, and without credentials."""
    notice = {"transport": {"type": "sqs", "queue": queue}, "assume_role": assumed}
    web = Account("web", "1" * 12, roles=("arn:aws:iam::1:role/a",))
    where = context(Target(web, "us-east-1", web.id, [Planned("a", notices=(notice,))]))
    found = [check for check in queues.checks(where) if check.status == FAIL]
    assert len(found) == bool(words) or (not assumed and queue == "mine.fifo")
    assert words in "".join(check.what for check in found)


# -- accounts.yml


def account(folder: Path, **changes: Any) -> Account:
    good = {
        "name": "web",
        "account_id": "111111111111",
        "role": "arn:aws:iam::111111111111:role/c7n-keyrot",
        "regions": ["us-east-1"],
    }
    entry = {key: value for key, value in {**good, **changes}.items() if value is not None}
    file = folder / "accounts.yml"
    file.write_text(yaml.safe_dump({"accounts": [entry]}), "utf-8")
    return load(file)[0]


LEAVES = "leaves the folder of -s"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"name": None}, "no name"),
        ({"name": 7}, "no name"),
        ({"name": ".."}, LEAVES),
        ({"name": "../web"}, LEAVES),
        ({"name": "a/../../web"}, LEAVES),
        ({"name": "/web"}, LEAVES),
        ({"name": "//web"}, LEAVES),
        ({"name": "."}, LEAVES),
        ({"name": "a/.."}, LEAVES),
        ({"name": "Data/Analytics"}, None),
        ({"name": "..web"}, None),
        ({"name": "{account_id}"}, "braces"),
        ({"name": "Team #1"}, "-s s3://"),
        ({"account_id": 111111111111}, "in quotes"),
        ({"account_id": "1111"}, "in quotes"),
        ({"account_id": "\uff11" * 12}, "in quotes"),
        ({"role": None}, "neither role nor profile"),
        ({"role": None, "profile": "web"}, None),
        ({"role": ["arn:aws:iam::1:role/a"]}, None),
        ({"role": "c7n-keyrot"}, None),
        ({"regions": None}, None),
        ({"regions": ["us-east-1", "eu-west-1"]}, None),
        ({"regions": ["all"]}, None),
        ({"regions": ["cn-north-1"]}, "isn't one of aws"),
        ({"regions": ["us-esat-1"]}, "us-esat-1 isn't a region of AWS; is it us-east-1?"),
    ],
)
def test_what_is_wrong_with_an_account(
    tmp_path: Path, changes: dict[str, Any], words: str | None
) -> None:
    checks = list(organization.entries([account(tmp_path, **changes)], "aws"))
    assert len(checks) == (words is not None)
    for check in checks:
        assert check.status == (NOT_CHECKED if words == "-s s3://" else FAIL)
        assert words in check.what
        assert "web" in str(check) or "111111111111" in str(check)


@pytest.mark.parametrize(
    ("partition", "region", "role"),
    [
        ("aws-cn", "cn-north-1", "arn:aws-cn:iam::111111111111:role/c7n-keyrot"),
        ("aws-us-gov", "us-gov-west-1", "arn:aws-us-gov:iam::111111111111:role/c7n-keyrot"),
    ],
)
def test_account_of_another_partition(
    tmp_path: Path, partition: str, region: str, role: str
) -> None:
    good = account(tmp_path, regions=[region], role=role)
    assert list(organization.entries([good], partition)) == []
    short = account(tmp_path, regions=[region], role="c7n-keyrot")
    (check,) = organization.entries([short], partition)
    assert f"arn:{partition}:iam::" in check.fix
    # Without credentials nobody knows.
    assert list(organization.entries([short], "")) == []


def test_regions_of_all_are_those_of_the_partition() -> None:
    chinese = Account("web", "1" * 12, roles=("arn:aws-cn:iam::1:role/a",), regions=("all",))
    assert organization.regions_of(chinese, []) == ("cn-north-1", "cn-northwest-1")
    assert organization.regions_of(chinese, ["cn-north-1"]) == ("cn-north-1",)
    assert "us-east-1" in organization.regions_of(Account("web", "1" * 12, regions=("all",)), [])


def test_accounts_of_one_folder_or_one_id_are_said_once(tmp_path: Path) -> None:
    good = account(tmp_path)
    for name in ("web", "web/", "./web", "a/../web"):
        twice = organization.entries([good, account(tmp_path, name=name, account_id="2" * 12)], "")
        assert ["share the folder web" in check.what for check in twice] == [True]
    ids = organization.entries([good, account(tmp_path, name="other")], "")
    assert ["appears twice" in check.what for check in ids] == [True]


def context(*targets: Target, **args: Any) -> Context:
    given = {"accounts": "accounts.yml", "policies": None, "policy": [], "policytags": []}
    found = Context(Namespace(**{**given, **args}))
    found.targets = list(targets)
    found.accounts = list(dict.fromkeys(t.account for t in targets if t.account))
    return found


@pytest.mark.parametrize(
    ("runs_in", "once", "words"),
    [
        ({"us-east-1": True}, True, None),
        ({"us-east-1": True, "us-west-2": False}, True, None),  # by its conditions
        ({"us-east-1": True, "us-west-2": True}, False, None),  # such as of EC2
        ({"us-east-1": True, "us-west-2": True}, True, "run in 2 regions (us-east-1, us-west-2)"),
    ],
)
def test_policy_that_runs_in_several_regions(
    tmp_path: Path, runs_in: dict[str, bool], once: bool, words: str | None
) -> None:
    web = account(tmp_path)
    targets = [
        Target(web, region, web.id, [Planned("a", runs=runs, once=once)])
        for region, runs in runs_in.items()
    ]
    checks = list(policies.more_than_once(context(*targets)))
    assert len(checks) == (words is not None)
    assert all(str(words) in check.what and check.what.endswith(": a") for check in checks)


@pytest.mark.parametrize(
    ("org", "patterns", "tags", "names"),
    [
        (True, [], [], ["a", "ab"]),
        (True, ["a"], [], ["a"]),
        (True, ["a*"], [], []),  # c7n-org takes whole names
        (True, ["b,ab"], [], ["ab"]),
        (False, ["a*"], [], ["a", "ab"]),
        (True, [], ["x"], ["ab"]),
        (True, [], ["x,y"], []),
    ],
)
def test_policies_that_are_chosen(
    org: bool, patterns: list[str], tags: list[str], names: list[str]
) -> None:
    given = [{"name": "a"}, {"name": "ab", "tags": ["x"]}]
    where = context(accounts="accounts.yml" if org else None, policy=patterns, policytags=tags)
    assert [policy["name"] for policy in policies.chosen(given, where)] == names


@pytest.mark.parametrize(
    ("permission", "lines"),
    [
        ("iam:ListSigningCertificates", {"Effect": "Allow", "Resource": "*"}),
        ("ec2:DescribeInstances", {"Effect": "Allow", "Resource": "*"}),
        (
            "iam:DeleteUserPolicy",
            {"Effect": "Allow", "Resource": "arn:${AWS::Partition}:iam::${AWS::AccountId}:user/*"},
        ),
    ],
)
def test_denied_call_of_an_own_policy_comes_with_the_lines_to_add(
    permission: str, lines: dict[str, str]
) -> None:
    web = Account("web", "1" * 12, roles=("arn:aws:iam::1:role/a",))
    fix = permissions.how_to_allow(permission, Target(web, "us-east-1", web.id))
    assert "deploy/member-role.yml" in fix
    text = fix[fix.index("- {") :].replace("!Sub ", "")
    assert yaml.safe_load(text) == [{"Action": permission, **lines}]
    alone = permissions.how_to_allow(permission, Target(None, "us-east-1", "1" * 12))
    assert json.loads(alone[alone.index('{"') :])["Action"] == permission


GROUPS = "iam:ListGroupsForUser"
OURS = {"iam:GenerateCredentialReport", "iam:GetCredentialReport", "iam:ListAccessKeys"}


@pytest.mark.parametrize(
    ("filters", "asked"),
    [
        ([{"or": [{"type": "stale-access-key", "slot": 1}]}], OURS),
        ([{"not": [{"or": [{"and": ["group", "stale-access-key"]}]}]}], {GROUPS, *OURS}),
        ([{"and": [{"not": ["login-profile"]}, "group"]}], {"iam:GetLoginProfile", GROUPS}),
        ([{"type": "list-item", "key": "Tags", "attrs": [{"not": [{"Key": "a"}]}]}], set()),
    ],
)
def test_every_permission_of_a_filter_in_a_block_is_known(
    filters: list[Any], asked: set[str]
) -> None:
    data = {"policies": [{"name": "a", "resource": "aws.iam-user", "filters": filters}]}
    (planned,) = policies.plan(Path("a.yml"), data, Target())
    assert planned.permissions >= asked
    assert (planned.permissions >= OURS) == (asked >= OURS)


# -- what runs left


def left(start: float = 0, end: float = 0, path: Path = Path()) -> PolicyFolder:
    began, ended = (datetime.fromtimestamp(time, timezone.utc) for time in (start, end))
    return PolicyFolder(path, "1" * 12, "", "us-east-1", "a", start=began, end=ended)


@pytest.mark.parametrize(
    ("times", "begun"),
    [
        ([], 0),
        ([(100, 101)], 100),
        ([(100, 104), (100.1, 102), (103.9, 105), (164.9, 170)], 100),  # one run
        ([(100, 104), (165, 168), (165.1, 169)], 165),  # more than a minute later: another one
        ([(165, 168), (100, 104)], 165),
        ([(100, 300), (150, 160), (290, 291)], 100),  # a long policy spans the break
    ],
)
def test_last_run(times: list[tuple[float, float]], begun: float) -> None:
    assert begun_of(left(start, end) for start, end in times).timestamp() == begun


def read(out: Path) -> list[PolicyFolder]:
    return coverage.read(str(out))[0]


def leave(
    out: Path,
    where: str,
    start: float | None,
    failed: bool = False,
    log: str = "x",
    account_id: str = "111111111111",
    policy: dict[str, Any] | None = None,
    compressed: bool = False,
    users: list[dict[str, Any]] | None = None,
) -> Path:
    """What a policy leaves in its folder; without `start` no metadata."""
    folder = out / where
    folder.mkdir(parents=True)
    (folder / "custodian-run.log").write_text(log, "utf-8")
    named = [part for part in where.split("/") if not part.isdigit()]
    files = {}
    if start is not None:
        files["metadata.json"] = {
            "execution": {"id": "r", "start": start, "end_time": start + 1},
            "metrics": [{"MetricName": "PolicyException", "Value": 1}] if failed else [],
            "config": {"account_id": account_id, "region": "us-east-1", "dryrun": False},
            "policy": {"name": named[-1], **(policy or {})},
        }
    if users is not None:
        files["resources.json"] = users  # type: ignore[assignment]
    for name, content in files.items():
        data = json.dumps(content).encode()
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


def target(name: str, account_id: str, *names: str, skips: tuple[str, ...] = ()) -> Target:
    planned = [Planned(policy, policy not in skips) for policy in (*names, *skips)]
    return Target(Account(name, account_id), "us-east-1", account_id, planned)


DENIED = (
    "2026-01-01 00:00:00,1 - custodian.keyrot - ERROR - user 'x': iam:UpdateAccessKey is denied "
    "(AccessDenied)\n2026-01-01 00:00:01,1 - custodian.policy - INFO - done\n"
)


@pytest.mark.parametrize(
    ("what", "status", "words", "fix"),
    [
        ({"start": 1000}, OK, "a (the last run, begun 1970-01-01 00:16 UTC)", ""),
        ({"start": 100}, FAIL, "a isn't of the last run", "run c7n-org again"),
        ({"start": None, "log": ""}, FAIL, "a was stopped at once", "run c7n-org again"),
        ({"start": None}, FAIL, "a didn't finish", "run c7n-org again"),
        (None, FAIL, "a never began", "give doctor its -a, -t and -p"),
        (
            {"start": 1000, "failed": True, "log": DENIED},
            FAIL,
            "a ended with an error: user 'x': iam:UpdateAccessKey is denied (AccessDenied)",
            "with Mode=enforcing, and run c7n-org again",
        ),
        (
            {"start": 1000, "failed": True},
            FAIL,
            "that isn't in its log: c7n-org's output has it, the line with policy:a",
            "run c7n-org again",
        ),
    ],
)
def test_coverage_says_why_not(
    tmp_path: Path, what: dict[str, Any] | None, status: str, words: str, fix: str
) -> None:
    leave(tmp_path, "good/us-east-1/a", 1001)
    if what is not None:
        leave(tmp_path, "Data/Web/us-east-1/a", account_id="222222222222", **what)
    targets = target("good", "1" * 12, "a"), target("Data/Web", "2" * 12, "a", skips=("elsewhere",))
    good, check = coverage.covered(context(*targets), tmp_path, read(tmp_path))
    assert good.status == OK
    assert (check.status, str(check.account)) == (status, "account Data/Web (222222222222)")
    assert words in check.what
    assert fix in check.fix


def test_coverage_of_a_run_that_was_denied_everywhere(tmp_path: Path) -> None:
    """c7n-org leaves logs of no bytes then, and no metadata."""
    leave(tmp_path, "web/us-east-1/a", None, log="")
    where = context(target("web", "1" * 12, "a", "b"), output_dir=str(tmp_path))
    (check,) = coverage.checks(where)
    assert (check.status, check.what[:22]) == (FAIL, "a was stopped at once:")
    assert check.what.endswith("; b never began after that")


def test_coverage_is_not_asked_of_a_function_that_was_set_up(tmp_path: Path) -> None:
    leave(tmp_path, "web/us-east-1/a", 1000)
    where = context(target("web", "1" * 12, "a"))
    where.targets[0].policies.append(Planned("periodic", pull=False))
    assert [c.status for c in coverage.covered(where, tmp_path, read(tmp_path))] == [OK]


def test_metadata_that_is_torn_is_none(tmp_path: Path) -> None:
    for content in ("", "{", "[]", "null", '{"execution": {"start": "x"}, "metrics": []}'):
        (tmp_path / "metadata.json").write_text(content, "utf-8")
        found, (damage,) = coverage.read(str(tmp_path))
        assert (found, damage.path) == ([], tmp_path / "metadata.json")
    os.remove(tmp_path / "metadata.json")
    os.mkfifo(tmp_path / "metadata.json")
    assert read(tmp_path) == []


KEYROT = "2026-01-01 10:00:00,1 - custodian.keyrot - ERROR - user x\n"
FAILED = "2026-01-01 10:00:01,1 - custodian.output - ERROR - Error while executing policy\n"
TRACE = 'Traceback (most recent call last):\n  File "/home/a/x.py", line 3, in run\n    raise\n'
DENIAL = (
    "An error occurred (AccessDenied) when calling the SendMessage operation: User: arn:aws:x is "
    "not authorized to perform: sqs:SendMessage with an explicit deny in a service control policy"
)
DENIED_CALL = "sqs:SendMessage is denied (AccessDenied: explicit deny in a service control policy)"


@pytest.mark.parametrize(
    ("log", "error"),
    [
        ("", ""),
        ("no time - ERROR - x\n", ""),
        ("2026-01-01 10:00:00,1 - c - INFO - x\n", ""),
        ("2026-01-01 10:00:00,1 - c - ERROR - this\n", "this"),
        # Of a run before: runs append to one log.
        ("2026-01-01 09:00:00,1 - c - ERROR - old\n2026-01-01 10:00:00,1 - c - INFO - x\n", ""),
        (
            "2026-01-01 10:00:00,1 - c - ERROR - one\n2026-01-01 10:00:01,1 - c - ERROR - two\n"
            "Traceback\n",
            "two",
        ),
        # A run of custodian: its own line is the last one.
        (f"{KEYROT}{FAILED}{TRACE}c7n.exceptions.PolicyExecutionError: user x: y\n", "user x: y"),
        (f"{FAILED}{TRACE}c7n.exceptions.ResourceLimitExceeded: too many\n", "too many"),
        (f"{FAILED}{TRACE}botocore.exceptions.ClientError: {DENIAL}\n", DENIED_CALL),
        (f"{FAILED}{TRACE}KeyError: 'x'\n\nDuring ...:\n\n{TRACE}a.B: body\nof it\n", "B"),
        (f"{KEYROT}{FAILED}", "user x"),
        (FAILED, ""),
    ],
)
def test_last_error_is_one_of_this_run(tmp_path: Path, log: str, error: str) -> None:
    """The log's times are in the zone of whatever machine wrote it."""
    (tmp_path / "custodian-run.log").write_text(log, "utf-8")
    of_run = left(5000, 5003, tmp_path)
    assert of_run.error == error
    os.utime(tmp_path / "custodian-run.log", (4000, 4000))  # this run wrote no line
    assert of_run.error == ""


def test_coverage_without_the_files_goes_by_the_folders(tmp_path: Path) -> None:
    leave(tmp_path, "web/us-east-1/a", 1000)
    leave(tmp_path, "web/us-east-1/b", 1001)
    leave(tmp_path, "api/us-east-1/a", 1000, account_id="222222222222")
    alone = context(Target(account_id="999999999999"), accounts=None)
    checks = list(coverage.covered(alone, tmp_path, read(tmp_path)))
    assert sorted(check.status for check in checks) == [FAIL, NOT_CHECKED, NOT_CHECKED, OK, OK]
    (failed,) = (check for check in checks if check.status == FAIL)
    assert "222222222222" in failed.name
    assert "b never began" in failed.what


@pytest.mark.parametrize("compressed", [False, True])
def test_coverage_of_a_run_of_custodian(tmp_path: Path, compressed: bool) -> None:
    """Its folder, or a copy of its bucket."""
    leave(tmp_path, "a/2026/11/26/00" if compressed else "a", 1000, compressed=compressed)
    leave(tmp_path, "b/2026/11/26/00" if compressed else "b", 1000, True, compressed=compressed)
    planned = [Planned(name) for name in "abc"]
    alone = context(Target(None, "us-east-1", "1" * 12, planned), accounts=None)
    found = list(coverage.covered(alone, tmp_path, read(tmp_path)))
    assert [(check.status, check.what[:2]) for check in found] == [
        (FAIL, "b "),
        (FAIL, "c "),
        (OK, "a "),
    ]
    assert "custodian's output has it" in found[0].what


def test_run_of_custodian_where_accounts_are_given(tmp_path: Path) -> None:
    leave(tmp_path, "a", 1000)
    where = context(target("web", "1" * 12, "a"))
    (check,) = coverage.covered(where, tmp_path, read(tmp_path))
    assert (check.status, "has a run of custodian" in check.what) == (FAIL, True)


def test_run_of_other_policies_is_one_line(tmp_path: Path) -> None:
    leave(tmp_path, "web/us-east-1/a", 1000)
    where = context(*(target(name, "1" * 12, "b", "c") for name in ("web", "api")))
    (check,) = coverage.covered(where, tmp_path, read(tmp_path))
    assert (check.status, check.fix) == (FAIL, "give the policies of that run as --policies")


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("absent", "no such folder"),
        (".", "no policy has run into"),
        ("out/{account_id}", "with braces in -s Custodian adds no folder for each policy"),
        ("out/{account_id}/{policy_name}", "no such folder"),
        ("s3://bucket/prefix", "fix: copy it to a folder first: aws s3 sync s3://bucket/prefix"),
    ],
)
def test_output_folder_that_holds_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (check,) = coverage.checks(context(target("web", "1" * 12, "a"), output_dir=out))
    assert check.status == FAIL
    assert words in str(check)


# -- whom notices go to


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ana@corp.org", ""),
        ("Ana <ana@corp.org>", ""),
        ("ana+keys@mail.corp.org", ""),
        ("ana@myexample.com", ""),
        ("ana@example.com", "placeholder"),
        ("ana@mail.EXAMPLE.org", "placeholder"),
        ("ana@example.net", "placeholder"),
        ("ana@corp.example", "placeholder"),
        ("ana@corp.invalid", "placeholder"),
        ("änn@corp.org", "aren't ASCII"),
        ("ana@cörp.org", "aren't ASCII"),
        ("ana@corp.org\u2028", "aren't ASCII"),
        ("ana@corp.org, ben@corp.org", "isn't one address"),
        ("ana@corp.org ben@corp.org", "isn't one address"),
        ("ana@corp.org:ben@corp.org", "isn't one address"),
        ("ana@corp", "isn't one address"),
        ("@corp.org", "isn't one address"),
    ],
)
def test_addresses_of_recipients(address: str, words: str) -> None:
    fault = recipients.fault_of(address)
    assert words in fault
    assert bool(words) == bool(fault)


@pytest.mark.parametrize("folder", ["policies", "examples"])
def test_shipped_address_is_a_placeholder_that_is_named_with_its_line(folder: str) -> None:
    """In each policy file and in mailer.yml as they are shipped."""
    found = 0
    for file in sorted((EXAMPLES.parent / folder).glob("*.yml")):
        data = yaml.safe_load(file.read_text("utf-8"))
        config = data if "queue_url" in data else {}
        where = context(mailer=file if config else None)
        where.mailer = config
        if "policies" in data:
            notices = tuple(a for p in data["policies"] for a in p["actions"] if "to" in a)
            if not notices:
                continue
            where.targets = [Target(policies=[Planned("a", notices=notices, file=str(file))])]
        if not config and not any(where.notices()):
            continue  # such as accounts.yml, or a policy that sends none
        (check,) = [c for c in recipients.checks(where) if c.status != OK]
        found += 1
        line = int(check.fix.rpartition("line ")[2])
        assert check.status == FAIL
        assert "@example.com" in file.read_text("utf-8").splitlines()[line - 1]
    assert found >= (8 if folder == "examples" else 1)


@pytest.mark.parametrize(
    ("to", "config", "words"),
    [
        (["slack://owners", "resource-owner"], {"slack_token": "x"}, None),
        (["slack://owners", "resource-owner"], None, None),  # no --mailer
        (["slack://webhook/#keys"], {"slack_webhook": "https://hooks.slack.com/x"}, None),
        (["slack://tag/Slack"], {"slack_token": "x"}, "all users of a notice to the owner of the"),
        (["slack://owners", "resource-owner"], {"queue_url": "x"}, "needs slack_token"),
        (["slack://#keys"], {"slack_webhook": "x"}, "slack://#keys needs slack_token"),
        (["slack://owners"], {"slack_token": "x"}, "without resource-owner finds no owner"),
    ],
)
def test_slack_to_the_wrong_people_or_to_nobody(
    to: list[str], config: dict[str, str] | None, words: str | None
) -> None:
    file = str(EXAMPLES / "slack.yml")
    planned = Planned("a", notices=({"to": to},), file=file)
    where = context(Target(policies=[planned]), mailer=config and EXAMPLES / "mailer.yml")
    where.mailer = config or {}
    checks = list(recipients.checks(where))
    assert len(checks) == (words is not None)
    for check in checks:
        assert (check.status, str(words) in check.what) == (FAIL, True)
        assert "slack.yml" in check.fix or "mailer.yml" in check.fix


def test_words_that_mean_an_address_are_none() -> None:
    notice = {"to": ["resource-owner", "slack://owners", "arn:aws:sns:us-east-1:1:t", "secuirty"]}
    where = context(Target(policies=[Planned("a", notices=(notice,))]), mailer=None)
    (check,) = recipients.checks(where)
    assert (check.status, "secuirty isn't an address" in check.what) == (FAIL, True)


@pytest.mark.parametrize(
    ("tags", "config", "words"),
    [
        ({"OwnerContact": "ana@corp.org"}, {}, None),
        ({"Name": "Ana"}, {}, None),
        ({"OwnerContact": "Ana"}, {}, "isn't an address, so the owner gets no notice"),
        ({"OwnerContact": "Ana"}, {"org_domain": "corp.org"}, None),
        ({"OwnerContact": "Ana", "Owner": "ana@corp.org"}, {}, None),
        ({"OwnerContact": "änn@corp.org"}, {}, "the mails after it in the message are lost"),
        ({"Owner": "ana@corp.org, ben@corp.org"}, {}, "isn't one address"),
        ({"OwnerContact": "ana@corp.org", "Owner": "änn@corp.org"}, {}, "Owner 'änn"),
    ],
)
def test_owners_of_the_last_run(
    tmp_path: Path, tags: dict[str, str], config: dict[str, str], words: str | None
) -> None:
    user = {"UserName": "ana", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
    told = {"actions": [{"type": "notify", "to": ["resource-owner"]}, "disable-access-key"]}
    leave(tmp_path, "web/us-east-1/a", 1000, policy=told, users=[user])
    leave(tmp_path, "web/us-east-1/b", 1000, policy=told, users=[user])  # said once
    leave(tmp_path, "web/us-east-1/c", 1000, users=[{**user, "UserName": "not told"}])
    leave(tmp_path, "old/us-east-1/a", 100, policy=told, users=[user], account_id="2" * 12)
    where = context(Target(Account("web", "1" * 12)), mailer=tmp_path / "mailer.yml")
    where.mailer = {"contact_tags": ["OwnerContact", "Owner"], **config}
    where.left = read(tmp_path)
    checks = list(recipients.checks(where))
    assert len(checks) == (words is not None)
    for check in checks:
        assert (check.status, "user ana: " in check.what) == (FAIL, True)
        assert str(words) in check.what
        assert "user ana" in check.fix


def test_owners_are_named_up_to_ten(tmp_path: Path) -> None:
    users = [{"UserName": f"u{n}", "Tags": [{"Key": "Owner", "Value": "x"}]} for n in range(25)] + [
        None,
        {"Tags": [None]},
    ]
    told = {"actions": [{"type": "notify", "to": ["resource-owner"]}]}
    leave(tmp_path, "web/us-east-1/a", 1000, policy=told, users=users)  # type: ignore[arg-type]
    where = context(mailer=tmp_path / "mailer.yml")
    where.mailer, where.left = {"contact_tags": ["Owner"]}, read(tmp_path)
    found = list(recipients.checks(where))
    assert len(found) == 11
    assert "15 more users" in found[-1].what


# -- the table


def test_a_check_is_one_line() -> None:
    line = str(Check(FAIL, "queue x", "a\nb\x1b[31m\x07", "do\tthis"))
    assert line == "FAIL         queue x: a b [31m; fix: do this"


@pytest.mark.parametrize(
    ("number", "total", "status", "subject"),
    [
        (1, 3, OK, "p of account a0 (0): w"),
        (3, 3, OK, "p of 3 accounts (a0 (0), a1 (1), a2 (2)): w"),
        (12, 12, OK, "p of all 12 accounts: w"),
        (
            12,
            13,
            OK,
            "p of 12 accounts (a0 (0), a1 (1), a2 (2), a3 (3), a4 (4), a5 (5), a6 (6), "
            "a7 (7), a8 (8), a9 (9) and 2 more): w",
        ),
        (12, 12, FAIL, "p of all 12 accounts: w"),
    ],
)
def test_what_is_the_same_in_accounts_is_one_line(
    number: int, total: int, status: str, subject: str
) -> None:
    checks = [Check(status, "p", "w", account=Account(f"a{n}", str(n))) for n in range(number)]
    ((_, line),) = lines(checks, total)
    assert line == f"{status:11}  {subject}"


def test_failures_name_every_account() -> None:
    checks = [Check(FAIL, "p", "w", account=Account(f"a{n}", str(n))) for n in range(40)]
    ((_, line),) = lines(checks, 300)
    assert all(f"a{n} ({n})" in line for n in range(40))


def test_fault_of_doctor_shows_no_words_of_the_error() -> None:
    """They might quote what a network answered; and the lines before it stay."""

    def broken(_: Context) -> Any:
        yield Check(OK, "first", "x")
        raise ValueError("SecretAccessKey hunter2")

    first, second = doctor.safely("queue", broken, context())
    assert (first.status, second.status, second.name) == (OK, FAIL, "queue")
    assert "hunter2" not in str(second)
    assert "ValueError in doctor_test.py" in second.what


# -- the installation


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "--no-deps c7n-keyrot"),
        ('{"url": "file://HERE/dist/x%20y.whl"}', "--no-deps HERE/dist/x y.whl"),
        ('{"url": "file://HERE", "dir_info": {"editable": true}}', "--no-deps -e HERE"),
        ('{"url": "https://h/r.git", "vcs_info": {}}', "--no-deps https://h/r.git"),
        ('{"url": "https://h/r.git", "vcs_info": {"vcs": "git"}}', "--no-deps git+https://h/r.git"),
        ('{"url": "file://HERE/gone.whl"}', "from the wheel that it came from"),
        ("[", "from the wheel that it came from"),
    ],
)
def test_how_to_install_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str | None, words: str
) -> None:
    """It is what pip recorded: the package isn't on PyPI for everybody."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "x y.whl").touch()
    (tmp_path / "pip").touch()

    class Distribution:
        def read_text(self, name: str) -> str | None:
            return record and record.replace("HERE", str(tmp_path))

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Distribution())
    fix = installation.reinstall(tmp_path)
    assert words.replace("HERE", str(tmp_path)) in fix


@pytest.mark.parametrize(
    ("head", "python"),
    [
        ("#!/opt/v/bin/python3.12\nimport sys\n", "/opt/v/bin/python3.12"),
        ('#!/bin/sh\n\'\'\'exec\' "/a long/v/bin/python" "$0" "$@"\n', "/a long/v/bin/python"),
        ("import sys\n", sys.executable),
    ],
)
def test_the_python_of_a_script(tmp_path: Path, head: str, python: str) -> None:
    script = tmp_path / "c7n-org"
    script.write_text(head, "utf-8")
    assert _python_of(script) == python


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without processes, and without an AWS."""
    monkeypatch.setitem(doctor.CHECKS, "plugin", lambda context: [])
    for name, value in [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "AKIA0000123456789012"),
        ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ]:
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read: No such file or directory"),
        (b"a: [", "isn't YAML"),
        (b"\xff\xfe\x00", "can't be read"),
        (b"- a", "isn't a mapping"),
        (b"", "isn't a mapping"),
    ],
)
@pytest.mark.parametrize("flag", ["--accounts", "--mailer", "--policies"])
def test_an_unreadable_file_is_one_clear_line(
    flag: str, content: bytes | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("given.yml").write_bytes(content)
    assert main(["doctor", flag, "given.yml"]) == 1
    captured = capsys.readouterr()
    (line,) = [line for line in captured.out.splitlines() if "given.yml" in line]
    assert line.startswith("FAIL")
    assert words in line or (content is None and "no such" in line)
    assert "Traceback" not in captured.out + captured.err


@pytest.mark.usefixtures("quick")
def test_a_password_in_mailer_yml_is_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mailer.yml").write_text(
        "queue_url: https://sqs.us-east-1.amazonaws.com/123456789012/q\n"
        "contact_tags: [OwnerContact]\nsmtp_password: [hunter2]\n",
        "utf-8",
    )
    assert main(["doctor", "--mailer", "mailer.yml"]) == 1
    captured = capsys.readouterr()
    assert "smtp_password" in captured.out
    assert "hunter2" not in captured.out + captured.err


@pytest.mark.usefixtures("quick")
def test_without_files_and_without_an_aws(capsys: pytest.CaptureFixture[str]) -> None:
    """Files that aren't given are no failures; an AWS that can't be reached is one line."""
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok ", "FAIL ", "not checked ")) for line in lines)
    failed = [line for line in lines if line.startswith("FAIL")]
    assert len(failed) == 1
    assert "credentials: sts:GetCallerIdentity failed (EndpointConnectionError" in failed[0]
    assert "fix: look at the network" in failed[0]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("given", ["nothing", "AWS_REGION", "--accounts"])
def test_without_a_region_custodian_stops(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    if given == "AWS_REGION":
        monkeypatch.setenv("AWS_REGION", "us-east-1")
    main(["doctor", *(["--accounts", "accounts.yml"] if given == "--accounts" else [])])
    lines = [line for line in capsys.readouterr().out.splitlines() if " region: " in line]
    assert [line.split()[0] for line in lines] == ([] if given == "--accounts" else ["FAIL"])


@pytest.mark.usefixtures("quick")
def test_in_a_folder_other_files_may_stand_beside_the_policies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["doctor", "--policies", str(EXAMPLES)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "policies " in line]
    others = [line.split()[3] for line in lines if line.startswith("not checked")]
    assert others == [f"{EXAMPLES}/accounts.yml:", f"{EXAMPLES}/mailer.yml:"]
    assert [line for line in lines if line.startswith("FAIL")] == []
    main(["doctor", "--policies", str(EXAMPLES / "accounts.yml")])
    assert "FAIL         policies" in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_error_of_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "a\x1b[2J\nb")
    assert main(["doctor"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert main(["reactivate", "a\x1b[2J\nb"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a", "b", "a"), "2 policies are named a: they share an output folder"),
        (("a-Key", "a-key"), "2 policies are named a-Key or a-key"),
        (("a/b",), "a/b isn't a policy's name"),
        (("a", "b"), ""),
    ],
)
def test_policies_that_share_a_folder(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    """c7n-org lets them pass."""
    file = tmp_path / "policies.yml"
    data = {"policies": [{"name": name, "resource": "aws.iam-user"} for name in names]}
    file.write_text(yaml.safe_dump(data), "utf-8")
    where = context(Target(Account("web", "222222222222"), account_id="222222222222"))
    where.args.policies = file
    found = [check.what for check in policies.checks(where) if check.status == FAIL]
    assert len(found) == bool(words)
    assert words in "".join(found)


def test_what_a_folder_says_of_another_account_covers_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "lambda" / "222222222222" / "stale"
    folder.mkdir(parents=True)
    data = {
        "policy": {"name": "stale"},
        "execution": {"id": "r", "start": 1.0, "end_time": 2.0},
        "config": {"account_id": "333333333333", "region": "us-east-1"},
        "metrics": [],
    }
    (folder / "metadata.json").write_text(json.dumps(data), "utf-8")
    (folder / "custodian-run.log").touch()
    where = context(Target(Account("c", "333333333333"), account_id="333333333333"))
    where.targets[0].policies.append(Planned("stale"))
    where.args.output_dir = str(tmp_path)
    found = list(coverage.checks(where))
    assert {check.status for check in found} == {FAIL}
    assert "of account 333333333333, in a folder of account 222222222222" in found[0].what
    assert "never began" in found[1].what
