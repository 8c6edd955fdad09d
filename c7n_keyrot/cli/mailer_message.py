# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A message for c7n-mailer as data: checked within bounds, and packed again so that nothing runs.

c7n-mailer renders the subject that a message brings, or the name of its policy, as a Jinja
template, so whoever may write to its queue runs code where it runs. And a message names the file
that is its template. What comes out of here has a subject that is finished text, and its other
words are what Custodian's ``notify`` writes.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from jinja2 import TemplateError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from c7n_keyrot.core.text import one_line

# In bytes, unpacked. Custodian sends at most 256 KB, packed; 1,000 users are about 4 MB.
LARGEST = 16 * 2**20
# In characters: of a subject as it is written, as it is sent, and of each value in it.
LONGEST, LONGEST_SENT, LONGEST_VALUE = 2000, 1000, 300
# What a subject may be made of. No loop, call, or arithmetic: the work is bounded by its length.
PARTS = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.Name, nodes.Getattr,
    nodes.Getitem, nodes.Filter, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand,
    nodes.And, nodes.Or, nodes.Not,
)  # fmt: skip
FILTERS = {"capitalize", "d", "default", "lower", "title", "trim", "upper"}
# Below the folders of templates. c7n-mailer looks in the current one, too: a name that begins with
# a slash would be any file there, such as mailer.yml.
TEMPLATE = re.compile(r"[\w -][\w. -]*(/[\w -][\w. -]*)*")
FACTS = ("account", "account_id", "partition", "region")


class Refused(Exception):
    """A message that ``notify`` doesn't write."""


def cleaned(body: str, logger: logging.Logger) -> str:
    """Return a message's body, packed as Custodian does it, with words that mean only themselves.

    :raises Refused: it isn't what Custodian's ``notify`` writes.
    """
    try:
        message = _unpacked(body)
        _check(message)
        for name in FACTS:
            if message.get(name) is not None:
                message[name] = one_line(message[name])
        for name in ("name", "resource"):
            message["policy"][name] = one_line(message["policy"][name])
        action = message["action"]
        action["subject"] = _unjinja(subject(message, logger))
        return base64.b64encode(zlib.compress(json.dumps(message).encode())).decode()
    except RecursionError:
        raise Refused("it is nested too deeply") from None


def _unpacked(body: str) -> Any:
    try:
        with suppress(ValueError):
            body = json.loads(body)["Message"]  # it came by an SNS topic
        stream = zlib.decompressobj()
        text = stream.decompress(base64.b64decode(body), LARGEST)
        if stream.unconsumed_tail or not stream.eof:
            raise Refused(f"it is cut off, or has more than {LARGEST >> 20} MiB")
        return json.loads(text)
    except (ValueError, TypeError, KeyError, zlib.error):
        raise Refused("it isn't packed as Custodian packs its messages") from None


def _check(message: Any) -> None:
    """Check what c7n-mailer acts on, and complete what older Custodians leave out."""

    def expect(good: bool, where: str) -> None:
        if not good:
            raise Refused(f"{where} isn't what Custodian's notify writes")

    expect(isinstance(message, dict), "the message")
    policy, action = message.get("policy"), message.get("action")
    expect(isinstance(policy, dict), "policy")
    expect(isinstance(action, dict), "action")
    users = message.get("resources")
    expect(isinstance(users, list) and all(isinstance(one, dict) for one in users), "resources")
    expect(all(_are_tags(one.get("Tags") or []) for one in users), "Tags")
    expect(isinstance(message.setdefault("event", None), dict | None), "event")
    for name in ("name", "resource"):
        expect(isinstance(policy.get(name), str), f"policy.{name}")
    for name in FACTS:
        expect(isinstance(message.get(name), str | None), name)
    action.setdefault("to", [])
    for name in ("to", "cc", "owner_absent_contact"):
        addresses = action.get(name, [])
        good = isinstance(addresses, list) and all(_is_a_line(one) for one in addresses)
        expect(good, f"action.{name}")
    for name in ("template", "slack_template"):
        found = action.get(name)
        if found is None:
            action.pop(name, None)
        else:
            expect(_is_a_line(found) and bool(TEMPLATE.fullmatch(found)), f"action.{name}")
    expect("from" not in action or _is_a_line(action["from"]), "action.from")
    expect(action.get("template_format") in (None, "", "html", "plain"), "action.template_format")
    expect(str(action.get("priority_header", 3)) in set("12345"), "action.priority_header")
    expect(isinstance(action.get("subject", ""), str), "action.subject")


def _are_tags(tags: Any) -> bool:
    return isinstance(tags, list) and all(
        isinstance(tag, dict)
        and isinstance(tag.get("Key"), str)
        and isinstance(tag.get("Value"), str)
        for tag in tags
    )


def _is_a_line(word: Any) -> bool:
    return isinstance(word, str) and word.isprintable() and len(word) <= LONGEST


def subject(message: dict[str, Any], logger: logging.Logger) -> str:
    """Return the subject as one line: filled in, or as it is written if it is more than words."""
    name = message["policy"]["name"]
    written: str = message["action"].get("subject", f"Custodian notification - {name}")
    if "{" not in written or "subject" not in message["action"]:
        return one_line(written, LONGEST_SENT)
    names = (*FACTS, "event", "action", "policy")
    try:
        return one_line(_filled(written, {key: message.get(key, "") for key in names}))
    except (TemplateError, Refused, TypeError, RecursionError):
        logger.warning(
            "The subject of a notice of policy %s isn't filled in, only plain {{ names }} are: %r",
            name,
            one_line(written),
        )
        return one_line(written, LONGEST_SENT)


def _filled(written: str, facts: dict[str, Any]) -> str:
    """Fill in a template that consists of names and little else.

    :raises TemplateError, Refused, TypeError: it consists of more, or a value isn't a word.
    """
    if len(written) > LONGEST:
        raise Refused("it is too long")
    environment = ImmutableSandboxedEnvironment(finalize=_word)  # nosec: a mail's subject, no HTML
    environment.filters = {name: _of_a_word(environment.filters[name]) for name in FILTERS}
    for node in environment.parse(written).find_all(nodes.Node):
        if (
            not isinstance(node, PARTS)
            or (isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Const))
            or _key(node).startswith("_")
        ):
            raise Refused(f"it has {type(node).__name__}")
    return environment.from_string(written).render(facts)


def _key(node: nodes.Node) -> str:
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return str(node.arg.value)
    return node.attr if isinstance(node, nodes.Getattr) else ""


def _of_a_word(filter_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda value, *arguments: filter_(_word(value), *arguments)


def _word(value: Any) -> Any:
    if isinstance(value, Undefined):
        return value
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"{type(value).__name__} isn't a word")
    return str(value)[:LONGEST_VALUE]


def _unjinja(text: str) -> str:
    """Return the template that c7n-mailer's plain Jinja renders as this text."""
    return text.replace("{", '{{"{"}}')
