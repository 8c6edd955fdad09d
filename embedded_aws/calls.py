# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A call as it arrives, and the errors that AWS answers with."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

from moto.utilities.utils import get_partition

# The HTTP status of AWS's errors; all others are a 400.
STATUS = {
    "AccessDenied": 403,
    "AccessDeniedException": 403,
    "ExpiredToken": 403,
    "InvalidClientTokenId": 403,
    "SignatureDoesNotMatch": 403,
    "NoSuchEntity": 404,
    "ReportInProgress": 404,
    "LimitExceeded": 409,
    "ReportExpired": 410,
    "ReportNotPresent": 410,
    "InternalFailure": 500,
    "ServiceFailure": 500,
    "ServiceUnavailable": 503,
    "RequestLimitExceeded": 503,
}
MESSAGES = {
    "Throttling": "Rate exceeded",
    "ThrottlingException": "Rate exceeded",
    "ExpiredToken": "The security token included in the request is expired",
    "InvalidClientTokenId": "The security token included in the request is invalid.",
    "ReportInProgress": "Report generation in progress",
    "ReportExpired": "Report expired",
    "ReportNotPresent": "Credential report not present",
}
NAMESPACES = {
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}

# Status line, headers, body.
Answer = tuple[str, list[tuple[str, str]], bytes]


@dataclass(frozen=True)
class Call:
    """A call as it arrived. `user` is the IAM user it is about, also if only a key is named."""

    time: float
    account: str
    action: str  # iam.GetUser
    params: dict[str, Any]
    user: str | None
    principal: str  # the access key id that signed it
    region: str  # that it was signed for


def status_line(status: int) -> str:
    """Return a status line, such as "404 Not Found"."""
    known = {member.value: member.phrase for member in HTTPStatus}
    return f"{status} {known.get(status, 'Unknown')}"


def error_answer(
    environ: Mapping[str, Any],
    call: Call,
    code: str,
    status: int | None = None,
    message: str | None = None,
) -> Answer:
    """Return an error as AWS words it, in the protocol of the call."""
    number = status or STATUS.get(code, 400)
    text = message or MESSAGES.get(code)
    if text is None and code.startswith("AccessDenied"):
        wanted = call.action.replace(".", ":", 1)
        administrator = f"arn:{get_partition(call.region)}:iam::{call.account}:user/administrator"
        text = (
            f"User: {administrator} is not authorized to perform: {wanted} because no"
            f" identity-based policy allows the {wanted} action"
        )
    text = text or f"An injected {code}"
    line, request_id = status_line(number), str(uuid.uuid4())
    if "HTTP_X_AMZ_TARGET" in environ:
        answer = json.dumps({"__type": f"com.amazonaws#{code}", "message": text}).encode()
        headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-RequestId", request_id)]
        return line, headers, answer
    side = "Receiver" if number >= 500 else "Sender"
    namespace = NAMESPACES.get(call.action.split(".")[0])
    xmlns = f' xmlns="{namespace}"' if namespace else ""
    xml = (
        f"<ErrorResponse{xmlns}><Error><Type>{side}</Type><Code>{escape(code)}</Code>"
        f"<Message>{escape(text)}</Message></Error><RequestId>{request_id}</RequestId>"
        "</ErrorResponse>"
    )
    return line, [("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)], xml.encode()
