# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot runner`: which steps are run, in which order, what a failure of each does, is said.

The steps' commands, the bucket and the calls are stand-ins, which fail when told to.
tests/end_to_end/runner_test.py has the real ones.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiosmtpd.controller import Controller
from cloudformation import runner
from codebuild import Build, build, executable
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from c7n_keyrot import cli
from c7n_keyrot.aws import calls, gate
from c7n_keyrot.aws.errors import CallError, ErrorKind
from c7n_keyrot.cli import mail_server
from c7n_keyrot.cli.runner import mails, place, processes, summary
from c7n_keyrot.core import outcomes
from embedded_aws import HUB

ROOT = Path(__file__).parents[2]
BUCKET = f"c7n-keyrot-runner-{HUB}-us-east-1"
TOPIC = f"arn:aws:sns:us-east-1:{HUB}:c7n-keyrot-runner"
PROJECT = "c7n-keyrot-runner-mailer"
WEB, PAYMENTS = "222222222222", "111111111111"
# Each notes its command line, and fails if a line of the file `faults` is in it: "code words".
STAND_IN = """
here="{here}"
echo "${{0##*/}} $*" >> "$here/log"
while read -r code words; do
  case "$*" in *"$words"*) echo "it fails"; [ "$code" = 9 ] && kill -9 $$
    [ "$code" = 15 ] && kill -15 $PPID && sleep 60; exit "$code";; esac
done < "$here/faults"
"""
# What c7n-keyrot does in the place of the real one.
COMMANDS = """
for last; do :; done
case "$*" in
  "org run"*--dryrun*) mkdir -p "$last";;
  "org run"*) sh "$here/while-running"
    case "$last" in s3:*) ;; *) mkdir -p "$last"; cp -R "$here/run/." "$last";; esac;;
  report*) echo "a report" > "$last";;
  mailer*) cat "$here/mailer-log";;
esac
"""
# What is noted, by what it is called here.
STEPS = {
    "check": r"c7n-keyrot doctor .* --without permissions$",
    "look": r"c7n-keyrot org run -c \S+ -u \S+ --dryrun -s \S+/look$",
    "plan": r"c7n-keyrot plan \S+/look ",
    "run": r"c7n-keyrot org run -c \S+ -u \S+ -s \S+$",
    "mail": r"c7n-keyrot mailer --run -c \S+/mailer\.yml$",
    "html": r"c7n-keyrot report .*--format html -o \S+/report\.html$",
    "json": r"c7n-keyrot report .*--format json -o \S+/report\.json$",
    "doctor": r"c7n-keyrot doctor .*--output-dir \S+/(look|run)$",
}
END = ["html", "json", "doctor"]
LOOK = ["look", "plan", *END]
GATE = ["check", "look", "plan"]
ACT = [*GATE, "run", "mail", *END]
LIMITS = ("--max-keys", "50", "--max-percent", "10")


class Objects(dict[str, bytes]):
    """A bucket; `broken` has the beginnings of keys that can't be written or read."""

    broken: tuple[str, ...] = ()

    def check(self, key: str) -> None:
        if self.broken and key.startswith(self.broken):
            raise CallError("s3:PutObject", ErrorKind.DENIED, "AccessDenied", "AccessDenied")

    def put(self, key: str, body: bytes, permit: Any) -> None:
        self.check(key)
        self[key] = body

    def get(self, key: str) -> bytes:
        self.check(key)
        if key not in self:
            raise CallError("s3:GetObject", ErrorKind.OTHER, "NoSuchKey", "NoSuchKey")
        return self[key]

    def list(self, prefix: str) -> list[str]:
        return [key for key in self if key.startswith(prefix)]


class Runner:
    """A folder of configuration, and what stands for AWS and the commands."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.config, self.out = folder / "config", folder / "out"
        for name in ("policies", "examples"):
            shutil.copytree(ROOT / name, self.config / name)
        mailer = {"queue_url": "q", "role": "r", "from_address": "a@corp.test"}
        self.write("config/mailer.yml", yaml.safe_dump(mailer))
        accounts = [
            {"name": name, "account_id": i, "role": f"arn:aws:iam::{i}:role/c7n-keyrot"}
            for name, i in (("web", WEB), ("payments", PAYMENTS))
        ]
        self.write("config/accounts.yml", yaml.safe_dump({"accounts": accounts}))
        (folder / "run").mkdir()
        for name in ("faults", "log", "mailer-log", "while-running"):
            (folder / name).touch()
        script = STAND_IN.format(here=folder) + COMMANDS
        executable(folder / "bin" / "c7n-keyrot", script)
        self.objects = Objects()
        self.messages: list[dict[str, Any]] = []
        self.statuses = ["SUCCEEDED"]
        self.broken: tuple[str, ...] = ()  # methods of clients
        program = str(folder / "bin" / "c7n-keyrot")
        monkeypatch.setattr(processes, "command", lambda: [program])
        monkeypatch.setattr(gate, "client", lambda *_, **__: object())
        monkeypatch.setattr(calls, "call", self.call)
        monkeypatch.setattr(mails.time, "sleep", lambda _: None)
        for module in (place, mails):
            monkeypatch.setattr(module, "Bucket", lambda _: self.bucket)

    @property
    def bucket(self) -> Any:
        class Bucket:
            put, get = self.objects.put, self.objects.get
            keys = self.objects.list

        return Bucket

    def call(self, client: object, method: str, permit: Any = None, **params: Any) -> Any:
        if method in self.broken:
            raise CallError(method, ErrorKind.DENIED, "AccessDenied", "AccessDenied")
        if method == "publish":
            self.messages.append(params)
            return {}
        if method == "start_build":
            assert params == {"projectName": PROJECT}
            log = self.read("mailer-log")
            if log != "none":
                self.objects["mailer/4a5b.txt"] = log.encode()
            return {"build": {"id": f"{PROJECT}:4a5b"}}
        assert method == "batch_get_builds"
        return {"builds": [{"buildStatus": self.statuses.pop(0)}]}

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text("utf-8") if path.exists() else ""

    def fail(self, *faults: str) -> None:
        self.write("faults", "".join(f"{fault}\n" for fault in faults))

    def argv(self, mode: str, *options: str) -> list[str]:
        words = ["runner", mode, "--config", str(self.config), "--topic", TOPIC]
        return [*words, *(() if "--out" in options else ("--out", str(self.out))), *options]

    def go(self, mode: str, *faults: str, options: tuple[str, ...] = LIMITS) -> int:
        """Run it into the folder; return its exit code."""
        self.fail(*faults)
        return int(cli.main(self.argv(mode, *options)))

    def go_to_bucket(self, mode: str, *faults: str) -> int:
        there = ("--out", f"s3://{BUCKET}", "--mailer-project", PROJECT)
        return self.go(mode, *faults, options=(*LIMITS, *there))

    @property
    def log(self) -> list[str]:
        return self.read("log").splitlines()

    @property
    def steps(self) -> list[str]:
        found = []
        for line in self.log:
            (step,) = [name for name, how in STEPS.items() if re.match(how, line)]
            found.append(step)
        return found

    def latest(self, name: str) -> str:
        return self.read(f"out/latest/{name}")

    @property
    def message(self) -> str:
        (message,) = self.messages
        return str(message["Message"])

    @property
    def subject(self) -> str:
        (message,) = self.messages
        return str(message["Subject"])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(tmp_path, monkeypatch)


NONE = "keys disabled: 0, deleted: 0, in doubt: 0, steps failed: 0"


@pytest.mark.parametrize(
    ("mode", "steps", "file", "results"),
    [
        ("look", LOOK, "policies/second-access-key.yml", "look"),
        ("tell", ACT, "examples/notify-only.yml", "run"),
        ("act", ACT, "policies/second-access-key.yml", "run"),
    ],
)
def test_a_run_without_a_failure(
    project: Runner, mode: str, steps: list[str], file: str, results: str
) -> None:
    assert project.go(mode) == 0
    assert project.steps == steps
    for line in project.log:
        if " org run " in line or " doctor " in line or " plan " in line:
            assert f" {project.config / file} " in line
        if " report " in line:
            assert f"/{results} --accounts {project.config}/accounts.yml " in line
    assert project.messages == []
    assert project.latest("summary.txt").splitlines()[0] == f"c7n-keyrot, {mode}: {NONE}."
    assert project.latest("report.html") == "a report\n"


def test_the_strictest_limit_counts(project: Runner) -> None:
    limits = ("--max-keys", "7", "--max-keys=50", "--max-percent", "30", "--max-percent=3")
    assert project.go("act", options=limits) == 0
    (plan,) = [line for line in project.log if " plan " in line]
    assert plan.endswith(" --max-keys 7 --max-percent 3")


# What fails, with its exit code; what the summary says of it.
FAULTS = {
    "1 org run -c config --dryrun": "the dry run, in some account (exit code 1)",
    "2 org run": "the run, in some account (exit code 2)",
    "1 --format html": "the report as html (exit code 1)",
    "1 --format json": "the report as json (exit code 1)",
    "1 --output-dir": "doctor; see doctor.txt (exit code 1)",
    "1 mailer --run": "c7n-mailer; see mailer.txt (exit code 1)",
    "9 mailer --run": "c7n-mailer; see mailer.txt (exit code -9)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_fails_stops_no_other(project: Runner, fault: str) -> None:
    code, words = fault.split(" ", 1)
    if "--dryrun" in words:
        words = "--dryrun"
    elif words == "org run":  # not the dry run
        words = "second-access-key.yml -s"
    assert project.go("act", f"{code} {words}") == (4 if words.endswith("-s") else 1)
    assert project.steps == ACT
    assert f"FAILED: {FAULTS[fault]}\n" in project.message
    assert FAULTS[fault] in project.latest("failed.txt")
    assert project.subject.endswith(", steps failed: 1")


# Of plan: failed, wrong arguments, not known, above a limit, more than notices; and killed.
CODES = [1, 2, 3, 4, 6, 9, 127, 137]


@pytest.mark.parametrize("code", CODES)
def test_a_plan_that_is_not_kept_stops_an_acting_run_before_it_begins(
    project: Runner, code: int
) -> None:
    assert project.go("act", f"{code} plan /") == 3
    assert project.steps == [*GATE, *END]
    found = -9 if code == 9 else code
    assert f"FAILED: the plan; see plan.txt (exit code {found})" in project.message
    assert "Nothing was sent, no key was changed" in project.message
    assert project.latest("plan.txt") == "it fails\n"


@pytest.mark.parametrize("code", [code for code in CODES if code != 3])
def test_telling_is_not_begun_unless_it_is_known_to_be_notices_only(
    project: Runner, code: int
) -> None:
    assert project.go("tell", f"{code} plan /") == 3
    assert project.steps == [*GATE, *END]
    (plan,) = [line for line in project.log if " plan " in line]
    assert plan.endswith(" --max-keys 0 --max-percent 10 --only-notices")


@pytest.mark.parametrize(("mode", "steps"), [("look", LOOK), ("tell", ACT)])
def test_an_account_that_is_not_covered_stops_no_other(
    project: Runner, mode: str, steps: list[str]
) -> None:
    assert project.go(mode, "3 plan /") == 1
    assert project.steps == steps


@pytest.mark.parametrize("mode", ["tell", "act"])
def test_nothing_is_begun_if_mails_cannot_go_out(project: Runner, mode: str) -> None:
    assert project.go(mode, "1 doctor --") == 3
    assert project.steps == ["check"]
    assert "FAILED: the check before the run; see doctor.txt (exit code 1)" in project.message
    assert project.latest("doctor.txt") == "it fails\n"


@pytest.mark.parametrize("greeting", ["", "554 not for you", "<html>"])
def test_nothing_is_begun_if_the_mail_server_does_not_answer(
    project: Runner, greeting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        mailer = {"smtp_server": "127.0.0.1", "smtp_port": port}
        text = project.read("config/mailer.yml") + yaml.safe_dump(mailer)
        project.write("config/mailer.yml", text)

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(f"{greeting}\r\n".encode())

        if greeting:
            thread = threading.Thread(target=answer)
            thread.start()
        else:
            server.close()
        assert project.go("act") == 3
        if greeting:
            thread.join()
    assert project.steps == ["check"]
    assert "FAILED: mails can't go out: the mail server of mailer.yml" in project.message
    assert "127.0.0.1" not in project.message


class Smtp(Controller):
    """A mail server on a free port."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        with socket.create_connection((self.hostname, self.port)):
            pass  # its protocol is made by the first connection


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return what a server on 127.0.0.1 needs for TLS, and its certificate, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, none))
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, folder / "key.pem")
    return context, path


# How the server speaks TLS; whether this machine trusts its certificate; what the summary says.
MAIL_SERVERS = {
    "smtps": ("first byte", True, ""),
    "smtps, a certificate of nobody": ("first byte", False, "has a certificate that isn't trusted"),
    "starttls": ("STARTTLS", True, ""),
    "starttls, a certificate of nobody": (
        "STARTTLS",
        False,
        "has a certificate that isn't trusted",
    ),
    "no tls": ("none", True, "doesn't offer STARTTLS"),
}


@pytest.mark.parametrize("case", MAIL_SERVERS)
def test_the_mail_server_is_reached_as_the_mailer_does_it(
    project: Runner, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """With plain SMTP port 465 hangs, and what the mailer would refuse passes."""
    how, trusted, why = MAIL_SERVERS[case]
    context, authority = certificate(project.folder)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    server = Smtp(
        object(),
        hostname="127.0.0.1",
        port=0,
        ssl_context=context if how == "first byte" else None,
        tls_context=context if how == "STARTTLS" else None,
    )
    server.start()
    try:
        if how == "first byte":
            monkeypatch.setattr(mail_server, "SMTPS", server.port)
        login = {"smtp_username": "me", "smtp_password": "hunter2"}  # only the mailer may read it
        mailer = {"smtp_server": "127.0.0.1", "smtp_port": server.port, **login}
        text = project.read("config/mailer.yml") + yaml.safe_dump(mailer)
        project.write("config/mailer.yml", text)
        assert project.go("act") == (3 if why else 0)
    finally:
        server.stop()
    assert project.steps == (["check"] if why else ACT)
    if why:
        assert f"FAILED: mails can't go out: the mail server of mailer.yml {why}" in project.message


# -- the configuration


@pytest.mark.parametrize(
    "options",
    [
        *(
            (*LIMITS, f"--asked={mode}")
            for mode in ("", "Look", "ACT", " look", "act ", "act\n", "look|act", "*", "-h")
        ),
        *(
            (*LIMITS, f"--max-percent={text}")
            for text in ("", " ", "ten", "-1", "1e3", "5%", "101", "nan", "inf", "\u0661")
        ),
        *((*LIMITS, f"--max-keys={text}") for text in ("", "-1", "50 ", "1.5", "all", "5\n5")),
        LIMITS[:2],
        LIMITS[2:],
        (*LIMITS, "--mailer-project=a b"),
        (*LIMITS, "--topic=a topic"),
        (*LIMITS, "--policies=none.yml"),
        (*LIMITS, "--config=none"),
        (*LIMITS, "--out="),
        (*LIMITS, "--out=https://bucket"),
        (*LIMITS, "--out=s3://bucket/folder"),
    ],
)
def test_nothing_is_run_with_something_odd(project: Runner, options: tuple[str, ...]) -> None:
    assert project.go("act", options=options) == 2
    assert project.log == []


@pytest.mark.parametrize("mode", ["", "Look", " look", "act "])
def test_a_mode_is_one_of_three_words(project: Runner, mode: str) -> None:
    assert project.go(mode) == 2
    assert project.log == []
    assert "it must be look, tell or act" in project.message
    assert "The configuration isn't right. Nothing was done." in project.latest("summary.txt")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("accounts.yml", "accounts: []"),
        ("accounts.yml", "accounts: [{name: a, account_id: 1, role: r}]"),
        ("accounts.yml", f"accounts: [{{name: ../a, account_id: '{WEB}', role: r}}]"),
        ("mailer.yml", "queue_url: q\nsmtp_pasword: hunter2"),
        ("mailer.yml", "{"),
        ("policies/second-access-key.yml", "policies: []"),
        ("policies/second-access-key.yml", "policies: {}"),
    ],
)
def test_a_file_that_is_not_right_is_found_before_anything_is_run(
    project: Runner, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write(f"config/{name}", text)
    assert project.go("act") == 2
    assert project.log == []
    assert "hunter2" not in project.message + "".join(capsys.readouterr())


BESIDE = {"name": "old", "resource": "aws.iam-user", "actions": ["x"]}


@pytest.mark.parametrize(
    ("mode", "file", "action"),
    [
        ("tell", "examples/notify-only.yml", "disable-access-key"),
        ("tell", "examples/notify-only.yml", "tag"),
        ("act", "policies/second-access-key.yml", {"type": "remove-keys", "age": 90}),
        (
            "act",
            "policies/second-access-key.yml",
            {"type": "remove-keys", "matched": True, "disable": True},
        ),
        ("act", "policies/second-access-key.yml", "delete"),
    ],
)
def test_a_mode_is_a_promise_that_is_checked_in_the_policies(
    project: Runner, mode: str, file: str, action: Any
) -> None:
    policies = yaml.safe_load(project.read(f"config/{file}"))
    policies["policies"].append({**BESIDE, "actions": [action]})
    project.write(f"config/{file}", yaml.safe_dump(policies))
    assert project.go(mode) == 2
    assert project.log == []
    assert re.search(r"^FAILED: old has ", project.message, re.MULTILINE)


@pytest.mark.parametrize(
    ("most", "asked", "done"),
    [("act", "tell", "tell"), ("act", "look", "look"), ("tell", "look", "look")],
)
def test_a_run_can_do_less_than_it_may(project: Runner, most: str, asked: str, done: str) -> None:
    assert project.go(most, options=(*LIMITS, f"--asked={asked}")) == 0
    assert project.latest("summary.txt").startswith(f"c7n-keyrot, {done}: ")


@pytest.mark.parametrize(("most", "asked"), [("look", "tell"), ("look", "act"), ("tell", "act")])
def test_a_run_cannot_do_more_than_it_may(project: Runner, most: str, asked: str) -> None:
    assert project.go(most, options=(*LIMITS, f"--asked={asked}")) == 2
    assert project.log == []


# -- what the run left


def line(
    user: str,
    outcome: str,
    account_id: str = WEB,
    action: str = "disable-access-key",
    key_id: str | None = "",
) -> str:
    made = {
        "time": "2026-05-01T10:00:00+00:00",
        "account_id": account_id,
        "policy": "p",
        "run": "r",
        "action": action,
        "user": user,
        "slot": 2,
        "access_key_id": f"AKIA{user.upper()}" if key_id == "" else key_id,
        "outcome": outcome,
        "reason": 'says "outcome": "disabled" itself' if outcome != "disabled" else "",
    }
    assert list(outcomes.Outcome.__dataclass_fields__)[:10] == list(made)
    return json.dumps(made) + "\n"


def leave(project: Runner, *lines: str, name: str = "keyrot-outcomes.jsonl") -> Path:
    """Lines that the run leaves."""
    account = "payments" if PAYMENTS in lines[0] else "web"
    return project.write(f"run/{account}/us-east-1/p/{name}", "".join(lines))


def test_what_was_done_is_told_and_the_most_important_first(project: Runner) -> None:
    leave(project, line("bo", "denied"), line("ana", "disabled"), line("ed", "skipped"))
    leave(project, line("cy", "disabled", PAYMENTS))
    leave(project, line("dan", "intended"), line("ana", "intended"), name="keyrot-intents.jsonl")
    leave(
        project,
        line("eve", "deleted", action="delete-access-key"),
        line("flo", "unknown", key_id=None),
        name="keyrot-outcomes-2.jsonl",
    )
    assert project.go("act") == 4
    first, second, *keys = project.message.splitlines()
    assert first == ("c7n-keyrot, act: keys disabled: 2, deleted: 1, in doubt: 2, steps failed: 0.")
    assert re.fullmatch(r"Outputs: \S+/runs/\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ/", second)
    assert keys == [
        f"disabled {PAYMENTS} cy AKIACY",
        f"disabled {WEB} ana AKIAANA",
        f"deleted {WEB} eve AKIAEVE",
        f"in doubt {WEB} dan AKIADAN",
        f"in doubt {WEB} flo (no key id, slot 2)",
        f"denied {WEB} bo AKIABO",
        f"skipped {WEB} ed AKIAED",
    ]
    assert project.latest("outcomes.txt").splitlines() == keys
    assert project.subject == (
        "c7n-keyrot act: keys disabled: 2, deleted: 1, in doubt: 2, steps failed: 0"
    )


@pytest.mark.parametrize("outcome", ["disabled", "deleted"])
def test_keys_that_were_disabled_or_deleted_are_news(project: Runner, outcome: str) -> None:
    leave(project, line("ana", outcome))
    assert project.go("act") == 0
    assert f"\n{outcome} {WEB} ana AKIAANA\n" in project.message


def test_a_key_that_was_denied_is_none(project: Runner) -> None:
    leave(project, line("ana", "denied"))
    assert project.go("act") == 0
    assert project.messages == []


@pytest.mark.parametrize("cut", [1, 8])
def test_what_cannot_be_read_is_not_zero(project: Runner, cut: int) -> None:
    path = leave(project, *(line(f"u{n}", "disabled") for n in range(50)))
    whole = gzip.compress(path.read_bytes())
    path.with_name("keyrot-outcomes-1.jsonl.gz").write_bytes(whole[: len(whole) // cut - 9])
    path.unlink()
    assert project.go("act") == 4
    assert " or more, deleted: 0 or more" in project.message
    assert re.search(r"^NOT KNOWN: .*keyrot-outcomes-1", project.message, re.MULTILINE)


def test_a_run_that_left_nothing_is_not_known(project: Runner) -> None:
    assert project.go("act", "1 second-access-key.yml -s") == 4
    assert "NOT KNOWN: the outputs of the run" in project.message


def test_what_custodian_s_own_action_did_is_not_known(project: Runner) -> None:
    file = "config/policies/second-access-key.yml"
    policies = yaml.safe_load(project.read(file))
    filters = policies["policies"][-1]["filters"]
    action = {"type": "remove-keys", "matched": True, "disable": True}
    made = {**BESIDE, "name": "p", "filters": filters, "actions": [action]}
    project.write(file, yaml.safe_dump({"policies": [made]}))
    leave(project, json.dumps({"policy": made}), name="metadata.json")
    leave(project, line("ana", "skipped"))
    assert project.go("act") == 4
    assert "NOT KNOWN: p in web: its remove-keys leaves no outcomes" in project.message


def test_truncation_hides_no_kind(project: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MOST_KEYS", 3)
    leave(
        project,
        *(line(f"a{n}", "denied") for n in range(5)),
        *(line(f"z{n}", "disabled") for n in range(2)),
        *(line(f"y{n}", "unknown") for n in range(4)),
    )
    assert project.go("act") == 4
    assert [one.replace(WEB, "") for one in project.message.splitlines()[2:]] == [
        "disabled  z0 AKIAZ0",
        "disabled  z1 AKIAZ1",
        "in doubt  y0 AKIAY0",
        "... and 3 more in doubt: outcomes.txt has them all",
        "... and 5 more denied: outcomes.txt has them all",
    ]
    assert len(project.latest("outcomes.txt").splitlines()) == 11


def test_a_message_is_one_that_sns_takes(project: Runner) -> None:
    leave(project, *(line(f"{'ü' * 60}{n}", "disabled", key_id=f"AKIA{n}") for n in range(1200)))
    project.write("mailer-log", f"2026{mails.ERROR}no\n" * 3)
    assert project.go("act") == 1
    assert len(project.message.encode()) < 256 * 1024
    assert "... and 200 more disabled: outcomes.txt has them all" in project.message
    assert len(project.subject) <= 100


# -- the bucket, latest/ and the message


def test_a_bucket(project: Runner) -> None:
    key = "run/web/us-east-1/p/2026/05/01/10/keyrot-outcomes-1.jsonl.gz"

    def as_custodian(*_: Any, **__: Any) -> Any:
        # The run writes there by itself.
        (prefix,) = {re.match("runs/[^/]+/", name)[0] for name in found} or {""}  # type: ignore[index]
        return prefix

    found: list[str] = []
    real = project.objects.list

    def listed(prefix: str) -> list[str]:
        content = gzip.compress(line("ana", "disabled").encode())
        project.objects[prefix.removesuffix("run/") + key] = content
        return real(prefix)

    project.objects.list = listed  # type: ignore[method-assign]
    assert project.go_to_bucket("act") == 0
    (run,) = [one for one in project.log if re.match(STEPS["run"], one)]
    prefix = re.search(rf"s3://{BUCKET}/(runs/\S+Z)/run\?region=\S+$", run)
    assert prefix
    names = {name for name in project.objects if not name.startswith(("latest/", "mailer/"))}
    assert names == {
        f"{prefix[1]}/{name}"
        for name in (
            key,
            "summary.txt",
            "failed.txt",
            "outcomes.txt",
            "plan.txt",
            "mailer.txt",
            "doctor.txt",
            "report.html",
            "report.json",
        )
    }
    assert f"disabled {WEB} ana AKIAANA" in project.message
    assert as_custodian


def test_latest_is_of_the_last_run_alone(project: Runner) -> None:
    """Nothing in the bucket can be deleted, so what isn't there any more says so."""
    leave(project, line("ana", "disabled"))
    assert project.go("act") == 0
    project.go("act", "1 doctor --")
    assert sorted(os.listdir(project.out / "latest")) == [
        "doctor.txt",
        "failed.txt",
        "mailer.txt",
        "outcomes.txt",
        "plan.txt",
        "report.html",
        "report.json",
        "summary.txt",
    ]
    for name in ("report.html", "mailer.txt", "plan.txt"):
        assert "did not make this file" in project.latest(name)
    assert "error" in json.loads(project.latest("report.json"))
    assert "ana" not in project.latest("outcomes.txt")


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("runs/", "the upload of the outputs"),
        ("latest/", "the upload of latest/"),
    ],
)
def test_an_upload_that_fails_is_in_the_message(project: Runner, broken: str, what: str) -> None:
    project.objects.broken = (broken,)
    assert project.go_to_bucket("tell") == 1
    assert f"FAILED: {what} (" in project.message
    kept = [body for name, body in project.objects.items() if name.endswith("/summary.txt")]
    assert kept
    assert all(f"FAILED: {what} (".encode() in body for body in kept)


def test_a_message_that_fails_is_in_the_summary(project: Runner) -> None:
    leave(project, line("ana", "disabled"))
    project.broken = ("publish",)
    assert project.go("act") == 1
    assert "FAILED: the message to the topic (publish is denied" in project.latest("summary.txt")
    assert f"disabled {WEB} ana AKIAANA" in project.latest("summary.txt")


def test_outputs_that_cannot_be_fetched_are_not_known(project: Runner) -> None:
    def broken(_: str) -> list[str]:
        raise CallError("s3:ListObjectsV2", ErrorKind.DENIED, "AccessDenied", "AccessDenied")

    project.objects.list = broken  # type: ignore[method-assign]
    assert project.go_to_bucket("act") == 4
    assert "NOT KNOWN: the outputs of the run: s3:ListObjectsV2 is denied" in project.message
    assert "keys disabled: 0 or more" in project.subject


def test_two_runs_into_a_folder_do_not_go_side_by_side(
    project: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = place.Folder(str(project.out), place.datetime(2026, 5, 1))
    assert project.go("act") == 2
    lock.close()
    assert "another run" in capsys.readouterr().err
    assert project.log == []


# -- the mails

MAILER = "2026-11-26 06:00:01,123 - c7n_mailer - %s - "


@pytest.mark.parametrize("go", [Runner.go, Runner.go_to_bucket])
@pytest.mark.parametrize(
    ("log", "green"),
    [
        (MAILER % "INFO" + "Sending account:a policy:error email to ['ana@corp.test']\n", True),
        (MAILER % "WARNING" + "Unknown sqs_message or sns format\n", True),
        (MAILER % "ERROR" + "policy:p account:a sending to:[('ana@corp.test',)] \n", False),
        (MAILER % "ERROR" + "policy:p account:a sent to nobody for 1 of 2 users (bo): no\n", False),
    ],
)
def test_a_mail_that_was_not_sent_though_the_mailer_says_nothing(
    project: Runner, go: Callable[..., int], log: str, green: bool
) -> None:
    """c7n-mailer only logs it."""
    (project.folder / "run" / "web").mkdir()
    project.write("mailer-log", log)
    project.objects["runs/x/run/a"] = b""
    go(project, "tell")
    text = "".join(str(one["Message"]) for one in project.messages)
    assert ("FAILED: a notice wasn't sent (1 error); see mailer.txt" in text) is not green
    kept = project.latest("mailer.txt") or project.objects["latest/mailer.txt"].decode()
    assert kept == log


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        (["IN_PROGRESS", "IN_PROGRESS", "SUCCEEDED"], ""),
        (["IN_PROGRESS", "FAILED"], "FAILED"),
        (["STOPPED"], "STOPPED"),
        (["TIMED_OUT"], "TIMED_OUT"),
        (["None"], "None"),
    ],
)
def test_the_mailer_s_build_is_waited_for(project: Runner, statuses: list[str], said: str) -> None:
    project.statuses = list(statuses)
    project.go_to_bucket("act")
    assert project.statuses == []
    expected = f"FAILED: c7n-mailer; see mailer.txt (its build {PROJECT}:4a5b: {said})\n"
    text = "".join(str(one["Message"]) for one in project.messages)
    assert (expected in text) is bool(said)


@pytest.mark.parametrize(
    ("broken", "said"),
    [("start_build", "not started, start_build is"), ("batch_get_builds", "not known, batch")],
)
def test_a_mailer_s_build_that_cannot_be_started_or_asked_for(
    project: Runner, broken: str, said: str
) -> None:
    project.broken = (broken,)
    project.go_to_bucket("act")
    assert re.search(rf"FAILED: c7n-mailer; .*: {said}", project.message)


def test_a_log_that_is_missing_does_not_say_that_all_was_sent(project: Runner) -> None:
    project.write("mailer-log", "none")
    project.go_to_bucket("act")
    assert "so whether notices were sent isn't known" in project.message
    assert project.objects["latest/mailer.txt"] == b"whether notices were sent isn't known\n"


# -- signals, processes, a full disk


def goes_on(pid: int) -> bool:
    """Whether a process that got its SIGKILL is still there."""
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_running(pid)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_workers_that_are_left_over_are_ended(project: Runner) -> None:
    """They have the pipe, which would keep its reader waiting."""
    project.write("while-running", f"sleep 60 & echo $! > {project.folder}/worker")
    begun = time.monotonic()
    project.go("act")
    assert time.monotonic() - begun < 30
    assert not goes_on(int(project.read("worker")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_what_was_done_is_told(
    project: Runner, number: signal.Signals
) -> None:
    here = project.folder
    intents = f"{here}/run/web/us-east-1/p/keyrot-intents.jsonl"
    leave(project, line("ana", "intended"), name="keyrot-intents.jsonl")
    project.write(
        "while-running",
        f"cd {project.out}/runs/*; mkdir run; cp -R {here}/run/. run\n"
        f"sleep 60 & echo $! > {here}/worker.part; mv {here}/worker.part {here}/worker; wait",
    )
    assert Path(intents).exists()

    def stop() -> None:
        while not (here / "worker").exists():
            time.sleep(0.02)
        for one in (number, number):
            os.kill(os.getpid(), one)

    thread = threading.Thread(target=stop)
    thread.start()
    before = signal.getsignal(number)
    assert project.go("act") == 4
    thread.join()
    assert signal.getsignal(number) is before
    assert project.steps == [*GATE, "run"]
    assert not goes_on(int(project.read("worker")))
    assert f"\nin doubt {WEB} ana AKIAANA\n" in project.message
    assert f"FAILED: the run, in some account: {number.name} stopped the runner" in project.message
    assert project.latest("summary.txt") == project.message


# The words of a step, in which the signal comes: what is done; the exit code; what was stopped.
STOPS = {
    "doctor --": (["check"], 3, "the check before the run"),
    "--dryrun": (["check", "look"], 3, "the dry run, in some account"),
    "plan /": (GATE, 3, "the plan"),
    "second-access-key.yml -s": ([*GATE, "run"], 4, "the run, in some account"),
    "mailer --run": ([*GATE, "run", "mail"], 1, f"c7n-mailer, so {mails.NOT_KNOWN}"),
    "--format html": ([*GATE, "run", "mail", "html"], 1, "the report as html"),
    "--output-dir": (ACT, 1, "doctor"),
}


@pytest.mark.parametrize("words", STOPS)
def test_a_stop_names_its_step_and_nothing_is_done_after_it(project: Runner, words: str) -> None:
    """In the run nothing is left here, so that what it did isn't known."""
    steps, code, what = STOPS[words]
    if "second" not in words:
        leave(project, line("ana", "disabled"))
    fault = "--without" if words == "doctor --" else words
    assert project.go("act", f"15 {fault}") == code
    assert project.steps == steps
    stopped = f"FAILED: {what}: SIGTERM stopped the runner; nothing after it was done\n"
    assert stopped in project.message
    done = "run" in steps and code == 1
    assert (f"disabled {WEB} ana AKIAANA" in project.message) is done
    nothing = "Nothing was sent, no key was changed: the run was not begun."
    assert (nothing in project.message) is ("run" not in steps)
    assert project.latest("summary.txt") == project.message


def test_a_bug_in_a_step_is_told(project: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(mails, "send", broken)
    leave(project, line("ana", "disabled"))
    assert project.go("act") == 1
    assert "FAILED: a bug in the runner" in project.message
    assert f"disabled {WEB} ana AKIAANA" in project.message


FULL = """
import sys
from c7n_keyrot import cli
from c7n_keyrot.aws import calls, gate
from c7n_keyrot.cli.runner import mails, place, processes
processes.command = lambda: [sys.argv[1]]
class Bucket:
    def __init__(self, name): pass
    def keys(self, prefix): return [prefix + "web/us-east-1/p/keyrot-outcomes.jsonl"]
    def get(self, key): return b"x"
    def put(self, key, body, permit): sys.stdout.write(f"PUT {key} {body}" + chr(10))
place.Bucket = mails.Bucket = Bucket
gate.client = lambda *_, **__: None
calls.call = lambda client, method, **more: print(method, more)
sys.exit(cli.main(sys.argv[2:]))
"""


def test_a_full_disk_keeps_neither_summary_nor_message(project: Runner) -> None:
    """No file can get longer than nothing, for the steps as well."""
    executable(project.folder / "bin" / "c7n-keyrot", "echo printed")
    argv = project.argv("act", *LIMITS, "--out", f"s3://{BUCKET}")
    program = str(project.folder / "bin" / "c7n-keyrot")
    done = subprocess.run(
        ["/bin/bash", "-c", 'ulimit -f 0; exec "$@"', "-", sys.executable, "-c", FULL, program]
        + argv,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
    )
    assert done.returncode == 4, done.stdout + done.stderr
    (message,) = re.findall(r"^publish .*", done.stdout, re.MULTILINE)
    assert "NOT KNOWN: the outputs of the run: runs/" in message
    assert "keys disabled: 0 or more" in message
    assert "PUT latest/summary.txt" in done.stdout
    assert "PUT latest/plan.txt b'printed" in done.stdout


# -- deploy/runner.yml

PROGRAMS = {
    "aws": """
case "$*" in
  *"/config/ config") mkdir config && touch config/c7n_keyrot-1-py3-none-any.whl;;
  *"config"*) mkdir config;;
esac
""",
    "python3": """
case "$*" in "-m venv"*) mkdir -p venv/bin && cp "$0" venv/bin/python;; esac
""",
    "c7n-keyrot": """
case "$*" in mailer*) cat "$here/mailer-log";; esac
""",
}


@pytest.fixture
def builds(project: Runner) -> Callable[..., Build]:
    for name, more in PROGRAMS.items():
        executable(project.folder / "bin" / name, STAND_IN.format(here=project.folder) + more)

    def run(name: str, *faults: str, **parameters: str) -> Build:
        project.fail(*faults)
        env = {
            "PATH": f"{project.folder / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "AWS_DEFAULT_REGION": "us-east-1",
            "CODEBUILD_BUILD_ID": f"{PROJECT}:4a5b",
        }
        changed = {key: parameters.pop(key) for key in list(parameters) if key.isupper()}
        properties = runner(HUB, **parameters)[name]
        return build(properties, project.folder / "build", env | changed)

    return run


def test_the_template_installs_and_calls(builds: Callable[..., Build], project: Runner) -> None:
    done = builds("Project", Mode="act", MaxKeys="7", MODE="tell", MAX_KEYS="9 ' $(touch x)")
    assert done.green, done.text
    fetch, *install, call = project.log
    assert fetch == f"aws s3 cp --quiet --recursive s3://{BUCKET}/config/ config"
    assert [one.partition("-m ")[2] for one in install] == [
        "venv venv",
        "pip install --quiet --require-hashes --only-binary :all: -r config/requirements.txt",
        "pip install --quiet --no-index --no-deps config/c7n_keyrot-1-py3-none-any.whl",
    ]
    assert call == (
        f"c7n-keyrot runner act --asked=tell --config config --out s3://{BUCKET} "
        "--policies policies/second-access-key.yml --tell-policies examples/notify-only.yml "
        "--max-keys 7 --max-keys=9 ' $(touch x) --max-percent 10 --max-percent=10 "
        f"--topic {TOPIC} --mailer-project {PROJECT}"
    )
    cli._parser("runner").parse_args(call.split()[1:10])


def test_the_template_has_few_lines_of_shell() -> None:
    specifications = [runner(HUB)[name]["Source"]["BuildSpec"] for name in BUILDS]
    lines = [
        shell
        for text in specifications
        for phase in yaml.safe_load(text)["phases"].values()
        for shell in "\n".join(phase["commands"]).splitlines()
    ]
    assert len(lines) < 20


@pytest.mark.parametrize("code", [1, 2, 3, 4])
def test_a_run_that_is_not_green_makes_the_build_red(
    builds: Callable[..., Build], code: int
) -> None:
    assert list(builds("Project", f"{code} runner look").failed) == ["build"]


BUILDS = ("Project", "MailerProject")


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("step", ["config", "-m venv", "--require-hashes", "--no-index"])
def test_what_cannot_be_installed_is_not_run(
    builds: Callable[..., Build], project: Runner, name: str, step: str
) -> None:
    assert list(builds(name, f"1 {step}").failed) == ["install"]
    assert step in project.log[-1]
    assert not any("c7n-keyrot " in one for one in project.log)


@pytest.mark.parametrize("code", [0, 1])
def test_the_mailer_s_own_build(builds: Callable[..., Build], project: Runner, code: int) -> None:
    """It installs by the same commands; its log is uploaded though it failed."""
    secret = " mailer.yml: {'smtp_password': 'hunter2'}\n"
    project.write("mailer-log", f"{MAILER % 'ERROR'}no\n{secret}")
    done = builds("MailerProject", *([f"{code} mailer --run"] if code else []))
    assert done.green is not code
    fetch, *install, mail, upload = project.log
    assert fetch.startswith("aws s3 cp --quiet --recursive --exclude * --include mailer.yml ")
    both = [
        yaml.safe_load(runner(HUB)[name]["Source"]["BuildSpec"])["phases"]["install"]["commands"]
        for name in BUILDS
    ]
    assert both[0][-3:] == both[1][-3:]
    assert len(install) == 3
    assert mail == "c7n-keyrot mailer --run -c config/mailer.yml"
    assert upload == f"aws s3 cp --quiet mailer.txt s3://{BUCKET}/mailer/4a5b.txt"
    kept = (project.folder / "build" / "mailer.txt").read_text("utf-8") + done.text
    assert ("it fails" if code else MAILER % "ERROR") in kept
    assert "hunter2" not in kept
