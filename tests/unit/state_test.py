# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run is state in parts: only a part's own methods write to it, and each has known callers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest

import c7n_keyrot
from c7n_keyrot.core.outcomes import Action, Outcome, Result
from c7n_keyrot.core.records import Why
from c7n_keyrot.core.rotation import Exemption, ExemptionState
from c7n_keyrot.custodian.state import Done, Exemptions, LeftOut

CUSTODIAN = Path(c7n_keyrot.__file__).parent / "custodian"
MODULES = {
    path.relative_to(CUSTODIAN).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in CUSTODIAN.rglob("*.py")
}
# Methods that write to a part of a run, and the modules that may call them.
WRITERS = {
    "report.use": {"shared_report.py"},
    "report.count": {"shared_report.py"},
    "log.share": {"shared_report.py"},
    "exemptions.note": {"elements/exemptions.py"},
    "left.note": {"elements/slots.py", "elements/filters.py"},
    "own.withhold": {"lifecycle.py"},
    "own.skip": {"lifecycle.py", "elements/filters.py"},
    "done.note": {"elements/actions.py"},
    "done.not_tried": {"intents.py"},
    "journal.prepare": {"intents.py"},
    "journal.refuse": {"intents.py"},
    "journal.close": {"intents.py", "elements/actions.py"},
    "journal.record": {"intents.py", "elements/actions.py"},
    "users.read": {"elements/source.py", "elements/slots.py", "elements/exemptions.py"},
    "users.load_live_keys": {"elements/slots.py"},
    "users.mark_unread": {"stock_filters.py", "elements/filters.py"},
}
CHANGE = {"add", "append", "extend", "update", "setdefault", "pop", "popitem", "remove", "discard"}
CHANGE |= {"clear", "insert", "subtract"}


def below_run(node: ast.AST) -> str:
    """``users.live`` of ``run.users.live[name]`` or ``self.run.users.live``; "" of all else."""
    names: list[str] = []
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
        node = node.value
    names.insert(0, node.id if isinstance(node, ast.Name) else "")
    names = names[1:] if names[0] == "self" else names
    return ".".join(names[1:]) if names[0] == "run" else ""


def writes(tree: ast.Module) -> Iterator[str]:
    """What a module writes to below ``run``, such as ``users.live`` and ``users.unread.add()``."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            if isinstance(node.ctx, (ast.Store, ast.Del)):
                yield below_run(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            path = below_run(node.func)
            # run.done.note() is a method of a part; run.done.last.update() changes what it has.
            if node.func.attr in CHANGE and path.count(".") > 1:
                yield f"{path}()"


def test_nothing_writes_to_a_part_of_a_run_but_its_own_methods() -> None:
    found = {
        f"{module}: {path}"
        for module, tree in MODULES.items()
        for path in writes(tree)
        if path and not path.startswith("manager.")  # Custodian's own; patches.py has that
    }
    assert found == set(), "give the part (state, log, users, journal, run_calls) a method for it"


@pytest.mark.parametrize(
    "line",
    [
        "run.users.live[name] = []",
        "self.run.done.counts['x'] += 1",
        "run.users.unread.add('ana')",
        "del run.left.why[place]",
        "run.now = None",
    ],
)
def test_each_way_to_write_is_found(line: str) -> None:
    assert any(writes(ast.parse(line)))


@pytest.mark.parametrize("method", WRITERS)
def test_a_part_is_written_by_its_owners_only(method: str) -> None:
    callers = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and below_run(node.func) == method
    }
    assert callers == WRITERS[method], "WRITERS in this test says who may call what"


def test_no_outcome_is_lost_where_many_threads_note_theirs() -> None:
    done = Done()
    line = Outcome(
        time="2026-11-30T12:00:00.000+00:00",
        account_id="123456789012",
        policy="test",
        run="r",
        action=Action.DISABLE,
        user="ana",
        slot=2,
        access_key_id="ana-2",
        outcome=Result.DISABLED,
        reason="",
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(done.note, [line] * 2000))
    done.not_tried(3)
    assert done.counts == {"disabled": 2000, "not tried": 3}
    assert done.last == {"ana-2": Result.DISABLED}


def test_the_first_reason_counts_but_for_the_runs_own_key() -> None:
    left = LeftOut()
    left.note("ana", 2, Why.USED)
    left.note("ana", 2, Why.GONE)
    assert left.why == {("ana", 2): Why.USED}
    left.own("ana", 2)
    assert left.why == {("ana", 2): Why.OWN}


def test_only_a_valid_exemption_exempts() -> None:
    found = Exemptions()
    found.note("ana", Exemption("t", "2027-01-01", ExemptionState.VALID, date(2027, 1, 1)))
    found.note("bob", Exemption("t", "2020-01-01", ExemptionState.EXPIRED, date(2020, 1, 1)))
    assert found.valid == {"ana": "2027-01-01"}
    assert found.void == {"bob": {"tag": "t", "value": "2020-01-01", "state": "expired"}}
