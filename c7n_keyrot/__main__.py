# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m c7n_keyrot`: the `custodian` command with the pack, where no `.pth` file is read.

That is so with `python -S`, and where the package is found through PYTHONPATH.
"""

import sys

from c7n_keyrot import autoload


def main() -> None:
    """Custodian's own command line; it ends by itself with Custodian's exit codes."""
    autoload.install()
    from c7n.cli import main as custodian

    sys.argv[0] = "custodian"  # what its usage texts and logs call it
    custodian()


if __name__ == "__main__":
    main()
