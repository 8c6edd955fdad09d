# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each place of Custodian and botocore that something of ours hangs on is there.

The end-to-end test of the oldest c7n asks the same in an environment of that release.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from in_memory import Custodian, Iam
from pytest_mock import MockerFixture

import c7n_keyrot
from c7n_keyrot.cli.doctor import installation
from c7n_keyrot.custodian.seams import SEAMS, TESTED, Seam, is_newer, moved

FOREIGN = ("boto3", "botocore", "c7n", "c7n_mailer", "c7n_org")


def test_no_seam_has_moved() -> None:
    assert list(moved()) == []


def test_seams_are_named_once() -> None:
    places = [(seam.place, seam.use) for seam in SEAMS]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(
    ("seam", "line"),
    [
        (Seam("c7n.nowhere:X", "for a test"), "c7n.nowhere:X doesn't exist (No module"),
        (Seam("c7n.manager:ResourceManager.gone", "for a test"), "ResourceManager.gone doesn't"),
        (
            Seam("c7n.manager:ResourceManager.filter_resources", "for a test", ("users",)),
            "filter_resources has no users: for a test",
        ),
    ],
)
def test_what_has_moved_is_named(seam: Seam, line: str) -> None:
    (found,) = moved((seam,))
    assert line in found


def imports() -> set[str]:
    """What the package imports of Custodian and the libraries below it, as ``module:name``."""
    found = set()
    for path in Path(c7n_keyrot.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if isinstance(node, ast.ImportFrom) and module.partition(".")[0] in FOREIGN:
                found |= {f"{module}:{alias.name}" for alias in node.names}
    return found


def test_whatever_is_imported_is_a_seam() -> None:
    listed = {".".join(seam.place.split(".")) for seam in SEAMS}
    missing = {
        name
        for name in imports()
        if not any(f"{place}.".startswith(f"{name}.") for place in listed)
        and f"{name.replace(':', '.')}:" not in {f"{place.partition(':')[0]}:" for place in listed}
    }
    assert missing == set(), "add them to SEAMS, with what is relied on"


def marks() -> set[str]:
    """The places that docstrings of the package name with ``:seam:``."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {
        place
        for path in Path(c7n_keyrot.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, kinds)
        for place in re.findall(r"^ *:seam: (\S+)$", ast.get_docstring(node) or "", re.MULTILINE)
    }


def test_each_patch_names_its_seam_and_each_seam_that_is_patched_has_one() -> None:
    patched = {seam.place for seam in SEAMS if re.search("replaced|watched", seam.use)}
    assert marks() == patched, "write ':seam: PLACE' into the docstring of what replaces it"


def private_names() -> set[str]:
    """The private attributes that the package takes of objects that aren't its own."""
    found = set()
    for path in Path(c7n_keyrot.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        own = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        } | {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr not in own:
                if node.attr.startswith("_") and not node.attr.startswith("__"):
                    found.add(node.attr)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
                name = getattr(node.args[1], "value", "")
                if isinstance(name, str) and name.startswith("_") and name[:2] != "__":
                    found.add(name)
    return found


def test_private_names_of_others_are_known() -> None:
    """Each of these is looked at by a seam; another one needs a seam first."""
    ours = private_names() - {"_SubParsersAction"}  # a type of argparse's
    of_own_keys = {"_refresh", "_refresh_using", "_source_credentials"}
    assert ours == {
        "_cache",
        "_credentials",
        "_endpoint",
        "_make_api_call",
        "_session",
        *of_own_keys,
    }


def without_source(self: Any, query: Any) -> dict[str, Any]:
    return {"account": self.account_id, "region": self.config.region, "q": query}


class WithoutCache:
    def __init__(self, ctx: Any, data: Any) -> None:
        pass


def calls_nothing(self: Any, *args: Any) -> Any:
    return []


@pytest.mark.parametrize(
    ("place", "instead"),
    [
        ("c7n.query:QueryResourceManager.get_cache_key", without_source),
        ("c7n.query:QueryResourceManager.resources", calls_nothing),
        ("c7n.manager:ResourceManager", WithoutCache),
        ("c7n.policy:PullMode.run", calls_nothing),
        ("c7n.policy:LambdaMode.run_resource_set", calls_nothing),
        ("c7n.policy:Policy.validate", calls_nothing),
        ("c7n.filters:Not.validate", calls_nothing),
        ("c7n.commands:policy_command", calls_nothing),
        ("c7n_org.cli:run_account", calls_nothing),
        ("c7n_org.cli:CONFIG_SCHEMA", {}),
        ("c7n_mailer.cli:CONFIG_SCHEMA", {}),
        ("c7n_mailer.sqs_queue_processor:MailerSqsQueueProcessor.run", calls_nothing),
        ("boto3:Session", WithoutCache),
        ("botocore.session:Session", WithoutCache),
        ("botocore.client:BaseClient", WithoutCache),
    ],
)
def test_what_does_not_do_what_is_relied_on_has_moved(
    mocker: MockerFixture, place: str, instead: Any
) -> None:
    mocker.patch(place.replace(":", "."), instead)
    chosen = tuple(seam for seam in SEAMS if seam.place == place)
    assert chosen
    assert any(line.startswith(place) for line in moved(chosen))


def test_a_tag_that_is_set_after_a_dry_run_counts_whatever_custodians_key_says(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, tmp_path: Path
) -> None:
    """With Custodian's default cache, a file."""
    custodian.options = {"cache": str(tmp_path / "c7n.cache"), "cache_period": 15}
    mocker.patch("c7n.query.QueryResourceManager.get_cache_key", without_source)
    iam.add("ana", 5, 200)
    filters = ["stale-access-key", {"not": ["rotation-exempt"]}]
    custodian.options["dryrun"] = True
    assert len(custodian.run(filters)) == 1
    iam.tag("ana", keyrot_exempt_until="2999-01-01")
    custodian.options["dryrun"] = False
    assert custodian.run(filters, ["disable-access-key"]) == []
    assert iam.changed == []


@pytest.mark.parametrize(
    ("version", "newer"),
    [("0.9.29", False), (TESTED[1], False), ("0.9.100", True), ("0.10.0", True), ("1.0", True)],
)
def test_which_release_is_newer_than_those_tested(version: str, newer: bool) -> None:
    assert is_newer(version) is newer


def test_doctor_names_the_seam_and_what_to_do(mocker: MockerFixture) -> None:
    mocker.patch("c7n.query.QueryResourceManager.get_cache_key", without_source)
    mocker.patch("importlib.metadata.version", return_value="0.9.99")
    (check,) = installation.fits()
    assert check.status == "FAIL"
    assert "c7n 0.9.99: c7n.query:QueryResourceManager.get_cache_key" in check.what
    assert f"to {TESTED[1]}" in check.fix
    mocker.stopall()
    mocker.patch("importlib.metadata.version", return_value="0.9.99")
    (check,) = installation.fits()
    assert check.status == "ok"
    assert f"newer than {TESTED[1]}" in check.what
