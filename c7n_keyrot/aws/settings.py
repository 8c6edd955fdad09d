# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The log of the pack, and the numbers that the environment can change."""

from __future__ import annotations

import logging
import os

log = logging.getLogger("custodian.keyrot")


def setting(name: str, default: float, most: float = float("inf"), *, whole: bool = False) -> float:
    """Return a number > 0 from the environment; the default, and a line, for anything else.

    :param most: the largest one; it is used, with a line, for any larger number.
    :param whole: only a whole number will do.
    """
    text = os.environ.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf") or (whole and value % 1):
        kind = "whole number" if whole else "number"
        log.error("%s=%r in the environment must be a %s > 0; using %g", name, text, kind, default)
        return default
    if value > most:
        log.error("%s=%r in the environment must be at most %g; using that", name, text, most)
    return min(value, most)


# At 30 ms a call more than 24 side by side gain little; see benchmarks/RESULTS.md.
WORKERS = int(setting("C7N_KEYROT_WORKERS", 24, most=200, whole=True))


# Of a call, the first one included. Before each further try botocore waits, 20 s at most.
TRIES = int(setting("C7N_KEYROT_TRIES", 8, most=20, whole=True))


# Seconds; a fault that stays must not keep a run, and those after it, waiting for ever.
PATIENCE = setting("C7N_KEYROT_PATIENCE", 45)


# Seconds; IAM's listings lag behind its writes, so for so long one that shows the earlier state
# is asked for again.
LAG = setting("C7N_KEYROT_LAG", 10, most=600)


# Whether a run keeps all keys of a credential report; any word but these leaves it out.
POPULATION = os.environ.get("C7N_KEYROT_POPULATION", "on").strip().lower() in ("on", "")
