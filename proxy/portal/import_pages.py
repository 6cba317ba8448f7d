"""The dialog *Import into Codes*: choose a file, see what it would do, say Yes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from proxy.errors import ConfigurationError
from proxy.policy.code_file import decode_csv, read_code_file
from proxy.portal.code_list import InView
from proxy.portal.code_pages import list_page
from proxy.portal.headers import MAX_UPLOAD
from proxy.portal.permissions import Permission
from proxy.portal.uploads import Upload
from proxy.portal.visit import Needs, Visit
from proxy.store import StoreUnavailable, UpsertResult, VersionConflict
from proxy.store.code_import import ImportPlan, LineVerdict, carry_out, plan_import

__all__ = ["router"]

router = APIRouter()

Changer = Annotated[Visit, Depends(Needs(Permission.CODES_CHANGE))]

_SHOWN = 200
"""Lines of each kind that a dry run shows; a file may have a million."""
_IN_ORDER = (LineVerdict.REFUSED, LineVerdict.CHANGED, LineVerdict.ADDED, LineVerdict.UNCHANGED)
"""What matters most comes first."""


@router.get("/codes/import")
async def show_import(visit: Changer, view: InView) -> Response:
    """Open the dialog."""
    return await list_page(visit, view, template="codes_import.html")


@router.post("/codes/import")
async def try_import(visit: Changer, view: InView) -> Response:
    """Show what the chosen file would do; nothing is written yet."""
    form = await visit.form()
    file = form.get("file")
    update = form.get("update") == "yes"

    async def refused(status: int, text: str) -> Response:
        return await list_page(visit, view, status=status, template="codes_import.html", import_error=text)

    if not isinstance(file, UploadFile) or not file.filename:
        return await refused(422, visit.texts("import.no_file"))
    data = await file.read(MAX_UPLOAD + 1)
    if len(data) > MAX_UPLOAD:
        return await refused(413, visit.texts("error.too_large"))
    upload = Upload(file.filename[:100], data, update)
    try:
        plan = await run_in_threadpool(_plan, visit, upload)
    except ConfigurationError as error:
        return await refused(422, f"{upload.name}: {visit.texts.told(error)}")
    counts = plan.counts
    possible = not counts[LineVerdict.REFUSED]
    changes = counts[LineVerdict.ADDED] + counts[LineVerdict.CHANGED]
    number = ""
    if possible and changes:
        now = visit.portal.clock()
        kept = replace(upload, shown=plan.fingerprint)
        try:
            number = await run_in_threadpool(visit.portal.uploads.keep, visit.session_hash, kept, now=now)
        except OSError as error:
            return await refused(507, visit.texts("import.disk", reason=error.strerror or ""))
    shown = [
        line
        for verdict in _IN_ORDER
        for line in [line for line in plan.lines if line.verdict is verdict][:_SHOWN]
    ]
    return await list_page(
        visit,
        view,
        status=200 if possible else 422,
        template="codes_import.html",
        upload=upload,
        number=number,
        counts={verdict.value: counts[verdict] for verdict in LineVerdict},
        possible=possible,
        changes=changes,
        exist=any(line.exists for line in plan.refused),
        shown=shown,
        hidden=len(plan.lines) - len(shown),
    )


@router.post("/codes/import/apply")
async def apply_import(visit: Changer, view: InView) -> Response:
    """Write what was shown: all of it, or nothing when the codes have changed against it meanwhile."""
    number = await visit.field("number")

    def work() -> UpsertResult | str:
        upload = visit.portal.uploads.take(visit.session_hash, number, now=visit.portal.clock())
        if upload is None:
            return visit.texts("import.expired")
        plan = _plan(visit, upload)
        if plan.refused or plan.fingerprint != upload.shown:
            return visit.texts("import.meanwhile")
        try:
            return carry_out(plan, visit.store.codes)
        except VersionConflict:
            return visit.texts("import.meanwhile")

    status = 409
    try:
        result = await run_in_threadpool(work)
    except ConfigurationError as error:
        result = visit.texts.told(error)
    except OSError as error:
        result = visit.texts("import.disk", reason=error.strerror or "")
    except StoreUnavailable:
        result, status = visit.texts("error.store"), 503
    if isinstance(result, str):
        return await list_page(visit, view, status=status, template="codes_import.html", import_error=result)
    return await list_page(visit, view, template="codes_import.html", result=result)


def _plan(visit: Visit, upload: Upload) -> ImportPlan:
    content = read_code_file(decode_csv(upload.data), visit.portal.plan)
    return plan_import(content, visit.portal.store.codes, may_update=upload.update)
