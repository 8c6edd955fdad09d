# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Hands single mails to a mail server, or to SES, and says what became of each address."""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from email.utils import getaddresses
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

# Seconds for each answer of the server.
TIMEOUT = 60
SMTPS = 465
# Refusals that are of the sender, its login or its network, though their first digit is a 5.
OF_THE_SENDER = (530, 534, 535, 538)
POLICY = re.compile(rb"\s*5\.7\.")
# What SES says of an address. All else, such as a sender that isn't verified, may pass.
SES_ADDRESS = "InvalidParameterValue"
# With these no other mail will go out either.
SES_OUT = re.compile("Throttl|Paused|AccessDenied|Token|Signature|Unrecognized|Expired|NotFound")

Answer = TypeVar("Answer")
Refusals = dict[str, str]


class NotDeliveredError(Exception):
    """A mail was not taken, for a reason that may pass; the text is one line.

    :ivar is_out: the server takes no mail at all, so that others needn't be tried.
    """

    def __init__(self, text: str, is_out: bool = False) -> None:
        super().__init__(text)
        self.is_out = is_out


class MailServer:
    """A connection to the server that mailer.yml names, kept for all mails.

    :param config: mailer.yml; ``smtp_ssl`` is STARTTLS, and TLS from the first byte on port 465.
    """

    def __init__(self, config: Mapping[str, Any], password: str | None) -> None:
        self._host, self._port = str(config["smtp_server"]), int(config.get("smtp_port", 25))
        self._tls = bool(config.get("smtp_ssl", True))
        self._user, self._password = config.get("smtp_username"), password
        self._connection: smtplib.SMTP | None = None
        self.name = f"{self._host}:{self._port}"

    def connect(self) -> None:
        """Connect and log in, unless that is done.

        The server must prove its name by a certificate; ``SSL_CERT_FILE`` names that of a private
        authority.

        :raises NotDeliveredError: the server can't be used now.
        """
        if self._connection is not None:
            return
        connection = self._step("a connection", self._opened)
        try:
            if self._tls and self._port != SMTPS:
                self._step("STARTTLS", lambda: connection.starttls(context=_trusted()))
            self._step("a greeting", connection.ehlo_or_helo_if_needed)
            if self._user or self._password:
                user, password = self._user or "", self._password or ""
                self._step("the login", lambda: connection.login(user, password))
        except NotDeliveredError:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """End the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.quit()
            except (smtplib.SMTPException, OSError):
                connection.close()

    def send(self, sender: str, to: Sequence[str], mail: Message) -> Refusals:
        """Hand over a mail.

        :returns: the addresses that the server refused for good, and its code. The others have it.
        :raises NotDeliveredError: nobody has it.
        """
        self._wake()
        code = self._command("the sender", lambda smtp: smtp.mail(sender))[0]
        if code != 250:
            raise self._no("the sender", code)
        refused: Refusals = {}
        for address in to:
            code, text = self._recipient(address)
            if code in (250, 251):
                continue
            if not 500 <= code < 600 or code in OF_THE_SENDER or POLICY.match(text):
                raise self._no("an address", code)
            refused[address] = str(code)
        if len(refused) == len(to):
            self._command("a reset", lambda smtp: smtp.rset())
            return refused
        code = self._command("the mail", lambda smtp: smtp.data(mail.as_string()))[0]
        if code != 250:
            raise self._no("the mail", code)
        return refused

    def _recipient(self, address: str) -> tuple[int, bytes]:
        return self._command("an address", lambda smtp: smtp.rcpt(address))

    def _opened(self) -> smtplib.SMTP:
        if self._tls and self._port == SMTPS:
            return smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT, context=_trusted())
        return smtplib.SMTP(self._host, self._port, timeout=TIMEOUT)

    def _wake(self) -> None:
        """Connect again if the server has ended the connection meanwhile."""
        if self._connection is not None:
            try:
                if self._connection.noop()[0] == 250:
                    return
            except (smtplib.SMTPException, OSError):
                pass
            self.close()
        self.connect()

    def _no(self, what: str, code: int) -> NotDeliveredError:
        """Return the error of one mail; the next one begins on a connection of its own."""
        self.close()
        return NotDeliveredError(f"{self.name} refused {what} ({code})", is_out=code == 421)

    def _command(
        self, what: str, call: Callable[[smtplib.SMTP], tuple[int, bytes]]
    ) -> tuple[int, bytes]:
        connection = self._connection
        if connection is None:
            raise NotDeliveredError(f"{self.name} ended the connection", is_out=True)
        try:
            return self._step(what, lambda: call(connection))
        except NotDeliveredError:
            self.close()
            raise

    def _step(self, what: str, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except smtplib.SMTPResponseException as error:
            # Its text may quote what was sent, a user's name or an address.
            raise NotDeliveredError(
                f"{self.name} refused {what} ({error.smtp_code})", is_out=what != "the mail"
            ) from None
        except smtplib.SMTPNotSupportedError:
            raise NotDeliveredError(f"{self.name} doesn't offer {what}", is_out=True) from None
        except smtplib.SMTPException as error:
            late = isinstance(error.__context__, TimeoutError)
            how = f"didn't answer {what} in {TIMEOUT} seconds" if late else f"ended {what}"
            raise NotDeliveredError(f"{self.name} {how}", is_out=True) from None
        except ssl.SSLCertVerificationError as error:
            raise NotDeliveredError(
                f"{self.name} has a certificate that isn't trusted ({error.verify_message}); "
                "SSL_CERT_FILE may name that of your authority",
                is_out=True,
            ) from None
        except TimeoutError:
            raise NotDeliveredError(
                f"{self.name} didn't answer {what} in {TIMEOUT} seconds", is_out=True
            ) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise NotDeliveredError(f"{self.name}: {what}: {why}", is_out=True) from None
        except UnicodeError:
            raise NotDeliveredError(f"{self.name}: {what} isn't ASCII") from None


def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


class Ses:
    """Amazon SES, as c7n-mailer has set it up."""

    name = "SES"

    def __init__(self, client: Any) -> None:
        self._client = client

    def connect(self) -> None:
        """Do nothing: each mail is a call of its own."""

    def close(self) -> None:
        """Do nothing."""

    def send(self, sender: str, to: Sequence[str], mail: Message) -> Refusals:
        """Hand over a mail, as ``MailServer.send`` does."""
        try:
            # Without Destinations it goes to all whom its headers name, as c7n-mailer does it.
            named = getaddresses([str(mail[name]) for name in ("To", "Cc") if mail[name]])
            is_whole = {address for _, address in named} == set(to)
            only = {} if is_whole else {"Destinations": list(to)}
            self._client.send_raw_email(RawMessage={"Data": mail.as_bytes()}, **only)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code") or "no code")
            if code != SES_ADDRESS:
                raise NotDeliveredError(
                    f"SES answered {code}", is_out=bool(SES_OUT.search(code))
                ) from None
            if len(to) == 1:
                return {to[0]: code}
            refused: Refusals = {}
            for address in to:  # so that the others get it
                refused |= self.send(sender, [address], mail)
            return refused
        except BotoCoreError as error:
            raise NotDeliveredError(f"SES: {type(error).__name__}", is_out=True) from None
        return {}
