# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""botocore's models of AWS's services, read once for all sessions of a process.

Each boto3 session reads and parses them again: 60 to 100 ms a client, which in an account where
nothing is to be done takes longer than the calls themselves.
"""

from __future__ import annotations

import functools
from typing import Any

from botocore.loaders import create_loader
from botocore.session import Session


def share(session: Any) -> None:
    """Let a boto3 session take its models from where all sessions of this process take them."""
    core = getattr(session, "_session", None)
    if isinstance(core, Session):
        loader = _loader(core.get_config_variable("data_path"))
        core.register_component("data_loader", loader)


@functools.cache
def _loader(data_path: str | None) -> Any:
    """Return the one loader for a list of folders: ``data_path``, or ``AWS_DATA_PATH``."""
    return create_loader(data_path)
