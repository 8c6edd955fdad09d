# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long c7n-keyrot report takes over an organization, and how much memory.

    .venv/bin/python benchmarks/report.py [ACCOUNTS] [FINDINGS] [DAYS]

Writes a tree of c7n-org with so many accounts (1,000) and findings in each (50): half of them
matched with all that a notice needs, half of them not changed. With DAYS (1) the folders have the
lines and the files of all keys of as many daily runs. Then it runs the command once for
each format, as a process, and opens the page in Chromium, if there is one.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import uuid
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

import page
from output_tree import NOW, Run, accounts_yml

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.records import Why
from c7n_keyrot.core.rotation import DAY, Verdict

FORMATS = ("json", "csv", "ocsf", "oscal", "html")
MOST_SECONDS, MOST_MB = 30, 500


def tree(out: Path, accounts: int, findings: int, days: int) -> Path:
    """Write the runs of two policies in each account; return accounts.yml."""
    now = datetime.now(timezone.utc)  # a report of old runs would be another one
    ids = {f"account-{number:04}": f"{number:012}" for number in range(1, accounts + 1)}
    for name, account_id in ids.items():
        stale = Run(account_id, time=now, counts={"fresh": 200, "stale": findings * 4 // 5})
        for number in range(findings * 2 // 5):
            user = f"user-{number:03}"
            stale.match(user, 91 + number, {"OwnerContact": f"{user}@corp.test"}).outcome(user)
            old = (now - (400 + number) * DAY).isoformat()
            stale.leave(f"exempt-{number:03}", why=Why.EXEMPT, last_rotated=old)
        stale.write(out, name)
        soon = Run(account_id, "expiring", now, counts={**stale.counts, "expiring": findings // 5})
        for number in range(findings // 10):
            soon.match(f"soon-{number:03}", 83)
            old = (now - (77 + number % 12) * DAY).isoformat()
            soon.leave(f"later-{number:03}", Verdict.EXPIRING, Why.NOT_DUE, last_rotated=old)
        soon.write(out, name)
        for day in range(1, days):
            before(out, name, stale, day)
            before(out, name, soon, day)
    return accounts_yml(out.parent, ids)


def before(out: Path, name: str, run: Run, day: int) -> None:
    """Leave what the same run left so many days before, without what later runs replace."""
    earlier = replace(run, time=run.time - day * DAY, id=str(uuid.uuid4()))
    age = 30 - (earlier.time - NOW) / DAY  # days before NOW, of a key that is 30 days old
    earlier.population = [(f"fresh-{number:03}", 2, "Active", age) for number in range(250)]
    folder = earlier.begin(out, name)
    outcomes.append(folder / outcomes.SUMMARY_FILE, earlier.summary)
    earlier.keep(folder)


def run(kind: str, out: Path, accounts: Path) -> tuple[float, float, float]:
    """Run the command; return seconds of the processor, MB of memory and MB of output."""
    target = out.parent / f"report.{kind}"
    command = [sys.executable, "-m", "c7n_keyrot", "report", out, "--accounts", accounts]
    process = subprocess.Popen([*map(str, command), "--format", kind, "-o", str(target)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"report --format {kind} failed")
    # Not the time on the clock: other programs of the machine would count.
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, target.stat().st_size / 1e6


def main() -> None:
    given = [*sys.argv[1:4], *("1000", "50", "1")[len(sys.argv) - 1 :]]
    accounts, findings, days = map(int, given)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        known = tree(out, accounts, findings, days)
        print(f"{accounts} accounts with {findings} findings each, {days} daily runs")
        worst = []
        for kind in FORMATS:
            seconds, memory, size = run(kind, out, known)
            worst.append(max(seconds / MOST_SECONDS, memory / MOST_MB))
            print(f"{kind:6} {seconds:6.1f} s {memory:6.0f} MB {size:6.1f} MB written", flush=True)
        print(f"{max(worst):.2f} of what is allowed ({MOST_SECONDS} s, {MOST_MB} MB)")
        page.show(out.parent / "report.html")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
