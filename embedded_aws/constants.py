# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names that the embedded AWS, the demo and the tests agree on."""

HUB = "123456789012"
REGION = "us-east-1"
MEMBER_ROLE = "c7n-keyrot"
ORGANIZATION_ID = "o-keyrot0001"
