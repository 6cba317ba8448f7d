"""Account codes for programs, one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, CodeOwner, NumberPlan, OwnerKind, new_code
from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.concurrency import expected_version, not_modified, preconditions, tag
from proxy.portal.api.problems import Problem, naming
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import Cursor, Limit, RowId, Service, Values, service_document
from proxy.store import Versioned
from proxy.store.audit import masked_code

__all__ = ["CodeFields", "Writer", "placed", "router"]

router = APIRouter(tags=["codes"], route_class=GuardedRoute)

Reader = Annotated[Client, Depends(NeedsScope(Scope.CODES_READ))]
Writer = Annotated[Client, Depends(NeedsScope(Scope.CODES_WRITE))]


class Owner(Values):
    """Who may use a code; ``name`` is a group or an extension, and empty for the whole account."""

    kind: OwnerKind = OwnerKind.ACCOUNT
    name: str = Field(default="", max_length=64)


class CodeFields(Values):
    """What can be set of a code. What is left out stays as it is, or has its default."""

    code: str = Field(default="", max_length=200, description="As people write it: digits, letters, ?.")
    description: str = ""
    enabled: bool = True
    valid_from: date | None = None
    valid_until: date | None = Field(default=None, description="Last day on which it is valid.")
    owner: Owner = Owner()
    class_of_service: Service | None = Field(
        default=None, description="Narrows what the group lets a code unlock."
    )
    max_uses: int | None = None

    def make(self, plan: NumberPlan, old: AccountCode | None = None) -> AccountCode:
        """Return the code that this makes of an old one, or a new one. Raises `Problem`."""
        given = self.model_fields_set
        base = old or AccountCode("")
        if old is None and "code" not in given:
            raise Problem(422, "a code is needed", field="code")
        plain = {
            name: getattr(self, name)
            for name in ("enabled", "valid_from", "valid_until", "max_uses")
            if name in given
        }
        template = replace(base, **plain)
        if "owner" in given:
            with naming("owner.name"):
                template = replace(template, owner=CodeOwner(self.owner.kind, self.owner.name))
        if "class_of_service" in given:
            service = self.class_of_service
            template = replace(
                template, class_of_service=None if service is None else service.make("class_of_service")
            )
        typed = self.code if "code" in given else base.form
        description = self.description if "description" in given else base.description
        try:
            return new_code(typed, description, plan=plan, template=template)
        except ConfigurationError as error:
            raise Problem(422, str(error), field=_field_of(error)) from None


class CodeDocument(CodeFields):
    """A code as it is; without codes:read its form and digits are masked."""

    id: int
    digits: str = Field(description="What is dialled.")
    uses: int
    version: int


class CodePage(Values):
    """One page of codes, by age."""

    codes: list[CodeDocument]
    next: str | None = Field(description="Cursor of the next page.")


@router.get("/codes")
async def list_codes(
    client: Reader, *, search: str = "", limit: Limit = 100, cursor: Cursor = ""
) -> CodePage:
    """List codes, the oldest first. ``search`` is a part of the code in any form, or of the description."""
    last = _row_of(cursor)
    codes = client.portal.store.codes
    found = await run_in_threadpool(codes.after, last, search=search, limit=limit + 1)
    more = str(found[limit - 1].id) if len(found) > limit else None
    return CodePage(codes=[_document(client, code) for code in found[:limit]], next=more)


@router.post("/codes", status_code=201)
async def add_code(client: Writer, fields: CodeFields, response: Response) -> CodeDocument:
    """Add a code."""
    code = fields.make(client.portal.plan)

    def work() -> Versioned[AccountCode] | None:
        with placed():
            client.store.codes.add(code)
        return client.portal.store.codes.find(code.digits)

    added = _expect(await run_in_threadpool(work))
    response.headers["Location"] = f"/api/v1/codes/{added.id}"
    response.headers["ETag"] = tag(added.version)
    return _document(client, added)


@router.get("/codes/{code_id}", response_model=CodeDocument)
async def get_code(client: Reader, code_id: RowId, request: Request, response: Response) -> object:
    """Give one code."""
    found = _expect(await run_in_threadpool(client.portal.store.codes.by_id, code_id))
    return not_modified(request, response, found.version) or _document(client, found)


@router.patch("/codes/{code_id}")
async def change_code(
    client: Writer, code_id: RowId, fields: CodeFields, request: Request, response: Response
) -> CodeDocument:
    """Change what is given of a code; everything else stays. Needs If-Match."""

    def work() -> Versioned[AccountCode]:
        old = _expect(client.portal.store.codes.by_id(code_id))
        version = expected_version(request, old.version)
        code = fields.make(client.portal.plan, old.value)
        with placed(), preconditions():
            return client.store.codes.change(code_id, code, version=version)

    changed = await run_in_threadpool(work)
    response.headers["ETag"] = tag(changed.version)
    return _document(client, changed)


@router.delete("/codes/{code_id}", status_code=204)
async def delete_code(client: Writer, code_id: RowId, request: Request) -> None:
    """Delete a code; with If-Match only if nobody has changed it."""

    def work() -> None:
        old = _expect(client.portal.store.codes.by_id(code_id))
        version = expected_version(request, old.version) if "if-match" in request.headers else None
        with preconditions():
            client.store.codes.delete_one(code_id, version=version)

    await run_in_threadpool(work)


def _document(client: Client, found: Versioned[AccountCode]) -> CodeDocument:
    code = found.value
    # To change a code is not to learn it: a token for writing alone knows what it sent.
    shown = str if client.may(Scope.CODES_READ) else masked_code
    service = code.class_of_service
    return CodeDocument(
        id=found.id,
        version=found.version,
        code=shown(code.form),
        digits=shown(code.digits),
        description=code.description,
        enabled=code.enabled,
        valid_from=code.valid_from,
        valid_until=code.valid_until,
        owner=Owner(kind=code.owner.kind, name=code.owner.name),
        class_of_service=None if service is None else service_document(service),
        max_uses=code.max_uses,
        uses=code.uses,
    )


def _field_of(error: ConfigurationError) -> str:
    """Return the field that a refusal of `new_code` is about."""
    message = str(error)
    for beginning, field in (
        ("description", "description"),
        ("code validity", "valid_until"),
        ("code maximum uses", "max_uses"),
    ):
        if message.startswith(beginning):
            return field
    return "code"


@contextlib.contextmanager
def placed() -> Iterator[None]:
    """Say which field is meant when the store refuses a code."""
    try:
        yield
    except ConfigurationError as error:
        message = str(error)
        if message.startswith("code owner"):
            raise Problem(422, message, field="owner.name") from None
        if "any more" in message:
            raise Problem(404, message) from None
        raise Problem(409, message, field="code") from None


def _expect(found: Versioned[AccountCode] | None) -> Versioned[AccountCode]:
    if found is None:
        raise Problem(404, "there is no such code")
    return found


def _row_of(cursor: str) -> int:
    if not cursor:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 15):
        raise Problem(422, "this is no page of the list", field="cursor")
    return int(cursor)
