"""The UDP socket: real datagrams on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.net import udp
from proxy.net.udp import UdpSocket
from proxy.sip.flow import Flow
from tests.net.crowds import crowd
from tests.net.waiting import PATIENCE, until


class Side:
    """What a `UdpSocket` reported."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.received: list[tuple[bytes, Flow]] = []
        self.failed: list[Flow] = []
        self.socket = UdpSocket(
            3, (host, 0), crowd(lambda data, flow: self.received.append((data, flow))), self.failed.append
        )

    @property
    def port(self) -> int:
        return self.socket.address[1]


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    side = Side()
    side.socket.start(asyncio.get_running_loop())
    yield side
    side.socket.close()


async def test_a_datagram_comes_with_its_flow(side: Side) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.sendto(b"OPTIONS", side.socket.address)
        await until(lambda: side.received)
        assert side.received == [(b"OPTIONS", Flow("UDP", "127.0.0.1", peer.getsockname()[1], 3, 0))]


async def test_a_burst_larger_than_one_wake_up_arrives_whole(side: Side) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for number in range(3 * udp.BURST):
            peer.sendto(b"%d" % number, side.socket.address)
    await until(lambda: len(side.received) == 3 * udp.BURST)
    assert [int(data) for data, _ in side.received] == list(range(3 * udp.BURST))


async def test_a_datagram_of_full_size_passes_both_ways(side: Side) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(PATIENCE)
        peer.sendto(b"x" * 65_507, side.socket.address)
        await until(lambda: side.received)
        assert len(side.received[0][0]) == 65_507
        assert side.socket.send(b"y" * 65_507, *peer.getsockname())
        assert len(await asyncio.to_thread(peer.recv, 70_000)) == 65_507


async def test_ipv6(side: Side) -> None:
    del side
    try:
        v6 = Side("::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    v6.socket.start(asyncio.get_running_loop())
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
            peer.bind(("::1", 0))
            peer.settimeout(PATIENCE)
            peer.sendto(b"hello", ("::1", v6.port))
            await until(lambda: v6.received)
            flow = v6.received[0][1]
            assert flow.remote_host == "::1"
            assert v6.socket.send(b"back", flow.remote_host, flow.remote_port)
            assert await asyncio.to_thread(peer.recv, 100) == b"back"
    finally:
        v6.socket.close()


async def test_rfc3261_18_4_an_icmp_error_names_its_destination(side: Side) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    assert side.socket.send(b"INVITE", "127.0.0.1", port)
    await until(lambda: side.failed)
    assert side.failed == [Flow("UDP", "127.0.0.1", port, 3, 0)]


async def test_an_error_of_one_destination_does_not_eat_a_datagram_to_another(side: Side) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as alive,
    ):
        gone.bind(("127.0.0.1", 0))
        dead_port = gone.getsockname()[1]
        gone.close()
        alive.bind(("127.0.0.1", 0))
        alive.settimeout(PATIENCE)
        for number in range(5):
            side.socket.send(b"lost", "127.0.0.1", dead_port)
            assert side.socket.send(b"%d" % number, *alive.getsockname())
        assert [alive.recv(10) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    assert side.failed


async def test_datagrams_still_come_after_an_icmp_error(side: Side) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            port = gone.getsockname()[1]
        for number in range(3):
            side.socket.send(b"INVITE", "127.0.0.1", port)
            await until(lambda: len(side.failed) > number)  # noqa: B023  # awaited here
            peer.sendto(b"%d" % number, side.socket.address)
            await until(lambda: len(side.received) > number)  # noqa: B023


async def test_an_address_that_cannot_be_sent_to_says_so(side: Side) -> None:
    assert not side.socket.send(b"x", "255.255.255.255", 5060)
    assert side.socket.datagrams_dropped == 1


class _FullSocket:
    """`sendto` of a socket whose buffer is full until it is let go."""

    def __init__(self, side: Side) -> None:
        self.full = True
        self.sent: list[bytes] = []
        side.socket._sendto = self.sendto  # type: ignore[assignment]

    def sendto(self, data: bytes, _address: tuple[str, int]) -> int:
        if self.full:
            raise BlockingIOError
        self.sent.append(data)
        return len(data)


async def test_datagrams_wait_in_order_while_the_send_buffer_is_full(side: Side) -> None:
    full = _FullSocket(side)
    for number in range(udp.MAX_QUEUED + 2):
        assert side.socket.send(b"%d" % number, "127.0.0.1", 9)
    full.full = False
    await until(lambda: len(full.sent) == udp.MAX_QUEUED)
    assert full.sent[0] == b"2"
    assert side.socket.datagrams_dropped == 2
    assert side.socket.send(b"last", "127.0.0.1", 9)
    assert full.sent[-1] == b"last"


async def test_a_port_in_use_is_refused() -> None:
    first = Side()
    try:
        with pytest.raises(OSError, match="in use"):
            UdpSocket(0, first.socket.address, crowd(lambda *_: None), lambda _: None)
    finally:
        first.socket.close()


async def test_the_flow_cache_is_bounded(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "MAX_CACHED_FLOWS", 2)
    for _ in range(5):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"x", side.socket.address)
    await until(lambda: len(side.received) == 5)
    assert len(side.socket._flows) <= 2
