# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether a name is one of a region of AWS. The list is botocore's, so the newest may lack."""

from __future__ import annotations

import difflib
import functools

import boto3

from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, Check
from c7n_keyrot.evidence.accounts import Account


@functools.cache
def _known() -> tuple[str, ...]:
    session = boto3.Session(region_name="us-east-1")
    return tuple(
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition)
    )


def check_of(
    region: str, where: str, name: str = "region", account: Account | None = None
) -> Check | None:
    """Return what is wrong with a region's name; None if nothing is.

    A name of unknown parts fails. Of known parts, such as ap-south-9, it may be a new region.

    :param where: where it is written.
    """
    known = _known()
    if region in known:
        return None
    parts = region.rpartition("-")
    if parts[2].isdigit() and any(one.rpartition("-")[0] == parts[0] for one in known):
        what = f"botocore knows no region {region}"
        return Check(NOT_CHECKED, name, what, f"look at it in {where}", account)
    # Letters that changed places first.
    close = [one for one in known if sorted(one) == sorted(region)]
    close += difflib.get_close_matches(region, known, 1)
    meant = f"; is it {close[0]}?" if close else ""
    what = f"{region} isn't a region of AWS{meant}"
    return Check(FAIL, name, what, f"correct it in {where}", account)
