# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Start Custodian's programs without their half second of imports, which half of all tests pay.

A launcher is a process that has imported what a program's own script imports first, so nothing of
the pack but its import hook. For each start it forks: the new process has its own process group,
environment, working directory and output, runs the installed script, and ends as ever.

What a shell starts, or `doctor`, gets there by a door: a small program that stands in the other
one's place (``doors``), and ends as that one does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import marshal
import os
import re
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
# What a launcher imports, by the program and its first argument; c7n-keyrot's own is the pack's.
IMPORTS = {
    "custodian": "c7n.cli",
    "c7n-org": "c7n_org.cli",
    "c7n-mailer": "c7n_mailer.cli",
    "c7n-keyrot": "boto3",
    "c7n-keyrot custodian": "c7n.cli",
    "c7n-keyrot org": "c7n_org.cli",
    "c7n-keyrot mailer": "c7n_mailer.cli",
    # It looks at all of these.
    "c7n-keyrot doctor": "c7n_org.cli c7n_mailer.email_delivery c7n.policy c7n.resources.aws",
    "python -c": "c7n.cli",
}
LANG = "C.UTF-8"
# Variables that Python reads when it starts, so before a launcher forks.
AT_START = re.compile("PYTHON|LC_")

# It is read at each start, so it imports nothing that Python hasn't imported by then.
DOOR = """\
#!{python} -IS
import _socket, marshal, os, resource, sys
free = all(resource.getrlimit(one)[1] < 0 for one in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE))
at_start = [name for name in os.environ if name.startswith(("PYTHON", "LC_"))]
if not free or at_start or os.environ.get("LANG") != {lang!r}:
    sockets = {{}}
else:
    sockets = {sockets!r}
at = sockets.get(sys.argv[1] if sys.argv[1:] else "") or sockets.get("")
if not at:
    os.execv({script!r}, [{script!r}, *sys.argv[1:]])
there = _socket.socket(_socket.AF_UNIX)
there.connect(at)
job = marshal.dumps(([{script!r}, *sys.argv[1:]], dict(os.environ), os.getcwd(), {doors!r}))
files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
control = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)]
there.sendmsg([len(job).to_bytes(4, "big")], control)
there.sendall(job)
told = b""
while more := there.recv(100):
    told += more
code = int(told.split()[-1])
if code < 0:
    import signal
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def launcher_for(args: Sequence[str], env: Mapping[str, str]) -> Launcher | None:
    """Return the launcher that can start this; None where only Python's own start will do."""
    if os.environ.get("EXEC_ALL") or env.get("LANG") != LANG or any(map(AT_START.match, env)):
        return None
    program = Path(args[0])
    return launcher() if program.parent == BIN and program.name in IMPORTS else None


class Process:
    """A process that a launcher has started: what the harness uses of `subprocess.Popen`."""

    def __init__(self, args: list[str], output: int, status: socket.socket) -> None:
        self.args = args
        self.returncode: int | None = None
        self._output, self._status = os.fdopen(output, "rb", 0), status.makefile("rb", 0)
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
    """Launchers that end with the tests; each begins when it is asked for the first time.

    :param imports: the modules of each.
    :param shared: a module that they all need.
    :ivar sockets: by these: where it is asked.
    """

    def __init__(self, python: Path, imports: set[str], shared: str) -> None:
        self.sockets: dict[str, str] = {}
        folder = tempfile.mkdtemp(prefix="keyrot-")  # a socket's path must be short
        atexit.register(shutil.rmtree, folder)
        env = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        with ExitStack() as stack:
            files: dict[str, int] = {}
            for modules in imports:
                asked = stack.enter_context(socket.socket(socket.AF_UNIX))
                self.sockets[modules] = f"{folder}/{len(files)}"
                asked.bind(self.sockets[modules])
                asked.listen(100)
                files[modules] = asked.fileno()
            self._process = subprocess.Popen(
                [str(python), __file__, shared, json.dumps(files)],
                pass_fds=list(files.values()),
                stdin=subprocess.PIPE,  # it ends with the tests, however they end
                # What the programs write to is a pipe, too: a file could be sought.
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**env, "LANG": LANG, "HOME": "/nonexistent"},
                start_new_session=True,
            )
        atexit.register(self.close)

    def start(self, args: list[str], env: Mapping[str, str], cwd: str) -> Process:
        program = Path(args[0]).name
        modules = IMPORTS.get(f"{program} {args[1] if args[1:] else ''}") or IMPORTS[program]
        job = marshal.dumps((args, dict(env), cwd, str(doors())))
        out, out_there = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as there:
            try:
                there.connect(self.sockets[modules])
                length = len(job).to_bytes(4, "big")
                socket.send_fds(there, [length], [nothing, out_there, out_there])
                there.sendall(job)
                return Process(args, out, there)
            except (OSError, ValueError):
                self._process.kill()
                raise RuntimeError(self._process.communicate()[1]) from None
            finally:
                os.close(out_there)
                os.close(nothing)

    def close(self) -> None:
        """End it, and wait for that, so that what it used is in the tests' own `time`."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)


@cache
def launcher() -> Launcher:
    return Launcher(Path(sys.executable), {*IMPORTS.values()}, "botocore.session")


@cache
def doors() -> Path:
    """Return a folder with a door for each program; the programs' own folder with EXEC_ALL."""
    if os.environ.get("EXEC_ALL"):
        return BIN
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for program in {kind.split()[0] for kind in IMPORTS}:
        kinds = [kind for kind in IMPORTS if kind.split()[0] == program]
        at = {kind.partition(" ")[2]: launcher().sockets[IMPORTS[kind]] for kind in kinds}
        make_door(folder / program, BIN / program, at)
    return folder


def make_door(door: Path, script: Path, sockets: dict[str, str]) -> None:
    """Write a door to a program.

    :param sockets: of its launchers, by the program's first argument; "" for any other.
    """
    words = {"script": str(script), "sockets": sockets, "doors": str(door.parent)}
    door.write_text(DOOR.format(python=sys.executable, lang=LANG, **words), "utf-8")
    door.chmod(0o755)


def main(shared: str, asked: Mapping[str, int]) -> None:
    """Begin launchers when they are needed; return in each new process.

    :param asked: the modules of each, with the socket on which it is asked.
    """
    at_first = dict(os.environ)
    importlib.import_module(shared)
    listeners = {socket.socket(fileno=file): modules for modules, file in asked.items()}
    while True:
        listener = _next(listeners)
        if not os.fork():
            for other in {*listeners} - {listener}:
                other.close()
            break
        del listeners[listener]
        listener.close()
    for module in listeners[listener].split():
        importlib.import_module(module)
    ours = {name for name in sys.modules if name.startswith("c7n_keyrot.")}
    assert ours <= {"c7n_keyrot.autoload"}, "the pack is to be imported by each process anew"
    # awscli's import says so where its data is.
    for name, text in at_first.items():
        if os.environ.get(name) == text:
            del os.environ[name]
    gc.freeze()  # what is here stays, so each process can share its pages
    while True:
        there, _ = _next([listener]).accept()
        while _reap(os.WNOHANG):
            pass
        if not os.fork():
            listener.close()
            if _keep(there):
                os._exit(0)
            return
        there.close()


def _next(listeners: Iterable[socket.socket]) -> socket.socket:
    """Wait for one at which somebody asks; end, after the others, when the tests do."""
    poll = select.poll()
    by_file = {listener.fileno(): listener for listener in listeners}
    for file in (0, *by_file):
        poll.register(file, select.POLLIN)
    (file, _), *_ = sorted(poll.poll())
    if file == 0:
        while _reap(0):
            pass
        sys.exit()
    return by_file[file]


def _receive(there: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += there.recv(length - len(data))
    return data


def _reap(flags: int) -> int:
    try:
        return os.waitpid(-1, flags)[0]
    except ChildProcessError:
        return 0


def _keep(there: socket.socket) -> bool:
    """Become what is asked for, in one more process; report its number, and how it ended."""
    length, files, _, _ = socket.recv_fds(there, 4, 3)
    job = marshal.loads(_receive(there, int.from_bytes(length, "big")))
    child = os.fork()
    if child:
        for file in files:
            os.close(file)
        _wait(child, there)
        _, ended = os.waitpid(child, 0)
        there.sendall(b"%d\n" % os.waitstatus_to_exitcode(ended))
        return True
    os.setsid()
    there.sendall(b"%d\n" % os.getpid())
    there.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    _become(*job)
    return False


def _wait(child: int, there: socket.socket) -> None:
    """Wait for its end; kill it, and what it started, if who asked for it is gone before."""
    if hasattr(os, "pidfd_open"):
        poll = select.poll()
        ended = os.pidfd_open(child)
        poll.register(ended, select.POLLIN)
        poll.register(there, 0)  # only whether the other end is closed
        if ended not in dict(poll.poll()):
            os.killpg(child, signal.SIGKILL)


def _become(args: list[str], env: dict[str, str], cwd: str, doors: str) -> None:
    os.chdir(cwd)
    os.environ.update(env)
    time.tzset()
    sys.argv[:] = args
    sys.path[0] = str(Path(args[0]).parent)
    if {"doctor", "runner"} & {*args[1:2]}:
        _use(Path(doors))


def _use(doors: Path) -> None:
    """What this process starts of Custodian's programs, it starts by their doors."""
    there = {str(BIN / door.name): str(door) for door in doors.iterdir()}

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, args: list[str], **how: Any) -> None:
            if args[0] == sys.executable and args[1] in there:
                del args[0]  # it reads the script's first line itself
            super().__init__([there.get(args[0], args[0]), *args[1:]], **how)

    subprocess.Popen = Popen  # type: ignore[misc]


def run_script(script: str) -> None:
    """Run what was asked for, as Python would."""
    if Path(script).name != "python":
        runpy.run_path(script, run_name="__main__")
        return
    _, _, code, *rest = sys.argv
    sys.argv[:] = ["-c", *rest]
    sys.path[0] = ""
    exec(code, vars(sys.modules["__main__"]))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
    run_script(sys.argv[0])
