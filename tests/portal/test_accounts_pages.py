"""System > Portal Accounts: adding people, what they may do, getting them back in, and sending them away."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio

from proxy.policy import User, UserGroup
from proxy.store import PortalAccount, Role, Store
from tests.portal.person import PASSWORD, Person, notice, rows

New = Callable[..., Person]
Account = Callable[..., PortalAccount]

ANNA = {"name": "Anna", "role": "phone_manager", "enabled": "yes"}


@pytest_asyncio.fixture
async def chief(person: New, account: Account) -> Person:
    """A Decision Maker, logged in."""
    account(Role.DECISION_MAKER)
    someone = person()
    await someone.log_in("decision_maker")
    return someone


def kept(store: Store, name: str) -> PortalAccount:
    found = store.accounts.by_name(name)
    assert found is not None
    return found


def made(answer: httpx.Response) -> str:
    assert answer.status_code == 200, notice(answer)
    found = re.search(r'<code id="made">([\w-]{23})</code>', answer.text)
    assert found
    return found[1]


async def change(
    someone: Person, account: PortalAccount, fields: Mapping[str, str], **more: str
) -> httpx.Response:
    sent = {"id": str(account.id), "version": str(account.version), "name": account.name, **fields, **more}
    return await someone.post("/accounts/save", sent)


def changes(store: Store) -> list[tuple[str, str, str, str]]:
    return [(one.who, one.role, one.action, one.name) for one in store.audit.page() if one.who != "system"]


async def test_an_account_is_added_and_its_password_shown_once_and_good_for_one_log_in(
    chief: Person, person: New, store: Store
) -> None:
    answer = await chief.post("/accounts/save", {**ANNA, "groups_write": "yes", "see_codes": "yes"})
    password = made(answer)
    assert "shown this once" in answer.text
    found = kept(store, "anna")
    assert (found.role, found.groups_write, found.see_codes, found.must_change) == (
        Role.PHONE_MANAGER,
        True,
        False,  # means nothing to this role
        True,
    )
    again = await chief.get(f"/accounts/edit?id={found.id}")
    assert (again.status_code, password in again.text) == (200, False)
    assert changes(store) == [("decision_maker", "decision_maker", "add", "Anna")]
    assert password not in repr(store.audit.page())
    anna = person("198.51.100.1")
    assert (await anna.log_in("Anna", password)).headers["location"] == "/password"
    assert (await anna.get("/groups")).headers["location"] == "/password"
    fields = {"old": password, "new": PASSWORD, "again": PASSWORD}
    assert (await anna.post("/password", fields)).status_code == 303
    assert (await anna.get("/groups/edit")).status_code == 200
    assert (await person().log_in("Anna", password)).status_code == 401


async def test_the_list_says_who_may_what(chief: Person, store: Store, account: Account) -> None:
    account(Role.BILLING_CONTACT, see_codes=True)
    account(Role.USER, disabled=True)
    account(Role.PHONE_MANAGER, must_change=True, name="<b>Anna</b>")
    assert rows(await chief.get("/accounts")) == [
        ["<b>Anna</b>", "Phone Manager", "", "", "Has a one-time password"],
        ["billing_contact", "Billing Contact", "", "sees account codes unmasked", "May log in"],
        ["decision_maker", "Decision Maker", "", "", "May log in"],
        ["user", "User", "2001", "", "Disabled"],
    ]
    assert "<b>Anna" not in (await chief.get("/accounts")).text


@pytest.mark.parametrize("language", ["en", "es", "de"])
async def test_pages_are_there_in_every_language(chief: Person, account: Account, language: str) -> None:
    someone = account(Role.BILLING_CONTACT)
    chief.client.cookies.set("language", language)
    for path in (
        "/accounts",
        "/accounts/edit",
        f"/accounts/edit?id={someone.id}",
        f"/accounts/edit?id={someone.id}&delete=true",
        "/accounts?said=deleted",
    ):
        answer = await chief.get(path)
        assert (answer.status_code, f'<html lang="{language}"' in answer.text) == (200, True), path
        assert answer.text.count("<h1>") == 1


async def test_a_grant_given_and_taken_holds_at_once_and_ends_the_session(
    chief: Person, person: New, store: Store, account: Account
) -> None:
    account(Role.PHONE_MANAGER)
    manager = person()
    await manager.log_in("phone_manager")
    assert (await manager.get("/groups/edit")).status_code == 200
    assert (await manager.post("/groups/save", {"name": "New"})).status_code == 403
    answer = await change(chief, kept(store, "phone_manager"), ANNA, name="phone_manager", groups_write="yes")
    assert (answer.status_code, answer.headers["location"][-13:]) == (303, "&said=changed")
    assert "is changed" in notice(await chief.get(answer.headers["location"]))
    assert (await manager.get("/groups")).status_code == 303
    await manager.log_in("phone_manager")
    assert (await manager.post("/groups/save", {"name": "New"})).status_code != 403
    await change(chief, kept(store, "phone_manager"), ANNA, name="phone_manager")
    assert (await manager.get("/groups")).status_code == 303
    first = store.audit.page()[0]
    assert (first.action, first.name, first.before, first.after, first.source) == (
        "change",
        "phone_manager",
        {"groups_write": True},
        {"groups_write": False},
        "192.0.2.7",
    )


async def test_a_user_needs_an_extension_that_there_is(chief: Person, store: Store) -> None:
    store.groups.add(UserGroup("Sales"))
    store.users.add(User("204", "Sales"))
    user = {**ANNA, "role": "user"}
    answer = await chief.post("/accounts/save", user)
    assert (answer.status_code, "needs the extension" in notice(answer)) == (422, True)
    answer = await chief.post("/accounts/save", {**user, "extension": "<i>999"})
    assert (answer.status_code, "There is no user <i>999." in notice(answer)) == (422, True)
    assert "<i>" not in answer.text
    made(await chief.post("/accounts/save", {**user, "extension": "204"}))
    assert kept(store, "anna").extension == "204"
    store.users.delete_many(["204"])
    answer = await change(chief, kept(store, "anna"), {"role": "user", "extension": "204"})
    assert answer.status_code == 303, "what it was is no reason not to disable it"
    assert kept(store, "anna").disabled
    await change(chief, kept(store, "anna"), {**ANNA, "extension": "204"})
    assert (kept(store, "anna").role, kept(store, "anna").extension) == (Role.PHONE_MANAGER, "")


async def test_disabled_is_out_at_once_and_comes_back(chief: Person, manager: Person, store: Store) -> None:
    fields = {"role": "phone_manager"}
    assert (await change(chief, kept(store, "phone_manager"), fields)).status_code == 303
    assert (await manager.get("/codes")).status_code == 303
    assert (await manager.log_in("phone_manager")).status_code == 401
    assert (await change(chief, kept(store, "phone_manager"), fields, enabled="yes")).status_code == 303
    assert (await manager.log_in("phone_manager")).status_code == 303


async def test_who_has_lost_the_password_gets_another_for_one_log_in(
    chief: Person, manager: Person, person: New, store: Store
) -> None:
    number = str(kept(store, "phone_manager").id)
    answer = await chief.post("/accounts/password", {"id": number})
    password = made(answer)
    assert (await manager.get("/codes")).status_code == 303, "open sessions end"
    assert (await person().log_in("phone_manager")).status_code == 401
    assert (await person().log_in("phone_manager", password)).headers["location"] == "/password"
    assert changes(store) == [("decision_maker", "decision_maker", "password", "phone_manager")]
    assert password not in repr(store.audit.page())


async def test_ones_own_password_is_changed_by_knowing_it(chief: Person, person: New, store: Store) -> None:
    number = str(kept(store, "decision_maker").id)
    answer = await chief.post("/accounts/password", {"id": number})
    assert (answer.status_code, "Your own password" in notice(answer)) == (409, True)
    assert "/accounts/password" not in (await chief.get(f"/accounts/edit?id={number}")).text
    assert (await person().log_in("decision_maker")).status_code == 303


@pytest.mark.parametrize("fields", [{"role": "decision_maker"}, {"role": "phone_manager", "enabled": "yes"}])
async def test_the_last_decision_maker_is_neither_removed_nor_demoted(
    chief: Person, store: Store, account: Account, fields: dict[str, str]
) -> None:
    before = kept(store, "decision_maker")
    answer = await change(chief, before, fields)
    assert (answer.status_code, "the last Decision Maker" in notice(answer)) == (422, True)
    answer = await chief.post("/accounts/delete", {"id": str(before.id), "sure": "yes"})
    assert (answer.status_code, "the last Decision Maker" in notice(answer)) == (409, True)
    account(Role.DECISION_MAKER, name="second", disabled=True)
    assert (await change(chief, before, fields)).status_code == 422, "a disabled one is none"
    assert kept(store, "decision_maker") == before
    account(Role.DECISION_MAKER, name="third")
    assert (await change(chief, before, fields)).status_code == 303
    assert (await chief.get("/accounts")).headers["location"].startswith("/login")


async def test_deleting_asks_first_and_ends_the_sessions(
    chief: Person, manager: Person, store: Store
) -> None:
    number = str(kept(store, "phone_manager").id)
    asked = await chief.post("/accounts/delete", {"id": number})
    assert "Delete the account phone_manager?" in asked.text
    assert "inert" in asked.text
    assert kept(store, "phone_manager")
    answer = await chief.post("/accounts/delete", {"id": number, "sure": "yes"})
    assert answer.headers["location"] == "/accounts?said=deleted"
    assert "is deleted" in notice(await chief.get("/accounts?said=deleted"))
    assert (await manager.get("/codes")).status_code == 303
    assert store.accounts.by_name("phone_manager") is None
    assert changes(store) == [("decision_maker", "decision_maker", "delete", "phone_manager")]
    for path in ("/accounts/delete", "/accounts/password", "/accounts/save"):
        answer = await chief.post(path, {"role": "user", "id": number, "version": "1", "sure": "yes"})
        assert (answer.status_code, "does not exist" in notice(answer)) == (404, True)
    assert (await chief.get(f"/accounts/edit?id={number}")).status_code == 404


async def test_the_second_of_two_decision_makers_sees_what_the_first_did(
    chief: Person, store: Store, account: Account
) -> None:
    before = account(Role.PHONE_MANAGER)
    store.accounts.change(replace(before, name="Anne"), version=before.version)
    fields = {"role": "billing_contact", "see_codes": "yes"}
    answer = await change(chief, before, fields)
    assert answer.status_code == 409
    told = "It now has: Name: Anne; Role: Phone Manager; Granted besides: -; May log in: Yes."
    assert told in notice(answer)
    assert f'name="name" value="{before.name}"' in answer.text, "what was typed is still there"
    assert '<option value="billing_contact" selected>' in answer.text
    assert 'name="see_codes" value="yes" checked' in answer.text
    assert (kept(store, "anne").role, kept(store, "anne").disabled) == (Role.PHONE_MANAGER, False)
    again = await change(chief, kept(store, "anne"), {**fields, "name": before.name})
    assert again.status_code == 303
    assert kept(store, before.name).see_codes


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"role": "boss"}, "one of"),
        ({"role": ""}, "one of"),
        ({"name": ""}, "1 to 64"),
        ({"name": "a\0b"}, "1 to 64"),
        ({"name": "a" * 65}, "1 to 64"),
        ({"name": "\ufb03" * 30}, "1 to 64"),
        ({"name": "DECISION_maker"}, "exists already"),
        ({"id": "1", "version": ""}, "version"),
        ({"id": "1", "version": "9" * 5_000}, "version"),
        ({"id": "9" * 5_000}, "id"),
        ({"id": "-1"}, "id"),
        ({"id": "²"}, "id"),
    ],
)
async def test_what_cannot_be_an_account_is_refused(
    chief: Person, store: Store, fields: dict[str, str], complaint: str
) -> None:
    before = store.accounts.all()
    answer = await chief.post("/accounts/save", {**ANNA, **fields})
    assert (answer.status_code, complaint in notice(answer)) == (422, True), notice(answer)
    assert store.accounts.all() == before


@pytest.mark.parametrize(
    "path", ["/accounts?said=<b>", "/accounts/edit?id=x", "/accounts/edit?id=99999999999999999999"]
)
async def test_strange_addresses_are_refused(chief: Person, path: str) -> None:
    assert (await chief.get(path)).status_code == 400


async def test_too_many_at_once_are_told_to_come_back_and_nothing_is_added(
    chief: Person, store: Store, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = account(Role.PHONE_MANAGER)
    monkeypatch.setattr("proxy.portal.passwords._MOST_WAITING", 0)
    assert (await chief.post("/accounts/save", ANNA)).status_code == 503
    assert (await chief.post("/accounts/password", {"id": str(before.id)})).status_code == 503
    assert store.accounts.by_name("Anna") is None
    assert kept(store, "phone_manager") == before


@pytest.mark.parametrize("role", [Role.PHONE_MANAGER, Role.BILLING_CONTACT, Role.USER])
async def test_nobody_else_can_make_himself_a_decision_maker(
    person: New, store: Store, account: Account, role: Role
) -> None:
    own = account(role)
    someone = person()
    await someone.log_in(role.value)
    assert 'href="/accounts"' not in (await someone.get("/")).text
    answer = await change(someone, own, {"role": "decision_maker", "enabled": "yes"})
    assert answer.status_code == 403
    assert (await someone.post("/accounts/save", {**ANNA, "role": "decision_maker"})).status_code == 403
    assert store.accounts.all() == [own]
