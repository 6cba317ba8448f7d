"""What the four transaction machines share: the tables they are found in and the way out of the endpoint.

RFC 3261 §17.1.3 (matching responses), §17.2.3 (matching requests, RFC 2543 elements included).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from proxy.sip.flow import DEFAULT_PORTS, Flow, Transmit, is_sendable
from proxy.sip.large import PeersWithoutTcp
from proxy.sip.timers import TimerHeap

if TYPE_CHECKING:
    from proxy.sip.config import EndpointConfig
    from proxy.sip.invite_client import InviteClientTransaction
    from proxy.sip.invite_server import InviteServerTransaction
    from proxy.sip.message import Request
    from proxy.sip.non_invite_client import NonInviteClientTransaction
    from proxy.sip.non_invite_server import NonInviteServerTransaction

    ClientTransaction: TypeAlias = InviteClientTransaction | NonInviteClientTransaction
    ServerTransaction: TypeAlias = InviteServerTransaction | NonInviteServerTransaction

__all__ = ["ClientUser", "MergeKey", "ServerKey", "ServerUser", "TransactionLayer", "peer_of", "server_key"]

ServerKey = tuple[str, ...]
"""What a request is matched by (`server_key`)."""

MergeKey = tuple[str, str, str]
"""Call-ID, From tag and CSeq of a request without To tag (RFC 3261 §8.2.2.2)."""


class ClientUser(Protocol):
    """Who hears of the ends of client transactions: the UAC core."""

    def provisional_received(self, transaction: InviteClientTransaction, now: float) -> None:
        """The first provisional response to an INVITE came: a CANCEL that was held back may go (§9.1)."""
        ...

    def client_timed_out(self, transaction: ClientTransaction, now: float) -> None:
        """No final response came in time; the transaction is terminated."""
        ...

    def client_failed(self, transaction: ClientTransaction, now: float) -> None:
        """The transport failed; the transaction is terminated."""
        ...

    def invite_settled(self, transaction: InviteClientTransaction) -> None:
        """Timer M: an accepted INVITE can get no further 2xx."""
        ...


class ServerUser(Protocol):
    """Who hears of the ends of server transactions: the UAS core."""

    def send_trying(self, transaction: InviteServerTransaction, now: float) -> None:
        """The TU has not answered an INVITE in time: 100 (Trying) is due (§17.2.1)."""
        ...

    def server_failed(self, transaction: ServerTransaction, now: float) -> None:
        """No ACK for a refusal (Timer H), or the transport failed; the transaction is terminated."""
        ...


class TransactionLayer:
    """Tables, timers and the outgoing queue of one endpoint."""

    __slots__ = (
        "client_user",
        "clients",
        "config",
        "merged",
        "on_connection",
        "pending",
        "server_user",
        "servers",
        "timers",
        "transmits",
        "withdrawn",
        "without_tcp",
    )

    client_user: ClientUser
    server_user: ServerUser

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.timers = TimerHeap()
        self.transmits: list[Transmit] = []
        self.withdrawn: list[Transmit] = []
        """What was sent over connections that may not be open yet, and has gone out another way since."""
        self.without_tcp = PeersWithoutTcp()
        self.clients: dict[tuple[str, str], ClientTransaction] = {}
        """By branch and CSeq method (§17.1.3). Our branches are unguessable, so sent-by adds nothing."""
        self.servers: dict[ServerKey, ServerTransaction] = {}
        self.merged: dict[MergeKey, ServerTransaction] = {}
        """Requests without To tag by Call-ID, From tag and CSeq (§8.2.2.2)."""
        self.pending: dict[tuple[str, str, int, int], dict[ClientTransaction, None]] = {}
        """Client transactions without a final response by the peer they went to, for transport errors."""
        self.on_connection: dict[int, dict[ServerTransaction, None]] = {}
        """Server transactions over reliable transports by the connection of their responses (§18.2.2)."""

    def send(self, data: bytes, flow: Flow) -> None:
        """Queue a message, unless nobody may be sent anything there."""
        if flow.remote_port and is_sendable(flow.remote_host):
            self.transmits.append(Transmit(data, flow))

    def add_client(self, transaction: ClientTransaction) -> None:
        """Enter a client transaction that is about to send its request."""
        self.clients[transaction.branch, transaction.method] = transaction
        self.pending.setdefault(peer_of(transaction.flow), {})[transaction] = None

    def client_falls_back(self, transaction: ClientTransaction, data: bytes, flow: Flow, now: float) -> None:
        """Let a request that was too large for a datagram go as one all the same (§18.1.1).

        ``data`` is what has not arrived: a connection that opens late must not bring the request once more.
        """
        self.withdrawn.append(Transmit(data, transaction.flow))
        self.without_tcp.add(transaction.flow, now)
        self.client_answered(transaction)
        transaction.flow = flow
        self.pending.setdefault(peer_of(flow), {})[transaction] = None

    def client_answered(self, transaction: ClientTransaction) -> None:
        """Note that a final response came: transport errors no longer matter."""
        peer = peer_of(transaction.flow)
        waiting = self.pending.get(peer)
        if waiting is not None:
            waiting.pop(transaction, None)
            if not waiting:
                del self.pending[peer]

    def remove_client(self, transaction: ClientTransaction) -> None:
        """Forget a client transaction that is terminated."""
        self.timers.stop(transaction)
        self.client_answered(transaction)
        self.clients.pop((transaction.branch, transaction.method), None)

    def add_server(self, transaction: ServerTransaction) -> None:
        """Enter a new server transaction."""
        self.servers[transaction.key] = transaction
        if transaction.merge_key is not None:
            self.merged[transaction.merge_key] = transaction
        if transaction.flow.reliable:
            self._watch(transaction)

    def remove_server(self, transaction: ServerTransaction) -> None:
        """Forget a server transaction that is terminated."""
        self.timers.stop(transaction)
        self.servers.pop(transaction.key, None)
        if transaction.merge_key is not None and self.merged.get(transaction.merge_key) is transaction:
            del self.merged[transaction.merge_key]
        if transaction.flow.reliable:
            self._unwatch(transaction)

    def reroute_server(self, transaction: ServerTransaction) -> None:
        """Let the responses of a lost connection go over a new one (§18.2.2).

        It is opened to where the request came from, at the port of its Via.
        """
        self._unwatch(transaction)
        lines, flow = transaction.lines, transaction.flow
        port = lines.via_port or DEFAULT_PORTS[flow.transport]
        transaction.flow = Flow(flow.transport, lines.source.remote_host, port, flow.listener)
        self._watch(transaction)

    def _watch(self, transaction: ServerTransaction) -> None:
        self.on_connection.setdefault(transaction.flow.connection, {})[transaction] = None

    def _unwatch(self, transaction: ServerTransaction) -> None:
        connection = transaction.flow.connection
        watched = self.on_connection[connection]
        del watched[transaction]
        if not watched:
            del self.on_connection[connection]

    @property
    def idle(self) -> bool:
        """Whether no transaction and no timer is left."""
        return not (
            self.clients
            or self.servers
            or self.merged
            or self.pending
            or self.on_connection
            or len(self.timers)
        )


def peer_of(flow: Flow) -> tuple[str, str, int, int]:
    """Return a flow without its connection: requests that await a connection have none yet."""
    return flow[:4]


def server_key(request: Request, method: str, to_tag: str) -> ServerKey:
    """Return what a request is matched by (RFC 3261 §17.2.3); an ACK is looked up with ``method`` INVITE.

    A branch without the magic cookie comes from an element of RFC 2543: then Request-URI, tags, Call-ID,
    CSeq number and the whole top Via must be equal. ``to_tag`` counts only there: an ACK carries the one of
    our response.
    """
    via = request.top_via
    if via.has_unique_branch:
        return (via.params["branch"] or "", via.host.lower(), str(via.port or ""), method)
    cseq = request.cseq
    from_tag = request.from_.tag or ""
    return (request.uri, to_tag, from_tag, request.call_id, str(cseq.number), str(via), method)
