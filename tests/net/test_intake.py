"""Connections that bring more than a turn of the event loop takes: real ones on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from proxy.net import intake, tcp
from proxy.net.intake import AT_ONCE, MOST_PONGS, OF_STRANGERS, SLICE
from proxy.net.tcp import TcpConnections, TcpLimits
from proxy.sip.flow import Flow
from tests.net.crowds import KNOWN, crowd
from tests.net.waiting import PATIENCE, until

STRANGER, OTHER = "127.0.0.6", "127.0.0.7"
_SHORTEST = 60
"""Octets: fewer than any of these requests has."""
A_TURN = OF_STRANGERS + 2 * (SLICE // _SHORTEST) + AT_ONCE
"""Messages that no turn exceeds."""


def request(number: int, body: int = 0, method: str = "OPTIONS") -> bytes:
    return (
        f"{method} sip:gate SIP/2.0\r\nCall-ID: {number}\r\n"
        f"Via: SIP/2.0/TCP x\r\nContent-Length: {body}\r\n\r\n"
    ).encode() + b"x" * body


def number_of(message: bytes) -> int:
    return int(message.split(b"Call-ID: ")[1].split(b"\r\n")[0])


class Gate:
    """A table of connections that answers each message with its number."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.turns: Counter[int] = Counter()
        """How many messages came in each turn of the loop."""
        self.failed: list[Flow] = []
        self.loop = asyncio.get_running_loop()
        self.crowd = crowd(self._deliver)
        self.table = TcpConnections(self.loop, self.crowd, self.failed.append)
        self.address = ("", 0)
        self._writers: list[asyncio.StreamWriter] = []
        self._turn = 0
        self._ends = False

    def _deliver(self, data: bytes, flow: Flow) -> None:
        self.heard.append((flow.remote_host, number_of(data)))
        self.turns[self._turn] += 1
        self.table.send(b"%d\n" % number_of(data), flow)

    def count_turns(self) -> None:
        if not self._ends:
            self._turn += 1
            self.loop.call_soon(self.count_turns)

    def of(self, host: str) -> list[int]:
        return [number for source, number in self.heard if source == host]

    async def connect(self, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        stream = await asyncio.open_connection(*self.address, local_addr=(source, 0))
        self._writers.append(stream[1])
        return stream

    async def close(self) -> None:
        self._ends = True
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await self.table.close()
        assert len(self.table) == 0


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    monkeypatch.setattr(tcp, "SWEEP_INTERVAL", 0.02)
    gate = Gate()
    gate.address = await gate.table.listen(0, ("127.0.0.1", 0))
    await gate.table.start()
    yield gate
    await gate.close()


async def read_numbers(reader: asyncio.StreamReader, count: int) -> list[int]:
    async with asyncio.timeout(PATIENCE):
        return [int(await reader.readline()) for _ in range(count)]


@pytest.mark.parametrize("source", [STRANGER, KNOWN])
async def test_rfc3261_18_pipelined_requests_are_all_answered_in_order_and_few_in_a_turn(
    gate: Gate, source: str
) -> None:
    reader, writer = await gate.connect(source)
    gate.count_turns()
    writer.write(b"".join(map(request, range(5_000))))
    assert await read_numbers(reader, 5_000) == list(range(5_000))
    assert max(gate.turns.values()) <= (A_TURN if source == STRANGER else A_TURN + 16_384 // _SHORTEST)
    assert gate.crowd.calm
    writer.close()
    await until(lambda: len(gate.table) == 0)


async def test_what_many_connections_bring_at_once_is_shared_out_too(gate: Gate) -> None:
    streams = [await gate.connect(STRANGER) for _ in range(40)]
    gate.count_turns()
    for _, writer in streams:
        writer.write(b"".join(map(request, range(40))))
    for reader, _ in streams:
        assert await read_numbers(reader, 40) == list(range(40))
    assert max(gate.turns.values()) <= A_TURN


@pytest.mark.parametrize(
    ("connections", "each", "other", "of_other"),
    [(20, 3_000, OTHER, 200), (1, 60_000, KNOWN, 2_000)],
    ids=["another source beside many connections", "who is known beside a stranger"],
)
async def test_a_source_waits_for_its_turn_and_not_for_all_that_others_send(
    gate: Gate, connections: int, each: int, other: str, of_other: int
) -> None:
    flood = [await gate.connect(STRANGER) for _ in range(connections)]
    _, few = await gate.connect(other)
    data = b"".join(map(request, range(each)))
    for _, writer in flood:
        writer.write(data)
    await until(lambda: gate.heard)
    few.write(b"".join(map(request, range(of_other))))
    await until(lambda: len(gate.of(other)) == of_other)
    assert len(gate.of(STRANGER)) < 30_000


async def test_large_messages_pass_in_slices(gate: Gate) -> None:
    reader, writer = await gate.connect(STRANGER)
    writer.write(b"".join(request(number, 60_000) for number in range(20)) + request(20))
    assert await read_numbers(reader, 21) == list(range(21))


@pytest.mark.parametrize("source", [STRANGER, KNOWN])
async def test_a_peer_that_sends_no_more_gets_all_its_answers_before_the_connection_closes(
    gate: Gate, source: str
) -> None:
    reader, writer = await gate.connect(source)
    writer.write(b"".join(map(request, range(500))))
    writer.write_eof()
    answers = (await asyncio.wait_for(reader.read(), PATIENCE)).split()
    assert list(map(int, answers)) == list(range(500))
    await until(lambda: len(gate.table) == 0)


async def test_what_came_before_the_framing_broke_is_answered_before_the_connection_closes(
    gate: Gate,
) -> None:
    reader, writer = await gate.connect(STRANGER)
    broken = request(500).replace(b"Content-Length: 0", b"Content-Length: x")
    writer.write(b"".join(map(request, range(500))) + broken + b"".join(map(request, range(300))))
    received = b""
    with contextlib.suppress(ConnectionError):  # what it sent behind is thrown away unread
        while data := await asyncio.wait_for(reader.read(65_536), PATIENCE):
            received += data
    assert gate.of(STRANGER) == list(range(500))
    answers, _, _refusal = received.partition(b"SIP/2.0 400")
    assert answers == b"".join(b"%d\n" % number for number in range(500))[: len(answers)]
    await until(lambda: len(gate.table) == 0)


async def test_who_waits_for_the_gate_is_neither_slow_nor_idle(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "TURN", -1.0)
    _, writer = await gate.connect(STRANGER)
    await until(lambda: len(gate.table) == 1)
    rest = request(99, 50)
    writer.write(b"".join(map(request, range(99))) + rest[:-20])
    await until(lambda: gate.table.intake.waiting)
    gate.table.limits = TcpLimits(message=0.1, idle=0.1)
    await asyncio.sleep(0.3)  # longer than a message or silence may take
    assert not gate.heard
    assert len(gate.table) == 1
    monkeypatch.setattr(intake, "TURN", 0.004)
    await until(lambda: len(gate.heard) == 99)
    # From now on the gate waits for the peer.
    await until(lambda: len(gate.table) == 0)
    assert len(gate.heard) == 99


async def test_a_crowd_makes_short_messages_wait_too(gate: Gate) -> None:
    reader, writer = await gate.connect(STRANGER)
    await until(lambda: len(gate.table) == 1)
    gate.crowd.add(request(7), Flow("UDP", OTHER, 5060))
    gate.crowd.hasten()
    writer.write(request(0) + request(1))
    assert await read_numbers(reader, 2) == [0, 1]
    assert gate.of(OTHER) == [7]


async def test_a_connection_lost_while_it_waits_leaves_nothing(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "TURN", -1.0)
    _, writer = await gate.connect(STRANGER)
    writer.write(b"".join(map(request, range(200))))
    await until(lambda: gate.table.intake.waiting)
    for connection in list(gate.table._by_number.values()):
        connection.abort()
    await until(lambda: len(gate.table) == 0)
    monkeypatch.setattr(intake, "TURN", 0.004)
    await until(lambda: not gate.table.intake.waiting)
    assert not gate.heard
    assert gate.crowd.calm


async def test_rfc5626_4_4_1_endless_pings_cost_few_pongs_and_one_ping_gets_its_pong(gate: Gate) -> None:
    reader, writer = await gate.connect(STRANGER)
    writer.write(b"\r\n\r\n" * 100_000 + request(1))
    received = await asyncio.wait_for(reader.readuntil(b"1\n"), PATIENCE)
    assert 0 < received.count(b"\r\n") <= 100_000 * 4 / 1_000 * MOST_PONGS
    writer.write(b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readexactly(2), PATIENCE) == b"\r\n"


async def test_who_pings_and_does_not_read_is_cut(gate: Gate) -> None:
    gate.table.limits = TcpLimits(unsent=10)
    listening = gate.table._servers[0].sockets[0]
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        peer.bind((STRANGER, 0))
        peer.setblocking(False)
        await gate.loop.sock_connect(peer, gate.address)
        await until(lambda: len(gate.table) == 1)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while len(gate.table):
                    await gate.loop.sock_sendall(peer, b"\r\n\r\n" * 20_000)
    await until(lambda: len(gate.table) == 0)
