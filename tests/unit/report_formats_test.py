# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""CSV, OCSF and OSCAL out of the report, checked against the published schemas."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from output_tree import NOW, PACK, A, B, C, Run, accounts_yml, key_id
from pytest_mock import MockerFixture

from c7n_keyrot.cli import main
from c7n_keyrot.core.records import ExemptUser, Why
from c7n_keyrot.core.rotation import DAY, ExemptionState, Verdict
from c7n_keyrot.core.text import without_paths

SCHEMAS = Path(__file__).parents[1] / "schemas"
HOSTILE = '=cmd|"/c calc"!A1 <script>\u202e\x1b[31m'


@pytest.fixture(autouse=True)
def _clock(mocker: MockerFixture) -> None:
    """Reports are made at the time of the runs, whatever the day is."""
    mocker.patch("c7n_keyrot.cli.report.build.clock", return_value=NOW)


@pytest.fixture
def tree(tmp_path: Path) -> list[str]:
    """The arguments for a tree with a key in every state, and an account that is not covered."""
    out = tmp_path / "out"
    run = Run(counts={"fresh": 12, "stale": 5, "unknown": 1})
    run.match("ana", 100, {"OwnerContact": HOSTILE}).outcome("ana", reason=HOSTILE)
    run.match("eve", 120, description=HOSTILE).outcome("eve", "denied")
    run.leave("sam", last_rotated=(NOW - 200 * DAY).isoformat()).leave("twins", why=Why.UNCLEAR)
    run.leave("odd", Verdict.UNKNOWN, Why.UNKNOWN).leave(HOSTILE, why=Why.GONE)
    run.outcome("old", time=(NOW - 30 * DAY).isoformat())
    run.write(out, "payments")
    soon = Run(kind="expiring", account_id=B, counts={"fresh": 10, "expiring": 2})
    soon.match("bob", 83).write(out, "web")
    accounts = accounts_yml(tmp_path, {"payments": A, HOSTILE: B, "sandbox": C})
    return ["report", str(out), "--accounts", str(accounts)]


def text(capsys: pytest.CaptureFixture[str], args: list[str], kind: str) -> str:
    assert main([*args, "--format", kind]) == 0
    return capsys.readouterr().out


def test_csv_has_each_key_and_no_formula(
    tree: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(csv.DictReader(text(capsys, tree, "csv").splitlines()))
    keys = json.loads(text(capsys, tree, "json"))["keys"]
    assert len(rows) == len(keys) == 8
    assert list(rows[0]) == [name for name in keys[0] if name != "history"]
    assert {row["state"] for row in rows} == {"open", "unclear", "exempt", "expiring", "fixed"}
    cells = [cell for row in rows for cell in row.values()]
    assert any("cmd|" in cell for cell in cells)
    assert not [cell for cell in cells if cell[:1] in "=+@" and cell]
    assert not [cell for cell in cells if not cell.isprintable()]
    ages = {row["user"]: (row["age_days"], row["days_left"]) for row in rows}
    assert ages["sam"] == ("200.0", "-110"), "a number stays a number"


def ocsf(capsys: pytest.CaptureFixture[str], args: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text(capsys, args, "ocsf").splitlines()]


def test_ocsf_is_a_compliance_finding_for_each_key(
    tree: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    schema = json.loads((SCHEMAS / "ocsf_compliance_finding_schema.json").read_text("utf-8"))
    check = Draft202012Validator(schema, format_checker=FormatChecker())
    found = ocsf(capsys, tree)
    for event in found:
        check.validate(event)
    states = {
        event["unmapped"]["state"]: (
            event["compliance"]["status"],
            event["status"],
            event["activity_name"],
        )
        for event in found
    }
    assert states == {
        "open": ("Fail", "New", "Create"),
        "unclear": ("Warning", "New", "Create"),
        "exempt": ("Fail", "Suppressed", "Create"),
        "expiring": ("Pass", "New", "Create"),
        "fixed": ("Pass", "Resolved", "Close"),
    }
    assert {event["severity"] for event in found} == {"High"}
    owners = [one["owner"] for event in found for one in event["resources"] if "owner" in one]
    assert owners, "and each has what Prowler's model package demands"
    assert all({"account", "type_id", "uid", "name"} <= owner.keys() for owner in owners)
    assert all(event["cloud"]["region"] == "us-east-1" for event in found)
    arns = {event["resources"][1]["uid"] for event in found}
    assert f"arn:aws:iam::{A}:user/ana" in arns
    first = found[0]
    assert (first["class_uid"], first["severity_id"], first["cloud"]["account"]["uid"]) == (
        2003,
        4,
        B,
    )
    assert first["compliance"]["control"] == "D9.AWS.IAM.07"
    assert len(first["compliance"]["standards"]) == 19
    assert any("1.14 (by Prowler" in text for text in first["compliance"]["requirements"])
    uids = [event["finding_info"]["uid"] for event in found]
    assert len(set(uids)) == len(uids)
    assert [event["finding_info"]["uid"] for event in ocsf(capsys, tree)] == uids


def test_ocsf_names_a_key_the_same_in_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uids = set()
    for name in ("june", "july"):
        Run(dry_run=name == "june").match("ana", 100).write(tmp_path / name)
        (event,) = ocsf(capsys, ["report", str(tmp_path / name)])
        assert event["resources"][0]["uid"] == key_id(A, "ana")
        uids.add(event["finding_info"]["uid"])
    assert len(uids) == 1


def test_ocsf_has_one_uid_for_a_key_whatever_its_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mocker: MockerFixture
) -> None:
    """Expiring, exempt (nobody asks for its id), open, disabled, and on the day after that."""
    out, rotated = tmp_path / "out", (NOW - 100 * DAY)
    seen: list[tuple[str, str, str]] = []

    def report(now: datetime) -> None:
        mocker.patch("c7n_keyrot.cli.report.build.clock", return_value=now)
        (event,) = ocsf(capsys, ["report", str(out)])
        unmapped = event["unmapped"]
        seen.append((unmapped["state"], event["activity_name"], event["finding_info"]["uid"]))
        assert event["finding_info"]["first_seen_time"] == first

    soon = NOW - 11 * DAY
    first = round(soon.timestamp() * 1000)
    Run(kind="expiring", time=soon).match("ana", 89).write(out)
    report(soon)
    for kind in ("stale", "expiring"):
        run = Run(kind=kind, time=NOW - 2 * DAY)
        if kind == "stale":
            run.leave("ana", last_rotated=rotated.isoformat())
        run.write(out)
    report(NOW - 2 * DAY)
    stale = Run(time=NOW - DAY).match("ana", 99)
    stale.write(out)
    report(NOW - DAY)
    facts = {"last_rotated": rotated.isoformat(), "days": 90.0, "age_days": 100.0}
    facts["deadline"] = (rotated + 90 * DAY).isoformat()
    Run().match("ana", 100).outcome("ana", **facts).write(out)
    report(NOW)
    Run(time=NOW + DAY).write(out)
    report(NOW + DAY)
    assert [one[:2] for one in seen] == [
        ("expiring", "Create"),
        ("exempt", "Update"),
        ("open", "Update"),
        ("fixed", "Close"),
        ("fixed", "Close"),
    ]
    assert len({uid for _, _, uid in seen}) == 1


@pytest.mark.parametrize(
    ("word", "number", "caption"),
    [
        ("High", 4, "High"),
        ("critical", 5, "Critical"),
        ("Sev1", 0, "Unknown"),
        (None, 0, "Unknown"),
    ],
)
def test_ocsf_severity_is_the_caption_of_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, number: int, caption: str
) -> None:
    policy = {**PACK["stale"], "metadata": {"rule-id": "x", "severity": word}}
    Run(policy=policy).match("ana", 100).write(tmp_path)
    (event,) = ocsf(capsys, ["report", str(tmp_path)])
    assert (event["severity_id"], event["severity"]) == (number, caption)


def oscal(capsys: pytest.CaptureFixture[str], args: list[str]) -> dict[str, Any]:
    schema = (SCHEMAS / "oscal_assessment-results_schema.json").read_text("utf-8")
    # Python's regular expressions have other words for letters and numbers.
    schema = schema.replace(r"(\\p{L}|\\p{N}|[.\\-_])", r"[\\w.\\-]").replace(
        r"(\\p{L}|_)", r"[^\\W\\d]"
    )
    assert r"\p{" not in schema
    found: dict[str, Any] = json.loads(text(capsys, args, "oscal"))
    Draft7Validator(json.loads(schema), format_checker=FormatChecker()).validate(found)
    return found


def test_oscal_has_a_finding_for_each_account(
    tree: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    document = oscal(capsys, tree)
    (result,) = document["assessment-results"]["results"]
    states = {
        finding["title"].rsplit(" ", 1)[-1].strip("()"): (
            finding["target"]["status"],
            finding["description"],
        )
        for finding in result["findings"]
    }
    assert states[A][0] == {"state": "not-satisfied", "reason": "fail"}
    assert states[A][1].endswith(": 1 open, 2 unclear, 1 exempt.")
    assert states[B][0] == {"state": "satisfied", "reason": "pass"}
    assert states[C][0] == {"state": "not-satisfied", "reason": "other"}
    assert states[C][1].endswith("not covered: never run.")
    observed = {one["uuid"] for one in result["observations"]}
    related = [
        one["observation-uuid"]
        for finding in result["findings"]
        for one in finding.get("related-observations", ())
    ]
    assert len(related) == len(observed) == 8
    assert set(related) == observed
    components = {one["uuid"] for one in result["local-definitions"]["components"]}
    assert {one["subjects"][0]["subject-uuid"] for one in result["observations"]} <= components
    tools = {one["uuid"] for one in result["local-definitions"]["components"]
             if one["type"] == "software"}  # fmt: skip
    resources = {
        one["uuid"]: one for one in document["assessment-results"]["back-matter"]["resources"]
    }
    for one in result["observations"]:
        assert {actor["actor-uuid"] for actor in one["origins"][0]["actors"]} == tools
        run = resources[one["relevant-evidence"][0]["href"].removeprefix("#")]
        assert "keyrot-summary.jsonl" in run["description"]
    spaces = {prop["ns"] for one in result["observations"] for prop in one["props"]}
    assert all(space.startswith("https://") for space in spaces)
    again = oscal(capsys, tree)["assessment-results"]
    assert again["uuid"] == document["assessment-results"]["uuid"]
    assert again["results"] == [result]


def test_oscal_of_an_account_of_which_nothing_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shop" / "us-east-1" / "x"
    folder.mkdir(parents=True)
    (folder / "custodian-run.log").touch()
    (result,) = oscal(capsys, ["report", str(tmp_path)])["assessment-results"]["results"]
    (finding,) = result["findings"]
    assert finding["target"]["status"] == {"state": "not-satisfied", "reason": "other"}


def test_oscal_without_a_key_or_a_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = {"name": "bare", "resource": "aws.iam-user", "filters": ["stale-access-key"]}
    Run(policy=policy).write(tmp_path)
    (result,) = oscal(capsys, ["report", str(tmp_path)])["assessment-results"]["results"]
    assert result["start"] == NOW.isoformat(), "when the first run was"
    assert "observations" not in result
    assert [one["target"]["status"]["state"] for one in result["findings"]] == ["satisfied"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("can't write '/home/ci/work/out/p/resources.json'", "can't write 'resources.json'"),
        ("see ~/keyrot/out (or /tmp/x/y)", "see out (or y)"),
        ("https://docs.aws.amazon.com/IAM/latest/", None),
        ("arn:aws:iam::111111111111:user/team/a/ana", None),
        ("s3://bucket/keyrot/out/x and iam:ListAccessKeys/x", None),
        ("Compliance/80/20 and a/b/c", None),
    ],
)
def test_of_a_machines_path_the_last_name_stays(text: str, shown: str | None) -> None:
    assert without_paths(text) == (shown or text)


@pytest.mark.parametrize("kind", ["json", "csv", "ocsf", "oscal", "html"])
def test_no_format_has_a_path_of_a_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Neither of where the report is made, nor of where the run was."""
    out = tmp_path / "out"
    folder = Run(failed=True).match("ana", 100).outcome(
        "ana", "failed", reason="No space left: '/codebuild/output/src/keyrot/out'"
    ).write(out, "payments")  # fmt: skip
    (folder / "keyrot-outcomes.jsonl").open("a").write("{half")
    stamp = f"{NOW.astimezone():%Y-%m-%d %H:%M:%S},000"
    error = f"{stamp} - custodian.x - ERROR - can't open /home/ci/agent/work/x.csv\n"
    (folder / "custodian-run.log").write_text(error, "utf-8")
    assert main(["report", str(out), "--format", kind, "-o", str(tmp_path / "r")]) == 0
    written = (tmp_path / "r").read_text("utf-8")
    assert "x.csv" in written or kind in ("csv", "ocsf")
    for name in (str(tmp_path), "/codebuild", "/home/ci", str(Path.home()) + "/"):
        assert name not in written


def test_exemptions_are_in_each_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of a user whose key is fresh, and one that has passed; the page has them, too."""
    seen = [
        ExemptUser("ana", "keyrot-exempt-until", ExemptionState.VALID, "2026-08-01", "a device",
                   "", "ana@corp.test"),
        ExemptUser("fay", "list.csv", ExemptionState.VALID, "2026-09-01", "moved", "boss", None),
        ExemptUser("old", "list.csv", ExemptionState.EXPIRED, "2026-07-01", "", "", None),
    ]  # fmt: skip
    run = Run(exempt=seen).leave("ana", access_key_id=key_id(A, "ana"))
    run.match("old", 120, exemption={"tag": "t", "value": "2026-07-01", "state": "expired"})
    run.write(tmp_path, "payments")
    args = ["report", str(tmp_path)]
    found = json.loads(text(capsys, args, "json"))
    assert [
        (one["user"], one["state"], one["until"], one["days_left"], one["reason"],
         one["approved_by"], one["owner"], one["access_key_id"], one["key"] is None)
        for one in found["exemptions"]
    ] == [
        ("old", "expired", "2026-07-01", -18, None, None, None, key_id(A, "old"), False),
        ("ana", "valid", "2026-08-01", 13, "a device", None, "ana@corp.test", key_id(A, "ana"),
         False),
        ("fay", "valid", "2026-09-01", 44, "moved", "boss", None, None, True),
    ]  # fmt: skip
    rows = {one["user"]: one for one in csv.DictReader(text(capsys, args, "csv").splitlines())}
    assert rows["ana"]["exempt_reason"] == "a device"
    assert rows["ana"]["access_key_id"] == key_id(A, "ana")
    fay = rows["fay"]
    assert (fay["state"], fay["exempt_until"], fay["exempt_approved_by"]) == (
        "",
        "2026-09-01",
        "boss",
    )
    (result,) = oscal(capsys, args)["assessment-results"]["results"]
    titles = [one["title"] for one in result["observations"]]
    assert f"Exemption of fay in account {A}" in titles
    props = {prop["value"] for one in result["observations"] for prop in one["props"]}
    assert {"a device", "moved", "boss"} <= props
    page = text(capsys, [*args, "-o", "-"], "html")
    part = page.split('id="exemptions"')[1].split("</section>")[0]
    for words in ("a device", "boss", "2026-07-01", key_id(A, "ana"), "fay"):
        assert words in part


def test_an_exemption_that_ended_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = ExemptUser("fay", "list.csv", ExemptionState.VALID, "2026-09-01", "x", "y", None)
    Run(exempt=[seen], time=NOW - DAY).write(tmp_path)
    Run().write(tmp_path)
    assert json.loads(text(capsys, ["report", str(tmp_path)], "json"))["exemptions"] == []


def test_all_that_was_done_to_a_key_is_kept_in_order_with_who(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also after a switch-on and a new run, and wherever the lines are found."""
    who = "arn:aws:sts::111111111111:assumed-role/keyrot/ci"
    for folder in ("one", "two"):
        first = Run(time=NOW - 2 * DAY, id="r1").match("ana", 98)
        first.outcome("ana", caller=who).outcome(
            "ana", "reactivated", "reactivate", run="undo", time=(NOW - DAY).isoformat(),
            caller="arn:aws:iam::111111111111:user/ops",
        )  # fmt: skip
        notice = first.outcome("ana", "notified", "notify", message_id="m-1", owner="ana@corp.test")
        notice.notices.append(notice.done.pop())
        first.write(tmp_path / folder)
    Run().match("ana", 100).outcome("ana", caller=who).write(tmp_path / "two")
    args = ["report", str(tmp_path / "one"), str(tmp_path / "two")]
    (key,) = json.loads(text(capsys, args, "json"))["keys"]
    assert [(one["outcome"], one["caller"], one["message_id"]) for one in key["history"]] == [
        ("disabled", who, None),
        ("notified", None, "m-1"),
        ("reactivated", "arn:aws:iam::111111111111:user/ops", None),
        ("disabled", who, None),
    ]
    assert (key["outcome"], key["state"]) == ("disabled", "fixed")
    page = text(capsys, [*args, "-o", "-"], "html")
    assert "reactivated, by user/ops" in page
    assert "notified (ana@corp.test)" in page


def test_a_notice_in_the_file_of_outcomes_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run().match("ana", 100).outcome("ana")
    run.outcome("ana", "notified", "notify", time=(NOW + DAY / 24).isoformat()).write(tmp_path)
    found = json.loads(text(capsys, ["report", str(tmp_path)], "json"))
    assert [key["state"] for key in found["keys"]] == ["fixed"]
    assert "can't be read" in found["warnings"][0]


@pytest.mark.parametrize(
    ("tags", "owner"),
    [
        (["Contact"], "c@corp.test"),
        (["Contact", "OwnerContact"], "c@corp.test, o@corp.test"),
        (["contact"], None),
    ],
)
def test_owners_are_those_whom_the_mailer_writes_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tags: list[str], owner: str | None
) -> None:
    mailer = tmp_path / "mailer.yml"
    mailer.write_text(json.dumps({"contact_tags": tags}), "utf-8")
    names = {"OwnerContact": "o@corp.test", "Contact": "c@corp.test"}
    run = Run().match("ana", 100, names)
    run.outcome("ana", "notified", "notify", owner="o@corp.test", tags=names)
    run.notices.append(run.done.pop())
    run.write(tmp_path / "out")
    args = ["report", str(tmp_path / "out"), "--mailer", str(mailer)]
    (key,) = json.loads(text(capsys, args, "json"))["keys"]
    assert (key["owner"], key["history"][0]["owner"]) == (owner, owner)
    (key,) = json.loads(text(capsys, args[:2], "json"))["keys"]
    assert key["history"][0]["owner"] == "o@corp.test"


def test_a_mailer_yml_without_contact_tags_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mailer.yml").write_text("queue_url: x\n", "utf-8")
    Run().write(tmp_path / "out")
    assert main(["report", str(tmp_path / "out"), "--mailer", str(tmp_path / "mailer.yml")]) == 1
    assert "has no contact_tags" in capsys.readouterr().err


def test_of_the_disabled_keys_some_were_switched_on_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the undo after 2 hours; by code, day after day; by somebody, seen by a later run."""
    out = tmp_path / "out"
    for days in (3, 2, 1):
        run = Run(time=NOW - days * DAY).match("code", 100).outcome("code")
        if days == 3:
            run.match("undone", 100).outcome("undone").match("off", 100).outcome("off")
            run.match("seen", 100).outcome("seen")
            two_hours = (run.time + timedelta(hours=2, minutes=1)).isoformat()
            run.outcome("undone", "reactivated", "reactivate", run="undo", time=two_hours)
        run.write(out)
    last = Run(dry_run=True).match("seen", 103).match("undone", 103).match("code", 103)
    last.write(out)
    found = json.loads(text(capsys, ["report", str(out)], "json"))
    figures = found["switched_on"]
    assert figures == {
        "disabled": 4,
        "keys": 3,
        "undone": 1,
        "by_others": 4,
        "median_hours": figures["median_hours"],
    }
    assert 23 < figures["median_hours"] <= 24
    times = {
        key["user"]: (key["times_disabled"], key["times_switched_on"]) for key in found["keys"]
    }
    assert times == {"code": (3, 3), "undone": (1, 1), "off": (1, 0), "seen": (1, 1)}
    page = text(capsys, ["report", str(out), "-o", "-"], "html")
    assert "Of 4 disabled keys 3 were switched on again: 1 time by c7n-keyrot reactivate" in page
    assert f"{key_id(A, 'code')} of code" in page
    assert "switched on again 3 times" in page


ALL_KEYS = [
    ("ana", 2, "Active", 100.0),
    ("ana", 1, "Active", 300.0),
    ("fay", 2, "Active", 5.0),
    ("ina", 2, "Inactive", 400.0),
    ("now", 2, "Active", 90.02),
    ("sam", 2, "Active", 85.0),
]


@pytest.fixture
def population(tmp_path: Path) -> list[str]:
    """The arguments for two runs that kept all keys; `now` became stale after the last report."""
    out = tmp_path / "out"
    Run(time=NOW - DAY, counts={"fresh": 4, "stale": 1}).match("ana", 99).write(out, "payments")
    seen = ExemptUser("fay", "list.csv", ExemptionState.VALID, "2026-09-01", "moved", "boss", None)
    run = Run(
        population=list(ALL_KEYS), counts={"fresh": 3, "stale": 1, "inactive": 1}, exempt=[seen]
    )
    run.match("ana", 100).write(out, "payments")
    return ["report", str(out)]


def test_all_keys_that_pass_are_there_if_asked_for(
    population: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the slots that were judged; what isn't proven by the report isn't passed."""
    found = {
        row["user"]: (row["slot"], row["verdict"], row["state"])
        for row in csv.DictReader(text(capsys, [*population, "--all"], "csv").splitlines())
    }
    assert found == {
        "ana": ("2", "stale", "open"),
        "fay": ("2", "fresh", "passed"),
        "ina": ("2", "inactive", "passed"),
        "now": ("2", "fresh", "open"),
        "sam": ("2", "fresh", "passed"),
    }
    rows = csv.DictReader(text(capsys, [*population, "--all"], "csv").splitlines())
    (fay,) = [row for row in rows if row["user"] == "fay"]
    assert (fay["exempt_reason"], fay["exempt_until"]) == ("moved", "2026-09-01")
    # Without it: those that aren't fresh, and exempt users.
    rows = csv.DictReader(text(capsys, population, "csv").splitlines())
    assert [row["user"] for row in rows] == ["ana", "fay"]


def test_all_keys_in_ocsf_and_oscal(
    population: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    schema = json.loads((SCHEMAS / "ocsf_compliance_finding_schema.json").read_text("utf-8"))
    found = ocsf(capsys, [*population, "--all"])
    for event in found:
        Draft202012Validator(schema, format_checker=FormatChecker()).validate(event)
    said = {
        event["unmapped"]["user"]: (event["compliance"]["status"], event["activity_name"])
        for event in found
    }
    assert said == {
        "ana": ("Fail", "Update"),
        "fay": ("Pass", "Update"),
        "ina": ("Pass", "Update"),
        "now": ("Fail", "Update"),
        "sam": ("Pass", "Update"),
    }
    (result,) = oscal(capsys, [*population, "--all"])["assessment-results"]["results"]
    assert len(result["observations"]) == 6, "five keys, and the exemption of a user"
    assert len(result["findings"][0]["related-observations"]) == 5


def test_keys_of_an_account_that_is_not_covered_pass_nothing(
    tmp_path: Path, population: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    failed = Run(failed=True, time=NOW, kind="expiring", account_id=A)
    failed.write(tmp_path / "out", "payments")
    assert main([*population, "--all", "--format", "csv"]) == 0
    done = capsys.readouterr()
    assert "passed" not in done.out
    assert f"account payments ({A}): keys that pass aren't listed: run failed" in done.err


def test_runs_that_kept_no_population_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run().match("ana", 100).write(tmp_path)
    assert main(["report", str(tmp_path), "--all", "--format", "ocsf"]) == 0
    assert "no run left all of its keys (C7N_KEYROT_POPULATION" in capsys.readouterr().err


def test_all_is_for_some_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run().write(tmp_path)
    assert main(["report", str(tmp_path), "--all", "--format", "json"]) == 1
    assert "--all needs --format csv, ocsf, oscal" in capsys.readouterr().err


def test_a_key_that_a_later_run_only_lists_keeps_its_id_and_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run after a disabling, by the same credential report: the key has changed."""
    rotated = (NOW - 100 * DAY).isoformat()
    run = Run(time=NOW - DAY / 24).match("ana", 100)
    run.outcome("ana", owner="ana@corp.test", last_rotated=rotated).write(tmp_path)
    Run().leave("ana", why=Why.CHANGED, last_rotated=rotated).write(tmp_path)
    (key,) = json.loads(text(capsys, ["report", str(tmp_path)], "json"))["keys"]
    assert (key["access_key_id"], key["owner"]) == (key_id(A, "ana"), "ana@corp.test")
    assert key["state"] == "fixed"
