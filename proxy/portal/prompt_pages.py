"""What callers of a group hear: listening to it in the browser, and replacing it with an own recording."""

from __future__ import annotations

import shutil
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
from proxy.portal.prompt_files import OFFERED, PromptRefused, fingerprint, new_folder, save, sound_of, to_wav
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import VersionConflict, Versioned

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
    try:
        if text_of(form, "action") == "remove":
            await run_in_threadpool(_remove, visit, root, found.value, name)
            return await _taken_up(visit, found.value.name, "prompt_removed")
        if not isinstance(file, UploadFile) or not file.filename:
            return await group_page(visit, found, status=422, error=visit.texts("import.no_file"))
        data = await file.read(MAX_UPLOAD + 1)
        if len(data) > MAX_UPLOAD:
            raise PromptRefused("error.too_large")
        await run_in_threadpool(_save, visit, root, found, name, data)
    except PromptRefused as refused:
        named = file.filename if isinstance(file, UploadFile) and file.filename else ""
        error = f"{named[:100]}: {visit.texts(refused.key, **refused.values)}"
        return await group_page(visit, found, status=422, error=error)
    except OSError as problem:
        error = visit.texts("prompts.disk", reason=problem.strerror or "")
        return await group_page(visit, found, status=507, error=error)
    except (ConfigurationError, VersionConflict) as problem:
        return await group_page(visit, found, status=409, error=visit.texts.told(problem))
    return await _taken_up(visit, found.value.name, "prompt_saved")


async def _taken_up(visit: Visit, group: str, said: str) -> Response:
    """Let the gate play what there is now, and say whether it does."""
    try:
        live = await run_in_threadpool(visit.portal.gate.take_up_recordings)
    except ConfigurationError as error:
        found = await find_group(visit, group)
        told = visit.texts("prompts.not_taken", reason=str(error))
        return await group_page(visit, found, status=409, error=told)
    return go_to("/groups/edit", name=group, said=said if live else f"{said}_later")


def _save(visit: Visit, root: Path, found: Versioned[UserGroup], name: str, data: bytes) -> None:
    wav = to_wav(data)
    group = found.value
    if group.prompts:
        folder = root / "groups" / group.prompts
        before = fingerprint(folder, name)
        save(folder, name, wav)
    else:
        others = visit.portal.store.groups.all()
        folder, before = new_folder(root, group.name, frozenset(other.prompts for other in others)), None
        try:
            save(folder, name, wav)
            visit.store.groups.change(replace(group, prompts=folder.name), version=found.version)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # nobody has it
            raise
    _note(visit, group, name, before, fingerprint(folder, name))


def _remove(visit: Visit, root: Path, group: UserGroup, name: str) -> None:
    if not group.prompts:
        return
    folder = root / "groups" / group.prompts
    before = fingerprint(folder, name)
    (folder / f"{name}.wav").unlink(missing_ok=True)
    if before is not None:
        _note(visit, group, name, before, None)


def _note(visit: Visit, group: UserGroup, name: str, before: str | None, after: str | None) -> None:
    """Tell the audit log which recording took the place of which."""
    fact = f"recording {name}"
    visit.store.audit.note("change", "group", group.name, before={fact: before}, after={fact: after})
