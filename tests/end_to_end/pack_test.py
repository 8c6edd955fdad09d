# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pack under the real `custodian`, from the credential report to the disabled key."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Finished, PolicyRun, on_another_day, on_the_day

from demo import world
from embedded_aws import HUB, Account, EmbeddedAws, Key, seed_bench

ROOT = Path(__file__).parents[2]
PACK = ROOT / "policies"
EXPIRING, STALE = "iam-user-second-access-key-expiring", "iam-user-second-access-key-stale"
UNCLEAR = "iam-user-second-access-key-unclear"
FRESH, OLD = Key(5), Key(200)


def acting(filters: list[Any], action: Any = "disable-access-key", **more: Any) -> dict[str, Any]:
    """A policy of the source and these filters, with one action."""
    policy = {"name": "p", "resource": "aws.iam-user", "source": "credential-report", **more}
    return {"policies": [{**policy, "filters": filters, "actions": [action]}]}


@pytest.fixture
def people(aws: EmbeddedAws, account: Account) -> list[world.Person]:
    aws.create_queue(world.QUEUE)
    return world.seed_account(account)


def slot_2(account: Account, people: list[world.Person], outcome: str) -> set[str]:
    """{key id: status} as it must be for the people with this outcome."""
    return {account.key_id(person.name, 2) for person in people if person.outcome == outcome}


def test_whole_run_tells_and_disables_exactly_the_stale_second_keys(
    aws: EmbeddedAws,
    account: Account,
    people: list[world.Person],
    run_custodian: Callable[..., PolicyRun],
) -> None:
    """A dry run changes nothing, a run disables what it showed, a further run is a no-op."""
    before, wanted = account.snapshot(), slot_2(account, people, "disabled")
    pack = on_the_day(PACK / "second-access-key.yml")

    shown = run_custodian(pack, "--dryrun")
    assert shown.code == 0, shown.text
    assert account.changes(before) == {}
    assert aws.messages(world.QUEUE) == []
    found = {
        record["access_key_id"]
        for user in shown.resources(STALE)
        for record in user["c7n:keyrot"]
        if record["access_key_id"]
    }
    assert found == wanted

    acted = run_custodian(pack, "--metrics", "aws")
    assert acted.code == 0, acted.text
    counted = {
        "Users": len(people),
        "KeysStale": sum(person.verdict == "stale" for person in people),
        "KeysDisabled": len(wanted),
        **dict.fromkeys(("KeysSkipped", "KeysDenied", "KeysFailed", "KeysUnknown"), 0),
    }
    metadata = {one["MetricName"]: one["Value"] for one in acted.metadata(STALE)["metrics"]}
    for metrics in (aws.metrics(STALE), metadata):
        assert counted.items() <= metrics.items()
    assert account.changes(before) == dict.fromkeys(wanted, ("Active", "Inactive"))
    outcomes = acted.outcomes(STALE)
    assert {o["access_key_id"] for o in outcomes if o["outcome"] == "disabled"} == wanted
    assert {o["outcome"] for o in outcomes} == {"disabled"}
    told = {m["policy"]["name"]: m["resources"] for m in aws.messages(world.QUEUE)}
    assert sorted(user["UserName"] for user in told[UNCLEAR]) == [
        p.name for p in people if p.outcome == "unclear"
    ]
    assert sorted(user["UserName"] for user in told[EXPIRING]) == [
        p.name for p in people if p.outcome == "reminded"
    ]
    # Nobody is told of what isn't done.
    named = {key["key"] for user in told[STALE] for key in user["c7n:keyrot-notice"]["keys"]}
    assert named == wanted
    lines = (acted.folder(STALE) / "keyrot-notified.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["access_key_id"] for line in lines} == wanted
    assert all(json.loads(line)["message_id"] for line in lines)

    between = account.snapshot()
    again = run_custodian(pack, out=acted.out)
    assert again.code == 0, again.text
    assert account.changes(between) == {}
    disabled = [o for o in again.outcomes(STALE) if o["outcome"] == "disabled"]
    assert len(disabled) == len(wanted)


def test_who_is_exempted_after_a_dry_run_is_left_alone_by_the_run_after_it(
    account: Account, people: list[world.Person], run_custodian: Callable[..., PolicyRun]
) -> None:
    """With Custodian's default cache: users and their tags never come out of it."""
    assert "ana" in run_custodian(PACK, "--dryrun").names(STALE)
    account.tag("ana", {"keyrot-exempt-until": "2999-12-31"})
    acted = run_custodian(PACK)
    assert acted.code == 0, acted.text
    assert "ana" not in acted.names(STALE)
    assert account.status("ana", 2) == "Active"
    assert account.status("ben", 2) == "Inactive"


@pytest.mark.parametrize("weekdays", [on_the_day, on_another_day])
def test_doubts_are_told_on_their_weekday_and_logged_on_every_day(
    aws: EmbeddedAws,
    account: Account,
    people: list[world.Person],
    run_custodian: Callable[..., PolicyRun],
    weekdays: Callable[[Path], str],
) -> None:
    """The policy runs daily; its notice, to the security team, goes out weekly."""
    run = run_custodian(weekdays(PACK / "second-access-key.yml"))
    assert run.code == 0, run.text
    told = [m for m in aws.messages(world.QUEUE) if m["policy"]["name"] == UNCLEAR]
    assert run.names(UNCLEAR) == (["lena", "tomas"] if weekdays is on_the_day else [])
    assert [m["action"]["to"] for m in told] == ([["security@example.com"]] if told else [])
    assert len(told) == (weekdays is on_the_day)
    assert run.metadata(UNCLEAR), "the policy has run, whatever the day"
    assert run.lines("keyrot:WARNING", "'lena': key 2 can't be identified")
    assert run.lines("keyrot:WARNING", "'tomas': key 2 is unknown")
    assert not {"lena", "tomas"} & set(run.names(STALE))


@pytest.mark.parametrize("source", ["describe", "credential-report"])
def test_exemption_and_rotation_count_a_minute_later_under_every_source(
    account: Account, run_custodian: Callable[..., PolicyRun], source: str
) -> None:
    for name in ("exempted", "rotated", "neither"):
        account.add_user(name, FRESH, OLD)
    account.generate_report()
    policies = acting(["stale-access-key", {"not": ["rotation-exempt"]}], source=source)
    shown = run_custodian(policies, "--dryrun")
    assert shown.names("p") == ["exempted", "neither", "rotated"]
    account.tag("exempted", {"keyrot-exempt-until": "2999-12-31"})
    account.rotate("rotated", 2)
    before = account.snapshot()
    acted = run_custodian(policies)
    assert acted.code == 0, acted.text
    assert account.changes(before) == {account.key_id("neither", 2): ("Active", "Inactive")}


def test_notice_that_cannot_be_sent_stops_the_disabling(
    account: Account, run_custodian: Callable[..., PolicyRun]
) -> None:
    """There is no queue."""
    account.add_user("ana", FRESH, OLD)
    account.generate_report()
    before = account.snapshot()
    run = run_custodian(PACK)
    assert run.code != 0
    assert account.changes(before) == {}
    assert run.names(STALE) == ["ana"]


def test_first_run_that_would_hit_much_of_the_account_is_stopped(
    aws: EmbeddedAws, account: Account, run_custodian: Callable[..., PolicyRun]
) -> None:
    """More than 20 users and more than 10 percent of all, not of the candidates alone."""
    aws.create_queue(world.QUEUE)
    seed_bench(account, 60, find=21)
    account.generate_report()
    before = account.snapshot()
    run = run_custodian(PACK)
    assert run.code != 0
    assert run.lines("exceeded", "found:21", "total:60")
    assert account.changes(before) == {}


def test_percent_counts_all_users_of_the_account(
    aws: EmbeddedAws, account: Account, run_custodian: Callable[..., PolicyRun]
) -> None:
    """21 of 220 users are below 10 percent, though they are all of the candidates."""
    aws.create_queue(world.QUEUE)
    wanted = seed_bench(account, 220, find=21)
    account.generate_report()
    before = account.snapshot()
    run = run_custodian(PACK)
    assert run.code == 0, run.text
    assert set(account.changes(before)) == set(wanted.values())
    assert run.lines("220 users in the credential report", "21 candidates", "21 matched")


@pytest.mark.parametrize(
    "action", ["disable-access-key", {"type": "remove-keys", "matched": True, "disable": True}]
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/St_Johns"])
def test_boundary_is_90_days_to_the_second_in_any_time_zone(
    account: Account, run_custodian: Callable[..., PolicyRun], action: Any, zone: str
) -> None:
    account.add_user("passes", FRESH, Key(90 - 5 * world.MINUTE))
    account.add_user("fails", FRESH, Key(90 + world.SECOND))
    account.generate_report()
    before = account.snapshot()
    run = run_custodian(acting(["stale-access-key"], action), env={"TZ": zone})
    assert run.code == 0, run.text
    assert account.changes(before) == {account.key_id("fails", 2): ("Active", "Inactive")}


def test_report_older_than_asked_for_is_refused_in_one_line(
    account: Account, run_custodian: Callable[..., PolicyRun]
) -> None:
    account.add_user("ana", FRESH, OLD)
    account.generate_report(age_hours=3)
    policies = acting([{"type": "stale-access-key", "report-max-age": 2}])
    run = run_custodian(policies)
    assert run.code != 0
    assert run.resources("p") == []
    assert run.lines("keyrot:ERROR", "3.0 hours old", "report-max-age is 2")
    assert account.status("ana", 2) == "Active"


def test_inactive_second_keys_are_deleted_and_active_ones_never(
    account: Account, run_custodian: Callable[..., PolicyRun]
) -> None:
    account.add_user("off", FRESH, Key(200, status="Inactive"))
    account.add_user("on", FRESH, OLD)
    account.generate_report()
    off = account.key_id("off", 2)
    filters = [{"or": ["stale-access-key", {"type": "stale-access-key", "status": "Inactive"}]}]
    run = run_custodian(acting(filters, "delete-access-key"))
    assert run.code == 0, run.text
    assert 2 not in account.keys("off")
    assert account.status("on", 2) == "Active"
    assert {(o["user"], o["access_key_id"], o["outcome"]) for o in run.outcomes("p")} == {
        ("off", off, "deleted"),
        ("on", account.key_id("on", 2), "skipped"),
    }


def test_custodian_report_shows_the_key_id(
    account: Account,
    people: list[world.Person],
    run_custodian: Callable[..., PolicyRun],
    run_in: Callable[..., Finished],
) -> None:
    run = run_custodian(PACK, "--dryrun")
    field = 'key="c7n:keyrot"[0].access_key_id'
    shown = run_in(
        [Path(run.args[0]), "report", "-s", run.out, "-p", STALE, "--field", field,
         PACK / "second-access-key.yml"]
    )  # fmt: skip
    assert shown.code == 0, shown.text
    lines = shown.text[shown.text.index('"UserName"') :]
    rows = {row["UserName"]: row["key"] for row in csv.DictReader(io.StringIO(lines))}
    assert rows["ana"] == account.key_id("ana", 2)
    assert rows["ben"] == account.key_id("ben", 2)


def test_c7n_org_runs_the_same_pack_in_three_accounts(
    aws: EmbeddedAws, home: Path, tmp_path: Path, run_c7n_org: Callable[..., PolicyRun]
) -> None:
    homes = world.seed_organization(aws)
    before = {account_id: aws.account(account_id).snapshot() for account_id in homes}
    accounts = world.accounts_file()
    queue = f"arn:aws:sqs:us-east-1:{HUB}:{world.QUEUE}"
    for account in accounts["accounts"]:
        account["vars"] = {"action": {"queue": queue}}
    run = run_c7n_org(accounts, PACK / "second-access-key.yml")
    assert run.code == 0, run.text
    for account_id, people in homes.items():
        account = aws.account(account_id)
        wanted = slot_2(account, people, "disabled") if account_id != HUB else set()
        assert set(account.changes(before[account_id])) == wanted, account_id
    told = {m["account_id"] for m in aws.messages(world.QUEUE)}
    assert told == {"111111111111", "222222222222"}
    # One credential report an account: its keys once, and each policy's summary has their hash.
    for folder in {path.parent.parent for path in run.out.rglob("keyrot-begun.jsonl")}:
        (population,) = folder.rglob("keyrot-population-*.csv.gz")
        lines = [
            json.loads(line)
            for path in folder.rglob("keyrot-summary.jsonl")
            for line in path.read_text().splitlines()
        ]
        digest = hashlib.sha256(gzip.decompress(population.read_bytes())).hexdigest()
        assert {line["population"] for line in lines} == {digest}
        assert len({line["caller"] for line in lines} - {None}) == 1
