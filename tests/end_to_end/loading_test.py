# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pack gets into stock Custodian, and out again: real pip, real environments, real commands."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import c7n.registry as c7n_registry
import pytest
from environments import Environment, unpack
from wheels import CHECKOUT, built, copy

from embedded_aws import HUB, EmbeddedAws, Key

STARTUP_FILES = {"c7n_keyrot.pth", "c7n_keyrot.start"}
WITHOUT = {"C7N_KEYROT_NO_STARTUP_FILES": "1"}


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


@pytest.mark.release
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_install(
    way: str, make: Callable[..., Environment], source: Path, wheel: Path, tmp_path: Path
) -> None:
    """Stock commands know the filters afterwards; `pip uninstall` leaves nothing behind."""
    environment = make()
    what = [wheel] if way == "wheel" else WAYS[way](source)
    environment.pip("install", *what)
    assert startup_files(environment) == STARTUP_FILES
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


@pytest.mark.release
@pytest.mark.parametrize("way", ["pip install -e .", "wheel", "sdist, wheel"])
def test_each_way_to_install_without_startup_files(
    way: str,
    make: Callable[..., Environment],
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where an earlier build has left its own behind; `c7n-keyrot custodian` has the pack."""
    if way == "wheel":
        built(source).unlink()
    monkeypatch.setenv(*next(iter(WITHOUT.items())))
    environment = make()
    environment.pip("install", *WAYS[way](source), **WITHOUT)
    assert startup_files(environment) == set()
    assert environment.custodian("validate", "ours.yml").code == 1
    keyrot = environment.folder / "bin" / "c7n-keyrot"
    done = environment.run(keyrot, "custodian", "validate", "ours.yml")
    assert done.code == 0, done.text


def test_the_build_holds_the_startup_files_unless_told_otherwise(source: Path) -> None:
    for value in ("", "0"):
        with zipfile.ZipFile(built(source, C7N_KEYROT_NO_STARTUP_FILES=value)) as archive:
            assert set(archive.namelist()) >= STARTUP_FILES


def startup_files(environment: Environment) -> set[str]:
    return {path.name for path in environment.site.glob("c7n_keyrot.*")}


def names(folder: Path) -> set[str]:
    """The files in the folder and below, without caches."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_what_it_should() -> None:
    files = [
        file for file in importlib.metadata.files("c7n-keyrot") or [] if ".." not in file.parts
    ]
    info = f"c7n_keyrot-{importlib.metadata.version('c7n-keyrot')}.dist-info"
    assert {file.parts[0] for file in files} == {"c7n_keyrot", info, *STARTUP_FILES}
    held = {str(file) for file in files}
    for folder in ("policies", "examples", "deploy"):
        assert {f"c7n_keyrot/pack/{folder}/{name}" for name in names(CHECKOUT / folder)} <= held
    package = {f"c7n_keyrot/{name}" for name in names(CHECKOUT / "c7n_keyrot")}
    assert package <= held


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "a module is gone": lambda site: (site / "c7n_keyrot/custodian/elements/filters.py").unlink(),
    "the hook is gone": lambda site: (site / "c7n_keyrot/autoload.py").unlink(),
    "the package is gone": lambda site: shutil.rmtree(site / "c7n_keyrot"),
    "a module is broken": lambda site: (
        site / "c7n_keyrot/custodian/elements/source.py"
    ).write_text("x = ("),
    "an import fails inside register": lambda site: (
        site / "c7n_keyrot/custodian/elements/plugin.py"
    ).write_text("def register():\n    import c7n_gone\n"),
    "register fails": lambda site: (site / "c7n_keyrot/custodian/elements/plugin.py").write_text(
        "def register():\n    1 / 0\n"
    ),
}
NOBODY_LEFT = {"the hook is gone", "the package is gone"}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_when_broken_only_our_own_policies_fail(breakage: str, installed: Environment) -> None:
    """Python starts; Custodian serves everybody else; ours name the filter."""
    BREAKAGES[breakage](installed.site)
    start = installed.run(installed.python, "-c", "pass")
    assert (start.code, start.out) == (0, "")
    # Where nobody is left, Python itself has a word about the startup file.
    assert ("Error processing line 1 of " in start.err) == (breakage in NOBODY_LEFT)
    theirs = installed.custodian("validate", "theirs.yml")
    assert theirs.code == 0, theirs.text
    assert "Configuration valid: theirs.yml" in theirs.err
    ours = installed.custodian("validate", "ours.yml")
    assert ours.code == 1
    if breakage in NOBODY_LEFT:
        # Then the words are Custodian's own, about the first of ours that it met.
        assert "'credential-report' is not one of" in ours.err
        return
    assert "Traceback" not in theirs.text + ours.text
    assert_one_line(ours.err)


def assert_one_line(text: str) -> None:
    said = [line for line in text.splitlines() if "custodian.keyrot:ERROR" in line]
    assert [line.count("stale-access-key") for line in said] == [1]


def renamed(name: str, new: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"\b{name}\b", new, text)


def refusing(name: str) -> Callable[[str], str]:
    """A registry that doesn't take an element of this name."""
    return lambda text: text.replace("\n    def register(", REFUSE.replace("{name}", name))


REFUSE = """
    def register(self, name, *args, **kwargs):
        if name == "{name}":
            raise TypeError("no")
        return self._register(name, *args, **kwargs)

    def _register("""
# What a later c7n may look like: {a change: the files, and what becomes of them}.
CHANGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "the class has another name": ("resources/iam.py", renamed("User", "IamUser")),
    "a class that we need has another name": (
        "output.py resources/aws.py",
        renamed("BlobOutput", "BucketOutput"),
    ),
    "the registry of sources has another name": (
        "query.py schema.py data.py",
        renamed("sources", "all_sources"),
    ),
    "sources are chosen in another way": (
        "resources/iam.py",
        lambda text: text + "\ndel User.source_mapping\n",
    ),
    "a registry refuses a filter": ("registry.py", refusing("rotation-exempt")),
    "a registry refuses an action": ("registry.py", refusing("delete-access-key")),
}


USUAL = ("the class has another name", "a registry refuses a filter")
EACH_CHANGE = [
    pytest.param(change, marks=() if change in USUAL else pytest.mark.release) for change in CHANGES
]


@pytest.mark.parametrize("change", EACH_CHANGE)
def test_when_c7n_changes_one_line_says_what_is_missing(
    change: str, installed: Environment
) -> None:
    """Custodian goes on, with nothing of the pack rather than a half of it."""
    change_c7n(installed, *CHANGES[change])
    theirs = installed.custodian("validate", "theirs.yml")
    assert theirs.code == 0, theirs.text
    assert_one_line(theirs.err)
    ours = installed.custodian("validate", "ours.yml")
    assert ours.code == 1
    assert_one_line(ours.err)
    schema = installed.custodian("schema", "aws.iam-user")
    assert schema.code == 0, schema.text
    assert "remove-keys" in schema.out
    assert not re.search("stale-access-key|disable-access-key", schema.out)


def test_when_c7n_has_no_users_any_more_it_says_so_itself(installed: Environment) -> None:
    """There is nothing that the pack could be added to."""
    change_c7n(installed, "resources/resource_map.py", renamed("aws.iam-user", "aws.iam-person"))
    (installed.folder / "s3.yml").write_text("policies: [{name: p, resource: aws.s3}]")
    theirs = installed.custodian("validate", "s3.yml")
    assert theirs.code == 0, theirs.text
    ours = installed.custodian("validate", "ours.yml")
    assert ours.code == 1
    assert "Invalid resource: iam-user" in ours.err


def change_c7n(environment: Environment, names: str, change: Callable[[str], str]) -> None:
    """Change these files of a copy of c7n that is found in front of the libraries."""
    c7n = Path(c7n_registry.__file__).parent
    copied = shutil.copytree(c7n, environment.site / "c7n")
    for name in names.split():
        path = Path(copied, name)
        text = path.read_text()
        assert change(text) != text
        path.write_text(change(text))


@pytest.mark.release
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
    # The c7n-org beside it is a newer one, which pip wouldn't install with this c7n.
    ask = (
        "from c7n_keyrot.custodian.seams import EXTRAS, SEAMS, moved; "
        "own = tuple(seam for seam in SEAMS if not seam.place.startswith(EXTRAS)); "
        "print(*moved(own), sep='; ')"
    )
    moved = environment.run(environment.python, "-c", ask)
    assert (moved.code, moved.out.strip()) == (0, ""), moved.text
    account = aws.account(HUB)
    account.add_user("ana", Key(12), Key(200))
    env = aws.env(HUB, home=tmp_path)
    done = environment.custodian("run", "-s", tmp_path / "out", "ours.yml", **env)
    assert done.code == 0, done.text
    assert [key.status for key in account.keys("ana").values()] == ["Active", "Inactive"]
