# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Who uses a key: events of CloudTrail's history, in groups that a key's owner recognizes.

Pure functions. Names of calls, addresses and user agents are text that anybody can send: it becomes
one short line of printable characters here, before it goes anywhere.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from c7n_keyrot.core.text import one_line

# A mail with more would not be read to its end.
MOST_GROUPS = 10
# Error codes of one group; more of them tell an owner nothing.
MOST_ERRORS = 5
# Characters. The longest names of AWS's own are shorter; an address through an endpoint has 72.
LONGEST_ACTION, LONGEST_SOURCE, LONGEST_AGENT, LONGEST_ERROR = 80, 80, 64, 64

NOT_SAID = "not recorded"
CONSOLE = "AWS console"
SERVICE = "an AWS service"


@dataclass(frozen=True)
class Group:
    """Calls of one action, from one place, by one program. All instants are ISO 8601, in UTC.

    - ``action``: service and call as CloudTrail names them, such as ``s3:ListBuckets``
    - ``source``: an IP address, and the VPC endpoint that the calls came through; or the AWS
      service that made them
    - ``agent``: the program in short, such as ``Boto3/1.34 Python/3.11``
    - ``count``: all calls, those that failed included
    - ``first``, ``last``: the earliest and the latest of them
    - ``errors``: how many of them failed, by AWS's error code; at most five codes
    """

    action: str
    source: str
    agent: str
    count: int
    first: str
    last: str
    errors: dict[str, int]


@dataclass(frozen=True)
class Usage:
    """What CloudTrail's event history says of one key's use. All instants are ISO 8601, in UTC.

    It has management events only: no reads or writes of S3 objects, no invocations of Lambda
    functions, and none of the last minutes. So a key without events may be in use all the same.

    - ``days``: how far back was asked
    - ``until``: when it was asked
    - ``regions``: those whose history was read
    - ``unknown``: those whose history couldn't be read, each with the reason
    - ``events``: calls that were read
    - ``groups``: at most ten, the latest first: the latest of each source, then the latest of all
    - ``other_groups``, ``other_events``: what isn't in ``groups``
    - ``cut``: True if there are more events than were read: older ones than those
    """

    days: float
    until: str
    regions: list[str]
    unknown: dict[str, str]
    events: int
    groups: list[Group]
    other_groups: int
    other_events: int
    cut: bool

    @property
    def known(self) -> bool:
        """Whether any history was read."""
        return bool(self.regions)


@dataclass(frozen=True)
class Event:
    """One call, as far as it says who uses a key."""

    time: datetime
    action: str
    source: str
    agent: str
    error: str


def summarized(
    events: Iterable[Event],
    *,
    days: float,
    until: datetime,
    regions: Sequence[str],
    unknown: Mapping[str, str],
    cut: bool,
) -> Usage:
    """Group the events of one key, from all its regions."""
    found: dict[tuple[str, str, str], list[Event]] = {}
    for event in events:
        found.setdefault((event.action, event.source, event.agent), []).append(event)
    groups = sorted(map(_group, found.values()), key=lambda group: group.last, reverse=True)
    # Otherwise ten calls of one laptop would hide the server that nobody thinks of any more.
    latest: list[Group] = []
    others: list[Group] = []
    for group in groups:
        known = any(group.source == other.source for other in latest)
        (others if known else latest).append(group)
    chosen = [*latest, *others][:MOST_GROUPS]
    shown = sorted(chosen, key=lambda group: group.last, reverse=True)
    total = sum(group.count for group in groups)
    return Usage(
        days=days,
        until=until.isoformat(),
        regions=list(regions),
        unknown=dict(unknown),
        events=total,
        groups=shown,
        other_groups=len(groups) - len(shown),
        other_events=total - sum(group.count for group in shown),
        cut=cut,
    )


def _group(events: Sequence[Event]) -> Group:
    times = [event.time for event in events]
    errors = Counter(event.error for event in events if event.error)
    return Group(
        action=events[0].action,
        source=events[0].source,
        agent=events[0].agent,
        count=len(events),
        first=min(times).isoformat(),
        last=max(times).isoformat(),
        errors=dict(errors.most_common(MOST_ERRORS)),
    )


def read_event(entry: Mapping[str, Any]) -> Event:
    """Return an entry of ``Events`` of CloudTrail's LookupEvents, in short and cleaned.

    What it says of source and program is in ``CloudTrailEvent``, a JSON text; one that can't be
    read still counts as a call.
    """
    detail = _detail(entry.get("CloudTrailEvent"))
    service = _name(entry.get("EventSource") or detail.get("eventSource"))
    service = re.sub(r"\.amazonaws\.com(\.cn)?$", "", service)
    name = _name(entry.get("EventName") or detail.get("eventName")) or NOT_SAID
    identity, endpoint = detail.get("userIdentity"), _name(detail.get("vpcEndpointId"))
    invoked_by = _name(identity.get("invokedBy")) if isinstance(identity, Mapping) else ""
    source = _name(detail.get("sourceIPAddress")) or invoked_by or NOT_SAID
    return Event(
        time=entry["EventTime"].astimezone(timezone.utc),
        action=one_line(f"{service}:{name}" if service else name, LONGEST_ACTION),
        # A private address alone may be in any network.
        source=one_line(f"{source} via {endpoint}" if endpoint else source, LONGEST_SOURCE),
        agent=short_agent(_name(detail.get("userAgent"))) or NOT_SAID,
        error=one_line(_name(detail.get("errorCode")), LONGEST_ERROR),
    )


def _detail(text: object) -> dict[str, Any]:
    try:
        detail = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return detail if isinstance(detail, dict) else {}


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""


# -- user agents

# Programs that say who they are beside the SDK that they use; the first that is found counts.
TOOLS = {
    name.lower(): name
    for name in (
        "terraform",
        "OpenTofu",
        "Pulumi",
        "Ansible",
        "CloudCustodian",
        "aws-cdk",
        "aws-vault",
        "eksctl",
        "kops",
        "Vault",
        "Packer",
        "Serverless",
        "AWSPowerShell",
        "S3Console",
        "rclone",
        "restic",
        "s3cmd",
        "s3fs",
        "Cyberduck",
        "WinSCP",
        "Veeam",
        "Jenkins",
        "Grafana",
        "Prowler",
        "steampipe",
        "aws-cli",
    )
}
# Names that are in many agents and say nothing of who it is.
NOISE = re.compile(
    r"(?i)(apn|hashicorp|mozilla|md|os|lang|ua|api|cfg|exec-env|m|ft|app|internal|aws-internal)$"
)
BROWSER = re.compile(r"Mozilla/.*\b(Firefox|Chrome|Safari|Edg|OPR)/")
VERSION = re.compile(r"v?\d+(?:\.\d+)?")


def short_agent(agent: str) -> str:
    """Return a user agent in short: the program, or the SDK, with major and minor version.

    :returns: such as ``aws-cli/2.15`` or ``Boto3/1.34 Python/3.11``; at most 64 characters.
    """
    agent = one_line(agent, 2000).strip("[] ")
    if re.fullmatch(r"(console|signin)\.amazonaws\.com(\.cn)?", agent) or BROWSER.match(agent):
        return CONSOLE
    if re.match(r"(?i)S3Console/|Coral/|AWSConsole|aws-internal/\S+ AWSConsole", agent):
        return CONSOLE
    if re.match(r"(?i)AWS[ -]Internal", agent):
        return SERVICE
    parts = _parts(agent)
    tool = next(((TOOLS[name.lower()], v) for name, v in parts if name.lower() in TOOLS), None)
    sdk = ((name, version) for name, version in parts if version and not NOISE.match(name))
    name, version = tool or next(sdk, ("", ""))
    if not name:
        return one_line(agent, LONGEST_AGENT)
    short = f"{name}/{version}" if version else name
    if name.lower() in ("boto3", "botocore", "boto"):
        python = next((v for n, v in parts if n.lower() in ("python", "lang/python")), "")
        short += f" Python/{python}" if python else ""
    where = re.search(r"exec-env/([A-Za-z0-9_.-]+)", agent)
    return one_line(short + (f" in {where[1]}" if where else ""), LONGEST_AGENT)


def _parts(agent: str) -> list[tuple[str, str]]:
    """Return the names of an agent with their versions, without the comments in brackets."""
    parts = []
    for word in re.sub(r"\([^()]*\)", " ", agent).split():
        # Newer SDKs write lang/python#3.11.8, where others have Python/3.11.8.
        name, _, version = word.rpartition("#") if "#" in word else word.partition("/")
        found = VERSION.match(version)
        parts.append((name, found[0].lstrip("v") if found else ""))
    return parts
