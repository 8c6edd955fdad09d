# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes the model importable for the tests in this folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
