"""Phone System > Users / Phones > Locked callers: who has guessed codes, and letting them again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.errors import ConfigurationError
from proxy.policy.locks import MAX_CALLER
from proxy.portal.pages import go_to, page
from proxy.portal.permissions import Permission
from proxy.portal.visit import Needs, Visit
from proxy.store.days import site_zone

__all__ = ["router"]

router = APIRouter()

Viewer = Annotated[Visit, Depends(Needs(Permission.USERS_VIEW))]
Changer = Annotated[Visit, Depends(Needs(Permission.USERS_CHANGE))]


@router.get("/users/locked")
async def show_locks(visit: Viewer, *, said: str = "") -> Response:
    """Show the callers who are locked."""
    return await _locks_page(visit, said=visit.texts("locks.unlocked") if said == "unlocked" else "")


@router.post("/users/unlock")
async def unlock(visit: Changer) -> Response:
    """Let a caller enter codes again."""
    caller = (await visit.field("caller"))[:MAX_CALLER]
    try:
        await run_in_threadpool(visit.store.locks.unlock, [caller])
    except ConfigurationError:
        return await _locks_page(visit, status=409, error=visit.texts("locks.gone"))
    return go_to("/users/locked", said="unlocked")


async def _locks_page(visit: Visit, *, status: int = 200, said: str = "", error: str = "") -> Response:
    now, zone = visit.portal.clock(), site_zone()
    locks = await run_in_threadpool(lambda: visit.portal.store.locks.all(at=now))

    def when(at: float) -> str:
        return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M")

    facts = {"locks": locks, "said": said, "error": error, "when": when}
    return await page(visit, "users_locked.html", status=status, **facts)
