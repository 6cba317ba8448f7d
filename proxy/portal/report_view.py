"""What a report is about, as the address says it."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Request
from starlette.datastructures import QueryParams

from proxy.portal.usage_view import day_given, of_list
from proxy.portal.visit import Refused, portal_of
from proxy.store import ReportBy, ReportOrder

__all__ = ["InReportView", "ReportView", "month_given", "month_of_day"]

_MOST_DAYS = 1_830
_LAST_PAGE = 1_000_000


@dataclass(frozen=True, slots=True)
class ReportView:
    """One page of one report. Every link of the page carries it along."""

    by: ReportBy
    first: date
    last: date
    order: ReportOrder
    descending: bool
    page: int

    def query(self, **changes: object) -> str:
        """Return the query string that leads back here, with something else or more in it."""
        told: dict[str, object] = {
            "by": self.by.value,
            "first": self.first,
            "last": self.last,
            "order": self.order.value,
            "descending": "true" if self.descending else "false",
            "page": "" if self.page == 1 else self.page,
        }
        return "?" + urlencode({name: value for name, value in (told | changes).items() if value != ""})

    def sorted_by(self, order: ReportOrder) -> str:
        """Return the query of the same report sorted by a column; the other way round when it is already."""
        falls = not self.descending if order is self.order else order is not ReportOrder.KEY
        return self.query(order=order.value, descending="true" if falls else "false", page="")


def _view(request: Request) -> ReportView:
    """Read the address. Raises `Refused` naming the field that holds what is not possible."""
    given = request.query_params
    portal = portal_of(request)
    today = datetime.fromtimestamp(portal.clock(), portal.store.usage.zone).date()
    first = day_given(given, "first") or today.replace(day=1)
    last = day_given(given, "last") or month_of_day(first)[1]
    if first > last or (last - first).days >= _MOST_DAYS:
        raise Refused(422, "error.parameter", names="first, last")
    by = of_list(given, "by", ReportBy) or ReportBy.CODE
    order = of_list(given, "order", ReportOrder) or (
        ReportOrder.KEY if by is ReportBy.DAY else ReportOrder.TALK_TIME
    )
    falls = given.get("descending") or ("false" if order is ReportOrder.KEY else "true")
    if falls not in {"true", "false"}:
        raise Refused(422, "error.not_on_list", name="descending", allowed="true, false")
    return ReportView(by, first, last, order, falls == "true", _page(given))


InReportView = Annotated[ReportView, Depends(_view)]


def _page(given: QueryParams) -> int:
    text = given.get("page", "1")
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= _LAST_PAGE):
        raise Refused(422, "error.parameter", names="page")
    return int(text)


def month_given(given: QueryParams, today: date) -> date:
    """Return the first day of the month of the address; without one that of the last month."""
    text = given.get("month", "")
    if not text:
        return (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    if len(text) == len("2026-07") and (day := day_given(QueryParams(month=f"{text}-01"), "month")):
        return day
    raise Refused(422, "error.parameter", names="month")


def month_of_day(day: date) -> tuple[date, date]:
    """The first and the last day of a month."""
    return day.replace(day=1), day.replace(day=calendar.monthrange(day.year, day.month)[1])
