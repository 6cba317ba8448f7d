"""Live calls for programs, and what would happen with a call. Asks the gate through its control socket."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from proxy.errors import ConfigurationError
from proxy.policy import CallClass, CallRequest, Snapshot, Treatment, decide_through
from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.problems import Problem, naming
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import Values
from proxy.portal.default_groups import default_groups_of_pbxs
from proxy.portal.gate_acts import hang_up
from proxy.portal.gate_link import EmergencyGoesOn, LiveCall

__all__ = ["router"]

router = APIRouter(tags=["calls"], route_class=GuardedRoute)

Watcher = Annotated[Client, Depends(NeedsScope(Scope.CALLS_READ))]
Ender = Annotated[Client, Depends(NeedsScope(Scope.CALLS_HANGUP))]
Asker = Annotated[Client, Depends(NeedsScope(Scope.EXPLAIN))]


class LiveCallDocument(Values):
    """One call that is up."""

    call_id: str
    caller: str
    user: str
    group: str
    dialled: str
    destination_user: str
    state: str
    code: str = Field(description="Description of the account code, or empty.")
    emergency: bool
    location: str
    started_at: datetime


class LiveCalls(Values):
    """The calls that are up now."""

    calls: list[LiveCallDocument]


class Question(Values):
    """A call that could be."""

    number: str = Field(min_length=1, max_length=256, description="Digits, or a tel: or sip: URI.")
    user: str | None = Field(default=None, description="The caller: an extension or its digest name.")
    caller: str = Field(default="", max_length=256, description="As a trusted PBX names the caller.")
    group: str | None = Field(default=None, description="The PBX's group for callers that match no user.")
    peer: str | None = Field(
        default=None,
        description="The PBX, as the settings name it; needed where that decides which group counts.",
    )


class Explanation(Values):
    """What would be decided, and why."""

    treatment: Treatment
    reason: str
    number: str | None = Field(description="In normal form; null when it can't be dialled.")
    call_class: CallClass | None
    user: str | None
    group: str | None
    steps: list[str]


@router.get("/calls")
async def list_calls(client: Watcher) -> LiveCalls:
    """List the calls that are up, the oldest first."""
    return LiveCalls(calls=[_document(call) for call in await run_in_threadpool(_calls, client)])


@router.delete("/calls/{call_id}", status_code=204)
async def end_call(client: Ender, call_id: Annotated[str, Path(max_length=64)]) -> None:
    """End a call: both parties get a BYE, and its record follows. 409 for an emergency call: it goes on."""

    def work() -> None:
        _calls(client)
        try:
            hang_up(client.portal.gate, client.store, call_id)
        except EmergencyGoesOn:
            raise Problem(409, "an emergency call is not ended by hand") from None
        except ConfigurationError:
            raise Problem(404, "there is no such call (any more)") from None

    await run_in_threadpool(work)


@router.post("/explain")
async def explain(client: Asker, question: Question) -> Explanation:
    """Tell what would happen with a call. A POST, so that no log of addresses holds the number."""
    if question.user is None and not question.caller and question.group is None and question.peer is None:
        raise Problem(422, "who calls? Name a user, or a caller, a group or a peer", field="user")
    return await run_in_threadpool(_explain, client, question)


def _explain(client: Client, question: Question) -> Explanation:
    store = client.portal.store
    # No codes: whether one is asked for does not depend on which there are.
    snapshot = Snapshot(client.portal.plan, store.groups.all(), store.users.all())
    asked = question.user
    if asked is not None and snapshot.user_by_digest_name(asked) is None and asked not in snapshot.users:
        raise Problem(422, "there is no such user", field="user")
    if question.group is not None and question.group not in snapshot.groups:
        raise Problem(422, "there is no such group", field="group")
    request = CallRequest(question.number, question.user, question.caller, question.group)
    with naming("peer"):
        found = decide_through(request, snapshot, default_groups_of_pbxs(client.portal), question.peer)
    return Explanation(
        treatment=found.treatment,
        reason=found.reason,
        number=None if found.number is None else found.number.number,
        call_class=found.call_class,
        user=None if found.user is None else found.user.extension,
        group=None if found.group is None else found.group.name,
        steps=list(found.steps),
    )


def _calls(client: Client) -> tuple[LiveCall, ...]:
    found = client.portal.gate.calls()
    if found is None:
        raise Problem(503, "the gate is not running, or does not answer", headers={"Retry-After": "5"})
    return found


def _document(call: LiveCall) -> LiveCallDocument:
    facts = {name: getattr(call, name) for name in LiveCallDocument.model_fields if name != "started_at"}
    return LiveCallDocument(**facts, started_at=datetime.fromtimestamp(call.started_at, UTC))
