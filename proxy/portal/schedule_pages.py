"""Reports > By E-Mail: which report is sent when to whom, and what became of the last one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.errors import ConfigurationError
from proxy.policy import CallClass
from proxy.portal.code_form import text_of
from proxy.portal.conflicts import Label, Named, what_others_made
from proxy.portal.pages import go_to, page
from proxy.portal.permissions import Permission
from proxy.portal.schedule_form import WEEKDAYS, Fields, fields_from, fields_of, new_fields, schedule_from
from proxy.portal.times import site_time
from proxy.portal.usage_view import sees_codes, shown_code
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import MAILED, ReportFormat, ReportSchedule, Rhythm, VersionConflict

__all__ = ["MESSAGES", "router"]

router = APIRouter()

Sender = Annotated[Visit, Depends(Needs(Permission.REPORTS_MAIL))]

MESSAGES = ("added", "changed", "deleted", "sending")
_LABELS = {
    "report": Label("mailed.report", "mailed.report_"),
    "code": Label("mailed.code"),
    "user": Label("users.extension"),
    "group": Label("usage.group"),
    "call_class": Label("usage.class", "class."),
    "format": Label("mailed.format", "mailed.format_"),
    "language": Label("base.language"),
    "rhythm": Label("mailed.rhythm", "mailed.rhythm_"),
    "weekday": Label("mailed.weekday", "mailed.weekday_"),
    "monthday": Label("mailed.monthday"),
    "time": Label("mailed.time"),
    "recipients": Label("mailed.recipients"),
    "enabled": Label("mailed.is_sent"),
}


@router.get("/reports/mail")
async def show_schedules(
    visit: Sender, *, code_id: Annotated[int, Query(ge=0, le=2**53)] = 0, said: str = ""
) -> Response:
    """List what is sent, with a form for one more."""
    fields = new_fields(visit.texts.language, code_id=code_id)
    return await _list_page(visit, fields=fields, said=_said(visit, said))


@router.post("/reports/mail")
async def add_schedule(visit: Sender) -> Response:
    """Add a schedule."""
    fields = fields_from(await visit.form())

    def work() -> ReportSchedule:
        made = _made(visit, fields, None)
        return visit.store.schedules.add(made, now=visit.portal.clock())

    try:
        await run_in_threadpool(work)
    except ConfigurationError as error:
        return await _list_page(visit, fields=fields, status=422, error=visit.texts.told(error))
    return go_to("/reports/mail", said="added")


@router.get("/reports/mail/{schedule_id:int}")
async def show_schedule(visit: Sender, schedule_id: int, *, delete: bool = False) -> Response:
    """Show one schedule; ask whether it is to be deleted."""
    return await _one_page(visit, await _expect(visit, schedule_id), asked=delete)


@router.post("/reports/mail/{schedule_id:int}")
async def change_schedule(visit: Sender, schedule_id: int) -> Response:
    """Change a schedule."""
    form = await visit.form()
    fields, version = fields_from(form), text_of(form, "version")
    old = await _expect(visit, schedule_id)
    if not (version.isascii() and version.isdigit() and len(version) <= 12):
        raise Refused(422, "error.parameter", names="version")

    change, now = visit.store.schedules.change, visit.portal.clock()
    try:
        made = await run_in_threadpool(_made, visit, fields, old)
        try:
            await run_in_threadpool(change, made, version=int(version), now=now)
        except VersionConflict:
            return await _conflict_page(visit, made, fields)
    except ConfigurationError as error:
        return await _one_page(visit, old, fields=fields, status=422, error=visit.texts.told(error))
    return go_to("/reports/mail", said="changed")


@router.post("/reports/mail/{schedule_id:int}/send")
async def send_now(visit: Sender, schedule_id: int) -> Response:
    """Send a report now, besides when it is due."""
    await _expect(visit, schedule_id)
    await run_in_threadpool(visit.store.schedules.send_now, schedule_id, now=visit.portal.clock())
    return go_to("/reports/mail", said="sending")


@router.post("/reports/mail/{schedule_id:int}/delete")
async def delete_schedule(visit: Sender, schedule_id: int) -> Response:
    """Delete a schedule, once it was said to be sure."""
    old = await _expect(visit, schedule_id)
    if await visit.field("sure") != "yes":
        return await _one_page(visit, old, asked=True)
    await run_in_threadpool(visit.store.schedules.delete, schedule_id)
    return go_to("/reports/mail", said="deleted")


def _made(visit: Visit, fields: Fields, old: ReportSchedule | None) -> ReportSchedule:
    store = visit.portal.store
    return schedule_from(fields, old, visit.who.id, store, visit.texts, sees_codes=sees_codes(visit))


def _facts(fields: Fields, code: Named) -> dict[str, str | bool | Named | list[str]]:
    """The fields as people tell them: a box is ticked or not, and a day counts where the rhythm has one."""
    days = {"weekday": Rhythm.WEEKLY, "monthday": Rhythm.MONTHLY}
    return {
        **fields,
        **{name: fields[name] if fields["rhythm"] == rhythm else "" for name, rhythm in days.items()},
        "code": code,
        "enabled": bool(fields["enabled"]),
        "recipients": fields["recipients"].split(),
    }


async def _expect(visit: Visit, schedule_id: int) -> ReportSchedule:
    """One of the schedules that who comes has to do with: their own, and a Decision Maker's all."""
    found = await run_in_threadpool(visit.portal.store.schedules.get, schedule_id)
    if found is None or found.account_id not in {visit.who.id, _whose(visit) or found.account_id}:
        raise Refused(404, "mailed.gone")
    return found


def _whose(visit: Visit) -> int | None:
    """Whose schedules are seen: everybody's by those who say who may log in.

    Others would change where a report goes that shows more than they may see.
    """
    return None if visit.may(Permission.ACCOUNTS) else visit.who.id


async def _list_page(
    visit: Visit, *, fields: Fields, status: int = 200, said: str = "", error: str = ""
) -> Response:
    store = visit.portal.store

    def read() -> dict[str, object]:
        schedules = store.schedules.all(account_id=_whose(visit))
        return {
            "schedules": schedules,
            "last": store.schedules.last_mails(),
            "codes": {one.code_id: _code_of(visit, one) for one in schedules if one.code_id},
            "owners": {one.id: one.name for one in store.accounts.all()},
        }

    found = await run_in_threadpool(read)
    return await page(
        visit,
        "report_mails.html",
        status=status,
        said=said,
        error=error,
        when=site_time,
        **found,
        **await _choices(visit, fields),
    )


async def _one_page(
    visit: Visit,
    schedule: ReportSchedule,
    *,
    fields: Fields | None = None,
    status: int = 200,
    asked: bool = False,
    error: str = "",
) -> Response:
    return await page(
        visit,
        "report_mail_edit.html",
        status=status,
        schedule=schedule,
        asked=asked,
        error=error,
        **await _choices(visit, fields or fields_of(schedule)),
    )


async def _conflict_page(visit: Visit, made: ReportSchedule, fields: Fields) -> Response:
    """Say what somebody else has made of the schedule that was to become the ``made`` one."""
    now = await _expect(visit, made.id)
    code = Named(now.code_id, await run_in_threadpool(_code_and_what_for, visit, now.code_id))
    theirs, mine = _facts(fields_of(now), code), _facts(fields, Named(made.code_id))
    told = what_others_made(visit.texts, _LABELS, theirs, mine)
    return await _one_page(visit, now, fields=fields, status=409, error=told)


async def _choices(visit: Visit, fields: Fields) -> dict[str, object]:
    """What the form offers."""
    store = visit.portal.store
    number = fields["code_id"]
    chosen = ""
    if number.isascii() and number.isdigit() and len(number) <= 15:
        chosen = await run_in_threadpool(_code_and_what_for, visit, int(number))
    return {
        "fields": fields,
        "reports": MAILED,
        "formats": ReportFormat,
        "rhythms": Rhythm,
        "weekdays": WEEKDAYS,
        "classes": CallClass,
        "groups": [group.name for group in await run_in_threadpool(store.groups.all)],
        "types_codes": sees_codes(visit),
        "chosen_code": chosen,
        "mails": visit.portal.mails,
    }


def _code_of(visit: Visit, schedule: ReportSchedule) -> str:
    found = visit.portal.store.codes.by_id(schedule.code_id)
    return "" if found is None else found.value.description or shown_code(visit, found.value.form)


def _code_and_what_for(visit: Visit, code_id: int) -> str:
    found = visit.portal.store.codes.by_id(code_id)
    return "" if found is None else f"{shown_code(visit, found.value.form)} {found.value.description}"


def _said(visit: Visit, said: str) -> str:
    if said and said not in MESSAGES:
        raise Refused(400, "error.parameter", names="said")
    return visit.texts(f"mailed.{said}") if said else ""
