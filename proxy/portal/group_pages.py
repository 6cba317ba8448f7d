"""Phone System > User Groups: who may dial what, what happens when somebody does, and what callers hear."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.errors import ConfigurationError
from proxy.policy import CallClass, CallRequest, CodeCollection, Decision, Snapshot, UserGroup, decide
from proxy.portal.code_form import text_of
from proxy.portal.default_groups import default_groups
from proxy.portal.group_form import (
    LIMITS,
    PRESETS,
    TREATMENTS,
    Fields,
    fields_from,
    fields_of,
    group_from,
    with_preset,
)
from proxy.portal.pages import go_to, page
from proxy.portal.permissions import Permission
from proxy.portal.prompt_files import OFFERED, own_recordings
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import VersionConflict, Versioned

__all__ = ["MESSAGES", "find_group", "group_page", "router"]

router = APIRouter()

Viewer = Annotated[Visit, Depends(Needs(Permission.GROUPS_VIEW))]
Changer = Annotated[Visit, Depends(Needs(Permission.GROUPS_CHANGE))]
Name = Annotated[str, Query(max_length=64)]

_OF_PROMPTS = ("prompt_saved", "prompt_saved_later", "prompt_removed", "prompt_removed_later")
MESSAGES = ("added", "changed", "deleted", *_OF_PROMPTS)
_MOST_DIALLED = 100


@router.get("/groups")
async def show_groups(visit: Viewer, said: str = "") -> Response:
    """Show all groups."""

    def read() -> tuple[list[UserGroup], Counter[str]]:
        store = visit.portal.store
        return store.groups.all(), Counter(user.group for user in store.users.all())

    groups, users = await run_in_threadpool(read)
    return await page(
        visit, "groups.html", groups=groups, users=users, classes=CallClass, said=_said(visit, said)
    )


@router.get("/groups/edit")
async def show_group(visit: Viewer, *, name: Name = "", delete: bool = False, said: str = "") -> Response:
    """Show one group; without a name one to be added."""
    found = await find_group(visit, name) if name else None
    asked = delete and visit.may(Permission.GROUPS_CHANGE)
    return await group_page(visit, found, asked=asked, said=_said(visit, said))


@router.post("/groups/try")
async def try_group(visit: Viewer) -> Response:
    """Tell what would happen with a number, or take a preset; nothing is written."""
    form = await visit.form()
    fields, dialled = fields_from(form), text_of(form, "dialled").strip()[:_MOST_DIALLED]
    old = text_of(form, "old")[:64]
    found = await find_group(visit, old) if old else None
    version = _version(text_of(form, "version")) if found is not None else 0
    if preset := text_of(form, "preset"):
        if preset not in PRESETS:
            raise Refused(422, "error.not_on_list", name="preset", allowed=", ".join(PRESETS))
        fields = with_preset(fields, PRESETS[preset])
    base = None if found is None else found.value
    try:
        # A group that has no name yet can be tried out as well.
        group = group_from({**fields, "name": fields["name"] or "?"}, base, visit.texts)
        decision = await run_in_threadpool(_decide, visit, group, dialled) if dialled else None
    except ConfigurationError as error:
        return await group_page(
            visit, found, status=422, fields=fields, version=version, error=visit.texts.told(error)
        )
    return await group_page(
        visit, found, fields=fields, version=version, tried=group, dialled=dialled, decision=decision
    )


@router.post("/groups/save")
async def save_group(visit: Changer) -> Response:
    """Add or change a group."""
    form = await visit.form()
    fields, old = fields_from(form), text_of(form, "old")[:64]
    found = await find_group(visit, old) if old else None
    version = _version(text_of(form, "version")) if found is not None else 0

    def work() -> UserGroup:
        group = group_from(fields, None if found is None else found.value, visit.texts)
        if found is None:
            visit.store.groups.add(group)
        else:
            visit.store.groups.change(group, version=version)
        return group

    try:
        group = await run_in_threadpool(work)
    except VersionConflict as conflict:
        now = conflict.current
        theirs = now if isinstance(now, Versioned) and isinstance(now.value, UserGroup) else found
        return await group_page(visit, theirs, status=409, fields=fields, error=_told(visit, theirs, fields))
    except ConfigurationError as error:
        return await group_page(
            visit, found, status=422, fields=fields, version=version, error=visit.texts.told(error)
        )
    return go_to("/groups/edit", name=group.name, said="added" if found is None else "changed")


@router.post("/groups/delete")
async def delete_group(visit: Changer) -> Response:
    """Delete a group, once that was confirmed."""
    found = await find_group(visit, (await visit.field("name"))[:64])
    if await visit.field("sure") != "yes":
        return await group_page(visit, found, asked=True)
    try:
        peers = await run_in_threadpool(default_groups, visit.portal)
        await run_in_threadpool(visit.store.groups.delete, found.value.name, peers)
    except ConfigurationError as error:
        return await group_page(visit, found, status=409, error=visit.texts.told(error))
    return go_to("/groups", said="deleted")


async def find_group(visit: Visit, name: str) -> Versioned[UserGroup]:
    """Return a group with its version. Raises `Refused` when there is none of the name."""
    found = await run_in_threadpool(visit.portal.store.groups.versioned, name)
    if found is None:
        raise Refused(404, "groups.gone")
    return found


async def group_page(
    visit: Visit,
    found: Versioned[UserGroup] | None,
    *,
    status: int = 200,
    fields: Fields | None = None,
    version: int | None = None,
    tried: UserGroup | None = None,
    dialled: str = "",
    decision: Decision | None = None,
    error: str = "",
    said: str = "",
    asked: bool = False,
) -> Response:
    """Answer with the page of a group. ``version`` is what the form was read at; None: what is there now."""
    group = None if found is None else found.value
    root = visit.portal.prompts
    folder = (
        root / "groups" / group.prompts if root is not None and group is not None and group.prompts else None
    )
    return await page(
        visit,
        "group_delete.html" if asked else "group.html",
        status=status,
        group=group,
        version=version if version is not None else 0 if found is None else found.version,
        fields=fields or fields_of(group or UserGroup("?")) | ({} if group else {"name": ""}),
        matrix=(tried or group or UserGroup("?")).matrix,
        dialled=dialled,
        decision=decision,
        error=error,
        said=said,
        classes=CallClass,
        collections=CodeCollection,
        treatments=TREATMENTS,
        presets=PRESETS,
        limits=LIMITS,
        prompts=OFFERED,
        own=await run_in_threadpool(own_recordings, folder),
        prompts_root=root,
    )


def _decide(visit: Visit, group: UserGroup, dialled: str) -> Decision:
    users = visit.portal.store.users.all()
    others = [other for other in visit.portal.store.groups.all() if other.name != group.name]
    snapshot = Snapshot(visit.portal.plan, [*others, group], users)
    return decide(CallRequest(dialled, default_group=group.name), snapshot)


def _told(visit: Visit, theirs: Versioned[UserGroup] | None, mine: Fields) -> str:
    """Say in what the group differs now from what was to be saved."""
    if theirs is None:
        return visit.texts("groups.gone")
    facts = []
    for name, value in fields_of(theirs.value).items():
        if value != mine.get(name) and name != "name":
            label = f"class.{name.removeprefix('cell_')}" if name.startswith("cell_") else f"groups.{name}"
            shown = ", ".join(value) if isinstance(value, list) else " ".join(value.split())
            facts.append(f"{visit.texts(label)}: {shown or '-'}")
    return visit.texts("groups.conflict", facts="; ".join(facts) or "-")


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise Refused(422, "error.parameter", names="version")
    return int(text)


def _said(visit: Visit, said: str) -> str:
    if said and said not in MESSAGES:
        raise Refused(400, "error.parameter", names="said")
    return visit.texts(f"groups.{said}") if said else ""
