# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Faults between the real `custodian` and AWS: no wrong key touched, no right one forgotten.

Each test breaks something, runs, looks, mends it, and runs again: in the end the stale keys are
disabled, and only they.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cloudformation import actions, member
from harness import Finished, PolicyRun, as_file, custodian, finish, keyrot, kill, start

from demo import world
from embedded_aws import HUB, Account, EmbeddedAws, Key, seed_bench

PACK = Path(__file__).parents[2] / "policies"
STALE = "iam-user-second-access-key-stale"
# Seconds; a run gives up sooner than it would for a user.
QUICK = {
    "C7N_KEYROT_TRIES": "3",
    "C7N_KEYROT_PATIENCE": "1",
    "C7N_KEYROT_REPORT_LIMIT": "3",
}
# The same, where a machine that is slow for a second must make no difference.
LESS_QUICK = {"C7N_KEYROT_TRIES": "3", "C7N_KEYROT_PATIENCE": "3", "C7N_KEYROT_LAG": "1"}
FRESH, OLD = Key(5), Key(200)
OFF = ("Active", "Inactive")


@pytest.fixture
def wanted(aws: EmbeddedAws, account: Account) -> dict[str, str]:
    """Ten users with a stale second key, and ten look-alikes. {user: key id}"""
    aws.create_queue(world.QUEUE)
    found = seed_bench(account, 20, find=10)
    account.generate_report()
    return found


@pytest.fixture
def mends(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
) -> Callable[..., PolicyRun]:
    """mends(before): once all is well again, a run ends with exactly the wanted keys disabled."""

    def run_again(
        before: dict[str, str], out: Path | None = None, wanted: dict[str, str] = wanted
    ) -> PolicyRun:
        aws.heal()
        again = run_custodian(PACK, out=out)
        assert again.code == 0, again.text
        assert account.changes(before) == dict.fromkeys(wanted.values(), OFF)
        return again

    return run_again


ROLE = member(HUB, HUB)["policy"]
SEND = {"Effect": "Allow", "Action": ["sqs:SendMessage"], "Resource": "*"}


def role_without(action: str | None) -> dict[str, Any]:
    """The role that deploy/ gives to a member, which sends here as well, without one action."""
    statements = [
        {**statement, "Action": [a for a in listed(statement["Action"]) if a != action]}
        for statement in [*ROLE["Statement"], SEND]
    ]
    return {**ROLE, "Statement": [s for s in statements if s["Action"]]}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_permission_that_is_missing_disables_nothing_and_is_named(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    tmp_path: Path,
) -> None:
    """Each of the deployed role's in turn; the role is enforced."""
    before = account.snapshot()
    aws.enforce()
    for action in [*actions(ROLE), "sqs:SendMessage"]:
        account.add_role("c7n-keyrot", role_without(action))
        name = action.split(":")[1]
        # While there is a report, nobody needs this call.
        if name == "GenerateCredentialReport":
            account.delete_report()
        flags = ["--cache-period", "0"]  # else the report would be asked for once only
        run = run_custodian(PACK, *flags, role="c7n-keyrot", out=tmp_path / name)
        assert run.code != 0, action
        assert account.changes(before) == {}, action
        assert [line for line in run.lines(name) if "denied" in line.lower()], run.text
        account.generate_report()
    account.add_role("c7n-keyrot", role_without(None))
    again = run_custodian(PACK, role="c7n-keyrot")
    assert again.code == 0, again.text
    assert account.changes(before) == dict.fromkeys(wanted.values(), OFF)


@pytest.mark.waits
@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("iam.GenerateCredentialReport", "Throttling"),
        ("iam.ListAccessKeys", "Throttling"),
        ("iam.GetUser", "ServiceFailure"),
        ("iam.GetUser", "stall"),
        ("iam.ListAccessKeys", "reset"),
        ("iam.UpdateAccessKey", "Throttling"),
        ("iam.UpdateAccessKey", "ExpiredToken"),
    ],
)
def test_fault_that_stays_ends_the_run_with_an_error(
    aws: EmbeddedAws,
    account: Account,
    run_custodian: Callable[..., PolicyRun],
    mends: Callable[..., PolicyRun],
    action: str,
    error: str,
) -> None:
    before = account.snapshot()
    aws.fail(action, error)
    run = run_custodian(PACK, env=QUICK)  # which ends within two minutes, or is an error
    assert run.code != 0
    assert account.changes(before) == {}
    assert run.lines("keyrot:ERROR"), run.text
    mends(before)


@pytest.mark.waits
def test_bursts_of_throttling_are_lived_through(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
) -> None:
    before = account.snapshot()
    for action in ("GenerateCredentialReport", "GetUser", "ListAccessKeys", "UpdateAccessKey"):
        aws.fail(f"iam.{action}", "Throttling", times=3)
    run = run_custodian(PACK)
    assert run.code == 0, run.text
    assert account.changes(before) == dict.fromkeys(wanted.values(), OFF)


def test_one_users_failure_stops_no_other(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    mends: Callable[..., PolicyRun],
) -> None:
    """One is denied at each step; all others are done, and the run ends with an error."""
    before = account.snapshot()
    unread, unlisted, untouched = list(wanted)[:3]
    aws.fail("iam.GetUser", "AccessDenied", user=unread)
    aws.fail("iam.ListAccessKeys", "AccessDenied", user=unlisted)
    aws.fail("iam.UpdateAccessKey", "AccessDenied", user=untouched)
    run = run_custodian(PACK)
    assert run.code != 0
    others = {key for user, key in wanted.items() if user not in (unread, unlisted, untouched)}
    assert account.changes(before) == dict.fromkeys(others, OFF)
    outcomes = {o["user"]: (o["outcome"], o["reason"]) for o in run.outcomes(STALE)}
    assert outcomes.keys() == wanted.keys()
    assert outcomes[untouched] == ("denied", "AccessDenied")
    for user in (unread, unlisted):
        assert outcomes[user] == ("skipped", "what the policy asks about the user couldn't be read")
        assert user in run.names(STALE), "never taken for clean"
    mends(before)


def test_credentials_that_expire_half_way_leave_the_rest_for_the_next_run(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    mends: Callable[..., PolicyRun],
) -> None:
    before = account.snapshot()
    aws.fail("iam.UpdateAccessKey", "ExpiredToken", skip=4)
    run = run_custodian(PACK)
    assert run.code != 0
    assert set(account.changes(before)) < set(wanted.values())
    failed = [o for o in run.outcomes(STALE) if o["outcome"] == "failed"]
    assert {o["reason"] for o in failed} == {"ExpiredToken"}
    assert len(failed) == 6
    mends(before)


@pytest.mark.waits
@pytest.mark.parametrize("answer_lost", [False, True])
def test_lost_answer_is_looked_up(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    mends: Callable[..., PolicyRun],
    answer_lost: bool,
) -> None:
    """A connection that breaks leaves open whether the key is disabled: the outcome says it."""
    before = account.snapshot()
    user = next(iter(wanted))
    aws.fail("iam.UpdateAccessKey", "reset", user=user, late=answer_lost)
    run = run_custodian(PACK, env=LESS_QUICK)
    outcome = next(o["outcome"] for o in run.outcomes(STALE) if o["user"] == user)
    assert (outcome, run.code != 0) == (("disabled", False) if answer_lost else ("unknown", True))
    assert (account.status(user, 2) == "Inactive") is answer_lost
    mends(before)


@pytest.mark.parametrize("error", ["AccessDenied", "ExpiredToken"])
def test_lost_answer_is_looked_up_when_another_try_is_answered(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
    mends: Callable[..., PolicyRun],
    error: str,
) -> None:
    """The first try took effect; what the second one is told is not what happened."""
    before = account.snapshot()
    user = next(iter(wanted))
    aws.fail("iam.UpdateAccessKey", "reset", times=1, user=user, late=True)
    aws.fail("iam.UpdateAccessKey", error, user=user)
    looked = error == "AccessDenied"
    if not looked:
        aws.fail("iam.ListAccessKeys", error, skip=1, user=user)
    run = run_custodian(PACK, env=LESS_QUICK)
    outcome = next(o for o in run.outcomes(STALE) if o["user"] == user)
    told = ("disabled", "the answer was lost (AccessDenied)")
    if not looked:
        told = ("unknown", "it may have taken effect (ExpiredToken)")
    assert (outcome["outcome"], outcome["reason"]) == told
    assert (run.code == 0) is looked, run.text
    assert account.status(user, 2) == "Inactive"
    aws.heal()
    # Of a key in doubt somebody has to say that nobody else switched it off.
    named = ("--user", user) if looked else ("--key", wanted[user])
    back = run_in(keyrot("reactivate", run.out, "--yes", *named))
    assert back.code == 0, back.text
    assert account.status(user, 2) == "Active"
    mends(before)


def test_keys_that_change_between_report_and_run_are_left_alone(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
    tmp_path: Path,
) -> None:
    """What isn't proven to be gone is in doubt, in the summary and on the page."""
    rotated, deactivated, deleted, gone, swapped, renamed, given, *others = wanted
    account.rotate(rotated, 2)
    account.set_status(deactivated, 2, "Inactive")
    account.delete_key(deleted, 2)
    account.delete_user(gone)
    account.delete_key(swapped, 2)
    account.add_key(swapped)
    for name in (renamed, given):
        account.rename_user(name, f"{name}-new")
    account.add_user(given, Key(10), Key(5), created_days_ago=1)
    before = account.snapshot()
    run = run_custodian(PACK)
    assert run.code == 0, run.text
    assert account.changes(before) == {wanted[user]: OFF for user in others}
    for name in (gone, renamed):
        assert run.lines(f"user {name!r} isn't found: deleted or renamed")
    summary = json.loads((run.folder(STALE) / "keyrot-summary.jsonl").read_text())
    whys = {left["user"]: left["why"] for left in summary["not_matched"]}
    fixed = {rotated: "changed", deactivated: "changed", deleted: "gone", swapped: "changed"}
    doubts = {gone: "not found", renamed: "not found", given: "other user"}
    assert {name: whys[name] for name in (*fixed, *doubts)} == fixed | doubts
    written = tmp_path / "written"
    assert run_in(keyrot("report", run.out, "--format", "json", "-o", written)).code == 0
    states = {key["user"]: key["state"] for key in json.loads(written.read_text())["keys"]}
    assert {states[name] for name in fixed} == {"fixed"}
    assert {states[name] for name in doubts} == {"unclear"}
    assert run_in(keyrot("report", run.out, "-o", written)).code == 0
    assert "Not yet in compliance: 3 keys need review" in written.read_text()
    # Nobody needs to look: the next report has them under their new names.
    account.generate_report()
    run_custodian(PACK, "--cache-period", "0")
    assert account.changes(before) == {wanted[user]: OFF for user in (renamed, given, *others)}


@pytest.mark.parametrize("given_away", [False, True])
def test_a_user_renamed_between_notice_and_disabling_is_in_doubt(
    aws: EmbeddedAws,
    account: Account,
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
    tmp_path: Path,
    given_away: bool,
) -> None:
    """The key is active, whatever its old name says; reactivate with the shipped role, too."""
    aws.create_queue(world.QUEUE)
    account.add_user("ana", FRESH, OLD)
    account.add_user("ben", FRESH, OLD)
    ben = account.key_id("ben", 2)
    account.generate_report()

    def rename(name: str) -> None:
        account.rename_user(name, f"{name}-new")
        if given_away:
            account.add_user(name, FRESH, FRESH)

    aws.after("sqs.SendMessage", lambda _: rename("ana"))
    aws.fail("iam.GetAccessKeyLastUsed", "AccessDenied")  # of the shipped role
    run = run_custodian(PACK)
    assert run.code != 0
    assert run.lines("user 'ana'", "AWS doesn't find the key under its user's name")
    assert run.lines("1 disabled", "1 unknown")
    outcomes = {o["user"]: o["outcome"] for o in run.outcomes(STALE)}
    assert outcomes == {"ana": "unknown", "ben": "disabled"}
    assert account.status("ana-new", 2) == "Active"
    written = tmp_path / "report.json"
    assert run_in(keyrot("report", run.out, "--format", "json", "-o", written)).code == 0
    (key,) = (one for one in json.loads(written.read_text())["keys"] if one["user"] == "ana")
    assert (key["state"], key["outcome"]) == ("unclear", "unknown")

    rename("ben")
    undo = keyrot("reactivate", run.out, "--yes", "--key", ben)
    for _ in range(2):  # and it can be tried again
        done = run_in(undo)
        assert done.code == 1
        assert done.lines("user ben", "unknown", "deleted, or the user renamed")
    assert run.outcomes(STALE)[-1]["outcome"] == "unknown"
    assert account.status("ben-new", 2) == "Inactive"
    aws.heal()
    assert run_in(undo).code == 0
    assert account.status("ben-new", 2) == "Active"


def test_keys_are_the_same_in_pages_of_one(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    """The second page has the stale keys; reactivate reads it as well."""
    aws.key_page = 1
    before = account.snapshot()
    run = run_custodian(PACK)
    assert run.code == 0, run.text
    assert account.changes(before) == dict.fromkeys(wanted.values(), OFF)
    done = run_in(keyrot("reactivate", run.out, "--yes"))
    assert done.code == 0, done.text
    assert account.changes(before) == {}


def test_a_listing_that_stays_cut_off_is_not_read(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
) -> None:
    before = account.snapshot()
    user, *others = wanted
    cut = (
        b'<ListAccessKeysResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        b"<ListAccessKeysResult><AccessKeyMetadata/><IsTruncated>true</IsTruncated>"
        b"<Marker>again</Marker></ListAccessKeysResult><ResponseMetadata><RequestId>r</RequestId>"
        b"</ResponseMetadata></ListAccessKeysResponse>"
    )
    aws.answer("iam.ListAccessKeys", cut, status=200, user=user)
    run = run_custodian(PACK)
    assert run.code != 0
    assert run.lines(f"user {user!r}: keys not read, iam:ListAccessKeys failed", "no end")
    assert account.changes(before) == {wanted[other]: OFF for other in others}


def test_keys_that_change_between_notice_and_disabling(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
) -> None:
    """What is proven to be gone is so; of a user who isn't found nobody knows."""
    rotated, deleted, lost, *others = wanted

    def change(_: Any) -> None:
        account.rotate(rotated, 2)
        account.delete_key(deleted, 2)
        account.delete_user(lost)

    aws.after("sqs.SendMessage", change)
    aws.fail("iam.GetAccessKeyLastUsed", "AccessDenied")
    run = run_custodian(PACK)
    assert run.code != 0
    outcomes = {o["user"]: o["outcome"] for o in run.outcomes(STALE)}
    assert outcomes == {
        **dict.fromkeys((rotated, deleted), "gone"),
        lost: "unknown",
        **dict.fromkeys(others, "disabled"),
    }
    assert account.status(rotated, 2) == "Active"


@pytest.mark.parametrize(
    ("step", "action", "number"),
    [
        ("after", "iam.GetCredentialReport", 0),
        ("before", "iam.ListAccessKeys", 3),
        ("after", "sqs.SendMessage", 0),
        ("before", "iam.UpdateAccessKey", 0),
        ("after", "iam.UpdateAccessKey", 0),
        ("before", "iam.UpdateAccessKey", 3),
        ("after", "iam.UpdateAccessKey", 3),
    ],
)
def test_killed_run_is_finished_by_the_next(
    aws: EmbeddedAws,
    account: Account,
    home: Path,
    tmp_path: Path,
    wanted: dict[str, str],
    mends: Callable[..., PolicyRun],
    step: str,
    action: str,
    number: int,
) -> None:
    """SIGKILL around a call; what the run did stands in the intents, whatever it lost."""
    pack = as_file(PACK, tmp_path)
    before, out = account.snapshot(), tmp_path / "out"
    hook = getattr(aws, step)
    hook(action, lambda _: kill(process), skip=number)
    process = start(custodian("run", "-s", out, pack), aws.env(home=home), tmp_path)
    killed = finish(process)
    assert killed.code != 0
    begun = [json.loads(file.read_text()) for file in out.glob("*/keyrot-begun.jsonl")]
    # Custodian makes a policy's folder when it begins.
    assert sorted(line["policy"] for line in begun) == sorted(path.name for path in out.iterdir())
    time.sleep(0.3)  # calls that were under way
    disabled = set(account.changes(before))
    assert disabled <= set(wanted.values())
    file = out / STALE / "keyrot-intents.jsonl"
    intents = file.read_text() if file.exists() else ""
    assert all(key in intents for key in disabled)
    mends(before, out)


def test_interrupted_run_begins_no_further_key(
    aws: EmbeddedAws,
    account: Account,
    home: Path,
    tmp_path: Path,
    wanted: dict[str, str],
    mends: Callable[..., PolicyRun],
) -> None:
    """Ctrl-C while the first key is being disabled: that one is done and recorded, no other."""
    pack = as_file(PACK, tmp_path)
    before, out = account.snapshot(), tmp_path / "out"

    def interrupt(_: Any) -> None:
        os.kill(process.pid, signal.SIGINT)
        time.sleep(2)  # the call's answer comes when the process has long seen it

    aws.before("iam.UpdateAccessKey", interrupt)
    env = {**aws.env(home=home), "C7N_KEYROT_WORKERS": "1"}
    process = start(custodian("run", "-s", out, pack), env, tmp_path)
    assert finish(process).code != 0
    (disabled,) = account.changes(before)
    lines = map(json.loads, (out / STALE / "keyrot-outcomes.jsonl").read_text().splitlines())
    line, *others = sorted(lines, key=lambda line: line["outcome"])
    assert {one["outcome"] for one in others} == {"skipped"}
    assert len(others) == len(wanted) - 1
    assert (line["access_key_id"], line["outcome"]) == (disabled, "disabled")
    mends(before, out)


def test_two_runs_at_once_disable_each_key_once_or_twice_and_no_other(
    aws: EmbeddedAws,
    account: Account,
    home: Path,
    tmp_path: Path,
    wanted: dict[str, str],
    mends: Callable[..., PolicyRun],
) -> None:
    pack = as_file(PACK, tmp_path)
    before, out = account.snapshot(), tmp_path / "out"
    command = custodian("run", "-s", out, "--cache-period", "0", pack)
    both = [start(command, aws.env(home=home), tmp_path) for _ in range(2)]
    codes = [finish(process).code for process in both]
    assert codes == [0, 0]
    assert account.changes(before) == dict.fromkeys(wanted.values(), OFF)
    again = mends(before, out)
    disabled = [o for o in again.outcomes(STALE) if o["outcome"] == "disabled"]
    assert {o["access_key_id"] for o in disabled} == set(wanted.values())


def test_full_disk_stops_the_disabling_where_nothing_can_be_recorded(
    aws: EmbeddedAws,
    account: Account,
    home: Path,
    tmp_path: Path,
    wanted: dict[str, str],
    run_in: Callable[..., Finished],
    mends: Callable[..., PolicyRun],
) -> None:
    """The output folder takes no more than what stands before the first outcome."""
    pack = as_file(PACK, tmp_path)
    before, out = account.snapshot(), tmp_path / "out"
    whole = run_in([*custodian("run", "--dryrun", "-s", out), pack])
    assert whole.code == 0, whole.text
    largest = (out / STALE / "resources.json").stat().st_size
    folder = out / STALE
    (folder / "keyrot-intents.jsonl").write_bytes(b"{}\n" * ((largest + 4096) // 3))
    run = run_in(["prlimit", f"--fsize={largest + 4500}", *custodian("run", "-s", out), pack])
    assert run.code != 0
    assert run.lines("not tried, since keyrot-intents.jsonl can't be written")
    assert account.changes(before) == {}
    assert aws.messages(world.QUEUE) == []
    mends(before)


REPORTS = {
    "a missing column": lambda text: text.replace("access_key_2_last_rotated", "x"),
    "cut in the middle": lambda text: text[: len(text) // 2],
    "wrong encoding": lambda text: text.encode("utf-16"),
    "empty": lambda text: "",
}


def test_report_that_cannot_be_trusted_is_refused_whole(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    tmp_path: Path,
) -> None:
    before = account.snapshot()
    for damage, damaged in REPORTS.items():
        account.set_report(damaged(account.report_text()))
        run = run_custodian(PACK, out=tmp_path / damage)
        assert run.code != 0, damage
        assert account.changes(before) == {}, damage
        assert run.lines("keyrot:ERROR", "credential report:"), damage
    account.generate_report()
    again = run_custodian(PACK)  # with Custodian's default cache, which holds none of these
    assert again.code == 0, again.text
    assert account.changes(before) == dict.fromkeys(wanted.values(), OFF)


def test_rows_that_cannot_be_trusted_are_left_alone_and_all_others_are_done(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
) -> None:
    twice, undated, future, expired, *others = wanted
    header, *lines = account.report_text().splitlines()
    rows = {line.split(",")[0]: line for line in lines}
    columns = header.split(",")

    def says(user: str, column: str, value: Any) -> None:
        fields = rows[user].split(",")
        fields[columns.index(f"access_key_2_{column}")] = value
        rows[user] = ",".join(fields)

    says(undated, "last_rotated", "yesterday")
    says(future, "last_rotated", "2999-01-01T00:00:00+00:00")
    says(expired, "active", "Expired")
    account.set_report("\n".join([header, *rows.values(), rows[twice]]))
    before = account.snapshot()
    run = run_custodian(PACK)
    assert run.code == 0, run.text
    assert account.changes(before) == {wanted[user]: OFF for user in others}
    assert run.lines("keyrot:WARNING", repr(twice), "twice")
    for user in (undated, expired):
        assert run.lines("keyrot:WARNING", repr(user), "unknown")


def test_account_of_5000_users(
    aws: EmbeddedAws, account: Account, run_custodian: Callable[..., PolicyRun]
) -> None:
    """AWS's limit is 5,000 users an account: those to disable, and no call for anybody else."""
    aws.create_queue(world.QUEUE)
    wanted = seed_bench(account, 5000, find=10)
    account.generate_report()
    before = account.snapshot()
    run = run_custodian(PACK)
    assert run.code == 0, run.text
    assert account.changes(before) == dict.fromkeys(wanted.values(), OFF)
    assert {call.user for call in account.log if call.user} == wanted.keys()


@pytest.mark.waits
def test_report_states_in_any_order_are_waited_for(
    aws: EmbeddedAws,
    account: Account,
    wanted: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
) -> None:
    account.set_report_states("STARTED", "INPROGRESS", "COMPLETE", "STARTED")
    for error in ("ReportExpired", "ReportNotPresent", "ReportInProgress"):
        aws.fail("iam.GetCredentialReport", error, times=1)
    aws.fail("iam.GenerateCredentialReport", "LimitExceeded", times=1)
    before = account.snapshot()
    run = run_custodian(PACK)
    assert run.code == 0, run.text
    assert account.changes(before) == dict.fromkeys(wanted.values(), OFF)
