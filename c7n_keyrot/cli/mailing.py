# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""c7n-mailer in this process: no notice is lost without a word, and nothing in a message is run.

c7n-mailer takes a message out of the queue whatever the mail server said. Here it goes only when
each of its mails was taken, or refused for good; a mail that was refused for good goes to the
policy's ``owner_absent_contact``. If some mails of a message wait, a message with these alone takes
its place, so that nobody gets the others twice. A message that fails stops no other; the queue
moves it to its dead letters after some tries. Whatever wasn't sent is logged, and the exit code is
1.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import signal
import socket
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from c7n_keyrot.cli import slack
from c7n_keyrot.cli.mail_server import TIMEOUT, MailServer, NotDeliveredError, Ses
from c7n_keyrot.cli.mail_text import compose
from c7n_keyrot.cli.mailer_config import refusal
from c7n_keyrot.cli.mailer_message import Refused, cleaned
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import counted, how_long, listed, one_line, utc

# Targets of `to` that aren't mail addresses, and need none, as c7n-mailer knows them.
TOPIC = "arn:aws:sns"
ELSEWHERE = (TOPIC, "https://hooks.slack.com/", "slack://", "datadog", "splunkhec://")
BY_MAIL_ADDRESS = "slack://owners"
# What c7n-mailer's error says before it quotes all of mailer.yml.
QUOTES = "mailer.yml:"
# What it says, as a warning, of a topic that took nothing.
OF_A_TOPIC = re.compile(r"Error policy:.* sending sns to ", re.DOTALL)
# Only what every mail server takes: SMTPUTF8 is rare, and a label alone is no domain.
ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}",
                     re.ASCII)  # fmt: skip
TRIES = "keyrot-tries"
MOST_TRIES = 20
# Seconds until what waits is seen again; not in this round, therefore.
DELAY = 600
# Seconds before the end of a message's invisibility at which it is renewed.
RENEW = 20
OLD = timedelta(days=1)


def run(main: Callable[[], Any]) -> Any:
    """Run c7n-mailer's ``main``; return what it does, or 1 if a notice didn't reach everybody.

    :raises CommandError: this c7n-mailer isn't one that can be used so.
    :raises SystemExit: its configuration or its mail server can't be used; the text quotes nothing.
    :seam: c7n_mailer.cli:get_and_validate_mailer_config
    :seam: c7n_mailer.cli:get_logger
    :seam: c7n_mailer.cli:get_processor
    :seam: c7n_mailer.email_delivery:EmailDelivery.get_emails_to_resources_map
    :seam: c7n_mailer.email_delivery:EmailDelivery.get_resource_owner_emails_from_resource
    :seam: c7n_mailer.email_delivery:EmailDelivery.send_c7n_email
    :seam: c7n_mailer.slack_delivery:SlackDelivery.get_to_addrs_slack_messages_map
    :seam: c7n_mailer.slack_delivery:SlackDelivery.retrieve_user_im
    :seam: c7n_mailer.slack_delivery:SlackDelivery.slack_handler
    :seam: c7n_mailer.sqs_queue_processor:MailerSqsQueueIterator.__next__
    :seam: c7n_mailer.utils:get_jinja_env
    :seam: c7n_mailer.sqs_queue_processor:MailerSqsQueueIterator.ack
    :seam: c7n_mailer.sqs_queue_processor:MailerSqsQueueProcessor.process_sqs_message
    """
    try:
        mailer = _Mailer()
    except AttributeError as error:
        raise CommandError(f"this c7n-mailer isn't known ({error}); install 0.6.52") from None
    with ExitStack() as stack:
        for owner, name, made in mailer.replacements():
            stack.enter_context(_replaced(owner, name, made))
        mailer.logger.addFilter(mailer.without_configuration)
        stack.callback(mailer.logger.removeFilter, mailer.without_configuration)
        stack.enter_context(mailer.interruptible())
        # Of LDAP, which c7n-mailer gives none.
        stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
        socket.setdefaulttimeout(TIMEOUT)
        code = main()
    return mailer.end() or code


class _Mailer:
    """c7n-mailer's own functions, and those that take their places while it runs.

    :raises AttributeError: one of the functions isn't where it was.
    """

    def __init__(self) -> None:
        from c7n_mailer import (  # type: ignore[import-untyped]
            cli,
            email_delivery,
            slack_delivery,
            sqs_queue_processor,
            utils,
        )

        self._cli, self._queue, self._utils = cli, sqs_queue_processor, utils
        self._delivery, self._slack = email_delivery.EmailDelivery, slack_delivery.SlackDelivery
        self._process = self._queue.MailerSqsQueueProcessor.process_sqs_message
        self._ack = self._queue.MailerSqsQueueIterator.ack
        self._get_processor, self._read = cli.get_processor, cli.get_and_validate_mailer_config
        self._get_logger = cli.get_logger
        self._get_env = utils.get_jinja_env
        self._envs: dict[tuple[str, ...], Any] = {}
        self._addressed = self._delivery.get_emails_to_resources_map
        self._owners = self._delivery.get_resource_owner_emails_from_resource
        self._send = self._delivery.send_c7n_email
        self._slack_messages = self._slack.get_to_addrs_slack_messages_map
        self.logger = logging.getLogger("custodian-mailer")
        self._server: MailServer | Ses | None = None
        self._sqs: Any = None
        self._queue_url = ""
        self._left: set[str] = set()  # ids of messages that stay in the queue
        self._sent: set[tuple[str, tuple[str, ...]]] = set()  # by message and addresses
        self._waiting: Counter[str] = Counter()  # notices that wait, by why
        self._errors = 0
        self._out = self._busy = self._stopped = False
        # Of the current message.
        self._message: dict[str, Any] = {}
        self._until = 0.0  # until then no other mailer sees it
        self._lost: list[str] = []
        self._ownerless: set[int] = set()
        self._mailed = self._quoted = self._slack_failed = False

    def replacements(self) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        """Yield what is replaced: where, its name, and by what."""
        yield self._queue.MailerSqsQueueProcessor, "process_sqs_message", _method(self.process)
        yield self._queue.MailerSqsQueueIterator, "ack", _method(self.ack)
        yield self._queue.MailerSqsQueueIterator, "__next__", _method(self.next)
        yield self._delivery, "get_emails_to_resources_map", _method(self.addressed)
        yield self._delivery, "get_resource_owner_emails_from_resource", _method(self.owners)
        yield self._delivery, "send_c7n_email", _method(self.send)
        yield self._slack, "get_to_addrs_slack_messages_map", _method(self.slack_messages)
        yield self._slack, "retrieve_user_im", _method(self.slack_users)
        yield self._slack, "slack_handler", _method(self.slack_send)
        yield self._cli, "get_processor", self.get_processor
        yield self._cli, "get_logger", self.get_logger
        yield self._utils, "get_jinja_env", self.get_env
        yield self._cli, "get_and_validate_mailer_config", self.read

    # The program

    def read(self, args: Any) -> Any:
        """Return mailer.yml, whose words no error quotes."""
        if getattr(args, "max_num_processes", None):
            raise SystemExit(
                "c7n-keyrot mailer: with --max-num-processes c7n-mailer loses every notice; leave "
                "it out"
            )
        try:
            return self._read(args)
        except OSError:
            raise  # it names the file, and quotes nothing
        except Exception as error:  # noqa: BLE001 - whatever it is, no word is quoted
            raise SystemExit(f"c7n-keyrot mailer: {refusal(error, args.config)}") from None

    def get_logger(self, debug: bool = False) -> Any:
        """Return c7n-mailer's logger; with --debug botocore would log credentials."""
        logger = self._get_logger(debug=debug)
        logging.getLogger("botocore").setLevel(logging.WARNING)
        return logger

    def get_env(self, folders: Sequence[str]) -> Any:
        """Return c7n-mailer's environment of templates; it would compile them for each mail."""
        place = tuple(folders)
        if place not in self._envs:
            self._envs[place] = self._get_env(folders)
        return self._envs[place]

    def get_processor(self, config: dict[str, Any], logger: logging.Logger) -> Any:
        """Return c7n-mailer's processor, which must be that of SQS, once mails can be sent.

        :raises SystemExit: it reads another queue, or its mail server can't be used.
        """
        made = self._get_processor(config, logger)
        if not isinstance(made, self._queue.MailerSqsQueueProcessor):
            raise SystemExit("c7n-keyrot mailer: reads SQS only; correct queue_url in mailer.yml")
        self._queue_url = made.receive_queue
        self._sqs = made.session.client("sqs", endpoint_url=made.endpoint_url)
        if "smtp_server" in config:
            from c7n_mailer.utils import decrypt  # type: ignore[import-untyped]

            password = decrypt(config, logger, made.session, "smtp_password")
            self._server = MailServer(config, password)
            try:
                self._server.connect()
            except NotDeliveredError as error:
                raise SystemExit(
                    f"c7n-keyrot mailer: {error}. Nothing was taken out of the queue; "
                    f"{self._in_the_queue()} in it"
                ) from None
        return made

    def _in_the_queue(self) -> str:
        try:
            names = ["ApproximateNumberOfMessages"]
            found = self._sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=names)
            number = int(found["Attributes"][names[0]])
        except (BotoCoreError, ClientError, KeyError, ValueError):
            return "it isn't known how many notices are"
        return f"about {counted(number, 'message')} {'is' if number == 1 else 'are'}"

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C, or a signal to end, wait for the mails of the current message."""

        def stop(_: int, __: Any) -> None:
            if not self._busy or self._stopped:
                raise KeyboardInterrupt
            self._stopped = True
            self.logger.warning("Ends after the current message; again: ends at once")

        kept = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                kept[number] = signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
            if self._server is not None:
                self._server.close()

    def end(self) -> int:
        """Log what waits; return the exit code."""
        for why, number in self._waiting.most_common():
            self.logger.error("%s wait in the queue: %s", counted(number, "notice"), why)
        return 1 if self._errors or self._waiting or self._left else 0

    def without_configuration(self, record: logging.LogRecord) -> bool:
        """Cut a record where c7n-mailer quotes mailer.yml; log it in any case."""
        text = record.getMessage()
        cut, quotes, _ = text.partition(QUOTES)
        if quotes:
            self._quoted = True
            record.msg, record.args = cut.rstrip(), ()
        elif OF_A_TOPIC.match(text):
            self._errors += 1
            record.levelno, record.levelname = logging.ERROR, "ERROR"
        return True

    # The queue

    def next(self, iterator: Any) -> dict[str, Any]:
        """Return the next message: one at a time, so that none is held while another is sent."""
        while not (self._out or self._stopped):
            asked = time.monotonic()
            answer = iterator.aws_sqs.receive_message(
                QueueUrl=iterator.queue_url,
                WaitTimeSeconds=iterator.timeout,
                MaxNumberOfMessages=1,
                MessageAttributeNames=[*iterator.msg_attributes, TRIES],
                AttributeNames=["SentTimestamp"],
            )
            found = answer.get("Messages") or []
            if not found:
                break
            # A queue's usual time is 30 seconds; more is renewed too early, which is no harm.
            self._until = asked + 30
            message: dict[str, Any] = found[0]
            if message["MessageId"] not in self._left:
                return message
        raise StopIteration

    def ack(self, iterator: Any, message: dict[str, Any]) -> None:
        """Take a message out of the queue, unless it has to stay."""
        if message["MessageId"] not in self._left:
            self._ack(iterator, message)

    def process(self, processor: Any, encoded: dict[str, Any]) -> None:
        """Have a message's notices sent; whatever goes wrong leaves it, and stops no other."""
        self._message = encoded
        self._mailed = self._quoted = self._slack_failed = False
        self._lost, self._ownerless = [], set()
        self._busy = True
        try:
            self._process(processor, {**encoded, "Body": cleaned(encoded["Body"], self.logger)})
            if self._quoted:
                raise NotDeliveredError("the mail service refused it")
            if self._slack_failed and not self._mailed:
                raise NotDeliveredError(self._lost.pop())
        except NotDeliveredError as error:
            self._leave(str(error))
            self._waiting[str(error)] += 1
        except Exception as error:
            # What Refused says is ours; another error might quote the configuration.
            self._leave(one_line(error) if isinstance(error, Refused) else type(error).__name__)
            self.logger.debug("Message %s", encoded["MessageId"], exc_info=True)
        finally:
            self._busy = False
        self._errors += len(self._lost)
        for line in self._lost:
            self.logger.error(line)

    def _leave(self, why: str) -> None:
        self._left.add(self._message["MessageId"])
        self.logger.error("Message %s stays in the queue: %s", self._message["MessageId"], why)

    def _renew(self) -> None:
        """Keep the current message from other mailers while its mails are sent."""
        if time.monotonic() < self._until - RENEW:
            return
        try:
            self._sqs.change_message_visibility(
                QueueUrl=self._queue_url,
                ReceiptHandle=self._message["ReceiptHandle"],
                VisibilityTimeout=300,
            )
        except (BotoCoreError, ClientError):
            self.logger.debug("Message %s can't be renewed", self._message["MessageId"])
        self._until = time.monotonic() + 300

    # Mails

    def addressed(self, delivery: Any, message: dict[str, Any]) -> Any:
        """Return c7n-mailer's addresses of a message's users; keep who has none."""
        if delivery.ldap_lookup is not None and not delivery.ldap_lookup.connection:
            raise NotDeliveredError("the LDAP server doesn't answer")
        found = self._addressed(delivery, message)
        # Slack asks again for the same message.
        tags = delivery.config.get("contact_tags") or ()
        lines = sent_to_nobody(message, found, tags)
        self._lost += [line for line in lines if line not in self._lost]
        return found

    def owners(self, delivery: Any, message: dict[str, Any], user: dict[str, Any]) -> list[str]:
        """Return the addresses of a user's owner that a mail server can take."""
        try:
            found = self._owners(delivery, message, user)
        except Exception as error:  # noqa: BLE001 - such as an odd entry of LDAP
            self.logger.warning(
                "user %s: the owner can't be looked up (%s)",
                one_line(user.get("UserName"), 200),
                type(error).__name__,
            )
            found = []
        good = [one for one in found if isinstance(one, str) and ADDRESS.fullmatch(one)]
        if len(good) < len(found):
            self.logger.warning(
                "user %s: an owner's tag has no mail address",
                one_line(user.get("UserName"), 200),
            )
        if not good and "resource-owner" in message["action"].get("to", ()):
            self._ownerless.add(id(user))
        return good

    def send(self, delivery: Any, message: dict[str, Any]) -> None:
        """Send each mail of a message.

        :raises NotDeliveredError: none was taken, or what waits can't be put back alone.
        """
        server = self._server
        if server is None:
            others = ("sendgrid_api_key", "graph_sendmail_endpoint")
            if any(delivery.config.get(name) for name in others):
                self._mailed = True
                self._send(delivery, message)  # its own error quotes mailer.yml
                return
            server = self._server = Ses(delivery.aws_ses)
        waiting: list[Any] = []
        reached: list[tuple[str, ...]] = []
        why = ""
        for to, users in delivery.get_emails_to_resources_map(message).items():
            self._renew()
            try:
                if self._out:
                    raise NotDeliveredError(why)
                reached.append(self._one(server, delivery, message, to, users))
            except NotDeliveredError as error:
                why = str(error)
                self._out |= error.is_out
                waiting += users
        self._mailed = bool(reached)
        if waiting and not (reached and self._put_back(message, waiting, why)):
            raise NotDeliveredError(why)
        self.logger.info(
            "Sent account:%s policy:%s %s:%s email:%s to %s",
            message.get("account", ""),
            message["policy"]["name"],
            message["policy"]["resource"],
            len(message["resources"]),
            message["action"].get("template", "default"),
            reached,
        )

    def _one(
        self,
        server: MailServer | Ses,
        delivery: Any,
        message: dict[str, Any],
        to: tuple[str, ...],
        users: Sequence[dict[str, Any]],
    ) -> tuple[str, ...]:
        """Send one mail; return who got it. What is refused for good goes to the contact."""
        place = (self._message["MessageId"], to)
        if place in self._sent:
            return to
        contacts = delivery.get_valid_emails_from_list(
            message["action"].get("owner_absent_contact", [])
        )
        notes = [*_old(message), *self._without_owner(users, to, contacts)]
        refused = self._handed(server, delivery, message, to, users, notes)
        got = tuple(one for one in to if one not in refused)
        if refused:
            said = ", ".join(f"{one_line(a, 100)} ({code})" for a, code in refused.items())
            others = [one for one in contacts if one not in refused and one not in got]
            note = (
                f"The mail server doesn't take mails for {said}. Correct the address of the owner."
            )
            if others:
                refused = self._handed(server, delivery, message, others, users, [*notes, note])
                got += tuple(one for one in others if one not in refused)
            if not got:
                names = listed([str(user.get("UserName")) for user in users])
                self._lost.append(f"nobody has the notice about {names}: refused: {said}")
            else:
                self.logger.warning("refused: %s; %s got it", said, ", ".join(got))
        self._sent.add(place)
        return got

    def _handed(
        self,
        server: MailServer | Ses,
        delivery: Any,
        message: dict[str, Any],
        to: Sequence[str],
        users: Sequence[dict[str, Any]],
        notes: Sequence[str],
    ) -> dict[str, str]:
        mail = compose(delivery, message, users, to, notes)
        return server.send(str(mail["From"]), to, mail)

    def _without_owner(
        self, users: Sequence[dict[str, Any]], to: Sequence[str], contacts: Sequence[str]
    ) -> Iterator[str]:
        names = [str(user.get("UserName")) for user in users if id(user) in self._ownerless]
        if names and any(one in to for one in contacts):
            yield (
                f"No mail address of an owner was found for {listed(names)}: the tag is missing, "
                "or is no address. Correct it, so that the owner gets these notices."
            )

    def _put_back(self, message: Mapping[str, Any], users: Sequence[Any], why: str) -> bool:
        """Put a message with these users alone into the queue; tell whether that worked."""
        attributes = self._message.get("MessageAttributes") or {}
        tries = str((attributes.get(TRIES) or {}).get("StringValue", ""))
        number = int(tries) + 1 if tries.isascii() and tries.isdigit() else 1
        rest = json.dumps({**message, "resources": list(users)})
        if number > MOST_TRIES:
            return False
        try:
            self._sqs.send_message(
                QueueUrl=self._queue_url,
                MessageBody=base64.b64encode(zlib.compress(rest.encode())).decode(),
                DelaySeconds=DELAY,
                MessageAttributes={
                    "mtype": {"DataType": "String", "StringValue": "maidmsg/1.0"},
                    TRIES: {"DataType": "String", "StringValue": str(number)},
                },
            )
        except (BotoCoreError, ClientError) as error:
            self.logger.warning(
                "Message %s: its other mails may be sent twice, since what waits can't be put "
                "back alone (%s); allow sqs:SendMessage",
                self._message["MessageId"],
                type(error).__name__,
            )
            return False
        self._waiting[why] += 1
        return True

    # Slack

    def slack_messages(self, delivery: Any, message: dict[str, Any]) -> Any:
        """Return c7n-mailer's messages for Slack; one that can't be made is lost, and said."""
        try:
            return self._slack_messages(delivery, message)
        except Exception as error:  # noqa: BLE001 - the mails went out already
            self._no_slack(f"messages can't be made ({type(error).__name__})")
            return {}

    def slack_users(self, delivery: Any, addresses: Sequence[str]) -> dict[str, str]:
        """Return the Slack users of mail addresses."""
        found: dict[str, str] = {}
        for address in addresses:
            known = delivery.caching.get(address) if delivery.caching else None
            try:
                known = known or slack.user_of(address, delivery.config.get("slack_token"))
            except slack.SlackError as error:
                self._no_slack(f"the user of {one_line(address)} isn't known: {error}")
                continue
            if known is None:
                self.logger.warning("Slack: no user has the address %s", one_line(address))
                continue
            if delivery.caching:
                delivery.caching.set(address, known)
            found[address] = known
        return found

    def slack_send(self, delivery: Any, message: dict[str, Any], messages: dict[str, str]) -> None:
        """Send messages to Slack."""
        for target, payload in messages.items():
            name = "a webhook" if target.startswith(slack.HOOK) else one_line(target, 100)
            try:
                slack.post(target, payload.encode(), delivery.config.get("slack_token"))
            except slack.SlackError as error:
                self._no_slack(f"{name} didn't get a message: {error}")
            else:
                self._mailed = True
                self.logger.info("Sent policy:%s slack to %s", message["policy"]["name"], name)

    def _no_slack(self, what: str) -> None:
        self._slack_failed = True
        self._lost.append(f"Slack: {what}")


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that a class takes for a method: its first argument is the instance."""

    def method(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return method


def _old(message: Mapping[str, Any]) -> Iterator[str]:
    """Say it of a notice that has waited, since what it says may not be true any more."""
    began = message.get("execution_start")
    if isinstance(began, int | float) and 0 < began < 1e11:
        age = datetime.now(timezone.utc) - datetime.fromtimestamp(began, timezone.utc)
        if age > OLD:
            yield (
                f"This notice is {how_long(age)} old: it was written at {utc(began)}. The key may "
                "have changed since."
            )


@contextmanager
def _replaced(owner: Any, name: str, made: Any) -> Iterator[None]:
    found = getattr(owner, name)
    setattr(owner, name, made)
    try:
        yield
    finally:
        setattr(owner, name, found)


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
