# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Do the job without Custodian: with the fewest calls, one after the other.

Prints {user: key id} of the active second keys older than 90 days. It reads no tags, so it ignores
exemptions, and makes half the calls of the pack.
"""

import csv
import io
import json
import time
from datetime import datetime, timedelta, timezone

import boto3


def main() -> None:
    iam = boto3.client("iam")
    while iam.generate_credential_report()["State"] != "COMPLETE":
        time.sleep(1)
    report = io.StringIO(iam.get_credential_report()["Content"].decode())
    limit = datetime.now(timezone.utc) - timedelta(days=90)
    found = {}
    for row in csv.DictReader(report):
        if row["access_key_2_active"] != "true":
            continue
        rotated = datetime.fromisoformat(row["access_key_2_last_rotated"])
        if rotated >= limit:
            continue
        live = iam.list_access_keys(UserName=row["user"])["AccessKeyMetadata"]
        keys = [key["AccessKeyId"] for key in live if key["CreateDate"] == rotated]
        if len(keys) == 1:
            found[row["user"]] = keys[0]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
