# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
from embedded_aws.command import main

main()
