# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Listings are read to the last page, and only a listing of the same user proves a deletion."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from in_memory import Iam

from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.listings import MOST_PAGES, Whereabouts, live_keys, whereabouts

MADE = datetime(2026, 1, 1, tzinfo=timezone.utc)


def key(name: str, status: str = "Active") -> dict[str, Any]:
    return {"AccessKeyId": name, "Status": status, "CreateDate": MADE}


class Pages:
    """A client whose ListAccessKeys answers so, by marker."""

    def __init__(self, pages: dict[str | None, dict[str, Any]]) -> None:
        self.pages, self.asked = pages, 0

    def list_access_keys(self, UserName: str, Marker: str | None = None) -> dict[str, Any]:
        self.asked += 1
        answer = self.pages[Marker if Marker in self.pages else "*"]
        return {name: f"m{self.asked}" if v == "new" else v for name, v in answer.items()}


def page(*names: str, more: Any = False, **marker: Any) -> dict[str, Any]:
    return {"AccessKeyMetadata": [key(name) for name in names], "IsTruncated": more, **marker}


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ({None: page("A", "B")}, ["A", "B"]),
        ({None: page()}, []),
        ({None: page("A", more=True, Marker="1"), "1": page("B")}, ["A", "B"]),
        ({None: page(more=True, Marker="1"), "1": page("A", "B")}, ["A", "B"]),
        (
            {
                None: page("A", more=True, Marker="1"),
                "1": page(more=True, Marker="2"),
                "2": page("B"),
            },
            ["A", "B"],
        ),
        # A key that moved to the next page meanwhile is one key.
        ({None: page("A", "B", more=True, Marker="1"), "1": page("B")}, ["A", "B"]),
        # Without the word that AWS always says, what else it says counts.
        ({None: {"AccessKeyMetadata": [key("A")]}}, ["A"]),
        ({None: {"AccessKeyMetadata": [key("A")], "Marker": "1"}, "1": page("B")}, ["A", "B"]),
    ],
)
def test_keys_are_read_to_the_last_page(pages: Any, found: list[str]) -> None:
    assert [one["AccessKeyId"] for one in live_keys(Pages(pages), "ana")] == found


@pytest.mark.parametrize(
    "pages",
    [
        {None: page("A", more=True)},
        {None: page("A", more=True, Marker="")},
        {None: page("A", more=True, Marker="1"), "1": page("B", more=True)},
        {None: page("A", more=True, Marker="1"), "1": page("A", more=True, Marker="1")},
        {None: page("A", more=True, Marker="new"), "*": page(more=True, Marker="new")},
    ],
    ids=["no marker", "empty marker", "none on page 2", "the same marker", "endless"],
)
def test_a_listing_that_stays_cut_off_is_not_read(pages: Any) -> None:
    client = Pages(pages)
    with pytest.raises(
        CallError, match="iam:ListAccessKeys failed .its pages have no end"
    ) as caught:
        live_keys(client, "ana")
    assert not caught.value.gone
    assert not caught.value.denied
    assert client.asked <= MOST_PAGES + 1


def rename(iam: Iam) -> None:
    iam.rename("ana", "anna")


def rename_and_give_the_name_away(iam: Iam) -> None:
    iam.rename("ana", "anna")
    iam.add("ana", 10, 300)
    iam.users["ana"]["UserId"] = "AIDAother"
    iam.keys["ana"] = []


def delete_key(iam: Iam) -> None:
    iam.keys["ana"].pop()


def delete_user(iam: Iam) -> None:
    del iam.users["ana"]


def nothing(iam: Iam) -> None:
    """It was only out of sight."""


@pytest.mark.parametrize("asks", [True, False], ids=["last used allowed", "denied"])
@pytest.mark.parametrize(
    ("event", "with_last_used", "without"),
    [
        (delete_key, Whereabouts(is_gone=True), Whereabouts(is_gone=True)),
        (rename, Whereabouts(user="anna"), Whereabouts()),
        (rename_and_give_the_name_away, Whereabouts(user="anna"), Whereabouts()),
        # AWS denies the look at a key that isn't there, too.
        (delete_user, Whereabouts(), Whereabouts()),
        (nothing, Whereabouts(user="ana"), Whereabouts(user="ana")),
    ],
)
def test_what_became_of_a_key_that_is_not_found(
    iam: Iam, event: Any, with_last_used: Whereabouts, without: Whereabouts, asks: bool
) -> None:
    iam.add("ana", 10, 200)
    event(iam)
    if not asks:
        iam.errors["GetAccessKeyLastUsed", "*"] = "AccessDenied"
    found = whereabouts(iam, "ana-2", "ana", "AIDAana")
    assert found == (with_last_used if asks else without)


def test_without_the_users_id_no_listing_proves_a_deletion(iam: Iam) -> None:
    iam.add("ana", 10, 200)
    delete_key(iam)
    assert whereabouts(iam, "ana-2", "ana", None) == Whereabouts()


def test_a_key_id_that_aws_does_not_know_is_gone(iam: Iam) -> None:
    iam.errors["GetAccessKeyLastUsed", "*"] = "NoSuchEntity"
    assert whereabouts(iam, "ana-2", "ana", None) == Whereabouts(is_gone=True)


@pytest.mark.parametrize("operation", ["ListAccessKeys", "GetUser", "GetAccessKeyLastUsed"])
def test_a_look_that_fails_is_an_error(iam: Iam, operation: str) -> None:
    iam.add("ana", 10, 200)
    iam.rename("ana", "anna") if operation == "GetAccessKeyLastUsed" else delete_key(iam)
    iam.errors[operation, "*"] = "Throttling"
    with pytest.raises(CallError, match=operation):
        whereabouts(iam, "ana-2", "ana", "AIDAana")


def test_a_denied_look_at_the_user_proves_nothing(iam: Iam) -> None:
    iam.add("ana", 10, 200)
    delete_key(iam)
    iam.errors["GetUser", "ana"] = "AccessDenied"
    assert whereabouts(iam, "ana-2", "ana", "AIDAana") == Whereabouts()
