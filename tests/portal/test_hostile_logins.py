"""Log-ins against who guesses, floods, or has planted a session: what it costs others, and what it brings."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Literal

import httpx
import pyotp
import pytest_asyncio
from argon2 import PasswordHasher

from proxy.portal.app import create_app
from proxy.portal.passwords import Passwords
from proxy.portal.portal import Portal
from proxy.store import PortalAccount, Role, Store
from tests.portal.conftest import NOW, Clock
from tests.portal.person import PASSWORD, Person
from tests.portal.test_second_factor import PAGE, SECRET, code, enter

New = Callable[..., Person]
Account = Callable[..., PortalAccount]
COOKIE = "__Host-tollgate"
PATIENCE = 60.0


class Slow(PasswordHasher):
    """Hashes nothing before it is let."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.let = threading.Event()
        self.let.set()

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - the library's
        assert self.let.wait(PATIENCE)
        return super().verify(hash, password)


@pytest_asyncio.fixture
async def slow(portal: Portal) -> AsyncIterator[tuple[Slow, New]]:
    """What holds all hashing up, and browsers at such a portal."""
    hasher, opened = Slow(), list[httpx.AsyncClient]()
    passwords = Passwords(hasher)
    app = create_app(replace(portal, passwords=passwords))

    def make(source: str) -> Person:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(source, 4711))
        opened.append(httpx.AsyncClient(transport=transport, base_url="https://portal.test"))
        return Person(opened[-1])

    yield hasher, make
    hasher.let.set()
    for client in opened:
        await client.aclose()
    passwords.close()


async def test_guessing_stalls_nobody_and_is_bounded_at_once(
    slow: tuple[Slow, New], account: Account, store: Store
) -> None:
    hasher, person = slow
    account(Role.PHONE_MANAGER)
    inside = person("198.51.100.1")
    assert (await inside.log_in("phone_manager")).status_code == 303
    hasher.let.clear()
    guesses = [
        asyncio.create_task(person(f"203.0.113.{number}").log_in(f"name {number}", "wrong"))
        for number in range(40)
    ]
    try:
        # Those for whom there is no room are told so while all the others still wait.
        refused = itertools.islice(asyncio.as_completed(guesses, timeout=PATIENCE), 24)
        assert [(await guess).status_code for guess in refused] == [503] * 24
        # Pages that hash nothing are answered meanwhile: the event loop is free, and so are the threads.
        async with asyncio.timeout(PATIENCE):
            assert (await person("198.51.100.2").get("/login")).status_code == 200
            assert (await inside.get("/codes")).status_code == 200
            assert (await inside.get("/")).status_code == 200
        assert sum(guess.done() for guess in guesses) == 24
    finally:
        hasher.let.set()
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*guesses)
    assert sorted(answer.status_code for answer in answers) == [401] * 16 + [503] * 24
    assert (await person("198.51.100.3").log_in("phone_manager")).status_code == 303, "nobody else is locked"


def session_of(someone: Person) -> str:
    return someone.client.cookies[COOKIE]


async def test_fixation_the_session_is_another_after_each_step_and_the_one_before_is_dead(
    person: New, account: Account, clock: Clock
) -> None:
    account(Role.PHONE_MANAGER)
    victim, thief = person(), person("203.0.113.66")

    async def stolen(session: str) -> bool:
        thief.client.cookies.clear()
        thief.client.cookies.set(COOKIE, session, domain="portal.test")
        return (await thief.get("/password")).status_code == 200

    # What somebody has planted, made up or had before, is never taken over.
    await thief.log_in("phone_manager")
    planted = session_of(thief)
    victim.client.cookies.set(COOKIE, planted, domain="portal.test")
    seen = [planted]

    async def changed() -> None:
        now = session_of(victim)
        assert now not in seen
        assert not await stolen(seen[-1]), "the one before is dead"
        assert (await victim.get("/password")).status_code == 200
        seen.append(now)

    await victim.post("/login", {"name": "phone_manager", "password": PASSWORD})
    await changed()
    another = "another good long one"
    answer = await victim.post("/password", {"old": PASSWORD, "new": another, "again": another})
    assert answer.status_code == 303
    await changed()
    page = (await victim.get(PAGE)).text
    secret = page.partition('<code id="secret"')[2].partition(">")[2].partition("<")[0].replace(" ", "")
    assert (await victim.post(PAGE, {"old": another, "code": code(NOW, secret)})).status_code == 303
    await changed()
    clock.now += 30
    answer = await victim.post("/login", {"name": "phone_manager", "password": another})
    assert answer.headers["location"] == "/login/code"
    assert session_of(victim) == seen[-1], "half a log-in opens nothing"
    answer = await victim.post("/login/code", {"code": code(clock.now, secret)})
    assert answer.status_code == 303
    await changed()
    clock.now += 30
    assert (await victim.post(PAGE, {"old": another, "code": code(clock.now, secret)})).status_code == 303
    await changed()
    assert len(set(seen)) == 6


async def test_fixation_a_planted_second_step_is_its_owners_own(
    person: New, account: Account, store: Store, clock: Clock
) -> None:
    store.accounts.set_totp(account(Role.PHONE_MANAGER).id, SECRET)
    thief, victim = person("203.0.113.66"), person()
    await thief.log_in("phone_manager")
    half = thief.client.cookies[f"{COOKIE}-step"]
    await victim.log_in("phone_manager")
    assert victim.client.cookies[f"{COOKIE}-step"] != half, "each has its own"
    assert (await enter(victim, pyotp.TOTP(SECRET).at(int(clock.now)))).status_code == 303
    assert (await enter(thief, pyotp.TOTP(SECRET).at(int(clock.now)))).status_code == 401, "it is used up"
    assert COOKIE not in thief.client.cookies
