# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each filter that Custodian has for users, beside ours: what it couldn't ask acts on no key.

Custodian itself runs the policies, over HTTP, with real clients of boto3; its pauses are left out.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from c7n.exceptions import PolicyExecutionError
from c7n.resolver import ValuesFrom
from c7n.resources import load_resources
from in_memory import Custodian, Iam

from c7n_keyrot.aws import gate
from c7n_keyrot.custodian import shared_report, stock_filters
from embedded_aws import FOREIGN, HUB, Account, EmbeddedAws, Key
from embedded_aws.foreign import Foreign

USERS = ("ana", "bob", "cleo", "dora")
ARN = f"arn:aws:iam::{HUB}:user/"
STALE = {"type": "stale-access-key"}
IAM = "https://iam.amazonaws.com/doc/2010-05-08/"


def xml(operation: str, result: str) -> Foreign:
    """An answer of IAM, where moto has none."""
    return Foreign(
        f'<{operation}Response xmlns="{IAM}"><{operation}Result>{result}</{operation}Result>'
        f"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{operation}Response>".encode()
    )


def of_json(answer: Any) -> Foreign:
    return Foreign(json.dumps(answer).encode(), headers={"x-amzn-RequestId": "r"})


@dataclass(frozen=True)
class Row:
    """A filter, and what it needs of AWS.

    ``calls``: those that it can't do without; ``answers``: where moto has none, by the user that
    they are about, or ""; ``yes``: for whom it is true; ``by_user``: each call is about one user;
    ``ends``: an error ends the policy.
    """

    element: dict[str, Any]
    calls: tuple[str, ...]
    yes: frozenset[str] = frozenset({"bob"})
    answers: dict[tuple[str, str], Foreign] = field(default_factory=dict)
    by_user: bool = True
    ends: bool = True
    source: str = "credential-report"


CREDENTIAL = (
    "<ServiceSpecificCredentials><member><UserName>bob</UserName><Status>Active</Status>"
    "<ServiceUserName>s</ServiceUserName><CreateDate>2026-01-01T00:00:00Z</CreateDate>"
    "<ServiceSpecificCredentialId>ACCA1</ServiceSpecificCredentialId>"
    "<ServiceName>codecommit.amazonaws.com</ServiceName></member></ServiceSpecificCredentials>"
)
SERVICE = (
    "<JobStatus>COMPLETED</JobStatus><JobCreationDate>2026-01-01T00:00:00Z</JobCreationDate>"
    "<JobCompletionDate>2026-01-01T00:00:00Z</JobCompletionDate><ServicesLastAccessed><member>"
    "<ServiceName>x</ServiceName><ServiceNamespace>{}</ServiceNamespace></member>"
    "</ServicesLastAccessed>"
)
DECISION = (
    "<IsTruncated>false</IsTruncated><EvaluationResults><member><EvalActionName>iam:X"
    "</EvalActionName><EvalDecision>{}</EvalDecision></member></EvaluationResults>"
)
EVALUATION = {
    "EvaluationResultIdentifier": {
        "EvaluationResultQualifier": {"ResourceType": "AWS::IAM::User", "ResourceId": "bob"}
    }
}
OPS_ITEM = {
    "OpsItemId": "oi-1",
    "OperationalData": {"/aws/resources": {"Value": json.dumps([{"arn": f"{ARN}bob"}])}},
}
LIST = {"url": "s3://lists/keep.txt"}

ROWS = {
    "group": Row({"key": "GroupName", "value": "KeepKeys"}, ("iam.ListGroupsForUser",), ends=False),
    "has-inline-policy": Row({}, ("iam.ListUserPolicies",)),
    "policy": Row(
        {"key": "PolicyName", "value": "keep", "include-via": True},
        ("iam.ListAttachedUserPolicies", "iam.ListGroupsForUser"),
    ),
    "access-key": Row({"key": "UserName", "value": "bob"}, ("iam.ListAccessKeys",)),
    "ssh-key": Row({"key": "Status", "value": "Active"}, ("iam.ListSSHPublicKeys",)),
    "login-profile": Row({}, ("iam.GetLoginProfile",)),
    "mfa-device": Row({"value": "not-null"}, ("iam.ListMFADevices",)),
    "service-specific-credentials": Row(
        {"key": "Status", "value": "Active"},
        ("iam.ListServiceSpecificCredentials",),
        answers={
            ("iam.ListServiceSpecificCredentials", ""): xml(
                "ListServiceSpecificCredentials", CREDENTIAL
            )
        },
        by_user=False,
    ),
    "credential": Row(
        {"key": "user", "value": "bob"},
        ("iam.GetCredentialReport",),
        by_user=False,
    ),
    "usage": Row(
        {"ServiceNamespace": "s3", "match-operator": "any", "poll-delay": 0},
        ("iam.GenerateServiceLastAccessedDetails", "iam.GetServiceLastAccessedDetails"),
        answers={
            ("iam.GenerateServiceLastAccessedDetails", user): xml(
                "GenerateServiceLastAccessedDetails", f"<JobId>{user:-<36}</JobId>"
            )
            for user in USERS
        }
        | {
            ("iam.GetServiceLastAccessedDetails", user): xml(
                "GetServiceLastAccessedDetails", SERVICE.format("s3" if user == "bob" else "ec2")
            )
            for user in USERS
        },
    ),
    "check-permissions": Row(
        {"match": "allowed", "actions": ["iam:X"]},
        ("iam.SimulatePrincipalPolicy",),
        answers={
            ("iam.SimulatePrincipalPolicy", user): xml(
                "SimulatePrincipalPolicy",
                DECISION.format("allowed" if user == "bob" else "implicitDeny"),
            )
            for user in USERS
        },
    ),
    "config-compliance": Row(
        {"rules": ["keep"]},
        ("config.GetComplianceDetailsByConfigRule",),
        answers={
            ("config.GetComplianceDetailsByConfigRule", ""): of_json(
                {"EvaluationResults": [EVALUATION]}
            )
        },
        by_user=False,
    ),
    "ops-item": Row(
        {},
        ("ssm.DescribeOpsItems",),
        answers={("ssm.DescribeOpsItems", ""): of_json({"OpsItemSummaries": [OPS_ITEM]})},
        by_user=False,
    ),
    "finding": Row(
        {},
        ("securityhub.POST /findings",),
        yes=frozenset(USERS),
        answers={("securityhub.POST /findings", ""): of_json({"Findings": [{"Id": "f"}]})},
        by_user=False,
    ),
    "value": Row(
        {"key": "UserName", "op": "in", "value_from": LIST},
        ("s3.GET /*",),
        by_user=False,
        source="describe",
    ),
}
# They ask nobody, but for a list: a value_from in them is read as in the filter value.
SILENT = {"and", "or", "not", "event", "list-item", "marked-for-op", "reduce"}


def test_each_filter_of_custodians_is_in_the_table() -> None:
    load_resources({"aws.iam-user"})
    from c7n.resources.iam import User

    theirs = {
        name
        for name, klass in User.filter_registry.items()
        if not stock_filters.is_ours(klass.__new__(klass))
    }
    new = theirs - ROWS.keys() - SILENT
    assert not new, (
        f"Custodian has new filters for users: {', '.join(sorted(new))}. Add a row with the calls "
        "that each makes to ROWS, or its name to SILENT if it makes none; and allow the calls in "
        "deploy/member-role.yml (StockFilters) and in c7n_keyrot/cli/doctor/permissions.py"
    )
    assert SILENT | ROWS.keys() <= theirs


def client(aws: EmbeddedAws, service: str) -> Any:
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=aws.url,
        aws_access_key_id=f"AKIA0000{HUB}",
        aws_secret_access_key="not-a-secret",
    )


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as embedded:
        account = embedded.account()
        for name in USERS:
            account.add_user(name, slot2=Key(age_days=200))
        account.generate_report()
        made = client(embedded, "iam")
        made.create_group(GroupName="KeepKeys")
        made.add_user_to_group(GroupName="KeepKeys", UserName="bob")
        statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        made.put_user_policy(UserName="bob", PolicyName="keep", PolicyDocument=document)
        keep = made.create_policy(PolicyName="keep", PolicyDocument=document)["Policy"]["Arn"]
        made.attach_user_policy(UserName="bob", PolicyArn=keep)
        made.upload_ssh_public_key(UserName="bob", SSHPublicKeyBody="ssh-rsa AAAA")
        made.create_login_profile(UserName="bob", Password="not-A-secret-1")
        device = made.create_virtual_mfa_device(VirtualMFADeviceName="bob")["VirtualMFADevice"]
        made.enable_mfa_device(
            UserName="bob",
            SerialNumber=device["SerialNumber"],
            AuthenticationCode1="123456",
            AuthenticationCode2="654321",
        )
        embedded.create_bucket("lists")
        client(embedded, "s3").put_object(Bucket="lists", Key="keep.txt", Body=b"bob\n")
        yield embedded


class Session(boto3.Session):
    """As Custodian's own: a client is made once."""

    made: dict[str, Any]

    def client(self, service_name: str, *args: Any, **more: Any) -> Any:
        made = vars(self).setdefault("made", {})
        if "config" in more:
            return super().client(service_name, *args, **more)
        if service_name not in made:
            made[service_name] = super().client(service_name)
        return made[service_name]


@pytest.fixture(scope="module")
def session(aws: EmbeddedAws) -> Session:
    given = aws.credentials()
    return Session(
        given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
    )


@pytest.fixture
def custodian(
    aws: EmbeddedAws, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Custodian]:
    """Custodian on the embedded AWS, which tries each call once, and whose pauses take no time."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(gate, "CALLS", Config(retries={"total_max_attempts": 1}))
    nothing = SimpleNamespace(sleep=lambda _: None, time=time.time)
    for module in ("c7n.utils", "c7n.resources.iam"):
        monkeypatch.setattr(f"{module}.time", nothing, raising=False)
    account = aws.account()
    for name in USERS:
        account.set_status(name, 2, "Active")
    made = Custodian(Iam(), tmp_path)
    made.session = session  # type: ignore[assignment]
    yield made
    aws.heal()


def about(user: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a call names the user: by name, ARN, or the id of a job in this table."""
    named = re.compile(rf"({re.escape(ARN)})?{user}-*")
    return lambda params: any(named.fullmatch(str(value)) for value in params.values())


def prepare(aws: EmbeddedAws, row: Row) -> None:
    for (call, user), answer in row.answers.items():
        aws.answer(call, answer, when=about(user) if user else None)


def fault(aws: EmbeddedAws, call: str, what: str, user: str | None) -> None:
    when = about(user) if user else None
    if what in FOREIGN:
        aws.answer(call, FOREIGN[what], when=when)
    elif call:
        aws.fail(call, what, when=when)


def filters(name: str, row: Row, negated: bool) -> list[Any]:
    element = {"type": name, **row.element}
    # Before ours, which would list the keys for Custodian's access-key as well.
    return [{"not": [element]} if negated else element, STALE]


def outcomes(custodian: Custodian) -> dict[str, str]:
    path = custodian.outcomes
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["user"]: line["outcome"] for line in map(json.loads, lines)}


def off(account: Account) -> set[str]:
    return {name for name in USERS if account.status(name, 2) == "Inactive"}


@pytest.mark.parametrize("negated", [True, False], ids=["in not", "outside"])
@pytest.mark.parametrize("name", ROWS)
def test_whoever_could_not_be_asked_is_left(
    aws: EmbeddedAws,
    custodian: Custodian,
    told: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
    name: str,
    negated: bool,
) -> None:
    row, account = ROWS[name], aws.account()
    wanted = set(USERS) - row.yes if negated else set(row.yes)
    cases: list[tuple[str, str, str | None]] = [("", "", "")]
    for call in row.calls:
        cases += [(call, what, None) for what in ("AccessDenied", "XHTML page")]
        if row.by_user:
            cases += [(call, what, "ana") for what in ("Throttling", "HTML page", "XHTML page")]
            cases += [(call, "AccessDenied", "bob")]
    for case in cases:
        call, _, user = case
        for one in USERS:
            account.set_status(one, 2, "Active")
        custodian.outcomes.unlink(missing_ok=True)
        caplog.clear()
        shared_report.reports.clear()
        aws.heal()
        fault(aws, *case)
        prepare(aws, row)
        raised = ""
        try:
            custodian.run(filters(name, row, negated), ["disable-access-key"], source=row.source)
        except PolicyExecutionError as error:
            raised = str(error)
        if not call:
            assert (raised, off(account)) == ("", wanted)
            continue
        asked = call.replace(".", ":").replace("GET /*", "GetObject")
        asked = asked.replace("POST /findings", "GetFindings")
        assert asked in raised, case
        assert asked in "\n".join(told()), case
        doubtful = {user} if user else set(USERS)
        if row.ends:
            assert off(account) == set(), case
        else:
            assert off(account) == wanted - doubtful, case
            done = dict.fromkeys(wanted, "disabled") | dict.fromkeys(doubtful, "skipped")
            assert outcomes(custodian) == done, case


# What the table's short policies don't show

GROUP = {"type": "group", "key": "GroupName", "value": "KeepKeys"}
LISTING = "iam.ListGroupsForUser"
NOBODY = {"tag:team": "nobody"}


def act(custodian: Custodian, *chosen: Any, actions: Any = ("disable-access-key",)) -> str:
    """Run a policy; return its error, "" without one."""
    try:
        custodian.run(chosen, actions)
    except PolicyExecutionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("tree", "wanted"),
    [
        ({"not": [{"not": [GROUP]}]}, {"bob"}),
        ({"not": [{"or": [GROUP, NOBODY]}]}, {"cleo", "dora"}),
        ({"not": [{"and": [GROUP, {"not": [NOBODY]}]}]}, {"cleo", "dora"}),
        ({"or": [GROUP, NOBODY]}, {"bob"}),
        ({"or": [NOBODY, {"not": [GROUP]}]}, {"cleo", "dora"}),
        ({"and": [GROUP, {"not": [NOBODY]}]}, {"bob"}),
        ({"and": [{"not": [GROUP]}, {"not": [GROUP]}]}, {"cleo", "dora"}),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
def test_whoever_is_in_doubt_stays_in_the_result_of_any_tree(
    aws: EmbeddedAws, custodian: Custodian, first: bool, tree: Any, wanted: set[str]
) -> None:
    aws.fail(LISTING, "AccessDenied", user="ana")
    raised = act(custodian, *([tree, STALE] if first else [STALE, tree]))
    assert raised == (
        "user 'ana': the filter group has no answer, iam:ListGroupsForUser is denied (AccessDenied)"
    )
    assert off(aws.account()) == wanted
    assert outcomes(custodian) == dict.fromkeys(wanted, "disabled") | {"ana": "skipped"}


def test_what_a_later_filter_knows_of_a_doubtful_user_still_counts(
    aws: EmbeddedAws, custodian: Custodian
) -> None:
    aws.fail(LISTING, "AccessDenied", user="ana")
    assert act(custodian, {"not": [GROUP]}, NOBODY, STALE)
    assert outcomes(custodian) == {}


def test_a_call_that_succeeds_in_the_end_is_no_doubt(
    aws: EmbeddedAws, custodian: Custodian
) -> None:
    aws.fail("iam.ListSSHPublicKeys", "Throttling", times=3)
    assert (
        act(custodian, {"not": [{"type": "ssh-key", "key": "Status", "value": "Active"}]}, STALE)
        == ""
    )
    assert off(aws.account()) == {"ana", "cleo", "dora"}


def test_that_there_is_none_is_an_answer_and_those_behind_are_asked(
    aws: EmbeddedAws, custodian: Custodian
) -> None:
    """Such as of a user who was deleted meanwhile; the error ends Custodian's work on a chunk."""
    aws.fail(LISTING, "NoSuchEntity", user="ana")
    assert act(custodian, {"not": [GROUP]}, STALE) == ""
    assert off(aws.account()) == {"ana", "cleo", "dora"}


def test_nobody_is_asked_for_ever(
    aws: EmbeddedAws, custodian: Custodian, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("c7n_keyrot.custodian.stock_filters._Calls.is_outage", lambda _: True)
    rule = aws.fail(LISTING, "Throttling")
    assert act(custodian, {"not": [GROUP]}, STALE).endswith("(and 3 more)")
    assert rule.hits == 1
    assert off(aws.account()) == set()


@pytest.mark.parametrize(
    "action",
    [{"type": "remove-keys", "disable": True}, {"type": "mark-for-op", "op": "notify", "days": 1}],
)
def test_custodians_own_actions_leave_whoever_is_in_doubt(
    aws: EmbeddedAws, custodian: Custodian, action: Any
) -> None:
    """remove-keys takes each key of a user; a mark would let a later policy do so."""
    account = aws.account()
    aws.fail(LISTING, "AccessDenied", user="ana")
    assert act(custodian, {"not": [GROUP]}, STALE, actions=[action])
    marked = {name for name in USERS if account.tags(name)}
    for name in marked:
        account.untag(name, *account.tags(name))
    assert off(account) | marked == {"cleo", "dora"}


def test_the_keys_that_custodians_access_key_found_are_not_left_on_whoever_is_in_doubt(
    aws: EmbeddedAws, custodian: Custodian
) -> None:
    aws.fail(LISTING, "AccessDenied", user="ana")
    active = {"type": "access-key", "key": "Status", "value": "Active"}
    policy = custodian.policy([active, {"or": [{"not": [GROUP]}, STALE]}])
    policy.validate()
    users = {user["UserName"]: user for user in policy.resource_manager.resources()}
    assert users["ana"]["c7n:matched-keys"] == []


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<!DOCTYPE html>\n<html><body>Please sign in</body></html>\n", "a page, not a list"),
        (b'{"other": []}', "nothing"),
    ],
)
def test_a_list_that_is_none_ends_the_policy(
    aws: EmbeddedAws, custodian: Custodian, tmp_path: Path, body: bytes, what: str
) -> None:
    path = tmp_path / ("keep.json" if body.startswith(b"{") else "keep.txt")
    path.write_bytes(body)
    listed = {"url": path.as_uri(), "expr": "users"}
    keep = {"type": "value", "key": "UserName", "op": "in", "value_from": listed}
    with pytest.raises(PolicyExecutionError, match=f"keep.* gave {what}"):
        custodian.run([{"not": [keep]}, STALE], ["disable-access-key"], source="describe")
    assert off(aws.account()) == set()


def test_nothing_is_watched_afterwards(aws: EmbeddedAws, custodian: Custodian) -> None:
    base, values = dict(vars(BaseClient)), dict(vars(ValuesFrom))
    aws.answer(LISTING, FOREIGN["XHTML page"], user="ana")
    policy = custodian.policy([{"not": [GROUP]}, STALE])
    policy.validate()
    with pytest.raises(PolicyExecutionError):
        policy.run()
    assert (dict(vars(BaseClient)), dict(vars(ValuesFrom))) == (base, values)
    block, _ = policy.resource_manager.filters
    for owner in (policy.resource_manager, block.filters[0]):
        assert "executor_factory" not in vars(owner)
