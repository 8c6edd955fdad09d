# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one list of what this package adds to Custodian."""

from __future__ import annotations


def register() -> None:
    """Add the filters, actions and the source to aws.iam-user; twice is harmless.

    :raises Exception: whatever an import raises; ``autoload`` turns it into one line.
    """
    # Before anything is registered, so that a broken module leaves Custodian as it was.
    from c7n.query import sources
    from c7n.resources.iam import User

    from c7n_keyrot.custodian.elements.actions import DeleteAccessKey, DisableAccessKey
    from c7n_keyrot.custodian.elements.exemptions import RotationExempt
    from c7n_keyrot.custodian.elements.filters import (
        ExpiringAccessKey,
        StaleAccessKey,
        UnclearAccessKey,
    )
    from c7n_keyrot.custodian.elements.findings import PostKeyFinding
    from c7n_keyrot.custodian.elements.source import NAME, CredentialReportSource, OtherResource
    from c7n_keyrot.custodian.elements.time_window import TimeWindow

    # The schema's words for source come from the registry of all resources; which class serves
    # a resource comes from its own mapping first.
    added = [
        (User.filter_registry, "stale-access-key", StaleAccessKey),
        (User.filter_registry, "expiring-access-key", ExpiringAccessKey),
        (User.filter_registry, "unclear-access-key", UnclearAccessKey),
        (User.filter_registry, "rotation-exempt", RotationExempt),
        (User.filter_registry, "time-window", TimeWindow),
        (User.action_registry, "disable-access-key", DisableAccessKey),
        (User.action_registry, "delete-access-key", DeleteAccessKey),
        (User.action_registry, "post-key-finding", PostKeyFinding),
        (sources, NAME, OtherResource),
    ]
    try:
        for registry, name, element in added:
            registry.register(name, element)
        User.source_mapping[NAME] = CredentialReportSource
    except Exception:
        # All or nothing: half a pack would be taken for a whole one.
        for registry, name, _ in added:
            registry.unregister(name)
        raise
