# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run is, from its first filter to its end: the order in which a policy runs."""

from __future__ import annotations

import functools
import logging
from typing import Any

from c7n.actions import BaseAction
from c7n.exceptions import PolicyExecutionError
from c7n.utils import dumps, type_schema

from c7n_keyrot.custodian import intents, matched_usage, stock_filters, summary
from c7n_keyrot.custodian.matching import MATCHED_KEYS, RECORDS, meant, settle
from c7n_keyrot.custodian.patches import attach_notices, watching
from c7n_keyrot.custodian.run import LIVE_KEYS, PolicyRun


def attach(manager: Any) -> PolicyRun:
    """Give a policy's resource manager a run, before its filters are called; return the run.

    Again is harmless. ``validate()`` of our filters and actions does it, which Custodian, c7n-org
    and Lambda call before a policy runs; so does our source, for a policy that has no other
    part of the plugin.
    """
    run: PolicyRun | None = vars(manager).get("keyrot")
    if run is None:
        run = manager.keyrot = PolicyRun(manager)
        _stand_around(run)
    return run


def run_of(manager: Any) -> PolicyRun:
    """Return the run of a resource manager.

    :raises PolicyExecutionError: none was attached, so which keys are selected isn't settled.
    """
    run: PolicyRun | None = vars(manager).get("keyrot")
    if run is None:
        raise PolicyExecutionError(
            f"policy {manager.data.get('name')}: it was never validated, so nothing is matched and "
            "no key is touched: call the policy's validate() before run(), as custodian does"
        )
    return run


def _stand_around(run: PolicyRun) -> None:
    """Replace three methods of the resource manager, on the instance only.

    :seam: c7n.query:QueryResourceManager.resources
    :seam: c7n.manager:ResourceManager.filter_resources
    :seam: c7n.query:QueryResourceManager.check_resource_limit
    """
    manager = run.manager
    filter_resources, check_limit = manager.filter_resources, manager.check_resource_limit
    query = manager.resources

    @functools.wraps(query)
    def queried(*args: Any, **kwargs: Any) -> Any:
        begin(run)
        return query(*args, **kwargs)

    @functools.wraps(filter_resources)
    def filtered(resources: list[dict[str, Any]], event: Any = None) -> Any:
        return _filter(run, filter_resources, resources, event)

    @functools.wraps(check_limit)
    def checked(selection_count: int, population_count: int) -> Any:
        return check_limit(selection_count, run.report.population or population_count)

    manager.filter_resources, manager.check_resource_limit = filtered, checked
    manager.resources = queried


def begin(run: PolicyRun) -> None:
    """Forget an earlier execution, and note that this one begins, before the first call to AWS.

    Not where an action runs: a Lambda that an event starts filters before its execution gets
    an id, and what failed then must still end it with an error.
    """
    if run.manager.ctx.execution_id != run.execution_id:
        actions = run.manager.actions
        actions[:] = [action for action in actions if not isinstance(action, EndOfRun)]
        run.begin()
    if not run.is_noted:
        run.note()
        summary.write_begin(run)


class EndOfRun(BaseAction):  # type: ignore[misc]
    """Comes after a policy's actions: logs what was done, and raises what has failed."""

    type = "keyrot-summary"
    schema = type_schema(type)

    def __init__(self, run: PolicyRun) -> None:
        super().__init__({"type": self.type}, run.manager)
        self.run = run

    @property
    def name(self) -> str:
        """What Custodian calls it in its log."""
        return self.type

    def process(
        self,
        resources: list[dict[str, Any]],
        event: Any = None,  # noqa: ARG002 - Custodian's signature
    ) -> None:
        summary.end(self.run, resources)


def _filter(run: PolicyRun, original: Any, resources: list[dict[str, Any]], event: Any) -> Any:
    """Run the filters, and settle which keys of each selected user they select."""
    begin(run)
    # The in-memory cache hands the same users to the next policy: our annotations mustn't
    # get there, nor those of the policy before it come here.
    ours = {RECORDS, MATCHED_KEYS, LIVE_KEYS}
    resources = [{k: v for k, v in user.items() if k not in ours} for user in resources]
    filters = run.manager.filters
    with watching(run, filters) as passed:
        selected = original(resources, event)
    _settle_keys(run, filters, selected, passed)
    matched_usage.read(run, selected)
    attach_notices(run, selected)
    stock_filters.without_doubts(run)
    guard_actions(run)
    summary.write(run, selected)
    if run.report.candidates is not None:
        run.log.write(
            f"{run.report.population} users in the credential report, "
            f"{run.report.candidates} candidates, {len(selected)} matched",
            logging.INFO,
        )
    _prepare_end(run, selected)
    return selected


def _settle_keys(
    run: PolicyRun, filters: list[Any], selected: list[dict[str, Any]], passed: dict[str, set[str]]
) -> None:
    """Settle which keys of the selected users the actions touch, and withhold the run's own."""
    for user in selected:
        name = user["UserName"]
        withheld = settle(
            filters,
            user,
            run.users.live.get(name, ()),
            passed,
            name in run.users.unread,
            functools.partial(run.own.has, name),
        )
        run.own.withhold(name, withheld)
        for record, key in meant(user, withheld):
            if key in withheld:
                run.own.skip(name, record["slot"], key["AccessKeyId"])
        for record in user.get(RECORDS, ()):
            record["exemption"] = run.exemptions.void.get(name)


def _prepare_end(run: PolicyRun, selected: list[dict[str, Any]]) -> None:
    """End the run if no action is reached; else have it end after the last one."""
    actions = run.manager.actions
    is_dry = run.manager.ctx.options.dryrun
    if not selected:
        for action in actions:
            if getattr(action, "acts_without_users", False):
                action.process([])
    if is_dry or not selected:
        # No action is reached that could do it.
        if run.log.failures and run.manager.ctx.output is not None:
            run.manager.ctx.output.write_file("resources.json", dumps(selected, indent=2))
        summary.end(run, selected)
    elif not any(isinstance(action, EndOfRun) for action in actions):
        actions.append(EndOfRun(run))


def guard_actions(run: PolicyRun) -> None:
    """Let no action of the policy begin in a dry run, or before the intents of all are kept.

    :seam: c7n.actions:BaseAction.process
    """
    for action in run.manager.actions:
        process = action.process
        if isinstance(process, _Guarded):  # of an earlier execution
            process = process.original
        if not isinstance(action, EndOfRun):
            action.process = _Guarded(run, action, process)


class _Guarded:
    """Stands for the ``process`` of an action, whoever it belongs to.

    A Lambda function that an event starts calls the actions in a dry run as well
    (``execution-options: {dryrun: true}``); only Custodian's pull mode doesn't.
    """

    def __init__(self, run: PolicyRun, action: Any, original: Any) -> None:
        self.run, self.action, self.original = run, action, original
        functools.update_wrapper(self, original)

    def __call__(self, resources: list[dict[str, Any]], *args: Any, **kwargs: Any) -> Any:
        permit = self.run.permit()
        if permit is None:
            self.run.log.write(f"dry run: {self.action.type} does nothing", logging.INFO)
            return None
        intents.prepare(self.run, resources, permit)
        try:
            return self.original(resources, *args, **kwargs)
        except BaseException as error:
            intents.give_up(self.run, self.action, error)
            raise
