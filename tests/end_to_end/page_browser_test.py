# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report's page in a real browser: by mouse and keyboard, on paper, on a phone, without script.

With KEYROT_SCREENSHOTS=FOLDER the pictures are kept there, to be looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sample_reports
from browsers import CONTRAST

from c7n_keyrot.cli.report.page import render

ROOT = "document.documentElement"
HOSTILE = "</script><img src=x onerror=alert(1)>" + "a\u0301" * 20


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """show(report): its page, opened from disk; nobody complained and nothing was asked for."""
    contexts, seen = [], []

    def show(report: dict[str, Any], **options: Any) -> Any:
        path = tmp_path / "report.html"
        path.write_text(render(report), "utf-8")
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        for event in "console", "pageerror", "request", "dialog", "requestfailed":
            page.on(event, lambda what, event=event: seen.append((event, what)))
        page.goto(path.as_uri())
        asked = [(event, getattr(what, "url", what)) for event, what in seen]
        assert asked == [("request", path.as_uri())]
        seen.clear()
        return page

    yield show
    for context in contexts:
        context.close()
    assert seen == []


def rows(page: Any, table: str = "#account-table") -> list[str]:
    """The first cell of each row that is to be seen."""
    cells = page.locator(f"{table} > tbody:visible > tr:first-child > th:first-child")
    return [text.split("\n")[0] for text in cells.all_inner_texts()]


def numbers(page: Any, column: int) -> list[str]:
    cells = page.locator(f"#account-table > tbody > tr:first-child > :nth-child({column})")
    return cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")


def keep(page: Any, name: str) -> None:
    folder = os.environ.get("KEYROT_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_accounts_are_sorted_filtered_and_opened_by_keyboard(show: Callable[..., Any]) -> None:
    page = show(sample_reports.report(8, 12))
    head = page.locator("#account-table > thead th").nth(6)
    assert head.get_attribute("aria-sort") is None
    for key, order, reverse in ("Enter", "descending", True), ("Space", "ascending", False):
        head.locator("button").focus()
        page.keyboard.press(key)
        assert head.get_attribute("aria-sort") == order
        still_open = [int(number) for number in numbers(page, 7)]
        assert still_open == sorted(still_open, reverse=reverse)
    page.locator("#account-table > thead th", has_text="Users").locator("button").click()
    assert numbers(page, 3)[-1] == ""  # what isn't known comes last
    page.locator("#account-text").focus()
    page.keyboard.type("STAGING")
    assert rows(page) == [name for name in rows(page) if "staging" in name] != []
    assert "2 of 8" in page.locator("#account-count").inner_text()
    page.locator("#account-text").fill("")
    page.select_option("#account-state", "missing")
    assert rows(page) == ["production-0"]
    page.select_option("#account-state", "")
    button = page.locator("button.open", has_text="staging-1")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    opened = page.locator(f"#{button.get_attribute('aria-controls')}")
    assert opened.locator("tbody tr").count() == 12
    ages = opened.locator("thead th", has_text="Age")
    ages.locator("button").focus()
    page.keyboard.press("Enter")
    assert ages.get_attribute("aria-sort") == "descending"
    shown = opened.locator("td.age").all_inner_texts()
    years = [int(text.split()[0].replace(",", "")) for text in shown if text[0].isdigit()]
    assert years == sorted(years, reverse=True) != []
    button.focus()
    page.keyboard.press("Enter")
    assert not opened.is_visible()


def test_of_many_accounts_some_are_shown_at_first(show: Callable[..., Any]) -> None:
    report = sample_reports.report(230, 1)
    page = show(report)
    assert len(rows(page)) == 200
    page.emulate_media(media="print")
    assert len(rows(page)) == 230
    page.emulate_media(media="screen")
    page.locator("#account-more").focus()
    page.keyboard.press("Enter")
    assert len(rows(page)) == 230
    assert not page.locator("#account-more").is_visible()
    focused = page.evaluate("document.activeElement.closest('tbody').dataset.name")
    assert focused == rows(page)[200]
    page = show(report, java_script_enabled=False)
    assert len(rows(page)) == 230


def test_keys_are_found_in_all_accounts(show: Callable[..., Any]) -> None:
    report = sample_reports.report(6, 50)
    page = show(report)
    found = page.locator("#found tbody tr")
    assert found.count() == 100
    page.locator("#found .rest button").click()
    assert found.count() == 200
    wanted = [key for key in report["keys"] if key["outcome"] == "denied"]
    page.select_option("#key-outcome", "denied")
    assert f"{len(wanted)} of {len(report['keys'])}" in page.locator("#key-count").inner_text()
    assert found.count() == len(wanted)
    page.locator("#key-text").fill(wanted[0]["access_key_id"].lower())
    found.nth(1).wait_for(state="detached")
    assert wanted[0]["user"] in found.first.inner_text()


def test_text_from_outside_is_text(show: Callable[..., Any]) -> None:
    report = sample_reports.report(3, 6)
    for one in (*report["accounts"], *report["keys"], *report["exemptions"]):
        for name in sample_reports.FOREIGN:
            if name in one:
                one[name] = HOSTILE
    page = show(report | {"warnings": [HOSTILE]}, viewport={"width": 375, "height": 800})
    page.locator("button.open").last.click()
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("#found tbody tr").first.inner_text()
    assert page.evaluate(f"{ROOT}.scrollWidth <= {ROOT}.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(show: Callable[..., Any], scheme: str) -> None:
    page = show(sample_reports.report(5, 12), color_scheme=scheme)
    for details in page.locator("summary").all():
        details.click()
    page.locator("button.open").last.click()
    for width in (1280, 700, 375):
        page.set_viewport_size({"width": width, "height": 800})
        keep(page, f"report-{width}-{scheme}")
        assert page.evaluate(f"{ROOT}.scrollWidth <= {ROOT}.clientWidth"), width
        ratio, text = page.evaluate(CONTRAST)
        assert ratio >= 4.5, (width, text)
    for words in "Is every account covered?", "Are the keys in compliance?":
        assert page.get_by_text(words).bounding_box()["y"] < 800
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(245, 246, 248)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 375)])
def test_axe_core_finds_nothing(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    """With everything opened, and the list of keys."""
    axe = pytest.importorskip("axe_playwright_python")
    path = tmp_path / "report.html"
    path.write_text(render({**sample_reports.report(8, 12), "warnings": ["a"] * 7}), "utf-8")
    # The page's CSP lets no other script in.
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True
    )
    page = context.new_page()
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.locator("#account-table > tbody button").first.click()
    page.locator("#key-text").fill("a")
    page.locator("#found tbody tr").first.wait_for()
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run()")
    context.close()
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    assert len(found["passes"]) > 30


def test_it_can_be_read_without_its_style_sheet(browser: Any, tmp_path: Path) -> None:
    """As Jenkins shows it: its CSP lets neither the style sheet nor the script in."""
    html = re.sub(
        r"<(style|script)\b.*?</\1>", "", render(sample_reports.report(8, 12)), flags=re.S
    )
    path = tmp_path / "report.html"
    path.write_text(html, "utf-8")
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    page.goto(path.as_uri())
    keep(page, "bare")
    sizes = page.locator("svg").evaluate_all(
        "all => all.map(one => [one.getAttribute('class'), one.getBoundingClientRect().width,"
        " one.getBoundingClientRect().height])"
    )
    colours = page.locator("figure rect").evaluate_all(
        "all => [...new Set(all.map(one => getComputedStyle(one).fill))]"
    )
    height = page.evaluate("document.documentElement.scrollHeight")
    context.close()
    assert all(max(width, high) <= 16 for kind, width, high in sizes if kind == "icon")
    assert all(high <= 220 for _, _, high in sizes)
    assert len(colours) >= 4
    assert "rgb(0, 0, 0)" not in colours
    assert height < 7000


def test_a_small_report_is_printed_whole(show: Callable[..., Any]) -> None:
    report = sample_reports.report(4, 60)
    page = show(report, color_scheme="dark")
    assert page.locator("#found tbody tr").count() == 100
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert page.locator("#found tbody tr").count() == len(report["keys"])
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav, .tools, .skip").locator("visible=true").count()
    keep(page, "report-print")


def test_the_essentials_need_no_script(show: Callable[..., Any]) -> None:
    report = sample_reports.report(4, 12)
    page = show(report, java_script_enabled=False)
    assert "Not in compliance" in page.locator("h1").inner_text()
    assert "JavaScript is off" in page.locator("noscript").inner_text()
    assert page.locator("#account-table > tbody").count() == 4
    assert page.locator("section h2").locator("visible=true").count() >= 8
    assert not page.locator(".tools, button").locator("visible=true").count()
