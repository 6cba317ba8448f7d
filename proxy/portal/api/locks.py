"""Locked callers for programs: who may enter no account code for a while, and letting them again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from proxy.errors import ConfigurationError
from proxy.policy.locks import MAX_CALLER
from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.problems import Problem
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import Values

__all__ = ["router"]

router = APIRouter(tags=["locks"], route_class=GuardedRoute)

Reader = Annotated[Client, Depends(NeedsScope(Scope.USERS_READ))]
Writer = Annotated[Client, Depends(NeedsScope(Scope.USERS_WRITE))]


class LockDocument(Values):
    """One locked caller."""

    caller: str = Field(description="``user`` and the extension; else the peer and the number.")
    since: datetime
    until: datetime | None = Field(description="null: until somebody unlocks it.")
    wrong: int = Field(description="Wrong codes that have led to it.")


class LockList(Values):
    """The locks that are in force."""

    locks: list[LockDocument]


@router.get("/locks")
async def list_locks(client: Reader) -> LockList:
    """List the callers who are locked, the newest first."""
    found = await run_in_threadpool(lambda: client.portal.store.locks.all(at=client.portal.clock()))
    return LockList(
        locks=[
            LockDocument(
                caller=lock.caller,
                since=datetime.fromtimestamp(lock.since, UTC),
                until=None if lock.until is None else datetime.fromtimestamp(lock.until, UTC),
                wrong=lock.wrong,
            )
            for lock in found
        ]
    )


@router.delete("/locks/{caller:path}", status_code=204)
async def unlock_caller(client: Writer, caller: Annotated[str, Path(max_length=MAX_CALLER)]) -> None:
    """Let a caller enter account codes again."""
    try:
        await run_in_threadpool(client.store.locks.unlock, [caller])
    except ConfigurationError:
        raise Problem(404, "this caller is not locked (any more)") from None
