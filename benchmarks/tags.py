# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Two ways to some users' tags: GetUser for each, side by side, or all users of the account.

Prints {"workers": side by side, "details": {page size: seconds}, "get_user": {count: seconds}}:
medians, once connected.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import boto3
from botocore.config import Config

from c7n_keyrot.aws import settings


def median_seconds(work: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", required=True)
    parser.add_argument("--pages", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--workers", type=int, default=settings.WORKERS)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    iam = boto3.client("iam", config=Config(max_pool_connections=args.workers))
    pages = iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 1000})
    names = [user["UserName"] for page in pages for user in page["Users"]]

    def get_user(name: str) -> dict[str, object]:
        return iam.get_user(UserName=name)["User"]

    def side_by_side(count: int) -> None:
        with ThreadPoolExecutor(args.workers) as executor:
            list(executor.map(get_user, names[:count]))

    def details(size: int) -> None:
        paginator = iam.get_paginator("get_account_authorization_details")
        pages = paginator.paginate(Filter=["User"], PaginationConfig={"PageSize": size})
        read = sum(len(page["UserDetailList"]) for page in pages)
        assert read == len(names), f"{read} of {len(names)} users"

    side_by_side(args.workers)
    side, whole = {}, {}
    for count in args.counts:
        side[count] = median_seconds(partial(side_by_side, count), args.runs)
    for size in args.pages:
        whole[size] = median_seconds(partial(details, size), args.runs)
    print(json.dumps({"workers": args.workers, "details": whole, "get_user": side}))


if __name__ == "__main__":
    main()
