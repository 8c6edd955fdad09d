# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run is attached to a policy when it is validated, and not when its filters are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from c7n import handler
from c7n.exceptions import PolicyExecutionError
from c7n.resources.iam import User
from in_memory import Custodian, Iam, matched_ids
from pytest_mock import MockerFixture

from c7n_keyrot.custodian import lifecycle
from c7n_keyrot.custodian.stock_filters import is_ours

NEW, OLD = 10, 200
STALE = "stale-access-key"
DISABLE = "disable-access-key"
LAMBDA = {
    "role": "arn:aws:iam::123456789012:role/any",
    "packages": ["c7n_keyrot"],
    "handler": "c7n_keyrot.handler.run",
}
BY_EVENT = {
    **LAMBDA,
    "type": "cloudtrail",
    "events": [
        {"source": "iam.amazonaws.com", "event": "TagUser", "ids": "requestParameters.userName"}
    ],
}
EVENT = {
    "detail": {
        "eventSource": "iam.amazonaws.com",
        "eventName": "TagUser",
        "requestParameters": {"userName": "ana"},
    }
}


def words(registry: Any) -> list[str]:
    """The words of ours in a registry of Custodian's."""
    names = registry.keys()
    return sorted(name for name in names if registry.get(name).__module__.startswith("c7n_keyrot"))


def test_to_make_filters_and_actions_changes_nothing_of_the_manager(custodian: Custodian) -> None:
    manager = custodian.policy([], source=None).resource_manager
    before = dict(vars(manager))
    filters, actions = words(User.filter_registry), words(User.action_registry)
    assert STALE in filters
    assert DISABLE in actions
    for word in filters:
        for data in ({"type": word}, {"or": [{"not": [{"type": word}]}]}):
            User.filter_registry.factory(data, manager)
    for word in actions:
        User.action_registry.factory({"type": word}, manager)
    assert vars(manager) == before


@pytest.mark.parametrize(
    ("filters", "actions", "source"),
    [
        ([STALE], [], None),
        ([{"or": [{"not": [{"and": [STALE]}]}]}], [], None),
        (["rotation-exempt"], [], None),
        ([{"type": "time-window", "weekdays": ["Mon"]}], [], "describe"),
        ([STALE], [DISABLE], "credential-report"),
        ([STALE], ["post-key-finding"], None),
    ],
)
def test_a_policy_with_one_of_our_words_has_a_run_once_it_is_validated(
    custodian: Custodian, filters: list[Any], actions: list[Any], source: str | None
) -> None:
    policy = custodian.policy(filters, actions, source=source)
    assert "keyrot" not in vars(policy.resource_manager)
    policy.validate()
    run = lifecycle.run_of(policy.resource_manager)
    policy.validate()  # c7n-org validates a policy in each account
    assert lifecycle.run_of(policy.resource_manager) is run


@pytest.mark.parametrize("action", [DISABLE, "delete-access-key", "post-key-finding"])
def test_an_action_attaches_the_run_by_itself(custodian: Custodian, action: str) -> None:
    status = "Inactive" if action == "delete-access-key" else "Active"
    policy = custodian.policy([{"type": STALE, "status": status}], [action], source=None)
    manager = policy.resource_manager
    manager.actions[0].validate()
    assert lifecycle.run_of(manager).manager is manager


def test_a_policy_that_was_not_validated_stops_and_says_so(iam: Iam, custodian: Custodian) -> None:
    """A program of somebody's own may leave it out; Custodian, c7n-org and Lambda never do."""
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([STALE], [DISABLE], source=None)
    with pytest.raises(PolicyExecutionError, match=r"test: it was never validated.*call the"):
        policy.run()
    assert iam.changed == []


def test_our_source_alone_attaches_the_run(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([{"UserName": "ana"}])
    policy.validate()
    assert "keyrot" not in vars(policy.resource_manager)
    (user,) = policy.run()
    assert matched_ids(user) == []
    assert lifecycle.run_of(policy.resource_manager).report.candidates == 1


def test_our_source_alone_attaches_the_run_where_an_event_starts_it(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([{"UserName": "ana"}], mode=BY_EVENT)
    policy.validate()
    (user,) = policy.push(EVENT, None)
    assert matched_ids(user) == []
    assert "keyrot" in vars(policy.resource_manager)


@pytest.mark.parametrize(
    "mode", [BY_EVENT, {**LAMBDA, "type": "periodic", "schedule": "rate(1 day)"}]
)
@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_a_lambda_function_attaches_the_run(
    iam: Iam,
    custodian: Custodian,
    mocker: MockerFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: dict[str, Any],
    source: str,
) -> None:
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([STALE], [DISABLE], mode=mode, source=source)
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps({"policies": [policy.data]}), "utf-8")
    mocker.patch.object(handler, "policy_config", None)
    mocker.patch.object(handler, "policy_data", None)
    mocker.patch.object(handler, "init_config", return_value=policy.options)
    factory = lambda *args, **kwargs: custodian.session  # noqa: E731 - c7n sets attributes on it
    mocker.patch("c7n.resources.aws.AWS.get_session_factory", return_value=factory)
    handler.dispatch_event(EVENT if mode is BY_EVENT else {}, None)
    assert iam.changed == [("ana", "ana-2", "Inactive")]


def test_other_policies_have_no_run(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([{"UserName": "ana"}], [], source=None)
    policy.validate()
    assert policy.run()
    manager = policy.resource_manager
    assert not any(is_ours(element) for element in manager.iter_filters())
    with pytest.raises(PolicyExecutionError, match="never validated"):
        lifecycle.run_of(manager)
