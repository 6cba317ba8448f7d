"""Users for programs. A password goes in and, when the gate made it, out once; only hashes are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from proxy.errors import ConfigurationError, RemoteProtocolError
from proxy.policy import Snapshot, User, refuse_emergency_user
from proxy.policy.dial_string import read_dial_string
from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.concurrency import changed_if_match, not_modified, tag
from proxy.portal.api.problems import Problem
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import Values
from proxy.store import Versioned, digest_credentials, generate_password

__all__ = ["router"]

router = APIRouter(tags=["users"], route_class=GuardedRoute)

Reader = Annotated[Client, Depends(NeedsScope(Scope.USERS_READ))]
Writer = Annotated[Client, Depends(NeedsScope(Scope.USERS_WRITE))]

_PLAIN = ("group", "name", "caller_number", "digest_name", "enabled")


class UserFields(Values):
    """What can be set of a user. What is left out stays as it is, or has its default."""

    group: str = ""
    name: str = Field(default="", description="Shown in records.")
    caller_number: str = Field(default="", description="Its number as the outside world sees it.")
    digest_name: str = Field(default="", description="User name in authentication; empty: the extension.")
    enabled: bool = True
    password: str | None = Field(default=None, min_length=8, max_length=128, repr=False)
    md5: bool = Field(default=True, description="Keep an MD5 hash of the password too, for old phones.")

    def make(self, client: Client, old: User, password: str | None) -> User:
        """Return the user that this makes of an old one. Raises `Problem`."""
        given = {name: getattr(self, name) for name in _PLAIN if name in self.model_fields_set}
        if given.get("caller_number"):
            try:
                read_dial_string(self.caller_number)
            except RemoteProtocolError as error:
                raise Problem(422, str(error), field="caller_number") from None
        try:
            user = replace(old, **given)
            refuse_emergency_user(user, client.portal.plan)
        except ConfigurationError as error:
            raise Problem(422, str(error), field=_field_of(error)) from None
        if password is not None:
            if not password.isprintable():
                raise Problem(422, "write printable characters", field="password")
            made = digest_credentials(user.digest_name, client.portal.realm, password, md5=self.md5)
            return replace(user, credentials=made)
        if user.digest_name != old.digest_name:
            raise Problem(422, "it is part of the password's hash: give a password too", field="digest_name")
        return user


class NewUser(UserFields):
    """A user to add. Without a password one is made, which the answer tells, this once."""

    extension: str


class UserDocument(Values):
    """A user as it is."""

    extension: str
    group: str
    name: str
    caller_number: str
    digest_name: str
    enabled: bool
    hashes: list[str] = Field(description="Of the password; the password itself nobody has.")


class ChangedUser(UserDocument):
    """A user that was changed."""

    number_shared_with: list[str] = Field(
        description="Extensions of others whose caller number, or extension, is this user's caller number. "
        "Behind a peer a shared number names nobody, and calls from outside to it reach nobody."
    )


class AddedUser(ChangedUser):
    """A user that was added."""

    password: str | None = Field(description="Made for it: told this once.", repr=False)


class UserList(Values):
    """Users by extension."""

    users: list[UserDocument]
    next: str | None = Field(description="Cursor of the next page.")


@router.get("/users")
async def list_users(
    client: Reader,
    *,
    group: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str, Query(max_length=20, pattern="^[0-9]*$")] = "",
) -> UserList:
    """List users, all or those of one group."""
    everyone = await run_in_threadpool(client.portal.store.users.all, group=group)
    found = [user for user in everyone if user.extension > cursor][: limit + 1]
    more = found[limit - 1].extension if len(found) > limit else None
    return UserList(users=[_document(user) for user in found[:limit]], next=more)


@router.post("/users", status_code=201)
async def add_user(client: Writer, fields: NewUser, response: Response) -> AddedUser:
    """Add a user."""
    if not fields.group:
        raise Problem(422, "a user belongs to a group", field="group")
    try:
        new = User(fields.extension, fields.group)
    except ConfigurationError as error:
        raise Problem(422, str(error), field="extension") from None
    password = fields.password or generate_password()
    user = fields.make(client, new, password)

    def work() -> tuple[Versioned[User], ChangedUser]:
        try:
            client.store.users.add(user)
        except ConfigurationError as error:
            field = _field_of(error)
            raise Problem(422 if field == "group" else 409, str(error), field=field) from None
        added = _expect(client.portal.store.users.versioned(user.extension))
        return added, _changed(client, added.value)

    added, document = await run_in_threadpool(work)
    response.headers["ETag"] = tag(added.version)
    response.headers["Location"] = f"/api/v1/users/{user.extension}"
    told = None if fields.password else password
    return AddedUser(**document.model_dump(), password=told)


@router.get("/users/{extension}", response_model=UserDocument)
async def get_user(client: Reader, extension: str, request: Request, response: Response) -> object:
    """Give one user."""
    found = _expect(await run_in_threadpool(client.portal.store.users.versioned, extension))
    return not_modified(request, response, found.version) or _document(found.value)


@router.patch("/users/{extension}")
async def change_user(
    client: Writer, extension: str, fields: UserFields, request: Request, response: Response
) -> ChangedUser:
    """Change what is given of a user; everything else stays. Needs If-Match."""

    def read() -> Versioned[User]:
        return _expect(client.portal.store.users.versioned(extension))

    def write(old: User, version: int) -> None:
        user = fields.make(client, old, fields.password)
        try:
            client.store.users.change(user, version=version)
        except ConfigurationError as error:
            raise Problem(422, str(error), field=_field_of(error)) from None

    def work() -> ChangedUser:
        return _changed(client, changed_if_match(request, response, read, write))

    return await run_in_threadpool(work)


@router.delete("/users/{extension}", status_code=204)
async def delete_user(client: Writer, extension: str) -> None:
    """Delete a user that no code belongs to. Its accounts are disabled: another may get the extension."""

    def work() -> None:
        _expect(client.portal.store.users.versioned(extension))
        try:
            client.store.users.delete_many([extension])
        except ConfigurationError as error:
            raise Problem(409, str(error), field="extension") from None

    await run_in_threadpool(work)


def _field_of(error: ConfigurationError) -> str:
    """Return the field that a refusal of a user is about."""
    message = str(error)
    for words, field in (
        ("group ", "group"),
        ("digest name", "digest_name"),
        ("caller number", "caller_number"),
        (" name ", "name"),
    ):
        if words in message:
            return field
    return "extension"


def _expect(found: Versioned[User] | None) -> Versioned[User]:
    if found is None:
        raise Problem(404, "there is no such user")
    return found


def _changed(client: Client, user: User) -> ChangedUser:
    others = Snapshot(client.portal.plan, (), client.portal.store.users.ending_alike(user)).sharing_number(
        user
    )
    shared = [other.extension for other in others]
    return ChangedUser(**_document(user).model_dump(), number_shared_with=shared)


def _document(user: User) -> UserDocument:
    return UserDocument(
        extension=user.extension,
        **{name: getattr(user, name) for name in _PLAIN},
        hashes=[item.algorithm for item in user.credentials],
    )
