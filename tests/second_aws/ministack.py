# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""MiniStack as a process: an AWS that nobody of this project wrote, and that isn't moto either."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3

REGION = "us-east-1"
HUB, PACK, ENFORCING, READ_ONLY, WRONG_ID = (12 * digit for digit in "12345")
# A key is stale after 2.6 seconds: all keys are born now there, and none can be made older.
DAYS = 0.00003
START = 30.0  # seconds that it may take to start


class SecondAws:
    """The server; a context manager. It holds everybody but an account's root to the policies.

    An account is there as soon as it is named. Its state is of this process alone.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        self.url = ""

    def __enter__(self) -> SecondAws:
        port = _free_port()
        # The queue's and the buckets' policies in deploy/ refuse whatever comes without TLS.
        self.url = f"https://127.0.0.1:{port}"
        self.certificate = self._folder / "ministack-tls" / "server.crt"
        self._log = (self._folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            [str(self._program)],
            cwd=self._folder,
            env={
                "AUTH": "true",  # "1" enforces nothing
                "BIND_HOST": "127.0.0.1",
                "CLOUDTRAIL_RECORDING": "1",
                "GATEWAY_PORT": str(port),
                "HOME": str(self._folder),
                "IOT_MTLS_ENABLED": "0",  # or there is a second port, on all addresses
                "PATH": os.pathsep.join([str(self._program.parent), "/usr/bin", "/bin"]),
                "TMPDIR": str(self._folder),
                "USE_SSL": "1",
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # SIGTERM leaves its workers of Lambda behind.
        if self._process.poll() is None:
            os.killpg(self._process.pid, 9)
        self._process.wait()
        self._log.close()

    def _wait(self, port: int) -> None:
        end = time.monotonic() + START
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                text = (self._folder / "server.log").read_text("utf-8", "replace")
                assert self._process.poll() is None, f"MiniStack has ended:\n{text}"
                assert time.monotonic() < end, f"MiniStack doesn't answer:\n{text}"
                time.sleep(0.05)

    def client(self, service: str, account_id: str) -> Any:
        """A client of the account's root, whom no policy limits."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            verify=str(self.certificate),
            region_name=REGION,
            aws_access_key_id=account_id,
            aws_secret_access_key="not-a-secret",
        )

    def env(self, account_id: str, home: Path, **credentials: str) -> dict[str, str]:
        """A process's whole environment: this AWS, as the account's root or with credentials."""
        return {
            "AWS_CA_BUNDLE": str(self.certificate),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_ACCESS_KEY_ID": account_id,
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            **credentials,
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        }

    def deploy(self, account_id: str, name: str, template: Path, **given: str) -> dict[str, str]:
        """Make a stack of a template by CloudFormation; return its outputs."""
        cloudformation = self.client("cloudformation", account_id)
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=template.read_text("utf-8"),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}


class People:
    """An account's users. Their names say what the pack must do.

    ``stale-*``: the second key goes off. ``left-*``: no key is touched.
    """

    def __init__(self, second: SecondAws, account_id: str) -> None:
        self.id, self.iam = account_id, second.client("iam", account_id)
        self.ids: dict[str, list[str]] = {}  # by user: the first key, then the second

    def add(self, name: str, **tags: str) -> None:
        pairs = [{"Key": key.replace("_", "-"), "Value": value} for key, value in tags.items()]
        self.iam.create_user(UserName=name, Tags=pairs)
        self.ids[name] = []

    def add_key(self, name: str) -> datetime:
        key = self.iam.create_access_key(UserName=name)["AccessKey"]
        self.ids[name].append(key["AccessKeyId"])
        created: datetime = key["CreateDate"]
        return created

    def add_keys_of_one_second(self, name: str) -> None:
        while self.add_key(name) != self.add_key(name):
            for key_id in self.ids[name]:
                self.iam.delete_access_key(UserName=name, AccessKeyId=key_id)
            self.ids[name].clear()

    def statuses(self) -> dict[str, list[str]]:
        """Of each user's keys, the first key first."""
        found = {}
        for name, ids in self.ids.items():
            keys = self.iam.list_access_keys(UserName=name)["AccessKeyMetadata"]
            by_id = {key["AccessKeyId"]: key["Status"] for key in keys}
            assert set(by_id) == set(ids)
            found[name] = [by_id[key_id] for key_id in ids]
        return found

    def wanted(self) -> dict[str, list[str]]:
        """As they must be after the pack: exactly the second keys of the stale are off."""
        return {
            name: ["Active", "Inactive"]
            if name.startswith("stale-") or name == "left-off"
            else ["Active"] * len(ids)
            for name, ids in self.ids.items()
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
