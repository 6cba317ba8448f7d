"""Portal accounts over the API: made, changed by who has read them last; a Decision Maker always stays."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from proxy.policy import User, UserGroup
from proxy.store import PortalAccount, Role, Store
from tests.portal.person import Person
from tests.portal.test_api_codes import errors

Program = Callable[..., httpx.AsyncClient]
Account = Callable[..., PortalAccount]


@pytest.fixture
def client(program: Program) -> httpx.AsyncClient:
    return program("accounts:read", "accounts:write")


@pytest.fixture
def chief(store: Store, account: Account) -> Store:
    """A store with a Decision Maker in it."""
    account(Role.DECISION_MAKER)
    return store


async def test_an_account_is_added_logs_in_once_is_changed_and_deleted(
    client: httpx.AsyncClient, store: Store, person: Callable[..., Person]
) -> None:
    added = await client.post(
        "/accounts", json={"name": "Anna", "role": "phone_manager", "groups_write": True}
    )
    assert added.status_code == 201
    told = added.json()
    where = added.headers["location"].removeprefix("/api/v1")
    assert where == f"/accounts/{told['id']}"
    assert (told["role"], told["groups_write"], told["one_time_password"]) == ("phone_manager", True, True)
    someone = person()
    assert (await someone.log_in("anna", told.pop("password"))).headers["location"] == "/password"
    read = await client.get(where)
    assert (read.json(), read.headers["etag"]) == (told, '"1"')
    assert (await client.get(where, headers={"if-none-match": '"1"'})).status_code == 304
    assert (await client.patch(where, json={"enabled": False})).status_code == 428
    match = {"if-match": '"1"'}
    changed = await client.patch(where, json={"role": "billing_contact"}, headers=match)
    assert changed.headers["etag"] == '"2"'
    assert (changed.json()["role"], changed.json()["groups_write"]) == ("billing_contact", False)
    assert (await someone.get("/password")).status_code == 303, "its sessions have ended"
    late = await client.patch(where, json={"enabled": False}, headers=match)
    assert (late.status_code, late.headers["etag"]) == (412, '"2"')
    renewed = (await client.post(f"{where}/password")).json()
    assert (await someone.log_in("anna", renewed["password"])).status_code == 303
    assert [one["name"] for one in (await client.get("/accounts")).json()["accounts"]] == ["Anna"]
    assert (await client.delete(where)).status_code == 204
    for gone in (client.get(where), client.delete(where), client.post(f"{where}/password")):
        assert (await gone).status_code == 404
    kinds = [(entry.who, entry.action) for entry in store.audit.page() if entry.kind == "account"]
    assert kinds == [("token:program 0", act) for act in ("delete", "password", "change", "add")]
    assert not any("hash" in str(entry.after) for entry in store.audit.page())


@pytest.mark.parametrize(
    ("facts", "status", "field"),
    [
        ({}, 422, "name"),
        ({"name": " x"}, 422, "name"),
        ({"name": "x" * 65}, 422, "name"),
        ({"name": "DECISION_maker"}, 409, "name"),
        ({"name": "x", "role": "king"}, 422, "role"),
        ({"name": "x", "role": "user"}, 422, "extension"),
        ({"name": "x", "role": "user", "extension": "999"}, 422, "extension"),
        ({"name": "x", "role": "billing_contact", "groups_write": True}, 422, "groups_write"),
        ({"name": "x", "see_codes": True}, 422, "see_codes"),
        ({"name": "x", "password": "chosen"}, 422, "password"),
    ],
)
async def test_bad_accounts_are_refused_by_field(
    client: httpx.AsyncClient, chief: Store, facts: dict[str, object], status: int, field: str
) -> None:
    answer = await client.post("/accounts", json=facts)
    assert (answer.status_code, next(iter(errors(answer)))) == (status, field)
    assert [one.name for one in chief.accounts.all()] == ["decision_maker"]


async def test_a_user_sees_the_calls_of_an_extension_that_is_there(
    client: httpx.AsyncClient, store: Store
) -> None:
    store.groups.add(UserGroup("Sales"))
    store.users.add(User("204", "Sales"))
    added = await client.post("/accounts", json={"name": "front", "role": "user", "extension": "204"})
    assert (added.status_code, added.json()["extension"]) == (201, "204")
    where = f"/accounts/{added.json()['id']}"
    moved = await client.patch(where, json={"role": "phone_manager"}, headers={"if-match": "*"})
    assert (moved.status_code, moved.json()["extension"]) == (200, "")


async def test_the_last_decision_maker_stays(client: httpx.AsyncClient, account: Account) -> None:
    last = account(Role.DECISION_MAKER)
    where, match = f"/accounts/{last.id}", {"if-match": '"1"'}
    for facts in ({"enabled": False}, {"role": "phone_manager"}):
        answer = await client.patch(where, json=facts, headers=match)
        assert (answer.status_code, "last Decision Maker" in answer.json()["detail"]) == (409, True)
    assert (await client.delete(where)).status_code == 409
    told = (await client.get(where)).text
    assert last.password_hash not in told


async def test_no_account_is_enabled_for_a_user_who_is_gone(program: Program, store: Store) -> None:
    client = program("accounts:read", "accounts:write", "users:write")
    store.groups.add(UserGroup("sales"))
    store.users.add(User("204", "sales"))
    made = await client.post("/accounts", json={"name": "anna", "role": "user", "extension": "204"})
    where = f"/accounts/{made.json()['id']}"
    assert (await client.delete("/users/204")).status_code == 204
    found = await client.get(where)
    assert found.json()["enabled"] is False
    answer = await client.patch(where, json={"enabled": True}, headers={"if-match": found.headers["etag"]})
    assert (answer.status_code, errors(answer)) == (409, {"extension": "user 204 does not exist"})
