"""The overview: what happens now, what came of today's calls, and what needs somebody's attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.cdr.record import CallRecord
from proxy.policy import CallClass, CallerLock
from proxy.portal.live_feed import Figures, figures
from proxy.portal.pages import page
from proxy.portal.permissions import Permission
from proxy.portal.usage_view import Period, UsageView
from proxy.portal.visit import Needs, Visit
from proxy.store import ReportBy, ReportLine, ReportOrder, Store, UsageFilter
from proxy.store.days import midnight, site_zone
from proxy.store.reports import WrongCodes
from proxy.store.usage import UsageCount

__all__ = ["router"]

router = APIRouter()

AtHome = Annotated[Visit, Depends(Needs(Permission.HOME))]

_EMERGENCY_DAYS = 30
_LATELY = 86_400.0
"""Seconds for which a limit that was reached is told."""
_MOST_RESULTS = 50
_MOST_EMERGENCIES = 50


@dataclass(frozen=True, slots=True)
class Overview:
    """What the store knows of today, and of the emergency calls of the last days."""

    results: list[ReportLine] = field(default_factory=list)
    calls: int = 0
    answered: int = 0
    talk_time: float = 0.0
    wrong: list[WrongCodes] = field(default_factory=list)
    """Who has typed wrong codes today; the most frequent first."""
    locked: list[CallerLock] = field(default_factory=list)
    """Who may enter no codes at the moment."""
    emergencies: list[tuple[datetime, CallRecord]] = field(default_factory=list)
    """The newest."""
    all_emergencies: UsageCount = field(default_factory=lambda: UsageCount(0, exact=True))
    all_link: str = ""
    """Query of the usage log that shows them all."""


@dataclass(frozen=True, slots=True)
class ReachedLimit:
    """A limit of a group that a call has met."""

    at: datetime
    caller: str
    limit: str
    """As the gate says it."""


@router.get("/")
async def home(visit: AtHome) -> Response:
    """Show where one can go, and how things are."""
    overview, now = Overview(), Figures(0, 0, 0, 0)
    limits: list[ReachedLimit] = []
    if visit.may(Permission.CALLS_HANG_UP):
        overview = await run_in_threadpool(
            read_overview, visit.portal.store, visit.portal.clock(), site_zone()
        )
        calls = await run_in_threadpool(visit.portal.gate.calls)
        now = figures(calls or ())
        gate = await run_in_threadpool(visit.portal.gate.state)
        limits = reached_limits(gate.facts, visit.portal.clock(), site_zone())
    return await page(visit, "home.html", overview=overview, figures=now, days=_EMERGENCY_DAYS, limits=limits)


def reached_limits(facts: Mapping[str, object], now: float, zone: tzinfo) -> list[ReachedLimit]:
    """Return what the gate tells of limits that were reached lately, the newest first."""
    told = facts.get("limits_reached")
    found = []
    for one in told if isinstance(told, list) else ():
        ago = one.get("seconds") if isinstance(one, dict) else None
        if isinstance(ago, int | float) and 0 <= ago < _LATELY:
            at = datetime.fromtimestamp(now - ago, zone)
            found.append(ReachedLimit(at, str(one.get("caller", "")), str(one.get("limit", ""))))
    return found


def read_overview(store: Store, now: float, zone: tzinfo) -> Overview:
    """Read it; blocks."""
    today = datetime.fromtimestamp(now, zone).date()
    report = store.reports.report(ReportBy.RESULT, today, today, order=ReportOrder.CALLS, limit=_MOST_RESULTS)
    first = today - timedelta(days=_EMERGENCY_DAYS)
    recent = UsageFilter(since=midnight(first, zone), emergency=True)
    everything = UsageView(Period.RANGE, first, today, call_class=CallClass.EMERGENCY)
    emergencies = [entry.record for entry in store.usage.page(recent, limit=_MOST_EMERGENCIES).entries]
    return Overview(
        report.lines,
        report.calls,
        report.answered,
        report.talk_time,
        store.reports.wrong_codes(midnight(today, zone)),
        store.locks.all(at=now),
        [(datetime.fromtimestamp(record.start_time, zone), record) for record in emergencies],
        store.usage.count_up_to(recent),
        everything.query(),
    )
