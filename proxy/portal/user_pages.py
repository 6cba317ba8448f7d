"""Phone System > Users / Phones: extensions, their SIP passwords, and the phones that are registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from proxy.errors import ConfigurationError
from proxy.policy import Snapshot, User
from proxy.portal.code_form import text_of
from proxy.portal.gate_acts import deregister
from proxy.portal.pages import go_to, page
from proxy.portal.permissions import Permission
from proxy.portal.user_form import LEAST_PASSWORD, Fields, fields_from, fields_of, user_from
from proxy.portal.visit import Needs, Refused, Visit
from proxy.sip.bindings import StoredBinding
from proxy.store import PortalAccount, VersionConflict, Versioned

__all__ = ["MESSAGES", "router"]

router = APIRouter()

Viewer = Annotated[Visit, Depends(Needs(Permission.USERS_VIEW))]
Changer = Annotated[Visit, Depends(Needs(Permission.USERS_CHANGE))]
_MOST_DIGITS = 20
Search = Annotated[str, Query(max_length=100)]

MESSAGES = ("added", "changed", "deleted", "deregistered")


@router.get("/users")
async def show_users(
    visit: Viewer,
    *,
    search: Search = "",
    group: Annotated[str, Query(max_length=64)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
    said: str = "",
    extension: Annotated[str, Query(max_length=_MOST_DIGITS)] = "",
) -> Response:
    """Show the users: those searched for, of one group or all."""

    def read() -> tuple[list[User], Mapping[str, list[StoredBinding]], list[str], int, list[str]]:
        store = visit.portal.store
        names = [found.name for found in store.groups.all()]
        locked = len(store.locks.all(at=visit.portal.clock()))
        theirs = [one.name for one in _accounts(visit, extension) if one.disabled]
        return store.users.all(group=group), _phones(visit), names, locked, theirs

    users, phones, groups, locked, disabled = await run_in_threadpool(read)
    wanted = search.strip().casefold()
    found = [user for user in users if wanted in _searched(user)]
    size = visit.portal.settings.page_size
    pages = max(1, -(-len(found) // size))
    number = min(number, pages)

    def address(number: int) -> str:
        return "/users?" + urlencode({"search": search, "group": group, "page": number})

    return await page(
        visit,
        "users.html",
        users=found[(number - 1) * size : number * size],
        total=len(found),
        number=number,
        pages=pages,
        address=address,
        phones=phones,
        groups=groups,
        locked=locked,
        search=search,
        group=group,
        said=_said(visit, said),
        disabled=disabled if said == "deleted" and visit.may(Permission.USERS_CHANGE) else [],
    )


@router.get("/users/edit")
async def show_user(visit: Viewer, *, extension: str = "", delete: bool = False, said: str = "") -> Response:
    """Show one user with its phones; without an extension a user to be added."""
    if not extension:
        return await _user_page(visit, None)
    found = await run_in_threadpool(visit.portal.store.users.versioned, extension[:_MOST_DIGITS])
    if found is None:
        raise Refused(404, "users.gone")
    return await _user_page(visit, found, asked=delete, said=_said(visit, said))


@router.post("/users/save")
async def save_user(visit: Changer) -> Response:
    """Add or change a user. A password that was made is shown in this answer and never again."""
    form = await visit.form()
    fields, secret = fields_from(form), text_of(form, "secret")
    extension, version = text_of(form, "old")[:_MOST_DIGITS], text_of(form, "version")
    known = None
    if extension:
        if not (version.isascii() and version.isdigit() and len(version) <= 12):
            raise Refused(422, "error.parameter", names="version")
        known = await run_in_threadpool(visit.portal.store.users.versioned, extension)
        if known is None:
            raise Refused(404, "users.gone")

    def work() -> tuple[User, str]:
        old = None if known is None else known.value
        user, made = user_from(visit, fields, secret, old)
        if known is None:
            visit.store.users.add(user)
        else:
            visit.store.users.change(user, version=int(version))
        return user, made

    try:
        user, made = await run_in_threadpool(work)
    except VersionConflict as conflict:
        now = conflict.current
        found = now if isinstance(now, Versioned) and isinstance(now.value, User) else known
        return await _user_page(visit, found, status=409, fields=fields, error=_told(visit, found))
    except ConfigurationError as error:
        return await _user_page(visit, known, status=422, fields=fields, error=visit.texts.told(error))
    if made:
        found = await run_in_threadpool(visit.portal.store.users.versioned, user.extension)
        return await _user_page(visit, found, made=made)
    return go_to("/users/edit", extension=user.extension, said="added" if known is None else "changed")


@router.post("/users/delete")
async def delete_user(visit: Changer) -> Response:
    """Delete a user, once that was confirmed; its phones are registered no longer, and its portal accounts
    disabled.
    """
    extension = (await visit.field("extension"))[:_MOST_DIGITS]
    found = await run_in_threadpool(visit.portal.store.users.versioned, extension)
    if found is None:
        raise Refused(404, "users.gone")
    if await visit.field("sure") != "yes":
        return await _user_page(visit, found, asked=True)
    try:
        await run_in_threadpool(visit.store.users.delete_many, [extension])
    except ConfigurationError as error:
        return await _user_page(visit, found, status=409, error=visit.texts.told(error))
    return go_to("/users", said="deleted", extension=extension)


@router.post("/users/deregister")
async def deregister_phone(visit: Changer) -> Response:
    """End the registration of one phone of a user."""
    extension, contact = (await visit.field("extension"))[:_MOST_DIGITS], await visit.field("contact")
    found = await run_in_threadpool(visit.portal.store.users.versioned, extension)
    if found is None:
        raise Refused(404, "users.gone")
    try:
        await run_in_threadpool(deregister, visit.portal.gate, visit.store, extension, contact)
    except ConfigurationError:
        return await _user_page(visit, found, status=409, error=visit.texts("users.no_gate"))
    return go_to("/users/edit", extension=extension, said="deregistered")


async def _user_page(
    visit: Visit,
    found: Versioned[User] | None,
    *,
    status: int = 200,
    fields: Fields | None = None,
    error: str = "",
    said: str = "",
    made: str = "",
    asked: bool = False,
) -> Response:
    user = None if found is None else found.value

    def read() -> tuple[list[str], list[StoredBinding], list[User], list[str]]:
        store = visit.portal.store
        groups = [group.name for group in store.groups.all()]
        if user is None:
            return groups, [], [], []
        sharing = Snapshot(visit.portal.plan, (), store.users.ending_alike(user)).sharing_number(user)
        accounts = [one.name for one in _accounts(visit, user.extension) if not one.disabled]
        return groups, _phones(visit).get(user.extension, []), sharing, accounts

    groups, phones, sharing, accounts = await run_in_threadpool(read)
    return await page(
        visit,
        "user_delete.html" if asked and visit.may(Permission.USERS_CHANGE) else "user.html",
        status=status,
        user=user,
        version=0 if found is None else found.version,
        fields=fields or fields_of(user, groups[0] if groups else ""),
        groups=groups,
        phones=phones,
        sharing=[f"{other.extension} {other.name}".strip() for other in sharing],
        accounts=accounts,
        error=error,
        said=said,
        made=made,
        realm=visit.portal.realm,
        least=LEAST_PASSWORD,
        now=visit.portal.clock(),
    )


def _accounts(visit: Visit, extension: str) -> list[PortalAccount]:
    """The accounts with which a user's own calls are seen."""
    return [one for one in visit.portal.store.accounts.all() if extension and one.extension == extension]


def _phones(visit: Visit) -> Mapping[str, list[StoredBinding]]:
    found: dict[str, list[StoredBinding]] = {}
    for binding in visit.portal.store.bindings.all(now=visit.portal.clock()):
        found.setdefault(binding.user, []).append(binding)
    return found


def _searched(user: User) -> str:
    return "\n".join((user.extension, user.name, user.caller_number, user.digest_name)).casefold()


def _said(visit: Visit, said: str) -> str:
    if said and said not in MESSAGES:
        raise Refused(400, "error.parameter", names="said")
    return visit.texts(f"users.{said}") if said else ""


def _told(visit: Visit, found: Versioned[User] | None) -> str:
    """Say what somebody else has made of the user."""
    if found is None:
        return visit.texts("users.gone")
    now = fields_of(found.value)
    facts = ", ".join(
        f"{visit.texts(f'users.{name}')}: {now[name] or '-'}"
        for name in ("name", "group", "caller_number", "digest_name")
    )
    state = visit.texts("users.is_enabled" if found.value.enabled else "users.is_disabled")
    return visit.texts("users.conflict", facts=f"{facts}, {state}")
