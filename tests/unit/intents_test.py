# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Record, then notify, then disable: the intents come before every action of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from c7n.exceptions import PolicyExecutionError
from c7n.resources import load_resources
from in_memory import Custodian, Iam, outcomes_in
from pytest_mock import MockerFixture

from c7n_keyrot.aws.errors import CallError, ErrorKind
from c7n_keyrot.cli.reactivate.history import key_histories
from c7n_keyrot.core import outcomes
from c7n_keyrot.custodian import intents, output, patches, shared_report
from c7n_keyrot.evidence.files import parsed
from c7n_keyrot.evidence.outcome_files import OutcomeFile

NEW, OLD = 5, 200
STALE, DISABLE, DELETE = "stale-access-key", "disable-access-key", "delete-access-key"
INACTIVE = {"type": STALE, "status": "Inactive"}


def words() -> list[str]:
    """Every action that aws.iam-user has, but for ours on keys."""
    load_resources(("aws.iam-user",))
    from c7n.resources.iam import User

    return sorted({*User.action_registry.keys()} - {DISABLE, DELETE})


@pytest.fixture
def done(mocker: MockerFixture) -> list[str]:
    """What stock's actions did, and ours that sends; none of them calls anything."""
    from c7n.resources.iam import User

    done: list[str] = []
    for word in words():
        action = User.action_registry.get(word)

        def process(self: Any, resources: Any, event: Any = None) -> None:
            done.append(self.type)

        mocker.patch.object(action, "process", process)
    return done


def full_disk(custodian: Custodian, mocker: MockerFixture) -> None:
    append = outcomes.append

    def full(path: Any, line: Any) -> None:
        if path.name == outcomes.INTENTS_FILE:
            raise OSError(28, "No space left on device")
        append(path, line)

    mocker.patch.object(outcomes, "append", full)


def disk_full_after_one(custodian: Custodian, mocker: MockerFixture) -> None:
    append, written = outcomes.append, []

    def full(path: Any, line: Any) -> None:
        if path.name == outcomes.INTENTS_FILE and written:
            raise OSError(28, "No space left on device")
        written.append(line)
        append(path, line)

    mocker.patch.object(outcomes, "append", full)


def unwritable(custodian: Custodian, mocker: MockerFixture) -> None:
    (custodian.folder / "test" / outcomes.INTENTS_FILE).mkdir(parents=True)


def bucket_refuses(custodian: Custodian, mocker: MockerFixture) -> None:
    error = CallError("the upload to the bucket", ErrorKind.DENIED, "AccessDenied", "AccessDenied")
    mocker.patch.object(output, "is_bucket", return_value=True)
    mocker.patch.object(output, "upload_intents", side_effect=error)


FAULTS = (full_disk, disk_full_after_one, unwritable, bucket_refuses)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("last", [False, True], ids=["before", "after"])
def test_no_action_runs_whose_keys_intents_cannot_be_kept(
    iam: Iam,
    custodian: Custodian,
    mocker: MockerFixture,
    done: list[str],
    told: Callable[[], list[str]],
    fault: Callable[[Custodian, MockerFixture], None],
    last: bool,
) -> None:
    """Whatever word it is, and whether it stands before or after disable-access-key."""
    for name in ("ana", "bob"):
        iam.add(name, NEW, OLD)
    fault(custodian, mocker)
    others = [{"type": word} for word in words()]
    policy = custodian.policy([STALE], [DISABLE, *others] if last else [*others, DISABLE])
    with pytest.raises(PolicyExecutionError, match="2 keys not tried, since"):
        policy.run()
    assert (done, iam.changed) == ([], [])
    assert any("2 matched: 0 disabled, 0 skipped, 0 denied, 0 failed, 2 not" in x for x in told())
    assert doubts(custodian) == []


def test_actions_run_in_the_policys_order(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, done: list[str]
) -> None:
    iam.add("ana", NEW, OLD)
    path = custodian.folder / "test" / outcomes.INTENTS_FILE
    update = iam.update_access_key
    mocker.patch.object(
        iam, "update_access_key", lambda **key: (done.append("disabled"), update(**key))[1]
    )
    known: list[int] = []
    prepare = intents.prepare

    def spied(*args: Any) -> None:
        prepare(*args)
        known.append(path.read_text().count("\n"))

    mocker.patch.object(intents, "prepare", spied)
    custodian.policy([STALE], [{"type": "notify"}, DISABLE, {"type": "webhook"}]).run()
    assert done == ["notify", "disabled", "webhook"]
    assert set(known) == {1}, "the intent stands there before each action"


@pytest.mark.parametrize("actions", [[DISABLE], [DISABLE, DELETE], [DELETE, DISABLE]])
def test_what_an_action_before_has_stopped_is_not_in_doubt(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, done: list[str], actions: list[str]
) -> None:
    """Nobody was disabled, and the files say so: reactivate has nothing to ask about."""
    from c7n.actions.notify import Notify

    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, (OLD, "Inactive"))
    mocker.patch.object(Notify, "process", side_effect=ConnectionError("the queue"))
    with pytest.raises(ConnectionError):
        custodian.policy([{"or": [STALE, INACTIVE]}], [{"type": "notify"}, *actions]).run()
    assert iam.changed == []
    written = outcomes_in(custodian.outcomes)
    assert {(line.user, line.outcome, line.reason) for line in written} == {
        (name, outcome, "not tried, since notify ended with ConnectionError")
        for name, outcome in [("ana", "skipped"), ("bob", "failed")][: len(actions)]
    }
    assert doubts(custodian) == []


def test_a_deletion_that_was_not_tried_takes_no_key_from_reactivate(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, done: list[str]
) -> None:
    """A skipped deletion would say that somebody has switched the key on meanwhile."""
    from c7n.actions.notify import Notify

    iam.add("ana", NEW, OLD)
    custodian.policy([STALE], [DISABLE]).run()
    mocker.patch.object(Notify, "process", side_effect=ConnectionError("the queue"))
    iam.rows["ana"][7] = "false"
    shared_report.reports.clear()
    with pytest.raises(ConnectionError):
        custodian.policy([INACTIVE], [{"type": "notify"}, DELETE]).run()
    assert [key.id for key in key_histories(files(custodian)) if key.ours] == ["ana-2"]


def test_a_key_whose_call_was_begun_stays_in_doubt(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    for name in ("ana", "bob"):
        iam.add(name, NEW, OLD)
    mocker.patch.object(iam, "update_access_key", side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        custodian.run([STALE], [DISABLE])
    assert doubts(custodian) == ["ana-2"]


def test_an_action_after_it_that_fails_changes_no_outcome(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, done: list[str]
) -> None:
    from c7n.actions.notify import Notify

    iam.add("ana", NEW, OLD)
    mocker.patch.object(Notify, "process", side_effect=ConnectionError("the queue"))
    with pytest.raises(ConnectionError):
        custodian.policy([STALE], [DISABLE, {"type": "notify"}]).run()
    assert [line.outcome for line in outcomes_in(custodian.outcomes)] == ["disabled"]


def test_a_second_run_of_the_same_policy_keeps_its_own_intents(
    iam: Iam, custodian: Custodian
) -> None:
    """As in a warm Lambda."""
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([STALE], [DISABLE])
    policy.run()
    iam.key("ana-2")["Status"] = "Active"
    policy.run()
    path = custodian.folder / "test" / outcomes.INTENTS_FILE
    assert [line.user for line in outcomes_in(path)] == ["ana", "ana"]
    assert len({line.operation for line in outcomes_in(path)}) == 2


def test_an_outcome_that_has_no_file_stands_with_the_intents(
    iam: Iam, custodian: Custodian
) -> None:
    """So reactivate knows what became of the key."""
    iam.add("ana", NEW, OLD)
    (custodian.folder / "test" / outcomes.FILE).mkdir(parents=True)
    with pytest.raises(PolicyExecutionError, match="can't be written"):
        custodian.run([STALE], [DISABLE])
    assert iam.changed == [("ana", "ana-2", "Inactive")]
    written = outcomes_in(custodian.folder / "test" / outcomes.INTENTS_FILE)
    assert [line.outcome for line in written] == ["intended", "disabled"]
    assert doubts(custodian) == []
    assert [key.id for key in key_histories(files(custodian)) if key.ours] == ["ana-2"]


def test_a_bucket_gets_no_intents_where_no_key_is_touched(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    """There is no file to copy, and the run ends well."""
    iam.add("twins", OLD, OLD)
    mocker.patch.object(output, "is_bucket", return_value=True)
    mocker.patch.object(patches, "watch_upload")
    upload = mocker.patch.object(output, "upload_intents")
    assert [user["UserName"] for user in custodian.run([STALE], [DISABLE])] == ["twins"]
    upload.assert_not_called()
    iam.add("ana", NEW, OLD)
    shared_report.reports.clear()
    custodian.run([STALE], [DISABLE])
    upload.assert_called_once()


def files(custodian: Custodian) -> list[OutcomeFile]:
    folder = custodian.folder / "test"
    return [
        OutcomeFile(path, list(parsed(path, outcomes.parse)))
        for path in (folder / outcomes.INTENTS_FILE, folder / outcomes.FILE)
        if path.is_file()
    ]


def doubts(custodian: Custodian) -> list[str]:
    """Whose keys reactivate would leave in doubt."""
    return [key.id for key in key_histories(files(custodian)) if key.doubt]
