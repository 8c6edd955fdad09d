# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which keys a run works with itself, and that they are skipped wherever they stand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.credentials import (
    Credentials,
    DeferredRefreshableCredentials,
    RefreshableCredentials,
)
from c7n.exceptions import PolicyExecutionError
from in_memory import ACCOUNT, Custodian, Iam
from pytest_mock import MockerFixture

from c7n_keyrot.aws import calls, own_keys
from c7n_keyrot.aws.errors import CallError, ErrorKind
from c7n_keyrot.aws.own_keys import user_in
from c7n_keyrot.core.records import Why

OLD, NEW = 200.0, 10.0
STALE = {"type": "stale-access-key"}
DISABLE, DELETE = "disable-access-key", "delete-access-key"
VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)

CREDENTIALS = """\
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = not-a-secret
[base]
aws_access_key_id = AKIABASE
aws_secret_access_key = not-a-secret
[session]
aws_access_key_id = ASIASESSION
aws_secret_access_key = not-a-secret
aws_session_token = not-a-token
"""
CONFIG = """\
[profile role]
role_arn = arn:aws:iam::111111111111:role/one
source_profile = base
[profile second-role]
role_arn = arn:aws:iam::222222222222:role/two
source_profile = role
mfa_serial = arn:aws:iam::111111111111:mfa/ana
[profile of-session]
role_arn = arn:aws:iam::111111111111:role/one
source_profile = session
[profile of-environment]
role_arn = arn:aws:iam::111111111111:role/one
credential_source = Environment
[profile of-machine]
role_arn = arn:aws:iam::111111111111:role/one
credential_source = Ec2InstanceMetadata
[profile process]
credential_process = printf '{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "x"}'
[profile of-process]
role_arn = arn:aws:iam::111111111111:role/one
source_profile = process
[profile web]
role_arn = arn:aws:iam::111111111111:role/one
web_identity_token_file = /nonexistent
"""

Start = Callable[..., None]


@pytest.fixture(autouse=True)
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    """start(NAME=value, …): a process that began with this environment, and with our profiles."""
    (tmp_path / "credentials").write_text(CREDENTIALS, "utf-8")
    (tmp_path / "config").write_text(CONFIG, "utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def begin(**environment: str) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        values = tuple(environment.get(name) for name in VARIABLES[:3])
        monkeypatch.setattr(own_keys, "STARTED_WITH", values)
        own_keys._started_with.cache_clear()
        own_keys._user_of.cache_clear()

    begin()
    yield begin
    own_keys._started_with.cache_clear()
    own_keys._user_of.cache_clear()


@pytest.fixture
def caller(mocker: MockerFixture) -> Any:
    """What STS says whose the credentials are; it fails the test where it is asked needlessly."""
    return mocker.patch.object(calls, "call", side_effect=AssertionError("a needless call"))


ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}


@pytest.mark.parametrize(
    ("profile", "environment", "ids"),
    [
        (None, {}, {"AKIADEFAULT"}),
        (None, ENVIRONMENT, {"AKIAENV"}),
        # c7n-org was started with the one, and works in an account by the profile of the other.
        ("base", {}, {"AKIABASE", "AKIADEFAULT"}),
        ("base", ENVIRONMENT, {"AKIABASE", "AKIAENV"}),
        ("role", ENVIRONMENT, {"AKIABASE", "AKIAENV"}),
        ("second-role", ENVIRONMENT, {"AKIABASE", "AKIAENV"}),
        ("of-environment", ENVIRONMENT, {"AKIAENV"}),
        ("of-process", ENVIRONMENT, {"AKIAPROCESS", "AKIAENV"}),
        ("process", ENVIRONMENT, {"AKIAPROCESS", "AKIAENV"}),
        ("of-machine", {}, {"AKIADEFAULT"}),
        ("web", {}, {"AKIADEFAULT"}),
        (None, {"AWS_PROFILE": "base"}, {"AKIABASE"}),
        (None, {"AWS_PROFILE": "second-role"}, {"AKIABASE"}),
    ],
)
def test_the_keys_behind_profiles_and_their_roles(
    profile: str | None, environment: dict[str, str], ids: set[str], start: Start, caller: Any
) -> None:
    start(**environment)
    if profile == "of-machine":
        session = boto3.Session(profile_name="base")  # no machine's role can be had here
        session._session._credentials = DeferredRefreshableCredentials(dict, "iam-role")
    else:
        session = boto3.Session(profile_name=profile)
    assert own_keys.of(session) == own_keys.Own(frozenset(ids), frozenset())


def test_a_chain_of_roles_of_c7n_org_hides_no_key(
    start: Start, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It puts the last role's credentials into the environment, which had the key before."""
    role = "arn:aws:sts::111111111111:assumed-role/one/custodian"
    caller.side_effect = lambda *args, **kwargs: {"Arn": role}
    for environment, first in ((ENVIRONMENT, "AKIAENV"), ({}, "AKIADEFAULT")):
        start(**environment)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAROLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "not-a-token")
        assert own_keys.of(boto3.Session()).ids == {"ASIAROLE", first}


def test_a_role_that_custodian_takes_is_looked_through_by_its_session(
    start: Start, caller: Any
) -> None:
    start(**ENVIRONMENT)
    session = boto3.Session()
    session._session._credentials = RefreshableCredentials.create_from_metadata(
        {
            "access_key": "ASIAROLE",
            "secret_key": "not-a-secret",
            "token": "not-a-token",
            "expiry_time": "2999-01-01T00:00:00+00:00",
        },
        dict,
        "sts-assume-role",
    )
    assert own_keys.of(session).ids == {"AKIAENV"}


@pytest.mark.parametrize("profile", ["session", "of-session"])
def test_all_keys_of_a_user_whose_temporary_credentials_it_has(
    profile: str, start: Start, caller: Any
) -> None:
    caller.side_effect = lambda *args, **kwargs: {"Arn": "arn:aws:iam::111111111111:user/x/ana"}
    start(**ENVIRONMENT)
    own = own_keys.of(boto3.Session(profile_name=profile))
    assert own.users == {("111111111111", "ana")}
    assert own.has("111111111111", "ana", "AKIAANY")
    assert own.has("222222222222", "ana", "AKIAENV")
    assert not own.has("222222222222", "ana", "AKIAANY")
    own_keys.of(boto3.Session(profile_name=profile))
    assert caller.call_count == 1, "in a run of many policies and accounts it is asked once"


def test_lambda_has_a_role_and_needs_no_call(start: Start, caller: Any) -> None:
    start(**ENVIRONMENT, AWS_SESSION_TOKEN="not-a-token", AWS_LAMBDA_FUNCTION_NAME="x")
    assert own_keys.of(boto3.Session()).users == frozenset()


def test_where_it_cannot_be_known_nothing_is_said(start: Start, caller: Any) -> None:
    caller.side_effect = CallError("sts:GetCallerIdentity", ErrorKind.NO_ANSWER, "", "no answer")
    start()
    with pytest.raises(CallError):
        own_keys.of(boto3.Session(profile_name="session"))
    session = boto3.Session(profile_name="base")
    session._session._credentials = DeferredRefreshableCredentials(dict, "assume-role")
    with pytest.raises(CallError, match="which credentials a profile"):
        own_keys.of(session)


def test_a_profile_that_is_broken_was_not_started_with(start: Start) -> None:
    start(AWS_PROFILE="nobody")
    assert own_keys._started_with() is None


def test_whose_credentials() -> None:
    assert user_in("arn:aws-cn:iam::111111111111:user/a/b/ana") == ("111111111111", "ana")
    for arn in ("arn:aws:sts::1:assumed-role/user/ana", "arn:aws:iam::1:root", "", "user/ana"):
        assert user_in(arn) is None


# -- in a run


@pytest.fixture
def ana(iam: Iam, custodian: Custodian) -> None:
    """Ana's stale second key is the run's own, Bob's isn't."""
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD)
    custodian.session.credentials = Credentials("ana-2", "not-a-secret")


def lines(custodian: Custodian, name: str = "outcomes") -> list[dict[str, Any]]:
    text = (custodian.folder / "test" / f"keyrot-{name}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("ana")
def test_the_runs_own_key_is_left_and_said(
    iam: Iam, custodian: Custodian, told: Callable[[], list[str]]
) -> None:
    users = custodian.run([STALE], [DISABLE])
    assert [user["UserName"] for user in users] == ["ana", "bob"]
    assert [user["c7n:matched-keys"] != [] for user in users] == [False, True]
    assert users[0]["c7n:keyrot"][0]["verdict"] == "stale"
    assert users[0]["c7n:keyrot"][0]["access_key_id"] == "ana-2"
    assert iam.changed == [("bob", "bob-2", "Inactive")]
    found = {
        line["user"]: (line["access_key_id"], line["outcome"], line["reason"])
        for line in lines(custodian)
    }
    assert found == {"ana": (None, "skipped", Why.OWN.text), "bob": ("bob-2", "disabled", "")}
    assert len([line for line in told() if "'ana': key ana-2 is skipped" in line]) == 1
    (summary,) = lines(custodian, "summary")
    assert [(one["user"], one["why"]) for one in summary["not_matched"]] == [("ana", "own key")]
    assert (summary["candidates"], summary["matched"]) == (2, 1)


@pytest.mark.usefixtures("ana")
@pytest.mark.parametrize(
    "filters",
    [
        [{"or": [STALE, {"type": "value", "key": "UserName", "value": "x"}]}],
        [{"and": [STALE, {"type": "access-key", "key": "Status", "value": "Active"}]}],
        [{"not": [{"not": [STALE]}]}, STALE],
        [STALE, {**STALE, "slot": 1, "days": 5}],
    ],
)
def test_no_block_and_no_other_filter_brings_it_back(
    iam: Iam, custodian: Custodian, filters: list[Any]
) -> None:
    custodian.run(filters, [DISABLE])
    assert "ana-2" not in {key_id for _, key_id, _ in iam.changed}
    iam.changed.clear()
    custodian.run(filters, [{"type": "remove-keys", "matched": True, "disable": True}])
    assert "ana-2" not in {key_id for _, key_id, _ in iam.changed}


def test_an_inactive_key_of_its_user_is_left_as_well(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, (OLD, "Inactive"))
    custodian.session.credentials = Credentials("ana-2", "not-a-secret")
    custodian.run([{**STALE, "status": "Inactive"}], [DELETE])
    assert iam.changed == []


@pytest.mark.usefixtures("ana")
def test_every_key_of_a_user_behind_temporary_credentials(
    iam: Iam, custodian: Custodian, caller: Any
) -> None:
    custodian.session.credentials = Credentials("ASIAX", "not-a-secret", "not-a-token")
    real = calls.call
    assert real is caller
    caller.side_effect = None
    caller.return_value = {"Arn": f"arn:aws:iam::{ACCOUNT}:user/ana"}
    own = own_keys.of(custodian.session)
    assert own.has(ACCOUNT, "ana", "ana-2")
    assert not own.has(ACCOUNT, "bob", "bob-2")


@pytest.mark.usefixtures("ana")
def test_nothing_is_touched_where_it_cannot_be_found_out(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    error = CallError("sts:GetCallerIdentity", ErrorKind.NO_ANSWER, "", "no answer")
    mocker.patch.object(own_keys, "of", side_effect=error)
    with pytest.raises(PolicyExecutionError, match="which access key the run itself works with"):
        custodian.run([STALE], [DISABLE])
    assert iam.changed == []


def test_it_is_not_asked_where_no_key_is_meant(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    of = mocker.patch.object(own_keys, "of", side_effect=AssertionError("needless"))
    iam.add("ana", NEW, NEW)
    iam.add("twins", OLD, OLD)
    custodian.run([STALE], [DISABLE])
    assert not of.called


def test_no_owner_is_told_that_it_will_be_disabled(
    iam: Iam, custodian: Custodian, told: Callable[[], list[str]]
) -> None:
    iam.add("ana", NEW, 85.0)
    iam.add("bob", NEW, 85.0)
    custodian.session.credentials = Credentials("ana-2", "not-a-secret")
    users = custodian.run([{"type": "expiring-access-key"}])
    assert [user["UserName"] for user in users] == ["bob"]
    assert any("'ana': key ana-2 is skipped" in line for line in told())
    (summary,) = lines(custodian, "summary")
    assert [(one["verdict"], one["why"]) for one in summary["not_matched"]] == [
        ("expiring", "own key")
    ]
