# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What Custodian's own filters couldn't ask: these users are in doubt, whatever the filter says.

Some of Custodian's filters swallow the error of a call, and say no. In a not block that no becomes
a yes. So the calls of such a filter are watched while it runs in a policy with our words. A user
who couldn't be asked counts as unread, and stays in the result, without a key.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError
from c7n.exceptions import PolicyExecutionError
from c7n.resolver import ValuesFrom

from c7n_keyrot.aws import settings
from c7n_keyrot.aws.errors import CallError, NotAwsError, explained
from c7n_keyrot.core.text import one_line
from c7n_keyrot.custodian.run import PolicyRun

# Codes of AWS that are an answer: what was asked for doesn't exist.
NONE = re.compile("NoSuch|NotFound|ReportNotPresent")
PAGE = re.compile(r"\s*<(!doctype|html|head|body|meta|title)\b", re.IGNORECASE)

Users = list[dict[str, Any]]


def ask(run: PolicyRun, element: Any, negated: bool, process: Any, users: Users, event: Any) -> Any:
    """Run a filter of Custodian's own, and let those users through who couldn't be asked.

    :param negated: the filter is inside an odd number of not blocks, where a no lets through.
    :param process: the filter's own ``process``.
    :raises PolicyExecutionError: a call failed, and the filter raised its error.
    :raises Exception: what else the filter raises.
    """
    if not users:
        return process(users, event)
    doubts: dict[str, str] = {}
    kept: Users = []
    rest = users
    while rest:
        calls = _Calls(rest)
        try:
            with calls.watched(run.manager, element):
                passed = process(rest, event)
        except Exception:
            failed = calls.failed
            if not failed:
                raise
            # Not chained: what a parser says quotes the answer.
            raise run.log.stop(f"the filter {element.type} has no answer, {failed[-1]}") from None
        unasked = calls.settle(doubts)
        kept += [user for user in passed if user["UserName"] not in unasked]
        # The first error ends a thread's work: those after it are asked once more.
        later = [user for user in rest if user["UserName"] in unasked]
        if len(later) == len(rest) or calls.is_outage():
            doubts.update((name, unasked[name]) for name in unasked)
            later = []
        rest = later
    for name in sorted(doubts.keys() - run.users.unread):
        run.users.mark_unread(name, f"the filter {element.type} has no answer, {doubts[name]}")
    kept = [user for user in kept if user["UserName"] not in doubts]
    return kept if negated else kept + [user for user in users if user["UserName"] in doubts]


class _Calls:
    """The calls that a filter makes while it runs over some users, in all of its threads."""

    def __init__(self, users: Users) -> None:
        self.names = [user["UserName"] for user in users]
        # A user by its name and by its ARN.
        self.by_id = {name: name for name in self.names}
        self.by_id |= {user["Arn"]: user["UserName"] for user in users if "Arn" in user}
        # How each call ended, by its operation and parameters; the last try of one counts.
        self.errors: dict[str, tuple[str | None, CallError | None]] = {}
        self.known: list[BaseException] = []
        self.asked: set[str] = set()
        self.futures: list[tuple[Any, Any]] = []
        self.last_answer = time.monotonic()

    @contextmanager
    def watched(self, manager: Any, element: Any) -> Iterator[None]:
        """Watch the calls of boto3's clients, threads that fail, and lists that aren't lists.

        :seam: botocore.client:BaseClient._make_api_call
        :seam: c7n.element:Element.executor_factory
        :seam: c7n.manager:ResourceManager.executor_factory
        :seam: c7n.resolver:ValuesFrom.get_values
        """
        base: Any = BaseClient
        call, values = base._make_api_call, ValuesFrom.get_values
        calls = self

        def watched_call(client: Any, operation: str, params: Any) -> Any:
            return calls.call(call, client, operation, params)

        with ExitStack() as stack:
            # Clients are shared and made in many places: only their class sees every call.
            stack.enter_context(_replaced(BaseClient, "_make_api_call", watched_call))
            stack.enter_context(_replaced(ValuesFrom, "get_values", _listed(values)))
            for owner in (manager, element):
                factory = self._recording(owner.executor_factory)
                stack.enter_context(_replaced(owner, "executor_factory", factory))
            yield

    def call(self, original: Any, client: Any, operation: str, params: dict[str, Any]) -> Any:
        """Make a call, and keep how it ended."""
        name = f"{client.meta.service_model.endpoint_prefix}:{operation}"
        question, user = f"{name} {params!r}", self._user_of(params)
        if user:
            self.asked.add(user)
        try:
            try:
                answer = original(client, operation, params)
            except (ClientError, BotoCoreError):
                raise
            except Exception:  # noqa: BLE001 - a parser's error quotes the answer: maybe a secret
                raise NotAwsError(what="an answer that can't be read") from None
            if not (answer.get("ResponseMetadata") or {}).get("RequestId"):
                raise NotAwsError(what="an answer without a request id")
        except Exception as error:
            self.known.append(error)
            known = explained(name, error)
            self.errors[question] = user, None if NONE.search(known.code) else known
            raise
        self.errors[question] = user, None
        self.last_answer = time.monotonic()
        return answer

    def _user_of(self, params: dict[str, Any]) -> str | None:
        """Return the user that a call is about; None if it is about all, or that isn't known."""
        if "UserName" in params:
            return self.by_id.get(params["UserName"])
        found = {self.by_id[text] for text in _arns(params) if text in self.by_id}
        return found.pop() if len(found) == 1 else None

    def _recording(self, factory: Any) -> Callable[..., Any]:
        def recording(*args: Any, **kwargs: Any) -> Any:
            executor = factory(*args, **kwargs)
            submit = executor.submit

            def submitted(function: Any, *work: Any, **more: Any) -> Any:
                future = submit(function, *work, **more)
                self.futures.append((work, future))
                return future

            executor.submit = submitted
            return executor

        return recording

    @property
    def failed(self) -> list[CallError]:
        """The errors of the calls that failed and weren't answered later."""
        return [error for _, error in self.errors.values() if error is not None]

    def is_outage(self) -> bool:
        """Tell whether no call has been answered for so long that asking on makes no sense."""
        return time.monotonic() - self.last_answer > settings.PATIENCE

    def settle(self, doubts: dict[str, str]) -> dict[str, str]:
        """Add the users who couldn't be asked, and why; return those who weren't asked yet."""
        unasked: dict[str, str] = {}
        for user, error in self.errors.values():
            if error is not None:
                # What isn't about one user may be about any of them.
                for name in [user] if user else self.names:
                    doubts.setdefault(name, str(error))
        for work, future in self.futures:
            broken = future.exception()
            if broken is None:
                continue
            theirs = [name for name in _names(work) if name in self.by_id]
            if any(broken is error for error in self.known):
                why = next((doubts[name] for name in theirs if name in doubts), "")
                unasked |= {
                    name: why or "one before them wasn't found"
                    for name in theirs
                    if name not in self.asked and name not in doubts
                }
            else:
                for name in theirs or self.names:
                    doubts.setdefault(name, f"{type(broken).__name__} in its work")
        return unasked


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute for a while."""
    own, before = name in vars(owner), getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _arns(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith("arn:"):
            yield value
    elif isinstance(value, (dict, list, tuple)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _arns(inner)


def _names(work: Any) -> Iterator[str]:
    """Yield the names of the users that a thread was given."""
    if isinstance(work, dict):
        if isinstance(work.get("UserName"), str):
            yield work["UserName"]
    elif isinstance(work, (list, tuple)):
        for inner in work:
            yield from _names(inner)


def _listed(get_values: Any) -> Callable[..., Any]:
    """Refuse what isn't a list of values: an expression that finds nothing, or a page."""

    def listed(values_from: Any) -> Any:
        values = get_values(values_from)
        texts = [values] if isinstance(values, str) else values or ()
        is_page = any(isinstance(text, str) and PAGE.match(text) for text in texts)
        if values is None or is_page:
            what = "a page, not a list" if is_page else "nothing"
            url = one_line(values_from.data.get("url"), 200)
            raise PolicyExecutionError(
                f"value_from {url} gave {what}: nobody knows whom it means, so the policy stops; "
                "correct the list, its expr, or what is in between"
            )
        return values

    return listed


def is_ours(element: Any) -> bool:
    """Tell whether a filter or action is one of this package, not Custodian's own."""
    return type(element).__module__.partition(".")[0] == __name__.partition(".")[0]


def without_doubts(run: PolicyRun) -> None:
    """Keep users in doubt away from Custodian's own actions, which know nothing of doubts.

    :seam: c7n.actions:BaseAction.process
    """
    for action in run.manager.actions:
        # Notices with our templates say who is in doubt, and have a process of their own by now.
        if not is_ours(action) and "process" not in vars(action):
            action.process = _without_doubts(run, action.process)


def _without_doubts(run: PolicyRun, process: Any) -> Callable[..., Any]:
    def processed(resources: Sequence[dict[str, Any]], *event: Any) -> Any:
        users = [user for user in resources if user["UserName"] not in run.users.unread]
        return process(users, *event) if users else None

    return processed
