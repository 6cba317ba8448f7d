"""User groups for programs."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from proxy.errors import ConfigurationError
from proxy.policy import CallClass, CodeCollection, Treatment, UserGroup
from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.concurrency import changed_if_match, not_modified, tag
from proxy.portal.api.problems import Problem
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import Service, Values, service_document
from proxy.portal.default_groups import default_groups
from proxy.store import Versioned

__all__ = ["router"]

router = APIRouter(tags=["groups"], route_class=GuardedRoute)

Reader = Annotated[Client, Depends(NeedsScope(Scope.GROUPS_READ))]
Writer = Annotated[Client, Depends(NeedsScope(Scope.GROUPS_WRITE))]

_PLAIN = (
    "collection",
    "edited",
    "tries",
    "first_digit",
    "inter_digit",
    "whole_entry",
    "min_length",
    "max_length",
    "fixed_length",
    "prompts",
)


class Limits(Values):
    """What the paid calls of a group may come to; 0: no limit. What is left out stays as it is."""

    caller_calls: int = Field(default=0, description="Of one caller at once.")
    code_calls: int = Field(default=0, description="With one account code at once.")
    country_calls: int = Field(default=0, description="To one foreign country at once.")
    hourly_calls: int = Field(default=0, description="Of one caller within an hour.")
    talk_seconds: int = Field(default=0, description="Longest talk.")


class GroupFields(Values):
    """What can be set of a group. What is left out stays as it is, or has its default."""

    permissions: Service = Field(default_factory=Service, description="What is dialled freely.")
    collection: CodeCollection = CodeCollection.OFF
    unlock: Service = Field(default_factory=Service, description="What a code can unlock at most.")
    edited: dict[CallClass, Treatment] = Field(
        default_factory=dict, description="Cells of the matrix that differ from what the pair gives."
    )
    tries: int = 3
    first_digit: float = Field(default=10.0, description="Seconds.")
    inter_digit: float = 5.0
    whole_entry: float = 60.0
    min_length: int = 1
    max_length: int = 20
    fixed_length: int | None = None
    prompts: str = Field(default="", max_length=255)
    limits: Limits = Field(default_factory=Limits, description="Against misuse.")

    def make(self, old: UserGroup) -> UserGroup:
        """Return the group that this makes of an old one. Raises `Problem`."""
        given = self.model_fields_set
        changes = {name: getattr(self, name) for name in _PLAIN if name in given}
        if "permissions" in given:
            changes["permissions"] = self.permissions.make("permissions")
        if "unlock" in given:
            changes["unlock"] = self.unlock.make("unlock")
        try:
            if "limits" in given:
                limits = self.limits.model_dump(exclude_unset=True)
                changes["limits"] = replace(old.limits, **limits)
            return replace(old, **changes)
        except ConfigurationError as error:
            raise Problem(422, str(error), field=_field_of(error)) from None


class NewGroup(GroupFields):
    """A group to add."""

    name: str


class GroupDocument(GroupFields):
    """A group as it is; ``matrix`` is what the gate evaluates."""

    name: str
    matrix: dict[CallClass, Treatment]


class GroupList(Values):
    """All groups by name."""

    groups: list[GroupDocument]


@router.get("/groups")
async def list_groups(client: Reader) -> GroupList:
    """List all groups."""
    found = await run_in_threadpool(client.portal.store.groups.all)
    return GroupList(groups=[_document(group) for group in found])


@router.post("/groups", status_code=201)
async def add_group(client: Writer, fields: NewGroup, response: Response) -> GroupDocument:
    """Add a group."""
    try:
        new = UserGroup(fields.name)
    except ConfigurationError as error:
        raise Problem(422, str(error), field="name") from None
    group = fields.make(new)

    def work() -> Versioned[UserGroup]:
        try:
            client.store.groups.add(group)
        except ConfigurationError as error:
            raise Problem(409, str(error), field="name") from None
        return _expect(client.portal.store.groups.versioned(group.name))

    added = await run_in_threadpool(work)
    response.headers["Location"] = f"/api/v1/groups/{quote(group.name, safe='')}"
    response.headers["ETag"] = tag(added.version)
    return _document(added.value)


@router.get("/groups/{name:path}", response_model=GroupDocument)
async def get_group(client: Reader, name: str, request: Request, response: Response) -> object:
    """Give one group."""
    found = _expect(await run_in_threadpool(client.portal.store.groups.versioned, name))
    return not_modified(request, response, found.version) or _document(found.value)


@router.patch("/groups/{name:path}")
async def change_group(
    client: Writer, name: str, fields: GroupFields, request: Request, response: Response
) -> GroupDocument:
    """Change what is given of a group; everything else stays. Needs If-Match."""

    def read() -> Versioned[UserGroup]:
        return _expect(client.portal.store.groups.versioned(name))

    def write(old: UserGroup, version: int) -> None:
        client.store.groups.change(fields.make(old), version=version)

    return _document(await run_in_threadpool(changed_if_match, request, response, read, write))


@router.delete("/groups/{name:path}", status_code=204)
async def delete_group(client: Writer, name: str) -> None:
    """Delete a group that no user, no code and no peer's callers belong to."""

    def work() -> None:
        _expect(client.portal.store.groups.versioned(name))
        try:
            client.store.groups.delete(name, default_groups(client.portal))
        except ConfigurationError as error:
            raise Problem(409, str(error), field="name") from None

    await run_in_threadpool(work)


def _field_of(error: ConfigurationError) -> str:
    """Return the field that a refusal of `UserGroup` is about."""
    message = str(error).partition("': ")[2]
    if message.startswith("code length"):
        return "min_length"
    if str(error).partition(" ")[0] in Limits.model_fields:
        return f"limits.{str(error).partition(' ')[0]}"
    if message.startswith("emergency calls"):
        return "edited.emergency"
    return next((name for name in _PLAIN if message.startswith(name)), "name")


def _expect(found: Versioned[UserGroup] | None) -> Versioned[UserGroup]:
    if found is None:
        raise Problem(404, "there is no such group")
    return found


def _document(group: UserGroup) -> GroupDocument:
    return GroupDocument(
        name=group.name,
        permissions=service_document(group.permissions),
        unlock=service_document(group.unlock),
        matrix=dict(group.matrix),
        **{name: getattr(group, name) for name in _PLAIN if name != "edited"},
        edited=dict(group.edited),
        limits=Limits(**asdict(group.limits)),
    )
