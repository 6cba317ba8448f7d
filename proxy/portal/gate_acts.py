"""What is done at the gate for somebody, and noted in the audit log under their name."""

from __future__ import annotations

from proxy.portal.gate_link import GateLink
from proxy.store import Store

__all__ = ["deregister", "hang_up"]


def hang_up(gate: GateLink, store: Store, call_id: str) -> None:
    """End a call. Raises as `GateLink.hang_up` does."""
    call = next((call for call in gate.calls() or () if call.call_id == call_id), None)
    gate.hang_up(call_id)
    facts: dict[str, object] | None = None
    if call is not None:
        facts = {"caller": call.caller, "user": call.user, "dialled": call.dialled, "state": call.state}
    store.audit.note("hang_up", "call", call_id, before=facts)


def deregister(gate: GateLink, store: Store, user: str, contact: str) -> None:
    """End the registration of one phone of a user, or of all. Raises as `GateLink.deregister` does."""
    ended = gate.deregister(user, contact)
    if ended:
        store.audit.note("deregister", "user", user, before={"contact": contact} if contact else None)
