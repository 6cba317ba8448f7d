"""What somebody has typed stays when the session ends meanwhile, and is sent once he has logged in again."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage, log_in
from tests.browser.site import NUMBER, PASSWORD, Site
from tests.browser.test_accessible import problems
from tests.browser.test_live_lost import NO_ANSWER, ask_anew

LOGGED_OUT = "You are logged out. Log in in another tab and go on here: what you have typed stays."


def log_out_elsewhere(page: Page) -> Page:
    """End the session in another tab."""
    tab = page.context.new_page()
    tab.goto("/password")
    tab.get_by_role("button", name="Log out").click()
    tab.wait_for_url("/login")
    page.bring_to_front()
    return tab


def test_form_is_kept_and_sent_after_a_log_in_in_another_tab(manager: Page, site: Site) -> None:
    code = f"91-{time.time_ns() % 10**9}"
    manager.goto("/codes?add=true")
    manager.get_by_label("Code", exact=True).fill(code)
    manager.get_by_label("Description", exact=True).fill("Typed for minutes")
    log_out_elsewhere(manager).close()
    save = manager.get_by_role("button", name="Save")
    for _ in range(2):
        save.click()
        expect(manager.get_by_text(LOGGED_OUT)).to_be_in_viewport()
        expect(manager.get_by_label("Code", exact=True)).to_have_value(code)
    assert problems(manager) == []
    with manager.expect_popup() as popup:
        manager.get_by_role("main").get_by_role("link", name="Log in").click()
    tab = popup.value
    log_in(tab, "phone_manager")
    manager.bring_to_front()
    save.click()
    expect(manager.get_by_text(LOGGED_OUT)).to_be_visible()
    with site.store as store:
        assert store.codes.count(code) == 0, "somebody else's log-in sends nothing"
    tab.get_by_role("button", name="Log out").click()
    tab.wait_for_url("/login")
    log_in(tab, "decision_maker")
    manager.bring_to_front()
    save.click()
    expect(manager.get_by_text("1 code added.")).to_be_visible()
    with site.store as store:
        assert store.codes.count(code) == 1
        store.codes.delete_ids([one.id for one in store.codes.versioned_page(code, offset=0, limit=9)])


def test_part_that_is_asked_for_without_a_session_says_so_in_place(manager: Page) -> None:
    manager.goto("/groups/edit?name=Sales")
    manager.get_by_label("Tries", exact=True).fill("7")
    tab = log_out_elsewhere(manager)
    dialled = manager.get_by_label("... somebody dials")
    dialled.press_sequentially(NUMBER)
    expect(manager.get_by_text(LOGGED_OUT)).to_be_in_viewport()
    expect(manager.get_by_label("Tries", exact=True)).to_have_value("7")
    log_in(tab, "decision_maker")
    manager.bring_to_front()
    # What is asked with the token of the old session is refused once, and not again.
    dialled.press_sequentially("1")
    expect(manager.get_by_text(LOGGED_OUT)).to_have_count(0)
    dialled.fill(NUMBER)
    expect(manager.locator("#decision .verdict")).to_be_visible()
    expect(manager.get_by_label("Tries", exact=True)).to_have_value("7")


def test_form_sent_without_scripts_and_session_is_come_back_to(new_page: NewPage) -> None:
    page = new_page("decision_maker", java_script_enabled=False)
    page.goto("/users/edit?extension=204")
    log_out_elsewhere(page)
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("/login?**")
    page.get_by_label("Name", exact=True).fill("decision_maker")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url(re.compile(r"/users/edit\?extension=204$"))


def test_save_that_is_pressed_twice_is_sent_once(manager: Page, site: Site) -> None:
    code = f"92-{time.time_ns() % 10**9}"
    manager.goto("/codes?add=true")
    manager.get_by_label("Code", exact=True).fill(code)
    manager.get_by_role("button", name="Save").dblclick()
    expect(manager.get_by_text("1 code added.")).to_be_visible()
    with site.store as store:
        store.codes.delete_ids([one.id for one in store.codes.versioned_page(code, offset=0, limit=9)])


BROKEN = "fetch = async () => new Response(new ReadableStream({ start: (body) => body.error('broken off') }))"
SILENT = """
    const timeout = AbortSignal.timeout.bind(AbortSignal);
    AbortSignal.timeout = (patience) => timeout(patience / 100);
    fetch = (_, { signal }) => new Promise((_, fail) => { signal?.addEventListener("abort", fail); });
"""


@pytest.mark.parametrize("fault", [BROKEN, SILENT], ids=["broken off", "silent"])
def test_form_is_sent_later_when_the_answer_before_it_never_comes(
    manager: Page, site: Site, fault: str
) -> None:
    code = f"93-{time.time_ns() % 10**9}"
    manager.goto("/codes?add=true")
    manager.get_by_label("Code", exact=True).fill(code)
    save = manager.get_by_role("button", name="Save")
    manager.evaluate(f"() => {{ window.good = fetch; {fault} }}")
    save.click()
    expect(manager.get_by_text(NO_ANSWER)).to_be_visible()
    expect(manager.get_by_label("Code", exact=True)).to_have_value(code)
    manager.evaluate("fetch = good")
    save.click()
    expect(manager.get_by_text("1 code added.")).to_be_visible()
    with site.store as store:
        store.codes.delete_ids([one.id for one in store.codes.versioned_page(code, offset=0, limit=9)])


def test_progress_of_an_export_is_told_on_after_a_log_in(manager: Page) -> None:
    manager.goto("/usage/export?number=415")
    ticket = manager.locator("[name=ticket]").input_value()
    progress = manager.locator("#progress")
    manager.evaluate("htmx.trigger('#progress', 'follow')")
    expect(progress).to_contain_text("about to begin")
    tab = log_out_elsewhere(manager)
    expect(manager.get_by_text(LOGGED_OUT)).to_be_in_viewport()
    log_in(tab, "decision_maker")
    assert tab.request.get(f"/usage/export/file?number=415&ticket={ticket}").ok
    manager.bring_to_front()
    ask_anew(manager)
    expect(manager.get_by_text(LOGGED_OUT)).to_have_count(0)
    expect(progress.locator(".good")).to_contain_text("exported")
