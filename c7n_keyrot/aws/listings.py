# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""IAM's listings, read to their last page, and what they prove about a key that isn't found.

That AWS finds no user of a name proves nothing: the user may have another name now, and the key may
be active. A listing of the keys of the *same* user, known by the user id, does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from c7n_keyrot.aws import calls
from c7n_keyrot.aws.errors import CallError, ErrorKind

# A user has two keys at most; more pages than this are an answer that never ends.
MOST_PAGES = 100


def pages(client: Any, method: str, **params: Any) -> Iterator[dict[str, Any]]:
    """Yield every page of a listing of IAM; AWS may page at any number, even an empty page.

    :param method: a method of a boto3 client that takes ``Marker``, such as ``list_access_keys``.
    :raises CallError: the call fails, or the listing stays cut off.
    """
    asked: set[str] = set()
    marker: dict[str, Any] = {}
    while True:
        answer = calls.call(client, method, **params, **marker)
        yield answer
        token = answer.get("Marker")
        if not answer.get("IsTruncated", token is not None):
            return
        if not isinstance(token, str) or not token or token in asked or len(asked) >= MOST_PAGES:
            what = "its pages have no end, so it isn't read whole"
            raise CallError(f"iam:{calls.operation_of(method)}", ErrorKind.OTHER, "CutOff", what)
        asked.add(token)
        marker = {"Marker": token}


def live_keys(client: Any, user: str) -> list[dict[str, Any]]:
    """Return all of a user's access keys as IAM has them now, but for its lag behind writes.

    :raises CallError: the call fails, or the keys can't be read to the last page.
    """
    found = pages(client, "list_access_keys", UserName=user)
    # By their ids: between two pages a key may move from one to the other.
    keys = {key["AccessKeyId"]: key for page in found for key in page["AccessKeyMetadata"]}
    return list(keys.values())


@dataclass(frozen=True)
class Whereabouts:
    """Where a key is: ``is_gone`` where AWS proves that it was deleted; ``user`` who has it now.

    Neither where that can't be known.
    """

    is_gone: bool = False
    user: str = ""


def whereabouts(client: Any, key_id: str, name: str, user_id: str | None) -> Whereabouts:
    """Find out what became of a key that AWS didn't find under its user's name.

    :param user_id: ``UserId`` of the user who had the key, read earlier; None if it isn't known.
    :raises CallError: a call fails, other than by a denial or because something doesn't exist.
    """
    if user_id is not None:
        try:
            if any(key["AccessKeyId"] == key_id for key in live_keys(client, name)):
                return Whereabouts(user=name)
            # After the listing: so it was this user's, who had the name before it as well.
            if calls.call(client, "get_user", UserName=name)["User"].get("UserId") == user_id:
                return Whereabouts(is_gone=True)
        except CallError as error:
            if not (error.gone or error.denied):
                raise
    try:
        answer = calls.call(client, "get_access_key_last_used", AccessKeyId=key_id)
    except CallError as error:
        # For a key that doesn't exist AWS denies the call to those who may make it as well.
        if not (error.gone or error.denied):
            raise
        return Whereabouts(is_gone=error.gone)
    return Whereabouts(user=answer.get("UserName") or "")
