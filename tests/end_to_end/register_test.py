# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A register of exemptions in S3, with Custodian's default settings: its cache is on."""

from __future__ import annotations

from pathlib import Path

import boto3
from harness import as_file, custodian, run

from embedded_aws import HUB, REGION, EmbeddedAws, Key

POLICY = {
    "policies": [
        {
            "name": "stale",
            "resource": "aws.iam-user",
            "source": "credential-report",
            "filters": [
                "stale-access-key",
                {"not": [{"type": "rotation-exempt", "register": "s3://lists/exemptions.csv"}]},
            ],
            "actions": ["disable-access-key"],
        }
    ]
}


def test_a_register_in_s3(aws: EmbeddedAws, tmp_path: Path) -> None:
    account = aws.account(HUB)
    account.add_user("ana", Key(10), Key(200))
    account.add_user("bob", Key(10), Key(200), {"keyrot-exempt-until": "2999-01-01"})
    env = aws.env(HUB, home=tmp_path)
    s3 = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=env["AWS_ENDPOINT_URL"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    s3.create_bucket(Bucket="lists")
    args = custodian("run", "-s", tmp_path / "out", as_file(POLICY, tmp_path))

    done = run(args, env, tmp_path)  # there is none yet
    assert done.code != 0
    assert "the register s3://lists/exemptions.csv can't be read (NoSuchKey)" in done.text
    assert account.status("bob", 2) == "Active"

    text = f"account,user,until,reason,approved by\n{HUB},ana,2999-01-01,legacy,boss\n"
    s3.put_object(Bucket="lists", Key="exemptions.csv", Body=text.encode())
    done = run(args, env, tmp_path)
    assert done.code == 0, done.text
    assert (account.status("ana", 2), account.status("bob", 2)) == ("Active", "Inactive")
