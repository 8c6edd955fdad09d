# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every word that Custodian has for aws.iam-user does the same with our source as with its own.

With Custodian's default cache: a file. The embedded AWS answers over HTTP.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from c7n.cache import InMemoryCache, factory
from c7n.config import Config
from c7n.credentials import SessionFactory
from c7n.exceptions import PolicyExecutionError
from c7n.policy import PolicyCollection
from c7n.resources import load_resources
from c7n.utils import reset_session_cache

from c7n_keyrot.custodian import patches, shared_report
from embedded_aws import HUB, EmbeddedAws, Key

REGION = "us-east-1"
LISTS = {
    "txt": "ana\nbob\n",
    "csv": "ana,1\nbob,2\n",
    "json": '{"keep": ["ana", "bob"]}',
}
EXPR = {"csv": 0, "json": "keep"}

# A policy's filters for each word. {lists} is a folder with a list of exceptions.
FILTERS: dict[str, Any] = {
    "access-key": {"type": "access-key", "key": "Status", "value": "Active"},
    "and": {"and": [{"UserName": "ana"}]},
    "check-permissions": {"type": "check-permissions", "match": "allowed", "actions": ["iam:X"]},
    "config-compliance": {"type": "config-compliance", "rules": ["r"]},
    "credential": {"type": "credential", "key": "user", "value": "bob"},
    "event": {"type": "event", "key": "a", "value": "b"},
    "finding": {"type": "finding"},
    "group": {"type": "group", "key": "GroupName", "value": "g"},
    "has-inline-policy": {"type": "has-inline-policy", "value": False},
    "list-item": {"type": "list-item", "key": "Tags", "attrs": [{"Key": "team"}]},
    "login-profile": "login-profile",
    "marked-for-op": {"type": "marked-for-op", "op": "delete", "tag": "m"},
    "mfa-device": {"type": "mfa-device", "key": "MFADevices", "value": []},
    "not": {"not": [{"UserName": "ana"}]},
    "ops-item": {"type": "ops-item"},
    "or": {"or": [{"UserName": "ana"}, {"UserName": "bob"}]},
    "policy": {"type": "policy", "key": "PolicyName", "value": "p"},
    "reduce": {"type": "reduce", "sort-by": "UserName", "order": "asc", "limit": 2},
    "service-specific-credentials": {"type": "service-specific-credentials", "key": "Status"},
    "ssh-key": {"type": "ssh-key", "key": "Status", "value": "Active"},
    "usage": {"type": "usage", "match-operator": "any", "ServiceName": "S3"},
    "value": {"type": "value", "key": "tag:team", "value": "red"},
}
FROM = {"url": "file:{lists}/list.txt"}
ACTIONS: dict[str, Any] = {
    "auto-tag-user": {"type": "auto-tag-user", "tag": "c"},
    "copy-related-tag": None,  # refused by Custodian's own validation for users
    "delete": {"type": "delete", "force": True},
    "delete-ssh-keys": {"type": "delete-ssh-keys"},
    "invoke-lambda": {"type": "invoke-lambda", "function": "f"},
    "invoke-sfn": {"type": "invoke-sfn", "state-machine": "s"},
    "mark-for-op": {"type": "mark-for-op", "op": "delete", "days": 1},
    "notify": {
        "type": "notify",
        "to_from": FROM,
        "cc_from": FROM,
        "transport": {"type": "sqs", "queue": "q"},
    },
    "post-finding": {"type": "post-finding", "types": ["Software and Configuration Checks"]},
    "post-item": {"type": "post-item", "title": "t"},
    "put-metric": {"type": "put-metric", "key": "length(@)", "namespace": "n", "metric_name": "m"},
    "remove-keys": {"type": "remove-keys", "disable": True, "age": 0},
    "remove-tag": {"type": "remove-tag", "tags": ["team"]},
    "set-boundary": {"type": "set-boundary", "state": "absent"},
    "set-groups": {"type": "set-groups", "state": "add", "group": "g"},
    "set-policy": {"type": "set-policy", "state": "attached", "arn": "arn:aws:iam::aws:policy/P"},
    "tag": {"type": "tag", "key": "k", "value": "v"},
    "webhook": {"type": "webhook", "url": "http://127.0.0.1:9/"},
}


def stock(registry: Any) -> list[str]:
    found = {word: registry.get(word) for word in [*registry.keys()]}
    return sorted(
        word for word, cls in found.items() if not cls.__module__.startswith("c7n_keyrot")
    )


def user() -> Any:
    load_resources(("aws.iam-user",))
    from c7n.resources.iam import User

    return User


def test_the_tables_have_every_word_of_custodian() -> None:
    """A newer Custodian has a new word: add it above, with options that do something."""
    assert set(stock(user().filter_registry)) <= FILTERS.keys()
    assert set(stock(user().action_registry)) <= ACTIONS.keys()


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as embedded:
        yield embedded


@pytest.fixture
def outcome(
    aws: EmbeddedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """outcome(source, filters, actions): users, keys and error of a run in a fresh account."""
    for name, value in {**aws.env(HUB, tmp_path), "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    for end, text in LISTS.items():
        (tmp_path / f"list.{end}").write_text(text)

    def run(source: str, filters: list[Any], actions: list[Any] = []) -> Any:  # noqa: B006
        account = aws.account(HUB)
        for name in account.users():
            account.delete_user(name)
        for name in ("ana", "bob", "eve"):
            account.add_user(name, Key(300), Key(100), {"team": "red" if name != "eve" else "blue"})
        account.generate_report()
        reset_session_cache()
        shared_report.reports.clear()
        InMemoryCache._InMemoryCache__shared_state.clear()
        data = {"name": "p", "resource": "aws.iam-user", "source": source}
        data |= {"filters": filters, "actions": actions}
        data = filled(copy.deepcopy(data), str(tmp_path))
        config = Config.empty(
            region=REGION,
            account_id=HUB,
            output_dir=str(tmp_path / "out"),
            cache=str(tmp_path / f"{source}.cache"),
            cache_period=15,
        )
        (policy,) = PolicyCollection.from_data({"policies": [data]}, config, SessionFactory(REGION))
        error, users = "", []
        try:
            policy.validate()
            users = policy.run()
        except Exception as raised:
            error = named(raised)
        left = {}
        for name in account.users():
            # Values have ids and times in them.
            statuses = {slot: key.status for slot, key in account.keys(name).items()}
            left[name] = statuses, sorted(account.tags(name))
        return sorted(one["UserName"] for one in users or ()), left, error

    return run


def named(raised: Exception) -> str:
    """Return AWS's code of an error; its class if it has none.

    A call that one of Custodian's own filters lost ends a policy of ours in one line of its own.
    """
    if isinstance(raised, ClientError):
        return str(raised.response["Error"]["Code"])
    said = re.search(r"\((\w+)\)$", str(raised))
    if isinstance(raised, PolicyExecutionError) and said:
        return said[1]
    return type(raised).__name__


def filled(value: Any, lists: str) -> Any:
    if isinstance(value, dict):
        return {key: filled(one, lists) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, lists) for one in value]
    return value.replace("{lists}", lists) if isinstance(value, str) else value


@pytest.mark.parametrize("word", FILTERS)
def test_filter_does_the_same_with_both_sources(outcome: Callable[..., Any], word: str) -> None:
    if word not in stock(user().filter_registry):
        pytest.skip("this Custodian doesn't have it")
    filters = [FILTERS[word]]
    assert outcome("credential-report", filters) == outcome("describe", filters)


@pytest.mark.parametrize("word", ACTIONS)
def test_action_does_the_same_with_both_sources(outcome: Callable[..., Any], word: str) -> None:
    if word not in stock(user().action_registry) or ACTIONS[word] is None:
        pytest.skip("this Custodian doesn't have it, or refuses it for users")
    filters = [{"type": "value", "key": "tag:team", "value": "red"}]
    ours = outcome("credential-report", filters, [ACTIONS[word]])
    theirs = outcome("describe", filters, [ACTIONS[word]])
    assert ours == theirs


@pytest.mark.parametrize("end", LISTS)
@pytest.mark.parametrize("place", ["file:", "s3:"])
def test_value_from_does_the_same_with_both_sources(
    aws: EmbeddedAws, outcome: Callable[..., Any], end: str, place: str
) -> None:
    url = "file:{lists}/list." + end
    if place == "s3:":
        aws.create_bucket(f"lists-{end}")
        boto3.client("s3", endpoint_url=aws.url, region_name=REGION).put_object(
            Bucket=f"lists-{end}", Key=f"list.{end}", Body=LISTS[end].encode()
        )
        url = f"s3://lists-{end}/list.{end}"
    listed = {"url": url, **({"expr": EXPR[end]} if end in EXPR else {})}
    filters = [{"type": "value", "key": "UserName", "op": "not-in", "value_from": listed}]
    ours = outcome("credential-report", filters, [{"type": "remove-keys", "disable": True}])
    assert ours[0] == ["eve"]
    assert ours == outcome("describe", filters, [{"type": "remove-keys", "disable": True}])


@pytest.mark.parametrize("period", [0, 15])
def test_our_cache_does_all_that_custodians_does(tmp_path: Path, period: int) -> None:
    def config() -> Any:
        return Config.empty(cache=str(tmp_path / "c7n.cache"), cache_period=period)

    original = factory(config())
    cache = patches._WithoutUsers(factory(config()), "credential-report")
    assert {name for name in dir(original) if not hasattr(cache, name)} == set()
    users = {"source": "credential-report", "resource": "User", "q": None}
    with cache:
        for key in (("value-from", ["u"]), ("uri-resolver", "u"), "text", {**users, "source": "x"}):
            cache.save(key, [1])
            assert cache.get(key) == ([1] if period else None)
        for key in (users, {"resource": "User", "q": None}):
            cache.save(key, [1])
            assert cache.get(key) is None
    assert isinstance(cache.size(), int)
