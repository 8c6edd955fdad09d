# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The real `c7n-keyrot doctor`, on an AWS where one thing after the other is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from harness import Finished, keyrot, run

from embedded_aws import HUB, EmbeddedAws

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MEMBERS = ("111111111111", "222222222222", "333333333333")
FILES = [
    *("--policies", ROOT / "policies"),
    *("--accounts", EXAMPLES / "accounts.yml"),
    *("--mailer", EXAMPLES / "mailer.yml"),
]
Doctor = Callable[..., Finished]


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as embedded:
        yield embedded
        assert embedded.errors == []


@pytest.fixture
def doctor(aws: EmbeddedAws, tmp_path: Path) -> Iterator[Doctor]:
    """doctor(flags, variable=value): where nothing is wrong yet."""
    aws.create_queue("c7n-keyrot")
    for account_id in MEMBERS:
        aws.account(account_id).add_role()
    aws.reset_calls()

    def look(*flags: str | Path, **env: str) -> Finished:
        return run(keyrot("doctor", *flags), {**aws.env(HUB, tmp_path), **env}, tmp_path)

    yield look
    aws.heal()


def failed(done: Finished) -> list[str]:
    return [line for line in done.text.splitlines() if line.startswith("FAIL")]


def test_all_is_well_and_nothing_but_reading(doctor: Doctor, aws: EmbeddedAws) -> None:
    done = doctor(*FILES)
    assert (done.code, failed(done)) == (0, []), done.text
    assert done.lines("ok", "plugin", "bin/custodian")
    assert done.lines("ok", "plugin in c7n-org", "worker")
    assert done.lines("ok", "credentials", HUB)
    assert done.lines("ok", "queue c7n-keyrot", HUB)
    assert done.lines("ok", "template c7n_keyrot-disabling.html")
    assert done.lines("not checked", "c7n-mailer -t", "empty")
    for account_id in MEMBERS:
        (line,) = done.lines("ok", "permissions", account_id)
        assert "iam:GetCredentialReport, iam:GetUser, iam:ListAccessKeys" in line
        assert done.lines("not checked", account_id, "iam:UpdateAccessKey")
    names = {action.split(".")[1] for action in aws.calls}
    assert {re.split("(?<=[a-z])(?=[A-Z])", n)[0] for n in names - {"AssumeRole"}} <= {
        *("Get", "List", "Simulate"),
    }


def test_without_any_file(doctor: Doctor) -> None:
    done = doctor()
    assert (done.code, failed(done)) == (0, []), done.text
    assert len(done.lines("not checked")) >= 4


def test_denied_permissions_and_a_missing_queue(doctor: Doctor, aws: EmbeddedAws) -> None:
    aws.fail("iam.GetUser", "AccessDenied", account=MEMBERS[0])
    aws.fail("iam.ListAccountAliases", "AccessDenied", account=MEMBERS[1])
    aws.fail("sqs.GetQueueUrl", "AWS.SimpleQueueService.NonExistentQueue")
    done = doctor(*FILES)
    assert done.code == 1
    assert len(failed(done)) == 3, done.text
    assert done.lines("FAIL", MEMBERS[0], "iam:GetUser", "fix:")
    assert done.lines("FAIL", MEMBERS[1], "iam:ListAccountAliases", "fix:")
    assert done.lines("FAIL", "queue c7n-keyrot", "create queue c7n-keyrot")


def test_a_queue_of_another_account(doctor: Doctor, tmp_path: Path) -> None:
    """That there is one of this name in the hub doesn't count; and the mailer reads that one."""
    text = (EXAMPLES / "accounts.yml").read_text("utf-8").replace(HUB, "999999999999")
    accounts = tmp_path / "accounts.yml"
    accounts.write_text(text, "utf-8")
    done = doctor(*FILES[:2], "--accounts", accounts, *FILES[4:])
    assert done.code == 1
    assert done.lines("FAIL", "queue c7n-keyrot", "none in account 999999999999"), done.text
    assert done.lines("FAIL", "mailer.yml", "queue_url")


def test_mistakes_in_the_files(doctor: Doctor, tmp_path: Path) -> None:
    accounts = yaml.safe_load((EXAMPLES / "accounts.yml").read_text("utf-8"))
    accounts["accounts"][0].pop("regions")
    accounts["accounts"][1]["vars"] = {"action": {"queue": "c7n-keyrot"}}
    (tmp_path / "accounts.yml").write_text(yaml.safe_dump(accounts), "utf-8")
    policies = yaml.safe_load((ROOT / "policies" / "second-access-key.yml").read_text("utf-8"))
    policies["policies"][0]["actions"][0]["template"] = "c7n_keyrot-expring.html"
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "pack.yml").write_text(yaml.safe_dump(policies), "utf-8")
    policies["policies"][0]["filters"].append({"type": "stale-access-key", "days": -1})
    (tmp_path / "pack" / "wrong.yml").write_text(yaml.safe_dump(policies), "utf-8")
    done = doctor("--policies", "pack", "--accounts", "accounts.yml")
    assert done.code == 1
    assert done.lines("FAIL", "account payments", "regions")
    assert done.lines("FAIL", "account web", "the member's")
    assert done.lines("FAIL", "template c7n_keyrot-expring.html", "empty")
    assert done.lines("FAIL", "wrong.yml", "days must be a number > 0")
    assert len(failed(done)) == 4, done.text


@pytest.mark.parametrize("fault", ["none", "expired", "stall"])
def test_credentials(doctor: Doctor, aws: EmbeddedAws, fault: str) -> None:
    env = {}
    if fault == "none":
        env = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    elif fault == "expired":
        aws.fail("sts.*", "ExpiredToken")
    else:
        aws.fail("*", "stall")
    done = doctor("--policies", ROOT / "policies", **env)  # in two minutes, or it is an error
    assert done.code == 1
    (line,) = failed(done)
    assert line.startswith("FAIL         credentials")
    assert "fix:" in line
    assert done.lines("not checked", "permissions")
    assert "Traceback" not in done.text


def test_a_plugin_that_is_not_loaded(doctor: Doctor, tmp_path: Path) -> None:
    """As after an install that lost the startup file: a sitecustomize that takes the hook away."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'c7n_keyrot' not in type(f).__module__]\n",
        "utf-8",
    )
    done = doctor("--policies", ROOT / "policies", PYTHONPATH=str(tmp_path))
    assert done.code == 1
    assert len(failed(done)) == 2, done.text
    assert done.lines("FAIL", "plugin: not loaded in", "reinstall the plugin")
    assert done.lines("FAIL", "plugin in c7n-org: not loaded in")
