"""The Usage Log in a real browser: an export is followed by the page that asked for it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from proxy.cdr.usage_log import USAGE_LOG_COLUMNS
from tests.browser.site import Site
from tests.cdr.samples import full_record


@pytest.mark.parametrize(("form", "name"), [("usage-log", "usage-log.csv"), ("xlsx", "usage-log.xlsx")])
def test_export_is_downloaded_and_its_page_tells_of_its_end(
    manager: Page, site: Site, tmp_path: Path, form: str, name: str
) -> None:
    with site.store as store:
        store.usage.insert_many([full_record("exported")])
    manager.goto("/usage?number=901144201234567")
    manager.get_by_role("button", name="Export").click()  # a link that looks like one
    manager.locator(f'input[value="{form}"]').check()
    with manager.expect_download(timeout=60_000) as download:
        manager.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == name
    download.value.save_as(tmp_path / name)
    expect(manager.locator("#progress .good")).to_contain_text("exported", timeout=60_000)
    if form == "usage-log":
        header, *rows = csv.reader((tmp_path / name).read_text(encoding="utf-8").splitlines())
        assert tuple(header) == USAGE_LOG_COLUMNS
        assert {row[8] for row in rows} == {"901144201234567"}
