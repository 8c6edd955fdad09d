# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run under Custodian, from its filters to its end."""
