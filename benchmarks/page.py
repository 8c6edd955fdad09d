# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long the report's page takes to open in Chromium, and to be used.

python benchmarks/page.py report.html
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
MOST_MB, MOST_SECONDS = 25, 3
# Resolves when the frame that shows the last change is painted.
PAINTED = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"


def show(path: Path) -> None:
    """Print how large the page is, and how many seconds each step takes until it is painted."""
    print(f"the page: {path.stat().st_size / 1e6:.1f} MB of {MOST_MB}")
    if CHROMIUM is None:
        print("no Chromium on PATH: the page was not opened")
        return
    for name, seconds in opened(path).items():
        print(f"  {name:18} {seconds:5.2f} s")
    print(f"  allowed are {MOST_SECONDS} s until an account is open")


def opened(path: Path) -> dict[str, float]:
    """Open the page, and use it as a reader would; return the seconds of each step."""
    from playwright.sync_api import sync_playwright

    figures = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})

        def timed(name: str, act: Callable[[], object]) -> None:
            begun = time.monotonic()
            act()
            page.evaluate(PAINTED)
            figures[name] = time.monotonic() - begun

        timed("opened", lambda: page.goto(path.as_uri()))
        timed("an account opened", page.locator("button.open").first.click)
        timed("accounts sorted", page.locator("#account-table thead button").nth(6).click)
        timed("accounts filtered", lambda: page.fill("#account-text", "7"))
        timed("keys filtered", lambda: page.select_option("#key-state", "exempt"))
        timed("keys sorted", page.locator("#found thead button").nth(3).click)
        browser.close()
    return figures


if __name__ == "__main__":
    show(Path(sys.argv[1]).resolve())
