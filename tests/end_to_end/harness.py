# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Real processes: the console scripts of this interpreter's environment, with nothing mocked.

`launcher.py` makes their start cheap; EXEC_ALL=1 has each one started anew instead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from launcher import Process, doors, launcher_for

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Finished:
    """A process that has ended. `text` is what it wrote, standard error included, in its order."""

    args: list[str]
    code: int
    text: str

    def lines(self, *words: str) -> list[str]:
        """The lines that hold all these words."""
        return [line for line in self.text.splitlines() if all(word in line for word in words)]


@dataclass(frozen=True)
class PolicyRun(Finished):
    """A `custodian run`, or a `c7n-org run` (whose folders are out/ACCOUNT/REGION/POLICY)."""

    out: Path

    def folder(self, policy: str, account: str | None = None) -> Path:
        if account is None:
            return self.out / policy
        return next(iter(self.out.glob(f"{account}/*/{policy}")), self.out / account / policy)

    def resources(self, policy: str, account: str | None = None) -> list[dict[str, Any]]:
        """What the policy matched; [] if it wrote nothing."""
        return list(self._json(policy, account, "resources.json") or [])

    def metadata(self, policy: str, account: str | None = None) -> dict[str, Any]:
        return dict(self._json(policy, account, "metadata.json") or {})

    def names(self, policy: str, account: str | None = None) -> list[str]:
        return sorted(user["UserName"] for user in self.resources(policy, account))

    def outcomes(self, policy: str, account: str | None = None) -> list[dict[str, Any]]:
        """The lines of keyrot-outcomes.jsonl; a torn one fails."""
        path = self.folder(policy, account) / "keyrot-outcomes.jsonl"
        text = path.read_text("utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def log(self, policy: str, account: str | None = None) -> str:
        path = self.folder(policy, account) / "custodian-run.log"
        return path.read_text("utf-8") if path.exists() else ""

    def _json(self, policy: str, account: str | None, name: str) -> Any:
        path = self.folder(policy, account) / name
        return json.loads(path.read_text("utf-8")) if path.exists() else None


def start(
    args: Sequence[str | Path], env: Mapping[str, str], cwd: Path | None = None
) -> Process | subprocess.Popen[str]:
    """Start a process, in a process group of its own so that its workers end with it."""
    words = [str(arg) for arg in args]
    for shipped in (Path(arg) for arg in args if "run" in words and str(ROOT) in str(arg)):
        assert not _speaks_on_mondays(shipped), f"{shipped}: as_file(it) is the same on each day"
    launcher = launcher_for(words, env)
    if launcher:
        return launcher.start(words, env, str(cwd or Path.cwd()))
    return subprocess.Popen(
        words,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
        start_new_session=True,
    )


def finish(process: Process | subprocess.Popen[str], timeout: float = 120) -> Finished:
    """Wait for its end; after `timeout` seconds it is killed, which raises TimeoutExpired."""
    try:
        text, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        text, _ = process.communicate()
        raise subprocess.TimeoutExpired(process.args, timeout, output=text) from None
    return Finished([str(arg) for arg in process.args], process.returncode, text)  # type: ignore[union-attr]


def kill(process: Process | subprocess.Popen[str]) -> None:
    """SIGKILL, to the process and its workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def run(
    args: Sequence[str | Path],
    env: Mapping[str, str],
    cwd: Path | None = None,
    timeout: float = 120,
) -> Finished:
    return finish(start(args, env, cwd), timeout)


def custodian(*args: str | Path) -> list[str | Path]:
    return [BIN / "custodian", *args]


def c7n_org(*args: str | Path) -> list[str | Path]:
    return [BIN / "c7n-org", *args]


def mailer(*args: str | Path) -> list[str | Path]:
    return [BIN / "c7n-mailer", *args]


def keyrot(*args: str | Path) -> list[str | Path]:
    return [BIN / "c7n-keyrot", *args]


def with_doors(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a shell starts Custodian's programs as cheaply as `run` does."""
    return {**env, "PATH": f"{doors()}{os.pathsep}{env['PATH']}"}


# What the shipped files say of the day on which the security team hears of keys in doubt.
MONDAYS = "&weekdays [Mon]"


def on_the_day(policies: Path) -> str:
    """A shipped file as it is on Mondays: today the security team hears of keys in doubt."""
    text = policies.read_text("utf-8")
    assert MONDAYS in text
    return _with_weekdays(text, WEEKDAYS)


def on_another_day(policies: Path) -> str:
    """A shipped file as it is on other days, whatever today is, and if midnight passes."""
    far = datetime.now(timezone.utc) + timedelta(days=3)
    return _with_weekdays(policies.read_text("utf-8"), [WEEKDAYS[far.weekday()]])


def _with_weekdays(text: str, days: Sequence[str]) -> str:
    return text.replace(MONDAYS, f"&weekdays [{', '.join(days)}]")


def as_file(policies: str | Path | Mapping[str, Any], folder: Path) -> Path:
    """A policy file: a path; text, or a mapping, is written into the folder.

    A shipped file, or a folder of them, is copied as on_another_day has it, so that a test ends
    the same on each day of the week. One that wants Monday's notices gives the text of on_the_day.
    """
    if isinstance(policies, Path):
        return _on_another_day(policies, folder) if _speaks_on_mondays(policies) else policies
    text = policies if isinstance(policies, str) else json.dumps(policies)
    path = folder / f"policies-{len(list(folder.glob('policies-*')))}.yml"
    path.write_text(text, "utf-8")  # JSON is YAML
    assert not _speaks_on_mondays(path), "give the text of on_the_day or on_another_day"
    return path


def _speaks_on_mondays(policies: Path) -> bool:
    files = [policies, *policies.glob("*.yml")]
    return any(MONDAYS in file.read_text("utf-8") for file in files if file.suffix == ".yml")


def _on_another_day(policies: Path, folder: Path) -> Path:
    copy = folder / f"shipped-{len(list(folder.glob('shipped-*')))}"
    copy.mkdir()
    for file in policies.glob("*.yml") if policies.is_dir() else [policies]:
        (copy / file.name).write_text(on_another_day(file), "utf-8")
    return copy if policies.is_dir() else copy / policies.name


def with_own_addresses(file: Path, folder: Path) -> Path:
    """A copy of a shipped file as on_another_day has it, with addresses for its placeholders."""
    folder.mkdir(exist_ok=True)
    copy = folder / file.name
    copy.write_text(on_another_day(file).replace("@example.com", "@corp.test"), "utf-8")
    return copy
