# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run whose own credentials are a stale second key, alone and over an organization."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Finished, PolicyRun, as_file, c7n_org, custodian, keyrot, run

from embedded_aws import HUB, EmbeddedAws, Key

PACK = Path(__file__).parents[2] / "policies" / "second-access-key.yml"
STALE = "iam-user-second-access-key-stale"
MEMBER = "111111111111"
OTHERS = [f"user-{number}" for number in range(9)]
QUEUE = "c7n-keyrot"


class World:
    """Ten stale second keys in the hub, one of which the runs are started with."""

    def __init__(self, aws: EmbeddedAws, folder: Path) -> None:
        self.aws, self.folder, self.hub = aws, folder, aws.account(HUB)
        for name in (*OTHERS, "automation"):
            owner = {"OwnerContact": f"{name}@corp.test"}
            self.hub.add_user(name, slot1=Key(10), slot2=Key(200), tags=owner)
        aws.create_queue(QUEUE)
        self.own = self.hub.key_id("automation", 2)
        self.pack = as_file(PACK, folder)
        self.env = {
            **aws.env(HUB, home=folder),
            "AWS_ACCESS_KEY_ID": self.own,
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        }

    def run(self, args: list[Any]) -> Finished:
        return run(args, self.env, self.folder)

    def active(self) -> set[str]:
        return {name for name in self.hub.users() if self.hub.status(name, 2) == "Active"}

    def told(self) -> set[str]:
        messages = self.aws.messages(QUEUE)
        return {user["UserName"] for message in messages for user in message["resources"]}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with EmbeddedAws() as aws:
        yield World(aws, tmp_path)
        assert aws.errors == []


def check(world: World, done: PolicyRun, account: str | None = None) -> None:
    """Check that the nine others are disabled, and that the run's own key is left and said."""
    assert done.code == 0, done.text
    assert world.active() & {*OTHERS, "automation"} == {"automation"}
    found = {line["user"]: line for line in done.outcomes(STALE, account)}
    own = found.pop("automation")
    assert (own["outcome"], own["slot"]) == ("skipped", 2)
    assert "the run itself works with this key" in own["reason"]
    assert {line["outcome"] for line in found.values()} == {"disabled"}
    assert len(done.lines("WARNING", f"'automation': key {world.own} is skipped")) == 1


def test_the_run_leaves_the_key_that_it_runs_with(world: World) -> None:
    look = world.run(custodian("run", "--dryrun", "-s", "look", world.pack))
    assert look.code == 0, look.text
    assert look.lines("WARNING", f"'automation': key {world.own} is skipped")
    assert len(look.lines("would disable: ")) == 9
    plan = world.run(keyrot("plan", "look", "--max-keys", "9"))
    assert plan.code == 0, plan.text
    (row,) = [line for line in plan.text.splitlines() if world.own in line]
    assert "the run itself works with this key" in row
    assert "Would disable: 9 keys" in plan.text
    assert "Would leave: 1 key" in plan.text

    done = world.run(custodian("run", "-s", "out", world.pack))
    check(world, PolicyRun(done.args, done.code, done.text, world.folder / "out"))
    assert world.told() == set(OTHERS), "no notice promises what isn't done"

    for name, kind in (("r.json", "json"), ("r.html", "html"), ("r.csv", "csv")):
        said = world.run(keyrot("report", "out", "--format", kind, "-o", name))
        assert said.code == 0, said.text
    report = json.loads((world.folder / "r.json").read_text("utf-8"))
    (key,) = [one for one in report["keys"] if one["access_key_id"] == world.own]
    assert (key["state"], key["why"]) == ("open", "own key")
    assert (report["accounts"][0]["open"], report["accounts"][0]["fixed"]) == (1, 9)

    # The next day, and whoever takes it all back.
    world.aws.move_clock(1)
    again = world.run(custodian("run", "-s", "out", world.pack))
    assert again.code == 0, again.text
    assert world.active() & {*OTHERS, "automation"} == {"automation"}
    undone = world.run(keyrot("reactivate", "out", "--yes"))
    assert undone.code == 0, undone.text
    assert world.active() >= {*OTHERS, "automation"}


def by_a_profile(world: World) -> dict[str, str]:
    """An environment with a profile `run`: a role that is taken with the key."""
    role = world.hub.add_role("custodian")
    config = world.folder / "config"
    config.write_text(
        f"[profile run]\nrole_arn = {role}\nsource_profile = base\n"
        f"[profile base]\naws_access_key_id = {world.own}\naws_secret_access_key = not-a-secret\n",
        "utf-8",
    )
    env = {name: value for name, value in world.env.items() if "KEY" not in name}
    return {**env, "AWS_CONFIG_FILE": str(config)}


def test_doctor_says_so_beforehand(world: World) -> None:
    for name, keys in (("first", {"slot1": Key(200)}), ("young", {"slot2": Key(20)})):
        world.hub.add_user(name, **keys)
    world.hub.generate_report()
    policy = {
        "name": STALE,
        "resource": "aws.iam-user",
        "source": "credential-report",
        "filters": ["stale-access-key"],
        "actions": ["disable-access-key"],
    }
    entry = {"name": "hub", "account_id": HUB, "role": world.hub.add_role()}
    for file, data in (
        ("act.yml", {"policies": [policy]}),
        ("look.yml", {"policies": [{**policy, "actions": []}]}),
        ("accounts.yml", {"accounts": [{**entry, "regions": ["us-east-1"]}]}),
    ):
        (world.folder / file).write_text(json.dumps(data), "utf-8")
    plain, profile = world.env, {**by_a_profile(world), "AWS_PROFILE": "run"}
    for env, flags in ((plain, []), (plain, ["--accounts", "accounts.yml"]), (profile, [])):
        world.env = env
        done = world.run(keyrot("doctor", "--policies", "act.yml", *flags))
        assert done.code == 1
        (line,) = done.lines("FAIL", "own key")
        for word in ("user automation", world.own, STALE, "start the run with a role"):
            assert word in line
    # No policy takes a key; the rule isn't about the first slot; it is young.
    for name, slot, file, words in (
        ("automation", 2, "look.yml", []),
        ("first", 1, "act.yml", ["of user first; no policy"]),
        ("young", 2, "act.yml", ["of user young; no policy"]),
    ):
        world.env = {**plain, "AWS_ACCESS_KEY_ID": world.hub.key_id(name, slot)}
        done = world.run(keyrot("doctor", "--policies", file))
        assert [line for line in done.text.splitlines() if "own key" in line] == [
            line for word in words for line in done.lines("ok", "own key", word)
        ]
        assert len(done.lines("own key")) == len(words)


def test_a_profile_s_role_is_taken_with_the_key(world: World) -> None:
    world.env = by_a_profile(world)
    done = world.run(custodian("run", "--profile", "run", "-s", "out", world.pack))
    check(world, PolicyRun(done.args, done.code, done.text, world.folder / "out"))


@pytest.mark.parametrize("chain", [False, True], ids=["role", "chain"])
def test_the_hub_is_among_the_accounts_of_its_organization(world: World, chain: bool) -> None:
    world.aws.account(MEMBER).add_user("ana", slot1=Key(10), slot2=Key(200))
    accounts = []
    for name, account_id in (("member", MEMBER), ("hub", HUB)):
        roles = [world.aws.account(account_id).add_role(role) for role in ("first", "second")]
        entry = {"name": name, "account_id": account_id, "regions": ["us-east-1"]}
        role = roles if chain else roles[0]
        accounts.append({**entry, "role": role})
    (world.folder / "accounts.yml").write_text(json.dumps({"accounts": accounts}), "utf-8")
    policy = {
        "name": STALE,
        "resource": "aws.iam-user",
        "source": "credential-report",
        "filters": ["stale-access-key"],
        "actions": ["disable-access-key"],
    }
    (world.folder / "policies.yml").write_text(json.dumps({"policies": [policy]}), "utf-8")
    files = ["-c", "accounts.yml", "-u", "policies.yml"]
    done = world.run(c7n_org("run", "-s", "out", *files))
    check(world, PolicyRun(done.args, done.code, done.text, world.folder / "out"), "hub")
    assert world.aws.account(MEMBER).status("ana", 2) == "Inactive"
