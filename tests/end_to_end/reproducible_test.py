# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Wheel and sdist: the same commit makes the same files, with nothing in them that isn't meant."""

import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.release

ROOT = Path(__file__).parents[2]
SOURCES = [
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "c7n_keyrot.pth",
    "c7n_keyrot.start",
    "c7n_keyrot",
    "policies",
    "examples",
    "deploy",
    "docs",
    # What `make test` needs in an unpacked sdist.
    "Makefile",
    "TESTING.md",
    ".ci",
    ".github",
    "tests",
    "demo",
    "embedded_aws",
    "benchmarks",
]


def build(folder: Path, age: int) -> list[Path]:
    """Build from a copy whose files are so many seconds old."""
    folder.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    # What a run of tests leaves must stay out.
    (folder / "tests" / "__pycache__").mkdir(exist_ok=True)
    (folder / "tests" / "__pycache__" / "left.pyc").touch()
    for path in folder.rglob("*"):
        os.utime(path, (1_800_000_000 - age, 1_800_000_000 - age))
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "."],
        cwd=folder,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return sorted((folder / "dist").iterdir())


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    folder = tmp_path_factory.mktemp("builds")
    return [build(folder / str(age), age) for age in (0, 5000)]


def test_same_sources_make_the_same_files(builds: list[list[Path]]) -> None:
    digests = [[hashlib.sha256(path.read_bytes()).hexdigest() for path in made] for made in builds]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 2


def test_nothing_is_in_them_that_is_not_meant(builds: list[list[Path]]) -> None:
    wheel = next(path for path in builds[0] if path.suffix == ".whl")
    sdist = next(path for path in builds[0] if path.suffix == ".gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    with tarfile.open(sdist) as archive:
        in_sdist = [member.name.split("/", 1)[1] for member in archive if member.isfile()]
    code = r"(\w+/){0,2}\w+\.py"
    page = r"cli/report/page\.(css|js|html\.j2)"
    data = rf"py\.typed|msg-templates/[\w.-]+\.j2|schemas/[\w.-]+\.json|{page}"
    pack = r"pack/((policies|examples|deploy)/[\w-]+\.yml|deploy/requirements\.(in|txt))"
    meant = rf"{code}|{data}|{pack}"
    for name in in_wheel:
        assert re.fullmatch(
            rf"c7n_keyrot/({meant})|c7n_keyrot\.(pth|start)|c7n_keyrot-[\d.]+\.dist-info/.+", name
        ), name
    assert "c7n_keyrot/py.typed" in in_wheel
    assert "docs/architecture.md" in in_sdist
    for name in in_sdist:
        top = name.split("/")[0]
        assert top in SOURCES or top in ("PKG-INFO", "c7n_keyrot.egg-info"), name
        assert "__pycache__" not in name


def test_the_sdist_has_the_tests_and_what_they_need(builds: list[list[Path]]) -> None:
    with tarfile.open(next(path for path in builds[0] if path.suffix == ".gz")) as archive:
        packed = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
    needed = set()
    for name in SOURCES:
        found = (ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name]
        files = (path for path in found if path.is_file() and "__pycache__" not in path.parts)
        needed |= {str(path.relative_to(ROOT)) for path in files}
    assert needed <= packed, needed - packed


def test_the_metadata_names_the_license_by_its_expression(builds: list[list[Path]]) -> None:
    wheel = next(path for path in builds[0] if path.suffix == ".whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        assert name.replace("METADATA", "licenses/LICENSE") in archive.namelist()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["License"] is None
    assert "Typing :: Typed" in metadata.get_all("Classifier")
