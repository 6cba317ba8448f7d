"""The routing table x roles x {no session, wrong role, right role}."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from proxy.cdr.record import UsedCode
from proxy.policy import NumberPlan, new_code
from proxy.portal.app import permissions_of, routes
from proxy.portal.permissions import Permission, may
from proxy.store import PortalAccount, Role, Store
from tests.cdr.samples import full_record
from tests.portal.conftest import NOW
from tests.portal.person import PASSWORD, Person

ROUTES = [
    (method, route.path, next(permissions_of(route)))
    for route in routes()
    if isinstance(route, APIRoute)
    for method in sorted(route.methods or ())
]
LOGIN = {"password": PASSWORD}
RIGHTS = {
    Permission.PUBLIC: set(Role),
    Permission.OWN_PASSWORD: set(Role),
    Permission.HOME: set(Role),
    Permission.CODES_VIEW: {Role.DECISION_MAKER, Role.PHONE_MANAGER},
    Permission.CODES_CHANGE: {Role.DECISION_MAKER, Role.PHONE_MANAGER},
    Permission.LIVE_VIEW: {Role.DECISION_MAKER, Role.PHONE_MANAGER, Role.USER},
    Permission.CALLS_HANG_UP: {Role.DECISION_MAKER, Role.PHONE_MANAGER},
    Permission.USERS_VIEW: {Role.DECISION_MAKER, Role.PHONE_MANAGER},
    Permission.USERS_CHANGE: {Role.DECISION_MAKER, Role.PHONE_MANAGER},
    Permission.GROUPS_VIEW: {Role.DECISION_MAKER, Role.PHONE_MANAGER},
    Permission.GROUPS_CHANGE: {Role.DECISION_MAKER},
    Permission.TRUNKS_VIEW: {Role.DECISION_MAKER, Role.PHONE_MANAGER},
    Permission.USAGE_VIEW: set(Role),
    Permission.USAGE_ALL: {Role.DECISION_MAKER, Role.PHONE_MANAGER, Role.BILLING_CONTACT},
    Permission.RECORDS_CORRECT: {Role.DECISION_MAKER, Role.PHONE_MANAGER},
    Permission.REPORTS_VIEW: {Role.DECISION_MAKER, Role.BILLING_CONTACT},
    Permission.REPORTS_MAIL: {Role.DECISION_MAKER, Role.BILLING_CONTACT},
    Permission.AUDIT_VIEW: {Role.DECISION_MAKER},
    Permission.TOKENS: {Role.DECISION_MAKER},
    Permission.WEBHOOKS: {Role.DECISION_MAKER},
    Permission.ACCOUNTS: {Role.DECISION_MAKER},
}
"""Written anew from the issue: the portal's own table must not judge itself."""

Account = Callable[..., PortalAccount]
New = Callable[..., Person]


def test_the_table_is_about_every_permission() -> None:
    assert set(RIGHTS) == set(Permission)


def test_there_are_routes_and_all_are_of_the_kind_that_says_what_it_needs() -> None:
    assert len(ROUTES) == len(routes()) >= 15


def test_the_portal_does_not_start_with_a_route_that_does_not_say_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, careless: APIRouter
) -> None:
    monkeypatch.setattr("proxy.portal.code_pages.router", careless)
    with pytest.raises(RuntimeError, match=r"/all-codes.*does not say what it needs"):
        routes()


@pytest.mark.parametrize(("method", "path", "permission"), ROUTES)
async def test_without_a_session(
    person: New, store: Store, method: str, path: str, permission: Permission
) -> None:
    someone = person()
    where = _filled(path)
    answer = await (someone.get(where) if method == "GET" else someone.post(where, {"code": "1"}, csrf=""))
    if permission is Permission.PUBLIC:
        assert not answer.headers.get("location", "").startswith("/login")
    elif path == "/live/events":
        assert (answer.status_code, answer.text) == (401, ""), "a script asks, that can't log in"
    else:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")
    assert store.codes.count() == 0


@pytest.mark.parametrize("role", list(Role))
async def test_every_route_for_every_role(person: New, account: Account, store: Store, role: Role) -> None:
    account(role)
    for method, path, permission in ROUTES:
        someone = person()
        await someone.log_in(role.value)
        where = _filled(path)
        answer = await (
            someone.get(where) if method == "GET" else someone.post(where, {**LOGIN, "name": role.value})
        )
        if role in RIGHTS[permission]:
            assert answer.status_code not in {401, 403}, (method, path)
        else:
            assert answer.status_code == 403, (method, path)
    assert store.codes.count() == 0


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("permission", list(Permission))
def test_table(role: Role, permission: Permission) -> None:
    account = PortalAccount("a", role, "", "2001" if role is Role.USER else "")
    assert may(account, permission) is (role in RIGHTS[permission])
    assert may(None, permission) is (permission is Permission.PUBLIC)
    assert may(replace(account, disabled=True), permission) is (permission is Permission.PUBLIC)
    first = {Permission.PUBLIC, Permission.OWN_PASSWORD}
    assert may(replace(account, must_change=True), permission) is (permission in first)


def test_a_phone_manager_changes_groups_when_it_was_granted() -> None:
    granted = PortalAccount("a", Role.PHONE_MANAGER, "", groups_write=True)
    assert may(granted, Permission.GROUPS_CHANGE)
    assert not may(replace(granted, groups_write=False), Permission.GROUPS_CHANGE)
    assert not may(replace(granted, role=Role.BILLING_CONTACT), Permission.GROUPS_CHANGE)


async def test_menu_leads_nowhere_that_is_forbidden(person: New, account: Account) -> None:
    account(Role.BILLING_CONTACT)
    someone = person()
    await someone.log_in("billing_contact")
    assert 'href="/codes"' not in (await someone.get("/")).text


async def test_users_see_no_digits_of_codes_anywhere(person: New, account: Account, store: Store) -> None:
    store.codes.add(new_code("471147", plan=NumberPlan()))
    call = full_record("r1")
    used = UsedCode("471147", "471147", "471147", "Acme & Sons")
    store.usage.insert_many([replace(call, user="2001", start_time=NOW - 60, code=used)])
    account(Role.USER)
    someone = person()
    await someone.log_in("user")
    shown = await someone.get("/usage?column=code&column=description")
    assert "****47" in shown.text, "there is a call with a code"
    assert "Sons" not in shown.text, "the column is not offered"
    for method, path, _ in ROUTES:
        if method == "GET":
            assert "471147" not in (await someone.get(_filled(path))).text, path


@pytest.mark.parametrize("number", ["9" * 16, "9" * 5_000])
async def test_a_number_that_no_row_has_is_no_page(manager: Person, person: New, number: str) -> None:
    for method, path, _ in ROUTES:
        if ":int}" in path:
            where = re.sub(r"\{\w+:int\}", number, path)
            for someone in (manager, person()):
                assert (await someone.client.request(method, where)).status_code == 404


def _filled(path: str) -> str:
    filled = re.sub(r"\{\w+:int\}", "1", path).replace("{name:path}", "portal.css")
    return filled.replace("{record_id}", "r1")
