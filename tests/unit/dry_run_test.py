# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A dry run changes nothing and sends nothing, even if one of the locks on that is taken away.

The locks: Custodian's pull mode doesn't call actions; no action of the policy begins in a dry run
(``lifecycle``); ours don't act without a permit; a dry run gets none; none can be made in one; and
no call, upload or notice is made without one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from c7n.resources import load_resources
from event_mode_test import EVENT, MODE
from findings_test import Hub
from findings_test import hub as hub  # the fixture
from in_memory import Custodian, Iam
from pytest_mock import MockerFixture

from c7n_keyrot.aws import calls, permit
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.core import outcomes
from c7n_keyrot.custodian import intents, lifecycle, notify, output, patches
from c7n_keyrot.custodian.elements import actions, findings
from c7n_keyrot.custodian.run import PolicyRun

NEW, OLD = 5, 200
STALE = "stale-access-key"
INACTIVE = {"type": STALE, "status": "Inactive"}
NOTICE = {
    "type": "notify",
    "to": ["resource-owner"],
    "template": "c7n_keyrot-disabling.html",
    "transport": {"type": "sqs", "queue": "q"},
}


def ours() -> list[str]:
    """Every action of ours."""
    load_resources(("aws.iam-user",))
    from c7n.resources.iam import User

    registry = User.action_registry
    return sorted(
        word
        for word in [*registry.keys()]
        if registry.get(word).__module__.startswith("c7n_keyrot")
    )


def words() -> list[str]:
    """Every action that aws.iam-user has."""
    from c7n.resources.iam import User

    return sorted({*User.action_registry.keys()})


def without_guard(patch: pytest.MonkeyPatch) -> None:
    monkey = lambda self, *args, **kwargs: self.original(*args, **kwargs)  # noqa: E731
    patch.setattr(lifecycle._Guarded, "__call__", monkey)


def without_the_actions_question(patch: pytest.MonkeyPatch) -> None:
    def process(self: Any, resources: Any) -> Any:
        self.run = lifecycle.run_of(self.manager)
        return self._act_on(resources, self.run.permit())

    patch.setattr(actions.KeyAction, "process", process)
    patch.setattr(findings.PostKeyFinding, "process", process)
    send = lambda run, action, *rest: notify._send(action, rest[2], None, run.permit())  # noqa: E731
    patch.setattr(notify, "_process", send)


def with_a_permit_asked_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PolicyRun, "permit", lambda self: Permit(self.manager.ctx.options))


def with_permits_for_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Permit, "__init__", lambda self, options=None: None)


def without_the_last_check(patch: pytest.MonkeyPatch) -> None:
    for module in (permit, intents, notify, output):
        patch.setattr(module, "check_permit", lambda name, permit: None)


def with_all(patch: pytest.MonkeyPatch) -> None:
    """As it is."""


LOCKS = (
    with_all,
    without_guard,
    without_the_actions_question,
    with_a_permit_asked_for,
    with_permits_for_all,
    without_the_last_check,
)


@pytest.fixture
def sent(mocker: MockerFixture) -> list[str]:
    """What Custodian's own actions did; none of them calls anything."""
    from c7n.resources.iam import User

    sent: list[str] = []
    for word in {*words()} - {*ours()}:

        def process(self: Any, resources: Any, event: Any = None) -> None:
            sent.append(self.type)

        mocker.patch.object(User.action_registry.get(word), "process", process)
    uploads = mocker.patch.object(output, "is_bucket", return_value=True)
    uploads.side_effect = None
    return sent


def policy_of(custodian: Custodian, mode: str, *acting: Any) -> Any:
    more = {"mode": copy.deepcopy(MODE)} if mode == "event" else {}
    return custodian.policy([{"or": [STALE, INACTIVE]}], acting, **more)


def begin(policy: Any, mode: str) -> None:
    if mode == "event":
        # As a Lambda function with `execution-options: {dryrun: true}` does.
        policy.get_execution_mode().run(copy.deepcopy(EVENT), None)
    else:
        policy.run()


@pytest.mark.parametrize("mode", ["pull", "event"])
@pytest.mark.parametrize("matched", [True, False])
@pytest.mark.parametrize("lock", LOCKS)
def test_dry_run_changes_and_sends_nothing(
    iam: Iam,
    custodian: Custodian,
    hub: Hub,
    sent: list[str],
    monkeypatch: pytest.MonkeyPatch,
    lock: Callable[[pytest.MonkeyPatch], None],
    matched: bool,
    mode: str,
) -> None:
    """With every action that there is, ours and Custodian's, and findings that could be closed."""
    iam.add("ana", NEW, OLD)
    custodian.policy([STALE], ["post-key-finding"]).run()
    assert hub.statuses() == {"ana-2": "FAILED"}
    posted, hub.imports[:] = copy.deepcopy(hub.findings), []
    iam.add("bob", NEW, (OLD, "Inactive"))
    if not matched:
        iam.add("ana", NEW, NEW)
        iam.add("bob", NEW, NEW)
    custodian.options["dryrun"] = True
    lock(monkeypatch)
    try:
        begin(policy_of(custodian, mode, *words(), NOTICE), mode)
    except CallError as error:
        assert lock is not with_all
        assert error.code == "NotPermitted"  # noqa: PT017
    assert (iam.changed, hub.imports, hub.findings) == ([], [], posted)
    if mode == "pull" or lock is not without_guard:
        assert sent == []
    assert not list(custodian.folder.rglob(f"{outcomes.INTENTS_FILE[:-6]}*"))


@pytest.mark.parametrize("matched", [True, False])
@pytest.mark.parametrize("word", ours())
@pytest.mark.parametrize("lock", [one for one in LOCKS if one is not without_guard])
def test_no_action_of_ours_acts_in_a_dry_run_whoever_calls_it(
    iam: Iam,
    custodian: Custodian,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    lock: Callable[[pytest.MonkeyPatch], None],
    word: str,
    matched: bool,
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, (OLD, "Inactive"))
    custodian.options["dryrun"] = True
    policy = policy_of(custodian, "pull", word)
    users = policy.run()
    (action,) = policy.resource_manager.actions
    lock(monkeypatch)
    try:
        vars(action).pop("process").original(users if matched else [])
    except CallError as error:
        assert error.code == "NotPermitted"  # noqa: PT017
    assert (iam.changed, hub.imports) == ([], [])


@pytest.mark.parametrize("given", [None, True, object()])
def test_only_calls_that_read_are_made_without_a_permit(iam: Iam, given: Any) -> None:
    iam.add("ana", NEW, OLD)
    key = {"UserName": "ana", "AccessKeyId": "ana-2"}
    with pytest.raises(CallError, match="this is a dry run"):
        calls.call(iam, "update_access_key", permit=given, **key, Status="Inactive")
    with pytest.raises(CallError, match="this is a dry run"):
        calls.call(iam, "delete_access_key", permit=given, **key)
    assert iam.changed == []
    assert calls.call(iam, "get_user", UserName="ana")


def test_each_lock_holds_by_itself(
    iam: Iam, custodian: Custodian, told: Callable[[], list[str]]
) -> None:
    """The others would hide that one of them is gone."""
    iam.add("ana", NEW, OLD)
    custodian.options["dryrun"] = True
    policy = policy_of(custodian, "pull", "disable-access-key")
    users = policy.run()
    manager = policy.resource_manager
    with pytest.raises(CallError, match="this is a dry run"):
        Permit(manager.ctx.options)
    assert lifecycle.run_of(manager).permit() is None
    (action,) = manager.actions
    assert action.process(users) is None
    assert told()[-1].endswith("dry run: disable-access-key does nothing")
    assert action.process.original(users) == []
    assert iam.changed == []


def test_the_same_policy_acts_without_dry_run(
    iam: Iam, custodian: Custodian, hub: Hub, sent: list[str], mocker: MockerFixture
) -> None:
    """Else the tests above would prove nothing."""
    mocker.patch.object(output, "upload_intents")
    mocker.patch.object(patches, "watch_upload")
    mocker.patch.object(
        output, "path_of", lambda context, name=outcomes.FILE: custodian.folder / name
    )
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, (OLD, "Inactive"))
    # The finding first: of a key that was disabled there is none.
    begin(policy_of(custodian, "pull", "post-key-finding", *words(), NOTICE), "pull")
    assert sorted(iam.changed) == [("ana", "ana-2", "Inactive"), ("bob", "bob-2", "deleted")]
    assert len(hub.imports) == 2
    assert {*sent} == {*words()} - {*ours()}
