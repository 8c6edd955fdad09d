# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`make audit`: what scanners say of the wheel, held to the table in SECURITY.md.

    python tests/audit/run.py WHEEL SCANNERS SITE_PACKAGES

SCANNERS is the bin folder with those that could be installed. SITE_PACKAGES is where the wheel and
what it needs are installed, for pip-audit.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
TIMEOUT = 600  # seconds


class Finding(NamedTuple):
    scanner: str
    rule: str
    where: str


class NotRunError(Exception):
    """A scanner could not look; the text says why."""


def explained(text: str) -> set[Finding]:
    """The findings in SECURITY.md's table."""
    table = text.split("<!-- audit:")[1].split("\n\n")[0]
    rows = re.findall(r"^\| ([\w-]+) \| `(.+?)` \| `(.+?)` \| .+ \|$", table, re.MULTILINE)
    return {Finding(*row) for row in rows}


def output(*command: str | Path) -> Any:
    """What a scanner prints as JSON; its exit code says only whether there are findings."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=TIMEOUT
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise NotRunError(f"exit {done.returncode}: {last}") from None


def bandit(tool: Path, wheel: Path, unpacked: Path, site: Path) -> Iterator[tuple[str, str]]:
    report = output(tool, "-q", "-f", "json", "-r", unpacked)
    for error in report["errors"]:
        raise NotRunError(str(error))
    for result in report["results"]:
        yield result["test_id"], str(Path(result["filename"]).relative_to(unpacked))


def guarddog(tool: Path, wheel: Path, unpacked: Path, site: Path) -> Iterator[tuple[str, str]]:
    """Its rules of threats; those of capabilities only say what a program can do."""
    report = output(tool, "--log-level", "error", "pypi", "scan", wheel, "--output-format", "json")
    if report["errors"]:
        raise NotRunError(str(report["errors"]))
    for rule, found in report["results"].items():
        if found and not rule.startswith("capability-"):
            places = found if isinstance(found, list) else [{"location": wheel.name}]
            yield from ((rule, place["location"].partition(":")[0]) for place in places)
    if report["risk_score"]["score"]:
        yield "risk-score", str(report["risk_score"]["score"])


def autorun_audit(tool: Path, wheel: Path, unpacked: Path, site: Path) -> Iterator[tuple[str, str]]:
    command = ("env", "--site-dir", unpacked, "--python", sys.executable)
    report = output(tool, *command, "-f", "json", "--fail-on", "none", "--min-severity", "info")
    for finding in report["findings"]:
        yield finding["rule"], str(Path(finding["path"]).relative_to(unpacked))


def pydepgate(tool: Path, wheel: Path, unpacked: Path, site: Path) -> Iterator[tuple[str, str]]:
    report = output(tool, "scan", "--ci", "--format", "json", "--no-bar", "--deep", wheel)
    for finding in report["findings"]:
        yield json.dumps(finding)[:200], wheel.name


def pip_audit(tool: Path, wheel: Path, unpacked: Path, site: Path) -> Iterator[tuple[str, str]]:
    report = output(tool, "--progress-spinner", "off", "-f", "json", "--path", site)
    packages = [one for one in report["dependencies"] if one["name"] != "c7n-keyrot"]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if len(skipped) == len(packages):
        raise NotRunError(f"the package index has no such data on any of {len(packages)} packages")
    if skipped:
        print(f"pip-audit: nothing is known of {', '.join(skipped)}")
    for one in packages:
        for vulnerability in one.get("vulns", ()):
            yield vulnerability["id"], f"{one['name']} {one['version']}"


Scan = Callable[[Path, Path, Path, Path], Iterator[tuple[str, str]]]
SCANNERS: dict[str, Scan] = {
    "bandit": bandit,
    "guarddog": guarddog,
    "autorun-audit": autorun_audit,
    "pydepgate": pydepgate,
    "pip-audit": pip_audit,
}


def main(wheel: Path, scanners: Path, site: Path) -> int:
    table, found, ran = explained(SECURITY.read_text("utf-8")), set(), set()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        unpacked = Path(folder).resolve()
        archive.extractall(unpacked)
        for name, scan in SCANNERS.items():
            tool = scanners / name
            if not tool.exists():
                print(f"{name}: NOT RUN: it couldn't be installed")
                continue
            try:
                findings = {Finding(name, *one) for one in scan(tool, wheel, unpacked, site)}
            except NotRunError as error:
                print(f"{name}: NOT RUN: {error}")
                continue
            ran.add(name)
            found |= findings
            print(
                f"{name}: {len(findings - table)} findings that SECURITY.md doesn't explain, "
                f"{len(findings & table)} that it does"
            )
    for finding in sorted(found - table):
        print(f"not explained in SECURITY.md: {' | '.join(finding)}")
    stale = {one for one in table - found if one.scanner in ran}
    for finding in sorted(stale):
        print(f"explained in SECURITY.md, but not found: {' | '.join(finding)}")
    if not ran:
        print("no scanner ran")
    return 1 if found - table or stale or not ran else 0


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).absolute() for argument in sys.argv[1:])))
