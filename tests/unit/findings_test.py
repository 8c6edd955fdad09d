# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Findings for AWS Security Hub: which are posted, updated and closed, and what goes wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import InvalidRegionError
from botocore.stub import Stubber
from c7n.exceptions import PolicyExecutionError, PolicyValidationError
from in_memory import ACCOUNT, Custodian, Iam, Session, client_error

from c7n_keyrot.aws import gate, settings
from c7n_keyrot.custodian import shared_report
from c7n_keyrot.custodian.elements import findings

STALE = {"type": "stale-access-key"}
POST = {"type": "post-key-finding"}
PRODUCT = f"arn:aws:securityhub:us-east-1:{ACCOUNT}:product/{ACCOUNT}/default"


class Hub:
    """Security Hub's client: what was imported, by id; as it answers, not as it was asked."""

    def __init__(self) -> None:
        self.findings: dict[str, dict[str, Any]] = {}
        self.imports: list[list[dict[str, Any]]] = []
        self.page = 100
        self.refused: set[str] = set()
        self.error = ""

    def get_findings(self, **asked: Any) -> dict[str, Any]:
        if self.error:
            raise client_error(self.error, "GetFindings")
        wanted = {name: one[0]["Value"] for name, one in asked["Filters"].items()}
        prefix = wanted.pop("GeneratorId")
        assert asked["Filters"]["GeneratorId"][0]["Comparison"] == "PREFIX"
        found = [
            copy.deepcopy(one)
            for one in self.findings.values()
            if one["Compliance"]["Status"] == wanted["ComplianceStatus"]
            and one["GeneratorId"].startswith(prefix)
            and all(one[name] == value for name, value in wanted.items() if name in one)
        ]
        start = int(asked.get("NextToken", 0))
        more = {"NextToken": str(start + self.page)} if len(found) > start + self.page else {}
        return {"Findings": found[start : start + self.page], **more}

    def batch_import_findings(self, Findings: list[dict[str, Any]]) -> dict[str, Any]:
        self.imports.append(Findings)
        refused = [one for one in Findings if one["Id"] in self.refused]
        self.findings |= {one["Id"]: one for one in Findings if one["Id"] not in self.refused}
        failed = [{"Id": one["Id"], "ErrorCode": "InvalidInput"} for one in refused]
        return {"FailedCount": len(refused), "SuccessCount": 0, "FailedFindings": failed}

    def statuses(self) -> dict[str, str]:
        return {
            one["ProductFields"]["c7n-keyrot/access_key_id"]: one["Compliance"]["Status"]
            for one in self.findings.values()
        }


@pytest.fixture
def hub(custodian: Custodian, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made, of_iam = Hub(), Session.client
    custodian.regions = []  # type: ignore[attr-defined]

    def client(self: Session, service: str, *args: Any, **kwargs: Any) -> Any:
        if service != "securityhub":
            return of_iam(self, service, *args, **kwargs)
        custodian.regions.append(kwargs["region_name"])  # type: ignore[attr-defined]
        return made

    monkeypatch.setattr(Session, "client", client)
    return made


def test_finding_is_what_security_hub_takes(iam: Iam, custodian: Custodian, hub: Hub) -> None:
    iam.add("ana", 10, 100)
    metadata = {
        "title": "Rotate keys",
        "severity": "High",
        "frameworks": [f"f{n}" for n in range(40)],
    }
    custodian.run([STALE], [POST], metadata=metadata)
    (finding,) = hub.findings.values()
    client = boto3.client(
        "securityhub", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    # By botocore's model of the call: names, types and what is required.
    answer = {"FailedCount": 0, "SuccessCount": 1}
    with Stubber(client) as stub:
        stub.add_response("batch_import_findings", answer, {"Findings": [finding]})
        client.batch_import_findings(Findings=[finding])
    assert finding["Id"] == f"c7n-keyrot/{ACCOUNT}/ana-2/stale-access-key-2"
    assert finding["ProductArn"] == PRODUCT
    assert finding["Compliance"]["Status"] == "FAILED"
    assert len(finding["Compliance"]["RelatedRequirements"]) == 32
    assert finding["FindingProviderFields"] == {
        "Severity": {"Label": "HIGH"},
        "Types": ["Software and Configuration Checks/AWS Security Best Practices"],
    }
    assert not {"Severity", "Types"} & finding.keys(), "the customer's, once the finding exists"
    assert [one["Type"] for one in finding["Resources"]] == ["AwsIamAccessKey", "AwsIamUser"]
    assert finding["CreatedAt"] < finding["UpdatedAt"]
    assert "last rotated 100 days ago" in finding["Description"]


def test_finding_of_one_key_is_one_finding_in_every_run(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    first = copy.deepcopy(hub.findings)
    custodian.run([STALE], [POST])
    assert hub.findings.keys() == first.keys()
    (before,), (after,) = first.values(), hub.findings.values()
    assert before["CreatedAt"] == after["CreatedAt"]


def switched_off(iam: Iam) -> None:
    iam.key("ana-2")["Status"] = "Inactive"


def deleted(iam: Iam) -> None:
    iam.keys["ana"] = [key for key in iam.keys["ana"] if key["AccessKeyId"] != "ana-2"]


def user_deleted(iam: Iam) -> None:
    for place in (iam.users, iam.keys, iam.rows):
        del place["ana"]


def user_renamed(iam: Iam) -> None:
    for place in (iam.users, iam.keys, iam.rows):
        place["anna"] = place.pop("ana")
    iam.rows["anna"][0] = iam.users["anna"]["UserName"] = "anna"
    iam.tag("anna", keyrot_exempt_until="2999-01-01")


def exempted(iam: Iam) -> None:
    iam.tag("ana", keyrot_exempt_until="2999-01-01")


def not_listed(iam: Iam) -> None:
    iam.errors["ListAccessKeys", "ana"] = "AccessDenied"


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (switched_off, "PASSED"),
        (deleted, "PASSED"),
        (user_deleted, "PASSED"),
        (user_renamed, "FAILED"),  # the key is as stale as before
        (exempted, "FAILED"),
    ],
)
def test_finding_passes_once_its_key_is_not_stale_any_more(
    iam: Iam, custodian: Custodian, hub: Hub, event: Callable[[Iam], None], status: str
) -> None:
    iam.add("ana", 10, 100)
    iam.add("bob", 10, 10)
    filters = [STALE, {"not": ["rotation-exempt"]}]
    custodian.run(filters, [POST])
    event(iam)
    shared_report.reports.clear()  # the next run is another process
    assert custodian.run(filters, [POST]) == []  # nobody is selected, and still it is done
    assert hub.statuses() == {"ana-2": status}


def test_finding_of_a_user_who_cannot_be_read_stays_and_the_run_fails(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    not_listed(iam)
    with pytest.raises(PolicyExecutionError, match="ana.*ListAccessKeys is denied"):
        custodian.run([STALE], [POST])
    assert hub.statuses() == {"ana-2": "FAILED"}


def test_higher_limit_in_days_closes_and_another_policys_does_not(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    longer = [{**STALE, "days": 180}]
    custodian.run(longer, [POST], name="other")
    assert hub.statuses() == {"ana-2": "FAILED"}
    custodian.run(longer, [POST])
    assert hub.statuses() == {"ana-2": "PASSED"}


def test_renamed_policy_closes_its_old_findings(iam: Iam, custodian: Custodian, hub: Hub) -> None:
    for name in ("ana", "bob"):
        iam.add(name, 10, 100)
    custodian.run([STALE], [POST], name="before")
    switched_off(iam)
    iam.rows["ana"][7] = "false"
    custodian.run([STALE], [POST], name="renamed")
    assert hub.statuses() == {"ana-2": "PASSED", "bob-2": "FAILED"}
    assert {one["GeneratorId"] for one in hub.findings.values()} == {"c7n-keyrot/renamed"}


def test_no_text_of_a_finding_is_above_its_limit(iam: Iam, custodian: Custodian, hub: Hub) -> None:
    """Security Hub rejects a finding that has one."""
    user = "u" * 64
    iam.add(user, 10, 100)
    metadata = {"title": "t" * 5000, "frameworks": ["f" * 300, " ", "g"]}
    custodian.run([STALE], [POST], metadata=metadata, name="p" + "-x" * 100)
    (finding,) = hub.findings.values()
    lengths = {name: len(finding[name]) for name in ("Title", "Description", "GeneratorId", "Id")}
    assert all(
        lengths[name] <= most
        for name, most in {"Title": 256, "Description": 1024, "GeneratorId": 512, "Id": 512}.items()
    )
    assert [len(one) for one in finding["Compliance"]["RelatedRequirements"]] == [64, 1]
    assert all(len(one) <= 2048 for one in finding["ProductFields"].values())


def test_hundreds_go_in_batches_and_are_read_in_pages(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    for number in range(250):
        iam.add(f"u{number}", None, 100 + number / 100)
    custodian.run([STALE], [POST])
    assert [len(batch) for batch in hub.imports] == [100, 100, 50]
    hub.page = 7
    for number in range(250):
        iam.key(f"u{number}-2")["Status"] = "Inactive"
        iam.rows[f"u{number}"][7] = "false"
    custodian.run([STALE], [POST])
    assert set(hub.statuses().values()) == {"PASSED"}


def test_key_that_cannot_be_identified_gets_no_finding(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", iam.now - timedelta(days=100), iam.now - timedelta(days=100))
    custodian.run([STALE], [POST])
    assert hub.findings == {}


def test_refused_finding_fails_the_run_and_what_is_behind_is_not_reached(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", 10, 100)
    iam.add("bob", 10, 100)
    refused = f"c7n-keyrot/{ACCOUNT}/bob-2/stale-access-key-2"
    hub.refused.add(refused)
    with pytest.raises(PolicyExecutionError, match=f"{refused} \\(InvalidInput\\)"):
        custodian.run([STALE], [POST, {"type": "disable-access-key"}])
    assert hub.statuses() == {"ana-2": "FAILED"}
    assert iam.changed == []


def test_what_cannot_be_read_stops_no_new_finding(iam: Iam, custodian: Custodian, hub: Hub) -> None:
    iam.add("ana", 10, 100)
    hub.error = "AccessDenied"
    with pytest.raises(PolicyExecutionError, match="GetFindings is denied"):
        custodian.run([STALE], [POST])
    assert hub.statuses() == {"ana-2": "FAILED"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        None,
        {"c7n-keyrot/user": "x"},
        {"created": "soon"},
        {"created": "2020-01-01T00:00:00"},
        {"slot": "two"},
        {"slot": "3"},
        {"days": "many"},
        {"days": "nan"},
        {"days": "1e300"},
        {"days": "-1"},
        {"user": ""},
    ],
)
def test_finding_that_somebody_else_wrote_is_left(
    iam: Iam, custodian: Custodian, hub: Hub, fields: Any
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    (finding,) = hub.findings.values()
    if fields and next(iter(fields)) in ("created", "slot", "days", "user"):
        ((name, value),) = fields.items()
        finding["ProductFields"][f"c7n-keyrot/{name}"] = value
    else:
        finding["ProductFields"] = fields
    switched_off(iam)
    iam.rows["ana"][7] = "false"
    custodian.run([STALE], [POST])
    assert finding["Compliance"]["Status"] == "FAILED"
    assert len(hub.imports) == 1


def test_region_and_severity_are_the_options(iam: Iam, custodian: Custodian, hub: Hub) -> None:
    iam.add("ana", 10, 100)
    options = {"region": "eu-central-1", "severity": "CRITICAL"}
    custodian.run([STALE], [{**POST, **options}], metadata={"severity": "Low"})
    (finding,) = hub.findings.values()
    assert finding["FindingProviderFields"]["Severity"] == {"Label": "CRITICAL"}
    assert finding["ProductArn"] == PRODUCT.replace("us-east-1", "eu-central-1")
    assert set(custodian.regions) == {"eu-central-1"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("filters", "action", "reason"),
    [
        ([], POST, "needs a stale-access-key filter for active keys"),
        (
            [{**STALE, "status": "Inactive"}],
            POST,
            "needs a stale-access-key filter for active keys",
        ),
        ([{"not": [STALE]}], POST, "needs a stale-access-key filter for active keys"),
        ([STALE], {**POST, "severity": "Loud"}, "severity must be INFORMATIONAL, LOW"),
        ([STALE], {**POST, "tag": "x"}, "unknown option 'tag'"),
    ],
)
def test_what_has_no_meaning_does_not_validate(
    custodian: Custodian, filters: Any, action: Any, reason: str
) -> None:
    with pytest.raises(PolicyValidationError, match=reason):
        custodian.policy(filters, [action]).validate()


def test_dry_run_posts_nothing(iam: Iam, custodian: Custodian, hub: Hub) -> None:
    iam.add("ana", 10, 100)
    custodian.options["dryrun"] = True
    custodian.run([STALE], [POST])
    iam.key("ana-2")["Status"] = "Inactive"
    iam.rows["ana"][7] = "false"
    custodian.run([STALE], [POST])
    assert hub.imports == []


def test_more_open_findings_than_are_looked_at_is_said(
    iam: Iam, custodian: Custodian, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "MOST_PAGES", 1)
    for name in ("ana", "bob"):
        iam.add(name, 10, 100 if name == "ana" else 101)
    custodian.run([STALE], [POST])
    hub.page = 1
    with pytest.raises(PolicyExecutionError, match="more than 100 open findings"):
        custodian.run([STALE], [POST])


def test_finding_of_a_slot_that_the_policy_no_longer_looks_at_stays(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    custodian.run([{**STALE, "slot": 1}], [POST])
    assert hub.statuses() == {"ana-2": "FAILED"}


def test_closed_finding_names_the_limit_that_holds_now(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    custodian.run([{**STALE, "days": 180}], [POST])
    (finding,) = hub.findings.values()
    assert finding["Description"].endswith("isn't older than 180 days.")


@pytest.mark.parametrize("posted_before", [False, True])
def test_key_that_this_run_disabled_is_not_posted_as_active(
    iam: Iam, custodian: Custodian, hub: Hub, posted_before: bool
) -> None:
    iam.add("ana", 10, 100)
    if posted_before:
        custodian.run([STALE], [POST])
    custodian.run([STALE], [{"type": "disable-access-key"}, POST])
    assert hub.statuses() == ({"ana-2": "PASSED"} if posted_before else {})


def test_key_that_this_run_could_not_disable_is_posted(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", 10, 100)
    iam.errors["UpdateAccessKey", "ana-2"] = "AccessDenied"
    with pytest.raises(PolicyExecutionError):
        custodian.run([STALE], [{"type": "disable-access-key"}, POST])
    assert hub.statuses() == {"ana-2": "FAILED"}


def test_finding_of_a_renamed_user_whose_old_name_is_another_ones_stays(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", 10, 100)
    filters = [STALE, {"not": ["rotation-exempt"]}]
    custodian.run(filters, [POST])
    user_renamed(iam)
    iam.add("ana", None, 5)
    iam.keys["ana"][0]["AccessKeyId"] = "another"
    shared_report.reports.clear()
    custodian.run(filters, [POST])
    assert hub.statuses() == {"ana-2": "FAILED"}


def test_finding_of_a_renamed_user_stays_where_the_filters_did_not_need_the_report(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST], source="describe")
    user_renamed(iam)
    shared_report.reports.clear()
    nobody = {"type": "value", "key": "UserName", "value": "nobody"}
    custodian.run([nobody, STALE], [POST], source="describe")
    assert hub.statuses() == {"ana-2": "FAILED"}


def test_security_hub_that_no_client_can_be_made_for_fails_the_run(
    iam: Iam, custodian: Custodian, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam.add("ana", 10, 100)
    of_iam = Session.client

    def client(self: Session, service: str, *args: Any, **kwargs: Any) -> Any:
        if service == "securityhub":
            raise InvalidRegionError(region_name="no region")
        return of_iam(self, service, *args, **kwargs)

    monkeypatch.setattr(Session, "client", client)
    with pytest.raises(PolicyExecutionError, match="InvalidRegionError"):
        custodian.run([STALE], [{**POST, "region": "no region"}, {"type": "disable-access-key"}])
    assert iam.changed == []


@pytest.mark.parametrize("answer", [[None], [{}], [{"Id": "x"}]])
def test_answer_that_is_not_security_hubs_stops_no_new_finding(
    iam: Iam, custodian: Custodian, hub: Hub, answer: Any
) -> None:
    iam.add("ana", 10, 100)
    hub.get_findings = lambda **asked: {"Findings": answer}  # type: ignore[method-assign]
    with pytest.raises(PolicyExecutionError, match="something that isn't AWS answered"):
        custodian.run([STALE], [POST])
    assert hub.statuses() == {"ana-2": "FAILED"}


def test_findings_are_posted_though_the_look_at_those_of_before_took_minutes(
    iam: Iam, custodian: Custodian, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    switched_off(iam)
    hub.keyrot_guard = gate.OutageGuard()  # type: ignore[attr-defined]
    listed, imported = iam.list_access_keys, hub.batch_import_findings

    def slowly(UserName: str) -> Any:
        hub.keyrot_guard.last_success -= 2 * settings.PATIENCE  # type: ignore[attr-defined]
        return listed(UserName)

    def checked(Findings: list[dict[str, Any]]) -> Any:
        hub.keyrot_guard.check()  # type: ignore[attr-defined]  # as before each request
        return imported(Findings)

    monkeypatch.setattr(iam, "list_access_keys", slowly)
    monkeypatch.setattr(hub, "batch_import_findings", checked)
    custodian.run([STALE], [POST])
    assert hub.statuses() == {"ana-2": "PASSED"}


def test_user_whom_only_stocks_filter_matched_gets_no_finding(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    """Stock leaves entries of another shape in the same annotation."""
    iam.add("ana", 10, 100)
    iam.add("bob", 100, 10)
    stock = {"type": "credential", "key": "access_keys.active", "value": True}
    custodian.run([{"or": [STALE, stock]}], [POST])
    assert hub.statuses() == {"ana-2": "FAILED"}


def test_finding_of_a_user_renamed_since_the_report_stays_whoever_has_the_name(
    iam: Iam, custodian: Custodian, hub: Hub
) -> None:
    """The old report's row is the renamed user's, not that of the user who has the name now."""
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    row = iam.rows["ana"]
    iam.rename("ana", "anna")
    iam.add("ana", 5, 5)
    for key in iam.keys["ana"]:
        key["AccessKeyId"] += "-new"
    iam.users["ana"]["CreateDate"] = iam.now
    iam.rows["ana"] = row
    shared_report.reports.clear()
    custodian.run([STALE], [POST])
    assert hub.statuses() == {"ana-2": "FAILED"}


@pytest.mark.parametrize(
    ("live", "status"), [("Active", "FAILED"), ("Inactive", "PASSED"), ("Expired", "FAILED")]
)
def test_finding_passes_by_no_status_but_inactive(
    iam: Iam, custodian: Custodian, hub: Hub, live: str, status: str
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    iam.key("ana-2")["Status"] = live
    custodian.run([STALE], [POST])
    assert hub.statuses() == {"ana-2": status}


@pytest.mark.parametrize("column", [2 + 5, 2 + 6])
def test_finding_of_a_user_who_is_not_found_stays_while_a_row_cannot_be_read(
    iam: Iam, custodian: Custodian, hub: Hub, column: int
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    user_renamed(iam)
    iam.rows["anna"][column] = "?"
    shared_report.reports.clear()
    custodian.run([STALE], [POST])
    assert hub.statuses() == {"ana-2": "FAILED"}


def test_pages_of_findings_that_come_again_fail_the_run(
    iam: Iam, custodian: Custodian, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam.add("ana", 10, 100)
    custodian.run([STALE], [POST])
    real, asked = hub.get_findings, []

    def get_findings(**params: Any) -> dict[str, Any]:
        asked.append(params.pop("NextToken", None))
        return {**real(**params), "NextToken": "again"}

    monkeypatch.setattr(hub, "get_findings", get_findings)
    with pytest.raises(PolicyExecutionError, match="repeats its pages"):
        custodian.run([STALE], [POST])
    assert asked == [None, "again"]
