"""Logging in at a provider of OpenID Connect: there, and back again."""

from __future__ import annotations

import logging
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from proxy.errors import ConfigurationError
from proxy.portal.account_pages import ask_second_factor, inside, minutes_of, open_session
from proxy.portal.pages import page
from proxy.portal.passwords import TooBusy
from proxy.portal.permissions import Permission
from proxy.portal.second_factor import HalfLogin
from proxy.portal.single_sign_on import ANSWER_PATH, SignedOn, SignOnFailed, SingleSignOn
from proxy.portal.visit import Needs, Refused, Visit, cookie_name, source_of
from proxy.store import Actor, PortalAccount, Role
from proxy.store.accounts import AccountsRepository, sign_on_key

__all__ = ["router"]

logger = logging.getLogger(__name__)
router = APIRouter()

Anyone = Annotated[Visit, Depends(Needs(Permission.PUBLIC))]

_STATUS = {"sso.begin_again": 409, "sso.silent": 503, "sso.failed": 502, "sso.busy": 503}
_LONGEST_SUBJECT = 255
_BEGUN_PER_MINUTE = 30
"""From one source."""


@router.get("/login/oidc")
async def leave_for_provider(visit: Anyone, next: str = "") -> Response:  # noqa: A002 - the parameter's name
    """Send the browser to the provider."""
    sign_on, portal = _expect(visit), visit.portal
    # What waits for its answer is bounded in all: one source shall not push the others out.
    limit = f"sign-on {source_of(visit.request)}"
    if waits := portal.limits.wait(limit, _BEGUN_PER_MINUTE, portal.clock()):
        error = visit.texts("login.locked", minutes=minutes_of(waits))
        return await page(visit, "login.html", status=429, error=error, name="", next=inside(next))
    try:
        address, token = await sign_on.begin(inside(next))
    except SignOnFailed as error:
        return await _refused(visit, error)
    answer = RedirectResponse(address, 303)
    # Lax: the way back begins at another site.
    answer.set_cookie(_cookie(visit), token, path="/", secure=True, httponly=True, samesite="lax")
    return answer


@router.get(ANSWER_PATH)
async def come_back(visit: Anyone) -> Response:
    """Open a session for who comes back from the provider and has an account."""
    sign_on, given = _expect(visit), visit.request.query_params
    if len(given.multi_items()) != len(given):
        raise Refused(400, "error.malformed")  # a parameter twice (RFC 6749 §3.1)
    try:
        signed = await sign_on.finish(visit.request.cookies.get(_cookie(visit), ""), given)
        account = await _account_of(visit, signed)
        asks = bool(account.totp_secret) and not signed.second_factor
        key = sign_on_key(sign_on.issuer, signed.subject)
        if not asks and not await run_in_threadpool(
            visit.portal.store.accounts.bind_sign_on, account.id, key
        ):
            raise SignOnFailed("sso.no_account", "somebody else has got the account meanwhile")
        await run_in_threadpool(_note, visit, sign_on, signed, account, asks=asks)
    except SignOnFailed as error:
        return await _refused(visit, error)
    logger.info("portal: %s signed on from %s", account.name, source_of(visit.request))
    if asks:
        answer = ask_second_factor(
            visit, HalfLogin(account.id, account.version, account.name, signed.following, key)
        )
    else:
        answer = await open_session(visit, account, signed.following)
    answer.delete_cookie(_cookie(visit), path="/", secure=True, httponly=True, samesite="lax")
    return answer


async def _account_of(visit: Visit, signed: SignedOn) -> PortalAccount:
    """The account of who has signed on, made first where that is wanted. Raises `SignOnFailed`."""
    portal = visit.portal
    key = sign_on_key(_expect(visit).issuer, signed.subject)
    account = await run_in_threadpool(_known, portal.store.accounts, key, signed.name)
    made = portal.settings.oidc.new_accounts
    if account is None and not made:
        raise SignOnFailed("sso.no_account", "the portal has no account of this name")
    if account is not None and account.disabled:
        raise SignOnFailed("sso.no_account", "the account is disabled")
    if account is not None and not account.must_change:
        return account
    # Nobody knows this password. A one-time password that was never used ends with it: who has shown another
    # way who he is shall not be asked to change it.
    try:
        password_hash = await portal.passwords.hash(secrets.token_urlsafe(32))
    except TooBusy:
        raise SignOnFailed("sso.busy", "too many passwords are being hashed") from None
    now = portal.clock()
    store = portal.store.acting(Actor("oidc", "", source_of(visit.request)))

    def work() -> PortalAccount:
        if account is not None:
            return store.accounts.set_password(account.id, password_hash, now=now)
        return store.accounts.add(PortalAccount(signed.name, Role(made), password_hash), now=now)

    try:
        return await run_in_threadpool(work)
    except ConfigurationError as error:
        raise SignOnFailed("sso.no_account", str(error)) from None


def _known(accounts: AccountsRepository, key: str, name: str) -> PortalAccount | None:
    """Return the account of a person; or, as long as it is nobody's, of the name. Raises `SignOnFailed`.

    Names may change hands at the provider, ``sub`` never does (Core 1.0 §5.7).
    """
    if (known := accounts.by_sign_on(key)) is not None:
        return known
    named = accounts.by_name(name)
    if named is not None and named.sign_on:
        raise SignOnFailed("sso.no_account", "the account is another's at the provider")
    # Only A to Z have a case here: to the provider, "K" and the Kelvin sign are two people.
    if named is not None and named.name.encode().lower() != name.encode().lower():
        raise SignOnFailed("sso.no_account", "the account's name is written otherwise")
    return named


def _note(
    visit: Visit, sign_on: SingleSignOn, signed: SignedOn, account: PortalAccount, *, asks: bool
) -> None:
    actor = Actor(account.name, account.role.value, source_of(visit.request))
    facts = {
        "provider": sign_on.issuer,
        "subject": signed.subject[:_LONGEST_SUBJECT],
        "second_factor": "portal" if asks else "provider" if signed.second_factor else "",
    }
    visit.portal.store.acting(actor).audit.note("sign_on", "account", account.name, after=facts)


def _expect(visit: Visit) -> SingleSignOn:
    if visit.portal.sign_on is None:
        raise Refused(404, "error.not_found")
    return visit.portal.sign_on


async def _refused(visit: Visit, error: SignOnFailed) -> Response:
    logger.warning("portal: a sign-on from %s failed: %s", source_of(visit.request), error)
    told = visit.texts(error.key, provider=_expect(visit).name)
    return await page(visit, "login.html", status=_STATUS.get(error.key, 403), error=told, name="", next="/")


def _cookie(visit: Visit) -> str:
    """Name of the cookie that a browser has while it is at the provider."""
    return f"{cookie_name(visit.portal)}-sign-on"
