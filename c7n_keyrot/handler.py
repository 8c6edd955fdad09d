# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The entry point in AWS Lambda: ``handler: c7n_keyrot.handler.run`` in a policy's ``mode``.

No startup file is read there, so the hook is installed here, before c7n loads the policy.
"""

from typing import Any

from c7n.handler import dispatch_event

from c7n_keyrot import autoload

autoload.install()


def run(event: dict[str, Any], context: Any) -> Any:
    """Run the archive's policies on ``event``, as Custodian's ``custodian_policy.run`` does."""
    return dispatch_event(event, context)
