"""What pages look like while somebody does something: axe-core finds nothing there either."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage, log_in
from tests.browser.screenshots import STATES
from tests.browser.site import CODE, EXTENSION, NUMBER, Site
from tests.browser.test_accessible import problems


def _delete_code(page: Page) -> None:
    page.goto(f"/codes?search={CODE}")
    page.get_by_label(f"Tick {CODE}").check()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Delete 1 code(s)?")).to_be_visible()


def _delete_at(address: str) -> Callable[[Page], None]:
    def prepare(page: Page) -> None:
        page.goto(address)
        page.get_by_role("button", name="Delete").last.click()
        expect(page.get_by_role("button", name="Yes")).to_be_visible()

    return prepare


def _hang_up(page: Page) -> None:
    page.goto("/live")
    page.get_by_role("button", name=f"Hang up the call of {EXTENSION} to {NUMBER}").click()
    expect(page.get_by_role("heading", name="End this call?")).to_be_visible()


def _wrong_code(page: Page) -> None:
    page.goto("/codes?add=true")
    page.get_by_label("Code", exact=True).fill("911")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert").first).to_be_visible()


_PREPARED: dict[str, Callable[[Page], object]] = {
    **STATES,
    "delete a code": _delete_code,
    "delete a user": _delete_at("/users/edit?extension=205"),
    "delete a group": _delete_at("/groups/edit?name=Lobby"),
    "delete an account": _delete_at("/accounts/edit?id=2"),
    "hang up": _hang_up,
    "a code that is refused": _wrong_code,
    "revoke a token": lambda page: page.goto("/tokens?revoke=1"),
    "statement that is asked for": lambda page: page.goto("/reports/statement"),
}


def _lasting(page: Page) -> list[str]:
    """What axe-core goes on finding: a dialog that is just coming in has colours on their way to others."""
    told = problems(page)
    for _ in range(20):
        if not told:
            break
        page.wait_for_timeout(500)
        told = problems(page)
    return told


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_while_somebody_does_something(new_page: NewPage, site: Site, scheme: str) -> None:
    page = new_page("decision_maker", color_scheme=scheme, reduced_motion="reduce")
    call = site.dial()
    found = {}
    for name, prepare in _PREPARED.items():
        prepare(page)
        if told := _lasting(page):
            found[name] = told
    site.hang_up(call)
    assert found == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_second_step(new_page: NewPage, site: Site, scheme: str) -> None:
    page = new_page(color_scheme=scheme)
    log_in(page, site.add_careful_account())
    expect(page.get_by_role("heading", name="Second step")).to_be_visible()
    assert _lasting(page) == []
    page.get_by_label("One-time password").fill("000000")
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert _lasting(page) == []


def test_two_editors_of_a_code_at_once(new_page: NewPage, site: Site) -> None:
    with site.store as store:
        found = store.codes.find("2200")
        assert found is not None
    first, second = new_page("decision_maker"), new_page("phone_manager")
    for page in (first, second):
        page.goto(f"/codes?search=2200&edit={found.id}")
    first.get_by_label("Description", exact=True).fill("By the first")
    first.get_by_role("button", name="Save").click()
    # The line in which it is typed is a cell of that name, too.
    expect(first.get_by_text("1 code changed.")).to_be_visible()
    expect(first.get_by_role("cell", name="By the first")).to_be_visible()
    second.get_by_label("Description", exact=True).fill("By the second")
    second.get_by_role("button", name="Save").click()
    expect(second.get_by_role("alert")).to_contain_text("By the first")
    expect(second.get_by_label("Description", exact=True)).to_have_value("By the second")
    second.get_by_role("button", name="Save").click()
    expect(second.get_by_text("1 code changed.")).to_be_visible()
    expect(second.get_by_role("cell", name="By the second")).to_be_visible()
