# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""SECURITY.md says what is true; and `make audit` fails on what it doesn't explain."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import re
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import c7n_keyrot

pytestmark = pytest.mark.repository

ROOT = Path(__file__).parents[2]
SECURITY = (ROOT / "SECURITY.md").read_text("utf-8")


def table(name: str) -> list[list[str]]:
    """The cells of each row of the table under this mark."""
    lines = SECURITY.split(f"<!-- {name}:")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[3:]]


@pytest.mark.parametrize("row", table("startup"), ids=lambda row: row[0])
def test_the_startup_files_are_these_to_the_byte(row: list[str]) -> None:
    name, line, digest = (cell.strip("`") for cell in row)
    listed = importlib.metadata.files("c7n-keyrot") or []
    installed = Path(str(next(file.locate() for file in listed if str(file) == name)))
    for file in (installed, ROOT / name):
        assert file.read_bytes() == f"{line}\n".encode()
        assert hashlib.sha256(file.read_bytes()).hexdigest() == digest


def test_the_startup_table_is_whole() -> None:
    assert {row[0].strip("`") for row in table("startup")} == {"c7n_keyrot.pth", "c7n_keyrot.start"}


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's own tags as plain values."""


Loader.add_multi_constructor(
    "!",
    lambda loader, suffix, node: (
        loader.construct_sequence(node, deep=True)
        if isinstance(node, yaml.SequenceNode)
        else getattr(node, "value", None)
    ),
)


def test_what_the_role_may_do_is_what_its_template_allows() -> None:
    template = yaml.load((ROOT / "deploy" / "member-role.yml").read_text(), Loader)
    allowed: dict[str, set[str]] = {}
    (policy,) = template["Resources"]["Role"]["Properties"]["Policies"]
    for statement in policy["PolicyDocument"]["Statement"]:
        condition, body = ("", statement) if isinstance(statement, dict) else statement[:2]
        actions = body["Action"] if isinstance(body["Action"], list) else [body["Action"]]
        if body["Effect"] == "Allow":
            allowed.setdefault(condition, set()).update(a.partition(":")[2] for a in actions)
    said: dict[str, set[str]] = {}
    for condition, actions, _ in table("role"):
        examples = re.findall(r"[a-z]+-(?:stage|first|rollout|hub)", condition)
        name = {
            ("delete-stage",): "Deleting",
            ("graceful-rollout", "delete-stage"): "Marking",
            ("superseded-first", "delete-stage"): "LastUsed",
            ("security-hub",): "Findings",
            (): {
                "enforcing": "Enforcing",
                "Usage": "Asking",
                "StockFilters=group": "Grouping",
                "StockFilters=all": "Filtering",
                "RunBy": "ByLambda",
            }.get(
                next(iter(re.findall(r"enforcing|Usage|StockFilters=\w+|RunBy", condition)), ""),
                "",
            ),
        }[tuple(examples)]
        said.setdefault(name, set()).update(re.findall(r"`(?:\w+:)?([A-Z]\w+)`", actions))
    assert said == allowed


# What GuardDog's rule on download and execution takes for an installer, as far as it could be met
# by a hint to a user: each within one line.
INSTALLER = re.compile(
    r"sys\.executable.*pip.*install|['\"]pip['\"],\s*['\"]install|check_call.*pip|os\.system"
    r"|from pip\b|exec\(compile",
    re.IGNORECASE,
)


def test_no_text_of_the_package_looks_like_an_installer() -> None:
    package = Path(c7n_keyrot.__file__).parent
    found = [
        f"{path.relative_to(package)}: {line}"
        for path in package.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if INSTALLER.search(line)
    ]
    assert found == []


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_run", ROOT / "tests" / "audit" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "<!-- audit: -->\n| a | b | c | d |\n|---|\n| bandit | `B1` | `p/known.py` | so |\n\n"
    (tmp_path / "SECURITY.md").write_text(text)
    monkeypatch.setattr(module, "SECURITY", tmp_path / "SECURITY.md")
    return module


def finding(rule: str, file: str) -> dict[str, str]:
    return {"test_id": rule, "filename": f"$(pwd)/{file}"}


KNOWN = finding("B1", "p/known.py")


@pytest.mark.parametrize(
    ("results", "code", "said"),
    [
        ([KNOWN], 0, "bandit: 0 findings that SECURITY.md doesn't explain, 1 that it does"),
        ([KNOWN, KNOWN], 0, "1 that it does"),
        ([KNOWN, finding("B2", "p/known.py")], 1, "not explained in SECURITY.md: bandit | B2 | p/"),
        (
            [KNOWN, finding("B1", "p/new.py")],
            1,
            "not explained in SECURITY.md: bandit | B1 | p/new",
        ),
        ([], 1, "explained in SECURITY.md, but not found: bandit | B1 | p/known.py"),
        (None, 1, "bandit: NOT RUN: exit 3: it broke"),
        ("absent", 1, "bandit: NOT RUN: it couldn't be installed"),
    ],
)
def test_audit(
    results: object,
    code: int,
    said: str,
    audit: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A scanner that prints such findings, and no other scanner."""
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr("p/known.py", "")
    report = json.dumps({"errors": [], "results": results})
    lines = ["#!/bin/sh", "for folder; do :; done", 'cd "$folder"', f"cat <<END\n{report}\nEND"]
    if results is None:
        lines = ["#!/bin/sh", "echo it broke >&2", "exit 3"]
    if results != "absent":
        tool = tmp_path / "bandit"
        tool.write_text("\n".join(lines) + "\n")
        tool.chmod(0o755)
    assert audit.main(tmp_path / "some.whl", tmp_path, tmp_path) == code
    assert said in capsys.readouterr().out


def test_the_audits_table_is_read_whole(audit: ModuleType) -> None:
    assert len(audit.explained(SECURITY)) == len(table("audit")) > 0
