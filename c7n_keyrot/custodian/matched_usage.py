# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Who used the keys that a policy matched: asked once it is known which, and put on their records.

Nothing is decided by it. Where it can't be read the notice says so, and the run ends with an error
after all that it does.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from c7n.exceptions import ResourceLimitExceeded

from c7n_keyrot.aws import event_history, gate
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.event_history import Question
from c7n_keyrot.custodian.matching import RECORDS, meant, places
from c7n_keyrot.custodian.run import PolicyRun


def read(run: PolicyRun, users: Sequence[dict[str, Any]]) -> None:
    """Ask who used the matched keys, where a filter of the policy wants it.

    Never cached: it would be of no use then.

    :param users: those that the filters have selected, with our records, which get ``usage``.
    """
    asked = list(_questions(run, users))
    if not asked or _is_over_limit(run, len(users)):
        return
    making = threading.Lock()

    try:
        session = run.calls.session
    except CallError as error:
        run.log.fail(f"the usage of keys isn't known: {error}")
        return

    def client_of(_: str, region: str) -> Any:
        with making:  # a session isn't made for threads
            return gate.client(session, "cloudtrail", region=region)

    answers = event_history.ask(
        (question for _, question in asked),
        client_of,
        run.now,
        lambda done, total: run.log.write(f"usage of keys read: {done} of {total}", logging.INFO),
    )
    for record, question in asked:
        record["usage"] = dataclasses.asdict(answers.usage[question])
    for _, line in answers.failures:
        run.log.fail(line)
    for _, line in answers.cuts:
        run.log.write(line, logging.WARNING)


def _is_over_limit(run: PolicyRun, selected: int) -> bool:
    """Tell whether max-resources stops the run before any notice: minutes would be for nothing."""
    if run.report.population is not None:
        try:
            run.manager.check_resource_limit(selected, run.report.population)
        except ResourceLimitExceeded:
            return True
    return False


def _questions(
    run: PolicyRun, users: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Question]]:
    """Yield the records of matched keys whose filter asks who used them, each with the question."""
    days_by_place = {
        place: getattr(element, "usage_days", None)  # of our filters; others have none
        for place, element in places(run.manager.filters)
    }
    for user in users:
        withheld = run.own.withheld.get(user["UserName"], ())
        ids = {key["AccessKeyId"] for _, key in meant(user, withheld)}
        for record in user.get(RECORDS, ()):
            days, key_id = days_by_place.get(record["path"]), record["access_key_id"]
            # Keys that are only expiring never are in c7n:matched-keys.
            if days and key_id and (key_id in ids or record["filter"] != "stale-access-key"):
                partition = str(user.get("Arn", "")).split(":")[1:2]
                regions = event_history.regions_of("".join(partition), record["last_used_region"])
                yield record, Question(run.account_id, key_id, days, tuple(regions))
