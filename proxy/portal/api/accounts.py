"""Portal accounts for programs: who may log in, and as what.

A password goes out once, and is good for one log-in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from proxy.errors import ConfigurationError
from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.concurrency import changed_if_match, found_row, not_modified, tag
from proxy.portal.api.problems import Problem
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import RowId, Values
from proxy.portal.passwords import TooBusy, one_time_password
from proxy.portal.permissions import GRANTS
from proxy.store import PortalAccount, Role, Versioned

__all__ = ["router"]

router = APIRouter(tags=["accounts"], route_class=GuardedRoute)

Reader = Annotated[Client, Depends(NeedsScope(Scope.ACCOUNTS_READ))]
Writer = Annotated[Client, Depends(NeedsScope(Scope.ACCOUNTS_WRITE))]

_PLAIN = ("name", "role", "extension", "groups_write", "see_codes")


class AccountFields(Values):
    """What can be set of an account. What is left out stays as it is, or has its default."""

    name: str = Field(default="", description="To log in with, in any case.")
    role: Role = Role.PHONE_MANAGER
    extension: str = Field(default="", description="Whose calls a user sees; for no other role.")
    groups_write: bool = Field(default=False, description="Lets a phone_manager change groups.")
    see_codes: bool = Field(default=False, description="Lets a billing_contact see account codes.")
    enabled: bool = True

    def make(self, client: Client, old: PortalAccount) -> PortalAccount:
        """Return the account that this makes of an old one. Raises `Problem`."""
        given = {name: getattr(self, name) for name in _PLAIN if name in self.model_fields_set}
        role = given.get("role", old.role)
        for grant, whose in GRANTS.items():
            if given.get(grant) and role is not whose:
                raise Problem(422, f"it is for the role {whose.value}", field=grant)
            # What was granted to another role goes with it.
            given[grant] = role is whose and given.get(grant, getattr(old, grant))
        if role is not Role.USER:
            given.setdefault("extension", "")
        extension = given.get("extension", old.extension)
        if extension != old.extension and extension and client.portal.store.users.get(extension) is None:
            raise Problem(422, f"user {extension} does not exist", field="extension")
        disabled = not self.enabled if "enabled" in self.model_fields_set else old.disabled
        try:
            return replace(old, **given, disabled=disabled)
        except ConfigurationError as error:
            raise Problem(422, str(error), field=_field_of(error)) from None


class AccountDocument(AccountFields):
    """An account as it is."""

    id: int
    one_time_password: bool = Field(description="It has not set a password of its own yet.")
    second_factor: bool
    created_at: float = Field(description="UTC seconds since the epoch.")


class AddedAccount(AccountDocument):
    """An account with a new password."""

    password: str = Field(description="Good for one log-in: told this once.", repr=False)


class AccountList(Values):
    """All accounts by name."""

    accounts: list[AccountDocument]


@router.get("/accounts")
async def list_accounts(client: Reader) -> AccountList:
    """List all accounts."""
    found = await run_in_threadpool(client.portal.store.accounts.all)
    return AccountList(accounts=[_document(account) for account in found])


@router.post("/accounts", status_code=201)
async def add_account(client: Writer, fields: AccountFields, response: Response) -> AddedAccount:
    """Add an account."""
    password, password_hash = await _new_password(client)

    def work() -> PortalAccount:
        if not fields.name:
            raise Problem(422, "an account has a name", field="name")
        account = fields.make(client, PortalAccount("-", Role.PHONE_MANAGER, password_hash, must_change=True))
        try:
            return client.store.accounts.add(account, now=client.portal.clock())
        except ConfigurationError as error:
            raise Problem(409, str(error), field="name") from None

    added = await run_in_threadpool(work)
    response.headers["ETag"] = tag(added.version)
    response.headers["Location"] = f"/api/v1/accounts/{added.id}"
    return AddedAccount(**_document(added).model_dump(), password=password)


@router.get("/accounts/{account_id}", response_model=AccountDocument)
async def get_account(client: Reader, account_id: RowId, request: Request, response: Response) -> object:
    """Give one account."""
    found = await run_in_threadpool(_expect(client, account_id))
    return not_modified(request, response, found.version) or _document(found.value)


@router.patch("/accounts/{account_id}")
async def change_account(
    client: Writer, account_id: RowId, fields: AccountFields, request: Request, response: Response
) -> AccountDocument:
    """Change what is given of an account; everything else stays. Needs If-Match.

    Its sessions end when it is disabled, and when its role, extension or grants change.
    """

    def write(old: PortalAccount, version: int) -> None:
        account = fields.make(client, old)
        try:
            client.store.accounts.change(account, version=version)
        except ConfigurationError as error:
            raise Problem(409, str(error), field=_field_of(error)) from None

    changed = await run_in_threadpool(changed_if_match, request, response, _expect(client, account_id), write)
    return _document(changed)


@router.post("/accounts/{account_id}/password")
async def renew_password(client: Writer, account_id: RowId) -> AddedAccount:
    """Give an account another password that is good for one log-in; all its sessions end."""
    await run_in_threadpool(_expect(client, account_id))
    password, password_hash = await _new_password(client)

    def work() -> PortalAccount:
        now = client.portal.clock()
        return client.store.accounts.set_password(account_id, password_hash, now=now, must_change=True)

    renewed = await run_in_threadpool(work)
    return AddedAccount(**_document(renewed).model_dump(), password=password)


@router.delete("/accounts/{account_id}", status_code=204)
async def delete_account(client: Writer, account_id: RowId) -> None:
    """Delete an account; the last one that can administer the portal stays."""

    def work() -> None:
        _expect(client, account_id)()
        try:
            client.store.accounts.delete(account_id)
        except ConfigurationError as error:
            raise Problem(409, str(error)) from None

    await run_in_threadpool(work)


async def _new_password(client: Client) -> tuple[str, str]:
    """Make a password; returns it and its hash."""
    password = one_time_password()
    try:
        return password, await client.portal.passwords.hash(password)
    except TooBusy:
        raise Problem(503, "too many log in at this moment", headers={"Retry-After": "5"}) from None


def _expect(client: Client, account_id: int) -> Callable[[], Versioned[PortalAccount]]:
    """Return what reads an account, or raises `Problem`."""

    return lambda: found_row(client.portal.store.accounts.get(account_id), "account")


def _field_of(error: ConfigurationError) -> str:
    """Return the field that a refusal of an account is about."""
    message = str(error)
    if "needs an extension" in message or message.startswith("user "):
        return "extension"
    return "role" if "last Decision Maker" in message else "name"


def _document(account: PortalAccount) -> AccountDocument:
    return AccountDocument(
        **{name: getattr(account, name) for name in _PLAIN},
        enabled=not account.disabled,
        id=account.id,
        one_time_password=account.must_change,
        second_factor=bool(account.totp_secret),
        created_at=account.created_at,
    )
