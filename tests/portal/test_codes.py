"""Phone System > Account Codes as a person uses it, without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import text

from proxy.policy import (
    AccountCode,
    CallClass,
    ClassOfService,
    CodeOwner,
    NumberPlan,
    OwnerKind,
    UserGroup,
    new_code,
)
from proxy.policy.code_file import decode_csv, read_code_file
from proxy.store import AuditFilter, PortalAccount, Role, Store
from tests.portal.conftest import Clock
from tests.portal.person import Person, notice, rows

PLAN = NumberPlan()
New = Callable[..., Person]
Account = Callable[..., PortalAccount]


def put(store: Store, *typed: str, **more: object) -> list[int]:
    for one in typed:
        made = new_code(one, f"about {one}", plan=PLAN)
        store.codes.add(replace(made, **more))  # type: ignore[arg-type]
    return [code.id for code in store.codes.versioned_page(limit=1000)]


async def test_a_line_is_added_and_the_code_typed_there(manager: Person, store: Store) -> None:
    page = await manager.get("/codes?add=true")
    assert 'name="code"' in page.text
    assert 'name="description"' in page.text
    answer = await manager.post("/codes", {"code": " ACME-12/7 ", "description": "Acme, lease 7"})
    assert answer.status_code == 303
    answer = await manager.get(answer.headers["location"])
    assert notice(answer).endswith("1 code added.")
    assert rows(answer)[0][1:5] == ["ACME-12/7", "2263127", "Acme, lease 7", "Enabled"]
    [entry] = store.audit.page(AuditFilter(kind="code"))
    assert (entry.who, entry.role, entry.source) == ("phone_manager", "phone_manager", "192.0.2.7")


async def test_the_list_says_of_each_code_whether_anybody_can_use_it(
    manager: Person, store: Store, clock: Clock
) -> None:
    today = datetime.fromtimestamp(clock.now, store.usage.zone).date()
    day = timedelta(days=1)
    put(store, "1000", valid_from=today, valid_until=today, max_uses=3)
    put(store, "1001", enabled=False, valid_until=today - day)
    put(store, "1002", valid_from=today + day)
    put(store, "1003", valid_until=today - day)
    put(store, "1004", max_uses=2)
    with store.database.write() as connection:
        connection.execute(text("UPDATE account_codes SET uses = 2 WHERE max_uses IS NOT NULL"))
    lines = rows(await manager.get("/codes"))
    assert [line[4] for line in lines] == ["Enabled", "Disabled", "Not yet valid", "Expired", "Used up"]


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("", "code is empty"),
        ("47#11", "# ends it"),
        ("1" * 21, "dials 21 digits"),
        ("911", "emergency number"),
        ("Ünï", "only digits"),
        ("4711\0", "only digits"),
    ],
)
async def test_bad_code_stays_in_its_line_with_the_reason(
    manager: Person, store: Store, code: str, complaint: str
) -> None:
    answer = await manager.post("/codes", {"code": code, "description": 'the "one"'})
    assert answer.status_code == 422
    assert complaint in notice(answer)
    assert 'value="the &#34;one&#34;"' in answer.text
    assert store.codes.count() == 0


async def test_two_codes_that_dial_the_same_are_refused_with_both_named(
    manager: Person, store: Store
) -> None:
    put(store, "ACME")
    answer = await manager.post("/codes", {"code": "2263"})
    assert answer.status_code == 422
    assert "codes 2263 and ACME both dial 2263" in notice(answer)


async def test_description_is_shown_as_text(manager: Person, store: Store) -> None:
    await manager.post("/codes", {"code": "1", "description": "<script>alert(1)</script>"})
    text = (await manager.get("/codes")).text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text


async def test_edit_in_place(manager: Person, store: Store) -> None:
    [key] = put(store, "4711", max_uses=5)
    page = await manager.get(f"/codes?edit={key}&search=47")
    assert 'value="about 4711"' in page.text
    version = await manager.versioned(f"edit={key}")
    fields = {"code": "47-12", "description": "new", "version": version}
    answer = await manager.post(f"/codes/{key}?search=47", {**fields})
    assert answer.headers["location"] == "/codes?search=47&said=changed&n=1"
    found = store.codes.by_id(key)
    assert found
    assert (found.value.form, found.value.description, found.value.max_uses) == ("47-12", "new", 5)


async def test_the_second_of_two_editors_sees_the_firsts_change(
    manager: Person, person: New, account: Account, store: Store
) -> None:
    [key] = put(store, "4711")
    account(Role.DECISION_MAKER)
    other = person()
    await other.log_in("decision_maker")
    version = await manager.versioned(f"edit={key}")
    fields = {"code": "4711", "description": "first", "version": version}
    assert (await other.post(f"/codes/{key}", {**fields})).status_code == 303
    answer = await manager.post(f"/codes/{key}", {**fields, "description": "second"})
    assert answer.status_code == 409
    assert "Somebody else has changed this code meanwhile. It is now 4711, first." in notice(answer)
    assert 'value="second"' in answer.text
    found = store.codes.by_id(key)
    assert found
    assert found.value.description == "first"
    version = re.findall(r'name="version" value="(\d+)"', answer.text)[0]
    assert (await manager.post(f"/codes/{key}", {**fields, "version": version})).status_code == 303
    facts: dict[str, str | list[str]] = {
        "owner": "account",
        "max_uses": "7",
        "narrowed": "yes",
        "classes": ["local", "mobile"],
    }
    answer = await manager.post(f"/codes/{key}/facts", {**facts, "version": "1"})
    assert answer.status_code == 409
    told = "Enabled: Yes; Maximum uses: -; Only these classes of calls: No; What it can unlock: -."
    assert f"It now has: {told}" in notice(answer)
    assert 'name="max_uses" inputmode="numeric" value="7"' in answer.text, "what was typed is still there"
    assert 'name="classes" value="mobile" checked' in answer.text
    [version] = re.findall(r'name="version" value="(\d+)"', answer.text)
    answer = await manager.post(f"/codes/{key}/facts", {**facts, "version": version})
    assert answer.status_code == 303


async def test_side_panel_changes_everything_else(manager: Person, store: Store) -> None:
    store.groups.add(UserGroup("sales"))
    [key] = put(store, "ACME-1")
    version = await manager.versioned(f"panel={key}")
    answer = await manager.post(
        f"/codes/{key}/facts",
        {
            "owner": "group",
            "owner_name": "sales",
            "valid_from": "2026-01-01",
            "valid_until": "2026-12-31",
            "narrowed": "yes",
            "classes": ["national", "mobile"],
            "max_uses": "10",
            "version": version,
        },
    )
    assert answer.status_code == 303
    found = store.codes.by_id(key)
    assert found
    assert found.value == AccountCode(
        "22631",
        "ACME-1",
        "about ACME-1",
        enabled=False,
        valid_from=date(2026, 1, 1),
        valid_until=date(2026, 12, 31),
        owner=CodeOwner(OwnerKind.GROUP, "sales"),
        class_of_service=ClassOfService(frozenset({CallClass.NATIONAL, CallClass.MOBILE})),
        max_uses=10,
    )
    text = (await manager.get(f"/codes?panel={key}")).text
    assert 'value="2026-12-31"' in text
    assert re.search(r'value="mobile" checked', text)
    version = await manager.versioned(f"panel={key}")
    await manager.post(f"/codes/{key}/facts", {"owner": "account", "enabled": "yes", "version": version})
    found = store.codes.by_id(key)
    assert found
    assert found.value == AccountCode("22631", "ACME-1", "about ACME-1")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"owner": "group", "owner_name": "nobody"}, "group 'nobody' does not exist"),
        ({"owner": "user", "owner_name": ""}, "Name the group or the user"),
        ({"owner": "planet"}, "Choose whom"),
        ({"valid_from": "31.12.2026"}, "like 2026-12-31"),
        ({"valid_until": "9999-12-31"}, "from the year 1971 to 2999"),
        ({"valid_from": "2026-02-01", "valid_until": "2026-01-01"}, "first day lies after the last"),
        ({"max_uses": "-1"}, "whole number"),
        ({"max_uses": "٣"}, "whole number"),
        ({"max_uses": "0"}, "must be 1 to"),
        ({"narrowed": "yes", "classes": ["lunar"]}, "no such class"),
    ],
)
async def test_bad_facts_stay_in_the_panel_with_the_reason(
    manager: Person, store: Store, fields: dict[str, str | list[str]], complaint: str
) -> None:
    [key] = put(store, "4711")
    version = await manager.versioned(f"panel={key}")
    answer = await manager.post(f"/codes/{key}/facts", {"owner": "account", **fields, "version": version})
    assert answer.status_code == 422
    assert complaint in notice(answer)
    found = store.codes.by_id(key)
    assert found
    assert found.value.plain


async def test_code_that_was_deleted_meanwhile(manager: Person, store: Store) -> None:
    [key] = put(store, "4711")
    version = await manager.versioned(f"edit={key}")
    store.codes.delete_ids([key])
    answer = await manager.post(f"/codes/{key}", {"code": "1", "version": version})
    assert (answer.status_code, "does not exist" in notice(answer)) == (422, True)
    assert (await manager.get(f"/codes?panel={key}")).status_code == 404


@pytest.mark.parametrize("version", ["", "x", "-1", "1" * 30, "²"])
async def test_version_that_is_none(manager: Person, store: Store, version: str) -> None:
    [key] = put(store, "4711")
    for where in (f"/codes/{key}", f"/codes/{key}/facts"):
        answer = await manager.post(where, {"code": "1", "owner": "account", "version": version})
        assert (answer.status_code, "version" in notice(answer)) == (422, True)


async def test_ticked_codes_are_deleted_after_yes(manager: Person, store: Store) -> None:
    keys = [str(key) for key in put(store, "1001", "1002", "1003")]
    answer = await manager.post("/codes/ticked", {"action": "delete", "id": keys[:2]})
    assert "Delete 2 code(s)?" in answer.text
    assert "1001 about 1001" in answer.text
    assert ">Yes</button>" in answer.text
    assert re.search(r'href="/codes\?"[^>]*>No<', answer.text)
    assert store.codes.count() == 3
    answer = await manager.post("/codes/ticked", {"action": "delete", "sure": "yes", "id": keys[:2]})
    assert "2 code(s) deleted." in notice(await manager.get(answer.headers["location"]))
    assert [code.digits for code in store.codes.page()] == ["1003"]
    answer = await manager.post("/codes/ticked", {"action": "delete", "sure": "yes", "id": keys})
    assert (answer.status_code, "2 of these codes do not exist" in notice(answer)) == (409, True)
    assert store.codes.count() == 1, "all or none"


async def test_ticked_codes_are_disabled_and_enabled(manager: Person, store: Store) -> None:
    keys = [str(key) for key in put(store, "1001", "1002")]
    answer = await manager.post("/codes/ticked", {"action": "disable", "id": keys})
    assert "2 code(s) disabled." in notice(await manager.get(answer.headers["location"]))
    assert not any(code.enabled for code in store.codes.page())
    answer = await manager.post("/codes/ticked", {"action": "enable", "id": keys[:1]})
    assert "1 code(s) enabled." in notice(await manager.get(answer.headers["location"]))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"action": "delete"}, "No code is ticked"),
        ({"action": "drop", "id": "1"}, "one of: delete, enable, disable"),
        ({"id": "1"}, "one of"),
        ({"action": "delete", "id": "1 OR 1=1"}, "not possible here: id"),
        ({"action": "delete", "id": "9" * 40}, "not possible here: id"),
        ({"action": "enable", "id": "77"}, ""),
    ],
)
async def test_bad_ticks(
    manager: Person, store: Store, fields: dict[str, str | list[str]], complaint: str
) -> None:
    put(store, "1001")
    answer = await manager.post("/codes/ticked", {**fields, "sure": "yes"})
    assert answer.status_code in {409, 422}
    assert complaint in notice(answer)
    assert store.codes.count() == 1


async def test_search_sort_and_pages(manager: Person, store: Store) -> None:
    store.codes.upsert_many(
        [new_code(str(1000 + n), f"client {n % 7}", plan=PLAN) for n in range(250)], may_update=False
    )
    first = await manager.get("/codes")
    assert len(rows(first)) == 100
    assert "1 to 100 of 250" in first.text
    assert "Page 1 of 3" in first.text
    last = await manager.get("/codes?page=3")
    assert [row[1] for row in rows(last)] == [str(1200 + n) for n in range(50)]
    beyond = await manager.get("/codes?page=99")
    assert rows(beyond) == rows(last), "the list may have become shorter"
    down = await manager.get("/codes?order=description&descending=true&search=client+6")
    assert {row[3] for row in rows(down)} == {"client 6"}
    assert 'aria-sort="descending"' in down.text
    assert "No code fits" in (await manager.get("/codes?search=nothing+like+it")).text
    assert 'href="/codes?search=client+6&amp;order=description&amp;panel=' not in down.text
    assert "search=client+6&amp;order=description&amp;descending=true&amp;panel=" in down.text


@pytest.mark.parametrize(
    "query",
    [
        "order=digits;drop", "order=", "page=0", "page=-1", "page=x", "page=9999999999999999999999",
        "descending=perhaps", "search=" + "x" * 101, "edit=-1", "panel=x", "said=<b>", "said=owner", "n=-3",
    ],
)  # fmt: skip
async def test_values_outside_their_lists_get_a_clear_message(manager: Person, query: str) -> None:
    answer = await manager.get(f"/codes?{query}")
    assert answer.status_code == 400
    assert f"not possible here: {query.partition('=')[0]}" in notice(answer)


@pytest.mark.parametrize("search", ["%", "_", "'", '"><b>', "\\", "*", "AND", "é", "\u202e", "100%"])
async def test_any_search_is_a_search(manager: Person, store: Store, search: str) -> None:
    put(store, "4711")
    answer = await manager.client.get("/codes", params={"search": search})
    assert answer.status_code == 200
    assert rows(answer)[0][0].startswith("No code fits")


async def test_export_is_what_import_reads(manager: Person, store: Store) -> None:
    put(store, "ACME-12/7", "4711")
    await manager.post("/codes", {"code": "99", "description": '=HYPERLINK("x")'})
    answer = await manager.get("/codes/export")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="account-codes.csv"'
    assert "\"'=HYPERLINK" in answer.text, "no formula runs in a spreadsheet"
    found = read_code_file(decode_csv(answer.content), PLAN)
    assert [(code.form, code.description) for code in found.codes] == [
        (code.form, code.description) for code in store.codes.stream()
    ]
