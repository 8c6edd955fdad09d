# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The embedded AWS in a process of its own, whole processes run against it, and statistics."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
BIN = Path(sys.executable).parent
PYTHON = sys.executable
CUSTODIAN = str(BIN / "custodian")
C7N_ORG = str(BIN / "c7n-org")


class BenchmarkError(Exception):
    """A process failed or its answer is wrong: then its time means nothing."""


class Server:
    """`python -m embedded_aws` with one seeded world; a context manager."""

    def __init__(self, users: int, find: int, latency_ms: float = 30, **options: Any):
        options = {"users": users, "find": find, "latency_ms": latency_ms, **options}
        self.users, self.options = users, options

    def __enter__(self) -> Server:
        argv = [PYTHON, "-m", "embedded_aws"]
        for name, value in self.options.items():
            argv += [f"--{name.replace('_', '-')}", str(value)]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise BenchmarkError(f"{' '.join(argv[1:])} ended with {self.process.wait()}")
        told = json.loads(line)
        self.url, self.env, self.accounts = told["url"], told["env"], told["accounts"]
        self.find = sum(len(users) for users in self.truth()["find"].values())
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def _control(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/__keyrot/{path}", timeout=60) as answer:
            return json.load(answer)

    def reset(self, report: str = "fresh") -> None:
        """Reset: all keys as seeded, no calls counted, a new report or ("none") no report."""
        self._control(f"reset?report={report}")

    def calls(self) -> dict[str, int]:
        calls: dict[str, int] = self._control("calls")
        return calls

    def truth(self) -> dict[str, Any]:
        """`find`: {account: {user: key to disable}}, `changed`: {account: {key: [then, now]}}."""
        truth: dict[str, Any] = self._control("truth")
        return truth


@dataclass
class Run:
    """One process from start to end. Memory is that of its largest process, in MB."""

    seconds: float
    memory: float
    calls: dict[str, int] = field(default_factory=dict)
    # Right, wrong and missed: users found, and keys disabled.
    users: tuple[int, int, int] = (0, 0, 0)
    keys: tuple[int, int, int] = (0, 0, 0)

    @property
    def call_count(self) -> int:
        """The calls without STS's: every run of Custodian makes one."""
        return sum(n for action, n in self.calls.items() if not action.startswith("sts."))


@dataclass(frozen=True)
class Program:
    """A program to run: its command line in its own folder, and how to read whom it found.

    ``exact``: it has to find just those users and, if it ``acts``, disable just their keys.
    """

    name: str
    argv: Callable[[Path], list[str]]
    found: Callable[[Path], set[str]]
    exact: bool = True
    acts: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


def custodian(
    name: str,
    policy: str | Path,
    act: bool = False,
    exact: bool = True,
    env: Mapping[str, str] | None = None,
) -> Program:
    """`custodian run` of a policy file; without `act`, `--dryrun`."""

    def argv(folder: Path) -> list[str]:
        dry = [] if act else ["--dryrun"]
        # Its own cache: nothing is warm, whatever ran before.
        own = ["-s", str(folder / "out"), "-f", str(folder / "cache.db")]
        return [CUSTODIAN, "run", *dry, *own, str(policy)]

    def found(folder: Path) -> set[str]:
        files = (folder / "out").glob("*/resources.json")
        return {user["UserName"] for file in files for user in json.loads(file.read_text())}

    return Program(name, argv, found, exact, act, env or {})


def script(name: str, *argv: str) -> Program:
    """A script in this folder that prints {user: key id}."""

    def found(folder: Path) -> set[str]:
        return set(json.loads((folder / "stdout").read_text()))

    return Program(name, lambda _: [PYTHON, str(HERE / argv[0]), *argv[1:]], found)


def spawn(argv: Sequence[str], folder: Path, env: Mapping[str, str]) -> Run:
    """Run a process to its end, in the folder, which gets its stdout and stderr.

    :raises BenchmarkError: it ended with another code than 0.
    """
    with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
        start = time.perf_counter()
        process = subprocess.Popen(argv, cwd=folder, env=dict(env), stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = (folder / "stderr").read_text()[-2000:]
        raise BenchmarkError(f"{' '.join(argv)}: exit code {process.returncode}\n{last}")
    return Run(seconds, usage.ru_maxrss / 1024)


def run(program: Program, server: Server, report: str = "fresh") -> Run:
    """Run a program on a world as seeded, and compare its answer with the truth.

    :raises BenchmarkError: the program has to be exact, and isn't: a fast wrong answer
        isn't a result.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        server.reset(report)
        done = spawn(program.argv(folder), folder, {**server.env, "HOME": temporary, **program.env})
        truth = server.truth()
        done.calls = server.calls()
        wanted = {
            (a, user): key for a, users in truth["find"].items() for user, key in users.items()
        }
        done.users = _compare({user for _, user in wanted}, program.found(folder))
        switched_off = {
            key
            for changes in truth["changed"].values()
            for key, change in changes.items()
            if change == ["Active", "Inactive"]
        }
        done.keys = _compare(set(wanted.values()), switched_off)
        answers = [done.users, done.keys] if program.acts else [done.users]
        if program.exact and any(wrong or missed for _, wrong, missed in answers):
            raise BenchmarkError(f"{program.name}: right, wrong, missed: {answers}")
        return done


def _compare(wanted: set[str], found: set[str]) -> tuple[int, int, int]:
    return len(found & wanted), len(found - wanted), len(wanted - found)


def interleaved(
    rounds: int, cells: Mapping[Any, Callable[[], Run]], few: int | None = None
) -> dict[Any, list[Run]]:
    """Run each cell once a round (A B A B ...), and print the results.

    :param few: rounds in which cells that take over ten seconds take part.
    """
    runs: dict[Any, list[Run]] = {cell: [] for cell in cells}
    for turn in range(rounds):
        for cell, measure in cells.items():
            slow = turn and runs[cell][-1].seconds > 10
            if slow and few is not None and turn >= few:
                continue
            done = measure()
            runs[cell].append(done)
            name = ", ".join(map(str, cell)) if isinstance(cell, tuple) else cell
            say(f"  {turn + 1}/{rounds} {name}: {done.seconds:.2f} s, {done.call_count} calls")
    return runs


def say(line: str) -> None:
    print(line, flush=True)


def seconds(runs: Sequence[Run]) -> float:
    """Return the median time of some runs."""
    return statistics.median(run.seconds for run in runs)


def memory(runs: Sequence[Run]) -> float:
    """Return the median of some runs' largest memory, in MB."""
    return statistics.median(run.memory for run in runs)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % confidence interval of the median, by the order of the values alone."""
    ordered, n = sorted(values), len(values)
    # This many values are outside on either side; a normal approximation of the binomial
    # distribution.
    beyond = max(0, math.floor(n / 2 - 0.98 * math.sqrt(n)))
    return ordered[beyond], ordered[-1 - beyond]


def machine() -> str:
    """Return cores, memory, processor, system and Python; nothing that identifies the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{cores} cores"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        parts.append(f"{pages / 2**30:.0f} GiB of memory")
    parts += [f"{platform.system()} on {platform.machine()}", f"Python {platform.python_version()}"]
    return ", ".join(parts)


def versions() -> str:
    names = ["c7n-keyrot", "c7n", "c7n-org", "boto3", "botocore", "moto"]
    return ", ".join(f"{name} {version(name)}" for name in names)
