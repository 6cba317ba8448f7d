"""Dialogs: the peer-to-peer relation between two UAs (RFC 3261 §12)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, NamedTuple

from proxy.errors import RemoteProtocolError
from proxy.sip.address import NameAddr
from proxy.sip.flow import DEFAULT_PORTS, Flow, ListenPoint, is_address
from proxy.sip.large import LargeRequests, Outgoing
from proxy.sip.reachability import is_within
from proxy.sip.routing import Lookup, Target, nothing_known
from proxy.sip.uri import Uri

if TYPE_CHECKING:
    from proxy.sip.accepted import AwaitedAck
    from proxy.sip.invite_client import InviteClientTransaction
    from proxy.sip.invite_server import InviteServerTransaction
    from proxy.sip.message import Request
    from proxy.sip.reliable import ReliableResponses

__all__ = [
    "TARGET_REFRESH",
    "AwaitedNotify",
    "Dialog",
    "DialogKey",
    "DialogState",
    "DialogTable",
    "listener_for",
    "route",
]

TARGET_REFRESH = frozenset({"INVITE", "NOTIFY", "REFER", "SUBSCRIBE", "UPDATE"})
"""Requests whose Contact, and that of their 2xx, replaces the remote target (§12.2; RFC 3311 §5, RFC 3515
§2.2, RFC 6665 §3.1, §3.2)."""

_OF_SUBSCRIPTIONS = frozenset({"NOTIFY", "SUBSCRIBE"})

DialogKey = tuple[str, str, str]
"""Call-ID, local tag, remote tag; a peer of RFC 2543 has the tag "" (§12.1.1)."""


class DialogState(enum.Enum):
    """States of a dialog (RFC 3261 §12)."""

    EARLY = "Early"
    CONFIRMED = "Confirmed"
    TERMINATED = "Terminated"
    """A BYE was sent or received; the dialog is known until the BYE has its final response, and the last
    subscription that shares it has ended."""


class Dialog:
    """State of one dialog. The endpoint alone changes it, except for ``owner``, ``symmetric``, ``reach`` and
    ``large``."""

    __slots__ = (
        "_failed",
        "_named",
        "_next_hop",
        "ack",
        "ack_due",
        "ack_repeats",
        "awaited_ack",
        "call_id",
        "call_over",
        "contact_user",
        "flow",
        "for_calls",
        "further",
        "invite_client",
        "invite_server",
        "large",
        "local",
        "local_cseq",
        "local_tag",
        "out_of_reach",
        "owner",
        "provisionals",
        "reach",
        "remote",
        "remote_cseq",
        "remote_tag",
        "remote_target",
        "request_uri",
        "route_lines",
        "route_set",
        "rseq",
        "state",
        "subscriptions",
        "symmetric",
        "uac",
    )

    def __init__(
        self,
        *,
        call_id: str,
        local: str,
        local_tag: str,
        remote: str,
        remote_tag: str,
        remote_target: str,
        route_set: tuple[str, ...],
        flow: Flow,
        local_cseq: int = 0,
        remote_cseq: int | None = None,
        uac: bool = False,
        for_calls: bool = True,
        owner: object = None,
    ) -> None:
        self.state = DialogState.EARLY
        self.for_calls = for_calls
        """An INVITE made it; otherwise a SUBSCRIBE did, and it knows no BYE (RFC 5057 §4.1)."""
        self.call_over = False
        """The BYE has its final response."""
        self.subscriptions = 0
        """So many share it with the call (`Endpoint.share`)."""
        self.owner = owner
        """Whoever the TU put here: events find their leg by it."""
        self.symmetric = False
        """Set by the TU for peers behind NAT: requests go back the way the peer's messages came (`flow`)."""
        self.reach: tuple[IPv4Network | IPv6Network, ...] | None = None
        """Set by the TU: where Contact and routes may lead besides where the peer's messages come from. No
        peer sends the gate to a third party. None: anywhere."""
        self.out_of_reach = ""
        """Where the peer's Contact or route led, but may not lead."""
        self.large = LargeRequests.UDP
        """What becomes of requests that are too large for a datagram. Set by the TU, or by its INVITE."""
        self.contact_user = ""
        """User part of our Contact as our INVITE said it; "": the gate's usual one. It stays what it was: a
        refresh that changed it would be a refresh of the target (§12.2.1.1)."""
        self.uac = uac
        """Whether our INVITE made it."""
        self.call_id = call_id
        self.local = local
        """Our side of From and To: name-addr with tag."""
        self.local_tag = local_tag
        self.remote = remote
        """The peer's side of From and To, as received."""
        self.remote_tag = remote_tag
        self.local_cseq = local_cseq
        self.remote_cseq = remote_cseq
        self.flow = flow
        """The way the peer's last request came, or our INVITE went."""
        self.invite_client: InviteClientTransaction | None = None
        """Our INVITE without a final response yet."""
        self.invite_server: InviteServerTransaction | None = None
        """The peer's INVITE without a final response yet."""
        self.awaited_ack: AwaitedAck | None = None
        """Our 2xx that waits for its ACK."""
        self.provisionals: ReliableResponses | None = None
        """Our reliable provisional responses to the peer's INVITE (RFC 3262 §3)."""
        self.rseq: int | None = None
        """RSeq of the peer's last reliable provisional response that was taken (RFC 3262 §4)."""
        self.ack_due: int | None = None
        """CSeq number of our INVITE whose 2xx the TU has to ACK."""
        self.ack: Outgoing | None = None
        """Our latest ACK of a 2xx, which answers the 2xx when it is repeated."""
        self.ack_repeats = 0
        """How often it was."""
        self.set_route(remote_target, route_set)

    @property
    def key(self) -> DialogKey:
        """What in-dialog requests are matched by (§12.2.2)."""
        return (self.call_id, self.local_tag, self.remote_tag)

    @property
    def invite_pending(self) -> bool:
        """Whether a new INVITE of ours must wait: one is under way in either direction (§14.1)."""
        return (
            self.invite_client is not None or self.invite_server is not None or self.awaited_ack is not None
        )

    @property
    def ends_call(self) -> bool:
        """Whether a BYE is under way."""
        return self.state is DialogState.TERMINATED and not self.call_over

    def takes(self, method: str) -> bool:
        """Tell whether a request of either side still means something.

        After the BYE only those of a subscription that shares the dialog do (RFC 5057 §4.1).
        """
        if self.state is not DialogState.TERMINATED:
            return True
        return bool(self.subscriptions) and method in _OF_SUBSCRIPTIONS

    @property
    def withholds_success(self) -> bool:
        """Whether the peer's INVITE may get no 2xx yet: a description waits for its PRACK (RFC 3262 §3)."""
        return self.provisionals is not None and self.provisionals.withholds_success

    def set_route(self, remote_target: str, route_set: tuple[str, ...]) -> None:
        """Fix where requests go (§12.2.1.1)."""
        self.remote_target = remote_target
        """URI of the peer's Contact."""
        self.route_set = route_set
        """Route values, nearest first."""
        self.request_uri, self.route_lines = route(remote_target, route_set)
        self._next_hop: Flow | None = None
        self._named: Target | None = None
        """Where a name led last: requests keep to it as long as DNS names it and it works."""
        self._failed: Target | None = None
        """Where a name led, and a request did not arrive."""
        self.further: tuple[Target, ...] = ()
        """Where else the name leads that the latest `next_hop` is one address of (RFC 3263 §4.3)."""

    def set_flow(self, flow: Flow) -> None:
        """Note the way the peer's last request came."""
        self.flow = flow
        self._next_hop = None
        self.further = ()

    def refresh_target(self, remote_target: str) -> None:
        """Take the Contact of a target refresh (§12.2.1.2, §12.2.2); the route set stays."""
        if remote_target != self.remote_target:
            self.set_route(remote_target, self.route_set)

    def next_hop(self, listen_points: Sequence[ListenPoint], lookup: Lookup = nothing_known) -> Flow:
        """Return the flow that requests of this dialog take (§8.1.2, §12.2.1.1, §18.1.1; RFC 3263 §4).

        The way the peer came is the way back where its Contact and routes give no better one, nor one that it
        may give, and as long as ``lookup`` does not know a name.
        """
        if self.symmetric:
            return self.flow
        if self._next_hop is not None:
            return self._next_hop
        flow = self.flow
        uri = _first_hop(self.remote_target, self.route_set)
        if uri is None or not uri.is_sip:
            return self._settled(flow)
        said = "TLS" if uri.scheme == "sips" else (uri.params.get("transport") or "").upper()
        if "gr" in uri.params and any(point.is_at(uri.host) for point in listen_points):
            # A phone may give the GRUU that it has here as its Contact (RFC 5627 §4.4): it is no way to it. A
            # GRUU has the host of an address of record, without the port that the gate may listen on.
            return self._settled(flow)
        if not is_address(uri.host):
            return self._by_name(uri, said, listen_points, lookup)
        if flow.connection and not self.route_set:
            # The peer itself is at the other end of an open connection, often behind NAT: use it.
            return self._settled(flow)
        transport = said or flow.transport
        hop = Target(transport, uri.host, uri.port or DEFAULT_PORTS.get(transport, 5060))
        if not self._may_reach(hop.host):
            self.out_of_reach = hop.host
            return self._settled(flow)
        return self._settled(self._flow_to(hop, listen_points))

    def _settled(self, flow: Flow) -> Flow:
        self._next_hop = flow
        return flow

    def _by_name(self, uri: Uri, said: str, listen_points: Sequence[ListenPoint], lookup: Lookup) -> Flow:
        """Return the flow to a name, which is asked for again with each request: DNS may know other addresses
        by then. That where the last request went is first among them, then those of the peer's own transport,
        and of these the one that the peer's messages come from: who speaks lives.
        """
        flow = self.flow
        self.further = ()
        if self.reach == () or (said and said not in DEFAULT_PORTS):
            return self._settled(flow)  # whatever it is, it may be no other address
        found = lookup(uri.host, uri.port, said, flow.transport)
        if flow.connection and not self.route_set:
            # As above; the name was asked for all the same: the connection may be lost.
            return flow
        usable = [target for target in found if self._may_reach(target.host)]
        if usable:
            usable.sort(key=self._merit)
            self._named, *further = usable
            self.further = tuple(further)
        elif found:
            self.out_of_reach = found[0].host
            self._named = None
        return flow if self._named is None else self._flow_to(self._named, listen_points)

    def _merit(self, target: Target) -> tuple[bool, ...]:
        flow = self.flow
        return (
            target == self._failed,
            target != self._named,
            target.transport != flow.transport,
            (target.host, target.port) != (flow.remote_host, flow.remote_port),
        )

    def not_reached(self, flow: Flow) -> None:
        """Note that a request has not arrived there: what comes after it goes elsewhere, if its name leads to
        more (RFC 3263 §4.3)."""
        named = self._named
        if named is not None and named[:3] == (flow.transport, flow.remote_host, flow.remote_port):
            self._failed = named

    def elsewhere(
        self, targets: tuple[Target, ...], listen_points: Sequence[ListenPoint]
    ) -> tuple[Flow, tuple[Target, ...]] | None:
        """Return the flow to the first of these addresses that the gate has a way to, and those behind it.
        Requests keep to that one from now on."""
        for used, target in enumerate(targets, 1):
            flow = self._flow_to(target, listen_points)
            if flow[:2] == target[:2]:
                self._named = target
                return flow, targets[used:]
        return None

    def _may_reach(self, host: str) -> bool:
        return self.reach is None or host == self.flow.remote_host or is_within(host, self.reach)

    def _flow_to(self, hop: Target, listen_points: Sequence[ListenPoint]) -> Flow:
        flow = self.flow
        same = hop.transport == flow.transport and hop.host == flow.remote_host
        if same and (hop.port == flow.remote_port or flow.connection):
            return flow
        if any(point.port == hop.port and point.is_at(hop.host) for point in listen_points):
            return flow  # to itself is no way to the peer
        listener = listener_for(hop.transport, hop.host, flow, listen_points)
        return flow if listener is None else Flow(hop.transport, hop.host, hop.port, listener)


class AwaitedNotify(NamedTuple):
    """What our SUBSCRIBE gives to the dialog that the first NOTIFY makes."""

    local: str
    """From of the SUBSCRIBE, with its tag."""
    local_tag: str
    cseq: int
    owner: object


class DialogTable:
    """Every dialog by its key, and those whose peer came over a connection that may be lost."""

    __slots__ = ("_awaited", "_by_key", "_on_connection")

    def __init__(self) -> None:
        self._by_key: dict[DialogKey, Dialog] = {}
        self._awaited: dict[tuple[str, str], AwaitedNotify] = {}
        self._on_connection: dict[int, dict[Dialog, None]] = {}

    def __len__(self) -> int:
        """Return the number of dialogs, those that wait for the NOTIFY which makes them included."""
        return len(self._by_key) + len(self._awaited)

    def await_notify(self, call_id: str, awaited: AwaitedNotify) -> None:
        """Let the first NOTIFY to our SUBSCRIBE make its dialog (RFC 6665 §4.4.1)."""
        self._awaited[call_id, awaited.local_tag] = awaited

    def no_notify(self, call_id: str, local_tag: str) -> None:
        """Await it no longer."""
        self._awaited.pop((call_id, local_tag), None)

    def notified(self, notify: Request, flow: Flow) -> Dialog | None:
        """Make the dialog of a NOTIFY that was awaited; None for any other one.

        A second one, of another fork, is not awaited: it gets 481 and ends there (RFC 6665 §4.1.2.4).
        """
        awaited = self._awaited.pop((notify.call_id, notify.to.tag or ""), None)
        if awaited is None:
            return None
        contact = notify.contact
        dialog = Dialog(
            call_id=notify.call_id,
            local=awaited.local,
            local_tag=awaited.local_tag,
            remote=notify.headers.get("From") or "",
            remote_tag=notify.from_.tag or "",
            remote_target=notify.from_.uri_text if contact is None else contact.uri_text,
            route_set=tuple(notify.headers.values("Record-Route")),
            flow=flow,
            local_cseq=awaited.cseq,
            for_calls=False,
            owner=awaited.owner,
        )
        dialog.state = DialogState.CONFIRMED
        self.add(dialog)
        return dialog

    def get(self, key: DialogKey) -> Dialog | None:
        """Find the dialog of a request or response."""
        return self._by_key.get(key)

    def add(self, dialog: Dialog) -> None:
        """Enter a dialog."""
        self._by_key[dialog.key] = dialog
        self._watch(dialog)

    def remove(self, dialog: Dialog) -> bool:
        """Take a dialog out; returns whether it was in."""
        dialog.state = DialogState.TERMINATED
        if self._by_key.get(dialog.key) is not dialog:
            return False
        del self._by_key[dialog.key]
        self._unwatch(dialog)
        return True

    def end_call(self, dialog: Dialog) -> bool:
        """End the call of a dialog; returns whether the dialog is gone: a subscription may share it."""
        dialog.state = DialogState.TERMINATED
        dialog.call_over = True
        return not dialog.subscriptions and self.remove(dialog)

    def moved(self, dialog: Dialog, flow: Flow) -> None:
        """Note that the peer's messages now come over another flow."""
        if flow != dialog.flow:
            self._unwatch(dialog)
            dialog.set_flow(flow)
            self._watch(dialog)

    def uses(self, connection: int) -> bool:
        """Say whether the peer of some dialog is reached over this connection."""
        return connection in self._on_connection

    def connection_lost(self, connection: int) -> None:
        """Let every dialog of a connection go on without it: its next request opens a new one (§18.1.1)."""
        for dialog in self._on_connection.pop(connection, ()):
            dialog.set_flow(dialog.flow._replace(connection=0))

    def _watch(self, dialog: Dialog) -> None:
        if dialog.flow.connection:
            self._on_connection.setdefault(dialog.flow.connection, {})[dialog] = None

    def _unwatch(self, dialog: Dialog) -> None:
        watched = self._on_connection.get(dialog.flow.connection)
        if watched is not None:
            watched.pop(dialog, None)
            if not watched:
                del self._on_connection[dialog.flow.connection]


def route(target: str, route_set: tuple[str, ...]) -> tuple[str, str]:
    """Return Request-URI and Route lines for a target and a route set (RFC 3261 §12.2.1.1).

    A first hop without ``lr`` is a strict router (RFC 2543): it gets itself as the Request-URI, and the
    target goes to the end of the route.
    """
    if not route_set:
        return target, ""
    first = _first_hop(target, route_set)
    if first is None or "lr" in first.params:
        return target, "".join([f"Route: {value}\r\n" for value in route_set])
    # §19.1.1: a Request-URI has neither method parameter nor headers.
    uri = NameAddr.parse(route_set[0]).uri_text.partition("?")[0]
    return uri, "".join([f"Route: {value}\r\n" for value in (*route_set[1:], f"<{target}>")])


def _first_hop(target: str, route_set: tuple[str, ...]) -> Uri | None:
    try:
        return NameAddr.parse(route_set[0]).uri if route_set else Uri.parse(target)
    except RemoteProtocolError:
        return None


def listener_for(transport: str, host: str, flow: Flow, listen_points: Sequence[ListenPoint]) -> int | None:
    """Choose the listen point of this transport and IP family: the one the peer came to if it fits, else one
    at the same address, else any."""
    family = ":" in host
    if transport == flow.transport and family == (":" in flow.remote_host):
        return flow.listener
    fitting = [
        index
        for index, point in enumerate(listen_points)
        if point.transport == transport and (":" in point.host) == family
    ]
    beside = [index for index in fitting if listen_points[index].own == listen_points[flow.listener].own]
    return next(iter((*beside, *fitting)), None)
