# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A mail out of what c7n-mailer renders: with the headers that mails need, and text beside HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate, make_msgid, parseaddr
from pathlib import Path
from typing import Any

BODY = re.compile(r"<body[^>]*>", re.IGNORECASE)
OUR_HTML = re.compile(r"(c7n_keyrot-[a-z]+)\.html")
NOTE = '<p style="margin:0;padding:12px 16px;background:#fff4d6;color:#3d2f00">{}</p>'


def compose(
    mailer: Any,
    message: Mapping[str, Any],
    users: Sequence[Mapping[str, Any]],
    to: Sequence[str],
    notes: Sequence[str] = (),
) -> Message:
    """Return a mail about some users of a message.

    :param mailer: c7n-mailer's ``EmailDelivery``.
    :param notes: sentences that come before what the template says.
    :raises AttributeError: the template can't be rendered; c7n-mailer has logged why.
    """
    from c7n_mailer.utils_email import get_mimetext_message  # type: ignore[import-untyped]

    made = get_mimetext_message(mailer.config, mailer.logger, message, users, list(to))
    body = made.get_payload(decode=True).decode("utf-8")
    if made.get_content_subtype() == "html":
        parts = [MIMEText(_with(notes, body), "html", "utf-8")]
        text = _as_text(mailer, message, users, to)
        if text:
            parts.insert(0, MIMEText("\n\n".join([*notes, text]), "plain", "utf-8"))
        mail: Message = parts[0] if len(parts) == 1 else MIMEMultipart("alternative", None, parts)
    else:
        mail = MIMEText("\n\n".join([*notes, body]), "plain", "utf-8")
    for name, value in made.items():
        if name.lower() not in ("content-type", "mime-version", "content-transfer-encoding"):
            mail[name] = value
    sender = parseaddr(str(made["From"]))[1]
    for name, value in (
        ("Date", formatdate()),
        ("Message-ID", make_msgid(domain=sender.rpartition("@")[2] or None)),
        # So that nobody's absence is answered, as RFC 3834 has it.
        ("Auto-Submitted", "auto-generated"),
    ):
        if name not in mail:
            mail[name] = value
    return mail


def _with(notes: Sequence[str], body: str) -> str:
    shown = "".join(NOTE.format(html.escape(note)) for note in notes)
    found = BODY.search(body)
    at = found.end() if found else 0
    return body[:at] + shown + body[at:]


def _as_text(
    mailer: Any, message: Mapping[str, Any], users: Sequence[Mapping[str, Any]], to: Sequence[str]
) -> str:
    """Return what the text twin of one of our templates says; "" for another template."""
    from c7n_mailer.utils import get_rendered_jinja  # type: ignore[import-untyped]

    action = message["action"]
    folders = mailer.config["templates_folders"]
    ours = OUR_HTML.fullmatch(str(action.get("template", "")))
    if not ours or action.get("template_format"):
        return ""
    twin = f"{ours[1]}.txt"
    if not any((Path(folder) / f"{twin}.j2").is_file() for folder in folders):
        return ""
    alike = {**message, "action": {**action, "template": twin}}
    found = get_rendered_jinja(
        list(to), alike, users, mailer.logger, "template", "default", folders
    )
    return found or ""
