# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the error of a call to AWS means, in one class and one clean line."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from enum import Enum
from json import JSONDecodeError
from typing import Any

from boto3.exceptions import Boto3Error
from botocore import exceptions as aws
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from c7n_keyrot.core import denials
from c7n_keyrot.core.text import one_line

DENIED = frozenset(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"))
THROTTLED = frozenset(
    (
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "LimitExceeded",
    )
)
# With these credentials AWS refuses every call.
REFUSED = frozenset(
    (
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    )
)

# Calls without any effect.
READS = re.compile(r"\w+:(Get|List|Lookup|Simulate)")


class ErrorKind(str, Enum):
    """What a failed call means."""

    DENIED = "denied"
    GONE = "gone"
    THROTTLED = "throttled"
    NOT_AWS = "not AWS"
    NO_ANSWER = "no answer"
    OUTAGE = "outage"
    CREDENTIALS = "credentials"
    OTHER = "other"


class CallError(Exception):
    """A call that failed: by an error of AWS, by no answer, or by an answer that isn't AWS's.

    ``call`` is such as ``iam:GetUser``; ``code`` is AWS's code, or the class of what went wrong;
    ``reason`` is AWS's code, with the kind of policy that denied the call if that isn't the
    caller's own, or a few words where AWS gave no code; ``lost`` says that one of the
    tries may have taken effect, and nobody heard the answer: never so of a call that only reads.
    The text is one clean line.
    """

    def __init__(
        self, call: str, kind: ErrorKind, code: str, reason: str, lost: bool = False
    ) -> None:
        verb = "is denied" if kind is ErrorKind.DENIED else "failed"
        super().__init__(f"{call} {verb} ({reason})")
        self.call, self.kind, self.code, self.reason = call, kind, code, reason
        self.lost = lost and READS.match(call) is None

    @property
    def denied(self) -> bool:
        return self.kind is ErrorKind.DENIED

    @property
    def gone(self) -> bool:
        """The user, key or role that was named doesn't exist."""
        return self.kind is ErrorKind.GONE


class NotAwsError(HTTPClientError):
    """Something that isn't AWS answered; botocore retries it like a connection that broke."""

    fmt = "something that isn't AWS answered ({what}): check the proxy"


class OutageError(Exception):
    """AWS has not answered any call for so long that going on makes no sense."""


def explained(name: str, error: Exception, lost: bool = False) -> CallError:
    """Say what an error means; see ``CallError``."""
    if isinstance(error, Boto3Error) and isinstance(error.__context__, Exception):
        error = error.__context__  # an upload's error quotes the one that it is about
    lost |= may_have_arrived(error)
    if isinstance(error, ClientError):
        return _answered(name, error, lost)
    code = type(error).__name__
    if isinstance(error, OutageError):
        return CallError(name, ErrorKind.OUTAGE, code, str(error), lost)
    if isinstance(error, NotAwsError):
        return CallError(name, ErrorKind.NOT_AWS, code, str(error), lost)
    if isinstance(error, (HTTPClientError, aws.ConnectionError)):
        what = next((text for known, text in NETWORK if isinstance(error, known)), "no answer")
        return CallError(name, ErrorKind.NO_ANSWER, code, f"{code}: {what}", lost)
    if isinstance(error, QUOTING):
        provider = one_line(error.kwargs.get("provider", "the local credential provider"), 40)
        return CallError(
            name, ErrorKind.CREDENTIALS, code, f"{code}: {provider} gave no credentials", lost
        )
    if isinstance(error, BotoCoreError):
        kind = ErrorKind.CREDENTIALS if isinstance(error, NO_CREDENTIALS) else ErrorKind.OTHER
        return CallError(name, kind, code, f"{code}: {one_line(error)}", lost)
    what = _of_credentials(error)
    if what:
        return CallError(name, ErrorKind.CREDENTIALS, code, f"{code}: {what}")
    # Such as Custodian's own call for a role's credentials, which doesn't go through the gate.
    strange = NotAwsError(what=f"an answer that can't be read, {code}")
    return CallError(name, ErrorKind.NOT_AWS, code, str(strange), lost)


def _answered(name: str, error: ClientError, lost: bool) -> CallError:
    """Say what an error of AWS means."""
    code = reason = one_line(_code_of(error) or "no code", 64)
    if code in DENIED:
        kind = ErrorKind.DENIED
        said = denials.said_of(one_line(_said(error).get("Message"), 2000))
        reason += said and f": {said}"
    elif code in THROTTLED:
        kind = ErrorKind.THROTTLED
    elif code in REFUSED:
        kind = ErrorKind.CREDENTIALS
    else:
        kind = ErrorKind.GONE if code == "NoSuchEntity" else ErrorKind.OTHER
    # The profile's own call for a role comes before the one that was asked for.
    if getattr(error, "operation_name", "") == "AssumeRole":
        name = "sts:AssumeRole"
    return CallError(name, kind, code, reason, lost)


def code_of_json(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the code of an error of a service that speaks JSON; "" if it isn't AWS's."""
    named = re.search(rb'"__type"\s*:\s*"(?:[^"#]*#)?([^"]*)"', body)
    if named:
        return named[1].decode("ascii", "replace")
    return headers.get("x-amzn-errortype", "").partition(":")[0]


def _said(error: ClientError) -> dict[str, Any]:
    answer = error.response if isinstance(error.response, dict) else {}
    return dict(answer.get("Error") or {})


def _code_of(error: ClientError) -> str:
    return str(_said(error).get("Code") or "")


# These never reached AWS.
NOT_SENT = (
    aws.EndpointConnectionError,
    aws.ConnectTimeoutError,
    aws.ProxyConnectionError,
    aws.SSLError,
    OutageError,
)
# Our own words: botocore's quote what was received.
NETWORK = (
    (aws.ReadTimeoutError, "no answer in time"),
    (aws.ConnectTimeoutError, "no connection in time"),
    (aws.ProxyConnectionError, "the proxy can't be reached"),
    (aws.SSLError, "the TLS certificate isn't accepted"),
    (aws.EndpointConnectionError, "no connection"),
    (aws.ConnectionClosedError, "the connection broke"),
)


# Their text is what a program printed, or the body of an answer.
QUOTING = (aws.CredentialRetrievalError, aws.MetadataRetrievalError, aws.TokenRetrievalError)
NO_CREDENTIALS = (
    aws.InfiniteLoopConfigError,
    aws.InvalidConfigError,
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.ProfileNotFound,
    aws.RefreshWithMFAUnsupportedError,
    getattr(aws, "LoginError", aws.SSOError),  # of newer versions
    aws.SSOError,
    aws.UnknownCredentialError,
)
# What botocore lets pass when it looks for credentials. None of them is of the network.
LOCAL = (
    (EOFError, "the profile asks for an MFA code, and there is no terminal to type it"),
    (FileNotFoundError, "a program or file that should give the credentials doesn't exist"),
    ((PermissionError, NotADirectoryError), "what should give the credentials can't be run"),
    (JSONDecodeError, "what a program gave as credentials isn't JSON"),
)


def _of_credentials(error: Exception) -> str:
    """Say why the machine has no credentials; "" for an error of something else."""
    if type(error) is OSError and error.errno == errno.ENOEXEC:
        error = PermissionError()
    return next((text for known, text in LOCAL if isinstance(error, known)), "")


def may_have_arrived(error: Exception) -> bool:
    """Tell whether a try that ended so may have taken effect."""
    if isinstance(error, ClientError):
        metadata: dict[str, Any] = dict(error.response.get("ResponseMetadata") or {})
        return metadata.get("HTTPStatusCode", 0) >= 500 and _code_of(error) not in THROTTLED
    if isinstance(error, BotoCoreError):
        return isinstance(error, (HTTPClientError, aws.ConnectionError)) and not isinstance(
            error, NOT_SENT
        )
    return not (isinstance(error, OutageError) or _of_credentials(error))
