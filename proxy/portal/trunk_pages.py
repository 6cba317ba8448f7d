"""Phone System > Trunks and Peers: how they are. They come from the settings file, which says the rest."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.portal.pages import page
from proxy.portal.permissions import Permission
from proxy.portal.visit import Needs, Visit

__all__ = ["router"]

router = APIRouter()


@router.get("/trunks")
async def show_trunks(visit: Annotated[Visit, Depends(Needs(Permission.TRUNKS_VIEW))]) -> Response:
    """Show each trunk with its destinations, and each peer."""
    state = await run_in_threadpool(visit.portal.gate.state)
    trunks, peers = state.facts.get("trunks"), state.facts.get("peers")
    return await page(
        visit,
        "trunks.html",
        trunks=trunks if isinstance(trunks, list) else [],
        peers=peers if isinstance(peers, list) else [],
    )
