"""Logging in and out, one's own password, language and theme."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.portal.pages import ASSETS, asset, go_to, page
from proxy.portal.passwords import LEAST, MOST, TooBusy, weakness
from proxy.portal.permissions import Permission
from proxy.portal.portal import Portal
from proxy.portal.second_factor import HalfLogin
from proxy.portal.texts import LANGUAGES
from proxy.portal.visit import THEMES, Needs, Refused, Visit, cookie_name, source_of
from proxy.store import PortalAccount

__all__ = ["ask_second_factor", "inside", "minutes_of", "open_session", "router", "second_step_cookie"]

logger = logging.getLogger(__name__)
router = APIRouter()

Anyone = Annotated[Visit, Depends(Needs(Permission.PUBLIC))]
LoggedIn = Annotated[Visit, Depends(Needs(Permission.OWN_PASSWORD))]

_YEAR = 365 * 86_400
_WRONG_PER_MINUTE = 30
"""Log-ins that fail from one source, under whatever names: each costs what hashing costs."""


@router.get("/login")
async def show_login(visit: Anyone, next: str = "") -> Response:  # noqa: A002 - the parameter's name
    """Ask for name and password."""
    if visit.account is not None:
        return go_to(inside(next))
    return await page(visit, "login.html", error="", name="", next=inside(next))


@router.post("/login")
async def log_in(visit: Anyone) -> Response:
    """Open a session. Always with another id than before, so that nobody can have known it."""
    portal, source = visit.portal, source_of(visit.request)
    name, password = (await visit.field("name")).strip()[:64], await visit.field("password")
    following = inside(await visit.field("next"))

    async def refused(key: str, status: int, **values: object) -> Response:
        error = visit.texts(key, **values)
        return await page(visit, "login.html", status=status, error=error, name=name, next=following)

    if locked := await run_in_threadpool(portal.store.logins.locked_for, name, source, now=portal.clock()):
        return await refused("login.locked", 429, minutes=minutes_of(locked))
    limit, wrong = portal.limits, f"log-in {source}"
    if waits := limit.wait(wrong, _WRONG_PER_MINUTE, portal.clock(), take=False):
        return await refused("login.locked", 429, minutes=minutes_of(waits))
    account = await run_in_threadpool(portal.store.accounts.by_name, name)
    usable = account if account is not None and not account.disabled else None
    try:
        right = await portal.passwords.verify(None if usable is None else usable.password_hash, password)
    except TooBusy:
        return await refused("login.busy", 503)
    # Asked again: those who try many at once shall not get more tries than those who wait.
    if locked := await run_in_threadpool(portal.store.logins.locked_for, name, source, now=portal.clock()):
        return await refused("login.locked", 429, minutes=minutes_of(locked))
    if usable is None or not right:
        limit.wait(wrong, _WRONG_PER_MINUTE, portal.clock())
        lock = await run_in_threadpool(portal.store.logins.failed, name, source, now=portal.clock())
        # Not the name: people type passwords where the name belongs.
        logger.warning("portal: a log-in from %s failed%s", source, "; locked" if lock else "")
        if lock:
            return await refused("login.locked", 429, minutes=minutes_of(lock))
        return await refused("login.wrong", 401)
    if usable.totp_secret:
        # Failures stay counted: a right password alone shall not give another five tries at the second step.
        return ask_second_factor(visit, HalfLogin(usable.id, usable.version, name, following))
    await run_in_threadpool(portal.store.logins.succeeded, name, source)
    logger.info("portal: %s logged in from %s", usable.name, source)
    return await open_session(visit, usable, following)


@router.post("/logout")
async def log_out(visit: LoggedIn) -> Response:
    """End the session."""
    name = cookie_name(visit.portal)
    await run_in_threadpool(visit.portal.store.sessions.close, visit.request.cookies[name])
    answer = go_to("/login")
    answer.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
    return answer


@router.get("/password")
async def show_password(visit: LoggedIn, said: str = "") -> Response:
    """Ask for the old password and another."""
    return await page(visit, "password.html", error="", done=said == "changed", least=LEAST)


@router.post("/password")
async def change_password(visit: LoggedIn) -> Response:
    """Set another password; every session of the account ends, and this browser gets a new one."""
    portal, account = visit.portal, visit.who
    old, new, again = [await visit.field(name) for name in ("old", "new", "again")]

    async def refused(key: str, status: int = 422, **values: object) -> Response:
        error = visit.texts(key, least=LEAST, most=MOST, **values)
        return await page(visit, "password.html", status=status, error=error, done=False, least=LEAST)

    # Whoever finds an open browser must not be able to try passwords out here either.
    source = source_of(visit.request)
    guard, name = portal.store.logins, f"password of {account.id}"
    if locked := await run_in_threadpool(guard.locked_for, name, source, now=portal.clock()):
        return await refused("login.locked", 429, minutes=minutes_of(locked))
    if new != again:
        return await refused("password.different")
    if problem := weakness(new, account.name):
        return await refused(problem)
    try:
        if not await portal.passwords.verify(account.password_hash, old):
            await run_in_threadpool(guard.failed, name, source, now=portal.clock())
            return await refused("password.old_wrong")
        if new == old:
            return await refused("password.same")
        password_hash = await portal.passwords.hash(new)
    except TooBusy:
        return await refused("login.busy", 503)
    await run_in_threadpool(guard.succeeded, name, source)
    change = visit.store.accounts.set_password
    account = await run_in_threadpool(change, account.id, password_hash, now=portal.clock())
    return await open_session(visit, account, "/password?said=changed")


@router.post("/preferences")
async def set_preferences(visit: Anyone) -> Response:
    """Keep language and theme in the browser."""
    answer = go_to(inside(await visit.field("next")))
    for name, allowed in (("language", tuple(LANGUAGES)), ("theme", THEMES)):
        value = await visit.field(name)
        if value and value not in allowed:
            raise Refused(422, "error.not_on_list", name=name, allowed=", ".join(allowed))
        if value:
            answer.set_cookie(name, value, max_age=_YEAR, secure=True, httponly=True, samesite="lax")
    return answer


@router.get("/assets/{name:path}")
async def show_asset(visit: Anyone, name: str) -> Response:
    """Give out a style sheet, script or picture; its address changes with it."""
    data = asset(name)
    if data is None:
        raise Refused(404, "error.not_found")
    kept = "public, max-age=31536000, immutable" if "v" in visit.request.query_params else "no-cache"
    return Response(data, media_type=ASSETS[name], headers={"cache-control": kept})


@router.get("/too-large")
async def show_too_large(_visit: Anyone) -> Response:
    """Say that what was sent is too large (see `proxy.portal.headers.BodyBounds`)."""
    raise Refused(413, "error.too_large")


async def open_session(visit: Visit, account: PortalAccount, following: str) -> Response:
    """Let somebody in who has proved who he is, and lead him on."""
    portal, name = visit.portal, cookie_name(visit.portal)
    if old := visit.request.cookies.get(name):
        await run_in_threadpool(portal.store.sessions.close, old)
    session_id = await run_in_threadpool(
        portal.store.sessions.open,
        account.id,
        source=source_of(visit.request),
        now=portal.clock(),
        lifetime=portal.settings.session_lifetime,
    )
    answer = go_to("/password" if account.must_change else following)
    # Lax, not Strict: a link in an e-mail shall find its reader logged in. It keeps POSTs out all the same.
    answer.set_cookie(name, session_id, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def ask_second_factor(visit: Visit, half: HalfLogin) -> Response:
    """Lead somebody on to the second step of a log-in."""
    token = visit.portal.second_factors.begin(half, now=visit.portal.clock())
    answer = go_to("/login/code")
    name = second_step_cookie(visit.portal)
    answer.set_cookie(name, token, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def inside(path: str) -> str:
    """Return where to go next: a page of this portal and nowhere else."""
    good = path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path
    return path[:500] if good else "/"


def second_step_cookie(portal: Portal) -> str:
    """Name of the cookie that a browser has between the two steps of a log-in."""
    return f"{cookie_name(portal)}-step"


def minutes_of(seconds: float) -> int:
    """Say a time to wait in whole minutes."""
    return int(seconds // 60) + 1
