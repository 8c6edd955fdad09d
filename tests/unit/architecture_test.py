# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""docs/architecture.md says how the code is arranged, and the code is arranged so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "c7n_keyrot"
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
MOST_LINES = 400
# By path below the package, such as "cli/text.py", as the document has them.
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
# From the ground up.
FLOORS = ["Ground floor: no Custodian", "Custodian's side", "Ways in", "Commands"]
GROUND = {
    f"{name}.py"
    for name in ("credential_report", "rotation", "records", "outcomes", "iam", "call_errors")
}


def listed(floor: str) -> list[str]:
    """The modules in the table of a floor, in order."""
    section = DOCUMENT.split(f"\n### {floor}\n")[1].split("\n##")[0]
    return re.findall(r"^\| `([\w/]+\.py)` \| \S", section, re.MULTILINE)


ROOMS = {module: floor for floor, name in enumerate(FLOORS) for module in listed(name)}


def dotted(module: str) -> str:
    return ".".join(("c7n_keyrot", *Path(module).with_suffix("").parts)).removesuffix(".__init__")


BY_NAME = {dotted(module): module for module in MODULES}


def imported(module: str) -> Iterator[str]:
    """The dotted names that a module imports, those inside of functions included."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in BY_NAME else str(node.module)


GRAPH = {
    module: {BY_NAME[name] for name in imported(module) if name in BY_NAME} - {module}
    for module in MODULES
}


def test_every_module_has_one_line() -> None:
    lines = [module for floor in FLOORS for module in listed(floor)]
    assert sorted(lines) == MODULES


def test_nothing_is_named_that_does_not_exist() -> None:
    # In the picture they have no backticks.
    named = set(re.findall(r"\w[\w./-]*\.(?:py|md)\b", DOCUMENT))
    named |= set(re.findall(r"`([\w./-]+/)`", DOCUMENT))
    named |= set(re.findall(r"\]\((?:\.\./)?([\w./-]+)\)", DOCUMENT))
    assert named
    missing = [name for name in named if not any((at / name).exists() for at in (ROOT, PACKAGE))]
    assert not missing


def test_imports_form_no_circle() -> None:
    assert list(TopologicalSorter(GRAPH).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_from_its_own_floor_or_below(module: str) -> None:
    above = {other for other in GRAPH[module] if ROOMS[other] > ROOMS[module]}
    assert not above


@pytest.mark.parametrize("module", MODULES)
def test_only_commands_import_commands(module: str) -> None:
    of_commands = {other for other in GRAPH[module] if other.startswith("cli/")}
    assert not of_commands or module.startswith("cli/") or module == "__main__.py"


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("cli/")])
def test_commands_import_of_the_rest_the_ground_floor_and_the_hook(module: str) -> None:
    rest = {other for other in GRAPH[module] if not other.startswith("cli/")}
    assert rest <= {*listed(FLOORS[0]), "__init__.py", "autoload.py"}


def test_ground_floor_is_the_one_that_is_meant() -> None:
    assert set(listed(FLOORS[0])) >= GROUND


@pytest.mark.parametrize("module", listed(FLOORS[0]))
def test_ground_floor_knows_no_custodian(module: str) -> None:
    assert not {name for name in imported(module) if name.split(".")[0] == "c7n"}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_too_long(module: str) -> None:
    lines = (PACKAGE / module).read_text("utf-8").count("\n")
    assert lines <= MOST_LINES
