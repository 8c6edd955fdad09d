# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Nothing is remembered from one test to the next; an account in memory, and a clock."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader
from c7n.cache import InMemoryCache
from c7n.utils import reset_session_cache
from in_memory import Custodian, Iam
from pytest_mock import MockerFixture

from c7n_keyrot.aws import settings
from c7n_keyrot.custodian import shared_report

# botocore reads a service's model anew for each session, and here each test has sessions: a tenth
# of all the time. Nothing changes a model once it is read.
_read_file = JSONFileLoader.load_file
_read_once = functools.cache(lambda path: _read_file(JSONFileLoader(), path))


def _load_file(_: JSONFileLoader, path: str) -> Any:
    return _read_once(path)


JSONFileLoader.load_file = _load_file


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No report, session, cached user or credentials of another test, or of the machine."""
    from c7n.resources.iam import User  # noqa: F401 - loads our filters as the .pth does

    from c7n_keyrot.custodian.elements.plugin import register

    register()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "C7N_OUTPUT_DIR"):
        monkeypatch.delenv(name, raising=False)
    # A listing of this IAM doesn't lag.
    monkeypatch.setattr(settings, "LAG", 0)
    shared_report.reports.clear()
    reset_session_cache()
    InMemoryCache._InMemoryCache__shared_state.clear()
    # A command line, or another folder's tests, may have set them in this process.
    logging.getLogger().setLevel(logging.WARNING)
    for name in ("custodian", "custodian.keyrot"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    shared_report.reports.clear()
    reset_session_cache()


@pytest.fixture
def iam() -> Iam:
    return Iam()


@pytest.fixture
def custodian(iam: Iam, tmp_path: Path) -> Custodian:
    return Custodian(iam, tmp_path)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """told(): the lines of the plugin's log so far, whatever their level."""
    caplog.set_level(logging.INFO, "custodian.keyrot")
    return lambda: [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("custodian.keyrot")
    ]


@pytest.fixture
def worlds(tmp_path: Path) -> Callable[[], tuple[Iam, Custodian]]:
    """A new account for each example of hypothesis, which calls a test's fixtures only once."""

    def new() -> tuple[Iam, Custodian]:
        shared_report.reports.clear()
        reset_session_cache()
        iam = Iam()
        return iam, Custodian(iam, tmp_path)

    return new


@pytest.fixture
def clock(mocker: MockerFixture) -> Callable[[datetime], datetime]:
    """clock(instant): the time of all runs from then on, which stands still."""
    patched = mocker.patch("c7n_keyrot.custodian.run.datetime", wraps=datetime)

    def stand_at(now: datetime) -> datetime:
        patched.now.side_effect = lambda zone=None: now.astimezone(zone)
        return now

    return stand_at


@pytest.fixture
def at(clock: Callable[[datetime], datetime]) -> datetime:
    """A clock that stands still, so that the second of a boundary doesn't pass meanwhile."""
    now: datetime = clock(datetime.now(timezone.utc).replace(microsecond=0))
    return now
