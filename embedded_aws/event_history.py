# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""CloudTrail's event history, which moto doesn't have: LookupEvents by access key id.

As AWS has it: by account and region, the latest event first, in pages of 50 at most, two calls a
second, and what happened a moment ago isn't there yet.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from embedded_aws.calls import Call
from embedded_aws.clock import monotonic

ACTION = "cloudtrail.LookupEvents"
PER_SECOND = 2
MOST = 50


class HistoryError(Exception):
    """An error of CloudTrail; its text is AWS's code."""


@dataclass
class Event:
    """A recorded call: when it was made, and when the history shows it."""

    account: str
    region: str
    key_id: str
    time: datetime
    shown: datetime
    detail: dict[str, Any]


class EventHistory:
    """The events of all accounts."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def add(
        self,
        account: str,
        region: str,
        key_id: str,
        user: str,
        call: str,
        source: str,
        agent: str,
        minutes_ago: float = 0,
        error: str | None = None,
        late_minutes: float = 0,
        **detail: Any,
    ) -> None:
        """Record a call, such as ``s3:ListBuckets``; the history shows it so many minutes later."""
        service, _, name = call.partition(":")
        time = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)
        record = {
            "eventVersion": "1.09",
            "userIdentity": {
                "type": "IAMUser",
                "accountId": account,
                "accessKeyId": key_id,
                "userName": user,
            },
            "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "awsRegion": region,
            "sourceIPAddress": source,
            "userAgent": agent,
            "requestID": str(uuid.uuid4()),
            "eventID": str(uuid.uuid4()),
            "readOnly": True,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": account,
            "eventCategory": "Management",
            **({"errorCode": error} if error else {}),
            **detail,
        }
        late = timedelta(minutes=late_minutes)
        self.events.append(Event(account, region, key_id, time, time + late, record))

    def shift(self, by: timedelta) -> None:
        """Make all events so much older."""
        for event in self.events:
            event.time -= by
            event.shown -= by
            event.detail["eventTime"] = event.time.strftime("%Y-%m-%dT%H:%M:%SZ")

    def lookup(self, call: Call) -> dict[str, Any]:
        """Answer LookupEvents.

        :raises HistoryError: as AWS does, for a call too many too.
        """
        if self._is_over_limit(call):
            raise HistoryError("ThrottlingException")
        params = dict(call.params)
        token = params.pop("NextToken", None)
        size = params.get("MaxResults", MOST)
        if not 1 <= size <= MOST:
            raise HistoryError("InvalidMaxResultsException")
        start, end = params.get("StartTime", 0), params.get("EndTime", float("inf"))
        if start > end:
            raise HistoryError("InvalidTimeRangeException")
        at = 0
        if token:
            asked, _, place = token.rpartition("/")
            if asked != _same(params):
                raise HistoryError("InvalidNextTokenException")
            at = int(place)
        wanted = None  # all keys
        for attribute in params.get("LookupAttributes", ()):
            if attribute["AttributeKey"] != "AccessKeyId" or wanted is not None:
                raise HistoryError("InvalidLookupAttributesException")
            wanted = attribute["AttributeValue"]
        now = datetime.now(timezone.utc)
        found = sorted(
            (
                event
                for event in self.events
                if (event.account, event.region) == (call.account, call.region)
                and wanted in (None, event.key_id)
                and event.shown <= now
                and now - event.time <= timedelta(days=90)
                and start <= event.time.timestamp() <= end
            ),
            key=lambda event: event.time,
            reverse=True,
        )
        answer: dict[str, Any] = {"Events": [_shown(event) for event in found[at : at + size]]}
        if at + size < len(found):
            answer["NextToken"] = f"{_same(params)}/{at + size}"
        return answer

    def _is_over_limit(self, call: Call) -> bool:
        place, now = (call.account, call.region), monotonic()
        tokens, last = self._buckets.get(place, (PER_SECOND, now))
        tokens = min(PER_SECOND, tokens + (now - last) * PER_SECOND)
        self._buckets[place] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
        return tokens < 1


def _same(params: dict[str, Any]) -> str:
    """Return what must be the same for all pages of one question."""
    return uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(params, sort_keys=True)).hex


def _shown(event: Event) -> dict[str, Any]:
    detail = event.detail
    return {
        "EventId": detail["eventID"],
        "EventName": detail["eventName"],
        "ReadOnly": "true",
        "AccessKeyId": event.key_id,
        "EventTime": int(event.time.timestamp()),
        "EventSource": detail["eventSource"],
        "Username": detail["userIdentity"]["userName"],
        "Resources": [],
        "CloudTrailEvent": json.dumps(detail),
    }
