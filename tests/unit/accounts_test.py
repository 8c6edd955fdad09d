# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""accounts.yml is read, and roles are taken, as c7n-org does it."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.config import Config
from c7n_org import cli as c7n_org

from c7n_keyrot.aws import calls as aws_calls
from c7n_keyrot.aws import credentials
from c7n_keyrot.core import text
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.evidence import accounts
from embedded_aws import HUB, EmbeddedAws
from embedded_aws.foreign import CUT_BEHIND_SECRETS, FOREIGN

MEMBER = "111111111111"
ROLE = f"arn:aws:iam::{MEMBER}:role/c7n-keyrot"
ENTRIES: list[dict[str, Any]] = [
    {"name": "web", "account_id": MEMBER, "role": ROLE, "tags": ["env:prod", "team:a"]},
    {"name": "api", "account_id": "222222222222", "role": "short", "regions": ["eu-west-1"]},
    {"name": "cn", "account_id": "333333333333", "role": ["arn:aws-cn:iam::1:role/a", "short"]},
    {"name": "p", "account_id": "444444444444", "profile": "member", "external_id": "x"},
    {"name": "both", "account_id": "555555555555", "profile": "member", "role": ROLE},
    {"name": "none", "account_id": "666666666666", "role": [], "tags": ["env:prod"]},
    {"name": "v", "account_id": "777777777777", "role": "r", "vars": {"days": 7, "a": {"b": 1}}},
]
SHARED = {"days": 90, "action": {"queue": "q"}}


def write(folder: Path, data: Any) -> Path:
    file = folder / "accounts.yml"
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data), "utf-8")
    return file


def both(folder: Path) -> tuple[list[accounts.Account], list[dict[str, Any]]]:
    """The accounts as they are read here, and as c7n-org reads them."""
    data = {"vars": SHARED, "accounts": ENTRIES}
    return (
        accounts.load(write(folder, data)),
        list(c7n_org.accounts_iterator(copy.deepcopy(data))),
    )


def test_entries_are_what_c7n_org_makes_of_them(tmp_path: Path) -> None:
    read, theirs = both(tmp_path)
    assert [account.entry for account in read] == theirs
    assert [account.vars for account in read] == [entry["vars"] for entry in theirs]


@pytest.mark.parametrize(
    ("names", "tags", "not_names"),
    [
        ((), (), ()),
        (("web",), (), ()),
        (("web,api", MEMBER), (), ()),
        (("w*",), (), ()),  # c7n-org knows no patterns
        (("web, none",), ("env:prod",), ()),
        ((), ("env:prod",), ()),
        ((), ("env:prod,team:a",), ()),
        ((), ("env:prod", "team:b"), ()),
        ((), (), ("web", "222222222222")),
        (("web", "api"), (), ("api",)),
    ],
)
def test_accounts_are_chosen_as_c7n_org_does(
    tmp_path: Path, names: tuple[str, ...], tags: tuple[str, ...], not_names: tuple[str, ...]
) -> None:
    read, theirs = both(tmp_path)
    config = {"accounts": theirs}
    c7n_org.filter_accounts(config, c7n_org.comma_expand(tags), names, not_names)
    chosen = [account.id for account in accounts.select(read, names, tags, not_names)]
    assert chosen == [entry["account_id"] for entry in config["accounts"]]


@pytest.mark.parametrize(
    ("own", "given"),
    [
        ([], []),
        (["eu-west-1"], []),
        (["eu-west-1", "us-east-1"], []),
        (["eu-west-1,us-east-1"], []),
        (["eu-west-1"], ["us-east-1"]),
        ([], ["us-east-1,us-west-1", "us-east-1"]),
    ],
)
def test_regions_are_those_of_c7n_org(own: list[str], given: list[str]) -> None:
    account = accounts.Account("web", MEMBER, regions=tuple(own))
    assert account.runs_in(given) == tuple(c7n_org.resolve_regions(given or own, {}))


@pytest.mark.parametrize(
    ("entry", "partition"),
    [
        (ENTRIES[0], "aws"),
        ({"role": "arn:aws-cn:iam::1:role/a"}, "aws-cn"),
        ({"role": "short", "regions": ["us-gov-west-1"]}, "aws"),  # as c7n-org completes it
        ({"profile": "p", "regions": ["us-gov-west-1"]}, "aws-us-gov"),
        ({"profile": "p", "regions": ["cn-north-1"]}, "aws-cn"),
        ({"profile": "p", "regions": ["no-such-1"]}, "aws"),
        ({"profile": "p"}, "aws"),
    ],
)
def test_partition(tmp_path: Path, entry: dict[str, Any], partition: str) -> None:
    file = write(tmp_path, {"accounts": [{**entry, "account_id": MEMBER}]})
    assert accounts.load(file)[0].partition == partition


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "isn't a mapping"),
        ("- x", "isn't a mapping"),
        ("accounts: 5", "no list of accounts"),
        ("accounts: []", "no list of accounts"),
        ("subscriptions: [{subscription_id: a}]", "no list of accounts"),
        ("accounts: [web]", "an account that isn't a mapping"),
        ("a: [", "isn't YAML: "),
        ("a: !!python/object:os.system x", "isn't YAML: "),
        ("password: hunter2\n\tx: y", "isn't YAML: "),
        ("a: 2026-13-45", "isn't YAML that can be read"),
        ("[" * 5000, "isn't YAML that can be read"),
        ("a: \x1b[31m", "isn't YAML: "),
    ],
)
def test_file_that_is_no_accounts_file(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(CommandError) as raised:
        accounts.load(write(tmp_path, content))
    assert str(raised.value).startswith(f"{tmp_path}/accounts.yml ")
    assert words in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", ["absent.yml", "folder", "latin.yml"])
def test_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yml").write_bytes(b"a: \xe9")
    with pytest.raises(CommandError, match="can't be read: "):
        accounts.load(tmp_path / name)


def test_entry_that_c7n_org_would_refuse_does_not_stop_the_others(tmp_path: Path) -> None:
    wrong = {"name": 5, "account_id": 111, "role": {"a": 1}, "regions": "us-east-1", "tags": "a"}
    first, second = accounts.load(write(tmp_path, {"accounts": [wrong, ENTRIES[0]]}))
    assert (first.name, first.id, first.roles, first.regions, first.tags) == ("", "111", (), (), ())
    assert first.entry["regions"] == "us-east-1"
    assert (second.name, second.roles) == ("web", (ROLE,))


# -- the way into an account


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as embedded:
        for name, value in embedded.env(HUB, tmp_path).items():
            monkeypatch.setenv(name, value)
        embedded.account(MEMBER).add_role()
        yield embedded
    assert embedded.errors == []


def test_own_credentials(aws: EmbeddedAws) -> None:
    access = credentials.own()
    assert (access.account_id, access.partition) == (HUB, "aws")


@pytest.mark.parametrize("role", [ROLE, "c7n-keyrot", [ROLE], [ROLE, ROLE]])
def test_role_leads_into_the_account(aws: EmbeddedAws, tmp_path: Path, role: Any) -> None:
    entry = {"name": "web", "account_id": MEMBER, "role": role, "external_id": "secret"}
    (account,) = accounts.load(write(tmp_path, {"accounts": [entry]}))
    taken = accounts.take(credentials.own(), account)
    assert (taken.account_id, taken.arn) == (MEMBER, ROLE)
    assert aws_calls.call(taken.client("sts"), "get_caller_identity")["Account"] == MEMBER
    calls = [call for call in aws.log if call.action == "sts.AssumeRole"]
    assert len(calls) == (len(role) if isinstance(role, list) else 1)
    assert {call.params["ExternalId"] for call in calls} == {"secret"}


def test_profile_leads_into_the_account_unless_there_is_a_role(
    aws: EmbeddedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = aws.env(MEMBER, tmp_path)
    config = tmp_path / "config"
    config.write_text(
        f"[profile member]\naws_access_key_id = {member['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {member['AWS_SECRET_ACCESS_KEY']}\n",
        "utf-8",
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    own = credentials.own()
    assert accounts.take(own, accounts.Account("p", MEMBER, profile="member")).account_id == MEMBER
    other = accounts.Account("p", MEMBER, roles=(ROLE,), profile="absent")
    assert accounts.take(own, other).arn == ROLE


@pytest.mark.parametrize(
    ("account", "words"),
    [
        (accounts.Account("a", MEMBER), f"leads to account {HUB}"),
        (accounts.Account("a", "222222222222", roles=(ROLE,)), f"leads to account {MEMBER}"),
        (accounts.Account("a", MEMBER, profile="absent"), "profile absent can't be used: "),
        (accounts.Account("a", MEMBER, roles=("no",)), "no can't be used: "),
    ],
)
def test_what_leads_elsewhere(aws: EmbeddedAws, account: accounts.Account, words: str) -> None:
    with pytest.raises(CommandError) as raised:
        accounts.take(credentials.own(), account)
    assert words in str(raised.value)


def test_denied_role_says_which_call(aws: EmbeddedAws) -> None:
    own = credentials.own()
    aws.fail("sts.AssumeRole", "AccessDenied")
    with pytest.raises(CommandError) as raised:
        accounts.take(own, accounts.Account("a", MEMBER, roles=(ROLE,)))
    assert str(raised.value) == f"{ROLE} can't be used: sts:AssumeRole is denied (AccessDenied)"


def test_role_is_taken_again_before_its_credentials_end(
    aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody thinks for an hour before answering a question."""
    own = credentials.own()
    taken = accounts.take(own, accounts.Account("a", MEMBER, roles=(ROLE,)))
    later = datetime.now(timezone.utc) + timedelta(minutes=59)
    # No call has succeeded for so long, since none was made.
    own.client("sts").keyrot_guard.last_success -= 3540
    monkeypatch.setattr(taken.session.get_credentials(), "_time_fetcher", lambda: later)
    aws_calls.call(taken.client(), "list_account_aliases")
    assert aws.calls["sts.AssumeRole"] == 2


@pytest.mark.parametrize("answer", FOREIGN)
def test_answer_that_is_not_aws_names_no_secret(aws: EmbeddedAws, answer: str) -> None:
    own = credentials.own(config=Config(retries={"total_max_attempts": 1}))
    aws.answer("sts.AssumeRole", FOREIGN[answer])
    with pytest.raises(CommandError) as raised:
        accounts.take(own, accounts.Account("a", MEMBER, roles=(ROLE,)))
    assert str(raised.value).startswith(f"{ROLE} can't be used: sts:AssumeRole ")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 300


def test_answer_that_is_cut_shows_no_secret(aws: EmbeddedAws) -> None:
    own = credentials.own(config=Config(retries={"total_max_attempts": 1}))
    aws.answer("sts.AssumeRole", CUT_BEHIND_SECRETS)
    with pytest.raises(CommandError) as raised:
        accounts.take(own, accounts.Account("a", MEMBER, roles=(ROLE,)))
    assert aws.secrets
    shown = "".join(traceback.format_exception(raised.value))
    assert not [secret for secret in aws.secrets if secret in shown]


# -- words


@pytest.mark.parametrize(("number", "words"), [(0, "0 keys"), (1, "1 key"), (2, "2 keys")])
def test_counted(number: int, words: str) -> None:
    assert text.counted(number, "key") == words


def test_listed() -> None:
    assert text.listed(["a", "b\n"]) == "a, b"
    assert text.listed(["a", "b", "c"], most=2) == "a, b and 1 more"


def test_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert text.utc(datetime(2026, 5, 1, 12, 0, 5, tzinfo=east)) == "2026-05-01 10:00 UTC"
    assert text.utc(0, seconds=True) == "1970-01-01 00:00:00 UTC"
