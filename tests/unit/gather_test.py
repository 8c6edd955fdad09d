# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one reader of output folders: what it finds, and what it does with what it can't read."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from output_tree import NOW, PACK, A, B, C, Run, accounts_yml, key_id

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import Result
from c7n_keyrot.evidence.accounts import Account, load
from c7n_keyrot.evidence.files import Damage, ids_of, owner
from c7n_keyrot.evidence.gather import OUR_ACTIONS, OUR_FILTERS, PolicyFolder, gather, is_ours

STALE = PACK["stale"]["name"]
LATER = timedelta(hours=1)


def read(*folders: Path, accounts: Path | None = None) -> tuple[list[PolicyFolder], list[str]]:
    damage: list[Damage] = []
    known = load(accounts) if accounts else ()
    found = list(gather([str(folder) for folder in folders], damage, known, NOW + LATER))
    return found, list(map(str, damage))


def test_our_words_are_those_that_are_registered() -> None:
    from c7n.resources.iam import User

    for registry, ours in (
        (User.filter_registry, OUR_FILTERS),
        (User.action_registry, OUR_ACTIONS),
    ):
        items = registry.items()
        assert {name for name, one in items if one.__module__.startswith("c7n_keyrot.")} == ours


def test_a_tree_of_c7n_org_is_read_whole(tmp_path: Path) -> None:
    stale = Run(dry_run=True).match("ana", 100, {"ownercontact": "ana@corp.test"}).leave("bob")
    stale.outcome("eve", "reactivated", "reactivate").write(tmp_path, "payments")
    Run(kind="expiring", account_id=B).match("sam", 80).write(tmp_path, "web")
    (expiring, found), warnings = read(tmp_path)[0][::-1], read(tmp_path)[1]
    assert warnings == []
    assert (found.account_id, found.account, found.region) == (A, "payments", "us-east-1")
    assert (found.name, found.run, found.dry_run, found.failed) == (STALE, stale.id, True, False)
    assert (found.start, found.end) == (NOW - timedelta(seconds=1), NOW + timedelta(seconds=1))
    assert found.policy == PACK["stale"]
    assert found.metrics == {"ResourceCount": 1}
    ((user, record),) = found.records
    assert (user.name, user.owner()) == ("ana", "ana@corp.test")
    assert user.matched == {key_id(A, "ana"): "Active"}
    assert record == stale.record("ana", 100)
    assert found.summaries == (stale.summary,)
    assert found.summary == stale.summary
    assert found.outcomes == tuple(stale.done)
    assert (expiring.account_id, expiring.account, expiring.users[0].owner()) == (B, "web", None)


@pytest.mark.parametrize("depth", ["", STALE])
def test_a_run_of_custodian_has_no_name_of_an_account(tmp_path: Path, depth: str) -> None:
    Run().write(tmp_path)
    ((found,), warnings) = read(tmp_path / depth)
    assert (found.account_id, found.account, found.region) == (A, "", "us-east-1")
    assert (found.name, warnings) == (STALE, [])


def test_all_runs_are_the_history_and_the_last_one_is_the_present(tmp_path: Path) -> None:
    first = Run(time=NOW - LATER).match("ana", 100).outcome("ana")
    second = Run().match("bob", 91)
    for run in (first, second):
        run.write(tmp_path)
    ((found,), _) = read(tmp_path)
    assert [user.name for user in found.users] == ["bob"]
    assert found.summaries == (first.summary, second.summary)
    assert found.outcomes == tuple(first.done)


def test_a_run_that_ended_early_leaves_the_users_of_the_run_before(tmp_path: Path) -> None:
    first, second = Run(time=NOW - LATER).match("ana", 100), Run(failed=True)
    first.write(tmp_path)
    users = (tmp_path / STALE / "resources.json").read_bytes()
    second.write(tmp_path)
    (tmp_path / STALE / "resources.json").write_bytes(users)
    ((found,), warnings) = read(tmp_path)
    assert (found.run, found.users_run, found.failed) == (second.id, first.id, True)
    assert ([user.name for user in found.users], warnings) == (["ana"], [])


def test_a_copy_of_a_bucket_has_a_folder_for_each_hour(tmp_path: Path) -> None:
    for hour in (8, 9):
        run = Run(time=NOW.replace(hour=hour)).match("ana", 100).outcome("ana")
        folder = run.write(tmp_path / "web" / "us-east-1")
        target = folder / f"2026/07/19/{hour:02}"
        target.mkdir(parents=True)
        for file in [file for file in folder.iterdir() if file.is_file()]:
            name = file.name.replace(".jsonl", f"-{run.id}.jsonl")
            (target / f"{name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    found, warnings = read(tmp_path)
    assert [(one.account, one.name, len(one.users)) for one in found] == [("web", STALE, 1)] * 2
    assert [len(one.summaries) + len(one.outcomes) for one in found] == [2, 2]
    assert warnings == []


def test_a_folder_that_is_given_twice_is_read_once(tmp_path: Path) -> None:
    Run().write(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / STALE)
    assert len(read(tmp_path, tmp_path / STALE, tmp_path)[0]) == 1


@pytest.mark.parametrize(
    ("policy", "ours"),
    [
        *((policy, True) for policy in PACK.values()),
        ({"filters": ["stale-access-key"]}, True),
        ({"filters": [{"and": [{"or": [{"not": [{"type": "rotation-exempt"}]}]}]}]}, True),
        ({"actions": ["disable-access-key"]}, True),
        ({"filters": ["credential", {"type": "access-key"}], "actions": ["notify"]}, False),
        ({"filters": {"type": "stale-access-key"}, "actions": 1}, False),
        ({"filters": [[], None, {"or": {}}, {"type": []}]}, False),
        ({}, False),
    ],
)
def test_which_policies_are_ours(policy: dict[str, Any], ours: bool) -> None:
    assert is_ours(policy) is ours


def test_policies_of_other_packs_do_not_count(tmp_path: Path) -> None:
    other = {"name": "unused-users", "resource": "aws.iam-user", "filters": ["credential"]}
    folder = Run(policy=other).match("ana", 100).write(tmp_path, "web")
    for file in folder.glob("keyrot-*"):
        file.unlink()
    Run().write(tmp_path, "web")
    # Neither said which filters it has; one bears the name of a policy of ours.
    for name in (STALE, "something-else"):
        (tmp_path / "shop/us-east-1" / name).mkdir(parents=True)
        (tmp_path / "shop/us-east-1" / name / "custodian-run.log").touch()
    found, warnings = read(tmp_path)
    assert [(one.account, one.name, one.failed) for one in found] == [
        ("web", STALE, False),
        ("shop", STALE, True),
    ]
    # It may be one of ours.
    (warning,) = warnings
    assert "shop/us-east-1/something-else: its policy left a log only" in warning


def test_folders_of_failed_policies_alone(tmp_path: Path) -> None:
    (tmp_path / "shop/us-east-1/x").mkdir(parents=True)
    (tmp_path / "shop/us-east-1/x/custodian-run.log").touch()
    ((found,), _) = read(tmp_path, accounts=accounts_yml(tmp_path, {"shop": B}))
    assert (found.account, found.account_id, found.name, found.failed) == ("shop", B, "x", True)


@pytest.mark.parametrize("failed", [True, False])
def test_a_run_that_failed(tmp_path: Path, failed: bool) -> None:
    Run(failed=failed).write(tmp_path)
    assert read(tmp_path)[0][0].failed is failed


def test_an_intent_without_an_outcome_stays(tmp_path: Path) -> None:
    run = Run()
    for name in ("ana", "bob", "eve"):
        run.outcome(name, "intended", intent=True)
    run.outcome("ana")
    run.outcome("eve", "failed", intent=True)  # its own file couldn't be written
    run.write(tmp_path)
    ((found,), _) = read(tmp_path)
    assert sorted((line.user, line.outcome) for line in found.outcomes) == [
        ("ana", "disabled"),
        ("bob", "intended"),
        ("eve", "failed"),
    ]


def spoiled(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        data = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps(change(data)), "utf-8")

    return spoil


def put(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def fifo(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def config(**more: Any) -> Callable[[Any], Any]:
    return lambda data: {**data, "config": {**data["config"], **more}}


def execution(**more: Any) -> Callable[[Any], Any]:
    return lambda data: {**data, "execution": {**data["execution"], **more}}


def user(**more: Any) -> Callable[[Any], Any]:
    return lambda data: [{**data[0], **more}]


def record(**more: Any) -> Callable[[Any], Any]:
    return lambda data: [{**data[0], "c7n:keyrot": [{**data[0]["c7n:keyrot"][0], **more}]}]


META, RESOURCES, SUMMARY = "metadata.json", "resources.json", "keyrot-summary.jsonl"
FUTURE = (NOW + timedelta(days=2)).timestamp()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (put(META, b"{"), f"{META}: it isn't JSON; it isn't used"),
        (put(META, b"[" * 100_000), f"{META}: it isn't JSON"),
        (put(META, b"[]"), f"{META}: it isn't Custodian's metadata"),
        (fifo(META), f"{META}: it is a FIFO"),
        (spoiled(META, execution(start="now")), "it doesn't say when the run was"),
        (spoiled(META, execution(start=True)), "it doesn't say when the run was"),
        (spoiled(META, execution(start=float("nan"))), "it doesn't say when the run was"),
        (spoiled(META, execution(end_time=1)), "it doesn't say when the run was"),
        (spoiled(META, execution(end_time=FUTURE)), "it is of a run in the future"),
        (spoiled(META, execution(id=["x"])), "it isn't Custodian's metadata"),
        (spoiled(META, config(account_id="../x")), "its account_id isn't an account's"),
        (spoiled(META, config(region=5)), "it isn't Custodian's metadata"),
        (spoiled(META, lambda data: {**data, "policy": {"name": "\ud800"}}), "isn't Custodian's"),
        (put(RESOURCES, b"{}"), f"{RESOURCES}: it isn't a list of users"),
        (put(RESOURCES, b'[{"UserName": "a'), f"{RESOURCES}: it isn't JSON"),
        (fifo(RESOURCES), f"{RESOURCES}: it is a FIFO"),
        (spoiled(RESOURCES, user(UserName=None)), "1 user can't be read"),
        (spoiled(RESOURCES, user(UserName="a\ud800")), "1 user can't be read"),
        (spoiled(RESOURCES, user(Tags={"a": 1})), "1 user can't be read"),
        (spoiled(RESOURCES, user(Tags=[{"Key": 1}])), "1 user can't be read"),
        (spoiled(RESOURCES, user(Arn=f"arn:aws:iam::{B}:user/x")), f"not of account {A}"),
        (spoiled(RESOURCES, lambda data: [None]), "1 user can't be read"),
        (spoiled(RESOURCES, record(slot=3)), "1 user can't be read"),
        (spoiled(RESOURCES, record(verdict="bad")), "1 user can't be read"),
        (spoiled(RESOURCES, record(deadline="soon")), "1 user can't be read"),
        (spoiled(RESOURCES, record(last_rotated="0001-01-01T00:00:00+10:00")), "1 user can't"),
        (spoiled(RESOURCES, record(access_key_id="=1")), "1 user can't be read"),
        (spoiled(RESOURCES, record(run="another")), "1 user of a run that left nothing else"),
        (put(SUMMARY, b"{}\n[]\n"), f"{SUMMARY}: 2 lines can't be read"),
        (put(f"{SUMMARY}.gz", b"x"), f"{SUMMARY}.gz: it can't be decompressed"),
        (fifo(SUMMARY), f"{SUMMARY}: it is a FIFO"),
        (spoiled(SUMMARY, lambda line: {**line, "users": -1}), "1 line can't be read"),
        (spoiled(SUMMARY, lambda line: {**line, "account_id": "x"}), "1 line can't be read"),
        (spoiled(SUMMARY, lambda line: {**line, "time": "2026-01-01"}), "1 line can't be read"),
        (spoiled(SUMMARY, lambda line: {**line, "policy": "\udfff"}), "1 line can't be read"),
        (
            spoiled(SUMMARY, lambda line: {**line, "filters": [{"filter": "x", "days": "1"}]}),
            "1 line can't be read",
        ),
        (
            spoiled(SUMMARY, lambda line: {**line, "time": "2099-01-01T00:00:00+00:00"}),
            "1 line dated in the future, not used",
        ),
        (
            spoiled(SUMMARY, lambda line: {**line, "account_id": B}),
            f"it is of account {A}, but has lines of {B}",
        ),
        (fifo(outcomes.FILE), f"{outcomes.FILE}: it is a FIFO"),
        (put(outcomes.FILE, b"\x00\n"), "1 line can't be read"),
        (
            spoiled(outcomes.FILE, lambda line: {**line, "time": "2099-01-01T00:00:00+00:00"}),
            "1 line dated in the future, not used",
        ),
    ],
)
def test_what_cannot_be_read_is_a_warning(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(Run().match("ana", 100).leave("bob").outcome("ana").write(tmp_path))
    found, warnings = read(tmp_path)
    assert len(found) == 1
    (text,) = warnings
    assert words in text
    assert text.startswith(f"{tmp_path.name}/{STALE}"), "no path of this machine"


def test_half_a_line_of_a_run_that_was_killed_is_no_damage(tmp_path: Path) -> None:
    """The intent in the same folder says of which key it is. Without it, something is lost."""
    run = Run().match("ana", 100).outcome("ana", "intended", intent=True).outcome("ana")
    folder = run.write(tmp_path)
    text = (folder / outcomes.FILE).read_bytes()
    (folder / outcomes.FILE).write_bytes(text[:-60])
    (found,), damage = read(tmp_path)
    assert (damage, [one.outcome for one in found.outcomes]) == ([], ["intended"])
    (folder / outcomes.INTENTS_FILE).unlink()
    (told,) = read(tmp_path)[1]
    assert told.endswith(f"{outcomes.FILE}: 1 line can't be read (the first is line 1)")


def test_folders_that_contradict_accounts_yml(tmp_path: Path) -> None:
    Run(account_id=B).write(tmp_path, "payments")
    (found,), texts = read(tmp_path, accounts=accounts_yml(tmp_path, {"payments": A, "web": B}))
    assert (found.account_id, found.account, found.run) == (A, "payments", "")
    assert sum(f"of account {B}, in a folder of account {A}: not used" in t for t in texts) == 3


@pytest.mark.parametrize(
    ("root", "folder", "mine"),
    [
        # Lambda's outputs; the bucket lets B write anything below its own id.
        ("copy", f"lambda/{B}/{STALE}/2026/11/30/06", B),
        ("copy", f"lambda/{B}/{C}/{STALE}", B),
        ("copy", f"lambda/{B}/web/us-east-1/{STALE}", B),
        ("copy", f"lambda/{B}", B),
        (f"copy/{B}", f"{STALE}/2026/11/30/06", B),
        (f"copy/{B}", f"{C}/{STALE}", B),
        (f"copy/{B}/{STALE}", "2026/11/30/06", B),
        # Folders of the user's own.
        (f"{C}/copy", f"lambda/{B}/{STALE}", B),
        (f"{C}/copy", f"web/us-east-1/{STALE}", A),
        ("runs/202611300600", STALE, ""),
        ("runs", f"202611300600/web/us-east-1/{STALE}", A),
        # c7n-org's.
        ("out", f"web/us-east-1/{STALE}", A),
        ("out", f"{A}/us-east-1/{STALE}", A),
        ("out", f"{C}/us-east-1/{STALE}", "444444444444"),
        ("out", f"twins/us-east-1/{STALE}", ""),
        ("out", f"other/us-east-1/{STALE}", ""),
        ("out", STALE, ""),
    ],
)
def test_whose_a_folder_is(root: str, folder: str, mine: str) -> None:
    entries = [("web", A), ("twins", A), ("twins", B), (C, "444444444444")]
    ids = ids_of(Account(name, account_id) for name, account_id in entries)
    assert owner(Path(root), Path(root, folder), ids) == mine


@pytest.mark.parametrize(
    ("minutes", "options", "words"),
    [
        (0.2, {"days": 30}, "policies of one name, with other filters"),
        (0.2, {}, ""),  # run twice
        (2, {"days": 30}, ""),  # changed, and run again
    ],
)
def test_policies_of_one_name_are_named(
    tmp_path: Path, minutes: float, options: dict[str, Any], words: str
) -> None:
    Run(time=NOW - timedelta(minutes=minutes), options=options).match("ana", 100).write(tmp_path)
    Run().match("bob", 100).write(tmp_path)
    _, texts = read(tmp_path)
    assert len(texts) == bool(words)
    assert words in "".join(texts)


def test_policies_that_share_a_folder_are_named(tmp_path: Path) -> None:
    """With braces in -s Custodian makes no folder for the policy."""
    folder = Run().match("ana", 100).write(tmp_path)
    other = Run(kind="expiring")
    outcomes.append(folder / SUMMARY, other.summary)
    (folder / META).write_text(json.dumps(other.metadata), "utf-8")
    _, texts = read(tmp_path)
    assert any(f"it has lines of {STALE}: policies share it" in text for text in texts)


def test_an_account_speaks_for_itself_only(tmp_path: Path) -> None:
    """Below B's prefix: a whole folder of C's, and lines of C's among B's own."""
    out = tmp_path / "copy"
    Run(account_id=C).match("ana", 100).outcome("ana").write(out / "lambda" / B)
    folder = Run(account_id=B, kind="expiring").match("bob", 80).write(out / "lambda" / B)
    theirs = Run(account_id=C, kind="expiring").match("eve", 80).outcome("eve")
    outcomes.append(folder / SUMMARY, theirs.summary)
    for line in theirs.done:
        outcomes.append(folder / outcomes.FILE, line)
        outcomes.append(folder / outcomes.INTENTS_FILE, replace(line, outcome=Result.INTENDED))
    found, texts = read(out)
    assert {one.account_id for one in found} == {B}
    assert [s.account_id for one in found for s in one.summaries] == [B]
    assert [line for one in found for line in one.outcomes] == []
    assert [user.name for one in found for user in one.users] == ["bob"]
    files = (META, SUMMARY, outcomes.FILE, SUMMARY, outcomes.FILE, outcomes.INTENTS_FILE)
    for name in set(files):
        wanted = [t for t in texts if f"/{name}: " in t and f"of account {C}, in a folder" in t]
        assert len(wanted) == files.count(name), (name, texts)


@pytest.mark.parametrize(
    ("name", "words"),
    [("s3://bucket/x", "aws s3 sync"), ("missing", "is not there"), ("file", "name its folder")],
)
def test_what_is_no_folder(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").touch()
    folder = name if "://" in name else str(tmp_path / name)
    with pytest.raises(CommandError, match=words):
        list(gather([folder], []))
