"""System > API Tokens: which programs may ask the API, and for what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.errors import ConfigurationError
from proxy.portal.api.scopes import GRANTABLE, unknown_scopes
from proxy.portal.code_form import text_of
from proxy.portal.pages import go_to, page
from proxy.portal.permissions import Permission
from proxy.portal.times import site_time
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import ApiToken

__all__ = ["LIFETIMES", "MESSAGES", "router"]

router = APIRouter()

Keeper = Annotated[Visit, Depends(Needs(Permission.TOKENS))]
RowId = Annotated[int, Query(ge=0, le=2**53)]

MESSAGES = ("revoked",)
LIFETIMES = (30, 90, 365, 0)
"""Days that a token can be good for; 0: for ever."""
_DAY = 86_400


@router.get("/tokens")
async def show_tokens(visit: Keeper, *, revoke: RowId = 0, said: str = "") -> Response:
    """List the tokens; ask whether one is to be revoked."""
    if said and said not in MESSAGES:
        raise Refused(400, "error.parameter", names="said")
    return await _tokens_page(visit, asked=revoke, said=visit.texts(f"tokens.{said}") if said else "")


@router.post("/tokens")
async def add_token(visit: Keeper) -> Response:
    """Make a token, which this answer shows and nothing later."""
    form = await visit.form()
    name, days = text_of(form, "name"), text_of(form, "days")
    scopes = [scope for scope in form.getlist("scope") if isinstance(scope, str)]
    if unknown_scopes(scopes):
        raise Refused(422, "error.not_on_list", name="scope", allowed=", ".join(GRANTABLE))
    if days not in {str(allowed) for allowed in LIFETIMES}:
        raise Refused(422, "error.not_on_list", name="days", allowed=", ".join(map(str, LIFETIMES)))
    now = visit.portal.clock()
    expires_at = now + int(days) * _DAY if int(days) else None
    try:
        secret, _ = await run_in_threadpool(
            visit.store.tokens.add, name, scopes, now=now, expires_at=expires_at
        )
    except ConfigurationError as error:
        return await _tokens_page(
            visit, status=422, error=visit.texts.told(error), name=name, scopes=scopes, days=int(days)
        )
    return await _tokens_page(visit, made=secret)


@router.post("/tokens/revoke")
async def revoke_token(visit: Keeper) -> Response:
    """Revoke a token, once it was said to be sure: its program gets no further answer."""
    form = await visit.form()
    number = text_of(form, "id")
    if not (number.isascii() and number.isdigit() and len(number) <= 15):
        raise Refused(422, "error.parameter", names="id")
    if text_of(form, "sure") != "yes":
        return await _tokens_page(visit, asked=int(number))
    try:
        await run_in_threadpool(visit.store.tokens.delete, int(number))
    except ConfigurationError:
        return await _tokens_page(visit, status=404, error=visit.texts("tokens.gone"))
    return go_to("/tokens", said="revoked")


async def _tokens_page(
    visit: Visit,
    *,
    status: int = 200,
    asked: int = 0,
    said: str = "",
    error: str = "",
    made: str = "",
    name: str = "",
    scopes: list[str] | None = None,
    days: int = 365,
) -> Response:
    tokens: list[ApiToken] = await run_in_threadpool(visit.portal.store.tokens.all)
    return await page(
        visit,
        "tokens.html",
        status=status,
        tokens=tokens,
        asked=next((token for token in tokens if token.id == asked), None),
        said=said,
        error=error,
        made=made,
        name=name,
        scopes=scopes or [],
        days=days,
        all_scopes=GRANTABLE,
        lifetimes=LIFETIMES,
        now=visit.portal.clock(),
        when=site_time,
    )
