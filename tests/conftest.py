# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes importable what the tests share, and says which tests begin.

``demo`` and ``embedded_aws`` aren't shipped; the helpers lie beside the tests that need them most.
"""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# At the end: `c7n_keyrot` must come out of site-packages, where the installed wheel is.
FOLDERS = [HERE.parent, HERE / "unit", HERE / "end_to_end", HERE / "soak", HERE / "release"]
sys.path += map(str, FOLDERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # They sleep for long: at the end nothing would be left to do beside them.
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)
