"""The statement of one client code for a month: on paper, as CSV, and as an invoice in LEDES 1998B."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.responses import Response

from proxy.cdr.ledes import LedesInvoice, ledes_lines
from proxy.cdr.usage_log import LocalTime, UsageFacts, clock_time, usage_log_lines
from proxy.errors import ConfigurationError
from proxy.portal.pages import page
from proxy.portal.permissions import Permission
from proxy.portal.report_view import month_given
from proxy.portal.streams import in_chunks, in_place, stream
from proxy.portal.usage_view import day_given, sees_codes, shown_code, text_given
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import Statement
from proxy.store.audit import masked_code

__all__ = ["router"]

router = APIRouter()

Reader = Annotated[Visit, Depends(Needs(Permission.REPORTS_VIEW))]
CodeId = Annotated[int, Query(alias="id", ge=0, le=2**53)]
TypedCode = Annotated[str, Query(max_length=64)]

_PRINTED = 5_000
"""So many calls stand on the page; the files have all."""


@router.get("/reports/statement")
async def show_statement(
    visit: Reader, request: Request, code_id: CodeId = 0, code: TypedCode = ""
) -> Response:
    """Show a statement, or ask whose."""
    given = request.query_params
    month = month_given(given, _today(visit))
    if not (code_id or code):
        return await page(visit, "statement.html", statement=None, month=f"{month:%Y-%m}", typed="")
    statement = await _statement(visit, given, code_id, code)
    async with visit.portal.reports.of(visit.who.id):
        facts = await run_in_threadpool(
            lambda: list(islice(visit.portal.store.usage.facts(statement.wanted), _PRINTED))
        )
    local = LocalTime(visit.portal.store.usage.zone)
    total = statement.total
    form = shown_code(visit, total.name or total.key)
    which: dict[str, object] = {"id": code_id} if code_id else {"code": total.key}
    return await page(
        visit,
        "statement.html",
        statement=statement,
        month=f"{month:%Y-%m}",
        query="?" + urlencode({**which, "month": f"{month:%Y-%m}"}),
        code_id=code_id,
        typed="" if code_id else total.key,
        form=form,
        talked=clock_time(total.talk_time),
        calls=[
            (*local(fact.start_time), fact.user, fact.dialled_number, clock_time(fact.talk_time))
            for fact in facts
        ],
        missing=max(0, total.calls - len(facts)),
        today=_today(visit),
        matter=form[:20] if sees_codes(visit) else "",
    )


@router.get("/reports/statement/file")
async def export_statement(
    visit: Reader, request: Request, code_id: CodeId = 0, code: TypedCode = ""
) -> Response:
    """Give out its calls as the usage log's CSV."""
    statement = await _statement(visit, request.query_params, code_id, code)
    store = visit.portal.store
    lines = usage_log_lines(_calls(visit, statement), zone=store.usage.zone)
    name = f"statement-{statement.first:%Y-%m}.csv"
    made = in_place(visit, lambda _state: in_chunks(lines))
    return await stream(made, name, "text/csv; charset=utf-8")


@router.get("/reports/statement/ledes")
async def export_ledes(
    visit: Reader, request: Request, code_id: CodeId = 0, code: TypedCode = ""
) -> Response:
    """Give out its answered calls as an invoice."""
    given = request.query_params
    statement = await _statement(visit, given, code_id, code)
    try:
        invoice = LedesInvoice(
            number=text_given(given, "number", 64),
            day=day_given(given, "day") or _today(visit),
            client_id=text_given(given, "client_id", 64),
            matter_id=text_given(given, "matter_id", 64),
            law_firm_id=text_given(given, "law_firm_id", 64),
            client_matter_id=text_given(given, "client_matter_id", 64),
            rate=_rate(given),
            first=statement.first,
            last=statement.last,
            description=f"Telephone calls {statement.first:%Y-%m} {statement.total.description}".strip(),
        )
    except ConfigurationError as error:
        raise Refused(422, "error.refused", reason=visit.texts.told(error)) from None
    lines = ledes_lines(invoice, lambda: _calls(visit, statement), zone=visit.portal.store.usage.zone)
    made = in_place(visit, lambda _state: in_chunks(lines))
    return await stream(made, f"ledes-{statement.first:%Y-%m}.txt", "text/plain; charset=us-ascii")


def _calls(visit: Visit, statement: Statement) -> Iterator[UsageFacts]:
    facts = visit.portal.store.usage.facts(statement.wanted)
    if sees_codes(visit):
        return facts
    return (fact._replace(code=masked_code(fact.code)) for fact in facts)


async def _statement(visit: Visit, given: QueryParams, code_id: int, code: str) -> Statement:
    """Find the statement of a code: by its id, or as it is typed by those who may see codes."""
    month = month_given(given, _today(visit))
    if code and not sees_codes(visit):
        raise Refused(403, "error.forbidden")

    def work() -> Statement:
        key = code
        if code_id:
            found = visit.portal.store.codes.by_id(code_id)
            if found is None:
                raise Refused(404, "codes.gone")
            key = found.value.digits
        if not key:
            raise Refused(422, "error.parameter", names="code")
        try:
            return visit.portal.store.reports.statement(key, month.year, month.month)
        except ConfigurationError:
            raise Refused(422, "error.parameter", names="code") from None

    return await run_in_threadpool(work)


def _rate(given: QueryParams) -> Decimal:
    try:
        return Decimal(text_given(given, "rate", 16).replace(",", "."))
    except InvalidOperation:
        raise Refused(422, "error.parameter", names="rate") from None


def _today(visit: Visit) -> date:
    return datetime.fromtimestamp(visit.portal.clock(), visit.portal.store.usage.zone).date()
