"""What is done at the gate for somebody, and noted in the audit log under their name."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.portal.gate_link import GateLink
from proxy.store import Store

__all__ = ["deregister", "end_call", "hang_up", "note_hang_up"]

Facts = Mapping[str, object]


def hang_up(gate: GateLink, store: Store, call_id: str) -> None:
    """End a call. Raises as `GateLink.hang_up` does."""
    note_hang_up(store, call_id, end_call(gate, call_id))


def end_call(gate: GateLink, call_id: str) -> Facts | None:
    """End a call, and return what is known of it. Raises as `GateLink.hang_up` does."""
    call = next((call for call in gate.calls() or () if call.call_id == call_id), None)
    gate.hang_up(call_id)
    if call is None:
        return None
    return {"caller": call.caller, "user": call.user, "dialled": call.dialled, "state": call.state}


def note_hang_up(store: Store, call_id: str, facts: Facts | None) -> None:
    """Tell the audit log who has ended a call."""
    store.audit.note("hang_up", "call", call_id, before=facts)


def deregister(gate: GateLink, store: Store, user: str, contact: str) -> None:
    """End the registration of one phone of a user, or of all. Raises as `GateLink.deregister` does."""
    ended = gate.deregister(user, contact)
    if ended:
        store.audit.note("deregister", "user", user, before={"contact": contact} if contact else None)
