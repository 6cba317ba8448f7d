"""One UDP listen point: datagrams in and out of a non-blocking socket, without a transport object between.

asyncio's datagram transport costs a protocol call, a queue and an address tuple per packet; a reader on the
raw socket does not, and one wake-up takes what has arrived (at most `BURST`, so that timers and TCP get
their turn).

Errors that the network reports (ICMP, RFC 3261 §18.4) come through the socket's error queue
(``IP_RECVERR``) with the destination they belong to, so one dead trunk is told apart from another on the
same socket. The loop watches an epoll of the socket, not the socket: libuv gives up on a descriptor that
reports POLLERR (uv_poll, ``UV_EBADF``), which every ICMP error would do.

A socket bound to a wildcard address sends from whichever address the kernel routes through, which may
differ from the one a request came to; on a host with several addresses bind each that is to be used
(`listen` in the configuration takes a list). Nothing here needs ``IP_PKTINFO`` then.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
import sys
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address

from proxy.net.crowd import MOST_WAITING, Crowd, Deliver
from proxy.sip.flow import Flow

__all__ = ["UdpSocket"]

logger = logging.getLogger(__name__)

BURST = 64
"""Datagrams taken per wake-up; where more wait, see `proxy.net.crowd`."""
MOST_GATHERED = 1_024
"""Datagrams that one wake-up takes from the kernel into the crowd."""
RECEIVE_BUFFER = 8 * 1024 * 1024
"""Octets the kernel holds while the event loop is elsewhere: 4,000 INVITEs and more."""
MAX_DATAGRAM = 65_535
MAX_QUEUED = 1_000
"""Datagrams kept while the kernel's send buffer is full; the oldest are dropped (UDP repeats by itself)."""
MAX_CACHED_FLOWS = 20_000

_IP_RECVERR = 11
_IPV6_RECVERR = 25
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_DONT = 0
_MSG_ERRQUEUE = 0x2000
_SO_RCVBUFFORCE = 33

_UNREACHABLE = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENOPROTOOPT,
        errno.ENONET,
    }
)
"""What says that the destination cannot be reached now. EMSGSIZE is none of these: the kernel fragments."""


class UdpSocket:
    """A bound UDP socket of one listener.

    ``crowd`` gets each datagram, at once or when its turn comes; ``on_failure(flow)`` is called from the
    event loop.
    """

    def __init__(
        self,
        listener: int,
        address: tuple[str, int],
        crowd: Crowd,
        on_failure: Callable[[Flow], None],
    ) -> None:
        self.listener = listener
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.datagrams_dropped = 0
        self._crowd = crowd
        self._on_failure = on_failure
        self._flows: dict[object, Flow] = {}
        self._queue: deque[tuple[bytes, tuple[str, int]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = _bind(address)
        self._sendto = self._socket.sendto
        self._epoll = select.epoll()
        self._epoll.register(self._socket, select.EPOLLIN)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take datagrams from now on."""
        self._loop = loop
        loop.add_reader(self._epoll.fileno(), self._ready)

    def close(self) -> None:
        """Give the port back."""
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop = None
        self._epoll.close()
        self._socket.close()

    def send(self, data: bytes, host: str, port: int) -> bool:
        """Send one datagram to an IP address; False when the kernel says that it cannot be reached."""
        if self._queue:
            self._enqueue(data, (host, port))
            return True
        try:
            self._sendto(data, (host, port))
        except BlockingIOError:
            self._enqueue(data, (host, port))
            return True
        except OSError as error:
            return self._send_again(data, (host, port), error)
        self.datagrams_out += 1
        return True

    def _send_again(self, data: bytes, address: tuple[str, int], error: OSError) -> bool:
        """Repeat a send once: a pending ICMP error of another destination fails the next send of the
        socket.
        """
        if error.errno in _UNREACHABLE:
            self._drain_errors()
            try:
                self._sendto(data, address)
            except OSError as again:
                error = again
            else:
                self.datagrams_out += 1
                return True
        self.datagrams_dropped += 1
        logger.warning("datagram not sent: %s", error, extra={"peer": f"{address[0]}:{address[1]}"})
        return False

    def _enqueue(self, data: bytes, address: tuple[str, int]) -> None:
        if len(self._queue) >= MAX_QUEUED:
            self._queue.popleft()
            self.datagrams_dropped += 1
        self._queue.append((data, address))
        if len(self._queue) == 1:
            self._epoll.modify(self._socket, select.EPOLLIN | select.EPOLLOUT)

    def _ready(self) -> None:
        if self._queue:
            self._writable()
        self._readable()

    def _writable(self) -> None:
        while self._queue:
            data, address = self._queue[0]
            try:
                self._sendto(data, address)
            except BlockingIOError:
                return
            except OSError as error:
                self._send_again(data, address, error)
            else:
                self.datagrams_out += 1
            self._queue.popleft()
        self._epoll.modify(self._socket, select.EPOLLIN)

    def _readable(self) -> None:
        crowd = self._crowd
        if crowd.calm and self._take(crowd.deliver, BURST) < BURST:
            return
        if len(crowd) < MOST_WAITING:
            self._take(crowd.add, MOST_GATHERED)
        crowd.hasten()

    def _take(self, deliver: Deliver, most: int) -> int:
        """Take so many datagrams at most from the kernel; returns how many there were, errors among them."""
        receive, flows = self._socket.recvfrom, self._flows
        for taken in range(most):
            try:
                data, address = receive(MAX_DATAGRAM)
            except BlockingIOError:
                if taken == 0:
                    self._drain_errors()
                return taken
            except OSError:
                self._drain_errors()
                continue
            if self._loop is None:
                return taken
            self.datagrams_in += 1
            flow = flows.get(address)
            if flow is None:
                flow = self._flow(address)
            deliver(data, flow)
        return most

    def _flow(self, address: tuple[str, int]) -> Flow:
        if len(self._flows) >= MAX_CACHED_FLOWS:
            self._flows.clear()
        flow = Flow("UDP", address[0], address[1], self.listener, 0)
        self._flows[address] = flow
        return flow

    def _drain_errors(self) -> None:
        """Report each destination that an ICMP error names (ip(7), ``IP_RECVERR``)."""
        failed: set[tuple[str, int]] = set()
        for _ in range(BURST):
            try:
                _data, ancillary, _flags, address = self._socket.recvmsg(0, 512, _MSG_ERRQUEUE)
            except OSError:
                break
            for level, kind, content in ancillary:
                if (level, kind) in {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}:
                    number = int.from_bytes(content[:4], sys.byteorder)
                    if number in _UNREACHABLE:
                        failed.add((address[0], address[1]))
        for host, port in failed:
            self._on_failure(Flow("UDP", host, port, self.listener, 0))


def _bind(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ip_address(address[0]).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
