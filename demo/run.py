# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`make demo`: run the pack with the real programs, on an AWS inside this process.

    python demo/run.py        # in an environment where c7n-keyrot is installed

It writes only the folder demo-output in the current folder, anew each time.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from email import message_from_bytes, policy
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

# At the end, so that `c7n_keyrot` is the installed one in every case, never the folder here.
sys.path.append(str(Path(__file__).parents[1]))

from aiosmtpd.controller import Controller

from demo import world
from demo.pictures import picture
from embedded_aws import HUB, REGION, Account, EmbeddedAws, Key

REPOSITORY = str(Path(__file__).parents[1])
OUTPUT = Path("demo-output")
MARKER = OUTPUT / "made-by-demo"
WIDTH = 100
MONDAYS, EVERY_DAY = "&weekdays [Mon]", "&weekdays [Mon, Tue, Wed, Thu, Fri, Sat, Sun]"
TIMEOUT = 120  # seconds; no command here takes a quarter of it
EXPIRING = "iam-user-second-access-key-expiring"
STALE = "iam-user-second-access-key-stale"
REPORT = "report.html"
UNCLEAR = "iam-user-second-access-key-unclear"
# Who gets the notices about users without an owner, and about keys in doubt. Nobody reads the
# address that the pack is shipped with, and doctor reports it.
WITHOUT_OWNER = SECURITY_TEAM = "security@corp.test"
PLACEHOLDER = "security@example.com"
# The same commands if the pack was built without its startup files.
EXPLICIT = {
    "custodian": "c7n-keyrot custodian",
    "c7n-org": "c7n-keyrot org",
    "c7n-mailer": "c7n-keyrot mailer",
}
STARTUP_FILE = Path(sysconfig.get_path("purelib"), "c7n_keyrot.pth").exists()

# The outcomes of demo.world's people, in the order of the table.
OUTCOMES = {
    "disabled": "DISABLED: active and stale; that key is inactive now, the owner has a notice",
    "reminded": "REMINDED: stale soon; the owner has a notice",
    "unclear": "IN DOUBT: nothing is done; the security team has a notice (on Mondays)",
    "left": "NOT CHANGED: no notice, nothing done",
}
TOLD = ("reminded", "disabled", "unclear")  # of what a notice goes out


class Unexpected(Exception):
    """The demo didn't show what it promises; the text says what."""


def main() -> int:
    print("c7n-keyrot on an embedded AWS. Nothing leaves this machine: every program gets made-up")
    print("credentials, and the address of an AWS that lives in this process only.")
    started = time.monotonic()
    try:
        prepare()
        one_account()
        organization()
    except Unexpected as unexpected:
        print(f"\nThe demo failed: {unexpected}")
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    what_you_saw(time.monotonic() - started)
    return 0


def prepare() -> None:
    """Make an empty output folder; leave a folder of that name alone if it isn't the demo's."""
    if OUTPUT.exists():
        if not MARKER.exists():
            raise Unexpected(f"there is a {OUTPUT} here that the demo didn't make; move it away")
        shutil.rmtree(OUTPUT)
    OUTPUT.mkdir()
    MARKER.touch()


# The story


def one_account() -> None:
    heading("One account")
    with EmbeddedAws(report_seconds=1) as aws:
        account = aws.account(HUB)
        people = world.seed_account(account)
        aws.create_queue(world.QUEUE)
        before = account.snapshot()
        print(f"{len(people)} users with {len(before)} access keys, one for every case.")

        shell = Shell(aws, OUTPUT / "one-account")
        write_pack(shell)
        log = shell.run("Look first: a dry run", "custodian run --dryrun -s dry-run policies/")
        show_policies(shell.folder / "dry-run")
        show_warnings(log)
        check(not account.changes(before), "the dry run changed a key")
        check(not aws.messages(world.QUEUE), "the dry run sent a notice")
        say("no key was changed, no notice was sent")

        shell.run("Run it: notices to the queue, then the keys", "custodian run -s out policies/")
        show_policies(shell.folder / "out")
        notices = aws.messages(world.QUEUE)
        say(f"{len(notices)} notices (one for each policy) wait in the queue, for c7n-mailer")
        after = account.snapshot()

        shell.run(
            "Once more, without a startup file (python -S): no stale key is left",
            "python -S -m c7n_keyrot custodian run -s again policies/",
            # -S leaves it out as well.
            PYTHONPATH=os.pathsep.join(p for p in sys.path if p not in ("", REPOSITORY)),
        )
        show_policies(shell.folder / "again")
        check(after == account.snapshot(), "the second run changed a key")
        say("no key was changed; the other notices were sent again, so run it once a day")

        show_people(account, people, notices, shell.folder / "out" / STALE)
        changed = account.changes(before)
        disabled = [p.name for p in people if p.outcome == "disabled"]
        wanted = {account.key_id(name, 2): ("Active", "Inactive") for name in disabled}
        check(changed == wanted, "keys were changed that should not be disabled")
        print(
            f"\n{len(changed)} of the {len(before)} keys in the account were changed: second keys,"
        )
        print("active, over 90 days old. All others are as they were.")
        check(not aws.errors, aws.errors)


def organization() -> None:
    heading("An organization")
    with EmbeddedAws(report_seconds=1) as aws:
        homes = world.seed_organization(aws)
        print(f"A hub ({HUB}) with the queue, and {len(world.MEMBERS)} member accounts.")
        shell = Shell(aws, OUTPUT / "organization")
        write_pack(shell)
        with mail_server(shell.folder / "mails") as mails:
            write_settings(shell.folder, f"{aws.url}/{HUB}/{world.QUEUE}", mails.port)
            shell.run(
                "Run it in all member accounts, from the hub",
                "c7n-org run -c accounts.yml -s out -u policies/second-access-key.yml",
            )
            show_accounts(aws, homes, shell.folder / "out")
            notices = len(aws.messages(world.QUEUE))
            shell.run(
                "Send the notices (c7n-mailer ends once the queue has been empty for 10 seconds)",
                'c7n-mailer --run -c mailer.yml -t "$(c7n-keyrot templates)"',
                mails.show,
            )
            mails.show()
            check(not aws.messages(world.QUEUE), "notices were left in the queue")
            check(sorted(mails.seen) == sorted(expected_mails(homes)), "other mails than expected")
            say(f"{notices} notices became {len(mails.seen)} mails. A notice is one policy's,")
            say("in one account, about all its users; an owner's mail has their own users only")
            doctor = shell.run(
                "Is everything set up, and what did the last run cover?",
                "c7n-keyrot doctor --accounts accounts.yml --mailer mailer.yml --output-dir out",
            )
            show_checks(doctor)
            shell.run(
                "One page for an auditor, made of what the run left in its folder",
                f"c7n-keyrot report out --accounts accounts.yml -o {REPORT}",
            )
            show_report(shell.folder / REPORT)
        check(not aws.errors, aws.errors)


def what_you_saw(seconds: float) -> None:
    program, *command = ("custodian" if STARTUP_FILE else EXPLICIT["custodian"]).split()
    script = Path(sys.executable).with_name(program)
    activated = shutil.which(program) == str(script)
    custodian = " ".join([program if activated else os.path.relpath(script), *command])
    heading("What you saw")
    print(
        f"""\
- A dry run says which users match, and changes nothing.
- A run notifies the owners first, then disables second keys older than 90 days, and nothing else.
- Keys in doubt are reported and not changed. It is safe to run it again.
- No startup file is needed: c7n-keyrot custodian, org and mailer are the same, with the pack.
- The same pack covers many accounts; each owner gets mails about their own users only.
- One page shows it all, for people who don't read logs.
- Resources, outcomes, logs and mails are in {OUTPUT}/. It took {seconds:.0f} seconds.

What to do next, with credentials for an account of yours (this changes nothing and sends nothing):
$ {custodian} run --dryrun -s look examples/notify-only.yml"""
    )


# Programs


class Shell:
    """Run commands as a user types them, in a folder, with the hub's credentials."""

    def __init__(self, aws: EmbeddedAws, folder: Path):
        self.aws, self.folder = aws, folder
        self.steps = 0
        folder.mkdir()

    def run(
        self,
        title: str,
        command: str,
        meanwhile: Callable[[], object] | None = None,
        **variables: str,
    ) -> str:
        """Return its output, which its log has, too; print every few seconds that it still runs."""
        self.steps += 1
        program, _, rest = command.partition(" ")
        if not STARTUP_FILE:
            command = f"{EXPLICIT.get(program, program)} {rest}"
        print(f"\n  {self.steps}. {title}\n      $ {command}", flush=True)
        name = f"{self.steps}-{program}"
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        # Its own home, and so its own cache: no run sees what another one has read.
        env = self.aws.env(HUB, (self.folder / "homes" / name).resolve()) | variables
        started = said = time.monotonic()
        with (
            log.open("wb") as out,
            subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            while process.poll() is None:
                time.sleep(0.05)
                now = time.monotonic()
                if (meanwhile and meanwhile()) or now - said < 2:
                    continue
                said = now
                say(f"... {now - started:.0f} s")
                if now - started > TIMEOUT:
                    process.kill()
                    raise Unexpected(f"step {self.steps} didn't end; its log is {log}")
        text = log.read_text("utf-8", "backslashreplace")
        if process.returncode:
            tail = "\n".join(relative(text).splitlines()[-30:])
            print(textwrap.indent(tail, "      "))
            raise Unexpected(f"step {self.steps} ended with {process.returncode}; its log is {log}")
        say(f"done in {time.monotonic() - started:.1f} s, log: {log}")
        return text


def write_pack(shell: Shell) -> None:
    text = shell.run("Write the pack's files, from the installed package", "c7n-keyrot init")
    say(f"files written: {sum(line.startswith('wrote ') for line in text.splitlines())}")
    path = shell.folder / "policies" / "second-access-key.yml"
    pack = path.read_text("utf-8")
    for setting, own in {MONDAYS: EVERY_DAY, PLACEHOLDER: SECURITY_TEAM}.items():
        check(setting in pack, f"the pack has no setting {setting}")
        pack = pack.replace(setting, own)
    path.write_text(pack, "utf-8")
    say(f"its addresses are placeholders; set to {SECURITY_TEAM}")
    say("it reports keys in doubt on Mondays only; set to every day, so that you see it")


def write_settings(folder: Path, queue_url: str, smtp_port: int) -> None:
    """Write accounts.yml and mailer.yml, as in examples/ but for this AWS (JSON is YAML)."""
    accounts = world.accounts_file()
    accounts["vars"] = {"action": {"queue": f"arn:aws:sqs:{REGION}:{HUB}:{world.QUEUE}"}}
    mailer = {
        "queue_url": queue_url,
        "region": REGION,
        "role": f"arn:aws:iam::{HUB}:role/c7n-keyrot-mailer",
        "from_address": "custodian@corp.test",
        "contact_tags": [world.OWNER],
        "smtp_server": "127.0.0.1",
        "smtp_port": smtp_port,
        "smtp_ssl": False,
    }
    for name, content in ("accounts.yml", accounts), ("mailer.yml", mailer):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


# Mails


class MailServer(Controller):
    """Keep every mail as .eml, and its body (HTML, as the pack sends it) as .html."""

    def __init__(self, folder: Path):
        super().__init__(self, hostname="127.0.0.1", port=0)
        self.folder = folder
        self.names = sorted(person.name for person in world.people())
        self.seen: list[tuple[str, list[str]]] = []  # recipient, users that the mail is about
        # Lines to show; a queue, since mails arrive in a thread of the mail server.
        self.arrived: SimpleQueue[str] = SimpleQueue()
        folder.mkdir()

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # the port that 0 became
        super()._trigger_server()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        text = mail.get_content()
        to = ", ".join(envelope.rcpt_tos)
        users = [name for name in self.names if re.search(rf"(?<![\w@.-]){name}(?![\w@.-])", text)]
        self.seen.append((to, users))
        path = self.folder / f"{len(self.seen):02d}-{to.split('@')[0]}.eml"
        path.write_bytes(envelope.content)
        path.with_suffix(".html").write_text(text, "utf-8")
        self.arrived.put(f"to {to}, about {', '.join(users)}:")
        self.arrived.put(f"   {mail['subject']}")
        self.arrived.put(f"   {path}")
        self.arrived.put(f"   {path.with_suffix('.html')}")
        return "250 OK"

    def show(self) -> bool:
        """Print what has arrived since; return whether there was anything."""
        new = False
        with suppress(Empty):
            while True:
                say(self.arrived.get_nowait())
                new = True
        return new


def expected_mails(homes: dict[str, list[world.Person]]) -> Iterator[tuple[str, list[str]]]:
    """Return (recipient, users) of each mail: one for each owner, policy and account."""
    for account_id in world.MEMBERS:
        for outcome in TOLD:
            users: defaultdict[str, list[str]] = defaultdict(list)
            for person in homes[account_id]:
                if person.outcome == outcome:
                    to = person.tags.get(world.OWNER, WITHOUT_OWNER)
                    users[SECURITY_TEAM if outcome == "unclear" else to].append(person.name)
            yield from ((to, sorted(names)) for to, names in users.items())


@contextmanager
def mail_server(folder: Path) -> Iterator[MailServer]:
    server = MailServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


# The results


def results(folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Print how many users a policy found, and their keys' outcomes, from its output folder."""
    users = json.loads((folder / "resources.json").read_text("utf-8"))
    file = folder / "keyrot-outcomes.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return len(users), [json.loads(line) for line in lines]


def count(outcomes: list[dict[str, Any]]) -> Counter[str]:
    return Counter(outcome["outcome"] for outcome in outcomes)


def show_policies(out: Path) -> None:
    for name in EXPIRING, STALE, UNCLEAR:
        found, outcomes = results(out / name)
        did = ", ".join(f"{n} {outcome}" for outcome, n in sorted(count(outcomes).items()))
        say(f"{name}: found {found}{did and ': '}{did}")


def show_warnings(log: str) -> None:
    warnings = re.findall(r"custodian\.keyrot:WARNING account \d+ \(policy \S+\): (.+)", log)
    for warning in dict.fromkeys(warnings):  # several policies may have the same one
        wrapped(f"warning: {warning}", 2)


def show_checks(doctor: str) -> None:
    print()
    for line in relative(doctor).splitlines():
        if not line.startswith("still "):  # its progress
            wrapped(line, 13)  # below its second column


def show_people(
    account: Account, people: list[world.Person], notices: list[Any], stale: Path
) -> None:
    """Print the table of all users; compare what happened with what should have happened."""
    noticed = {
        user["UserName"]: notice["policy"]["name"]
        for notice in notices
        for user in notice["resources"]
    }
    outcomes = {outcome["user"]: outcome["outcome"] for outcome in results(stale)[1]}

    def seen(person: world.Person) -> str:
        if person.name in outcomes:
            return str(outcomes[person.name])
        return {EXPIRING: "reminded", UNCLEAR: "unclear"}.get(noticed.get(person.name, ""), "left")

    rows: list[Sequence[str]] = []
    for outcome, title in OUTCOMES.items():
        group = [person for person in people if person.outcome == outcome]
        rows += [(), (f"{title} ({len(group)})",)]
        for person in group:
            check(seen(person) == outcome, f"{person.name}: {seen(person)} instead of {outcome}")
            told = person.name in noticed
            check(told == (outcome != "left"), f"{person.name}: {'a' if told else 'no'} notice")
            key = account.keys(person.name).get(2)
            now = key.status.lower() if key else "-"
            rows.append(
                (
                    person.name,
                    describe(person.slot1),
                    describe(person.slot2),
                    person.verdict,
                    f"{now}, new" if person.rotated_since else now,
                    person.why,
                )
            )
    head = ("USER", "SLOT 1", "SLOT 2", "VERDICT", "SLOT 2 NOW", "WHY")
    print("\nWhat the credential report said, what happened to the second key, and why:\n")
    print(table(head, rows))


def describe(key: Key | None) -> str:
    """Return a slot as the credential report shows it: status, and age in whole days."""
    if key is None:
        return "-"
    if key.report_date:
        return f"{key.status.lower()}, no date"
    age = key.age_days
    if key.rotated_at:
        age = (time.time() - key.rotated_at.timestamp()) / 86400
    return f"{key.status.lower()} {int(age)}d"


def show_accounts(aws: EmbeddedAws, homes: dict[str, list[world.Person]], out: Path) -> None:
    rows = []
    for account_id, name in world.MEMBERS.items():
        folder = out / name / REGION
        reminded, _ = results(folder / EXPIRING)
        found, outcomes = results(folder / STALE)
        unclear, _ = results(folder / UNCLEAR)
        disabled = count(outcomes)["disabled"]
        wanted = Counter(p.outcome for p in homes[account_id])
        check(disabled == wanted["disabled"], f"{name}: {disabled} keys disabled")
        check(unclear == wanted["unclear"], f"{name}: {unclear} keys in doubt")
        numbers = len(homes[account_id]), reminded, found, disabled, unclear
        rows.append((f"{account_id} {name}", *map(str, numbers)))
    head = ("ACCOUNT", "USERS", "EXPIRING", "STALE", "DISABLED", "IN DOUBT")
    print("\n" + textwrap.indent(table(head, rows), "      ") + "\n")
    say(f"{len(aws.messages(world.QUEUE))} notices wait in the hub's queue")


def show_report(page: Path) -> None:
    """Name the report's page, say its answer, and make a picture where there is a browser."""
    answer = re.search(r"<h1[^>]*>(.+?)</h1>", page.read_text("utf-8"))
    check(answer, "the report has no answer")
    say(f"it opens on: {html.unescape(answer[1])}")
    say(f"{page}")
    if picture(page, page.with_suffix(".png"), 1280, 1500):
        say(f"{page.with_suffix('.png')}")


# Text


def heading(text: str) -> None:
    print(f"\n\n{text}\n{'=' * len(text)}", flush=True)


def say(text: str) -> None:
    print(f"      {text}", flush=True)


def wrapped(text: str, hang: int) -> None:
    first = " " * 6
    print(textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=first + " " * hang))


def relative(text: str) -> str:
    """Return a program's output without the machine's own paths."""
    return text.replace(sys.prefix, Path(sys.prefix).name).replace(str(Path.cwd()), ".").rstrip()


def check(true: object, otherwise: object) -> None:
    if not true:
        raise Unexpected(otherwise)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Print columns as wide as needed; wrap the last one. A row of one cell is a title."""
    rows = list(rows)
    cells = [head, *(row for row in rows if len(row) > 1)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head) - 1)]
    indent = sum(widths) + 2 * len(widths)
    lines = []
    for row in [head, *rows]:
        if len(row) < 2:
            lines.append("".join(row))
            continue
        left = "".join(f"{cell:{width}}  " for cell, width in zip(row, widths, strict=False))
        for part in textwrap.wrap(row[-1], WIDTH - indent) or [""]:
            lines.append(f"{left}{part}".rstrip())
            left = " " * indent
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
