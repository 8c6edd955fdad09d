# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Start Custodian's programs without their half second of imports, which half of all tests pay.

A launcher is a process that has imported what a program's own script imports first, so nothing of
the pack but its import hook. For each start it forks: the new process has its own process group,
environment, working directory and output, runs the installed script, and ends as ever.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import re
import runpy
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
# The modules that a launcher imports; c7n-keyrot's own is the pack's.
IMPORTS = {
    "custodian": "c7n.cli",
    "c7n-org": "c7n_org.cli",
    "c7n-mailer": "c7n_mailer.cli",
    "c7n-keyrot": "boto3",
}
LANG = "C.UTF-8"
# Variables that Python reads when it starts, so before a launcher forks.
AT_START = re.compile("PYTHON|LC_")


def launcher_for(args: Sequence[str], env: Mapping[str, str]) -> Launcher | None:
    """Return the launcher that can start this; None where only Python's own start will do."""
    if os.environ.get("EXEC_ALL") or env.get("LANG") != LANG or any(map(AT_START.match, env)):
        return None
    program = Path(args[0])
    return launcher(program.name) if program.parent == BIN and program.name in IMPORTS else None


class Process:
    """A process that a launcher has started: what the harness uses of `subprocess.Popen`."""

    def __init__(self, args: list[str], output: int, status: int) -> None:
        self.args = args
        self.returncode: int | None = None
        self._output, self._status = os.fdopen(output, "rb", 0), os.fdopen(status, "rb", 0)
        self._read: list[bytes] = []
        self.pid = self._number()

    def _number(self) -> int:
        return int(self._status.readline())

    def poll(self) -> int | None:
        if self.returncode is None and _readable(self._status.fileno(), 0):
            self.returncode = self._number()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Wait for its end; return its output, which stays readable after TimeoutExpired."""
        deadline = time.monotonic() + (timeout or 1e6)
        while True:
            if not _readable(self._output.fileno(), deadline - time.monotonic()):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            more = self._output.read(1 << 16)
            if not more:
                break
            self._read.append(more)
        if self.returncode is None:
            self.returncode = self._number()
        self._output.close()
        self._status.close()
        text = b"".join(self._read).decode("utf-8", "backslashreplace")
        return text.replace("\r\n", "\n").replace("\r", "\n"), None


def _readable(file: int, seconds: float) -> bool:
    poll = select.poll()  # not select(), whose file numbers end at 1024
    poll.register(file, select.POLLIN)
    return bool(poll.poll(max(0, seconds) * 1000))


class Launcher:
    """The launcher of a program, which ends with the tests."""

    def __init__(self, program: str) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        env = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(BIN / program), IMPORTS[program]],
            stdin=theirs,
            # What the programs write to is a pipe, too: a file could be sought.
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**env, "LANG": LANG, "HOME": "/nonexistent"},
            start_new_session=True,
        )
        theirs.close()
        atexit.register(self.close)

    def start(self, args: list[str], env: Mapping[str, str], cwd: str) -> Process:
        out, out_there = os.pipe()
        status, status_there = os.pipe()
        job = json.dumps([args, dict(env), cwd]).encode()
        try:
            with self._lock:
                length = len(job).to_bytes(4, "big")
                socket.send_fds(self._control, [length], [out_there, status_there])
                self._control.sendall(job)
            os.close(out_there)
            os.close(status_there)
            return Process(args, out, status)
        except (OSError, ValueError):
            self._process.kill()
            raise RuntimeError(self._process.communicate()[1]) from None

    def close(self) -> None:
        """End it, and wait for that, so that what it used is in the tests' own `time`."""
        self._control.close()
        self._process.wait(timeout=60)


launcher = cache(Launcher)


def main(script: str, module: str) -> None:
    """Serve requests; return in each new process, where `sys.argv` and all else is its own."""
    control = socket.socket(fileno=os.dup(0))
    sys.path[0] = str(Path(script).parent)
    importlib.import_module(module)
    ours = {name for name in sys.modules if name.startswith("c7n_keyrot.")}
    assert ours <= {"c7n_keyrot.autoload"}, "the pack is to be imported by each process anew"
    gc.freeze()  # what is here stays, so each process can share its pages
    while True:
        length, files, _, _ = socket.recv_fds(control, 4, 2)
        if not length:
            while _reap(0):
                pass
            sys.exit()
        job = json.loads(_receive(control, int.from_bytes(length, "big")))
        while _reap(os.WNOHANG):
            pass
        if not os.fork():
            if _keep(*files):
                os._exit(0)
            control.close()
            _become(*job)
            return
        for file in files:
            os.close(file)


def _receive(control: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += control.recv(length - len(data))
    return data


def _reap(flags: int) -> int:
    try:
        return os.waitpid(-1, flags)[0]
    except ChildProcessError:
        return 0


def _keep(output: int, status: int) -> bool:
    """Fork once more; wait for that process, and report its number and how it ended."""
    child = os.fork()
    if child:
        os.close(output)
        _, ended = os.waitpid(child, 0)
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(ended))
        return True
    os.setsid()
    os.write(status, b"%d\n" % os.getpid())
    os.close(status)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(output)
    return False


def _become(args: list[str], env: dict[str, str], cwd: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv[:] = args


if __name__ == "__main__":
    program: Any = sys.argv[1]
    main(program, sys.argv[2])
    runpy.run_path(program, run_name="__main__")
