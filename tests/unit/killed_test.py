# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run that was killed left the line of its beginning only; what an older one left isn't its."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from output_tree import NOW, Run
from pytest_mock import MockerFixture
from report_test import report

from c7n_keyrot import cli
from c7n_keyrot.cli.doctor import coverage
from c7n_keyrot.cli.doctor.checks import FAIL, OK
from c7n_keyrot.cli.doctor.context import Context, Planned, Target

DAY = timedelta(days=1)
KINDS = ("stale", "expiring", "unclear")


@pytest.fixture(autouse=True)
def _clock(mocker: MockerFixture) -> None:
    mocker.patch("c7n_keyrot.cli.report.build.clock", return_value=NOW + 2 * DAY)


def pack(out: Path, **more: object) -> list[str]:
    runs = [Run(kind=kind, **more) for kind in KINDS]  # type: ignore[arg-type]
    for run in runs:
        run.write(out)
    return [run.data["name"] for run in runs]


@pytest.mark.parametrize("killed", KINDS)
def test_an_account_is_not_covered_by_the_run_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], killed: str
) -> None:
    pack(tmp_path)
    assert report(capsys, tmp_path)["accounts"][0]["covered"]
    Run(kind=killed, time=NOW + DAY).begin(tmp_path)
    (row,) = report(capsys, tmp_path)["accounts"]
    assert not row["covered"]
    assert row["why"].startswith("run failed: iam-user-second-access-key-")
    assert row["why"].endswith("left no metadata: it was stopped, or still runs")
    pack(tmp_path, time=NOW + 1.5 * DAY)  # the next run is whole
    assert report(capsys, tmp_path)["accounts"][0]["covered"]


def doctor(out: Path, *names: str) -> dict[str, list[str]]:
    left, damage = coverage.read(str(out))
    assert damage == []
    context = Context(Namespace(accounts=None, policies=["x"], policy=[], policytags=[]))
    context.targets = [Target(policies=[Planned(name, True) for name in names])]
    context.accounts = []
    found: dict[str, list[str]] = {OK: [], FAIL: []}
    for check in coverage.covered(context, out, left):
        found.setdefault(check.status, []).append(check.what)
    return found


@pytest.mark.parametrize("policies", [1, 3])
def test_doctor_fails_for_it_and_for_those_that_never_began_after_it(
    tmp_path: Path, policies: int
) -> None:
    names = pack(tmp_path)[:policies]
    assert not doctor(tmp_path, *names)[FAIL]
    Run(kind="stale", time=NOW + DAY).begin(tmp_path)
    found = doctor(tmp_path, *names)
    assert found[OK] == []
    text = "; ".join(found[FAIL])
    assert f"{names[0]} didn't finish: custodian was stopped, or still runs" in text
    assert ("isn't of the last run" in text) is (policies > 1)


@pytest.mark.parametrize(
    ("judges", "words"),
    [
        ([(2, 90)], None),
        ([(1, 90)], "judged slot 2 (limit 90 days) in its last run, but --policies has slot 1"),
        ([(2, 30)], "but --policies has slot 2 (limit 30 days)"),
        ([(1, 90), (2, 90)], "but --policies has slot 1 (limit 90 days)"),
    ],
)
def test_doctor_goes_by_what_was_judged_not_by_the_name(
    tmp_path: Path, judges: list[tuple[int, float]], words: str | None
) -> None:
    run = Run()
    run.write(tmp_path)
    left, _ = coverage.read(str(tmp_path))
    context = Context(Namespace(accounts=None, policies=["x"], policy=[], policytags=[]))
    planned = Planned(run.data["name"], judges=frozenset(judges))
    context.targets = [Target(policies=[planned])]
    (check,) = coverage.covered(context, tmp_path, left)
    assert check.status == (FAIL if words else OK)
    assert not words or words in check.what


def test_a_dry_run_that_was_killed_is_no_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mocker: MockerFixture
) -> None:
    patched = mocker.patch("c7n_keyrot.cli.plan.datetime", wraps=datetime)
    patched.now.return_value = NOW + DAY / 8
    pack(tmp_path, dry_run=True)
    assert cli.main(["plan", str(tmp_path)]) == 0
    Run(kind="stale", time=NOW + DAY / 12, dry_run=True).begin(tmp_path)
    assert cli.main(["plan", str(tmp_path)]) == 3
    said = capsys.readouterr()
    assert "left no metadata: it was stopped, or still runs" in said.out
    assert "1 of 1 account not covered" in said.err


def test_a_run_that_acts_is_named_as_one_though_it_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(tmp_path, dry_run=True)
    assert report(capsys, tmp_path)["accounts"][0]["dry_run"] is True
    Run(kind="stale", time=NOW + DAY).begin(tmp_path)
    assert cli.main(["plan", str(tmp_path)]) == 3
    assert "not as a dry run" in capsys.readouterr().out
