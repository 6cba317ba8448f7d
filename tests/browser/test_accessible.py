"""Every page, light and dark, wide and narrow: axe-core finds nothing, and nothing is cut off."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page

from tests.browser.conftest import NewPage
from tests.browser.pages import PAGES

NARROW = {"width": 360, "height": 740}


def problems(page: Page) -> list[str]:
    """Return what axe-core finds: rule, element and why."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:120]} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(new_page: NewPage, scheme: str) -> None:
    page = new_page("decision_maker", color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    found = {}
    for name, address in PAGES.items():
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, name
        if told := problems(page):
            found[name] = told
    assert found == {}
    assert said == [], "the browser complains: of the policy, of a missing file, of a script"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_log_in(new_page: NewPage, scheme: str) -> None:
    page = new_page(color_scheme=scheme)
    page.goto("/login")
    assert problems(page) == []


def test_no_page_is_wider_than_a_phone(new_page: NewPage) -> None:
    page = new_page("decision_maker", viewport=NARROW)
    wider = {}
    for name, address in PAGES.items():
        page.goto(address)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > NARROW["width"]:
            wider[name] = width
    assert wider == {}


def test_menu_and_form_are_reached_by_keyboard_alone(new_page: NewPage) -> None:
    page = new_page("decision_maker")
    page.goto("/users")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("/users/edit")
    page.keyboard.type("301")
    page.keyboard.press("Tab")
    page.keyboard.type("By keyboard")
    page.keyboard.press("Enter")
    page.get_by_text("It is shown this once.").wait_for()
