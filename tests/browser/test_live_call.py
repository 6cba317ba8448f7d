"""A real gated call, watched in the browser while it happens."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.site import CODE, NUMBER, Site, until


def test_call_is_watched_from_the_prompt_to_its_end(manager: Page, site: Site) -> None:
    manager.goto("/live")
    calls = manager.locator("#live-calls")
    expect(calls).to_contain_text("Nobody is on the phone.")
    call = site.dial()
    # Nothing is loaded anew: the portal tells it.
    expect(calls.locator("tbody tr")).to_have_count(1)
    row = calls.locator("tbody tr")
    expect(row).to_contain_text("204")
    expect(row).to_contain_text(NUMBER)
    expect(row).to_contain_text("asking for code")
    site.press(call, CODE + "#")
    expect(row).to_contain_text("talking")
    expect(row).to_contain_text("ACME, general")
    shown = row.locator(".timer").inner_text()
    expect(row.locator(".timer")).not_to_have_text(shown)
    site.hang_up(call)
    expect(calls).to_contain_text("Nobody is on the phone.")


def test_call_is_ended_by_hand_after_a_question(manager: Page, site: Site) -> None:
    call = site.dial()
    site.press(call, CODE + "#")
    manager.goto("/live")
    manager.get_by_role("button", name=f"Hang up the call of 204 to {NUMBER}").click()
    expect(manager.get_by_role("heading", name="End this call?")).to_be_visible()
    manager.get_by_role("button", name="No", exact=True).click()
    assert not site.ended(call)
    manager.get_by_role("button", name=f"Hang up the call of 204 to {NUMBER}").click()
    manager.get_by_role("button", name="Yes").click()
    expect(manager.get_by_text("The call was ended.")).to_be_visible()
    until(lambda: site.ended(call))
