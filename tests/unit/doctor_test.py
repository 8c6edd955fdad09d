# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from c7n_keyrot.cli import main
from c7n_keyrot.cli.doctor.checks import (
    FAIL,
    NOT_CHECKED,
    OK,
    Check,
    Planned,
    Queue,
    Target,
)
from c7n_keyrot.cli.doctor.coverage import Result, coverage, last_run
from c7n_keyrot.cli.doctor.inputs import accounts_sanity, parse_queue
from c7n_keyrot.cli.doctor.installation import _python_of

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


def account(**changes: Any) -> dict[str, Any]:
    good = {
        "name": "web",
        "account_id": "111111111111",
        "role": "arn:aws:iam::111111111111:role/c7n-keyrot",
        "regions": ["us-east-1"],
        "vars": {"action": {"queue": "arn:aws:sqs:us-east-1:123456789012:c7n-keyrot"}},
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"name": None}, "no name"),
        ({"account_id": 111111111111}, "in quotes"),
        ({"account_id": "1111"}, "in quotes"),
        ({"regions": None}, "regions is missing"),
        ({"regions": ["us-east-1", "eu-west-1"]}, "more than once"),
        ({"regions": ["all"]}, "more than once"),
        ({"role": None}, "no role"),
        ({"role": ["arn:aws:iam::1:role/a"]}, "role is a list"),
        ({"role": "c7n-keyrot"}, "is short"),
        ({"vars": {}}, "no queue"),
        ({"vars": {"action": "x"}}, "no queue"),
        ({"vars": {"action": {"queue": "c7n-keyrot"}}}, "the member's"),
    ],
)
def test_what_is_wrong_with_an_account(changes: dict[str, Any], words: str | None) -> None:
    checks = list(accounts_sanity([account(**changes)]))
    assert len(checks) == (words is not None)
    for check in checks:
        assert check.status == FAIL
        assert words in check.what
        assert check.name.startswith("account ")
        assert "web" in str(check) or "111111111111" in str(check)


def test_accounts_of_one_name_or_one_id_are_said_once() -> None:
    names = list(accounts_sanity([account(), account(account_id="222222222222")]))
    assert ["share a folder" in check.what for check in names] == [True]
    ids = list(accounts_sanity([account(), account(name="other")]))
    assert ["there twice" in check.what for check in ids] == [True]


@pytest.mark.parametrize(
    ("runs", "begun"),
    [
        ([], 0),
        ([(100, 101)], 100),
        ([(100, 104), (100.1, 102), (103.9, 105), (164.9, 170)], 100),  # one run
        ([(100, 104), (165, 168), (165.1, 169)], 165),  # more than a minute later: another one
        ([(165, 168), (100, 104)], 165),
        ([(100, 300), (150, 160), (290, 291)], 100),  # a long policy spans the break
    ],
)
def test_last_run(runs: list[tuple[float, float]], begun: float) -> None:
    assert last_run(Result(start, end, False) for start, end in runs) == begun


def leave(out: Path, where: str, start: float | None, error: str = "", log: str = "x") -> None:
    """What a policy leaves in its folder; without `start` no metadata."""
    folder = out / where
    folder.mkdir(parents=True)
    (folder / "custodian-run.log").write_text(log, "utf-8")
    if start is not None:
        metrics = [{"MetricName": "PolicyException"}] if error else []
        if error:
            (folder / "custodian-run.log").write_text(f"t - c7n - ERROR - {error}\n", "utf-8")
        execution = {"start": start, "end_time": start + 1}
        (folder / "metadata.json").write_text(
            json.dumps({"execution": execution, "metrics": metrics}), "utf-8"
        )


def target(name: str, *policies: str, skips: tuple[str, ...] = ()) -> Target:
    planned = [Planned(p, p not in skips, frozenset(), ()) for p in (*policies, *skips)]
    return Target(name, "111111111111", "us-east-1", account(name=name), planned)


def test_coverage_says_why_not(tmp_path: Path) -> None:
    leave(tmp_path, "good/us-east-1/a", 1000)
    leave(tmp_path, "good/us-east-1/b", 1001)
    leave(tmp_path, "old/us-east-1/a", 100)
    leave(tmp_path, "denied/us-east-1/a", None, log="")
    leave(tmp_path, "broken/us-east-1/a", 1000, error="user 'x': iam:GetUser is denied")
    (tmp_path / "torn/us-east-1/a").mkdir(parents=True)
    (tmp_path / "torn/us-east-1/a/metadata.json").write_text("{", "utf-8")
    targets = [
        target("good", "a", "b", skips=("elsewhere",)),
        *(target(name, "a") for name in ("old", "denied", "broken", "absent", "torn")),
    ]
    found = {check.name: check for check in coverage(tmp_path, targets, ["a", "b", "elsewhere"])}
    assert len(found) == len(targets)
    for name, status, words in [
        ("good", OK, "a, b"),
        ("old", FAIL, "isn't of the last run"),
        ("denied", FAIL, "a was stopped at once"),
        ("broken", FAIL, "a ended with an error: user 'x': iam:GetUser is denied"),
        ("absent", FAIL, "a never began"),
        ("torn", FAIL, "a didn't finish"),
    ]:
        check = found[f"coverage of account {name} (111111111111)"]
        assert check.status == status
        assert words in check.what
        assert status == OK or name in check.fix


def test_coverage_without_the_files_goes_by_the_folders(tmp_path: Path) -> None:
    leave(tmp_path, "web/us-east-1/a", 1000)
    leave(tmp_path, "web/us-east-1/b", 1001)
    leave(tmp_path, "api/us-east-1/a", 1000)
    checks = list(coverage(tmp_path, [], []))
    assert [check.status for check in checks] == [NOT_CHECKED, NOT_CHECKED, FAIL, OK, OK]
    assert "api" in checks[2].name
    assert "b never began" in checks[2].what


def test_a_folder_of_custodian_itself(tmp_path: Path) -> None:
    leave(tmp_path, "a", 1000)
    (check,) = coverage(tmp_path, [], [])
    assert (check.status, "not of c7n-org" in check.what) == (FAIL, True)


def test_a_check_is_one_line() -> None:
    line = str(Check(FAIL, "queue x", "a\nb\x1b[31m\x07", "do\tthis"))
    assert line == "FAIL         queue x: a b [31m ; fix: do this"


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
    monkeypatch.setattr("c7n_keyrot.cli.doctor.installation.plugin", lambda script: [])
    monkeypatch.setattr("c7n_keyrot.cli.doctor.installation.org_worker", lambda script: [])
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
        (b"a: [", "is no YAML"),
        (b"\xff\xfe\x00", "can't be read"),
        (b"- a", "is no mapping"),
        (b"", "is no mapping"),
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
    assert "credentials: not known, EndpointConnectionError" in failed[0]
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
