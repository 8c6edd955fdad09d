# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pack gets into stock Custodian, and out again: real pip, real environments, real commands."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from wheels import CHECKOUT, built, copy

from embedded_aws import HUB, EmbeddedAws

OURS = """
policies:
  - name: ours
    resource: aws.iam-user
    source: credential-report
    filters:
      - type: stale-access-key
      - not: [rotation-exempt]
    actions: [disable-access-key]
"""
THEIRS = """
policies:
  - name: theirs
    resource: aws.iam-user
    filters: [{type: access-key, key: Status, value: Active}]
    actions: [{type: remove-keys, matched: true, disable: true}]
  - name: not-even-iam
    resource: aws.s3
"""


class Done:
    """A process that ended."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def text(self) -> str:
        return self.out + self.err


class Environment:
    """A virtual environment that sees c7n and the rest, and nothing of ours, without a copy."""

    def __init__(self, folder: Path, *libraries: Path) -> None:
        venv = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(venv, check=True, timeout=60)
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.site = next(folder.glob("lib/python*/site-packages"))
        # A folder named in a .pth file is searched; the .pth files in that folder aren't run.
        (self.site / "libraries.pth").write_text("".join(f"{path}\n" for path in libraries))
        (folder / "ours.yml").write_text(OURS)
        (folder / "theirs.yml").write_text(THEIRS)
        self.at_first = self.files()

    def files(self) -> set[str]:
        """All there is but caches, which pip leaves to Python."""
        return {
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if "__pycache__" not in path.parts
        }

    def run(self, *command: str | Path, **env: str) -> Done:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "PYTHON", "C7N_"))
        }
        return Done(
            subprocess.run(
                [str(word) for word in command],
                cwd=self.folder,  # not the checkout, whose c7n_keyrot would be found first
                env={**clean, "AWS_DEFAULT_REGION": "us-east-1", **env},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
            )
        )

    def pip(self, *words: str | Path) -> str:
        """pip of the tests' own environment, at work on this one."""
        done = self.run(sys.executable, "-m", "pip", "--python", self.python, *words)
        assert done.code == 0, done.text
        return done.out

    def custodian(self, *words: str | Path, **env: str) -> Done:
        main = "import sys; from c7n.cli import main; sys.exit(main())"
        return self.run(self.python, "-c", main, *words, **env)


def unpack(folder: Path) -> Path:
    """Copies the very files of the wheel that is under test, as pip laid them out."""
    for file in importlib.metadata.files("c7n-keyrot") or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:  # not bin/, not caches
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    return folder


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' own site-packages without us, made of links: c7n in no time."""
    folder = tmp_path_factory.mktemp("libraries")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith("c7n_keyrot") and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def make(libraries: Path, tmp_path: Path) -> Callable[..., Environment]:
    """make(more libraries): a fresh environment."""
    return lambda *more: Environment(tmp_path / "venv", *more, libraries)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return copy(tmp_path / "checkout")


@pytest.fixture
def installed(make: Callable[..., Environment]) -> Environment:
    """An environment with the wheel."""
    environment = make()
    unpack(environment.site)
    return environment


def assert_loaded(environment: Environment) -> None:
    schema = environment.custodian("schema", "aws.iam-user.filters.stale-access-key")
    assert (schema.code, schema.err) == (0, "")
    assert "slot" in schema.out
    assert "type: stale-access-key" in schema.out
    validate = environment.custodian("validate", "ours.yml", "theirs.yml")
    assert validate.code == 0, validate.text
    assert validate.err.count("Configuration valid: ") == 2


def assert_silent(environment: Environment) -> None:
    done = environment.run(environment.python, "-c", "pass")
    assert (done.code, done.text) == (0, "")


WAYS: dict[str, Callable[[Path], list[str | Path]]] = {
    "pip install .": lambda source: [source],
    "pip install -e .": lambda source: ["--no-build-isolation", "-e", source],
    "wheel": lambda source: [built(source, "wheel")],
    "sdist, wheel": lambda source: [built(source, "sdist")],
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_install(
    way: str, make: Callable[..., Environment], source: Path, tmp_path: Path
) -> None:
    """Stock commands know the filters afterwards; `pip uninstall` leaves nothing behind."""
    environment = make()
    environment.pip("install", *WAYS[way](source))
    assert (environment.site / "c7n_keyrot.pth").is_file()
    assert_silent(environment)
    assert_loaded(environment)
    init = environment.run(environment.folder / "bin" / "c7n-keyrot", "init", tmp_path / "new")
    assert init.code == 0, init.text
    for folder in ("policies", "examples", "deploy"):
        assert names(tmp_path / "new" / folder) == names(source / folder)
    environment.pip("uninstall", "--yes", "c7n-keyrot")
    assert environment.files() == environment.at_first
    assert_silent(environment)
    assert environment.custodian("validate", "ours.yml").code == 1


def names(folder: Path) -> set[str]:
    """The files in the folder and below, without caches."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_what_it_should() -> None:
    files = [
        file for file in importlib.metadata.files("c7n-keyrot") or [] if ".." not in file.parts
    ]
    info = f"c7n_keyrot-{importlib.metadata.version('c7n-keyrot')}.dist-info"
    assert {file.parts[0] for file in files} == {"c7n_keyrot", "c7n_keyrot.pth", info}
    held = {str(file) for file in files}
    for folder in ("policies", "examples", "deploy"):
        assert {f"c7n_keyrot/pack/{folder}/{name}" for name in names(CHECKOUT / folder)} <= held
    package = {f"c7n_keyrot/{name}" for name in names(CHECKOUT / "c7n_keyrot")}
    assert package <= held


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "a module is gone": lambda site: (site / "c7n_keyrot/filters.py").unlink(),
    "the hook is gone": lambda site: (site / "c7n_keyrot/autoload.py").unlink(),
    "the package is gone": lambda site: shutil.rmtree(site / "c7n_keyrot"),
    "a module is broken": lambda site: (site / "c7n_keyrot/source.py").write_text("x = ("),
    "an import fails inside register": lambda site: (site / "c7n_keyrot/plugin.py").write_text(
        "def register():\n    import c7n_gone\n"
    ),
    "register fails": lambda site: (site / "c7n_keyrot/plugin.py").write_text(
        "def register():\n    1 / 0\n"
    ),
}
NOBODY_LEFT = {"the hook is gone", "the package is gone"}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_when_broken_only_our_own_policies_fail(breakage: str, installed: Environment) -> None:
    """Python starts in silence; Custodian serves everybody else; ours name the filter."""
    BREAKAGES[breakage](installed.site)
    assert_silent(installed)
    theirs = installed.custodian("validate", "theirs.yml")
    assert theirs.code == 0, theirs.text
    assert "Configuration valid: theirs.yml" in theirs.err
    assert "Traceback" not in theirs.text
    ours = installed.custodian("validate", "ours.yml")
    assert ours.code == 1
    assert "Traceback" not in ours.text
    if breakage in NOBODY_LEFT:
        # Then the words are Custodian's own, about the first of ours that it met.
        assert "'credential-report' is not one of" in ours.err
    else:
        said = [line for line in ours.err.splitlines() if "custodian.keyrot:ERROR" in line]
        assert [line.count("stale-access-key") for line in said] == [1]


@pytest.mark.parametrize("flags", [[], ["-S"]], ids=["PYTHONPATH", "-S"])
def test_without_the_startup_file(
    flags: list[str], make: Callable[..., Environment], libraries: Path, tmp_path: Path
) -> None:
    """`python -m c7n_keyrot` is `custodian`, wherever the package is found."""
    environment = make()
    path = os.pathsep.join([str(unpack(tmp_path / "elsewhere")), str(libraries)])
    command = [environment.python, *flags, "-m", "c7n_keyrot"]
    done = environment.run(*command, "validate", "ours.yml", PYTHONPATH=path)
    assert done.code == 0, done.text
    usage = environment.run(*command, "validate", "--help", PYTHONPATH=path)
    assert usage.out.startswith("usage: custodian validate ")
    wrong = environment.run(*command, "schema", "aws.nothing", PYTHONPATH=path)
    assert wrong.code == 1
    assert environment.custodian("validate", "ours.yml", PYTHONPATH=path).code == 1


def test_run_without_the_startup_file(
    aws: EmbeddedAws, make: Callable[..., Environment], tmp_path: Path
) -> None:
    environment = make()
    env = aws.env(HUB, home=tmp_path) | {"PYTHONPATH": str(unpack(tmp_path / "elsewhere"))}
    command = [environment.python, "-m", "c7n_keyrot", "run", "-s", tmp_path / "out", "ours.yml"]
    done = environment.run(*command, **env)
    assert done.code == 0, done.text
    assert (tmp_path / "out" / "ours" / "resources.json").read_text() == "[]"


def test_the_oldest_c7n_that_is_declared(
    make: Callable[..., Environment], aws: EmbeddedAws, tmp_path: Path
) -> None:
    """As pip installs it, with its own boto3. The newest is what all other tests run on."""
    if sys.version_info >= (3, 12):
        pytest.skip("the oldest c7n doesn't run on this Python; pip finds a newer one for it")
    required = importlib.metadata.requires("c7n-keyrot") or []
    (oldest,) = (line[len("c7n>=") :] for line in required if line.startswith("c7n>="))
    old = tmp_path / "old"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-compile",
        "--target",
        old,
        f"c7n=={oldest}",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    environment = make(old)
    unpack(environment.site)
    assert environment.custodian("version").out.strip() == oldest
    assert_silent(environment)
    assert_loaded(environment)
    env = aws.env(HUB, home=tmp_path)
    done = environment.custodian("run", "-s", tmp_path / "out", "ours.yml", **env)
    assert done.code == 0, done.text
    assert (tmp_path / "out" / "ours" / "resources.json").read_text() == "[]"
