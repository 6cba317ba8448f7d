"""Reports for programs: calls and talk time, and the statement of one code."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.problems import Problem, naming
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import Limit, RowId, Values
from proxy.store import ReportBy, ReportLine, ReportOrder
from proxy.store.audit import masked_code

__all__ = ["router"]

router = APIRouter(tags=["reports"], route_class=GuardedRoute)

Reader = Annotated[Client, Depends(NeedsScope(Scope.REPORTS_READ))]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]


class ReportLineDocument(Values):
    """One line of a report."""

    key: str = Field(description="Digits of a code, extension, group, class, result or day.")
    name: str
    description: str
    calls: int
    answered: int
    talk_time: float = Field(description="Seconds.")


class ReportDocument(Values):
    """One page of a report, and what its whole adds up to."""

    lines: list[ReportLineDocument]
    count: int = Field(description="Lines of the whole report.")
    calls: int
    answered: int
    talk_time: float


class StatementDocument(Values):
    """What one code cost in a month; its calls are in the usage log under this code."""

    code_id: int
    first: date
    last: date
    total: ReportLineDocument


@router.get("/reports")
async def get_report(
    client: Reader,
    by: ReportBy,
    first: Annotated[date, Query(description="First day, local to the site.")],
    last: Annotated[date, Query(description="Last day.")],
    *,
    order: ReportOrder = ReportOrder.TALK_TIME,
    descending: bool = True,
    offset: Offset = 0,
    limit: Limit = 100,
) -> ReportDocument:
    """Add up the calls of some days. A call past midnight belongs to the day of its start."""
    masked = by is ReportBy.CODE and not client.may(Scope.CODES_READ)
    if masked and order is ReportOrder.KEY:
        raise Problem(403, "the token is not for codes:read, and sees no codes", field="order")
    for field, day in (("first", first), ("last", last)):
        if not 1971 <= day.year <= 2999:
            raise Problem(422, "write a year from 1971 to 2999", field=field)
    who = client.source if client.token is None else f"token {client.token.id}"
    with naming("last"):
        async with client.portal.reports.of(who):
            report = await run_in_threadpool(
                client.portal.store.reports.report,
                by,
                first,
                last,
                order=order,
                descending=descending,
                offset=offset,
                limit=limit,
                masked=masked,
            )
    return ReportDocument(
        lines=[_line(line, masked=masked) for line in report.lines],
        count=report.count,
        calls=report.calls,
        answered=report.answered,
        talk_time=report.talk_time,
    )


@router.get("/reports/statements/{code_id}")
async def get_statement(
    client: Reader,
    code_id: RowId,
    month: Annotated[str, Query(pattern=r"^\d{4}-\d{2}$", description="2026-10")],
) -> StatementDocument:
    """Give the statement of one code for a month."""
    code = await run_in_threadpool(client.portal.store.codes.by_id, code_id)
    if code is None:
        raise Problem(404, "there is no such code")
    year, number = map(int, month.split("-"))
    with naming("month"):
        found = await run_in_threadpool(client.portal.store.reports.statement, code.value.form, year, number)
    total = _line(found.total, masked=not client.may(Scope.CODES_READ))
    return StatementDocument(code_id=code_id, first=found.first, last=found.last, total=total)


def _line(line: ReportLine, *, masked: bool) -> ReportLineDocument:
    """Return a line; the code that it is about masked for programs that may not see codes."""
    return ReportLineDocument(
        key=masked_code(line.key) if masked else line.key,
        name=masked_code(line.name) if masked else line.name,
        description=line.description,
        calls=line.calls,
        answered=line.answered,
        talk_time=line.talk_time,
    )
