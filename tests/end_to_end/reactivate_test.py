# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot reactivate` after real runs of the pack: the way back."""

from __future__ import annotations

import gzip
import json
import os
import pty
import shlex
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from harness import Finished, PolicyRun, as_file, finish, keyrot, kill, start

from demo import world
from embedded_aws import FOREIGN, HUB, Account, EmbeddedAws, Key
from embedded_aws.foreign import CUT_BEHIND_SECRETS

PACK = Path(__file__).parents[2] / "policies" / "second-access-key.yml"
STALE = "iam-user-second-access-key-stale"
FRESH, OLD = Key(5), Key(200)
OTHER = "111111111111"
DISABLE = "disable-access-key"
POLICIES = {
    "policies": [
        {
            "name": "p",
            "resource": "aws.iam-user",
            "source": "credential-report",
            "filters": ["stale-access-key"],
            "actions": ["disable-access-key"],
        }
    ]
}


# A test that needs an error to stay doesn't wait for AWS as long as a run does.
QUICK = {"C7N_KEYROT_PATIENCE": "3", "C7N_KEYROT_LAG": "0.5"}


@pytest.fixture
def just_acted(account: Account, run_custodian: Callable[..., PolicyRun]) -> PolicyRun:
    """A run that disabled the second keys of ana and ben a moment ago."""
    for name in ("ana", "ben"):
        account.add_user(name, FRESH, OLD)
    done = run_custodian(POLICIES)
    assert done.code == 0, done.text
    assert account.status("ana", 2) == account.status("ben", 2) == "Inactive"
    return done


@pytest.fixture
def acted(just_acted: PolicyRun) -> PolicyRun:
    """The same, an hour ago: IAM's listings show what it did."""
    made_older(just_acted.folder("p"))
    return just_acted


def made_older(folder: Path, minutes: float = 60) -> None:
    for file in folder.glob("keyrot-*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            time = datetime.fromisoformat(line["time"]) - timedelta(minutes=minutes)
            line["time"] = time.isoformat(timespec="milliseconds")
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def disabled_by_us(run: PolicyRun, account: Account, **users: str) -> None:
    """Let the outcomes tell that the pack disabled the second keys of these, too."""
    for file in (run.folder("p") / f"keyrot-{name}.jsonl" for name in ("intents", "outcomes")):
        line = json.loads(file.read_text().splitlines()[0])
        with file.open("a") as lines:
            for told, name in users.items():
                key = account.key_id(name, 2)
                more = {**line, "user": told.replace("_", "-"), "access_key_id": key}
                lines.write(json.dumps(more) + "\n")


def at_a_terminal(
    args: list[str | Path],
    env: dict[str, str],
    answer: str = "yes\n",
    meanwhile: Callable[[], object] = lambda: None,
) -> tuple[int, str]:
    """Run a command at a terminal, and answer once it asks: (exit code, what it wrote).

    :param meanwhile: what happens while it waits for the answer.
    """
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [str(arg) for arg in args],
        env=env,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        text = ""
        while "Type yes: " not in text:
            more = process.stdout.read(1)
            assert more, text
            text += more
        meanwhile()
        os.write(master, answer.encode())
        text += process.communicate(timeout=60)[0]
    finally:
        process.kill()
        os.close(master)
        os.close(slave)
    return process.returncode, text


def test_there_and_back_again(
    acted: PolicyRun, account: Account, run_in: Callable[..., Finished]
) -> None:
    """Shown, done, recorded beside the disabling; again is a no-op, and so is a later no."""
    keys = {name: account.key_id(name, 2) for name in ("ana", "ben")}
    shown = run_in(keyrot("reactivate", acted.out))
    assert shown.code == 1
    for name, key in keys.items():
        assert shown.lines(HUB, name, "  2 ", key, "UTC", " p")
    assert shown.lines("Nothing done", "--yes")
    assert account.status("ana", 2) == "Inactive"

    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 0, done.text
    assert done.lines("Result: 2 reactivated.")
    assert done.lines("aws iam tag-user", "keyrot-exempt-until")
    assert account.status("ana", 2) == account.status("ben", 2) == "Active"
    lines = acted.outcomes("p")
    assert [line["outcome"] for line in lines] == ["disabled"] * 2 + ["reactivated"] * 2
    assert {line["access_key_id"] for line in lines[2:]} == set(keys.values())
    assert {(line["action"], line["policy"], line["slot"]) for line in lines[2:]} == {
        ("reactivate", "p", 2)
    }
    assert len({line["run"] for line in lines}) == 2

    # Deactivated by somebody else, later, and for a reason.
    account.set_status("ana", 2, "Inactive")
    again = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert again.code == 0
    assert again.lines("Nothing to reactivate")
    assert account.status("ana", 2) == "Inactive"


def test_asks_at_a_terminal(
    acted: PolicyRun, account: Account, aws: EmbeddedAws, home: Path
) -> None:
    args = keyrot("reactivate", acted.out, "--user", "ana")
    for answer, told in (
        ("\n", "Nothing done."),
        ("\4", "Nothing done."),
        ("No\n", "Nothing done."),
        ("of course\n", "Nothing done: 'of course' is neither yes nor no."),
    ):
        found, text = at_a_terminal(args, aws.env(home=home), answer)
        assert found == 1, text
        assert "Reactivate 1 key? Type yes:" in text
        assert told in text
        assert account.status("ana", 2) == "Inactive"
    for user, answer in (("ana", "y\n"), ("ben", "YES\n")):
        args = keyrot("reactivate", acted.out, "--user", user)
        found, text = at_a_terminal(args, aws.env(home=home), answer)
        assert found == 0, text
        assert account.status(user, 2) == "Active"


def test_only_what_is_asked_for(
    acted: PolicyRun, account: Account, run_in: Callable[..., Finished]
) -> None:
    ben = account.key_id("ben", 2)
    for wrong in (("--user", "bne"), ("--key", "AKIANONE"), ("--user", "ana", "--key", ben)):
        done = run_in(keyrot("reactivate", acted.out, "--yes", *wrong))
        assert done.code == 1
        assert done.lines("c7n-keyrot reactivate:", "nothing done")
    done = run_in(keyrot("reactivate", acted.out, "--yes", "--key", ben))
    assert done.code == 0, done.text
    assert (account.status("ana", 2), account.status("ben", 2)) == ("Inactive", "Active")
    done = run_in(keyrot("reactivate", acted.out, "--yes", "--user", "ben"))
    assert done.code == 0
    assert done.lines("ben", ben, "reactivated at", "nothing to undo")


def test_gone_active_denied_renamed(
    acted: PolicyRun, account: Account, aws: EmbeddedAws, run_in: Callable[..., Finished]
) -> None:
    """One key's trouble stops no other, and each is recorded."""
    for name in ("cem", "dora"):
        account.add_user(name, FRESH, OLD)
    account.add_user("eva", FRESH, OLD)
    for name in ("cem", "dora", "eva"):
        account.set_status(name, 2, "Inactive")
    disabled_by_us(acted, account, cem="cem", dora="dora", was_eva="eva")
    account.delete_user("ana")
    account.set_status("ben", 2, "Active")
    aws.fail("iam.UpdateAccessKey", "AccessDenied", user="cem")
    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 1
    assert done.lines("user ana", "gone")
    assert done.lines("user ben", "skipped", "Active already")
    assert done.lines("user cem", "denied: iam:UpdateAccessKey is denied")
    assert account.status("cem", 2) == "Inactive"
    assert account.status("dora", 2) == account.status("eva", 2) == "Active"
    recorded = {o["user"]: o["outcome"] for o in acted.outcomes("p")[5:]}
    assert recorded == {
        "ana": "gone",
        "ben": "skipped",
        "cem": "denied",
        "dora": "reactivated",
        "eva": "reactivated",
    }
    # What was denied can be tried again.
    aws.heal()
    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 0, done.text
    assert account.status("cem", 2) == "Active"
    assert done.lines("Result:", "1 reactivated")


def test_keys_that_cannot_be_looked_at_are_left(
    acted: PolicyRun, account: Account, aws: EmbeddedAws, run_in: Callable[..., Finished]
) -> None:
    aws.fail("iam.ListAccessKeys", "AccessDenied", user="ana")
    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 1
    assert done.lines("user ana", "denied: iam:ListAccessKeys is denied")
    assert (account.status("ana", 2), account.status("ben", 2)) == ("Inactive", "Active")


def test_another_account_is_refused(
    acted: PolicyRun, account: Account, run_in: Callable[..., Finished]
) -> None:
    done = run_in(keyrot("reactivate", acted.out, "--yes"), account_id=OTHER)
    assert done.code == 1
    assert done.lines("c7n-keyrot reactivate:", HUB, OTHER, "AWS_PROFILE")
    assert account.status("ana", 2) == "Inactive"


def test_without_credentials(acted: PolicyRun, run_in: Callable[..., Finished]) -> None:
    env = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = run_in(keyrot("reactivate", acted.out), env=env)
    assert done.code == 1
    assert done.lines("no AWS credentials that work")
    assert "Traceback" not in done.text


def test_over_a_tree_of_c7n_org(
    aws: EmbeddedAws,
    tmp_path: Path,
    run_c7n_org: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    """With the hub's credentials: its roles by accounts.yml; without that, what to use is said."""
    homes = world.seed_organization(aws)
    accounts = world.accounts_file()
    queue = f"arn:aws:sqs:us-east-1:{HUB}:{world.QUEUE}"
    for account in accounts["accounts"]:
        account["vars"] = {"action": {"queue": queue}}
    before = {account_id: aws.account(account_id).snapshot() for account_id in homes}
    acted = run_c7n_org(accounts, PACK)
    assert acted.code == 0, acted.text
    payments, shop = "222222222222", "111111111111"
    assert aws.account(payments).changes(before[payments])

    refused = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert refused.code == 1
    assert refused.lines(HUB, shop, payments, "--accounts accounts.yml")

    one = run_in(keyrot("reactivate", acted.out, "--yes"), account_id=payments)
    assert one.code == 1
    assert one.lines(f"account {shop}:", "9 keys are left as they are", "--accounts")
    assert aws.account(payments).changes(before[payments]) == {}
    assert aws.account(shop).changes(before[shop])

    # With a file, the file is what to mend.
    file = as_file({"accounts": accounts["accounts"][2:]}, tmp_path)
    wrong = run_in(keyrot("reactivate", acted.out, "--yes", "--accounts", file))
    assert wrong.code == 1
    assert wrong.lines(f"account {shop}:", f"it isn't in {file}; add it there", "AWS_PROFILE")
    assert not wrong.lines("--accounts")

    file = as_file({"accounts": accounts["accounts"][:2]}, tmp_path)
    both = run_in(keyrot("reactivate", acted.out, "--yes", "--accounts", file))
    assert both.code == 0, both.text
    assert both.lines("Result: 9 reactivated.")
    assert aws.account(shop).changes(before[shop]) == {}


def test_accounts_file_that_does_not_lead_there(
    aws: EmbeddedAws,
    tmp_path: Path,
    account: Account,
    acted: PolicyRun,
    run_in: Callable[..., Finished],
) -> None:
    aws.account(OTHER).add_role()
    wrong = {"account_id": HUB, "role": f"arn:aws:iam::{OTHER}:role/c7n-keyrot"}
    done = run_in(
        keyrot(
            "reactivate", acted.out, "--yes", "--accounts", as_file({"accounts": [wrong]}, tmp_path)
        )
    )
    assert done.code == 1
    assert done.lines(f"account {HUB}:", f"leads to account {OTHER}")
    aws.fail("sts.AssumeRole", "AccessDenied")
    done = run_in(
        keyrot(
            "reactivate", acted.out, "--yes", "--accounts", as_file({"accounts": [wrong]}, tmp_path)
        )
    )
    assert done.code == 1
    assert done.lines(f"account {HUB}:", "sts:AssumeRole is denied (AccessDenied)")
    assert account.status("ana", 2) == "Inactive"


def assert_in_doubt(
    run_in: Callable[..., Finished], account: Account, out: Path, user: str, why: str
) -> None:
    """It is shown with CloudTrail's command, taken by no yes, and by --key; all in one line."""
    key = account.key_id(user, 2)
    done = run_in(keyrot("reactivate", out, "--yes", "--user", user))
    assert done.code == 1
    assert done.lines(f"user {user}: key {key}: left in doubt: ", why)
    assert done.lines("aws cloudtrail lookup-events --region us-east-1", key, "UpdateAccessKey")
    assert account.status(user, 2) == "Inactive"
    (line,) = done.lines("  c7n-keyrot reactivate ", f"--key {key}")
    assert shlex.split(line)[2] == str(out)
    done = run_in(keyrot(*shlex.split(line)[1:], "--yes"))
    assert done.code == 0, done.text
    assert done.lines(HUB, key, "in doubt", why)
    assert account.status(user, 2) == "Active"


def test_run_that_was_killed_between_the_call_and_its_outcome(
    account: Account, aws: EmbeddedAws, home: Path, tmp_path: Path, run_in: Callable[..., Finished]
) -> None:
    """Whether it has switched the key off, or somebody else has since, only CloudTrail knows."""
    account.add_user("ana", FRESH, OLD)
    account.generate_report()
    out = tmp_path / "out"
    file = as_file(POLICIES, tmp_path)
    aws.after("iam.UpdateAccessKey", lambda call: kill(process))
    process = start(["custodian", "run", "-s", out, file], aws.env(home=home), tmp_path)
    finish(process)
    assert account.status("ana", 2) == "Inactive"
    assert not (out / "p" / "keyrot-outcomes.jsonl").exists()
    assert_in_doubt(run_in, account, out, "ana", "was cut short")
    lines = (out / "p" / "keyrot-outcomes.jsonl").read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["reactivated"]


def test_doubts_are_left_at_a_terminal_too(
    acted: PolicyRun, account: Account, aws: EmbeddedAws, home: Path
) -> None:
    """Yes is the answer for those in the table; a key in doubt is in it only when it is named."""
    ana = account.key_id("ana", 2)
    intents = acted.folder("p") / "keyrot-intents.jsonl"
    kept = [line for line in intents.read_text().splitlines() if ana not in line]
    intents.write_text("".join(f"{line}\n" for line in kept))
    code, text = at_a_terminal(keyrot("reactivate", acted.out), aws.env(home=home))
    assert code == 1
    assert "Reactivate 1 key?" in text
    assert "that run's intents don't name it" in text
    assert "Result: 1 left in doubt, 1 reactivated." in text
    assert (account.status("ana", 2), account.status("ben", 2)) == ("Inactive", "Active")
    args = keyrot("reactivate", acted.out, "--key", ana)
    code, text = at_a_terminal(args, aws.env(home=home), "y\n")
    assert code == 0, text
    assert account.status("ana", 2) == "Active"


def test_run_that_knows_not_what_became_of_its_call(
    account: Account,
    aws: EmbeddedAws,
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    account.add_user("ana", FRESH, OLD)
    aws.fail("iam.UpdateAccessKey", "ServiceFailure", late=True)
    aws.fail("iam.ListAccessKeys", "ServiceFailure", skip=1)
    run = run_custodian(POLICIES, env=QUICK)
    assert run.code != 0
    assert [line["outcome"] for line in run.outcomes("p")] == ["unknown"]
    aws.heal()
    assert_in_doubt(run_in, account, run.out, "ana", "got no answer")


def test_killed_half_way_it_goes_on_the_next_time(
    acted: PolicyRun,
    account: Account,
    aws: EmbeddedAws,
    home: Path,
    run_in: Callable[..., Finished],
) -> None:
    """A key at whose call it was is left if it is inactive, unless it is named."""
    aws.after("iam.UpdateAccessKey", lambda call: kill(process))
    process = start(keyrot("reactivate", acted.out, "--yes"), aws.env(home=home))
    finish(process)
    aws.heal()
    # The other's call may have been made, or not, or have been on its way.
    keys = {account.key_id(name, 2) for name in ("ana", "ben")}
    off = {key for key in keys if "Inactive" in statuses(account, key)}
    left = run_in(keyrot("reactivate", acted.out, "--yes"))
    told = {key for key in off if left.lines(key, "left in doubt", "reactivate at")}
    assert (left.code == 1) == bool(told), left.text
    if told:
        (line,) = left.lines("  c7n-keyrot reactivate ", "--key")
        done = run_in(keyrot(*shlex.split(line)[1:], "--yes"))
        assert done.code == 0, done.text
    assert account.status("ana", 2) == account.status("ben", 2) == "Active"
    assert {o["outcome"] for o in acted.outcomes("p")[2:]} <= {"reactivated", "skipped"}


def statuses(account: Account, key_id: str) -> set[str]:
    return {key.status for key in account.live_keys() if key.access_key_id == key_id}


def test_killed_between_the_call_and_its_outcome_it_undoes_no_later_decision(
    acted: PolicyRun,
    account: Account,
    aws: EmbeddedAws,
    home: Path,
    run_in: Callable[..., Finished],
) -> None:
    args = keyrot("reactivate", acted.out, "--yes", "--user", "ana")
    aws.after("iam.UpdateAccessKey", lambda call: kill(process))
    process = start(args, aws.env(home=home))
    finish(process)
    aws.heal()
    assert account.status("ana", 2) == "Active"
    account.set_status("ana", 2, "Inactive")  # it was in a leak
    assert_in_doubt(run_in, account, acted.out, "ana", "the reactivate at")


@pytest.mark.waits
@pytest.mark.parametrize(
    ("update", "listing", "code", "outcome", "words", "after"),
    [
        # (what the call does, and the listing behind it, exit code, outcome, the key afterwards)
        ({"late": True}, {"lag": 3}, 0, "reactivated", "the answer was lost", "Active"),
        ({"late": True}, {"lag": 900}, 1, "unknown", "it may have taken effect", "Active"),
        ({"late": True}, {"fails": 2}, 1, "unknown", "it may have taken effect", "Active"),
        ({}, {}, 1, "unknown", "it may have taken effect", "Inactive"),
    ],
)
def test_lost_answer(
    acted: PolicyRun,
    account: Account,
    aws: EmbeddedAws,
    run_in: Callable[..., Finished],
    update: dict[str, Any],
    listing: dict[str, Any],
    code: int,
    outcome: str,
    words: str,
    after: str,
) -> None:
    """The call is made again, then looked into; a listing proves the new status only."""
    aws.answer("iam.UpdateAccessKey", FOREIGN["HTML page"], user="ana", **update)
    if "lag" in listing:
        aws.lag(listing["lag"])
    if "fails" in listing:
        aws.fail("iam.ListAccessKeys", "AccessDenied", skip=listing["fails"])
    args = keyrot("reactivate", acted.out, "--yes", "--user", "ana")
    lag = "8" if listing.get("lag") == 3 else "1"
    done = run_in(args, env={"C7N_KEYROT_PATIENCE": "6", "C7N_KEYROT_LAG": lag})
    assert done.code == code, done.text
    assert done.lines("user ana", outcome, words)
    assert account.status("ana", 2) == after
    assert acted.outcomes("p")[-1]["outcome"] == outcome
    assert "<html" not in done.text.lower()
    assert "Traceback" not in done.text
    aws.heal()
    account.set_status("ana", 2, "Inactive")
    if outcome == "unknown":
        assert_in_doubt(run_in, account, acted.out, "ana", "the reactivate at")
    else:  # What was switched on is off by somebody's decision.
        again = run_in(args)
        assert again.code == 0, again.text
        assert account.status("ana", 2) == "Inactive"


@pytest.mark.waits
@pytest.mark.parametrize("action", ["iam.UpdateAccessKey", "iam.ListAccessKeys"])
def test_answers_that_are_not_awss(
    just_acted: PolicyRun,
    account: Account,
    aws: EmbeddedAws,
    run_in: Callable[..., Finished],
    action: str,
) -> None:
    """One a user; all others are done, and each has an outcome that is true, or unknown."""
    names = {name: f"u{number}" for number, name in enumerate(sorted(FOREIGN))}
    for name, user in names.items():
        account.add_user(user, FRESH, OLD)
        account.set_status(user, 2, "Inactive")
        aws.answer(action, FOREIGN[name], user=user)
    disabled_by_us(just_acted, account, **{user: user for user in names.values()})
    made_older(just_acted.folder("p"))
    done = run_in(keyrot("reactivate", just_acted.out, "--yes"), env=QUICK)
    assert done.code == 1
    found = {o["user"]: o["outcome"] for o in just_acted.outcomes("p") if o["action"] != DISABLE}
    for user, outcome in found.items():
        on = account.status(user, 2) == "Active"
        if user in ("ana", "ben"):
            assert (outcome, on) == ("reactivated", True)
        elif "List" in action:
            assert (outcome, on) == ("failed", False)
        else:  # of one that is cut the call has taken effect
            assert (outcome, on) in (("reactivated", True), ("unknown", on))
        assert len(done.lines(f"user {user}: ", outcome)) == 1
    assert found.keys() == {"ana", "ben", *names.values()}
    assert "Traceback" not in done.text
    assert len(done.text) < 10_000


def test_answer_that_is_cut_behind_a_secret(
    aws: EmbeddedAws,
    acted: PolicyRun,
    account: Account,
    tmp_path: Path,
    run_in: Callable[..., Finished],
) -> None:
    """AssumeRole's answer holds credentials; no error quotes it."""
    account.add_role()
    role = {"account_id": HUB, "role": f"arn:aws:iam::{HUB}:role/c7n-keyrot"}
    file = as_file({"accounts": [role]}, tmp_path)
    for answer in (CUT_BEHIND_SECRETS, replace(CUT_BEHIND_SECRETS, torn=True)):
        aws.answer("sts.AssumeRole", answer)
        args = keyrot("reactivate", acted.out, "--yes", "--accounts", file)
        done = run_in(args, env=QUICK)
        assert done.code == 1
        assert done.lines(f"account {HUB}: 2 keys are left as they are", "sts:AssumeRole failed")
        assert aws.secrets
        for text in (done.text, *(f.read_text() for f in acted.out.rglob("*.jsonl"))):
            assert not [secret for secret in aws.secrets if secret in text]
        assert "Traceback" not in done.text
        aws.heal()
    assert account.status("ana", 2) == "Inactive"


def test_one_accounts_role_costs_no_other(
    aws: EmbeddedAws, tmp_path: Path, run_in: Callable[..., Finished]
) -> None:
    """Whatever answers in the place of STS: the other accounts are done."""
    ids = ("111111111111", "222222222222", "333333333333")
    disabled_in(aws, tmp_path, ids)
    aws.answer("sts.AssumeRole", FOREIGN["HTML page"], when=lambda p: ids[1] in p["RoleArn"])
    file = as_file({"accounts": [{"account_id": i, "role": "c7n-keyrot"} for i in ids]}, tmp_path)
    done = run_in(keyrot("reactivate", tmp_path, "--yes", "--accounts", file), env=QUICK)
    assert done.code == 1
    assert done.lines(f"account {ids[1]}: 1 key is left as it is", "sts:AssumeRole failed")
    assert done.lines("Result: 2 reactivated.")
    found = [aws.account(one).status("ana", 2) for one in ids]
    assert found == ["Active", "Inactive", "Active"]


@pytest.mark.parametrize("seconds", [1.5, 900])
def test_seconds_after_a_run_the_listing_may_be_behind(
    aws: EmbeddedAws,
    account: Account,
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
    seconds: float,
) -> None:
    """It is looked at again; if it stays, nothing is recorded that would close the way back."""
    account.add_user("ana", FRESH, OLD)
    aws.lag(seconds + 3)  # the run takes a moment to end
    run = run_custodian(POLICIES)
    assert run.code == 0, run.text
    args = keyrot("reactivate", run.out, "--yes")
    done = run_in(args, env={"C7N_KEYROT_LAG": "8" if seconds < 9 else "1"})
    if seconds > 9:
        assert done.code == 1
        assert done.lines("user ana", "not settled: IAM still shows it Active", "listings lag")
        assert len(run.outcomes("p")) == 1
        aws.heal()
        done = run_in(args)
    assert done.code == 0, done.text
    assert account.status("ana", 2) == "Active"


def test_run_that_saw_an_old_listing_costs_no_way_back(
    aws: EmbeddedAws,
    account: Account,
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    """A second run, a moment later, sees the key Active still, and is denied."""
    account.add_user("ana", FRESH, OLD)
    first = run_custodian(POLICIES)
    assert first.code == 0, first.text
    account.set_status("ana", 2, "Active")  # as its listing shows it
    aws.fail("iam.UpdateAccessKey", "AccessDenied")
    second = run_custodian(POLICIES, out=first.out)
    assert second.code != 0
    aws.heal()
    account.set_status("ana", 2, "Inactive")
    assert [line["outcome"] for line in first.outcomes("p")] == ["disabled", "denied"]
    assert_in_doubt(run_in, account, first.out, "ana", "saw it Active, and IAM's listings lag")


def test_switched_off_on_purpose_while_it_waits(
    acted: PolicyRun,
    account: Account,
    aws: EmbeddedAws,
    home: Path,
    run_in: Callable[..., Finished],
) -> None:
    """A second admin was faster, and the key was switched off on purpose."""

    def second_admin() -> None:
        done = run_in(keyrot("reactivate", acted.out, "--yes", "--user", "ana"))
        assert done.code == 0, done.text
        account.set_status("ana", 2, "Inactive")

    code, text = at_a_terminal(
        keyrot("reactivate", acted.out), aws.env(home=home), meanwhile=second_admin
    )
    assert code == 1
    assert "not changed: it has changed since it was shown (another run handled it)" in text
    assert "Result: 1 not changed, 1 reactivated." in text
    assert (account.status("ana", 2), account.status("ben", 2)) == ("Inactive", "Active")


def test_switched_on_while_it_waits(
    acted: PolicyRun, account: Account, aws: EmbeddedAws, home: Path
) -> None:
    def owner() -> None:
        account.set_status("ana", 2, "Active")

    args = keyrot("reactivate", acted.out, "--user", "ana")
    code, text = at_a_terminal(args, aws.env(home=home), meanwhile=owner)
    assert code == 1
    assert "not changed: it has changed since it was shown (the key is Active already)" in text
    assert len(acted.outcomes("p")) == 2


def test_run_disables_a_key_while_it_waits(
    acted: PolicyRun,
    account: Account,
    aws: EmbeddedAws,
    home: Path,
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    """It was seen Active; that old look mustn't outrank what the run does."""
    account.set_status("ben", 2, "Active")

    def daily_run() -> None:
        account.generate_report()
        done = run_custodian(POLICIES, out=acted.out)
        assert done.code == 0, done.text
        assert account.status("ben", 2) == "Inactive"

    code, text = at_a_terminal(
        keyrot("reactivate", acted.out), aws.env(home=home), meanwhile=daily_run
    )
    assert code == 1
    assert "user ben" in text
    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 0, done.text
    assert account.status("ben", 2) == "Active"


def test_name_that_was_given_away_again(
    account: Account,
    aws: EmbeddedAws,
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    account.add_user("ana", FRESH, OLD)
    acted = run_custodian(POLICIES)
    account.rename_user("ana", "anna")
    account.add_user("ana", FRESH, Key(300))
    account.generate_report()
    run_custodian(POLICIES, "--cache-period", "0", out=acted.out)
    assert account.status("ana", 2) == account.status("anna", 2) == "Inactive"
    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 0, done.text
    assert done.lines("anna", "the user was ana")
    assert account.status("ana", 2) == account.status("anna", 2) == "Active"


@pytest.mark.parametrize("minutes", [-3, 3])
def test_clock_that_is_minutes_off(
    acted: PolicyRun,
    account: Account,
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
    minutes: float,
) -> None:
    args = keyrot("reactivate", acted.out, "--yes")
    assert run_in(args).code == 0
    file = acted.folder("p") / "keyrot-outcomes.jsonl"
    lines = acted.outcomes("p")
    for line in lines[2:]:
        time = datetime.fromisoformat(line["time"]) + timedelta(minutes=minutes)
        line["time"] = time.isoformat(timespec="milliseconds")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if minutes > 0:  # the run, whose clock is right, disables them again
        assert run_custodian(POLICIES, out=acted.out).code == 0
        assert account.status("ana", 2) == "Inactive"
    else:
        account.set_status("ana", 2, "Inactive")
    done = run_in(args)
    assert done.code == 0, done.text
    assert account.status("ana", 2) == ("Active" if minutes > 0 else "Inactive")


def test_damaged_outcomes_are_told_and_stop_nothing(
    acted: PolicyRun, account: Account, run_in: Callable[..., Finished]
) -> None:
    file = acted.folder("p") / "keyrot-outcomes.jsonl"
    ana, ben = sorted(acted.outcomes("p"), key=lambda line: line["user"])
    intents = acted.folder("p") / "keyrot-intents.jsonl"
    kept = [line for line in intents.read_text().splitlines() if ana["access_key_id"] not in line]
    intents.write_text("".join(f"{line}\n" for line in kept))
    file.write_text(json.dumps(ana)[:90] + "\n" + json.dumps(ben) + "\n")
    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 1
    assert done.lines(f"{file}: 1 line can't be read (the first is line 1)", "is lost", "restore")
    assert done.lines("Result: 1 reactivated.")
    assert (account.status("ana", 2), account.status("ben", 2)) == ("Inactive", "Active")


def test_name_that_a_terminal_cannot_show_ends_nothing_half_way(
    acted: PolicyRun, account: Account, run_in: Callable[..., Finished]
) -> None:
    account.add_user("ж", FRESH, OLD)
    account.set_status("ж", 2, "Inactive")
    disabled_by_us(acted, account, ж="ж")
    done = run_in(keyrot("reactivate", acted.out, "--yes"), env={"PYTHONIOENCODING": "ascii"})
    assert done.code == 0, done.text
    assert done.lines("user \\u0436: key", ": reactivated")
    assert done.lines("Result: 3 reactivated.")


def test_copy_of_a_bucket_is_to_be_copied_back(
    acted: PolicyRun, run_in: Callable[..., Finished]
) -> None:
    folder = acted.folder("p")
    for name in ("outcomes", "intents"):
        file = folder / f"keyrot-{name}.jsonl"
        (folder / f"keyrot-{name}-1f.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 0, done.text
    assert done.lines("bucket's copy", f"aws s3 sync {acted.out} s3://")


def disabled_in(
    aws: EmbeddedAws, folder: Path, ids: tuple[str, ...], partition: str = "aws"
) -> None:
    """Accounts with a role and ana's inactive key, and the outcomes of a run that disabled it."""
    for account_id in ids:
        account = aws.account(account_id)
        account.add_role("c7n-keyrot")
        account.add_user("ana", FRESH, OLD)
        account.set_status("ana", 2, "Inactive")
        line = {
            "time": "2026-05-01T10:00:00.000+00:00",
            "account_id": account_id,
            "policy": "p",
            "run": "r",
            "action": "disable-access-key",
            "user": "ana",
            "slot": 2,
            "access_key_id": account.key_id("ana", 2),
            "outcome": "disabled",
            "reason": "",
        }
        intent = {**line, "outcome": "intended"}
        for name, one in (("outcomes", line), ("intents", intent)):
            with (folder / f"keyrot-{name}.jsonl").open("a") as file:
                file.write(json.dumps(one) + "\n")


def test_accounts_are_gone_through_side_by_side(
    aws: EmbeddedAws, tmp_path: Path, run_in: Callable[..., Finished]
) -> None:
    """Each waits for the other at its role; meanwhile a line tells how far it is."""
    ids = ("111111111111", "222222222222")
    disabled_in(aws, tmp_path, ids)
    both = threading.Barrier(2)

    def wait(call: Any) -> None:
        both.wait(30)
        sleep(2.5)

    aws.before("sts.AssumeRole", wait, times=2)
    accounts = {"accounts": [{"account_id": one, "role": "c7n-keyrot"} for one in ids]}
    file = as_file(accounts, tmp_path)
    done = run_in(keyrot("reactivate", tmp_path, "--yes", "--accounts", file))
    assert done.code == 0, done.text
    assert done.lines("accounts: 0 of 2")
    assert [aws.account(one).status("ana", 2) for one in ids] == ["Active"] * 2
