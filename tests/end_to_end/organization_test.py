# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pack over an organization: c7n-org under the roles of deploy/, all of them enforced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from cloudformation import hub, member
from harness import (
    Finished,
    PolicyRun,
    as_file,
    c7n_org,
    keyrot,
    on_the_day,
    run,
    with_own_addresses,
)

from c7n_keyrot import cli
from demo import world
from embedded_aws import HUB, ORGANIZATION_ID, EmbeddedAws, Key

ROOT = Path(__file__).parents[2]
PACK = ROOT / "policies" / "second-access-key.yml"
EXAMPLES = ROOT / "examples"
ACCOUNTS = EXAMPLES / "accounts.yml"
MEMBERS = {"payments": "111111111111", "web": "222222222222", "sandbox": "333333333333"}
QUEUE = "c7n-keyrot"
EXPIRING, STALE = "iam-user-second-access-key-expiring", "iam-user-second-access-key-stale"
UNCLEAR = "iam-user-second-access-key-unclear"
SUFFIX = "-notify-only"
MARK = "keyrot-disable-on"


class Story:
    """What was run, one after the other, and what each run changed."""

    def __init__(self, aws: EmbeddedAws, folder: Path) -> None:
        self.aws, self.folder = aws, folder
        self.runs: dict[str, PolicyRun] = {}
        self.changed: dict[str, dict[str, set[str]]] = {}  # {run: {account: users}}
        self.notices: dict[str, list[dict[str, Any]]] = {}
        self.doctor: Finished
        self.report: Finished
        self.plan: Finished
        self.explained: Finished
        self.unmarkable: dict[str, str] = {}

    def deploy(self, mode: str, example: str = "none") -> None:
        for account_id in MEMBERS.values():
            role = member(account_id, HUB, mode, Example=example)
            self.aws.account(account_id).add_role(**role)

    def run(
        self, name: str, policies: Path, *flags: str, accounts: Path = ACCOUNTS, out: str = ""
    ) -> None:
        folder = self.folder / (out or name)
        before = {i: self.aws.account(i).snapshot() for i in MEMBERS.values()}
        known = len(self.aws.messages(QUEUE))
        file = as_file(policies, self.folder)
        args = c7n_org("run", "-c", accounts, "-s", folder, "-u", file, *flags)
        done = run(args, self.env, self.folder)
        self.runs[name] = PolicyRun(done.args, done.code, done.text, folder)
        self.notices[name] = self.aws.messages(QUEUE)[known:]
        self.changed[name] = {}
        for account, account_id in MEMBERS.items():
            changes = self.aws.account(account_id).changes(before[account_id])
            users = {k.access_key_id: k.user for k in self.aws.account(account_id).live_keys()}
            assert all(change == ("Active", "Inactive") for change in changes.values())
            self.changed[name][account] = {users[key_id] for key_id in changes}

    def make_older(self, name: str) -> None:
        """Let an hour pass between a run and the next one into its folder."""
        for file in (self.folder / name).glob("*/*/*/metadata.json"):
            metadata = json.loads(file.read_text("utf-8"))
            for when in ("start", "end_time"):
                metadata["execution"][when] -= 3600
            file.write_text(json.dumps(metadata), "utf-8")

    def explain(self, name: str) -> Finished:
        """Fetch an account's report as README says, and explain it without any credentials."""
        env = self.aws.env(MEMBERS[name], home=self.folder)
        iam = boto3.client(
            "iam",
            endpoint_url=env["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )
        file = self.folder / "report.csv"
        file.write_bytes(iam.get_credential_report()["Content"])
        args = keyrot("explain", file, "--slot", "2", "--format", "json", "--compare")
        return run(args, {"HOME": str(self.folder)}, self.folder)

    @property
    def env(self) -> dict[str, str]:
        return self.aws.env(HUB, home=self.folder, role="runner")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with EmbeddedAws() as aws:
        resources = hub(HUB, ORGANIZATION_ID)
        aws.create_queue(QUEUE, policy=resources["QueuePolicy"]["PolicyDocument"])
        aws.account(HUB).add_role("runner", policy=resources["RunnerPolicy"]["PolicyDocument"])
        same_second = datetime.now(timezone.utc) - timedelta(days=150)
        for name, account_id in MEMBERS.items():
            account = aws.account(account_id)
            owner = {"OwnerContact": f"{name}@example.com"}
            account.add_user("old", Key(300), Key(100), owner)
            account.add_user("soon", None, world.due_in(7), owner)
            account.add_user("middle", Key(50), Key(50.5))
            account.add_user("fresh", Key(200), Key(5))
            account.add_user("twins", *[Key(rotated_at=same_second)] * 2, owner)
            account.add_user("inactive", None, Key(200, status="Inactive"))
            account.add_user("exempt", None, Key(200), {"keyrot-exempt-until": "2999-12-31"})
        aws.enforce()
        told = Story(aws, tmp_path_factory.mktemp("organization"))

        told.deploy("read-only")
        told.run("look", EXAMPLES / "notify-only.yml", "-t", "env:prod")
        told.run("denied", PACK, "-t", "env:dev")
        told.deploy("enforcing")
        pack = as_file(on_the_day(PACK), told.folder)
        told.run("dry", pack, "--dryrun")
        told.plan = run(keyrot("plan", "dry", "--accounts", ACCOUNTS), told.env, told.folder)
        told.explained = told.explain("payments")
        told.run("pack", pack)
        # Into the same folder, and with one account whose role can't be taken any more.
        accounts = yaml.safe_load(ACCOUNTS.read_text("utf-8"))
        accounts["accounts"][1]["external_id"] = "another"
        mistaken = told.folder / "mistaken.yml"
        mistaken.write_text(yaml.safe_dump(accounts), "utf-8")
        told.make_older("pack")
        told.run("gap", pack, accounts=mistaken, out="pack")
        policies = with_own_addresses(PACK, told.folder)
        flags = ["--policies", policies, "--accounts", mistaken, "--output-dir", "pack"]
        told.doctor = run(keyrot("doctor", *flags), told.env, told.folder)
        told.report = run(
            keyrot("report", "pack", "--accounts", mistaken, "--format", "json", "-o", "r.json"),
            {"PATH": told.env["PATH"], "HOME": str(told.folder)},
            told.folder,
        )
        told.run("days", EXAMPLES / "days-per-account.yml")
        mark = "Resource does not meet policy: disable-access-key@"
        sandbox = aws.account(MEMBERS["sandbox"])
        over = f"{mark}{datetime.now(timezone.utc) - timedelta(days=1):%Y/%m/%d}"
        sandbox.add_user("marked", None, Key(200), {MARK: over})
        sandbox.add_user("unmarked", None, Key(200))
        sandbox.generate_report()
        flags = ["-t", "env:dev", "--cache-period", "0"]
        told.run("unmarkable", EXAMPLES / "graceful-rollout.yml", *flags)
        told.unmarkable = sandbox.tags("unmarked")
        told.deploy("enforcing", "graceful-rollout")
        sandbox.set_status("marked", 2, "Active")
        told.run("roll-out", EXAMPLES / "graceful-rollout.yml", *flags)
        yield told
        assert aws.errors == []


def about(notices: list[dict[str, Any]], policy: str) -> dict[str, list[str]]:
    """{account id: users} of the notices of a policy."""
    return {
        n["account_id"]: [user["UserName"] for user in n["resources"]]
        for n in notices
        if n["policy"]["name"] == policy
    }


def everywhere(*users: str) -> dict[str, list[str]]:
    return {account_id: list(users) for account_id in MEMBERS.values()}


def test_the_pack_disables_the_right_key_in_each_account_and_nothing_else(story: Story) -> None:
    done = story.runs["pack"]
    assert done.code == 0, done.text
    assert story.changed["pack"] == {name: {"old"} for name in MEMBERS}
    for name, account_id in MEMBERS.items():
        (outcome,) = done.outcomes(STALE, name)
        key_id = story.aws.account(account_id).key_id("old", 2)
        assert (outcome["account_id"], outcome["access_key_id"]) == (account_id, key_id)
        assert outcome["outcome"] == "disabled"
        assert story.aws.account(account_id).status("old", 1) == "Active"


def test_the_report_of_all_accounts_needs_no_credentials(story: Story) -> None:
    """After two runs into one folder; in the second one the role of web couldn't be taken."""
    done = story.report
    assert done.code == 0, done.text
    found = json.loads((story.folder / "r.json").read_text("utf-8"))
    schema = files("c7n_keyrot") / "schemas" / "report.schema.json"
    jsonschema.validate(found, json.loads(schema.read_text("utf-8")))
    assert {row["name"]: row["account_id"] for row in found["accounts"]} == MEMBERS
    covered = {row["name"]: row["covered"] for row in found["accounts"]}
    assert covered == {name: name != "web" for name in MEMBERS}
    assert all(row["users"] == 7 for row in found["accounts"])
    assert done.lines("1 warning, the first: the newest run, which began", "account web (22222222")
    for name in MEMBERS:
        states = {k["user"]: k["state"] for k in found["keys"] if k["account"] == name}
        assert states == {
            "old": "fixed",
            "soon": "expiring",
            "twins": "unclear",
            "exempt": "exempt",
        }
    old = [key for key in found["keys"] if key["user"] == "old"]
    assert [key["outcome"] for key in old] == ["disabled"] * 3
    assert found["totals"]["exempt"] == 3
    assert found["rule"]["id"] == "D9.AWS.IAM.07"


def test_the_notices_of_all_accounts_are_in_the_hubs_queue(story: Story) -> None:
    assert about(story.notices["pack"], STALE) == everywhere("old")
    assert about(story.notices["pack"], EXPIRING) == everywhere("soon")
    assert about(story.notices["pack"], UNCLEAR) == everywhere("twins")
    assert len(story.notices["pack"]) == 3 * len(MEMBERS)
    for notice in story.notices["pack"]:
        unclear = notice["policy"]["name"] == UNCLEAR
        assert notice["action"]["to"] == ["security@example.com" if unclear else "resource-owner"]
        assert notice["action"]["template"].startswith("c7n_keyrot-")


def test_only_the_accounts_with_the_tag(story: Story) -> None:
    folders = {path.name for path in story.runs["look"].out.iterdir()}
    assert folders == {"payments", "web"}


def test_notify_only_runs_under_the_read_only_role(story: Story) -> None:
    done = story.runs["look"]
    assert done.code == 0, done.text
    assert not any(story.changed["look"].values())
    two = {MEMBERS[name]: ["old"] for name in ("payments", "web")}
    assert about(story.notices["look"], STALE + SUFFIX) == two
    assert set(about(story.notices["look"], EXPIRING + SUFFIX)) == set(two)


def test_the_pack_under_the_read_only_role_is_denied_and_says_so(story: Story) -> None:
    done = story.runs["denied"]
    assert done.code == 1
    assert not any(story.changed["denied"].values())
    (outcome,) = done.outcomes(STALE, "sandbox")
    assert (outcome["user"], outcome["outcome"]) == ("old", "denied")
    assert done.lines("sandbox", STALE, "iam:UpdateAccessKey is denied")


def test_other_days_in_one_account(story: Story) -> None:
    done = story.runs["days"]
    assert done.code == 0, done.text
    assert story.changed["days"] == {"payments": set(), "web": set(), "sandbox": {"middle", "soon"}}
    assert {path.name for path in (done.out / "sandbox" / "us-east-1").iterdir()} == {
        f"{EXPIRING}-dev",
        f"{STALE}-dev",
        f"{UNCLEAR}-dev",
    }
    assert {path.name for path in (done.out / "web" / "us-east-1").iterdir()} == {
        EXPIRING,
        STALE,
        UNCLEAR,
    }
    assert about(story.notices["days"], f"{STALE}-dev").keys() == {MEMBERS["sandbox"]}


def test_the_roll_out_needs_a_role_that_may_mark(story: Story) -> None:
    assert story.runs["unmarkable"].code == 1, story.runs["unmarkable"].text
    assert story.unmarkable == {}
    done = story.runs["roll-out"]
    assert done.code == 0, done.text
    assert story.changed["roll-out"]["sandbox"] == {"marked"}
    sandbox = story.aws.account(MEMBERS["sandbox"])
    assert (list(sandbox.tags("marked")), list(sandbox.tags("unmarked"))) == ([], [MARK])


def test_explain_says_of_an_accounts_report_what_the_filters_say(story: Story) -> None:
    assert story.explained.code == 0, story.explained.text
    data = json.loads(story.explained.text)
    assert data["report"]["account_id"] == MEMBERS["payments"]
    assert {key["user"]: key["verdict"] for key in data["keys"]} == {
        "old": "stale",
        "soon": "expiring",
        "middle": "fresh",
        "fresh": "fresh",
        "twins": "stale",
        "inactive": "inactive",
        "exempt": "stale",
    }
    old = next(key for key in data["keys"] if key["user"] == "old")
    (record,) = story.runs["dry"].resources(STALE, "payments")[0]["c7n:keyrot"]
    assert [old[name] for name in ("last_rotated", "deadline", "days_left")] == [
        record[name] for name in ("last_rotated", "deadline", "days_left")
    ]
    # 100 days are not enough for CloudSploit.
    assert {name for name, word in old["peers"].items() if word != "fail"} == {"cloudsploit"}


def test_plan_says_what_the_run_will_do(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    assert story.runs["dry"].code == 0, story.runs["dry"].text
    assert not any(story.changed["dry"].values())
    assert story.plan.code == 0, story.plan.text
    (row,) = story.plan.lines("Total")
    # Disabled, deleted, notified, not changed (exempt).
    assert row.split()[1:] == ["3", "0", "9", "3"]
    for account_id in MEMBERS.values():
        assert story.plan.lines(account_id, "old", story.aws.account(account_id).key_id("old", 2))
        assert story.plan.lines(account_id, "exempt", "exempt until 2999-12-31")
    plan = ["plan", str(story.runs["dry"].out), "--accounts", str(ACCOUNTS)]
    assert cli.main([*plan, "--max-keys", "2"]) == 4
    assert "3 keys would be disabled or deleted, more than" in capsys.readouterr().err
    # The whole organization's active second keys: six in each account.
    assert cli.main([*plan, "--max-percent", "16"]) == 5
    assert "3 of 18 active keys would be disabled: 16.7%" in capsys.readouterr().err
    assert cli.main([*plan, "--max-percent", "17", "--max-keys", "3"]) == 0


def test_plan_refuses_what_is_no_dry_run_or_does_not_cover_an_account(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", str(story.runs["pack"].out)]) == 1
    assert "has no dry run" in capsys.readouterr().err
    accounts = yaml.safe_load(ACCOUNTS.read_text("utf-8"))
    accounts["accounts"].append({"name": "new", "account_id": "444444444444", "role": "r"})
    file = story.folder / "one-more.yml"
    file.write_text(yaml.safe_dump(accounts), "utf-8")
    assert cli.main(["plan", str(story.runs["dry"].out), "--accounts", str(file)]) == 3
    done = capsys.readouterr()
    assert done.err.endswith("1 of 4 accounts not covered\n")
    assert "new (444444444444)" in done.out


def test_doctor_names_the_account_that_the_last_run_did_not_cover(story: Story) -> None:
    """Though the folder holds that account's results: they are of the run before."""
    assert story.runs["gap"].code == 1
    assert story.runs["gap"].metadata(STALE, "web")
    assert story.doctor.code == 1, story.doctor.text
    failed = [line for line in story.doctor.text.splitlines() if line.startswith("FAIL")]
    assert all("web" in line for line in failed), story.doctor.text
    (old,) = (line for line in failed if "isn't of the last run" in line)
    assert EXPIRING in old
    assert STALE in old
    assert UNCLEAR in old
    assert [line for line in failed if "role c7n-keyrot can't be used: sts:AssumeRole" in line]
    assert story.doctor.lines("ok", "coverage of 2 accounts (payments", "sandbox", STALE)


def test_no_role_was_used_for_more_than_it_is_for(story: Story) -> None:
    """The members never send; each run asks once who it is, for its outcomes."""
    senders = {call.account for call in story.aws.log if call.action == "sqs.SendMessage"}
    assert senders == {HUB}
    asked = {call.account for call in story.aws.log if call.action == "sts.GetCallerIdentity"}
    assert asked == {HUB, *MEMBERS.values()}
