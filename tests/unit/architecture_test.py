# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""docs/architecture.md says how the code is arranged, and the code is arranged so."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "c7n_keyrot"
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
# By path below the package, such as "cli/usage.py", as the document has them.
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
# What a module may import beside its own floor. The picture in the document says the same.
FLOORS = {
    "cli/": ("evidence/", "aws/", "core/"),
    "evidence/": ("aws/", "core/"),
    "custodian/elements/": ("custodian/", "aws/", "core/"),
    "custodian/": ("aws/", "core/"),
    "aws/": ("core/",),
    "core/": (),
}
# Their paths are promised to users and to Python. Each has imports of its own.
DOORS = {
    "__init__.py": set(),
    "autoload.py": {"custodian/elements/plugin.py"},
    "handler.py": {"autoload.py"},
    "__main__.py": {"cli/__init__.py"},
}
# Whoever needs the version, or the import hook.
FOR_ALL = {"__init__.py", "autoload.py"}
# A list that imports nothing, so that a command can say what has moved.
PLAIN = "custodian/seams.py"
# Packages from outside that a floor is kept free of.
FORBIDDEN = {"aws/": {"c7n"}, "evidence/": {"c7n"}}
SEE = "see docs/architecture.md"


def floor_of(module: str) -> str:
    """The floor of a module; "" for the doors."""
    return next((floor for floor in FLOORS if module.startswith(floor)), "")


def dotted(module: str) -> str:
    return ".".join(("c7n_keyrot", *Path(module).with_suffix("").parts)).removesuffix(".__init__")


BY_NAME = {dotted(module): module for module in MODULES}


def imported(module: str) -> Iterator[str]:
    """The dotted names that a module imports, those inside of functions included."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import: write it in full"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in BY_NAME else str(node.module)


GRAPH = {
    module: {BY_NAME[name] for name in imported(module) if name in BY_NAME} - {module}
    for module in MODULES
}


def listed(floor: str) -> list[str]:
    """The modules in the table of a floor, in order."""
    title = f"\n### `{floor}`" if floor else "\n### Doors"
    assert title in DOCUMENT, f"docs/architecture.md has no section '{title.strip()}'"
    section = DOCUMENT.split(title)[1].split("\n##")[0]
    return re.findall(r"^\| `([\w/]+\.py)` \| \S", section, re.MULTILINE)


def is_empty(module: str) -> bool:
    """Whether it is a folder's ``__init__.py`` with its sentence, and no more."""
    return (PACKAGE / module).name == "__init__.py" and len(
        ast.parse((PACKAGE / module).read_text("utf-8")).body
    ) < 2


@pytest.mark.parametrize("floor", [*FLOORS, ""])
def test_every_module_has_one_line_in_the_table_of_its_floor(floor: str) -> None:
    there = [one for one in MODULES if floor_of(one) == floor and not (floor and is_empty(one))]
    lines = listed(floor)
    missing, gone = set(there) - set(lines), set(lines) - set(there)
    assert not missing, f"add a line for {missing} to the table of {floor} in docs/architecture.md"
    assert not gone, f"docs/architecture.md has {gone}, which isn't there: remove the line"
    assert len(lines) == len(set(lines))


def test_the_picture_shows_the_floors_as_they_are() -> None:
    pictured = dict(re.findall(r"^  │ (\S+) +│ imports (.+?) *│", DOCUMENT, re.MULTILINE))
    actual = {}
    for floor in FLOORS:
        found = {
            floor_of(to)
            for of in MODULES
            if floor_of(of) == floor
            for to in GRAPH[of] - FOR_ALL - {PLAIN}
        }
        names = [one for one in FLOORS if one in found - {floor}]
        actual[floor] = " ".join(names) or "nothing"
    assert pictured == actual, f"draw the picture of floors in {SEE[4:]} as it is: {actual}"
    assert list(pictured) == list(FLOORS)


def test_nothing_is_named_that_does_not_exist() -> None:
    # In the pictures they have no backticks.
    named = set(re.findall(r"\w[\w./-]*\.(?:py|md)\b", DOCUMENT))
    named |= set(re.findall(r"`([\w./-]+/)`", DOCUMENT))
    named |= set(re.findall(r"\]\((?:\.\./)?([\w./-]+)\)", DOCUMENT))
    assert named
    missing = [name for name in named if not any((at / name).exists() for at in (ROOT, PACKAGE))]
    assert not missing, f"docs/architecture.md names {missing}, which isn't there"


def test_imports_form_no_circle() -> None:
    assert list(TopologicalSorter(GRAPH).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_from_its_own_floor_or_below(module: str) -> None:
    floor = floor_of(module)
    assert floor or module in DOORS, (
        f"{module} is on no floor: move it into one of {', '.join(FLOORS)} ({SEE})"
    )
    for other in sorted(GRAPH[module] - FOR_ALL):
        if floor:
            below = floor_of(other) in (floor, *FLOORS[floor]) or other == PLAIN
            assert below, (
                f"{module} imports {other}, but {floor} may import only {FLOORS[floor]}: move "
                f"what both need to a floor below, or pass it as a parameter ({SEE})"
            )
        else:
            assert other in DOORS[module], f"{module} is a door, and {other} isn't for it ({SEE})"


@pytest.mark.parametrize("module", [one for one in MODULES if one.count("/") > 1 and "cli/" in one])
def test_a_command_imports_no_other_command(module: str) -> None:
    own = module.rsplit("/", 1)[0] + "/"
    others = {one for one in GRAPH[module] if one.count("/") > 1 and one.startswith("cli/")}
    wrong = {one for one in others if not one.startswith(own)}
    assert not wrong, f"{module} imports {wrong}: what two commands need belongs to evidence/"


@pytest.mark.parametrize("module", MODULES)
def test_floor_is_free_of_what_it_must_not_know(module: str) -> None:
    floor = floor_of(module)
    tops = {name.split(".")[0] for name in imported(module)} - {"c7n_keyrot"}
    if floor == "core/" or module == PLAIN:
        wrong = tops - sys.stdlib_module_names
        assert not wrong, (
            f"{module} imports {wrong}: it may import Python's own library only ({SEE})"
        )
        assert floor == "core/" or not GRAPH[module]
    wrong = tops & FORBIDDEN.get(floor, set())
    assert not wrong, f"{module} imports {wrong}: that belongs to custodian/ ({SEE})"
