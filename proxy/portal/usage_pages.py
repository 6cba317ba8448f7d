"""The Usage Log: one line per call, and its exports."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from proxy.cdr.formats import ExportFormat, export_lines, record_object
from proxy.cdr.record import CallRecord, Direction, Disposition
from proxy.cdr.usage_log import LocalTime, UsageFacts, clock_time, usage_log_lines
from proxy.policy import CallClass
from proxy.portal.pages import page, part
from proxy.portal.permissions import Permission
from proxy.portal.streams import Made, in_chunks, in_place, stream
from proxy.portal.usage_exports import ExportState
from proxy.portal.usage_view import (
    Column,
    InUsageView,
    Period,
    offered_columns,
    own_calls,
    sees_codes,
    shown_code,
    without_digits,
)
from proxy.portal.usage_workbook import write_workbook
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import Store, UsageEntry, UsageFilter, UsageOrder
from proxy.store.audit import masked_code

__all__ = ["router", "table_of"]

router = APIRouter()

Viewer = Annotated[Visit, Depends(Needs(Permission.USAGE_VIEW))]
Ticket = Annotated[str, Query(pattern=r"^[\w-]{0,32}$")]
Asked = Annotated[int, Query(ge=0, le=1_000_000)]

_XLSX = "xlsx"
_FORMATS = (ExportFormat.USAGE_LOG.value, _XLSX, "jsonl", "asterisk", "freeswitch")
_FILES = {
    ExportFormat.USAGE_LOG.value: ("usage-log.csv", "text/csv; charset=utf-8"),
    "asterisk": ("Master.csv", "text/csv; charset=utf-8"),
    "freeswitch": ("cdr.csv", "text/csv; charset=utf-8"),
    "jsonl": ("usage-log.jsonl", "application/x-ndjson"),
    _XLSX: ("usage-log.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
}
_OF_USERS = _FORMATS[:2]
"""What else stands in the other formats, addresses for example, is not for everybody."""
_WITH_CORRECTIONS = _FORMATS[:3]
_BLOCK = 256 * 1024
_Item = TypeVar("_Item")
_STOP_ASKING = 286
_MOST_ASKED = 120
"""Seconds in which an export begins, or does not."""
"""The status at which htmx ends its polling."""


@router.get("/usage")
async def show_usage(visit: Viewer, view: InUsageView) -> Response:
    """Show one page of the list."""
    store, size = visit.portal.store, visit.portal.settings.page_size
    view = view.seen_by(visit)
    wanted = view.wanted(visit)
    found = await run_in_threadpool(
        store.usage.page,
        wanted,
        order=view.order,
        descending=view.descending,
        cursor=view.cursor,
        limit=size,
    )
    count = await run_in_threadpool(store.usage.count_up_to, wanted)
    groups = await run_in_threadpool(store.groups.all)
    return await page(
        visit,
        "usage.html",
        view=view,
        found=found,
        count=count,
        lines=[(entry, table_of(visit, entry, view.columns)) for entry in found.entries],
        columns=offered_columns(visit),
        groups=sorted(group.name for group in groups) if visit.may(Permission.USAGE_ALL) else [],
        orders=UsageOrder,
        periods=Period,
        results=Disposition,
        classes=CallClass,
        directions=Direction,
        own=own_calls(visit),
        codes_seen=sees_codes(visit),
    )


def table_of(visit: Visit, entry: UsageEntry, columns: Iterable[Column]) -> list[tuple[str, str]]:
    """The cells of one call, each with the name of its column."""
    t, local = visit.texts, LocalTime(visit.portal.store.usage.zone)
    record = entry.record
    code = entry.code
    inside = record.direction is Direction.INTERNAL
    cells: dict[Column, Callable[[], str]] = {
        Column.START: lambda: " ".join(local(record.start_time)),
        Column.DURATION: lambda: clock_time(record.talk_time),
        Column.CALLER: lambda: record.caller_number or record.user,
        Column.DIRECTION: lambda: t(f"direction.{record.direction.value}"),
        Column.ORIGINATING: lambda: record.user,
        Column.DIALLED: lambda: record.dialled_number,
        Column.DESTINATION: lambda: record.destination_user or record.normalised_number,
        Column.INTERNAL: lambda: t("usage.yes") if inside else t("usage.no"),
        Column.CODE: lambda: "" if code is None else shown_code(visit, code.form),
        Column.RESULT: lambda: t(f"result.{record.disposition.value}"),
        Column.CLASS: lambda: t.words.get(f"class.{record.call_class}", record.call_class),
        Column.GROUP: lambda: record.group,
        Column.DESCRIPTION: lambda: "" if code is None else code.description,
        Column.LOCATION: lambda: record.location,
        Column.TRIES: lambda: str(record.wrong_tries or ""),
    }
    return [(name.value, cells[name]()) for name in columns]


@router.get("/usage/export")
async def show_export(visit: Viewer, view: InUsageView) -> Response:
    """Ask in which form the calls that are shown are wanted."""
    count = await run_in_threadpool(visit.portal.store.usage.count_up_to, view.wanted(visit))
    return await page(
        visit,
        "usage_export.html",
        view=view,
        count=count,
        formats=_FORMATS if visit.may(Permission.USAGE_ALL) else _OF_USERS,
        ticket=secrets.token_urlsafe(12),
    )


@router.get("/usage/export/progress")
async def show_progress(visit: Viewer, ticket: Ticket = "", asked: Asked = 0) -> Response:
    """Tell how far an export is: a part of the page that asks for itself again until the end, and for one
    that does not begin not for ever.
    """
    state = visit.portal.exports.find(visit.who.id, ticket)
    html = part(visit, "usage_progress.html", state=state, ticket=ticket, asked=asked, most_asked=_MOST_ASKED)
    ended = asked >= _MOST_ASKED if state is None else state.finished
    return HTMLResponse(html, _STOP_ASKING if ended else 200)


@router.get("/usage/export/file")
async def export_usage(
    visit: Viewer,
    view: InUsageView,
    form: Annotated[str, Query(alias="format")] = ExportFormat.USAGE_LOG.value,
    *,
    corrections: bool = False,
    ticket: Ticket = "",
) -> Response:
    """Give out all calls that a filter shows, in the order of their starts."""
    if form not in _FORMATS:
        raise Refused(422, "error.not_on_list", name="format", allowed=", ".join(_FORMATS))
    if form not in _OF_USERS and not visit.may(Permission.USAGE_ALL):
        raise Refused(403, "error.forbidden")
    if corrections and form not in _WITH_CORRECTIONS:
        raise Refused(422, "error.parameter", names="corrections")
    wanted = view.wanted(visit)
    store, masked = visit.portal.store, not sees_codes(visit)

    def make(state: ExportState) -> Made:
        state.total = store.usage.count(wanted)
        if form == _XLSX:
            return _workbook(store, wanted, state, masked=masked, both=corrections)
        return in_chunks(_lines(store, ExportFormat(form), wanted, state, masked=masked, both=corrections))

    name, media_type = _FILES[form]
    return await stream(in_place(visit, make, ticket=ticket), name, media_type)


def _lines(
    store: Store, form: ExportFormat, wanted: UsageFilter, state: ExportState, *, masked: bool, both: bool
) -> Iterator[str]:
    zone = store.usage.zone
    if form is ExportFormat.USAGE_LOG:
        facts = _counted(_facts(store, wanted, masked=masked, both=both), state)
        return usage_log_lines(facts, zone=zone, corrections=both)
    entries = _counted(store.usage.entries(wanted), state)
    if form is ExportFormat.JSON_LINES and both:
        return (json.dumps(_with_correction(entry, masked), ensure_ascii=False) + "\n" for entry in entries)
    return export_lines(form, (_as_seen(entry.shown, masked) for entry in entries), zone=zone)


def _facts(store: Store, wanted: UsageFilter, *, masked: bool, both: bool) -> Iterator[UsageFacts]:
    for fact in store.usage.facts(wanted, corrections=both):
        yield (
            fact._replace(code=masked_code(fact.code), recorded_code=masked_code(fact.recorded_code))
            if masked
            else fact
        )


def _counted(items: Iterable[_Item], state: ExportState) -> Iterator[_Item]:
    for item in items:
        state.done += 1
        yield item


def _as_seen(record: CallRecord, masked: bool) -> CallRecord:
    return without_digits(record) if masked else record


def _with_correction(entry: UsageEntry, masked: bool) -> dict[str, object]:
    """A record as JSON with the code that counts, the one that was recorded, and who corrected it."""
    recorded = _as_seen(entry.record, masked).code
    made = entry.correction
    return {
        **record_object(_as_seen(entry.shown, masked)),
        "recorded_code": None if recorded is None else asdict(recorded),
        "corrected": None
        if made is None
        else {
            "by": made.who,
            "at": datetime.fromtimestamp(made.at).astimezone().isoformat(),
            "reason": made.reason,
        },
    }


def _workbook(store: Store, wanted: UsageFilter, state: ExportState, *, masked: bool, both: bool) -> Made:
    """Make the file, then give it out. Empty pieces while it is made: whoever has gone is noticed."""
    with tempfile.TemporaryDirectory(prefix="tollgate-export-") as folder:
        path = Path(folder, "usage-log.xlsx")
        facts = _facts(store, wanted, masked=masked, both=both)
        for done in write_workbook(path, facts, zone=store.usage.zone, corrections=both):
            state.done, state.packing = done, done >= state.total
            yield b""
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
