"""SIP over TCP: the connections of all listeners, found by number or by the peer they lead to.

RFC 3261 §18 and RFC 5626 §3.5.1 (keep-alive). A `Flow` with a connection number means that connection and
no other; number 0 means "one that leads there, or open one". Whatever a peer does, a connection costs a
bounded amount: bytes that wait to be sent, an unfinished message, time without traffic, connections per
source and in all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from proxy.sip.flow import Flow
from proxy.sip.framing import StreamFramer

__all__ = ["TcpConnections", "TcpLimits"]

logger = logging.getLogger(__name__)

SWEEP_INTERVAL = 1.0
"""Seconds between two looks at time-outs: one timer for all connections."""


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """What connections may cost. Times are in seconds."""

    connections: int = 2_000
    """In all. Trusted sources are not counted out: strangers cannot lock the PBX or the trunk out."""
    connections_per_source: int = 50
    """From one IP address that is not trusted."""
    idle: float = 600.0
    """Without a byte in either direction the connection is closed; keep-alives count as traffic."""
    message: float = 10.0
    """A message that has begun must be whole by then."""
    connect: float = 4.0
    """An attempt to connect fails after so long."""
    unsent: int = 1_000_000
    """Bytes waiting to be sent to a peer that does not read; beyond this the connection is cut."""


class _Connection(asyncio.Protocol):
    """One connection, accepted or opened."""

    def __init__(self, table: TcpConnections, listener: int, flow: Flow | None) -> None:
        self.table = table
        self.listener = listener
        self.flow = flow
        self.wanted = flow
        """What the flow that asked for this connection was, connection number 0; None when accepted."""
        self.framer = StreamFramer(answers_pings=flow is None)
        self.last_traffic = 0.0
        self.message_since: float | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: neither asyncio's nor uvloop's transports are all subclasses of what they implement.
        self.transport = cast("asyncio.Transport", transport)
        self.table.made(self, self.transport)

    def data_received(self, data: bytes) -> None:
        self.table.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.table.lost(self, exc)


class TcpConnections:
    """The table of connections.

    ``on_message(data, flow)`` gets each whole message, ``on_failure(flow)`` each flow that no longer works;
    ``is_trusted(host)`` says whether an address belongs to a peer or trunk of the configuration.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[bytes, Flow], None],
        on_failure: Callable[[Flow], None],
        *,
        is_trusted: Callable[[str], bool] = lambda _host: False,
        limits: TcpLimits = TcpLimits(),
    ) -> None:
        self.limits = limits
        self.refused = 0
        self.messages_in = 0
        self.messages_out = 0
        self._loop = loop
        self._on_message = on_message
        self._on_failure = on_failure
        self._is_trusted = is_trusted
        self._servers: list[asyncio.Server] = []
        self._local_hosts: dict[int, str] = {}
        self._by_number: dict[int, _Connection] = {}
        self._by_peer: dict[tuple[int, str, int], _Connection] = {}
        self._opening: dict[tuple[int, str, int], asyncio.Task[None]] = {}
        self._waiting: dict[tuple[int, str, int], list[bytes]] = {}
        self._sources: Counter[str] = Counter()
        self._last_number = 0
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._by_number)

    async def listen(self, listener: int, address: tuple[str, int]) -> tuple[str, int]:
        """Accept connections at ``address``; returns what was bound."""
        server = await self._loop.create_server(
            partial(_Connection, self, listener, None),
            address[0],
            address[1],
            reuse_address=True,
            backlog=512,
        )
        self._servers.append(server)
        self._local_hosts[listener] = address[0]
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
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)
        self._servers.clear()

    def send(self, data: bytes, flow: Flow) -> bool:
        """Send one message; False when the connection that the flow names is gone."""
        if flow.connection:
            connection = self._by_number.get(flow.connection)
            return connection is not None and self._write(connection, data)
        key = (flow.listener, flow.remote_host, flow.remote_port)
        connection = self._by_peer.get(key)
        if connection is not None:
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

    async def _open(self, key: tuple[int, str, int], flow: Flow) -> None:
        wanted = flow._replace(connection=0)
        local = self._local_hosts.get(flow.listener)
        try:
            async with asyncio.timeout(self.limits.connect):
                await self._loop.create_connection(
                    partial(_Connection, self, flow.listener, wanted),
                    flow.remote_host,
                    flow.remote_port,
                    local_addr=(local, 0) if local else None,
                )
        except (OSError, TimeoutError) as error:
            logger.warning(
                "cannot connect: %s", error, extra={"peer": f"{flow.remote_host}:{flow.remote_port}"}
            )
            self._waiting.pop(key, None)
            self._on_failure(wanted)
        finally:
            self._opening.pop(key, None)
            self._waiting.pop(key, None)

    def _write(self, connection: _Connection, data: bytes) -> bool:
        transport = connection.transport
        if transport is None or transport.is_closing():
            return False
        transport.write(data)
        connection.last_traffic = self._loop.time()
        self.messages_out += 1
        if transport.get_write_buffer_size() > self.limits.unsent:
            logger.warning("connection cut: its peer does not read", extra={"peer": _name(connection)})
            transport.abort()
        return True

    # What the connections tell ------------------------------------------------------------------------------

    def made(self, connection: _Connection, transport: asyncio.Transport) -> None:
        """Enter a connection into the table, or refuse it."""
        peer = transport.get_extra_info("peername")
        if peer is None:
            transport.abort()
            return
        host, port = str(peer[0]), int(peer[1])
        if connection.wanted is None and self._is_too_many(host):
            self.refused += 1
            transport.abort()
            return
        self._last_number += 1
        self._sources[host] += 1
        connection.flow = Flow("TCP", host, port, connection.listener, self._last_number)
        connection.last_traffic = self._loop.time()
        self._by_number[self._last_number] = connection
        key = (connection.listener, host, port)
        self._by_peer[key] = connection
        for data in self._waiting.pop(key, ()):
            self._write(connection, data)

    def received(self, connection: _Connection, data: bytes) -> None:
        """Cut the stream into messages and pass them on."""
        flow, transport = connection.flow, connection.transport
        if flow is None or not flow.connection or transport is None:
            return
        now = connection.last_traffic = self._loop.time()
        framer = connection.framer
        for message in framer.feed(data):
            self.messages_in += 1
            self._on_message(message, flow)
        if transport.is_closing():
            return
        pongs = framer.take_pongs()
        if pongs:
            transport.write(b"\r\n" * pongs)
        failure = framer.failure
        if failure is not None:
            logger.warning("connection closed: %s", failure, extra={"peer": _name(connection)})
            if failure.answer:
                transport.write(failure.answer)
            transport.close()
        elif framer.is_between_messages:
            connection.message_since = None
        elif connection.message_since is None:
            connection.message_since = now

    def lost(self, connection: _Connection, error: Exception | None) -> None:
        """Take a connection out of the table and tell who used it."""
        flow = connection.flow
        connection.transport = None
        if flow is None or self._by_number.pop(flow.connection, None) is None:
            return
        self._sources[flow.remote_host] -= 1
        if self._sources[flow.remote_host] <= 0:
            del self._sources[flow.remote_host]
        key = (flow.listener, flow.remote_host, flow.remote_port)
        if self._by_peer.get(key) is connection:
            del self._by_peer[key]
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("connection lost: %s", error or "closed", extra={"peer": _name(connection)})
        self._on_failure(flow)
        if connection.wanted is not None:
            self._on_failure(connection.wanted)

    def _is_too_many(self, host: str) -> bool:
        if self._is_trusted(host):
            return False
        return (
            len(self._by_number) >= self.limits.connections
            or self._sources[host] >= self.limits.connections_per_source
        )

    def _swept(self) -> None:
        """Close what has been silent, or has not finished its message, for too long."""
        now = self._loop.time()
        for connection in list(self._by_number.values()):
            if connection.transport is None:
                continue
            since = connection.message_since
            if since is not None and now - since > self.limits.message:
                logger.warning("connection closed: unfinished message", extra={"peer": _name(connection)})
                connection.transport.abort()
            elif now - connection.last_traffic > self.limits.idle:
                connection.transport.close()
        self._sweep = self._loop.call_later(SWEEP_INTERVAL, self._swept)


def _name(connection: _Connection) -> str:
    flow = connection.flow
    return f"{flow.remote_host}:{flow.remote_port}" if flow is not None else "?"
