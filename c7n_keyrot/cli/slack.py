# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sends messages to Slack as c7n-mailer does, but says what failed, and logs no webhook."""

from __future__ import annotations

import re
import time
from typing import Any

TIMEOUT = 60
HOOK = "https://hooks.slack.com/"
API = "https://slack.com/api/"
# Seconds that Slack may ask to wait.
MOST_WAIT = 60
CODE = re.compile(r"[a-z_]{1,60}")


class SlackError(Exception):
    """Slack didn't take a message; the text is a few words."""


def post(target: str, payload: bytes, token: str | None) -> None:
    """Send a message.

    :param target: a webhook, or else the payload names the channel.
    :raises SlackError: it wasn't taken.
    """
    headers = {"Content-Type": "application/json;charset=utf-8"}
    is_hook = target.startswith(HOOK)
    if is_hook:
        answer = _asked(target, payload, headers)
        if answer.text.strip() != "ok":
            raise SlackError("the webhook refused it")
    else:
        _ok(_asked(f"{API}chat.postMessage", payload, {**headers, **_bearer(token)}))


def user_of(address: str, token: str | None) -> str | None:
    """Return the id of a mail address's user; None if Slack knows none.

    :raises SlackError: it isn't known whether there is one.
    """
    try:
        said = _ok(_asked(f"{API}users.lookupByEmail", {"email": address}, _bearer(token)))
    except SlackError as error:
        if str(error) in ("users_not_found", "user_not_found"):
            return None
        raise
    found = said.get("user") or {}
    return (found.get("enterprise_user") or {}).get("id") or found.get("id")


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _asked(url: str, data: Any, headers: dict[str, str]) -> Any:
    import requests  # c7n-mailer's

    for last in (False, True):
        try:
            answer = requests.post(url=url, data=data, headers=headers, timeout=TIMEOUT)
        except requests.RequestException as error:
            # Its text has the URL, which is the secret of a webhook.
            raise SlackError(type(error).__name__) from None
        except UnicodeError:
            raise SlackError("slack_token has characters that no token has") from None
        if answer.status_code != 429 or last:
            break
        wait = str(answer.headers.get("Retry-After", ""))
        time.sleep(min(int(wait), MOST_WAIT) if wait.isascii() and wait.isdigit() else 1)
    if answer.status_code != 200:
        raise SlackError(f"status {answer.status_code}")
    return answer


def _ok(answer: Any) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        raise SlackError("an answer that isn't JSON") from None
    if not isinstance(said, dict) or said.get("ok") is not True:
        code = str(said.get("error", "")) if isinstance(said, dict) else ""
        raise SlackError(code if CODE.fullmatch(code) else "an error without a name")
    return said
