# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo, and its realistic users, whom tests use as well. Not shipped."""
