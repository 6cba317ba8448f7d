"""Pages on paper and on a phone: all of them is there, and can be reached."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.browser.conftest import NewPage
from tests.browser.site import CODE, Site
from tests.browser.test_accessible import NARROW, problems

LANDSCAPE = ViewportSize(width=1123, height=794)
"""A4 at 96 dpi."""


@pytest.mark.parametrize("address", ["/reports", "/reports/statement?code=ACME-12/7"])
def test_paper_has_its_whole_width(new_page: NewPage, address: str) -> None:
    page = new_page("decision_maker", viewport=LANDSCAPE)
    page.goto(address)
    page.emulate_media(media="print")
    expect(page.get_by_role("navigation", name="Main menu")).to_be_hidden()
    content = page.locator("main").bounding_box()
    assert content is not None
    assert (content["x"], content["width"]) == (0, LANDSCAPE["width"])
    heading = page.get_by_role("heading", level=1).bounding_box()
    assert heading is not None
    assert heading["height"] < 60, "it is not squeezed into a column"


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id"))


@pytest.mark.parametrize("width", [360, 900, 1280])
def test_details_of_a_code_are_seen_and_have_the_focus(new_page: NewPage, width: int) -> None:
    page = new_page("decision_maker", viewport={"width": width, "height": 740})
    page.goto("/codes")
    page.get_by_role("link", name=f"Details of {CODE}").focus()
    page.keyboard.press("Enter")
    panel = page.locator(".panel")
    expect(panel.get_by_role("heading", name=CODE)).to_be_in_viewport()
    assert focused(page) == "panel-title"
    save = panel.get_by_role("button", name="Save")
    expect(save).to_be_in_viewport(ratio=1)
    assert problems(page) == []
    found = panel.bounding_box()
    assert found is not None
    assert found["x"] >= 0
    assert found["x"] + found["width"] <= width
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "enabled", "the focus goes on within"
    panel.get_by_label("Maximum uses").fill("x")
    save.click()
    expect(panel.get_by_role("alert")).to_be_in_viewport()
    assert focused(page) == "panel-title"
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(page.locator("#list")).to_be_visible()


def test_line_of_a_code_is_saved_on_a_phone(new_page: NewPage, site: Site) -> None:
    page = new_page("decision_maker", viewport=NARROW)
    for address in ("/codes?add=true", "/codes?edit=1"):
        page.goto(address)
        line = page.locator("#list tr").filter(has=page.get_by_role("button", name="Save"))
        expect(line.get_by_role("button", name="Save")).to_be_in_viewport(ratio=1)
        expect(line.get_by_label("Description", exact=True)).to_be_in_viewport(ratio=1)
        assert problems(page) == []
    page.goto(f"/codes?search={CODE}")
    expect(page.get_by_role("link", name=f"Details of {CODE}")).to_be_in_viewport(ratio=1)
