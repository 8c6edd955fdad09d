# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""How the event history is asked: at what pace, how far, and what happens when it fails."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from in_memory import client_error

from c7n_keyrot.aws import calls, event_history, settings
from c7n_keyrot.aws.errors import CallError, ErrorKind
from c7n_keyrot.aws.event_history import (
    LONGEST,
    MOST_PAGES,
    PACE,
    Answers,
    Pacer,
    Question,
    ask,
    regions_of,
)

NOW = datetime(2026, 7, 19, 9, tzinfo=timezone.utc)
EAST, WEST = "us-east-1", "eu-west-1"


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def pacer(self, seconds: float = PACE) -> Pacer:
        return Pacer(seconds, self, self.sleep)


class CloudTrail:
    """CloudTrail's client of one region: so many events a key, a page of 50 a call."""

    def __init__(
        self, clock: Clock, events: dict[str, int], error: str = "", after: int = 0
    ) -> None:
        self.clock, self.events, self.error, self.after = clock, events, error, after
        self.calls: list[tuple[float, str, int]] = []

    def lookup_events(self, **asked: Any) -> dict[str, Any]:
        (attribute,) = asked["LookupAttributes"]
        assert attribute["AttributeKey"] == "AccessKeyId"
        assert asked["EndTime"] == NOW
        key, at = attribute["AttributeValue"], int(asked.get("NextToken", 0))
        self.calls.append((self.clock.now, key, at // 50))
        if self.error and len(self.calls) > self.after:
            raise client_error(self.error, "LookupEvents")
        left = self.events.get(key, 0) - at
        more = {"NextToken": str(at + 50)} if left > 50 else {}
        one = {"EventTime": NOW - timedelta(hours=1), "EventName": "X", "EventSource": "s3"}
        return {"Events": [one] * min(50, left), **more}


def question(key: str, *regions: str, account: str = "1" * 12, days: float = 7) -> Question:
    return Question(account, key, days, regions or (EAST,))


def asked(
    clients: dict[str, CloudTrail], *questions: Question, longest: float = LONGEST
) -> Answers:
    pacers: dict[tuple[str, str], Pacer] = {}

    def pacer_of(account: str, region: str) -> Pacer:
        return pacers.setdefault((account, region), clients[region].clock.pacer())

    return ask(
        questions,
        lambda account, region: clients[region],
        NOW,
        lambda done, total: None,
        longest=longest,
        pacer_of=pacer_of,
    )


def test_calls_of_a_region_begin_at_cloudtrails_pace_from_the_start() -> None:
    clock = Clock()
    client = CloudTrail(clock, {"A": 120, "B": 10})
    answers = asked({EAST: client}, question("A"), question("B"))
    # Each key's first page comes before anybody's second.
    assert [(key, page) for _, key, page in client.calls] == [
        ("A", 0),
        ("B", 0),
        ("A", 1),
        ("A", 2),
    ]
    times = [time for time, _, _ in client.calls]
    assert times == pytest.approx([100 + index * PACE for index in range(4)])
    assert 1 / PACE < 2
    assert [usage.events for usage in answers.usage.values()] == [120, 10]
    assert (answers.failures, answers.cuts) == ([], [])


def test_slow_answers_are_not_waited_for_twice() -> None:
    clock = Clock()
    pacer = clock.pacer()
    assert pacer.wait()
    clock.now += 5
    before = clock.now
    assert pacer.wait()
    assert clock.now == before


def test_a_turn_after_the_end_is_refused_and_not_waited_for() -> None:
    clock = Clock()
    pacer = clock.pacer()
    assert pacer.wait(100)
    assert not pacer.wait(100.5)
    assert pacer.wait(100.6)
    assert clock.now == 100 + PACE


def test_threads_share_one_pace() -> None:
    times: list[float] = []
    pacer = Pacer(0.02)

    def work() -> None:
        for _ in range(3):
            pacer.wait()
            times.append(pacer.clock())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(times) - min(times) >= 0.9 * 11 * 0.02


def test_all_policies_of_a_process_share_the_pace_of_an_account_and_region() -> None:
    assert event_history.pacer("1", EAST) is event_history.pacer("1", EAST)
    assert len({id(event_history.pacer(a, r)) for a in "12" for r in (EAST, WEST)}) == 4


def test_the_history_of_a_busy_key_is_cut_off_and_it_is_said() -> None:
    client = CloudTrail(Clock(), {"A": 10_000})
    answers = asked({EAST: client}, question("A"))
    (usage,) = answers.usage.values()
    assert len(client.calls) == MOST_PAGES
    assert (usage.events, usage.cut, usage.unknown) == (MOST_PAGES * 50, True, {})
    ((account, line),) = answers.cuts
    assert account == "1" * 12
    assert "us-east-1 is read in part for 1 key" in line


def test_what_is_not_read_in_time_is_not_known() -> None:
    client = CloudTrail(Clock(), {"A": 10_000, "B": 1, "C": 1})
    answers = asked({EAST: client}, *map(question, "ABC"), longest=1.0)
    assert [key for _, key, _ in client.calls] == ["A", "B"]
    a, b, c = answers.usage.values()
    assert (a.events, a.cut) == (50, True)
    assert (b.events, b.cut, b.unknown) == (1, False, {})
    assert (c.known, c.unknown, c.cut) == (False, {EAST: "not read in time"}, False)
    assert len(answers.cuts) == 1
    assert answers.failures == []


def test_all_places_end_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that have to wait for a thread."""
    clock = Clock()
    monkeypatch.setattr(settings, "WORKERS", 1)
    clients = {EAST: CloudTrail(clock, {"A": 10_000}), WEST: CloudTrail(clock, {"A": 10_000})}
    asked(clients, question("A", EAST, WEST), longest=5.0)
    assert clock.now <= 105
    assert (len(clients[EAST].calls), len(clients[WEST].calls)) == (10, 1)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException", "Other"])
def test_a_region_that_fails_is_asked_once_and_stops_no_other(code: str) -> None:
    clients = {EAST: CloudTrail(Clock(), {}, code), WEST: CloudTrail(Clock(), {"A": 3, "B": 0})}
    answers = asked(clients, question("A", WEST, EAST), question("B", WEST, EAST))
    assert len(clients[EAST].calls) == 1
    a, b = answers.usage.values()
    assert (a.events, a.regions, list(a.unknown)) == (3, [WEST], [EAST])
    assert (b.events, b.regions, list(b.unknown)) == (0, [WEST], [EAST])
    assert code in a.unknown[EAST]
    ((_, line),) = answers.failures
    assert "us-east-1 can't be read, so the usage of 2 keys there isn't known" in line
    assert code in line


def test_what_was_read_before_a_failure_counts() -> None:
    client = CloudTrail(Clock(), {"A": 200, "B": 1}, "ThrottlingException", after=2)
    answers = asked({EAST: client}, question("A"), question("B"))
    a, b = answers.usage.values()
    assert (a.events, a.cut, a.unknown) == (50, True, {})
    assert (b.events, b.cut) == (1, False)
    assert len(answers.failures) == 1


def test_a_client_that_cannot_be_made_fails_its_region_only() -> None:
    def client_of(account: str, region: str) -> Any:
        if region == EAST:
            raise CallError("cloudtrail:client", ErrorKind.OTHER, "X", "X")
        return CloudTrail(Clock(), {"A": 1})

    answers = ask([question("A", EAST, WEST)], client_of, NOW, lambda *_: None)
    (usage,) = answers.usage.values()
    assert (usage.events, list(usage.unknown)) == (1, [EAST])


def test_a_question_is_asked_once() -> None:
    client = CloudTrail(Clock(), {"A": 1})
    asked({EAST: client}, question("A"), question("A"), question("A", days=30))
    assert Counter(key for _, key, _ in client.calls) == {"A": 2}


def test_nothing_is_asked_any_more_once_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after Ctrl-C, which ends the wait for the threads."""
    client = CloudTrail(Clock(), {"A": 10_000})
    begun, go_on = threading.Event(), threading.Event()
    answer = client.lookup_events

    def held(**params: Any) -> Any:
        begun.set()
        go_on.wait(5)
        return answer(**params)

    def interrupted(function: Any, items: Any, progress: Any, executor: Callable[..., Any]) -> Any:
        with executor(max_workers=1) as pool:
            pool.submit(function, next(iter(items)))
            begun.wait(5)
            threading.Timer(0.05, go_on.set).start()
            raise KeyboardInterrupt

    monkeypatch.setattr(client, "lookup_events", held)
    monkeypatch.setattr(calls, "side_by_side", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asked({EAST: client}, question("A"))
    assert len(client.calls) == 1


@pytest.mark.parametrize(
    ("partition", "last_used", "regions"),
    [
        ("aws", None, ["us-east-1"]),
        ("aws", "N/A", ["us-east-1"]),
        ("aws", "us-east-1", ["us-east-1"]),
        ("aws", "eu-west-1", ["eu-west-1", "us-east-1"]),
        ("aws", "evil.example.com/x", ["us-east-1"]),
        ("aws", "ap-southeast-2", ["ap-southeast-2", "us-east-1"]),
        ("aws-cn", "cn-northwest-1", ["cn-northwest-1", "cn-north-1"]),
        ("aws-us-gov", "us-gov-east-1", ["us-gov-east-1", "us-gov-west-1"]),
        ("aws-unheard-of", "xx-north-1", ["xx-north-1"]),
    ],
)
def test_regions_are_those_of_the_last_use_and_of_global_services(
    partition: str, last_used: str | None, regions: list[str]
) -> None:
    assert regions_of(partition, last_used) == regions


def test_a_page_that_comes_again_is_not_counted_for_ever() -> None:
    class Stuck(CloudTrail):
        def lookup_events(self, **asked: Any) -> dict[str, Any]:
            return {**super().lookup_events(**asked), "NextToken": "50"}

    client = Stuck(Clock(), {"A": 60})
    answers = asked({EAST: client}, question("A"))
    (usage,) = answers.usage.values()
    assert (len(client.calls), usage.events, usage.cut) == (2, 60, True)
