# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where a policy's lines go: Custodian's output folder, on this machine or in a bucket."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from c7n.output import BlobOutput

from c7n_keyrot.aws import gate
from c7n_keyrot.aws.permit import Permit, check_permit
from c7n_keyrot.core import outcomes


def path_of(context: Any, name: str = outcomes.FILE) -> Path:
    """Return the file of a policy's outcomes (or intents) on this machine."""
    output = context.output
    # A bucket is uploaded to after the run, over what an earlier run of the same hour left there.
    if isinstance(output, BlobOutput):
        name = name.replace(".", f"-{context.execution_id}.")
    return Path(output.root_dir, name)


def plain_path(context: Any, name: str) -> Path:
    """Return the path of a file that has the same content in every run that writes it.

    :param name: it ends with ``.gz``, which Custodian adds by itself to what goes to a bucket.
    """
    if is_bucket(context):
        name = name.removesuffix(".gz")
    return Path(context.output.root_dir, name)


class _Taken:
    """The folders that policies of one run have: by folder and name, in lower case.

    :ivar options: Custodian's options of that run, which all of its policies share.
    :ivar folders: each folder, and what the policy there was.
    """

    options: Any = None
    folders: ClassVar[dict[tuple[str, str], tuple[str, str]]] = {}


def is_taken(context: Any) -> bool:
    """Tell whether another policy of this name has run into the folder, in the same run.

    c7n-org runs two policies of one name, and the files of the last one replace the other's. It
    runs all policies of an account and region in one process. The same policy may run again.
    """
    if _Taken.options is not context.options:
        _Taken.options = context.options
        _Taken.folders.clear()
    output, data = context.output, context.policy.data
    place = os.path.realpath(output.root_dir)
    if isinstance(output, BlobOutput):
        place = f"{output.type}://{output.bucket}/{output.key_prefix}"
    what = json.dumps([data.get("filters"), data.get("actions")], default=str)
    key = place.casefold(), str(data["name"]).casefold()
    first, known = _Taken.folders.setdefault(key, (place, what))
    if known == what:
        return False
    # Of names that differ in case only, some disks make one folder.
    return first == place or (os.path.isdir(first) and os.path.samefile(first, place))


def is_shared(context: Any) -> bool:
    """Tell whether all policies of the run have one folder, where each replaces the files before.

    With braces in ``-s`` Custodian adds no folder for the policy.
    """
    given = str(context.options.output_dir)
    return "{" in given and "{policy_name" not in given


def is_bucket(context: Any) -> bool:
    """Tell whether Custodian keeps the output in a bucket (``-s s3://...``)."""
    return isinstance(context.output, BlobOutput)


def upload_intents(context: Any, permit: Permit) -> None:
    """Copy the intents to the bucket now.

    :raises CallError: they can't be copied.
    """
    upload(context, outcomes.INTENTS_FILE, permit)


def upload(context: Any, name: str, permit: Permit) -> None:
    """Copy a file to the bucket now, which Custodian does at the end of the run only.

    Under the name that it has in the end, so the upload of the end takes its place.

    :raises CallError: it can't be copied.
    """
    check_permit("the upload to the bucket", permit)
    output, path = context.output, path_of(context, name)
    name = f"{path.name}.gz"
    with tempfile.TemporaryDirectory() as folder, gate.as_call_error("the upload to the bucket"):
        packed = Path(folder, name)
        with path.open("rb") as plain, gzip.open(packed, "wb") as file:
            shutil.copyfileobj(plain, file)
        output.upload_file(str(packed), "/".join(filter(None, (output.key_prefix, name))))
