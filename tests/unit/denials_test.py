# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from c7n_keyrot.core import denials

CALL = "iam:UpdateAccessKey"
ROLE = "arn:aws:sts::111111111111:assumed-role/c7n-keyrot/secret-session"
USER = "arn:aws:iam::111111111111:user/hidden"
START = f"User: {ROLE} is not authorized to perform: {CALL} on resource: {USER}"
# Of AWS's page on authorization ids, which come after the ARN of the policy.
ENDING = (
    ": arn:aws:organizations::999999999999:policy/o-hidden/service_control_policy/p-hidden. "
    "Go to https://us-east-1.console.aws.amazon.com/iam/home?region=us-east-1"
    "#/authorization-details/EXAMPLE1a2b3c4d5e6f7g8h9i0j for complete details,\nor call the "
    "GetRequestAuthorizationDetails API with the following authorization id: "
    "EXAMPLE1a2b3c4d5e6f7g8h9i0j"
)


@pytest.mark.parametrize(
    ("ending", "said", "helps"),
    [
        ("", "", ""),
        (f" because no identity-based policy allows the {CALL} action", "", ""),
        (
            " with an explicit deny in a service control policy",
            "explicit deny in a service control policy",
            "organization's administrators",
        ),
        (
            f" because no service control policy allows the {CALL} action",
            "no service control policy allows it",
            "organization's administrators",
        ),
        (
            " with an explicit deny in a resource control policy",
            "explicit deny in a resource control policy",
            "organization's administrators",
        ),
        (
            f" because no permissions boundary allows the {CALL} action",
            "no permissions boundary allows it",
            "in the permissions boundary",
        ),
        (
            " with an explicit deny in a permissions boundary",
            "explicit deny in a permissions boundary",
            "in the permissions boundary",
        ),
        (
            f" because no session policy allows the {CALL} action",
            "no session policy allows it",
            "session is made with",
        ),
        (
            f" because no VPC endpoint policy allows the {CALL} action",
            "no VPC endpoint policy allows it",
            "VPC endpoint",
        ),
        (
            " with an explicit deny in an identity-based policy",
            "explicit deny in an identity-based policy",
            "ProtectedPath",
        ),
        (
            f" with an explicit deny in a service control policy{ENDING}",
            "explicit deny in a service control policy, "
            "authorization id EXAMPLE1a2b3c4d5e6f7g8h9i0j",
            "organization's administrators",
        ),
        (" with an explicit deny in a policy/service control policy", "", ""),
    ],
)
def test_of_a_denial_only_the_kind_of_policy_and_the_id_are_kept(
    ending: str, said: str, helps: str
) -> None:
    assert denials.said_of(START + ending) == said
    advice = denials.advice(said, CALL)
    assert (helps in advice) if helps else not advice
    assert not advice or CALL in advice
    head = "An error occurred (AccessDenied) when calling the UpdateAccessKey operation: "
    of_boto = denials.of_boto(f"{head}{START}{ending}")
    assert of_boto == f"{CALL} is denied (AccessDenied{said and ': '}{said})"
    assert "hidden" not in of_boto + said + advice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "An error occurred (ServiceFailure) when calling the GetUser operation: hidden",
            "GetUser failed (ServiceFailure)",
        ),
        ("Unable to parse response, invalid XML received: b'hidden'", ""),
        ("", ""),
    ],
)
def test_other_errors_of_boto_are_without_their_message(text: str, words: str) -> None:
    assert denials.of_boto(text) == words
