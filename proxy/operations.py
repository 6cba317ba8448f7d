"""What the control socket and the metrics tell about a running gate, and what they may do to it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from proxy.call.trunk_watch import DestinationStatus, TrunkState
from proxy.errors import ConfigurationError
from proxy.metrics import Sample
from proxy.net.control import Handler
from proxy.sip.uri import format_host

if TYPE_CHECKING:
    from proxy.call.core import CallCore
    from proxy.server import Gate

__all__ = ["handlers", "samples"]


def handlers(gate: Gate) -> dict[str, Handler]:
    """Return the commands of the control socket."""

    async def reload(_request: Mapping[str, object]) -> object:
        return {"after_restart": await gate.reload()}

    async def recordings(_request: Mapping[str, object]) -> object:
        return {"changed": await gate.take_up_recordings()}

    return {
        "calls": lambda _request: _live_calls(gate),
        "hangup": lambda request: _hang_up(gate, request),
        "deregister": lambda request: _deregister(gate, request),
        "status": lambda _request: _status(gate),
        "reload": reload,
        "recordings": recordings,
        "trace": lambda request: _trace(gate, request),
    }


def _live_calls(gate: Gate) -> list[dict[str, object]]:
    now = time.monotonic()
    return [
        {
            "call_id": call.call_id,
            "caller": call.caller,
            "user": call.user,
            "dialled": call.dialled,
            "state": call.state,
            "seconds": round(now - call.since, 1),
            "direction": call.direction,
            "code": call.code_description,
            "emergency": call.emergency,
            "destination_user": call.destination_user,
            "group": call.group,
            "location": call.location,
            "started_at": call.started_at,
            "caller_e164": call.caller_e164,
        }
        for call in gate.core.live_calls()
    ]


def _hang_up(gate: Gate, request: Mapping[str, object]) -> object:
    call_id = request.get("call_id")
    if not isinstance(call_id, str) or not gate.hang_up([call_id], by_hand=True):
        raise ConfigurationError(f"no live call {call_id!r}; `tollgate calls` shows their ids")
    return {"ended": call_id}


def _deregister(gate: Gate, request: Mapping[str, object]) -> object:
    user, contact = request.get("user"), request.get("contact", "")
    if not isinstance(user, str) or not isinstance(contact, str):
        raise ConfigurationError(
            'deregister: say {"user": EXTENSION}, and "contact" for one phone of several'
        )
    if gate.phones is None:
        raise ConfigurationError("this gate registers no phones")
    return {"ended": gate.phones.registrations.forget(user, contact)}


def _trace(gate: Gate, request: Mapping[str, object]) -> object:
    on = request.get("on")
    if not isinstance(on, bool):
        raise ConfigurationError('trace: say {"on": true} or {"on": false}')
    gate.trace(on)
    return {"on": on}


def _status(gate: Gate) -> dict[str, object]:
    return {
        "listening": [f"{format_host(host)}:{port}" for host, port in gate.bound],
        "calls": len(gate.core.calls),
        "emergency_calls": sum(call.record.emergency for call in gate.core.calls.values()),
        "port_pairs": len(gate.core.media),
        "transactions": gate.driver.endpoint.transactions,
        "dialogs": gate.driver.endpoint.dialogs,
        "connections": len(gate.driver.tcp or ()),
        "draining": gate.core.draining,
        "registered_users": 0 if gate.phones is None else gate.phones.users,
        "registered_contacts": 0 if gate.phones is None else gate.phones.contacts,
        "subscriptions": len(gate.core.subscriptions or ()),
        "policy_version": gate.core.policy.version,
        "store_trouble": gate.store_trouble,
        "journal_durable": gate.journal.durable,
        "journal_damaged_octets": gate.journal.damaged_octets,
        "records_delayed": gate.records_delayed,
        "faults": gate.driver.faults,
        "trunks": _trunks(gate),
        "peers": _peers(gate),
        "limits_reached": _limits_reached(gate),
        "certificate_expires": gate.tls.expires.isoformat() if gate.tls else None,
        "loop_lag_ms": round(gate.lag.worst * 1000, 1),
        "loop_lag_p99_ms": round(gate.lag.percentile(99) * 1000, 1),
    }


def _limits_reached(gate: Gate) -> list[dict[str, object]]:
    """The last alarms about limits of groups, the newest first."""
    now = time.monotonic()
    return [
        {"caller": one.caller, "limit": one.limit, "seconds": round(now - one.at, 1)}
        for one in reversed(gate.core.limits.reached)
    ]


def _trunks(gate: Gate) -> list[dict[str, object]]:
    now, states = time.monotonic(), gate.core.watch.status()
    return [
        {
            "name": trunk.name,
            "calls": gate.core.load.calls_of(trunk.name),
            "max_calls": trunk.max_calls,
            "registration": _registration(gate, trunk.name),
            "destinations": _destinations(states, trunk.name, now),
        }
        for trunk in gate.core.config.trunks
    ]


def _destinations(states: Iterable[DestinationStatus], name: str, now: float) -> list[dict[str, object]]:
    """Say how the addresses of one trunk or peer are."""
    return [
        {
            "address": one.address,
            "state": one.state.value,
            "seconds": round(now - one.since, 1) if one.since else None,
            "reason": one.reason,
        }
        for one in states
        if one.trunk == name
    ]


def _peers(gate: Gate) -> list[dict[str, object]]:
    calls = Counter(call.record.peer for call in gate.core.calls.values())
    now, states = time.monotonic(), gate.core.watch.status(pbxs=True)
    return [
        {
            "name": peer.name,
            "networks": [*map(str, peer.networks), *peer.certificate_names],
            "default_group": peer.default_group,
            "calls": calls[peer.name],
            "destinations": _destinations(states, peer.name, now),
        }
        for peer in gate.core.config.peers
    ]


def _registration(gate: Gate, trunk: str) -> str | None:
    status = gate.core.accounts.status(trunk)
    if status is None:
        return None
    return status.state.value + (f" ({status.reason})" if status.reason else "")


def _trunk_samples(core: CallCore) -> list[Sample]:
    """Return what is told of each trunk; the watch may be reconfigured meanwhile, by another thread."""
    states = core.watch.status()
    return [
        *(
            Sample("trunk_calls", "Calls over a trunk.", core.load.calls_of(name), labels=(("trunk", name),))
            for name in dict.fromkeys(one.trunk for one in states)
        ),
        *(
            Sample(
                "trunk_up",
                "1 while the destination answers.",
                one.state is TrunkState.UP,
                labels=(("trunk", one.trunk), ("address", one.address)),
            )
            for one in states
        ),
        *(
            Sample(
                "peer_up",
                "1 while the address that calls go to answers.",
                one.state is TrunkState.UP,
                labels=(("peer", one.trunk), ("address", one.address)),
            )
            for one in core.watch.status(pbxs=True)
        ),
    ]


def samples(gate: Gate) -> list[Sample]:
    """Return the values of this moment; called in the thread that serves the metrics."""
    driver, core = gate.driver, gate.core
    udp, tcp = list(driver.udp.values()), driver.tcp
    return [
        Sample("calls", "Live calls.", len(core.calls)),
        Sample("media_legs", "Open RTP port pairs.", len(core.media)),
        Sample("sip_transactions", "SIP transactions.", driver.endpoint.transactions),
        Sample("sip_dialogs", "SIP dialogs.", driver.endpoint.dialogs),
        Sample("registered_contacts", "Contacts of phones.", gate.phones.contacts if gate.phones else 0),
        Sample("subscriptions", "Busy and message waiting lamps.", len(core.subscriptions or ())),
        Sample("draining", "1 while the gate takes no new calls.", core.draining),
        Sample(
            "callers_locked", "Callers whom wrong codes have locked, some no longer.", len(core.policy.locks)
        ),
        Sample("policy_version", "Number of the policy change in force.", core.policy.version),
        Sample("store_readable", "1 while the policy can be read.", not gate.store_trouble),
        Sample("journal_durable", "1 while records reach the disk.", gate.journal.durable),
        Sample(
            "journal_damaged_octets",
            "Octets of the journal that can't be read.",
            gate.journal.damaged_octets,
        ),
        Sample("records_delayed", "1 while the store refuses records.", gate.records_delayed),
        Sample("faults", "Events whose handling failed.", driver.faults, counter=True),
        Sample("loop_lag_seconds", "How late the event loop was.", gate.lag.total, buckets=gate.lag.buckets),
        Sample("loop_lag_worst_seconds", "How late it was at worst in the last minute.", gate.lag.worst),
        Sample("udp_in", "SIP datagrams received.", sum(s.datagrams_in for s in udp), counter=True),
        Sample("udp_out", "SIP datagrams sent.", sum(s.datagrams_out for s in udp), counter=True),
        Sample("udp_dropped", "SIP datagrams not sent.", sum(s.datagrams_dropped for s in udp), counter=True),
        Sample(
            "overload_declined",
            "New requests that got 503 because there was no time for them.",
            driver.crowd.declined,
            counter=True,
        ),
        Sample(
            "overload_dropped",
            "Messages of strangers for which there was no room.",
            driver.crowd.dropped,
            counter=True,
        ),
        Sample("tcp_connections", "Open SIP connections.", len(tcp) if tcp else 0),
        Sample("tcp_refused", "Connections over a limit.", tcp.refused if tcp else 0, counter=True),
        Sample(
            "tcp_displaced",
            "Connections that nobody used, closed for newer ones.",
            tcp.displaced if tcp else 0,
            counter=True,
        ),
        Sample("tls_handshakes", "TLS connections made.", tcp.handshakes if tcp else 0, counter=True),
        Sample(
            "tls_handshakes_failed",
            "TLS handshakes that failed.",
            tcp.failed_handshakes if tcp else 0,
            counter=True,
        ),
        Sample(
            "tls_certificate_expires_seconds",
            "End of the certificate's validity, in seconds since 1970; 0 without one.",
            gate.tls.expires.timestamp() if gate.tls else 0,
        ),
        *_trunk_samples(core),
    ]
