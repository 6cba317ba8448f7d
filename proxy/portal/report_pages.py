"""Reports: talk time and calls by code, user, group, class, result and day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.cdr.usage_log import clock_time, neutralise, quoted_line
from proxy.portal.pages import page
from proxy.portal.permissions import Permission
from proxy.portal.report_chart import Chart, columns, lying_bars
from proxy.portal.report_lines import named, report_rows
from proxy.portal.report_view import InReportView, ReportView, month_of_day
from proxy.portal.streams import in_chunks, in_place, stream
from proxy.portal.usage_view import Period, UsageView, sees_codes
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import Report, ReportBy, ReportLine, ReportOrder

__all__ = ["router"]

router = APIRouter()

Reader = Annotated[Visit, Depends(Needs(Permission.REPORTS_VIEW))]

_CHARTED = 15


@dataclass(frozen=True, slots=True)
class _Line:
    """One line as it is shown."""

    name: str
    more: str
    line: ReportLine
    link: str
    """Address of the statement of its code, or of its calls; "" where there is none."""
    share: str

    @property
    def talked(self) -> str:
        """Its talk time for people."""
        return clock_time(self.line.talk_time)


@router.get("/reports")
async def show_report(visit: Reader, view: InReportView) -> Response:
    """Show one page of a report, and a chart of it."""
    _refuse_order_of_codes(visit, view)
    size = visit.portal.settings.page_size
    async with visit.portal.reports.of(visit.who.id):
        report = await run_in_threadpool(_read, visit, view, (view.page - 1) * size, size)
        drawn = await run_in_threadpool(_chart, visit, view, report)
    today = datetime.fromtimestamp(visit.portal.clock(), visit.portal.store.usage.zone).date()
    this, before = month_of_day(today), month_of_day(today.replace(day=1) - timedelta(days=1))
    return await page(
        visit,
        "reports.html",
        view=view,
        report=report,
        lines=[_shown(visit, view, line, report) for line in report.lines],
        talked=clock_time(report.talk_time),
        pages=max(1, -(-report.count // size)),
        chart=drawn,
        kinds=ReportBy,
        orders=ReportOrder,
        months={
            "this_month": view.query(first=this[0], last=this[1], page=""),
            "last_month": view.query(first=before[0], last=before[1], page=""),
        },
        sorts_by_key=view.by is not ReportBy.CODE or sees_codes(visit),
    )


@router.get("/reports/file")
async def export_report(visit: Reader, view: InReportView) -> Response:
    """Give out the whole report as CSV."""
    _refuse_order_of_codes(visit, view)
    name = f"{view.by.value}-{view.first}-{view.last}.csv"
    made = in_place(visit, lambda _state: in_chunks(_file_lines(visit, view)))
    return await stream(made, name, "text/csv; charset=utf-8")


def _file_lines(visit: Visit, view: ReportView) -> Iterator[str]:
    masked = not sees_codes(visit)
    found = visit.portal.store.reports.lines(
        view.by, view.first, view.last, order=view.order, descending=view.descending, masked=masked
    )
    for row in report_rows(view.by, found, visit.texts, masked=masked):
        yield quoted_line(tuple(neutralise(cell) for cell in row))


def _read(visit: Visit, view: ReportView, offset: int, limit: int) -> Report:
    return visit.portal.store.reports.report(
        view.by,
        view.first,
        view.last,
        order=view.order,
        descending=view.descending,
        offset=offset,
        limit=limit,
        masked=not sees_codes(visit),
        most=_CHARTED,
    )


def _chart(visit: Visit, view: ReportView, report: Report) -> Chart:
    """The days from left to right, and of all else what is talked most."""
    by_day, lines = view.by is ReportBy.DAY, report.most
    if by_day:
        days = visit.portal.store.reports.lines(
            view.by, view.first, view.last, order=ReportOrder.KEY, descending=False
        )
        lines = list(days)
    drawn = [(_named(visit, view.by, line)[0], line.talk_time, clock_time(line.talk_time)) for line in lines]
    return columns(drawn) if by_day else lying_bars(drawn)


def _shown(visit: Visit, view: ReportView, line: ReportLine, report: Report) -> _Line:
    name, more = _named(visit, view.by, line)
    share = f"{100 * line.talk_time / report.talk_time:.1f} %" if report.talk_time > 0 else ""
    return _Line(name, more, line, _link(visit, view, line) if view.by is ReportBy.CODE else "", share)


def _link(visit: Visit, view: ReportView, line: ReportLine) -> str:
    """Where the calls of a code's line are: no others, and all of them."""
    if (view.first, view.last) == month_of_day(view.first):
        month = f"{view.first:%Y-%m}"
        if line.code_id:
            return "/reports/statement?" + urlencode({"id": line.code_id, "month": month})
        if sees_codes(visit):
            return "/reports/statement?" + urlencode({"code": line.key, "month": month})
    elif line.key and sees_codes(visit):
        # A statement is of one month: of a longer or shorter time it would say other sums than the line.
        return "/usage" + UsageView(Period.RANGE, view.first, view.last, code=line.key).query()
    return ""


def _named(visit: Visit, by: ReportBy, line: ReportLine) -> tuple[str, str]:
    return named(by, line, visit.texts, masked=not sees_codes(visit))


def _refuse_order_of_codes(visit: Visit, view: ReportView) -> None:
    if view.by is ReportBy.CODE and view.order is ReportOrder.KEY and not sees_codes(visit):
        raise Refused(403, "error.forbidden")
