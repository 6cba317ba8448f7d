"""Who may ask the API, for what and how often (RFC 6750, RFC 6585)."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from openapi_spec_validator import validate

from proxy.portal.api.app import api_routes, scopes_of
from proxy.portal.api.limits import RateLimits
from proxy.portal.api.scopes import GRANTABLE, Scope
from proxy.portal.portal import Portal
from proxy.store import Store
from tests.portal.conftest import NOW, Clock
from tests.portal.person import Person

Program = Callable[..., httpx.AsyncClient]

ROUTES = [
    (method, route.path, next(scopes_of(route)))
    for route in api_routes()
    if isinstance(route, APIRoute)
    for method in sorted(route.methods or ())
]
SCOPES = {
    ("GET", "/openapi.json"): "none",
    ("GET", "/codes"): "codes:read",
    ("POST", "/codes"): "codes:write",
    ("POST", "/codes/bulk"): "codes:write",
    ("GET", "/codes/{code_id}"): "codes:read",
    ("PATCH", "/codes/{code_id}"): "codes:write",
    ("DELETE", "/codes/{code_id}"): "codes:write",
    ("GET", "/groups"): "groups:read",
    ("POST", "/groups"): "groups:write",
    ("GET", "/groups/{name:path}"): "groups:read",
    ("PATCH", "/groups/{name:path}"): "groups:write",
    ("DELETE", "/groups/{name:path}"): "groups:write",
    ("GET", "/users"): "users:read",
    ("POST", "/users"): "users:write",
    ("GET", "/users/{extension}"): "users:read",
    ("PATCH", "/users/{extension}"): "users:write",
    ("DELETE", "/users/{extension}"): "users:write",
    ("GET", "/locks"): "users:read",
    ("DELETE", "/locks/{caller:path}"): "users:write",
    ("GET", "/usage"): "usage:read",
    ("GET", "/usage/export"): "usage:read",
    ("GET", "/usage/{record_id}"): "usage:read",
    ("GET", "/reports"): "reports:read",
    ("GET", "/reports/statements/{code_id}"): "reports:read",
    ("GET", "/schedules"): "reports:mail",
    ("POST", "/schedules"): "reports:mail",
    ("GET", "/schedules/{schedule_id}"): "reports:mail",
    ("PATCH", "/schedules/{schedule_id}"): "reports:mail",
    ("DELETE", "/schedules/{schedule_id}"): "reports:mail",
    ("POST", "/schedules/{schedule_id}/send"): "reports:mail",
    ("GET", "/calls"): "calls:read",
    ("DELETE", "/calls/{call_id}"): "calls:hangup",
    ("GET", "/accounts"): "accounts:read",
    ("POST", "/accounts"): "accounts:write",
    ("GET", "/accounts/{account_id}"): "accounts:read",
    ("PATCH", "/accounts/{account_id}"): "accounts:write",
    ("DELETE", "/accounts/{account_id}"): "accounts:write",
    ("POST", "/accounts/{account_id}/password"): "accounts:write",
    ("POST", "/explain"): "explain",
}
"""Written anew: the API's own table must not judge itself."""


def test_every_route_asks_for_one_scope_and_for_the_right_one() -> None:
    assert {(method, path): scope.value for method, path, scope in ROUTES} == SCOPES


def test_the_portal_does_not_start_with_a_route_that_asks_for_nothing(
    monkeypatch: pytest.MonkeyPatch, careless: APIRouter
) -> None:
    monkeypatch.setattr("proxy.portal.api.codes.router", careless)
    with pytest.raises(RuntimeError, match=r"/all-codes.*does not say what it needs"):
        api_routes()


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_no_token_wrong_scope_right_scope(
    program: Program, method: str, path: str, scope: Scope
) -> None:
    where = re.sub(r"{\w+_id}", "1", path).replace("{", "").replace("}", "")
    nobody = await program().request(method, where)
    if scope is Scope.NONE:
        assert nobody.status_code == 200
        return
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"] == 'Bearer realm="tollgate"'
    others = [name for name in GRANTABLE if name != scope.value]
    wrong = await program(*others).request(method, where)
    assert wrong.status_code == 403
    assert wrong.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{scope.value}"'
    assert wrong.json()["detail"] == f"the token is not for {scope.value}"
    right = await program(scope.value).request(method, where)
    assert right.status_code not in {401, 403}


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer  ", "Basic YWRtaW46YWRtaW4=", "Bearer tollgate_x y", "Bearer tollgate_x"]
)
async def test_rfc6750_3_1_what_is_no_token_opens_nothing(program: Program, given: str) -> None:
    answer = await program().get("/codes", headers={"authorization": given})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_a_session_of_a_person_is_no_token(manager: Person) -> None:
    assert (await manager.get("/api/v1/codes")).status_code == 401


async def test_an_expired_and_a_revoked_token_open_nothing(
    program: Program, store: Store, clock: Clock
) -> None:
    secret, _ = store.tokens.add("short", ["codes:read"], now=NOW, expires_at=NOW + 60)
    short = program()
    short.headers["authorization"] = f"Bearer {secret}"
    assert (await short.get("/codes")).status_code == 200
    clock.now += 60
    assert (await short.get("/codes")).status_code == 401
    lasting = program("codes:read")
    assert (await lasting.get("/codes")).status_code == 200
    store.tokens.delete(next(token.id for token in store.tokens.all() if token.name != "short"))
    assert (await lasting.get("/codes")).status_code == 401


async def test_rfc6585_4_a_token_has_so_many_requests_a_minute(
    program: Program, portal: Portal, clock: Clock
) -> None:
    object.__setattr__(portal, "settings", portal.settings.model_copy(update={"api_requests_per_minute": 3}))
    client, other = program("codes:read"), program("codes:read")
    assert [(await client.get("/codes")).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = await client.get("/codes")
    assert refused.headers["retry-after"] == "20"
    assert refused.json()["title"] == "Too Many Requests"
    assert (await other.get("/codes")).status_code == 200
    clock.now += 20
    assert [(await client.get("/codes")).status_code for _ in range(2)] == [200, 429]
    clock.now -= 3600  # the clock was set
    assert (await client.get("/codes")).status_code == 429


async def test_who_tries_tokens_is_not_heard_for_a_while_and_others_are(
    program: Program, clock: Clock
) -> None:
    guesser = program()
    guesser.headers["authorization"] = "Bearer tollgate_guess"
    found = [(await guesser.get("/codes")).status_code for _ in range(61)]
    assert found == [401] * 60 + [429]
    assert (await program("codes:read", source="192.0.2.10").get("/codes")).status_code == 200
    clock.now += 1
    assert (await guesser.get("/codes")).status_code == 401


def test_buckets_that_nobody_uses_are_forgotten() -> None:
    limits = RateLimits()
    for number in range(20_000):
        limits.wait(str(number), 1, 0.0)
    assert len(limits._buckets) == 10_000


async def test_the_description_is_openapi_and_says_scopes_and_problems(program: Program) -> None:
    document = (await program().get("/openapi.json")).json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "/api/v1"}]
    described = {
        (method.upper(), path): operation["security"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert described == {
        (method, path.replace(":path", "")): [{"token": [scope]}]
        for (method, path), scope in SCOPES.items()
        if scope != "none"
    }
    names = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(names) == len(set(names)), "a client generator makes functions of these"
    for methods in document["paths"].values():
        for operation in methods.values():
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            assert "422" not in operation["responses"]


async def test_rfc9457_what_is_not_there_and_what_fails_are_problems(program: Program, store: Store) -> None:
    client = program("codes:read")
    missing = await client.get("/nothing")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert (await client.put("/codes")).status_code == 405
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE account_codes RENAME TO gone")
    broken = await client.get("/codes")
    assert broken.status_code == 503
    assert broken.headers["retry-after"] == "5"
    assert broken.json() == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "the store can't be used at the moment",
    }
