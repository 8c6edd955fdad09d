# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot org run``: its exit code says whether each policy was done in each account.

c7n-org's own is 0 if a policy isn't valid in an account, so that nothing ran there, and if no
account is left to run in. All else of it stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import click
from c7n.exceptions import PolicyExecutionError, PolicyValidationError

from c7n_keyrot.core.text import listed, one_line

QUOTED = (PolicyExecutionError, PolicyValidationError)


class _Watch:
    """What a run was to do, and what wasn't done."""

    def __init__(self, cli: Any) -> None:
        self._init, self._as_completed = cli.init, cli.as_completed
        self.is_run = False
        self._policies: list[str] = []
        self._places = 0
        self._undone: dict[str, list[str]] = {}

    def init(self, *args: Any, **named: Any) -> Any:
        """Keep the names of the policies that are to be run.

        :seam: c7n_org.cli:init
        """
        found = self._init(*args, **named)
        self.is_run = click.get_current_context().command.name == "run"
        if self.is_run:
            self._policies = [str(policy.get("name")) for policy in found[1]["policies"]]
        return found

    def as_completed(self, futures: Mapping[Future[Any], Any]) -> Iterator[Future[Any]]:
        """Yield what is finished, and keep what wasn't done.

        :seam: c7n_org.cli:as_completed
        """
        for future in self._as_completed(futures):
            if self.is_run:
                account, region = futures[future]
                self._places += 1
                why = self._why_not(future)
                if why:
                    place = f"{account['name']} ({account['account_id']}) in {region}"
                    self._undone.setdefault(why, []).append(place)
            yield future

    def _why_not(self, future: Future[Any]) -> str:
        error = future.exception()
        if error is not None:
            name = type(error).__name__
            return f"nothing ran ({name}{f': {one_line(error)}' * isinstance(error, QUOTED)})"
        counts, _ = future.result()
        left = [name for name in self._policies if name not in counts]
        return f"{listed(left)} (c7n-org's lines above say why)" if left else ""

    def undone(self) -> Iterator[str]:
        """Yield a line for what wasn't done, with its accounts."""
        if self.is_run and not self._places:
            yield "nothing ran: no account or no policy is left by the options"
        for why, places in self._undone.items():
            yield f"not done in {listed(places)}: {why}"


def run(program: Callable[[], Any]) -> None:
    """Run c7n-org's command line.

    :raises SystemExit: its exit code, or 1 if an account or a policy wasn't done.
    """
    from c7n_org import cli  # type: ignore[import-untyped]

    watch, before = _Watch(cli), (cli.init, cli.as_completed)
    cli.init, cli.as_completed = watch.init, watch.as_completed
    code: Any = 0
    try:
        program()
    except SystemExit as end:
        code = end.code
    finally:
        cli.init, cli.as_completed = before
    lines = list(watch.undone())
    for line in lines:
        print(f"c7n-keyrot org: {line}", file=sys.stderr)
    sys.exit(code or (1 if lines else 0))
