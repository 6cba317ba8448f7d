"""What callers of a group hear: listening to it in the browser, and replacing it with an own recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from proxy.errors import ConfigurationError
from proxy.policy import UserGroup
from proxy.portal.code_form import text_of
from proxy.portal.group_pages import find_group, group_page
from proxy.portal.headers import MAX_UPLOAD
from proxy.portal.pages import go_to
from proxy.portal.permissions import Permission
from proxy.portal.prompt_files import OFFERED, PromptRefused, folder_name, save, sound_of, to_wav
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import Versioned

__all__ = ["router"]

router = APIRouter()

Viewer = Annotated[Visit, Depends(Needs(Permission.GROUPS_VIEW))]
Changer = Annotated[Visit, Depends(Needs(Permission.GROUPS_CHANGE))]


@router.get("/groups/prompt")
async def play_prompt(
    visit: Viewer, group: Annotated[str, Query(max_length=64)] = "", name: str = ""
) -> Response:
    """Give out what callers of a group hear."""
    if name not in OFFERED:
        raise Refused(404, "error.not_found")
    found = await find_group(visit, group)
    data = await run_in_threadpool(sound_of, visit.portal.prompts, found.value.prompts, name)
    return Response(data, media_type="audio/wav")


@router.post("/groups/prompt")
async def change_prompt(visit: Changer) -> Response:
    """Take an own recording, or remove it."""
    form = await visit.form()
    name, file = text_of(form, "name"), form.get("file")
    found = await find_group(visit, text_of(form, "group")[:64])
    if name not in OFFERED:
        raise Refused(422, "error.parameter", names="name")
    root = visit.portal.prompts
    if root is None:
        return await group_page(visit, found, status=409, error=visit.texts("prompts.no_folder"))
    if text_of(form, "action") == "remove":
        await run_in_threadpool(_remove, root, found.value, name)
        return go_to("/groups/edit", name=found.value.name, said="prompt_removed")
    if not isinstance(file, UploadFile) or not file.filename:
        return await group_page(visit, found, status=422, error=visit.texts("import.no_file"))
    data = await file.read(MAX_UPLOAD + 1)
    try:
        if len(data) > MAX_UPLOAD:
            raise PromptRefused("error.too_large")
        await run_in_threadpool(_save, visit, root, found, name, data)
    except PromptRefused as refused:
        error = f"{file.filename[:100]}: {visit.texts(refused.key, **refused.values)}"
        return await group_page(visit, found, status=422, error=error)
    except OSError as problem:
        error = visit.texts("prompts.disk", reason=problem.strerror or "")
        return await group_page(visit, found, status=507, error=error)
    except ConfigurationError as problem:
        return await group_page(visit, found, status=409, error=str(problem))
    return go_to("/groups/edit", name=found.value.name, said="prompt_saved")


def _save(visit: Visit, root: Path, found: Versioned[UserGroup], name: str, data: bytes) -> None:
    wav = to_wav(data)
    group = found.value
    folder = group.prompts
    if not folder:
        others = visit.portal.store.groups.all()
        folder = folder_name(group.name, frozenset(other.prompts for other in others))
    save(root / "groups" / folder, name, wav)
    if not group.prompts:
        visit.store.groups.change(replace(group, prompts=folder), version=found.version)


def _remove(root: Path, group: UserGroup, name: str) -> None:
    if group.prompts:
        (root / "groups" / group.prompts / f"{name}.wav").unlink(missing_ok=True)
