# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The objects of a bucket. S3's answers aren't of the kind that the gate reads, so not by it."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator

import boto3
from botocore.config import Config

from c7n_keyrot.aws import settings
from c7n_keyrot.aws.errors import NotAwsError
from c7n_keyrot.aws.gate import as_call_error
from c7n_keyrot.aws.permit import Permit, check_permit

CALLS = Config(
    retries={"mode": "standard", "total_max_attempts": settings.TRIES},
    max_pool_connections=settings.WORKERS,
    connect_timeout=10,
    read_timeout=60,
)


class Bucket:
    """A bucket, with the credentials at hand; threads may share it.

    :raises CallError: no client can be made; by each method: its call failed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        with as_call_error("s3:client"):
            self._client = boto3.Session().client("s3", config=CALLS)

    def put(self, key: str, body: bytes, permit: Permit) -> None:
        """Write an object, whole."""
        check_permit("s3:PutObject", permit)
        kind, _ = mimetypes.guess_type(key)
        with as_call_error("s3:PutObject"):
            answer = self._client.put_object(
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType=kind or "application/octet-stream",
            )
            # A page of a proxy has none.
            if not answer.get("ETag"):
                raise NotAwsError(what="an answer without ETag")

    def get(self, key: str) -> bytes:
        """Return an object's content."""
        with as_call_error("s3:GetObject"):
            body: bytes = self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
            return body

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all objects whose keys begin so."""
        with as_call_error("s3:ListObjectsV2"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                if "KeyCount" not in page:
                    raise NotAwsError(what="an answer without KeyCount")
                for one in page.get("Contents", ()):
                    yield one["Key"]
