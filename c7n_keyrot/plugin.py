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

    from c7n_keyrot.actions import DeleteAccessKey, DisableAccessKey
    from c7n_keyrot.exemptions import RotationExempt
    from c7n_keyrot.filters import ExpiringAccessKey, StaleAccessKey, UnclearAccessKey
    from c7n_keyrot.source import NAME, CredentialReportSource, OtherResource

    User.filter_registry.register("stale-access-key", StaleAccessKey)
    User.filter_registry.register("expiring-access-key", ExpiringAccessKey)
    User.filter_registry.register("unclear-access-key", UnclearAccessKey)
    User.filter_registry.register("rotation-exempt", RotationExempt)
    User.action_registry.register("disable-access-key", DisableAccessKey)
    User.action_registry.register("delete-access-key", DeleteAccessKey)
    # The schema's words for source come from the registry of all resources; which class serves
    # a resource comes from its own mapping first.
    sources.register(NAME, OtherResource)
    User.source_mapping[NAME] = CredentialReportSource
