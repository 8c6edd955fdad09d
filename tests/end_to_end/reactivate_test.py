# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot reactivate` after real runs of the pack: the way back."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from harness import as_file, finish, keyrot, kill, start

from demo import world
from demo.aws import HUB, Key

PACK = Path(__file__).parents[2] / "policies" / "second-access-key.yml"
STALE = "iam-user-second-access-key-stale"
FRESH, OLD = Key(5), Key(200)
OTHER = "111111111111"
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


@pytest.fixture
def acted(account, run_custodian):
    """A run that disabled the second keys of ana and ben."""
    for name in ("ana", "ben"):
        account.add_user(name, FRESH, OLD)
    done = run_custodian(POLICIES)
    assert done.code == 0, done.text
    assert account.status("ana", 2) == account.status("ben", 2) == "Inactive"
    return done


def at_a_terminal(args, env, answer):
    """Run a command with its input at a terminal: (exit code, what it wrote)."""
    master, slave = pty.openpty()
    try:
        os.write(master, answer.encode())
        process = subprocess.run(
            [str(arg) for arg in args],
            env=env,
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
    finally:
        os.close(master)
        os.close(slave)
    return process.returncode, process.stdout


def test_there_and_back_again(acted, account, run_in):
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


def test_asks_at_a_terminal(acted, account, aws, home):
    args = keyrot("reactivate", acted.out, "--user", "ana")
    for answer, code in (("y\n", 1), ("\n", 1), ("\4", 1), ("yes\n", 0)):
        found, text = at_a_terminal(args, aws.env(home=home), answer)
        assert found == code, text
        assert "Reactivate 1 key? Type yes:" in text
        assert account.status("ana", 2) == ("Active" if code == 0 else "Inactive")
        assert account.status("ben", 2) == "Inactive"


def test_only_what_is_asked_for(acted, account, run_in):
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


def test_gone_active_denied_renamed(acted, account, aws, run_in):
    """One key's trouble stops no other, and each is recorded."""
    for name in ("cem", "dora"):
        account.add_user(name, FRESH, OLD)
    file = acted.folder("p") / "keyrot-outcomes.jsonl"
    line = acted.outcomes("p")[0]
    with file.open("a") as lines:
        for name in ("cem", "dora", "was-eva"):
            account.add_user("eva", FRESH, OLD) if name == "was-eva" else None
            user = name.removeprefix("was-")
            account.set_status(user, 2, "Inactive")
            key = account.key_id(user, 2)
            lines.write(json.dumps({**line, "user": name, "access_key_id": key}) + "\n")
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


def test_keys_that_cannot_be_looked_at_are_left(acted, account, aws, run_in):
    aws.fail("iam.ListAccessKeys", "AccessDenied", user="ana")
    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 1
    assert done.lines("user ana", "denied: iam:ListAccessKeys is denied")
    assert (account.status("ana", 2), account.status("ben", 2)) == ("Inactive", "Active")


def test_another_account_is_refused(acted, account, run_in):
    done = run_in(keyrot("reactivate", acted.out, "--yes"), account_id=OTHER)
    assert done.code == 1
    assert done.lines("c7n-keyrot reactivate:", HUB, OTHER, "AWS_PROFILE")
    assert account.status("ana", 2) == "Inactive"


def test_without_credentials(acted, run_in):
    env = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = run_in(keyrot("reactivate", acted.out), env=env)
    assert done.code == 1
    assert done.lines("no AWS credentials that work")
    assert "Traceback" not in done.text


def test_over_a_tree_of_c7n_org(aws, tmp_path, run_c7n_org, run_in):
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
    assert one.lines(f"account {shop}:", "9 keys left as", "AWS_PROFILE")
    assert aws.account(payments).changes(before[payments]) == {}
    assert aws.account(shop).changes(before[shop])

    file = as_file({"accounts": accounts["accounts"][:2]}, tmp_path)
    both = run_in(keyrot("reactivate", acted.out, "--yes", "--accounts", file))
    assert both.code == 0, both.text
    assert both.lines("Result: 9 reactivated.")
    assert aws.account(shop).changes(before[shop]) == {}


def test_accounts_file_that_does_not_lead_there(aws, tmp_path, account, acted, run_in):
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
    assert done.lines(f"account {HUB}:", "sts:AssumeRole: AccessDenied")
    assert account.status("ana", 2) == "Inactive"


def test_run_that_was_killed_between_the_call_and_its_outcome(account, aws, home, tmp_path, run_in):
    account.add_user("ana", FRESH, OLD)
    account.generate_report()
    out = tmp_path / "out"
    file = as_file(POLICIES, tmp_path)
    aws.after("iam.UpdateAccessKey", lambda call: kill(process))
    process = start(["custodian", "run", "-s", out, file], aws.env(home=home), tmp_path)
    finish(process)
    assert account.status("ana", 2) == "Inactive"
    assert not (out / "p" / "keyrot-outcomes.jsonl").exists()
    done = run_in(keyrot("reactivate", out, "--yes"))
    assert done.code == 0, done.text
    assert done.lines("ana", "the run was cut short")
    assert account.status("ana", 2) == "Active"
    lines = (out / "p" / "keyrot-outcomes.jsonl").read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["reactivated"]


def test_killed_half_way_it_goes_on_the_next_time(acted, account, aws, home, run_in):
    aws.after("iam.UpdateAccessKey", lambda call: kill(process))
    process = start(keyrot("reactivate", acted.out, "--yes"), aws.env(home=home))
    finish(process)
    done = run_in(keyrot("reactivate", acted.out, "--yes"))
    assert done.code == 0, done.text
    assert account.status("ana", 2) == account.status("ben", 2) == "Active"
    assert {o["outcome"] for o in acted.outcomes("p")[2:]} <= {"reactivated", "skipped"}
