# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the docstrings, the schemas and the permissions say is true.

Our words are held to the rules that Custodian's own tests hold all words of its registries to.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

import boto3
import pytest
import yaml
from c7n.config import Config
from c7n.exceptions import PolicyValidationError
from c7n.loader import PolicyLoader
from c7n.query import sources
from c7n.resources import load_resources
from c7n.resources.iam import User
from c7n.schema import JsonSchemaValidator, generate
from c7n.utils import dumps

from c7n_keyrot.custodian.elements.exemptions import RotationExempt
from c7n_keyrot.custodian.elements.filters import (
    ExpiringAccessKey,
    StaleAccessKey,
    UnclearAccessKey,
)
from c7n_keyrot.custodian.elements.findings import PostKeyFinding
from c7n_keyrot.custodian.elements.plugin import register
from c7n_keyrot.custodian.elements.source import CredentialReportSource

load_resources({"aws.iam-user"})


def ours(registry: Any) -> list[Any]:
    return [one for _, one in registry.items() if one.__module__.startswith("c7n_keyrot.")]


FILTERS = ours(User.filter_registry)
ELEMENTS = [*FILTERS, *ours(User.action_registry)]
WITH_OPTIONS = [element for element in ELEMENTS if hasattr(element, "options")]


def doc(element: Any) -> str:
    return inspect.getdoc(element) or ""


def examples(element: Any) -> list[str]:
    """The code blocks that are YAML, without what follows them at the margin."""
    blocks = doc(element).split(".. code-block:: yaml\n")[1:]
    return [re.split(r"\n(?=\S)", block)[0] for block in blocks]


def load(text: str) -> list[Any]:
    config = Config.empty(region="us-east-1", account_id="123456789012")
    return list(PolicyLoader(config).load_data(yaml.safe_load(text), "memory://"))


CASES = [(element, text) for element in ELEMENTS for text in examples(element)]


@pytest.mark.parametrize(("element", "text"), CASES, ids=lambda case: getattr(case, "type", ""))
def test_every_example_is_a_policy_that_validates(element: Any, text: str) -> None:
    policies = load(text)
    for policy in policies:
        policy.validate()
    used = [
        one.type
        for policy in policies
        for one in [*policy.resource_manager.iter_filters(), *policy.resource_manager.actions]
    ]
    assert element.type in used, f"an example of {element.type} doesn't use it: correct it"


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.type)
def test_every_element_has_an_example(element: Any) -> None:
    assert examples(element), (
        f"add an example to the docstring of {element.__name__}, after .. code-block:: yaml"
    )


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.type)
def test_schemas_forbid_unknown_keys(element: Any) -> None:
    assert element.schema["additionalProperties"] is False
    kind = "filters" if element in FILTERS else "actions"
    one = {"type": element.type, "no-such-option": 1}
    data = {"policies": [{"name": "p", "resource": "aws.iam-user", kind: [one]}]}
    with pytest.raises(PolicyValidationError, match="no-such-option"):
        load(yaml.safe_dump(data))


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.type)
def test_schemas_name_the_type_that_is_registered(element: Any) -> None:
    registry = User.filter_registry if element in FILTERS else User.action_registry
    assert registry.get(element.type) is element
    assert element.schema["properties"]["type"]["enum"] == [element.type]
    # An alias stands for one schema of all resources: only Custodian's common words have one.
    assert not element.schema_alias
    assert not getattr(element, "deprecations", ())


def test_the_whole_schema_is_valid_and_can_be_written_down() -> None:
    """`custodian schema --json`, and what editors read."""
    whole = generate(["aws.iam-user"])
    JsonSchemaValidator.check_schema(whole)
    dumps(whole)


def read_as_custodian_does(element: Any) -> list[dict[str, Any]]:
    """The policies of a docstring: Custodian cuts it at empty lines, whatever the mark-up says."""
    parts = [part for part in re.split(r"\n\n|yaml", doc(element)) if "resource:" in part]
    whole = [part if "policies:\n" in part else f"policies:\n{part}" for part in parts]
    return [policy for part in whole for policy in yaml.safe_load(part)["policies"]]


def test_examples_of_one_name_are_one_policy() -> None:
    """Also beside Custodian's own, and short enough for a Lambda function's name."""
    policies: dict[str, Any] = {}
    theirs = {*User.filter_registry.values(), *User.action_registry.values()} - {*ELEMENTS}
    for policy in (
        policy for one in [*theirs, *ELEMENTS] for policy in read_as_custodian_does(one)
    ):
        name = policy["name"]
        assert policies.setdefault(name, policy) == policy, (
            f"two examples, maybe one of Custodian's, have the name {name}: give one another name"
        )
        assert len(name) < 54, f"too long for a Lambda function's name, shorten it: {name}"


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.type)
def test_custodian_reads_each_example(element: Any) -> None:
    marked = [policy for text in examples(element) for policy in yaml.safe_load(text)["policies"]]
    assert read_as_custodian_does(element) == marked, (
        f"Custodian cuts the docstring of {element.__name__} at empty lines and at the word yaml: "
        "write its examples without either, each with resource: in it"
    )


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.type)
def test_the_documented_options_are_those_of_the_schema(element: Any) -> None:
    documented = re.findall(r"^- ``([\w-]+)``", doc(element), re.MULTILINE)
    declared = sorted(set(element.schema["properties"]) - {"type"})
    assert sorted(documented) == declared, (
        f"the docstring of {element.__name__} must have a line - ``name``: ... for each of "
        f"{declared}; {{options}} in it writes them"
    )


@pytest.mark.parametrize("element", WITH_OPTIONS, ids=lambda element: element.type)
def test_the_documented_defaults_are_those_of_the_schema(element: Any) -> None:
    text = re.sub(r"\s+", " ", doc(element))
    for name, option in element.schema["properties"].items():
        if option.get("default") not in (None, False):
            said = f"in default {option['default']})"
            _, found, rest = text.partition(f"- ``{name}``")
            assert found, f"add a line - ``{name}``: ... to the docstring of {element.__name__}"
            line = rest.split(" - ``")[0]
            assert re.search(rf"[( ]default {re.escape(str(option['default']))}\)", line), (
                f"the line of ``{name}`` in the docstring of {element.__name__} must end {said}"
            )


@pytest.mark.parametrize("element", WITH_OPTIONS, ids=lambda element: element.type)
def test_the_documentation_of_each_option_ends_with_its_unit_and_default(element: Any) -> None:
    for option in element.options.values():
        values = option.schema.get("items", option.schema)
        unit = "(days|hours), " if values.get("type") in ("number", "integer") else ""
        default = "optional" if option.default is None else f"default {option.default}".lower()
        line = re.sub(r"\s+", " ", option.line)
        assert re.search(rf"\({unit}{re.escape(default)}\)$", line, re.IGNORECASE), (
            f"the line of ``{option.name}`` must end in its unit, if it has one, and {default}: "
            "correct Option.line, or give the option a kind with a unit"
        )


@pytest.mark.parametrize(
    ("element", "options"),
    [
        (StaleAccessKey, {"slot": 2, "days": 90, "status": "Active", "superseded": False}),
        (StaleAccessKey, {"report-max-age": 24}),
        (ExpiringAccessKey, {"slot": 2, "days": 90, "notice": 14, "report-max-age": 24}),
        (UnclearAccessKey, {"slot": 2, "days": 90, "report-max-age": 24}),
        (RotationExempt, {"tag": "keyrot-exempt-until", "state": "valid"}),
    ],
)
def test_defaults(element: Any, options: dict[str, Any]) -> None:
    for name, value in options.items():
        schema = element.schema["properties"]
        assert name in schema, f"{element.type} lost its option {name}: policies of users have it"
        assert schema[name].get("default") == value, (
            f"{name} of {element.type} had the default {value}: policies of users rely on it"
        )
        assert element({"type": element.type}).option(name) == value


@pytest.mark.parametrize("element", WITH_OPTIONS, ids=lambda element: element.type)
def test_schema_check_and_documentation_come_out_of_one_declaration(element: Any) -> None:
    assert element.options.keys() == element.schema["properties"].keys() - {"type"}
    lines = re.sub(r"\s+", " ", doc(element))
    for name, option in element.options.items():
        assert re.sub(r"\s+", " ", option.line) in lines, (
            f"the docstring of {element.__name__} must have the line of ``{name}`` as Option.line "
            "writes it: put {options} in its place"
        )
        assert option.default is None or option.kind.accepts(option.default)
        properties = element.schema["properties"][name]
        assert properties.items() >= option.kind.schema.items(), (
            f"the schema of ``{name}`` in {element.type} must be that of its kind: use declare()"
        )
    assert "{options}" not in doc(element)


VALUES = [
    ({"type": "stale-access-key"}, True),
    ({"type": "stale-access-key", "slot": 1, "status": "Inactive"}, True),
    ({"type": "stale-access-key", "report-max-age": 48}, True),
    ({"type": "stale-access-key", "report-max-age": 0}, False),
    ({"type": "stale-access-key", "superseded": "yes"}, False),
    ({"type": "stale-access-key", "unused-days": 0}, False),
    ({"type": "expiring-access-key", "notice": 30}, True),
    ({"type": "rotation-exempt", "tag": "exempt", "ends-within": 30}, True),
    ({"type": "rotation-exempt", "longer-than": -1}, False),
    ({"type": "stale-access-key", "days": 0.5, "unused-days": 30, "superseded": True}, True),
    ({"type": "stale-access-key", "days": 0}, False),
    ({"type": "stale-access-key", "days": -1}, False),
    ({"type": "stale-access-key", "days": "90"}, False),
    ({"type": "stale-access-key", "days": True}, False),
    ({"type": "stale-access-key", "days": 400_000}, False),
    ({"type": "stale-access-key", "slot": 3}, False),
    ({"type": "stale-access-key", "usage": 1}, True),
    ({"type": "stale-access-key", "usage": 90}, True),
    ({"type": "stale-access-key", "usage": 90.5}, False),
    ({"type": "stale-access-key", "usage": 0.5}, False),
    ({"type": "stale-access-key", "usage": True}, False),
    ({"type": "expiring-access-key", "usage": 7}, True),
    ({"type": "unclear-access-key", "usage": 7}, False),
    ({"type": "stale-access-key", "status": "active"}, False),
    ({"type": "expiring-access-key", "remind-at": [14, 7]}, True),
    ({"type": "expiring-access-key", "remind-at": []}, False),
    ({"type": "expiring-access-key", "remind-at": None}, False),
    ({"type": "expiring-access-key", "notice": 0}, False),
    ({"type": "expiring-access-key", "remind-at": [0]}, True),
    ({"type": "expiring-access-key", "remind-at": [1.5]}, False),
    ({"type": "expiring-access-key", "remind-at": [-1]}, False),
    ({"type": "unclear-access-key", "weekdays": ["Mon", "Sun"]}, True),
    ({"type": "unclear-access-key", "weekdays": []}, False),
    ({"type": "unclear-access-key", "weekdays": ["monday"]}, False),
    ({"type": "rotation-exempt", "state": "any", "longer-than": 1}, True),
    ({"type": "rotation-exempt", "longest": 365}, True),
    ({"type": "rotation-exempt", "longest": 0}, False),
    ({"type": "rotation-exempt", "register": "exemptions.csv"}, True),
    ({"type": "rotation-exempt", "register": ""}, False),
    ({"type": "rotation-exempt", "state": "ended"}, False),
    ({"type": "rotation-exempt", "ends-within": 0}, False),
    ({"type": "rotation-exempt", "tag": ""}, False),
    ({"type": "time-window", "weekdays": ["Tue"], "hours": [8, 12]}, True),
    ({"type": "time-window", "hours": [0, 24]}, True),
    ({"type": "time-window", "hours": [8]}, False),
    ({"type": "time-window", "hours": [8, 25]}, False),
    ({"type": "time-window", "hours": [8, 12.5]}, False),
    ({"type": "time-window", "weekdays": []}, False),
]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        (name, good)
        for name in sorted({n for e in FILTERS for n in e.options})
        for good in (True, False)
    ],
)
def test_each_option_of_a_filter_has_a_good_and_a_bad_value_here(name: str, good: bool) -> None:
    assert any(name in data for data, is_good in VALUES if is_good is good), (
        f"add a {'good' if good else 'bad'} value of {name} to VALUES in tests/unit/docs_test.py"
    )


@pytest.mark.parametrize(("data", "good"), VALUES)
def test_custodians_own_loader_checks_the_schema(data: dict[str, Any], good: bool) -> None:
    text = yaml.safe_dump(
        {"policies": [{"name": "p", "resource": "aws.iam-user", "filters": [data]}]}
    )
    if good:
        load(text)
    else:
        with pytest.raises(PolicyValidationError):
            load(text)


@functools.cache
def operations(service: str) -> set[str]:
    client = boto3.client(
        service, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    return set(client.meta.service_model.operation_names)


def permissions_of(element: Any) -> list[Any]:
    """What tools ask: the class's list, and those of a bare one in a policy, as validate does."""
    policy = {"name": "p", "resource": "aws.iam-user"}
    (loaded,) = load(yaml.safe_dump({"policies": [policy]}))
    if element is CredentialReportSource:
        return [element(loaded.resource_manager).get_permissions()]
    return [element.permissions, element({}, loaded.resource_manager).get_permissions()]


@pytest.mark.parametrize("element", [*ELEMENTS, CredentialReportSource], ids=lambda e: e.type)
def test_permissions_are_named_and_each_is_a_real_action(element: Any) -> None:
    """Also for a filter that calls nothing: Custodian's rule excepts a few words of its own."""
    asked = permissions_of(element)
    assert all(isinstance(permissions, (list, tuple, set)) for permissions in asked)
    assert all(asked), (
        f"give {element.__name__} permissions: those of what it calls, or of the users it gets"
    )
    for permission in set().union(*asked):
        service, _, action = permission.partition(":")
        assert service in ("iam", "cloudtrail") or element is PostKeyFinding, (
            f"{element.type} asks for {permission}: add it here, and to docs/permissions.md"
        )
        assert action in operations(service), (
            f"{element.type} asks for {permission}, which AWS doesn't have: correct permissions"
        )


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.type)
def test_the_docstring_begins_with_one_sentence(element: Any) -> None:
    """`custodian schema` shows it."""
    first = doc(element).partition("\n")[0]
    assert first.endswith("."), f"begin the docstring of {element.__name__} with one sentence"
    assert len(first) <= 92, f"shorten the first line of {element.__name__}'s docstring to 92"


def test_registering_twice_is_harmless() -> None:
    register()
    before = dict(User.filter_registry.items()), dict(User.action_registry.items())
    register()
    assert before == (dict(User.filter_registry.items()), dict(User.action_registry.items()))
    assert User.filter_registry.get("stale-access-key") is StaleAccessKey
    assert User.source_mapping["credential-report"] is CredentialReportSource
    assert "credential-report" in sources.keys()  # noqa: SIM118 - a registry
    assert User.source_mapping["describe"].__name__ == "DescribeUser"
