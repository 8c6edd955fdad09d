# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Queues of SQS as Custodian's notify and c7n-mailer name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from c7n_keyrot.aws.credentials import FALLBACK_REGION
from c7n_keyrot.evidence.files import mapping

# Of other URLs Custodian makes the name of a queue.
KNOWN_URL = re.compile(r"https://(sqs\.|([a-z0-9-]+\.)?queue\.amazonaws\.com)")


@dataclass(frozen=True)
class Queue:
    """A queue by what its ARN would say of it."""

    name: str
    owner: str
    region: str

    def __str__(self) -> str:
        return f"queue {self.name}"

    @property
    def where(self) -> str:
        return f"account {self.owner or 'unknown'}, {self.region}"

    def arn(self, partition: str) -> str:
        return f"arn:{partition}:sqs:{self.region}:{self.owner}:{self.name}"


def uses_sqs(notice: dict[str, Any]) -> bool:
    return mapping(notice.get("transport")).get("type") == "sqs"


def queue_text(notice: dict[str, Any]) -> str:
    """Return a notice's queue, filled in as notify does it when it sends; "" if that fails."""
    if not uses_sqs(notice):
        return ""
    text = str(mapping(notice.get("transport")).get("queue"))
    try:
        return text.format(action=notice)
    except (KeyError, IndexError, ValueError, AttributeError):
        return ""


def is_bare(text: str) -> bool:
    """Tell whether it is a name alone, which means the account that the policy runs in."""
    return not text.startswith(("arn:", "https://"))


def queue_of(notice: dict[str, Any], account_id: str, region: str) -> Queue | None:
    """Return the queue that a notice of an account goes to."""
    text = queue_text(notice)
    if text.startswith("http") and not KNOWN_URL.match(text):
        return None
    return parse_queue(text, account_id, region)


def parse_queue(text: str, account_id: str, region: str) -> Queue | None:
    """Return the queue that a name, URL or ARN means; a bare name is the account's own."""
    if text.startswith("arn:"):
        parts = text.split(":", 5)
        return Queue(parts[5], parts[4], parts[3]) if len(parts) == 6 else None
    found = re.fullmatch(r"https?://([^/]+)/(\d{12})/([^/]+)", text)
    if found:
        host, owner, name = found.groups()
        named = re.search(r"(?:^sqs\.)?([a-z]{2,}(?:-[a-z]+)+-\d)\.", host)
        return Queue(name, owner, named[1] if named else FALLBACK_REGION)
    if re.fullmatch(r"[\w.-]+", text):
        return Queue(text, account_id, region)
    return None
