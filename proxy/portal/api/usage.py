"""The usage log for programs: pages by cursor, one record, and a stream of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from proxy.cdr.formats import record_object
from proxy.cdr.record import Direction, Disposition, UsedCode
from proxy.policy import CallClass, dial_form
from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.problems import Problem, naming
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import Cursor, Limit, Values
from proxy.store import UsageEntry, UsageFilter, UsageOrder
from proxy.store.audit import masked_code

__all__ = ["router"]

router = APIRouter(tags=["usage"], route_class=GuardedRoute)

Reader = Annotated[Client, Depends(NeedsScope(Scope.USAGE_READ))]
Text = Annotated[str, Query(max_length=64)]

_CHUNK = 64 * 1024


class UsagePageDocument(Values):
    """One page of the usage log. A record has the fields of a line of the export."""

    records: list[dict[str, Any]]
    next: str | None
    previous: str | None


def _filter(
    client: Reader,
    *,
    since: Annotated[AwareDatetime | None, Query(description="Starts then or later (RFC 3339).")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Starts before.")] = None,
    user: Annotated[str, Query(max_length=64, description="Extension that called or was called.")] = "",
    group: Text = "",
    code: Annotated[
        str, Query(max_length=200, description="An account code in any form; needs codes:read too.")
    ] = "",
    call_class: Annotated[CallClass | None, Query(alias="class")] = None,
    result: Disposition | None = None,
    direction: Direction | None = None,
    number: Annotated[str, Query(max_length=64, description="Part of a number of the call.")] = "",
    emergency: bool | None = None,
) -> UsageFilter:
    key = ""
    if code:
        if not client.may(Scope.CODES_READ):
            raise Problem(403, "the token is not for codes:read, and sees no codes", field="code")
        with naming("code"):
            key = dial_form(code)
    if since is not None and until is not None and since >= until:
        raise Problem(422, "it has to lie behind since", field="until")
    return UsageFilter(
        since=None if since is None else since.timestamp(),
        until=None if until is None else until.timestamp(),
        user=user,
        group=group,
        code_key=key,
        call_class=call_class or "",
        disposition=result,
        direction=direction,
        number=number,
        emergency=emergency,
    )


_Filter = Annotated[UsageFilter, Depends(_filter)]


@router.get("/usage")
async def list_usage(
    client: Reader,
    wanted: _Filter,
    *,
    order: UsageOrder = UsageOrder.START,
    descending: bool = True,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> UsagePageDocument:
    """List finished calls, the newest first. The cursor stays good while new calls come in."""
    if order is UsageOrder.CODE and not client.may(Scope.CODES_READ):
        raise Problem(403, "the token is not for codes:read, and sees no codes", field="order")
    with naming("cursor"):
        page = await run_in_threadpool(
            client.portal.store.usage.page,
            wanted,
            order=order,
            descending=descending,
            cursor=cursor,
            limit=limit,
        )
    return UsagePageDocument(
        records=[_document(client, entry) for entry in page.entries],
        next=page.after or None,
        previous=page.before or None,
    )


@router.get(
    "/usage/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"application/jsonl": {"schema": {"type": "string"}}},
            "description": "One record per line.",
        }
    },
)
async def export_usage(client: Reader, wanted: _Filter) -> StreamingResponse:
    """Stream all records of a filter as JSON lines, the oldest first."""
    entries = client.portal.store.usage.entries(wanted)
    # The first is read before the answer begins: a store that is down is then an answer of its own.
    first = await run_in_threadpool(next, entries, None)
    lines = _lines(client, entries if first is None else chain((first,), entries))
    return StreamingResponse(lines, media_type="application/jsonl")


@router.get("/usage/{record_id}")
async def get_record(client: Reader, record_id: Annotated[str, Path(max_length=64)]) -> dict[str, Any]:
    """Give one record."""
    entry = await run_in_threadpool(client.portal.store.usage.entry, record_id)
    if entry is None:
        raise Problem(404, "there is no such record")
    return _document(client, entry)


def _document(client: Client, entry: UsageEntry) -> dict[str, Any]:
    code = entry.code
    found = {**record_object(entry.shown), "corrected": entry.corrected}
    if code is not None and not client.may(Scope.CODES_READ):
        found["code"] = _masked(code)
    return found


def _masked(code: UsedCode) -> dict[str, str]:
    form = masked_code(code.form)
    return {"form": form, "dialled": form, "key": form, "description": code.description}


def _lines(client: Client, entries: Iterator[UsageEntry]) -> Iterator[bytes]:
    """Join lines: each chunk costs a change of threads."""
    waiting: list[str] = []
    size = 0
    for entry in entries:
        line = json.dumps(_document(client, entry), ensure_ascii=False) + "\n"
        waiting.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield "".join(waiting).encode("utf-8", "replace")
            waiting, size = [], 0
    yield "".join(waiting).encode("utf-8", "replace")
