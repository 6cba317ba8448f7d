"""Pages on paper and on a phone: all of them is there, and can be reached."""

from __future__ import annotations

import pytest
from playwright.sync_api import ViewportSize, expect

from tests.browser.conftest import NewPage

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
