"""Locked callers and reports by e-mail over the API: what the pages do, for programs, and no more."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest

from proxy.policy import CallerLock, NumberPlan, new_code
from proxy.store import PortalAccount, Role, Store
from tests.portal.conftest import NOW
from tests.portal.test_api_codes import errors

Program = Callable[..., httpx.AsyncClient]
Account = Callable[..., PortalAccount]


async def test_locked_callers_are_listed_and_let_in_again(program: Program, store: Store) -> None:
    odd = "peer a/b <x>?#"
    store.locks.add([CallerLock("user 204", NOW - 60, NOW + 3540, 5), CallerLock(odd, NOW - 30, None, 7)])
    store.locks.add([CallerLock("user 205", NOW - 20, NOW - 10, 5)])
    client = program("users:read", "users:write")
    told = (await client.get("/locks")).json()["locks"]
    assert [(one["caller"], one["wrong"], one["until"] is None) for one in told] == [
        (odd, 7, True),
        ("user 204", 5, False),
    ]
    assert told[1]["since"].startswith("2026-09-21T")
    for caller in (odd, "user 204"):
        where = f"/locks/{quote(caller, safe='')}"
        assert (await client.delete(where)).status_code == 204
        assert (await client.delete(where)).status_code == 404
    assert (await client.get("/locks")).json() == {"locks": []}
    [last, _] = [entry for entry in store.audit.page() if entry.action == "unlock"]
    assert (last.who, last.name) == ("token:program 0", "user 204")


@pytest.fixture
def chief(account: Account) -> PortalAccount:
    return account(Role.DECISION_MAKER)


@pytest.fixture
def client(program: Program, chief: PortalAccount) -> httpx.AsyncClient:
    assert chief.id
    return program("reports:mail", "codes:read")


def month(owner: PortalAccount, **more: object) -> dict[str, object]:
    return {"account_id": owner.id, "recipients": ["boss@example.com"], **more}


async def test_a_schedule_is_made_changed_by_who_read_it_last_sent_and_deleted(
    client: httpx.AsyncClient, store: Store, chief: PortalAccount
) -> None:
    store.codes.add(new_code("4711", "ACME", plan=NumberPlan()))
    code = store.codes.find("4711")
    assert code
    code_id = code.id
    given = month(chief, report="statement", format="html", code_id=code_id, day=3, at="07:30", language="de")
    added = await client.post("/schedules", json=given)
    assert (added.status_code, added.headers["etag"]) == (201, '"1"')
    told = added.json()
    assert {name: told[name] for name in given} == given
    assert (told["last_sent_at"], told["last_error"], told["next_at"] is not None) == (None, "", True)
    where = added.headers["location"].removeprefix("/api/v1")
    assert (await client.get(where)).json() == told
    assert (await client.get(where, headers={"if-none-match": '"1"'})).status_code == 304
    assert (await client.patch(where, json={"enabled": False})).status_code == 428
    weekly = {"rhythm": "weekly", "day": 7, "report": "usage", "code_id": 0, "format": "xlsx"}
    match = {"if-match": '"1"'}
    changed = await client.patch(where, json={**weekly, "call_class": "national"}, headers=match)
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    now = changed.json()
    assert (now["day"], now["call_class"], now["at"], now["language"]) == (7, "national", "07:30", "de")
    late = await client.patch(where, json={"enabled": False}, headers=match)
    assert (late.status_code, late.headers["etag"]) == (412, '"2"')
    cleared = await client.patch(
        where, json={"call_class": None, "enabled": False}, headers={"if-match": "*"}
    )
    assert (cleared.json()["call_class"], cleared.json()["next_at"]) == (None, None)
    assert (await client.post(f"{where}/send")).status_code == 202
    [(_, mail)] = store.schedules.take_due(now=NOW + 1, limit=9)
    store.schedules.failed(mail, "mail server: 550 no", now=NOW + 1, for_good=True)
    [listed] = (await client.get("/schedules")).json()["schedules"]
    assert listed["last_error"] == "mail server: 550 no"
    assert (await client.delete(where)).status_code == 204
    for gone in (client.get(where), client.delete(where), client.post(f"{where}/send")):
        assert (await gone).status_code == 404
    acts = [entry.action for entry in store.audit.page() if entry.kind == "schedule"]
    assert acts == ["delete", "send", "change", "change", "add"]


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"account_id": 99}, "account_id"),
        ({"recipients": []}, "recipients"),
        ({"recipients": ["boss@example.com\nBcc: x@example.com"]}, "recipients"),
        ({"recipients": ["a@example.com"] * 21}, "recipients"),
        ({"report": "moon"}, "report"),
        ({"report": "statement"}, "code_id"),
        ({"report": "statement", "code_id": 77}, "code_id"),
        ({"report": "usage", "format": "html"}, "format"),
        ({"user": "204"}, "user"),
        ({"day": 29}, "day"),
        ({"rhythm": "daily", "day": 1}, "day"),
        ({"at": "24:00"}, "at"),
        ({"language": "xx"}, "language"),
        ({"password": "x"}, "password"),
    ],
)
async def test_bad_schedules_are_refused_by_field(
    client: httpx.AsyncClient, store: Store, chief: PortalAccount, facts: dict[str, object], field: str
) -> None:
    answer = await client.post("/schedules", json=month(chief, **facts))
    assert answer.status_code == 422
    assert next(iter(errors(answer))).partition("[")[0] == field
    assert store.schedules.all() == []


async def test_no_token_has_more_sent_than_it_may_see(
    program: Program, store: Store, account: Account, chief: PortalAccount
) -> None:
    billing, user = account(Role.BILLING_CONTACT), account(Role.USER)
    sender = program("reports:mail")
    for owner, status in ((chief, 403), (user, 422), (billing, 201)):
        assert (await sender.post("/schedules", json=month(owner))).status_code == status
    allowed = program("reports:mail", "codes:read")
    chiefs = await allowed.post("/schedules", json=month(chief))
    where, match = chiefs.headers["location"].removeprefix("/api/v1"), {"if-match": "*"}
    mine = {"recipients": ["thief@example.com"]}
    assert (await sender.patch(where, json=mine, headers=match)).status_code == 403
    assert (await sender.post(f"{where}/send")).status_code == 403
    moved = await allowed.patch(where, json={"account_id": billing.id}, headers=match)
    assert (moved.status_code, "account_id" in errors(moved)) == (422, True)
    assert {one.recipients for one in store.schedules.all()} == {("boss@example.com",)}
