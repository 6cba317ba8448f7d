"""Many account codes at once: all of them or none, and told beforehand by a dry run."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from proxy.policy import AccountCode, NumberPlan, OwnerKind, refuse_duplicate
from proxy.portal.api.client import Client, GuardedRoute
from proxy.portal.api.codes import CodeFields, Writer, placed
from proxy.portal.api.concurrency import tag
from proxy.portal.api.problems import FieldError, Problem, naming
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import Values
from proxy.store import ImportPlan, LineResult, LineVerdict, Store, VersionConflict, Versioned, carry_out

__all__ = ["BulkRequest", "router"]

router = APIRouter(tags=["codes"], route_class=GuardedRoute)

_MOST_AT_ONCE = 100_000
_TRIES = 3


def _let_others_run(line: object) -> object:
    """Do nothing, in Python: only between its instructions a thread that validates lets another one run."""
    return line


class BulkRequest(Values):
    """Codes to add, and with ``update`` to change."""

    codes: list[Annotated[CodeFields, BeforeValidator(_let_others_run)]] = Field(
        min_length=1, max_length=_MOST_AT_ONCE
    )
    update: bool = Field(default=True, description="Change those that exist; else they are refused.")
    dry_run: bool = Field(default=False, description="Only tell what would be done.")


class BulkLine(Values):
    """What becomes of one code of the request."""

    index: int
    verdict: LineVerdict
    field: str = ""
    reason: str = ""


class BulkAnswer(Values):
    """What was done, or would be."""

    dry_run: bool
    added: int
    changed: int
    unchanged: int
    refused: int
    lines: list[BulkLine] = Field(
        description="Of a dry run: every code, in the order of the request. A token that is not for "
        "codes:read is told only what is refused for other reasons than that a code exists."
    )


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BulkRequest"}}},
    }
}


@router.post("/codes/bulk", response_model=BulkAnswer, openapi_extra=_BODY)
async def upsert_codes(client: Writer, request: Request) -> Response:
    """Add and change many codes: all of them or none.

    What is left out of a code that exists stays as it is. The ETag of a dry run stands for all that it says:
    sent back with If-Match, the codes are written only if exactly that would still be done (412 otherwise).
    """
    return await run_in_threadpool(
        _upsert, client, await request.body(), request.headers.get("if-match", "*")
    )


def _upsert(client: Client, body: bytes, if_match: str) -> Response:
    # Read and written here, in a thread: everybody else would wait for a hundred thousand lines.
    try:
        wanted = BulkRequest.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in details]) from None
    for _ in range(_TRIES):
        # Who changes one of the codes meanwhile has it judged again, and is not undone.
        with suppress(VersionConflict):
            return _judged(client, wanted, if_match)
    raise Problem(409, "somebody else changes these codes all the time: nothing is written", field="codes")


def _judged(client: Client, wanted: BulkRequest, if_match: str) -> Response:
    """Do what is wanted with the codes as they are now. Raises `Problem`, `VersionConflict`."""
    judge = _Judge.of(client.portal.store, client.portal.plan, wanted)
    lines = [judge.line(index, fields) for index, fields in enumerate(wanted.codes)]
    plan = ImportPlan(tuple(judge.results), wanted.update, judge.present)
    etag = tag(_fingerprint(plan))
    # Line by line, whoever only writes codes would learn of a hundred thousand guesses which ones exist.
    sees_codes = client.may(Scope.CODES_READ)
    told = [line for line in lines if line.verdict is LineVerdict.REFUSED]
    if not sees_codes:
        told = [line for line in told if line.index not in judge.taken]
    if not wanted.dry_run:
        if if_match.strip() not in {"*", etag}:
            raise Problem(
                412,
                "other things would be done than in the dry run: look at it again",
                field="If-Match",
                headers={"ETag": etag},
            )
        if refused := plan.counts[LineVerdict.REFUSED]:
            raise Problem(
                422,
                f"{refused} of {len(lines)} codes are refused: nothing is written",
                errors=[FieldError(f"codes[{line.index}].{line.field}", line.reason) for line in told],
            )
        with placed():
            carry_out(plan, client.store.codes)
    counts = plan.counts
    answer = BulkAnswer(
        dry_run=wanted.dry_run,
        added=counts[LineVerdict.ADDED],
        changed=counts[LineVerdict.CHANGED],
        unchanged=counts[LineVerdict.UNCHANGED],
        refused=counts[LineVerdict.REFUSED],
        lines=(lines if sees_codes else told) if wanted.dry_run else [],
    )
    return Response(answer.model_dump_json(), media_type="application/json", headers={"ETag": etag})


@dataclass(slots=True)
class _Judge:
    """Holds the codes of a request against the store and against each other."""

    plan: NumberPlan
    update: bool
    made: list[AccountCode | Problem]
    present: dict[str, Versioned[AccountCode]]
    owners: dict[OwnerKind, set[str]]
    seen: dict[str, AccountCode] = field(default_factory=dict)
    results: list[LineResult] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    """Those refused because their code exists."""

    @classmethod
    def of(cls, store: Store, plan: NumberPlan, wanted: BulkRequest) -> _Judge:
        """Read what the codes are held against."""
        made = [_made(fields, plan) for fields in wanted.codes]
        good = [code for code in made if isinstance(code, AccountCode)]
        owners: dict[OwnerKind, set[str]] = {}
        if any(code.owner.name for code in good):
            owners[OwnerKind.GROUP] = {group.name for group in store.groups.all()}
            owners[OwnerKind.USER] = {user.extension for user in store.users.all()}
        present = store.codes.present([code.digits for code in good])
        return cls(plan, wanted.update, made, present, owners)

    def line(self, index: int, fields: CodeFields) -> BulkLine:
        """Judge the next code."""
        try:
            code = self._code(index, fields)
        except Problem as problem:
            self.results.append(LineResult(index, LineVerdict.REFUSED, reason=problem.detail))
            [error] = problem.errors
            return BulkLine(index=index, verdict=LineVerdict.REFUSED, field=error.field, reason=error.detail)
        old = self._old(code)
        verdict = LineVerdict.ADDED if old is None else LineVerdict.CHANGED
        if code == old:
            verdict = LineVerdict.UNCHANGED
        self.results.append(LineResult(index, verdict, code))
        return BulkLine(index=index, verdict=verdict)

    def _old(self, code: AccountCode) -> AccountCode | None:
        """Return the code that is there, if it is."""
        known = self.present.get(code.digits)
        return None if known is None else known.value

    def _code(self, index: int, fields: CodeFields) -> AccountCode:
        """Return the code as it will be. Raises `Problem`."""
        code = self.made[index]
        if isinstance(code, Problem):
            raise code
        owner, old = code.owner, self._old(code)
        if owner.kind is not OwnerKind.ACCOUNT and owner.name not in self.owners[owner.kind]:
            raise Problem(422, f"{owner.kind} {owner.name!r} does not exist", field="owner.name")
        twin = self.seen.setdefault(code.digits, code)
        with naming("code"):
            if twin is not code:
                refuse_duplicate(code, twin)
            if old is not None and not self.update:
                self.taken.add(index)
                refuse_duplicate(code, old)
        return code if old is None else fields.make(self.plan, old)


def _made(fields: CodeFields, plan: NumberPlan) -> AccountCode | Problem:
    try:
        return fields.make(plan)
    except Problem as problem:
        return problem


def _fingerprint(plan: ImportPlan) -> str:
    """Return what stands for all that a plan does: a hash, which tells nobody the codes."""
    whole = hashlib.sha256()
    for line in plan.lines:
        code = line.code
        # Its uses are no part of what is done: calls count them meanwhile.
        facts = "" if code is None else f"{code.form!r} {replace(code, uses=0)!r}"
        whole.update(f"{line.line} {line.verdict} {facts}\n".encode())
    return whole.hexdigest()[:32]
