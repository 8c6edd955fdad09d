# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What policies name: the filters, the actions, the source."""
