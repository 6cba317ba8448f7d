"""Somebody new: their account, their first log-in, a second factor, and the end."""

from __future__ import annotations

import time

import pyotp
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage, log_in
from tests.browser.site import PASSWORD

STEP = 30
"""Seconds (RFC 6238 §5.2)."""


def test_somebody_new_gets_an_account_and_a_second_factor(person: Page, new_page: NewPage) -> None:
    name = f"clerk {time.time_ns()}"
    person.goto("/accounts")
    person.get_by_role("button", name="Add").click()
    person.get_by_label("Name", exact=True).fill(name)
    person.get_by_label("Role").select_option("Billing Contact")
    person.get_by_role("button", name="Save").click()
    password = person.locator("#made").inner_text()

    clerk = new_page()
    log_in(clerk, name, password)
    expect(clerk.get_by_text("This password was for one log-in.")).to_be_visible()
    clerk.get_by_label("Password now").fill(password)
    clerk.get_by_label("New password", exact=True).fill(PASSWORD)
    clerk.get_by_label("New password again").fill(PASSWORD)
    clerk.get_by_role("button", name="Change password").click()
    expect(clerk.get_by_text("The password is changed.")).to_be_visible()
    clerk.goto("/password/second-factor")
    program = pyotp.TOTP(clerk.locator("#secret").inner_text().replace(" ", ""))
    clerk.get_by_label("Password now").fill(PASSWORD)
    clerk.get_by_label("One-time password").fill(program.at(time.time()))
    clerk.get_by_role("button", name="Switch on").click()
    expect(clerk.get_by_text("The second factor is on")).to_be_visible()
    clerk.get_by_role("button", name="Log out").click()

    log_in(clerk, name)
    expect(clerk.get_by_role("heading", name="Second step")).to_be_visible()
    clerk.get_by_label("One-time password").fill("000000")
    clerk.get_by_role("button", name="Log in", exact=True).click()
    expect(clerk.get_by_role("alert")).to_contain_text("wrong, or was used before")
    # The one that switched it on is used up; of the next step it is good already.
    clerk.get_by_label("One-time password").fill(program.at(time.time() + STEP))
    clerk.get_by_role("button", name="Log in", exact=True).click()
    expect(clerk.get_by_text("You are logged in as Billing Contact.")).to_be_visible()

    person.goto("/accounts")
    person.get_by_role("link", name=name).click()
    person.get_by_role("button", name="Delete").click()
    expect(person.get_by_role("heading", name=f"Delete the account {name}?")).to_be_visible()
    person.get_by_role("button", name="Yes").click()
    expect(person.get_by_text("The account is deleted.")).to_be_visible()
    clerk.goto("/usage")
    expect(clerk.get_by_role("heading", name="Log in")).to_be_visible()
