"""How many connections the portal holds, whose they are, and how long one may say nothing.

uvicorn waits for the first request of a connection as long as it takes, and counts idle connections against
its bound of requests: some hundred sockets that nobody uses would close the portal for everybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import ClassVar

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from proxy.portal.visit import source_of_host

__all__ = ["ConnectionBounds", "RequestBounds", "bounded_protocol"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ConnectionBounds:
    """Who may connect, and how often."""

    trusted: Sequence[IPv4Network | IPv6Network] = ()
    """Web servers before the portal: all their connections are one address's, so they bound them."""
    only_trusted: bool = False
    """Nobody else may, but this host: what they say would go over the network in the clear."""
    most: int = 800
    most_of_source: int = 100
    head_within: float = 20.0
    """Seconds that a request's head may take, the wait for the first one too."""
    _open: Counter[str] = field(default_factory=Counter)

    def enter(self, host: str) -> str | None:
        """Count a connection; returns what `leave` wants to know, or None when it is not taken."""
        try:
            address = ip_address(host)
        except ValueError:
            return None
        address = getattr(address, "ipv4_mapped", None) or address
        trusted = any(address in network for network in self.trusted)
        if self.only_trusted and not (trusted or address.is_loopback):
            logger.info("portal: %s is neither this host nor in portal.trusted_proxies", host)
            return None
        source = source_of_host(host)
        if self._open.total() >= self.most or (not trusted and self._open[source] >= self.most_of_source):
            return None
        self._open[source] += 1
        return source

    def leave(self, source: str) -> None:
        """Count a connection no more."""
        self._open[source] -= 1
        if not self._open[source]:
            del self._open[source]


class _Connection(H11Protocol):
    """One connection within its bounds."""

    bounds: ClassVar[ConnectionBounds]
    _source: str | None = None
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or close it at once."""
        super().connection_made(transport)
        self._source = self.bounds.enter(self.client[0] if self.client else "")
        if self._source is None:
            transport.close()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        super().connection_lost(exc)
        self._stop_waiting()
        if self._source is not None:
            self.bounds.leave(self._source)

    def data_received(self, data: bytes) -> None:
        """Read on. Pieces of a head don't give it more time."""
        if self._source is None:
            return
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()
        else:
            self._wait_for_head()

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.bounds.head_within, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._is_answering():
            self.transport.close()

    def _is_answering(self) -> bool:
        # There is no cycle before the first request, whatever its type says.
        return not getattr(self.cycle, "response_complete", True)


def bounded_protocol(bounds: ConnectionBounds) -> type[H11Protocol]:
    """Return uvicorn's protocol within bounds, which all its connections share."""
    return type("BoundedConnection", (_Connection,), {"bounds": bounds})


class RequestBounds:
    """Answers so many requests at once, and waits so long for the next piece of a body."""

    def __init__(self, app: ASGIApp, *, most: int = 200, piece_within: float = 30.0) -> None:
        self._app = app
        self._most = most
        self._piece_within = piece_within
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or ask to come back (503)."""
        if self._under_way >= self._most:
            headers = {"Retry-After": "5", "Connection": "close"}
            await PlainTextResponse("Service Unavailable", 503, headers)(scope, receive, send)
            return
        whole = False

        async def patient() -> Message:
            nonlocal whole
            if whole:
                # What comes now is the end of the connection, for which streams wait.
                return await receive()
            try:
                async with asyncio.timeout(self._piece_within):
                    message = await receive()
            except TimeoutError:
                return {"type": "http.disconnect"}
            whole = not message.get("more_body", False)
            return message

        self._under_way += 1
        try:
            await self._app(scope, patient, send)
        finally:
            self._under_way -= 1
