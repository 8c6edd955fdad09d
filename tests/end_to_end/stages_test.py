# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The examples that work in stages, under the real `custodian`, with a clock that is moved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from harness import PolicyRun, on_the_day

from demo import world
from embedded_aws import Account, EmbeddedAws, Key

EXAMPLES = Path(__file__).parents[2] / "examples"
FRESH, OLD = Key(5, last_used_days=0.1), Key(200, last_used_days=0.5)


def day(days: float) -> str:
    return f"{datetime.now(timezone.utc) + timedelta(days=days):%Y-%m-%d}"


def twins(status: str = "Active") -> list[Key]:
    """Two keys of one second: nobody can tell which slot each of them is in."""
    same = datetime.now(timezone.utc) - timedelta(days=150)
    return [Key(rotated_at=same, status=status)] * 2


def moment(days: float) -> str:
    """The day as mark-for-op writes it."""
    return day(days).replace("-", "/")


class Stages:
    """An example, run again and again in one account."""

    def __init__(self, example: str, aws: Any, account: Any, run_custodian: Any) -> None:
        self.policies: str | Path = EXAMPLES / example
        if "&weekdays" in self.policies.read_text("utf-8"):
            self.policies = on_the_day(self.policies)
        self.aws, self.account, self.run_custodian = aws, account, run_custodian
        aws.create_queue(world.QUEUE)
        self.heard = 0

    def run(self, *flags: str, after: float = 0, code: int = 0) -> PolicyRun:
        """Let so many days pass, then run the whole file. Custodian's cache doesn't age: off."""
        self.aws.move_clock(days=after)
        before = self.account.snapshot()
        done: PolicyRun = self.run_custodian(self.policies, "--cache-period", "0", *flags)
        assert done.code == code, done.text
        self.changed = self.account.changes(before)
        return done

    def told(self) -> dict[str, list[str]]:
        """{policy's last word: users} of the notices since the last call."""
        messages = self.aws.messages(world.QUEUE)
        new, self.heard = messages[self.heard :], len(messages)
        found: dict[str, list[str]] = {}
        for message in new:
            users = found.setdefault(message["policy"]["name"].rpartition("-")[2], [])
            users += [user["UserName"] for user in message["resources"]]
        return {word: sorted(users) for word, users in found.items()}

    def tag(self, user: str, name: str) -> str | None:
        found: str | None = self.account.tags(user).get(name)
        return found

    def off(self, *users: str, slot: int = 2) -> dict[str, tuple[str, str]]:
        """Exactly these users' keys switched off, as `changed` says it."""
        return {self.account.key_id(user, slot): ("Active", "Inactive") for user in users}


@pytest.fixture
def stages(
    aws: EmbeddedAws, account: Account, run_custodian: Callable[..., PolicyRun]
) -> Callable[[str], Stages]:
    return lambda example: Stages(example, aws, account, run_custodian)


class TestGracefulRollout:
    MARK = "keyrot-disable-on"

    @pytest.fixture
    def rollout(self, stages: Callable[[str], Stages], account: Account) -> Stages:
        made = stages("graceful-rollout.yml")
        for name in ("ana", "ben"):
            account.add_user(name, FRESH, OLD)
        account.add_user("rosa", OLD, FRESH)
        return made

    def test_who_cannot_be_identified_is_never_marked_nor_promised_anything(
        self, rollout: Stages, account: Account
    ) -> None:
        account.add_user("twins", *twins())
        account.add_user("due", *twins(), {self.MARK: self.mark(0)})
        account.add_user("to-remind", *twins(), {self.MARK: self.mark(2)})
        rollout.run()
        assert rollout.changed == {}
        doubted = ["due", "to-remind", "twins"]
        assert rollout.told() == {"mark": ["ana", "ben"], "unclear": doubted}
        assert account.tags("twins") == {}
        assert rollout.tag("due", self.MARK) == self.mark(0), "it may be stale all the same"

    def test_who_cannot_be_read_is_marked_when_there_is_a_notice(
        self, aws: EmbeddedAws, rollout: Stages, account: Account
    ) -> None:
        """A notice goes out of keys that are known; a mark without one would be no warning."""
        aws.fail("iam.ListAccessKeys", "AccessDenied", user="ana")
        rollout.run(code=2)
        assert rollout.told() == {"mark": ["ben"]}
        assert rollout.tag("ana", self.MARK) is None
        aws.heal()
        rollout.run(after=1)
        assert rollout.told() == {"mark": ["ana"]}
        assert rollout.tag("ana", self.MARK) == self.mark(14)

    def mark(self, days: float) -> str:
        return f"Resource does not meet policy: disable-access-key@{moment(days)}"

    def test_mark_remind_disable_unmark(self, rollout: Stages, account: Account) -> None:
        """ben rotates in time; ana doesn't. Nothing is told twice."""
        rollout.run()
        assert rollout.told() == {"mark": ["ana", "ben"]}
        assert rollout.changed == {}
        assert rollout.tag("ana", self.MARK) == self.mark(14)
        assert account.tags("rosa") == {}

        rollout.run()
        assert rollout.told() == {}
        assert rollout.tag("ana", self.MARK) == self.mark(14)

        rollout.run(after=10)
        assert rollout.told() == {}

        rollout.run(after=1)
        assert rollout.told() == {"remind": ["ana", "ben"]}
        account.rotate("ben", 2)

        rollout.run(after=1)
        assert rollout.told() == {}
        assert account.tags("ben") == {}
        assert rollout.changed == {}

        rollout.run(after=1)
        assert rollout.told() == {}
        assert rollout.changed == {}

        rollout.run(after=1)
        assert rollout.told() == {"marked": ["ana"]}
        assert rollout.changed == rollout.off("ana")
        assert account.tags("ana") == {}

        rollout.run(after=1)
        assert rollout.told() == {}
        assert rollout.changed == {}
        assert account.status("ben", 2) == account.status("rosa", 1) == "Active"

    def test_dry_run_marks_nobody(self, rollout: Stages, account: Account) -> None:
        rollout.run("--dryrun")
        assert rollout.told() == {}
        assert account.tags("ana") == {}

    def test_exempted_and_unmarked_meanwhile(self, rollout: Stages, account: Account) -> None:
        """Who is exempt loses the mark; whose mark was taken away starts again."""
        rollout.run()
        rollout.told()
        account.tag("ana", {world.EXEMPT: day(60)})
        account.untag("ben", self.MARK)
        rollout.run(after=14)
        assert rollout.changed == {}
        assert rollout.told() == {"mark": ["ben"]}
        assert rollout.tag("ana", self.MARK) is None
        assert rollout.tag("ben", self.MARK) == self.mark(14)

    def test_more_time(self, rollout: Stages, account: Account) -> None:
        """The date in the tag is what counts, within 60 days; none other can last for ever."""
        for name, value in (
            ("later", self.mark(40)),
            ("never", self.mark(4000)),
            ("no-date", self.mark(0).split("@")[0] + "@soon"),
            ("other-op", f"Because: stop@{moment(5)}"),
            ("by-hand", "never"),
            ("long-ago", self.mark(-50)),
        ):
            account.add_user(name, FRESH, OLD, {self.MARK: value})
        rollout.run()
        again = ["ana", "ben", "by-hand", "long-ago", "never", "no-date", "other-op"]
        assert rollout.told() == {"mark": again}
        assert rollout.changed == {}
        assert rollout.tag("later", self.MARK) == self.mark(40)
        assert {rollout.tag(name, self.MARK) for name in again} == {self.mark(14)}

    def test_killed_after_the_notice_ends_in_the_same_state(
        self, aws: EmbeddedAws, rollout: Stages, account: Account
    ) -> None:
        """The mark fails after the notice has gone out: the next run tells again, and marks."""
        aws.fail("iam.TagUser", "AccessDenied")
        rollout.run(code=2)
        assert rollout.told() == {"mark": ["ana", "ben"]}
        assert account.tags("ana") == {}
        aws.heal()
        rollout.run()
        assert rollout.told() == {"mark": ["ana", "ben"]}
        assert rollout.tag("ana", self.MARK) == self.mark(14)

    def test_failed_to_disable_stays_marked_and_is_tried_again(
        self, aws: EmbeddedAws, rollout: Stages, account: Account
    ) -> None:
        rollout.run()
        aws.fail("iam.UpdateAccessKey", "AccessDenied", user="ana")
        rollout.run(after=14, code=2)
        assert rollout.changed == rollout.off("ben")
        assert rollout.tag("ana", self.MARK) == self.mark(0)
        assert account.tags("ben") == {}
        aws.heal()
        rollout.run()
        assert rollout.changed == rollout.off("ana")
        assert account.tags("ana") == {}

    def test_unread_keys_are_no_reason_to_unmark(self, aws: EmbeddedAws, rollout: Stages) -> None:
        rollout.run()
        aws.fail("iam.ListAccessKeys", "AccessDenied", user="ana")
        rollout.run(after=14, code=2)
        assert rollout.changed == rollout.off("ben")
        assert rollout.tag("ana", self.MARK) == self.mark(0)

    def test_reactivated_starts_with_a_new_date(self, rollout: Stages, account: Account) -> None:
        rollout.run()
        rollout.run(after=14)
        account.set_status("ana", 2, "Active")
        rollout.told()
        rollout.run(after=1)
        assert rollout.told() == {"mark": ["ana"]}
        assert rollout.changed == {}
        assert rollout.tag("ana", self.MARK) == self.mark(14)


class TestDeleteStage:
    MARK = "keyrot-delete-on"

    @pytest.fixture
    def stage(self, stages: Callable[[str], Stages], account: Account) -> Stages:
        made = stages("delete-stage.yml")
        account.add_user("ana", FRESH, OLD)
        account.add_user("quinn", FRESH, Key(400, status="Inactive"))
        return made

    def mark(self, days: float) -> str:
        return f"Resource does not meet policy: delete-access-key@{moment(days)}"

    def test_disable_wait_delete(self, stage: Stages, account: Account) -> None:
        key = account.key_id("ana", 2)
        stage.run()
        assert stage.told() == {"disable": ["ana"]}
        assert stage.changed == stage.off("ana")
        assert stage.tag("ana", self.MARK) == self.mark(30)
        for days in (0, 1, 2, 4, 22):
            stage.run(after=days)
            assert stage.told() == {}
            assert stage.changed == {}
            assert stage.tag("ana", self.MARK)
        stage.run(after=1)
        assert stage.told() == {"delete": ["ana"]}
        assert stage.changed == {key: ("Inactive", None)}
        assert account.tags("ana") == {}
        assert account.status("ana", 1) == "Active"
        stage.run(after=1)
        assert stage.told() == {}
        # Somebody else had switched off this one.
        assert account.status("quinn", 2) == "Inactive"

    def test_report_from_before_the_disabling(self, stage: Stages, account: Account) -> None:
        """A mark isn't taken for void because the credential report is older than it."""
        account.generate_report(age_hours=3)
        stage.run()
        stage.run()
        assert stage.tag("ana", self.MARK) == self.mark(30)

    @pytest.mark.parametrize("exempt", [False, True])
    def test_reactivated_is_never_deleted(
        self, stage: Stages, account: Account, exempt: bool
    ) -> None:
        """An exempt user is unmarked; another's key is disabled anew, and waits all days anew."""
        stage.run()
        account.set_status("ana", 2, "Active")
        if exempt:
            account.tag("ana", {world.EXEMPT: day(300)})
        stage.run(after=29)
        assert stage.tag("ana", self.MARK) == (None if exempt else self.mark(30))
        stage.run(after=1)
        assert 2 in account.keys("ana")
        assert account.status("ana", 2) == ("Active" if exempt else "Inactive")

    def test_reactivated_between_notice_and_deleting(
        self, aws: EmbeddedAws, stage: Stages, account: Account
    ) -> None:
        stage.run()
        aws.after("sqs.SendMessage", lambda call: account.set_status("ana", 2, "Active"))
        done = stage.run(after=30)
        assert account.status("ana", 2) in ("Active", "Inactive")
        outcomes = done.outcomes("iam-user-second-access-key-delete")
        assert [o["outcome"] for o in outcomes] == ["skipped"]

    def test_used_or_rotated_meanwhile(self, stage: Stages, account: Account) -> None:
        account.add_user("used", FRESH, OLD)
        account.add_user("rotated", FRESH, OLD)
        stage.run()
        account.use_key("used", 2, days_ago=-10)  # somebody switched it on for a while
        account.rotate("rotated", 2, Key(0, status="Inactive"))
        ana = account.key_id("ana", 2)
        stage.run(after=30)
        assert stage.changed == {ana: ("Inactive", None)}
        assert stage.tag("used", self.MARK)
        assert stage.tag("rotated", self.MARK) is None

    def test_stopped_between_mark_and_disabling(
        self, aws: EmbeddedAws, stage: Stages, account: Account
    ) -> None:
        aws.fail("iam.UpdateAccessKey", "AccessDenied")
        stage.run(code=2)
        assert stage.tag("ana", self.MARK)
        assert account.status("ana", 2) == "Active"
        aws.heal()
        stage.run(after=5)
        assert stage.tag("ana", self.MARK) == self.mark(30)
        assert account.status("ana", 2) == "Inactive"

    def test_only_keys_known_for_certain_are_marked(self, stage: Stages, account: Account) -> None:
        account.add_user("lena", *twins())
        account.add_user("off", *twins(status="Inactive"), {self.MARK: self.mark(-1)})
        stage.run()
        assert account.tags("lena") == {}
        assert stage.told() == {"disable": ["ana"]}
        assert stage.changed == stage.off("ana")

    def test_old_mark_counts_no_more(self, stage: Stages, account: Account) -> None:
        account.add_user("old", FRESH, Key(400, status="Inactive"), {self.MARK: self.mark(-31)})
        account.add_user("due", FRESH, Key(400, status="Inactive"), {self.MARK: self.mark(-20)})
        due = account.key_id("due", 2)
        stage.run()
        assert stage.changed == {due: ("Inactive", None), **stage.off("ana")}
        assert account.tags("old") == account.tags("due") == {}


class TestBothSlots:
    def test_one_or_both(self, stages: Callable[[str], Stages], account: Account) -> None:
        both = stages("both-slots.yml")
        account.add_user("first", OLD, FRESH)
        account.add_user("second", FRESH, OLD)
        account.add_user("both", OLD, OLD)
        account.add_user("only", OLD)
        account.add_user("exempt", OLD, OLD, {world.EXEMPT: day(9)})
        account.add_user("soon", world.due_in(7), FRESH)
        account.add_user("twins", *twins())
        account.add_user("undated", OLD, Key(150, report_date="N/A"))
        both.run()
        assert both.told() == {
            "expiring": ["soon"],
            "one": ["first", "only", "second"],
            "both": ["both"],
            "unclear": ["twins", "undated"],
        }
        wanted = both.off("first", "only", "both", slot=1) | both.off("second", "both")
        assert both.changed == wanted
        both.run(after=1)
        assert both.changed == {}

    def test_a_doubt_about_one_key_keeps_no_other_one(
        self, stages: Callable[[str], Stages], account: Account
    ) -> None:
        both = stages("both-slots.yml")
        account.add_user("odd", OLD, Key(150))
        header, *rows = account.report_text().splitlines()
        row = next(row for row in rows if row.startswith("odd,")).split(",")
        row[header.split(",").index("access_key_2_active")] = "Expired"
        account.set_report("\n".join([header, ",".join(row)]))
        both.run()
        assert both.told() == {"one": ["odd"], "unclear": ["odd"]}
        assert both.changed == both.off("odd", slot=1)

    def test_one_of_both_that_failed_is_done_the_next_time(
        self, aws: EmbeddedAws, stages: Callable[[str], Stages], account: Account
    ) -> None:
        both = stages("both-slots.yml")
        account.add_user("both", OLD, OLD)
        first = account.key_id("both", 1)
        aws.fail("iam.UpdateAccessKey", "AccessDenied", when=lambda p: p["AccessKeyId"] == first)
        both.run(code=2)
        assert both.changed == both.off("both")
        aws.heal()
        both.run(after=1)
        assert both.changed == both.off("both", slot=1)
        assert both.told() == {"both": ["both"], "one": ["both"]}


class TestSupersededFirst:
    def test_disables_the_superseded_and_tells_the_rest_with_every_run(
        self, stages: Callable[[str], Stages], account: Account
    ) -> None:
        """Whatever the age of their keys; they are told again, as it runs weekly."""
        first = stages("superseded-first.yml")
        account.add_user("twins", *twins())
        kept = []
        for age in (90.5, 91.5, 93, 200, 203.5, 1000):
            stale = Key(age, last_used_days=40)
            account.add_user(f"moved-{age}", Key(12, last_used_days=1), stale)
            account.add_user(f"not-moved-{age}", Key(12), stale)
            account.add_user(f"no-other-{age}", None, stale)
            account.add_user(f"exempt-{age}", Key(12), stale, {world.EXEMPT: day(60)})
            kept += [f"not-moved-{age}", f"no-other-{age}"]
        moved = sorted(name for name in account.users() if name.startswith("moved"))
        first.run()
        assert first.changed == first.off(*moved)
        assert first.told() == {"superseded": moved, "kept": sorted(kept)}
        first.run(after=7)
        assert first.changed == {}
        assert first.told() == {"kept": sorted(kept)}
        account.use_key("not-moved-200", 1)
        first.run(after=7)
        assert first.changed == first.off("not-moved-200")
        kept.remove("not-moved-200")
        assert first.told() == {"superseded": ["not-moved-200"], "kept": sorted(kept)}


class TestExemptions:
    def test_each_fault_is_told(self, stages: Callable[[str], Stages], account: Account) -> None:
        exemptions = stages("exemptions.yml")
        good = {"keyrot-exempt-reason": "vendor appliance", world.OWNER: "ana@example.com"}
        for name, until, more in (
            ("fine", day(100), good),
            ("a-year", day(365), good),
            ("ends-today", day(0), good),
            ("ends-soon", day(13), good),
            ("too-long", day(380), good),
            ("for-ever", "9999-12-31", good),
            ("no-reason", day(100), {world.OWNER: "ana@example.com"}),
            ("blank-reason", day(100), {**good, "keyrot-exempt-reason": " "}),
            ("no-owner", day(100), {"keyrot-exempt-reason": "CHG-1042"}),
            ("owner", day(100), {"keyrot-exempt-reason": "CHG-1042", "Owner": "a@example.com"}),
            ("ended", day(-1), good),
            ("lenient", "next spring 2050", good),
            ("us-date", "12/31/2050", good),
            ("as-time", f"{day(13)}T00:00:00Z", good),
            ("in-366-days", day(366), good),
            ("in-367-days", day(367), good),
        ):
            account.add_user(name, FRESH, OLD, {world.EXEMPT: until, **more})
        account.add_user("not-exempt", FRESH, OLD)
        before = {name: account.tags(name) for name in account.users()}
        exemptions.run()
        assert exemptions.told() == {
            "soon": ["as-time", "ends-soon", "ends-today"],
            "long": ["for-ever", "in-367-days", "too-long"],
            "incomplete": ["blank-reason", "no-owner", "no-reason"],
            "void": ["ended", "lenient", "us-date"],
        }
        assert exemptions.changed == {}
        assert {name: account.tags(name) for name in account.users()} == before
