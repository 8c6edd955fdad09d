# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes importable what the tests share, and says which tests begin, and where they run.

``demo`` and ``embedded_aws`` aren't shipped; the helpers lie beside the tests that need them most.
"""

import signal
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
# At the end: `c7n_keyrot` must come out of site-packages, where the installed wheel is.
BESIDE = ("unit", "end_to_end", "soak", "release", "second_aws")
FOLDERS = [HERE.parent, *(HERE / name for name in BESIDE)]
sys.path += map(str, FOLDERS)

# `nohup`, or a script's `&`, starts the tests with SIGINT ignored, and so would begin all that they
# start: Ctrl-C in a test would do nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # They sleep for most of their time: at the end nothing would be left to do beside them, and
    # all of them at once would leave the machine idle.
    waits = [item for item in items if item.get_closest_marker("waits")]
    # The longest first, or the last of them would end alone.
    waits.sort(key=lambda item: -item.get_closest_marker("waits").kwargs.get("seconds", 0))
    others = iter([item for item in items if not item.get_closest_marker("waits")])
    mixed = [one for item in waits for one in (item, *islice(others, 3))]
    items[:] = [*mixed, *others]


# One worker runs all of these, for the sake of a costly fixture.
TOGETHER = ("lambda_test.py", "organization_test.py", "reproducible_test.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker the next test when it is nearly done, so that none waits at the end."""
    from xdist.scheduler import LoadScopeScheduling

    class Next(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return file if file.endswith(TOGETHER) else nodeid

    config.option.loadscopereorder = False
    return Next(config, log) if config.getvalue("dist") == "load" else None
