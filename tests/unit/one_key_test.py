# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""One key as AWS has it now. What became of lost answers: actions_test and reactivate_test."""

from __future__ import annotations

import pytest
from in_memory import Iam
from pytest_mock import MockerFixture

from c7n_keyrot.aws import one_key, settings
from c7n_keyrot.aws.one_key import OneKey

OLD = 300


@pytest.mark.parametrize(
    ("wanted", "shown", "seen", "seconds"),
    [
        ("Inactive", ["Inactive"], "Inactive", 0),
        ("Inactive", ["Active", "Active", "Inactive"], "Inactive", 0.97),
        ("Inactive", ["Active"], "Active", 10),  # it may be lag, and it may not
        (None, ["Inactive", None], None, 0.32),
        ("Inactive", [None], None, 0),  # no lag brings back a key that was listed
    ],
)
def test_a_listing_is_asked_again_for_as_long_as_it_may_lag(
    mocker: MockerFixture,
    wanted: str | None,
    shown: list[str | None],
    seen: str | None,
    seconds: float,
) -> None:
    statuses = [*shown, *[shown[-1]] * 9]
    mocker.patch.object(OneKey, "status", side_effect=statuses)
    mocker.patch.object(settings, "LAG", 10)
    sleep = mocker.patch.object(one_key.time, "sleep")
    assert OneKey(None, "K2", "ana").settled(wanted) == seen
    assert sum(call.args[0] for call in sleep.call_args_list) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("user_id", ["AIDAana", None])
def test_a_missing_key_of_a_renamed_user(user_id: str | None) -> None:
    iam = Iam()
    iam.add("ana", 10, OLD)
    iam.rename("ana", "anna")
    found, reason = OneKey(iam, "ana-2", "ana", user_id).missing("take care")
    assert found == "unknown"
    assert reason.startswith(one_key.NOT_FOUND)
    assert reason.endswith("'anna' now; take care")
