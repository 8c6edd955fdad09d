# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Details that no other test pins down; each was found as a mutant that survived (TESTING.md)."""
