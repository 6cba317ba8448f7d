"""The real portal over a real SQLite file, asked without a socket; only hashing is made cheap."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from argon2 import PasswordHasher
from fastapi import APIRouter

from proxy.policy import NumberPlan
from proxy.portal.app import create_app
from proxy.portal.gate_link import GateLink
from proxy.portal.passwords import Passwords
from proxy.portal.portal import Portal
from proxy.settings_portal import PortalSettings
from proxy.store import PortalAccount, Role, Store
from tests.portal.person import PASSWORD, Person

NOW = 1_790_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def passwords() -> Iterator[Passwords]:
    made = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    yield made
    made.close()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store's file: its migrations take longer than most of these tests."""
    file = tmp_path_factory.mktemp("store") / "tollgate.db"
    Store(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Iterator[Store]:
    shutil.copy(empty_store, tmp_path / "tollgate.db")
    with Store(f"sqlite:///{tmp_path}/tollgate.db") as opened:
        yield opened


@pytest.fixture
def portal(store: Store, passwords: Passwords, clock: Clock, tmp_path: Path) -> Iterator[Portal]:
    settings = PortalSettings(public_url="https://portal.test", trusted_proxies=("127.0.0.1",))  # type: ignore[arg-type]
    link = GateLink(tmp_path / "none.sock")
    made = Portal(settings, store, NumberPlan(), link, passwords, clock=clock)
    yield made
    made.uploads.close()


@pytest.fixture
def account(store: Store, passwords: Passwords) -> Callable[..., PortalAccount]:
    """Make an account of a role, whose name is the role's."""

    def make(role: Role, **more: object) -> PortalAccount:
        extension = "2001" if role is Role.USER else ""
        made = PortalAccount(role.value, role, passwords.hash_now(PASSWORD), extension)
        return store.accounts.add(replace(made, **more), now=NOW)  # type: ignore[arg-type]

    return make


@pytest_asyncio.fixture
async def person(portal: Portal) -> AsyncIterator[Callable[..., Person]]:
    """Make a browser with nobody logged in."""
    opened: list[httpx.AsyncClient] = []

    def make(source: str = "192.0.2.7") -> Person:
        transport = httpx.ASGITransport(create_app(portal), raise_app_exceptions=False, client=(source, 4711))
        client = httpx.AsyncClient(transport=transport, base_url="https://portal.test")
        opened.append(client)
        return Person(client)

    yield make
    for client in opened:
        await client.aclose()


@pytest_asyncio.fixture
async def program(portal: Portal, store: Store) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Make a program that has a token for some scopes; with none of them it has no token."""
    opened: list[httpx.AsyncClient] = []

    def make(*scopes: str, source: str = "192.0.2.9") -> httpx.AsyncClient:
        headers = {}
        if scopes:
            secret, _ = store.tokens.add(f"program {len(opened)}", scopes, now=NOW)
            headers = {"authorization": f"Bearer {secret}"}
        transport = httpx.ASGITransport(create_app(portal), raise_app_exceptions=False, client=(source, 4712))
        client = httpx.AsyncClient(
            transport=transport, base_url="https://portal.test/api/v1", headers=headers
        )
        opened.append(client)
        return client

    yield make
    for client in opened:
        await client.aclose()


@pytest.fixture
def careless() -> APIRouter:
    """A room whose route does not say whom it is for."""
    room = APIRouter()

    @room.get("/all-codes")
    async def show() -> str:
        return "4711"

    return room


@pytest_asyncio.fixture
async def manager(person: Callable[..., Person], account: Callable[..., PortalAccount]) -> Person:
    """A Phone Manager, logged in."""
    account(Role.PHONE_MANAGER)
    someone = person()
    assert (await someone.log_in("phone_manager")).status_code == 303
    return someone


@pytest_asyncio.fixture
async def decider(person: Callable[..., Person], account: Callable[..., PortalAccount]) -> Person:
    """A Decision Maker, logged in."""
    account(Role.DECISION_MAKER)
    someone = person()
    assert (await someone.log_in("decision_maker")).status_code == 303
    return someone
