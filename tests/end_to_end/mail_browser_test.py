# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The HTML mail in a real browser: wide and on a phone, light and dark.

With KEYROT_SCREENSHOTS=FOLDER the pictures are kept there, to be looked at.
"""

from __future__ import annotations

import os
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from browsers import CONTRAST
from notices import (
    SITUATIONS,
    exemptions,
    group,
    message,
    other,
    record,
    render,
    twin,
    usage,
    user,
    users,
)

LONG = "a" * 64
EXPIRED = {"tag": "keyrot-exempt-until", "value": "2026-01-01", "state": "expired"}

CASES = {situation: ["one", "long", "hard", "many"] for situation in SITUATIONS}
CASES["disabling"].append("both")
CASES["unclear"] = ["one", "long", "many"]
CASES["exemptions"] = ["one", "long", "many"]


def mails(situation: str) -> dict[str, list[dict[str, Any]]]:
    if situation == "exemptions":
        return {
            "one": exemptions(),
            "long": exemptions(3, keyrot_exempt_reason=LONG * 4, OwnerContact=f"{LONG}@{LONG}.com"),
            "many": exemptions(200),
        }
    if situation == "unclear":
        return {
            "one": [twin("lena", tags={"AKIATWINA": "old laptop"})],
            "long": [twin(LONG, tags={"AKIATWINA": LONG * 4}, exemption=EXPIRED)],
            "many": [
                twin(f"svc-{n}", identified=("ambiguous", "unmatched")[n % 2]) for n in range(200)
            ],
        }
    server = group(action="iam:GetUser", source="10.9.8.7", count=3)
    used = usage(events=230, groups=[group(), server], other_groups=1, other_events=15)
    known = record(situation, description="build server", other_key=other(description="laptop"))
    known |= {"usage": used}
    endless = group(action=LONG, source=LONG, agent=LONG)
    long = {"description": LONG * 4, "other_key": other(description=LONG * 4)}
    long["usage"] = usage(groups=[endless, {**endless, "source": "x"}], unknown={"a": LONG * 2})
    return {
        "one": [user("jane.doe", known, path="/team/")],
        "long": [user(LONG, record(situation, exemption=EXPIRED, **long), path=f"/{'p' * 200}/")],
        "hard": [
            user(f"{LONG}{n}", record(situation, exemption=EXPIRED, **long)) for n in range(6)
        ],
        "many": users(situation, 200),
        "both": [
            user("jane.doe", record(situation, slot=1, access_key_id="AKIA1"), record(situation))
        ],
    }


def open_mail(browser: Any, body: str, width: int) -> Any:
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
    page = context.new_page()
    page.requests = seen = []
    page.on("request", lambda request: seen.append(request))
    page.set_content(body)
    return page


def keep(page: Any, name: str) -> None:
    folder = os.environ.get("KEYROT_SCREENSHOTS")
    if folder:
        height = min(page.evaluate("document.documentElement.scrollHeight"), 2400)
        clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": height}
        page.screenshot(path=Path(folder) / f"{name}.png", clip=clip, full_page=True)


@pytest.mark.parametrize(
    ("situation", "case"), [(situation, case) for situation in CASES for case in CASES[situation]]
)
def test_mails_fit_and_can_be_read(browser: Any, situation: str, case: str) -> None:
    page = open_mail(browser, render(message(situation, mails(situation)[case])), 375)
    root = "document.documentElement"
    for width in (375, 700, 1000):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), width
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            keep(page, f"{situation}-{case}-{width}-{scheme}")
            ratio, text = page.evaluate(CONTRAST)
            assert ratio >= 4.5, (scheme, text)
            sheet = page.evaluate(
                "getComputedStyle(document.querySelector('.sheet')).backgroundColor"
            )
            assert (sheet == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.requests == []
    assert page.locator("img, svg, picture").count() == 0
    page.context.close()


def test_without_its_styles_a_mail_is_still_in_order(browser: Any) -> None:
    """Some mail programs drop a mail's styles."""
    whole = render(message("expiring", mails("expiring")["one"]))
    body = re.sub("<style>.*</style>", "", whole, flags=re.DOTALL)
    page = open_mail(browser, body, 375)
    text = page.inner_text("body")
    order = ["will be disabled on", "If something still uses it", "Deadline", "What to do", "Undo"]
    order.append("Exemption")
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    page.context.close()


@pytest.mark.parametrize("width", [375, 1000])
def test_what_is_copied_is_the_command(browser: Any, width: int) -> None:
    body = render(message("expiring", [user("it's  me", record("expiring"))]))
    page = open_mail(browser, body, width)
    written = [
        unescape(re.sub("<[^>]+>", "", code)) for code in re.findall("<pre>(.*?)</pre>", body)
    ]
    selected = [
        page.evaluate(
            "e => { getSelection().selectAllChildren(e); return getSelection().toString(); }", pre
        )
        for pre in page.query_selector_all("pre")
    ]
    assert selected == written
    assert len(written) == 5
    page.context.close()


def test_the_answer_is_on_the_first_screen_of_a_phone(browser: Any) -> None:
    """What, by when, and what to do: without a scroll."""
    page = open_mail(browser, render(message("expiring", mails("expiring")["one"])), 375)
    for words in [
        "will be disabled on 30 July 2026",
        "in 11 days",
        "If something still uses it",
        "Create a new key and move everything to it by then",
        "If nothing does",
        "AKIAIOSFODNN7EXAMPLE",
    ]:
        assert page.get_by_text(words).first.bounding_box()["y"] < 800
    page.context.close()
