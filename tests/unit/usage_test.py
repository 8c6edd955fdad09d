# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Events in groups, user agents in short, and what is said of them."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c7n_keyrot.core.records import parse
from c7n_keyrot.core.text import how_long
from c7n_keyrot.core.usage import (
    LONGEST_AGENT,
    MOST_ERRORS,
    MOST_GROUPS,
    Event,
    Group,
    Usage,
    read_event,
    short_agent,
    summarized,
)
from c7n_keyrot.core.usage_words import LONGEST, in_words

NOW = datetime(2026, 7, 19, 9, tzinfo=timezone.utc)
BOTO = "md/Botocore#1.34.14 ua/2.0 os/linux#5.10 md/arch#x86_64 lang/python#3.11.8"


@pytest.mark.parametrize(
    ("agent", "short"),
    [
        (
            "aws-cli/2.15.30 Python/3.11.8 Linux/5.10 exe/x86_64.amzn.2 command/s3.ls",
            "aws-cli/2.15",
        ),
        ("[aws-cli/2.4.6 Python/3.8.8 Linux/4.14 prompt/off command/s3api.ls]", "aws-cli/2.4"),
        ("aws-cli/1.18.147 Python/2.7.18 Linux/4.14.246 botocore/1.18.6", "aws-cli/1.18"),
        (f"aws-cli/2.22.10 {BOTO} exec-env/CloudShell md/x#y", "aws-cli/2.22 in CloudShell"),
        (f"Boto3/1.34.14 {BOTO} md/pyimpl#CPython Botocore/1.34.14", "Boto3/1.34 Python/3.11"),
        (f"m/E Boto3/1.40.1 {BOTO}", "Boto3/1.40 Python/3.11"),
        ("Boto3/1.17.9 Python/3.8.5 Linux/5.4.0 Botocore/1.20.9", "Boto3/1.17 Python/3.8"),
        (
            f"Boto3/1.28.5 {BOTO} exec-env/AWS_Lambda_python3.11",
            "Boto3/1.28 Python/3.11 in AWS_Lambda_python3.11",
        ),
        ("Botocore/1.29.76 Python/3.9.16 Linux/5.10", "Botocore/1.29 Python/3.9"),
        ("Boto/2.49.0 Python/2.7.12 Linux/4.4.0", "Boto/2.49 Python/2.7"),
        (
            "APN/1.0 HashiCorp/1.0 Terraform/1.7.5 (+https://www.terraform.io) "
            "terraform-provider-aws/5.41.0 (+https://x) aws-sdk-go-v2/1.25.3 lang/go#1.21.8",
            "terraform/1.7",
        ),
        ("APN/1.0 OpenTofu/1.6.2 (+https://opentofu.org) aws-sdk-go-v2/1.25.2", "OpenTofu/1.6"),
        ("APN/1.0 Pulumi/1.0 PulumiAws/6.13.3 aws-sdk-go-v2/1.24.0", "Pulumi/1.0"),
        ("Boto3/1.26.0 Python/3.10.6 Botocore/1.29.0 APN/1.0 Ansible/2.14.3", "Ansible/2.14"),
        ("Boto3/1.34.0 CloudCustodian/0.9.34", "CloudCustodian/0.9"),
        (
            "aws-sdk-java/1.12.261 Linux/4.14 OpenJDK_64-Bit_Server_VM/25.372-b08 java/1.8.0_372",
            "aws-sdk-java/1.12",
        ),
        ("aws-sdk-java/2.20.68 Linux/5.10 Java/17.0.7 io/sync http/Apache", "aws-sdk-java/2.20"),
        ("aws-sdk-go/1.44.116 (go1.19.2; linux; amd64)", "aws-sdk-go/1.44"),
        ("aws-sdk-go-v2/1.17.3 os/linux lang/go#1.19.4 api/ec2#1.77.0", "aws-sdk-go-v2/1.17"),
        ("aws-sdk-js/3.400.0 ua/2.0 os/linux lang/js md/nodejs#18.17.1", "aws-sdk-js/3.400"),
        ("aws-sdk-nodejs/2.1000.0 linux/v14.17.6 promise", "aws-sdk-nodejs/2.1000"),
        (
            "aws-sdk-dotnet-coreclr/3.7.103.17 .NET_Core/6.0.14 OS/Linux",
            "aws-sdk-dotnet-coreclr/3.7",
        ),
        ("aws-sdk-ruby3/3.131.1 ruby/3.1.2 x86_64-linux aws-sdk-s3/1.114.0", "aws-sdk-ruby3/3.131"),
        ("aws-sdk-php/3.222.17 GuzzleHttp/7 OS/Linux/5.4 lang/php/8.1.2", "aws-sdk-php/3.222"),
        ("aws-sdk-rust/0.55.3 os/linux lang/rust/1.66.1", "aws-sdk-rust/0.55"),
        ("aws-sdk-cpp/1.9.379 Linux/5.4.0 x86_64 Clang/7.0.0", "aws-sdk-cpp/1.9"),
        ("AWSPowerShell/4.1.14.0 .NET_Runtime/4.0 OS/Windows", "AWSPowerShell/4.1"),
        ("rclone/v1.62.2", "rclone/1.62"),
        ("MinIO (linux; amd64) minio-go/v7.0.50 mc/RELEASE.2023-04-12", "minio-go/7.0"),
        ("Cyberduck/8.5.9.39636 (Mac OS X/13.3.1) (aarch64)", "Cyberduck/8.5"),
        ("python-requests/2.31.0", "python-requests/2.31"),
        ("console.amazonaws.com", "AWS console"),
        ("signin.amazonaws.com", "AWS console"),
        ("[S3Console/0.4, aws-internal/3 aws-sdk-java/1.12.488]", "AWS console"),
        ("Mozilla/5.0 (X11; Linux) AppleWebKit/537.36 Chrome/120.0 Safari/537", "AWS console"),
        ("AWS Internal", "an AWS service"),
        ("aws-internal/3 aws-sdk-java/1.12.488", "an AWS service"),
        ("cloudformation.amazonaws.com", "cloudformation.amazonaws.com"),
        ("backup job of the old server", "backup job of the old server"),
        ("(nothing but a comment)", "(nothing but a comment)"),
        ("", ""),
    ],
)
def test_a_user_agent_in_short(agent: str, short: str) -> None:
    assert short_agent(agent) == short


def entry(**changes: Any) -> dict[str, Any]:
    detail = {
        "userIdentity": {"type": "IAMUser", "accessKeyId": "AKIA1"},
        "sourceIPAddress": "203.0.113.7",
        "userAgent": "aws-cli/2.15.30",
        **changes.pop("detail", {}),
    }
    return {
        "EventTime": NOW - timedelta(hours=2),
        "EventName": "ListBuckets",
        "EventSource": "s3.amazonaws.com",
        "CloudTrailEvent": json.dumps(detail),
        **changes,
    }


EVENT = Event(NOW - timedelta(hours=2), "s3:ListBuckets", "203.0.113.7", "aws-cli/2.15", "")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"EventSource": "ec2.amazonaws.com.cn"}, {"action": "ec2:ListBuckets"}),
        ({"EventSource": None}, {"action": "ListBuckets"}),
        ({"EventName": None}, {"action": "s3:not recorded"}),
        ({"detail": {"errorCode": "AccessDenied"}}, {"error": "AccessDenied"}),
        ({"detail": {"sourceIPAddress": "ec2.amazonaws.com"}}, {"source": "ec2.amazonaws.com"}),
        (
            {"detail": {"sourceIPAddress": None, "userIdentity": {"invokedBy": "x.amazonaws.com"}}},
            {"source": "x.amazonaws.com"},
        ),
        (
            {"detail": {"sourceIPAddress": "10.0.0.5", "vpcEndpointId": "vpce-0123456789abcdef0"}},
            {"source": "10.0.0.5 via vpce-0123456789abcdef0"},
        ),
        (
            {"detail": {"sourceIPAddress": 7, "userIdentity": [], "userAgent": None}},
            {"source": "not recorded", "agent": "not recorded"},
        ),
        (
            {"CloudTrailEvent": "{"},
            {"source": "not recorded", "agent": "not recorded"},
        ),
        (
            {"CloudTrailEvent": "[" * 100_000},
            {"source": "not recorded", "agent": "not recorded"},
        ),
        ({"CloudTrailEvent": None}, {"source": "not recorded", "agent": "not recorded"}),
        (
            {"detail": {"sourceIPAddress": "1.2.3.4\r\nBcc: x\u2028\x1b[2J"}},
            {"source": "1.2.3.4 Bcc: x [2J"},
        ),
    ],
)
def test_an_event_is_read_whatever_stands_in_it(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert read_event(entry(**changes)) == dataclasses.replace(EVENT, **expected)


def group_up(events: list[Event], **changes: Any) -> Usage:
    asked: dict[str, Any] = {"days": 7, "until": NOW, "regions": ["us-east-1"], "unknown": {}}
    return summarized(events, **{**asked, "cut": False, **changes})


def made(index: int = 0, **changes: Any) -> Event:
    return dataclasses.replace(EVENT, time=NOW - timedelta(minutes=index), **changes)


def test_calls_are_grouped_by_action_place_and_program() -> None:
    usage = group_up(
        [
            made(3),
            made(1, error="AccessDenied"),
            made(2),
            made(4, action="sts:GetCallerIdentity"),
            made(5, agent="Boto3/1.34"),
            made(6, source="10.0.0.1"),
        ]
    )
    assert (usage.events, usage.other_groups, usage.other_events) == (6, 0, 0)
    assert usage.groups[0] == Group(
        action="s3:ListBuckets",
        source="203.0.113.7",
        agent="aws-cli/2.15",
        count=3,
        first=(NOW - timedelta(minutes=3)).isoformat(),
        last=(NOW - timedelta(minutes=1)).isoformat(),
        errors={"AccessDenied": 1},
    )
    assert [group.count for group in usage.groups] == [3, 1, 1, 1]


def test_only_the_latest_ten_groups_are_named_and_the_rest_is_counted() -> None:
    events = [made(index, action=f"ec2:Call{index // 2}") for index in range(30)]
    usage = group_up(events)
    assert [group.action for group in usage.groups] == [f"ec2:Call{n}" for n in range(MOST_GROUPS)]
    assert (usage.events, usage.other_groups, usage.other_events) == (30, 5, 10)


def test_a_busy_laptop_does_not_hide_the_old_server() -> None:
    laptop = [made(index, action=f"ec2:Call{index}") for index in range(40)]
    usage = group_up([*laptop, made(9000, source="10.9.8.7")])
    assert usage.groups[-1].source == "10.9.8.7"
    assert len(usage.groups) == MOST_GROUPS
    assert usage.other_groups == 31


def test_error_codes_of_a_group_are_bounded() -> None:
    usage = group_up([made(index, error=f"E{index % 9}") for index in range(30)])
    assert len(usage.groups[0].errors) == MOST_ERRORS


def told(usage: Usage, most: int = 6) -> str:
    words = in_words(usage, NOW, most)
    return " / ".join([words["said"], *words.get("lines", []), words.get("gap", "")]).strip(" /")


SERVER = {"action": "iam:GetUser", "source": "10.9.8.7", "agent": "Boto3/1.34 Python/3.11"}


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (
            group_up([made(120 + index) for index in range(212)]),
            "Used 212 times in 7 days: s3:ListBuckets from 203.0.113.7 by aws-cli/2.15, "
            "last 2 hours ago",
        ),
        (
            group_up([made(1)], days=1, cut=True),
            "Used at least once in 1 day: s3:ListBuckets from 203.0.113.7 by aws-cli/2.15, "
            "last 1 minute ago",
        ),
        (
            group_up([made(1), made(2, action="s3:GetBucketAcl"), made(5000, **SERVER)]),
            "Used 3 times in 7 days / "
            "s3:ListBuckets, s3:GetBucketAcl from 203.0.113.7 by aws-cli/2.15, 2 times, "
            "last 1 minute ago / "
            "iam:GetUser from 10.9.8.7 by Boto3/1.34 Python/3.11, once, last 3 days ago",
        ),
        (
            group_up([made(n, action=f"ec2:Call{n}", error="E") for n in range(12)]),
            "Used 12 times in 7 days / "
            "ec2:Call0, ec2:Call1, ec2:Call2 and 7 more from 203.0.113.7 by aws-cli/2.15, "
            "10 times, last 0 minutes ago, 10 failed (E) / and 2 other calls",
        ),
        (
            group_up([], regions=["eu-west-1", "us-east-1"]),
            "No call in 7 days is in CloudTrail's event history (eu-west-1, us-east-1)",
        ),
        (
            group_up([], unknown={"eu-west-1": "cloudtrail:LookupEvents is denied (X)"}),
            "No call in 7 days is in CloudTrail's event history (us-east-1) / "
            "Usage in eu-west-1 isn't known: cloudtrail:LookupEvents is denied (X)",
        ),
        (
            group_up([], regions=[], unknown=dict.fromkeys(("eu-west-1", "us-east-1"), "X")),
            "Usage in eu-west-1 and us-east-1 isn't known: X",
        ),
        (
            group_up([], regions=[], unknown={"eu-west-1": "X", "us-east-1": "Y"}),
            "Usage in eu-west-1 isn't known: X; usage in us-east-1 isn't known: Y",
        ),
        (
            group_up([], regions=[], unknown={"us-east-1": "not read in time"}),
            "Usage in us-east-1 isn't known: not read in time",
        ),
    ],
)
def test_usage_in_words(usage: Usage, said: str) -> None:
    assert told(usage) == said
    assert "unused" not in said


def test_lines_are_as_few_as_wanted_and_the_rest_is_counted() -> None:
    usage = group_up([made(n, source=f"10.0.0.{n}") for n in range(9)])
    words = in_words(usage, NOW, 2)
    assert [line.split(" from ")[-1].split()[0] for line in words["lines"][:2]] == [
        "10.0.0.0",
        "10.0.0.1",
    ]
    assert words["lines"][2:] == ["and 7 other calls"]


@pytest.mark.parametrize(
    ("sources", "also"),
    [(1, ""), (2, "; also from 10.0.0.1"), (9, "; also from 10.0.0.1 and others")],
)
def test_where_there_is_room_for_one_line_it_is_one_sentence(sources: int, also: str) -> None:
    usage = group_up([made(n, source=f"10.0.0.{n % sources}", agent=f"x/{n}") for n in range(9)])
    assert told(usage, 1) == (
        "Used 9 times in 7 days, the last: s3:ListBuckets from 10.0.0.0 by x/0, "
        f"0 minutes ago{also}"
    )


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (-5, "0 minutes"),
        (59.9, "59 minutes"),
        (60, "1 hour"),
        (47.9 * 60, "47 hours"),
        (48 * 60, "2 days"),
    ],
)
def test_how_long(minutes: float, words: str) -> None:
    assert how_long(timedelta(minutes=minutes)) == words


TEXTS = st.text(alphabet=st.characters(), max_size=300)


@given(TEXTS, TEXTS, TEXTS)
def test_hostile_text_becomes_bounded_printable_lines(a: str, b: str, c: str) -> None:
    detail = {"sourceIPAddress": a, "userAgent": b, "errorCode": c, "userIdentity": {"x": a}}
    event = read_event(entry(EventName=c, EventSource=a, detail=detail))
    usage = group_up([event] * 2)
    assert parse(Usage, json.loads(json.dumps(dataclasses.asdict(usage)))) == usage
    for text in told(usage).split(" / ") + [event.action, event.source, event.agent, event.error]:
        assert text.isprintable()
        assert len(text) <= LONGEST + 160
    assert len(event.agent) <= LONGEST_AGENT


@pytest.mark.parametrize("kind", [Usage, Group])
def test_every_field_is_documented(kind: Any) -> None:
    for field in dataclasses.fields(kind):
        assert f"``{field.name}``" in kind.__doc__, field.name
