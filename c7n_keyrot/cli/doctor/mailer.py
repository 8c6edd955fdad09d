# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""mailer.yml: whether c7n-mailer takes it, and reads the queue that notices go to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from c7n_keyrot.aws.credentials import FALLBACK_REGION
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context
from c7n_keyrot.cli.doctor.sqs import parse_queue
from c7n_keyrot.cli.mailer_config import validate
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.evidence.accounts import read_yaml


def checks(context: Context) -> Checks:
    """Check that mailer.yml is valid, reads the right queue in its region, and finds owners."""
    path = context.args.mailer
    if path is None:
        yield Check(NOT_CHECKED, "mailer", "no --mailer FILE given")
        return
    try:
        config = context.mailer = read_yaml(path)
        validate(config, path)
    except CommandError as error:
        fix = f"correct {path}" if path.exists() else "c7n-keyrot init writes examples/mailer.yml"
        yield Check(FAIL, "mailer", str(error), fix)
        return
    wrong = list(_wrong(config, context, path))
    yield from wrong
    if not wrong:
        yield Check(OK, "mailer", f"{path} reads {parse_queue(str(config['queue_url']), '', '')}")


def _wrong(config: dict[str, Any], context: Context, path: Path) -> Iterator[Check]:
    url, queues = config.get("queue_url"), context.queues()
    reads = parse_queue(url, "", "") if isinstance(url, str) else None
    if reads is None or not reads.owner:
        fix = f"give the queue's URL as queue_url in {path} (QueueUrl of deploy/hub.yml)"
        yield Check(FAIL, "mailer", f"{path}: queue_url {url!r} isn't the URL of a queue", fix)
        return
    if queues and reads not in queues:
        sent = " and ".join(f"{queue} ({queue.where})" for queue in queues[:3])
        what = f"{path} reads {reads} ({reads.where}), but notices go to {sent}"
        yield Check(FAIL, "mailer", what, f"set queue_url in {path} to the URL of {queues[0]}")
    if reads.name.endswith(".fifo"):
        what = f"{path} reads {reads}, a FIFO queue: Custodian can't send to one"
        yield Check(FAIL, "mailer", what, "make a standard queue (deploy/hub.yml), and read that")
    region = config.get("region", FALLBACK_REGION)
    if region != reads.region:
        what = f"{path}: c7n-mailer asks in {region} for a queue that is in {reads.region}"
        yield Check(FAIL, "mailer", what, f"set region in {path} to {reads.region}")
    owners = any("resource-owner" in notice.get("to", ()) for _, _, notice in context.notices())
    if owners and not config.get("contact_tags"):
        what = f"{path}: no contact_tags, so no owner is found"
        yield Check(FAIL, "mailer", what, f"add contact_tags: [OwnerContact] to {path}")
