# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot custodian`, `org`, `mailer`, where there is no startup file of ours at all."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from environments import Done, Environment, unpack

from embedded_aws import HUB, EmbeddedAws, Key

pytestmark = pytest.mark.release

MEMBERS = ("111111111111", "222222222222")


def keyrot(environment: Environment, *words: str | Path, **env: str) -> Done:
    return environment.run(environment.folder / "bin" / "c7n-keyrot", *words, **env)


# What Custodian's and our command line must agree on, with policies that are not ours.
ARGUMENTS = [
    [],
    ["run", "--help"],
    ["nothing"],
    ["validate", "theirs.yml"],
    ["validate", "ours-broken.yml"],
    ["schema", "aws.nothing"],
    ["run", "theirs.yml"],
]


@pytest.mark.parametrize("words", ARGUMENTS, ids=" ".join)
def test_custodians_own_command_line(words: list[str], bare: Environment) -> None:
    """Output and exit code are Custodian's own; its usage names the command that was given."""
    theirs, ours = bare.custodian(*words), keyrot(bare, "custodian", *words)
    assert ours.code == theirs.code
    assert plain(ours.out) == plain(theirs.out)
    assert "c7n-keyrot:" not in ours.err
    assert ("Traceback" in ours.err) == ("Traceback" in theirs.err)


def plain(usage: str) -> str:
    """Without the program's name, and the line breaks that come of its length."""
    return " ".join(usage.replace("c7n-keyrot custodian", "-c").split())


@pytest.mark.parametrize("words", [[], ["run", "--help"], ["run"], ["nothing"]])
def test_c7n_orgs_own_command_line(words: list[str], bare: Environment) -> None:
    main = "import sys; from c7n_org.cli import cli; sys.argv[0] = 'c7n-keyrot org'; cli()"
    theirs, ours = bare.run(bare.python, "-c", main, *words), keyrot(bare, "org", *words)
    assert (ours.code, ours.text) == (theirs.code, theirs.text)


@pytest.mark.parametrize("words", [["--help"], ["--run"], ["--run", "-c", "missing.yml"]])
def test_c7n_mailers_own_command_line(words: list[str], bare: Environment) -> None:
    main = "import sys; from c7n_mailer.cli import main; sys.argv[0] = 'c7n-keyrot mailer'; main()"
    theirs, ours = bare.run(bare.python, "-c", main, *words), keyrot(bare, "mailer", *words)
    assert (ours.code, ours.out) == (theirs.code, theirs.out)
    assert ours.err.splitlines()[-1:] == theirs.err.splitlines()[-1:]


def test_custodian_has_the_pack_only_by_this_command(
    bare: Environment, aws: EmbeddedAws, tmp_path: Path
) -> None:
    account = aws.account(HUB)
    account.add_user("ana", None, Key(200))
    env = aws.env(HUB, home=tmp_path) | {"PYTHONPATH": ""}
    assert bare.custodian("validate", "ours.yml").code == 1
    run = ["run", "-s", tmp_path / "out", "ours.yml"]
    done = keyrot(bare, "custodian", *run, **env)
    assert done.code == 0, done.text
    assert account.keys("ana")[2].status == "Inactive"
    # The same where not even site-packages is read, and under Python's own option for modules.
    path = os.pathsep.join([str(bare.site), (bare.site / "libraries.pth").read_text().strip()])
    for flags in ([], ["-S"]):
        module = [bare.python, *flags, "-m", "c7n_keyrot", "custodian"]
        done = bare.run(*module, "validate", "ours.yml", PYTHONPATH=path)
        assert done.code == 0, done.text


ORG = """
policies:
  - name: ours
    resource: aws.iam-user
    source: credential-report
    filters: [stale-access-key]
"""


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("fork", "script"),
        ("spawn", "script"),
        ("forkserver", "script"),
        ("spawn", "module"),
        ("forkserver", "module"),
    ],
)
def test_workers_of_c7n_org_have_the_pack(
    method: str, how: str, bare: Environment, aws: EmbeddedAws, tmp_path: Path
) -> None:
    """However multiprocessing starts them, which depends on Python's version and the platform."""
    accounts = []
    for account_id in MEMBERS:
        role = aws.account(account_id).add_role()
        aws.account(account_id).add_user("ana", None, Key(200))
        accounts.append({"account_id": account_id, "name": account_id, "role": role})
        accounts[-1]["regions"] = ["us-east-1"]
    (tmp_path / "accounts.yml").write_text(json.dumps({"accounts": accounts}))
    (tmp_path / "ours.yml").write_text(ORG)
    (tmp_path / "sitecustomize.py").write_text(
        f"import multiprocessing\nmultiprocessing.set_start_method('{method}', force=True)\n"
    )
    env = aws.env(HUB, home=tmp_path) | {"PYTHONPATH": str(tmp_path), "C7N_ORG_PARALLEL": "2"}
    files = ["-c", tmp_path / "accounts.yml", "-u", tmp_path / "ours.yml"]
    command: list[str | Path] = [bare.folder / "bin" / "c7n-keyrot"]
    if how == "module":
        command = [bare.python, "-m", "c7n_keyrot"]
    done = bare.run(*command, "org", "run", "-s", tmp_path / "out", *files, **env)
    assert done.code == 0, done.text
    for account_id in MEMBERS:
        found = tmp_path / "out" / account_id / "us-east-1" / "ours" / "resources.json"
        assert found.exists(), done.text
        assert [user["UserName"] for user in json.loads(found.read_text())] == ["ana"]


def test_doctor_names_this_way(bare: Environment, aws: EmbeddedAws, tmp_path: Path) -> None:
    """Nothing is wrong where there is no startup file; where one is broken, it is a way out."""
    command = [bare.folder / "bin" / "c7n-keyrot", "doctor", "--policies", "ours.yml"]
    done = bare.run(*command, **aws.env(HUB, home=tmp_path))
    lines = [line for line in done.out.splitlines() if " plugin" in line]
    assert [line.split()[0] for line in lines] == ["ok", "ok"], done.text
    assert "c7n-keyrot custodian" in lines[0]
    assert "c7n-keyrot org" in lines[1]


def test_the_mailer_is_given_the_templates(bare: Environment, tmp_path: Path) -> None:
    """In front of the user's own words, so that a -t of theirs counts."""
    show = (
        "import sys, c7n_mailer.cli as m, c7n_keyrot.cli as k\n"
        "m.main = lambda: print(m.get_c7n_mailer_parser().parse_args().templates)\n"
        "k.main(['mailer', *sys.argv[1:]])\n"
    )
    command = [bare.python, "-c", show, "--run", "-c", "mailer.yml"]
    folder = keyrot(bare, "templates").out
    assert bare.run(*command).out == folder
    assert bare.run(*command, "-t", "mine").out == "mine\n"


@pytest.mark.parametrize(
    ("command", "module", "distribution"),
    [("org", "c7n_org", "c7n-org"), ("mailer", "c7n_mailer", "c7n-mailer")],
)
def test_what_is_not_installed_is_one_clear_line(
    command: str,
    module: str,
    distribution: str,
    make: Callable[..., Environment],
    libraries: Path,
    tmp_path: Path,
) -> None:
    without = tmp_path / "without"
    without.mkdir()
    for path in libraries.iterdir():
        if path.name != module:
            (without / path.name).symlink_to(path.resolve())
    environment = Environment(tmp_path / "venv", without)
    unpack(environment.site)
    done = environment.run(environment.python, "-m", "c7n_keyrot", command, "--help")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith(f"c7n-keyrot {command}: {distribution} isn't installed in ")


@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("c7n-keyrot ", {"custodian", "org", "mailer", "doctor", "init"}),
        ("c7n-keyrot templates --", {"--help"}),
        ("c7n-keyrot custodian ", {"run", "schema", "validate"}),
        ("c7n-keyrot custodian run --dry", {"--dryrun"}),
        ("c7n-keyrot org ", {"run", "report", "run-script"}),
        ("c7n-keyrot org run --dry", {"--dryrun"}),
        ("c7n-keyrot mailer --temp", {"--templates"}),
    ],
)
def test_completion(line: str, among: set[str], bare: Environment, tmp_path: Path) -> None:
    """As `register-python-argcomplete c7n-keyrot` has the shell ask: by variables only."""
    answer = tmp_path / "answer"
    env = {
        "PATH": os.environ["PATH"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    script = bare.folder / "bin" / "c7n-keyrot"
    command = ["sh", "-c", f"exec '{script}' 8>'{answer}' 9>/dev/null"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "", done.stderr
    found = {word.strip() for word in answer.read_text().splitlines()}
    assert among <= found, done.stderr


def test_completion_in_bash(bare: Environment, tmp_path: Path) -> None:
    """Typed at a prompt, with Tab: commands, options and files, of ours and of the programs'."""
    (tmp_path / "accounts.yml").touch()
    (tmp_path / "output").mkdir()
    typed = {
        "c7n-keyrot temp\t": "c7n-keyrot templates",
        "c7n-keyrot doctor --acc\tacc\t": "c7n-keyrot doctor --accounts accounts.yml",
        "c7n-keyrot reactivate outp\t": "c7n-keyrot reactivate output/",
        "c7n-keyrot custodian val\tacc\t": "c7n-keyrot custodian validate accounts.yml",
        "c7n-keyrot org rep\t-c acc\t": "c7n-keyrot org report -c accounts.yml",
    }
    # Control-A goes to the begin of the line.
    lines = "".join(f"{keys}\x01echo GOT: \r" for keys in typed)
    path = [str(bare.folder / "bin"), str(Path(sys.executable).parent), "/usr/bin", "/bin"]
    env = {"PATH": os.pathsep.join(path), "HOME": str(tmp_path), "TERM": "dumb", "PS1": "$ "}
    setup = 'eval "$(register-python-argcomplete c7n-keyrot)"\r'
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), terminal),
        cwd=tmp_path,
        env=env,
        start_new_session=True,
    ) as bash:
        os.close(terminal)
        os.write(keyboard, f"{setup}{lines}exit\r".encode())
        screen, end = b"", time.monotonic() + 60
        while time.monotonic() < end and select.select([keyboard], [], [], 60)[0]:
            try:
                screen += os.read(keyboard, 4096)
            except OSError:  # bash has gone
                break
        bash.kill()
        os.close(keyboard)
    shown = screen.decode().splitlines()
    assert [line[5:].strip() for line in shown if line.startswith("GOT: ")] == [*typed.values()]
