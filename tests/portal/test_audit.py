"""The audit log as a Decision Maker reads it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from proxy.policy import AccountCode, NumberPlan, UserGroup, new_code
from proxy.portal.portal import Portal
from proxy.store import Actor, PortalAccount, Role, Store
from tests.cdr.samples import full_record
from tests.portal.person import Person, notice

New = Callable[..., Person]
Account = Callable[..., PortalAccount]


@pytest_asyncio.fixture
async def maker(person: New, account: Account, store: Store) -> Person:
    """A Decision Maker, logged in, after some changes."""
    account(Role.DECISION_MAKER)
    anna = store.acting(Actor("anna", "phone_manager", "192.0.2.1"))
    anna.groups.add(UserGroup("Sales <b>"))
    anna.codes.add(new_code("ACME-12/7", "Acme", plan=NumberPlan()))
    store.usage.insert_many([full_record("r1")])
    anna.corrections.correct("r1", "", "no <i>client</i>")
    someone = person()
    await someone.log_in("decision_maker")
    return someone


def objects(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, notice(answer)
    found = re.findall(r'<td data-label="Object">(.*?)</td>', answer.text, re.DOTALL)
    return [unescape(" ".join(re.sub("<[^>]*>", " ", cell).split())) for cell in found]


async def test_changes_are_told_with_who_and_from_where_and_what(maker: Person) -> None:
    answer = await maker.get("/audit")
    assert objects(answer)[:2] == ["Call r1", "Account code 1"]
    assert "User group Sales <b>" in objects(answer)
    assert "<b>" not in answer.text
    assert "<i>" not in answer.text
    assert "192.0.2.1" in answer.text
    assert "<ins>no &lt;i&gt;client&lt;/i&gt;</ins>" in answer.text
    assert "2263127" not in answer.text
    assert 'href="/usage/r1"' in answer.text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("kind=code", ["Account code 1"]),
        ("kind=group&name=Sales+%3Cb%3E", ["User group Sales <b>"]),
        ("who=anna&kind=record", ["Call r1"]),
        ("who=nobody", []),
        ("kind=caller", []),
    ],
)
async def test_filters(maker: Person, query: str, found: list[str]) -> None:
    answer = await maker.get(f"/audit?{query}")
    assert objects(answer) == found
    assert ("No entry fits." in answer.text) is (not found)


async def test_days_are_those_of_the_site(maker: Person, store: Store) -> None:
    today = datetime.now(store.usage.zone).date()
    assert len(objects(await maker.get(f"/audit?first={today - timedelta(days=1)}&last={today}"))) == 4
    assert objects(await maker.get(f"/audit?last={today - timedelta(days=2)}")) == []
    assert objects(await maker.get(f"/audit?first={today + timedelta(days=2)}")) == []


async def test_many_objects_of_one_entry_are_told_by_the_first_and_a_file(
    maker: Person, store: Store
) -> None:
    many = [AccountCode(f"{number:06d}", description=f"Client {number:03d}") for number in range(500)]
    store.codes.upsert_many(many, may_update=False)
    store.codes.upsert_many(
        [replace(code, description=f"{code.description} & Co") for code in many], may_update=True
    )
    answer = await maker.get("/audit?kind=code")
    changed, added = re.findall(r"<details>.*?</details>", answer.text, re.DOTALL)[:2]
    assert "Client 001" in added
    assert "Client 001" in changed
    assert "Client 001 &amp; Co" in changed
    assert "Client 100" not in added
    assert "These are the first of many." in added
    assert len(answer.content) < 60_000
    newest = store.audit.page(limit=1)[0].id
    file = await maker.get(f"/audit/{newest}/file")
    assert file.headers["content-disposition"] == f'attachment; filename="audit-{newest}.json"'
    told = file.json()
    assert [item["description"] for item in told["before"]] == [code.description for code in many]
    assert len(told["after"]) == 500
    assert "000499" not in file.text
    assert (await maker.get("/audit/999999/file")).status_code == 404


async def test_older_ones_are_on_the_next_page(maker: Person, portal: Portal) -> None:
    object.__setattr__(portal.settings, "page_size", 3)
    answer = await maker.get("/audit?who=")
    assert len(objects(answer)) == 3
    older = re.search(r'rel="next" href="([^"]*)"', answer.text)
    assert older
    answer = await maker.get(unescape(older[1]))
    assert len(objects(answer)) == 1
    assert 'rel="next"' not in answer.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("before=x", "before"),
        ("before=" + "1" * 13, "before"),
        ("first=x", "first"),
        ("first=2026-02-01&last=2026-01-01", "first, last"),
        ("who=" + "x" * 129, "who"),
        ("kind=" + "x" * 17, "kind"),
        ("kind=shoe", "kind"),
        ("name=%00", "name"),
    ],
)
async def test_what_is_not_possible_is_refused_naming_the_field(
    maker: Person, query: str, field: str
) -> None:
    answer = await maker.get(f"/audit?{query}")
    assert (answer.status_code, field in notice(answer)) == (422, True)


async def test_the_chain_is_verified_with_and_without_javascript(maker: Person, store: Store) -> None:
    page = await maker.get("/audit")
    assert 'hx-get="/audit/chain"' in page.text
    assert 'href="/audit?verify=true"' in page.text
    head = str(store.audit.verify().head)
    for path in ("/audit/chain", "/audit?verify=true"):
        answer = await maker.get(path)
        assert "All 4 entries are as they were written" in answer.text
        assert head in answer.text


async def test_the_chain_is_read_when_somebody_asks_and_for_one_at_a_time(
    maker: Person, portal: Portal
) -> None:
    assert "hx-trigger" not in (await maker.get("/audit")).text.partition("<main")[2]
    async with portal.verifying:
        asking = asyncio.ensure_future(maker.get("/audit/chain"))
        assert (await maker.get("/audit")).status_code == 200, "pages do not wait"
        assert not asking.done()
    assert "All 4 entries" in (await asking).text


async def test_a_changed_entry_is_found(maker: Person, store: Store) -> None:
    with store.database.write() as connection:
        for (name,) in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")):
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.execute(text("UPDATE audit_log SET who = 'nobody' WHERE id = 2"))
    for path in ("/audit/chain", "/audit?verify=true"):
        assert "The log is not whole. Entry 2: it is not as it was written." in notice(await maker.get(path))


async def test_a_cut_log_is_found(maker: Person, store: Store) -> None:
    with store.database.write() as connection:
        connection.execute(text("DELETE FROM audit_head"))
    assert "The log is not whole." in notice(await maker.get("/audit/chain"))
