# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes `demo`, which isn't shipped, importable."""

import sys
from pathlib import Path

# At the end: `c7n_keyrot` must come out of site-packages, where the installed wheel is.
sys.path.append(str(Path(__file__).parents[1]))
