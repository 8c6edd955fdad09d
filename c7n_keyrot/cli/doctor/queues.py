# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether the queues that notices go to exist."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from c7n_keyrot.aws import calls
from c7n_keyrot.aws.credentials import Access
from c7n_keyrot.aws.errors import CallError, ErrorKind
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context, Planned, Target
from c7n_keyrot.cli.doctor.credentials import UNREACHED, fix_of
from c7n_keyrot.cli.doctor.regions import check_of
from c7n_keyrot.cli.doctor.sqs import Queue, is_bare, queue_of, queue_text, uses_sqs
from c7n_keyrot.evidence.accounts import Account

HUBS_QUEUE = "give the hub's queue in accounts.yml, vars: {action: {queue: ARN}}, or in the policy"
SENDS = (
    "the queue of deploy/hub.yml refuses that (but for RunBy=lambda): write assume_role: false in "
    "the notify action, and in accounts.yml one role for the account, no list and no profile"
)
# What SQS answers, by its protocol.
MISSING = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue")


def checks(context: Context) -> Checks:
    """Check that each queue exists, as far as the hub can ask."""
    asked: dict[Queue, None] = {}
    said: set[tuple[str, str, Account | None]] = set()
    for target, policy, notice in context.notices():
        if not uses_sqs(notice):
            continue
        queue, check = _seen_from_here(context, target, policy, notice)
        if queue is not None:
            asked.setdefault(queue)
        if check is not None and (check.name, check.what, check.account) not in said:
            said.add((check.name, check.what, check.account))
            yield check
    for queue in asked:
        if context.own is None:
            yield Check(NOT_CHECKED, str(queue), "no credentials to ask with")
        else:
            yield _ask_for(queue, context.own)
    if context.known and not asked and not said:
        yield Check(NOT_CHECKED, "queue", "no policy that runs has a notice for a queue")


def _seen_from_here(
    context: Context, target: Target, policy: Planned, notice: dict[str, Any]
) -> tuple[Queue | None, Check | None]:
    """Return the queue of a notice, if SQS is to be asked for it, and what is known before."""
    text, account = queue_text(notice), target.account
    queue = queue_of(notice, target.account_id, target.region)
    own = context.own is not None and context.own.account_id == target.account_id
    if queue is None:
        what = f"in {policy.name}: Custodian finds no queue in it"
        fix = "give the name, URL or ARN of the queue as queue in the notify action"
        return None, Check(FAIL, f"queue {text!r}", what, fix, account)
    wrong = fault_of(queue, text)
    if wrong is not None:
        return None, replace(wrong, account=account)
    if target.sends_as_member(notice):
        what = f"{queue.where}: the account sends by itself (sqs:SendMessage)"
        if is_bare(text):
            what = "the account sends by itself, to a queue of its own"
        fix = "" if is_bare(text) else SENDS
        return None, Check(NOT_CHECKED, str(queue), what, fix, account)
    if is_bare(text) and account is not None and not own:
        what = "a name alone is the account's own queue, and the hub sends there"
        return None, Check(FAIL, str(queue), what, HUBS_QUEUE, account)
    if not queue.region.startswith("cn-") or ".com.cn/" in text:
        return queue, None
    what = "Custodian turns a name or an ARN into a URL without China's ending"
    return queue, Check(NOT_CHECKED, str(queue), what, "give the queue's URL", account)


def fault_of(queue: Queue, text: str) -> Check | None:
    """Return what is wrong with a queue by its name and its region; None if nothing is.

    :param text: as the notice names it; a name alone has no region of its own.
    """
    if queue.name.endswith(".fifo"):
        what = "it is a FIFO queue, and Custodian can't send to one: it gives no MessageGroupId"
        fix = "make a standard queue (deploy/hub.yml), and name it in the policy or accounts.yml"
        return Check(FAIL, str(queue), what, fix)
    where = "the queue's ARN or URL"
    return None if is_bare(text) else check_of(queue.region, where, str(queue))


def _ask_for(queue: Queue, own: Access) -> Check:
    missing = f"there is none in {queue.where}"
    fix = (
        f"create {queue}: deploy/hub.yml, or aws sqs create-queue --queue-name {queue.name} "
        f"--region {queue.region}; or correct its name in the policy or accounts.yml"
    )
    owner: dict[str, Any] = {"QueueOwnerAWSAccountId": queue.owner} if queue.owner else {}
    try:
        client = own.client("sqs", queue.region)
        url = calls.call(client, "get_queue_url", QueueName=queue.name, **owner)["QueueUrl"]
    except CallError as error:
        if error.code in MISSING:
            return Check(FAIL, str(queue), missing, fix)
        if error.kind in (*UNREACHED, ErrorKind.CREDENTIALS):
            return Check(FAIL, str(queue), str(error), fix_of(error, ""))
        return Check(NOT_CHECKED, str(queue), str(error))
    if queue.owner and not url.endswith(f"/{queue.owner}/{queue.name}"):
        return Check(FAIL, str(queue), f"{missing}, only {url}", fix)
    return Check(OK, str(queue), f"it exists, in {queue.where}")
