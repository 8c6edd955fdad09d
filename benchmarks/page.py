# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report's page of a large organization: made, and opened in Chromium (if there is one).

    python benchmarks/page.py [ACCOUNTS [KEYS]]    # 1000 accounts with 50 findings each

It ends with 1 if a figure is above its limit.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# At the end, so that `c7n_keyrot` is the installed one.
sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "unit"))

import sample_reports

from c7n_keyrot.cli.report import formats
from demo.pictures import CHROMIUM

# What a CI job and a reader can live with.
LIMITS = {"made, s": 30.0, "memory, MB": 500.0, "page, MB": 25.0, "opened and used, s": 3.0}
# Nothing is shown later than this: the frame that has it is painted.
PAINTED = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"


def main(accounts: int = 1000, keys: int = 50) -> int:
    report = sample_reports.report(accounts, keys)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.html")
        figures = made(report, path)
        if CHROMIUM is None:
            print("no Chromium on PATH: the page was not opened")
        else:
            figures |= opened(path)
    print(f"{accounts:,} accounts with {keys} findings each")
    for name, figure in figures.items():
        limit = f"   (at most {LIMITS[name]:g})" if name in LIMITS else ""
        print(f"{name:24} {figure:8.2f}{limit}")
    return int(any(figures.get(name, 0) > limit for name, limit in LIMITS.items()))


def made(report: dict[str, Any], path: Path) -> dict[str, float]:
    """Make the page in a process of its own; return seconds, megabytes at most, megabytes."""
    started = time.monotonic()
    child = os.fork()
    if not child:
        path.write_text(formats.as_html(report), "utf-8")
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit("the page was not made")
    return {
        "made, s": time.monotonic() - started,
        "memory, MB": usage.ru_maxrss / 1024,
        "page, MB": path.stat().st_size / 1e6,
    }


def opened(path: Path) -> dict[str, float]:
    """Open the page, and use it as a reader would; return seconds until each is painted."""
    from playwright.sync_api import sync_playwright

    figures = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})

        def timed(name: str, act: Callable[[], object]) -> None:
            started = time.monotonic()
            act()
            page.evaluate(PAINTED)
            figures[name] = time.monotonic() - started

        timed("opened, s", lambda: page.goto(path.as_uri()))
        timed("an account opened, s", page.locator("button.open").first.click)
        timed("accounts sorted, s", page.locator("#account-table thead button").nth(6).click)
        timed("accounts filtered, s", lambda: page.fill("#account-text", "staging"))
        timed("keys filtered, s", lambda: page.select_option("#key-state", "open"))
        timed("keys sorted, s", page.locator("#found thead button").nth(3).click)
        browser.close()
    return figures | {"opened and used, s": figures["opened, s"] + figures["an account opened, s"]}


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
