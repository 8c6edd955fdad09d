# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The errors that end a command."""

from __future__ import annotations


class CommandError(Exception):
    """Ends a command: exit code 1, and one line with what is wrong, where, and what to do."""
