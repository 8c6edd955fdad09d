# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""keyrot-population-….csv.gz: all keys of a credential report, once a report, and its hash."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from c7n.exceptions import PolicyExecutionError
from in_memory import ACCOUNT, Custodian, Iam
from pytest_mock import MockerFixture

from c7n_keyrot.aws import settings
from c7n_keyrot.core import outcomes, population
from c7n_keyrot.core.records import RunSummary
from c7n_keyrot.custodian import output, shared_report

STALE = {"type": "stale-access-key"}
EXPIRING = {"type": "expiring-access-key"}
NEW, OLD = 10, 200


def kept(custodian: Custodian) -> list[Path]:
    return sorted(custodian.folder.glob("*/keyrot-population-*"))


def hashes(custodian: Custodian) -> list[str | None]:
    files = sorted(custodian.folder.glob(f"*/{outcomes.SUMMARY_FILE}"))
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    return [RunSummary.parse(line).population for line in lines]


def test_all_keys_are_kept_once_a_report_and_each_summary_has_the_hash(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", (OLD, "Inactive"))
    iam.add("none")
    iam.add("odd", None, OLD)
    iam.rows["odd"][7] = "Expired"
    iam.add("twin", NEW)
    iam.rows["again"] = iam.rows["twin"]
    custodian.options["dryrun"] = True
    custodian.run([EXPIRING], name="first")
    custodian.options["dryrun"] = False
    custodian.run([STALE], ["disable-access-key"], name="second")
    (file,) = kept(custodian)
    report = iam.now - timedelta(hours=iam.age_hours)
    assert file.parent.name == "first"
    assert file.name == f"keyrot-population-{report:%Y%m%dT%H%M%SZ}.csv.gz"
    content = gzip.decompress(file.read_bytes())
    assert hashes(custodian) == [hashlib.sha256(content).hexdigest()] * 2
    rows = list(csv.reader(io.StringIO(content.decode())))
    made = {key["AccessKeyId"]: key["CreateDate"].isoformat() for key in iam.all_keys()}
    created = iam.users["ana"]["CreateDate"].isoformat()
    assert rows == [
        list(population.COLUMNS),
        [ACCOUNT, "ana", created, "1", "Active", made["ana-1"], ""],
        [ACCOUNT, "ana", created, "2", "Active", made["ana-2"], ""],
        [ACCOUNT, "bob", created, "1", "Inactive", made["bob-1"], ""],
        [ACCOUNT, "odd", created, "2", "unknown", made["odd-2"], ""],
        *[[ACCOUNT, "twin", created, "1", "Active", made["twin-1"], ""]] * 2,
    ]


def test_the_same_report_makes_the_same_file_and_is_not_written_again(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD)
    custodian.run([STALE])
    (file,) = kept(custodian)
    before = file.read_bytes()
    os.utime(file, (0, 0))
    shared_report.reports.clear()  # as in another process
    custodian.run([STALE])
    assert (kept(custodian), file.stat().st_mtime) == ([file], 0)
    file.unlink()
    shared_report.reports.clear()
    custodian.run([STALE])
    assert file.read_bytes() == before
    assert len(set(hashes(custodian))) == 1
    iam.age_hours = 0
    shared_report.reports.clear()
    custodian.run([STALE])
    assert len(kept(custodian)) == 2


def test_no_spreadsheet_takes_a_name_for_a_formula(iam: Iam, custodian: Custodian) -> None:
    names = ["=cmd@x", "+1", "-1", "@sum", "plain"]
    for name in names:
        iam.add(name, NEW)
    custodian.run([STALE])
    (file,) = kept(custodian)
    rows = csv.reader(io.StringIO(gzip.decompress(file.read_bytes()).decode()))
    assert [row[1] for row in rows][1:] == [f"'{name}" for name in names[:4]] + ["plain"]


def test_where_it_cannot_be_written_the_run_goes_on_and_ends_with_an_error(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    iam.add("ana", NEW, OLD)
    replace = mocker.patch.object(Path, "replace", side_effect=OSError(28, "No space left"))
    with pytest.raises(PolicyExecutionError, match="keyrot-population-.*can't be written"):
        custodian.run([STALE], ["disable-access-key"])
    assert iam.statuses()["ana-2"] == "Inactive"
    mocker.stop(replace)
    custodian.run([STALE])
    assert len(kept(custodian)) == 1, "the next policy tries again"
    assert len(set(hashes(custodian))) == 1
    assert not list(custodian.folder.glob("*/.keyrot*"))


def test_it_can_be_left_out(iam: Iam, custodian: Custodian, mocker: MockerFixture) -> None:
    iam.add("ana", NEW, OLD)
    mocker.patch.object(settings, "POPULATION", False)
    custodian.run([STALE])
    assert (kept(custodian), hashes(custodian)) == ([], [None])


@pytest.mark.parametrize(
    ("word", "on"), [(None, True), ("on", True), ("", True), ("off", False), ("0", False)]
)
def test_any_word_but_on_leaves_it_out(word: str | None, on: bool) -> None:
    env = {**os.environ, **({} if word is None else {"C7N_KEYROT_POPULATION": word})}
    code = "from c7n_keyrot.aws import settings; print(settings.POPULATION)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == str(on)


def test_in_a_bucket_it_has_the_same_name_for_every_run(mocker: MockerFixture) -> None:
    """Custodian compresses each file of a bucket's output, and adds .gz."""
    name = population.file_name(datetime(2026, 12, 1, 6, 15, tzinfo=timezone.utc))
    context = mocker.Mock(execution_id="an-id")
    context.output.root_dir = "tmp"
    for is_bucket, ending in ((True, ""), (False, ".gz")):
        mocker.patch.object(output, "is_bucket", return_value=is_bucket)
        path = output.plain_path(context, name)
        assert path == Path("tmp", f"keyrot-population-20261201T061500Z.csv{ending}")
