# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the policies of a file, or of a run, may do to keys, by their own text.

A policy beside the pack's may disable keys as well. What can't be counted must be named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import one_line
from c7n_keyrot.evidence.accounts import read_yaml
from c7n_keyrot.evidence.files import mapping
from c7n_keyrot.evidence.gather import is_ours

NOTIFY = "notify"
# Where access keys are. All clouds' other resources have no action on them.
RESOURCES = ("iam-user", "iam-access-key")
# Actions of these resources that leave every access key as it is; `set-...` change what its user
# may do. All others, also those that other plugins add, can't be counted.
HARMLESS = frozenset(
    (
        NOTIFY,
        "auto-tag-user",
        "copy-related-tag",
        "delete-ssh-keys",
        "mark-for-op",
        "post-finding",
        "post-item",
        "post-key-finding",
        "put-metric",
        "remove-tag",
        "set-boundary",
        "set-groups",
        "set-policy",
        "tag",
    )
)
# `plan` counts these, by what the pack's filters have matched.
COUNTED = frozenset(("disable-access-key", "delete-access-key"))
WHAT = {
    "delete": "has delete, which takes users or keys that nothing here names",
    "invoke-lambda": "has invoke-lambda: what that function does isn't known",
    "invoke-sfn": "has invoke-sfn: what that state machine does isn't known",
    "webhook": "has webhook: what its receiver does isn't known",
}
OTHERS = "has remove-keys for keys that no filter of the pack has matched"
# Custodian's own schema, which c7n-org doesn't check. A name is a folder of the output.
NAME = re.compile("[A-z][A-z0-9]*(-[A-z0-9]+)*")


def policies_of(file: Path) -> list[dict[str, Any]]:
    """Return the policies of a file, as c7n-org reads it.

    :raises CommandError: it can't be read, or has none.
    """
    found = read_yaml(file).get("policies")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise CommandError(f"{file} has no list of policies")
    return found


def name_of(policy: Mapping[str, Any]) -> str:
    return one_line(policy.get("name") or "a policy without a name", 200)


def actions(policy: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name and the options of each action of a policy."""
    found = policy.get("actions")
    # Custodian takes the keys of a mapping for names of actions.
    for action in found if isinstance(found, (list, dict)) else [found] if found else ():
        if isinstance(action, dict):
            yield one_line(action.get("type"), 100), action
        else:
            yield one_line(action, 100), {}


def is_of_keys(policy: Mapping[str, Any]) -> bool:
    """Tell whether a policy's resource is one that access keys belong to."""
    found = policy.get("resource")
    kinds = found if isinstance(found, list) else [found]
    return any(str(kind).rpartition(".")[2] in RESOURCES for kind in kinds)


def uncounted(policy: Mapping[str, Any]) -> str:
    """Return why the keys that a policy acts on can't be counted; "" if they can."""
    if not is_of_keys(policy):
        return ""
    acts = ""
    for name, options in actions(policy):
        if name == "remove-keys" and options.get("matched") is not True:
            return "has remove-keys without matched: true, which takes keys that nothing here names"
        if name == "remove-keys" and not is_ours(policy):
            return OTHERS
        if name == "remove-keys" or name in COUNTED:
            acts = name
        elif name not in HARMLESS:
            return WHAT.get(name, f"has {name}: what it does to keys isn't known")
    mode = mode_of(policy)
    if acts and mode != "pull":
        return f"has {acts} in mode {mode}: a function does it, run after run, and no limit holds"
    return ""


def mode_of(policy: Mapping[str, Any]) -> str:
    return one_line(mapping(policy.get("mode")).get("type") or "pull", 100)


def beyond_notices(policies: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what policies do besides sending notices; nothing if they only notify."""
    for policy in policies:
        others = dict.fromkeys(name for name, _ in actions(policy) if name != NOTIFY)
        if others:
            yield f"{name_of(policy)} has {', '.join(others)}"
        elif mode_of(policy) != "pull":
            yield f"{name_of(policy)} has mode {mode_of(policy)}, which sets up a function"


def bad_names(policies: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the names: each needs its own output folder.

    Some disks take names that differ in upper and lower case only for one.
    """
    names = [str(policy.get("name")) for policy in policies]
    for name in dict.fromkeys(names):
        if not NAME.fullmatch(name):
            yield (
                f"{one_line(name, 200)} isn't a policy's name (letters and digits, with single "
                "hyphens between): its output folder may be another one's"
            )
    counts = Counter(map(str.casefold, names))
    for name in dict.fromkeys(map(str.casefold, names)):
        if counts[name] > 1:
            same = dict.fromkeys(one for one in names if one.casefold() == name)
            yield (
                f"{counts[name]} policies are named {one_line(' or '.join(same), 200)}: they share "
                "an output folder, where the files of the last one replace the others'"
            )
