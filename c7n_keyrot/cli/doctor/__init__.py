# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot doctor`: what stands between the pack and its work, one line a check.

It only reads. Of the calls to AWS, AssumeRole is the one that isn't named Get, List or Simulate: it
makes credentials for this process alone, as c7n-org does, and changes nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from c7n_keyrot import autoload
from c7n_keyrot.cli import CommandError, templates
from c7n_keyrot.cli.doctor import aws, inputs, installation
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks, Queue, Target
from c7n_keyrot.cli.doctor.coverage import coverage

POLICIES = Path("policies")
ROLE_TEMPLATE = "deploy/member-role.yml"
PATIENCE = 2  # seconds, after which a word is said


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "doctor",
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
    boto3.Session()  # where none can be made, Custodian can't even start: main says why
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
        scripts = (
            installation.script_of("custodian"),
            installation.script_of("c7n-org") or shutil.which("c7n-org"),
        )
        with ThreadPoolExecutor(2) as pool:
            # Meanwhile; each takes a second or two.
            custodian = pool.submit(lambda: list(installation.plugin(scripts[0])))
            worker = pool.submit(lambda: list(installation.org_worker(scripts[1])))
            yield from self._safely("plugin", custodian.result)
            yield from self._safely("plugin in c7n-org", worker.result)
        steps: list[tuple[str, Callable[[], Iterable[Check]]]] = [
            ("version", installation.version),
            ("credentials", self.credentials),
            ("region", self.region),
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
            self.targets = [Target("of the credentials", self.caller_account, aws.region())]
            return
        try:
            entries = inputs.accounts_of(path)
        except CommandError as error:
            yield Check(FAIL, str(path), str(error), f"correct {path}")
            return
        bad = list(inputs.accounts_sanity(entries))
        yield from bad
        if not bad:
            yield Check(OK, str(path), f"{len(entries)} accounts, each in one region")
        for entry in entries:
            if not isinstance(entry.get("account_id"), str):
                continue
            regions = inputs.regions_of(entry)
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
                data = inputs.read(file)
                if file != path and "policies" not in data:
                    # Such as accounts.yml and mailer.yml, which init writes beside the examples.
                    yield Check(NOT_CHECKED, f"policies {file}", "no policies in it")
                    continue
                if not isinstance(data.get("policies"), list):
                    raise CommandError("no list of policies in it")
                names = [str(policy.get("name")) for policy in data["policies"]]
                for target in self.targets:
                    try:
                        target.policies += inputs.plan(data, target)
                    except Exception as error:
                        if target.account is None:
                            raise
                        raise CommandError(f"{target}: {aws.reason(error)}") from None
            except Exception as error:
                yield Check(FAIL, f"policies {file}", aws.reason(error), f"correct {file}")
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
            config = inputs.read(path)
            inputs.validate_mailer(config)
        except CommandError as error:
            yield Check(FAIL, str(path), str(error), f"correct {path}")
            return
        failed = False
        url = config.get("queue_url")
        reads = inputs.parse_queue(url, "", "") if isinstance(url, str) else None
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
            queue = inputs.parse_queue(inputs.queue_text(notice), target.account_id, target.region)
            if queue is not None:
                self.queues.setdefault(queue)

    # -- AWS

    def credentials(self) -> Checks:
        fix = "give credentials: AWS_PROFILE, the AWS_... variables, or aws sso login"
        network = "look at the network, the proxy (HTTPS_PROXY) and AWS_ENDPOINT_URL"
        try:
            session = boto3.Session()
            client = session.client("sts", region_name=aws.region(), config=aws.CALLS)
            answer = client.get_caller_identity()
        except aws.NO_ANSWER as error:
            yield Check(FAIL, "credentials", f"not known, {aws.reason(error)}", network)
            return
        except (BotoCoreError, ClientError) as error:
            yield Check(FAIL, "credentials", aws.reason(error), fix)
            return
        self.session, self.caller = session, answer["Arn"]
        self.caller_account = answer["Account"]
        self.partition = self.caller.split(":")[1]
        yield Check(OK, "credentials", f"account {self.caller_account}, {self.caller}")

    def region(self) -> Checks:
        """Custodian begins with none unless there is one; c7n-org has that of accounts.yml."""
        if self.args.accounts is not None:
            return
        name = boto3.Session().region_name
        if name:
            yield Check(OK, "region", name)
            return
        fix = "set AWS_DEFAULT_REGION (AWS_REGION doesn't count) or region in ~/.aws/config"
        yield Check(FAIL, "region", "no default region, so custodian stops without -r REGION", fix)

    def queue(self) -> Checks:
        asked: set[tuple[Queue | str, str]] = set()
        for target, notice in self._notices():
            text = inputs.queue_text(notice)
            queue = inputs.parse_queue(text, target.account_id, target.region)
            as_member = target.account is not None and notice.get("assume_role", True)
            if queue is None:
                sqs = inputs.mapping(notice.get("transport")).get("type") == "sqs"
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
        client = self.session.client("sqs", region_name=queue.region, config=aws.CALLS)
        missing = f"there is none in {queue.where}"
        fix = (
            f"create {queue}: deploy/hub.yml, or aws sqs create-queue --queue-name {queue.name} "
            f"--region {queue.region}; or correct its name in the policy or accounts.yml"
        )
        owner = {"QueueOwnerAWSAccountId": queue.owner} if queue.owner else {}
        try:
            url = client.get_queue_url(QueueName=queue.name, **owner)["QueueUrl"]
        except ClientError as error:
            if "NonExistentQueue" in aws.code(error) or aws.code(error) == "QueueDoesNotExist":
                return Check(FAIL, str(queue), missing, fix)
            return Check(NOT_CHECKED, str(queue), aws.reason(error))
        except BotoCoreError as error:
            return Check(NOT_CHECKED, str(queue), aws.reason(error))
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
            asked = {send: [inputs.arn_of(self.partition, queue) for queue in self.queues]}
            hub = f"permissions of the hub ({self.caller_account})"
            answers = aws.simulate(aws.iam(self.session), self.caller, asked)
            yield from aws.grouped(
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
            client = boto3.Session().client("sts", region_name=target.region, config=aws.CALLS)
            taken = client.assume_role(
                RoleArn=role,
                RoleSessionName=aws.NOBODY,
                DurationSeconds=900,
                **({"ExternalId": str(external)} if external else {}),
            )["Credentials"]
        except (BotoCoreError, ClientError) as error:
            fix = (
                f"{target}: make the role with {ROLE_TEMPLATE}, with the external_id of "
                f"accounts.yml, and let {self.caller} take it"
            )
            return [Check(FAIL, str(target), f"{role} can't be taken, {aws.reason(error)}", fix)]
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
        client = aws.iam(session)
        answers: dict[str, tuple[str, str]] = {}
        for permission in sorted(needed & aws.READS.keys()):
            answers[permission] = aws.read_call(client, permission)
            if answers[permission][1] == aws.UNREACHABLE:
                break
        user = f"arn:{self.partition}:iam::{target.account_id}:user/{aws.NOBODY}"
        queues = [inputs.arn_of(self.partition, queue) for queue in self.queues]
        rest: dict[str, list[str]] = {}
        for permission in sorted(needed - answers.keys()):
            on_user = re.search("AccessKey|User", permission)
            on = [user] if on_user else queues if permission.startswith("sqs:") else []
            rest[permission] = on
        answers.update(aws.simulate(client, principal, rest))
        yield from aws.grouped(
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
