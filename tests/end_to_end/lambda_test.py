# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each account's own Lambda functions: deployed by c7n-org, run as Lambda would, and undone.

All roles, the bucket and the queue are those of deploy/, held to their policies. The archive that
was uploaded is run by an interpreter with nothing else on its path than what Lambda brings.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from c7n.config import Config
from c7n.exceptions import PolicyValidationError
from c7n.loader import PolicyLoader
from c7n.resources import load_resources
from cloudformation import hub, member
from harness import Finished, c7n_org, custodian, keyrot, on_the_day, run
from moto.backends import get_backend

from demo import world
from embedded_aws import HUB, ORGANIZATION_ID, REGION, Account, EmbeddedAws, Key

ROOT = Path(__file__).parents[2]
EXAMPLE, PACK = ROOT / "examples" / "lambda.yml", ROOT / "policies" / "second-access-key.yml"
ACCOUNTS, PAGE = ROOT / "examples" / "accounts.yml", ROOT / "docs" / "lambda.md"
QUEUE, BUCKET, ROLE = "c7n-keyrot", f"c7n-keyrot-outcomes-{HUB}", "c7n-keyrot"
PAYMENTS, WEB = "111111111111", "222222222222"
POLICIES = [f"iam-user-second-access-key-{name}" for name in ("expiring", "unclear", "stale")]
EXPIRING, UNCLEAR, STALE = POLICIES
# What EventBridge sends for a schedule.
EVENT = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": PAYMENTS,
    "time": "2026-11-26T06:00:00Z",
    "region": REGION,
    "resources": [f"arn:aws:events:{REGION}:{PAYMENTS}:rule/custodian-{STALE}"],
    "detail": {},
}
# Lambda's runtime: it imports the handler once, and calls it for each event. -I -S: no
# site-packages, so no .pth file and no PYTHONPATH.
RUNTIME = """
import importlib, json, logging, sys
sys.path[:0] = json.loads(sys.argv[1])
logging.basicConfig(stream=sys.stderr)
module, _, name = sys.argv[2].rpartition(".")
handler = getattr(importlib.import_module(module), name)
for line in sys.stdin:
    try:
        answer = {"answer": handler(json.loads(line), None)}
    except Exception as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"""
BROUGHT = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py")


class Function:
    """A function of an account as Lambda runs it; a context manager. It stays warm."""

    def __init__(self, aws: EmbeddedAws, account_id: str, name: str, folder: Path) -> None:
        self.configuration, archive = aws.functions(account_id)[name]
        self.folder, self.temporary = folder / "task", folder / "tmp"
        self.log = folder / "log"
        self.temporary.mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(archive)) as unzipped:
            unzipped.extractall(self.folder)
        runtime = folder / "runtime"
        runtime.mkdir()
        packages = Path(boto3.__file__).parents[1]
        for brought in BROUGHT:
            (runtime / brought).symlink_to(packages / brought)
        role = self.configuration["Role"]
        assert role.split(":")[4] == account_id
        self.env = {
            **aws.env(account_id, "/nonexistent", role.rpartition("/")[2]),
            **self.configuration.get("Environment", {}).get("Variables", {}),
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "TMPDIR": str(self.temporary),
        }
        self.path = json.dumps([str(self.folder), str(runtime)])

    def __enter__(self) -> Function:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", RUNTIME, self.path, self.configuration["Handler"]],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=60)

    def invoke(self) -> Any:
        """Its answer; {"error": …} if it raised, for which Lambda tries again."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(EVENT) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return json.loads(line)

    def lines(self, *words: str) -> list[str]:
        text = self.log.read_text("utf-8")
        return [line for line in text.splitlines() if all(word in line for word in words)]


class Story:
    """What was deployed, what the functions did, and what the command line did elsewhere."""

    def __init__(self, aws: EmbeddedAws, folder: Path) -> None:
        self.aws, self.folder = aws, folder
        self.account, self.web = aws.account(PAYMENTS), aws.account(WEB)
        self.deployed: Finished
        self.again: Finished
        self.calls: list[str] = []  # of the second deployment
        self.answers: dict[str, Any] = {}
        self.sent: dict[str, int] = {}  # {step: notices}
        self.changed: dict[str, set[str]] = {}  # {step: users whose second key was disabled}
        self.lines: dict[str, list[str]] = {}
        self.left: list[Path] = []
        self.matched: dict[str, list[str]] = {}
        self.command: dict[str, list[str]] = {}
        self.back: Finished
        self.in_doubt: Finished
        self.functions: dict[str, Any] = {}  # {name: configuration}
        self.rules: dict[str, Any] = {}
        self.removed: Finished

    def deploy(self, accounts: Path, policies: Path, *flags: str) -> Finished:
        out = self.folder / "deployed"
        args = c7n_org("run", "-c", accounts, "-s", out, "-u", policies, *flags)
        return run(args, self.aws.env(HUB, self.folder, "runner"), self.folder)

    def remove(self, accounts: Path, aws_cli: Path) -> None:
        """By the page's own commands, in the one account that has functions."""
        section = PAGE.read_text("utf-8").split("## Stop, and remove\n")[1].split("\n## ")[0]
        code = "\n".join(re.findall(r"(?m)^ {4}(.*)$", section))
        code = code.replace("run-script -c", "run-script -a payments -c")
        env = self.aws.env(HUB, self.folder, "runner")
        env |= {"PATH": f"{env['PATH']}:{aws_cli}", "AWS_PAGER": ""}
        self.removed = run(["/bin/sh", "-euc", code], env, accounts.parent)

    def disabled(self, account: Account, do: Callable[[], Any]) -> set[str]:
        """The users whose second key that disabled; it must change nothing else."""
        before = account.snapshot()
        do()
        changes = account.changes(before)
        users = {account.key_id(user, 2): user for user in account.backend.users}
        assert set(changes.values()) <= {("Active", "Inactive")}
        return {users[key_id] for key_id in changes}

    def invoke(self, step: str, function: Function) -> None:
        before = self.aws.calls["sqs.SendMessage"]
        self.changed[step] = self.disabled(
            self.account, lambda: self.answers.update({step: function.invoke()})
        )
        self.sent[step] = self.aws.calls["sqs.SendMessage"] - before

    def download(self, name: str) -> Path:
        """What `aws s3 sync s3://BUCKET/lambda/ACCOUNT` brings."""
        prefix = f"lambda/{PAYMENTS}/"
        for key, content in self.aws.objects(BUCKET).items():
            assert key.startswith(prefix)
            path = self.folder / name / key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return self.folder / name

    def reactivate(self, folder: Path) -> Finished:
        env = self.aws.env(PAYMENTS, self.folder)
        return run(keyrot("reactivate", folder, "--yes"), env, self.folder)


def populate(account: Account) -> None:
    owner = {"OwnerContact": "owner@corp.test"}
    same_second = datetime.now(timezone.utc) - timedelta(days=150)
    account.add_user("old", Key(300), Key(100), owner)
    account.add_user("first", Key(200), Key(5), owner)
    account.add_user("soon", None, world.due_in(7), owner)
    account.add_user("twins", *[Key(rotated_at=same_second)] * 2, owner)
    account.add_user("exempt", None, Key(200), {**owner, "keyrot-exempt-until": "2999-12-31"})


def organization(aws: EmbeddedAws, folder: Path) -> Path:
    """Make hub and members by the templates of deploy/; the accounts.yml to deploy with."""
    resources = hub(HUB, ORGANIZATION_ID, RunBy="lambda")
    aws.create_queue(QUEUE, policy=resources["QueuePolicy"]["PolicyDocument"])
    assert resources["Outcomes"]["BucketName"] == BUCKET
    aws.create_bucket(BUCKET, policy=resources["OutcomesPolicy"]["PolicyDocument"])
    aws.account(HUB).add_role("runner", policy=resources["RunnerPolicy"]["PolicyDocument"])
    accounts = yaml.safe_load(ACCOUNTS.read_text("utf-8"))
    for given in accounts["accounts"]:
        account = aws.account(given["account_id"])
        for name, role in ((ROLE, "Role"), (f"{ROLE}-deployer", "DeployerRole")):
            account.add_role(name, **member(account.id, HUB, name=role, RunBy="lambda"))
        given["role"] += "-deployer"
        populate(account)
    file = folder / "accounts.yml"
    file.write_text(yaml.safe_dump(accounts), "utf-8")
    return file


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, aws_cli: Path) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("lambda")
    with EmbeddedAws() as aws:
        accounts = organization(aws, folder)
        aws.enforce()
        told = Story(aws, folder)
        example, pack = folder / "lambda.yml", folder / "pack.yml"
        example.write_text(on_the_day(EXAMPLE), "utf-8")
        pack.write_text(on_the_day(PACK), "utf-8")

        told.deployed = told.deploy(accounts, example, "-a", "payments")
        known = len(aws.log)
        told.again = told.deploy(accounts, example, "-a", "payments", "-p", STALE)
        told.functions = {n: one for n, (one, _) in aws.functions(PAYMENTS).items()}
        told.rules = copy.deepcopy(rules(PAYMENTS))
        told.calls = [call.action for call in [*aws.log][known:]]

        for name in (EXPIRING, UNCLEAR):
            with Function(aws, PAYMENTS, f"custodian-{name}", folder / name) as function:
                told.invoke(name, function)
        with Function(aws, PAYMENTS, f"custodian-{STALE}", folder / STALE) as function:
            told.invoke(STALE, function)
            told.matched = matched(aws)
            told.account.untag("exempt", "keyrot-exempt-until")
            told.invoke("warm", function)
            downloaded = told.download("downloaded")
            told.back = told.reactivate(downloaded)
            # The bucket takes nothing: neither before the first key is touched, nor afterwards.
            fault = aws.fail("s3.PUT *", "AccessDenied")
            for step in ("refused", "refused again"):  # as Lambda does
                told.invoke(step, function)
            fault.stop()
            # It takes the line of the beginning and the intents, and nothing after that.
            aws.fail("s3.PUT *", "AccessDenied", skip=2)
            told.invoke("lost", function)
            aws.heal()
            told.left = [*function.temporary.iterdir()]
            told.lines = {
                "refused": function.lines("ERROR:custodian.keyrot:", "keys not tried"),
                "lost": function.lines("ERROR:custodian.keyrot:", "the output can't be copied"),
                "done": function.lines("INFO:custodian.keyrot:", ": disabled"),
            }
        told.in_doubt = told.reactivate(told.download("afterwards"))
        out = folder / "out"
        env = aws.env(WEB, folder)
        aws.create_queue(QUEUE, WEB)
        told.changed["command"] = told.disabled(
            told.web, lambda: run(custodian("run", "-s", out, pack), env, folder)
        )
        told.command = {
            name: sorted(keys(json.loads((out / name / "resources.json").read_text())))
            for name in POLICIES
        }
        told.remove(accounts, aws_cli)
        yield told
        assert aws.errors == []


def rules(account_id: str) -> dict[str, Any]:
    """EventBridge's rules of an account by their names."""
    found: dict[str, Any] = get_backend("events")[account_id][REGION].event_buses["default"].rules
    return found


def keys(users: list[dict[str, Any]]) -> list[str]:
    """Which slot of which user, and what of it."""
    return [
        f"{user['UserName']} {record['slot']} {record['verdict']} {record['identified']}"
        for user in users
        for record in user["c7n:keyrot"]
    ]


def matched(aws: EmbeddedAws) -> dict[str, list[str]]:
    """{policy: keys} by what is in the bucket."""
    return {
        key.split("/")[2]: sorted(keys(json.loads(gzip.decompress(content))))
        for key, content in aws.objects(BUCKET).items()
        if key.endswith("/resources.json.gz")
    }


def test_c7n_org_deploys_a_daily_function_for_each_policy_and_account(story: Story) -> None:
    assert story.deployed.code == 0, story.deployed.text
    assert sorted(story.functions) == sorted(f"custodian-{name}" for name in POLICIES)
    for name, configuration in story.functions.items():
        assert configuration["Role"] == f"arn:aws:iam::{PAYMENTS}:role/{ROLE}"
        assert configuration["Timeout"] == 900
        (target,) = story.rules[name].targets
        assert story.rules[name].scheduled_expression == "cron(0 6 * * ? *)"
        assert target["Arn"] == configuration["FunctionArn"]
    assert story.aws.functions(WEB) == {}


def test_deploying_again_changes_nothing(story: Story) -> None:
    assert story.again.code == 0, story.again.text
    assert "lambda.GetFunction" in story.calls
    changing = ("Create", "Update", "Put", "Tag", "Untag", "Delete")
    assert not [call for call in story.calls if call.partition(".")[2].startswith(changing)]


def test_the_functions_match_and_disable_what_the_command_line_does(story: Story) -> None:
    assert {story.answers[name]["answer"] for name in (*POLICIES, "warm")} == {True}
    assert story.matched == story.command
    assert story.changed[EXPIRING] == story.changed[UNCLEAR] == set()
    assert story.changed[STALE] == story.changed["command"] == {"old"}
    assert story.account.status("old", 1) == "Active"


def test_a_warm_function_sees_what_has_changed(story: Story) -> None:
    assert story.changed["warm"] == {"exempt"}


def test_the_notices_come_from_the_accounts_themselves(story: Story) -> None:
    senders = {call.account for call in story.aws.log if call.action == "sqs.SendMessage"}
    assert PAYMENTS in senders
    notices = [n for n in story.aws.messages(QUEUE) if n["account_id"] == PAYMENTS]
    assert {n["policy"]["name"] for n in notices} == set(POLICIES)


def test_reactivate_takes_the_downloaded_outcomes(story: Story) -> None:
    assert story.back.code == 0, story.back.text
    for user in ("old", "exempt"):
        assert story.back.lines(user, story.account.key_id(user, 2))


def test_a_function_whose_bucket_refuses_touches_nothing_and_fails(story: Story) -> None:
    assert story.answers["refused"].keys() == {"error"}
    assert story.answers["refused again"].keys() == {"error"}
    assert story.changed["refused"] == story.changed["refused again"] == set()
    assert story.sent["refused"] == story.sent["refused again"] == 0
    assert story.sent["lost"] > 0
    line, _ = story.lines["refused"]
    assert "check the bucket of -s (output_dir)" in line


def test_what_was_done_is_in_the_log_if_the_outcomes_are_lost(story: Story) -> None:
    assert story.answers["lost"].keys() == {"error"}
    assert story.changed["lost"] == {"old", "exempt"}
    *_, line = story.lines["lost"]
    assert "in this log only" in line
    assert str(story.folder) not in line
    for user in story.changed["lost"]:
        assert [line for line in story.lines["done"] if story.account.key_id(user, 2) in line]
    # Nobody knows it by the bucket, so that nothing is switched on without being asked for.
    assert {story.account.status(user, 2) for user in story.changed["lost"]} == {"Inactive"}
    assert story.in_doubt.lines("--key")


def test_the_pages_commands_remove_functions_and_rules(story: Story) -> None:
    assert story.removed.code == 0, story.removed.text
    assert story.aws.functions(PAYMENTS) == {}
    assert rules(PAYMENTS) == {}


@pytest.mark.parametrize("missing", ["packages", "handler"])
@pytest.mark.parametrize(
    "elements",
    [
        {"filters": ["stale-access-key"]},
        {"filters": ["expiring-access-key"]},
        {"filters": [{"not": ["rotation-exempt"]}]},
        {"source": "credential-report"},
    ],
)
def test_serverless_policy_that_would_die_in_lambda_is_refused(
    missing: str, elements: dict[str, Any]
) -> None:
    mode = yaml.safe_load(EXAMPLE.read_text("utf-8"))["vars"]["mode"]
    del mode[missing]
    policy = {"name": "p", "resource": "aws.iam-user", "mode": mode, **elements}
    load_resources(("aws.iam-user",))
    loader = PolicyLoader(Config.empty(region=REGION, account_id=HUB))

    def load() -> None:
        for loaded in loader.load_data({"policies": [policy]}, "memory://"):
            loaded.validate()

    with pytest.raises(PolicyValidationError, match=r"policy p.*\[c7n_keyrot\].*handler\.run"):
        load()
