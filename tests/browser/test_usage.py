"""The Usage Log in a real browser: an export is followed by the page that asked for it."""

from __future__ import annotations

import csv
import re
import time
import zipfile
from dataclasses import replace
from datetime import datetime
from html import unescape
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from proxy.cdr.record import UsedCode
from proxy.cdr.usage_log import USAGE_LOG_COLUMNS, usage_log_lines
from proxy.store import UsageFilter
from tests.browser.site import PATIENCE, Site
from tests.cdr.samples import full_record


@pytest.mark.parametrize(("form", "name"), [("usage-log", "usage-log.csv"), ("xlsx", "usage-log.xlsx")])
def test_export_is_downloaded_and_its_page_tells_of_its_end(
    manager: Page, site: Site, tmp_path: Path, form: str, name: str
) -> None:
    with site.store as store:
        store.usage.insert_many([full_record("exported"), full_record("exported too")])
        expected = list(csv.reader(usage_log_lines(store.usage.facts(EXPORTED), zone=store.usage.zone)))
    manager.goto(f"/usage?number={EXPORTED.number}")
    manager.get_by_role("button", name="Export").click()  # a link that looks like one
    manager.locator(f'input[value="{form}"]').check()
    with manager.expect_download(timeout=PATIENCE * 1000) as download:
        manager.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == name
    download.value.save_as(tmp_path / name)
    expect(manager.locator("#progress .good")).to_contain_text("exported", timeout=PATIENCE * 1000)
    found = cells_of(tmp_path / name)
    assert tuple(found[0]) == USAGE_LOG_COLUMNS
    assert len(found) == 3
    assert [texts_of(row) for row in found] == [texts_of(row) for row in expected]


EXPORTED = UsageFilter(number="901144201234567")
NUMBERS = (1, 2, 13)
"""In a workbook days and times are numbers."""


def texts_of(row: list[str]) -> list[str]:
    """The other cells. Only a CSV file has apostrophes before what a spreadsheet would take for a formula."""
    return [cell.removeprefix("'") for place, cell in enumerate(row) if place not in NUMBERS]


def cells_of(file: Path) -> list[list[str]]:
    """The rows of a CSV file or of a workbook's first sheet."""
    if file.suffix == ".csv":
        return list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
    with zipfile.ZipFile(file) as parts:
        sheet = parts.read("xl/worksheets/sheet1.xml").decode()
    rows = []
    for row in re.findall(r"<row.*?</row>", sheet):
        cells = dict(re.findall(r'<c r="([A-P])\d+"[^>]*>(.*?)</c>', row))
        rows.append([unescape(re.sub("<[^>]*>", "", cells.get(place, ""))) for place in "ABCDEFGHIJKLMNOP"])
    return rows


def test_report_leads_to_the_statement_of_a_code_and_its_invoice(
    person: Page, site: Site, tmp_path: Path
) -> None:
    now = time.time()
    with site.store as store:
        code = UsedCode("ACME-12/7", "2263127", "2263127")
        call = replace(full_record("told of"), start_time=now, code=code, dialled_number="4155550177")
        store.usage.insert_many([call])
        today = datetime.fromtimestamp(now, store.usage.zone)
        total = store.reports.statement("ACME-12/7", today.year, today.month).total
    person.goto("/reports?by=code")
    row = person.get_by_role("row").filter(has_text="ACME, appeal")
    row.get_by_role("link").first.click()
    expect(person.get_by_role("heading", name="Statement of an account code")).to_be_visible()
    expect(person.get_by_text("ACME-12/7 ACME, appeal")).to_be_visible()
    expect(person.locator("tbody tr")).to_have_count(total.calls)
    with person.expect_download(timeout=PATIENCE * 1000) as download:
        person.get_by_role("button", name="Export as CSV").click()
    header, *calls = csv.reader(Path(download.value.path()).read_text(encoding="utf-8").splitlines())
    assert tuple(header) == USAGE_LOG_COLUMNS
    assert "4155550177" in {row[8] for row in calls}
    assert {row[15] for row in calls} == {"ACME-12/7"}
    person.get_by_text("Invoice for legal billing (LEDES 1998B)").click()
    for label, text in (
        ("Invoice number", "2026-1"),
        ("Client ID", "ACME"),
        ("Law firm ID (tax number)", "12-3456789"),
        ("Rate per minute", "0.10"),
    ):
        person.get_by_label(label, exact=True).fill(text)
    with person.expect_download(timeout=PATIENCE * 1000) as download:
        person.get_by_role("button", name="Export", exact=True).click()
    lines = Path(download.value.path()).read_text(encoding="ascii").splitlines()
    assert lines[0] == "LEDES1998B[]"
    assert len(lines) == 2 + total.answered
    assert all(line.endswith("[]") for line in lines)


def test_log_is_filtered_sorted_and_paged_with_and_without_scripts(person: Page, site: Site) -> None:
    numbers = [f"415777{number:04d}" for number in range(130)]
    with site.store as store:
        store.usage.insert_many(
            [replace(full_record(f"to {number}"), dialled_number=number, code=None) for number in numbers]
        )
    person.goto("/usage")
    person.get_by_label("Number", exact=True).fill("415 777")
    person.get_by_role("button", name="Show", exact=True).click()
    expect(person.get_by_text("130 call(s)")).to_be_visible()
    person.get_by_role("link", name="Dialed Number").click()
    cells = person.locator('#list td[data-label="Dialed Number"]')
    expect(cells).to_have_count(100)
    found = cells.all_inner_texts()
    person.get_by_role("link", name="Next").click()
    expect(cells).to_have_count(30)
    found += cells.all_inner_texts()
    assert found in (numbers, numbers[::-1])
