# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`make release-check`: may this commit become a release?

    python tests/release/release_check.py DIST

DIST holds the sdist and the wheel that `make dist` has just built. Exit code 1 if a check fails.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
UNRELEASED = "Unreleased"
PACK = ("policies", "examples", "deploy")


class Section(NamedTuple):
    """One version in the changelog."""

    name: str
    day: str
    kinds: list[tuple[str, str]]  # such as ("Added", "- one thing\n- another")


def sections(text: str) -> list[Section]:
    """Read the changelog; the newest version is first."""
    found = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        match = re.fullmatch(r"\[(.+)\](?: - (.+))?", heading)
        name, day = (match[1], match[2] or "") if match else (heading, "")
        kinds = re.split(r"^### ", body, flags=re.MULTILINE)[1:]
        found.append(
            Section(
                name, day, [(k.partition("\n")[0], k.partition("\n")[2].strip()) for k in kinds]
            )
        )
    return found


def malformed(text: str) -> Iterator[str]:
    """Say what isn't in the form of Keep a Changelog 1.1."""
    if not text.startswith("# Changelog\n"):
        yield "the first line isn't '# Changelog'"
    found = sections(text)
    if not found or found[0].name != UNRELEASED or found[0].day:
        yield f"the first section isn't '## [{UNRELEASED}]'"
    released = [section for section in found if section.name != UNRELEASED]
    for section in released:
        if not re.fullmatch(r"\d+\.\d+\.\d+", section.name) or not is_day(section.day):
            yield f"'{section.name} {section.day}' isn't '## [1.2.3] - YYYY-MM-DD'"
            return
        if not section.kinds:
            yield f"{section.name} has no entry"
    for section in found:
        names = [name for name, _ in section.kinds]
        if set(names) - set(KINDS) or len(names) > len(set(names)):
            known = ", ".join(KINDS)
            yield f"{section.name}: {', '.join(names)} must be some of {known}, once each"
        yield from (
            f"{section.name}: {name} has no entry"
            for name, body in section.kinds
            if not body.startswith("- ")
        )
    order = [([int(n) for n in one.name.split(".")], one.day) for one in released]
    if order != sorted(order, reverse=True):
        yield "the newest version isn't first"


def is_day(text: str) -> bool:
    """Tell whether a text is a date as YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def unready(text: str, version: str, tags: list[str], today: date) -> Iterator[str]:
    """Say why the changelog doesn't announce this version.

    :param tags: those of the commit; none if it isn't tagged yet.
    :param today: the day, in UTC.
    """
    newest = next((one for one in sections(text) if one.name != UNRELEASED), None)
    if newest is None:
        yield "it has no version"
        return
    if any(one.kinds for one in sections(text) if one.name == UNRELEASED):
        yield f"entries are under {UNRELEASED}: move them under the new version"
    if newest.name != version:
        yield f"its newest version is {newest.name}, but c7n_keyrot.__version__ is {version}"
    if newest.day > today.isoformat():
        yield f"{newest.name} is dated {newest.day}, which is to come"
    if tags and f"v{version}" not in tags:
        yield f"the commit's tag is {', '.join(tags)}, not v{version}"


def output(*command: str | Path, **env: str) -> bytes:
    """Return what a command prints; it must succeed."""
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True)
    if done.returncode:
        sys.stderr.buffer.write(done.stdout + done.stderr)
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    return done.stdout


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that was built."""
    built = [*folder.glob("*.tar.gz"), *folder.glob("*.whl")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in built}


def rebuilt(dist: Path) -> Iterator[str]:
    """Build once more, of the commit alone, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(output("git", "archive", "HEAD"))) as archive:
            archive.extractall(folder)
        epoch = output("git", "log", "-1", "--format=%ct").decode().strip()
        output(sys.executable, "-m", "build", folder, SOURCE_DATE_EPOCH=epoch)
        again, first = digests(Path(folder, "dist")), digests(dist)
    if len(first) != 2:
        yield f"{dist} holds {', '.join(first) or 'nothing'}, not one sdist and one wheel"
    for name in sorted(first.keys() | again.keys()):
        if first.get(name) != again.get(name):
            yield f"{name} isn't the same when it is built from the commit alone"


def missing_files(dist: Path, version: str) -> Iterator[str]:
    """Compare the wheel's files, their content included, with those of the commit."""
    wheel = dist / f"c7n_keyrot-{version}-py3-none-any.whl"
    startup = ("c7n_keyrot.pth", "c7n_keyrot.start")
    meant = {}
    for name in output("git", "ls-files", "c7n_keyrot", *startup, *PACK).decode().split():
        target = f"c7n_keyrot/pack/{name}" if name.split("/")[0] in PACK else name
        meant[target] = (ROOT / name).read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            name: archive.read(name)
            for name in archive.namelist()
            if not name.startswith(f"c7n_keyrot-{version}.dist-info/")
        }
    for name in sorted(meant.keys() | packed.keys()):
        if name not in packed:
            yield f"{name} is missing in the wheel"
        elif name not in meant:
            yield f"{name} is in the wheel, but not in the commit"
        elif meant[name] != packed[name]:
            yield f"{name} is another one in the wheel"


def main(dist: Path) -> int:
    sys.path.insert(0, str(ROOT))
    from c7n_keyrot import __version__ as version

    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    changed = output("git", "status", "--porcelain").decode().splitlines()
    tags = output("git", "tag", "--points-at", "HEAD", "--list", "v*").decode().split()
    if os.environ.get("GITHUB_REF_TYPE") == "tag":  # the one that began the workflow
        tags = [os.environ["GITHUB_REF_NAME"]]
    today = datetime.now(timezone.utc).date()
    checks: dict[str, Callable[[], Iterator[str]]] = {
        "all changes are committed": lambda: iter(changed),
        "CHANGELOG.md has the form of Keep a Changelog": lambda: malformed(changelog),
        "CHANGELOG.md announces this version": lambda: unready(changelog, version, tags, today),
        "the commit alone makes the same files": lambda: rebuilt(dist),
        "the wheel has the files of the commit": lambda: missing_files(dist, version),
    }
    bad = False
    for name, check in checks.items():
        problems = list(check())
        print(f"{'FAIL' if problems else 'ok':5}{name}", *problems, sep="\n     ", flush=True)
        bad = bad or bool(problems)
    twine = [sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.glob("c7n*"))]
    bad = subprocess.run(twine).returncode != 0 or bad
    if bad:
        print(f"Not ready to release {version}.")
        return 1
    print(f"Ready to release {version}." + ("" if tags else f" Next: git tag -s v{version}"))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
