"""Live calls: who speaks with whom now, and how a call is ended by hand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response, StreamingResponse

from proxy.errors import ConfigurationError
from proxy.portal import gate_acts
from proxy.portal.gate_link import EmergencyGoesOn
from proxy.portal.live_feed import calls_for, events
from proxy.portal.pages import emergencies_of, go_to, page, part
from proxy.portal.permissions import Permission
from proxy.portal.visit import Needs, Refused, Visit, cookie_name, refuse_other_sites

__all__ = ["EVENTS", "router"]

router = APIRouter()

EVENTS = "/live/events"
Watcher = Annotated[Visit, Depends(Needs(Permission.LIVE_VIEW))]
Ender = Annotated[Visit, Depends(Needs(Permission.CALLS_HANG_UP))]


@router.get("/live")
async def show_calls(visit: Watcher, *, ask: str = "", said: str = "", still: bool = False) -> Response:
    """Show the calls; with ``ask`` the question whether this one is to be ended."""
    if said not in {"", "ended"}:
        raise Refused(400, "error.parameter", names="said")
    return await _calls_page(visit, ask=ask, said=visit.texts("live.ended") if said else "", still=still)


@router.get(EVENTS)
async def stream_calls(visit: Watcher, *, board: bool = False) -> Response:
    """Tell of changes as they happen (text/event-stream). Who has the list of calls open uses the portal by
    looking: on a ``board`` on the wall nothing is ever clicked. Other pages that listen keep nobody in.
    """
    refuse_other_sites(visit)
    if board:
        portal = visit.portal
        cookie, idle = visit.request.cookies.get(cookie_name(portal), ""), portal.settings.session_idle
        await run_in_threadpool(portal.store.sessions.find, cookie, now=portal.clock(), idle=idle)
    # Web servers in between shall not collect the events.
    headers = {"x-accel-buffering": "no"}
    return StreamingResponse(events(visit), media_type="text/event-stream", headers=headers)


@router.post("/live/hangup")
async def hang_up(visit: Ender) -> Response:
    """End a call, once that was confirmed."""
    call_id = (await visit.field("call"))[:200]
    if await visit.field("sure") != "yes":
        return await _calls_page(visit, ask=call_id)
    try:
        await run_in_threadpool(gate_acts.hang_up, visit.portal.gate, visit.store, call_id)
    except EmergencyGoesOn:
        return await _calls_page(visit, status=409, error=visit.texts("live.goes_on"))
    except ConfigurationError:
        return await _calls_page(visit, status=409, error=visit.texts("live.gone"))
    return go_to("/live", said="ended")


@router.post("/live/noted")
async def note_emergency(visit: Ender) -> Response:
    """Show an emergency call that is over no more to who has noted it; others still see it."""
    call_id, now = (await visit.field("call"))[:200], visit.portal.clock()
    visit.portal.emergencies.note(call_id, account=visit.who.id, now=now)
    if "hx-request" not in visit.request.headers:
        return go_to("/live")
    # On the page that is open: somebody may be filling in its form.
    calls = await run_in_threadpool(visit.portal.gate.calls)
    left = await run_in_threadpool(emergencies_of, visit, calls)
    return HTMLResponse(part(visit, "live_alert.html", emergencies=left))


async def _calls_page(
    visit: Visit, *, status: int = 200, ask: str = "", said: str = "", error: str = "", still: bool = False
) -> Response:
    found = await run_in_threadpool(visit.portal.gate.calls)
    calls = None if found is None else calls_for(visit, found)
    asked = None
    if ask and visit.may(Permission.CALLS_HANG_UP):
        asked = next((call for call in calls or () if call.call_id == ask), None)
        if asked is None:
            status, error = 404, error or visit.texts("live.gone")
        elif asked.emergency:
            asked, status, error = None, 409, visit.texts("live.goes_on")
    return await page(
        visit,
        "live_hangup.html" if asked is not None else "live.html",
        status=status,
        calls=calls,
        asked=asked,
        said=said,
        error=error,
        still=still,
        now=visit.portal.clock(),
    )
