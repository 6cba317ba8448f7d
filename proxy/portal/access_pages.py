"""System > Portal Accounts: who may log in, as what, and how somebody gets in who can't any more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import Response

from proxy.errors import ConfigurationError
from proxy.portal.code_form import text_of
from proxy.portal.conflicts import Label, what_others_made
from proxy.portal.pages import go_to, page
from proxy.portal.passwords import TooBusy, one_time_password
from proxy.portal.permissions import GRANTS, Permission
from proxy.portal.visit import Needs, Refused, Visit
from proxy.store import PortalAccount, Role, VersionConflict

__all__ = ["MESSAGES", "router"]

router = APIRouter()

Keeper = Annotated[Visit, Depends(Needs(Permission.ACCOUNTS))]

MESSAGES = ("changed", "deleted", "second_factor_off")
_LABELS = {
    "name": Label("accounts.name"),
    "role": Label("accounts.role", "accounts.role_"),
    "extension": Label("accounts.extension"),
    "grants": Label("accounts.grants", "accounts.grant_"),
    "enabled": Label("accounts.may_log_in"),
}
_NOBODY = PortalAccount("-", Role.PHONE_MANAGER, "")
"""What the form of an account that is to be added begins with, but for the name."""


@dataclass(frozen=True, slots=True)
class _Fields:
    """An account as its form has it."""

    name: str
    role: str
    extension: str
    grants: frozenset[str]
    enabled: bool


@router.get("/accounts")
async def show_accounts(visit: Keeper, *, said: str = "") -> Response:
    """List everybody who has an account."""
    accounts = await run_in_threadpool(visit.portal.store.accounts.all)
    return await page(visit, "accounts.html", accounts=accounts, grants=GRANTS, said=_said(visit, said))


@router.get("/accounts/edit")
async def show_account(
    visit: Keeper,
    *,
    number: Annotated[int, Query(alias="id", ge=0, le=2**53)] = 0,
    delete: bool = False,
    said: str = "",
) -> Response:
    """Show one account; without an id one that is to be added."""
    known = await _find(visit, str(number)) if number else None
    return await _account_page(visit, known, asked=delete and known is not None, said=_said(visit, said))


@router.post("/accounts/save")
async def save_account(visit: Keeper) -> Response:
    """Add or change an account. The password that one is added with is in this answer and nowhere later."""
    form = await visit.form()
    fields, version = _fields_from(form), text_of(form, "version")
    if fields.role not in set(Role):
        raise Refused(422, "error.not_on_list", name="role", allowed=", ".join(Role))
    known = await _find(visit, text_of(form, "id")) if text_of(form, "id") else None
    if known is not None and not _is_number(version):
        raise Refused(422, "error.parameter", names="version")
    made = "" if known is not None else one_time_password()
    try:
        password_hash = await visit.portal.passwords.hash(made) if made else ""
        kept = await run_in_threadpool(_save, visit, known, fields, password_hash, version)
    except TooBusy:
        busy = visit.texts("login.busy")
        return await _account_page(visit, known, status=503, fields=fields, error=busy)
    except VersionConflict as conflict:
        now = conflict.current if isinstance(conflict.current, PortalAccount) else known
        theirs = {name: getattr(_fields_of(now), name) for name in _LABELS}
        mine = {name: getattr(fields, name) for name in _LABELS}
        told = what_others_made(visit.texts, _LABELS, theirs, mine)
        return await _account_page(visit, now, status=409, fields=fields, error=told)
    except ConfigurationError as error:
        return await _account_page(visit, known, status=422, fields=fields, error=visit.texts.told(error))
    if made:
        return await _account_page(visit, kept, made=made)
    return go_to("/accounts/edit", id=kept.id, said="changed")


@router.post("/accounts/password")
async def renew_password(visit: Keeper) -> Response:
    """Give an account another password that is good for one log-in; all its sessions end."""
    known = await _find(visit, await visit.field("id"))
    if known.id == visit.who.id:
        own = visit.texts("accounts.own_password")
        return await _account_page(visit, known, status=409, error=own)
    made = one_time_password()
    try:
        password_hash = await visit.portal.passwords.hash(made)
    except TooBusy:
        return await _account_page(visit, known, status=503, error=visit.texts("login.busy"))

    def work() -> PortalAccount:
        now = visit.portal.clock()
        return visit.store.accounts.set_password(known.id, password_hash, now=now, must_change=True)

    return await _account_page(visit, await run_in_threadpool(work), made=made)


@router.post("/accounts/second-factor")
async def switch_second_factor_off(visit: Keeper) -> Response:
    """Let somebody in by the password alone who has lost the secret of the second factor."""
    known = await _find(visit, await visit.field("id"))
    if known.id == visit.who.id:
        return await _account_page(visit, known, status=409, error=visit.texts("second.own"))
    if known.totp_secret:
        await run_in_threadpool(visit.store.accounts.set_totp, known.id, "")
    return go_to("/accounts/edit", id=known.id, said="second_factor_off")


@router.post("/accounts/delete")
async def delete_account(visit: Keeper) -> Response:
    """Delete an account, once it was said to be sure; all its sessions end."""
    known = await _find(visit, await visit.field("id"))
    if await visit.field("sure") != "yes":
        return await _account_page(visit, known, asked=True)
    try:
        await run_in_threadpool(visit.store.accounts.delete, known.id)
    except ConfigurationError as error:
        return await _account_page(visit, known, status=409, error=visit.texts.told(error))
    return go_to("/accounts", said="deleted")


def _save(
    visit: Visit, known: PortalAccount | None, fields: _Fields, password_hash: str, version: str
) -> PortalAccount:
    """Write what a form says. Raises `ConfigurationError` that says what is wrong, and `VersionConflict`."""
    texts, role = visit.texts, Role(fields.role)
    # What stands in a field that the role has no use for was left there when the role was changed.
    extension = fields.extension if role is Role.USER else ""
    if role is Role.USER and (known is None or extension != known.extension):
        if not extension:
            raise ConfigurationError(texts("accounts.needs_extension"))
        if visit.portal.store.users.get(extension) is None:
            raise ConfigurationError(texts("accounts.no_user", extension=extension))
    if not (fields.name.isprintable() and 1 <= len(fields.name.casefold()) <= 64):
        raise ConfigurationError(texts("accounts.bad_name"))
    grants = {grant for grant in fields.grants if GRANTS[grant] is role}
    account = replace(
        _NOBODY if known is None else known,
        name=fields.name,
        role=role,
        extension=extension,
        disabled=not fields.enabled,
        groups_write="groups_write" in grants,
        see_codes="see_codes" in grants,
    )
    if known is not None:
        return visit.store.accounts.change(account, version=int(version))
    account = replace(account, password_hash=password_hash, must_change=True)
    return visit.store.accounts.add(account, now=visit.portal.clock())


async def _find(visit: Visit, number: str) -> PortalAccount:
    if not _is_number(number):
        raise Refused(422, "error.parameter", names="id")
    known = await run_in_threadpool(visit.portal.store.accounts.get, int(number))
    if known is None:
        raise Refused(404, "accounts.gone")
    return known


async def _account_page(
    visit: Visit,
    known: PortalAccount | None,
    *,
    status: int = 200,
    fields: _Fields | None = None,
    error: str = "",
    said: str = "",
    made: str = "",
    asked: bool = False,
) -> Response:
    return await page(
        visit,
        "account_delete.html" if asked else "account.html",
        status=status,
        known=known,
        fields=fields or _fields_of(known),
        roles=list(Role),
        grants=GRANTS,
        error=error,
        said=said,
        made=made,
    )


def _fields_from(form: FormData) -> _Fields:
    name, role, extension = [text_of(form, field).strip()[:200] for field in ("name", "role", "extension")]
    grants = frozenset(grant for grant in GRANTS if text_of(form, grant))
    return _Fields(name, role, extension, grants, enabled=bool(text_of(form, "enabled")))


def _fields_of(account: PortalAccount | None) -> _Fields:
    of = account or _NOBODY
    grants = frozenset(grant for grant in GRANTS if getattr(of, grant))
    name = "" if account is None else account.name
    return _Fields(name, of.role.value, of.extension, grants, enabled=not of.disabled)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15


def _said(visit: Visit, said: str) -> str:
    if said and said not in MESSAGES:
        raise Refused(400, "error.parameter", names="said")
    return visit.texts(f"accounts.{said}") if said else ""
