# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m c7n_keyrot ARG...`` is ``c7n-keyrot ARG...``, where its script isn't on the PATH."""

import sys

from c7n_keyrot.cli import main

if __name__ == "__main__":
    # Under spawn and forkserver c7n-org's workers import the script that their parent ran, and with
    # it the hook; but not a package's __main__, unless it looks like a script.
    __spec__ = None
    sys.exit(main())
