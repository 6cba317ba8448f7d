"""Phone System > Account Codes: the list, its lines, the side panel, export and delete.

All of it works without JavaScript: what a dialog or a line in editing is, the address says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, CallClass, CodeOutcome, OwnerKind, state_on
from proxy.policy.code_file import write_code_file
from proxy.portal.code_form import CodeFields, facts_from, text_of, with_facts
from proxy.portal.code_list import CodeView, InView, find_codes
from proxy.portal.conflicts import Label, what_others_made
from proxy.portal.pages import go_to, page
from proxy.portal.permissions import Permission
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import CodeOrder, VersionConflict, Versioned

__all__ = ["MESSAGES", "Viewer", "list_page", "router"]

router = APIRouter()

Viewer = Annotated[Visit, Depends(Needs(Permission.CODES_VIEW))]
Changer = Annotated[Visit, Depends(Needs(Permission.CODES_CHANGE))]
RowId = Annotated[int, Query(ge=0, le=2**53)]

MESSAGES = ("added", "changed", "deleted", "enabled", "disabled")
"""What a page may say has been done."""
_LABELS = {
    "enabled": Label("codes.is_enabled"),
    "owner": Label("codes.owner", "codes.owner_"),
    "owner_name": Label("codes.owner_name"),
    "valid_from": Label("codes.from"),
    "valid_until": Label("codes.until"),
    "max_uses": Label("codes.max_uses"),
    "narrowed": Label("codes.narrowed"),
    "classes": Label("codes.service", "class."),
}
_Change = Callable[[AccountCode], AccountCode]
_LAST_ID = 2**53
_EXPORT_CHUNK = 64 * 1024
_NAMED = 50
"""So many codes are named before they are deleted."""


@router.get("/codes")
async def show_codes(
    visit: Viewer,
    view: InView,
    *,
    add: bool = False,
    edit: RowId = 0,
    panel: RowId = 0,
    said: str = "",
    n: RowId = 0,
) -> Response:
    """Show the list; with a line to fill in, a line in editing, or the side panel of one code."""
    if said and said not in MESSAGES:
        raise Refused(400, "error.parameter", names="said")
    writes = visit.may(Permission.CODES_CHANGE)
    return await list_page(
        visit,
        view,
        adding=CodeFields() if add and writes else None,
        editing=edit if writes else 0,
        panel=panel,
        said=visit.texts(f"codes.{said}", n=n) if said else "",
    )


@router.post("/codes")
async def add_code(visit: Changer, view: InView) -> Response:
    """Add the code that was typed into the new line."""
    fields = CodeFields(await visit.field("code"), await visit.field("description"))
    try:
        await run_in_threadpool(visit.store.codes.add, fields.make(visit.portal.plan))
    except ConfigurationError as error:
        return await list_page(visit, view, status=422, adding=fields, error=visit.texts.told(error))
    return _back(view, "added", 1)


@router.get("/codes/export")
async def export_codes(visit: Viewer) -> Response:
    """Give out all codes as the two-column file that import reads."""
    lines = write_code_file(visit.portal.store.codes.stream())
    headers = {"content-disposition": 'attachment; filename="account-codes.csv"'}
    return StreamingResponse(_in_chunks(lines), media_type="text/csv; charset=utf-8", headers=headers)


@router.post("/codes/ticked")
async def change_ticked(visit: Changer, view: InView) -> Response:
    """Do with the ticked codes what was pressed; what deletes asks first."""
    form = await visit.form()
    action = text_of(form, "action")
    if action not in {"delete", "enable", "disable"}:
        raise Refused(422, "error.not_on_list", name="action", allowed="delete, enable, disable")
    ids = _ids([value for value in form.getlist("id") if isinstance(value, str)])
    if not ids:
        return await list_page(visit, view, status=422, error=visit.texts("codes.none_ticked"))
    try:
        if action == "delete":
            if text_of(form, "sure") != "yes":
                return await _ask(visit, view, ids)
            await run_in_threadpool(visit.store.codes.delete_ids, ids)
            return _back(view, "deleted", len(ids))
        enabled = action == "enable"
        count = await run_in_threadpool(_enable, visit, ids, enabled)
    except ConfigurationError as error:
        return await list_page(visit, view, status=409, error=visit.texts.told(error))
    return _back(view, "enabled" if enabled else "disabled", count)


@router.post("/codes/{code_id:int}")
async def change_code(visit: Changer, view: InView, code_id: int) -> Response:
    """Change code and description in the line."""
    fields = CodeFields(await visit.field("code"), await visit.field("description"))

    def changed(old: AccountCode) -> AccountCode:
        return fields.make(visit.portal.plan, replace(old))

    try:
        await _change(visit, code_id, changed)
    except VersionConflict as conflict:
        return await list_page(
            visit, view, status=409, editing=code_id, error=_told(visit, conflict), fields=fields
        )
    except ConfigurationError as error:
        return await list_page(
            visit, view, status=422, editing=code_id, error=visit.texts.told(error), fields=fields
        )
    return _back(view, "changed", 1)


@router.post("/codes/{code_id:int}/facts")
async def change_facts(visit: Changer, view: InView, code_id: int) -> Response:
    """Change what stands in the side panel."""
    facts = facts_from(await visit.form())

    def changed(old: AccountCode) -> AccountCode:
        return with_facts(old, facts, visit.portal.plan, visit.texts)

    try:
        await _change(visit, code_id, changed)
    except VersionConflict as conflict:
        now = conflict.current
        told = str(conflict)
        if isinstance(now, Versioned) and isinstance(now.value, AccountCode):
            told = what_others_made(visit.texts, _LABELS, _ticked(_facts_of(now.value)), _ticked(facts))
        return await list_page(visit, view, status=409, panel=code_id, panel_error=told, facts=facts)
    except ConfigurationError as error:
        return await list_page(
            visit, view, status=422, panel=code_id, panel_error=visit.texts.told(error), facts=facts
        )
    return _back(view, "changed", 1)


async def list_page(
    visit: Visit,
    view: CodeView,
    *,
    status: int = 200,
    adding: CodeFields | None = None,
    editing: int = 0,
    fields: CodeFields | None = None,
    panel: int = 0,
    facts: Mapping[str, str | list[str]] | None = None,
    said: str = "",
    error: str = "",
    panel_error: str = "",
    template: str = "codes.html",
    **more: object,
) -> Response:
    """Answer with the list, and what lies beside or over it."""
    store, size = visit.portal.store, visit.portal.settings.page_size
    found = await run_in_threadpool(find_codes, store.codes, view, size)
    chosen = await run_in_threadpool(store.codes.by_id, panel) if 0 < panel <= _LAST_ID else None
    if panel and chosen is None:
        status, error = 404, error or visit.texts("codes.gone")
    today = datetime.fromtimestamp(visit.portal.clock(), store.usage.zone).date()
    groups: list[str] = []
    if chosen is not None:
        groups = sorted(group.name for group in await run_in_threadpool(store.groups.all))
        facts = facts or _facts_of(chosen.value)
    return await page(
        visit,
        template,
        status=status,
        view=view,
        found=found,
        states={code.id: _state(code.value, today) for code in found.codes},
        orders=CodeOrder,
        adding=adding,
        editing=editing,
        fields=fields,
        chosen=chosen,
        facts=facts,
        groups=groups,
        owners=OwnerKind,
        classes=CallClass,
        said=said,
        error=error,
        panel_error=panel_error,
        **more,
    )


def _state(code: AccountCode, today: date) -> str:
    """Say by the end of its text's key whether anybody can use a code today."""
    state = state_on(today, code)
    return "enabled" if state is CodeOutcome.ACCEPTED else state.value


async def _change(visit: Visit, code_id: int, changed: _Change) -> None:
    version = await visit.field("version")
    if not (version.isascii() and version.isdigit() and len(version) <= 12) or code_id > _LAST_ID:
        raise Refused(422, "error.parameter", names="version")

    def work() -> None:
        old = visit.portal.store.codes.by_id(code_id)
        if old is None:
            raise ConfigurationError(visit.texts("codes.gone"))
        if old.version != int(version):
            raise VersionConflict(old.value.form, old)
        visit.store.codes.change(code_id, changed(old.value), version=old.version)

    await run_in_threadpool(work)


def _told(visit: Visit, conflict: VersionConflict) -> str:
    """Say what somebody else has made of the code."""
    now = conflict.current
    if not (isinstance(now, Versioned) and isinstance(now.value, AccountCode)):
        return str(conflict)
    return visit.texts("codes.conflict", code=now.value.form, description=now.value.description)


def _enable(visit: Visit, ids: list[int], enabled: bool) -> int:
    return visit.store.codes.enable_many(ids, enabled=enabled)


async def _ask(visit: Visit, view: CodeView, ids: list[int]) -> Response:
    def read() -> list[str]:
        found = [visit.portal.store.codes.by_id(code_id) for code_id in ids[:_NAMED]]
        return [f"{code.value.form} {code.value.description}".strip() for code in found if code is not None]

    names = await run_in_threadpool(read)
    return await list_page(visit, view, template="codes_delete.html", ids=ids, names=names)


def _facts_of(code: AccountCode) -> dict[str, str | list[str]]:
    service = code.class_of_service
    return {
        "enabled": "yes" if code.enabled else "",
        "owner": code.owner.kind.value,
        "owner_name": code.owner.name,
        "valid_from": str(code.valid_from or ""),
        "valid_until": str(code.valid_until or ""),
        "narrowed": "" if service is None else "yes",
        "classes": [] if service is None else [name.value for name in service.classes],
        "max_uses": "" if code.max_uses is None else str(code.max_uses),
    }


def _ticked(facts: Mapping[str, str | list[str]]) -> dict[str, str | bool | list[str]]:
    return {**facts, **{name: bool(facts[name]) for name in ("enabled", "narrowed")}}


def _ids(values: list[str]) -> list[int]:
    if not all(value.isascii() and value.isdigit() and len(value) <= 15 for value in values):
        raise Refused(422, "error.parameter", names="id")
    return list(dict.fromkeys(int(value) for value in values))


def _in_chunks(lines: Iterator[str]) -> Iterator[bytes]:
    """Join lines: each chunk costs a change of threads."""
    waiting: list[str] = []
    size = 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= _EXPORT_CHUNK:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()


def _back(view: CodeView, said: str, n: int) -> Response:
    return go_to("/codes" + view.query(said=said, n=n))
