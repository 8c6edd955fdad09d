# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What runs of Custodian left in an output folder, a bucket's copy included."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c7n_keyrot.evidence import files
from c7n_keyrot.evidence.files import DamagedFileError, mapping, read_json


@dataclass(frozen=True)
class RunFiles:
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


def read(
    out: Path,
    ids: Mapping[str, str] | None = None,
    problem: Callable[[str], None] = lambda _: None,
) -> list[RunFiles]:
    """Return what the latest run of each policy left, anywhere below the folder.

    :param ids: of accounts.yml, by the names of folders.
    :param problem: is called with a line about each file that isn't used.
    """
    latest: dict[tuple[str, str, str], RunFiles] = {}
    for parent, folders, names in os.walk(out):
        folders.sort()
        for name in names:
            if name.removesuffix(".gz") == "metadata.json":
                left = _left(Path(parent), Path(parent, name))
                mine = files.owner(out, Path(parent), ids or {})
                if left and mine and left.account_id not in ("", mine):
                    problem(f"{Path(parent, name)}: {files.foreign(left.account_id, mine)}")
                    continue
                key = left and (left.account_id, left.region, left.name)
                if left and key and (key not in latest or left.start > latest[key].start):
                    latest[key] = left
    return list(latest.values())


def _left(folder: Path, file: Path) -> RunFiles | None:
    data = mapping(load(file))
    execution, config = mapping(data.get("execution")), mapping(data.get("config"))
    try:
        start = float(execution["start"])
        end = float(execution.get("end_time", start))
        failed = any(metric["MetricName"] == "PolicyException" for metric in data["metrics"])
    except (ValueError, KeyError, TypeError):
        return None
    return RunFiles(
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
    with suppress(DamagedFileError):
        return read_json(file)
    return None


def last_run(left: Iterable[RunFiles]) -> float:
    """Return when the last of these runs began; seconds since 1970."""
    return files.last_run((one.start, one.end) for one in left)


def resources(left: RunFiles) -> list[dict[str, Any]]:
    """Return the resources that a run of a policy selected."""
    found = load(left.folder / "resources.json") or load(left.folder / "resources.json.gz")
    return [mapping(one) for one in found] if isinstance(found, list) else []
