# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m embedded_aws`: seeded accounts for another process."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from typing import Any

from embedded_aws.constants import HUB
from embedded_aws.crowd import seed_bench
from embedded_aws.server import EmbeddedAws


def main(argv: list[str] | None = None) -> None:
    """Serve seeded accounts until a signal; one line of JSON says where."""
    parser = argparse.ArgumentParser(prog="python -m embedded_aws", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--users", type=int, default=1000, help="users in each account")
    parser.add_argument("--find", type=int, default=200, help="how many to find, at most")
    parser.add_argument("--members", type=int, default=0, help="seed N members, not the hub")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of each call")
    parser.add_argument("--report-seconds", type=float, default=2.0, help="to generate a report")
    parser.add_argument(
        "--calls-per-second", type=float, help="Throttling above it, in each account"
    )
    args = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    latency = args.latency_ms / 1000
    with EmbeddedAws(latency, args.report_seconds, port=args.port) as aws:
        aws.limit(args.calls_per_second)
        ids = [f"{200_000_000_000 + n}" for n in range(args.members)] or [HUB]
        find, before = {}, {}
        for account_id in ids:
            account = aws.account(account_id)
            account.add_role()
            find[account_id] = seed_bench(account, args.users, args.find)
            before[account_id] = account.snapshot()

        def control(name: str, query: dict[str, str]) -> Any:
            if name == "truth":
                return {
                    "find": find,
                    "changed": {i: aws.account(i).changes(before[i]) for i in ids},
                }
            if name != "reset":
                return None
            aws.reset_calls()
            for account_id in ids:
                account = aws.account(account_id)
                for key_id, key in account.backend.access_keys.items():
                    key.status = before[account_id].get(key_id, key.status)
                if query.get("report") == "fresh":
                    account.generate_report()
                else:
                    account.delete_report()
            return {}

        aws.control = control
        aws.create_queue("c7n-keyrot")
        line = {"url": aws.url, "hub": HUB, "accounts": ids, "env": aws.env(HUB)}
        print(json.dumps(line), flush=True)
        stop.wait()
