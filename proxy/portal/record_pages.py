"""One call with all its facts, and the correction of its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.cdr.record import CallRecord, LegMedia
from proxy.cdr.usage_log import LocalTime, clock_time
from proxy.errors import ConfigurationError
from proxy.portal.pages import go_to, page
from proxy.portal.permissions import Permission
from proxy.portal.usage_view import InUsageView, UsageView, may_see_call, sees_codes, shown_code
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import Correction, UsageEntry, VersionConflict

__all__ = ["MESSAGES", "router"]

router = APIRouter()

Viewer = Annotated[Visit, Depends(Needs(Permission.USAGE_VIEW))]
Corrector = Annotated[Visit, Depends(Needs(Permission.RECORDS_CORRECT))]

MESSAGES = ("corrected", "same")
"""What a page may say has been done."""
_LONGEST_ID = 64


@dataclass(frozen=True, slots=True)
class _Moment:
    """One line of the time line."""

    after: str
    clock: str
    what: str


@dataclass(frozen=True, slots=True)
class _Quality:
    """How the sound of one leg was."""

    leg: str
    media: LegMedia

    @property
    def lost(self) -> str:
        """Lost packets in per cent; duplicates count against them (RFC 3550 §6.4.1)."""
        expected = self.media.packets_received + self.media.packets_lost
        return f"{max(0.0, 100 * self.media.packets_lost / expected):.1f} %" if expected > 0 else ""


@dataclass(frozen=True, slots=True)
class _Change:
    """One correction as it is shown."""

    at: str
    who: str
    reason: str
    before: str
    after: str


@router.get("/usage/{record_id}")
async def show_record(visit: Viewer, view: InUsageView, record_id: str, said: str = "") -> Response:
    """Show all facts of a call."""
    if said and said not in MESSAGES:
        raise Refused(400, "error.parameter", names="said")
    return await _record_page(visit, view, record_id, said=visit.texts(f"record.{said}") if said else "")


@router.post("/usage/{record_id}/correct")
async def correct_record(visit: Corrector, view: InUsageView, record_id: str) -> Response:
    """Set, change or take away the code of a finished call. The record stays as it is."""
    await _find(visit, record_id)
    typed, reason = await visit.field("code"), await visit.field("reason")
    seen = await visit.field("seen")
    if not (seen.isascii() and seen.isdigit() and len(seen) <= 6):
        raise Refused(422, "error.parameter", names="seen")

    def work() -> Correction | None:
        return visit.store.corrections.correct(record_id, typed, reason, seen=int(seen))

    async def refused(status: int, error: str) -> Response:
        return await _record_page(
            visit, view, record_id, status=status, error=error, typed=typed[:64], reason=reason[:500]
        )

    try:
        made = await run_in_threadpool(work)
    except VersionConflict:
        return await refused(409, visit.texts("record.conflict"))
    except ConfigurationError as error:
        return await refused(422, visit.texts.told(error))
    said = "same" if made is None else "corrected"
    return go_to(f"/usage/{record_id}{view.query(said=said)}")


async def _record_page(
    visit: Visit,
    view: UsageView,
    record_id: str,
    *,
    status: int = 200,
    said: str = "",
    error: str = "",
    typed: str | None = None,
    reason: str = "",
) -> Response:
    entry = await _find(visit, record_id)
    corrections = await run_in_threadpool(visit.portal.store.corrections.of, record_id)
    local = LocalTime(visit.portal.store.usage.zone)
    record, code = entry.record, entry.code
    names = [("a_leg", record.a_media), ("b_leg", record.b_media)]
    return await page(
        visit,
        "usage_record.html",
        status=status,
        view=view,
        entry=entry,
        record=record,
        start=" ".join(local(record.start_time)),
        talked=clock_time(record.talk_time),
        code="" if code is None else shown_code(visit, code.form),
        description="" if code is None else code.description,
        recorded="" if record.code is None else shown_code(visit, record.code.form),
        moments=_moments(visit, entry, local),
        qualities=[_Quality(leg, media) for leg, media in names if media is not None],
        changes=[_change(visit, one, local) for one in corrections],
        treatment=record.treatment.replace(" ", "_"),
        technical=visit.may(Permission.USAGE_ALL),
        said=said,
        error=error,
        typed=("" if code is None else code.form) if typed is None else typed,
        reason=reason,
        codes_seen=sees_codes(visit),
    )


async def _find(visit: Visit, record_id: str) -> UsageEntry:
    """Return a call that who comes may see; all others are not there for him."""
    entry = None
    if len(record_id) <= _LONGEST_ID and record_id.isprintable():
        entry = await run_in_threadpool(visit.portal.store.usage.entry, record_id)
    if entry is None or not may_see_call(visit, entry.record):
        raise Refused(404, "record.unknown")
    return entry


def _moments(visit: Visit, entry: UsageEntry, local: LocalTime) -> list[_Moment]:
    t, record = visit.texts, entry.record
    found: list[tuple[float, str]] = [(0.0, t("record.came"))]
    if record.code_entered_after is not None:
        found.append((record.code_entered_after, _of_code(visit, record)))
    if record.answered_after is not None:
        found.append((record.answered_after, t("record.answered")))
    by = "" if record.hung_up_by is None else t(f"record.by_{record.hung_up_by.value}")
    ended = t("record.ended") if not by else t("record.ended_by", who=by)
    found.append((record.ended_after, f"{ended} {t(f'result.{record.disposition.value}')}."))
    return [
        _Moment(f"{after:.1f}", local(record.start_time + after)[1], what)
        for after, what in sorted(found, key=lambda one: one[0])
    ]


def _of_code(visit: Visit, record: CallRecord) -> str:
    t = visit.texts
    if record.code is None:
        return t("record.no_code", tries=record.wrong_tries)
    form = shown_code(visit, record.code.form)
    return t("record.code_taken", code=form, tries=record.wrong_tries)


def _change(visit: Visit, made: Correction, local: LocalTime) -> _Change:
    before, after = (
        "" if code is None else f"{shown_code(visit, code.form)} {code.description}".strip()
        for code in (made.before, made.after)
    )
    return _Change(" ".join(local(made.at)), made.who, made.reason, before, after)
