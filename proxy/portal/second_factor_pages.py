"""The second step of a log-in, and switching it on and off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.portal.account_pages import minutes_of, open_session, second_step_cookie
from proxy.portal.pages import page
from proxy.portal.passwords import TooBusy
from proxy.portal.permissions import Permission
from proxy.portal.second_factor import HalfLogin, new_secret, otpauth, step_of
from proxy.portal.visit import Needs, Visit, source_of
from proxy.store import PortalAccount

__all__ = ["router"]

logger = logging.getLogger(__name__)
router = APIRouter()

Anyone = Annotated[Visit, Depends(Needs(Permission.PUBLIC))]
LoggedIn = Annotated[Visit, Depends(Needs(Permission.OWN_PASSWORD))]


@router.get("/login/code")
async def show_second_step(visit: Anyone) -> Response:
    """Ask for the one-time password."""
    if _half_of(visit) is None:
        return await _begin_again(visit)
    return await page(visit, "login_code.html", error="")


@router.post("/login/code")
async def take_second_step(visit: Anyone) -> Response:
    """Open a session for who has entered the password before, and the right one-time password now."""
    portal, half = visit.portal, _half_of(visit)
    account = None if half is None else await run_in_threadpool(portal.store.accounts.get, half.account_id)
    if half is None or account is None or account.disabled or account.version != half.version:
        return await _begin_again(visit)

    def take(step: int) -> bool:
        return portal.store.accounts.use_totp_step(account.id, step)

    right, locked = await _try(visit, account, take, name=half.name, secret=account.totp_secret)
    if not right:
        source = source_of(visit.request)
        logger.warning("portal: a second step from %s failed%s", source, "; locked" if locked else "")
        return await page(
            visit, "login_code.html", status=429 if locked else 401, error=_complaint(visit, locked)
        )
    portal.second_factors.logins.drop(visit.request.cookies[second_step_cookie(portal)])
    if half.sign_on and not await run_in_threadpool(
        portal.store.accounts.bind_sign_on, account.id, half.sign_on
    ):
        return await _begin_again(visit)
    logger.info("portal: %s logged in from %s", account.name, source_of(visit.request))
    answer = await open_session(visit, account, half.following)
    cookie = second_step_cookie(portal)
    answer.delete_cookie(cookie, path="/", secure=True, httponly=True, samesite="lax")
    return answer


@router.get("/password/second-factor")
async def show_second_factor(visit: LoggedIn, said: str = "") -> Response:
    """Show a secret to be confirmed; or, where one is in use, how to switch it off."""
    return await _factor_page(visit, visit.who, said=said if said in {"on", "off"} else "")


@router.post("/password/second-factor")
async def switch_second_factor(visit: LoggedIn) -> Response:
    """Switch the second factor on or off, for who knows the password and has the secret."""
    portal, account = visit.portal, visit.who
    guard, source, name = portal.store.logins, source_of(visit.request), f"password of {account.id}"
    if locked := await run_in_threadpool(guard.locked_for, name, source, now=portal.clock()):
        return await _factor_page(visit, account, status=429, error=_complaint(visit, locked))
    offered = portal.second_factors.offered.get(visit.session_hash, now=portal.clock())
    if not (account.totp_secret or offered):
        # Never one that the browser names: it has to be the one that was shown here.
        return await _factor_page(visit, account, status=409, error=visit.texts("second.again"))
    try:
        right = await portal.passwords.verify(account.password_hash, await visit.field("old"))
    except TooBusy:
        return await _factor_page(visit, account, status=503, error=visit.texts("login.busy"))
    if not right:
        await run_in_threadpool(guard.failed, name, source, now=portal.clock())
        wrong = visit.texts("password.old_wrong")
        return await _factor_page(visit, account, status=422, error=wrong)
    accounts = visit.store.accounts

    def switch_on(step: int) -> bool:
        accounts.set_totp(account.id, offered or "")
        return accounts.use_totp_step(account.id, step)

    def switch_off(step: int) -> bool:
        return accounts.use_totp_step(account.id, step) and bool(accounts.set_totp(account.id, ""))

    secret, take = (account.totp_secret, switch_off) if account.totp_secret else (offered, switch_on)
    right, locked = await _try(visit, account, take, name=name, secret=secret or "")
    if not right:
        status = 429 if locked else 422
        return await _factor_page(visit, account, status=status, error=_complaint(visit, locked))
    portal.second_factors.offered.drop(visit.session_hash)
    # What guards the account has changed: this browser gets another session too, in case its own was known.
    said = "off" if account.totp_secret else "on"
    return await open_session(visit, account, f"/password/second-factor?said={said}")


async def _try(
    visit: Visit,
    account: PortalAccount,
    take: Callable[[int], bool],
    *,
    name: str,
    secret: str,
) -> tuple[bool, float]:
    """Say whether a one-time password is right and not used up, and else for how many seconds none is heard.

    Failures count under the name and source like wrong passwords, and for the account from wherever they
    come: who has found out a password shall not try the other out from many places.
    """
    portal, entered = visit.portal, await visit.field("code")
    guard = portal.store.logins
    places = ((name, source_of(visit.request)), (f"second factor of {account.id}", ""))

    def work() -> tuple[bool, float]:
        now = portal.clock()
        if locked := max(guard.locked_for(*place, now=now) for place in places):
            return False, locked
        step = step_of(secret, entered, now=now)
        if step is None or not take(step):
            return False, max([guard.failed(*place, now=now) for place in places])
        for place in places:
            guard.succeeded(*place)
        return True, 0.0

    # One after the other: those who try many at once shall not get more tries than those who wait.
    async with portal.second_factors.turn:
        return await run_in_threadpool(work)


def _half_of(visit: Visit) -> HalfLogin | None:
    portal = visit.portal
    token = visit.request.cookies.get(second_step_cookie(portal), "")
    return portal.second_factors.logins.get(token, now=portal.clock())


def _complaint(visit: Visit, locked: float) -> str:
    if locked:
        return visit.texts("login.locked", minutes=minutes_of(locked))
    return visit.texts("second.wrong")


async def _begin_again(visit: Visit) -> Response:
    error = visit.texts("second.begin_again")
    return await page(visit, "login.html", status=409, error=error, name="", next="/")


async def _factor_page(
    visit: Visit, account: PortalAccount, *, status: int = 200, error: str = "", said: str = ""
) -> Response:
    secret = ""
    if not account.totp_secret:
        factors, now = visit.portal.second_factors, visit.portal.clock()
        secret = factors.offer(visit.session_hash, now=now, make=new_secret)
    return await page(
        visit,
        "second_factor.html",
        status=status,
        error=error,
        said=said,
        secret=" ".join(secret[start : start + 4] for start in range(0, len(secret), 4)),
        address=otpauth(secret, account.name) if secret else "",
    )
