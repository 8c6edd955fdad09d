# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The embedded AWS behaves like AWS where moto alone doesn't."""

from __future__ import annotations

import base64
import csv
import http.client
import io
import json
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError
from cloudformation import DEPLOY, member
from pytest_mock import MockerFixture

from demo import world
from embedded_aws import (
    FOREIGN,
    HUB,
    ORGANIZATION_ID,
    Account,
    EmbeddedAws,
    Key,
    cut,
    seed_bench,
)
from embedded_aws.foreign import CUT_BEHIND_SECRETS

MEMBER = "111111111111"
CONFIG = Config(retries={"total_max_attempts": 1}, read_timeout=30)


def client(
    aws: EmbeddedAws, service: str = "iam", account: str = HUB, role: str = "", region: str = ""
) -> Any:
    given = aws.credentials(account, role or None)
    return boto3.client(
        service,
        region_name=region or aws.partition.region,
        endpoint_url=aws.url,
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=given.get("AWS_SESSION_TOKEN"),
        config=CONFIG,
    )


@pytest.fixture
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as embedded:
        yield embedded
    assert embedded.errors == []


@pytest.fixture
def account(aws: EmbeddedAws) -> Account:
    return aws.account(HUB)


@pytest.fixture
def iam(aws: EmbeddedAws) -> Any:
    return client(aws)


@pytest.fixture
def clock(mocker: MockerFixture) -> Any:
    """The clock of the embedded AWS, and of nothing else: it stands still until it is set."""
    fake = mocker.patch("embedded_aws.clock.time", wraps=time)
    fake.monotonic.return_value = 1000.0
    return fake.monotonic


def rows(text: str | bytes) -> dict[str, dict[str, str]]:
    text = text.decode() if isinstance(text, bytes) else text
    return {row["user"]: row for row in csv.DictReader(io.StringIO(text))}


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_nothing_of_one_instance_is_left_in_the_next() -> None:
    with EmbeddedAws() as first:
        first.account().add_user("alice")
        first.fail("iam.*")
    with EmbeddedAws() as second:
        assert second.account().users() == []
        assert client(second).list_users()["Users"] == []


def test_two_open_at_once_are_refused(aws: EmbeddedAws) -> None:
    with pytest.raises(RuntimeError, match="open in this process"):
        EmbeddedAws().__enter__()


def test_users_come_in_pages(account: Account, iam: Any) -> None:
    for n in range(250):
        account.add_user(f"u{n}", tags={"n": str(n)})
    account.add_role()
    assert len(iam.list_users()["Users"]) == 100
    pages = list(iam.get_paginator("list_users").paginate())
    assert [len(page["Users"]) for page in pages] == [100, 100, 50]
    details = iam.get_paginator("get_account_authorization_details")
    found = [page["UserDetailList"] for page in details.paginate(Filter=["User"], MaxItems=1000)]
    assert [len(page) for page in found] == [250]
    assert found[0][7]["Tags"] == [{"Key": "n", "Value": "7"}]
    assert sum(len(page["RoleDetailList"]) for page in details.paginate()) == 1


def test_a_report_begins_and_ends_and_is_a_snapshot(account: Account, iam: Any, clock: Any) -> None:
    account.aws.report_seconds = 10
    account.add_user("alice", Key(10), Key(200, last_used_days=3, last_used_service="ec2"))
    old = account.keys("alice")[2]
    with pytest.raises(ClientError) as error:
        iam.get_credential_report()
    assert code(error) == "ReportNotPresent"
    assert iam.generate_credential_report()["State"] == "STARTED"
    account.rotate("alice", 2)
    assert iam.generate_credential_report()["State"] == "INPROGRESS"
    with pytest.raises(ClientError) as error:
        iam.get_credential_report()
    assert code(error) == "ReportInProgress"
    clock.return_value += 10
    assert iam.generate_credential_report()["State"] == "COMPLETE"
    found = rows(iam.get_credential_report()["Content"])
    assert list(found) == ["<root_account>", "alice"]
    assert len(found["alice"]) == 23
    assert found["alice"]["access_key_2_last_rotated"] == old.created.isoformat()
    assert found["alice"]["access_key_2_last_used_service"] == "ec2"
    assert found["alice"]["access_key_1_last_used_date"] == "N/A"


def test_an_old_report_expires(account: Account, iam: Any) -> None:
    account.generate_report(age_hours=5)
    with pytest.raises(ClientError) as error:
        iam.get_credential_report()
    assert code(error) == "ReportExpired"
    assert iam.generate_credential_report()["State"] == "STARTED"
    account.set_report("a,b\n", age_hours=3)
    answer = iam.get_credential_report()
    assert answer["Content"] == b"a,b\n"
    age = datetime.now(timezone.utc) - answer["GeneratedTime"]
    assert timedelta(hours=3) <= age < timedelta(hours=3, minutes=1)
    account.set_report_states("INPROGRESS", "STARTED")
    states = [iam.generate_credential_report()["State"] for _ in range(3)]
    assert states == ["INPROGRESS", "STARTED", "COMPLETE"]


def test_a_key_keeps_its_slot_and_a_new_one_takes_the_lowest(account: Account, iam: Any) -> None:
    first = account.add_user("alice", Key(10), Key(200)) and account.key_id("alice", 1)
    second = account.key_id("alice", 2)
    iam.delete_access_key(UserName="alice", AccessKeyId=first)
    assert account.key_id("alice", 2) == second
    row = rows(account.generate_report())["alice"]
    assert (row["access_key_1_active"], row["access_key_1_last_rotated"]) == ("false", "N/A")
    assert row["access_key_2_active"] == "true"
    third = iam.create_access_key(UserName="alice")["AccessKey"]["AccessKeyId"]
    assert account.key_id("alice", 1) == third


def test_dates_are_whole_seconds_and_as_asked_for(account: Account, iam: Any) -> None:
    when = datetime(2026, 5, 1, 10, 0, 1, tzinfo=timezone.utc)
    account.add_user("twins", Key(rotated_at=when), Key(rotated_at=when))
    account.add_user("others", Key(200), Key(200, last_used_days=2))
    dates = [
        key["CreateDate"] for key in iam.list_access_keys(UserName="twins")["AccessKeyMetadata"]
    ]
    assert dates == [when, when]
    keys = account.keys("others")
    assert keys[2].created - keys[1].created == timedelta(seconds=1)
    new = iam.create_access_key(UserName=account.add_user("new"))["AccessKey"]
    assert new["CreateDate"].microsecond == 0
    used = iam.get_access_key_last_used(AccessKeyId=keys[2].access_key_id)
    assert used["AccessKeyLastUsed"]["LastUsedDate"] == keys[2].last_used
    never = iam.get_access_key_last_used(AccessKeyId=keys[1].access_key_id)
    assert "LastUsedDate" not in never["AccessKeyLastUsed"]


def test_hostile_paths_and_tags_survive(account: Account, iam: Any) -> None:
    path, tags = "/<b>\"&,'/", {"<k>": "=cmd|' /C'!A0 & \"<script>\" ä"}
    account.add_user("=1+1", None, Key(200), tags, path)
    user = iam.get_user(UserName="=1+1")["User"]
    assert user["Path"] == path
    assert user["Tags"] == [{"Key": key, "Value": value} for key, value in tags.items()]
    assert rows(account.generate_report())["=1+1"]["arn"] == user["Arn"]


def test_assumed_roles_land_in_their_account(aws: EmbeddedAws) -> None:
    aws.account(MEMBER).add_user("theirs")
    arn = aws.account(MEMBER).add_role()
    assume = client(aws, "sts").assume_role
    given = assume(RoleArn=arn, RoleSessionName="test")["Credentials"]
    member = boto3.client(
        "iam",
        endpoint_url=aws.url,
        region_name="us-east-1",
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    assert [user["UserName"] for user in member.list_users()["Users"]] == ["theirs"]
    assert [call.action for call in aws.account(MEMBER).log] == ["iam.ListUsers"]
    with pytest.raises(ClientError) as error:
        assume(RoleArn=arn + "-none", RoleSessionName="test")
    assert code(error) == "AccessDenied"


@pytest.mark.parametrize(
    ("error", "status"),
    [("Throttling", 400), ("AccessDenied", 403), ("ServiceFailure", 500), ("ExpiredToken", 403)],
)
def test_faults_answer_as_aws_would(account: Account, iam: Any, error: str, status: int) -> None:
    account.add_user("alice")
    account.add_user("bob")
    rule = account.aws.fail("iam.GetUser", error, times=1, skip=1, user="alice")
    iam.get_user(UserName="alice")
    with pytest.raises(ClientError) as raised:
        iam.get_user(UserName="alice")
    assert code(raised) == error
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    iam.get_user(UserName="alice")
    iam.get_user(UserName="bob")
    assert rule.hits == 1


def raw(aws: EmbeddedAws, action: str, account: str = HUB, **params: str) -> Any:
    """(status, headers, body) of a call, as they come over the wire."""
    service, name = action.split(".")
    scope = f"Credential=AKIA0000{account}/20260101/us-east-1/{service}/aws4_request"
    connection = http.client.HTTPConnection(aws.url.removeprefix("http://"), timeout=30)
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 {scope}",
        "Content-Type": "application/x-www-form-urlencoded",
        "Host": f"{service}.amazonaws.com",
    }
    versions = {"iam": "2010-05-08", "sts": "2011-06-15"}
    body = urlencode({"Action": name, "Version": versions[service], **params})
    with closing(connection):
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        try:
            text = answer.read()
        except http.client.IncompleteRead as torn:
            text = torn.partial
        return answer.status, answer.headers, text


ROLE = f"arn:aws:iam::{HUB}:role/c7n-keyrot"
ASSUME = {"RoleArn": ROLE, "RoleSessionName": "test"}
TAG = {"Tags.member.1.Key": "a", "Tags.member.1.Value": "b"}
ALICE = {"UserName": "alice"}


@pytest.mark.parametrize(
    ("action", "params", "code"),
    [
        ("iam.GetUser", ALICE, None),
        ("iam.GetUser", {"UserName": "nobody"}, "NoSuchEntity"),
        ("iam.ListUsers", {}, None),
        ("iam.GetAccountAuthorizationDetails", {}, None),
        ("iam.GetAccountSummary", {}, None),
        ("iam.ListAccountAliases", {}, None),
        ("iam.ListAccessKeys", ALICE, None),
        ("iam.ListAccessKeys", {"UserName": "nobody"}, "NoSuchEntity"),
        ("iam.CreateAccessKey", {"UserName": "bob"}, None),
        ("iam.CreateAccessKey", ALICE, "LimitExceeded"),
        ("iam.GetAccessKeyLastUsed", {"AccessKeyId": "KEY"}, None),
        ("iam.GetAccessKeyLastUsed", {"AccessKeyId": "AKIANONE"}, "NoSuchEntity"),
        ("iam.UpdateAccessKey", {**ALICE, "AccessKeyId": "KEY", "Status": "Inactive"}, None),
        ("iam.UpdateAccessKey", {**ALICE, "AccessKeyId": "AKIANONE"}, "NoSuchEntity"),
        ("iam.DeleteAccessKey", {**ALICE, "AccessKeyId": "KEY"}, None),
        ("iam.DeleteAccessKey", {**ALICE, "AccessKeyId": "AKIANONE"}, "NoSuchEntity"),
        ("iam.ListUserTags", ALICE, None),
        ("iam.TagUser", {**ALICE, **TAG}, None),
        ("iam.TagUser", {"UserName": "nobody", **TAG}, "NoSuchEntity"),
        ("iam.UntagUser", {**ALICE, "TagKeys.member.1": "a"}, None),
        ("iam.GetCredentialReport", {}, "ReportNotPresent"),
        ("iam.GenerateCredentialReport", {}, None),
        ("iam.SimulatePrincipalPolicy", {}, "InvalidAction"),
        ("iam.NoSuchAction", {}, "InvalidAction"),
        ("sts.GetCallerIdentity", {}, None),
        ("sts.AssumeRole", ASSUME, None),
        ("sts.AssumeRole", {**ASSUME, "RoleArn": f"{ROLE}-none"}, "AccessDenied"),
        ("sts.AssumeRole", {**ASSUME, "RoleSessionName": "x" * 65}, "ValidationError"),
    ],
)
def test_every_answer_has_the_form_of_awss(
    account: Account, action: str, params: dict[str, str], code: str | None
) -> None:
    account.add_user("alice", Key(1), Key(2))
    account.add_user("bob")
    account.add_role()
    given = {name: account.key_id("alice", 2) if v == "KEY" else v for name, v in params.items()}
    _, headers, body = raw(account.aws, action, **given)
    check_form(action, headers, body, code)


@pytest.mark.parametrize("error", ["Throttling", "AccessDenied", "ServiceFailure", "Code\nx=1"])
@pytest.mark.parametrize("action", ["iam.GetUser", "sts.AssumeRole"])
def test_injected_errors_have_the_form_of_awss(aws: EmbeddedAws, action: str, error: str) -> None:
    aws.fail(action, error)
    _, headers, body = raw(aws, action)
    check_form(action, headers, body, error)


def check_form(action: str, headers: Any, body: bytes, code: str | None) -> None:
    service, name = action.split(".")
    versions = {"iam": "2010-05-08", "sts": "2011-06-15"}
    space = f"{{https://{service}.amazonaws.com/doc/{versions[service]}/}}"
    root = ElementTree.fromstring(body)
    if code is None:
        assert root.tag == f"{space}{name}Response"
        request_id = root.findtext(f"{space}ResponseMetadata/{space}RequestId")
    else:
        assert root.tag == f"{space}ErrorResponse"
        assert root.findtext(f"{space}Error/{space}Code") == code
        assert root.findtext(f"{space}Error/{space}Message")
        request_id = root.findtext(f"{space}RequestId")
    assert request_id
    assert request_id == headers["x-amzn-requestid"]


def test_a_hook_that_fails_is_an_error_of_awss_form(account: Account) -> None:
    def mistake(_: Any) -> None:
        raise KeyError("x")

    account.aws.before("iam.ListUsers", mistake)
    status, headers, body = raw(account.aws, "iam.ListUsers")
    assert status == 500
    check_form("iam.ListUsers", headers, body, "InternalFailure")
    assert account.aws.errors == ["iam.ListUsers: KeyError('x')"]
    account.aws.errors.clear()


PAGES = [
    ("HTML page", 200, b"<!DOCTYPE html>"),
    ("XHTML page", 200, b"<?xml"),
    ("<ok/>", 200, b"<ok/>"),
    ("JSON", 200, b'{"status"'),
    ("empty", 200, b""),
    ("no content", 204, b""),
    ("redirect", 302, b""),
    ("gzip garbage", 200, b"\x1f\x8b"),
    ("5 MB", 200, b"<!DOCTYPE html>"),
]


def test_the_table_of_foreign_answers_is_tested_whole() -> None:
    assert {name for name, _, _ in PAGES} | {"cut", "torn"} == set(FOREIGN)


@pytest.mark.parametrize("action", ["iam.UpdateAccessKey", "sts.GetCallerIdentity"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("name", "status", "start"), PAGES)
def test_something_else_answers(
    account: Account, action: str, late: bool, name: str, status: int, start: bytes
) -> None:
    """Without a header of AWS's; whether the call is carried out is as asked for."""
    account.add_user("alice", Key(1))
    rule = account.aws.answer(action, FOREIGN[name], times=1, late=late)
    params = {**ALICE, "AccessKeyId": account.key_id("alice", 1), "Status": "Inactive"}
    given, headers, body = raw(account.aws, action, **params)
    assert given == status
    assert body.startswith(start)
    assert bool(body) is bool(start)
    assert not [header for header in headers if header.lower().startswith("x-amz")]
    assert rule.hits == 1
    changed = late and action == "iam.UpdateAccessKey"
    assert account.status("alice", 1) == ("Inactive" if changed else "Active")
    assert raw(account.aws, action, **params)[0] == 200  # once is once


def test_a_foreign_answer_can_have_another_status_and_headers(aws: EmbeddedAws) -> None:
    aws.answer("iam.ListUsers", FOREIGN["HTML page"], status=407, headers={"Via": "1.1 proxy"})
    aws.answer("sts.GetCallerIdentity", b"hello", 502)
    status, headers, body = raw(aws, "iam.ListUsers")
    assert (status, headers["Via"], headers["Content-Type"]) == (407, "1.1 proxy", None)
    assert body == FOREIGN["HTML page"].body
    assert raw(aws, "sts.GetCallerIdentity")[::2] == (502, b"hello")


def test_a_foreign_answer_is_for_the_calls_meant(account: Account) -> None:
    account.add_user("alice")
    account.add_user("bob")
    account.aws.answer("iam.GetUser", FOREIGN["<ok/>"], skip=1, times=2, user="bob", account=HUB)
    names = ["bob", "alice", "bob", "bob", "bob"]
    bodies = [raw(account.aws, "iam.GetUser", UserName=name)[2] for name in names]
    assert [body == b"<ok/>" for body in bodies] == [False, False, True, True, False]


def test_size_and_content_of_the_large_ones(aws: EmbeddedAws) -> None:
    aws.answer("iam.ListUsers", FOREIGN["5 MB"])
    assert 5_000_000 < len(raw(aws, "iam.ListUsers")[2]) < 5_500_000
    aws.heal()
    aws.answer("iam.ListUsers", FOREIGN["gzip garbage"])
    assert raw(aws, "iam.ListUsers")[1]["Content-Encoding"] == "gzip"
    aws.heal()
    aws.answer("iam.ListUsers", FOREIGN["redirect"])
    assert raw(aws, "iam.ListUsers")[1]["Location"].startswith("http://")
    ElementTree.fromstring(FOREIGN["XHTML page"].body)  # a parser of XML takes it


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize(("at", "length"), [(0.5, 0.5), (0.0, 0.0), ("</UserName>", None)])
def test_the_real_answer_is_cut(
    account: Account, at: float | str, length: float | None, torn: bool
) -> None:
    account.add_user("alice", Key(1))
    whole = raw(account.aws, "iam.ListAccessKeys", **ALICE)[2]
    account.aws.answer("iam.ListAccessKeys", cut(at, torn))
    status, headers, body = raw(account.aws, "iam.ListAccessKeys", **ALICE)
    assert status == 200
    assert headers["x-amzn-requestid"]
    if length is None:
        assert body.endswith(b"</UserName>")
    else:
        assert len(body) == int(len(whole) * length)
    assert int(headers["Content-Length"]) == (len(whole) if torn else len(body))


def test_a_cut_error_keeps_its_status(account: Account) -> None:
    account.aws.answer("iam.GetUser", FOREIGN["cut"])
    status, _, body = raw(account.aws, "iam.GetUser", UserName="nobody")
    assert (status, body[:14]) == (404, b"<ErrorResponse")


def test_secrets_stand_in_the_answer_that_is_cut_behind_them(account: Account) -> None:
    account.add_role()
    account.aws.answer("sts.AssumeRole", CUT_BEHIND_SECRETS)
    body = raw(account.aws, "sts.AssumeRole", **ASSUME)[2].decode()
    secrets = account.aws.secrets
    assert len(secrets) == 2
    assert all(secret in body for secret in secrets)
    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring(body)


def listed(account: Account, name: str = "alice") -> dict[str, str]:
    """{key id: status}, as ListAccessKeys shows it."""
    keys = client(account.aws, account=account.id).list_access_keys(UserName=name)
    return {key["AccessKeyId"]: key["Status"] for key in keys["AccessKeyMetadata"]}


def test_listings_lag_behind_each_write(account: Account, iam: Any, clock: Any) -> None:
    account.add_user("alice", Key(10))
    old = account.key_id("alice", 1)
    account.aws.lag(5)
    assert listed(account) == {old: "Active"}
    iam.update_access_key(UserName="alice", AccessKeyId=old, Status="Inactive")
    assert account.status("alice", 1) == "Inactive"
    clock.return_value += 3
    new = iam.create_access_key(UserName="alice")["AccessKey"]["AccessKeyId"]
    assert listed(account) == {old: "Active"}
    clock.return_value += 2  # 5 seconds after the first write
    assert listed(account) == {old: "Inactive"}
    iam.delete_access_key(UserName="alice", AccessKeyId=old)
    clock.return_value += 3  # 5 seconds after the second
    assert listed(account) == {old: "Inactive", new: "Active"}
    clock.return_value += 2
    assert listed(account) == {new: "Active"}
    with pytest.raises(ClientError) as error:
        iam.update_access_key(UserName="alice", AccessKeyId=old, Status="Active")
    assert code(error) == "NoSuchEntity"  # a write knows at once


def test_listings_lag_where_they_are_asked_to(aws: EmbeddedAws, clock: Any) -> None:
    def deactivate(account: Account) -> dict[str, str]:
        account.add_user("alice", Key(10))
        key_id = account.key_id("alice", 1)
        iam = client(aws, account=account.id)
        iam.update_access_key(UserName="alice", AccessKeyId=key_id, Status="Inactive")
        return listed(account)

    aws.lag(5, account=MEMBER)
    hub, member = aws.account(HUB), aws.account(MEMBER)
    assert list(deactivate(hub).values()) == ["Inactive"]
    assert list(deactivate(member).values()) == ["Active"]
    aws.heal()
    assert list(listed(member).values()) == ["Inactive"]
    member.set_status("alice", 1, "Active")  # by no call: seen at once
    aws.lag(5)
    assert list(listed(member).values()) == ["Active"]


def test_listings_lag_when_the_answer_of_the_write_is_lost(account: Account, clock: Any) -> None:
    account.add_user("alice", Key(10))
    account.aws.lag(5)
    account.aws.answer("iam.UpdateAccessKey", FOREIGN["HTML page"], 502, late=True)
    key_id = account.key_id("alice", 1)
    raw(account.aws, "iam.UpdateAccessKey", **ALICE, AccessKeyId=key_id, Status="Inactive")
    assert listed(account) == {key_id: "Active"}
    clock.return_value += 5
    assert listed(account) == {key_id: "Inactive"}


@pytest.mark.parametrize("error", ["reset", "stall"])
@pytest.mark.parametrize("late", [False, True])
def test_connections_break(account: Account, iam: Any, error: str, late: bool) -> None:
    account.add_user("alice", Key(1))
    account.aws.fail("iam.UpdateAccessKey", error, late=late, seconds=0.1)
    with pytest.raises((ConnectionError, HTTPClientError)):
        iam.update_access_key(
            UserName="alice", AccessKeyId=account.key_id("alice", 1), Status="Inactive"
        )
    assert account.status("alice", 1) == ("Inactive" if late else "Active")


def test_hooks_run_in_between(account: Account, iam: Any) -> None:
    account.add_user("alice", None, Key(200))
    key_id = account.key_id("alice", 2)
    account.aws.before(
        "iam.UpdateAccessKey", lambda call: account.delete_key("alice", 2), user="alice"
    )
    seen: list[str | None] = []
    account.aws.after("iam.ListAccessKeys", lambda call: seen.append(call.user))
    iam.list_access_keys(UserName="alice")
    with pytest.raises(ClientError) as error:
        iam.update_access_key(UserName="alice", AccessKeyId=key_id, Status="Inactive")
    assert code(error) == "NoSuchEntity"
    assert seen == ["alice"]


def test_above_its_limit_it_throttles(account: Account, iam: Any, clock: Any) -> None:
    def answers(calls: int) -> list[str]:
        codes = []
        for _ in range(calls):
            try:
                codes.append(str(len(iam.list_users()["Users"])))
            except ClientError as error:
                codes.append(error.response["Error"]["Code"])
        return codes

    account.aws.limit(5)
    assert answers(8) == ["0"] * 5 + ["Throttling"] * 3
    clock.return_value += 0.5
    assert answers(4) == ["0"] * 2 + ["Throttling"] * 2


def test_time_passes(account: Account, iam: Any) -> None:
    tags = {"keyrot-exempt-until": "2027-03-31", "c7n": "x: notify@2027/03/01"}
    account.add_user("alice", None, Key(80, last_used_days=1), tags)
    account.generate_report()
    before = account.keys("alice")[2]
    account.aws.move_clock(days=20)
    after = account.keys("alice")[2]
    assert before.created - after.created == timedelta(days=20)
    assert account.expected() == {"alice": after.access_key_id}
    assert account.tags("alice") == {
        "keyrot-exempt-until": "2027-03-11",
        "c7n": "x: notify@2027/02/09",
    }
    assert iam.generate_credential_report()["State"] == "STARTED"


def test_roles_are_held_to_their_policies(aws: EmbeddedAws) -> None:
    account = aws.account(MEMBER)
    account.add_user("alice", Key(1))
    account.add_user("root-ish", Key(1), path="/break-glass/")
    allow = {
        "Effect": "Allow",
        "Action": ["iam:ListAccessKeys", "iam:Get*"],
        "Resource": f"arn:aws:iam::{MEMBER}:user/*",
    }
    deny = {
        "Effect": "Deny",
        "Action": "iam:GetUser",
        "Resource": f"arn:aws:iam::{MEMBER}:user/break-glass/*",
    }
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": f"arn:aws:iam::{HUB}:root"},
        "Condition": {"StringEquals": {"sts:ExternalId": "right"}},
    }
    arn = account.add_role("r", {"Statement": [allow, deny]}, {"Statement": [trust]})
    aws.enforce()
    iam = client(aws, "iam", MEMBER, "r")
    iam.list_access_keys(UserName="alice")
    iam.get_user(UserName="alice")
    for refused in (
        lambda: iam.list_users(),
        lambda: iam.get_user(UserName="root-ish"),
        lambda: client(aws, "sts").assume_role(
            RoleArn=arn, RoleSessionName="test", ExternalId="wrong"
        ),
    ):
        with pytest.raises(ClientError, match="not authorized to perform") as error:
            refused()
        assert code(error) == "AccessDenied"
    client(aws, "sts").assume_role(RoleArn=arn, RoleSessionName="test", ExternalId="right")


def allowed(call: Any, **params: Any) -> bool:
    """Whether AWS lets it through, whatever comes of it."""
    try:
        call(**params)
    except ClientError as error:
        return error.response["Error"]["Code"] not in ("AccessDenied", "AccessDeniedException")
    return True


def test_a_role_may_what_the_default_versions_of_its_attached_policies_allow(
    account: Account, iam: Any
) -> None:
    def document(action: str) -> str:
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    account.add_role("r", {"Statement": []})
    account.aws.enforce()
    role = client(account.aws, role="r")
    assert not allowed(role.list_users)
    made = iam.create_policy(PolicyName="p", PolicyDocument=document("iam:ListUsers"))["Policy"]
    assert not allowed(role.list_users)
    iam.attach_role_policy(RoleName="r", PolicyArn=made["Arn"])
    assert allowed(role.list_users)
    iam.create_policy_version(
        PolicyArn=made["Arn"], PolicyDocument=document("iam:ListRoles"), SetAsDefault=True
    )
    assert not allowed(role.list_users)
    assert allowed(role.list_roles)


STACK = {"OrganizationId": ORGANIZATION_ID, "FromAddress": "keys@example.com"}


def test_roles_of_a_stack_are_held_to_its_policies(account: Account) -> None:
    """Each may do its own work, and not that of the other."""
    outputs = account.deploy("hub", DEPLOY / "hub.yml", **STACK)
    assert outputs["QueueUrl"].endswith("/c7n-keyrot")
    account.add_role("runner", {"Statement": []})
    client(account.aws).attach_role_policy(RoleName="runner", PolicyArn=outputs["RunnerPolicyArn"])
    client(account.aws, "ses").verify_domain_identity(Domain="example.com")
    account.aws.enforce()
    queue = {"QueueUrl": outputs["QueueUrl"]}

    def may(role: str) -> set[str]:
        sqs, ses = (client(account.aws, service, role=role) for service in ("sqs", "ses"))
        mail = "To: ana@example.com\nSubject: s\n\ntext"
        calls = {
            "send": lambda: allowed(sqs.send_message, **queue, MessageBody="x"),
            "receive": lambda: allowed(sqs.receive_message, **queue),
            "mail": lambda: allowed(
                ses.send_raw_email, RawMessage={"Data": f"From: keys@example.com\n{mail}"}
            ),
            "mail as another": lambda: allowed(
                ses.send_raw_email, RawMessage={"Data": f"From: ceo@example.com\n{mail}"}
            ),
            "list users": lambda: allowed(client(account.aws, role=role).list_users),
        }
        return {name for name, call in calls.items() if call()}

    assert may("runner") == {"send"}
    # It puts back a notice whose mails wait.
    assert may("c7n-keyrot-mailer") == {"receive", "send", "mail"}


def test_a_stack_is_updated_by_a_condition_of_its_template(account: Account) -> None:
    account.add_user("alice", Key(1))
    trusted = {"HubAccountId": HUB, "ExternalId": "right"}
    account.deploy("member", DEPLOY / "member-role.yml", **trusted)
    account.aws.enforce()
    role = client(account.aws, role="c7n-keyrot")
    key = {"UserName": "alice", "AccessKeyId": account.key_id("alice", 1), "Status": "Inactive"}
    assert allowed(role.list_access_keys, UserName="alice")
    assert not allowed(role.update_access_key, **key)
    account.deploy("member", DEPLOY / "member-role.yml", **trusted, Mode="enforcing")
    assert allowed(role.update_access_key, **key)
    assert not allowed(role.tag_user, UserName="alice", Tags=[{"Key": "a", "Value": "b"}])


def test_a_stack_set_forgets_the_parameters_that_an_update_does_not_name(aws: EmbeddedAws) -> None:
    """As AWS does: what isn't named has the template's default again, also in the stacks."""
    cloudformation = client(aws, "cloudformation")
    text = (DEPLOY / "member-role.yml").read_text("utf-8")
    given = {"HubAccountId": HUB, "ExternalId": "right", "ProtectedPath": "/break-glass/"}
    cloudformation.create_stack_set(
        StackSetName="roles",
        TemplateBody=text,
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )

    def update(*names: str) -> dict[str, str]:
        cloudformation.update_stack_set(
            StackSetName="roles",
            TemplateBody=text,
            Parameters=[{"ParameterKey": name, "UsePreviousValue": True} for name in names],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        found = cloudformation.describe_stack_set(StackSetName="roles")["StackSet"]["Parameters"]
        return {one["ParameterKey"]: one.get("ParameterValue", "") for one in found}

    kept = update(*given, "RoleName")  # RoleName was never given: it had the default before
    assert (kept["ProtectedPath"], kept["RoleName"]) == ("/break-glass/", "c7n-keyrot")
    assert update("HubAccountId", "ExternalId")["ProtectedPath"] == ""


@pytest.mark.parametrize("mode", ["read-only", "enforcing"])
@pytest.mark.parametrize("example", ["none", "graceful-rollout", "superseded-first"])
@pytest.mark.parametrize("path", ["", "/break-glass/"])
def test_stacks_are_what_the_templates_say(
    account: Account, mode: str, example: str, path: str
) -> None:
    """By moto's reading of them, and by that of the tests of deploy/."""
    given = {"Example": example, "ProtectedPath": path}
    more = {"HubAccountId": HUB, "ExternalId": "c7n-keyrot-2f6c1d", "Mode": mode}
    account.deploy("member", DEPLOY / "member-role.yml", **given, **more)
    (role,) = account.backend.roles.values()
    wanted = member(HUB, HUB, mode, **given)
    assert [json.loads(policy) for policy in role.policies.values()] == [wanted["policy"]]
    assert json.loads(role.assume_role_policy_document) == wanted["trust"]


@pytest.mark.parametrize(
    ("name", "region", "others", "suffix"),
    [
        ("aws", "us-east-1", "us-gov-west-1", "amazonaws.com"),
        ("aws-cn", "cn-north-1", "us-east-1", "amazonaws.com.cn"),
        ("aws-us-gov", "us-gov-west-1", "cn-northwest-1", "amazonaws.com"),
    ],
)
def test_partitions(name: str, region: str, others: str, suffix: str) -> None:
    """Each has its region and ARNs, and takes no call that is signed for another one's region."""
    with EmbeddedAws(partition=name) as aws:
        account = aws.account(HUB)
        account.add_user("alice", Key(1, last_used_days=1))
        iam = client(aws)
        user = iam.get_user(UserName="alice")["User"]
        assert user["Arn"] == account.arn("alice") == f"arn:{name}:iam::{HUB}:user/alice"
        report = rows(account.generate_report())
        assert report["alice"]["arn"] == user["Arn"]
        assert report["alice"]["access_key_1_last_used_region"] == region
        assert report["<root_account>"]["arn"] == f"arn:{name}:iam::{HUB}:root"
        role = aws.account(MEMBER).add_role()
        assert role == f"arn:{name}:iam::{MEMBER}:role/c7n-keyrot"
        given = client(aws, "sts").assume_role(RoleArn=role, RoleSessionName="test")
        assert given["AssumedRoleUser"]["Arn"].startswith(f"arn:{name}:sts::{MEMBER}:assumed-role/")
        assert len(aws.secrets) == 2
        who = client(aws, "sts", MEMBER, "c7n-keyrot").get_caller_identity()
        assert (who["Account"], who["Arn"].split(":")[1]) == (MEMBER, name)
        outputs = account.deploy("hub", DEPLOY / "hub.yml", **STACK)
        assert outputs["QueueArn"] == f"arn:{name}:sqs:{region}:{HUB}:c7n-keyrot"
        assert outputs["QueueUrl"] == f"https://sqs.{region}.{suffix}/{HUB}/c7n-keyrot"
        assert outputs["MailerRoleArn"] == f"arn:{name}:iam::{HUB}:role/c7n-keyrot-mailer"
        assert aws.env()["AWS_DEFAULT_REGION"] == region
        aws.fail("iam.ListUsers", "AccessDenied", times=1)
        with pytest.raises(ClientError, match=f"User: arn:{name}:iam"):
            iam.list_users()
        for refused in (
            lambda: client(aws, region=others).list_users(),
            lambda: client(aws, "sts", region=others).get_caller_identity(),
        ):
            with pytest.raises(ClientError) as error:
                refused()
            assert code(error) == "InvalidClientTokenId"
        assert aws.errors == []


def test_a_role_of_another_partition_cannot_be_taken() -> None:
    with EmbeddedAws(partition="aws-cn") as aws:
        arn = aws.account(MEMBER).add_role()
        with pytest.raises(ClientError) as error:
            client(aws, "sts").assume_role(
                RoleArn=arn.replace("aws-cn", "aws"), RoleSessionName="test"
            )
        assert code(error) == "AccessDenied"


@pytest.mark.parametrize("organization", [False, True])
def test_a_queue_takes_from_other_accounts_as_its_policy_says(
    aws: EmbeddedAws, organization: bool
) -> None:
    url = aws.create_queue("notices", organization=organization)
    body = base64.b64encode(zlib.compress(json.dumps({"a": 1}).encode())).decode()
    send = client(aws, "sqs", MEMBER).send_message
    if organization:
        send(QueueUrl=url, MessageBody=body)
        assert aws.messages("notices") == [{"a": 1}]
    else:
        with pytest.raises(ClientError) as error:
            send(QueueUrl=url, MessageBody=body)
        assert code(error) == "AccessDenied"


def test_an_unknown_action_is_no_failure_of_the_server(iam: Any) -> None:
    with pytest.raises(ClientError) as error:
        iam.simulate_principal_policy(PolicySourceArn="arn:aws:iam::1:user/x", ActionNames=["a:b"])
    assert code(error) == "InvalidAction"


def test_the_people_are_what_the_table_says(account: Account) -> None:
    table = world.seed_account(account)
    keys = {person.name: account.keys(person.name) for person in table}
    assert {p.verdict for p in table} == {
        "absent",
        "inactive",
        "fresh",
        "expiring",
        "stale",
        "unknown",
    }
    gone = {p.name for p in table if p.rotated_since} | {"tomas"}
    expected = {p.name for p in table if p.verdict == "stale"} - gone
    assert set(account.expected()) - gone == expected
    assert list(keys["emre"]) == [2]
    assert len({key.created for key in keys["lena"].values()}) == 1


def test_the_benchmark_has_so_many_to_find(account: Account) -> None:
    find = seed_bench(account, 500, 40)
    assert len(find) == 40
    assert find == account.expected()
    dates = [key.created for key in account.live_keys()]
    assert len(dates) == len(set(dates))


# CloudTrail's event history


def lookup(aws: EmbeddedAws, key: str, region: str = "us-east-1", **more: Any) -> dict[str, Any]:
    attribute = {"AttributeKey": "AccessKeyId", "AttributeValue": key}
    found: dict[str, Any] = client(aws, "cloudtrail", region=region).lookup_events(
        LookupAttributes=[attribute], **more
    )
    return found


def test_the_event_history_has_a_keys_calls_of_a_region_the_latest_first(
    aws: EmbeddedAws, account: Account
) -> None:
    account.add_user("ana", Key(), Key())
    account.record_call("ana", 2, times=2)
    account.record_call("ana", 2, "iam:GetUser", "10.0.0.1", minutes_ago=1, error="AccessDenied")
    account.record_call("ana", 2, region="eu-west-1")
    account.record_call("ana", 1)
    answer = lookup(aws, account.key_id("ana", 2))
    names = [event["EventName"] for event in answer["Events"]]
    assert names == ["GetUser", "ListBuckets", "ListBuckets"]
    latest = answer["Events"][0]
    assert (latest["EventSource"], latest["Username"]) == ("iam.amazonaws.com", "ana")
    assert latest["AccessKeyId"] == account.key_id("ana", 2)
    assert datetime.now(timezone.utc) - latest["EventTime"] < timedelta(minutes=2)
    detail = json.loads(latest["CloudTrailEvent"])
    assert (detail["sourceIPAddress"], detail["errorCode"]) == ("10.0.0.1", "AccessDenied")
    assert detail["userIdentity"]["accessKeyId"] == account.key_id("ana", 2)
    assert "NextToken" not in answer
    aws.move_clock(1)
    (later,) = lookup(aws, account.key_id("ana", 2), "eu-west-1")["Events"]
    assert datetime.now(timezone.utc) - later["EventTime"] > timedelta(days=1)


def test_the_event_history_comes_in_pages_of_fifty(
    aws: EmbeddedAws, account: Account, mocker: MockerFixture
) -> None:
    at_will(mocker)
    account.add_user("ana", slot2=Key())
    account.record_call("ana", 2, times=60)
    key, now = account.key_id("ana", 2), datetime.now(timezone.utc)
    first = lookup(aws, key, EndTime=now)
    assert len(first["Events"]) == 50
    token = first["NextToken"]
    rest = lookup(aws, key, EndTime=now, NextToken=token)
    assert len(rest["Events"]) == 10
    assert "NextToken" not in rest
    for wrong in ({"NextToken": token}, {"NextToken": token, "EndTime": now, "MaxResults": 9}):
        assert error_of(lambda more=wrong: lookup(aws, key, **more)) == "InvalidNextTokenException"


def error_of(call: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def at_will(mocker: MockerFixture) -> None:
    """A clock on which limits never end: each look is a minute later."""
    ticks = iter(range(0, 60_000, 60))
    mocker.patch("embedded_aws.event_history.monotonic", side_effect=ticks)


def test_the_event_history_is_of_a_time_and_what_is_late_comes_later(
    aws: EmbeddedAws, account: Account, mocker: MockerFixture
) -> None:
    at_will(mocker)
    account.add_user("ana", slot2=Key())
    key, now = account.key_id("ana", 2), datetime.now(timezone.utc)
    for minutes in (1, 120, 91 * 24 * 60):
        account.record_call("ana", 2, minutes_ago=minutes)
    account.record_call("ana", 2, "iam:GetUser", minutes_ago=10, late_minutes=15)
    assert len(lookup(aws, key)["Events"]) == 2  # of 90 days
    hour = timedelta(hours=1)
    assert len(lookup(aws, key, StartTime=now - hour)["Events"]) == 1
    assert len(lookup(aws, key, StartTime=now - 3 * hour, EndTime=now - hour)["Events"]) == 1
    wrong = error_of(lambda: lookup(aws, key, StartTime=now, EndTime=now - hour))
    assert wrong == "InvalidTimeRangeException"
    aws.history.shift(timedelta(minutes=5))
    assert len(lookup(aws, key)["Events"]) == 3


def test_the_event_history_is_asked_twice_a_second_in_an_account_and_region(
    aws: EmbeddedAws, mocker: MockerFixture
) -> None:
    now = mocker.patch("embedded_aws.event_history.monotonic", return_value=100.0)
    lookup(aws, "AKIA1")
    lookup(aws, "AKIA2")
    assert error_of(lambda: lookup(aws, "AKIA3")) == "ThrottlingException"
    lookup(aws, "AKIA3", "eu-west-1")
    now.return_value = 100.5
    lookup(aws, "AKIA3")
    assert error_of(lambda: lookup(aws, "AKIA3")) == "ThrottlingException"


def test_a_role_needs_a_permission_for_the_event_history(
    aws: EmbeddedAws, account: Account
) -> None:
    account.add_role("r", member(HUB, HUB)["policy"])
    account.add_role("s", member(HUB, HUB, Usage="true")["policy"])
    aws.enforce()

    def ask(role: str) -> Any:
        return client(aws, "cloudtrail", role=role).lookup_events()

    assert error_of(lambda: ask("r")) == "AccessDeniedException"
    assert ask("s")["Events"] == []
