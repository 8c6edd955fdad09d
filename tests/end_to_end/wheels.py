# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Wheels and sdists out of this checkout, as `python -m build` makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def copy(folder: Path) -> Path:
    """A copy of the checkout: builds leave things beside the sources, and tests run in parallel."""
    ignore = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "tests", "__pycache__")
    return Path(shutil.copytree(CHECKOUT, folder, ignore=ignore))


def built(source: Path, what: str = "wheel", **env: str) -> Path:
    """The wheel of a copy of the checkout, or ("sdist") of the sdist that is made of it first."""
    # Without isolation, which costs a download and is tried by `pip install .` in loading_test.py.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", source]
    flags = ["--wheel"] if what == "wheel" else []  # without flags: the sdist, then its wheel
    whole = {**os.environ, **env}
    subprocess.run([*command, *flags], env=whole, check=True, capture_output=True, timeout=300)
    assert len(list((source / "dist").glob("*.tar.gz"))) == (what == "sdist")
    return next((source / "dist").glob("*.whl"))
