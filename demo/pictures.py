# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`make pictures`: README's pictures of the terminal, a mail and the report, out of the demo.

python demo/pictures.py    # in an environment where c7n-keyrot is installed; needs Chromium
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
ORGANIZATION = Path("demo-output", "organization")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
TIMEOUT = 60  # seconds
# What of the demo's output is shown.
FIRST, LAST = "USER ", "NOT CHANGED"
TERMINAL = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 24px; background: #ffffff; }}
pre {{ margin: 0; padding: 20px 24px; background: #15191f; color: #dfe4ea; border-radius: 10px;
  font: 13px/20px "DejaVu Sans Mono", ui-monospace, Menlo, Consolas, monospace; }}
b {{ color: #8db6ff; }}
</style><pre><b>$ make demo</b>
…
{text}
…</pre>"""


def picture(page: Path, png: Path, width: int, height: int) -> bool:
    """Make a picture of the top of an HTML page; return whether there is a browser that can.

    :param width: of the window and of the picture, in pixels, like ``height``.
    """
    if CHROMIUM is None:
        return False
    with tempfile.TemporaryDirectory() as profile:
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",  # there is none for root, and these pages are our own
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            f"--screenshot={png.resolve()}",
            page.resolve().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
    return done.returncode == 0 and png.exists()


def terminal(output: str) -> str:
    """Return the page for the picture of the demo's table, and of its first groups only."""
    lines = output.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(FIRST))
    last = next(number for number, line in enumerate(lines) if line.startswith(LAST))
    return TERMINAL.format(text=html.escape("\n".join(lines[first:last]).rstrip()))


def main() -> int:
    if CHROMIUM is None:
        print(f"no browser on PATH ({', '.join(NAMES)}); Debian: apt-get install chromium")
        return 1
    command = [sys.executable, str(HERE / "run.py")]
    demo = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if demo.returncode:
        print(demo.stdout)
        return demo.returncode
    PICTURES.mkdir(exist_ok=True)
    page = ORGANIZATION / "terminal.html"
    page.write_text(terminal(demo.stdout), "utf-8")
    lines = page.read_text("utf-8").split("<pre>")[1].count("\n")
    mails = sorted((ORGANIZATION / "mails").glob("*.html"))
    reminder = next(
        mail for mail in mails if re.search("will be disabled", mail.read_text("utf-8"))
    )
    for name, source, width, height in (
        ("terminal", page, 980, 104 + 20 * lines),
        ("mail", reminder, 760, 900),
        ("report", ORGANIZATION / "report.html", 1280, 1330),
    ):
        png = PICTURES / f"{name}.png"
        if not picture(source, png, width, height):
            print(f"{CHROMIUM} made no picture of {source}")
            return 1
        print(f"{png.relative_to(HERE.parent)}: {png.stat().st_size // 1000} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
