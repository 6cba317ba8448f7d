"""The second factor: switched on and off by its owner, asked for at log-in, lost and taken away."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pyotp
import pytest

from proxy.portal.portal import Portal
from proxy.portal.second_factor import HalfLogin, SecondFactors, new_secret, step_of
from proxy.store import PortalAccount, Role, Store
from tests.portal.conftest import NOW, Clock
from tests.portal.person import PASSWORD, Person, notice

New = Callable[..., Person]
Account = Callable[..., PortalAccount]

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""Of RFC 6238 Appendix B: ``12345678901234567890``."""
PAGE = "/password/second-factor"


def code(now: float, secret: str = SECRET) -> str:
    return pyotp.TOTP(secret).at(int(now))


def other(right: str) -> str:
    """Return a one-time password of no step near."""
    return str((int(right) + 111_111) % 1_000_000).zfill(6)


@pytest.fixture
def guarded(account: Account, store: Store) -> PortalAccount:
    """A Phone Manager with a second factor."""
    return store.accounts.set_totp(account(Role.PHONE_MANAGER).id, SECRET)


async def enter(someone: Person, digits: str) -> httpx.Response:
    return await someone.post("/login/code", {"code": digits}, csrf="")


@pytest.mark.parametrize(
    ("at", "digits"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_rfc6238_appendix_b(at: int, digits: str) -> None:
    assert step_of(SECRET, digits, now=at) == at // 30
    assert step_of(SECRET, digits[:3] + " " + digits[3:], now=at) == at // 30


def test_rfc6238_5_2_a_step_before_and_after_is_taken_and_no_other() -> None:
    digits = code(NOW)
    taken = [step_of(SECRET, digits, now=NOW + 30 * late) is not None for late in (-2, -1, 0, 1, 2)]
    assert taken == [False, True, True, True, False]


@pytest.mark.parametrize(
    "entered", ["", "28708", "2870820", "²87082", "٢٨٧٠٨٢", "-87082", "0x7082", "1" * 9_999]
)
def test_what_is_no_one_time_password(entered: str) -> None:
    assert step_of(SECRET, entered, now=59) is None


def test_rfc4226_4_secrets_have_160_bits_and_differ() -> None:
    made = {new_secret() for _ in range(20)}
    assert len(made) == 20
    assert all(re.fullmatch(r"[A-Z2-7]{32}", secret) for secret in made)


async def test_the_password_alone_opens_nothing(person: New, guarded: PortalAccount) -> None:
    someone = person()
    answer = await someone.log_in("phone_manager", next="/codes?search=acme")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login/code")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-tollgate-step=")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert parts == {"httponly", "secure", "samesite=lax", "path=/"}
    assert (await someone.get("/codes")).headers["location"].startswith("/login?")
    assert "one-time-code" in (await someone.get("/login/code")).text
    answer = await enter(someone, code(NOW))
    assert (answer.status_code, answer.headers["location"]) == (303, "/codes?search=acme")
    assert (await someone.get("/codes")).status_code == 200


async def test_without_a_second_factor_nothing_is_asked(person: New, account: Account) -> None:
    account(Role.PHONE_MANAGER)
    assert (await person().log_in("phone_manager")).headers["location"] == "/"


async def test_rfc6238_5_2_each_is_good_once(person: New, guarded: PortalAccount, clock: Clock) -> None:
    first, second = person(), person("198.51.100.1")
    await first.log_in("phone_manager")
    await second.log_in("phone_manager")
    digits = code(NOW)
    assert (await enter(first, digits)).status_code == 303
    answer = await enter(second, digits)
    assert (answer.status_code, "was used before" in notice(answer)) == (401, True)
    assert (await enter(second, code(NOW - 30))).status_code == 401, "nor an earlier one"
    clock.now += 30
    assert (await enter(second, digits)).status_code == 401
    assert (await enter(second, code(clock.now))).status_code == 303


async def test_one_entered_twice_at_once_opens_one_session(person: New, guarded: PortalAccount) -> None:
    people = [person(f"198.51.100.{number}") for number in range(4)]
    for someone in people:
        await someone.log_in("phone_manager")
    answers = await asyncio.gather(*(enter(someone, code(NOW)) for someone in people))
    assert sorted(answer.status_code for answer in answers) == [303, 401, 401, 401]


async def test_a_second_step_counts_towards_the_lock_out(
    person: New, guarded: PortalAccount, clock: Clock
) -> None:
    thief, wrong = person("198.51.100.9"), other(code(NOW))
    for status in (401, 401, 401, 401, 429):
        # To enter the right password again gives no further tries.
        assert (await thief.log_in("phone_manager")).status_code == 303
        assert (await enter(thief, wrong)).status_code == status
    assert (await thief.log_in("phone_manager")).status_code == 429
    answer = await enter(thief, code(NOW))
    assert (answer.status_code, "Try again in" in notice(answer)) == (429, True), "right, but locked"
    clock.now += 61
    assert (await thief.log_in("phone_manager")).status_code == 303
    assert (await enter(thief, code(clock.now))).status_code == 303


async def test_who_has_the_password_does_not_get_more_tries_from_more_places(
    person: New, guarded: PortalAccount, clock: Clock
) -> None:
    wrong, statuses = other(code(NOW)), []
    for number in range(6):
        thief = person(f"198.51.100.{number}")
        await thief.log_in("phone_manager")
        statuses.append((await enter(thief, wrong)).status_code)
    assert statuses == [401, 401, 401, 401, 429, 429]
    clock.now += 61
    owner = person()
    await owner.log_in("phone_manager")
    assert (await enter(owner, code(clock.now))).status_code == 303


async def test_tries_side_by_side_are_no_more_tries(person: New, guarded: PortalAccount) -> None:
    thief, wrong = person(), other(code(NOW))
    await thief.log_in("phone_manager")
    answers = await asyncio.gather(*(enter(thief, wrong) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [401] * 4 + [429] * 8


async def test_the_second_step_comes_after_the_first_and_within_minutes(
    person: New, guarded: PortalAccount, clock: Clock
) -> None:
    stranger = person()
    for token in ("", "x" * 43):
        stranger.client.cookies.set("__Host-tollgate-step", token)
        answer = await enter(stranger, code(NOW))
        assert (answer.status_code, "Enter name and password again" in notice(answer)) == (409, True)
    slow = person()
    await slow.log_in("phone_manager")
    clock.now += 300
    assert (await slow.get("/login/code")).status_code == 409
    assert (await enter(slow, code(clock.now))).status_code == 409
    assert (await slow.get("/codes")).status_code == 303


async def test_a_half_log_in_is_used_once(person: New, guarded: PortalAccount, clock: Clock) -> None:
    someone = person()
    await someone.log_in("phone_manager")
    token = someone.client.cookies["__Host-tollgate-step"]
    assert (await enter(someone, code(NOW))).status_code == 303
    assert "__Host-tollgate-step" not in someone.client.cookies
    clock.now += 30
    thief = person()
    thief.client.cookies.set("__Host-tollgate-step", token)
    assert (await enter(thief, code(clock.now))).status_code == 409


@pytest.mark.parametrize("change", ["password", "disabled", "deleted", "factor"])
async def test_an_account_that_was_changed_between_the_steps_begins_again(
    person: New, guarded: PortalAccount, store: Store, account: Account, change: str
) -> None:
    someone = person()
    await someone.log_in("phone_manager")
    match change:
        case "password":
            store.accounts.set_password(guarded.id, "$argon2id$other", now=NOW)
        case "disabled":
            store.accounts.change(replace(guarded, disabled=True), version=guarded.version)
        case "deleted":
            store.accounts.delete(guarded.id)
        case _:
            store.accounts.set_totp(guarded.id, "")
    assert (await enter(someone, code(NOW))).status_code == 409
    assert (await someone.get("/codes")).status_code == 303


@pytest.mark.parametrize("headers", [{"origin": "https://evil.test"}, {"sec-fetch-site": "cross-site"}])
async def test_other_sites_can_not_take_the_second_step(
    person: New, guarded: PortalAccount, headers: dict[str, str]
) -> None:
    someone = person()
    await someone.log_in("phone_manager")
    assert (await someone.post("/login/code", {"code": code(NOW)}, csrf="", **headers)).status_code == 403


async def test_neither_secret_nor_one_time_password_is_logged(
    person: New, guarded: PortalAccount, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    someone, right = person(), code(NOW)
    with caplog.at_level(logging.DEBUG):
        await someone.log_in("phone_manager")
        await enter(someone, other(right))
        await enter(someone, right)
    told = caplog.text + repr(store.audit.page())
    assert "a second step from 192.0.2.7 failed" in told
    for secret in (SECRET, right, other(right)):
        assert secret not in told


async def test_the_owner_switches_it_on_with_its_first_code_and_off_with_another(
    manager: Person, person: New, store: Store, clock: Clock
) -> None:
    assert f'href="{PAGE}"' in (await manager.get("/password")).text
    page = (await manager.get(PAGE)).text
    found = re.search(r'<code id="secret"[^>]*>([A-Z2-7 ]{39})</code>', page)
    link = re.search(r'href="(otpauth:[^"]*)"', page)
    assert found
    assert link
    secret = found[1].replace(" ", "")
    address = urlsplit(link[1].replace("&amp;", "&"))
    assert (address.netloc, unquote(address.path)) == ("totp", "/Tollgate:phone_manager")
    assert parse_qs(address.query) == {"secret": [secret], "issuer": ["Tollgate"]}
    assert secret in (await manager.get(PAGE)).text.replace(" ", ""), "shown again until it is confirmed"
    kept = store.accounts.by_name("phone_manager")
    assert kept
    assert kept.totp_secret == ""
    first = code(NOW, secret)
    elsewhere = person()
    await elsewhere.log_in("phone_manager")
    answer = await manager.post(PAGE, {"old": PASSWORD, "code": first})
    assert answer.headers["location"] == f"{PAGE}?said=on"
    assert (await elsewhere.get("/usage")).headers["location"].startswith("/login"), "opened without it"
    shown = await manager.get(f"{PAGE}?said=on")
    assert "is on" in notice(shown)
    assert "otpauth:" not in shown.text
    assert secret not in shown.text.replace(" ", "")
    someone = person()
    await someone.log_in("phone_manager")
    assert (await enter(someone, first)).status_code == 401, "it was used to switch it on"
    clock.now += 30
    assert (await enter(someone, code(clock.now, secret))).status_code == 303
    again = await manager.post(PAGE, {"old": PASSWORD, "code": code(clock.now, secret)})
    assert (again.status_code, "was used before" in notice(again)) == (422, True)
    clock.now += 30
    answer = await manager.post(PAGE, {"old": PASSWORD, "code": code(clock.now, secret)})
    assert answer.headers["location"] == f"{PAGE}?said=off"
    assert (await person().log_in("phone_manager")).headers["location"] == "/"
    told = [(one.who, one.action, one.after) for one in store.audit.page() if one.action == "second_factor"]
    assert told == [
        ("phone_manager", "second_factor", {"second_factor": False}),
        ("phone_manager", "second_factor", {"second_factor": True}),
    ]
    assert secret not in repr(store.audit.page())


async def test_nothing_is_switched_without_password_and_code(
    manager: Person, store: Store, portal: Portal, clock: Clock
) -> None:
    def is_on() -> bool:
        found = store.accounts.by_name("phone_manager")
        return found is not None and bool(found.totp_secret)

    answer = await manager.post(PAGE, {"old": PASSWORD, "code": code(NOW), "secret": SECRET})
    assert (answer.status_code, is_on()) == (409, False), "a secret is offered here, not brought along"
    found = re.search(r'<code id="secret"[^>]*>([A-Z2-7 ]{39})</code>', (await manager.get(PAGE)).text)
    assert found
    secret = found[1].replace(" ", "")
    answer = await manager.post(PAGE, {"old": "wrong", "code": code(NOW, secret)})
    assert (answer.status_code, "password now is wrong" in notice(answer), is_on()) == (422, True, False)
    answer = await manager.post(PAGE, {"old": PASSWORD, "code": other(code(NOW, secret))})
    assert (answer.status_code, is_on()) == (422, False)
    assert (await manager.post(PAGE, {"old": PASSWORD, "code": code(NOW, secret)})).status_code == 303
    clock.now += 30
    answer = await manager.post(PAGE, {"old": "wrong", "code": code(clock.now, secret)})
    assert (answer.status_code, is_on()) == (422, True)
    for _ in range(4):
        answer = await manager.post(PAGE, {"old": PASSWORD, "code": other(code(clock.now, secret))})
    assert (answer.status_code, is_on()) == (429, True), "an open browser is no place to guess"
    assert (await manager.post(PAGE, {"old": PASSWORD, "code": code(clock.now, secret)})).status_code == 429


async def test_a_decision_maker_switches_it_off_for_who_has_lost_the_secret(
    person: New, account: Account, guarded: PortalAccount, store: Store
) -> None:
    own = account(Role.DECISION_MAKER)
    chief = person()
    await chief.log_in("decision_maker")
    assert "/accounts/second-factor" in (await chief.get(f"/accounts/edit?id={guarded.id}")).text
    answer = await chief.post("/accounts/second-factor", {"id": str(guarded.id)})
    assert "second factor is off" in notice(await chief.get(answer.headers["location"]))
    assert (await person("198.51.100.1").log_in("phone_manager")).headers["location"] == "/"
    (entry,) = [one for one in store.audit.page() if one.who == "decision_maker"]
    assert (entry.action, entry.name) == ("second_factor", "phone_manager")
    store.accounts.set_totp(own.id, SECRET)
    await chief.log_in("decision_maker")
    await enter(chief, code(NOW))
    answer = await chief.post("/accounts/second-factor", {"id": str(own.id)})
    assert (answer.status_code, "Your own" in notice(answer)) == (409, True)
    kept = store.accounts.get(own.id)
    assert kept
    assert kept.totp_secret


async def test_a_one_time_password_of_a_decision_maker_asks_for_the_second_factor_all_the_same(
    person: New, guarded: PortalAccount, store: Store
) -> None:
    hashed = guarded.password_hash
    store.accounts.set_password(guarded.id, hashed, now=NOW, must_change=True)
    someone = person()
    assert (await someone.log_in("phone_manager")).headers["location"] == "/login/code"
    assert (await enter(someone, code(NOW))).headers["location"] == "/password"


def test_a_flood_of_half_log_ins_fills_no_memory() -> None:
    factors = SecondFactors()
    half = HalfLogin(1, 1, "a", "/")
    tokens = [factors.begin(half, now=NOW + number / 1_000) for number in range(10_050)]
    assert len(factors.logins._kept) == 10_000
    assert factors.logins.get(tokens[-1], now=NOW + 11) == half
    factors.begin(half, now=NOW + 1_000)
    assert len(factors.logins._kept) == 1, "what is over goes"
