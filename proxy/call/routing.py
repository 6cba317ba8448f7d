"""Where a call goes: who called and what was decided to trunks, peers and phones (DESIGN 1.1-1.4, 1.9)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from proxy.call.config import CodeMode, DidRoute, GateConfig, Peer, Side, Trunk
from proxy.call.headers import Crossing
from proxy.cdr.record import Direction
from proxy.errors import RemoteProtocolError
from proxy.policy import CallClass, Decision
from proxy.policy.trunk_format import TrunkNumberFormat
from proxy.sip.address import NameAddr
from proxy.sip.bindings import Bindings
from proxy.sip.flow import Flow
from proxy.sip.large import LargeRequests
from proxy.sip.message import Request
from proxy.sip.reachability import networks_of
from proxy.sip.uri import format_host

__all__ = ["Caller", "Hop", "Route", "RouteTable", "as_trunk", "did_of", "pbxs_of"]

_log = logging.getLogger(__name__)


Networks = tuple[IPv4Network | IPv6Network, ...]


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
    registered: str | None = None
    """User name of whose phone is registered where a call for help comes from that nobody has proved: that
    tells who calls, and gives no right."""
    claimed: str = ""
    """What such a caller says its number is, where no phone is registered: told on, asserted by nobody."""


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

    def crossing(self, trunk: Trunk) -> Crossing:
        """Return what passes between the caller and a trunk."""
        peer = self.caller.peer
        return Crossing(
            peer.trusted and trunk.trusted,
            peer.drop_headers | trunk.drop_headers,
            peer.x_headers,
            self.emergency,
            alerts=not self.callee or peer.side is not Side.TRUNK or peer.auto_answer,
        )

    @property
    def prompts(self) -> str:
        """Folder of the user group's own recordings, or ""."""
        group = self.decision.group
        return "" if group is None else group.prompts

    @property
    def common_codecs(self) -> tuple[str, ...]:
        """Codecs for an offer of the gate's own: both sides take them, in the gate's order on the
        caller's side."""
        common = [name for name in self.caller.peer.codecs if name in self.codecs]
        order = self.codec_order
        return tuple(sorted(common, key=order.index) if order else common)

    @property
    def codec_order(self) -> tuple[str, ...]:
        """The first trunk's codecs, if their order decides; otherwise the caller's does (RFC 3264 §6.1)."""
        first = self.trunks[0] if self.trunks else None
        return first.codecs if first is not None and first.orders_codecs else ()

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

    __slots__ = ("_accounts", "_config", "_noted", "_outbound_codecs", "_pbx", "_reach", "line")

    def __init__(self, config: GateConfig) -> None:
        self._config = config
        self._outbound_codecs = _taken_by_all(config.trunks)
        self._reach = _addresses(config)
        self._noted: set[str] = set()
        self._accounts = _registered_users(config)
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
                # Behind a NAT a phone is reached by the port that it keeps open, and by no other.
                large_requests=LargeRequests.UDP,
                reliable=phones.reliable,
                digits=phones.digits,
            )
        self._pbx = {pbx.name: pbx for pbx in pbxs_of(config)}

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

    def peer_of(self, trunk: Trunk) -> Peer:
        """See a destination as a peer that calls."""
        known = next((peer for peer in self._config.peers if peer.name == trunk.name), None)
        return known or Peer(
            trunk.name,
            Side.TRUNK,
            trusted=trunk.trusted,
            latching=trunk.latching,
            srtp=trunk.srtp,
            codecs=trunk.codecs,
            drop_headers=trunk.drop_headers,
            allow_refer=trunk.allow_refer,
        )

    def reach_of(self, name: str) -> Networks:
        """Return the addresses that are a peer's or trunk's own: there it may direct the gate's requests."""
        return self._reach.get(name, ())

    def note_out_of_reach(self, name: str, host: str) -> None:
        """Say once that a peer or trunk names an address as the way to itself which is not its own."""
        if self._reach.get(name) and name not in self._noted:
            self._noted.add(name)
            _log.warning(
                "%s wants requests within its calls at %s, where they are not sent: if that address "
                "is its own, add it to its networks",
                name,
                host,
            )

    def called(self, invite: Request, trunk: str) -> str:
        """Return the number that a trunk calls, or "".

        A registrar sends calls to the Contact that was registered (RFC 3261 §16.5), so the Request-URI is
        the account, and the number stands in P-Called-Party-ID (RFC 7315 §4.2) or else in To.
        """
        did = did_of(invite.uri)
        if did and did in self._accounts.get(trunk, ()):
            return _party_called(invite) or did_of(invite.to.uri_text) or did
        return did

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


def pbxs_of(config: GateConfig) -> list[Trunk]:
    """Return the PBXs that calls go to, as destinations."""
    return [as_trunk(peer) for peer in config.peers if peer.side is Side.PBX and peer.flow]


def as_trunk(peer: Peer) -> Trunk:
    """See a PBX as a destination: it gets numbers and callers as they came."""
    flow = peer.flow
    assert flow is not None  # noqa: S101
    return Trunk(
        peer.name,
        peer.flows,
        peer.host or f"{format_host(flow.remote_host)}:{flow.remote_port}",
        shares=peer.shares,
        codecs=peer.codecs,
        number_format=TrunkNumberFormat(),
        trusted=peer.trusted,
        latching=peer.latching,
        srtp=peer.srtp,
        drop_headers=peer.drop_headers,
        large_requests=peer.large_requests,
        reliable=peer.reliable,
        digits=peer.digits,
        probe_interval=peer.probe_interval,
    )


def _addresses(config: GateConfig) -> dict[str, Networks]:
    """Return what every peer and trunk has for addresses, by name."""
    found: dict[str, Networks] = {}
    for peer in config.peers:
        found[peer.name] = (*peer.networks, *networks_of(peer.flows))
    for trunk in config.trunks:
        found[trunk.name] = (*found.get(trunk.name, ()), *networks_of(trunk.flows))
    return found


def _registered_users(config: GateConfig) -> dict[str, frozenset[str]]:
    """Return the users that are no number in calls of a trunk, by its name: the accounts that are registered
    there, those of other trunks to the same addresses included, since by its address alone a call is one's or
    the other's. A DID route for the whole of an account makes it a number like any other."""
    named = {route.prefix for route in config.did_routes}
    users: dict[str, set[str]] = {}
    for trunk in config.trunks:
        if trunk.register and trunk.account is not None and trunk.account.user not in named:
            for flow in trunk.flows:
                users.setdefault(flow.remote_host, set()).add(trunk.account.user)
    return {
        trunk.name: frozenset().union(*(users.get(flow.remote_host, ()) for flow in trunk.flows))
        for trunk in config.trunks
    }


def _taken_by_all(trunks: Iterable[Trunk]) -> tuple[str, ...]:
    """Return the codecs that all trunks take, so that failover needs no other; those of the first if
    none is."""
    first, *others = trunks or (None,)
    if first is None:
        return ("PCMU", "PCMA", "G722", "OPUS")
    shared = tuple(name for name in first.codecs if all(name in other.codecs for other in others if other))
    return shared or first.codecs


def _party_called(invite: Request) -> str:
    """Return the user part of P-Called-Party-ID, "" where it is missing or broken."""
    value = invite.headers.get("P-Called-Party-ID")
    if value is None:
        return ""
    try:
        return did_of(NameAddr.parse(value).uri_text)
    except RemoteProtocolError:
        return ""


def did_of(uri: str) -> str:
    """Return the user part of a URI as it stands there, without password and parameters, or ""."""
    scheme, _, rest = uri.partition(":")
    scheme = scheme.lower()
    if scheme == "tel":
        return rest.partition(";")[0]
    if scheme not in {"sip", "sips"}:
        return ""
    userinfo, at, _ = rest.partition("@")
    return userinfo.partition(":")[0].partition(";")[0] if at else ""
