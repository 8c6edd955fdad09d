# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot doctor`: what stands between the pack and its work, one line a check.

It only reads. Of the calls to AWS, AssumeRole is the one that isn't named Get, List or Simulate: it
makes credentials for this process alone, as c7n-org does, and changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

import c7n_keyrot
from c7n_keyrot import autoload
from c7n_keyrot.cli import CommandError, templates
from c7n_keyrot.credential_report import DENIED

OK, FAIL, NOT_CHECKED = "ok", "FAIL", "not checked"

NAME = "c7n-keyrot"
FILTER = "stale-access-key"
# No user's name and no key's id: what they stand in only reads.
NOBODY, NO_KEY = "c7n-keyrot-doctor", "AKIAIOSFODNN7EXAMPLE"
POLICIES = Path("policies")
ROLE_TEMPLATE = "deploy/member-role.yml"
FALLBACK_REGION = "us-east-1"  # Custodian's own

# Seconds.
PROCESS_LIMIT = 90
CALLS = Config(
    connect_timeout=5, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}
)
PATIENCE = 2
# A run of c7n-org leaves no mark of its own. Its workers are busy without a break, and none begins
# sooner after another than c7n-org takes to start; so a longer break parts two runs.
BREAK = 1.0

# Calls that answer whether they are allowed without doing anything.
READS: dict[str, tuple[str, dict[str, Any]]] = {
    "iam:GetCredentialReport": ("get_credential_report", {}),
    "iam:ListAccountAliases": ("list_account_aliases", {}),
    "iam:GetUser": ("get_user", {"UserName": NOBODY}),
    "iam:ListAccessKeys": ("list_access_keys", {"UserName": NOBODY}),
    "iam:ListUserTags": ("list_user_tags", {"UserName": NOBODY}),
    "iam:ListUsers": ("list_users", {"MaxItems": 1}),
    "iam:GetAccessKeyLastUsed": ("get_access_key_last_used", {"AccessKeyId": NO_KEY}),
}
# Answers that come only to those who may ask.
ALLOWED = {"NoSuchEntity", "ReportNotPresent", "ReportInProgress", "ReportExpired"}

# Runs in the Python of c7n-org, as a process that starts a worker as c7n-org does.
WORKER = """
import sys
if sys.path[0] == "": del sys.path[0]
import json
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
JOB = '''(
    __import__("c7n.resources", fromlist=["_"]).load_available(),
    "stale-access-key" in
        __import__("c7n.resources.iam", fromlist=["_"]).User.filter_registry.keys(),
    getattr(__import__("sys").modules.get("c7n_keyrot"), "__version__", None),
    getattr(__import__("sys").modules.get("c7n_keyrot"), "__file__", None),
)[1:]'''
try:
    installed = metadata.version("c7n-keyrot")
except metadata.PackageNotFoundError:
    installed = None
with ProcessPoolExecutor(1) as pool:
    print(json.dumps([*pool.submit(eval, JOB).result(), installed]))
"""


@dataclass(frozen=True)
class Check:
    """A line of the table; `fix` is what to do about a failure, and names the thing."""

    status: str
    name: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.name}: {self.what}" + (f"; fix: {self.fix}" if self.fix else "")
        return f"{self.status:11}  {_one_line(text)}"


Checks = Iterator[Check]


@dataclass
class Target:
    """An account that the policies run in."""

    name: str
    account_id: str = ""
    region: str = FALLBACK_REGION
    account: dict[str, Any] | None = None  # its entry of accounts.yml
    policies: list[Planned] = field(default_factory=list)

    def __str__(self) -> str:
        return f"account {self.name}" + (f" ({self.account_id})" if self.account else "")


@dataclass(frozen=True)
class Planned:
    """What a policy means in one account."""

    name: str
    runs: bool  # its conditions allow it there
    permissions: frozenset[str]
    notices: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Queue:
    """A queue of SQS by what an ARN says of it."""

    name: str
    owner: str
    region: str

    def __str__(self) -> str:
        return f"queue {self.name}"

    @property
    def where(self) -> str:
        return f"account {self.owner or 'unknown'}, {self.region}"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="check the installation, credentials, permissions, queue, templates and coverage",
        description="Checks what stands between the pack and its work, one line a check: ok, FAIL "
        "(and what to do), or not checked. It only reads. Exit code 0 if nothing fails.",
    )
    parser.add_argument(
        "--policies",
        metavar="DIR",
        type=Path,
        help=f"the folder of policies, or one file (default: ./{POLICIES})",
    )
    parser.add_argument("--accounts", metavar="FILE", type=Path, help="c7n-org's accounts.yml")
    parser.add_argument("--mailer", metavar="FILE", type=Path, help="c7n-mailer's mailer.yml")
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        type=Path,
        help="the -s of c7n-org's last run: which accounts and policies did it cover?",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    counts: Counter[str] = Counter()
    before = logging.root.manager.disable
    # Custodian's own words about policies would stand between the lines.
    logging.disable(logging.CRITICAL)
    try:
        for check in _Doctor(args).checks():
            print(check, flush=True)
            counts[check.status] += 1
    finally:
        logging.disable(before)
    # Beside the table, so that what searches its lines for a status finds checks only.
    total = f"{counts[OK]} ok, {counts[FAIL]} failed, {counts[NOT_CHECKED]} not checked"
    print(total, file=sys.stderr)
    return 1 if counts[FAIL] else 0


class _Doctor:
    """All checks in their order; what one finds out, later ones use."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.targets: list[Target] = []
        self.queues: dict[Queue, None] = {}
        self.session: Any = None
        self.partition, self.caller, self.caller_account = "aws", "", ""

    def checks(self) -> Checks:
        # Here, since sysconfig isn't made for threads.
        scripts = _script("custodian"), _script("c7n-org") or shutil.which("c7n-org")
        with ThreadPoolExecutor(2) as pool:
            # Meanwhile; each takes a second or two.
            custodian = pool.submit(lambda: list(plugin(scripts[0])))
            worker = pool.submit(lambda: list(org_worker(scripts[1])))
            yield from self._safely("plugin", custodian.result)
            yield from self._safely("plugin in c7n-org", worker.result)
        steps: list[tuple[str, Callable[[], Iterable[Check]]]] = [
            ("version", version),
            ("credentials", self.credentials),
            ("accounts", self.accounts),
            ("policies", self.policies),
            ("templates", self.templates),
            ("mailer", self.mailer),
            ("queue", self.queue),
            ("permissions", self.permissions),
            ("output-dir", self.output),
        ]
        for name, step in steps:
            yield from self._safely(name, step)

    @staticmethod
    def _safely(name: str, step: Callable[[], Iterable[Check]]) -> Checks:
        """The lines of a step; never a traceback, and a word when it takes long."""
        timer = threading.Timer(
            PATIENCE, lambda: print(f"still looking at: {name} ...", file=sys.stderr, flush=True)
        )
        timer.daemon = True
        timer.start()
        try:
            yield from step()
        except Exception as error:
            what = f"couldn't be looked at, {type(error).__name__}: {error}"
            yield Check(FAIL, name, what, f"try again; if it stays, report it with this {name}")
        finally:
            timer.cancel()

    # -- files

    def accounts(self) -> Checks:
        path = self.args.accounts
        if path is None:
            yield Check(NOT_CHECKED, "accounts", "no --accounts FILE given")
            self.targets = [Target("of the credentials", self.caller_account, _region())]
            return
        try:
            entries = _accounts(path)
        except CommandError as error:
            yield Check(FAIL, str(path), str(error), f"correct {path}")
            return
        bad = list(accounts_sanity(entries))
        yield from bad
        if not bad:
            yield Check(OK, str(path), f"{len(entries)} accounts, each in one region")
        for entry in entries:
            if not isinstance(entry.get("account_id"), str):
                continue
            regions = _regions(entry)
            name = str(entry.get("name", entry["account_id"]))
            self.targets.append(Target(name, entry["account_id"], regions[0], entry))

    def policies(self) -> Checks:
        given, path = self.args.policies is not None, self.args.policies or POLICIES
        if not path.exists():
            yield Check(
                FAIL if given else NOT_CHECKED,
                f"policies {path}",
                "no such folder or file",
                "give --policies DIR" + (", or write it with c7n-keyrot init" if given else ""),
            )
            return
        files = [path]
        if path.is_dir():
            files = sorted(f for f in path.iterdir() if f.suffix in (".yml", ".yaml", ".json"))
        if not files:
            yield Check(
                FAIL, f"policies {path}", "no policy file", f"c7n-keyrot init writes {path}"
            )
        autoload.install()  # for this process; whether Custodian's has it was looked at above
        for file in files:
            try:
                data = _read(file)
                if not isinstance(data.get("policies"), list):
                    raise CommandError("no list of policies in it")
                names = [str(policy.get("name")) for policy in data["policies"]]
                for target in self.targets:
                    try:
                        target.policies += _plan(data, target)
                    except Exception as error:
                        if target.account is None:
                            raise
                        raise CommandError(f"{target}: {_reason(error)}") from None
            except Exception as error:
                yield Check(FAIL, f"policies {file}", _reason(error), f"correct {file}")
            else:
                yield Check(OK, f"policies {file}", ", ".join(names))

    def _notices(self) -> Iterator[tuple[Target, dict[str, Any]]]:
        for target in self.targets:
            for policy in target.policies:
                if policy.runs:
                    for notice in policy.notices:
                        yield target, notice

    def templates(self) -> Checks:
        names = {
            notice[word]: None
            for _, notice in self._notices()
            for word in ("template", "slack_template")
            if isinstance(notice.get(word), str)
        }
        if not names:
            yield Check(NOT_CHECKED, "templates", "no policy with a notice")
            return
        try:
            ours = templates.folder()
        except CommandError as error:
            yield Check(FAIL, "templates", str(error), "reinstall the plugin")
            return
        spec = importlib.util.find_spec("c7n_mailer")
        folders = [Path(), ours]
        if spec and spec.origin:
            folders.append(Path(spec.origin).parent / "msg-templates")
        need_flag = False
        for name in names:
            found = next((f for f in folders if (f / f"{name}.j2").is_file()), None)
            if found is None:
                yield Check(
                    FAIL,
                    f"template {name}",
                    f"no {name}.j2 in {ours}: its mails would be empty",
                    f"correct the name in the policy, or give c7n-mailer the folder of {name}.j2",
                )
            else:
                yield Check(OK, f"template {name}", f"in {found}")
                need_flag |= found == ours
        if need_flag:
            config = self.args.mailer or "mailer.yml"
            yield Check(
                NOT_CHECKED,
                "c7n-mailer -t",
                "no file says whether it is given, and without it mails are empty",
                f'run c7n-mailer --run -c {config} -t "$(c7n-keyrot templates)"',
            )

    def mailer(self) -> Checks:
        path = self.args.mailer
        self._find_queues()
        if path is None:
            yield Check(NOT_CHECKED, "mailer", "no --mailer FILE given")
            return
        try:
            config = _read(path)
            _validate_mailer(config)
        except CommandError as error:
            yield Check(FAIL, str(path), str(error), f"correct {path}")
            return
        failed = False
        url = config.get("queue_url")
        reads = parse_queue(url, "", "") if isinstance(url, str) else None
        if reads is None or not reads.owner:
            failed = True
            yield Check(
                FAIL,
                str(path),
                f"queue_url {url!r} is no URL of a queue",
                "give the QueueUrl of deploy/hub.yml",
            )
        elif self.queues and reads not in self.queues:
            failed = True
            sent = " and ".join(f"{queue} ({queue.where})" for queue in self.queues)
            yield Check(
                FAIL,
                str(path),
                f"it reads {reads} ({reads.where}), but notices go to {sent}",
                f"set queue_url in {path} to {next(iter(self.queues))}",
            )
        owners = any("resource-owner" in notice.get("to", ()) for _, notice in self._notices())
        if owners and not config.get("contact_tags"):
            failed = True
            yield Check(
                FAIL,
                str(path),
                "no contact_tags, so no owner is found",
                f"add contact_tags: [OwnerContact] to {path}",
            )
        if not failed:
            yield Check(OK, str(path), f"it reads {reads}")

    def _find_queues(self) -> None:
        for target, notice in self._notices():
            queue = parse_queue(_queue_text(notice), target.account_id, target.region)
            if queue is not None:
                self.queues.setdefault(queue)

    # -- AWS

    def credentials(self) -> Checks:
        fix = "give credentials: AWS_PROFILE, the AWS_... variables, or aws sso login"
        try:
            session = boto3.Session()
            client = session.client("sts", region_name=_region(), config=CALLS)
            answer = client.get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            yield Check(FAIL, "credentials", _reason(error), fix)
            return
        self.session, self.caller = session, answer["Arn"]
        self.caller_account = answer["Account"]
        self.partition = self.caller.split(":")[1]
        yield Check(OK, "credentials", f"account {self.caller_account}, {self.caller}")

    def queue(self) -> Checks:
        asked: set[tuple[Queue | str, str]] = set()
        for target, notice in self._notices():
            text = _queue_text(notice)
            queue = parse_queue(text, target.account_id, target.region)
            as_member = target.account is not None and notice.get("assume_role", True)
            if queue is None:
                sqs = _mapping(notice.get("transport")).get("type") == "sqs"
                if sqs and ("", text) not in asked:
                    asked.add(("", text))
                    yield Check(
                        FAIL,
                        f"queue {text!r}",
                        f"{target}: it isn't filled in",
                        "give the name, URL or ARN of the queue as queue in the notify action",
                    )
                continue
            bare = not text.startswith(("arn:", "https://"))
            if bare and target.account is not None and not as_member:
                continue  # accounts_sanity's to say
            sender = target.name if as_member else ""
            if (queue, sender) in asked:
                continue
            asked.add((queue, sender))
            if self.session is None:
                yield Check(NOT_CHECKED, str(queue), "no credentials to ask with")
            elif as_member:
                yield Check(
                    NOT_CHECKED,
                    str(queue),
                    f"{target} sends by itself (assume_role isn't false)",
                )
            else:
                yield self._ask_for(queue)
        if not asked:
            yield Check(NOT_CHECKED, "queue", "no policy that sends to a queue by its full name")

    def _ask_for(self, queue: Queue) -> Check:
        client = self.session.client("sqs", region_name=queue.region, config=CALLS)
        missing = f"there is none in {queue.where}"
        fix = (
            f"create {queue}: deploy/hub.yml, or aws sqs create-queue --queue-name {queue.name} "
            f"--region {queue.region}; or correct its name in the policy or accounts.yml"
        )
        owner = {"QueueOwnerAWSAccountId": queue.owner} if queue.owner else {}
        try:
            url = client.get_queue_url(QueueName=queue.name, **owner)["QueueUrl"]
        except ClientError as error:
            if "NonExistentQueue" in _code(error) or _code(error) == "QueueDoesNotExist":
                return Check(FAIL, str(queue), missing, fix)
            return Check(NOT_CHECKED, str(queue), _reason(error))
        except BotoCoreError as error:
            return Check(NOT_CHECKED, str(queue), _reason(error))
        if queue.owner and not url.endswith(f"/{queue.owner}/{queue.name}"):
            return Check(FAIL, str(queue), f"{missing}, only {url}", fix)
        return Check(OK, str(queue), f"it is there, in {queue.where}")

    def permissions(self) -> Checks:
        targets = [target for target in self.targets if target.policies]
        if self.session is None or not targets:
            why = "no policies are known" if self.session else "no credentials to ask with"
            yield Check(NOT_CHECKED, "permissions", why)
            return
        if self.args.accounts is None:
            yield from self._permissions_of(targets[0], self.session, self.caller)
            return
        with ThreadPoolExecutor(min(16, len(targets))) as pool:
            for lines in pool.map(self._member, targets):
                yield from lines
        send = "sqs:SendMessage"
        if any(not notice.get("assume_role", True) for _, notice in self._notices()):
            asked = {send: [_arn(self.partition, queue) for queue in self.queues]}
            hub = f"permissions of the hub ({self.caller_account})"
            answers = _simulate(_iam(self.session), self.caller, asked)
            yield from _grouped(
                hub, answers, f"attach the policy RunnerPolicy of deploy/hub.yml to {self.caller}"
            )

    def _member(self, target: Target) -> list[Check]:
        account = target.account or {}
        role = account.get("role")
        if not isinstance(role, str):
            return [Check(NOT_CHECKED, f"permissions of {target}", "no single role to take")]
        if not role.startswith("arn:"):
            role = f"arn:aws:iam::{target.account_id}:role/{role}"
        external = account.get("external_id")
        try:
            client = boto3.Session().client("sts", region_name=target.region, config=CALLS)
            taken = client.assume_role(
                RoleArn=role,
                RoleSessionName=NOBODY,
                DurationSeconds=900,
                **({"ExternalId": str(external)} if external else {}),
            )["Credentials"]
        except (BotoCoreError, ClientError) as error:
            fix = (
                f"{target}: make the role with {ROLE_TEMPLATE}, with the external_id of "
                f"accounts.yml, and let {self.caller} take it"
            )
            return [Check(FAIL, str(target), f"{role} can't be taken, {_reason(error)}", fix)]
        session = boto3.Session(
            taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"]
        )
        return [
            Check(OK, str(target), f"{role} can be taken"),
            *self._permissions_of(target, session, role),
        ]

    def _permissions_of(self, target: Target, session: Any, principal: str) -> Checks:
        needed: set[str] = set()
        for policy in target.policies:
            if policy.runs:
                needed |= policy.permissions
        if target.account and all(
            not notice.get("assume_role", True)
            for other, notice in self._notices()
            if other is target
        ):
            needed.discard("sqs:SendMessage")  # the hub sends
        client = _iam(session)
        answers: dict[str, tuple[str, str]] = {}
        for permission in sorted(needed & READS.keys()):
            answers[permission] = _read_call(client, permission)
            if answers[permission][1] == UNREACHABLE:
                break
        user = f"arn:{self.partition}:iam::{target.account_id}:user/{NOBODY}"
        queues = [_arn(self.partition, queue) for queue in self.queues]
        rest: dict[str, list[str]] = {}
        for permission in sorted(needed - answers.keys()):
            on_user = re.search("AccessKey|User", permission)
            on = [user] if on_user else queues if permission.startswith("sqs:") else []
            rest[permission] = on
        answers.update(_simulate(client, principal, rest))
        yield from _grouped(
            f"permissions of {target}"
            if target.account
            else f"permissions in account {self.caller_account}",
            answers,
            f"add it to {principal} (see {ROLE_TEMPLATE})",
        )

    # -- what the last run covered

    def output(self) -> Checks:
        out = self.args.output_dir
        if out is None:
            yield Check(NOT_CHECKED, "coverage", "no --output-dir DIR given")
            return
        if not out.is_dir():
            yield Check(FAIL, f"output-dir {out}", "no such folder", "give the -s of c7n-org run")
            return
        yield from coverage(out, self.targets if self.args.accounts else [], self._known())

    def _known(self) -> list[str]:
        return list(dict.fromkeys(p.name for target in self.targets for p in target.policies))


# -- the installation


def plugin(script: str | None) -> Checks:
    """Is the plugin in this Python's `custodian`: the real console script, as a process."""
    if script is None:
        yield Check(
            FAIL,
            "plugin",
            f"no custodian beside {sys.executable}",
            f"install the plugin where Custodian is: {sys.executable} -m pip install {NAME}",
        )
        return
    done = _process([script, "schema", f"aws.iam-user.filters.{FILTER}"])
    if done.returncode == 0 and FILTER in done.stdout:
        yield Check(OK, "plugin", f"loaded in {script}")
        return
    why = (done.stdout + done.stderr).strip().splitlines()[-1:] or [f"exit {done.returncode}"]
    yield Check(
        FAIL,
        "plugin",
        f"not loaded in {script} ({why[0]})",
        f"reinstall the plugin: {sys.executable} -m pip install --force-reinstall --no-deps {NAME}",
    )


def org_worker(script: str | None) -> Checks:
    """Is the plugin in a worker of c7n-org, in which version."""
    name = "plugin in c7n-org"
    if script is None:
        yield Check(NOT_CHECKED, name, "c7n-org isn't installed")
        return
    python = _python_of(Path(script))
    fix = f"reinstall the plugin: {python} -m pip install --force-reinstall --no-deps {NAME}"
    done = _process([python, "-c", WORKER])
    try:
        loaded, version, file, installed = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        why = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        yield Check(FAIL, name, f"no worker can be started with {python} ({why[0]})", fix)
        return
    if not loaded:
        yield Check(FAIL, name, f"not loaded in a worker of {script}", fix)
    elif version != installed or version != c7n_keyrot.__version__:
        yield Check(
            FAIL,
            name,
            f"{version} is loaded from {file}, {installed} is installed there, this is "
            f"{c7n_keyrot.__version__}",
            fix,
        )
    else:
        yield Check(OK, name, f"{version}, loaded in a worker of {script}")


def version() -> Checks:
    """Is the module that is loaded the package that is installed."""
    loaded, file = c7n_keyrot.__version__, c7n_keyrot.__file__
    fix = (
        f"reinstall the plugin: {sys.executable} -m pip install --force-reinstall --no-deps {NAME}"
    )
    try:
        installed = importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        yield Check(FAIL, "version", f"{loaded} is loaded from {file}, none is installed", fix)
        return
    if loaded != installed:
        yield Check(
            FAIL, "version", f"{loaded} is loaded from {file}, but {installed} is installed", fix
        )
        return
    python = ".".join(map(str, sys.version_info[:3]))
    custodian = importlib.metadata.version("c7n")
    yield Check(OK, "version", f"{NAME} {loaded}, c7n {custodian}, Python {python}")


def _script(name: str) -> str | None:
    """A console script of this Python: of its environment, or installed with pip's --user."""
    folders = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    folders.append(Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))))
    return next((str(folder / name) for folder in folders if (folder / name).is_file()), None)


def _python_of(script: Path) -> str:
    """The Python that a console script runs in, out of its first lines."""
    with script.open("rb") as file:
        head = file.read(1000).decode("utf-8", "replace")
    found = re.search(r"(/[^\"'\n]*python[0-9.]*)", head)
    return found[1] if found and head.startswith("#!") else sys.executable


def _process(args: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  our own scripts
            args,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PROCESS_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(args, 1, "", f"still running after {PROCESS_LIMIT} s")
    except OSError as error:
        return subprocess.CompletedProcess(args, 1, "", str(error))


# -- files


def _read(path: Path) -> dict[str, Any]:
    """A YAML file that is a mapping.

    :raises CommandError: it isn't, or can't be read.
    """
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise CommandError(f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError("can't be read: it isn't UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise CommandError(f"is no YAML: {getattr(error, 'problem', error)}{line}") from None
    if not isinstance(data, dict):
        raise CommandError("is no mapping")
    return data


def _accounts(path: Path) -> list[dict[str, Any]]:
    """The accounts of an accounts.yml, with the variables that all of them share."""
    data = _read(path)
    entries = data.get("accounts")
    if not isinstance(entries, list) or not entries:
        raise CommandError("has no list of accounts")
    if not all(isinstance(entry, dict) for entry in entries):
        raise CommandError("has an account that is no mapping")
    shared = data.get("vars")
    shared = shared if isinstance(shared, dict) else {}
    # As c7n-org does: an account's own variables go before those of all.
    return [{**e, "vars": {**shared, **_mapping(e.get("vars"))}} for e in entries]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _regions(account: dict[str, Any]) -> list[str]:
    """The regions that c7n-org would run an account in; these two if none is named."""
    regions = account.get("regions")
    return [str(region) for region in regions] if regions else ["us-east-1", "us-west-2"]


def accounts_sanity(accounts: list[dict[str, Any]]) -> Checks:
    """What c7n-org takes without a word, and that goes wrong."""
    names = Counter(str(account.get("name")) for account in accounts)
    ids = Counter(str(account.get("account_id")) for account in accounts)
    for account in accounts:
        account_id = account.get("account_id")
        name = account.get("name")
        label = f"account {name or account_id}"
        if not name or not isinstance(name, str):
            yield Check(
                FAIL, label, "no name, so the first error ends the whole run", f"name {label}"
            )
        elif names[name] > 1:
            names[name] = 0  # said once
            yield Check(
                FAIL,
                label,
                "two accounts have this name, so they share a folder",
                f"rename one account {name}",
            )
        if not isinstance(account_id, str) or not re.fullmatch(r"\d{12}", account_id):
            yield Check(
                FAIL,
                label,
                f"account_id {account_id!r} isn't 12 digits in quotes",
                f"correct {label}",
            )
        elif ids[account_id] > 1:
            ids[account_id] = 0
            yield Check(
                FAIL,
                label,
                f"{account_id} is there twice, so notices and actions come twice",
                f"remove one account {account_id}",
            )
        regions = account.get("regions") or []
        if not isinstance(regions, list) or len(regions) != 1 or regions == ["all"]:
            yield Check(
                FAIL,
                label,
                f"regions is {regions or 'missing'}, so notices and actions come more than once",
                f"{label}: give exactly one, regions: [{FALLBACK_REGION}]",
            )
        role = account.get("role")
        if not isinstance(role, str):
            yield Check(
                FAIL,
                label,
                "role is a list, so the member sends the notices"
                if isinstance(role, list)
                else "no role",
                f"{label}: give one role, as an ARN",
            )
        elif not role.startswith("arn:"):
            yield Check(
                FAIL,
                label,
                f"role {role} is short, so it becomes an arn:aws: in every partition",
                f"{label}: give the role's ARN",
            )
        action = account["vars"].get("action")
        queue = action.get("queue") if isinstance(action, dict) else None
        if not isinstance(queue, str) or not queue.startswith(("arn:", "https://")):
            yield Check(
                FAIL,
                label,
                "no queue" if queue is None else f"queue {queue!r} is no ARN or URL: the member's",
                f"{label}: give the hub's queue, vars: {{action: {{queue: ARN}}}}",
            )


def _plan(data: dict[str, Any], target: Target) -> list[Planned]:
    """What the policies of a file mean in an account: loaded as Custodian or c7n-org loads them.

    :raises Exception: whatever makes them invalid there.
    """
    # Here, since importing Custodian takes half a second.
    from c7n.config import Config as Options
    from c7n.loader import PolicyLoader
    from c7n.policy import PolicyCollection
    from c7n.resources import load_resources

    options = Options.empty(
        region=target.region, account_id=target.account_id or "0" * 12, cache=None, output_dir="."
    )
    data = json.loads(json.dumps(data, default=str))  # c7n changes what it is given
    if target.account is None:
        policies = PolicyLoader(options).load_data(data, "memory://")
    else:
        load_resources(
            {
                str(p["resource"]) if "." in p["resource"] else f"aws.{p['resource']}"
                for p in data["policies"]
            }
        )
        policies = PolicyCollection.from_data(data, options)
    planned = []
    for policy in policies:
        variables: dict[str, Any] = {}
        if target.account is not None:
            policy.conditions.env_vars["account"] = target.account
            variables = target.account["vars"]
        policy.expand_variables(policy.get_variables(variables))
        policy.validate()
        notices = [a for a in policy.data.get("actions", ()) if _mapping(a).get("type") == "notify"]
        permissions = set(policy.get_permissions())
        if notices:
            # Each notice asks for the alias, which Custodian's notify doesn't tell.
            permissions.add("iam:ListAccountAliases")
        planned.append(
            Planned(
                policy.name,
                bool(policy.is_runnable()),
                frozenset(permissions),
                tuple(notices),
            )
        )
    return planned


def _queue_text(notice: dict[str, Any]) -> str:
    """A notice's queue, filled in as notify does it when it sends; "" if that fails."""
    transport = _mapping(notice.get("transport"))
    if transport.get("type") != "sqs":
        return ""
    text = str(transport.get("queue"))
    try:
        return text.format(action=notice)
    except (KeyError, IndexError, ValueError, AttributeError):
        return ""


def parse_queue(text: str, account_id: str, region: str) -> Queue | None:
    """The queue that notify means by a name, URL or ARN; a bare name is the account's own."""
    if text.startswith("arn:"):
        parts = text.split(":", 5)
        return Queue(parts[5], parts[4], parts[3]) if len(parts) == 6 else None
    found = re.fullmatch(r"https?://([^/]+)/(\d{12})/([^/]+)", text)
    if found:
        host, owner, name = found.groups()
        named = re.search(r"(?:^sqs\.)?([a-z]{2,}(?:-[a-z]+)+-\d)\.", host)
        return Queue(name, owner, named[1] if named else FALLBACK_REGION)
    if re.fullmatch(r"[\w.-]+", text):
        return Queue(text, account_id, region)
    return None


def _arn(partition: str, queue: Queue) -> str:
    return f"arn:{partition}:sqs:{queue.region}:{queue.owner}:{queue.name}"


def _validate_mailer(config: dict[str, Any]) -> None:
    """Hold a mailer.yml to c7n-mailer's own schema, where c7n-mailer is installed."""
    if importlib.util.find_spec("c7n_mailer") is None:
        return
    import jsonschema  # type: ignore[import-untyped]  # Custodian needs it, too
    from c7n_mailer.cli import CONFIG_SCHEMA  # type: ignore[import-untyped]

    try:
        jsonschema.validate(config, CONFIG_SCHEMA)
    except jsonschema.ValidationError as error:
        # Only where, and what was wanted: a value might be a password.
        where = ".".join(str(part) for part in error.absolute_path)
        what = (
            error.message
            if error.validator in ("required", "additionalProperties")
            else (
                f"{where} must be of type {error.validator_value}"
                if error.validator == "type"
                else f"{where} isn't valid"
            )
        )
        raise CommandError(f"c7n-mailer refuses it: {what}") from None


# -- AWS


def _region() -> str:
    with contextlib.suppress(BotoCoreError):
        return boto3.Session().region_name or FALLBACK_REGION
    return FALLBACK_REGION


def _iam(session: Any) -> Any:
    return session.client("iam", region_name=_region(), config=CALLS)


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""


def _reason(error: Exception) -> str:
    """An error in a few words."""
    if isinstance(error, ClientError):
        verb = "is denied" if _code(error) in DENIED else "failed"
        return f"{error.operation_name} {verb} ({_code(error)})"
    if isinstance(error, CommandError):
        return str(error)
    return f"{type(error).__name__}: {error}"


UNREACHABLE = "AWS doesn't answer"


def _read_call(client: Any, permission: str) -> tuple[str, str]:
    """Make a call that only reads; whether it was allowed, or why nobody knows."""
    method, params = READS[permission]
    try:
        getattr(client, method)(**params)
    except ClientError as error:
        code = _code(error)
        if code in ALLOWED:
            return OK, ""
        if code not in DENIED:
            return NOT_CHECKED, _reason(error)
        # For a key that doesn't exist AWS denies the call to everybody.
        return (NOT_CHECKED if permission == "iam:GetAccessKeyLastUsed" else FAIL), "denied"
    except HTTPClientError:
        return NOT_CHECKED, UNREACHABLE
    except BotoCoreError as error:
        return NOT_CHECKED, _reason(error)
    return OK, ""


def _simulate(
    client: Any, principal: str, asked: dict[str, list[str]]
) -> dict[str, tuple[str, str]]:
    """Ask IAM's policy simulator, which makes none of the calls, where it may be asked."""
    taken = re.fullmatch(r"arn:([^:]+):sts::(\d+):assumed-role/([^/]+)/.*", principal)
    source = f"arn:{taken[1]}:iam::{taken[2]}:role/{taken[3]}" if taken else principal
    answers = {}
    why = ""
    for permission, resources in asked.items():
        if not why:
            try:
                results = client.simulate_principal_policy(
                    PolicySourceArn=source,
                    ActionNames=[permission],
                    **({"ResourceArns": resources} if resources else {}),
                )["EvaluationResults"]
                allowed = all(result["EvalDecision"] == "allowed" for result in results)
                answers[permission] = (OK, "") if allowed else (FAIL, "denied")
                continue
            except (BotoCoreError, ClientError):
                why = "only the call itself, or iam:SimulatePrincipalPolicy, could tell"
        answers[permission] = NOT_CHECKED, why
    return answers


def _grouped(name: str, answers: dict[str, tuple[str, str]], fix: str) -> Checks:
    """A line for all that are there, one for each that isn't, one for all that can't be asked."""
    there = [permission for permission, (status, _) in answers.items() if status == OK]
    if there:
        yield Check(OK, name, ", ".join(there))
    for permission, (status, _) in answers.items():
        if status == FAIL:
            yield Check(FAIL, name, f"{permission} is denied", f"{permission}: {fix}")
    reasons: dict[str, list[str]] = {}
    for permission, (status, why) in answers.items():
        if status == NOT_CHECKED:
            reasons.setdefault(why, []).append(permission)
    for why, unknown in reasons.items():
        yield Check(NOT_CHECKED, name, f"{', '.join(unknown)}: {why}")


# -- coverage


@dataclass(frozen=True)
class Result:
    """What a policy left in its folder; times are seconds since 1970, UTC."""

    start: float
    end: float
    failed: bool


def coverage(out: Path, targets: list[Target], policies: list[str]) -> Checks:
    """Which accounts and policies c7n-org's last run into this folder covered.

    Its exit code doesn't tell. A policy is covered if its metadata is of that run and without an
    exception.
    """
    results: dict[tuple[str, str, str], Result] = {}
    for file in out.glob("*/*/*/metadata.json"):
        name, region, policy = file.relative_to(out).parts[:3]
        result = _result(file)
        if result:
            results[name, region, policy] = result
    if not results and any(out.glob("*/metadata.json")):
        yield Check(
            FAIL,
            f"output-dir {out}",
            "it holds a run of custodian, not of c7n-org",
            "give the -s of c7n-org run",
        )
        return
    if not targets:
        yield Check(
            NOT_CHECKED, "coverage", "accounts without a folder: --accounts FILE would name them"
        )
        places = sorted({file.relative_to(out).parts[:2] for file in out.glob("*/*/*/")})
        targets = [Target(name, "", region) for name, region in places]
    known = policies or sorted({policy for _, _, policy in results})
    if not policies:
        yield Check(
            NOT_CHECKED, "coverage", "policies that left no folder: --policies would name them"
        )
    begun = last_run(results.values())
    for target in targets:
        planned = [p.name for p in target.policies if p.runs] if target.policies else known
        for region in _regions(target.account)[:1] if target.account else [target.region]:
            yield from _covered(out, target, region, planned, results, begun)


def _covered(
    out: Path,
    target: Target,
    region: str,
    planned: list[str],
    results: dict[tuple[str, str, str], Result],
    begun: float,
) -> Checks:
    done = []
    for policy in planned:
        result = results.get((target.name, region, policy))
        if result and result.start >= begun and not result.failed:
            done.append(policy)
            continue
        folder = out / target.name / region / policy
        yield Check(
            FAIL,
            f"coverage of {target}",
            f"{policy} {_why_not(folder, result, begun)}",
            f"correct account {target.name} and run c7n-org again",
        )
    if done:
        when = max(results[target.name, region, policy].start for policy in done)
        yield Check(OK, f"coverage of {target}", f"{', '.join(done)} ({_utc(when)})")


def _why_not(folder: Path, result: Result | None, begun: float) -> str:
    log = folder / "custodian-run.log"
    if result and result.start < begun:
        return (
            f"isn't of the last run (it is of {_utc(result.start)}, the last run began "
            f"{_utc(begun)}): a role that can't be taken, a call that is denied, or an error that "
            "c7n-org's output names"
        )
    if result:
        return f"ended with an error: {_last_error(log) or f'see {log}'}"
    if not folder.is_dir():
        return (
            "never began: an earlier policy of the account was denied a call, the policy isn't "
            "valid there, or a worker died; c7n-org's output says which"
        )
    if log.is_file() and log.stat().st_size == 0:
        return "was stopped at once: its role can't be taken, or a call is denied"
    return f"didn't finish: {_last_error(log) or f'see {log}'}"


def _last_error(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    found = [line.split(" - ERROR - ", 1)[1] for line in lines if " - ERROR - " in line]
    return found[-1][:300] if found else ""


def _result(file: Path) -> Result | None:
    try:
        data = json.loads(file.read_text("utf-8"))
        execution = data["execution"]
        start = float(execution["start"])
        end = float(execution.get("end_time", start))
        failed = any(metric["MetricName"] == "PolicyException" for metric in data["metrics"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Result(start, end, failed)


def last_run(results: Iterable[Result]) -> float:
    """When the last of the runs began that these results are of; seconds since 1970."""
    begun = busy = 0.0
    for result in sorted(results, key=lambda result: result.start):
        if result.start > busy + BREAK:
            begun = result.start
        busy = max(busy, result.end)
    return begun


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _one_line(text: str) -> str:
    """The text without line breaks or control signs, whatever a file or AWS put into it."""
    return "".join(sign if sign.isprintable() else " " for sign in " ".join(text.split()))
