# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measure the pack against stock Custodian and a plain script, and write RESULTS.md.

    python benchmarks/run.py            # about half an hour; with c7n-keyrot and c7n-org installed
    python benchmarks/run.py --quick    # tiny worlds, to try the benchmarks themselves; to stdout

Everything runs as whole processes against the embedded AWS in another process, which takes 30 ms
for a call. Compared programs run in turns (A B A B ...), and medians count. A wrong answer of the
pack ends the benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import chart
from measure import (
    C7N_ORG,
    HERE,
    PYTHON,
    ROOT,
    BenchmarkError,
    Program,
    Run,
    Server,
    custodian,
    interleaved,
    interval,
    machine,
    memory,
    run,
    say,
    script,
    seconds,
    spawn,
    versions,
)

OURS = custodian("c7n-keyrot", HERE / "policies" / "ours.yml")
STOCK = custodian("stock Custodian", HERE / "policies" / "stock.yml", exact=False)
FLOOR = script("plain boto3", "floor.py")
GROUP = custodian("stock, iam-group", HERE / "policies" / "group.yml")
PACK = custodian("the whole pack", ROOT / "policies", exact=False)  # it finds expiring ones, too
ACTING = custodian("c7n-keyrot, acting", HERE / "policies" / "ours.yml", act=True)
STOCK_ACTING = custodian("stock, acting", HERE / "policies" / "stock.yml", act=True, exact=False)


@dataclass(frozen=True)
class Size:
    """How much is measured: the worlds of the issue, or tiny ones."""

    rounds: int = 5
    slow_rounds: int = 2  # of what takes over ten seconds
    small: int = 1000
    large: int = 5000
    between: tuple[int, ...] = (100,)
    find: int = 200
    fast_rounds: int = 21  # of runs of a second, where hundredths count
    starts: int = 300  # pairs of interpreter starts
    versions: int = 25  # pairs of `custodian version`
    throttled: tuple[int, int] = (500, 100)
    workers: tuple[int, ...] = (1, 4, 8, 16, 24, 32, 48)
    counts: tuple[int, ...] = (5, 10, 25, 50, 100, 200, 400, 1000)
    members: tuple[int, ...] = (10, 25, 50)
    member_users: int = 100
    all_members: int = 1000  # run once


QUICK = Size(1, 1, 60, 120, (30,), 10, 3, 20, 2, (20, 4), (1, 16), (5, 20), (2, 4), 20, 6)


@dataclass
class Results:
    """The sections in their order, and the promises: (promise, measured, kept)."""

    sections: list[str] = field(default_factory=list)
    targets: list[tuple[str, str, bool]] = field(default_factory=list)
    plot: str = ""

    def target(self, promise: str, measured: str, kept: bool) -> None:
        self.targets.append((promise, measured, kept))
        say(f"{'met' if kept else 'NOT MET'}: {promise}: {measured}")

    def section(self, title: str, *parts: str) -> None:
        self.sections.append("\n\n".join([f"## {title}", *parts]))

    def text(self, load: float) -> str:
        day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        targets = table(
            ["target", "measured", "met"],
            [[what, got, "yes" if kept else "**no**"] for what, got, kept in self.targets],
        )
        about = (
            f"Written by `make bench` on {day}: {machine()}. {versions()}.\n\n"
            "Whole processes, against the embedded AWS in a process of its own on the same "
            f"machine, 30 ms a call; the load average was {load:.1f} at the start. Medians of runs "
            "in turns; compare ratios, not seconds. Calls are IAM's; each run of Custodian asks "
            "STS once besides."
        )
        return "\n\n".join(["# Benchmarks", about, "## Targets", targets, *self.sections]) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def right(users: tuple[int, int, int]) -> str:
    return "/".join(map(str, users))


def spread(runs: Sequence[Run]) -> str:
    times = [done.seconds for done in runs]
    return f"{seconds(runs):.2f} ({min(times):.2f} to {max(times):.2f}; {len(times)})"


# What is measured, a function each


def finding(size: Size, results: Results) -> None:
    """Worlds of different size, the same users to find: calls, time, memory."""
    worlds = sorted({size.small, size.large, *size.between})
    with ExitStack() as stack:
        servers = {n: stack.enter_context(Server(n, min(size.find, n // 5))) for n in worlds}
        cells = {
            (f"{n} users", program.name): lambda program=program, n=n: run(program, servers[n])
            for n in worlds
            for program in (OURS, FLOOR, STOCK)
        }
        runs = interleaved(size.rounds, cells, size.slow_rounds)
    find = {n: server.find for n, server in servers.items()}

    def of(n: int, program: Program) -> list[Run]:
        return runs[f"{n} users", program.name]

    rows = [
        [
            f"{n:,}, {find[n]}",
            program.name,
            of(n, program)[-1].call_count,
            spread(of(n, program)),
            f"{seconds(of(n, program)) / seconds(of(n, OURS)):.1f}",
            f"{memory(of(n, program)):.0f}",
            right(of(n, program)[-1].users),
        ]
        for n in worlds
        for program in (OURS, FLOOR, STOCK)
    ]
    small, large = size.small, size.large
    allowed = 2 + 2 * find[small] + 5
    for n in (small, large):
        calls = max(done.call_count for done in of(n, OURS))
        ours, stock, floor = (seconds(of(n, program)) for program in (OURS, STOCK, FLOOR))
        world = f"{n:,} users, {find[n]} to find"
        results.target(f"{world}: at most {allowed} calls", str(calls), calls <= allowed)
        times = 12 if n == small else 60
        results.target(
            f"{world}: at least {times} times faster than stock",
            f"{stock / ours:.1f} times ({ours:.2f} s, {stock:.1f} s)",
            stock / ours >= times,
        )
        if n == small:
            results.target(
                f"{world}: at most half the time of plain boto3",
                f"{ours / floor:.2f} ({floor:.2f} s)",
                ours / floor <= 0.5,
            )
        else:
            ratio = ours / seconds(of(small, OURS))
            results.target(
                f"{world}: at most 1.3 times the time of {small:,}", f"{ratio:.2f}", ratio <= 1.3
            )
    for n in (small, large):
        ratio = memory(of(n, OURS)) / memory(of(n, STOCK))
        results.target(
            f"{n:,} users: at most 1.1 times stock's memory",
            f"{ratio:.2f} ({memory(of(n, OURS)):.0f} MB)",
            ratio <= 1.1,
        )
    results.section(
        "Finding: time and calls against the users there are",
        "![time and calls against the number of users](plot.svg)",
        table(
            [
                "users, to find",
                "run",
                "calls",
                "s, median (from, to; runs)",
                "x ours",
                "MB",
                "r/w/m",
            ],
            rows,
        ),
        "r/w/m: users found right, wrong, missed. `policies/stock.yml` is stock's fastest way to "
        "the second key. It misses the users whose only key ever is in slot 2: stock's filters "
        "can't tell them from users with one key in slot 1, so no stock policy finds exactly the "
        "right ones. `floor.py` makes the fewest calls that can do it, one after the other; it "
        "reads no tags, so it knows no exemptions.",
    )
    lines = {program.name: {n: of(n, program) for n in worlds} for program in (OURS, FLOOR, STOCK)}
    results.plot = chart.svg(
        {
            "seconds": {k: [(n, seconds(r)) for n, r in v.items()] for k, v in lines.items()},
            "calls": {k: [(n, r[-1].call_count) for n, r in v.items()] for k, v in lines.items()},
        },
        f"users of the account; a fifth of them to find, at most {size.find}",
    )


def nothing(size: Size, results: Results) -> None:
    """An account where all is well: what a daily run costs then."""
    with Server(size.small, 0) as server:
        cells = {
            program.name: lambda program=program: run(program, server)
            for program in (OURS, GROUP, PACK)
        }
        runs = interleaved(size.fast_rounds, cells)
    ours, group = runs[OURS.name], runs[GROUP.name]
    world = f"{size.small:,} users, none to find"
    calls = max(done.call_count for done in ours)
    results.target(f"{world}: at most 7 calls", str(calls), calls <= 7)
    ratio = seconds(ours) / seconds(group)
    results.target(
        f"{world}: at most 1.2 times `custodian run` of an `aws.iam-group` policy",
        f"{ratio:.2f} ({seconds(ours):.2f} s, {seconds(group):.2f} s)",
        ratio <= 1.2,
    )
    rows = [
        [name, each[-1].call_count, spread(each), f"{seconds(each) / seconds(group):.2f}"]
        for name, each in runs.items()
    ]
    results.section(
        "None to find",
        table(["run", "calls", "s, median (from, to; runs)", "x iam-group"], rows),
        "The whole pack is `policies/` as shipped; its policies share one report.",
    )


def acting(size: Size, results: Results) -> None:
    """Disabling the keys: right ones, wrong ones, calls."""
    with Server(size.small, size.find) as server:
        found = run(OURS, server)
        cells = {ACTING.name: lambda: run(ACTING, server)}
        acted = interleaved(min(3, size.rounds), cells)[ACTING.name]
        stock = interleaved(1, {STOCK_ACTING.name: lambda: run(STOCK_ACTING, server)})
    more = acted[-1].call_count - found.call_count
    results.target(
        f"Acting: one more call a key, right {server.find} of {server.find}, wrong 0",
        f"{more} more calls, right {acted[-1].keys[0]}, wrong {acted[-1].keys[1]}",
        more == server.find and acted[-1].keys == (server.find, 0, 0),
    )
    rows = [
        [name, each[-1].call_count, spread(each), right(each[-1].keys)]
        for name, each in {ACTING.name: acted, **stock}.items()
    ]
    results.section(
        f"Acting: {size.small:,} users, {server.find} keys to disable",
        table(["run", "calls", "s, median (from, to; runs)", "keys disabled r/w/m"], rows),
    )


def generating(size: Size, results: Results) -> None:
    """No report yet: AWS takes 2 s to make one."""
    with Server(size.small, size.find, report_seconds=2) as server:
        cells = {
            (program.name, report): lambda program=program, report=report: run(
                program, server, report
            )
            for report in ("fresh", "none")
            for program in (OURS, FLOOR)
        }
        runs = interleaved(size.rounds, cells)
        stock = interleaved(
            1,
            {
                (STOCK.name, report): lambda report=report: run(STOCK, server, report)
                for report in ("fresh", "none")
            },
        )
    lost = {
        name: seconds(each[name, "none"]) - seconds(each[name, "fresh"]) - 2
        for each, name in ((runs, OURS.name), (runs, FLOOR.name), (stock, STOCK.name))
    }
    results.target(
        "A report that must be generated first (2 s): at most 1.5 s lost beyond that",
        f"{lost[OURS.name]:.2f} s",
        lost[OURS.name] <= 1.5,
    )
    results.section(
        "A report that must be generated first",
        table(["run", "s lost beyond the 2 s"], [[k, f"{v:.2f}"] for k, v in lost.items()]),
    )


def throttling(size: Size, results: Results) -> None:
    """AWS lets 5 calls a second through: acting ends right, and makes no storm."""
    users, find = size.throttled
    with Server(users, find) as server:
        free = run(ACTING, server)
    with Server(users, find, calls_per_second=5) as server:
        cells = {ACTING.name: lambda: run(ACTING, server)}
        slow = interleaved(1, cells)[ACTING.name][0]
    refused = slow.call_count - free.call_count
    ideal = free.call_count / 5
    results.target(
        "Throttled at 5 calls a second: ends right, without a storm (less than 1 in 2 refused)",
        f"right {slow.keys[0]} of {find}, {refused} refused beside {free.call_count}",
        slow.keys == (find, 0, 0) and refused < free.call_count,
    )
    results.section(
        "Throttled at 5 calls a second",
        f"{users:,} users, {find} keys to disable: {free.call_count} calls, at 5 a second "
        f"{ideal:.0f} s at best. It took {slow.seconds:.0f} s; {refused} calls beside them were "
        f"refused by AWS and made again. Keys disabled right/wrong/missed: {right(slow.keys)}.",
    )


def starting(size: Size, results: Results) -> None:
    """What the startup file costs Python and Custodian: pairs, with and without it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        pythons = _pythons(folder)
        env = {"HOME": temporary, "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
        both: dict[str, list[float]] = {}
        bases: dict[str, float] = {}
        for name, code, pairs in (
            ("python -c pass", "pass", size.starts),
            ("custodian version", CUSTODIAN_VERSION, size.versions),
        ):
            say(f"  {pairs} pairs of {name}")
            times: dict[str, list[float]] = {"with": [], "without": []}
            for pair in range(-2, pairs):  # the first ones write .pyc files
                for which in ("with", "without") if pair % 2 else ("without", "with"):
                    done = spawn([pythons[which], "-c", code], folder, env)
                    if pair >= 0:
                        times[which].append(done.seconds)
            both[name] = [
                1000 * (a - b) for a, b in zip(times["with"], times["without"], strict=True)
            ]
            bases[name] = 1000 * statistics.median(times["without"])
    rows = []
    for name, differences in both.items():
        low, high = interval(differences)
        more, base = statistics.median(differences), bases[name]
        rows.append([f"`{name}`", f"{base:.1f}", f"{more:+.2f}", f"{low:+.2f} to {high:+.2f}"])
        if name == "python -c pass":
            results.target("Interpreter start: at most +1 ms", f"{more:+.2f} ms", more <= 1)
        else:
            results.target(
                "`custodian version`: not measurably slower (95 % interval)",
                f"{low:+.1f} to {high:+.1f} ms, of {base:.0f} ms",
                low <= 0,
            )
    results.section(
        "What the startup file costs",
        table(["process", "ms without", "ms more with it, median", "95 % interval"], rows),
        f"Paired, {size.starts} and {size.versions} times.",
    )


CUSTODIAN_VERSION = (
    "import sys; sys.argv = ['custodian', 'version']; from c7n.cli import main; main()"
)


def _pythons(folder: Path) -> dict[str, str]:
    """Two environments on top of this one, which differ in the startup file alone."""
    here = Path(next(path for path in sys.path if Path(path, "c7n_keyrot.pth").is_file()))
    pythons = {}
    for which in ("with", "without"):
        spawn([PYTHON, "-m", "venv", "--without-pip", str(folder / which)], folder, {})
        site = next((folder / which).glob("lib*/python*/site-packages"))
        (site / "a.pth").write_text(f"{here}\n")
        if which == "with":
            (site / "c7n_keyrot.pth").write_bytes((here / "c7n_keyrot.pth").read_bytes())
        pythons[which] = str(folder / which / "bin" / "python")
    return pythons


def organization(size: Size, results: Results) -> None:
    """c7n-org over so many accounts, on this machine."""
    with Server(size.member_users, size.member_users // 5, members=max(size.members)) as server:
        cells = {
            (f"{count} accounts", program.name): lambda program=program, count=count: (
                _organization_run(server, count, program)
            )
            for count in size.members
            for program in (OURS, STOCK)
            if program is OURS or count == max(size.members)
        }
        runs = interleaved(size.rounds, cells, size.slow_rounds)
    each = {count: runs[f"{count} accounts", OURS.name] for count in size.members}
    stock = runs[f"{max(size.members)} accounts", STOCK.name]
    fewest, most = size.members[0], size.members[-1]
    further = (seconds(each[most]) - seconds(each[fewest])) / (most - fewest)
    fixed = seconds(each[most]) - further * most
    # How far those between lie from the line through the outer two.
    off = max(abs(seconds(r) / (fixed + further * n) - 1) for n, r in each.items())
    results.target(
        f"An organization of {most} accounts of {size.member_users} users: linear (within 15 %)",
        f"{further:.2f} s a further account, {off:.0%} off the line",
        further > 0 and off <= 0.15,
    )
    share = seconds(each[most]) / seconds(stock)
    results.target(
        f"An organization of {most} accounts: at most a quarter of stock's time",
        f"{share:.2f} ({seconds(each[most]):.1f} s, {seconds(stock):.1f} s)",
        share <= 0.25,
    )
    ratio = memory(each[most]) / memory(stock)
    results.target(
        "A worker of c7n-org: at most 1.1 times stock's memory",
        f"{ratio:.2f} ({memory(each[most]):.0f} MB)",
        ratio <= 1.1,
    )
    rows = [
        [name, n, r[-1].call_count, f"{r[-1].call_count / n:.0f}", spread(r), f"{memory(r):.0f}"]
        for name, n, r in (
            *((OURS.name, n, r) for n, r in each.items()),
            (STOCK.name, most, stock),
        )
    ]
    many = size.all_members
    with Server(size.member_users, size.member_users // 5, members=many) as server:
        whole = _organization_run(server, many, OURS)
    say(f"  {many} accounts: {whole.seconds:.0f} s, {whole.call_count} calls")
    rows.append(
        [
            f"{OURS.name}, once",
            f"{many:,}",
            whole.call_count,
            f"{whole.call_count / many:.0f}",
            f"{whole.seconds:.0f}",
            f"{whole.memory:.0f}",
        ]
    )
    an_hour = int(3600 / (whole.seconds / many) / 1000) * 1000
    results.section(
        f"An organization: c7n-org, accounts of {size.member_users} users, "
        f"{size.member_users // 5} of them to find",
        table(
            [
                "run",
                "accounts",
                "calls",
                "calls an account",
                "s, median (from, to; runs)",
                "MB, a worker",
            ],
            rows,
        ),
        f"A further account costs {further:.2f} s on this machine, whose cores the workers "
        "(c7n-org's default: four a core) share with the embedded AWS. By that line "
        f"{many:,} accounts would take {(fixed + many * further) / 60:.1f} minutes; they took "
        f"{whole.seconds / 60:.1f}, with every account's users right (the embedded AWS gets slower "
        "with the users that it holds). One machine is enough for a daily run as long as it ends "
        "within the hour that the credentials of its own role commonly last: at that pace "
        f"{an_hour:,} such accounts, and fewer where more keys are to be changed. So it isn't time "
        "that calls for Lambda, but where no machine may hold credentials for every account, or "
        "where each account runs its own policies: there a policy's `mode` makes it a function of "
        "its account.",
    )


def _organization_run(server: Server, count: int, program: Program) -> Run:
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        accounts = [
            {
                "account_id": account,
                "name": f"member-{account}",
                "role": f"arn:aws:iam::{account}:role/c7n-keyrot",
                "regions": ["us-east-1"],
            }
            for account in server.accounts[:count]
        ]
        (folder / "accounts.yml").write_text(json.dumps({"accounts": accounts}))
        policy = program.argv(folder)[-1]
        argv = [C7N_ORG, "run", "-c", "accounts.yml", "-s", "out", "-u", policy, "--dryrun"]
        server.reset()
        done = spawn(argv, folder, {**server.env, "HOME": temporary})
        done.calls = server.calls()
        truth = server.truth()["find"]
        for account in accounts:
            files = list((folder / "out" / account["name"]).glob("**/resources.json"))
            found = {user["UserName"] for file in files for user in json.loads(file.read_text())}
            if program is OURS and found != set(truth[account["account_id"]]):
                raise BenchmarkError(f"c7n-org: {account['name']}: {len(found)} users found")
        return done


def workers(size: Size, results: Results) -> None:
    """How many calls side by side."""
    policy = HERE / "policies" / "ours.yml"
    programs = {
        n: custodian(f"{n} workers", policy, act=True, env={"C7N_KEYROT_WORKERS": str(n)})
        for n in size.workers
    }
    with Server(size.small, size.find) as server:
        cells = {p.name: lambda p=p: run(p, server) for p in programs.values()}
        runs = interleaved(size.rounds, cells, size.slow_rounds)
    rows = [[n, spread(runs[p.name]), f"{memory(runs[p.name]):.0f}"] for n, p in programs.items()]
    results.section(
        f"Calls side by side (`C7N_KEYROT_WORKERS`): {size.small:,} users, "
        f"{server.find} keys found and disabled",
        table(["workers", "s, median (from, to; runs)", "MB"], rows),
    )


def tags(size: Size, results: Results) -> None:
    """Where GetAccountAuthorizationDetails gets cheaper than a GetUser for each candidate."""
    rows = []
    for users in (size.small, size.large):
        counts = [str(count) for count in size.counts if count <= users]
        with Server(users, 0) as server, tempfile.TemporaryDirectory(prefix="bench-") as folder:
            argv = [PYTHON, str(HERE / "tags.py"), "--counts", *counts]
            spawn(argv, Path(folder), {**server.env, "HOME": folder})
            measured = json.loads(Path(folder, "stdout").read_text())
        say(f"  {users} users: {measured}")
        whole = measured["details"]["1000"]
        most, took = list(measured["get_user"].items())[-1]
        even = whole / (took / int(most))
        rows += [
            [
                f"{users:,}",
                f"{whole:.2f} / {measured['details']['100']:.2f}",
                ", ".join(f"{n}: {took:.2f}" for n, took in measured["get_user"].items()),
                f"from about {even:.0f} candidates on ({even / users:.0%})",
            ]
        ]
    results.section(
        "Tags: one GetUser for each candidate, or GetAccountAuthorizationDetails of all users",
        table(
            [
                "users",
                "s, all in pages of 1,000 / 100",
                f"s, GetUser, {measured['workers']} side by side",
                "all is cheaper",
            ],
            rows,
        ),
        "The source takes GetUser, always. GetAccountAuthorizationDetails would save the "
        "difference where more than a tenth of all users are candidates, which is once, before the "
        "first clean-up. For that every account's role would have to be allowed to read all "
        "policies of the account, and users would come without `PasswordLastUsed`, which other "
        "filters of a policy may look at.",
    )


SECTIONS: dict[str, Callable[[Size, Results], None]] = {
    "finding": finding,
    "nothing": nothing,
    "acting": acting,
    "generating": generating,
    "throttling": throttling,
    "starting": starting,
    "organization": organization,
    "workers": workers,
    "tags": tags,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny worlds; prints, writes no file")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, help="some sections; prints, writes no file"
    )
    args = parser.parse_args()
    try:
        versions()
    except PackageNotFoundError as error:
        print(f"benchmarks: {error.name} isn't installed here: run make bench", file=sys.stderr)
        return 2
    results, size = Results(), QUICK if args.quick else Size()
    load, start = _load(), time.monotonic()
    for name in args.only or SECTIONS:
        say(f"== {name}: {SECTIONS[name].__doc__} ({time.monotonic() - start:.0f} s so far)")
        try:
            SECTIONS[name](size, results)
        except BenchmarkError as error:
            print(f"benchmarks: {name}: {error}", file=sys.stderr)
            return 1
    text = results.text(load)
    if args.quick or args.only:
        print(f"\n{text}")
    else:
        (HERE / "RESULTS.md").write_text(text)
        (HERE / "plot.svg").write_text(results.plot)
        say(f"wrote benchmarks/RESULTS.md and plot.svg ({time.monotonic() - start:.0f} s)")
    missed = [what for what, _, kept in results.targets if not kept]
    for what in missed:
        say(f"NOT MET: {what}")
    return 0


def _load() -> float:
    """How many processes compete for the cores already; above 0.5 the figures are doubtful."""
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"this machine is busy (load average {load:.1f}): don't trust the figures")
    return load


if __name__ == "__main__":
    sys.exit(main())
