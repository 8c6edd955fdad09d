# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The steps of a run, in their order, and what it reports at its end in any case."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import boto3

from c7n_keyrot.aws import calls, gate
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.permit import Permit
from c7n_keyrot.cli.runner import left, mails, processes, summary
from c7n_keyrot.cli.runner.place import Place, read
from c7n_keyrot.cli.runner.settings import ACT, LOOK, TELL, TOPIC, Settings
from c7n_keyrot.core.text import one_line

# What latest/ has of each run. What a run didn't make is there as well, and says so.
FILES = (
    "summary.txt",
    "failed.txt",
    "outcomes.txt",
    "plan.txt",
    "mailer.txt",
    "doctor.txt",
    "report.html",
    "report.json",
)
NOT_COVERED = 3  # of plan


class Code(IntEnum):
    """What the command returns."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    STOPPED = 3
    NOT_KNOWN = 4


class Runner:
    """One run.

    :ivar failed: the steps that failed, in words.
    :ivar texts: the files beside the outputs, by name. A full disk doesn't take them away.
    :ivar begun: whether the run itself was begun, after the gate.
    :ivar at: the step that is being done, in words.
    :ivar left: what the run did.
    """

    def __init__(self, settings: Settings, place: Place) -> None:
        self.settings, self.place = settings, place
        self.failed: list[str] = []
        self.texts: dict[str, str] = {}
        self.begun = self.looked = self.stopped = False
        self.at = "the first step"
        self.left = left.Deeds()

    @property
    def refused(self) -> bool:
        """Whether a check, a signal or a bug ended it before anything was sent or changed."""
        return self.settings.mode != LOOK and not self.begun

    def go(self) -> Code:
        """Do all steps; return the exit code."""
        if self.settings.problems:
            self.failed += self.settings.problems
        else:
            self._until_stopped(self._work)
        if self.begun:
            self._until_stopped(self._read)
        if self.looked and not self.stopped:
            self._until_stopped(self._judge)
        self._tell()
        if self.settings.problems:
            return Code.REFUSED
        if self.left.unknown or self.left.in_doubt:
            return Code.NOT_KNOWN
        if self.refused:
            return Code.STOPPED
        return Code.FAILED if self.failed else Code.DONE

    def _until_stopped(self, work: Callable[[], None]) -> None:
        """Do a part; whatever it ends with is written down, and what comes after it is done."""
        try:
            with processes.stoppable():
                work()
        except processes.Stopped as stopped:
            # Whoever sent it won't wait for long.
            self.stopped = True
            self.failed.append(
                f"{self.at}: {stopped} stopped the runner; nothing after it was done"
            )
        except Exception as error:  # noqa: BLE001 - the summary is written whatever happens
            what = f"{type(error).__name__}: {one_line(error)}"
            self.failed.append(f"a bug in the runner, or the machine ({what}); report it")

    # -- the steps

    def _work(self) -> None:
        mode = self.settings.mode
        if mode != LOOK and not self._check():
            return
        self.looked = True
        look = str(self.place.work / "look")
        self._step("the dry run, in some account", *self._org("--dryrun", "-s", look))
        if self._plan(look) and mode != LOOK:
            self.begun = True
            self._step("the run, in some account", *self._org("-s", self.place.run))
            self.at = f"c7n-mailer, so {mails.NOT_KNOWN}"
            sent = mails.send(self.settings)
            self.texts["mailer.txt"] = sent.log
            self.failed += sent.failed

    def _org(self, *more: str) -> list[str]:
        accounts, policies = str(self.settings.accounts), str(self.settings.policies)
        return ["org", "run", "-c", accounts, "-u", policies, *more]

    def _step(self, what: str, *words: str, keep: str = "") -> int:
        """Run a command; write down that it failed.

        :param keep: the file that has what it printed.
        """
        self.at = what
        code, printed = processes.run(words)
        if keep:
            self.texts[keep] = printed
        if code:
            where = f"; see {keep}" if keep else ""
            self.failed.append(f"{what}{where} (exit code {code})")
        return code

    def _doctor(self) -> list[str]:
        chosen = self.settings
        files = ["--policies", str(chosen.policies), "--accounts", str(chosen.accounts)]
        return ["doctor", *files, "--mailer", str(chosen.mailer)]

    def _check(self) -> bool:
        """Tell whether all is well but for the accounts' roles, which the plan sees to.

        Above all mails can go out.
        """
        words = [*self._doctor(), "--without", "permissions"]
        code = self._step("the check before the run", *words, keep="doctor.txt")
        if why := mails.unreachable(self.settings):
            self.failed.append(why)
        return not code and not why

    def _plan(self, look: str) -> bool:
        """Tell whether the gate is passed."""
        chosen, tells = self.settings, self.settings.mode == TELL
        words = ["plan", look, "--accounts", str(chosen.accounts)]
        words += ["--policies", str(chosen.policies)]
        keys = "0" if tells else chosen.max_keys
        words += ["--max-keys", keys] if keys else []
        words += ["--max-percent", chosen.max_percent] if chosen.max_percent else []
        words += ["--only-notices"] if tells else []
        code = self._step("the plan", *words, keep="plan.txt")
        return code == 0 or (code == NOT_COVERED and chosen.mode != ACT)

    # -- the end

    def _read(self) -> None:
        """Find out what the run did."""
        wrong = ["its reading was ended by a signal"]
        self.at = "the reading of the outputs"
        try:
            wrong = self.place.fetch()
            self.left = left.read(self.place.work / "run", self.settings)
        finally:
            self.left.unknown += [f"the outputs of the run: {line}" for line in wrong]

    def _judge(self) -> None:
        """Make the report, and have doctor look at what was covered."""
        results = self.place.work / ("run" if self.begun else "look")
        accounts = str(self.settings.accounts)
        for form in ("html", "json"):
            made = str(self.place.work / f"report.{form}")
            words = ["report", str(results), "--accounts", accounts, "--format", form, "-o", made]
            self._step(f"the report as {form}", *words)
        self._step("doctor", *self._doctor(), "--output-dir", str(results), keep="doctor.txt")

    def _tell(self) -> None:
        """Keep all files, and send the message; what fails meanwhile is in the last of them."""
        self.texts["outcomes.txt"] = "".join(f"{left.line_of(one)}\n" for one in self.left.outcomes)
        reports = {
            name: content
            for name in ("report.html", "report.json")
            if (content := read(self.place.work / name)) is not None
        }
        before = len(self.failed)
        self._failed("the upload of the outputs", self.place.keep_rest())
        self._failed("the upload of the outputs", self.place.keep(self._files(reports)))
        self._failed("the upload of latest/", self.place.replace_latest(self._latest(reports)))
        self._send()
        if len(self.failed) > before:
            self.place.keep(self._files(reports))
            self.place.replace_latest(self._latest(reports))
        processes.show(self._summary())

    def _failed(self, what: str, lines: list[str]) -> None:
        self.failed += [f"{what} ({line})" for line in lines]

    def _files(self, reports: dict[str, bytes]) -> dict[str, bytes]:
        self.texts["failed.txt"] = "".join(f"{line}\n" for line in self.failed)
        self.texts["summary.txt"] = self._summary()
        texts = {
            name: text.encode("utf-8", "backslashreplace") for name, text in self.texts.items()
        }
        return {**texts, **reports}

    def _latest(self, reports: dict[str, bytes]) -> dict[str, bytes]:
        """Return what ``latest/`` is to have: each file, also those that this run has not made."""
        none = "The last run did not make this file; summary.txt says why."
        made = self._files(reports)
        missing = {name: f"{none}\n".encode() for name in FILES}
        missing["report.json"] = b'{"error": "%s"}\n' % none.encode()
        return {**missing, **made}

    def _summary(self) -> str:
        more = ""
        if self.settings.problems:
            more = "The configuration isn't right. Nothing was done."
        elif self.refused:
            more = "Nothing was sent, no key was changed: the run was not begun."
        chosen = self.settings
        return summary.text(chosen.mode, self.place.shown, self.left, self.failed, more)

    def _send(self) -> None:
        """Send the message, if there is anything to say."""
        found, topic = self.left, self.settings.topic
        news = found.disabled or found.deleted or found.in_doubt or found.unknown
        region = TOPIC.fullmatch(topic)
        if not region or not (news or self.failed):
            return
        try:
            client = gate.client(boto3.Session(), "sns", region=region[1])
            calls.call(
                client,
                "publish",
                permit=Permit(),
                TopicArn=topic,
                Subject=summary.subject(self.settings.mode, found, self.failed),
                Message=self._summary(),
            )
        except CallError as error:
            self.failed.append(f"the message to the topic ({error})")
