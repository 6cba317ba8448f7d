"""Debian's Chromium, driven by Playwright, at a site that really runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.site import PASSWORD, PATIENCE, Site

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

NewPage = Callable[..., Page]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE * 1000)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def new_page(chromium: Browser, site: Site) -> Iterator[NewPage]:
    """Open a browser with nothing in it, or somebody logged in."""
    opened: list[BrowserContext] = []

    def make(name: str = "", **options: object) -> Page:
        given = {"base_url": site.url, "locale": "en-US", **options}
        context = chromium.new_context(**given)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE * 1000)
        opened.append(context)
        page = context.new_page()
        if name:
            log_in(page, name)
        return page

    yield make
    for context in opened:
        context.close()


@pytest.fixture
def manager(new_page: NewPage) -> Page:
    """A Decision Maker, logged in."""
    return new_page("decision_maker")


@pytest.fixture(params=["scripts", "no scripts"])
def person(new_page: NewPage, request: pytest.FixtureRequest) -> Page:
    """A Decision Maker, logged in, whose browser runs scripts or not."""
    return new_page("decision_maker", java_script_enabled=request.param == "scripts")


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.goto("/login")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url(re.compile("/(login/code|password)?$"))
