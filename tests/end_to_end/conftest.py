# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import package_index
import pytest
from environments import Environment, link_libraries
from harness import Finished, PolicyRun, as_file, c7n_org, custodian, run
from wheels import built, copy

from embedded_aws import HUB, Account, EmbeddedAws


@pytest.fixture
def aws() -> Iterator[EmbeddedAws]:
    """An empty AWS that answers at once."""
    with EmbeddedAws() as embedded:
        yield embedded
    assert embedded.errors == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from browsers import launched  # here, since tests without it need no Chromium

    with launched() as browser:
        yield browser


@pytest.fixture
def account(aws: EmbeddedAws) -> Account:
    return aws.account(HUB)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The HOME of the test's processes; Custodian's cache lies in it, as at a user's."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def run_in(aws: EmbeddedAws, home: Path, tmp_path: Path) -> Callable[..., Finished]:
    """run_in(args): any command, in an empty folder, as the hub's (or another) account."""

    def run_command(
        args: list[str | Path],
        account_id: str = HUB,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 120,
        role: str | None = None,
    ) -> Finished:
        whole = {**aws.env(account_id, home, role), **(env or {})}
        return run(args, whole, cwd or tmp_path, timeout)

    return run_command


@pytest.fixture
def run_custodian(run_in: Callable[..., Finished], tmp_path: Path) -> Callable[..., PolicyRun]:
    """run_custodian(policies, *flags): `custodian run` into a fresh output folder, or `out`."""

    def run_policies(
        policies: str | Path | Mapping[str, Any],
        *flags: str | Path,
        out: Path | None = None,
        **how: Any,
    ) -> PolicyRun:
        out = out or _fresh(tmp_path)
        command = custodian("run", "-s", out, *flags, as_file(policies, tmp_path))
        done = run_in(command, **how)
        return PolicyRun(done.args, done.code, done.text, out)

    return run_policies


@pytest.fixture
def run_c7n_org(run_in: Callable[..., Finished], tmp_path: Path) -> Callable[..., PolicyRun]:
    """run_c7n_org(accounts_file, policies, *flags): `c7n-org run` into a fresh output folder."""

    def run_organization(
        accounts: str | Path | Mapping[str, Any],
        policies: str | Path | Mapping[str, Any],
        *flags: str | Path,
        out: Path | None = None,
        **how: Any,
    ) -> PolicyRun:
        out = out or _fresh(tmp_path)
        files = ["-c", as_file(accounts, tmp_path), "-u", as_file(policies, tmp_path)]
        done = run_in(c7n_org("run", "-s", out, *files, *flags), **how)
        return PolicyRun(done.args, done.code, done.text, out)

    return run_organization


def _fresh(folder: Path) -> Path:
    return folder / f"out-{len(list(folder.glob('out-*')))}"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """made_once(name, make): a folder that make(folder) has filled for all workers of the tests."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made, done = base / name, base / f"{name}.made"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                made.mkdir(exist_ok=True)  # one that was skipped half-way
                make(made)
                done.touch()
        return made

    return folder


@pytest.fixture(scope="session")
def libraries(made_once: Callable[..., Path]) -> Path:
    return made_once("libraries", link_libraries)


@pytest.fixture
def make(libraries: Path, tmp_path: Path) -> Callable[..., Environment]:
    """make(more libraries): a fresh environment, with c7n and the rest, without us."""
    return lambda *more: Environment(tmp_path / "venv", *more, libraries)


@pytest.fixture(scope="session")
def wheel(made_once: Callable[..., Path]) -> Path:
    """The wheel of the checkout."""
    folder = made_once("wheel", lambda folder: built(copy(folder / "checkout")))
    return next(folder.glob("checkout/dist/*.whl"))


@pytest.fixture(scope="session")
def bare(libraries: Path, made_once: Callable[..., Path]) -> Environment:
    """An environment with a build that has no startup files, by the real pip."""

    def install(folder: Path) -> None:
        wheel = built(copy(folder / "checkout"), C7N_KEYROT_NO_STARTUP_FILES="1")
        Environment(folder / "venv", libraries).pip("install", "--no-deps", "--no-index", wheel)

    environment = Environment(made_once("bare", install) / "venv")
    assert not list(environment.site.glob("c7n_keyrot.*"))
    return environment


@pytest.fixture(scope="session")
def aws_cli(made_once: Callable[..., Path]) -> Path:
    """The folder of the real `aws`, which a launcher starts."""
    return package_index.aws_program(made_once("aws", package_index.install_aws_cli))
