# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot plan`: what a dry run would do, and when it stops a pipeline."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from output_tree import PACK, A, B, C, Run, accounts_yml, key_id
from pytest_mock import MockerFixture

from c7n_keyrot import cli
from c7n_keyrot.core.records import Why
from c7n_keyrot.core.rotation import Identified, Verdict

# Half past a minute: a run's metadata begins a second before it.
NOW = datetime.now(timezone.utc).replace(second=30, microsecond=0)
NAMES = {"payments": A, "web": B, "sandbox": C}
STALE, EXPIRING, UNCLEAR = (PACK[kind]["name"] for kind in ("stale", "expiring", "unclear"))
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Said:
    """What the command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """The output without its line breaks and columns."""
        return " ".join(self.out.split())

    def row(self, start: str) -> list[str]:
        """The cells of the first row that starts so; the cells after that start."""
        (line, *_) = [line for line in self.out.splitlines() if line.startswith(start)]
        return line.removeprefix(start).split()

    def part(self, title: str) -> list[str]:
        """The lines of a part, without its title and headers."""
        text = self.out.split(f"\n{title}: ")[1].split("\n\n")[0] if title in self.out else ""
        rows = text.splitlines()[1:]
        return [line for line in rows if not line.startswith(("ACCOUNT", "  "))]


Plan = Callable[..., Said]


@pytest.fixture(autouse=True)
def _clock(mocker: MockerFixture) -> None:
    """The command's clock stands at NOW, however long ago this file was imported."""
    patched = mocker.patch("c7n_keyrot.cli.plan.datetime", wraps=datetime)
    patched.now.side_effect = lambda zone=None: NOW.astimezone(zone)


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plan:
    """plan(*flags): the command on tmp_path/out."""

    def run(*flags: str | Path, folder: Path | None = None) -> Said:
        code = cli.main(["plan", str(folder or tmp_path / "out"), *map(str, flags)])
        done = capsys.readouterr()
        return Said(code, done.out, done.err)

    return run


def dry(account_id: str = A, kind: str = "stale", **more: Any) -> Run:
    return Run(
        account_id=account_id, kind=kind, **{"time": NOW - 3 * HOUR, "dry_run": True, **more}
    )


def unidentified(run: Run, name: str, how: Identified = Identified.AMBIGUOUS) -> Run:
    run.match(name, 150, access_key_id=None, status=None, identified=how)
    run.users[-1]["c7n:matched-keys"] = []
    return run


def whole(out: Path, names: Mapping[str, str] = NAMES, **more: Any) -> None:
    """A dry run of the pack in each account that covers it all; one key in each to disable."""
    for name, account_id in names.items():
        dry(account_id, **more).match("ana", 100).write(out, name)
        dry(account_id, "expiring", **more).match("sam", 80).write(out, name)
        dry(account_id, "unclear", **more).write(out, name)


def test_what_would_happen_in_each_account_and_in_all(tmp_path: Path, plan: Plan) -> None:
    out = tmp_path / "out"
    whole(out)
    run = dry().match("ana", 100).match("bob", 200.5).leave("eve")
    run.leave("zoe", Verdict.UNKNOWN, Why.UNKNOWN)
    unidentified(run, "tom").write(out, "payments")
    said = plan("--accounts", accounts_yml(tmp_path, NAMES))
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Dry run that began {NOW - 3 * HOUR:%Y-%m-%d %H:%M} UTC"[:40])
    assert "3 hours ago." in said.words
    # Disabled, deleted, told (also of those that are disabled) and left.
    assert said.row(f"payments ({A})") == ["2", "0", "4", "3"]
    assert said.row(f"web ({B})") == said.row(f"sandbox ({C})") == ["1", "0", "2", "0"]
    assert said.row("Total") == ["4", "0", "8", "3"]
    disabled = said.part("Would disable")
    assert [line.split()[2:5] for line in disabled] == [
        ["ana", "2", key_id(A, "ana")],
        ["bob", "2", key_id(A, "bob")],
        ["ana", "2", key_id(C, "ana")],
        ["ana", "2", key_id(B, "ana")],
    ]
    assert disabled[1].endswith("200.5 days old")
    assert [line.split()[2] for line in said.part("Would notify only")] == ["sam"] * 3
    left = {line.split()[2]: line for line in said.part("Would leave")}
    until = f"{NOW - 3 * HOUR + timedelta(days=10):%Y-%m-%d}"
    assert left["eve"].endswith(f"stale; exempt until {until}")
    assert left["zoe"].endswith("unknown; its date or status can't be read")
    assert "\n  1 stale; exempt\n" in said.out
    assert "150.0 days old; not identified: two keys were created in the" in left["tom"]


def test_a_key_of_several_policies_and_regions_counts_once(tmp_path: Path, plan: Plan) -> None:
    for region in ("us-east-1", "us-west-2"):
        for name in ("one", "two"):
            policy = {**PACK["stale"], "name": name}
            dry(policy=policy, region=region).match("ana", 100).write(tmp_path / "out", "payments")
    said = plan("--max-keys", "1")
    assert said.row("Total") == ["1", "0", "1", "0"]
    assert said.code == 0


def actions(*some: Any) -> dict[str, Any]:
    return {**PACK["stale"], "actions": list(some)}


@pytest.mark.parametrize(
    ("done", "status", "row"),
    [
        (["notify"], "Active", ["0", "0", "1", "0"]),
        ([{"type": "notify"}], "Active", ["0", "0", "1", "0"]),
        (["disable-access-key"], "Active", ["1", "0", "0", "0"]),
        ([{"type": "disable-access-key"}, "notify"], "Active", ["1", "0", "1", "0"]),
        (["delete-access-key"], "Inactive", ["0", "1", "0", "0"]),
        # Neither action takes a key of the other's status.
        (["disable-access-key"], "Inactive", ["0", "0", "0", "1"]),
        (["delete-access-key"], "Active", ["0", "0", "0", "1"]),
        (
            [{"type": "remove-keys", "matched": True, "disable": True}],
            "Active",
            ["1", "0", "0", "0"],
        ),
        ([{"type": "remove-keys", "matched": True}], "Inactive", ["0", "1", "0", "0"]),
        ([], "Active", ["0", "0", "0", "1"]),
    ],
)
def test_what_a_policy_does_is_what_its_actions_are(
    tmp_path: Path, plan: Plan, done: list[Any], status: str, row: list[str]
) -> None:
    dry(policy=actions(*done)).match("ana", 200, status=status).write(tmp_path / "out")
    said = plan()
    assert (said.code, said.row("Total")) == (0, row)


def test_other_actions_are_named(tmp_path: Path, plan: Plan) -> None:
    policy = actions("disable-access-key", {"type": "mark-for-op", "tag": "x"})
    dry(policy=policy).match("ana", 200).write(tmp_path / "out")
    assert "aren't in this plan: mark-for-op." in plan().words


def test_remove_keys_by_age_cannot_be_planned(tmp_path: Path, plan: Plan) -> None:
    dry(policy=actions({"type": "remove-keys", "age": 90})).match("ana", 200).write(
        tmp_path / "out"
    )
    said = plan()
    assert said.code == 3
    assert "has remove-keys without matched: true" in said.words


def test_a_key_that_one_policy_leaves_and_another_takes_is_not_left(
    tmp_path: Path, plan: Plan
) -> None:
    dry().match("ana", 100).write(tmp_path / "out")
    dry(kind="unclear").leave("ana", Verdict.STALE, Why.OTHER_FILTER).write(tmp_path / "out")
    assert plan().row("Total") == ["1", "0", "1", "0"]


def test_the_most_telling_reason_counts(tmp_path: Path, plan: Plan) -> None:
    for kind, why in (("unclear", Why.OTHER_FILTER), ("stale", Why.EXEMPT), ("expiring", Why.USED)):
        dry(kind=kind).leave("ana", Verdict.STALE, why).write(tmp_path / "out")
    (line,) = plan().part("Would leave")
    assert "stale; exempt until" in line


NOTIFY_ONLY = {**PACK["stale"], "name": "notify-only", "actions": [PACK["stale"]["actions"][0]]}


def test_a_notice_is_not_explained_by_a_policy_about_doubts(tmp_path: Path, plan: Plan) -> None:
    """On its weekday that policy looks at every stale key, and leaves each that is clear."""
    out = tmp_path / "out"
    dry(policy=NOTIFY_ONLY).match("ana", 100).leave("eve").write(out)
    dry(kind="unclear").leave("ana", why=Why.OTHER_FILTER).leave("eve").write(out)
    said = plan()
    assert said.row("Total") == ["0", "0", "1", "1"]
    (ana,) = said.part("Would notify only")
    assert ana.endswith("100.0 days old")
    assert "stale; exempt until" in said.part("Would leave")[0]


def test_a_notice_says_why_the_policy_that_acts_takes_the_key_not(
    tmp_path: Path, plan: Plan
) -> None:
    dry(policy=NOTIFY_ONLY).match("ana", 100).write(tmp_path / "out")
    dry().leave("ana").write(tmp_path / "out")
    (ana,) = plan().part("Would notify only")
    assert "stale; exempt until" in ana


def test_a_key_that_only_a_policy_about_doubts_looked_at(tmp_path: Path, plan: Plan) -> None:
    dry(kind="unclear").leave("ana", why=Why.OTHER_FILTER).write(tmp_path / "out")
    (ana,) = plan().part("Would leave")
    assert ana.endswith("stale; no policy of this dry run selects it")


def _stop_by_limit(run: Run, out: Path, selected: int) -> None:
    """What Custodian leaves of a policy that selects too many: a summary, and no users."""
    folder = run.write(out)
    (folder / "resources.json").unlink()
    path = folder / "metadata.json"
    data = json.loads(path.read_text("utf-8"))
    data["metrics"] = [
        {"MetricName": "ResourceLimitExceeded", "Value": selected},
        {"MetricName": "PolicyException", "Value": 1},
    ]
    path.write_text(json.dumps(data), "utf-8")


def test_max_resources_is_why_nothing_is_done(tmp_path: Path, plan: Plan) -> None:
    out = tmp_path / "out"
    unclear = dry(kind="unclear").leave("ana", why=Why.OTHER_FILTER).leave("eve")
    unclear.leave("new", Verdict.UNKNOWN, Why.UNKNOWN).write(out)
    dry(kind="expiring").leave("sam", Verdict.EXPIRING, Why.NOT_DUE).write(out)
    _stop_by_limit(dry().match("ana", 100).leave("eve"), out, 21)
    said = plan()
    assert (said.code, said.row("Total")) == (3, ["0", "0", "0", "4"])
    left = {line.split()[1]: line for line in said.part("Would leave")}
    assert left["ana"].endswith(f"stale; {STALE} stops at its max-resources, and does nothing")
    assert "stale; exempt until" in left["eve"]
    assert left["new"].endswith("unknown; its date or status can't be read")
    assert left["sam"].endswith("expiring; no reminder is due on the day of the run")
    words = said.words.replace("- ", "-")
    assert f"{STALE} was stopped by max-resources: it selects 21 users, and would do" in words


@pytest.mark.parametrize("has_summary", [True, False])
def test_what_a_failed_policy_would_do_is_not_known(
    tmp_path: Path, plan: Plan, has_summary: bool
) -> None:
    """That others leave a key says nothing of the policy that was going to take it."""
    out = tmp_path / "out"
    unclear = dry(kind="unclear").leave("ana", why=Why.OTHER_FILTER)
    unclear.leave("sam", Verdict.EXPIRING, Why.NOT_DUE)
    if has_summary:
        unclear.leave("eve")
    unclear.write(out)
    folder = dry(failed=True).match("ana", 100).leave("eve").write(out)
    if not has_summary:
        (folder / "keyrot-summary.jsonl").unlink()
    said = plan()
    assert said.code == 3
    (ana,) = said.part("Not known")
    assert f"2          {STALE} ended with an error" in ana
    left = {line.split()[1] for line in said.part("Would leave")}
    assert left == ({"eve", "sam"} if has_summary else {"sam"})
    assert "LEAVE  NOT KNOWN" in said.out


def test_a_failed_notice_hides_no_disabling(tmp_path: Path, plan: Plan) -> None:
    out = tmp_path / "out"
    dry().match("ana", 100).write(out)
    dry(kind="unclear").leave("sam", Verdict.EXPIRING, Why.NOT_DUE).write(out)
    dry(kind="expiring", failed=True).match("sam", 80).write(out)
    said = plan()
    assert said.row("Total") == ["1", "0", "1", "0", "1"]
    (sam,) = said.part("Not known")
    assert f"{EXPIRING} ended with an error" in sam


@pytest.mark.parametrize(
    ("flags", "stop"),
    [
        ([], ""),
        (["--max-keys", "3"], ""),
        (["--max-keys", "2"], "3 keys would be disabled or deleted, more than --max-keys 2"),
        (["--max-keys", "0"], "3 keys would be disabled or deleted, more than --max-keys 0"),
        (["--max-percent", "10"], ""),
        (
            ["--max-percent", "9.9"],
            "3 of 30 active keys would be disabled: 10.0%, more than --max-percent 9.9",
        ),
    ],
)
def test_the_limit_is_of_all_accounts_together(
    tmp_path: Path, plan: Plan, flags: list[str], stop: str
) -> None:
    whole(tmp_path / "out")
    said = plan("--accounts", accounts_yml(tmp_path, NAMES), *flags)
    assert said.code == ((5 if "percent" in flags[0] else 4) if stop else 0)
    assert said.err == (stop and f"c7n-keyrot plan: {stop}\n")
    assert said.row("Total")[0] == "3"


@pytest.mark.parametrize(
    ("policies", "active"),
    [
        ([((1,), 40), ((2,), 10)], 50),
        ([((2,), 10), ((2,), 10)], 10),
        ([((1, 2), 50)], 50),
        ([((1, 2), 50), ((2,), 10)], 50),
    ],
)
def test_the_share_is_of_the_slots_that_policies_act_in(
    tmp_path: Path, plan: Plan, policies: list[tuple[tuple[int, ...], int]], active: int
) -> None:
    """Whichever slots the keys happen to be in; a policy that only tells doesn't count."""
    for number, (slots, keys) in enumerate(policies):
        policy = {**PACK["stale"], "name": f"p{number}"}
        run = dry(policy=policy, counts={"fresh": keys}).match(f"u{number}", 100)
        folder = run.write(tmp_path / "out")
        summary = json.loads((folder / "keyrot-summary.jsonl").read_text("utf-8"))
        summary["filters"] = [{**summary["filters"][0], "slot": slot} for slot in slots]
        (folder / "keyrot-summary.jsonl").write_text(json.dumps(summary) + "\n", "utf-8")
    if active == 10:
        dry(kind="expiring", options={"slot": 1}, counts={"fresh": 9}).write(tmp_path / "out")
    assert f"{len(policies)} of {active} active keys" in plan("--max-percent", "0").err


def test_nothing_to_disable_is_no_percent(tmp_path: Path, plan: Plan) -> None:
    dry(kind="expiring", counts={}).write(tmp_path / "out")
    assert plan("--max-percent", "0", "--max-keys", "0").code == 0


@pytest.mark.parametrize("action", ["delete", {"type": "delete", "options": ["access-keys"]}])
def test_deleting_users_cannot_be_planned(tmp_path: Path, plan: Plan, action: Any) -> None:
    dry(policy=actions(action)).match("ana", 200).write(tmp_path / "out")
    said = plan()
    assert said.code == 3
    assert "has delete, which takes users or keys" in said.words


def test_remove_keys_of_another_filter_cannot_be_planned(tmp_path: Path, plan: Plan) -> None:
    """Such as Custodian's own access-key, beside our rotation-exempt."""
    run = dry(policy=actions({"type": "remove-keys", "matched": True})).match("ana", 200)
    run.users[0]["c7n:keyrot"] = []
    run.write(tmp_path / "out")
    said = plan("--max-keys", "0")
    assert said.code == 3
    assert "has remove-keys for keys that no filter of the pack has matched" in said.words


STOCK = {"name": "old-keys", "resource": "aws.iam-user"}
REMOVE = {"type": "remove-keys", "disable": True}


def beside(action: Any, **more: Any) -> dict[str, Any]:
    """A policy of Custodian's own words."""
    return {**STOCK, "filters": [{"type": "access-key"}], "actions": [action], **more}


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (beside("remove-keys"), "has remove-keys without matched: true"),
        (beside(REMOVE), "has remove-keys without matched: true"),
        (beside({**REMOVE, "matched": True}), "has remove-keys for keys that no filter of"),
        (
            {**actions({**REMOVE, "matched": True}), "name": "x", "mode": {"type": "periodic"}},
            "has remove-keys in mode periodic",
        ),
        (beside("delete", resource="iam-user"), "has delete, which takes users or keys"),
        (beside({"type": "delete", "options": ["user-policies"]}), "has delete"),
        (beside({"type": "invoke-lambda", "function": "x"}), "has invoke-lambda: what that"),
        (beside("invoke-sfn"), "has invoke-sfn"),
        (beside({"type": "webhook", "url": "x"}), "has webhook"),
        (beside("retire-keys"), "has retire-keys: what it does to keys isn't known"),
        (beside("retire-keys", resource="aws.iam-access-key"), "has retire-keys"),
        (beside("x") | {"actions": {"delete": {}}}, "has delete"),
        ({**PACK["stale"], "mode": {"type": "periodic"}}, "has disable-access-key in mode"),
        ({**PACK["stale"], "actions": [{"type": "remove-keys"}]}, "has remove-keys without"),
        (actions("delete"), "has delete, which takes"),
        (beside({"type": "mark-for-op", "tag": "x", "op": "remove-keys"}), ""),
        (beside({"type": "set-policy", "arn": "x", "state": "attached"}), ""),
        (beside("notify"), ""),
        (beside("stop", resource="aws.ec2"), ""),
        (beside("notify", mode={"type": "periodic"}), ""),
        ({**STOCK, "actions": []}, ""),
    ],
)
def test_a_policy_whose_keys_cannot_be_counted_is_named(
    tmp_path: Path, plan: Plan, policy: dict[str, Any], why: str
) -> None:
    """By the file that is to be run, and by what its dry run left."""
    out, name = tmp_path / "out", policy["name"]
    dry().write(out, "payments")
    file = tmp_path / "policies.yml"
    file.write_text(json.dumps({"policies": [PACK["stale"], policy]}), "utf-8")
    if name != STALE:
        said = plan("--max-keys", "0", "--policies", file)
        assert (said.code, f"{name} {why}" in said.err) == (3 if why else 0, bool(why))
    folder = dry(policy=policy).write(out, "payments")
    if name != STALE:
        (folder / "keyrot-summary.jsonl").unlink()
    said = plan("--max-keys", "0")
    assert said.code == (3 if why else 0), said
    assert (f"{name} {why}" in said.err) is bool(why)
    assert (f"(in payments ({A}))" in said.words) is bool(why)
    assert ("Can't be counted: 1 policy" in said.words) is bool(why)


@pytest.mark.parametrize(
    ("policies", "code"),
    [
        ([beside("notify"), beside({"type": "notify", "to": ["x"]}, name="b")], 0),
        ([{**STOCK}], 0),
        ([PACK["stale"]], 6),
        ([PACK["expiring"], beside(REMOVE)], 6),
        ([beside("stop", resource="aws.ec2")], 6),
        ([beside({"type": "{act}"})], 6),
        ([beside("x") | {"actions": {"disable-access-key": {}}}], 6),
        ([beside("x") | {"actions": "delete"}], 6),
        ([beside("x") | {"actions": 7}], 6),
        ([beside("post-key-finding")], 6),
        ([beside("webhook")], 6),
        ([beside("notify", mode={"type": "periodic"})], 6),
        ([beside("notify"), beside("notify")], 3),
        ([beside("notify"), beside("notify", name="Old-Keys")], 3),
        ([beside("notify", name="../payments/old-keys")], 3),
    ],
)
def test_only_notices(
    tmp_path: Path, plan: Plan, policies: list[dict[str, Any]], code: int
) -> None:
    """Whatever the dry run says; it may have failed."""
    dry().write(tmp_path / "out", "payments")
    file = tmp_path / "policies.json"
    file.write_text(json.dumps({"policies": policies}), "utf-8")
    said = plan("--policies", file, "--only-notices")
    assert said.code == code, said
    if code == 6:
        assert plan("--policies", file, "--only-notices", folder=tmp_path / "none").code == 6


def test_only_notices_needs_the_file(tmp_path: Path, plan: Plan) -> None:
    dry().write(tmp_path / "out")
    assert plan("--only-notices").code == 1
    assert plan("--only-notices", "--policies", tmp_path / "none.yml").code == 1


def test_what_is_not_known_outranks_a_limit(tmp_path: Path, plan: Plan) -> None:
    """The figures are too small then; each reason is said."""
    whole(tmp_path / "out")
    _gone(tmp_path / "out")
    said = plan("--accounts", accounts_yml(tmp_path, NAMES), "--max-keys", "0")
    assert (said.code, "more than --max-keys 0" in said.err) == (3, True)
    assert plan("--max-keys", "0", "--max-percent", "0").code == 4


# -- coverage


def spoil(folder: Path, **changes: Any) -> None:
    """Change fields of the metadata, such as ``config={...}``."""
    path = folder / "metadata.json"
    data = json.loads(path.read_text("utf-8"))
    for name, value in changes.items():
        data[name].update(value)
    path.write_text(json.dumps(data), "utf-8")


def _gone(out: Path) -> None:
    for file in sorted(out.glob("web/*/*/*")):
        file.unlink()


def _stopped(out: Path) -> None:
    for file in out.glob(f"web/*/{STALE}/*"):
        if file.name != "custodian-run.log":
            file.unlink()


def _failed(out: Path) -> None:
    folder = out / "web" / "us-east-1" / STALE
    (folder / "metadata.json").unlink()
    (folder / "keyrot-summary.jsonl").unlink()
    dry(B, failed=True).match("ana", 100).write(out, "web")
    time = f"{NOW.astimezone():%Y-%m-%d %H:%M:%S},000"
    (folder / "custodian-run.log").write_text(
        f"{time} - custodian.output - ERROR - iam:ListAccessKeys is denied\n"
    )


def _never(out: Path) -> None:
    for file in out.glob(f"web/*/{UNCLEAR}/*"):
        file.unlink()


def _old(out: Path) -> None:
    spoil(
        out / "web" / "us-east-1" / STALE,
        execution={
            "start": (NOW - 30 * HOUR).timestamp(),
            "end_time": (NOW - 29 * HOUR).timestamp(),
        },
    )


def _real(out: Path) -> None:
    spoil(out / "web" / "us-east-1" / STALE, config={"dryrun": False})


def _half(out: Path) -> None:
    path = out / "web" / "us-east-1" / STALE / "resources.json"
    path.write_bytes(path.read_bytes()[:-20])


def _fewer(out: Path) -> None:
    (out / "web" / "us-east-1" / STALE / "resources.json").write_text("[]", "utf-8")


def _others(out: Path) -> None:
    """The users of another run, which ended before it could say whom it selected."""
    folder = out / "web" / "us-east-1" / STALE
    path = folder / "resources.json"
    users = json.loads(path.read_text("utf-8"))
    for record in users[0]["c7n:keyrot"]:
        record["run"] = "another"
    path.write_text(json.dumps(users), "utf-8")
    line = json.loads((folder / "keyrot-summary.jsonl").read_text("utf-8"))
    with (folder / "keyrot-summary.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "run": "another"}) + "\n")


def _no_summary(out: Path) -> None:
    path = out / "web" / "us-east-1" / STALE / "keyrot-summary.jsonl"
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (_gone, "no policy of the pack has run there"),
        (_stopped, f"{STALE} didn't finish"),
        (_failed, f"{STALE} ended with an error: iam:ListAccessKeys is denied"),
        (_never, f"{UNCLEAR} never ran there"),
        (_old, "but not in the last run, which began"),
        (_real, "and not as a dry run"),
        (_half, f"{STALE} selected 1 user, of whom 0 can be read"),
        (_fewer, f"{STALE} selected 1 user, of whom 0 can be read"),
        (_others, f"{STALE} left the users of an earlier run only"),
        (_no_summary, f"{STALE} left no summary of this run that can be read"),
    ],
)
def test_an_account_that_is_not_covered_stops(
    tmp_path: Path, plan: Plan, break_it: Callable[[Path], None], why: str
) -> None:
    out = tmp_path / "out"
    whole(out)
    break_it(out)
    said = plan("--accounts", accounts_yml(tmp_path, NAMES))
    assert said.code == 3
    assert said.err.splitlines()[-1] == "c7n-keyrot plan: 1 of 3 accounts not covered"
    assert why.replace("-", "") in said.words.replace("- ", "").replace("-", "")
    # It comes first.
    assert said.out.split("LEAVE\n")[1].startswith(f"web ({B})")
    assert said.row("Total")[0] == ("3" if break_it is _never else "2")


def test_a_policy_that_was_stopped_in_the_only_account_stops(tmp_path: Path, plan: Plan) -> None:
    """Nothing else says that it is a policy of the pack."""
    out = tmp_path / "out"
    dry(kind="expiring").write(out)
    dry().match("ana", 100).write(out)
    for file in (out / STALE).iterdir():
        if file.name != "custodian-run.log":
            file.unlink()
    said = plan("--max-keys", "0")
    assert said.code == 3
    assert f"{STALE}: its policy left a log only" in said.err


@pytest.mark.parametrize(("hours", "code"), [(23, 0), (25, 3)])
def test_an_old_plan_stops(tmp_path: Path, plan: Plan, hours: int, code: int) -> None:
    """Such as yesterday's, where today's dry run could take no role, and left nothing."""
    dry(time=NOW - hours * HOUR).match("ana", 100).write(tmp_path / "out")
    said = plan()
    assert said.code == code
    assert ("the dry run is 25 hours old; make a new one" in said.err) is (code == 3)


def test_what_cannot_be_read_stops_even_without_accounts_yml(tmp_path: Path, plan: Plan) -> None:
    whole(tmp_path / "out")
    (tmp_path / "out" / "lost").symlink_to(tmp_path / "nowhere")
    said = plan()
    assert said.code == 3
    assert "it links to nothing" in said.err
    assert said.err.endswith("1 warning (see above): what can't be read may hide keys\n")


def test_a_limit_of_the_policy_stops_too(tmp_path: Path, plan: Plan) -> None:
    folder = dry(failed=True).match("ana", 100).write(tmp_path / "out")
    path = folder / "metadata.json"
    data = json.loads(path.read_text("utf-8"))
    data["metrics"].append({"MetricName": "ResourceLimitExceeded", "Value": 30})
    path.write_text(json.dumps(data), "utf-8")
    said = plan()
    assert (said.code, "was stopped by max-resources" in said.words) == (3, True)


def test_a_policy_with_conditions_needs_not_run_everywhere(tmp_path: Path, plan: Plan) -> None:
    out = tmp_path / "out"
    whole(out)
    policy = {**PACK["stale"], "name": "dev", "conditions": [{"account": "x"}]}
    dry(policy=policy).match("ana", 60).write(out, "payments")
    assert plan("--accounts", accounts_yml(tmp_path, NAMES)).code == 0


def test_without_accounts_yml_those_with_a_folder_count(tmp_path: Path, plan: Plan) -> None:
    out = tmp_path / "out"
    whole(out)
    assert plan().code == 0
    _stopped(out)
    said = plan()
    assert said.code == 3
    assert said.err.endswith("1 of 3 accounts not covered\n")


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ([], 3),
        (["-a", "payments"], 0),
        (["-a", "payments,web", "--not-accounts", B], 0),
        (["--not-accounts", "payments"], 3),
        (["-t", "env:none"], 1),
        (["-a", "nobody"], 1),
    ],
)
def test_only_the_chosen_accounts_must_be_covered(
    tmp_path: Path, plan: Plan, flags: list[str], code: int
) -> None:
    whole(tmp_path / "out", {"payments": A})
    assert plan("--accounts", accounts_yml(tmp_path, NAMES), *flags).code == code


def test_accounts_cannot_be_chosen_without_accounts_yml(tmp_path: Path, plan: Plan) -> None:
    whole(tmp_path / "out")
    said = plan("-a", "payments")
    assert (said.code, "-a and -t need --accounts" in said.err) == (1, True)


def test_an_account_beyond_accounts_yml_counts_too(tmp_path: Path, plan: Plan) -> None:
    whole(tmp_path / "out")
    said = plan("--accounts", accounts_yml(tmp_path, {"payments": A}), "--max-keys", "2")
    assert said.code == 4
    assert said.row("Total")[0] == "3"


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda out: None, "is not there; OUTPUT_DIR is the -s"),
        (lambda out: out.write_text("x"), "is a file; name its folder"),
        (lambda out: out.mkdir(), "no policy of the pack has run into"),
        (lambda out: whole(out, dry_run=False), "has no dry run"),
    ],
)
def test_a_folder_without_a_dry_run_is_one_line_on_stderr(
    tmp_path: Path, plan: Plan, write: Callable[[Path], Any], words: str
) -> None:
    write(tmp_path / "out")
    said = plan()
    assert (said.code, said.out) == (1, "")
    (line,) = said.err.splitlines()
    assert line.startswith("c7n-keyrot plan: ")
    assert words in line


def test_a_folder_of_another_tool(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "out" / "x").mkdir(parents=True)
    (tmp_path / "out" / "x" / "metadata.json").write_text('{"name": "helm"}')
    (tmp_path / "out" / "x" / "resources.json").write_text("[1, 2]")
    said = plan()
    assert said.code in (1, 3)
    assert "Traceback" not in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path, plan: Plan) -> None:
    whole(tmp_path / "out")
    (tmp_path / "out" / "web").chmod(0)
    assert plan("--accounts", accounts_yml(tmp_path, NAMES)).code == 3


def test_a_copy_of_a_bucket(tmp_path: Path, plan: Plan) -> None:
    out = tmp_path / "out"
    run = dry().match("ana", 100).leave("eve")
    folder = run.write(out, "payments")
    target = folder / "2026" / "07" / "19" / "09"
    target.mkdir(parents=True)
    for file in [file for file in folder.iterdir() if file.is_file()]:
        name = file.name.replace(".jsonl", f"-{run.id}.jsonl")
        (target / f"{name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    said = plan("--accounts", accounts_yml(tmp_path, {"payments": A}))
    assert (said.code, said.row("Total")) == (0, ["1", "0", "1", "1"])


# -- the screen


def test_what_does_not_fit_on_a_screen_is_counted(tmp_path: Path, plan: Plan) -> None:
    run = dry()
    for number in range(50):
        run.match(f"user{number:02}", 100)
    run.write(tmp_path / "out")
    said = plan()
    assert len(said.part("Would disable")) == 41
    assert "... and 10 more keys (--all)" in said.out
    everything = plan("--all").part("Would disable")
    assert [line.split()[1] for line in everything] == [f"user{n:02}" for n in range(50)]


def test_every_reason_has_words(tmp_path: Path, plan: Plan) -> None:
    run = dry()
    for why in Why:
        run.leave(why.name, Verdict.STALE, why)
    for how in (Identified.AMBIGUOUS, Identified.GONE, Identified.UNMATCHED, Identified.UNREAD):
        unidentified(run, f"not-{how.name}", how)
    run.write(tmp_path / "out")
    said = plan()
    assert said.row("Total") == ["0", "0", "4", str(len(Why) + 4)]
    assert said.words.count("not identified:") == 8
    assert all(f"stale; {why.text}" in said.words for why in Why if why is not Why.OTHER_FILTER)
    assert f"stale; ruled out by another filter of {STALE}" in said.words


def test_hostile_names_are_cleaned(tmp_path: Path, plan: Plan) -> None:
    name = "\x1b[31m\n\u202e=evil" + "x" * 300
    policy = {**PACK["stale"], "actions": ["disable-access-key", "\x1b[0m\n"]}
    dry(policy=policy).match(name, 100).leave(name + "2").write(tmp_path / "out", "\x1b[2J")
    said = plan()
    assert said.code == 3  # nobody knows that action
    assert all(c.isprintable() or c == "\n" for c in said.out + said.err)
    assert all(len(line) <= 120 for line in said.out.splitlines())


@pytest.mark.parametrize(
    "flags",
    [
        *(["--max-keys", text] for text in ("-1", "1.5", "many", "", "1000000001", "9" * 5000)),
        *(["--max-percent", text] for text in ("-1", "101", "nan", "some")),
    ],
)
def test_wrong_arguments(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["plan", "out", *flags])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert flags[0] in error
    assert "from 0 to 1" in error
