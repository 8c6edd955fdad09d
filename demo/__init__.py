# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""An embedded AWS with realistic users: for the demo, the tests and the benchmarks. Not shipped."""
