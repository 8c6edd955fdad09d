# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which keys of a user a policy's filters select, read along their tree of and, or and not.

Custodian drops annotations where a block fails, so a record that is left on a user counts. What
Custodian makes of ``c7n:matched-keys`` itself knows only the innermost block: it loses keys, and it
adds keys that an outer block ruled out. So it is worked out here: of the keys that our records
name, those of which the whole tree of filters is true.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from c7n.filters import ValueFilter

from c7n_keyrot.core.credential_report import instant
from c7n_keyrot.core.rotation import Identified, created

RECORDS = "c7n:keyrot"
MATCHED_KEYS = "c7n:matched-keys"

BLOCKS = ("and", "or", "not")


def places(filters: Sequence[Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every filter of a tree with its place, such as ``0`` or ``1.0`` inside a block."""
    for index, element in enumerate(filters):
        place = f"{above}{index}"
        yield place, element
        if element.type in BLOCKS:
            yield from places(element.filters, f"{place}.")


def asserted(filters: Sequence[Any]) -> Iterator[Any]:
    """Yield the filters of a tree that a selected user can have passed: those outside any not."""
    for element in filters:
        if element.type in ("and", "or"):
            yield from asserted(element.filters)
        elif element.type != "not":
            yield element


def settle(
    filters: Sequence[Any],
    user: dict[str, Any],
    live: Sequence[dict[str, Any]],
    passed: dict[str, set[str]],
    unread: bool,
    is_own: Callable[[str], bool],
) -> list[dict[str, Any]]:
    """Write the selected keys into a selected user's ``c7n:matched-keys``.

    :param filters: a policy's top-level filters, which Custodian ANDs.
    :param live: the user's ``AccessKeyMetadata``.
    :param passed: whom the filters let through: names by place.
    :param unread: the user couldn't be read, or a filter of Custodian's own couldn't ask about
        it, so no key is selected.
    :param is_own: whether the run works with a key itself, which no action may touch.
    :returns: the keys that would be selected, if they weren't the run's own.
    """
    records = user.get(RECORDS, [])
    if unread:
        for record in records:
            record.update(dict.fromkeys(("access_key_id", "status", "description", "other_key")))
            record["identified"] = Identified.UNREAD.value
        user[MATCHED_KEYS] = []  # with entries of stock's filters, for whoever acts on them
    elif records:
        ids = _ids(records)
        found = [
            entry
            for entry in candidates(records, live)
            if all(
                _holds(element, str(index), user, entry, ids, passed)
                for index, element in enumerate(filters)
            )
        ]
        withheld = [entry for entry in found if is_own(entry["AccessKeyId"])]
        user[MATCHED_KEYS] = [entry for entry in found if entry not in withheld]
        return withheld
    # Stock's remove-keys crashes on a user without the annotation: later users are lost.
    user.setdefault(MATCHED_KEYS, [])
    return []


def meant(
    user: dict[str, Any], withheld: Sequence[dict[str, Any]] = ()
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the record and the live key of each key that a ``stale-access-key`` filter selects.

    :param withheld: keys that are to come as well, though no action may touch them.
    """
    records = {
        record["access_key_id"]: record
        for record in user.get(RECORDS, ())
        if record["filter"] == "stale-access-key"
    }
    # Stock's filters leave entries of another shape, on users without one of our records.
    for key in [*user[MATCHED_KEYS], *withheld] if records else ():
        if key["AccessKeyId"] in records:
            yield records[key["AccessKeyId"]], key


def candidates(
    records: Collection[dict[str, Any]], live: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the keys that any of our records names.

    :returns: entries of ``live`` with stock's mark, and nothing else: stock compares them whole.
    """
    named = set().union(*_ids(records).values())
    return [{**key, "c7n:match-type": "access"} for key in live if key["AccessKeyId"] in named]


def _ids(records: Collection[dict[str, Any]]) -> dict[str, set[str]]:
    """Return the key ids that each place's record names; none where no key was identified."""
    # An expiring key isn't stale yet: it is reported, and never acted on.
    return {
        record["path"]: {record["access_key_id"]} - {None}
        for record in records
        if record["filter"] == "stale-access-key"
    }


def _holds(
    element: Any,
    place: str,
    user: dict[str, Any],
    key: dict[str, Any],
    ids: dict[str, set[str]],
    passed: dict[str, set[str]],
) -> bool:
    """Tell whether a filter is true of this very key, or of the user where it checks no key.

    Stock's key filters match a user on any key; a user matched on one key must not lose another.
    """
    if element.type in ("and", "or"):
        every = all if element.type == "and" else any
        return every(
            _holds(inner, f"{place}.{index}", user, key, ids, passed)
            for index, inner in enumerate(element.filters)
        )
    if place in ids:
        return key["AccessKeyId"] in ids[place]
    if user["UserName"] not in passed[place]:
        return False
    if element.type == "access-key":
        return bool(element.match(key))
    if element.type == "credential" and str(element.data.get("key")).startswith("access_keys."):
        return _credential_holds(element, user, key)
    return True


def _credential_holds(element: Any, user: dict[str, Any], key: dict[str, Any]) -> bool:
    """Tell whether stock's credential filter matched the report's entry with this key's date."""
    one = ValueFilter({**element.data, "key": element.data["key"].split(".", 1)[1]})
    report = user.get("c7n:credential-report") or {}
    return any(
        instant(entry.get("last_rotated")) == created(key) and one.match(entry)
        for entry in report.get("access_keys", ())
    )
