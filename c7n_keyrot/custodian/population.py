# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps the population of each credential report in the output folder, once a report."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
from pathlib import Path
from typing import IO, cast

from c7n_keyrot.aws import settings
from c7n_keyrot.core import population
from c7n_keyrot.core.credential_report import Report
from c7n_keyrot.custodian import output
from c7n_keyrot.custodian.run import PolicyRun
from c7n_keyrot.custodian.shared_report import shared_by


def keep(run: PolicyRun) -> str | None:
    """Write the population of the run's credential report, unless this process has done so.

    :returns: the SHA-256 of the CSV, in hex; None without a report, or where it isn't wanted.
    """
    report = run.report.used
    if report is None or not settings.POPULATION:
        return None
    shared = shared_by(run, report)
    if shared is not None and shared.population:
        return shared.population
    path = output.plain_path(run.manager.ctx, population.file_name(report.generated))
    try:
        found = _write(report, path)
    except OSError as error:
        run.log.fail(f"{path.name} can't be written ({error.strerror or error})")
        return _hash(report)
    if shared is not None:
        shared.population = found
    return found


def _hash(report: Report) -> str:
    digest = hashlib.sha256()
    for part in population.parts(report):
        digest.update(part)
    return digest.hexdigest()


def _write(report: Report, path: Path) -> str:
    """Write the file, whole or not at all, unless it is there; return the hash of its CSV.

    :raises OSError: it can't be written.
    """
    if path.exists():
        return _hash(report)
    digest, new = hashlib.sha256(), path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with contextlib.ExitStack() as opened:
            file: IO[bytes] = opened.enter_context(new.open("xb"))
            if path.suffix == ".gz":
                # Without a time and a name, so that the same report makes the same file.
                packed = gzip.GzipFile("", "wb", compresslevel=4, fileobj=file, mtime=0)
                file = cast("IO[bytes]", opened.enter_context(packed))
            for part in population.parts(report):
                digest.update(part)
                file.write(part)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return digest.hexdigest()
