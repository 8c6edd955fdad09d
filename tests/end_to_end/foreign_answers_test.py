# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Something that isn't AWS answers the real `custodian`: a proxy's page, a cut body, nothing.

Each user gets another of those answers, so one run sees them all. TESTING.md has the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import Finished, PolicyRun, keyrot

from embedded_aws import FOREIGN, Account, EmbeddedAws, seed_bench

PACK = Path(__file__).parents[2] / "policies"
STALE = "iam-user-second-access-key-stale"
QUICK = {
    "C7N_KEYROT_TRIES": "3",
    "C7N_KEYROT_PATIENCE": "4",
    "C7N_KEYROT_REPORT_LIMIT": "4",
    "C7N_KEYROT_LAG": "1",
}
OFF = ("Active", "Inactive")
# What is sent, and with which status: a page comes with many.
ANSWERS = [(name, None) for name in FOREIGN] + [
    ("HTML page", 403),
    ("XHTML page", 407),
    ("5 MB", 502),
]
# Bytes that only the bodies hold.
BODY = "Please sign in"

DISABLE = [{"type": "stale-access-key", "unused-days": 0.5}], "disable-access-key", "disabled"
DELETE = [{"type": "stale-access-key", "status": "Inactive"}], "delete-access-key", "deleted"
# The call, the policy, the outcome of who gets such answers for ever, and whether the call is
# carried out behind them.
CALLS = [
    ("GetUser", DISABLE, {"skipped"}, False),
    ("ListAccessKeys", DISABLE, {"skipped"}, False),
    ("GetAccessKeyLastUsed", DISABLE, {"skipped"}, False),
    ("UpdateAccessKey", DISABLE, {"unknown"}, False),
    ("UpdateAccessKey", DISABLE, {"disabled"}, True),
    ("DeleteAccessKey", DELETE, {"unknown"}, False),
    ("DeleteAccessKey", DELETE, {"deleted"}, True),
]
# One that reads and one that changes; the others, which go the same way, are left to a release.
USUAL = ("GetUser", "UpdateAccessKey")
EACH_CALL = [
    pytest.param(
        *case,
        id=f"{case[0]}{', carried out' if case[-1] else ''}",
        marks=() if case[0] in USUAL and not case[-1] else pytest.mark.release,
    )
    for case in CALLS
]


@pytest.fixture
def users(account: Account) -> dict[str, str]:
    """A user with a stale second key for each answer, and five more. {user: key id}"""
    found = seed_bench(account, 40, find=len(ANSWERS) + 5)
    account.generate_report()
    return found


def policy(filters: list[Any], action: str) -> dict[str, Any]:
    return {
        "policies": [
            {
                "name": "test",
                "resource": "aws.iam-user",
                "source": "credential-report",
                "filters": filters,
                "actions": [action],
            }
        ]
    }


def answer_all(aws: EmbeddedAws, call: str, users: dict[str, str], **how: Any) -> list[str]:
    """Let each of the first users get another answer to the call; they are returned."""
    chosen = list(users)[: len(ANSWERS)]
    for user, (name, status) in zip(chosen, ANSWERS, strict=True):
        answer = FOREIGN[name]
        if answer.late and not how.get("late", True):
            answer = FOREIGN["HTML page"]  # a real answer is cut behind a call carried out only
        aws.answer(f"iam.{call}", answer, status=status, user=user, **how)
    return chosen


def is_clean(run: PolicyRun) -> None:
    """No body of an answer, no long line, and no trace of how an answer was read."""
    assert BODY not in run.text
    assert "ResponseParserError" not in run.text
    assert "KeyError" not in run.text
    for line in run.lines("keyrot:"):
        assert len(line) < 400, line


def prepare(
    account: Account, users: dict[str, str], action: Any
) -> tuple[dict[str, str], dict[str, str]]:
    """Return whose keys are to be acted on, and how all keys are before."""
    if action == "delete-access-key":
        for user in users:
            account.set_status(user, 2, "Inactive")
        account.generate_report()
        users = account.expected(status="Inactive")
    return users, account.snapshot()


@pytest.mark.waits
@pytest.mark.parametrize(("call", "work", "left", "late"), EACH_CALL)
def test_for_ever_takes_these_users_only(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    call: str,
    work: tuple[list[Any], str, str],
    left: set[str],
    late: bool,
) -> None:
    """All others are done, the run ends with an error, and no outcome is false.

    The next run gets each answer once, and does the rest.
    """
    filters, action, outcome = work
    users, before = prepare(account, users, action)
    chosen = answer_all(aws, call, users, late=late)
    run = run_custodian(policy(filters, action), env=QUICK)
    found = {o["user"]: o["outcome"] for o in run.outcomes("test")}
    others = users.keys() - chosen
    assert {user: found[user] for user in others} == dict.fromkeys(others, outcome)
    done = {user for user in users if account.changes(before).get(users[user])}
    for user in chosen:
        assert found[user] in left | ({outcome, "unknown"} if user in done else set()), user
        if found[user] in ("disabled", "deleted"):
            assert user in done, "the outcome is true"
        elif found[user] == "skipped":
            assert user not in done
    assert others <= done
    assert (run.code == 0) is (set(found.values()) == {outcome}), run.text
    is_clean(run)
    for user in chosen:
        assert len(run.lines("keyrot:ERROR", repr(user))) <= 1, "a line a cause"
    aws.heal()
    answer_all(aws, call, users, times=1, late=late)
    again = run_custodian(policy(filters, action))
    assert again.code == 0, again.text
    is_clean(again)
    after = OFF if outcome == "disabled" else ("Inactive", None)
    assert account.changes(before) == dict.fromkeys(users.values(), after)


@pytest.mark.waits
@pytest.mark.parametrize("call", ["GetUser", "ListAccessKeys", "UpdateAccessKey"])
def test_for_ever_and_for_all_disables_nobody(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    call: str,
) -> None:
    before = account.snapshot()
    aws.answer(f"iam.{call}", FOREIGN["HTML page"], status=407)
    filters, action, _ = DISABLE
    run = run_custodian(policy(filters, action), env=QUICK)
    assert run.code != 0
    assert account.changes(before) == {}
    outcomes = {o["outcome"] for o in run.outcomes("test")}
    assert outcomes <= {"skipped", "unknown"}
    assert run.lines("keyrot:ERROR", call), run.text
    is_clean(run)


@pytest.mark.waits
@pytest.mark.parametrize("answer", ["HTML page", "XHTML page", "empty", "cut", "5 MB"])
def test_the_credential_report_is_asked_for_again(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    answer: str,
) -> None:
    before = account.snapshot()
    aws.answer("iam.GenerateCredentialReport", FOREIGN[answer])  # for ever: the last one serves
    aws.answer("iam.GetCredentialReport", FOREIGN[answer], times=1)
    filters, action, _ = DISABLE
    run = run_custodian(policy(filters, action), env={"C7N_KEYROT_TRIES": "3"})
    assert run.code == 0, run.text
    assert account.changes(before) == dict.fromkeys(users.values(), OFF)
    assert run.lines("keyrot:WARNING", "going on with the last report"), run.text
    is_clean(run)


@pytest.mark.waits
def test_a_credential_report_that_is_never_one_ends_the_run_in_one_line(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
) -> None:
    before = account.snapshot()
    aws.answer("iam.GetCredentialReport", FOREIGN["XHTML page"])
    run = run_custodian(PACK, "--cache-period", "0", env=QUICK)
    assert run.code != 0
    assert account.changes(before) == {}
    lines = run.lines("keyrot:ERROR", "credential report:", "something that isn't AWS answered")
    assert len(lines) == 3, "one a policy"
    is_clean(run)


# Listings that lag behind writes


@pytest.mark.waits
@pytest.mark.parametrize("seconds", [2, 60])
def test_a_listing_that_lags_proves_the_new_state_only(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
    seconds: float,
) -> None:
    """The calls took effect, and a gateway answered 503 each time."""
    before, user = account.snapshot(), next(iter(users))
    aws.lag(seconds)
    aws.fail("iam.UpdateAccessKey", "ServiceUnavailable", user=user, late=True)
    filters, action, _ = DISABLE
    run = run_custodian(policy(filters, action), env=QUICK | {"C7N_KEYROT_LAG": "4"})
    found = {o["user"]: o["outcome"] for o in run.outcomes("test")}
    assert found[user] == ("disabled" if seconds == 2 else "unknown")
    assert (run.code == 0) is (seconds == 2), run.text
    assert account.changes(before) == dict.fromkeys(users.values(), OFF)
    aws.heal()
    back = run_in(keyrot("reactivate", run.out, "--key", users[user], "--yes"))
    assert account.status(user, 2) == "Active", back.text


# Output in a bucket


BUCKET = "s3://keyrot-out/runs?region=us-east-1"


def bucket_policy(*before: Any, after: Sequence[Any] = ()) -> dict[str, Any]:
    filters, action, _ = DISABLE
    whole = policy(filters, action)
    whole["policies"][0]["actions"] = [*before, action, *after]
    return whole


NOTICE = {
    "type": "notify",
    "to": ["resource-owner"],
    "template": "c7n_keyrot-disabling.html",
    "transport": {"type": "sqs", "queue": "q"},
}


@pytest.mark.parametrize("last", [False, True], ids=["notice first", "notice last"])
@pytest.mark.parametrize("fault", ["missing", "denied"])
def test_no_key_is_touched_whose_intent_is_not_in_the_bucket(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    fault: str,
    last: bool,
) -> None:
    """Nor is anybody notified that it will be."""
    before = account.snapshot()
    aws.create_queue("q")
    if fault == "denied":
        aws.create_bucket("keyrot-out")
        aws.fail("s3.PUT *", "AccessDenied")
    whole = bucket_policy(after=[NOTICE]) if last else bucket_policy(NOTICE)
    run = run_custodian(whole, out=BUCKET)
    assert run.code != 0
    assert account.changes(before) == {}
    assert aws.messages("q") == []
    (line,) = run.lines("keyrot:ERROR", f"{len(users)} keys not tried, since their intents")
    assert "check the bucket of -s" in line


def test_intents_are_in_the_bucket_before_the_first_notice(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
) -> None:
    aws.create_bucket("keyrot-out")
    seen = []
    aws.create_queue("q")
    aws.before("sqs.SendMessage", lambda _: seen.extend(aws.objects("keyrot-out")), times=1)
    run = run_custodian(bucket_policy(NOTICE), out=BUCKET)
    assert run.code == 0, run.text
    assert [
        re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "RUN", key.rpartition("/")[2]) for key in seen
    ] == ["keyrot-begun-RUN.jsonl.gz", "keyrot-intents-RUN.jsonl.gz"]
    names = [key.rpartition("/")[2] for key in aws.objects("keyrot-out")]
    assert len([name for name in names if name.startswith("keyrot-intents-")]) == 1
    assert len([name for name in names if name.startswith("keyrot-outcomes-")]) == 1


def test_an_upload_that_fails_at_the_end_says_where_the_outcomes_are(
    aws: EmbeddedAws,
    account: Account,
    users: dict[str, str],
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    aws.create_bucket("keyrot-out")
    aws.fail("s3.PUT *", "AccessDenied", skip=2)
    run = run_custodian(bucket_policy(), out=BUCKET)
    assert run.code != 0
    (line,) = run.lines(
        f"account {account.id} (policy test): the output can't be copied to s3://keyrot-out/runs"
    )
    folder = re.search(r"each key is in (\S+);", line)[1]
    back = run_in(keyrot("reactivate", folder, "--yes"))
    assert back.code == 0, back.text
    assert {account.status(user, 2) for user in users} == {"Active"}
