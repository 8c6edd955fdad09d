# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The scheduled runner: docs/runner.md's own commands, and the build's, with the real programs.

The stacks are made by the templates of deploy/, and all roles are held to their policies. The build
has its role's credentials as in CodeBuild, by a container's endpoint. `aws` is the real AWS CLI.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from codebuild import Build, build, executable
from harness import BIN, keyrot, run
from install_table_test import NETWORK, OFFLINE, cache
from mailer_test import Smtp
from moto.cloudformation.models import cloudformation_backends
from moto.codebuild.models import codebuild_backends
from moto.sns.models import sns_backends
from moto.sqs.models import SQSBackend
from walkthrough_test import commands_in, fill_in, set_addresses
from wheels import CHECKOUT

from embedded_aws import HUB, ORGANIZATION_ID, REGION, EmbeddedAws, Key

DEPLOY = CHECKOUT / "deploy"
PAGE = (CHECKOUT / "docs" / "runner.md").read_text("utf-8")
MEMBERS = {"payments": "111111111111", "web": "222222222222", "sandbox": "333333333333"}
EXTERNAL_ID = "c7n-keyrot-2f6c1d"
PROJECT = "c7n-keyrot-runner"
STALE = "iam-user-second-access-key-stale"


def section(title: str) -> list[str]:
    return commands_in(PAGE.split(f"## {title}\n")[1].split("\n## ")[0], 4)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the real AWS CLI, in an environment of its own: it pins another botocore."""
    folder = tmp_path_factory.mktemp("aws")
    env = {
        **{name: value for name, value in os.environ.items() if NETWORK.match(name)},
        "PATH": os.defpath,
        "HOME": str(folder),
        "UV_CACHE_DIR": cache("uv", "cache", "dir"),
        "UV_PYTHON": sys.executable,
        "UV_TOOL_DIR": str(folder / "tools"),
        "UV_TOOL_BIN_DIR": str(folder / "bin"),
    }
    done = run([BIN / "uv", "tool", "install", "awscli"], env, folder, timeout=300)
    if done.code and OFFLINE.search(done.text):
        pytest.skip("no package index can be reached: the AWS CLI isn't there")
    assert done.code == 0, done.text
    return folder / "bin"


class Hub:
    """The hub's engineer, in a folder, and what CodeBuild does when a build is started."""

    def __init__(self, aws: EmbeddedAws, folder: Path, cli: Path, libraries: Path) -> None:
        self.aws, self.folder, self.cli, self.libraries = aws, folder, cli, libraries
        self.variables: dict[str, str] = {}
        self.builds: list[Build] = []
        self.smtp = Smtp()

    def env(self, role: str | None = None) -> dict[str, str]:
        env = self.aws.env(HUB, home=self.folder, role=role)
        return {**env, "PATH": f"{self.cli}{os.pathsep}{env['PATH']}", "AWS_PAGER": ""}

    def run(self, command: str, **filled: str) -> str:
        """Run a command of the page; a variable that it sets is there for those after it."""
        for dots, text in filled.items():
            command = command.replace(dots, text)
        script = f"{command}\ncode=$?\nprintf '\\n%s' \"$BUCKET\"\nexit $code\n"
        env = {**self.env(), **self.variables}
        done = run(["/bin/bash", "-c", script], env, self.folder, timeout=120)
        text, _, bucket = done.text.rpartition("\n")
        assert done.code == 0, f"$ {command}\n{text}"
        self.variables["BUCKET"] = bucket
        return text

    @property
    def project(self) -> dict[str, Any]:
        (stack,) = [
            s for s in cloudformation_backends[HUB][REGION].stacks.values() if s.name == PROJECT
        ]
        return dict(stack.resource_map["Project"].properties)

    def build(self, **variables: str) -> Build:
        """What CodeBuild does; the first build installs, and the others go on from there."""
        folder = self.folder / f"build-{len(self.builds)}"
        env = {
            **self.env(),
            **variables,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.credentials,
            # Custodian and the rest, without the pack: that is installed by the build.
            "PYTHONPATH": str(self.libraries),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "C7N_KEYROT_LAG": "0",
        }
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del env[name]
        if self.builds:
            env["PATH"] = f"{self.builds[0].folder / 'venv' / 'bin'}{os.pathsep}{env['PATH']}"
        env["PATH"] = f"{os.environ.get('SHIM', '')}{os.pathsep}{env['PATH']}"
        again = bool(self.builds)
        done = build(self.project, folder, env, lambda c: again and "venv" in c and "PATH" not in c)
        self.builds.append(done)
        return done

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Those of the topic: subject and text."""
        (topic,) = sns_backends[HUB][REGION].topics.values()
        return [(sent[2], sent[1]) for sent in topic.sent_notifications]

    def outputs(self, done: Build) -> dict[str, bytes]:
        """What the build left in the bucket, by the path below its prefix."""
        prefix = done.env["RUN"].removeprefix(f"s3://{self.variables['BUCKET']}/")
        objects = self.aws.objects(self.variables["BUCKET"])
        return {
            key[len(prefix) + 1 :]: value
            for key, value in objects.items()
            if key.startswith(prefix)
        }

    def status(self) -> dict[str, str]:
        return {name: self.aws.account(i).status("old", 2) for name, i in MEMBERS.items()}


class Credentials(BaseHTTPRequestHandler):
    """What CodeBuild's container asks for the credentials of its role."""

    aws: EmbeddedAws

    def do_GET(self) -> None:
        given = self.aws.credentials(HUB, PROJECT)
        until = datetime.now(timezone.utc) + timedelta(hours=1)
        body = json.dumps(
            {
                "AccessKeyId": given["AWS_ACCESS_KEY_ID"],
                "SecretAccessKey": given["AWS_SECRET_ACCESS_KEY"],
                "Token": given["AWS_SESSION_TOKEN"],
                "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, cli: Path, libraries: Path) -> Iterator[Hub]:
    receive = SQSBackend.receive_message

    def at_once(backend: Any, queue: str, count: int, wait: int, *rest: Any) -> Any:
        return receive(backend, queue, count, 0, *rest)  # an empty queue costs c7n-mailer 10 s

    with EmbeddedAws() as aws, mock.patch.object(SQSBackend, "receive_message", at_once):
        made = Hub(aws, tmp_path_factory.mktemp("hub"), cli, libraries)
        made.smtp.start()
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Of", (Credentials,), {"aws": aws}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.credentials = f"http://127.0.0.1:{server.server_port}/"
        organization(made)
        aws.enforce()
        yield made
        server.shutdown()
        server.server_close()
        made.smtp.stop()
        assert aws.errors == []


def organization(hub: Hub) -> None:
    """The first two stacks, accounts with users, and the files of README's steps."""
    outputs = hub.aws.account(HUB).deploy(
        "c7n-keyrot-hub",
        DEPLOY / "hub.yml",
        OrganizationId=ORGANIZATION_ID,
        FromAddress="security@corp.test",
    )
    for name, account_id in MEMBERS.items():
        member(hub, name)
        account = hub.aws.account(account_id)
        owner = {"OwnerContact": f"{name}@corp.test"}
        account.add_user("old", Key(10, last_used_days=1), Key(200), owner)
        account.add_user("soon", None, Key(83), owner)
        account.add_user("fresh", Key(200), Key(5))
    assert run(keyrot("init", "."), hub.env(), hub.folder).code == 0
    set_addresses(hub.folder)
    accounts = [
        {
            "name": name,
            "account_id": account_id,
            "role": f"arn:aws:iam::{account_id}:role/c7n-keyrot",
            "external_id": EXTERNAL_ID,
            "regions": [REGION],
        }
        for name, account_id in MEMBERS.items()
    ]
    made = {"vars": {"action": {"queue": outputs["QueueArn"]}}, "accounts": accounts}
    (hub.folder / "accounts.yml").write_text(yaml.safe_dump(made), "utf-8")
    (hub.folder / "mailer.yml").write_bytes((DEPLOY.parent / "examples/mailer.yml").read_bytes())
    fill_in(
        hub.folder / "mailer.yml",
        queue_url=outputs["QueueUrl"],
        profile="c7n-keyrot-mailer",
        smtp_server="127.0.0.1",
        smtp_port=hub.smtp.port,
        smtp_ssl=False,
    )
    # The build takes Custodian from here; test_the_list_installs is about the list.
    (hub.folder / "deploy" / "requirements.txt").write_text("# nothing\n", "utf-8")


def member(hub: Hub, name: str, mode: str = "enforcing", external_id: str = EXTERNAL_ID) -> None:
    hub.aws.account(MEMBERS[name]).deploy(
        "c7n-keyrot",
        DEPLOY / "member-role.yml",
        HubAccountId=HUB,
        ExternalId=external_id,
        Mode=mode,
    )


def test_the_page(hub: Hub) -> None:
    wheel = next(iter((CHECKOUT / "dist").glob("*.whl")))
    for command in section("Deploy"):
        hub.run(command, WHEEL=str(wheel))
    assert len(codebuild_backends[HUB][REGION].build_history[PROJECT]) == 1
    done = hub.build()
    print(done.text)
    print(hub.outputs(done).keys())
    assert done.green, done.text
