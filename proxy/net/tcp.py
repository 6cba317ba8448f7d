"""SIP over TCP and TLS: the connections of all listeners, found by number or by the peer they lead to.

RFC 3261 §18, RFC 5626 §3.5.1 (keep-alive), RFC 5923 (connection reuse). A `Flow` with a connection number
means that connection and no other; number 0 means "one that leads there, or open one". Whatever a peer
does, a connection costs a bounded amount: bytes that wait to be sent, an unfinished handshake or message,
time without traffic, connections per source and in all. Where all places are taken, a new connection gets
that of the oldest one which nobody uses: who only fills places shuts nobody out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from proxy.errors import RemoteProtocolError
from proxy.net.connection import Connection
from proxy.net.crowd import Crowd
from proxy.net.intake import Intake
from proxy.net.sparse_log import SparseLog
from proxy.net.tls import TlsContexts, TlsStream
from proxy.sip.flow import DEFAULT_PORTS, Flow
from proxy.sip.message import Request
from proxy.sip.parser import MAX_MESSAGE_SIZE, parse_message
from proxy.sip.source import WIDER, counted_as

__all__ = ["TcpConnections", "TcpLimits"]

logger = logging.getLogger(__name__)

SWEEP_INTERVAL = 1.0
"""Seconds between two looks at time-outs: one timer for all connections."""
MAX_LEARNED_NAMES = 10_000

_Peer = tuple[int, str, int]
"""Listener, address and port."""


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """What connections may cost. Times are in seconds."""

    connections: int = 2_000
    """In all. One more closes the oldest that is of no use to anybody, and is refused where there is none.
    Trusted sources are not counted out: strangers cannot lock the PBX or the trunk out."""
    connections_per_source: int = 50
    """From one IP address that is not trusted; from one of which phones are registered, as a whole branch's
    may be behind a NAT, and from one IPv6 network of /64 `WIDER` times as many."""
    idle: float = 600.0
    """Without a byte in either direction a connection that no phone and no call uses is closed; keep-alives
    count as traffic."""
    message: float = 10.0
    """A message that has begun must be whole by then."""
    connect: float = 4.0
    """An attempt to connect, its TLS handshake included, fails after so long."""
    unsent: int = 1_000_000
    """Bytes waiting to be sent to a peer that does not read; beyond this the connection is cut."""
    unsent_of_strangers: int = 64_000
    """The same on a connection that a source which is not trusted has opened and no phone or call uses."""
    handshake: float = 5.0
    """A TLS handshake that a peer began must be over by then."""
    message_size: int = MAX_MESSAGE_SIZE
    """Octets of one message; one that says it is longer gets 513 and ends the connection."""
    handshakes: int = 200
    """Handshakes under way at once with sources that are not trusted; one more ends the oldest."""


class TcpConnections:
    """The table of connections.

    ``crowd`` gets each whole message, ``on_failure(flow)`` each flow that no longer works;
    ``is_trusted(host)`` says whether an address belongs to a peer or trunk of the configuration,
    ``is_in_use(flow)`` whether a stranger's connection is a phone's or a call's, so that it keeps its place.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        crowd: Crowd,
        on_failure: Callable[[Flow], None],
        *,
        is_trusted: Callable[[str], bool] = lambda _host: False,
        is_in_use: Callable[[Flow], bool] = lambda _flow: False,
        limits: TcpLimits = TcpLimits(),
        tls: TlsContexts | None = None,
    ) -> None:
        self.limits = limits
        self.tls = tls
        """Needed before a TLS listener is opened."""
        self.tls_names: Mapping[tuple[str, int], str] = {}
        """What the certificate at an address and port must name: the configured destinations."""
        self.refused = 0
        self.displaced = 0
        self.messages_out = 0
        self.handshakes = 0
        self.failed_handshakes = 0
        self._strangers = SparseLog(logger, loop.time)
        self.intake = Intake(loop, crowd, self._strangers, meet=self._decide_alias, say=self._say)
        self._loop = loop
        self._on_failure = on_failure
        self._is_trusted = is_trusted
        self._is_known = crowd.is_known
        self._is_in_use = is_in_use
        self._servers: list[asyncio.Server] = []
        self._local_hosts: dict[int, str] = {}
        self._tls_listeners: set[int] = set()
        self._by_number: dict[int, Connection] = {}
        self._by_peer: dict[_Peer, Connection] = {}
        self._opening: dict[_Peer, asyncio.Task[None]] = {}
        self._waiting: dict[_Peer, list[bytes]] = {}
        self._learned_names: dict[tuple[str, int], str] = {}
        self._sources: Counter[str] = Counter()
        """Connections of each address, and of each network that counts like one."""
        self._unproven: dict[int, Connection] = {}
        """Accepted from strangers, oldest first, as far as not known to be in use."""
        self._shaking: dict[int, Connection] = {}
        """Those of them whose TLS handshake is under way."""
        self._last_number = 0
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._by_number)

    async def listen(self, listener: int, address: tuple[str, int], *, tls: bool = False) -> tuple[str, int]:
        """Accept connections at ``address``; returns what was bound."""
        server = await self._loop.create_server(
            partial(self._accepted, listener), address[0], address[1], reuse_address=True, backlog=512
        )
        self._servers.append(server)
        self._local_hosts[listener] = address[0]
        if tls:
            self._tls_listeners.add(listener)
        bound = server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def start(self) -> None:
        """Accept connections at every address that was bound."""
        for server in self._servers:
            await server.start_serving()
        self._sweep = self._loop.call_later(SWEEP_INTERVAL, self._swept)

    async def close(self) -> None:
        """Close every listener and connection."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for server in self._servers:
            server.close()
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        for connection in list(self._by_number.values()):
            connection.abort()
        await asyncio.sleep(0)
        self._servers.clear()

    def learn_name(self, host: str, port: int, name: str) -> None:
        """Note the name that a peer's URI gave for an address; configured names go before it."""
        if len(self._learned_names) >= MAX_LEARNED_NAMES:
            self._learned_names.clear()
        self._learned_names[host, port] = name

    # Messages out -------------------------------------------------------------------------------------------

    def send(self, data: bytes, flow: Flow) -> bool:
        """Send one message; False when the connection that the flow names is gone."""
        if flow.connection:
            connection = self._by_number.get(flow.connection)
            return connection is not None and self._write(connection, data)
        key = (flow.listener, flow.remote_host, flow.remote_port)
        connection = self._by_peer.get(key)
        if connection is not None and self._leads_to(connection, flow):
            return self._write(connection, data)
        waiting = self._waiting.setdefault(key, [])
        if sum(map(len, waiting)) + len(data) > self.limits.unsent:
            return False
        waiting.append(data)
        if key not in self._opening:
            self._opening[key] = self._loop.create_task(
                self._open(key, flow), name=f"connect {flow.remote_host}"
            )
        return True

    def withdraw(self, data: bytes, flow: Flow) -> None:
        """Take a message back that still waits for its connection."""
        waiting = self._waiting.get((flow.listener, flow.remote_host, flow.remote_port), [])
        if data in waiting:
            waiting.remove(data)

    def _leads_to(self, connection: Connection, flow: Flow) -> bool:
        """Say whether an open connection may be used for a destination (RFC 5922 §7.3): another name may
        share its address.
        """
        if connection.tls is None or self.tls is None:
            return True
        name = self._name_of(flow.remote_host, flow.remote_port)
        if name is None:
            return True
        certified = () if connection.flow is None else connection.flow.certified
        return self.tls.vouches_for(certified, name)

    def _name_of(self, host: str, port: int) -> str | None:
        return self.tls_names.get((host, port)) or self._learned_names.get((host, port))

    async def _open(self, key: _Peer, flow: Flow) -> None:
        wanted = flow._replace(connection=0, certified=())
        local = self._local_hosts.get(flow.listener)
        connection: Connection | None = None
        try:
            connection = Connection(
                self, flow.listener, wanted, self._client_stream(flow), max_message=self.limits.message_size
            )
            ready = connection.ready = self._loop.create_future()
            async with asyncio.timeout(self.limits.connect):
                await self._loop.create_connection(
                    partial(_same, connection),
                    flow.remote_host,
                    flow.remote_port,
                    local_addr=(local, 0) if local else None,
                )
                await ready
        except (OSError, TimeoutError, RemoteProtocolError) as error:
            logger.warning(
                "cannot connect: %s",
                error or "time-out",
                extra={"peer": flow.source},
            )
            self._waiting.pop(key, None)
            self._on_failure(wanted)
        finally:
            if connection is not None and not connection.is_ready:
                connection.abort()
            self._opening.pop(key, None)
            self._waiting.pop(key, None)

    def _client_stream(self, flow: Flow) -> TlsStream | None:
        if flow.listener not in self._tls_listeners or self.tls is None:
            return None
        return self.tls.connect(self._name_of(flow.remote_host, flow.remote_port) or flow.remote_host)

    def _write(self, connection: Connection, data: bytes) -> bool:
        sent = self._say(connection, data)
        self.messages_out += sent
        return sent

    def _say(self, connection: Connection, data: bytes) -> bool:
        if not connection.write(data):
            return False
        connection.last_traffic = self._loop.time()
        self._bound_unsent(connection)
        return True

    def _bound_unsent(self, connection: Connection) -> None:
        unsent, limits = connection.unsent, self.limits
        if unsent > limits.unsent or (unsent > limits.unsent_of_strangers and self._is_of_no_use(connection)):
            self._strangers.warning("connection cut: its peer does not read", peer=connection.peer)
            connection.abort()

    def _is_of_no_use(self, connection: Connection) -> bool:
        flow = connection.flow
        return (
            flow is not None
            and connection.wanted is None
            and not self._is_trusted(flow.remote_host)
            and not self._is_in_use(flow)
        )

    # What the connections tell ------------------------------------------------------------------------------

    def _accepted(self, listener: int) -> Connection:
        tls = self.tls.accept() if self.tls is not None and listener in self._tls_listeners else None
        return Connection(self, listener, None, tls, max_message=self.limits.message_size)

    def made(self, connection: Connection, address: tuple[str, int] | None) -> None:
        """Enter a connection into the table, or refuse it."""
        if address is None:
            connection.abort()
            return
        host, port = address
        is_strangers = connection.wanted is None and not self._is_trusted(host)
        if is_strangers and not self._finds_room(host, connection):
            self.refused += 1
            self._strangers.warning("connection refused: too many", peer=f"{host}:{port}")
            connection.abort()
            return
        self._last_number += 1
        if is_strangers:
            self._unproven[self._last_number] = connection
        self._sources.update(counted_as(host))
        transport = "TCP" if connection.tls is None else "TLS"
        connection.flow = Flow(transport, host, port, connection.listener, self._last_number)
        connection.last_traffic = self._loop.time()
        self._by_number[self._last_number] = connection
        if connection.tls is None:
            self._ready(connection)
            return
        connection.handshake_since = connection.last_traffic
        if is_strangers:
            self._shaking[self._last_number] = connection
        if connection.wanted is not None:
            connection.begin_handshake()

    def _ready(self, connection: Connection) -> None:
        """Let messages pass; those that wait for this connection go out."""
        flow = connection.flow
        assert flow is not None  # noqa: S101  (made before)
        connection.is_ready = True
        key = (connection.listener, flow.remote_host, flow.remote_port)
        self._enter(connection, key)
        for data in self._waiting.pop(key, ()) if connection.wanted is not None else ():
            self._write(connection, data)
        if connection.ready is not None and not connection.ready.done():
            connection.ready.set_result(None)

    def _enter(self, connection: Connection, key: _Peer) -> None:
        self._by_peer[key] = connection
        connection.keys.append(key)

    def received(self, connection: Connection, data: bytes) -> None:
        """Take what was read."""
        if connection.flow is None:
            return
        connection.last_traffic = self._loop.time()
        if connection.tls is not None:
            data = self._decrypted(connection, connection.tls, data)
        if data:
            self.intake.take(connection, data)
        elif connection.ends:
            self.intake.end(connection)

    def ended(self, connection: Connection) -> bool:
        """Say whether messages of a peer that sends no more wait still: it closes when they have not to."""
        return connection.is_ready and not self.intake.end(connection)

    def _decrypted(self, connection: Connection, tls: TlsStream, data: bytes) -> bytes:
        """Return the plain text of what was read; takes the handshake on until it is over."""
        try:
            plain = tls.receive(data)
            connection.flush()
            self._bound_unsent(connection)
            if not connection.is_ready:
                if not tls.established:
                    return b""
                self._handshaken(connection, tls)
        except RemoteProtocolError as error:
            connection.flush()
            self._refuse_handshake(connection, str(error))
            return b""
        connection.ends = connection.ends or tls.closed
        return plain

    def _handshaken(self, connection: Connection, tls: TlsStream) -> None:
        """Check whom the certificate names (RFC 5922 §7.3). Raises RemoteProtocolError if it is another."""
        names = tls.names
        vouched = tls.expected is None or self.tls is None or self.tls.vouches_for(names, tls.expected)
        if not vouched:
            raise RemoteProtocolError(
                f"the certificate names {', '.join(names) or 'nobody'}, not {tls.expected}"
            )
        connection.handshake_since = None
        self.handshakes += 1
        if connection.flow is not None:
            self._shaking.pop(connection.flow.connection, None)
            connection.flow = connection.flow._replace(certified=names)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("TLS connection: %s", tls.protocol, extra={"peer": connection.peer})
        self._ready(connection)

    def _refuse_handshake(self, connection: Connection, reason: str) -> None:
        if not connection.is_ready:
            self.failed_handshakes += 1
        if connection.ready is not None and not connection.ready.done():
            connection.ready.set_exception(RemoteProtocolError(reason))
        else:
            self._strangers.warning("TLS connection closed: %s", reason, peer=connection.peer)
        connection.close()

    def _decide_alias(self, connection: Connection, message: bytes) -> None:
        """Take an accepted connection for requests to its peer too, if the peer offers that (RFC 5923).

        Only of trusted addresses, and over TLS only of peers that showed a certificate (§9): another name
        for the connection is the address it came from with the port that its Via advertises. Where the Via
        has a name that the certificate vouches for, so is every configured address that must have this name.
        """
        connection.alias_decided = True
        flow = connection.flow
        if flow is None or b";alias" not in message[:1_000] or not self._is_trusted(flow.remote_host):
            return
        if connection.tls is not None and not flow.certified:
            return
        try:
            request = parse_message(message)
            via = request.top_via
        except RemoteProtocolError:
            return
        if isinstance(request, Request) and "alias" in via.params:
            port = via.port or DEFAULT_PORTS[flow.transport]
            hosts = {flow.remote_host}
            if self.tls is not None and self.tls.vouches_for(flow.certified, via.host):
                name = via.host.lower()
                hosts |= {
                    host
                    for (host, at), expected in self.tls_names.items()
                    if at == port and expected.lower() == name
                }
            for host in hosts:
                self._enter(connection, (flow.listener, host, port))

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """Take a connection out of the table and tell who used it."""
        flow = connection.flow
        if flow is None or self._by_number.pop(flow.connection, None) is None:
            return
        self._unproven.pop(flow.connection, None)
        self._shaking.pop(flow.connection, None)
        for name in counted_as(flow.remote_host):
            self._sources[name] -= 1
            if not self._sources[name]:
                del self._sources[name]
        for key in connection.keys:
            if self._by_peer.get(key) is connection:
                del self._by_peer[key]
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("connection lost: %s", error or "closed", extra={"peer": connection.peer})
        if not connection.is_ready:
            # Nobody has heard of this connection yet; whoever opens it is told by the future.
            if connection.ready is not None and not connection.ready.done():
                connection.ready.set_exception(ConnectionResetError("closed during the TLS handshake"))
            return
        self._on_failure(flow)
        if connection.wanted is not None:
            self._on_failure(connection.wanted)

    def _finds_room(self, host: str, connection: Connection) -> bool:
        """Say whether a stranger's connection may stay; the oldest one that is of no use may have to go."""
        most = self.limits.connections_per_source * (WIDER if self._is_known(host) else 1)
        for name, bound in zip(counted_as(host), (most, WIDER * most), strict=False):
            if self._sources[name] >= bound:
                return False
        if connection.tls is not None and len(self._shaking) >= self.limits.handshakes:
            self._displace(next(iter(self._shaking.values())))
        return len(self._by_number) < self.limits.connections or self._displaces_another()

    def _displaces_another(self) -> bool:
        while self._unproven:
            oldest = self._unproven.pop(next(iter(self._unproven)))
            # Who is found in use is not asked again: a look at all of them would cost what a flood wants.
            if not self._uses(oldest):
                self._displace(oldest)
                return True
        return False

    def _uses(self, connection: Connection) -> bool:
        return connection.flow is not None and self._is_in_use(connection.flow)

    def _displace(self, connection: Connection) -> None:
        self.displaced += 1
        self._strangers.warning("connection closed: its place was wanted", peer=connection.peer)
        connection.abort()
        self.lost(connection, None)

    def _swept(self) -> None:
        """Close what has been silent, or has not finished its handshake or message, for too long."""
        now = self._loop.time()
        for connection in list(self._by_number.values()):
            if connection.is_paused:
                continue  # it waits for the gate
            since, began = connection.message_since, connection.handshake_since
            if since is not None and now - since > self.limits.message:
                self._strangers.warning("connection closed: unfinished message", peer=connection.peer)
                connection.abort()
            elif began is not None and connection.wanted is None and now - began > self.limits.handshake:
                self._strangers.warning("connection closed: unfinished handshake", peer=connection.peer)
                self.failed_handshakes += 1
                connection.abort()
            elif now - connection.last_traffic > self.limits.idle and not self._uses(connection):
                connection.close()
        self._sweep = self._loop.call_later(SWEEP_INTERVAL, self._swept)


def _same(connection: Connection) -> Connection:
    return connection
