# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run of a policy: the report once, failures at its end, nothing carried over to the next."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError
from c7n.cache import factory as cache_factory
from c7n.config import Config
from c7n.exceptions import PolicyExecutionError, ResourceLimitExceeded
from c7n.resources.aws import S3Output
from c7n.utils import reset_session_cache
from in_memory import Custodian, Iam, client_error, outcomes_in
from pytest_mock import MockerFixture

from c7n_keyrot.aws import calls, errors, settings
from c7n_keyrot.custodian import lifecycle, patches, shared_report

NEW, OLD, OLDER = 10, 200, 300
STALE = {"type": "stale-access-key"}
EXPIRING = {"type": "expiring-access-key"}
DISABLE = "disable-access-key"


# The report


def test_the_report_is_fetched_once_for_all_filters_and_policies(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("u", NEW, OLD)
    for _ in range(3):
        custodian.run([STALE, {"or": [STALE, EXPIRING]}])
    assert iam.calls["GetCredentialReport"] == 1
    assert iam.calls["GenerateCredentialReport"] == 1


def test_another_session_in_the_same_process_gets_its_own_report(
    iam: Iam, custodian: Custodian, worlds: Callable[[], tuple[Iam, Custodian]]
) -> None:
    """As in the workers of c7n-org: it may be another account's, whatever its id is said to be."""
    iam.add("ana", NEW, OLD)
    assert list(custodian.matched([STALE])) == ["ana"]
    other_session = type(custodian.session)(iam)
    del iam.users["ana"], iam.rows["ana"]
    iam.add("bob", NEW, OLD)
    custodian.session = other_session
    reset_session_cache()
    assert list(custodian.matched([STALE])) == ["bob"]


def test_a_report_of_another_account_than_the_run_is_for_is_refused(
    iam: Iam, custodian: Custodian
) -> None:
    """A mistake in accounts.yml: what is done would be recorded under the wrong account."""
    iam.add("ana", NEW, OLD)
    custodian.options["account_id"] = "222222222222"
    with pytest.raises(PolicyExecutionError, match=r"account 123456789012.*for 222222222222"):
        custodian.run([STALE], ["disable-access-key"])
    assert iam.statuses()["ana-2"] == "Active"


@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_an_account_without_users_and_root_row_is_clean(
    iam: Iam, custodian: Custodian, source: str
) -> None:
    """Its report is a header only, as seen in the China partition."""
    assert custodian.run(["stale-access-key"], ["disable-access-key"], source=source) == []
    assert iam.calls["GetCredentialReport"] == (source == "credential-report")
    custodian.options["account_id"] = None
    if source == "credential-report":
        from c7n_keyrot.custodian import shared_report

        shared_report.reports.clear()
        with pytest.raises(PolicyExecutionError, match="rows are missing"):
            custodian.run(["stale-access-key"])


def test_without_an_account_id_the_report_tells_it(iam: Iam, custodian: Custodian) -> None:
    """Custodian has none when STS couldn't be asked; reactivate needs it."""
    custodian.options["account_id"] = None
    iam.add("ana", NEW, OLD)
    custodian.run([STALE], ["disable-access-key"])
    (outcome,) = outcomes_in(custodian.outcomes)
    assert (outcome.account_id, outcome.outcome) == ("123456789012", "disabled")


def test_a_long_lived_process_fetches_a_new_report_in_time(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    """A warm Lambda lives for hours."""
    iam.add("ana", NEW, OLD)
    custodian.run([STALE])
    later = shared_report.time.monotonic() + shared_report.REPORT_REUSE + 1
    mocker.patch.object(shared_report.time, "monotonic", return_value=later)
    custodian.run([STALE])
    assert iam.calls["GetCredentialReport"] == 2


@pytest.mark.parametrize(
    ("age", "max_age", "good"),
    [(1, 24, True), (23.9, 24, True), (24.1, 24, False), (5, 4, False), (0.2, 0.5, True)],
)
@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_a_report_older_than_allowed_is_refused_in_one_line(
    iam: Iam, custodian: Custodian, age: float, max_age: float, good: bool, source: str
) -> None:
    iam.add("u", NEW, OLD)
    iam.age_hours = age
    filters = [{**STALE, "report-max-age": max_age}]
    if good:
        assert custodian.matched(filters, source=source)
        return
    with pytest.raises(PolicyExecutionError, match="report-max-age is") as caught:
        custodian.run(filters, [DISABLE], source=source)
    assert "\n" not in str(caught.value)
    assert iam.changed == []


def test_the_strictest_filter_decides_how_old_the_report_may_be(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("u", NEW, OLD)
    iam.age_hours = 6
    lax, strict = {**STALE, "report-max-age": 48}, {**EXPIRING, "report-max-age": 5}
    with pytest.raises(PolicyExecutionError, match="report-max-age is 5"):
        custodian.run([{"or": [lax, strict]}])


@pytest.mark.parametrize("cache", ["memory", "file"])
def test_a_cached_report_that_has_become_too_old_is_fetched_again(
    iam: Iam, custodian: Custodian, cache: str
) -> None:
    custodian.options.update(
        cache="memory" if cache == "memory" else str(custodian.folder / "cache"), cache_period=15
    )
    iam.add("ana", NEW, OLD)
    iam.age_hours = 3
    custodian.run([STALE])
    shared_report.reports.clear()
    custodian.run([STALE])
    assert iam.calls["GetCredentialReport"] == 1, "taken from the cache, across processes"
    shared_report.reports.clear()
    iam.age_hours = 0.1
    custodian.run([{**STALE, "report-max-age": 2}])
    assert iam.calls["GetCredentialReport"] == 2


def test_a_report_that_came_broken_is_not_kept(iam: Iam, custodian: Custodian) -> None:
    custodian.options.update(cache="memory", cache_period=15)
    iam.add("ana", NEW, OLD)
    iam.text = iam.report().decode()[:-30]
    with pytest.raises(PolicyExecutionError, match="run again later"):
        custodian.run([STALE])
    iam.text = None
    assert custodian.matched([STALE]) == {"ana": ["ana-2"]}


@pytest.mark.parametrize(
    ("operation", "reason", "says"),
    [
        ("GenerateCredentialReport", "AccessDenied", "iam:GenerateCredentialReport is denied"),
        ("GetCredentialReport", "AccessDenied", "iam:GetCredentialReport is denied"),
        ("GenerateCredentialReport", "ExpiredToken", "ExpiredToken"),
        ("GetCredentialReport", "ServiceFailure", "ServiceFailure"),
    ],
)
@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_a_report_that_cannot_be_had_ends_the_run_in_one_line(
    iam: Iam,
    custodian: Custodian,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    reason: str,
    says: str,
    source: str,
    mocker: MockerFixture,
) -> None:
    iam.add("ana", NEW, OLD)
    iam.errors[operation, ""] = reason
    if operation == "GenerateCredentialReport":
        iam.errors["GetCredentialReport", ""] = "ReportNotPresent"
        mocker.patch.object(settings, "PATIENCE", 0)
    with pytest.raises(PolicyExecutionError, match=says) as caught:
        custodian.run([STALE], [DISABLE], source=source)
    assert "\n" not in str(caught.value)
    ours = [record for record in caplog.records if record.name == "custodian.keyrot"]
    assert [record.levelname for record in ours] == ["ERROR"]
    assert "policy test" in ours[0].getMessage()


@pytest.mark.parametrize("reason", ["LimitExceeded", "Throttling", "AccessDenied"])
def test_where_no_new_report_is_made_the_run_goes_on_with_the_last_one_and_says_so_once(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    iam.add("ana", NEW, OLD)
    iam.errors["GenerateCredentialReport", ""] = reason
    for name in ("one", "two"):
        assert len(custodian.run([STALE], name=name)) == 1
    (line,) = [one.getMessage() for one in caplog.records if "going on" in one.message]
    assert line.startswith("account 123456789012 (policy one): credential report: iam:Generate")
    assert line.endswith(f"({reason}); going on with the last report, which is 1.0 hours old")


def test_the_wait_for_a_report_is_done_once_a_session(iam: Iam, custodian: Custodian) -> None:
    iam.errors["GenerateCredentialReport", ""] = "AccessDenied"
    iam.errors["GetCredentialReport", ""] = "ReportNotPresent"
    said = []
    for name in ("one", "two"):
        with pytest.raises(PolicyExecutionError) as caught:
            custodian.run([STALE], name=name)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert iam.calls["GenerateCredentialReport"] == 1


def test_a_warm_lambda_waits_again_and_says_all_again(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture
) -> None:
    """Its session stays, but each of its executions is a run: Lambda repeats one that failed."""
    iam.add("ana", OLD, OLD)
    iam.errors["GetCredentialReport", ""] = "AccessDenied"
    with pytest.raises(PolicyExecutionError):
        custodian.run([STALE])
    iam.errors.clear()
    for _ in range(2):
        caplog.clear()
        assert len(custodian.run([STALE])) == 1
        assert caplog.text.count("the same second") == 1
    assert iam.calls["GetCredentialReport"] == 2, "the report is reused"
    custodian.run([STALE], name="two")
    assert caplog.text.count("the same second") == 1


def test_a_warning_from_before_the_report_comes_once_a_run(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Both policies need a report of their own, and pass over the same cache."""
    iam.add("ana", NEW, OLD)
    custodian.options = {"cache": str(tmp_path), "cache_period": 15}
    for name, hours in (("one", 24), ("two", 0.5)):
        with contextlib.suppress(PolicyExecutionError):
            custodian.run([{**STALE, "report-max-age": hours}], name=name)
    assert iam.calls["GetCredentialReport"] == 2
    assert caplog.text.count("can't be used") == 1


def test_no_credentials_are_one_line_as_well(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    for call in ("generate_credential_report", "get_credential_report"):
        mocker.patch.object(iam, call, side_effect=NoCredentialsError())
    with pytest.raises(PolicyExecutionError, match="Unable to locate credentials"):
        custodian.run([STALE])


def test_a_missing_column_is_named(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    iam.text = iam.report().decode().replace("access_key_2_active", "second_active")
    with pytest.raises(PolicyExecutionError, match="'access_key_2_active' is missing"):
        custodian.run([STALE])


# Failures


@pytest.mark.parametrize("dryrun", [True, False])
@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("actions", [[], [DISABLE]])
@pytest.mark.parametrize(
    ("operation", "says"),
    [("ListAccessKeys", "keys not read"), ("GetUser", "user and tags not read")],
)
@pytest.mark.parametrize("reason", ["AccessDenied", "Throttling", "ServiceFailure"])
def test_who_cannot_be_read_stays_without_a_key_and_fails_the_run(
    iam: Iam,
    custodian: Custodian,
    dryrun: bool,
    others: bool,
    actions: list[str],
    operation: str,
    says: str,
    reason: str,
) -> None:
    iam.add("ana", NEW, OLD)
    if others:
        iam.add("bob", NEW, OLD)
    iam.errors[operation, "ana"] = reason
    custodian.options["dryrun"] = dryrun
    with pytest.raises(PolicyExecutionError, match=f"user 'ana': {says}.*{operation}.*{reason}"):
        custodian.run([{"not": ["rotation-exempt"]}, STALE], actions)
    touched = others and actions and not dryrun
    assert iam.changed == ([("bob", "bob-2", "Inactive")] if touched else [])
    kept = json.loads((custodian.folder / "test" / "resources.json").read_text())
    by_name = {user["UserName"]: user for user in kept}
    assert set(by_name) == {"ana", *(["bob"] if others else [])}
    assert by_name["ana"]["c7n:matched-keys"] == []
    (record,) = by_name["ana"]["c7n:keyrot"]
    assert (record["identified"], record["access_key_id"]) == ("unread", None)
    metadata = json.loads((custodian.folder / "test" / "metadata.json").read_text())
    assert [one["MetricName"] for one in metadata["metrics"]].count("PolicyException") == 1


def test_a_failure_counts_even_if_nobody_is_selected_in_the_end(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD, {"team": "shop"})
    iam.errors["GetUser", "ana"] = "Throttling"
    with pytest.raises(PolicyExecutionError, match="'ana'"):
        custodian.run([{"tag:team": "shop"}, STALE], [DISABLE])


def test_a_failure_inside_of_a_not_block_is_no_clean_bill(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, NEW)
    iam.errors["ListAccessKeys", "ana"] = "Throttling"
    with pytest.raises(PolicyExecutionError, match="'ana'"):
        custodian.run([{"not": [STALE]}])
    kept = json.loads((custodian.folder / "test" / "resources.json").read_text())
    assert [user["UserName"] for user in kept] == ["bob"]


def test_all_failures_are_logged_and_counted(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ana", "bob", "cleo"):
        iam.add(name, NEW, OLD)
    iam.errors["ListAccessKeys", "*"] = "Throttling"
    with pytest.raises(PolicyExecutionError, match=r"'ana'.*\(and 2 more\)"):
        custodian.run([STALE])
    ours = [record for record in caplog.records if record.name == "custodian.keyrot"]
    assert [record.levelname for record in ours] == ["ERROR"] * 3


def test_whoever_vanishes_meanwhile_is_no_failure(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD)
    iam.errors["ListAccessKeys", "ana"] = "NoSuchEntity"
    iam.errors["GetUser", "bob"] = "NoSuchEntity"
    assert custodian.run([STALE], [DISABLE]) == []


def test_a_run_after_a_failed_one_starts_anew(iam: Iam, custodian: Custodian) -> None:
    """The same policy object again, as a warm process may do."""
    iam.add("ana", NEW, OLD)
    iam.errors["ListAccessKeys", "ana"] = "Throttling"
    policy = custodian.policy([STALE], [DISABLE])
    policy.validate()
    with pytest.raises(PolicyExecutionError):
        policy.run()
    iam.errors.clear()
    assert len(policy.run()) == 1
    assert iam.changed == [("ana", "ana-2", "Inactive")]


def test_a_second_failed_run_tells_its_own_failure(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([STALE], [DISABLE])
    for reason in ("Throttling", "AccessDenied"):
        iam.errors["ListAccessKeys", "ana"] = reason
        with pytest.raises(PolicyExecutionError, match=reason):
            policy.run()


@pytest.mark.parametrize("worker", ["list_access_keys", "get_user"])
def test_an_error_that_nobody_foresaw_takes_one_user_only(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, worker: str
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD)
    good = getattr(iam, worker)

    def call(UserName: str) -> Any:
        if UserName == "ana":
            raise RuntimeError("<html>a secret</html>")
        return good(UserName=UserName)

    mocker.patch.object(iam, worker, call)
    with pytest.raises(PolicyExecutionError, match="'ana'.*RuntimeError") as caught:
        custodian.run([STALE], [DISABLE])
    assert "secret" not in str(caught.value)
    assert iam.changed == [("bob", "bob-2", "Inactive")]


def test_errors_of_side_by_side_calls_stop_no_other(custodian: Custodian, iam: Iam) -> None:
    run = lifecycle.attach(custodian.policy([STALE]).resource_manager)

    def call(item: int) -> int:
        if item % 3 == 0:
            raise errors.explained("iam:GetUser", client_error("Throttling"))
        return item * 2

    results = run.calls.each("things", call, range(50))
    assert [item for item, _, _ in results] == list(range(50))
    assert all((result is None) == (item % 3 == 0) for item, result, _ in results)
    assert all((error is not None) == (item % 3 == 0) for item, _, error in results)
    assert run.calls.each("nothing", call, []) == []


def test_after_ctrl_c_nothing_more_begins(custodian: Custodian, mocker: MockerFixture) -> None:
    """Calls under way end; those that wait are never made."""
    ends = threading.Event()

    class Executor(ThreadPoolExecutor):
        def __exit__(self, *error: Any) -> Any:
            ends.set()
            return super().__exit__(*error)

    manager = custodian.policy([STALE]).resource_manager
    manager.executor_factory = Executor
    mocker.patch.object(settings, "WORKERS", 3)
    mocker.patch.object(calls, "wait", side_effect=KeyboardInterrupt)
    begun: list[int] = []

    def call(item: int) -> None:
        begun.append(item)
        ends.wait(60)

    with pytest.raises(KeyboardInterrupt):
        lifecycle.attach(manager).calls.each("things", call, range(50))
    assert begun == [0, 1, 2][: len(begun)]


# max-resources

LIMIT = {"amount": 2, "percent": 50, "op": "and"}


@pytest.mark.parametrize("source", ["credential-report", "describe"])
@pytest.mark.parametrize(
    ("stale", "others", "limit", "stopped"),
    [
        (3, 7, {"percent": 50}, False),
        (3, 2, {"percent": 50}, True),
        (3, 7, {"amount": 2}, True),
        (3, 7, LIMIT, False),
        (3, 2, LIMIT, True),
        (2, 0, LIMIT, False),
    ],
)
def test_percent_is_of_all_users_of_the_account(
    iam: Iam,
    custodian: Custodian,
    source: str,
    stale: int,
    others: int,
    limit: dict[str, Any],
    stopped: bool,
) -> None:
    for number in range(stale + others):
        iam.add(f"u{number}", NEW, OLD if number < stale else None)
    options: dict[str, Any] = {"source": source, "max-resources": limit}
    if stopped:
        with pytest.raises(ResourceLimitExceeded):
            custodian.run([STALE], [DISABLE], **options)
        assert iam.changed == []
    else:
        assert len(custodian.run([STALE], [DISABLE], **options)) == stale


def test_unread_users_count_against_the_limit(iam: Iam, custodian: Custodian) -> None:
    for number in range(5):
        iam.add(f"u{number}", NEW, OLD)
    iam.errors["ListAccessKeys", "u0"] = "Throttling"
    with pytest.raises(ResourceLimitExceeded):
        custodian.run([STALE], [DISABLE], **{"max-resources": {"amount": 4}})
    assert iam.changed == []


# Custodian's caches


@pytest.mark.parametrize("cache", ["memory", "file"])
@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_what_was_repaired_after_a_dry_run_counts(
    iam: Iam, custodian: Custodian, cache: str, source: str
) -> None:
    custodian.options.update(
        cache="memory" if cache == "memory" else str(custodian.folder / "cache"),
        cache_period=15,
        dryrun=True,
    )
    for name in ("tagged", "rotated", "switched", "untouched"):
        iam.add(name, NEW, OLD)
    filters = [{"not": ["rotation-exempt"]}, STALE]
    assert len(custodian.run(filters, [DISABLE], source=source)) == 4
    iam.tag("tagged", keyrot_exempt_until=f"{iam.now + timedelta(days=9):%Y-%m-%d}")
    iam.keys["rotated"].pop()
    iam.add_key("rotated", "rotated-new")
    iam.key("switched-2")["Status"] = "Inactive"
    shared_report.reports.clear()
    custodian.options["dryrun"] = False
    custodian.run(filters, [DISABLE], source=source)
    assert iam.changed == [("untouched", "untouched-2", "Inactive")]


@pytest.mark.parametrize("reverse", [False, True])
def test_policies_that_share_users_in_memory_leave_nothing_to_each_other(
    iam: Iam, custodian: Custodian, reverse: bool
) -> None:
    custodian.options.update(cache="memory", cache_period=15)
    iam.add("ana", OLDER, OLD)
    first = {"type": "access-key", "key": "AccessKeyId", "value": "ana-1"}
    policies: list[tuple[list[Any], list[str]]] = [
        ([first], ["ana-1"]),
        ([{**STALE, "slot": 1}], ["ana-1"]),
        ([STALE], ["ana-2"]),
        ([{"or": [STALE, {**STALE, "slot": 1}]}], ["ana-1", "ana-2"]),
        ([EXPIRING | {"days": 400, "notice": 300}], []),
        ([STALE], ["ana-2"]),
    ]
    ours = [one for one in policies if one[0] != [first]]
    for filters, expected in ours[::-1] if reverse else policies:
        (user,) = custodian.run(filters, source="describe")
        assert [key["AccessKeyId"] for key in user["c7n:matched-keys"]] == expected


def test_records_are_of_this_run_only(iam: Iam, custodian: Custodian) -> None:
    custodian.options.update(cache="memory", cache_period=15)
    iam.add("ana", OLDER, OLD)
    policy = custodian.policy([STALE], source="describe")
    policy.validate()
    runs = set()
    for _ in range(3):
        (user,) = policy.run()
        assert len(user["c7n:keyrot"]) == 1
        runs.add(user["c7n:keyrot"][0]["run"])
    assert len(runs) == 3


def test_the_cache_neither_keeps_nor_gives_users(tmp_path: Path) -> None:
    config = Config.empty(cache=str(tmp_path / "c7n.cache"), cache_period=15)
    plain = cache_factory(config)
    ours = patches._WithoutUsers(cache_factory(config), "credential-report")
    # One that doesn't name its source may be ours.
    for key in ({"source": "credential-report", "q": None}, {"resource": "User", "q": None}):
        with ours:
            ours.save(key, ["of now"])
        with plain:
            assert plain.get(key) is None
            plain.save(key, ["of before"])
        with ours:
            assert ours.get(key) is None


def locked(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("create table some (one)")  # Custodian removes an empty file
    connection.execute("begin exclusive")
    return connection


@pytest.mark.parametrize(
    "spoil", [locked, Path.mkdir, lambda path: path.write_bytes(b"SQLite format 3\0" + b"x" * 200)]
)
def test_a_cache_that_is_locked_ends_no_run(
    iam: Iam,
    custodian: Custodian,
    mocker: MockerFixture,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], Any],
) -> None:
    """Nor one that is a folder, or holds something else."""
    iam.add("ana", NEW, OLD)
    path = custodian.folder / "c7n.cache"
    custodian.options.update(cache=str(path), cache_period=15)
    with contextlib.ExitStack() as stack:
        made = spoil(path)
        if isinstance(made, sqlite3.Connection):
            stack.callback(made.close)
        # Custodian waits five seconds for a lock.
        at_once = functools.partial(sqlite3.connect, timeout=0)
        mocker.patch("c7n.cache.sqlite3.connect", at_once)
        custodian.run([STALE], [DISABLE])
    assert iam.changed == [("ana", "ana-2", "Inactive")]
    assert caplog.text.count("can't be used") == 1


def test_live_keys_come_out_of_no_cache(iam: Iam, custodian: Custodian) -> None:
    """A policy of others has left them on the users that Custodian's cache keeps."""
    custodian.options.update(cache="memory", cache_period=15)
    iam.add("ana", OLDER, OLD)
    live = {"type": "access-key", "key": "Status"}
    assert custodian.run([{**live, "value": "Active"}], source=None)
    iam.key("ana-1")["Status"] = "Inactive"
    filters = [{**live, "value": "Inactive"}, STALE]
    assert custodian.matched(filters, source="describe") == {"ana": []}


# The upload at the end


def test_an_upload_that_fails_is_told_once(mocker: MockerFixture) -> None:
    """However many actions of the policy touch keys."""
    bucket = S3Output.__new__(S3Output)
    vars(bucket).update(bucket="b", key_prefix="runs", root_dir="out")
    mocker.patch.object(S3Output, "upload", side_effect=OSError("no way there"))
    run = mocker.Mock()
    run.manager.data, run.manager.ctx.output = {}, bucket
    patches.watch_upload(run)
    patches.watch_upload(run)
    with pytest.raises(OSError, match="no way there"):
        bucket.upload()
    run.log.write.assert_called_once()


# Nothing of ours in the way of others


def test_policies_without_our_words_are_left_as_they_are(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([{"tag:team": "absent"}], source=None)
    manager = policy.resource_manager
    assert "filter_resources" not in vars(manager)
    assert "keyrot" not in vars(manager)
    (user,) = policy.run()
    assert not {"c7n:keyrot", "c7n:matched-keys", "c7n:AccessKeys"} & user.keys()
    assert iam.calls == Counter(ListUsers=1, GetUser=1)


def test_a_line_is_said_once_however_many_filters_come_across_it(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture
) -> None:
    iam.add("ana", OLD, OLD)
    custodian.run([STALE, {"or": [STALE, {"and": [STALE]}]}])
    assert sum("the same second" in record.getMessage() for record in caplog.records) == 1


def test_the_counts_are_logged(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD)
    iam.add("cleo")
    del iam.users["bob"]
    with caplog.at_level(logging.INFO, "custodian.keyrot"):
        custodian.run([STALE])
    assert "3 users in the credential report, 2 candidates, 1 matched" in caplog.text


def test_every_line_names_its_account(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that say how far it is as well: a log may be of many accounts."""
    iam.add("ana", NEW, OLD)
    work = calls.side_by_side

    def slow(function: Any, items: Any, progress: Any, executor: Any) -> Any:
        progress(1, 2)
        return work(function, items, progress, executor)

    mocker.patch.object(calls, "side_by_side", slow)
    with caplog.at_level(logging.INFO, "custodian.keyrot"):
        policy = custodian.policy([STALE], [DISABLE])
        policy.validate()
        policy.run()
        shared_report._progress(lifecycle.run_of(policy.resource_manager), 3)
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("custodian.keyrot")]
    assert len(ours) >= 6
    for line in ours:
        assert line.startswith("account 123456789012 (policy test): ")
