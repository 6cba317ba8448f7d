"""What a person does in a day, with scripts and without."""

from __future__ import annotations

import csv
import io
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage
from tests.browser.site import CODE, NUMBER, PASSWORD, PATIENCE, Site, until

pytestmark = pytest.mark.usefixtures("site")


def file_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "codes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def send_file(page: Page, path: Path) -> None:
    page.goto("/codes/import")
    page.get_by_label("CSV file").set_input_files(path)
    page.locator("dialog").get_by_role("button", name="Import", exact=True).click()


def test_wrong_password_is_refused_and_the_right_one_leads_in(new_page: NewPage) -> None:
    page = new_page()
    page.goto("/codes")
    page.get_by_label("Name", exact=True).fill("decision_maker")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Name or password is wrong.")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("/codes")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("/login")


def test_code_is_added_changed_and_deleted_with_yes(person: Page, site: Site) -> None:
    code = f"90-{time.time_ns() % 10**9}"
    person.goto("/codes")
    person.get_by_role("button", name="Add").click()
    person.get_by_label("Code", exact=True).fill(code)
    person.get_by_label("Description", exact=True).fill("A <new> matter")
    person.get_by_role("button", name="Save").click()
    expect(person.get_by_text("1 code added.")).to_be_visible()
    person.goto(f"/codes?search={code}")
    expect(person.get_by_role("cell", name="A <new> matter")).to_be_visible()
    person.get_by_role("link", name=code, exact=True).click()
    person.get_by_label("Description", exact=True).fill("Another matter")
    person.get_by_role("button", name="Save").click()
    # The line in which it is typed is a cell of that name, too.
    expect(person.get_by_text("1 code changed.")).to_be_visible()
    expect(person.get_by_role("cell", name="Another matter")).to_be_visible()
    for answer, left in (("No", 1), ("Yes", 0)):
        person.goto(f"/codes?search={code}")
        person.get_by_label(f"Tick {code}").check()
        person.get_by_role("button", name="Delete").click()
        expect(person.get_by_role("heading", name="Delete 1 code(s)?")).to_be_visible()
        person.get_by_role("button", name=answer).click()
        person.wait_for_url(re.compile(r"/codes\?"))
        with site.store as store:
            assert store.codes.count(code) == left


def test_good_and_bad_files_are_imported_or_refused_line_by_line(
    person: Page, site: Site, tmp_path: Path
) -> None:
    bad = file_of(tmp_path, "Code,Description\n555001,Good\n911,Emergency\n555001,Doubled\n")
    send_file(person, bad)
    expect(person.get_by_role("alert")).to_contain_text("can't be imported as it is")
    with site.store as store:
        assert store.codes.count("55500") == 0
    good = file_of(tmp_path, "Code;Description\n555001;First\n555002;Zweite, größere\n")
    send_file(person, good)
    expect(person.get_by_text("2 to be added")).to_be_visible()
    person.locator("dialog").get_by_role("button", name="Import", exact=True).click()
    expect(person.get_by_text("Imported: 2 added")).to_be_visible()
    person.get_by_role("button", name="Close").click()
    with site.store as store:
        assert store.codes.count("55500") == 2
        ids = [found.id for found in store.codes.versioned_page("55500", offset=0, limit=9)]
        store.codes.delete_ids(ids)


def test_file_of_a_million_lines_is_refused_where_it_was_chosen(
    manager: Page, site: Site, tmp_path: Path
) -> None:
    send_file(manager, file_of(tmp_path, "Code,Description\n" + "7777777,x\n" * 1_000_000))
    refusal = manager.locator("dialog").get_by_role("alert")
    expect(refusal).to_contain_text("codes.csv: the file has 1000001 lines: at most 200000 at once")
    expect(manager.get_by_label("CSV file")).to_be_visible()
    with site.store as store:
        assert store.codes.count("7777777") == 0


def test_100000_codes_are_imported_and_the_export_is_the_same(
    manager: Page, site: Site, tmp_path: Path
) -> None:
    rows = [(f"7{number:07d}", f"Matter {number}") for number in range(100_000)]
    text = "Code,Description\n" + "".join(f"{code},{description}\n" for code, description in rows)
    send_file(manager, file_of(tmp_path, text))
    expect(manager.get_by_text("100000 to be added")).to_be_visible(timeout=PATIENCE * 1000)
    manager.locator("dialog").get_by_role("button", name="Import", exact=True).click()
    expect(manager.get_by_text("Imported: 100000 added")).to_be_visible(timeout=PATIENCE * 1000)
    manager.get_by_role("button", name="Close").click()
    with manager.expect_download(timeout=PATIENCE * 1000) as download:
        manager.get_by_role("button", name="Export").click()
    exported = Path(download.value.path()).read_text(encoding="utf-8-sig")
    found = {(row[0], row[1]) for row in csv.reader(io.StringIO(exported))}
    assert set(rows) <= found
    manager.goto("/codes?search=70099999")
    expect(manager.get_by_role("cell", name="Matter 99999")).to_be_visible()
    with site.store as store:
        store.codes.delete_ids(
            [code.id for code in store.codes.versioned_page("Matter ", offset=0, limit=100_000)]
        )


def test_group_is_edited_and_what_happens_is_told_first(person: Page, site: Site) -> None:
    person.goto("/groups")
    person.get_by_role("link", name="Lobby").click()
    dialled = person.get_by_label("... somebody dials")
    dialled.fill(NUMBER)
    person.get_by_role("button", name="Tell me", exact=True).click()
    verdict = person.locator("#decision .verdict")
    expect(verdict).to_contain_text("Block")
    person.get_by_role("button", name="Code for every outside call").click()
    dialled.fill(NUMBER)
    person.get_by_role("button", name="Tell me", exact=True).click()
    expect(verdict).to_contain_text("Code required")
    with site.store as store:
        group = store.groups.get("Lobby")
        assert group is not None
        assert group.collection.value == "off", "nothing is saved yet"
    person.get_by_label("Tries", exact=True).fill("5")
    person.get_by_role("button", name="Save").click()
    expect(person.get_by_text("The group was changed.")).to_be_visible()
    with site.store as store:
        group = store.groups.get("Lobby")
        assert group is not None
        assert (group.collection.value, group.tries) == ("required", 5)
    person.get_by_role("button", name="Inside only").click()
    person.get_by_label("Tries", exact=True).fill("3")
    person.get_by_role("button", name="Save").click()
    expect(person.get_by_text("The group was changed.")).to_be_visible()


def test_two_editors_of_a_user_at_once(new_page: NewPage) -> None:
    first, second = new_page("decision_maker"), new_page("phone_manager")
    for page in (first, second):
        page.goto("/users/edit?extension=205")
    first.get_by_label("Name", exact=True).fill("By the first")
    first.get_by_role("button", name="Save").click()
    expect(first.get_by_text("The user was changed.")).to_be_visible()
    second.get_by_label("Name", exact=True).fill("By the second")
    second.get_by_role("button", name="Save").click()
    expect(second.get_by_role("alert")).to_contain_text("By the first")
    expect(second.get_by_label("Name", exact=True)).to_have_value("By the second")


def test_roles_see_what_is_theirs(new_page: NewPage) -> None:
    user = new_page("user")
    expect(user.get_by_role("link", name="Account Codes")).to_have_count(0)
    assert user.goto("/codes").status == 403  # type: ignore[union-attr]
    billing = new_page("billing_contact")
    expect(billing.get_by_role("link", name="Live Calls")).to_have_count(0)
    assert billing.goto("/users").status == 403  # type: ignore[union-attr]


def test_real_call_comes_to_the_usage_log_is_corrected_and_audited(manager: Page, site: Site) -> None:
    with site.store as store:
        before = store.usage.count()
    call = site.dial()
    site.press(call, CODE + "#")
    manager.goto("/live")
    expect(manager.locator("#live-calls tbody tr")).to_contain_text("talking")
    site.hang_up(call)
    until(lambda: site.ended(call))

    with site.store as store:
        until(lambda: store.usage.count() > before)
    manager.goto("/usage")
    newest = manager.locator("#list tbody tr").first
    expect(newest).to_contain_text(NUMBER)
    expect(newest).to_contain_text(CODE)
    newest.get_by_role("link").click()
    line = manager.locator(".time-line li")
    expect(line.first).to_contain_text("The call came in.")
    expect(line.filter(has_text=f"Account code {CODE} was accepted (wrong tries: 0).")).to_have_count(1)
    expect(line.last).to_contain_text("The call was ended by the caller: Answered")
    expect(manager.get_by_text("a code is required")).to_be_visible()
    manager.get_by_label("Account code", exact=True).fill("2200")
    reason = f"Wrong client {time.time_ns()}"
    manager.get_by_label("Reason of the correction").fill(reason)
    manager.get_by_role("button", name="Save").click()
    expect(manager.get_by_text("The account code is corrected.")).to_be_visible()
    expect(manager.get_by_role("cell", name=reason)).to_be_visible()
    manager.goto("/audit")
    entry = manager.locator("#list tbody tr").first
    expect(entry).to_contain_text("decision_maker")
    expect(entry).to_contain_text(reason)
