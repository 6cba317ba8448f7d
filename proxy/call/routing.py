"""Where a call goes and what its B leg's INVITE says: peers and trunks to hops, numbers to URIs (DESIGN
1.1-1.4, 1.9).

RFC 3261 §8.1.1 (From, To, Request-URI), RFC 3323 and RFC 3325 (who calls, and who may know).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from proxy.call.config import CallerIdPolicy, CodeMode, DidRoute, GateConfig, Peer, Side, Trunk
from proxy.call.headers import crossing_headers, quote_display_name, wants_anonymity
from proxy.cdr.record import Direction
from proxy.policy import CallClass, Decision, format_for_trunk
from proxy.policy.trunk_format import TrunkNumberFormat
from proxy.sip.bindings import Binding, Bindings
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from proxy.sip.spec import InviteSpec
from proxy.sip.uri import format_host

__all__ = ["Caller", "Hop", "Route", "RouteTable", "contact_invite", "did_of", "invite_spec"]

_ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'


class Hop(NamedTuple):
    """One attempt: a trunk (or the PBX behind the gate) and one of its destinations."""

    trunk: Trunk
    flow: Flow

    @property
    def ipv6(self) -> bool:
        """The gate offers IPv6 media: the family that the peer's signalling speaks is the one it takes."""
        return ":" in self.flow.remote_host


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as it was proved (DESIGN, Identity of the caller)."""

    peer: Peer
    number: str
    """User part of the asserted identity, the user's own number for a phone, or ""."""
    name: str
    asserted: str = ""
    """URI that a trusted peer asserts; "" for a phone."""
    proved: str | None = None
    """User name that the caller authenticated as."""


@dataclass(frozen=True, slots=True)
class Route:
    """What was decided for one call before anything is done about it."""

    caller: Caller
    decision: Decision
    direction: Direction
    trunks: tuple[Trunk, ...]
    """Where the B leg may go, in order."""
    codecs: tuple[str, ...]
    """Codecs that every one of them takes."""
    user: str = ""
    """User part of the B leg's Request-URI, escaped; "" makes it from the number, as each trunk wants it."""
    callee: str = ""
    """Extension of the user whose phones ring, in place of trunks."""
    phones: tuple[Bindings, ...] = ()
    """Contacts of that user, group by group (`proxy.call.ring`)."""

    @property
    def peer(self) -> Peer:
        """Where the call came from."""
        return self.caller.peer

    @property
    def gated(self) -> bool:
        """The caller is asked for a code."""
        return self.decision.asks

    @property
    def early(self) -> bool:
        """The gate speaks in early media (DESIGN 1.6)."""
        return self.caller.peer.code_mode is CodeMode.EARLY

    @property
    def emergency(self) -> bool:
        """An emergency call from this side; a call that comes in from a trunk never is one."""
        return self.decision.emergency

    @property
    def prompts(self) -> str:
        """Folder of the user group's own recordings, or ""."""
        group = self.decision.group
        return "" if group is None else group.prompts

    @property
    def common_codecs(self) -> tuple[str, ...]:
        """Codecs for an offer of the gate's own: both sides take them, in the gate's order on the
        caller's side."""
        return tuple(name for name in self.caller.peer.codecs if name in self.codecs)

    @property
    def codecs_of_any(self) -> tuple[str, ...]:
        """Codecs that at least one of the trunks takes."""
        return tuple(dict.fromkeys(name for trunk in self.trunks for name in trunk.codecs))

    @property
    def ipv6(self) -> bool:
        """The B leg's media will probably be IPv6: that of the first trunk is asked for ahead."""
        if self.phones:
            return ":" in self.phones[0][0].flow.remote_host
        return bool(self.trunks) and any(":" in flow.remote_host for flow in self.trunks[0].flows[:1])


class RouteTable:
    """Where calls of each direction go, worked out once per configuration."""

    __slots__ = ("_config", "_outbound_codecs", "_pbx", "line")

    def __init__(self, config: GateConfig) -> None:
        self._config = config
        self._outbound_codecs = _taken_by_all(config.trunks)
        phones = config.phones
        self.line: Trunk | None = None
        """How phones are spoken with as callees: they get no identities but From, and are behind NAT."""
        if phones is not None:
            self.line = Trunk(
                phones.name,
                (),
                "",
                codecs=phones.codecs,
                trusted=False,
                latching=phones.latching,
                srtp=phones.srtp,
            )
        self._pbx = {
            peer.name: _as_trunk(peer) for peer in config.peers if peer.side is Side.PBX and peer.flow
        }

    def outbound(self, caller: Caller, decision: Decision) -> Route:
        """Route a call of a user: over the trunks, or back inside when the number is internal."""
        if decision.call_class is not CallClass.INTERNAL:
            return Route(caller, decision, Direction.OUTBOUND, self._config.trunks, self._outbound_codecs)
        pbx = self._pbx.get(caller.peer.name) or next(iter(self._pbx.values()), None)
        trunks = () if pbx is None else (pbx,)
        return Route(caller, decision, Direction.INTERNAL, trunks, _taken_by_all(trunks))

    def inbound(self, caller: Caller, decision: Decision, user: str) -> Route | None:
        """Route a call from a trunk to the PBX behind, its number intact; None when nobody has that
        number."""
        pbx = self._pbx_of(user)
        if pbx is None:
            return None
        return Route(caller, decision, Direction.INBOUND, (pbx,), pbx.codecs, user)

    def to_phones(
        self,
        caller: Caller,
        decision: Decision,
        direction: Direction,
        callee: str,
        phones: tuple[Bindings, ...],
    ) -> Route | None:
        """Route a call to the phones of a user; None when none is registered."""
        if self.line is None or not phones:
            return None
        return Route(caller, decision, direction, (), self.line.codecs, callee=callee, phones=phones)

    def did_user(self, did: str) -> str:
        """Return the extension that has this number by the DID routes, or ""."""
        best = self._did_route(did)
        return "" if best is None else best.user

    def _did_route(self, did: str) -> DidRoute | None:
        return max(
            (route for route in self._config.did_routes if did.startswith(route.prefix)),
            key=lambda route: len(route.prefix),
            default=None,
        )

    def _pbx_of(self, user: str) -> Trunk | None:
        if not self._config.did_routes:
            return next(iter(self._pbx.values())) if len(self._pbx) == 1 else None
        best = self._did_route(user)
        return None if best is None else self._pbx.get(best.peer)


def _as_trunk(peer: Peer) -> Trunk:
    """See a PBX as a destination: it gets numbers and callers as they came."""
    flow = peer.flow
    assert flow is not None  # noqa: S101
    return Trunk(
        peer.name,
        (flow,),
        f"{format_host(flow.remote_host)}:{flow.remote_port}",
        codecs=peer.codecs,
        number_format=TrunkNumberFormat(),
        trusted=peer.trusted,
        latching=peer.latching,
        srtp=peer.srtp,
    )


def _taken_by_all(trunks: Iterable[Trunk]) -> tuple[str, ...]:
    """Return the codecs that all trunks take, so that failover needs no other; those of the first if
    none is."""
    first, *others = trunks or (None,)
    if first is None:
        return ("PCMU", "PCMA", "G722", "OPUS")
    shared = tuple(name for name in first.codecs if all(name in other.codecs for other in others if other))
    return shared or first.codecs


def did_of(uri: str) -> str:
    """Return the user part of a Request-URI as it stands there, without password and parameters, or ""."""
    scheme, _, rest = uri.partition(":")
    scheme = scheme.lower()
    if scheme == "tel":
        return rest.partition(";")[0]
    if scheme not in {"sip", "sips"}:
        return ""
    userinfo, at, _ = rest.partition("@")
    return userinfo.partition(":")[0].partition(";")[0] if at else ""


def invite_spec(route: Route, hop: Hop, invite: Request, body: bytes) -> InviteSpec:
    """Write the B leg's INVITE for one hop."""
    trunk = hop.trunk
    number = route.decision.number
    user = route.user
    if not user and number is not None:
        user = format_for_trunk(number, trunk.number_format).replace("#", "%23")
    host = _printed(trunk.host)
    uri = f"sip:{user}@{host}"
    if trunk.user_phone:
        uri += ";user=phone"
    trusted = trunk.trusted and route.caller.peer.trusted
    own_identity = trunk.caller_id is not CallerIdPolicy.PASS
    headers = crossing_headers(
        invite.headers, trusted=trusted, without="P-Asserted-Identity" if own_identity else ""
    )
    caller_number = _caller_number(route, trunk)
    anonymous = wants_anonymity(invite.headers.get_all("Privacy"))
    if (
        trunk.trusted
        and caller_number
        and (own_identity or not (trusted and "P-Asserted-Identity" in invite.headers))
    ):
        headers.append(("P-Asserted-Identity", f"<sip:{caller_number}@{host}>"))
    if anonymous or not caller_number:
        from_ = _ANONYMOUS
    else:
        name = f"{quote_display_name(route.caller.name)} " if route.caller.name else ""
        from_ = f"{name}<sip:{caller_number}@{host}>"
    return InviteSpec(
        uri=uri,
        from_=from_,
        to=f"<{uri}>",
        flow=hop.flow,
        body=body,
        headers=tuple(headers),
        # Only an emergency call comes this far at 0; it gets one more hop, which ends a loop all the same.
        max_forwards=(max_forwards(invite) or 2) - 1,
    )


def contact_invite(route: Route, binding: Binding, host: str, invite: Request, body: bytes) -> InviteSpec:
    """Write the INVITE to one contact of a user; ``host`` is the gate as that phone knows it."""
    caller = route.caller
    user = route.decision.user
    number = caller.number or ("" if user is None else user.extension)
    if not number or wants_anonymity(invite.headers.get_all("Privacy")):
        from_ = _ANONYMOUS
    else:
        name = f"{quote_display_name(caller.name)} " if caller.name else ""
        from_ = f"{name}<sip:{number}@{format_host(host)}>"
    return InviteSpec(
        uri=binding.contact,
        from_=from_,
        to=f"<sip:{route.callee}@{format_host(host)}>",
        flow=binding.flow,
        body=body,
        headers=tuple(crossing_headers(invite.headers, trusted=False)),
        route=binding.path,
        max_forwards=max_forwards(invite) - 1,
    )


def _printed(host: str) -> str:
    """Return a host as it stands in a URI: a bare IPv6 address gets its brackets."""
    return format_host(host) if host.count(":") > 1 and host[0] != "[" else host


def _caller_number(route: Route, trunk: Trunk) -> str:
    if trunk.caller_id is CallerIdPolicy.FIXED:
        return trunk.fixed_caller_number
    user = route.decision.user
    if user is not None and (trunk.caller_id is CallerIdPolicy.USER or not route.caller.number):
        dressed = user.caller_number or user.extension
        return "".join(char for char in dressed if char in "+0123456789*")
    return route.caller.number


def max_forwards(invite: Request) -> int:
    """Return Max-Forwards as received; 70 when there is none (RFC 3261 §16.3 step 3, §8.1.1.6)."""
    value = invite.headers.get("Max-Forwards")
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) <= 3 else 70
