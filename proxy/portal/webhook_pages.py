"""System > Webhooks: who is told of events, what was delivered, and telling it again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.errors import ConfigurationError
from proxy.portal.code_form import text_of
from proxy.portal.conflicts import Label, what_others_made
from proxy.portal.pages import go_to, page
from proxy.portal.permissions import Permission
from proxy.portal.times import site_time
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import VersionConflict, WebhookEndpoint
from proxy.store.webhooks import EVENTS, ReceiverOff

__all__ = ["MESSAGES", "router"]

router = APIRouter()

Keeper = Annotated[Visit, Depends(Needs(Permission.WEBHOOKS))]
RowId = Annotated[int, Query(ge=0, le=2**53)]

MESSAGES = ("changed", "deleted", "replayed")
_LINES = 50
_LONGEST = 1_000
_PATIENCE = 2.0
"""Seconds that the name of a receiver may take to be looked up."""
_LABELS = {
    "url": Label("webhooks.url"),
    "events": Label("webhooks.events", "webhooks.event_"),
    "enabled": Label("webhooks.is_told"),
}


@dataclass(frozen=True, slots=True)
class _Fields:
    """A receiver as its form has it."""

    url: str
    events: frozenset[str]
    enabled: bool


@router.get("/webhooks")
async def show_webhooks(visit: Keeper, *, said: str = "") -> Response:
    """List who is told, with a form for one more."""
    return await _list_page(visit, said=_said(visit, said))


@router.post("/webhooks")
async def add_webhook(visit: Keeper) -> Response:
    """Add a receiver; its secret is shown in this answer and nowhere later."""
    form = await visit.form()
    url, events = text_of(form, "url").strip(), _events(form.getlist("event"))
    try:
        given = WebhookEndpoint(url, events)
        added = await run_in_threadpool(visit.store.webhooks.add, given, now=visit.portal.clock())
    except ConfigurationError as error:
        return await _list_page(visit, status=422, error=visit.texts.told(error), url=url, chosen=events)
    return await _list_page(visit, made=added, doubt=await _doubt(visit, added))


@router.get("/webhooks/deliveries")
async def show_deliveries(
    visit: Keeper, *, endpoint: RowId = 0, before: RowId = 0, said: str = ""
) -> Response:
    """Show what was sent and what came of it, the newest first."""
    webhooks = visit.portal.store.webhooks
    endpoints = {found.id: found for found in await run_in_threadpool(webhooks.endpoints)}
    found = await run_in_threadpool(
        webhooks.deliveries, endpoint or None, before_id=before or None, limit=_LINES + 1
    )
    return await page(
        visit,
        "webhook_deliveries.html",
        deliveries=found[:_LINES],
        older=found[_LINES - 1].id if len(found) > _LINES else 0,
        endpoints=endpoints,
        endpoint=endpoint,
        before=before,
        said=_said(visit, said),
        when=site_time,
    )


@router.post("/webhooks/replay")
async def replay_delivery(visit: Keeper) -> Response:
    """Send a delivery again, under the same id."""
    number = _number(text_of(await visit.form(), "id"), "id")
    try:
        await run_in_threadpool(visit.store.webhooks.replay, number, now=visit.portal.clock())
    except ReceiverOff:
        raise Refused(409, "webhooks.is_off") from None
    except ConfigurationError:
        raise Refused(404, "webhooks.gone") from None
    return go_to("/webhooks/deliveries", said="replayed")


@router.get("/webhooks/{endpoint_id:int}")
async def show_webhook(visit: Keeper, endpoint_id: int, *, delete: bool = False, said: str = "") -> Response:
    """Show one receiver, and what stands in the way of telling it; ask whether it is to be deleted."""
    found = await _expect(visit, endpoint_id)
    doubt = "" if delete else await _doubt(visit, found)
    return await _one_page(visit, found, asked=delete, said=_said(visit, said), doubt=doubt)


@router.post("/webhooks/{endpoint_id:int}")
async def change_webhook(visit: Keeper, endpoint_id: int) -> Response:
    """Change where a receiver is, what it is told, and whether it is."""
    form = await visit.form()
    old = await _expect(visit, endpoint_id)
    version = _number(text_of(form, "version"), "version")
    fields = _Fields(
        text_of(form, "url").strip()[:_LONGEST],
        _events(form.getlist("event")),
        enabled=text_of(form, "enabled") == "yes",
    )
    try:
        new = replace(old, url=fields.url, events=fields.events, enabled=fields.enabled)
        now = visit.portal.clock()
        await run_in_threadpool(visit.store.webhooks.change, new, version=version, now=now)
    except VersionConflict:
        found = await _expect(visit, endpoint_id)
        theirs = _Fields(found.url, found.events, found.enabled)
        told = what_others_made(visit.texts, _LABELS, asdict(theirs), asdict(fields))
        return await _one_page(visit, found, status=409, fields=fields, error=told)
    except ConfigurationError as error:
        return await _one_page(visit, old, status=422, fields=fields, error=visit.texts.told(error))
    if new.enabled and await _doubt(visit, new):
        return go_to(f"/webhooks/{endpoint_id}", said="changed")
    return go_to("/webhooks", said="changed")


@router.post("/webhooks/{endpoint_id:int}/delete")
async def delete_webhook(visit: Keeper, endpoint_id: int) -> Response:
    """Delete a receiver and what it was still to be told, once it was said to be sure."""
    old = await _expect(visit, endpoint_id)
    if await visit.field("sure") != "yes":
        return await _one_page(visit, old, asked=True)
    await run_in_threadpool(visit.store.webhooks.delete, endpoint_id)
    return go_to("/webhooks", said="deleted")


async def _list_page(
    visit: Visit,
    *,
    status: int = 200,
    said: str = "",
    error: str = "",
    made: WebhookEndpoint | None = None,
    doubt: str = "",
    url: str = "",
    chosen: frozenset[str] = frozenset(),
) -> Response:
    webhooks = visit.portal.store.webhooks
    endpoints = await run_in_threadpool(webhooks.endpoints)
    return await page(
        visit,
        "webhooks.html",
        status=status,
        failures=await run_in_threadpool(webhooks.failing, [found.id for found in endpoints]),
        when=site_time,
        doubt=doubt,
        endpoints=endpoints,
        all_events=EVENTS,
        said=said,
        error=error,
        made=made,
        url=url,
        chosen=chosen,
    )


async def _one_page(
    visit: Visit,
    endpoint: WebhookEndpoint,
    *,
    status: int = 200,
    fields: _Fields | None = None,
    asked: bool = False,
    error: str = "",
    said: str = "",
    doubt: str = "",
) -> Response:
    return await page(
        visit,
        "webhook.html",
        status=status,
        endpoint=endpoint,
        fields=fields or _Fields(endpoint.url, endpoint.events, endpoint.enabled),
        all_events=EVENTS,
        asked=asked,
        error=error,
        said=said,
        doubt=doubt,
    )


async def _doubt(visit: Visit, endpoint: WebhookEndpoint) -> str:
    """Say why a receiver can't be told as things are; "" when nothing is known, or not soon."""
    doubts = visit.portal.webhook_doubts
    if doubts is None:
        return ""
    try:
        reason = await asyncio.wait_for(asyncio.to_thread(doubts.of, endpoint), _PATIENCE)
    except TimeoutError:
        return ""
    return visit.texts("webhooks.doubt", reason=visit.texts.told(reason)) if reason else ""


async def _expect(visit: Visit, endpoint_id: int) -> WebhookEndpoint:
    found = await run_in_threadpool(visit.portal.store.webhooks.endpoint, endpoint_id)
    if found is None:
        raise Refused(404, "webhooks.gone")
    return found


def _events(given: Sequence[object]) -> frozenset[str]:
    events = frozenset(event for event in given if isinstance(event, str))
    if not events <= set(EVENTS):
        raise Refused(422, "error.not_on_list", name="event", allowed=", ".join(EVENTS))
    return events


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Refused(422, "error.parameter", names=name)
    return int(text)


def _said(visit: Visit, said: str) -> str:
    if said and said not in MESSAGES:
        raise Refused(400, "error.parameter", names="said")
    return visit.texts(f"webhooks.{said}") if said else ""
