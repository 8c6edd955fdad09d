# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""c7n-mailer in this process, for which a message is data: nothing in it is run.

c7n-mailer renders the subject that a message brings, or the name of its policy, as a Jinja
template, so whoever may write to its queue runs code where it runs. And a message names the file
that is its template. Here each message is read first, within bounds. c7n-mailer gets a copy, whose
subject is finished text, and whose other words are what Custodian's ``notify`` writes.

A message that isn't like that, or fails, stays in the queue, is named in one line, and stops no
other. The queue moves it to its dead letters after some tries.

c7n-mailer reports a notice that reaches nobody as sent; here it is an error. And nothing that is
logged quotes mailer.yml, which has passwords.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from jinja2 import TemplateError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from c7n_keyrot.cli.mailer_config import refusal
from c7n_keyrot.core.errors import CommandError
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
# Targets of `to` that aren't mail addresses, and need none, as c7n-mailer knows them.
TOPIC = "arn:aws:sns"
ELSEWHERE = (TOPIC, "https://hooks.slack.com/", "slack://", "datadog", "splunkhec://")
BY_MAIL_ADDRESS = "slack://owners"
# What c7n-mailer's error says before it quotes all of mailer.yml.
QUOTES = "mailer.yml:"


class Refused(Exception):
    """A message that ``notify`` doesn't write."""


def run(main: Callable[[], Any]) -> Any:
    """Run c7n-mailer's ``main``; return what it does, or 1 if a message was left in the queue.

    :raises CommandError: this c7n-mailer isn't one that can be used so.
    :raises SystemExit: its configuration can't be used; the text quotes nothing of it.
    :seam: c7n_mailer.cli:get_and_validate_mailer_config
    :seam: c7n_mailer.cli:get_processor
    :seam: c7n_mailer.email_delivery:EmailDelivery.get_emails_to_resources_map
    :seam: c7n_mailer.sqs_queue_processor:MailerSqsQueueProcessor.process_sqs_message
    :seam: c7n_mailer.sqs_queue_processor:MailerSqsQueueIterator.ack
    """
    try:
        mailer = _Mailer()
    except AttributeError as error:
        raise CommandError(f"this c7n-mailer isn't known ({error}); install 0.6.52") from None
    logger = logging.getLogger("custodian-mailer")
    with ExitStack() as stack:
        for owner, name, made in mailer.replacements():
            stack.enter_context(_replaced(owner, name, made))
        logger.addFilter(without_configuration)
        stack.callback(logger.removeFilter, without_configuration)
        code = main()
    return 1 if mailer.left else code


class _Mailer:
    """c7n-mailer's own functions, and those that take their places while it runs.

    :ivar left: the receipts of messages that stay in the queue.
    :raises AttributeError: one of the functions isn't where it was.
    """

    def __init__(self) -> None:
        from c7n_mailer import cli, email_delivery, sqs_queue_processor  # type: ignore[import-untyped]

        self._cli, self._queue = cli, sqs_queue_processor
        self._delivery = email_delivery.EmailDelivery
        self._process = self._queue.MailerSqsQueueProcessor.process_sqs_message
        self._ack = self._queue.MailerSqsQueueIterator.ack
        self._get_processor, self._read = cli.get_processor, cli.get_and_validate_mailer_config
        self._addressed = self._delivery.get_emails_to_resources_map
        self.left: set[str] = set()
        self._lost: list[str] = []  # what to log of the current message

    def replacements(self) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        """Yield what is replaced: where, its name, and by what."""

        # Methods of c7n-mailer's classes, whose first argument is theirs.
        def process(processor: Any, encoded: dict[str, Any]) -> None:
            self.process(processor, encoded)

        def ack(iterator: Any, message: dict[str, Any]) -> None:
            if message["ReceiptHandle"] not in self.left:
                self._ack(iterator, message)

        def addressed(delivery: Any, message: dict[str, Any]) -> Any:
            return self.addressed(delivery, message)

        yield self._queue.MailerSqsQueueProcessor, "process_sqs_message", process
        yield self._queue.MailerSqsQueueIterator, "ack", ack
        yield self._delivery, "get_emails_to_resources_map", addressed
        yield self._cli, "get_processor", self.get_processor
        yield self._cli, "get_and_validate_mailer_config", self.read

    def process(self, processor: Any, encoded: dict[str, Any]) -> None:
        """Have a message's notices sent; whatever goes wrong leaves it, and stops no other."""
        self._lost.clear()
        logger = processor.logger
        try:
            self._process(processor, {**encoded, "Body": cleaned(encoded["Body"], logger)})
        except Exception as error:
            # What Refused says is ours; another error might quote the configuration.
            why = one_line(error) if isinstance(error, Refused) else type(error).__name__
            self.left.add(encoded["ReceiptHandle"])
            logger.error("Message %s stays in the queue: %s", encoded["MessageId"], why)
            logger.debug("Message %s", encoded["MessageId"], exc_info=True)
        else:
            for line in self._lost:
                logger.error(line)

    def addressed(self, delivery: Any, message: dict[str, Any]) -> Any:
        """Return c7n-mailer's addresses of a message's users; keep who has none."""
        found = self._addressed(delivery, message)
        # Slack asks again for the same message.
        tags = delivery.config.get("contact_tags") or ()
        self._lost[:] = sent_to_nobody(message, found, tags)
        return found

    def get_processor(self, config: dict[str, Any], logger: logging.Logger) -> Any:
        """Return c7n-mailer's processor, which must be that of SQS."""
        made = self._get_processor(config, logger)
        if not isinstance(made, self._queue.MailerSqsQueueProcessor):
            raise SystemExit("c7n-keyrot mailer: reads SQS only; correct queue_url in mailer.yml")
        return made

    def read(self, args: Any) -> Any:
        """Return mailer.yml, whose words no error quotes."""
        try:
            return self._read(args)
        except OSError:
            raise  # it names the file, and quotes nothing
        except Exception as error:  # noqa: BLE001 - whatever it is, no word is quoted
            raise SystemExit(f"c7n-keyrot mailer: {refusal(error, args.config)}") from None


@contextmanager
def _replaced(owner: Any, name: str, made: Any) -> Iterator[None]:
    found = getattr(owner, name)
    setattr(owner, name, made)
    try:
        yield
    finally:
        setattr(owner, name, found)


def without_configuration(record: logging.LogRecord) -> bool:
    """Cut a record where c7n-mailer quotes mailer.yml; log it in any case."""
    text, quotes, _ = record.getMessage().partition(QUOTES)
    if quotes:
        record.msg, record.args = text.rstrip(), ()
    return True


def sent_to_nobody(
    message: Mapping[str, Any],
    found: Mapping[Any, Sequence[Any]],
    contact_tags: Sequence[str],
) -> Iterator[str]:
    """Yield one line about the users of a message whom no address was found for, if any.

    :param found: the users that c7n-mailer found addresses for, by these addresses.
    """
    action, users = message["action"], message["resources"]
    if any(to.startswith(ELSEWHERE) and to != BY_MAIL_ADDRESS for to in action["to"]):
        return
    reached = {id(user) for ones in found.values() for user in ones}
    without = [
        one_line(user.get("UserName") or user.get("Arn") or "one without a name", 200)
        for user in users
        if id(user) not in reached and not _has_topic(user, contact_tags)
    ]
    if without:
        more = f" and {len(without) - 10} more" if len(without) > 10 else ""
        yield (
            f"policy:{message['policy']['name']} account:{message.get('account') or ''} "
            f"sent to nobody for {len(without)} of {len(users)} users "
            f"({', '.join(without[:10])}{more}): no address was found; "
            "tag them as contact_tags says, or give the policy's notify an owner_absent_contact"
        )


def _has_topic(user: Mapping[str, Any], contact_tags: Sequence[str]) -> bool:
    """Tell whether a tag of the owner names a topic, which c7n-mailer sends to as well."""
    return any(
        tag["Key"] in contact_tags and str(tag["Value"]).startswith(TOPIC)
        for tag in user.get("Tags") or ()
    )


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
