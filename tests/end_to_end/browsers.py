# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The real browser in which mails and pages are looked at; without one, those tests are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if CHROMIUM is None:
    pytest.skip(
        "no Chromium on PATH (Debian: apt-get install chromium): nothing was looked at",
        allow_module_level=True,
    )
sync_api = pytest.importorskip("playwright.sync_api")

# The lowest contrast of a text with what is behind it, by WCAG's formula.
CONTRAST = """() => {
  const numbers = c => (c.match(/[0-9.]+/g) || []).map(Number);
  const light = c => numbers(c).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    const n = numbers(c); if (n.length === 3 || n[3] > 0) return c;
  } return "rgb(255, 255, 255)"; };
  let worst = [99, ""];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (!node.data.trim()) continue;
    const [a, b] = [light(getComputedStyle(node.parentElement).color),
                    light(behind(node.parentElement))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, node.data.trim()];
  }
  return worst;
}"""


@contextmanager
def launched() -> Iterator[Any]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*flags, "--disable-component-update", "--disable-sync", "--no-first-run"],
        )
        yield browser
        browser.close()
