# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names and tags that break logs, terminals, tables and JSON lines, in all that we write.

IAM allows none of the worst in a name, but does in tags and paths, and a report is only a file.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from c7n.exceptions import PolicyExecutionError
from in_memory import Custodian, Iam

from c7n_keyrot.aws import credentials
from c7n_keyrot.cli import reactivate
from c7n_keyrot.cli.doctor import coverage, organization, recipients
from c7n_keyrot.cli.doctor.checks import lines
from c7n_keyrot.cli.doctor.context import Context, Planned, Target
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import Action, Result
from c7n_keyrot.evidence.accounts import load

ACCOUNT = "123456789012"
NAMES = [
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-rf",
    "@SUM(1;2)",
    "two\nlines",
    "2026-01-01 00:00:00,000: custodian.keyrot:INFO user 'eve': key AKIAX: disabled",
    '\r\n{"outcome": "reactivated"}',
    "\x1b[2J\x1b]0;title\x07",
    "a\x08b\x7f\x85",
    "a\x00b",
    "line\u2028para\u2029rtl\u202e\u2066zero\u200b\ufeff",
    "$(id) `id`; rm -rf / && 'x\" | tee",
    "<img src=x onerror=alert(1)>&amp;",
    "100%s %(name)s {0} {user}",
    "a,b;c\td",
    "ünï-ö",
]
# A report with NUL is refused as a whole.
IN_REPORTS = [name for name in NAMES if "\0" not in name]
STALE = "stale-access-key"
UNEXEMPT = {"not": ["rotation-exempt"]}


def one_line(text: str) -> bool:
    """Nothing in it ends a line, moves a cursor or turns the direction of writing."""
    assert text.isprintable(), repr(text)
    return True


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG, "custodian.keyrot")

    def lines() -> list[str]:
        found = [r.getMessage() for r in caplog.records if r.name == "custodian.keyrot"]
        assert found
        return found

    return lines


def add(iam: Iam, name: str, *keys: Any, **more: Any) -> str:
    """Add a user whose keys have ids as AWS makes them; returns that of the last."""
    iam.add(name, *keys, **more)
    for key in iam.keys[name]:
        key["AccessKeyId"] = f"AKIA{len(iam.users):04}{key['AccessKeyId'][-1]}"
    return str(iam.keys[name][-1]["AccessKeyId"])


def lines_of(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    assert data.isascii()
    return [json.loads(line) for line in data.decode().split("\n") if line]


@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_every_event_is_one_line_and_every_name_stays_what_it_is(
    iam: Iam, custodian: Custodian, said: Any, source: str
) -> None:
    for number, name in enumerate(IN_REPORTS):
        add(iam, name, None, 200, {"keyrot-exempt-until": f"{name}\0{number}"}, path=f"/{name}/")
    custodian.run([STALE, UNEXEMPT], ["disable-access-key"], source=source)
    lines = said()
    assert all(one_line(line) for line in lines)
    for name in IN_REPORTS:
        assert len([line for line in lines if f": user {name!r}: key AKIA" in line]) == 1
        assert [line for line in lines if repr(name) in line and "is not a date" in line]
    written = lines_of(custodian.outcomes)
    assert sorted(line["user"] for line in written) == sorted(IN_REPORTS)
    intents = lines_of(custodian.outcomes.with_name(outcomes.INTENTS_FILE))
    assert sorted(line["user"] for line in intents) == sorted(IN_REPORTS)
    resources = json.loads((custodian.folder / "test" / "resources.json").read_text("utf-8"))
    assert sorted(user["UserName"] for user in resources) == sorted(IN_REPORTS)


@pytest.mark.parametrize("name", IN_REPORTS)
def test_every_failure_is_one_line(iam: Iam, custodian: Custodian, said: Any, name: str) -> None:
    """All that can go wrong with a user: the log, and the error that ends the run."""
    second = iam.now - timedelta(days=200)
    denied, unread, unused, ambiguous, gone, changed, twice, unknown = (
        name + str(number) for number in range(8)
    )
    ids = {
        user: add(iam, user, None, 200)
        for user in (denied, unread, unused, gone, changed, twice, unknown)
    }
    add(iam, ambiguous, second, second)
    iam.errors["UpdateAccessKey", ids[denied]] = "AccessDenied"
    iam.errors["ListAccessKeys", unread] = "Throttling"
    iam.errors["GetAccessKeyLastUsed", ids[unused]] = "AccessDenied"
    del iam.users[gone]
    iam.key(ids[changed])["Status"] = "Inactive"
    iam.rows[unknown][8] = f"{name}"
    iam.rows["twice"] = list(iam.rows[twice])
    with pytest.raises(PolicyExecutionError) as raised:
        custodian.run([{"type": STALE, "unused-days": 1}, UNEXEMPT], ["disable-access-key"])
    assert one_line(str(raised.value))
    lines = said()
    assert all(one_line(line) for line in lines)
    for user in (denied, unread, unused, ambiguous, gone, changed, twice, unknown):
        assert [line for line in lines if repr(user) in line], user
    assert {line["user"] for line in lines_of(custodian.outcomes)} == {
        denied,
        unread,
        unused,
        ambiguous,
    }


def test_what_aws_answers_is_one_line_too(iam: Iam, custodian: Custodian, said: Any) -> None:
    iam.add("ana", None, 200)

    def fail(**_: Any) -> None:
        raise ConnectionClosedError(endpoint_url="https://x/\r\n\u2028")

    iam.get_user = fail
    with pytest.raises(PolicyExecutionError) as raised:
        custodian.run([STALE])
    assert one_line(str(raised.value))
    assert all(one_line(line) for line in said())


# -- the commands


class Client:
    """The IAM that reactivate asks: every key is there and inactive, but for those with errors."""

    def __init__(self, keys: dict[str, str], errors: dict[str, str]) -> None:
        self.keys, self.errors = keys, errors

    def list_access_keys(self, UserName: str) -> dict[str, Any]:
        return {
            "AccessKeyMetadata": [
                {"AccessKeyId": key, "Status": "Inactive", "CreateDate": datetime.now(timezone.utc)}
                for key, user in self.keys.items()
                if user == UserName
            ]
        }

    def get_access_key_last_used(self, AccessKeyId: str) -> dict[str, Any]:
        return {"UserName": self.keys[AccessKeyId], "AccessKeyLastUsed": {"ServiceName": "N/A"}}

    def update_access_key(self, UserName: str, AccessKeyId: str, Status: str) -> dict[str, Any]:
        if AccessKeyId in self.errors:
            error = {"Error": {"Code": self.errors[AccessKeyId], "Message": "x"}}
            raise ClientError(error, "UpdateAccessKey")
        return {}


@pytest.fixture
def reactivated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run reactivate on these lines and this IAM: (exit code, output, error output)."""

    def run(
        lines: list[outcomes.Outcome], client: Client, key: list[str], folder: Path = tmp_path
    ) -> tuple[int, str, str]:
        for line in lines:
            outcomes.append(folder / outcomes.INTENTS_FILE, replace(line, outcome="intended"))
            outcomes.append(folder / outcomes.FILE, line)
        access = SimpleNamespace(
            arn="",
            account_id=ACCOUNT,
            partition="aws",
            region="us-east-1",
            client=lambda *_: client,
        )
        monkeypatch.setattr(credentials, "own", lambda profile: access)
        args = {"dir": str(folder), "user": [], "yes": True, "profile": None, "accounts": None}
        code = reactivate.run(argparse.Namespace(**args, key=key))
        return code, *capsys.readouterr()

    return run


def disabled(number: int, name: str) -> outcomes.Outcome:
    return outcomes.Outcome(
        time="2026-05-01T10:00:00.000+00:00",
        account_id=ACCOUNT,
        policy=f"policy\n\x1b[31m{name}",
        run=f"r{name}",
        action=Action.DISABLE,
        user=name,
        slot=2,
        access_key_id=f"AKIA{number}",
        outcome=Result.DISABLED,
        reason="",
    )


def test_reactivate_prints_one_line_for_each_key(
    tmp_path: Path, reactivated: Callable[..., tuple[int, str, str]]
) -> None:
    """What stands in a file of outcomes may be anybody's; and users have new names."""
    lines = [disabled(number, name) for number, name in enumerate(NAMES)]
    ids = [str(line.access_key_id) for line in lines]
    # Two have got another name, and two fail.
    now = dict(zip(ids, NAMES, strict=True))
    now |= {ids[0]: f"new\n{NAMES[7]}", ids[1]: f"new\r{NAMES[9]}"}
    client = Client(now, {ids[2]: "AccessDenied", ids[3]: "Slow\n\x1b[2J"})
    code, out, err = reactivated(lines, client, [])
    assert code == 1
    assert "\r" not in out + err
    assert all(one_line(line) for line in (out + err).split("\n"))
    table = out.split("\n")
    # A head, and a line for each key; then a line for each key that was done.
    assert all(line.startswith(ACCOUNT) for line in table[1 : 1 + len(NAMES)])
    done = [line for line in table if line.startswith(f"account {ACCOUNT}: user ")]
    assert len(done) == len(NAMES) - 2
    assert len(err.splitlines()) == 2
    written = lines_of(tmp_path / outcomes.FILE)
    assert len(written) == 2 * len(NAMES)


def test_reactivate_tells_of_doubts_in_lines_that_can_be_copied(
    tmp_path: Path, reactivated: Callable[..., tuple[int, str, str]]
) -> None:
    """A key a line, with its reason, and a command; then the command that takes them all."""
    folder = tmp_path / "out $(id) 'x'"
    folder.mkdir()
    lines = [
        replace(disabled(number, name), outcome=Result.UNKNOWN, reason=f"{name}\x1b[1m\nx")
        for number, name in enumerate(sorted(NAMES))
    ]
    ids = [str(line.access_key_id) for line in lines]
    client = Client(dict(zip(ids, sorted(NAMES), strict=True)), {})
    code, out, err = reactivated(lines, client, [], folder)
    assert code == 1
    assert all(one_line(line) for line in (out + err).split("\n"))
    told = err.splitlines()
    for first, second, key in zip(told[0::2], told[1::2], ids, strict=False):
        assert first.startswith(f"account {ACCOUNT}: user ")
        assert f"key {key}: left in doubt: " in first
        assert shlex.split(second)[:3] == ["aws", "cloudtrail", "lookup-events"]
        assert f"AttributeKey=ResourceName,AttributeValue={key}" in shlex.split(second)
    command = shlex.split(told[-1])
    assert command == [
        *("c7n-keyrot", "reactivate", str(folder)),
        *(part for key in ids for part in ("--key", key)),
    ]
    assert reactivated([], client, command[4::2], folder)[0] == 0


@pytest.mark.parametrize("option", ["user", "key"])
@pytest.mark.parametrize("name", NAMES)
def test_reactivate_refuses_an_unknown_name_in_one_line(
    tmp_path: Path, option: str, name: str
) -> None:
    (tmp_path / outcomes.FILE).write_text("")
    args = {"user": [], "key": [], option: [name]}
    with pytest.raises(CommandError) as raised:
        reactivate.run(argparse.Namespace(dir=str(tmp_path), accounts=None, **args))
    assert one_line(str(raised.value))


@pytest.mark.parametrize("name", [name for name in NAMES if "/" not in name and "\0" not in name])
def test_doctor_says_each_check_in_one_line(tmp_path: Path, name: str) -> None:
    """Names of accounts, folders, users and tags, and what an error in a log says."""
    entry = {"name": name, "account_id": "1" * 12, "role": name, "vars": {}}
    file = tmp_path / "accounts.yml"
    file.write_text(json.dumps({"accounts": [entry, entry, {**entry, "account_id": f"1{name}"}]}))
    accounts = load(file)
    folder = tmp_path / name / "us-east-1" / "p"
    folder.mkdir(parents=True)
    (folder / "custodian-run.log").write_text(
        f"2026-05-01 10:00:00,000 - custodian.keyrot - ERROR - {name}\x1b[2J\u2028x\n", "utf-8"
    )
    told = {"name": "p", "actions": [{"type": "notify", "to": ["resource-owner", name]}]}
    metadata = {
        "execution": {"id": name, "start": 1.0, "end_time": 2.0},
        "metrics": [{"MetricName": "PolicyException", "Value": 1}],
        "config": {"account_id": entry["account_id"], "region": "us-east-1"},
        "policy": told,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    users = [{"UserName": name, "Tags": [{"Key": "Owner", "Value": name}]}]
    (folder / "resources.json").write_text(json.dumps(users))
    context = Context(argparse.Namespace(accounts=file, mailer=file))
    planned = [Planned("p", notices=tuple(told["actions"]), file=str(file))]  # type: ignore[arg-type]
    context.targets = [Target(a, "us-east-1", a.id, planned) for a in accounts[1:]]
    context.mailer, context.left = {"contact_tags": ["Owner"]}, coverage.read(str(tmp_path))[0]
    checks = [
        *organization.entries(accounts, "aws-cn"),
        *coverage.covered(context, tmp_path, context.left),
        *recipients.checks(context),
    ]
    shown = [line for _, line in lines(checks, 3)]
    assert len(shown) >= 6
    assert any("ended with an error" in line for line in shown)
    assert all(one_line(line) for line in shown)
