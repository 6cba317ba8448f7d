"""The portal over a store on a PostgreSQL server: each page that reads it, and what nobody's browser asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from urllib.parse import quote

import pytest

from proxy.policy import CallerLock, NumberPlan, User, UserGroup, new_code
from proxy.store import (
    Actor,
    CodeOrder,
    PortalAccount,
    ReportBy,
    ReportSchedule,
    Rhythm,
    Role,
    Store,
    UsageOrder,
    WebhookEndpoint,
)
from tests.portal.conftest import NOW
from tests.portal.person import Person
from tests.store.calls import CODES, many_calls
from tests.support.postgresql import PostgresServer

PAGES = (
    "/",
    "/groups",
    "/groups/edit?name=Sales",
    "/users",
    "/users?search=Anna",
    "/users/edit?extension=204",
    "/users/locked",
    "/codes/import",
    "/codes/export",
    "/codes?search=client",
    *(f"/codes?order={order}&descending={falling}" for order in CodeOrder for falling in ("true", "false")),
    *(f"/usage?order={order}" for order in UsageOrder),
    "/usage?number=2125550&user=204&group=Group+1&class=national&result=answered&direction=outbound",
    "/usage?code=C-7",
    "/usage/r000001",
    "/usage/export",
    *(f"/reports?by={by}&period=own&first=2026-01-05&last=2026-02-10" for by in ReportBy),
    "/reports/statement?code=C-7&month=2026-01",
    "/reports/mail",
    "/accounts",
    "/audit",
    "/audit?kind=code&who=anna",
    "/audit/chain",
    "/tokens",
    "/webhooks",
    "/webhooks/deliveries",
)
ODD = (
    "/codes?search=%00",
    "/usage?number=%00&user=%00&group=%00",
    "/usage?number=" + "9" * 2000,
    f"/usage?number={quote('%_é☎')}",
    "/usage?cursor=a99999999999999999",
    "/usage/%00",
    "/groups/edit?name=%00",
    "/users/edit?extension=%00",
    "/audit?who=%00&kind=%00&name=%00",
    f"/audit?before={2**53}",
    f"/codes?details={2**53}",
    f"/reports/statement?id={2**53}&month=2026-01",
    f"/webhooks/{2**31}",
    f"/reports/mail/{2**31}",
)


@pytest.fixture
def store(postgresql: PostgresServer) -> Iterator[Store]:
    with postgresql.database() as url, Store(url) as opened:
        yield opened


@pytest.fixture
async def chief(store: Store, person: Callable[..., Person], account: Callable[..., PortalAccount]) -> Person:
    """A Decision Maker, logged in, of a house where something goes on."""
    acting = store.acting(Actor("anna", "decision_maker"))
    acting.groups.add(UserGroup("Sales"))
    acting.users.add(User("204", "Sales", "Anna"))
    codes = [new_code(code.form, code.description, plan=NumberPlan()) for code in CODES]
    codes[0] = replace(codes[0], valid_until=date(2030, 12, 31), max_uses=5)
    acting.codes.upsert_many(codes, may_update=False)
    store.usage.insert_many(many_calls(150))
    acting.corrections.correct("r000001", "C-7", "of another client")
    store.locks.add([CallerLock("user 204", NOW, None, 5)])
    events = frozenset({"call.ended"})
    acting.webhooks.add(WebhookEndpoint("https://hooks.example.com/", events), now=NOW)
    made = account(Role.DECISION_MAKER)
    weekly = ReportSchedule(made.id, ReportBy.USER, Rhythm.WEEKLY, ("boss@example.com",), day=1)
    acting.schedules.add(weekly, now=NOW)
    someone = person()
    assert (await someone.log_in("decision_maker")).status_code == 303
    return someone


async def test_every_page_is_shown(chief: Person) -> None:
    for path in PAGES:
        answer = await chief.get(path)
        assert answer.status_code == 200, path
    assert "9212555" in (await chief.get("/usage")).text
    for form in ("usage-log&corrections=true", "jsonl", "xlsx"):
        answer = await chief.get(f"/usage/export/file?format={form}")
        assert answer.status_code == 200, form
        assert len(answer.content) > 1000


async def test_what_nobody_asks_is_no_trouble_of_the_store(chief: Person) -> None:
    for path in ODD:
        answer = await chief.get(path)
        assert answer.status_code in {200, 303, 400, 404, 422}, path


async def test_a_page_says_that_the_store_is_away_and_the_next_one_shows_it_again(
    chief: Person, postgresql: PostgresServer
) -> None:
    assert (await chief.get("/codes")).status_code == 200
    postgresql.stop()
    try:
        assert (await chief.get("/codes")).status_code == 503
    finally:
        postgresql.start()
    assert (await chief.get("/codes")).status_code == 200
