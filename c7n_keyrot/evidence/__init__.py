# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one reader of what runs leave."""
