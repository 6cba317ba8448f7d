"""Makes the pictures under docs/images: ``python -m tests.browser.screenshots`` (Chromium and pngquant
needed).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

from tests.browser.conftest import CHROMIUM, FLAGS, log_in
from tests.browser.pages import PAGES
from tests.browser.site import CODE, PATIENCE, Site, until

IMAGES = Path(__file__).parents[2] / "docs" / "images"
ON_A_PHONE = ("overview", "live-calls", "user-group", "usage-log")
WIDE, NARROW = ViewportSize(width=1280, height=860), ViewportSize(width=390, height=844)


def main(only: list[str]) -> None:
    """Take the pictures of these pages, or of all."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder)) as site, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE * 1000)
        talk(site)
        call = site.dial()
        site.press(call, CODE + "#")
        waiting = site.dial("4155550199")
        for scheme in ("light", "dark"):
            for name, size in (("", WIDE), ("phone", NARROW)):
                if name and scheme == "dark":
                    continue
                context = browser.new_context(
                    base_url=site.url, locale="en-US", color_scheme=scheme, viewport=size
                )
                context.set_default_timeout(PATIENCE * 1000)
                page = context.new_page()
                page.goto("/login")
                if not name and (not only or "log-in" in only):
                    shoot(page, "log-in", scheme, name)
                    log_in(page, site.add_careful_account())
                    shoot(page, "log-in-second-step", scheme, name)
                log_in(page, "decision_maker")
                for title, address in PAGES.items():
                    if (not only or title in only) and (not name or title in ON_A_PHONE):
                        page.goto(address)
                        if title == "user-group":
                            page.get_by_label("somebody dials").fill("4155550123")
                            page.locator("#decision .verdict").wait_for()
                        shoot(page, title, scheme, name)
                for title, prepare in STATES.items():
                    if (not only or title in only) and not name:
                        prepare(page)
                        shoot(page, title, scheme, name)
                context.close()
        site.hang_up(call)
        site.hang_up(waiting)
        browser.close()


def offer(page: Page, text: str) -> None:
    """Choose a file of codes to import."""
    page.goto("/codes/import")
    file = {"name": "codes.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.get_by_label("CSV file").set_input_files(file)  # type: ignore[arg-type]
    page.locator("dialog").get_by_role("button", name="Import", exact=True).click()
    page.locator("dialog tbody").wait_for()


STATES: dict[str, Callable[[Page], object]] = {
    "account-codes-import-dry-run": lambda page: offer(
        page, "Code,Description\n90-100,Smith v. Jones\n90-200,Harbour lease\n90-300,General advice\n"
    ),
    "account-codes-import-refused": lambda page: offer(
        page, "Code,Description\n90-100,Smith v. Jones\n911,Emergency\n90100,Doubled\n"
    ),
    "not-found": lambda page: page.goto("/nowhere"),
}
"""Pages that show what was just done."""


def talk(site: Site) -> None:
    """Let there be calls in the usage log, an emergency call among them."""
    for number, keys in (("4155550123", CODE + "#"), ("911", ""), ("4155550123", CODE + "#")):
        call = site.dial(number)
        if keys:
            site.press(call, keys)
        site.hang_up(call)
        until(call.ended.is_set)


def shoot(page: Page, title: str, scheme: str, kind: str) -> None:
    """Take one picture."""
    page.evaluate("document.fonts.ready")
    path = IMAGES / f"{'-'.join(filter(None, (title, kind, scheme)))}.png"
    page.screenshot(path=path)
    subprocess.run(["pngquant", "--force", "--strip", "--ext", ".png", "128", str(path)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
