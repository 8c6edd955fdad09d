# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which users a policy's filters can match, from the credential report alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from c7n_keyrot.core.credential_report import Row
from c7n_keyrot.custodian.elements.slots import SlotFilter
from c7n_keyrot.custodian.matching import BLOCKS


def may_match(filters: Sequence[Any], row: Row) -> bool:
    """Tell whether all these filters can match the user of a row; what isn't known passes.

    A filter that needs the whole set, such as reduce, must see it, so no later filter counts.
    """
    for element in filters:
        if looks_at_all(element):
            return True
        if not _may_pass(element, row):
            return False
    return True


def _may_pass(element: Any, row: Row) -> bool:
    if isinstance(element, SlotFilter):
        return element.fits(row)
    if element.type == "and":
        return may_match(element.filters, row)
    if element.type == "or":
        return any(_may_pass(inner, row) for inner in element.filters)
    # In a not block a filter that can match may still not do so, by the live keys.
    return True


def looks_at_all(element: Any) -> bool:
    """Tell whether a filter, or one inside of it, decides by all users rather than by one."""
    if element.type in BLOCKS:
        return any(looks_at_all(inner) for inner in element.filters)
    return bool(element.type == "reduce" or element.data.get("value_type") == "resource_count")
