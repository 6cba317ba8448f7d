"""One TCP or TLS connection, accepted or opened: what `proxy.net.tcp` keeps of it."""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Protocol, cast

from proxy.errors import RemoteProtocolError
from proxy.net.tls import TlsStream
from proxy.sip.flow import Flow
from proxy.sip.framing import StreamFramer

__all__ = ["Connection", "ConnectionTable"]

_READ: Final = memoryview(bytearray(16_384))
"""What all connections are read into, one after the other: no read brings more, and the rest waits in the
kernel, which holds the sender up."""
_VANISHED: Final = 32_000
"""Milliseconds after which a peer that acknowledges nothing of what was sent is gone (tcp(7),
TCP_USER_TIMEOUT): the life of a transaction (64 T1). By itself the kernel would wait for a quarter of an
hour, and then deliver what was sent in vain meanwhile, were the peer back: calls that nobody waits for any
more. No probes (SO_KEEPALIVE): beside this option Linux takes a single one that is lost for the end."""


class ConnectionTable(Protocol):
    """Who hears of what happens on a connection."""

    def made(self, connection: Connection, address: tuple[str, int] | None) -> None:
        """It is open; ``address`` is the peer's."""
        ...

    def received(self, connection: Connection, data: bytes) -> None:
        """Octets came, still encrypted if the connection is."""
        ...

    def ended(self, connection: Connection) -> bool:
        """The peer sends no more; returns whether the connection is kept until it is answered."""
        ...

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """It is closed, by whichever side."""
        ...


class Connection(asyncio.BufferedProtocol):
    """One connection. ``wanted`` is the flow that asked for it, connection number 0; None when accepted."""

    def __init__(
        self,
        table: ConnectionTable,
        listener: int,
        wanted: Flow | None,
        tls: TlsStream | None,
        *,
        max_message: int,
    ) -> None:
        self.table = table
        self.listener = listener
        self.wanted = wanted
        self.tls = tls
        self.flow: Flow | None = None
        """From the moment on at which it is in the table."""
        self.framer = StreamFramer(answers_pings=wanted is None, max_message=max_message)
        self.unread = b""
        """What was read, plain, and not yet cut into messages."""
        self.ends = False
        """To be closed when what came before has been delivered."""
        self.last_traffic = 0.0
        self.message_since: float | None = None
        self.handshake_since: float | None = None
        self.is_ready = False
        """Messages may pass: open, and its TLS handshake over."""
        self.ready: asyncio.Future[None] | None = None
        """Who opened it waits for this."""
        self.alias_decided = wanted is not None
        self.keys: list[tuple[int, str, int]] = []
        """The peers whose requests take this connection."""
        self._transport: asyncio.Transport | None = None
        self._paused_at: float | None = None

    # asyncio.BufferedProtocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter the table."""
        # A cast: neither asyncio's nor uvloop's transports are all subclasses of what they implement.
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _VANISHED)
        self.table.made(self, None if peer is None else (str(peer[0]), int(peer[1])))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the place to read into."""
        del sizehint
        return _READ

    def buffer_updated(self, nbytes: int) -> None:
        """Pass octets on."""
        self.table.received(self, bytes(_READ[:nbytes]))

    def eof_received(self) -> bool:
        """Close when what came before has been answered."""
        return self.table.ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the table."""
        self._transport = None
        self.table.lost(self, exc)

    # Inwards ------------------------------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Nothing is read: the peer has to wait."""
        return self._paused_at is not None

    def pause(self, now: float) -> None:
        """Read no more for a while."""
        self._paused_at = now
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self, now: float) -> None:
        """Read again. The time in between wasn't the peer's."""
        paused_at, self._paused_at = self._paused_at, None
        if paused_at is None or self._transport is None or self._transport.is_closing():
            return
        self.last_traffic = now
        if self.message_since is not None:
            self.message_since = now - max(0.0, paused_at - self.message_since)
        self._transport.resume_reading()

    # Outwards -----------------------------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Nothing more can be written."""
        return self._transport is None or self._transport.is_closing()

    @property
    def unsent(self) -> int:
        """Octets that wait until the peer reads."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def peer(self) -> str:
        """Address and port, for the log."""
        return "?" if self.flow is None else self.flow.source

    def write(self, data: bytes) -> bool:
        """Send octets, encrypted if the connection is; False when it is closing."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if self.tls is not None:
            try:
                data = self.tls.encrypt(data)
            except RemoteProtocolError:
                transport.abort()
                return False
        transport.write(data)
        return True

    def begin_handshake(self) -> None:
        """Say the first word of a TLS handshake."""
        if self.tls is not None:
            self.tls.start()
            self.flush()

    def flush(self) -> None:
        """Send what TLS itself has to say."""
        if self.tls is not None and not self.is_closing:
            due = self.tls.due()
            if due and self._transport is not None:
                self._transport.write(due)

    def close(self) -> None:
        """Close it when all is sent."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self.tls is not None:
            last = self.tls.close()
            if last:
                transport.write(last)
        transport.close()

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()
