"""SIP over TCP: real connections on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from proxy.net import tcp
from proxy.net.connection import Connection
from proxy.net.tcp import TcpConnections, TcpLimits
from proxy.sip.flow import Flow
from tests.net.crowds import KNOWN, crowd
from tests.net.waiting import PATIENCE, until

MESSAGE = (
    b"OPTIONS sip:gate@127.0.0.1 SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP 127.0.0.1:5070;branch=z9hG4bK1\r\n"
    b"From: <sip:204@127.0.0.1>;tag=1\r\nTo: <sip:gate@127.0.0.1>\r\n"
    b"Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 4\r\n\r\nbody"
)


class Gate:
    """A table of connections and what it reported."""

    def __init__(self, limits: TcpLimits | None = None, *, trusted: bool = False) -> None:
        self.messages: list[tuple[bytes, Flow]] = []
        self.failed: list[Flow] = []
        self.in_use: set[int] = set()
        """Numbers of the connections that a phone or a call uses."""
        self.table = TcpConnections(
            asyncio.get_running_loop(),
            crowd(lambda data, flow: self.messages.append((data, flow))),
            self.failed.append,
            is_trusted=lambda _host: trusted,
            is_in_use=lambda flow: flow.connection in self.in_use,
            limits=limits or TcpLimits(),
        )
        self.address = ("", 0)

    async def listen(self) -> None:
        self.address = await self.table.listen(2, ("127.0.0.1", 0))
        await self.table.start()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    await gate.listen()
    yield gate
    await gate.table.close()


@pytest.fixture(autouse=True)
def _fast_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "SWEEP_INTERVAL", 0.02)


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        return


class Carrier:
    """A listening peer that keeps what it reads."""

    def __init__(self) -> None:
        self.read = b""
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self) -> tuple[str, int]:
        self.server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        host, port = self.server.sockets[0].getsockname()
        return host, port

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while data := await reader.read(10_000):
            self.read += data

    async def close(self) -> None:
        self.server.close()
        for writer in self.writers:
            await _end(writer)


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    carrier = Carrier()
    yield carrier
    await carrier.close()


async def test_rfc3261_18_3_messages_are_framed_by_content_length(gate: Gate) -> None:
    _, writer = await gate.connect()
    writer.write(MESSAGE + MESSAGE[:100])
    await until(lambda: len(gate.messages) == 1)
    writer.write(MESSAGE[100:])
    await until(lambda: len(gate.messages) == 2)
    assert [data for data, _ in gate.messages] == [MESSAGE, MESSAGE]
    flow = gate.messages[0][1]
    assert (flow.transport, flow.listener, flow.remote_port) == (
        "TCP",
        2,
        writer.get_extra_info("sockname")[1],
    )
    assert flow.connection != 0
    await _end(writer)


async def test_an_answer_goes_back_over_the_same_connection(gate: Gate) -> None:
    reader, writer = await gate.connect()
    writer.write(MESSAGE)
    await until(lambda: gate.messages)
    assert gate.table.send(b"SIP/2.0 200 OK\r\n", gate.messages[0][1])
    assert await reader.readline() == b"SIP/2.0 200 OK\r\n"
    await _end(writer)


async def test_rfc5626_4_4_1_a_ping_gets_its_pong(gate: Gate) -> None:
    reader, writer = await gate.connect()
    writer.write(b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readexactly(2), PATIENCE) == b"\r\n"
    assert not gate.messages
    await _end(writer)


async def test_a_stream_without_framing_is_answered_and_closed(gate: Gate) -> None:
    reader, writer = await gate.connect()
    writer.write(MESSAGE.replace(b"Content-Length: 4", b"Content-Length: x"))
    assert b" 400 " in await asyncio.wait_for(reader.read(), PATIENCE)
    await until(lambda: len(gate.table) == 0)
    await _end(writer)


async def test_a_lost_connection_is_told(gate: Gate) -> None:
    _, writer = await gate.connect()
    writer.write(MESSAGE)
    await until(lambda: gate.messages)
    await _end(writer)
    await until(lambda: gate.failed)
    assert gate.failed == [gate.messages[0][1]]
    assert not gate.table.send(b"late", gate.messages[0][1])


async def test_a_connection_is_opened_on_demand_and_used_again(gate: Gate, carrier: Carrier) -> None:
    host, port = await carrier.start()
    flow = Flow("TCP", host, port, 2, 0)
    assert gate.table.send(b"one", flow)
    assert gate.table.send(b"two", flow)
    await until(lambda: carrier.read == b"onetwo")
    assert gate.table.send(b"three", flow)
    await until(lambda: carrier.read == b"onetwothree")
    assert len(carrier.writers) == 1


async def test_a_refused_connection_is_a_failure_of_its_flow(gate: Gate, carrier: Carrier) -> None:
    host, port = await carrier.start()
    carrier.server.close()
    await carrier.server.wait_closed()
    flow = Flow("TCP", host, port, 2, 0)
    assert gate.table.send(b"INVITE", flow)
    await until(lambda: gate.failed)
    assert gate.failed == [flow]


async def test_a_connection_lost_later_fails_both_its_names(gate: Gate, carrier: Carrier) -> None:
    host, port = await carrier.start()
    flow = Flow("TCP", host, port, 2, 0)
    gate.table.send(b"INVITE", flow)
    await until(lambda: carrier.writers)
    await _end(carrier.writers[0])
    await until(lambda: len(gate.failed) == 2)
    assert flow in gate.failed
    assert any(failed.connection for failed in gate.failed)


Limited = Callable[..., Awaitable[Gate]]


@pytest.fixture
async def limited() -> AsyncIterator[Limited]:
    """Make gates with limits of their own; they are closed whatever becomes of the test."""
    gates: list[Gate] = []

    async def make(limits: TcpLimits, *, trusted: bool = False) -> Gate:
        gate = Gate(limits, trusted=trusted)
        gates.append(gate)
        await gate.listen()
        return gate

    yield make
    for gate in gates:
        await gate.table.close()


async def test_connections_of_one_source_beyond_its_limit_are_refused(limited: Limited) -> None:
    gate = await limited(TcpLimits(connections_per_source=1))
    _, first = await gate.connect()
    await until(lambda: len(gate.table) == 1)
    reader, second = await gate.connect()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert gate.table.refused == 1
    await _end(second)
    await _end(first)


async def test_a_branch_of_registered_phones_behind_one_address_has_ten_times_its_limit(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.table.limits = TcpLimits(connections_per_source=2)
    for port in range(21):
        gate.table.made(Connection(gate.table, 2, None, None, max_message=1_000), (KNOWN, 40_000 + port))
    assert (len(gate.table), gate.table.refused) == (20, 1)
    assert "connection refused: too many" in caplog.text
    for connection in list(gate.table._by_number.values()):
        gate.table.lost(connection, None)


async def test_who_vanishes_without_a_word_is_noticed_by_the_kernel_on_either_sides_connections(
    gate: Gate, carrier: Carrier
) -> None:
    address = await carrier.start()
    _, writer = await gate.connect()
    assert gate.table.send(MESSAGE, Flow("TCP", *address, 2, 0))
    await until(lambda: len(gate.table) == 2)
    for connection in gate.table._by_number.values():
        assert connection._transport is not None
        opened = connection._transport.get_extra_info("socket")
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 32_000
        # Beside the other one, Linux would take a single probe that is lost for the end.
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    await _end(writer)


async def test_a_network_of_ipv6_addresses_has_ten_times_the_connections_of_one_address(gate: Gate) -> None:
    table = gate.table
    table.limits = TcpLimits(connections_per_source=2)

    def connect(host: str) -> Connection | None:
        connection = Connection(table, 2, None, None, max_message=1_000)
        table.made(connection, (host, 5060))
        return None if connection.flow is None else connection

    of_one = [connect("2001:db8:0:7::1") for _ in range(3)]
    assert [connection is not None for connection in of_one] == [True, True, False]
    others = [connect(f"2001:db8:0:7:{number:x}::2") for number in range(30)]
    kept = [connection for connection in (*of_one, *others) if connection is not None]
    assert len(kept) == 20
    assert connect("2001:db8:0:8::1") is not None
    assert all(connect(f"192.0.2.{number}") is not None for number in range(30))
    table.lost(kept[5], None)
    assert connect("2001:db8:0:7::ffff") is not None
    assert connect("2001:db8:0:7::fffe") is None
    for connection in list(table._by_number.values()):
        table.lost(connection, None)
    assert not table._sources


async def test_a_new_connection_gets_the_place_of_the_oldest_that_nobody_uses(limited: Limited) -> None:
    gate = await limited(TcpLimits(connections=3))
    used = [await gate.connect()]
    used[0][1].write(MESSAGE)
    await until(lambda: gate.messages)
    gate.in_use.add(gate.messages[0][1].connection)
    idle = [await gate.connect() for _ in range(2)]
    await until(lambda: len(gate.table) == 3)
    newer = [await gate.connect() for _ in range(2)]
    for reader, _ in idle:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert (gate.table.displaced, gate.table.refused, len(gate.table)) == (2, 0, 3)
    assert {flow.connection for flow in gate.failed} == {2, 3}
    for _, writer in (*used, *newer):
        writer.write(MESSAGE)
    await until(lambda: len(gate.messages) == 4)
    for _, writer in (*used, *newer):
        await _end(writer)
    for _, writer in idle:
        await _end(writer)


async def test_where_all_connections_are_in_use_a_new_one_is_refused(limited: Limited) -> None:
    gate = await limited(TcpLimits(connections=1))
    _, first = await gate.connect()
    await until(lambda: len(gate.table) == 1)
    gate.in_use.add(1)
    reader, second = await gate.connect()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert (gate.table.displaced, gate.table.refused, len(gate.table)) == (0, 1, 1)
    await _end(second)
    await _end(first)


async def test_strangers_cannot_lock_out_a_trusted_peer(limited: Limited) -> None:
    gate = await limited(TcpLimits(connections=1, connections_per_source=1), trusted=True)
    writers = [(await gate.connect())[1] for _ in range(3)]
    await until(lambda: len(gate.table) == 3)
    for writer in writers:
        await _end(writer)


async def test_a_message_over_the_limit_gets_513_and_ends_the_connection(limited: Limited) -> None:
    gate = await limited(TcpLimits(message_size=len(MESSAGE)))
    reader, writer = await gate.connect()
    writer.write(MESSAGE)
    await until(lambda: gate.messages)
    writer.write(MESSAGE.replace(b"Length: 4", b"Length: 5"))
    assert (await asyncio.wait_for(reader.read(), PATIENCE)).startswith(b"SIP/2.0 513 ")
    assert len(gate.messages) == 1
    await _end(writer)


async def test_an_unfinished_message_ends_the_connection(limited: Limited) -> None:
    gate = await limited(TcpLimits(message=0.05))
    reader, writer = await gate.connect()
    writer.write(MESSAGE[:50])
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert not gate.messages
    await _end(writer)


async def test_dripping_octets_do_not_keep_an_unfinished_message_alive(limited: Limited) -> None:
    gate = await limited(TcpLimits(message=0.1))
    _, writer = await gate.connect()
    dripped = 0
    while not writer.is_closing() and dripped < len(MESSAGE) // 2:
        writer.write(MESSAGE[dripped : dripped + 1])
        dripped += 1
        await asyncio.sleep(0.01)
    assert 0 < dripped < len(MESSAGE) // 2, "the gate closed it while octets still came"
    await until(lambda: len(gate.table) == 0)
    await _end(writer)


async def test_a_busy_peer_whose_reads_all_end_within_a_message_keeps_its_connection(
    limited: Limited,
) -> None:
    gate = await limited(TcpLimits(message=0.2))
    _, writer = await gate.connect()
    loop = asyncio.get_running_loop()
    half, until_when = len(MESSAGE) // 2, loop.time() + 0.6
    writer.write(MESSAGE[:half])
    while loop.time() < until_when:
        gate.messages.clear()
        writer.write(MESSAGE[half:] + MESSAGE[:half])
        await until(lambda: gate.messages)
        await asyncio.sleep(0.01)
    assert not gate.failed
    await _end(writer)


async def test_a_silent_connection_is_closed(limited: Limited) -> None:
    gate = await limited(TcpLimits(idle=0.05))
    reader, writer = await gate.connect()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    await _end(writer)


async def test_a_silent_connection_that_a_phone_or_a_call_uses_stays(limited: Limited) -> None:
    gate = await limited(TcpLimits(idle=0.05))
    _, used = await gate.connect()
    used.write(MESSAGE)
    await until(lambda: gate.messages)
    gate.in_use.add(gate.messages[0][1].connection)
    reader, idle = await gate.connect()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b"", "the later one has been closed"
    used.write(MESSAGE)
    await until(lambda: len(gate.messages) == 2)
    for writer in (idle, used):
        await _end(writer)


async def test_a_peer_that_does_not_read_is_cut(limited: Limited) -> None:
    gate = await limited(TcpLimits(unsent=100_000))
    _, writer = await gate.connect()
    writer.write(MESSAGE)
    await until(lambda: gate.messages)
    flow = gate.messages[0][1]
    for _ in range(2_000):
        if not gate.table.send(b"x" * 60_000, flow):
            break
    await until(lambda: gate.failed)
    await _end(writer)


async def test_what_waits_for_a_connection_is_bounded(gate: Gate) -> None:
    gate.table.limits = replace(gate.table.limits, unsent=100)
    flow = Flow("TCP", "192.0.2.1", 5060, 2, 0)
    assert gate.table.send(b"x" * 60, flow)
    assert not gate.table.send(b"x" * 60, flow)
