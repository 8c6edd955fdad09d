# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from concurrent.futures import Future, as_completed
from types import SimpleNamespace
from typing import Any

import click
import pytest
from c7n.exceptions import PolicyValidationError
from c7n_org import cli as c7n_org
from pytest_mock import MockerFixture

from c7n_keyrot.cli import org_runs

PLACE = {"name": "web", "account_id": "222222222222"}
SECRET = "a page of a proxy"
INVALID = PolicyValidationError("b: days isn't a number")


def ended(with_: Any) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(with_, Exception):
        future.set_exception(with_)
    else:
        future.set_result(with_)
    return future


@pytest.mark.parametrize(
    ("results", "own", "code", "said"),
    [
        ([({"a": 0, "b": 3}, True)], 0, 0, ""),
        ([({"a": 0, "b": 3}, False)], 1, 1, ""),
        ([({"a": 0}, False)], 1, 1, "not done in web (222222222222) in us-east-1: b ("),
        ([INVALID], 0, 1, "nothing ran (PolicyValidationError: b: days isn't a number)"),
        ([INVALID] * 2, 0, 1, "in web (222222222222) in us-east-1, web (222222222222) in us-ea"),
        ([KeyError(SECRET)], 0, 1, "nothing ran (KeyError)"),
        ([], 0, 1, "no account or no policy is left by the options"),
        ([], 2, 2, "no account or no policy is left by the options"),
    ],
)
def test_a_policy_that_was_not_done_is_an_error(
    results: list[Any],
    own: int,
    code: int,
    said: str,
    mocker: MockerFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policies = {"policies": [{"name": "a"}, {"name": "b"}]}
    mocker.patch.object(c7n_org, "init", return_value=({}, policies, None))
    mocker.patch.object(c7n_org, "as_completed", as_completed)
    context = SimpleNamespace(command=SimpleNamespace(name="run"))
    mocker.patch.object(click, "get_current_context", return_value=context)

    def program() -> None:
        c7n_org.init("accounts.yml", "policies.yml")
        futures = {ended(result): (PLACE, "us-east-1") for result in results}
        assert len(list(c7n_org.as_completed(futures)) if futures else []) == len(results)
        raise SystemExit(own)

    with pytest.raises(SystemExit) as end:
        org_runs.run(program)
    assert end.value.code == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == bool(said)
    assert said in "".join(lines)
    assert SECRET not in "".join(lines)


def test_its_other_commands_are_as_they_are() -> None:
    with pytest.raises(SystemExit) as end:
        org_runs.run(lambda: None)
    assert not end.value.code
    assert c7n_org.as_completed is as_completed
