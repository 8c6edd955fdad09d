# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""keyrot-begun.jsonl: a run that is killed, or stopped, leaves a trace before its first call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from c7n.exceptions import PolicyExecutionError
from in_memory import Custodian, Iam
from pytest_mock import MockerFixture

from c7n_keyrot.aws.errors import CallError, ErrorKind
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.records import RunBegun, RunSummary
from c7n_keyrot.custodian import output

STALE = {"type": "stale-access-key"}


class Killed(BaseException):
    """As a signal ends a process: nothing of the policy runs after it."""


def begun(custodian: Custodian) -> list[RunBegun]:
    path = custodian.folder / "test" / outcomes.BEGUN_FILE
    return [RunBegun.parse(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("source", ["credential-report", "describe"])
@pytest.mark.parametrize("dryrun", [True, False])
def test_a_line_is_there_before_the_first_call(
    iam: Iam, custodian: Custodian, monkeypatch: pytest.MonkeyPatch, source: str, dryrun: bool
) -> None:
    def killed(operation: str, subject: str = "") -> None:
        raise Killed

    monkeypatch.setattr(iam, "_call", killed)
    custodian.options["dryrun"] = dryrun
    with pytest.raises(Killed):
        custodian.run([STALE], source=source)
    (line,) = begun(custodian)
    assert (line.account_id, line.policy, line.dry_run) == ("123456789012", "test", dryrun)
    assert [(one["filter"], one["days"]) for one in line.filters] == [("stale-access-key", 90)]
    assert not (custodian.folder / "test" / outcomes.SUMMARY_FILE).exists()


@pytest.mark.parametrize("filters", [[STALE], [], [{"not": [STALE]}]])
def test_each_run_has_one_line_that_its_summary_belongs_to(
    iam: Iam, custodian: Custodian, filters: list[Any]
) -> None:
    iam.add("ana", 10, 200)
    policy = custodian.policy(filters)
    for _ in range(2):  # as in a warm Lambda
        policy.run()
    runs = [line.run for line in begun(custodian)]
    assert len(set(runs)) == len(runs) == 2
    if filters:
        path = custodian.folder / "test" / outcomes.SUMMARY_FILE
        summaries = [RunSummary.parse(line) for line in path.read_bytes().splitlines()]
        assert [one.run for one in summaries] == runs
        assert [one.filters for one in summaries] == [one.filters for one in begun(custodian)]


def test_where_it_cannot_be_written_the_run_goes_on_and_ends_with_an_error(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", 10, 200)
    (custodian.folder / "test" / outcomes.BEGUN_FILE).mkdir(parents=True)
    with pytest.raises(PolicyExecutionError, match=f"{outcomes.BEGUN_FILE} can't be written"):
        custodian.run([STALE], ["disable-access-key"])
    assert iam.statuses()["ana-2"] == "Inactive"


def test_what_is_not_such_a_line_is_refused() -> None:
    for line in (b"{}", b"[]", b"[" * 100_000, json.dumps({"time": "", "more": 1}).encode()):
        with pytest.raises(ValueError, match="not a record"):
            RunBegun.parse(line)


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("dryrun", [False, True])
def test_in_a_bucket_it_is_there_at_once_but_for_a_dry_run(
    iam: Iam,
    custodian: Custodian,
    mocker: MockerFixture,
    told: Callable[[], list[str]],
    refused: bool,
    dryrun: bool,
) -> None:
    iam.add("ana", 10, 200)
    error = CallError("the upload to the bucket", ErrorKind.DENIED, "AccessDenied", "AccessDenied")
    calls: list[int] = []

    def upload(context: Any, name: str, permit: Any) -> None:
        assert name == outcomes.BEGUN_FILE
        calls.append(sum(iam.calls.values()))
        if refused:
            raise error

    mocker.patch.object(output, "is_bucket", return_value=True)
    mocker.patch.object(output, "upload", upload)
    custodian.options["dryrun"] = dryrun
    assert custodian.run([STALE])
    assert calls == ([] if dryrun else [0])
    told_so = any("isn't in the bucket until the end of the run" in line for line in told())
    assert told_so == (refused and not dryrun)
