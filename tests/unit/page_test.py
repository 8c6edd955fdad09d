# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The HTML page: text from outside stays text, whatever it is, and every report has a page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import sample_reports
from jsonschema import Draft202012Validator
from output_tree import NOW, A, Run
from pytest_mock import MockerFixture

import c7n_keyrot
from c7n_keyrot.cli import main
from c7n_keyrot.cli.report import view, words
from c7n_keyrot.cli.report.page import render

HOSTILE = {
    "ends the script": "</script><script>alert(1)</script>",
    "opens a comment": "<!--<script>",
    "an element": "<img src=x onerror=alert(1)>",
    "quotes": "\"' onmouseover=alert(1) x='\"",
    "an entity": "&lt;b&gt;&amp;",
    "a template": "{{ 7 * 7 }}{% raw %}",
    "turns the direction": "abc\u202edef\u2066\u200f",
    "line ends": "a\u2028b\u2029c\nd\re\0f",
    "combining marks": "a" + "\u0301" * 64,
    "half a pair": "a\ud800b",
    "very long": "x" * 5000,
}
SIZES = {
    "no account": (0, 0, 0),
    "one account without a key": (1, 0, 0),
    "one account with one key": (1, 1, 0),
    "no account is covered": (3, 2, 3),
    "10,000 keys": (100, 100, 0),
}
HERE = Path(c7n_keyrot.__file__).parent
VOID = {"meta", "link", "input", "br", "rect", "line", "circle", "path"}


class Page(HTMLParser):
    """Reads a page: its elements, its text, its scripts; and checks that elements are nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]][-1] += data
        else:
            self.text.append(data)

    @property
    def keys(self) -> list[dict[str, Any]]:
        data = json.loads(self.inside["script"][0])
        return [
            {
                name: data["words"][value] if name in data["coded"] and value is not None else value
                for name, value in zip(data["columns"], row, strict=True)
            }
            for row in data["rows"]
        ]


def texts(value: Any, text: str) -> Any:
    """The report with this text wherever a text of others can be."""
    if isinstance(value, dict):
        return {
            name: text if name in sample_reports.FOREIGN else texts(one, text)
            for name, one in value.items()
        }
    return [texts(one, text) for one in value] if isinstance(value, list) else value


def test_these_reports_are_reports() -> None:
    schema = json.loads((HERE / "schemas" / "report.schema.json").read_text("utf-8"))
    for size in ((0, 0, 0), (3, 2, 3), (4, 12, 1)):
        Draft202012Validator(schema).validate(sample_reports.report(*size))


@pytest.fixture(scope="module")
def plain() -> Page:
    return Page(render(sample_reports.report()))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_from_outside_stays_text(plain: Page, text: str) -> None:
    report = texts(sample_reports.report(), text) | {"warnings": [text]}
    html = render(report)
    html.encode()
    page = Page(html)
    assert [tag for tag, _ in page.elements if tag in ("script", "style", "img")] == [
        tag for tag, _ in plain.elements if tag in ("script", "style", "img")
    ]
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("style", "srcdoc")]
    assert page.inside["script"][1] == plain.inside["script"][1]
    shown = words.clean(text)
    assert shown.isprintable()
    assert shown in "".join(page.text)
    assert {key["user"] for key in page.keys} == {shown}


def test_it_is_made_of_what_runs_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    out = tmp_path / "out"
    run = Run(A, counts={"fresh": 10, "stale": 2}, report_hours=1)
    run.match("ana", 200, {"OwnerContact": "ana@corp.test"}).outcome("ana")
    run.leave("marek").write(out, "shop")
    monkeypatch.chdir(tmp_path)
    mocker.patch("c7n_keyrot.cli.report.build.clock", return_value=NOW)
    assert main(["report", "out"]) == 0
    page = Page((tmp_path / "keyrot-report.html").read_text("utf-8"))
    assert {key["user"]: key["state"] for key in page.keys} == {"ana": "fixed", "marek": "exempt"}
    text = " ".join(" ".join(page.text).split())
    for part in (
        "Only 1 exempt key is too old",
        "83.3%",
        "D9.AWS.IAM.07",
        "29 compliance frameworks",
    ):
        assert part in text
    assert run.id in str([attributes.get("data-facts") for _, attributes in page.elements])


def test_the_policy_allows_this_style_sheet_and_this_script_only(plain: Page) -> None:
    (policy,) = (a["content"] for _, a in plain.elements if "http-equiv" in a)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for kind in "style", "script":
        content = plain.inside[kind][-1].encode()
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"


def test_nothing_is_loaded_from_anywhere(plain: Page) -> None:
    places = [
        value or ""
        for tag, attributes in plain.elements
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "poster", "srcset") and tag != "a"
    ]
    assert places
    assert not [place for place in places if not place.startswith(("#", "data:"))]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|innerHTML|import\(", "".join(
        plain.inside["style"] + plain.inside["script"][1:]
    ))  # fmt: skip


def test_every_link_and_label_on_the_page_leads_somewhere(plain: Page) -> None:
    ids = [a["id"] for _, a in plain.elements if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = [a["href"] for _, a in plain.elements if (a.get("href") or "").startswith("#")]
    wanted += [f"#{a['aria-labelledby']}" for _, a in plain.elements if "aria-labelledby" in a]
    assert {place for place in wanted if place} <= {f"#{one}" for one in ids}


def test_it_can_be_read_by_a_screen_reader(plain: Page) -> None:
    tags = [tag for tag, _ in plain.elements]
    assert [tags.count(tag) for tag in ("main", "h1", "nav", "header", "footer")] == [1] * 5
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in a for tag, a in plain.elements if tag == "th")
    assert all(a.get("aria-hidden") == "true" for tag, a in plain.elements if tag == "svg")
    assert dict(plain.elements)["html"]["lang"] == "en"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, "In compliance: no active key is too old"),
        ({"fixed": 9}, "In compliance: no active key is too old"),
        ({"exempt": 1}, "Only 1 exempt key is too old"),
        ({"unclear": 1, "exempt": 1}, "Not yet in compliance: 1 key needs review"),
        ({"unclear": 2}, "Not yet in compliance: 2 keys need review"),
        ({"open": 1, "unclear": 1}, "Not in compliance: 1 key is too old and still active"),
        (
            {"open": 1000, "not_covered": 1},
            "Not in compliance: 1,000 keys are too old and still active,"
            " and 1 account is not covered",
        ),
        ({"not_covered": 2}, "No active key is too old, but 2 accounts are not covered"),
        ({"covered": 0, "not_covered": 3, "open": 1}, "No answer yet: no account is covered"),
        ({"covered": 0}, "No answer yet: no account is covered"),
    ],
)
def test_the_page_opens_on_the_answer(counts: dict[str, int], expected: str) -> None:
    zeros = dict.fromkeys(("open", "unclear", "exempt", "fixed", "not_covered"), 0)
    assert view.headline(zeros | {"covered": 3} | counts) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, "Yes"),
        ({"exempt": 1}, "All but exempt keys"),
        ({"exempt": 1, "not_covered": 1}, "Not known of 1 account"),
        ({"not_covered": 2}, "Not known of 2 accounts"),
        ({"not_covered": 2, "unclear": 1}, "Not yet, 1 key in doubt"),
        ({"not_covered": 2, "open": 1}, "No, 1 key still open"),
        ({"covered": 0, "not_covered": 2}, "Not known"),
    ],
)
def test_the_keys_are_in_compliance_only_if_all_accounts_are_covered(
    counts: dict[str, int], expected: str
) -> None:
    names = "open", "unclear", "exempt", "fixed", "not_covered", "stale", "unknown", "active_keys"
    totals = dict.fromkeys(names, 0) | {"covered": 3, "compliant_percent": None} | counts
    assert view.compliant(totals).answer == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "no key"),
        (0.0, "0%"),
        (0.01, "< 0.1%"),
        (50.0, "50%"),
        (99.94, "> 99.9%"),
        (99.9, "99.9%"),
        (100.0, "100%"),
    ],
)
def test_all_and_nothing_are_never_said_of_a_part(value: float | None, expected: str) -> None:
    assert words.percent(value) == expected


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_report_of_any_size_has_a_page(size: tuple[int, int, int]) -> None:
    report = sample_reports.report(*size)
    page = Page(render(report))
    assert len(page.keys) == len(report["keys"])
    rows = [a for tag, a in page.elements if tag == "tbody" and "data-id" in a]
    assert {row["data-id"] for row in rows} == {a["account_id"] for a in report["accounts"]}
    assert not {"None", "nan", "NaN", "Undefined"} & set(" ".join(page.text).split())


@pytest.mark.parametrize(
    ("limit", "verdict", "age", "expected"),
    [
        (90.0, "expiring", 90.0, "to 90"),
        (90.0, "stale", 90.0, "to 120"),  # to one decimal; by the second it is older
        (90.0, "stale", 90.1, "to 120"),
        (90.0, "stale", 120.0, "to 120"),
        (90.0, "stale", 731.0, "older"),
        (200.0, "stale", 201.0, "to 365"),
        (0.5, "stale", 0.6, "to 120"),
        (1000.0, "stale", 1001.0, "older"),
        (1000.0, "expiring", 990.0, "to 1000"),
    ],
)
def test_the_limit_divides_the_ages(limit: float, verdict: str, age: float, expected: str) -> None:
    report = sample_reports.report(1, 1, 0)
    report["rule"] = {**report["rule"], "days": limit}
    report["keys"][0] |= {"verdict": verdict, "state": "open", "age_days": age}
    columns = view.ages(report)
    assert [column.label for column in columns[1:] if column.count] == [expected]
    assert columns[1].label == f"to {limit:g}"  # the dashed line is behind it
