# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""CloudTrail's event history: what each access key was used for, by LookupEvents.

CloudTrail answers two such calls a second in each account and region, so they are paced from the
start. All that is read is bounded, and what was left out is reported.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from c7n_keyrot.aws import calls, gate
from c7n_keyrot.core.usage import Event, Usage, read_event, summarized

# The history's own length, in days.
DAYS_KEPT = 90
# Seconds between two calls: CloudTrail allows two a second. A tenth more, since some calls take
# longer than others.
PACE = 0.55
# A page has 50 events. The latest 1,000 of a key show who uses it, and take 11 s.
MOST_PAGES = 20
PAGE = 50
# Seconds. Notices, and with them the disabling, wait for it; a Lambda function ends after 900.
LONGEST = 300.0

# Where calls of global services, IAM's among them, are recorded.
GLOBAL_REGIONS = {
    "aws": "us-east-1",
    "aws-cn": "cn-north-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-iso": "us-iso-east-1",
    "aws-iso-b": "us-isob-east-1",
    "aws-eusc": "eusc-de-east-1",
}
REGION = re.compile(r"[a-z]{2,6}(-[a-z]{2,12}){1,3}-[0-9]{1,2}")


def regions_of(partition: str, last_used: str | None = None) -> list[str]:
    """Return the regions whose history can have a key's use: of the last one, and the global one.

    :param last_used: the region of the last use by IAM, which says ``N/A`` for none.
    """
    found = [GLOBAL_REGIONS.get(partition, "")]
    if last_used and REGION.fullmatch(last_used):
        found.insert(0, last_used)
    return list(dict.fromkeys(filter(None, found)))


class Pacer:
    """Lets calls begin one after the other, at least so many seconds apart, in any threads."""

    def __init__(
        self,
        seconds: float = PACE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.seconds, self.clock, self.sleep = seconds, clock, sleep
        self.free = clock()
        self.lock = threading.Lock()

    def wait(self, until: float = float("inf")) -> bool:
        """Wait for the next turn; return False, at once, if it would come after ``until``."""
        with self.lock:
            now = self.clock()
            turn = max(now, self.free)
            if turn > until:
                return False
            self.free = turn + self.seconds
        if turn > now:
            self.sleep(turn - now)
        return True


@functools.cache
def pacer(account_id: str, region: str) -> Pacer:  # noqa: ARG001 - what the cache goes by
    """Return the pacer of an account and region: all policies of a process share its two calls."""
    return Pacer()


@dataclass(frozen=True)
class Question:
    """An access key, the days to look back, and the regions to look in."""

    account_id: str
    key_id: str
    days: float
    regions: tuple[str, ...]


@dataclass
class _Place:
    """The history of one account and region, and what was read of it, by question."""

    account_id: str
    region: str
    events: dict[Question, list[Event]] = field(default_factory=dict)
    cut: set[Question] = field(default_factory=set)
    error: str = ""

    @property
    def failure(self) -> str:
        return (
            f"CloudTrail's event history of {self.region} can't be read, so the usage of "
            f"{_keys(self.cut)} there isn't known: {self.error}"
        )

    @property
    def left_out(self) -> str:
        return (
            f"CloudTrail's event history of {self.region} is read in part for {_keys(self.cut)}: "
            f"there are more calls than {MOST_PAGES * PAGE} of a key, or more keys than the time "
            "allows"
        )


@dataclass(frozen=True)
class Answers:
    """The usage by question; account id and a line for each region that failed or was cut off."""

    usage: dict[Question, Usage]
    failures: list[tuple[str, str]]
    cuts: list[tuple[str, str]]


def ask(
    questions: Iterable[Question],
    client_of: Callable[[str, str], Any],
    now: datetime,
    progress: Callable[[int, int], None],
    *,
    longest: float = LONGEST,
    pacer_of: Callable[[str, str], Pacer] = pacer,
) -> Answers:
    """Read the history, side by side over accounts and regions; a failure stops no other place.

    :param client_of: returns CloudTrail's client for an account id and a region; it may raise
        CallError.
    :param now: the end of the time that is asked about, UTC.
    :param progress: called every two seconds with how many keys are read, and how many there are;
        a key counts once for each region.
    :param longest: seconds after which what is left is cut off.
    """
    questions = list(dict.fromkeys(questions))
    places: dict[tuple[str, str], _Place] = {}
    for question in questions:
        for region in question.regions:
            where = (question.account_id, region)
            places.setdefault(where, _Place(*where)).events[question] = []
    total = sum(len(place.events) for place in places.values())
    read: list[Question] = []  # a list, since appending to one is safe in threads

    stopped = threading.Event()
    turns = {place: pacer_of(*place) for place in places}
    # The same for all: those that wait for a thread have no more time than the others.
    ends = {place: turn.clock() + longest for place, turn in turns.items()}

    def look(place: _Place) -> None:
        where = (place.account_id, place.region)

        def may_go_on() -> bool:
            return not stopped.is_set() and turns[where].wait(ends[where])

        _read(place, client_of, now, may_go_on, read)

    for place, _, error in calls.side_by_side(
        look,
        places.values(),
        lambda *_: progress(len(read), total),
        functools.partial(_Pool, stopped),
    ):
        if error is not None:
            place.error = str(error)
    return Answers(
        usage={question: _usage(question, places, now) for question in questions},
        failures=[(at.account_id, at.failure) for at in places.values() if at.error],
        cuts=[(at.account_id, at.left_out) for at in places.values() if at.cut and not at.error],
    )


class _Pool(ThreadPoolExecutor):
    """Threads that stop when nobody waits for their work any more, such as after Ctrl-C."""

    def __init__(self, stopped: threading.Event, max_workers: int) -> None:
        super().__init__(max_workers)
        self.stopped = stopped

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self.stopped.set()
        super().__exit__(*error)


def _keys(keys: Iterable[Question]) -> str:
    number = len({question.key_id for question in keys})
    return f"{number} key{'' if number == 1 else 's'}"


def _read(
    place: _Place,
    client_of: Callable[[str, str], Any],
    now: datetime,
    may_go_on: Callable[[], bool],
    read: list[Question],
) -> None:
    """Read the pages of all keys of a place: each one's first page before anybody's second.

    :raises CallError: a call failed. So would the later ones, so they aren't made: what fails is
        the permission, the network, or the budget of the account.
    """
    waiting = deque((question, 1, "") for question in place.events)
    try:
        client = client_of(place.account_id, place.region)
        gate.renew(client)
        while waiting:
            question, page, token = waiting[0]
            if not may_go_on():
                return
            answer = calls.call(client, "lookup_events", **_params(question, now, token))
            place.events[question] += map(read_event, answer["Events"])
            waiting.popleft()
            before, token = token, answer.get("NextToken") or ""
            # A token that comes again would count the same events once more.
            if token not in ("", before) and page < MOST_PAGES:
                waiting.append((question, page + 1, token))
            else:
                read.append(question)
                if token:
                    place.cut.add(question)
    finally:
        place.cut.update(question for question, _, _ in waiting)


def _params(question: Question, now: datetime, token: str) -> dict[str, Any]:
    # The same for all pages of a key: a token is valid for its own question only.
    return {
        "LookupAttributes": [{"AttributeKey": "AccessKeyId", "AttributeValue": question.key_id}],
        "StartTime": now - timedelta(days=question.days),
        "EndTime": now,
        "MaxResults": PAGE,
        **({"NextToken": token} if token else {}),
    }


def _usage(question: Question, places: Mapping[tuple[str, str], _Place], now: datetime) -> Usage:
    asked = [places[question.account_id, region] for region in question.regions]
    events = [event for place in asked for event in place.events[question]]
    # Nothing is known where not even the first page was read.
    unread = {
        place.region: place.error or "not read in time"
        for place in asked
        if question in place.cut and not place.events[question]
    }
    return summarized(
        events,
        days=question.days,
        until=now,
        regions=[place.region for place in asked if place.region not in unread],
        unknown=unread,
        cut=any(question in place.cut for place in asked if place.region not in unread),
    )
