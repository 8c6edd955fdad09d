# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each place of Custodian and botocore that something of ours hangs on is there.

The end-to-end test of the oldest c7n asks the same in an environment of that release.
"""

from __future__ import annotations

import pytest

from c7n_keyrot.hooks import SEAMS, Seam, moved


def test_no_seam_has_moved() -> None:
    assert list(moved()) == []


def test_seams_are_named_once() -> None:
    places = [seam.place for seam in SEAMS]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(
    ("seam", "line"),
    [
        (Seam("c7n.nowhere:X", "for a test"), "c7n.nowhere:X isn't there (No module"),
        (Seam("c7n.manager:ResourceManager.gone", "for a test"), "ResourceManager.gone isn't"),
        (
            Seam("c7n.manager:ResourceManager.filter_resources", "for a test", ("users",)),
            "filter_resources has no users: for a test",
        ),
    ],
)
def test_what_has_moved_is_named(seam: Seam, line: str) -> None:
    (found,) = moved((seam,))
    assert line in found
