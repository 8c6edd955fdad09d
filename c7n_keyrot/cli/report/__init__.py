# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot report OUTPUT_DIR...`: what runs found and did."""
