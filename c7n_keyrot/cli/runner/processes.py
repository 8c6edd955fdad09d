# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The commands that a run is made of, each as a process, which leaves no other process running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

# Characters that are kept of what a command prints: its end.
MOST_KEPT = 4 << 20
ENDED_BY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """A signal came; the text is its name. No ``except Exception`` may swallow it."""


def command() -> list[str]:
    """Return how this very installation's ``c7n-keyrot`` is started."""
    script = Path(sys.argv[0])
    if script.name == "c7n-keyrot" and script.is_file():
        return [sys.executable, str(script.absolute())]
    return [sys.executable, "-m", "c7n_keyrot"]


class _Signals:
    """What is known of signals: the first that came, and whether it may raise ``Stopped`` now."""

    came = ""
    raised = armed = False

    def stop(self, number: int, _: Any) -> None:
        self.came = self.came or signal.Signals(number).name
        self.check()

    def check(self) -> None:
        if self.came and self.armed and not self.raised:
            self.raised = True
            raise Stopped(self.came)

    @contextmanager
    def held(self) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """Keep ``Stopped`` for later, but for where what is yielded lets it through."""
        armed, self.armed = self.armed, False

        @contextmanager
        def released() -> Iterator[None]:
            try:
                self.armed = armed
                self.check()
                yield
            finally:
                self.armed = False

        try:
            yield released
        finally:
            self.armed = armed
        self.check()


_signals = _Signals()


@contextmanager
def caught() -> Iterator[None]:
    """Have no signal end this process by itself meanwhile: see ``stoppable``."""
    _signals.came, _signals.raised = "", False
    before = {one: signal.signal(one, _signals.stop) for one in ENDED_BY}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def stoppable() -> Iterator[None]:
    """Have the first signal, also one that came before, raise ``Stopped`` inside, once."""
    try:
        _signals.armed = True
        _signals.check()
        yield
    finally:
        _signals.armed = False


def show(text: str) -> None:
    """Print, whatever is at the other end."""
    with suppress(OSError, ValueError):
        print(text, end="", flush=True)


def run(words: Sequence[str]) -> tuple[int, str]:
    """Run ``c7n-keyrot WORDS``, and print what it prints.

    When it has ended, so have all that it has started: workers of c7n-org go on without it.

    :returns: its exit code (that of a signal is negative; 127 if it can't be started), and what it
        printed.
    :raises Stopped: a signal came; the command was ended.
    """
    with _signals.held() as released:
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell; the words are the settings'
                [*command(), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="backslashreplace",
                start_new_session=True,
            )
        except OSError as error:
            return 127, f"can't be started: {error.strerror}\n"
        kept: list[str] = []
        reader = threading.Thread(target=_read, args=(process.stdout, kept), daemon=True)
        reader.start()
        try:
            with released():
                code = process.wait()
        finally:
            # They hold the pipe as well, so the reader comes to its end after that only.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            reader.join(10)
    return code, "".join(kept)


def _read(stream: IO[str], kept: list[str]) -> None:
    size = 0
    for line in stream:
        show(line)
        kept.append(line)
        size += len(line)
        while size > MOST_KEPT and len(kept) > 1:
            size -= len(kept.pop(0))
