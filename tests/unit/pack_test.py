# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""policies/second-access-key.yml says what the rule D9.AWS.IAM.07 says, and does nothing else.

The rule's facts stand here as its page has them, since the pack must not be compared with itself.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from c7n.config import Config
from c7n.exceptions import ResourceLimitExceeded
from c7n.loader import PolicyLoader
from c7n.resources import load_resources
from in_memory import Custodian, Iam

from c7n_keyrot.core import notice

PACK = Path(__file__).parents[2] / "policies" / "second-access-key.yml"
EXPIRING = "iam-user-second-access-key-expiring"
STALE = "iam-user-second-access-key-stale"
UNCLEAR = "iam-user-second-access-key-unclear"
NAMES = [EXPIRING, UNCLEAR, STALE]
EXAMPLES = {
    path.stem: data
    for path in sorted((PACK.parents[1] / "examples").glob("*.yml"))
    if "policies" in (data := yaml.safe_load(path.read_text()))
}

RULE = {
    "rule-id": "D9.AWS.IAM.07",
    "title": "Ensure access keys are rotated every 90 days or less (second access key)",
    "severity": "High",
    "category": "Security, Identity & Compliance",
    "entity": "IAM user",
}
FRAMEWORKS = {
    "AWS CIS Foundations": ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0", "2.0.0"],
    "AWS CSA CCM": ["3.0.1", "4.0.1"],
    "AWS CloudGuard Best Practices": [],
    "AWS CloudGuard SOC2 based on AICPA TSC 2017": [],
    "AWS CloudGuard Well Architected Framework": [],
    "AWS GDPR Readiness": [],
    "AWS HITRUST": ["v11.0.0"],
    "AWS ISO 27001:2013": [],
    "AWS ISO27001:2022": [],
    "AWS ITSG-33": [],
    "AWS LGPD regulation": [],
    "AWS MAS TRM Framework": [],
    "AWS MITRE ATT&CK Framework": ["v10", "v11.3"],
    "AWS NIST 800-171": [],
    "AWS NIST 800-53": ["Rev 4", "Rev 5"],
    "AWS NIST CSF": ["v1.1"],
    "AWS PCI-DSS": ["3.2", "4.0"],
    "AWS Security Risk Management": [],
    "CloudGuard AWS All Rules Ruleset": [],
}


@pytest.fixture(scope="module")
def text() -> str:
    return PACK.read_text()


@pytest.fixture(scope="module")
def data(text: str) -> Any:
    return yaml.safe_load(text)


@pytest.fixture
def policies(data: Any) -> dict[str, dict[str, Any]]:
    return {policy["name"]: policy for policy in copy.deepcopy(data["policies"])}


def test_custodian_accepts_the_file() -> None:
    load_resources({"aws.iam-user"})
    config = Config.empty(region="us-east-1", account_id="123456789012")
    loaded = PolicyLoader(config).load_file(str(PACK))
    assert [policy.name for policy in loaded] == NAMES
    for policy in loaded:
        policy.expand_variables(policy.get_variables())
        policy.validate()


def test_a_policy_folder_holds_policy_files_only() -> None:
    """Custodian reads every yaml, yml and json file there, and no folder below it."""
    for path in PACK.parent.iterdir():
        assert path.is_file()
        assert set(yaml.safe_load(path.read_text())) == {"vars", "policies"}


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_the_rules_own(policies: Any, name: str) -> None:
    metadata = policies[name]["metadata"]
    assert {key: metadata[key] for key in RULE} == RULE
    assert set(metadata) == {*RULE, "remediation", "references", "frameworks"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_of_the_rule_only_what_notices_show(name: str, data: Any) -> None:
    whole = data["vars"]["rule"]
    now = datetime(2026, 11, 26, tzinfo=timezone.utc)
    for policy in EXAMPLES[name]["policies"]:
        rule = policy["metadata"]
        marked = {key: f"text of {key}" for key in rule}
        shown = notice.about_run(
            notice.PolicyPlan(), {"metadata": marked}, {}, ("1", ""), now, None
        )
        assert set(marked.values()) <= set(map(str, shown.values()))
        assert rule["title"] in whole["title"]
        assert rule == {key: whole[key] for key in rule} | {"title": rule["title"]}


def test_every_framework_and_version_is_named(policies: Any) -> None:
    listed = policies[STALE]["metadata"]["frameworks"]
    assert len(listed) == len(FRAMEWORKS)
    for line, (name, versions) in zip(listed, FRAMEWORKS.items(), strict=True):
        assert line.startswith(name)
        rest = line.removeprefix(name).strip()
        assert [one.strip() for one in rest.split(",") if one] == versions


def test_remediation_is_in_order_and_the_commands_are_right(policies: Any) -> None:
    steps = policies[STALE]["metadata"]["remediation"]
    words = ["Deactivate", "Create", "Move every application", "Verify"]
    assert len(steps) == len(words)
    for step, word in zip(steps, words, strict=True):
        assert step.startswith(word)
    assert "update-access-key" in steps[0]
    assert "Inactive" in steps[0]
    assert "delete-access-key" in steps[3]
    # The rule's page has --access-key, which the AWS CLI doesn't know.
    assert not re.search(r"--access-key\b(?!-id)", " ".join(steps))


def test_references(policies: Any) -> None:
    references = " ".join(policies[STALE]["metadata"]["references"])
    assert "CIS Amazon Web Services Foundations Benchmark" in references
    assert "id_credentials_access-keys.html#Using_CreateAccessKey_CLIAPI" in references
    assert "best-practices.html" in references


def only(policy: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = [
        one for one in policy["filters"] if isinstance(one, dict) and one.get("type") == kind
    ]
    return dict(found)


def test_the_filters_are_the_rule(policies: Any) -> None:
    assert only(policies[STALE], "stale-access-key") == {
        "type": "stale-access-key",
        "slot": 2,
        "days": 90,
    }
    assert only(policies[EXPIRING], "expiring-access-key") == {
        "type": "expiring-access-key",
        "slot": 2,
        "days": 90,
        "notice": 14,
        "remind-at": [14, 7, 3, 1],
    }
    unclear = {"type": "unclear-access-key", "slot": 2, "days": 90}
    assert only(policies[UNCLEAR], "unclear-access-key") == {**unclear, "weekdays": ["Mon"]}
    # Who is told of a doubt isn't told that something is being done.
    assert {"not": [unclear]} in policies[STALE]["filters"]


@pytest.mark.parametrize(("name", "filters"), [(EXPIRING, 2), (STALE, 3), (UNCLEAR, 2)])
def test_all_take_users_from_the_report_and_leave_out_exempt_ones(
    policies: Any, name: str, filters: int
) -> None:
    policy = policies[name]
    assert policy["resource"] == "aws.iam-user"
    assert policy["source"] == "credential-report"
    assert {"not": ["rotation-exempt"]} in policy["filters"]
    assert len(policy["filters"]) == filters
    assert "mode" not in policy


def test_notify_comes_before_disable_and_the_others_only_tell(policies: Any) -> None:
    def kinds(name: str) -> list[str]:
        return [one if isinstance(one, str) else one["type"] for one in policies[name]["actions"]]

    assert kinds(STALE) == ["notify", "disable-access-key"]
    assert kinds(EXPIRING) == kinds(UNCLEAR) == ["notify"]


@pytest.mark.parametrize(
    ("name", "template"),
    [
        (EXPIRING, "c7n_keyrot-expiring.html"),
        (STALE, "c7n_keyrot-disabling.html"),
        (UNCLEAR, "c7n_keyrot-unclear.html"),
    ],
)
def test_notices(policies: Any, name: str, template: str) -> None:
    notify = policies[name]["actions"][0]
    assert notify["template"] == template
    if name == UNCLEAR:
        assert notify["to"] == ["security@example.com"]
    else:
        assert notify["to"] == ["resource-owner"]
        assert notify["owner_absent_contact"] == ["security@example.com"]
    assert notify["queue"] == "c7n-keyrot"
    # So that c7n-org's vars can put an account's queue in its place.
    assert notify["transport"]["queue"] == "{action[queue]}"
    assert notify["transport"]["type"] == "sqs"


def test_a_first_run_that_would_hit_many_is_stopped(policies: Any) -> None:
    assert policies[STALE]["max-resources"] == {"amount": 20, "percent": 10, "op": "and"}


def test_settings_stand_once_at_the_top_and_each_is_used(text: str, data: Any) -> None:
    top, _, below = text.partition("\npolicies:")
    anchors = re.findall(r"^  ([\w-]+): &([\w-]+)", top, re.MULTILINE)
    assert [name for name, anchor in anchors] == list(data["vars"])
    for name, anchor in anchors:
        assert name == anchor
        assert f"*{anchor}" in below
    assert set(re.findall(r"\*([\w-]+)(?:}|$)", below, re.MULTILINE)) == {a for _, a in anchors}
    # Below nothing repeats a setting's value.
    for value in ("90", "security@example.com", "[14, 7, 3, 1]", "[Mon]"):
        assert value not in re.sub(r"#.*", "", below)


def test_every_setting_has_a_comment(text: str) -> None:
    """Its own, or that of the setting right above which it goes with."""
    lines = text.partition("\npolicies:")[0].splitlines()
    for number, line in enumerate(lines):
        if re.match(r"^  [\w-]+: &", line):
            assert re.match(r"^  (#|[\w-]+: &)", lines[number - 1])


def test_comments_show_how_break_glass_users_are_left_out(iam: Iam, custodian: Custodian) -> None:
    """With the signs of comment away it is valid, and does what it says."""
    lines = PACK.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if "Break-glass" in line) + 1
    block = []
    for line in lines[start:]:
        if not line.lstrip().startswith("# "):
            break
        block.append(re.sub(r"^(\s*)# ", r"\1", line))
    more = yaml.safe_load("\n".join(block))
    iam.add("ana", 10, 200)
    iam.add("glass", 10, 200, path="/break-glass/")
    iam.add("deep", 10, 200, path="/break-glass/a/")
    iam.add("emergency-1", 10, 200)
    found = custodian.matched([{"not": ["rotation-exempt"]}, {"type": "stale-access-key"}, *more])
    assert found == {"ana": ["ana-2"]}


def run(custodian: Custodian, policy: dict[str, Any]) -> list[str]:
    (loaded,) = custodian.load({**policy, "actions": policy["actions"][1:]})
    loaded.validate()
    return sorted(user["UserName"] for user in loaded.run())


def test_the_rules_subject_and_its_look_alikes(
    iam: Iam, custodian: Custodian, policies: Any
) -> None:
    iam.add("stale", 10, 91)
    iam.add("only-second", None, 91)
    iam.add("first-stale", 200, 10)
    iam.add("inactive", 10, (200, "Inactive"))
    iam.add("one-key", 200, None)
    iam.add("no-keys")
    iam.add("inside", 10, 89.99)
    until = datetime.now(timezone.utc) + timedelta(days=1)
    iam.add("exempt", 10, 91, {"keyrot-exempt-until": f"{until:%Y-%m-%d}"})
    iam.add("expired", 10, 91, {"keyrot-exempt-until": "2020-01-01"})
    iam.add("second-older", 91, 300)
    iam.add("twins", 91, 91)
    iam.add("no-date", 10, 91)
    iam.rows["no-date"][8] = "N/A"
    iam.rows["root"] = ["<root_account>", "arn:aws:iam::123456789012:root", *iam.rows["stale"][2:]]
    expected = ["expired", "only-second", "second-older", "stale"]
    assert run(custodian, policies[STALE]) == expected
    assert sorted(key for _, key, _ in iam.changed) == [f"{name}-2" for name in expected]


@pytest.mark.parametrize(("day", "told"), [(23, True), (24, False), (29, False), (30, True)])
def test_the_security_team_is_told_of_doubts_on_mondays(
    iam: Iam,
    custodian: Custodian,
    policies: Any,
    clock: Callable[[datetime], datetime],
    day: int,
    told: bool,
) -> None:
    """In November 2026; of those that no other policy speaks of."""
    iam.now = clock(datetime(2026, 11, day, 5, 0, 0, tzinfo=timezone.utc))
    iam.add("twins", 91, 91)
    iam.add("twins-young", 83, 83)
    iam.add("no-date", 10, 91)
    iam.rows["no-date"][8] = "N/A"
    iam.add("stale", 10, 91)
    iam.add("exempt", 91, 91, {"keyrot-exempt-until": "2026-12-31"})
    unclear = {**policies[UNCLEAR], "actions": [None]}
    assert run(custodian, unclear) == (["no-date", "twins"] if told else [])
    assert run(custodian, policies[STALE]) == ["stale"]
    assert run(custodian, {**policies[EXPIRING], "actions": [None]}) == []
    assert iam.changed == [("stale", "stale-2", "Inactive")]


def test_owners_are_told_at_fourteen_seven_three_and_one_days(
    iam: Iam, custodian: Custodian, policies: Any, at: datetime
) -> None:
    for left in range(16):
        iam.add(f"left-{left:02}", None, at - timedelta(days=90 - left))
    policy = {**policies[EXPIRING], "actions": []}
    found = run(custodian, {**policy, "actions": [None]})
    assert found == ["left-01", "left-03", "left-07", "left-14"]
    assert iam.changed == []


@pytest.mark.parametrize(
    ("stale", "others", "stopped"), [(20, 0, False), (21, 0, True), (21, 400, False)]
)
def test_max_resources_is_of_all_users(
    iam: Iam, custodian: Custodian, policies: Any, stale: int, others: int, stopped: bool
) -> None:
    for number in range(stale):
        iam.add(f"stale-{number}", 10, 200)
    for number in range(others):
        iam.add(f"other-{number}", 10, None)
    if stopped:
        with pytest.raises(ResourceLimitExceeded):
            run(custodian, policies[STALE])
        assert iam.changed == []
    else:
        assert len(run(custodian, policies[STALE])) == stale
