# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What runs of Custodian left in an output folder, a bucket's copy included."""

from __future__ import annotations

import gzip
import json
import os
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c7n_keyrot.cli.doctor.sqs import mapping
from c7n_keyrot.cli.text import one_line

# Seconds. Nothing marks where a run begins, so a longer break between policies separates two runs.
# Within a run there are short breaks: a slow role, a worker that starts. Two runs that are closer
# count as one: what either covered is a minute old.
BREAK = 60.0
# Bytes that are read of a file, and of the end of a log.
MOST, LOG_END = 256 << 20, 256 << 10


@dataclass(frozen=True)
class Left:
    """What a policy left in its folder; times are seconds since 1970, UTC.

    :ivar folder: where it is.
    :ivar policy: the policy as it ran.
    """

    folder: Path
    account_id: str
    region: str
    policy: dict[str, Any]
    start: float
    end: float
    failed: bool = False
    dry_run: bool = False

    @property
    def name(self) -> str:
        return str(self.policy.get("name"))


def read(out: Path) -> list[Left]:
    """Return what the latest run of each policy left, anywhere below the folder."""
    latest: dict[tuple[str, str, str], Left] = {}
    for parent, folders, names in os.walk(out):
        folders.sort()
        for name in names:
            if name.removesuffix(".gz") == "metadata.json":
                left = _left(Path(parent), Path(parent, name))
                key = left and (left.account_id, left.region, left.name)
                if left and key and (key not in latest or left.start > latest[key].start):
                    latest[key] = left
    return list(latest.values())


def _left(folder: Path, file: Path) -> Left | None:
    data = mapping(load(file))
    execution, config = mapping(data.get("execution")), mapping(data.get("config"))
    try:
        start = float(execution["start"])
        end = float(execution.get("end_time", start))
        failed = any(metric["MetricName"] == "PolicyException" for metric in data["metrics"])
    except (ValueError, KeyError, TypeError):
        return None
    return Left(
        folder,
        str(config.get("account_id") or ""),
        str(config.get("region") or ""),
        mapping(data.get("policy")),
        start,
        end,
        failed,
        bool(config.get("dryrun")),
    )


def load(file: Path) -> Any:
    """Return what a JSON file holds, compressed or not; None if it can't be read."""
    with suppress(OSError, EOFError, zlib.error, ValueError, RecursionError):
        return json.loads(content(file, MOST))
    return None


def content(file: Path, most: int) -> bytes:
    """Return the content of a regular file, compressed or not; of a longer one its beginning.

    :raises OSError, EOFError, zlib.error: it can't be read.
    """
    if not file.is_file():  # reading a pipe would wait
        raise FileNotFoundError
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        return stream.read(most)


def last_run(left: Iterable[Left]) -> float:
    """Return when the last of these runs began; seconds since 1970."""
    begun = busy = 0.0
    for one in sorted(left, key=lambda one: one.start):
        if one.start > busy + BREAK:
            begun = one.start
        busy = max(busy, one.end)
    return begun


def resources(left: Left) -> list[dict[str, Any]]:
    """Return the resources that a run of a policy selected."""
    found = load(left.folder / "resources.json") or load(left.folder / "resources.json.gz")
    return [mapping(one) for one in found] if isinstance(found, list) else []


def last_error(left: Left) -> str:
    """Return the last error in the log of a run; "" if the log has none.

    Runs append to one log, with times in the zone of their machine. So its last line says which
    lines are of this run, and the file's own time whether that line is.
    """
    for name in ("custodian-run.log", "custodian-run.log.gz"):
        with suppress(OSError, EOFError, zlib.error):
            file = left.folder / name
            if file.stat().st_mtime < left.start - 1:
                continue
            lines = content(file, MOST)[-LOG_END:].decode("utf-8", "replace").splitlines()
            times = [_time(line) for line in lines]
            known = [when for when in times if when is not None]
            begun = known[-1] - (left.end - left.start) - 1 if known else 0.0
            for line, when in zip(reversed(lines), reversed(times), strict=True):
                if when is not None and when >= begun and " - ERROR - " in line:
                    return one_line(line.split(" - ERROR - ", 1)[1])
    return ""


def _time(line: str) -> float | None:
    try:
        return float(time.mktime(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S")))
    except (ValueError, OverflowError):
        return None
