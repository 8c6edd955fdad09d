# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The log of the pack, and the numbers that the environment can change."""

from __future__ import annotations

import logging
import os

log = logging.getLogger("custodian.keyrot")


def setting(name: str, default: float, most: float = float("inf")) -> float:
    """Return a number > 0 out of the environment; the default, and a line, for anything else."""
    text = os.environ.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        log.error("%s=%r in the environment must be a number > 0; using %g", name, text, default)
        return default
    if value > most:
        log.error("%s=%r in the environment must be at most %g; using that", name, text, most)
    return min(value, most)


# At 30 ms a call more than 24 side by side gain little; see benchmarks/RESULTS.md.
WORKERS = max(1, int(setting("C7N_KEYROT_WORKERS", 24, most=200)))


# Seconds; a fault that stays must not keep a run, and those behind it, waiting for ever.
PATIENCE = setting("C7N_KEYROT_PATIENCE", 45)


# Seconds; IAM's listings lag behind its writes, so for so long one that shows the state of before
# is asked for again.
LAG = setting("C7N_KEYROT_LAG", 10, most=600)
