"""The pump: a real endpoint over real sockets, with a call core of a few lines."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from proxy.call.ports import (
    Answer,
    BridgeMedia,
    CallEvent,
    CloseMediaLeg,
    Command,
    JournalRecord,
    LegId,
    MediaLegRefused,
    OpenMediaLeg,
    RecordDurable,
    TellOfCall,
)
from proxy.net import driver
from proxy.net.driver import Driver, Listener
from proxy.net.resolver import HostName, Resolved, Resolver
from proxy.sip.config import EndpointConfig
from proxy.sip.endpoint import Endpoint, InviteSpec
from proxy.sip.events import Event, RequestFailed, RequestReceived, RequestTimedOut, ResponseReceived
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.routing import Target
from tests.cdr.samples import full_record
from tests.net.waiting import PATIENCE, until
from tests.support.ids import CountingIds

REFUSED = MediaLegRefused(LegId(1), "test")


class Core:
    """Answers every request with 200, asks for a media leg for each, and breaks when it is told to."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None
        self.events: list[Event] = []
        self.answers: list[Answer] = []
        self.abandoned: list[Event | Answer] = []
        self.breaks = False
        self.breaks_again = False
        self.deadline: float | None = None
        self.fired: list[float] = []
        self.wishes: list[Command] = []

    def handle_sip(self, event: Event, now: float) -> None:
        self.events.append(event)
        if self.breaks:
            raise ZeroDivisionError
        if isinstance(event, RequestReceived):
            assert self.endpoint is not None
            self.endpoint.respond(event.transaction, 200, now=now)
            self.wishes.append(OpenMediaLeg(LegId(1), ipv6=False, emergency=False))

    def handle_answer(self, answer: Answer, now: float) -> None:
        del now
        self.answers.append(answer)
        if self.breaks:
            raise ZeroDivisionError

    def handle_timer(self, now: float) -> None:
        self.fired.append(now)
        self.deadline = None
        if self.breaks:
            raise ZeroDivisionError

    def next_timer(self) -> float | None:
        return self.deadline

    def commands(self) -> list[Command]:
        wishes, self.wishes = self.wishes, []
        return wishes

    def abandon(self, cause: Event | Answer, now: float) -> None:
        del now
        self.abandoned.append(cause)
        if self.breaks_again:
            raise ZeroDivisionError


class Names(Resolver):
    """Knows one name."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[HostName] = []

    async def resolve(self, name: HostName) -> Resolved | None:
        self.asked.append(name)
        await asyncio.sleep(0)
        return (
            Resolved((Target("UDP", "::1", name.port or 0), Target("UDP", "127.0.0.1", name.port or 0)), 60)
            if name.host == "here"
            else None
        )


class Gate:
    """A driver with everything around it."""

    def __init__(self) -> None:
        self.core = Core()
        self.names = Names()
        self.performed: list[Command] = []
        self.broken = False
        """Whatever carries out the commands fails."""
        self.look: Callable[[], None] = lambda: None
        """Called when a command is carried out."""
        points = (ListenPoint("UDP", "127.0.0.1", 5060), ListenPoint("TCP", "127.0.0.1", 5060))
        self.endpoint = self.core.endpoint = Endpoint(EndpointConfig(points, t1=0.05), CountingIds())
        self.driver = Driver(self.perform, resolver=self.names)
        self.udp = ("", 0)
        self.tcp = ("", 0)

    def perform(self, command: Command) -> None:
        self.performed.append(command)
        self.look()
        if self.broken:
            raise ZeroDivisionError
        self.driver.answer(REFUSED)

    async def start(self, is_trusted: Callable[[str], bool] = lambda _host: False) -> None:
        self.udp, self.tcp = await self.driver.listen(
            [Listener("UDP", "127.0.0.1", 0), Listener("TCP", "127.0.0.1", 0)], is_trusted=is_trusted
        )
        await self.driver.start(self.endpoint, self.core)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    await gate.start()
    yield gate
    await gate.driver.close()


def _options(port: int, number: int = 1, transport: str = "UDP") -> bytes:
    return (
        "OPTIONS sip:gate@127.0.0.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} 127.0.0.1:{port};branch=z9hG4bK{number}\r\n"
        f"From: <sip:204@127.0.0.1>;tag=1\r\nTo: <sip:gate@127.0.0.1>\r\nCall-ID: c{number}\r\n"
        f"CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    ).encode()


class Peer:
    """A UDP socket of the other side."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.port: int = self.socket.getsockname()[1]

    async def receive(self) -> bytes:
        return await asyncio.to_thread(self.socket.recv, 70_000)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.socket.close()


async def test_a_request_over_udp_is_answered(gate: Gate, peer: Peer) -> None:
    peer.socket.sendto(_options(peer.port), gate.udp)
    assert (await peer.receive()).startswith(b"SIP/2.0 200 ")


async def test_a_request_over_tcp_is_answered(gate: Gate) -> None:
    reader, writer = await asyncio.open_connection(*gate.tcp)
    writer.write(_options(5060, transport="TCP"))
    assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"SIP/2.0 200 ")
    writer.close()
    await writer.wait_closed()


async def test_commands_are_performed_and_answers_given_before_the_next_input(gate: Gate, peer: Peer) -> None:
    peer.socket.sendto(_options(peer.port), gate.udp)
    await peer.receive()
    assert gate.performed == [OpenMediaLeg(LegId(1), ipv6=False, emergency=False)]
    assert gate.core.answers == [REFUSED]


async def test_media_is_ready_before_the_message_that_lets_the_peer_send_it(gate: Gate, peer: Peer) -> None:
    arrived: list[bool] = []
    gate.look = lambda: arrived.append(bool(select.select([peer.socket], [], [], 0)[0]))
    peer.socket.sendto(_options(peer.port), gate.udp)
    await peer.receive()
    assert arrived == [False]


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (CloseMediaLeg(LegId(7)), MediaLegRefused(LegId(7), "the engine failed")),
        (BridgeMedia(LegId(7), LegId(8)), MediaLegRefused(LegId(7), "the engine failed")),
        (JournalRecord(full_record("r7")), RecordDurable("r7", durable=False)),
    ],
    ids=lambda item: type(item).__name__,
)
async def test_a_command_that_fails_ends_its_call_and_the_others_are_performed(
    gate: Gate, command: Command, cause: Answer
) -> None:
    gate.broken = True
    last = CloseMediaLeg(LegId(9))
    gate.core.wishes = [command, last]
    gate.driver.settle()
    assert gate.performed == [command, last]
    assert gate.core.abandoned == [cause, MediaLegRefused(LegId(9), "the engine failed")]
    assert gate.driver.faults == 2


async def test_a_call_goes_on_when_nobody_can_be_told_of_it(gate: Gate) -> None:
    gate.broken = True
    gate.core.wishes = [TellOfCall(CallEvent.STARTED, full_record("r7"))]
    gate.driver.settle()
    assert gate.driver.faults == 1
    assert gate.core.abandoned == []


async def test_a_fault_ends_one_call_and_the_next_is_served(gate: Gate, peer: Peer) -> None:
    gate.core.breaks = gate.core.breaks_again = True
    peer.socket.sendto(_options(peer.port, 1), gate.udp)
    await until(lambda: gate.core.abandoned)
    gate.driver.answer(REFUSED)
    assert gate.driver.faults == 2
    assert gate.core.abandoned == [gate.core.events[0], REFUSED]
    gate.core.breaks = False
    peer.socket.sendto(_options(peer.port, 2), gate.udp)
    assert b"c2" in await peer.receive()


async def test_events_that_cause_events_without_end_do_not_stop_the_loop(
    gate: Gate, peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[Event] = []

    def restless(event: Event, now: float) -> None:
        handled.append(event)
        if len(handled) < 500:
            gate.endpoint.transport_failed(Flow("TCP", "127.0.0.1", 5060, 1, 7), now)

    with monkeypatch.context() as patch:
        patch.setattr(driver, "MAX_ROUNDS", 100)
        patch.setattr(gate.core, "handle_sip", restless)
        gate.endpoint.transport_failed(Flow("TCP", "127.0.0.1", 5060, 1, 7), 0.0)
        gate.driver.settle()
        assert 100 <= len(handled) <= 102
    assert "the cores do not come to rest" in caplog.text
    peer.socket.sendto(_options(peer.port), gate.udp)
    assert (await peer.receive()).startswith(b"SIP/2.0 200 ")


async def test_a_fault_is_logged_without_the_message(
    gate: Gate, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    gate.core.breaks = True
    peer.socket.sendto(_options(peer.port).replace(b"c1", b"5551234567"), gate.udp)
    await until(lambda: gate.core.abandoned)
    assert "handling of RequestReceived failed" in caplog.text
    assert "5551234567" not in caplog.text


async def test_the_one_timer_serves_both_cores(gate: Gate, peer: Peer) -> None:
    started = time.monotonic()
    flow = Flow("UDP", "127.0.0.1", peer.port, 0, 0)
    gate.core.deadline = started + 0.02
    gate.endpoint.invite(InviteSpec("sip:1@x", "<sip:2@x>", "<sip:1@x>", flow), None, started)
    gate.driver.settle()
    first = await peer.receive()
    assert await peer.receive() == first
    assert time.monotonic() - started > 0.04, "never before its time"
    assert len(gate.core.fired) >= 1
    assert gate.core.fired[0] - started >= 0.02


async def test_an_earlier_deadline_replaces_the_armed_one(gate: Gate) -> None:
    started = time.monotonic()
    gate.core.deadline = started + 30
    gate.driver.settle()
    gate.core.deadline = started + 0.02
    gate.driver.settle()
    await until(lambda: gate.core.fired)


async def test_a_fault_in_a_timer_is_survived(gate: Gate, peer: Peer) -> None:
    gate.core.breaks = True
    gate.core.deadline = time.monotonic()
    gate.driver.settle()
    await until(lambda: gate.core.fired)
    gate.core.breaks = False
    peer.socket.sendto(_options(peer.port), gate.udp)
    assert await peer.receive()
    assert gate.driver.faults == 1


def _invite(gate: Gate, flow: Flow) -> None:
    now = time.monotonic()
    gate.endpoint.invite(InviteSpec("sip:1@x", "<sip:2@x>", "<sip:1@x>", flow), None, now)
    gate.driver.settle()


async def test_rfc3261_18_4_an_unreachable_peer_fails_the_request(gate: Gate, peer: Peer) -> None:
    peer.socket.close()
    _invite(gate, Flow("UDP", "127.0.0.1", peer.port, 0, 0))
    await until(lambda: gate.core.events)
    assert isinstance(gate.core.events[0], RequestFailed)


async def test_a_refused_connection_fails_the_request(gate: Gate, peer: Peer) -> None:
    _invite(gate, Flow("TCP", "127.0.0.1", peer.port, 1, 0))
    await until(lambda: gate.core.events)
    assert isinstance(gate.core.events[0], RequestFailed)


async def test_no_socket_for_a_flow_fails_the_request(gate: Gate) -> None:
    _invite(gate, Flow("UDP", "127.0.0.1", 9, 1, 0))
    assert isinstance(gate.core.events[0], RequestFailed)


async def test_an_invite_without_answer_times_out(gate: Gate, peer: Peer) -> None:
    _invite(gate, Flow("UDP", "127.0.0.1", peer.port, 0, 0))
    await until(lambda: gate.core.events)
    assert isinstance(gate.core.events[0], RequestTimedOut)


async def test_a_name_that_a_peer_gave_is_looked_up_for_the_right_ip_version(gate: Gate, peer: Peer) -> None:
    _invite(gate, Flow("UDP", "here", peer.port, 0, 0))
    assert b"INVITE" in await peer.receive()
    # Looked up again for each retransmission, of which a busy machine may see one.
    assert set(gate.names.asked) == {HostName("here", peer.port, "UDP")}


async def test_a_name_that_leads_back_to_the_gate_fails_the_request(gate: Gate) -> None:
    _invite(gate, Flow("UDP", "here", 5060, 0, 0))
    await until(lambda: gate.core.events)
    assert isinstance(gate.core.events[0], RequestFailed)


async def test_a_name_that_leads_to_a_trunk_fails_the_request(peer: Peer) -> None:
    gate = Gate()
    await gate.start(lambda host: host == "127.0.0.1")
    try:
        _invite(gate, Flow("UDP", "here", peer.port, 0, 0))
        await until(lambda: gate.core.events)
        assert isinstance(gate.core.events[0], RequestFailed)
    finally:
        await gate.driver.close()


async def test_a_name_that_nobody_knows_fails_the_request(gate: Gate) -> None:
    _invite(gate, Flow("UDP", "nowhere", 5060, 0, 0))
    await until(lambda: gate.core.events)
    assert isinstance(gate.core.events[0], RequestFailed)


async def test_a_response_reaches_the_core(gate: Gate, peer: Peer) -> None:
    _invite(gate, Flow("UDP", "127.0.0.1", peer.port, 0, 0))
    invite = (await peer.receive()).decode()
    headers = [
        line for line in invite.split("\r\n") if line.startswith(("Via:", "From:", "Call-ID:", "CSeq:"))
    ]
    peer.socket.sendto(
        "\r\n".join(
            ["SIP/2.0 404 Not Found", *headers, "To: <sip:1@x>;tag=b", "Content-Length: 0", "", ""]
        ).encode(),
        gate.udp,
    )
    while (answer := await peer.receive()) == invite.encode():
        continue  # sent again before the response came: the machine was busy
    assert answer.startswith(b"ACK ")
    assert isinstance(gate.core.events[0], ResponseReceived)
