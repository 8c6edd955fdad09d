# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lambda: which operation a request is, and the functions that are there. None of them is run."""

from __future__ import annotations

import functools
import json
import re
from typing import Any
from urllib.parse import unquote

import botocore.session
from moto.awslambda.models import lambda_backends


@functools.cache
def _routes() -> list[tuple[str, re.Pattern[str], str]]:
    """Return (method, pattern of the path, operation) of Lambda's API, by botocore's model."""
    model = botocore.session.get_session().get_service_model("lambda")
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        path = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", http["requestUri"].partition("?")[0])
        # The ARN in the path of TagResource has slashes of its own, unquoted by the server.
        path = path.replace("(?P<Resource>[^/]+)", "(?P<Resource>.+)")
        found.append((http["method"], re.compile(path), name))
    return found


def operation(method: str, path: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """Return the operation of a request to Lambda, and its parameters."""
    for wanted, pattern, name in _routes():
        match = pattern.fullmatch(path)
        if match and method == wanted:
            given = json.loads(body) if body.startswith(b"{") else {}
            return name, {**given, **{k: unquote(v) for k, v in match.groupdict().items()}}
    return f"{method} {path}", {}


def archives(account_id: str, region: str) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Return {name: (configuration, archive)} of the functions in an account."""
    functions = lambda_backends[account_id][region].list_functions()
    return {one.function_name: (one.get_configuration(), one.code_bytes) for one in functions}
