"""Single sign-on as a person sees it: Chromium goes to a provider that others have written, and back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage
from tests.browser.site import PROVIDER, Site


def sign_on(page: Page, site: Site, who: str) -> None:
    """Press the button, and say at the provider who one is."""
    # Its page wants a style sheet of the internet, which no test waits for.
    page.route(lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.abort())
    page.get_by_role("button", name=f"Log in with {PROVIDER}").click()
    page.locator("input[name=sub]").fill(who)
    page.locator("input[name=sub]").press("Enter")


@pytest.mark.parametrize("scripts", [True, False])
def test_core_3_1_2_a_person_signs_on_at_the_provider_and_is_where_they_wanted_to_be(
    new_page: NewPage, site: Site, scripts: bool
) -> None:
    page = new_page(java_script_enabled=scripts)
    said: list[tuple[str, str]] = []
    page.on("console", lambda told: said.append((told.location["url"], told.text)))
    page.goto("/users?search=Front")
    sign_on(page, site, "phone_manager")
    expect(page).to_have_url(f"{site.url}/users?search=Front")
    expect(page.get_by_role("link", name="phone_manager")).to_be_visible()
    expect(page.get_by_role("cell", name="Front desk")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{site.url}/login")
    page.goto("/users")
    expect(page).to_have_url(f"{site.url}/login?next=%2Fusers")
    assert [one for one in said if one[0].startswith(site.url)] == [], "of a cookie, or of the policy"


def test_core_5_7_who_is_known_to_the_provider_alone_is_told_so(new_page: NewPage, site: Site) -> None:
    page = new_page()
    page.goto("/login")
    sign_on(page, site, "stranger")
    expect(page.get_by_role("alert")).to_be_visible()
    page.goto("/codes")
    expect(page).to_have_url(f"{site.url}/login?next=%2Fcodes")
