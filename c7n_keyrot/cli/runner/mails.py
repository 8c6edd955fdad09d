# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""One round of c7n-mailer: here, or in a build of CodeBuild that can't take the members' role."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3

from c7n_keyrot.aws import calls, gate
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.objects import Bucket
from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.cli.mail_server import NotDeliveredError
from c7n_keyrot.cli.runner import processes
from c7n_keyrot.cli.runner.settings import Settings
from c7n_keyrot.core.text import counted, one_line

# c7n-mailer's exit code doesn't show that a mail wasn't sent; its log does.
ERROR = " - ERROR - "
POLL = (1, 2, 5, 10)  # seconds between two questions; the last one again and again
RUNNING = "IN_PROGRESS"
NOT_KNOWN = "whether notices were sent isn't known"


@dataclass(frozen=True)
class Mails:
    """What became of the round.

    :ivar log: of c7n-mailer.
    :ivar failed: what went wrong, in words.
    """

    log: str
    failed: list[str]


def unreachable(settings: Settings) -> str:
    """Return why mails can't go out by the mail server; "" if they can, or if there is none.

    It is reached as c7n-mailer will reach it, but for the login: its password may be one that only
    the mailer's role can decrypt.
    """
    server = settings.mail_server
    if server is None:
        return ""
    try:
        server.connect()
    except NotDeliveredError as error:
        return f"mails can't go out: {one_line(error)}"
    finally:
        server.close()
    return ""


def send(settings: Settings) -> Mails:
    """Have the notices in the queue sent."""
    if not settings.mailer_project:
        code, log = processes.run(["mailer", "--run", "-c", str(settings.mailer)])
        failed = [f"c7n-mailer; see mailer.txt (exit code {code})"] if code else []
        return Mails(log, failed + list(_errors(log)))
    failed, log = [], ""
    status, build = _build(settings.mailer_project)
    if status != "SUCCEEDED":
        failed.append(f"c7n-mailer; see mailer.txt (its build {build}: {status})")
    try:
        log = _log(settings, build)
        failed += _errors(log)
    except (CallError, OSError) as error:
        failed.append(f"no log of c7n-mailer, so {NOT_KNOWN} ({one_line(error)})")
    return Mails(log or f"{NOT_KNOWN}\n", failed)


def _errors(log: str) -> Iterator[str]:
    found = sum(ERROR in line for line in log.splitlines())
    if found:
        yield f"a notice wasn't sent ({counted(found, 'error')}); see mailer.txt"


def _build(project: str) -> tuple[str, str]:
    """Start the build, and wait for its end.

    :returns: its status, and its id; "" if it wasn't started.
    """
    try:
        client = gate.client(boto3.Session(), "codebuild")
        started = calls.call(client, "start_build", permit=Permit(), projectName=project)
        build = str(started["build"]["id"])
    except (CallError, KeyError) as error:
        return f"not started, {one_line(error)}", ""
    waits = iter(POLL)
    wait = 0
    try:
        while True:
            wait = next(waits, wait)
            time.sleep(wait)
            gate.renew(client)
            found = calls.call(client, "batch_get_builds", permit=Permit(), ids=[build])
            status = str(found["builds"][0]["buildStatus"])
            if status != RUNNING:
                return one_line(status, 60), build
    except (CallError, LookupError) as error:
        return f"not known, {one_line(error)}", build


def _log(settings: Settings, build: str) -> str:
    """Return the log of the mailer's build, which it left in the bucket or the folder.

    :raises CallError, OSError: it isn't there.
    """
    name = f"mailer/{build.rpartition(':')[2]}.txt"
    if not build:
        raise OSError("it wasn't started")
    if settings.bucket:
        content = Bucket(settings.bucket).get(name)
    else:
        content = Path(settings.out, name).read_bytes()
    return content.decode("utf-8", "backslashreplace")
