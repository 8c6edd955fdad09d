# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""docs/architecture.md says how the code is arranged, and the code is arranged so."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.repository

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
# Packages from outside that a floor is kept free of, and where their use belongs.
FORBIDDEN = {
    "aws/": {"c7n": "custodian/"},
    "evidence/": {"c7n": "custodian/", "boto3": "aws/", "botocore": "aws/"},
}
SEE = "see docs/architecture.md"


def names(modules: Iterable[str]) -> str:
    return ", ".join(sorted(modules))


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
            assert node.level == 0, (
                f"{module}, line {node.lineno}: write the relative import in full"
            )
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
    assert title in DOCUMENT, (
        f"docs/architecture.md lacks '{title.strip()}': add it, with a table of its modules"
    )
    section = DOCUMENT.split(title)[1].split("\n##")[0]
    return re.findall(r"^\| `([\w/]+\.py)` \| \S", section, re.MULTILINE)


def is_empty(module: str) -> bool:
    """Whether it is a folder's ``__init__.py`` with its sentence, and no more."""
    return (PACKAGE / module).name == "__init__.py" and len(
        ast.parse((PACKAGE / module).read_text("utf-8")).body
    ) < 2


@pytest.mark.parametrize("floor", [*FLOORS, ""])
def test_every_module_has_one_line_in_the_table_of_its_floor(floor: str) -> None:
    of_floor = [one for one in MODULES if floor_of(one) == floor]
    there = [one for one in of_floor if (not is_empty(one) if floor else one in DOORS)]
    lines = listed(floor)
    missing, gone = set(there) - set(lines), set(lines) - set(there)
    table = f"the table '{floor or 'Doors'}' in docs/architecture.md"
    assert not missing, f"add to {table} a line that says what it has: {names(missing)}"
    assert not gone, f"remove from {table}, since it doesn't exist: {names(gone)}"
    twice = {line for line in lines if lines.count(line) > 1}
    assert not twice, f"keep one line in {table} for {names(twice)}"


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
        below = [one for one in FLOORS[floor] if one in found]
        actual[floor] = " ".join(below) or "nothing"
    for floor, imports in actual.items():
        assert pictured.get(floor) == imports, (
            f"the picture of floors in docs/architecture.md must say: {floor} imports {imports}"
        )
    assert list(pictured) == list(FLOORS), (
        f"the picture in docs/architecture.md must show these floors, from the top: {list(FLOORS)}"
    )


def test_nothing_is_named_that_does_not_exist() -> None:
    # In the pictures they have no backticks.
    named = set(re.findall(r"\w[\w./-]*\.(?:py|md)\b", DOCUMENT))
    named |= set(re.findall(r"`([\w./-]+/)`", DOCUMENT))
    named |= set(re.findall(r"\]\((?:\.\./)?([\w./-]+)\)", DOCUMENT))
    assert named
    missing = [name for name in named if not any((at / name).exists() for at in (ROOT, PACKAGE))]
    assert not missing, (
        f"docs/architecture.md names what doesn't exist, correct it there: {names(missing)}"
    )


def test_imports_form_no_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        circle = " imports ".join(reversed(error.args[1]))
        pytest.fail(
            f"imports form a circle: {circle}. Move what they share into a module of its own, or "
            f"pass it as a parameter ({SEE})",
            pytrace=False,
        )


def test_each_module_imports_from_its_own_floor_or_below() -> None:
    for module in MODULES:
        check_imports_from_its_own_floor_or_below(module)


def check_imports_from_its_own_floor_or_below(module: str) -> None:
    floor = floor_of(module)
    assert floor or module in DOORS, (
        f"{module} is on no floor: move it into one of {', '.join(FLOORS)} ({SEE})"
    )
    for other in sorted(GRAPH[module] - FOR_ALL):
        if floor:
            below = floor_of(other) in (floor, *FLOORS[floor]) or other == PLAIN
            may = " ".join(FLOORS[floor]) or "nothing else"
            assert below, (
                f"{module} imports {other}, but {floor} may import {may}, beside itself: move "
                f"what both need to a floor below, or pass it as a parameter ({SEE})"
            )
        else:
            assert other in DOORS[module], (
                f"{module} is a door, and may import {names(DOORS[module]) or 'nothing'}: "
                f"import {other} in a module on a floor ({SEE})"
            )


def test_no_module_is_hidden_behind_a_name_of_its_folder() -> None:
    """Python 3.10's unittest.mock, and a reader, finds what the folder has: not the module then."""
    for folder in (module for module in MODULES if module.endswith("/__init__.py")):
        beside = {Path(one).stem for one in MODULES if Path(one).parent == Path(folder).parent}
        tree = ast.parse((PACKAGE / folder).read_text("utf-8"))
        bound = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module != dotted(folder)
            for alias in node.names
        } | {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        assert not bound & beside, (
            f"{folder} has something else by the name of its module {names(bound & beside)}: "
            "give it a name of its own"
        )


def test_a_command_imports_no_other_command() -> None:
    modules = [one for one in MODULES if one.count("/") > 1 and "cli/" in one]
    assert modules
    for module in modules:
        check_imports_no_other_command(module)


def check_imports_no_other_command(module: str) -> None:
    own = module.rsplit("/", 1)[0] + "/"
    others = {one for one in GRAPH[module] if one.count("/") > 1 and one.startswith("cli/")}
    wrong = {one for one in others if not one.startswith(own)}
    assert not wrong, (
        f"{module} imports another command, {names(wrong)}: move what both need to evidence/, or "
        f"beside cli/__init__.py ({SEE})"
    )


def test_each_floor_is_free_of_what_it_must_not_know() -> None:
    assert MODULES
    for module in MODULES:
        check_is_free_of_what_it_must_not_know(module)


def check_is_free_of_what_it_must_not_know(module: str) -> None:
    floor = floor_of(module)
    tops = {name.split(".")[0] for name in imported(module)} - {"c7n_keyrot"}
    if floor == "core/" or module == PLAIN:
        wrong = tops - sys.stdlib_module_names
        assert not wrong, (
            f"{module} imports {names(wrong)}, and may import Python's own library only: move "
            f"what needs it to a floor above ({SEE})"
        )
    assert module != PLAIN or not GRAPH[module], (
        f"{module} imports {names(GRAPH[module])}: it is a plain list, which the commands read "
        f"without Custodian, so it imports nothing of the package ({SEE})"
    )
    wrong = tops & FORBIDDEN.get(floor, {}).keys()
    assert not wrong, (
        f"{module} imports {names(wrong)}, and {floor} works without: move it to "
        f"{names({FORBIDDEN[floor][one] for one in wrong})} ({SEE})"
    )


def constants(module: str) -> Iterator[tuple[str, str]]:
    """The constants of a module: name, and the code of the value."""
    for node in ast.parse((PACKAGE / module).read_text("utf-8")).body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            # The same number may well mean two things, such as the versions of two formats.
            number = isinstance(node.value, ast.Constant) and isinstance(node.value.value, int)
            if isinstance(target, ast.Name) and target.id.isupper() and not number:
                yield target.id, ast.unparse(node.value)


def test_no_constant_is_written_twice() -> None:
    first: dict[tuple[str, str], str] = {}
    for module in MODULES:
        for constant in constants(module):
            other = first.setdefault(constant, module)
            assert other == module, (
                f"{constant[0]} is the same in {other} and {module}: keep it in one of them, or on "
                f"a floor that both may import, and import it ({SEE})"
            )


def types(module: str) -> Iterator[tuple[str, str]]:
    """The name of each class and type variable of a module, and which of both it is."""
    for node in ast.parse((PACKAGE / module).read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            yield node.name, f"a class of {module}"
        elif isinstance(node, ast.Assign) and "TypeVar(" in ast.unparse(node.value):
            # One of the same name is the same idea in each module that needs it.
            yield ast.unparse(node.targets[0]), "a type variable"


def test_no_two_types_share_a_name() -> None:
    first: dict[str, str] = {}
    for name, what in (found for module in MODULES for found in types(module)):
        other = first.setdefault(name, what)
        assert other == what, f"{name} is {other}, and {what}: give one a name that says what it is"


# By what a package is imported as, where its name is another.
DISTRIBUTIONS = {"yaml": "pyyaml", "c7n_org": "c7n-org", "c7n_mailer": "c7n-mailer"}
# Commands use them if the user has installed them; `click` is c7n-org's, `requests` c7n-mailer's.
IF_INSTALLED = {"c7n-org", "c7n-mailer", "click", "requests"}
# An archive for Lambda has `packages`, and Lambda itself has AWS's own library. No more.
IN_LAMBDA = {"c7n", "boto3", "botocore"}


def outside(floors: Iterable[str]) -> set[str]:
    """The distributions that modules of these floors import."""
    modules = [module for module in MODULES if floor_of(module) in floors]
    tops = {name.split(".")[0] for module in modules for name in imported(module)}
    tops -= {"c7n_keyrot", *sys.stdlib_module_names}
    return {DISTRIBUTIONS.get(name, name) for name in tops}


def test_what_is_imported_is_declared() -> None:
    lines = importlib.metadata.requires("c7n-keyrot") or []
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in lines if "extra ==" not in line}
    actual = outside([*FLOORS, ""]) - IF_INSTALLED
    assert actual <= declared, (
        f"{names(actual - declared)} is imported: add it to the package's dependencies, with the "
        "version of the oldest c7n as the lowest"
    )
    assert declared <= actual, (
        f"{names(declared - actual)} isn't imported: remove it from the dependencies"
    )


def test_a_lambda_function_needs_no_package_that_its_archive_lacks() -> None:
    missing = outside([floor for floor in FLOORS if floor not in ("cli/", "evidence/")])
    missing -= IN_LAMBDA
    assert not missing, (
        f"{names(missing)} isn't in a Lambda function's archive: import it in cli/ only"
    )
