"""The overview: what happens now, what came of today's calls, and what needs somebody's attention."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.cdr.record import CallRecord, Disposition
from proxy.portal.live_feed import Figures, figures
from proxy.portal.pages import page
from proxy.portal.permissions import Permission
from proxy.portal.visit import Needs, Visit
from proxy.store import ReportBy, ReportLine, ReportOrder, Store, UsageFilter
from proxy.store.days import midnight, site_zone

__all__ = ["router"]

router = APIRouter()

AtHome = Annotated[Visit, Depends(Needs(Permission.HOME))]

_EMERGENCY_DAYS = 30
_MOST_RESULTS = 50
_MOST_REFUSED = 500
_MOST_EMERGENCIES = 50


@dataclass(frozen=True, slots=True)
class Overview:
    """What the store knows of today, and of the emergency calls of the last days."""

    results: list[ReportLine] = field(default_factory=list)
    calls: int = 0
    answered: int = 0
    talk_time: float = 0.0
    refused: list[tuple[str, int]] = field(default_factory=list)
    """Who was refused for wrong codes today, and how often; the most frequent first."""
    emergencies: list[tuple[datetime, CallRecord]] = field(default_factory=list)


@router.get("/")
async def home(visit: AtHome) -> Response:
    """Show where one can go, and how things are."""
    overview, now = Overview(), Figures(0, 0, 0, 0)
    if visit.may(Permission.CALLS_HANG_UP):
        overview = await run_in_threadpool(
            read_overview, visit.portal.store, visit.portal.clock(), site_zone()
        )
        calls = await run_in_threadpool(visit.portal.gate.calls)
        now = figures(calls or ())
    return await page(visit, "home.html", overview=overview, figures=now, days=_EMERGENCY_DAYS)


def read_overview(store: Store, now: float, zone: tzinfo) -> Overview:
    """Read it; blocks."""
    today = datetime.fromtimestamp(now, zone).date()
    report = store.reports.report(ReportBy.RESULT, today, today, order=ReportOrder.CALLS, limit=_MOST_RESULTS)
    since = midnight(today, zone)
    wrong = UsageFilter(since=since, disposition=Disposition.CODE_REFUSED)
    refused = Counter(
        entry.record.user or entry.record.caller_number
        for entry in store.usage.page(wrong, limit=_MOST_REFUSED).entries
    )
    recent = UsageFilter(since=midnight(today - timedelta(days=_EMERGENCY_DAYS), zone), emergency=True)
    emergencies = [entry.record for entry in store.usage.page(recent, limit=_MOST_EMERGENCIES).entries]
    return Overview(
        report.lines,
        report.calls,
        report.answered,
        report.talk_time,
        refused.most_common(10),
        [(datetime.fromtimestamp(record.start_time, zone), record) for record in emergencies],
    )
