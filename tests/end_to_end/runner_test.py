# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The scheduled runner: docs/runner.md's own commands, and the build's, with the real programs.

The stacks are made by the templates of deploy/, and all roles are held to their policies. The build
has its role's credentials as in CodeBuild, by a container's endpoint. `aws` is the real AWS CLI.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from cloudformation import runner
from codebuild import Build, build
from harness import BIN, Finished, keyrot, run, with_doors
from mailer_test import Smtp
from moto.cloudformation.models import cloudformation_backends
from moto.codebuild.models import CodeBuildBackend, codebuild_backends
from moto.events.models import events_backends
from moto.sns.models import sns_backends
from moto.sqs.models import SQSBackend
from walkthrough_test import commands_in, fill_in, set_addresses
from wheels import CHECKOUT

from embedded_aws import HUB, ORGANIZATION_ID, REGION, EmbeddedAws, Key

DEPLOY = CHECKOUT / "deploy"
PAGE = (CHECKOUT / "docs" / "runner.md").read_text("utf-8")
MEMBERS = {"payments": "111111111111", "web": "222222222222"}
EXTERNAL_ID = "c7n-keyrot-2f6c1d"
PROJECT = "c7n-keyrot-runner"
MAILER = f"{PROJECT}-mailer"
STALE = "iam-user-second-access-key-stale"
INSTALLS = re.compile(r"^(python3 -m venv|venv/bin/python -m pip) ")


def section(title: str) -> list[str]:
    return commands_in(PAGE.split(f"## {title}\n")[1].split("\n## ")[0])


class Refusing(Smtp):
    """A mail server that takes no mail while `refuses` is set."""

    refuses = True

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refuses:
            return "554 not from you"
        return await super().handle_DATA(server, session, envelope)


def prefix_of(done: Build) -> str:
    """Where a build's outputs are in the bucket: it names the place."""
    (prefix,) = re.findall(r"^Outputs: s3://[^/]+/(runs/\S+/)$", done.text, re.MULTILINE)
    return str(prefix)


class Hub:
    """The hub's engineer, in a folder, and what CodeBuild does when a build is started."""

    def __init__(self, aws: EmbeddedAws, folder: Path, aws_cli: Path) -> None:
        self.aws, self.folder, self.aws_cli = aws, folder, aws_cli
        self.variables: dict[str, str] = {}
        self.builds: list[Build] = []
        self.numbers = itertools.count()
        self.mailer_builds: dict[str, Build | None] = {}  # by id; None while it works
        self.smtp = Refusing()  # not started: at first nobody listens there
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.smtp.port = free.getsockname()[1]

    def env(self, account_id: str = HUB) -> dict[str, str]:
        env = with_doors(self.aws.env(account_id, home=self.folder))
        return {**env, "PATH": f"{self.aws_cli}{os.pathsep}{env['PATH']}", "AWS_PAGER": ""}

    def run(self, command: str, account_id: str = HUB, **filled: str) -> str:
        """Run a command of the page; a variable that it sets is there for those after it."""
        for dots, text in filled.items():
            command = command.replace(dots, text)
        script = f"{command}\ncode=$?\nprintf '\\n%s' \"$BUCKET\"\nexit $code\n"
        env = {**self.env(account_id), **self.variables}
        done = run(["/bin/bash", "-c", script], env, self.folder, timeout=120)
        text, _, bucket = done.text.rpartition("\n")
        assert done.code == 0, f"$ {command}\n{text}"
        self.variables["BUCKET"] = bucket
        return text

    def resource(self, name: str) -> Any:
        stacks = cloudformation_backends[HUB][REGION].stacks.values()
        (stack,) = [one for one in stacks if one.name == PROJECT]
        return stack.resource_map[name]

    @property
    def project(self) -> dict[str, Any]:
        return dict(self.resource("Project").properties)

    def build_env(self, role: str) -> dict[str, str]:
        """This environment is in the place of the one that CodeBuild would make."""
        env = {**self.env(), "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.credentials + role}
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del env[name]
        return env

    def build(self, **changed: str) -> Build:
        """What CodeBuild does.

        :param changed: variables that the build is started with in place of the project's.
        """
        done = build(
            self.project,
            self.folder / f"build-{next(self.numbers)}",
            self.build_env(PROJECT) | changed,
            skip=lambda command: bool(INSTALLS.search(command)),
        )
        self.builds.append(done)
        return done

    def start_mailer(self, build_id: str) -> None:
        """What CodeBuild does when the runner has started the mailer's project."""
        self.mailer_builds[build_id] = None

        def work() -> None:
            project = dict(self.resource("MailerProject").properties)
            folder = self.folder / f"mailer-{len(self.mailer_builds)}"
            env = {**self.build_env(MAILER), "CODEBUILD_BUILD_ID": build_id}
            self.mailer_builds[build_id] = build(project, folder, env, skip=INSTALLS.search)

        threading.Thread(target=work, daemon=True).start()

    def mailer_status(self, build_id: str) -> str:
        done = self.mailer_builds[build_id]
        return "IN_PROGRESS" if done is None else "SUCCEEDED" if done.green else "FAILED"

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Those of the topic: subject and text."""
        (topic,) = sns_backends[HUB][REGION].topics.values()
        return [(sent[2], sent[1]) for sent in topic.sent_notifications]

    def outputs(self, done: Build) -> dict[str, bytes]:
        """What the build left in the bucket, by the path below its prefix."""
        prefix = prefix_of(done)
        objects = self.aws.objects(self.variables["BUCKET"])
        return {
            key[len(prefix) :]: value for key, value in objects.items() if key.startswith(prefix)
        }

    def status(self) -> dict[str, str]:
        return {name: self.aws.account(i).status("old", 2) for name, i in MEMBERS.items()}


class Credentials(BaseHTTPRequestHandler):
    """What CodeBuild's container asks for the credentials of its role."""

    aws: EmbeddedAws

    def do_GET(self) -> None:
        given = self.aws.credentials(HUB, self.path.strip("/"))
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
def hub(tmp_path_factory: pytest.TempPathFactory, aws_cli: Path, libraries: Path) -> Iterator[Hub]:
    receive = SQSBackend.receive_message

    def at_once(backend: Any, queue: str, count: int, wait: int, *rest: Any) -> Any:
        return receive(backend, queue, count, 0, *rest)  # an empty queue costs c7n-mailer 10 s

    start, ask = CodeBuildBackend.start_build, CodeBuildBackend.batch_get_builds

    def started(backend: Any, project: str, *rest: Any) -> Any:
        metadata = start(backend, project, *rest)
        if project == MAILER:
            made.start_mailer(metadata["id"])
        return metadata

    def asked(backend: Any, ids: list[str]) -> Any:
        return [{**one, "buildStatus": made.mailer_status(one["id"])} for one in ask(backend, ids)]

    with (
        EmbeddedAws() as aws,
        mock.patch.object(SQSBackend, "receive_message", at_once),
        mock.patch.object(CodeBuildBackend, "start_build", started),
        mock.patch.object(CodeBuildBackend, "batch_get_builds", asked),
    ):
        made = Hub(aws, tmp_path_factory.mktemp("hub"), aws_cli)
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Of", (Credentials,), {"aws": aws}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.credentials = f"http://127.0.0.1:{server.server_port}/"
        organization(made)
        aws.enforce()
        yield made
        server.shutdown()
        server.server_close()
        if made.smtp.mails:
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


def member(hub: Hub, name: str, mode: str = "enforcing", external_id: str = EXTERNAL_ID) -> None:
    hub.aws.account(MEMBERS[name]).deploy(
        "c7n-keyrot",
        DEPLOY / "member-role.yml",
        HubAccountId=HUB,
        ExternalId=external_id,
        Mode=mode,
    )


@pytest.mark.waits(seconds=60)
def test_the_page(hub: Hub) -> None:
    """All its commands but the last one, in their order, and the builds that they lead to."""
    wheel = next(iter((CHECKOUT / "dist").glob("*.whl")))
    for command in section("Deploy"):
        hub.run(command, WHEEL=str(wheel))
    history = codebuild_backends[HUB][REGION].build_history[PROJECT]
    assert len(history) == 1
    assert {v["Value"] for v in hub.project["Environment"]["EnvironmentVariables"]} >= {"look", 50}
    told = yaml.safe_load((hub.folder / "config/examples/notify-only.yml").read_text("utf-8"))
    assert {"type": "time-window", "weekdays": ["Mon"]} in told["policies"][-1]["filters"]
    tell, act = section("From looking to acting")
    hub.run(tell)
    check_that_no_failure_opens_the_gate(hub)
    hub.run(act.replace("Mode=act", "Mode=act MaxKeys=0 MaxPercent=100"))
    check_that_nothing_is_done_if_mails_cannot_go_out(hub)
    check_that_nothing_is_done_if_the_plan_is_not_kept(hub)
    hub.run(act.replace("Mode=act", "Mode=act MaxKeys=50"))
    check_that_each_failure_is_told_and_the_rest_is_done(hub)
    check_what_the_mailer_s_build_can_reach(hub)
    check_a_run_without_a_failure(hub)

    summary, page, fetch, trend = section("Look at the last run")
    assert f"c7n-keyrot, act: {ONE}, steps failed: 0." in hub.run(summary)
    hub.run(page)
    assert (hub.folder / "report.html").read_bytes() == hub.outputs(hub.builds[-1])["report.html"]
    hub.run(fetch)
    hub.run(trend)
    assert MEMBERS["web"] in (hub.folder / "trend.html").read_text("utf-8")
    disable, stop = section("Stop it")
    hub.run(disable)
    assert hub.resource("DailyRun").properties["State"] == "DISABLED"
    hub.run(stop)
    metadata = codebuild_backends[HUB][REGION].build_metadata_history[PROJECT]
    assert [one["buildStatus"] for one in metadata] == ["STOPPED"]
    fetch, reactivate, give_back = section("Switch keys on again")
    hub.run(fetch)
    hub.run(f"{reactivate} --yes")
    assert set(hub.status().values()) == {"Active"}
    known = hub.aws.objects(hub.variables["BUCKET"])
    hub.run(give_back)
    added = {
        key: value
        for key, value in hub.aws.objects(hub.variables["BUCKET"]).items()
        if key not in known
    }
    assert b"".join(added.values()).count(b'"reactivated"') == len(MEMBERS)
    in_hub, in_member = section("Messages from AWS's own record")
    hub.run(in_hub, **{"o-...": ORGANIZATION_ID})
    stacks = cloudformation_backends[HUB][REGION].stacks.values()
    (bus,) = [o["OutputValue"] for s in stacks for o in s.outputs if o["OutputKey"] == "BusArn"]
    hub.run(in_member, MEMBERS["web"], **{"arn:...": bus})
    (rule,) = events_backends[MEMBERS["web"]][REGION].event_buses["default"].rules.values()
    assert [target["Arn"] for target in rule.targets] == [bus]


ACTING = "policies/second-access-key.yml"
ONE = "keys disabled: 1, deleted: 0, in doubt: 0"
TELLING = "examples/notify-only.yml"


def check_that_no_failure_opens_the_gate(hub: Hub) -> None:
    """`tell` with policies that act, `act` with one of Custodian's own beside them, more than may.

    tests/unit/runner_test.py has the others: a plan that is killed, odd values.
    """
    acting = (hub.folder / "config" / ACTING).read_bytes()
    beside = yaml.safe_load(acting)
    remove = {"type": "remove-keys", "age": 90, "disable": True}
    beside["policies"].append({"name": "old", "resource": "aws.iam-user", "actions": [remove]})
    cases = [
        ("tell", TELLING, acting, "iam-user-second-access-key-stale has disable-access-key"),
        ("tell", TELLING, yaml.safe_dump(beside).encode(), "old has remove-keys"),
        ("act", TELLING, None, "--asked is act, but this runner may do no more than tell"),
        ("act ", TELLING, None, "--asked is 'act ': it must be look, tell or act"),
    ]
    before = len(hub.builds)
    for mode, name, content, said in cases:
        place = hub.folder / "config" / name
        kept = place.read_bytes()
        place.write_bytes(content or kept)
        hub.run(f'aws s3 cp config/{name} "s3://$BUCKET/config/{name}"')
        done = hub.build(MODE=mode)
        assert list(done.failed) == ["build"], done.text
        assert said in done.text
        check_that_nothing_was_done(hub)
        place.write_bytes(kept)
    hub.run(f'aws s3 cp config/{TELLING} "s3://$BUCKET/config/{TELLING}"')
    subject, text = hub.messages[-1]
    assert subject.startswith("c7n-keyrot look: keys disabled: 0, deleted: 0, in doubt: 0, steps")
    assert "The configuration isn't right. Nothing was done." in text
    del hub.builds[before:]


def check_that_nothing_was_done(hub: Hub) -> None:
    assert set(hub.status().values()) == {"Active"}
    assert {hub.aws.account(i).status("fresh", 1) for i in MEMBERS.values()} == {"Active"}
    assert hub.aws.messages("c7n-keyrot") == []
    assert not any("/run/" in name for name in hub.aws.objects(hub.variables["BUCKET"]))


def check_that_nothing_is_done_if_mails_cannot_go_out(hub: Hub) -> None:
    """The mail server is down, which a round of c7n-mailer would have found after the keys."""
    done = hub.build()
    assert list(done.failed) == ["build"], done.text
    check_that_nothing_was_done(hub)
    _, text = hub.messages[-1]
    assert "FAILED: mails can't go out: the mail server of mailer.yml: " in text
    assert "Nothing was sent, no key was changed" in text
    assert b"did not make this file" in hub.aws.objects(hub.variables["BUCKET"])["latest/plan.txt"]


def check_that_nothing_is_done_if_the_plan_is_not_kept(hub: Hub) -> None:
    """More keys than the limit, and an account whose role can't be taken."""
    hub.smtp.start()
    member(hub, "web", external_id="another")
    done = hub.build()
    assert list(done.failed) == ["build"], done.text
    assert set(hub.status().values()) == {"Active"}
    assert hub.aws.messages("c7n-keyrot") == []
    outputs = hub.outputs(done)
    plan = outputs["plan.txt"].decode()
    assert "1 key would be disabled or deleted, more than --max-keys 0" in plan
    assert "1 of 2 accounts not covered" in plan
    assert re.search(
        r"FAIL +coverage of account web .* can't be taken", outputs["doctor.txt"].decode()
    )
    assert {"report.html", "failed.txt"} <= set(outputs)
    assert covered(outputs) == {"payments": True, "web": False}
    assert any(name.startswith("look/payments/") for name in outputs)
    assert not any(name.startswith("run/") for name in outputs)
    subject, text = hub.messages[-1]
    assert subject == f"c7n-keyrot act: {ONE.replace('1', '0')}, steps failed: 3"
    assert "FAILED: the plan; see plan.txt (exit code 3)" in text


def check_that_each_failure_is_told_and_the_rest_is_done(hub: Hub) -> None:
    """A role that may not disable, and a mail server that refuses."""
    member(hub, "web", mode="read-only")
    seen: list[str] = []
    hub.aws.before(
        "iam.UpdateAccessKey",
        lambda _: seen.extend(hub.aws.objects(hub.variables["BUCKET"])),
        times=1,
    )
    done = hub.build()
    assert list(done.failed) == ["build"], done.text
    assert hub.status() == {"payments": "Inactive", "web": "Active"}
    outputs = hub.outputs(done)
    assert " - ERROR - " in outputs["mailer.txt"].decode()
    assert "smtp_server" not in outputs["mailer.txt"].decode()  # it quotes nothing of mailer.yml
    assert re.search(
        r"FAIL +coverage of account web .*UpdateAccessKey", outputs["doctor.txt"].decode()
    )
    # Already there before the first key was touched: the build might have been stopped then.
    assert any("/run/" in name and "keyrot-intents" in name for name in seen)
    assert any(name.startswith("run/payments/") and "outcomes" in name for name in outputs)
    subject, text = hub.messages[-1]
    assert subject == f"c7n-keyrot act: {ONE}, steps failed: 4"
    assert "FAILED: the run, in some account" in text
    assert "FAILED: c7n-mailer; see mailer.txt" in text
    assert "FAILED: a notice wasn't sent (" in text
    (mailer,) = hub.mailer_builds.values()
    assert mailer
    assert " - ERROR - " in mailer.text
    assert "smtp_server" not in mailer.text
    assert "keyrot mailer" not in done.text
    keys = {name: hub.aws.account(i).key_id("old", 2) for name, i in MEMBERS.items()}
    assert f"disabled {MEMBERS['payments']} old {keys['payments']}\n" in text
    assert f"denied {MEMBERS['web']} old {keys['web']}\n" in text


def check_what_the_mailer_s_build_can_reach(hub: Hub) -> None:
    """Whatever ran there, with its own role and with the mailer's, which it may take."""
    bucket = hub.variables["BUCKET"]
    member = {
        "RoleArn": f"arn:aws:iam::{MEMBERS['web']}:role/c7n-keyrot",
        "RoleSessionName": "test",
        "ExternalId": EXTERNAL_ID,
    }
    lies = {"Bucket": bucket, "Key": "runs/x/run/keyrot-outcomes.jsonl", "Body": b"{}"}
    denied: list[tuple[str, str, dict[str, Any]]] = [
        ("sts", "assume_role", member),
        ("s3", "get_object", {"Bucket": bucket, "Key": "config/accounts.yml"}),
        ("s3", "put_object", {**lies, "Key": "config/mailer.yml"}),
        ("s3", "put_object", lies),
        ("codebuild", "start_build", {"projectName": PROJECT}),
    ]
    for role in (MAILER, "c7n-keyrot-mailer"):
        for service, method, params in denied:
            with pytest.raises(ClientError, match="AccessDenied|not authorized"):
                getattr(client(hub, service, role), method)(**params)
    mailer = {**member, "RoleArn": f"arn:aws:iam::{HUB}:role/c7n-keyrot-mailer"}
    assert client(hub, "sts", MAILER).assume_role(**mailer)
    assert client(hub, "sts", PROJECT).assume_role(**member)  # the runner's build can


def client(hub: Hub, service: str, role: str) -> Any:
    given = {k.lower(): v for k, v in hub.aws.credentials(HUB, role).items()}
    return boto3.client(service, endpoint_url=hub.aws.url, region_name=REGION, **given)


def covered(outputs: dict[str, bytes]) -> dict[str, bool]:
    """By the report: {name of the account: covered}."""
    accounts = json.loads(outputs["report.json"])["accounts"]
    return {account["name"]: account["covered"] for account in accounts}


def check_a_run_without_a_failure(hub: Hub) -> None:
    member(hub, "web")
    hub.smtp.refuses = False
    done = hub.build()
    assert done.green, done.text
    assert set(hub.status().values()) == {"Inactive"}
    assert covered(hub.outputs(done)) == dict.fromkeys(MEMBERS, True)
    sent = [(to, mail["Subject"].split(":")[0]) for (to,), mail in hub.smtp.mails]
    assert sorted(sent) == [
        ("payments@corp.test", "Your AWS access key will be disabled soon"),
        ("web@corp.test", "Your AWS access key is being disabled"),
        ("web@corp.test", "Your AWS access key will be disabled soon"),
    ]
    subject, text = hub.messages[-1]
    assert subject == f"c7n-keyrot act: {ONE}, steps failed: 0"
    assert [line for line in text.splitlines() if MEMBERS["web"] in line] == [
        f"disabled {MEMBERS['web']} old {hub.aws.account(MEMBERS['web']).key_id('old', 2)}"
    ]
    assert len({prefix_of(one) for one in hub.builds}) == len(hub.builds)  # a prefix each
    # No build has touched what it reads, and nothing of it has a secret.
    everything = b"".join(hub.aws.objects(hub.variables["BUCKET"]).values()).decode(
        "utf-8", "replace"
    )
    assert not [secret for secret in hub.aws.secrets if secret in everything]


def test_the_install_takes_what_is_in_the_list_and_nothing_else(tmp_path: Path) -> None:
    """By the build's own commands; the list here has one wheel, which is made here."""
    specification = yaml.safe_load(runner(HUB)["Project"]["Source"]["BuildSpec"])
    commands = [c for c in specification["phases"]["install"]["commands"] if INSTALLS.search(c)]
    config = tmp_path / "config"
    config.mkdir()
    listed = small_wheel(config, "listed", "1.0")
    small_wheel(config, "c7n_keyrot", "9.9")
    env = {
        "PATH": f"{BIN}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "HOME": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(config),
    }

    def install(line: str, *commands: str) -> Finished:
        (config / "requirements.txt").write_text(f"{line}\n", "utf-8")
        return run(["/bin/bash", "-ec", "\n".join(commands)], env, tmp_path)

    venv, pins, wheel = commands
    done = install(f"listed==1.0 --hash=sha256:{'0' * 64}", venv, pins, wheel)
    assert "DO NOT MATCH THE HASHES" in done.text
    done = install("listed==1.0", pins, wheel)
    assert "Hashes are required" in done.text
    (site,) = (tmp_path / "venv").glob("lib/*/site-packages")
    assert not [*site.glob("listed*"), *site.glob("c7n_keyrot*")]
    good = f"listed==1.0 --hash=sha256:{hashlib.sha256(listed.read_bytes()).hexdigest()}"
    done = install(good, pins, wheel)
    assert done.code == 0, done.text
    assert {path.name for path in site.glob("*.dist-info")} >= {
        "listed-1.0.dist-info",
        "c7n_keyrot-9.9.dist-info",
    }


def small_wheel(folder: Path, name: str, version: str) -> Path:
    """The smallest wheel that pip takes."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path
