# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers that aren't AWS's: what a proxy, a captive portal or a broken line sends instead.

``aws.answer("iam.GetUser", HTML_PAGE, status=407)`` sends one of them. Only those made from the
real answer have AWS's header (x-amzn-requestid), since its head has arrived whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from embedded_aws.calls import Answer, status_line


@dataclass(frozen=True)
class Foreign:
    """An answer in place of AWS's.

    body: its bytes or, for an answer that AWS did send, what makes them from the real ones.
    status: by default 200 or, for an answer that AWS did send, its own.
    torn: Content-Length promises the whole real answer, but the connection ends after the body.
    """

    body: bytes | Callable[[bytes], bytes]
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    torn: bool = False

    @property
    def late(self) -> bool:
        """Tell whether it needs a real answer, so that the call must be carried out first."""
        return callable(self.body)

    def answer(self, real: Answer | None) -> Answer:
        """Return what is sent. `real` is AWS's answer, if the call was carried out."""
        headers = list(self.headers.items())
        if not callable(self.body):
            return status_line(self.status or 200), headers, self.body
        if real is None:
            raise ValueError("no answer to cut: the call wasn't carried out")
        line, real_headers, whole = real
        if self.torn:
            headers.append(("Content-Length", str(len(whole))))
        line = status_line(self.status) if self.status else line
        return line, [*real_headers, *headers], self.body(whole)


def cut(at: float | str = 0.5, torn: bool = False) -> Foreign:
    """Return AWS's answer, cut in transit.

    at: how much of it arrives, as a fraction, or the text after which it ends.
    torn: the connection breaks there; otherwise something in between passes on what it got.
    """

    def part(whole: bytes) -> bytes:
        if not isinstance(at, str):
            return whole[: int(len(whole) * at)]
        head, found, _ = whole.partition(at.encode())
        if not found:
            raise ValueError(f"no {at} in the answer, which should be cut after it")
        return head + found

    return Foreign(part, torn=torn)


HTML = {"Content-Type": "text/html; charset=utf-8"}
XML = {"Content-Type": "text/xml"}

HTML_PAGE = Foreign(
    b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n"
    b"<body><h1>Welcome</h1><p>Please sign in to the network.<br></body></html>\n",
    headers=HTML,
)
XHTML_PAGE = Foreign(  # well-formed, so a parser of XML takes it
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Sign in</title></head>'
    b"<body><p>Please sign in to the network.</p></body></html>\n",
    headers=HTML,
)
OK_XML = Foreign(b"<ok/>", headers=XML)
JSON = Foreign(b'{"status": "ok"}', headers={"Content-Type": "application/json"})
EMPTY = Foreign(b"", headers=XML)
NO_CONTENT = Foreign(b"", 204)
REDIRECT = Foreign(b"", 302, {"Location": "http://portal.example.com/sign-in"})
GZIP_GARBAGE = Foreign(b"\x1f\x8b\x08\x00garbage", headers={**XML, "Content-Encoding": "gzip"})
HUGE_PAGE = Foreign(  # 5 MB
    b"<!DOCTYPE html>\n<html><body>\n" + b"<p>Please sign in to the network.<br>\n" * 140_000,
    headers=HTML,
)
CUT = cut()
TORN = cut(torn=True)
# Of AssumeRole: SecretAccessKey and SessionToken are in what arrives (``aws.secrets`` knows them).
CUT_BEHIND_SECRETS = cut("</SessionToken>")

# All that fit any call, by a name for a test's table.
FOREIGN: dict[str, Foreign] = {
    "HTML page": HTML_PAGE,
    "XHTML page": XHTML_PAGE,
    "<ok/>": OK_XML,
    "JSON": JSON,
    "empty": EMPTY,
    "no content": NO_CONTENT,
    "redirect": REDIRECT,
    "gzip garbage": GZIP_GARBAGE,
    "5 MB": HUGE_PAGE,
    "cut": CUT,
    "torn": TORN,
}
