"""One request: who comes, what they may, and how they want to be spoken to."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.datastructures import FormData

from proxy.portal.permissions import Permission, may
from proxy.portal.portal import Portal
from proxy.portal.texts import LANGUAGES, Texts, preferred, texts_of
from proxy.store import Actor, PortalAccount, PortalSession, Store

__all__ = [
    "THEMES",
    "LogInFirst",
    "Needs",
    "Refused",
    "Visit",
    "cookie_name",
    "portal_of",
    "refuse_other_sites",
    "source_of",
    "source_of_host",
]

THEMES = ("auto", "light", "dark")
_SAFE = frozenset({"GET", "HEAD"})


class _RowNumber(IntegerConvertor):
    """A number in a path: one that a row can have. Of some thousand digits Python makes none (ValueError)."""

    regex = "[0-9]{1,15}"


# Here, because every module with a route needs this one before.
register_url_convertor("int", _RowNumber())


class Refused(Exception):  # noqa: N818 - it says what is the case
    """The request is not answered with what it asked for, but with a page that says why."""

    def __init__(self, status: int, key: str, **values: object) -> None:
        super().__init__(key)
        self.status = status
        self.key = key
        self.values = values


class LogInFirst(Exception):  # noqa: N818 - it says what is the case
    """There is no session (any more)."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody."""

    request: Request
    portal: Portal
    session: PortalSession | None
    texts: Texts
    theme: str

    @property
    def account(self) -> PortalAccount | None:
        """Who comes; None without a log-in."""
        return None if self.session is None else self.session.account

    @property
    def who(self) -> PortalAccount:
        """Who comes, on a route that needs a log-in."""
        return self._expect().account

    @property
    def session_hash(self) -> str:
        """What names the session here without opening it."""
        return self._expect().session_hash

    @property
    def csrf(self) -> str:
        """What every form of this session sends back; "" without a log-in."""
        return "" if self.session is None else self.session.csrf_secret

    @property
    def store(self) -> Store:
        """The store, which notes whose changes these are."""
        account = self.who
        return self.portal.store.acting(Actor(account.name, account.role.value, source_of(self.request)))

    def may(self, permission: str) -> bool:
        """Whether who comes has a permission (by name: for templates)."""
        return may(self.account, Permission(permission))

    async def form(self) -> FormData:
        """The fields of the form that was sent."""
        return await self.request.form(max_files=1, max_fields=2_000, max_part_size=64 * 1024)

    async def field(self, name: str) -> str:
        """One field of it; "" when it is not there or a file."""
        value = (await self.form()).get(name)
        return value if isinstance(value, str) else ""

    def _expect(self) -> PortalSession:
        if self.session is None:
            raise LogInFirst
        return self.session


class Needs:
    """What a route asks for before it does anything. Every route has one; `create_app` sees to it."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> AsyncIterator[Visit]:
        """Let the request in as a visit. Raises `LogInFirst` or `Refused`."""
        try:
            yield await self._let_in(request)
        finally:
            await request.close()  # the files of its form

    async def _let_in(self, request: Request) -> Visit:
        visit = await visit_of(request)
        request.state.visit = visit
        if not may(visit.account, self.permission):
            if visit.account is None:
                raise LogInFirst
            if visit.account.must_change:
                raise Refused(403, "password.change_first")
            raise Refused(403, "error.forbidden")
        if request.method not in _SAFE:
            await _refuse_forged(visit)
        return visit


async def visit_of(request: Request) -> Visit:
    """Find out who comes."""
    portal = portal_of(request)
    cookie = request.cookies.get(cookie_name(portal), "")
    session = None
    if cookie:
        now, idle = portal.clock(), portal.settings.session_idle
        # A page that listens or asks by itself keeps nobody logged in.
        used = request.url.path not in {"/live/events", "/usage/export/progress"}
        session = await run_in_threadpool(portal.store.sessions.find, cookie, now=now, idle=idle, used=used)
    language = request.cookies.get("language", "")
    if language not in LANGUAGES:
        language = preferred(request.headers.get("accept-language", ""))
    theme = request.cookies.get("theme", "")
    return Visit(request, portal, session, texts_of(language), theme if theme in THEMES else "auto")


def portal_of(request: Request) -> Portal:
    """Return the portal that a request came to."""
    portal: Portal = request.app.state.portal
    return portal


def cookie_name(portal: Portal) -> str:
    """Name of the session's cookie; its prefix makes browsers keep it to this very host and to HTTPS
    (draft-ietf-httpbis-rfc6265bis §4.1.3.2), so there is none without.
    """
    return "__Host-tollgate" if portal.settings.https else "tollgate"


def source_of(request: Request) -> str:
    """Where a request comes from: see `source_of_host`."""
    return source_of_host(request.client.host if request.client else "")


def source_of_host(host: str) -> str:
    """Return what counts as one source: an address, and of IPv6 the /64, which is one line's."""
    try:
        address = ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return host


async def _refuse_forged(visit: Visit) -> None:
    """Refuse what another site made the browser send."""
    refuse_other_sites(visit)
    if visit.session is None:
        return
    given = visit.request.headers.get("x-csrf-token") or await visit.field("csrf")
    if not hmac.compare_digest(given.encode(), visit.csrf.encode()):
        raise Refused(403, "error.forged")


def refuse_other_sites(visit: Visit) -> None:
    """Refuse what a page of another site asks for."""
    headers = visit.request.headers
    own = {headers.get("host", "").lower(), urlsplit(visit.portal.settings.public_url).netloc.lower()} - {""}
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() not in own:
        raise Refused(403, "error.forged")
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Refused(403, "error.forged")
