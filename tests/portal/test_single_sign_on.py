"""Single sign-on: OpenID Connect Core 1.0 against a provider over real HTTP, honest and not."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import httpx
import pyotp
import pytest
import pytest_asyncio

from proxy.portal.app import create_app
from proxy.portal.portal import Portal
from proxy.portal.single_sign_on import SingleSignOn
from proxy.settings_portal import OidcSettings
from proxy.store import AuditEntry, PortalAccount, Role, Store
from proxy.store.accounts import sign_on_key
from tests.portal.conftest import NOW, Clock
from tests.portal.person import Person, notice
from tests.support.foreign_provider import foreign_provider
from tests.support.oidc_provider import CLIENT, SECRET, OidcProvider, new_key

Account = Callable[..., PortalAccount]
Browser = Callable[..., Person]


@pytest.fixture
def provider(clock: Clock) -> Iterator[OidcProvider]:
    with OidcProvider(clock) as running:
        yield running


@pytest_asyncio.fixture
async def browser(portal: Portal, provider: OidcProvider) -> AsyncIterator[Browser]:
    """Make a browser at a portal that has the provider, with settings of its own."""
    opened: list[httpx.AsyncClient] = []

    def make(**more: object) -> Person:
        given = {"issuer": provider.issuer, "client_id": CLIENT, "client_secret": SECRET, **more}
        oidc = OidcSettings.model_validate(given)
        settings = portal.settings.model_copy(update={"oidc": oidc})
        sign_on = SingleSignOn(oidc, settings.public_url, portal.clock)
        app = create_app(replace(portal, settings=settings, sign_on=sign_on))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("192.0.2.7", 4711))
        opened.append(httpx.AsyncClient(transport=transport, base_url="https://portal.test"))
        return Person(opened[-1])

    yield make
    for client in opened:
        await client.aclose()


async def leave(someone: Person, following: str = "/codes") -> str:
    """Press the button; returns the address at the provider."""
    answer = await someone.get(f"/login/oidc?next={following}")
    assert answer.status_code == 303, notice(answer)
    return answer.headers["location"]


async def through_provider(address: str) -> str:
    """Log in there; returns the way back."""
    async with httpx.AsyncClient(trust_env=False) as outside:
        answer = await outside.get(address)
    parts = urlsplit(answer.headers["location"])
    assert f"{parts.scheme}://{parts.netloc}" == "https://portal.test"
    return f"{parts.path}?{parts.query}"


async def sign_on(someone: Person) -> httpx.Response:
    return await someone.get(await through_provider(await leave(someone)))


async def is_in(someone: Person) -> bool:
    return (await someone.get("/password")).status_code == 200


def signed_on(store: Store) -> list[AuditEntry]:
    return [entry for entry in store.audit.page() if entry.action == "sign_on"]


async def test_core_3_1_2_there_and_back_with_pkce_state_and_nonce(
    browser: Browser, account: Account, provider: OidcProvider, store: Store
) -> None:
    account(Role.PHONE_MANAGER)
    someone = browser(label="Office")
    page = await someone.get("/login?next=/codes")
    assert 'href="/login/oidc?next=/codes"' in page.text
    assert "Log in with Office" in page.text
    assert 'name="password"' in page.text, "the portal's own log-in stays"
    address = await leave(someone)
    asked = dict(parse_qsl(urlsplit(address).query))
    assert asked["redirect_uri"] == "https://portal.test/login/oidc/answer"
    assert asked["scope"] == "openid profile email"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    answer = await someone.get(await through_provider(address))
    assert (answer.status_code, answer.headers["location"]) == (303, "/codes")
    assert await is_in(someone)
    (entry,) = signed_on(store)
    assert (entry.who, entry.role, entry.source) == ("phone_manager", "phone_manager", "192.0.2.7")
    assert entry.after == {"provider": provider.issuer, "subject": "u-1", "second_factor": ""}
    assert store.audit.verify().whole


async def test_a_provider_that_others_have_written(
    browser: Browser, account: Account, store: Store, clock: Clock
) -> None:
    clock.now = time.time()
    account(Role.PHONE_MANAGER, name="anna@example.com")
    told = {"sub": "anna", "email": "anna@example.com", "email_verified": True}
    with foreign_provider("--require-nonce", "true", "--user-claims", json.dumps(told)) as issuer:
        someone = browser(issuer=issuer, claim="email")
        address = await leave(someone)
        async with httpx.AsyncClient(trust_env=False) as outside:
            answer = await outside.post(address, data={"sub": "anna"})
        back = urlsplit(answer.headers["location"])
        answer = await someone.get(f"{back.path}?{back.query}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/codes")
        assert await is_in(someone)
        assert signed_on(store)[0].after == {"provider": issuer, "subject": "anna", "second_factor": ""}


@pytest.mark.parametrize(
    "described",
    [
        {"token_endpoint_auth_methods_supported": ["client_secret_post"]},
        {"token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"]},
        {"authorization_response_iss_parameter_supported": False},
    ],
)
async def test_discovery_3_other_kinds_of_providers(
    browser: Browser, account: Account, provider: OidcProvider, described: Mapping[str, object]
) -> None:
    account(Role.PHONE_MANAGER)
    provider.described = dict(described)
    assert (await sign_on(browser())).status_code == 303


async def test_without_a_provider_there_is_no_button_and_no_way(person: Browser) -> None:
    someone = person()
    assert "/login/oidc" not in (await someone.get("/login")).text
    assert (await someone.get("/login/oidc")).status_code == 404
    assert (await someone.get("/login/oidc/answer?state=a&code=b")).status_code == 404


def _other_key(provider: OidcProvider, claims: Mapping[str, object]) -> str:
    right = provider.key
    provider.key = new_key("somebody else's")
    token = provider.signed(claims)
    provider.key = right
    return token


def _changed(provider: OidcProvider, claims: Mapping[str, object]) -> str:
    _, _, signature = provider.signed(claims).split(".")
    head, body, _ = provider.signed({**claims, "preferred_username": "decision_maker"}).split(".")
    return f"{head}.{body}.{signature}"


_UNSIGNED: dict[str, Callable[[OidcProvider, Mapping[str, object]], str]] = {
    "none": OidcProvider.unsigned,
    "hmac": OidcProvider.signed_with_public_key,
    "other key": _other_key,
    "changed": _changed,
    "no token": lambda _provider, _claims: "not.a.token",
    "empty": lambda _provider, _claims: "",
    "letters": lambda _provider, _claims: "é.é.é",
    "kid": lambda provider, claims: provider.signed(claims, {"kid": "nobody's"}),
    "odd kid": lambda provider, claims: provider.signed(claims, {"kid": 7}),
    "crit": lambda provider, claims: provider.signed(claims, {"crit": ["exp"], "exp": 1}),
}


async def test_rfc8725_2_1_a_token_that_the_provider_has_not_signed_lets_nobody_in(
    browser: Browser, account: Account, provider: OidcProvider, store: Store
) -> None:
    account(Role.PHONE_MANAGER)
    account(Role.DECISION_MAKER)
    someone = browser()
    for name, sign in _UNSIGNED.items():
        provider.sign = sign
        await _lets_nobody_in(someone, store, name)


_ANOTHER: tuple[dict[str, object], ...] = (
    {"iss": "https://evil.example"},
    {"iss": None},
    {"aud": "another program"},
    {"aud": ["another program"]},
    {"aud": None},
    {"aud": [CLIENT, "another program"]},
    {"aud": [CLIENT, "another program"], "azp": "another program"},
    {"azp": "another program"},
    {"nonce": "0" * 43},
    {"nonce": None},
    {"exp": NOW - 61},
    {"exp": None},
    {"exp": "soon"},
    {"iat": NOW + 600},
    {"nbf": NOW + 600},
    {"sub": None},
    {"sub": ""},
    {"sub": 7},
)


async def test_core_3_1_3_7_a_token_that_was_made_for_something_else_lets_nobody_in(
    browser: Browser, account: Account, provider: OidcProvider, store: Store
) -> None:
    account(Role.PHONE_MANAGER)
    someone = browser()
    for instead in _ANOTHER:
        provider.instead = instead
        await _lets_nobody_in(someone, store, str(instead))
    provider.instead = {}
    assert (await sign_on(someone)).status_code == 303


async def _lets_nobody_in(someone: Person, store: Store, why: str) -> None:
    answer = await sign_on(someone)
    assert (answer.status_code, "be trusted" in answer.text) == (502, True), why
    assert not await is_in(someone), why
    assert signed_on(store) == [], why


async def test_core_3_1_3_7_several_audiences_with_the_portal_as_the_authorized_party(
    browser: Browser, account: Account, provider: OidcProvider
) -> None:
    account(Role.PHONE_MANAGER)
    provider.instead = {"aud": ["another program", CLIENT], "azp": CLIENT}
    assert (await sign_on(browser())).status_code == 303


async def test_rfc6749_10_12_an_answer_to_no_log_in_of_this_browser(
    browser: Browser, account: Account, provider: OidcProvider, clock: Clock
) -> None:
    account(Role.PHONE_MANAGER)
    someone, back = browser(), ""

    async def is_no_log_in(path: str) -> None:
        answer = await someone.get(path)
        assert (answer.status_code, "Begin it again" in answer.text) == (409, True)
        assert not await is_in(someone)

    await is_no_log_in("/login/oidc/answer?state=a&code=b")
    back = await through_provider(await leave(someone))
    wrong = re.sub(r"state=[^&]*", "state=" + "A" * 43, back)
    for path in (
        wrong,
        re.sub(r"state=[^&]*", "state=é", back),
        "/login/oidc/answer",
        "/login/oidc/answer?code=b",
    ):
        await is_no_log_in(path)
    assert provider.asked.count("/token") == 0, "a code that came with a wrong state is not even tried"
    assert (await someone.get(back + "&state=twice")).status_code == 400
    assert (await someone.get(back)).status_code == 303, "and the right answer counts still"
    # Another browser, to which somebody sends the answer to a log-in of his own.
    victim = browser()
    stolen = await through_provider(await leave(someone))
    answer = await victim.get(stolen)
    assert (answer.status_code, await is_in(victim)) == (409, False)
    late = browser()
    back = await through_provider(await leave(late))
    clock.now += 300
    answer = await late.get(back)
    assert (answer.status_code, await is_in(late)) == (409, False)


async def test_rfc6749_4_1_2_a_code_is_good_once(
    browser: Browser, account: Account, provider: OidcProvider
) -> None:
    account(Role.PHONE_MANAGER)
    someone = browser()
    back = await through_provider(await leave(someone))
    assert (await someone.get(back)).status_code == 303
    await someone.post("/logout")
    answer = await someone.get(back)
    assert (answer.status_code, await is_in(someone)) == (409, False)
    used = dict(parse_qsl(urlsplit(back).query))["code"]
    fresh = await through_provider(await leave(someone))
    answer = await someone.get(re.sub(r"code=[^&]*", f"code={used}", fresh))
    assert (answer.status_code, await is_in(someone)) == (502, False)


async def test_rfc9207_an_answer_of_another_provider(
    browser: Browser, account: Account, provider: OidcProvider
) -> None:
    account(Role.PHONE_MANAGER)
    for wrong in ("&iss=https%3A%2F%2Fevil.example", ""):
        someone = browser()
        back = await through_provider(await leave(someone))
        answer = await someone.get(re.sub(r"&iss=[^&]*", wrong, back))
        assert (answer.status_code, await is_in(someone)) == (502, False)
    assert provider.asked.count("/token") == 0


async def test_who_is_refused_or_unknown_or_disabled_is_told_and_not_let_in(
    browser: Browser, account: Account, provider: OidcProvider, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    account(Role.PHONE_MANAGER, disabled=True)
    account(Role.DECISION_MAKER)
    someone = browser()
    for claims in (
        {"preferred_username": "phone_manager"},
        {"preferred_username": "nobody"},
        {"preferred_username": ""},
        {"preferred_username": ["decision_maker"]},
        {},
    ):
        provider.claims = {"sub": "u-1", **claims}
        answer = await sign_on(someone)
        assert (answer.status_code, notice(answer)) == (
            403,
            "127.0.0.1 knows you, but the portal has no account for you.",
        )
    provider.refuses = "access_denied<b>"
    answer = await sign_on(someone)
    assert (answer.status_code, notice(answer)) == (403, "127.0.0.1 did not let you in.")
    assert not await is_in(someone)
    assert [one.name for one in store.accounts.all()] == ["decision_maker", "phone_manager"]
    assert signed_on(store) == []
    assert "access_denied" in caplog.text


async def test_core_5_7_a_name_that_changes_hands_takes_no_account_along(
    browser: Browser, account: Account, provider: OidcProvider, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    manager, chief = account(Role.PHONE_MANAGER), account(Role.DECISION_MAKER)
    assert (await sign_on(browser())).status_code == 303
    provider.claims = {"sub": "u-9", "preferred_username": "phone_manager"}
    assert (await sign_on(browser())).status_code == 403, "the name of who has left"
    assert "the account is another's at the provider" in caplog.text
    provider.claims = {"sub": "u-1", "preferred_username": "decision_maker"}
    renamed = browser()
    assert (await sign_on(renamed)).status_code == 303
    assert signed_on(store)[0].name == "phone_manager", "whoever calls himself otherwise is who he was"
    assert not store.accounts.bind_sign_on(chief.id, sign_on_key(provider.issuer, "u-1"))
    store.accounts.set_password(manager.id, "x", now=NOW, must_change=True)
    provider.claims = {"sub": "u-9", "preferred_username": "phone_manager"}
    assert (await sign_on(browser())).status_code == 303, "a new password of a Decision Maker begins anew"
    provider.claims = {"sub": "u-1", "preferred_username": "phone_manager"}
    assert (await sign_on(browser())).status_code == 403


@pytest.mark.parametrize(("name", "status"), [("\u017fam", 403), ("SAM", 303), ("sam\ud800", 403)])
async def test_names_are_the_same_in_any_case_of_a_to_z_alone(
    browser: Browser, account: Account, provider: OidcProvider, name: str, status: int
) -> None:
    account(Role.PHONE_MANAGER, name="sam")
    provider.claims = {"sub": "u-1", "preferred_username": name}
    assert (await sign_on(browser())).status_code == status


async def test_who_does_not_know_the_second_factor_keeps_its_owner_from_nothing(
    browser: Browser, account: Account, provider: OidcProvider, store: Store, clock: Clock
) -> None:
    secret = pyotp.random_base32()
    made = account(Role.PHONE_MANAGER)
    store.accounts.set_totp(made.id, secret)
    provider.claims = {"sub": "u-9", "preferred_username": "phone_manager"}
    stranger, someone = browser(), browser()
    assert (await sign_on(stranger)).headers["location"] == "/login/code"
    provider.claims = {"sub": "u-1", "preferred_username": "phone_manager"}
    assert (await sign_on(someone)).headers["location"] == "/login/code"
    code = {"code": pyotp.TOTP(secret).at(int(clock.now))}
    assert (await someone.post("/login/code", code, csrf="")).headers["location"] == "/codes"
    assert store.accounts.by_sign_on(sign_on_key(provider.issuer, "u-1")) is not None
    clock.now += 60
    code = {"code": pyotp.TOTP(secret).at(int(clock.now))}
    assert (await stranger.post("/login/code", code, csrf="")).status_code == 409
    assert not await is_in(stranger)


async def test_email_counts_once_it_is_verified(
    browser: Browser, account: Account, provider: OidcProvider
) -> None:
    account(Role.PHONE_MANAGER, name="anna@example.com")
    someone = browser(claim="email")
    for verified, status in ((None, 403), (False, 403), ("true", 403), (True, 303)):
        provider.claims = {"sub": "u-1", "email": "Anna@Example.com"}
        if verified is not None:
            provider.claims["email_verified"] = verified
        assert (await sign_on(someone)).status_code == status, verified


async def test_accounts_are_made_where_the_settings_say_so(
    browser: Browser, provider: OidcProvider, store: Store
) -> None:
    provider.claims = {"sub": "u-2", "preferred_username": "berta"}
    someone = browser(new_accounts="billing_contact")
    assert (await sign_on(someone)).status_code == 303
    assert await is_in(someone)
    made = store.accounts.by_name("berta")
    assert made is not None
    assert (made.role, made.must_change) == (Role.BILLING_CONTACT, False)
    assert [(entry.who, entry.action) for entry in store.audit.page()] == [
        ("berta", "sign_on"),
        ("oidc", "add"),
    ]
    provider.claims = {"sub": "u-3", "preferred_username": "x" * 65}
    assert (await sign_on(browser(new_accounts="billing_contact"))).status_code == 403


async def test_a_one_time_password_ends_when_its_owner_signs_on(
    browser: Browser, account: Account, provider: OidcProvider
) -> None:
    account(Role.PHONE_MANAGER, must_change=True)
    someone = browser()
    assert (await sign_on(someone)).headers["location"] == "/codes"
    assert (await someone.get("/codes")).status_code == 200
    assert (await browser().log_in("phone_manager")).status_code == 401


async def test_second_factor_is_asked_for_unless_the_provider_has(
    browser: Browser, account: Account, provider: OidcProvider, store: Store, clock: Clock
) -> None:
    secret = pyotp.random_base32()
    made = account(Role.PHONE_MANAGER)
    store.accounts.set_totp(made.id, secret)
    someone = browser()
    for told in ({}, {"amr": ["pwd"]}, {"amr": "mfa"}, {"amr": [["mfa"]]}, {"acr": 1}):
        provider.claims = {"sub": "u-1", "preferred_username": "phone_manager", **told}
        assert (await sign_on(someone)).headers["location"] == "/login/code"
        assert not await is_in(someone)
    assert signed_on(store)[0].after["second_factor"] == "portal"  # type: ignore[index]
    answer = await someone.post("/login/code", {"code": pyotp.TOTP(secret).at(int(clock.now))}, csrf="")
    assert (answer.status_code, answer.headers["location"]) == (303, "/codes")
    assert await is_in(someone)
    for told in ({"amr": ["pwd", "mfa"]}, {"acr": "mfa"}):
        provider.claims = {"sub": "u-1", "preferred_username": "phone_manager", **told}
        someone = browser()
        assert (await sign_on(someone)).headers["location"] == "/codes"
        assert await is_in(someone)
    assert signed_on(store)[0].after["second_factor"] == "provider"  # type: ignore[index]


async def test_core_10_1_1_new_keys_are_read_and_not_too_often(
    browser: Browser, account: Account, provider: OidcProvider, clock: Clock
) -> None:
    account(Role.PHONE_MANAGER)
    someone = browser()
    assert (await sign_on(someone)).status_code == 303
    provider.change_keys("second")
    assert (await sign_on(someone)).status_code == 502, "the keys were read this moment"
    clock.now += 60
    for _ in range(2):
        assert (await sign_on(someone)).status_code == 303
    assert provider.asked.count("/keys") == 2
    assert provider.asked.count("/.well-known/openid-configuration") == 1
    clock.now += 3_600
    await leave(someone)
    assert provider.asked.count("/.well-known/openid-configuration") == 2


@pytest.mark.parametrize(
    ("described", "status"),
    [
        ({"issuer": "https://evil.example"}, 502),
        ({"token_endpoint": "ftp://127.0.0.1/token"}, 502),
        ({"authorization_endpoint": None}, 502),
        ({"jwks_uri": "https:///keys"}, 502),
    ],
)
async def test_discovery_4_3_a_provider_that_says_odd_things_of_itself(
    browser: Browser, provider: OidcProvider, described: dict[str, object], status: int
) -> None:
    provider.described = described
    answer = await browser().get("/login/oidc")
    assert (answer.status_code, "be trusted" in answer.text) == (status, True)


async def test_a_provider_that_answers_anything(
    browser: Browser, provider: OidcProvider, clock: Clock
) -> None:
    someone = browser()
    for status, body, expected in (
        (200, b"<html>", 502),
        (200, b"[]", 502),
        (200, b"[" * 100_000, 502),
        (200, b" " * 300_000, 502),
        (302, b"{}", 502),
        (404, b"{}", 502),
        (503, b"{}", 503),
    ):
        provider.status, provider.body = status, body
        answer = await someone.get("/login/oidc")
        assert answer.status_code == expected, body[:10]
        assert 'name="password"' in answer.text, "there is the portal's own log-in still"
    provider.status, provider.body = 200, b""
    assert (await someone.get("/login/oidc")).status_code == 503, "it is left in peace for some seconds"
    clock.now += 5
    assert (await someone.get("/login/oidc")).status_code == 303


@pytest.mark.parametrize("told", [7, [], [7, {"kty": "RSA"}], [{"kty": "RSA", "n": "AA", "e": 3}]], ids=str)
async def test_keys_that_cant_be_read(
    browser: Browser, account: Account, provider: OidcProvider, told: object
) -> None:
    account(Role.PHONE_MANAGER)
    provider.keys = told
    someone = browser()
    assert (await sign_on(someone)).status_code == 502
    assert not await is_in(someone)


async def test_one_source_begins_so_many_log_ins_a_minute(browser: Browser, clock: Clock) -> None:
    someone = browser()
    assert [(await someone.get("/login/oidc")).status_code for _ in range(31)] == [303] * 30 + [429]
    clock.now += 2
    assert (await someone.get("/login/oidc")).status_code == 303


async def test_nobody_answers(browser: Browser, provider: OidcProvider) -> None:
    someone = browser(issuer="http://127.0.0.1:1")
    answer = await someone.get("/login/oidc")
    assert (answer.status_code, "does not answer" in notice(answer)) == (503, True)


async def test_leads_nowhere_else_and_keeps_its_cookie_to_itself(browser: Browser, account: Account) -> None:
    account(Role.PHONE_MANAGER)
    someone = browser()
    answer = await someone.get("/login/oidc?next=//evil.example/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-tollgate-sign-on=")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    back = await someone.get(await through_provider(answer.headers["location"]))
    assert back.headers["location"] == "/"
    assert any(
        "__Host-tollgate-sign-on=" in one and "Max-Age=0" in one
        for one in back.headers.get_list("set-cookie")
    )


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"issuer": "login.example.com"}, "write it like https://"),
        ({"issuer": "https://login.example.com?a=1"}, r"without \?"),
        ({"issuer": "https://anna@login.example.com"}, "user name"),
        ({"issuer": "http://login.example.com"}, "https: is needed"),
        ({"issuer": "https://login.example.com"}, "client_id: needed"),
        ({"new_accounts": "decision_maker"}, "phone_manager"),
    ],
)
def test_bad_settings(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        OidcSettings.model_validate(values)
