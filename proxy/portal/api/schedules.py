"""Reports by e-mail for programs: which is sent when to whom.

A report shows what its account may see. So that no token shows itself more than it may, it has to be for
codes:read where the account sees the digits of codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.concurrency import run_in_threadpool

from proxy.errors import ConfigurationError
from proxy.policy import CallClass
from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.concurrency import changed_if_match, found_row, not_modified, tag
from proxy.portal.api.problems import Problem
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import RowId, Values
from proxy.portal.permissions import Permission, may, may_see_codes
from proxy.portal.texts import LANGUAGES
from proxy.store import (
    MAILED,
    MailedCalls,
    ReportBy,
    ReportFormat,
    ReportMail,
    ReportSchedule,
    Rhythm,
    Versioned,
)
from proxy.store.schedules import mailed

__all__ = ["router"]

router = APIRouter(tags=["schedules"], route_class=GuardedRoute)

Sender = Annotated[Client, Depends(NeedsScope(Scope.REPORTS_MAIL))]

_PLAIN = (
    "account_id",
    "report",
    "format",
    "rhythm",
    "day",
    "code_id",
    "user",
    "group",
    "language",
    "enabled",
)
_FIELDS = {"time": "day", "code": "code_id", "filters": "user"}
"""The fields that the beginning of a refusal is about."""


def _report(word: object) -> ReportBy | MailedCalls:
    try:
        return mailed(str(word))
    except ValueError:
        raise ValueError(f"write one of {', '.join(MAILED)}") from None


Report = Annotated[
    ReportBy | MailedCalls,
    BeforeValidator(_report),
    WithJsonSchema({"type": "string", "enum": [one.value for one in MAILED]}),
]


class ScheduleFields(Values):
    """What can be set of a schedule. What is left out stays as it is, or has its default."""

    account_id: int = Field(default=0, ge=0, le=2**53, description="Whose report it is; stays what it was.")
    report: Report = ReportBy.CODE
    format: ReportFormat = ReportFormat.CSV
    rhythm: Rhythm = Rhythm.MONTHLY
    day: int = Field(default=1, description="Of the week (1: Monday), of the month (to 28), or 0: each day.")
    at: str = Field(default="06:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="Local to the site.")
    recipients: list[str] = Field(default_factory=list, max_length=20)
    code_id: int = Field(default=0, ge=0, le=2**53, description="Of a statement.")
    user: str = Field(default="", max_length=64, description="Of the usage log only these calls.")
    group: str = Field(default="", max_length=64)
    call_class: CallClass | None = None
    language: str = Field(default="en", description="A language of the portal.")
    enabled: bool = True

    def make(self, client: Client, old: ReportSchedule | None) -> ReportSchedule:
        """Return the schedule that this makes, of an old one or of none. Raises `Problem`."""
        names = set(type(self).model_fields) if old is None else self.model_fields_set
        given: dict[str, object] = {name: getattr(self, name) for name in _PLAIN if name in names}
        if "at" in names:
            given["minute"] = int(self.at[:2]) * 60 + int(self.at[3:])
        if "recipients" in names:
            given["recipients"] = tuple(dict.fromkeys(self.recipients))
        if "call_class" in names:
            given["call_class"] = "" if self.call_class is None else self.call_class.value
        if given.get("language", "en") not in LANGUAGES:
            raise Problem(422, f"there are {', '.join(LANGUAGES)}", field="language")
        if old is not None and given.pop("account_id", old.account_id) != old.account_id:
            raise Problem(422, "a report stays whose it is", field="account_id")
        with _naming_fields():
            made = ReportSchedule(**given) if old is None else replace(old, **given)  # type: ignore[arg-type]
        if made.code_id and client.portal.store.codes.by_id(made.code_id) is None:
            raise Problem(422, "there is no such code", field="code_id")
        _check_owner(client, made)
        return made


class ScheduleDocument(ScheduleFields):
    """A schedule as it is."""

    id: int
    next_at: datetime | None = Field(description="When it is due next; null when it is switched off.")
    last_sent_at: datetime | None
    last_error: str = Field(description="Why the last one could not be sent, or for whom it was not taken.")


class ScheduleList(Values):
    """All schedules by age."""

    schedules: list[ScheduleDocument]


@router.get("/schedules")
async def list_schedules(client: Sender) -> ScheduleList:
    """List what is sent when to whom."""

    def work() -> ScheduleList:
        schedules = client.portal.store.schedules
        last = schedules.last_mails()
        return ScheduleList(schedules=[_document(one, last.get(one.id)) for one in schedules.all()])

    return await run_in_threadpool(work)


@router.post("/schedules", status_code=201)
async def add_schedule(client: Sender, fields: ScheduleFields, response: Response) -> ScheduleDocument:
    """Have a report sent."""

    def work() -> tuple[ReportSchedule, ScheduleDocument]:
        made = fields.make(client, None)
        with _naming_fields():
            added = client.store.schedules.add(made, now=client.portal.clock())
        return added, _document(added, None)

    added, document = await run_in_threadpool(work)
    response.headers["ETag"] = tag(added.version)
    response.headers["Location"] = f"/api/v1/schedules/{added.id}"
    return document


@router.get("/schedules/{schedule_id}", response_model=ScheduleDocument)
async def get_schedule(client: Sender, schedule_id: RowId, request: Request, response: Response) -> object:
    """Give one schedule."""

    def work() -> object:
        found = _expect(client, schedule_id)()
        return not_modified(request, response, found.version) or _told(client, found.value)

    return await run_in_threadpool(work)


@router.patch("/schedules/{schedule_id}")
async def change_schedule(
    client: Sender, schedule_id: RowId, fields: ScheduleFields, request: Request, response: Response
) -> ScheduleDocument:
    """Change what is given of a schedule; everything else stays. Needs If-Match."""

    def write(old: ReportSchedule, version: int) -> None:
        made = fields.make(client, old)
        client.store.schedules.change(made, version=version, now=client.portal.clock())

    def work() -> ScheduleDocument:
        changed = changed_if_match(request, response, _expect(client, schedule_id), write)
        return _told(client, changed)

    return await run_in_threadpool(work)


@router.post("/schedules/{schedule_id}/send", status_code=202)
async def send_now(client: Sender, schedule_id: RowId) -> None:
    """Send a report now, besides when it is due."""

    def work() -> None:
        _check_owner(client, _expect(client, schedule_id)().value)
        client.store.schedules.send_now(schedule_id, now=client.portal.clock())

    await run_in_threadpool(work)


@router.delete("/schedules/{schedule_id}", status_code=204)
async def delete_schedule(client: Sender, schedule_id: RowId) -> None:
    """Delete a schedule and what is still to be sent of it."""

    def work() -> None:
        _expect(client, schedule_id)()
        client.store.schedules.delete(schedule_id)

    await run_in_threadpool(work)


def _check_owner(client: Client, schedule: ReportSchedule) -> None:
    """Refuse reports of accounts that may have none, or that see more than the token. Raises `Problem`."""
    owner = client.portal.store.accounts.get(schedule.account_id)
    if owner is None or not may(replace(owner, must_change=False), Permission.REPORTS_MAIL):
        raise Problem(422, "name an account that may have reports sent", field="account_id")
    if may_see_codes(owner) and not client.may(Scope.CODES_READ):
        raise Problem(403, "this account sees codes, and the token is not for codes:read", field="account_id")


def _expect(client: Client, schedule_id: int) -> Callable[[], Versioned[ReportSchedule]]:
    """Return what reads a schedule, or raises `Problem`."""

    return lambda: found_row(client.portal.store.schedules.get(schedule_id), "schedule")


@contextmanager
def _naming_fields() -> Iterator[None]:
    """Say which field a refusal is about."""
    try:
        yield
    except ConfigurationError as error:
        field = str(error).partition(":")[0]
        raise Problem(422, str(error), field=_FIELDS.get(field, field)) from None


def _told(client: Client, schedule: ReportSchedule) -> ScheduleDocument:
    return _document(schedule, client.portal.store.schedules.last_mails().get(schedule.id))


def _document(schedule: ReportSchedule, last: ReportMail | None) -> ScheduleDocument:
    plain = {name: getattr(schedule, name) for name in _PLAIN}
    sent = None if last is None or last.sent_at is None else datetime.fromtimestamp(last.sent_at, UTC)
    return ScheduleDocument(
        **plain,
        at=f"{schedule.minute // 60:02d}:{schedule.minute % 60:02d}",
        recipients=list(schedule.recipients),
        call_class=CallClass(schedule.call_class) if schedule.call_class else None,
        id=schedule.id,
        next_at=datetime.fromtimestamp(schedule.next_at, UTC) if schedule.enabled else None,
        last_sent_at=sent,
        last_error="" if last is None else last.last_error,
    )
