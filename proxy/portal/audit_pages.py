"""The audit log: who changed what, when and from where, and whether the log of it is whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from itertools import zip_longest
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from proxy.cdr.usage_log import LocalTime
from proxy.portal.pages import page, part
from proxy.portal.permissions import Permission
from proxy.portal.usage_view import day_given, text_given
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import AuditEntry, AuditFilter, AuditVerdict
from proxy.store.days import midnight

__all__ = ["router"]

router = APIRouter()

Reader = Annotated[Visit, Depends(Needs(Permission.AUDIT_VIEW))]

_KINDS = ("code", "group", "user", "account", "token", "record", "webhook", "schedule", "call", "caller")
_LONGEST_ID = 12
_SHOWN = 20
"""Facts or objects of one entry; a file has all."""


@dataclass(frozen=True, slots=True)
class AuditView:
    """The part of the log that is looked at."""

    who: str = ""
    kind: str = ""
    name: str = ""
    first: date | None = None
    last: date | None = None
    before: int | None = None

    def query(self, **changes: object) -> str:
        """Return the query string that leads back here, with something else or more in it."""
        told = {
            name: getattr(self, name) or "" for name in ("who", "kind", "name", "first", "last", "before")
        }
        left = {name: value for name, value in (told | changes).items() if value != ""}
        return f"?{urlencode(left)}" if left else ""


@dataclass(frozen=True, slots=True)
class _Line:
    """One change as it is shown."""

    entry: AuditEntry
    at: str
    facts: list[tuple[str, str, str]]
    """Name, before, after."""
    more: bool
    """There are more."""


def _view(request: Request) -> AuditView:
    """Read the address. Raises `Refused` naming the field that holds what is not possible."""
    given = request.query_params
    before = text_given(given, "before", _LONGEST_ID)
    if before and not (before.isascii() and before.isdigit()):
        raise Refused(422, "error.parameter", names="before")
    first, last = day_given(given, "first"), day_given(given, "last")
    if first and last and first > last:
        raise Refused(422, "error.parameter", names="first, last")
    kind = text_given(given, "kind", 16)
    if kind and kind not in _KINDS:
        raise Refused(422, "error.not_on_list", name="kind", allowed=", ".join(_KINDS))
    return AuditView(
        who=text_given(given, "who", 128),
        kind=kind,
        name=text_given(given, "name", 255),
        first=first,
        last=last,
        before=int(before) if before else None,
    )


@router.get("/audit")
async def show_audit(
    visit: Reader, view: Annotated[AuditView, Depends(_view)], *, verify: bool = False
) -> Response:
    """Show a part of the log, the newest first."""
    store, size = visit.portal.store, visit.portal.settings.page_size
    zone = store.usage.zone
    wanted = AuditFilter(
        since=None if view.first is None else midnight(view.first, zone),
        until=None if view.last is None else midnight(view.last + timedelta(days=1), zone),
        who=view.who,
        kind=view.kind,
        name=view.name,
    )
    found = await run_in_threadpool(store.audit.page, wanted, before_id=view.before, limit=size + 1)
    local = LocalTime(zone)
    return await page(
        visit,
        "audit.html",
        view=view,
        kinds=_KINDS,
        lines=[_line(entry, local) for entry in found[:size]],
        older=found[size - 1].id if len(found) > size else 0,
        verdict=await _verified(visit) if verify else None,
    )


@router.get("/audit/{entry_id:int}/file")
async def export_entry(visit: Reader, entry_id: int) -> Response:
    """Give out one entry with all that it tells, however many objects."""
    entry = await run_in_threadpool(visit.portal.store.audit.get, entry_id)
    if entry is None:
        raise Refused(404, "error.not_found")
    headers = {"content-disposition": f'attachment; filename="audit-{entry_id}.json"'}
    return Response(json.dumps(asdict(entry)), media_type="application/json", headers=headers)


@router.get("/audit/chain")
async def show_chain(visit: Reader) -> Response:
    """Read the whole chain, and tell in a part of the page whether it is whole."""
    return HTMLResponse(part(visit, "audit_chain.html", verdict=await _verified(visit)))


async def _verified(visit: Visit) -> AuditVerdict:
    """Read the whole chain, for one who asks after the other: a long one keeps a core busy for seconds."""
    async with visit.portal.verifying:
        return await run_in_threadpool(visit.portal.store.audit.verify)


def _line(entry: AuditEntry, local: LocalTime) -> _Line:
    facts = _facts(entry)
    return _Line(entry, " ".join(local(entry.at)), facts[:_SHOWN], entry.more or len(facts) > _SHOWN)


def _facts(entry: AuditEntry) -> list[tuple[str, str, str]]:
    """What was before and after, fact by fact or object by object where the log tells them."""
    before, after = entry.before, entry.after
    if isinstance(before, list) or isinstance(after, list):
        pairs = zip_longest(*(side if isinstance(side, list) else [] for side in (before, after)))
        return [("", _text(old), _text(new)) for old, new in pairs]
    if not (isinstance(before, dict | None) and isinstance(after, dict | None)):
        return [("", _text(before), _text(after))]
    names = dict.fromkeys([*(before or {}), *(after or {})])
    return [(name, _text((before or {}).get(name)), _text((after or {}).get(name))) for name in names]


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
