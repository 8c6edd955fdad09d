# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where moto's IAM differs from AWS's: slots, the credential report, pages, and its speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import moto.backends
import moto.iam.models
from moto.core.responses import ActionResult
from moto.iam.exceptions import IAMException
from moto.iam.responses import IamResponse

from embedded_aws.account import Account
from embedded_aws.clock import utcnow
from embedded_aws.lag import Lag
from embedded_aws.stacks import STACK_PATCHES


@contextmanager
def patched(
    account_of: Callable[[str], Account], lag: Lag, key_page: Callable[[], int]
) -> Iterator[None]:
    """Make moto like AWS until the exit.

    ``account_of``: an account by its id; ``key_page``: how many keys a page of ListAccessKeys has.
    """
    # It looks at 90 folders, twice for each request: a quarter of the time of a call.
    modules = list(moto.backends.list_of_moto_modules())
    patches: list[tuple[Any, str, Any]] = [
        (moto.backends, "list_of_moto_modules", lambda: modules),
        (moto.iam.models, "utcnow", utcnow),
        *STACK_PATCHES,
        *_key_patches(lag, key_page),
        *_report_patches(account_of),
        *(
            (IamResponse, method.__name__, method)
            for method in (list_users, get_account_authorization_details, get_access_key_last_used)
        ),
    ]
    with ExitStack() as stack:
        for owner, name, value in patches:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def _key_patches(lag: Lag, key_page: Callable[[], int]) -> list[tuple[Any, str, Any]]:
    """Return the patches by which keys have slots, and listings of them lag and have pages."""
    make_key = moto.iam.models.User.create_access_key
    list_keys = moto.iam.models.IAMBackend.list_access_keys
    list_own_keys = IamResponse.list_access_keys

    def create_access_key(user: Any, *args: Any, **kwargs: Any) -> Any:
        taken = {key.slot for key in user.access_keys}
        key = make_key(user, *args, **kwargs)
        key.slot = 2 if 1 in taken else 1
        return key

    def list_access_keys(backend: Any, user_name: str) -> list[Any]:
        return lag.listed(backend.account_id, user_name, list_keys(backend, user_name))

    def list_access_keys_in_pages(response: Any) -> ActionResult:
        name = response._get_param("UserName")
        if not name:
            return list_own_keys(response)
        keys = response.backend.list_access_keys(name)
        page, more = _page(response, keys, key_page())
        return ActionResult({"UserName": name, "AccessKeyMetadata": page, **more})

    return [
        (moto.iam.models.User, "create_access_key", create_access_key),
        (moto.iam.models.IAMBackend, "list_access_keys", list_access_keys),
        (IamResponse, "list_access_keys", list_access_keys_in_pages),
    ]


def _report_patches(account_of: Callable[[str], Account]) -> list[tuple[Any, str, Any]]:
    """Return the patches by which the credential report is AWS's: made late, and kept."""

    def generate_credential_report(response: Any) -> ActionResult:
        return ActionResult(account_of(response.current_account).start_report())

    def get_credential_report(response: Any) -> ActionResult:
        return ActionResult(account_of(response.current_account).finished_report())

    return [
        (IamResponse, method.__name__, method)
        for method in (generate_credential_report, get_credential_report)
    ]


def list_users(response: Any) -> ActionResult:
    prefix = response._get_param("PathPrefix") or "/"
    users = [u for u in response.backend.users.values() if u.path.startswith(prefix)]
    page, more = _page(response, users)
    return ActionResult({"Users": page, **more})


def get_account_authorization_details(response: Any) -> ActionResult:
    found = response.backend.get_account_authorization_details(response._get_param("Filter", []))
    kinds = {
        "UserDetailList": "users",
        "GroupDetailList": "groups",
        "RoleDetailList": "roles",
        "Policies": "managed_policies",
    }
    everything = [(kind, item) for kind, name in kinds.items() for item in found[name]]
    page, more = _page(response, everything)
    lists = {kind: [item for other, item in page if other == kind] for kind in kinds}
    return ActionResult({**lists, **more})


def get_access_key_last_used(response: Any) -> ActionResult:
    # moto walks through all keys of all accounts: quadratic over a run.
    key_id = response._get_param("AccessKeyId")
    key = response.backend.access_keys.get(key_id)
    if key is None or key.user_name is None:
        raise IAMException("NoSuchEntity", f"The Access Key with id {key_id} cannot be found.")
    used = {"Region": "N/A", "ServiceName": "N/A"}
    if key.last_used:
        used = {
            "LastUsedDate": key.last_used.timestamp,
            "Region": key.last_used.region,
            "ServiceName": key.last_used.service,
        }
    return ActionResult({"UserName": key.user_name, "AccessKeyLastUsed": used})


def _page(
    response: Any, items: list[Any], most: float = float("inf")
) -> tuple[list[Any], dict[str, Any]]:
    """Return a page of MaxItems (100 by default), or of fewer; moto returns everything at once."""
    start = int(response._get_param("Marker") or 0)
    end = start + int(min(int(response._get_param("MaxItems") or 100), most))
    more: dict[str, Any] = {"IsTruncated": end < len(items)}
    if more["IsTruncated"]:
        more["Marker"] = str(end)
    return items[start:end], more
