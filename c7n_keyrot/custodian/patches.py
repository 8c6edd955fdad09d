# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Everything that patches Custodian's own objects, in one place; ``seams`` lists where.

It patches instances only: policies without our words never meet any of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from c7n.cache import NullCache

from c7n_keyrot.core.text import one_line
from c7n_keyrot.custodian import notify, stock_filters
from c7n_keyrot.custodian.matching import BLOCKS, places
from c7n_keyrot.custodian.run import PolicyRun, is_serverless


@contextmanager
def watching(run: PolicyRun, filters: Sequence[Any]) -> Iterator[dict[str, set[str]]]:
    """Note, while the filters run, which users each of them lets through: names by place.

    Custodian's own filters let those through as well whom they couldn't ask about.

    :seam: c7n.filters:Filter.process
    """
    passed: dict[str, set[str]] = {}
    nots = [f"{place}." for place, element in places(filters) if element.type == "not"]
    for place, element in places(filters):
        process = element.process
        if element.type not in BLOCKS and not stock_filters.is_ours(element):
            negated = sum(map(place.startswith, nots)) % 2 == 1
            process = partial(stock_filters.ask, run, element, negated, process)
        element.process = _watched(process, passed.setdefault(place, set()))
    try:
        yield passed
    finally:
        for _, element in places(filters):
            del element.process


def _watched(process: Any, names: set[str]) -> Any:
    def watched(resources: Any, event: Any = None) -> Any:
        kept = process(resources, event)
        names.update(user["UserName"] for user in kept)
        return kept

    return watched


def attach_notices(run: PolicyRun, users: Sequence[dict[str, Any]]) -> None:
    """Let the policy's notices with our templates say what this run has found.

    :seam: c7n.actions:Notify.process
    :seam: c7n.actions:Notify.expand_variables
    :seam: c7n.actions:Notify.send_data_message
    """
    for action, process, expanded, sent in notify.wrapped(run, users):
        # On the instance: other policies' notices never meet any of this.
        action.process, action.expand_variables = process, expanded
        action.send_data_message = sent


def watch_upload(run: PolicyRun) -> None:
    """Tell which folder has the outcomes, should the upload at the end of the run fail.

    :seam: c7n.output:BlobOutput.upload
    """
    output = run.manager.ctx.output
    if "upload" in vars(output):
        return  # an earlier action of the policy has done so
    upload = output.upload

    def watched() -> None:
        try:
            upload()
        except Exception:
            place = one_line(f"{output.type}://{output.bucket}/{output.key_prefix}")
            kept = (
                "what was done to each key is in this log only; c7n-keyrot reactivate shows "
                "these keys as in doubt, by the intents in the bucket"
                if is_serverless(run.manager)
                else f"what was done to each key is in {output.root_dir}; keep that folder, "
                "copy it to the bucket, or give it to c7n-keyrot reactivate"
            )
            run.log.write(f"the output can't be copied to {place}: {kept}", logging.ERROR)
            raise

    output.upload = watched


def keep_users_out_of_cache(manager: Any, source: str) -> None:
    """Let Custodian's cache neither keep nor give the users of a source.

    :seam: c7n.manager:ResourceManager
    """
    manager._cache = _WithoutUsers(manager._cache, source)


class _WithoutUsers:
    """Custodian's cache for one resource manager, but for the users themselves.

    A tag that was set after a dry run must count in the run a minute later. What else Custodian
    keeps there (what ``value_from`` and other words read from a URL) it gets as ever.
    """

    def __init__(self, cache: Any, source: str) -> None:
        self._cache, self._source = cache, source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def __enter__(self) -> _WithoutUsers:
        try:
            self._cache.__enter__()
        except Exception:  # noqa: BLE001 - locked, or no database; PolicyRun says so
            self._cache = NullCache(None)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._cache.__exit__(*exception)

    def get(self, key: Any) -> Any:
        return None if self._is_of_users(key) else self._cache.get(key)

    def save(self, key: Any, data: Any, *args: Any, **kwargs: Any) -> None:
        if not self._is_of_users(key):
            self._cache.save(key, data, *args, **kwargs)

    def _is_of_users(self, key: Any) -> bool:
        # Of resources they are dicts, else tuples. One that doesn't name its source may be ours.
        return isinstance(key, Mapping) and key.get("source", self._source) == self._source
