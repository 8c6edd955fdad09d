# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes `demo` and `embedded_aws`, which aren't shipped, importable; and says which tests begin."""

import sys
from pathlib import Path

import pytest

# At the end: `c7n_keyrot` must come out of site-packages, where the installed wheel is.
sys.path.append(str(Path(__file__).parents[1]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # They sleep for long: at the end nothing would be left to do beside them.
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)
